"""The swap register: how the order decides every swap, once, for all its legs.

Every process that cares computes the same register from the system namespaces and the headers. Owns the order
of work in a block and what an entry does; what it must be to count is `lockstep.register_rules`', the life of
a swap is the table of `lockstep.register_table`, its record is `lockstep.register_records`'. Specification:
protos/README.md, section 8. Invariants: a swap is decided at most once, at the first position that decides
it; a decided record never changes; equal orders give equal roots.

The order of work in a block
----------------------------
1. Registry changes that are due at this height take effect (`lockstep.registry`). A block under rules that
   this software does not know raises `UnknownRules`.
2. Records whose time has come, in order of opening. Log time `t` has reached a deadline `d` when `t >= d`.
   An undecided swap at `lock_by_ms` with legs not attested is ABORTED (NOT_LOCKED), at `expires_ms` ABORTED
   (NOT_REVEALED), both at index BLOCK_OPENING. A swap that was decided in an earlier block is dropped once
   log time has reached `lock_by_ms`: from then on its terms cannot be opened again.
3. The block's entries of `_swap` and `_registry`, in order of their index. Registry entries are judged now
   and hold from a later block on.

An entry that counts (`lockstep.register_rules`) acts at once; every other one changes nothing. Items of an
attestation act one by one, in their order; those that do not count are skipped.

A full register makes room for an Open by dropping the decided swap that was opened first, else by aborting
(CROWDED_OUT) and dropping the one that was opened first among those without an attested leg, else not at all.
"""

from collections.abc import Sequence
from typing import Final

from lockstep import limits, registry
from lockstep.errors import Malformed
from lockstep.register_draft import Draft
from lockstep.register_records import (
    BLOCK_OPENING,
    Decision,
    EncodedLeg,
    EncodedRecord,
    LegRecord,
    Place,
    SwapRecord,
    Vote,
    decode_record,
    encode_record,
    open_record,
    reveal,
    step,
    vote,
)
from lockstep.register_rules import counting, standing_of, why_not_of_this_chain, why_useless
from lockstep.register_state import (
    BlockInput,
    Contradicted,
    Decided,
    Dropped,
    Ignored,
    Opened,
    Register,
    RegisterEvent,
    RegistryChanged,
    Revealed,
    Voted,
    genesis_register,
    input_of,
)
from lockstep.register_store import restore, rows
from lockstep.register_table import Input, OutcomeReason, Phase
from lockstep.swap_entries import (
    Attest,
    Attestation,
    AttestItem,
    Cancel,
    Open,
    Reveal,
    SwapEntry,
    decode_swap_entry,
)
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height, SwapId

__pure__ = True
__all__ = [
    "BLOCK_OPENING",
    "RULES_KNOWN",
    "BlockInput",
    "Contradicted",
    "Decided",
    "Decision",
    "Dropped",
    "EncodedLeg",
    "EncodedRecord",
    "Ignored",
    "Input",
    "LegRecord",
    "Opened",
    "OutcomeReason",
    "Phase",
    "Place",
    "Register",
    "RegisterEvent",
    "RegistryChanged",
    "Revealed",
    "SwapRecord",
    "UnknownRules",
    "Vote",
    "Voted",
    "apply_block",
    "decode_record",
    "encode_record",
    "genesis_register",
    "input_of",
    "restore",
    "rows",
    "useless_reason",
    "useless_reasons",
]

RULES_KNOWN: Final = 1
"""The newest version of the rules that this software knows; it knows all before."""


class UnknownRules(Exception):
    """A block is under rules that this software does not know: the process must end, and be replaced."""

    def __init__(self, height: Height, version: int) -> None:
        """Say from which height on which version of the rules holds."""
        super().__init__(
            f"the block at height {height} is under version {version} of the register's rules, this software "
            f"knows version {RULES_KNOWN}; install a newer one"
        )
        self.height = height
        self.version = version


def apply_block(before: Register, block: BlockInput) -> tuple[Register, tuple[RegisterEvent, ...]]:
    """Return the register after a block, and what happened, in order of position.

    The block was verified to continue `before`: AssertionError if it cannot have been. Raises `UnknownRules`.
    """
    _verify_continues(before, block)
    draft = Draft(before, block.height, block.time_ms)
    _open_block(draft)
    entries = [(index, SWAP_NAMESPACE, payload) for index, payload in block.swap_entries]
    entries += [(index, REGISTRY_NAMESPACE, payload) for index, payload in block.registry_entries]
    for index, namespace, payload in sorted(entries):
        if namespace == SWAP_NAMESPACE:
            _apply_swap_entry(draft, index, payload)
        else:
            _apply_registry_entry(draft, index, payload)
    return draft.finish(block.header_hash), tuple(draft.events)


def useless_reason(register: Register, entry: SwapEntry, *, height: Height, time_ms: int) -> str | None:
    """Return why the register would ignore an entry in a block at `height` and `time_ms`; None if it acts."""
    return useless_reasons(register, [entry], height=height, time_ms=time_ms)[0]


def useless_reasons(
    register: Register, entries: Sequence[SwapEntry], *, height: Height, time_ms: int
) -> list[str | None]:
    """Return `useless_reason` of entries of one block, each judged after the ones before it have acted.

    The register itself stays as it is. Blocks between it and `height` count as empty.
    """
    draft = Draft(register, height, time_ms)
    _open_block(draft)
    reasons = []
    for index, entry in enumerate(entries):
        reasons.append(why_useless(draft, entry))
        if reasons[-1] is None:
            _act(draft, Place(height, index), entry, b"")
    return reasons


# --- the order of work --------------------------------------------------------------------------------------


def _verify_continues(before: Register, block: BlockInput) -> None:
    advance_ms = block.time_ms - before.time_ms
    if block.height != before.height + 1 or not 1 <= advance_ms <= limits.MAX_ADVANCE_MS:
        raise AssertionError(
            f"a block at height {block.height}, {advance_ms} ms later, cannot follow height {before.height}"
        )


def _open_block(draft: Draft) -> None:
    """Do what a block does before its entries: registry, deadlines, dropping."""
    draft.registry, effects = registry.take_effect(draft.registry, height=draft.height, time_ms=draft.time_ms)
    draft.events += map(RegistryChanged, effects)
    if draft.registry.rules_version > RULES_KNOWN:
        raise UnknownRules(draft.height, draft.registry.rules_version)
    opening = Place(draft.height, BLOCK_OPENING)
    for record in draft.due():
        if record.is_terminal:
            _drop(draft, record)
            continue
        if draft.before.time_ms < record.terms.lock_by_ms:
            record = step(record, Input.LOCK_BY, opening, record.missing_legs)
        if draft.time_ms >= record.terms.expires_ms and not record.is_terminal:
            record = step(record, Input.EXPIRY, opening)
        _put(draft, record)


def _apply_swap_entry(draft: Draft, index: int, payload: bytes) -> None:
    try:
        entry = decode_swap_entry(payload)
    except Malformed as error:
        draft.events.append(Ignored(index, error.message))
        return
    place = Place(draft.height, index)
    if isinstance(entry, Attest):
        _show_contradictions(draft, entry, payload)
    reason = why_useless(draft, entry)
    if reason is None:
        _act(draft, place, entry, payload)
    else:
        draft.events.append(Ignored(index, reason))


def _apply_registry_entry(draft: Draft, index: int, payload: bytes) -> None:
    draft.registry, events = registry.accept(draft.registry, height=draft.height, entries=[(index, payload)])
    for event in events:
        ignored = event.outcome == registry.Outcome.IGNORED
        draft.events.append(Ignored(index, event.reason) if ignored else RegistryChanged(event))


# --- what an entry that counts does -------------------------------------------------------------------------


def _act(draft: Draft, place: Place, entry: SwapEntry, payload: bytes) -> None:
    match entry:
        case Open():
            _open(draft, place, entry)
        case Attest():
            _attest(draft, place, entry.attestation, payload)
        case Reveal():
            record = reveal(_recorded(draft, entry.swap_id), entry.preimage, place)
            draft.events.append(Revealed(record))
            _put(draft, record)
        case Cancel():
            _put(draft, step(_recorded(draft, entry.swap_id), Input.CANCEL, place))


def _open(draft: Draft, place: Place, entry: Open) -> None:
    if draft.is_full:
        victim = draft.victim()
        if victim is None:
            raise AssertionError("an Open was found useful although the register has no room")
        if not victim.is_terminal:
            victim = step(victim, Input.CROWDING, place)
            _put(draft, victim)
        _drop(draft, victim)
    rollups = draft.registry.rollups
    record = open_record(entry, place, [rollups[leg.rollup].attesters for leg in entry.terms.legs])
    draft.add(record)
    draft.events.append(Opened(record))


def _attest(draft: Draft, place: Place, attestation: Attestation, payload: bytes) -> None:
    draft.remember(place, payload)
    for item in attestation.items:
        standing = counting(draft, attestation, item)
        if isinstance(standing, str):
            continue
        cast = Vote(standing.key_index, item.verdict, item.reason)
        record = vote(standing.record, item.leg, cast, place)
        draft.events.append(Voted(record, item.leg, cast))
        _put(draft, record)


def _show_contradictions(draft: Draft, entry: Attest, payload: bytes) -> None:
    """Tell of every earlier attestation of the same key that says otherwise of a leg, if this one is genuine.

    It makes no difference whether the swap is decided by now.
    """
    found = (_contradicted_by(draft, entry.attestation, item) for item in entry.attestation.items)
    places = dict.fromkeys(place for place in found if place is not None)
    if places and why_not_of_this_chain(draft, entry) is None:
        firsts = (draft.attestation(place) for place in places)
        draft.events += [Contradicted(first, payload) for first in firsts if first is not None]


def _contradicted_by(draft: Draft, attestation: Attestation, item: AttestItem) -> Place | None:
    """Return where the attester's verdict that an item contradicts was ordered; None if there is none."""
    standing = standing_of(draft, attestation, item)
    if isinstance(standing, str) or standing.vote is None:
        return None
    said = (standing.vote.verdict, standing.vote.reason)
    leg = standing.record.legs[item.leg]
    return None if said == (item.verdict, item.reason) else leg.place_of(standing.vote)


def _recorded(draft: Draft, swap_id: SwapId) -> SwapRecord:
    record = draft.record(swap_id)
    if record is None:
        raise AssertionError(f"swap {swap_id.hex()} is not recorded, although an entry on it counts")
    return record


def _put(draft: Draft, record: SwapRecord) -> None:
    draft.put(record)
    if record.is_terminal:
        draft.events.append(Decided(record))


def _drop(draft: Draft, record: SwapRecord) -> None:
    draft.drop(record)
    draft.events.append(Dropped(record.swap_id))
