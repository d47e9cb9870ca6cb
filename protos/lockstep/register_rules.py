"""What an entry of `_swap` must be to count.

Owns the checks of protos/README.md, section 8, and their order; what an entry does that passes them is
`lockstep.register`'s. Nothing here changes anything. An entry that is malformed or useless is ignored by
everybody alike; the first rule that it breaks is the reason:

    Open      layout, chain, not recorded, lock_by_ms, expires_ms, kinds of legs, rollups ACTIVE, room
    Attest    layout, chain, executed height below this one, its header hash, signature, any item counts
    an item   recorded, leg is the rollup's, executed height from the opening on, key in the leg's set, key
              has not voted on the leg, undecided
    Reveal    layout, recorded, undecided and not revealed, SHA-256(preimage) = hashlock
    Cancel    layout, chain, recorded, undecided and not revealed, signature

Items of an attestation are judged one by one; of a useless attestation the first item's reason is told.
"""

from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from lockstep import limits
from lockstep.hashing import SIGN_ATTESTATION, SIGN_CANCEL
from lockstep.register_draft import Draft
from lockstep.register_records import SwapRecord, Vote
from lockstep.register_table import Input, why_no_op
from lockstep.signing import verify
from lockstep.swap_entries import Attest, Attestation, AttestItem, Cancel, Open, Reveal, SwapEntry
from lockstep.terms import LegKind
from lockstep.types import PublicKey

__pure__ = True


def why_useless(draft: Draft, entry: SwapEntry) -> str | None:
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
    if draft.record(entry.swap_id) is not None:
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
    reason = why_not_of_this_chain(draft, entry)
    if reason is not None:
        return reason
    first_reason = None
    for item in entry.attestation.items:
        standing = counting(draft, entry.attestation, item)
        if not isinstance(standing, str):
            return None
        first_reason = first_reason or standing
    return first_reason


def why_not_of_this_chain(draft: Draft, entry: Attest) -> str | None:
    """Return why an attestation says nothing of this chain, whatever its items; None if it does."""
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
    if not _is_signed(attestation.attester, entry.body, entry.signature):
        return f"the attestation is not signed by {attestation.attester.hex()}"
    return None


@lru_cache(maxsize=256)
def _is_signed(attester: PublicKey, body: bytes, signature: bytes) -> bool:
    """Answer whether an attestation is its attester's.

    The sequencer asks twice: when it admits one, and when it is ordered.
    """
    return verify(SIGN_ATTESTATION, attester, body, signature)


class Standing(NamedTuple):
    """What an attester has to do with a leg."""

    record: SwapRecord
    """The leg's swap."""
    key_index: int
    """The attester's place in the leg's set."""
    vote: Vote | None
    """Its verdict, if it has given one."""


def standing_of(draft: Draft, attestation: Attestation, item: AttestItem) -> Standing | str:
    """Return what the attester has to do with an item's leg, or in words why nothing."""
    record = draft.record(item.swap_id)
    if record is None:
        return "no such swap is recorded"
    if item.leg >= len(record.legs) or record.terms.legs[item.leg].rollup != attestation.rollup:
        return f"the swap has no leg {item.leg} on {attestation.rollup}"
    if attestation.executed_height < record.opened_height:
        return f"executed height {attestation.executed_height} lies before the swap's opening"
    leg = record.legs[item.leg]
    if attestation.attester not in leg.attesters.keys:
        return f"the attester is not in the set of leg {item.leg}"
    key_index = leg.attesters.keys.index(attestation.attester)
    return Standing(record, key_index, leg.vote_of(key_index))


def counting(draft: Draft, attestation: Attestation, item: AttestItem) -> Standing | str:
    """Return the say that an item of an attestation of this chain has, or in words why it does not count."""
    standing = standing_of(draft, attestation, item)
    if isinstance(standing, str):
        return standing
    if standing.vote is not None:
        return f"the attester has voted on leg {item.leg} already; its first verdict stands"
    return why_no_op(standing.record.phase, Input.VOTE) or standing


def _why_no_reveal(draft: Draft, entry: Reveal) -> str | None:
    record = draft.record(entry.swap_id)
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
    record = draft.record(entry.swap_id)
    if record is None:
        return "no such swap is recorded"
    reason = why_no_op(record.phase, Input.CANCEL)
    if reason is not None:
        return reason
    if not verify(SIGN_CANCEL, record.terms.revealer, entry.body, entry.signature):
        return "the cancellation is not signed by the terms' revealer"
    return None
