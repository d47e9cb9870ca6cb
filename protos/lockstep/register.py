"""The swap register: how the order decides every swap, once, for all its legs.

Every process that cares computes the same register from the system namespaces and the headers. Owns what an
entry of `_swap` must be to count, and the order of work in a block; the life of a swap is the table of
`lockstep.register_table`, its record is `lockstep.register_records`'. Specification: protos/README.md,
section 8. Invariants: a swap is decided at most once, at the first position that decides it; a decided record
never changes; equal orders give equal roots.

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

Entries that are malformed or useless change nothing, for everybody alike. The first rule broken counts:

    Open      layout, chain, not recorded, lock_by_ms, expires_ms, kinds of legs, rollups ACTIVE, room
    Attest    layout, chain, executed height below this one, its header hash, signature, any item counts
    an item   recorded, leg is the rollup's, executed height from the opening on, key in the leg's set, key
              has not voted on the leg, undecided
    Reveal    layout, recorded, undecided and not revealed, SHA-256(preimage) = hashlock
    Cancel    layout, chain, recorded, undecided and not revealed, signature

Items of an attestation are judged and act one by one, in their order; those that do not count are skipped.
A full register makes room for an Open by dropping the decided swap that was opened first, else by aborting
(CROWDED_OUT) and dropping the one that was opened first among those without an attested leg, else not at all.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from lockstep import limits, registry
from lockstep.errors import Malformed
from lockstep.hashing import SIGN_ATTESTATION, SIGN_CANCEL
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
from lockstep.register_table import Input, OutcomeReason, Phase, why_no_op
from lockstep.signing import verify
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
from lockstep.terms import LegKind
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height

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
        reasons.append(_why_useless(draft, entry))
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
        elif draft.before.time_ms < record.terms.lock_by_ms:
            _put(draft, step(record, Input.LOCK_BY, opening, record.missing_legs))
        else:
            _put(draft, step(record, Input.EXPIRY, opening))


def _apply_swap_entry(draft: Draft, index: int, payload: bytes) -> None:
    try:
        entry = decode_swap_entry(payload)
    except Malformed as error:
        draft.events.append(Ignored(index, error.message))
        return
    place = Place(draft.height, index)
    if isinstance(entry, Attest):
        _show_contradictions(draft, entry, payload)
    reason = _why_useless(draft, entry)
    if reason is None:
        _act(draft, place, entry, payload)
    else:
        draft.events.append(Ignored(index, reason))


def _apply_registry_entry(draft: Draft, index: int, payload: bytes) -> None:
    draft.registry, events = registry.accept(draft.registry, height=draft.height, entries=[(index, payload)])
    for event in events:
        ignored = event.outcome == registry.Outcome.IGNORED
        draft.events.append(Ignored(index, event.reason) if ignored else RegistryChanged(event))


# --- what an entry must be to count -------------------------------------------------------------------------


def _why_useless(draft: Draft, entry: SwapEntry) -> str | None:
    """Return the first rule that an entry breaks, in words; None if it counts."""
    match entry:
        case Open():
            return _why_no_open(draft, entry)
        case Attest():
            return _why_no_attest(draft, entry)
        case Reveal():
            return _why_no_reveal(draft, entry)
        case Cancel():
            return _why_no_cancel(draft, entry)


def _why_no_open(draft: Draft, entry: Open) -> str | None:
    terms, now_ms = entry.terms, draft.time_ms
    if terms.chain != draft.registry.chain_id:
        return "the terms are for another chain"
    if entry.swap_id in draft.records:
        return "the swap is recorded already"
    if not now_ms < terms.lock_by_ms <= now_ms + limits.LOCK_WINDOW_MS_MAX:
        ahead_ms = terms.lock_by_ms - now_ms
        return f"lock_by_ms lies {ahead_ms} ms ahead, allowed are 1 to {limits.LOCK_WINDOW_MS_MAX}"
    if terms.expires_ms > now_ms + limits.EXPIRY_MS_MAX:
        ahead_ms = terms.expires_ms - now_ms
        return f"expires_ms lies {ahead_ms} ms ahead, allowed are at most {limits.EXPIRY_MS_MAX}"
    for place, leg in enumerate(terms.legs):
        if leg.kind != LegKind.TRANSFER:
            return f"leg {place} is a {leg.kind.name}, which these rules do not know"
    for place, leg in enumerate(terms.legs):
        if not draft.registry.is_open_for(leg.rollup):
            return f"leg {place} names rollup {leg.rollup}, which is not registered and ACTIVE"
    if draft.is_full and draft.victim() is None:
        return "the register is full of swaps with attested legs"
    return None


def _why_no_attest(draft: Draft, entry: Attest) -> str | None:
    reason = _why_not_of_this_chain(draft, entry)
    if reason is not None:
        return reason
    reasons = [_why_void(draft, entry.attestation, item) for item in entry.attestation.items]
    return None if None in reasons else reasons[0]


def _why_not_of_this_chain(draft: Draft, entry: Attest) -> str | None:
    attestation = entry.attestation
    if attestation.chain != draft.registry.chain_id:
        return "the attestation is for another chain"
    if attestation.executed_height >= draft.height:
        return f"executed height {attestation.executed_height} is not below the block's"
    expected = draft.before.header_hash_at(attestation.executed_height)
    if expected is None:
        return f"executed height {attestation.executed_height} lies too far back; sign again at a newer one"
    if attestation.header_hash != expected:
        return f"the chain has another header at executed height {attestation.executed_height}"
    if not verify(SIGN_ATTESTATION, attestation.attester, entry.body, entry.signature):
        return f"the attestation is not signed by {attestation.attester.hex()}"
    return None


def _why_void(draft: Draft, attestation: Attestation, item: AttestItem) -> str | None:
    """Return why an item of an attestation, itself of this chain, does not count; None if it does."""
    record = draft.records.get(item.swap_id)
    if record is None:
        return "no such swap is recorded"
    if item.leg >= len(record.legs) or record.terms.legs[item.leg].rollup != attestation.rollup:
        return f"the swap has no leg {item.leg} on {attestation.rollup}"
    if attestation.executed_height < record.opened_height:
        return f"executed height {attestation.executed_height} lies before the swap's opening"
    leg = record.legs[item.leg]
    key_index = leg.place_of(attestation.attester)
    if key_index is None:
        return f"the attester is not in the set of leg {item.leg}"
    if leg.vote_of(key_index) is not None:
        return f"the attester has voted on leg {item.leg} already; its first verdict stands"
    return why_no_op(record.phase, Input.VOTE)


def _why_no_reveal(draft: Draft, entry: Reveal) -> str | None:
    record = draft.records.get(entry.swap_id)
    if record is None:
        return "no such swap is recorded"
    reason = why_no_op(record.phase, Input.REVEAL)
    if reason is not None:
        return reason
    if sha256(entry.preimage).digest() != record.terms.hashlock:
        return "the preimage is not the hashlock's"
    return None


def _why_no_cancel(draft: Draft, entry: Cancel) -> str | None:
    if entry.chain != draft.registry.chain_id:
        return "the cancellation is for another chain"
    record = draft.records.get(entry.swap_id)
    if record is None:
        return "no such swap is recorded"
    reason = why_no_op(record.phase, Input.CANCEL)
    if reason is not None:
        return reason
    if not verify(SIGN_CANCEL, record.terms.revealer, entry.body, entry.signature):
        return "the cancellation is not signed by the terms' revealer"
    return None


# --- what an entry that counts does -------------------------------------------------------------------------


def _act(draft: Draft, place: Place, entry: SwapEntry, payload: bytes) -> None:
    match entry:
        case Open():
            _open(draft, place, entry)
        case Attest():
            _attest(draft, place, entry.attestation, payload)
        case Reveal():
            record = reveal(draft.records[entry.swap_id], entry.preimage, place)
            draft.events.append(Revealed(record))
            _put(draft, record)
        case Cancel():
            _put(draft, step(draft.records[entry.swap_id], Input.CANCEL, place))


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
        if _why_void(draft, attestation, item) is None:
            record = draft.records[item.swap_id]
            key_index = record.legs[item.leg].attesters.keys.index(attestation.attester)
            cast = Vote(key_index, item.verdict, item.reason)
            record = vote(record, item.leg, cast, place)
            draft.events.append(Voted(record, item.leg, cast))
            _put(draft, record)


def _show_contradictions(draft: Draft, entry: Attest, payload: bytes) -> None:
    """Tell of each earlier attestation, of the same key and this chain, with another verdict on some leg."""
    if _why_not_of_this_chain(draft, entry) is not None:
        return
    attestation, shown = entry.attestation, set()
    for item in attestation.items:
        place = _contradicted_by(draft, attestation, item)
        first = None if place is None or place in shown else draft.attestation(place)
        if place is not None and first is not None:
            shown.add(place)
            draft.events.append(Contradicted(first, payload))


def _contradicted_by(draft: Draft, attestation: Attestation, item: AttestItem) -> Place | None:
    """Return where the verdict was ordered that an item contradicts; None if it contradicts none."""
    record = draft.records.get(item.swap_id)
    if record is None or item.leg >= len(record.legs):
        return None
    leg = record.legs[item.leg]
    is_judged = (
        record.terms.legs[item.leg].rollup == attestation.rollup
        and attestation.executed_height >= record.opened_height
    )
    for cast, place in zip(leg.votes, leg.places, strict=True):
        is_same_key = leg.attesters.keys[cast.key_index] == attestation.attester
        if is_judged and is_same_key and (cast.verdict, cast.reason) != (item.verdict, item.reason):
            return place
    return None


def _put(draft: Draft, record: SwapRecord) -> None:
    draft.put(record)
    if record.is_terminal:
        draft.events.append(Decided(record))


def _drop(draft: Draft, record: SwapRecord) -> None:
    draft.drop(record)
    draft.events.append(Dropped(record.swap_id))
