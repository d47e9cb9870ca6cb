"""The legs of a swap receipt: the locks that their senders signed, and how their rollups settled them.

Owns what a lock and a receipt must say of a decided swap. That they are where they are shown was proven
before (`lockstep.swap_receipt_verify`). Invariant: a leg that is said to be paid or returned has a receipt
which says so of the very position that decided the swap, in the amounts and to the party that the terms name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from lockstep import limits
from lockstep.encoding import numbers_of
from lockstep.errors import BadSignature, Malformed, WrongChain
from lockstep.header import Header
from lockstep.receipts import (
    PremiumOutcome,
    SettledReceipt,
    SettlementCode,
    TransactionReceipt,
    UnbackedReceipt,
    decode_receipt,
)
from lockstep.register import OutcomeReason, Phase, SwapRecord
from lockstep.swap_entries import Verdict
from lockstep.transactions import Lock, Method, decode_call, decode_transaction, is_signed
from lockstep.types import Height, RollupId

__pure__ = True

Settled = SettledReceipt | UnbackedReceipt


class LegOutcome(Enum):
    """What became of a leg."""

    PAID = "paid to the recipient"
    """The swap committed, and the amount went where the terms say."""
    RETURNED = "returned to the sender"
    """The swap was aborted, and the amount went back."""
    UNBACKED = "not backed"
    """The swap committed, but nothing was in escrow: the rollup's attesters lied, and nobody was paid."""
    NOTHING_SHOWN = "nothing in escrow is shown"
    """The swap was aborted, and the receipt shows no settlement of this leg: it had no verdict LOCKED."""


@dataclass(frozen=True, slots=True)
class VerifiedLeg:
    """One leg of a verified swap. Amounts are base units."""

    leg: int
    """Its place in the terms, from 0."""
    rollup: RollupId
    """The rollup."""
    sender: bytes
    """Who gives."""
    recipient: bytes
    """Who is to get it."""
    asset: str
    """The asset; one whose name people cannot read is shown as 0x and its hex digits."""
    amount: int
    """How much."""
    premium: int
    """The premium locked beside it; 0 for most legs."""
    verdict: Verdict | None
    """What the rollup's attesters attested; None if too few of them are shown."""
    outcome: LegOutcome
    """What became of it."""
    premium_outcome: PremiumOutcome
    """Where the premium went."""


def verify_locks(
    record: SwapRecord, headers: Mapping[Height, Header], locks: Sequence[tuple[Height, str, bytes]]
) -> frozenset[int]:
    """Return the legs whose sender's lock is shown, after checking each.

    `locks` are height, namespace and payload. Each is a lock of one leg, in its rollup's namespace, for this
    chain, while the swap was open, inside its own window, and signed by the leg's sender; no leg has two.
    Raises `Malformed`, `WrongChain`, `BadSignature`.
    """
    legs: list[int] = []
    for height, namespace, payload in locks:
        legs.append(_verify_lock(record, headers[height], namespace, payload))
    if len(set(legs)) != len(legs):
        raise _malformed("locks", "show two of one leg")
    return frozenset(legs)


def _verify_lock(record: SwapRecord, header: Header, namespace: str, payload: bytes) -> int:
    transaction = decode_transaction(payload)
    if transaction.method not in numbers_of(Method):
        raise _malformed("locks", "show a transaction of an unknown method")
    call = decode_call(Method(transaction.method), transaction.arguments)
    if not isinstance(call, Lock) or call.swap_id != record.swap_id or call.leg >= len(record.legs):
        raise _malformed("locks", "show a transaction that locks no leg of the swap")
    leg = record.terms.legs[call.leg]
    if {transaction.rollup, namespace} != {leg.rollup} or leg.sender != transaction.signer:
        raise _malformed("locks", f"show one of leg {call.leg} elsewhere, or by another than its sender")
    if transaction.chain != record.terms.chain:
        raise WrongChain(expected=record.terms.chain.hex(), found=transaction.chain.hex())
    assert record.decision is not None, "the swap is decided"
    # A rollup settles before it executes transactions: a lock in the deciding block comes too late.
    if header.height >= record.decision.height or header.time_ms >= record.terms.lock_by_ms:
        raise _malformed("locks", f"show one of leg {call.leg} that came too late")
    if not header.time_ms < transaction.valid_until_ms <= header.time_ms + limits.VALIDITY_WINDOW_MS_MAX:
        raise _malformed("locks", f"show one of leg {call.leg} outside of its window")
    if not is_signed(transaction):
        raise BadSignature(what="lock", signer=transaction.signer.hex())
    return call.leg


def verify_legs(
    record: SwapRecord, receipts: Sequence[tuple[RollupId, bytes]], locked: frozenset[int]
) -> tuple[VerifiedLeg, ...]:
    """Return what became of every leg, after checking each receipt. Raises `Malformed`.

    1. Each receipt is about a leg of the swap on its rollup, names the place of the decision, and says of
       asset, party, amount and premium what the terms make of this decision. No leg has two.
    2. A leg that must have one has one: every leg of a committed swap, and those attested LOCKED of another.
    3. A lock is shown exactly for the legs that were paid out.
    4. There is one at all, unless a leg was rejected: a leg that its attesters rejected is never paid, but of
       every other abort only those who settled by it say that the order did not decide otherwise before.
    """
    settled: dict[int, Settled] = {}
    for rollup, encoded in receipts:
        receipt = _read_settled(record, rollup, encoded)
        if receipt.leg in settled:
            raise _malformed("settled", f"has two receipts of leg {receipt.leg}")
        settled[receipt.leg] = receipt
    _require_receipts(record, settled)
    paid_out = {leg for leg, receipt in settled.items() if isinstance(receipt, SettledReceipt)}
    if paid_out != locked:
        raise _malformed("locks", "are not those of the legs that were paid out")
    return tuple(_leg(record, place, settled.get(place)) for place in range(len(record.legs)))


def _require_receipts(record: SwapRecord, settled: Mapping[int, Settled]) -> None:
    assert record.decision is not None, "the swap is decided"
    for place, leg in enumerate(record.legs):
        if place not in settled and (record.phase == Phase.COMMITTED or leg.verdict == Verdict.LOCKED):
            raise _malformed("settled", f"has no receipt of leg {place}")
    if not settled and record.decision.reason != OutcomeReason.LEG_REJECTED:
        raise _malformed("settled", "has no receipt, so that nobody says that this was the decision")


def _read_settled(record: SwapRecord, rollup: RollupId, encoded: bytes) -> Settled:
    receipt = decode_receipt(encoded)
    if isinstance(receipt, TransactionReceipt) or receipt.subject != record.swap_id:
        raise _malformed("settled", "has a receipt of something else than this swap")
    place = receipt.leg
    if place >= len(record.legs) or record.terms.legs[place].rollup != rollup:
        raise _malformed("settled", f"has a receipt of leg {place}, which the swap has not on {rollup}")
    decision = record.decision
    assert decision is not None, "the swap is decided"
    if (receipt.height, receipt.index) != (decision.height, decision.index):
        raise _malformed(
            "settled",
            f"says that leg {place} was decided at {receipt.height}/{receipt.index}, "
            f"what is shown decides at {decision.height}/{decision.index}",
        )
    if isinstance(receipt, UnbackedReceipt):
        if record.phase != Phase.COMMITTED:
            raise _malformed("settled", f"says that leg {place} committed")
    elif _said(receipt) != (due := _due(record, place)):
        raise _malformed("settled", f"says of leg {place} {_said(receipt)}, due is {due}")
    return receipt


def _said(receipt: SettledReceipt) -> tuple[str, str, str, int, str, int]:
    return (
        receipt.code.name,
        receipt.beneficiary.hex(),
        receipt.asset.decode("latin-1"),
        receipt.amount,
        receipt.premium_outcome.name,
        receipt.premium,
    )


def _due(record: SwapRecord, place: int) -> tuple[str, str, str, int, str, int]:
    """Return what a receipt must say of a leg that was paid out."""
    leg, premium = record.terms.legs[place], record.terms.premium_of(place)
    is_committed = record.phase == Phase.COMMITTED
    code = SettlementCode.COMMITTED if is_committed else SettlementCode.ABORTED
    beneficiary = leg.recipient if is_committed else leg.sender
    outcome = _premium_outcome(record) if premium else PremiumOutcome.NONE
    return code.name, beneficiary.hex(), leg.asset.decode("latin-1"), leg.amount, outcome.name, premium


def _premium_outcome(record: SwapRecord) -> PremiumOutcome:
    assert record.decision is not None, "the swap is decided"
    reason = record.decision.reason
    is_due = reason == OutcomeReason.NOT_REVEALED or (
        reason == OutcomeReason.CANCELLED and record.is_fully_locked
    )
    return PremiumOutcome.PAID if is_due else PremiumOutcome.RETURNED


def _leg(record: SwapRecord, place: int, receipt: Settled | None) -> VerifiedLeg:
    leg = record.terms.legs[place]
    outcome, premium_outcome = LegOutcome.NOTHING_SHOWN, PremiumOutcome.NONE
    if isinstance(receipt, UnbackedReceipt):
        outcome = LegOutcome.UNBACKED
    elif receipt is not None:
        outcome = LegOutcome.PAID if record.phase == Phase.COMMITTED else LegOutcome.RETURNED
        premium_outcome = receipt.premium_outcome
    return VerifiedLeg(
        leg=place,
        rollup=leg.rollup,
        sender=leg.sender,
        recipient=leg.recipient,
        asset=_readable(leg.asset),
        amount=leg.amount,
        premium=record.terms.premium_of(place),
        verdict=record.legs[place].verdict,
        outcome=outcome,
        premium_outcome=premium_outcome,
    )


def _readable(name: bytes) -> str:
    text = name.decode("latin-1")
    return text if text.isascii() and text.isprintable() else f"0x{name.hex()}"


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="swap receipt", field=field, reason=reason)
