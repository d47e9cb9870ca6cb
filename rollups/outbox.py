"""Which verdicts a key still has to attest.

Owns the rule alone; nothing is stored for it. A verdict is outstanding while its escrow record stands, its
swap is the opening that the record names and undecided, and the register shows no vote of the key on that
leg. So the outbox follows from state and register, is durable exactly when they are, and cannot be lost,
and it is bounded by the records that the register holds.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from lockstep.commitment import EscrowRecord
from lockstep.register import Register
from lockstep.swap_entries import AttestItem, RejectReason, Verdict
from lockstep.types import PublicKey, RollupId
from rollups.modules.escrow import escrow_of
from rollups.runtime import LegName
from rollups.state import View

__pure__ = True

Outbox: TypeAlias = Mapping[LegName, EscrowRecord]
"""Outstanding verdicts by leg, ascending."""

EMPTY: Final[Outbox] = {}


def outstanding(escrows: Outbox, register: Register, attester: PublicKey) -> Outbox:
    """Return those of `escrows` that a key has still to attest.

    Before the block that led to `register`, the outbox was such a selection of all records; then what it
    was, with the records that the block wrote, are enough to select from.
    """
    return {
        name: escrow
        for name, escrow in sorted(escrows.items())
        if _is_outstanding(name, escrow, register, attester)
    }


def recorded(state: View, rollup: RollupId, register: Register) -> Outbox:
    """Return a rollup's records of the legs of all swaps that the register has."""
    found = {
        (record.swap_id, leg): escrow
        for record in register.records.values()
        for leg, terms in enumerate(record.terms.legs)
        if terms.rollup == rollup and (escrow := escrow_of(state, record.swap_id, leg)) is not None
    }
    return dict(sorted(found.items()))


def item_of(name: LegName, escrow: EscrowRecord) -> AttestItem:
    """Return what an attestation says about a leg."""
    swap_id, leg = name
    return AttestItem(swap_id, leg, Verdict(escrow.verdict), RejectReason(escrow.reason))


def _is_outstanding(name: LegName, escrow: EscrowRecord, register: Register, attester: PublicKey) -> bool:
    swap_id, leg = name
    record = register.record(swap_id)
    if record is None or record.is_terminal:
        return False
    if (record.opened_height, record.opened_index) != (escrow.opened_height, escrow.opened_index):
        return False
    attesters, votes = record.legs[leg].attesters, record.legs[leg].votes
    if attester not in attesters.keys:
        return False
    key_index = attesters.keys.index(attester)
    return all(vote.key_index != key_index for vote in votes)
