"""Escrow: the verdict on each leg of a swap, what it holds, and how it is paid out.

Owns the keys ESCROW and OPEN_LOCKS. A leg has at most one escrow record. A lock writes it, and with it the
leg's verdict; the swap's decision removes it, whatever the verdict was. So a record stands exactly while its
swap is recorded and undecided: the register's bound is the bound of escrow, and a swap that is opened again
after it was dropped starts anew. The record names the opening that it belongs to.

Settlement cannot fail: what is paid out was taken when the lock acted, and who gets it was read then.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.commitment import (
    LOCKED,
    REJECTED,
    EscrowRecord,
    decode_escrow_record,
    encode_escrow_record,
    escrow_key,
    open_locks_key,
)
from lockstep.genesis import EscrowModule
from lockstep.receipts import (
    PremiumOutcome,
    Receipt,
    ReceiptCode,
    SettledReceipt,
    SettlementCode,
    UnbackedReceipt,
)
from lockstep.register import OutcomeReason, Phase, SwapRecord
from lockstep.signing import PUBLIC_KEY_BYTES
from lockstep.swap_entries import RejectReason
from lockstep.terms import Leg, Premium
from lockstep.transactions import Call, Lock, Method
from lockstep.types import PublicKey, RollupId, SwapId
from rollups.modules.bank import Bank, balance_of, credit, debit
from rollups.modules.module import Context, Failed, Handler
from rollups.state import Overlay, View, amount_at, put_count

__pure__ = True


@dataclass(frozen=True)
class Escrow:
    """The escrow of one rollup."""

    definition: EscrowModule
    """Its limits."""

    bank: Bank
    """Where amounts come from and go to."""

    name: str = "escrow"
    """As in the genesis file."""

    @property
    def handlers(self) -> Mapping[Method, Handler]:
        """What executes each of its methods."""
        return {Method.ESCROW_LOCK: self.lock}

    def seed(self, state: Overlay) -> None:
        """Start empty."""

    def lock(self, state: Overlay, context: Context, call: Call) -> ReceiptCode:
        """Give a leg its verdict, once: LOCKED with amount and premium in escrow, or REJECTED.

        A lock that does not act changes nothing and is not remembered, so that a copy of one, ordered too
        early by anybody, does not burn it. Order of checks: NO_OPEN_SWAP, LEG_UNKNOWN, LEG_OF_OTHER_ROLLUP,
        NOT_THE_SENDER, LEG_ALREADY_DECIDED; then, of one that acts, the reasons in `_why_rejected`.
        """
        assert isinstance(call, Lock), "the runtime decodes calls by their method"
        record = context.register.record(call.swap_id)
        if record is None or record.is_terminal or context.time_ms >= record.terms.lock_by_ms:
            raise Failed(ReceiptCode.NO_OPEN_SWAP, is_remembered=False)
        if call.leg >= len(record.terms.legs):
            raise Failed(ReceiptCode.LEG_UNKNOWN, is_remembered=False)
        leg = record.terms.legs[call.leg]
        if leg.rollup != context.rollup:
            raise Failed(ReceiptCode.LEG_OF_OTHER_ROLLUP, is_remembered=False)
        if leg.sender != context.signer:
            raise Failed(ReceiptCode.NOT_THE_SENDER, is_remembered=False)
        if escrow_of(state, call.swap_id, call.leg) is not None:
            raise Failed(ReceiptCode.LEG_ALREADY_DECIDED, is_remembered=False)

        premium = record.terms.premium_of(call.leg)
        reason = self._why_rejected(state, leg, record.terms.premium if premium else None)
        escrow = EscrowRecord(
            verdict=LOCKED if reason is None else REJECTED,
            reason=RejectReason.NONE if reason is None else reason,
            opened_height=record.opened_height,
            opened_index=record.opened_index,
            asset=leg.asset,
            sender=context.signer,
            amount=leg.amount if reason is None else 0,
            premium=premium if reason is None else 0,
        )
        state.put(escrow_key(call.swap_id, call.leg), encode_escrow_record(escrow))
        if reason is not None:
            return ReceiptCode.LOCK_REJECTED
        debit(state, leg.asset, context.signer, leg.amount + premium)
        _count_open_locks(state, context.signer, 1)
        return ReceiptCode.OK

    def settle(self, state: Overlay, rollup: RollupId, record: SwapRecord) -> tuple[Receipt, ...]:
        """Pay out and remove the escrow of this rollup's legs of a swap that was just decided."""
        receipts: list[Receipt] = []
        for place, leg in enumerate(record.terms.legs):
            if leg.rollup != rollup:
                continue
            escrow = escrow_of(state, record.swap_id, place)
            if escrow is not None:
                opening = (escrow.opened_height, escrow.opened_index)
                assert opening == (record.opened_height, record.opened_index), "escrow of another opening"
                state.put(escrow_key(record.swap_id, place), None)
            if escrow is not None and escrow.verdict == LOCKED:
                receipts.append(_pay_out(state, record, place, escrow))
            elif record.phase == Phase.COMMITTED:
                assert record.decision is not None, "a committed swap has its decision"
                receipts.append(
                    UnbackedReceipt(record.decision.height, record.decision.index, record.swap_id, place)
                )
        return tuple(receipts)

    def _why_rejected(self, state: View, leg: Leg, premium: Premium | None) -> RejectReason | None:
        """Return why a lock that acts cannot lock, in this order; None if it can."""
        if leg.asset not in self.bank.assets:
            return RejectReason.UNKNOWN_ASSET
        if leg.amount < self.definition.minimum_lock:
            return RejectReason.BELOW_MINIMUM
        shares = () if premium is None else premium.shares
        recipients = (leg.recipient, *(share.recipient for share in shares))
        if any(len(recipient) != PUBLIC_KEY_BYTES for recipient in recipients):
            return RejectReason.UNREADABLE_RECIPIENT
        sender = PublicKey(leg.sender)
        if amount_at(state, open_locks_key(sender)) >= self.definition.open_locks_per_account_max:
            return RejectReason.TOO_MANY_OPEN_LOCKS
        total = leg.amount + (0 if premium is None else premium.total)
        if balance_of(state, leg.asset, sender) < total:
            return RejectReason.INSUFFICIENT_FUNDS
        return None


def escrow_of(state: View, swap_id: SwapId, leg: int) -> EscrowRecord | None:
    """Return the escrow record of a leg; None while it has no verdict, and after its swap was decided."""
    encoded = state.get(escrow_key(swap_id, leg))
    return None if encoded is None else decode_escrow_record(encoded)


def is_premium_due(record: SwapRecord) -> bool:
    """Answer whether a decided swap's premium goes to its recipients rather than back.

    It does on NOT_REVEALED, and on CANCELLED once all legs were attested LOCKED.
    """
    assert record.decision is not None, "only a decided swap is settled"
    if record.decision.reason == OutcomeReason.CANCELLED:
        return record.is_fully_locked
    return record.decision.reason == OutcomeReason.NOT_REVEALED


def _pay_out(state: Overlay, record: SwapRecord, place: int, escrow: EscrowRecord) -> SettledReceipt:
    """Credit exactly what is in escrow. Checks nothing: it was all read and taken when the lock acted."""
    assert record.decision is not None, "only a decided swap is settled"
    is_committed = record.phase == Phase.COMMITTED
    leg = record.terms.legs[place]
    beneficiary = PublicKey(leg.recipient) if is_committed else escrow.sender
    credit(state, escrow.asset, beneficiary, escrow.amount)
    outcome = PremiumOutcome.NONE
    if escrow.premium and is_premium_due(record):
        outcome = PremiumOutcome.PAID
        assert record.terms.premium is not None, "what has a premium in escrow has one in its terms"
        for share in record.terms.premium.shares:
            credit(state, escrow.asset, PublicKey(share.recipient), share.amount)
    elif escrow.premium:
        outcome = PremiumOutcome.RETURNED
        credit(state, escrow.asset, escrow.sender, escrow.premium)
    _count_open_locks(state, escrow.sender, -1)
    return SettledReceipt(
        height=record.decision.height,
        index=record.decision.index,
        subject=record.swap_id,
        code=SettlementCode.COMMITTED if is_committed else SettlementCode.ABORTED,
        leg=place,
        asset=escrow.asset,
        beneficiary=beneficiary,
        amount=escrow.amount,
        premium_outcome=outcome,
        premium=escrow.premium,
    )


def _count_open_locks(state: Overlay, account: PublicKey, added: int) -> None:
    key = open_locks_key(account)
    count = amount_at(state, key) + added
    assert count >= 0, "every lock that is settled was counted"
    put_count(state, key, count)
