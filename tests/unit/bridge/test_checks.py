"""What a trader checks for himself: whatever is not as it was agreed is told, and nothing is shown for it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bridge.client import NotAsAgreed, SwapPhase
from bridge.client.checks import is_secured, leg_end, outcome_by_receipt, verify_agreement
from lockstep import limits
from lockstep.commitment import LOCKED, REJECTED, Commitment, EscrowRecord, encode_escrow_record, escrow_key
from lockstep.errors import Expired, LockstepError, Malformed, NotFound, TooFarAhead, WrongChain
from lockstep.receipts import PremiumOutcome, SettledReceipt, SettlementCode, UnbackedReceipt
from lockstep.register import EncodedRecord, decode_record, encode_record
from lockstep.swap_entries import encode_open, encode_reveal
from lockstep.terms import Premium, PremiumShare, Terms
from lockstep.types import ChainId, PublicKey, SwapId
from rollups.client import ProvenState, RollupSwap
from tests.unit.bridge.chain import ANN, BOB, EVE, GENESIS, TIME_MS, FakeOrder, make_terms, swap_bundle
from tests.unit.bridge.test_wallet import record

SWAP = record()
"""Ann's, who gets leg 1: 200 of Bob's BLUE on beta."""

NOTHING = Commitment(SWAP.terms.legs[1].rollup, 9, bytes(32), 0, bytes(32), bytes(32))
ESCROW = EscrowRecord(LOCKED, 0, 1, 0, b"BLUE", PublicKey(BOB.account), 200, 0)


def record_when(
    *, attested: int, revealed: bool = False, terms_bytes: bytes = SWAP.terms_bytes
) -> EncodedRecord:
    """Return the register's record of a swap of which so many legs are attested."""
    order, swap_id = FakeOrder(), SWAP.swap_id
    order.block(swap_bundle(encode_open(terms_bytes), valid_until_ms=order.time_ms + 5_000))
    for leg in range(attested):
        order.attest(swap_id, leg)
    if revealed:
        entry = encode_reveal(swap_id, ANN.preimage(terms_bytes).reveal())
        order.block(swap_bundle(entry, valid_until_ms=order.time_ms + 5_000))
    found = order.register.record(swap_id)
    assert found is not None
    return decode_record(encode_record(found))


class Node:
    """Beta's node, that says what a test lets it say."""

    def __init__(
        self,
        told: EncodedRecord | None = None,
        *,
        escrow: EscrowRecord | None = None,
        receipt: SettledReceipt | UnbackedReceipt | None = None,
    ) -> None:
        self._told = told
        self._escrow = escrow
        self._receipt = receipt
        self.min_height = 0

    async def swap(self, swap_id: SwapId, *, min_height: int = 0, timeout_ms: int = 0) -> RollupSwap:
        self.min_height = min_height
        return RollupSwap(9, self._told, {} if self._escrow is None else {1: self._escrow}, NOTHING)

    async def state(self, keys: Sequence[bytes], *, min_height: int = 0, timeout_ms: int = 0) -> ProvenState:
        assert keys == [escrow_key(SWAP.swap_id, 1)]
        self.min_height = min_height
        value = None if self._escrow is None else encode_escrow_record(self._escrow)
        return ProvenState({keys[0]: value}, NOTHING)

    async def settlement(
        self, swap_id: SwapId, leg: int, *, wait_ms: int = 0
    ) -> SettledReceipt | UnbackedReceipt:
        if self._receipt is None:
            raise NotFound(subject="receipt", name="of the leg")
        return self._receipt


# --- before a reveal --------------------------------------------------------------------------------------


async def test_what_is_in_escrow_as_agreed_is_secured() -> None:
    node = Node(record_when(attested=2), escrow=ESCROW)
    assert await is_secured(node, SWAP, 1, opened_height=7)
    assert node.min_height == 7


@pytest.mark.parametrize("attested", [0, 1])
async def test_a_node_that_has_not_seen_every_attestation_is_waited_for(attested: int) -> None:
    for node in (Node(), Node(record_when(attested=attested), escrow=ESCROW)):
        assert not await is_secured(node, SWAP, 1, opened_height=1)


async def test_a_swap_that_was_decided_meanwhile_needs_no_escrow() -> None:
    assert await is_secured(Node(record_when(attested=2, revealed=True)), SWAP, 1, opened_height=1)


@pytest.mark.parametrize(
    "escrow",
    [
        None,
        EscrowRecord(REJECTED, 1, 1, 0, b"BLUE", PublicKey(BOB.account), 0, 0),
        replace(ESCROW, amount=199),
        replace(ESCROW, amount=201),
        replace(ESCROW, asset=b"RED"),
        replace(ESCROW, sender=PublicKey(EVE.account)),
        replace(ESCROW, opened_height=2),
        replace(ESCROW, opened_index=1),
        replace(ESCROW, premium=1),
    ],
)
async def test_whatever_else_is_in_escrow_is_told(escrow: EscrowRecord | None) -> None:
    with pytest.raises(NotAsAgreed, match=r"preimage was not shown. Cancel the swap"):
        await is_secured(Node(record_when(attested=2), escrow=escrow), SWAP, 1, opened_height=1)


async def test_what_a_cancellation_costs_is_told() -> None:
    premium = Premium(0, (PremiumShare(PublicKey(BOB.account), 5),))
    swap = replace(SWAP, terms=replace(SWAP.terms, premium=premium))
    with pytest.raises(
        NotAsAgreed, match=r"Cancel the swap, and no leg moves, but the premium is paid.* 5 of "
    ):
        await is_secured(Node(record_when(attested=2)), swap, 1, opened_height=1)
    with pytest.raises(NotAsAgreed, match=r"no leg moves$"):
        await is_secured(Node(record_when(attested=2)), SWAP, 1, opened_height=1)


async def test_other_terms_in_the_order_are_told() -> None:
    told = replace(record_when(attested=2), terms_bytes=make_terms(1))
    with pytest.raises(NotAsAgreed, match="other terms"):
        await is_secured(Node(told, escrow=ESCROW), SWAP, 1, opened_height=1)


# --- at the end -------------------------------------------------------------------------------------------


def receipt(code: SettlementCode, beneficiary: PublicKey, *, amount: int = 200) -> SettledReceipt:
    return SettledReceipt(9, 0, SWAP.swap_id, code, 1, b"BLUE", beneficiary, amount, PremiumOutcome.NONE, 0)


COMMITTED = receipt(SettlementCode.COMMITTED, ANN.account)
ABORTED = receipt(SettlementCode.ABORTED, BOB.account)


@pytest.mark.parametrize(
    ("outcome", "given"),
    [
        (SwapPhase.COMMITTED, COMMITTED),
        (SwapPhase.ABORTED, ABORTED),
        (SwapPhase.ABORTED, None),
        (SwapPhase.LAPSED, None),
    ],
)
async def test_a_leg_that_ended_as_it_should(outcome: SwapPhase, given: SettledReceipt | None) -> None:
    end = await leg_end(Node(receipt=given), SWAP, 1, outcome, decided_height=5)
    assert (end.leg, end.receipt) == (1, given)


async def test_an_abort_is_asked_for_at_its_height() -> None:
    node = Node(receipt=ABORTED)
    await leg_end(node, SWAP, 1, SwapPhase.ABORTED, decided_height=5)
    assert node.min_height == 5


@pytest.mark.parametrize(
    ("outcome", "given"),
    [
        (SwapPhase.COMMITTED, ABORTED),
        (SwapPhase.ABORTED, COMMITTED),
        (SwapPhase.LAPSED, COMMITTED),
        (SwapPhase.COMMITTED, receipt(SettlementCode.COMMITTED, EVE.account)),
        (SwapPhase.COMMITTED, receipt(SettlementCode.COMMITTED, ANN.account, amount=199)),
        (SwapPhase.COMMITTED, UnbackedReceipt(9, 0, SWAP.swap_id, 1)),
    ],
)
async def test_a_leg_that_ended_otherwise_is_told(
    outcome: SwapPhase, given: SettledReceipt | UnbackedReceipt
) -> None:
    with pytest.raises(NotAsAgreed):
        await leg_end(Node(receipt=given), SWAP, 1, outcome, decided_height=5)


async def test_nobody_is_believed_that_a_swap_was_aborted_while_it_is_in_escrow() -> None:
    with pytest.raises(NotAsAgreed, match="is in escrow"):
        await leg_end(Node(escrow=ESCROW), SWAP, 1, SwapPhase.ABORTED, decided_height=5)


async def test_that_a_leg_has_no_receipt_is_taken_from_a_node_that_has_come_so_far() -> None:
    node = Node()
    assert await outcome_by_receipt(node, SWAP.swap_id, 1, min_height=7) is SwapPhase.LAPSED
    assert node.min_height == 7


async def test_a_commit_whose_receipt_is_not_there_yet_is_waited_for() -> None:
    with pytest.raises(NotFound):
        await leg_end(Node(), SWAP, 1, SwapPhase.COMMITTED, decided_height=5)


# --- before a signature -----------------------------------------------------------------------------------

TERMS = SWAP.terms


@pytest.mark.parametrize("account", [ANN.account, BOB.account])
def test_terms_that_are_worth_signing(account: PublicKey) -> None:
    verify_agreement(TERMS, account, GENESIS, time_ms=TIME_MS)


@pytest.mark.parametrize(
    ("terms", "account", "time_ms", "error"),
    [
        (replace(TERMS, chain=ChainId(bytes(32))), ANN.account, TIME_MS, WrongChain),
        (TERMS, EVE.account, TIME_MS, Malformed),
        (TERMS, ANN.account, TERMS.lock_by_ms, Expired),
        (TERMS, ANN.account, TERMS.lock_by_ms - limits.LOCK_WINDOW_MS_MAX - 1, TooFarAhead),
        (replace(TERMS, expires_ms=TIME_MS + limits.EXPIRY_MS_MAX + 1), ANN.account, TIME_MS, TooFarAhead),
    ],
)
def test_terms_that_are_not(
    terms: Terms, account: PublicKey, time_ms: int, error: type[LockstepError]
) -> None:
    with pytest.raises(error):
        verify_agreement(terms, account, GENESIS, time_ms=time_ms)


@pytest.mark.parametrize(
    ("payer_leg", "account", "is_refused"),
    [(0, ANN.account, False), (0, BOB.account, False), (1, BOB.account, True), (1, ANN.account, False)],
    ids=["the revealer pays", "the revealer pays the account", "the account pays", "the other pays"],
)
def test_no_premium_is_paid_for_anothers_silence(
    payer_leg: int, account: PublicKey, is_refused: bool
) -> None:
    payee = TERMS.legs[payer_leg].recipient
    terms = replace(TERMS, premium=Premium(payer_leg, (PremiumShare(payee, 5),)))
    if is_refused:
        with pytest.raises(Malformed, match="premium is paid by this account"):
            verify_agreement(terms, account, GENESIS, time_ms=TIME_MS)
    else:
        verify_agreement(terms, account, GENESIS, time_ms=TIME_MS)


def test_the_last_moment_in_which_a_lock_is_signed() -> None:
    verify_agreement(TERMS, ANN.account, GENESIS, time_ms=TERMS.lock_by_ms - 1)
