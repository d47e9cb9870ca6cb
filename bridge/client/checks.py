"""What a trader checks for himself: terms before he signs, escrow before he reveals, receipts at the end.

Owns these checks. Nothing here takes a coordinator's word: terms are hashed, times come from signed headers,
escrow and receipts are proven under a rollup's commitment. That the commitment is the honest one, a node's
proof does not show: among the nodes that are named should be one of the trader's own.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bridge.client.recorded import RecordedSwap
from bridge.client.views import SwapPhase
from lockstep import limits
from lockstep.commitment import LOCKED, EscrowRecord, decode_escrow_record, escrow_key
from lockstep.errors import Expired, Malformed, NotFound, TooFarAhead, WrongChain
from lockstep.genesis import Genesis
from lockstep.receipts import SettledReceipt, SettlementCode, UnbackedReceipt
from lockstep.register import Phase
from lockstep.terms import Leg, LegKind, Terms
from lockstep.types import PublicKey, SwapId
from rollups.client import ProvenState, RollupSwap

PROOF_MS: Final = 2_000
"""How long a node may take to prove what is in escrow, before the others are believed without it."""

SETTLED_WAIT_MS: Final = 2_000
"""How long one question waits for the receipt of a leg that must get one."""


class NotAsAgreed(Exception):
    """What was found is not what was agreed. The message says what was seen, and what to do."""

    code: Final = "NOT_AS_AGREED"
    """A stable name of it for programs."""


class EscrowNode(Protocol):
    """A rollup node that proves what it says, as `rollups.client.RollupClient`."""

    def swap(self, swap_id: SwapId, *, min_height: int = 0, timeout_ms: int = ...) -> Awaitable[RollupSwap]:
        """Return what the register and the rollup's escrow say of a swap."""

    def state(
        self, keys: Sequence[bytes], *, min_height: int = 0, timeout_ms: int = ...
    ) -> Awaitable[ProvenState]:
        """Return values of the state."""

    def settlement(
        self, swap_id: SwapId, leg: int, *, wait_ms: int = 0
    ) -> Awaitable[SettledReceipt | UnbackedReceipt]:
        """Return how a leg was settled."""


@dataclass(frozen=True, slots=True)
class LegEnd:
    """How a leg ended."""

    leg: int
    """The leg."""
    receipt: SettledReceipt | None
    """Its proven receipt; None if nothing of it was ever in escrow."""


def verify_agreement(terms: Terms, account: PublicKey, genesis: Genesis, *, time_ms: int) -> None:
    """Check that terms are worth signing as `account` at log time `time_ms`.

    Order of checks: the chain; the account gives a leg; every leg moves what there is; it pays no premium
    unless it is the revealer; both deadlines are ahead and within the order's bounds. Raises WrongChain,
    Malformed, Expired or TooFarAhead.
    """
    if terms.chain != genesis.chain_id:
        raise WrongChain(expected=genesis.chain_id.hex(), found=terms.chain.hex())
    if all(leg.sender != account for leg in terms.legs):
        raise Malformed(
            what="agreement", field="legs", reason=f"have none that is given by account {account.hex()}"
        )
    for place, leg in enumerate(terms.legs):
        if leg.kind is not LegKind.TRANSFER:
            raise Malformed(
                what="agreement", field=f"legs[{place}]", reason=f"is a {leg.kind.name}, not a transfer"
            )
    _verify_premium(terms, account)
    verify_lockable(terms, time_ms=time_ms)
    for deadline_ms, ahead_ms in (
        (terms.lock_by_ms, limits.LOCK_WINDOW_MS_MAX),
        (terms.expires_ms, limits.EXPIRY_MS_MAX),
    ):
        if deadline_ms > time_ms + ahead_ms:
            raise TooFarAhead(valid_until_ms=deadline_ms, latest_ms=time_ms + ahead_ms)


def _verify_premium(terms: Terms, account: PublicKey) -> None:
    """Refuse a premium that the account would pay and another's silence makes due: that is how to rob it."""
    premium = terms.premium
    if premium is None or terms.legs[premium.leg].sender != account or terms.revealer == account:
        return
    raise Malformed(
        what="agreement", field="premium", reason="is paid by this account if another does not reveal"
    )


def verify_lockable(terms: Terms, *, time_ms: int) -> None:
    """Check that a lock can still have an effect. Raises Expired."""
    if time_ms >= terms.lock_by_ms:
        raise Expired(what="proposed swap", valid_until_ms=terms.lock_by_ms, time_ms=time_ms)


async def is_secured(node: EscrowNode, swap: RecordedSwap, leg: int, *, opened_height: int) -> bool:
    """Answer whether a leg that the trader gets is in escrow for him as agreed, by a node's proofs.

    False if the node has not executed that far yet. Raises NotAsAgreed once it has, and something else is
    there: an amount, an asset, a sender or a verdict that was not agreed, or nothing.
    """
    told = await node.swap(swap.swap_id, min_height=opened_height, timeout_ms=PROOF_MS)
    if told.record is None or told.record.phase in (Phase.OPEN, Phase.REVEALED):
        return False
    if told.record.terms_bytes != swap.terms_bytes:
        raise NotAsAgreed(f"the order has other terms for swap {swap.swap_id.hex()}; cancel it")
    if told.record.decision is not None:
        return True
    found, terms = told.escrows.get(leg), swap.terms.legs[leg]
    wanted = EscrowRecord(
        verdict=LOCKED,
        reason=0,
        opened_height=told.record.opened_height,
        opened_index=told.record.opened_index,
        asset=terms.asset,
        sender=PublicKey(terms.sender),
        amount=terms.amount,
        premium=swap.terms.premium_of(leg),
    )
    if found != wanted:
        raise NotAsAgreed(
            f"leg {leg} of swap {swap.swap_id.hex()} is attested as locked, but at height {told.height} "
            f"rollup {terms.rollup} has {_escrow_words(found)} in escrow, not {_leg_words(terms)}. "
            f"The preimage was not shown. Cancel the swap, and no leg moves{_premium_words(swap.terms)}"
        )
    return True


async def leg_end(
    node: EscrowNode, swap: RecordedSwap, leg: int, outcome: SwapPhase, *, decided_height: int
) -> LegEnd:
    """Return how a leg of a decided swap ended, after checking that it is as `outcome` says.

    COMMITTED: it went to its recipient. ABORTED: it went back, or never left its sender; at
    `decided_height` or later nothing is in escrow. LAPSED: as a swap that was never there. Raises
    NotAsAgreed, and NotFound or NotYet while the node has not executed that far.
    """
    terms, committed = swap.terms.legs[leg], outcome is SwapPhase.COMMITTED
    if not committed:
        key = escrow_key(swap.swap_id, leg)
        value = (await node.state([key], min_height=decided_height)).values[key]
        if value is not None and decode_escrow_record(value).amount:
            raise NotAsAgreed(f"leg {leg} is in escrow, although the swap is said to be {outcome.name}")
    try:
        receipt = await node.settlement(swap.swap_id, leg, wait_ms=SETTLED_WAIT_MS if committed else 0)
    except NotFound:
        if committed:
            raise
        return LegEnd(leg, None)
    if not isinstance(receipt, SettledReceipt):
        raise NotAsAgreed(
            f"leg {leg} was attested as locked on {terms.rollup} and was not: its attesters lied, and "
            "nothing was credited. Keep the receipt, which is evidence, and show it to the network"
        )
    code, beneficiary = (
        (SettlementCode.COMMITTED, terms.recipient) if committed else (SettlementCode.ABORTED, terms.sender)
    )
    found = (receipt.code, receipt.beneficiary, receipt.asset, receipt.amount)
    if found != (code, beneficiary, terms.asset, terms.amount):
        raise NotAsAgreed(
            f"leg {leg} was settled on {terms.rollup} as {receipt.code.name} with {receipt.amount} of "
            f"{receipt.asset.decode('latin-1')} for {receipt.beneficiary.hex()}, although the swap is said "
            f"to be {outcome.name}. Do not trust who said so; look at `lockstep swap explain`"
        )
    return LegEnd(leg, receipt)


async def outcome_by_receipt(node: EscrowNode, swap_id: SwapId, leg: int, *, min_height: int) -> SwapPhase:
    """Return how a swap ended by the receipt of a leg; LAPSED if the leg has none.

    What a node says before it has executed `min_height` is not taken: it is waited for, and NotYet or
    TimedOut is raised if that does not come.
    """
    await node.state([escrow_key(swap_id, leg)], min_height=min_height)
    try:
        receipt = await node.settlement(swap_id, leg)
    except NotFound:
        return SwapPhase.LAPSED
    is_aborted = isinstance(receipt, SettledReceipt) and receipt.code is SettlementCode.ABORTED
    return SwapPhase.ABORTED if is_aborted else SwapPhase.COMMITTED


def _escrow_words(record: EscrowRecord | None) -> str:
    if record is None or record.verdict != LOCKED:
        return "nothing"
    return f"{record.amount} of {record.asset.decode('latin-1')} from {record.sender.hex()}"


def _premium_words(terms: Terms) -> str:
    """Return what a cancellation costs once all is attested as locked; empty if it costs nothing."""
    premium = terms.premium
    if premium is None:
        return ""
    leg = terms.legs[premium.leg]
    return (
        f", but the premium is paid, as it is if you do nothing: {premium.total} of "
        f"{leg.asset.decode('latin-1')} from {leg.sender.hex()}, for every leg is attested as locked"
    )


def _leg_words(leg: Leg) -> str:
    return f"{leg.amount} of {leg.asset.decode('latin-1')} from {leg.sender.hex()}"
