"""The register once more, over nothing but the blocks and entries that a swap receipt shows.

Owns the register that a replay starts from, and what a receipt may show of `_swap`. The rules are those of
`lockstep.register`, by the very same code. Invariant: a replay ends with the decision that the shown entries
make at the place where they make it; an entry without part in it is refused.

The register starts empty before the opening, with the registry that was in force there, so it cannot be full.
A swap that was CROWDED_OUT is shown with the Open that took its place, as its last entry; that the register
was full then does not follow from what is shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lockstep.errors import Malformed
from lockstep.header import Header
from lockstep.layered_map import LayeredMap
from lockstep.merkle_map import MerkleMap
from lockstep.register import (
    BlockInput,
    Decided,
    Ignored,
    Input,
    Opened,
    Place,
    Register,
    SwapRecord,
    apply_block,
)
from lockstep.register_records import step
from lockstep.registry_state import Registry
from lockstep.swap_entries import Open, decode_swap_entry
from lockstep.types import HeaderHash, Height, SwapId

__pure__ = True

Entries = Mapping[Height, Sequence[tuple[int, bytes]]]
"""Index and payload of `_swap` entries in order, by height; blocks without any may be left out."""

_NONE: Final[Sequence[tuple[int, bytes]]] = ()


def register_before(first: Header, registry: Registry) -> Register:
    """Return an empty register that the block of a header continues.

    `registry` is the one in force in that block; what is pending in it takes no effect.
    """
    return Register(
        registry=replace(registry, pending=()),
        records=LayeredMap(),
        height=Height(first.height - 1),
        header_hash=first.parent_hash,
        # The deadlines of a swap lie behind its opening, so any time before it will do.
        time_ms=first.time_ms - 1,
        header_hashes=LayeredMap(),
        attestations=LayeredMap(),
        merkle_map=MerkleMap(),
        alarms=LayeredMap(),
        changed={},
    )


def block_input(header: Header, hashed: HeaderHash, entries: Entries) -> BlockInput:
    """Return what the register reads of a block."""
    return BlockInput(header.height, hashed, header.time_ms, (), entries.get(header.height, _NONE))


def replay(
    headers: Sequence[Header], hashes: Sequence[HeaderHash], registry: Registry, entries: Entries
) -> SwapRecord:
    """Return the record of the swap that the first entry opens, once it is decided.

    1. The first entry opens a swap in the first block.
    2. Every other entry changes something, and comes before the decision.
    3. Together with the deadlines they decide the swap.

    Raises `Malformed`, naming the entry.
    """
    opened = _opening(headers[0], entries)
    others, crowding = _without_crowding(entries, opened)
    if crowding is not None:
        headers = headers[: crowding.height - headers[0].height + 1]
    register = register_before(headers[0], registry)
    record = _after(register, zip(headers, hashes, strict=False), others, opened.swap_id)
    if crowding is not None:
        if record.is_terminal or record.has_attested_leg:
            raise _malformed("entries", "crowd out a swap that is decided or has an attested leg")
        return step(record, Input.CROWDING, crowding)
    if record.decision is None:
        raise _malformed("entries", "do not decide the swap, nor does a deadline within the headers")
    if max(others) > record.decision.height:
        raise _malformed(f"entry in block {max(others)}", "stands behind the decision")
    return record


def _opening(first: Header, entries: Entries) -> Open:
    shown = entries.get(first.height, _NONE)
    entry = decode_swap_entry(shown[0][1]) if shown else None
    if not isinstance(entry, Open):
        raise _malformed("entries", "do not start with the opening, in the first block")
    return entry


def _without_crowding(entries: Entries, opened: Open) -> tuple[Entries, Place | None]:
    """Return the entries without the Open that took the swap's place, and where that stood."""
    height = max(height for height, of in entries.items() if of)
    index, payload = entries[height][-1]
    last = decode_swap_entry(payload)
    if not isinstance(last, Open) or last.swap_id == opened.swap_id:
        return entries, None
    return {**entries, height: entries[height][:-1]}, Place(height, index)


def _after(
    register: Register, headers: Iterable[tuple[Header, HeaderHash]], entries: Entries, swap_id: SwapId
) -> SwapRecord:
    """Return the swap's record as soon as it is decided, or after the last header."""
    record: SwapRecord | None = None
    for header, hashed in headers:
        register, events = apply_block(register, block_input(header, hashed, entries))
        for event in events:
            match event:
                case Ignored():
                    place = f"entry {header.height}/{event.index}"
                    raise _malformed(place, f"has no part in this: {event.reason}")
                case Opened() if event.record.swap_id != swap_id:
                    raise _malformed(f"entry in block {header.height}", "opens another swap")
                case Decided():
                    record = event.record
        if record is not None:
            return record
    record = register.record(swap_id)
    assert record is not None, "the first entry was not ignored, so it opened the swap"
    return record


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="swap receipt", field=field, reason=reason)
