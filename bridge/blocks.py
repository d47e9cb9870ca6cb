"""What a block does to the coordinator's swaps.

Owns the reading of the register's events into swaps, what time does, and what has to be sent thereafter.
Changes the book and does no I/O. Invariant: the outcome of a swap is what the register says; a bundle of
ours is ordered if and only if it stands in a block.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog

from bridge import swap as rules
from bridge.book import Address, Book
from bridge.history import event_of, ignored_event, local_event, swaps_of
from bridge.messages import cancel_response, reveal_response
from bridge.phases import Phase
from bridge.swap import SendKind, Swap, is_preimage_of
from lockstep.errors import LockstepError, Malformed, NeverOrdered, UselessEntry
from lockstep.order import Entry
from lockstep.register import (
    Contradicted,
    Decided,
    Ignored,
    Opened,
    OutcomeReason,
    Revealed,
    SwapRecord,
    Voted,
    apply_block,
    input_of,
)
from lockstep.swap_entries import Open, Reveal, SwapEntry, decode_swap_entry
from lockstep.types import SWAP_NAMESPACE, SwapId
from lockstep.v1 import bridge_pb2
from sequencer.client import FollowedBlock, Placement

Response: TypeAlias = bridge_pb2.RevealResponse | bridge_pb2.CancelResponse

ENTRY_NAMES: Final[Mapping[SendKind, str]] = {SendKind.REVEAL: "Reveal", SendKind.CANCEL: "Cancel"}
"""What an entry is called in errors, for the kinds that callers wait for."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What those are told who wait for a swap's reveal or cancellation."""

    swap_id: SwapId
    """The swap."""
    kind: SendKind
    """REVEAL or CANCEL."""
    outcome: Response | LockstepError
    """Where the one stands that acted, or why none did."""


def opened_ids(followed: FollowedBlock) -> set[SwapId]:
    """Return the swaps that a block may open."""
    entries = map(_decode, followed.block.entries[SWAP_NAMESPACE])
    return {entry.swap_id for entry in entries if isinstance(entry, Open)}


def follow_block(book: Book, followed: FollowedBlock, cold: Mapping[SwapId, Swap]) -> list[Resolution]:
    """Take in the block after the book's register, and return what callers are told.

    `cold` holds those of `opened_ids` that are over and known. Steps: 1. the register; 2. our own bundles in
    the block; 3. the register's events in order; 4. what time does; 5. what has to be sent now.
    """
    return _Block(book, followed, cold).take_in()


def plan(book: Book, swap_id: SwapId) -> None:
    """Put what has to be sent for a swap as it stands."""
    register = book.register
    chain, time_ms = register.registry.chain_id, register.time_ms
    for sending in tuple(rules.wanted(book.live[swap_id], chain=chain, time_ms=time_ms)):
        text = f"a bundle for {sending.kind.name}, valid until {sending.bundle.valid_until_ms}"
        changed = rules.with_sending(book.live[swap_id], sending)
        book.put(changed, local_event("submitted", text, time_ms=time_ms))


@dataclass(slots=True)
class _Block:
    """One block's taking in."""

    book: Book
    followed: FollowedBlock
    cold: Mapping[SwapId, Swap]
    resolutions: list[Resolution] = field(default_factory=list)
    touched: dict[SwapId, None] = field(default_factory=dict)
    ours: dict[int, Address] = field(default_factory=dict)
    entries: dict[int, Entry] = field(default_factory=dict)
    reveals: dict[SwapId, int] = field(default_factory=dict)
    ordered: dict[SwapId, Swap] = field(default_factory=dict)

    def take_in(self) -> list[Resolution]:
        block = self.followed.block
        self.entries = {entry.index: entry for entry in block.entries[SWAP_NAMESPACE]}
        register, events = apply_block(self.book.register, input_of(block))
        self.book.advance(register)
        self._find_ours()
        for event in events:
            match event:
                case Opened(record) | Voted(record) | Revealed(record) | Decided(record):
                    self._record(event, record)
                case Ignored(index, reason):
                    self._ignored(index, reason)
                case Contradicted():
                    structlog.get_logger().warning(
                        "attester_contradicted_itself", height=self.book.register.height
                    )
                case _:
                    pass
        for swap in self.ordered.values():
            # Ours, and without any effect.
            self._put(swap)
        self._pass_time()
        for swap_id in self.touched:
            plan(self.book, swap_id)
        return self.resolutions

    def _find_ours(self) -> None:
        for index, entry in self.entries.items():
            address = self.book.address_of(entry.bundle_id)
            if address is not None:
                self.ours[index] = address
        for address in dict.fromkeys(self.ours.values()):
            swap = self.ordered.get(address.swap_id) or self.book.live[address.swap_id]
            self.ordered[address.swap_id] = rules.ordered(swap, address.kind, address.leg)

    def _record(self, event: Opened | Voted | Revealed | Decided, record: SwapRecord) -> None:
        register = self.book.register
        old = self.book.live.get(record.swap_id) or self.cold.get(record.swap_id)
        ordered = self.ordered.pop(record.swap_id, None)
        swap = rules.recorded(ordered or old or self._new(record), record, time_ms=register.time_ms)
        if isinstance(event, Revealed):
            self.reveals[record.swap_id] = self._reveal_index(record)
        told = event_of(event, height=register.height, time_ms=register.time_ms, reveals=self.reveals)
        self.book.put_over(old, swap, *(told and told[1:]) or ())
        self.touched[record.swap_id] = None
        if isinstance(event, Revealed):
            self._acted(record.swap_id, SendKind.REVEAL, self.reveals[record.swap_id])
        if isinstance(event, Decided):
            self._decided(record)

    def _new(self, record: SwapRecord) -> Swap:
        """Return a swap of which nothing was known here before it was opened."""
        return Swap(
            number=self.book.new_number(),
            swap_id=record.swap_id,
            terms_bytes=record.terms_bytes,
            terms=record.terms,
            phase=Phase.COLLECTING,
        )

    def _reveal_index(self, record: SwapRecord) -> int:
        """Return the place of the Reveal that acted: the first in the block that opens the hashlock."""
        opened_here = record.opened_height == self.book.register.height
        first = record.opened_index if opened_here else -1
        return next(
            index
            for index, entry in self.entries.items()
            if index > first
            and isinstance(decoded := _decode(entry), Reveal)
            and decoded.swap_id == record.swap_id
            and is_preimage_of(decoded.preimage, record.terms)
        )

    def _decided(self, record: SwapRecord) -> None:
        assert record.decision is not None, "a decided swap has a decision"
        if record.decision.reason is OutcomeReason.CANCELLED:
            self._acted(record.swap_id, SendKind.CANCEL, record.decision.index)
        for kind, name in ENTRY_NAMES.items():
            error = UselessEntry(kind=name, reason=f"the swap is {record.phase.name} already")
            self.resolutions.append(Resolution(record.swap_id, kind, error))

    def _acted(self, swap_id: SwapId, kind: SendKind, index: int) -> None:
        entry, header = self.entries[index], self.followed.header
        height = self.followed.block.header.height
        placement = Placement(entry.bundle_id, height, entry.first_index, entry.count)
        make = reveal_response if kind is SendKind.REVEAL else cancel_response
        response: Response = make(placement, header)
        self.book.add_acted(swap_id, kind, response.SerializeToString())
        self.resolutions.append(Resolution(swap_id, kind, response))

    def _ignored(self, index: int, reason: str) -> None:
        self._note_ignored(index, reason)
        address = self.ours.get(index)
        if address is None:
            return
        structlog.get_logger().warning(
            "entry_ignored", swap_id=address.swap_id, kind=address.kind.name, reason=reason
        )
        if address.kind in ENTRY_NAMES:
            error = UselessEntry(kind=ENTRY_NAMES[address.kind], reason=reason)
            self.resolutions.append(Resolution(address.swap_id, address.kind, error))

    def _note_ignored(self, index: int, reason: str) -> None:
        """Note with its swaps that an entry did nothing. One of `_registry` has none."""
        entry = _decode(self.entries[index]) if index in self.entries else None
        if entry is None:
            return
        register = self.book.register
        for swap_id in swaps_of(entry):
            told = ignored_event(entry, index, reason, height=register.height, time_ms=register.time_ms)
            self.book.add_ignored(swap_id, told)

    def _pass_time(self) -> None:
        time_ms = self.book.register.time_ms
        for before in self.book.due(time_ms):
            after = rules.passed(before, time_ms=time_ms)
            self._put(after, *_time_events(before, after, time_ms))
            for sending in before.sendings.values():
                if sending.kind in ENTRY_NAMES and (sending.kind, 0) not in after.sendings:
                    name = ENTRY_NAMES[sending.kind].lower()
                    error = NeverOrdered(subject=name, name=sending.bundle_id.hex())
                    self.resolutions.append(Resolution(before.swap_id, sending.kind, error))

    def _put(self, swap: Swap, *events: bridge_pb2.SwapEvent) -> None:
        self.book.put(swap, *events)
        self.touched[swap.swap_id] = None


def _time_events(before: Swap, after: Swap, time_ms: int) -> Iterator[bridge_pb2.SwapEvent]:
    if after.phase is Phase.LAPSED:
        yield local_event("lapsed", "lock_by_ms came and the swap was not in the order", time_ms=time_ms)
    elif before.phase is Phase.SUBMITTED and after.phase is Phase.COLLECTING:
        text = "the opening bundle's window passed and it was not ordered; locks that expired are needed anew"
        yield local_event("window_passed", text, time_ms=time_ms)


def _decode(entry: Entry) -> SwapEntry | None:
    try:
        return decode_swap_entry(entry.payload)
    except Malformed:
        return None
