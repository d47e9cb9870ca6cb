"""Escrow: which locks act, what they hold, and where it goes when the swap is decided."""

from dataclasses import replace

import pytest

from lockstep import limits
from lockstep.commitment import LOCKED, REJECTED, escrow_key, open_locks_key
from lockstep.genesis import EscrowModule
from lockstep.receipts import (
    PremiumOutcome,
    Receipt,
    ReceiptCode,
    SettledReceipt,
    SettlementCode,
    TransactionReceipt,
    UnbackedReceipt,
)
from lockstep.register import BLOCK_OPENING, OutcomeReason, Phase
from lockstep.signing import SigningKey
from lockstep.swap_entries import RejectReason
from lockstep.terms import Premium, PremiumShare
from lockstep.transactions import Lock, Transfer
from lockstep.types import PublicKey
from rollups.modules.bank import balance_of
from rollups.modules.escrow import escrow_of
from rollups.state import amount_at
from tests.unit.rollups.chain import (
    ALPHA,
    ANN,
    BETA,
    BOB,
    CARL,
    Chain,
    Replica,
    Swap,
    changed,
    leg,
    make_genesis,
    make_swap,
    rollup,
)


class Pair:
    """A chain with a replica of each rollup."""

    def __init__(self, escrow: EscrowModule | None = None) -> None:
        definitions = (rollup(ALPHA, escrow=escrow), rollup(BETA)) if escrow else ()
        self.chain = Chain(make_genesis(*definitions))
        self.alpha = Replica(self.chain.genesis, ALPHA)
        self.beta = Replica(self.chain.genesis, BETA)

    def block(self, *transactions: tuple[str, bytes], advance_ms: int = 100) -> list[Receipt]:
        """Make a block, execute it on both, and return alpha's receipts of it."""
        made = self.chain.block(*transactions, advance_ms=advance_ms)
        before = len(self.alpha.receipts)
        self.alpha.apply(made)
        self.beta.apply(made)
        assert self.alpha.state.register.root == self.beta.state.register.root
        return self.alpha.receipts[before:]

    def lock(self, swap: Swap, place: int = 0, by: SigningKey = ANN) -> tuple[str, bytes]:
        rollup_id = swap.terms.legs[place].rollup
        return rollup_id, self.chain.signed(by, Lock(swap.id, place), to=rollup_id)

    def lock_and_attest(self, swap: Swap) -> None:
        """Open, lock both legs, attest both."""
        self.block(swap.open, self.lock(swap), self.lock(swap, 1, BOB))
        none = RejectReason.NONE
        self.block(self.chain.attest((swap.id, 0, none)), self.chain.attest((swap.id, 1, none), of=BETA))

    def pass_time(self, to_ms: int) -> list[Receipt]:
        receipts = []
        while self.chain.time_ms < to_ms:
            receipts += self.block(advance_ms=min(2_000, to_ms - self.chain.time_ms))
        return receipts

    def gold(self, who: SigningKey, on: str = "alpha") -> int:
        return balance_of(getattr(self, on).memory, b"gold", who.public_key)


def code_of(receipts: list[Receipt]) -> ReceiptCode:
    [receipt] = receipts
    assert isinstance(receipt, TransactionReceipt)
    return receipt.code


def premium(*shares: tuple[PublicKey, int], place: int = 0) -> Premium:
    return Premium(place, tuple(PremiumShare(who, amount) for who, amount in shares))


# --- locks that act ---------------------------------------------------------------------------------------


def test_a_lock_takes_amount_and_premium_into_escrow() -> None:
    pair = Pair()
    swap = make_swap(pair.chain, premium=premium((CARL.public_key, 7), (BOB.public_key, 3)))
    assert code_of(pair.block(swap.open, pair.lock(swap))) == ReceiptCode.OK
    escrow = escrow_of(pair.alpha.memory, swap.id, 0)
    assert escrow is not None
    assert (escrow.verdict, escrow.reason, escrow.amount, escrow.premium) == (LOCKED, 0, 100, 10)
    assert (escrow.opened_height, escrow.opened_index, escrow.sender) == (1, 0, ANN.public_key)
    assert pair.gold(ANN) == 890
    assert amount_at(pair.alpha.memory, open_locks_key(ANN.public_key)) == 1


def test_the_verdict_is_told_once_as_found_in_its_block() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    made = pair.chain.block(swap.open, pair.lock(swap))
    assert list(pair.alpha.apply(made).verdicts) == [(swap.id, 0)]
    assert list(pair.alpha.apply(pair.chain.block()).verdicts) == []


@pytest.mark.parametrize(
    ("swap_legs", "escrow", "reason"),
    [
        ((leg(ALPHA, ANN, BOB, 1_001), leg(BETA, BOB, ANN, 40)), None, RejectReason.INSUFFICIENT_FUNDS),
        (
            (leg(ALPHA, ANN, BOB, 10, b"silver"), leg(BETA, BOB, ANN, 40)),
            None,
            RejectReason.UNKNOWN_ASSET,
        ),
        ((leg(ALPHA, ANN, BOB, 4), leg(BETA, BOB, ANN, 40)), None, RejectReason.BELOW_MINIMUM),
        (
            (replace(leg(ALPHA, ANN, BOB, 10), recipient=b"bob"), leg(BETA, BOB, ANN, 40)),
            None,
            RejectReason.UNREADABLE_RECIPIENT,
        ),
    ],
)
def test_a_lock_that_cannot_lock_rejects_its_leg(
    swap_legs: tuple[object, ...], escrow: EscrowModule | None, reason: RejectReason
) -> None:
    pair = Pair(escrow)
    swap = make_swap(pair.chain, *swap_legs)  # type: ignore[arg-type]
    assert code_of(pair.block(swap.open, pair.lock(swap))) == ReceiptCode.LOCK_REJECTED
    record = escrow_of(pair.alpha.memory, swap.id, 0)
    assert record is not None
    assert (record.verdict, record.reason, record.amount, record.premium) == (REJECTED, reason, 0, 0)
    assert pair.gold(ANN) == 1_000
    assert pair.alpha.memory.get(open_locks_key(ANN.public_key)) is None


@pytest.mark.parametrize(("total", "code"), [(900, ReceiptCode.OK), (901, ReceiptCode.LOCK_REJECTED)])
def test_funds_must_cover_the_premium_too(total: int, code: ReceiptCode) -> None:
    pair = Pair()
    swap = make_swap(pair.chain, premium=premium((CARL.public_key, total)))
    assert code_of(pair.block(swap.open, pair.lock(swap))) == code


def test_an_unreadable_recipient_of_the_premium_rejects() -> None:
    pair = Pair()
    swap = make_swap(pair.chain, premium=premium((PublicKey(b"carl"), 1)))
    pair.block(swap.open, pair.lock(swap))
    record = escrow_of(pair.alpha.memory, swap.id, 0)
    assert record is not None
    assert record.reason == RejectReason.UNREADABLE_RECIPIENT


def test_an_unreadable_recipient_of_another_legs_premium_is_not_this_legs_matter() -> None:
    pair = Pair()
    swap = make_swap(pair.chain, premium=premium((PublicKey(b"carl"), 1), place=1))
    assert code_of(pair.block(swap.open, pair.lock(swap))) == ReceiptCode.OK
    assert pair.gold(ANN) == 900


def test_open_locks_are_limited_and_freed_by_settlement() -> None:
    pair = Pair(EscrowModule(minimum_lock=1, open_locks_per_account_max=1))
    first, second, third = (make_swap(pair.chain) for _ in range(3))
    pair.block(first.open, second.open, third.open)
    assert code_of(pair.block(pair.lock(first))) == ReceiptCode.OK
    assert code_of(pair.block(pair.lock(second))) == ReceiptCode.LOCK_REJECTED
    rejected = escrow_of(pair.alpha.memory, second.id, 0)
    assert rejected is not None
    assert rejected.reason == RejectReason.TOO_MANY_OPEN_LOCKS
    pair.block(first.cancel)
    assert pair.alpha.memory.get(open_locks_key(ANN.public_key)) is None
    assert code_of(pair.block(pair.lock(third))) == ReceiptCode.OK


# --- locks that do not act --------------------------------------------------------------------------------


def acts_later(pair: Pair, lock: tuple[str, bytes]) -> bool:
    """Answer whether the very same transaction is not a duplicate."""
    return code_of(pair.block(lock)) is not ReceiptCode.DUPLICATE


def test_a_lock_before_its_swap_is_opened_does_not_burn_it() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    lock = pair.lock(swap)
    seen = dict(pair.alpha.memory.values)
    assert code_of(pair.block(lock)) == ReceiptCode.NO_OPEN_SWAP
    assert pair.alpha.memory.values == seen, "not even the table of seen ids changed"
    assert code_of(pair.block(swap.open, lock)) == ReceiptCode.OK
    assert code_of(pair.block(lock)) == ReceiptCode.DUPLICATE


def test_a_strangers_lock_does_nothing() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    lock = pair.lock(swap, by=CARL)
    assert code_of(pair.block(swap.open, lock)) == ReceiptCode.NOT_THE_SENDER
    assert escrow_of(pair.alpha.memory, swap.id, 0) is None
    assert acts_later(pair, lock)


def test_the_recipient_cannot_lock_either() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    assert code_of(pair.block(swap.open, pair.lock(swap, by=BOB))) == ReceiptCode.NOT_THE_SENDER


@pytest.mark.parametrize("amount", [100, 5_000])
def test_a_second_lock_does_nothing_whatever_the_first_verdict(amount: int) -> None:
    pair = Pair()
    swap = make_swap(pair.chain, leg(ALPHA, ANN, BOB, amount), leg(BETA, BOB, ANN, 40))
    pair.block(swap.open, pair.lock(swap))
    before = pair.alpha.memory.get(escrow_key(swap.id, 0))
    pair.block((ALPHA, pair.chain.signed(CARL, Transfer(b"vast", ANN.public_key, 1))))
    balance, second = pair.gold(ANN), pair.lock(swap)
    assert code_of(pair.block(second)) == ReceiptCode.LEG_ALREADY_DECIDED
    assert pair.alpha.memory.get(escrow_key(swap.id, 0)) == before
    assert pair.gold(ANN) == balance
    assert acts_later(pair, second)


@pytest.mark.parametrize(
    ("place", "code"), [(1, ReceiptCode.LEG_OF_OTHER_ROLLUP), (2, ReceiptCode.LEG_UNKNOWN)]
)
def test_a_lock_of_another_leg_does_nothing(place: int, code: ReceiptCode) -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    lock = (ALPHA, pair.chain.signed(BOB, Lock(swap.id, place)))
    assert code_of(pair.block(swap.open, lock)) == code
    assert acts_later(pair, lock)


@pytest.mark.parametrize(("early_ms", "acts"), [(1, True), (0, False), (-1, False)])
def test_a_lock_acts_until_the_deadline(early_ms: int, acts: bool) -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    pair.block(swap.open)
    pair.pass_time(swap.terms.lock_by_ms - early_ms - 1)
    code = code_of([each for each in pair.block(pair.lock(swap), advance_ms=1) if hasattr(each, "signer")])
    assert code == (ReceiptCode.OK if acts else ReceiptCode.NO_OPEN_SWAP)


def test_a_lock_is_too_late_even_if_liars_attested_the_leg_before() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    pair.block(swap.open)
    none = RejectReason.NONE
    pair.block(pair.chain.attest((swap.id, 0, none)), pair.chain.attest((swap.id, 1, none), of=BETA))
    pair.pass_time(swap.terms.lock_by_ms - 1)
    assert code_of(pair.block(pair.lock(swap), advance_ms=1)) == ReceiptCode.NO_OPEN_SWAP
    record = pair.alpha.state.register.record(swap.id)
    assert record is not None
    assert record.phase == Phase.LOCKED


def test_a_lock_of_a_decided_swap_does_nothing() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    lock = pair.lock(swap)
    assert code_of(pair.block(swap.open, swap.cancel, lock)) == ReceiptCode.NO_OPEN_SWAP
    assert escrow_of(pair.alpha.memory, swap.id, 0) is None
    assert acts_later(pair, lock)


# --- settlement -------------------------------------------------------------------------------------------


def test_a_commit_credits_the_recipient_exactly_what_is_in_escrow() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    pair.lock_and_attest(swap)
    [settled] = pair.block(swap.reveal)
    assert settled == SettledReceipt(
        height=3,
        index=0,
        subject=swap.id,
        code=SettlementCode.COMMITTED,
        leg=0,
        asset=b"gold",
        beneficiary=BOB.public_key,
        amount=100,
        premium_outcome=PremiumOutcome.NONE,
        premium=0,
    )
    assert (pair.gold(ANN), pair.gold(BOB)) == (900, 1_100)
    assert (pair.gold(ANN, "beta"), pair.gold(BOB, "beta")) == (1_040, 960)
    assert pair.alpha.memory.get(escrow_key(swap.id, 0)) is None
    assert pair.alpha.memory.get(open_locks_key(ANN.public_key)) is None


def test_a_swap_revealed_up_front_commits_by_its_last_attestation() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    pair.block(swap.open, swap.reveal, pair.lock(swap), pair.lock(swap, 1, BOB))
    none = RejectReason.NONE
    pair.block(pair.chain.attest((swap.id, 0, none)), pair.chain.attest((swap.id, 1, none), of=BETA))
    assert (pair.gold(BOB), pair.gold(ANN, "beta")) == (1_100, 1_040)


def test_an_abort_returns_what_is_in_escrow_at_the_blocks_opening() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    pair.block(swap.open, pair.lock(swap))
    [settled] = pair.pass_time(swap.terms.lock_by_ms)
    assert isinstance(settled, SettledReceipt)
    assert (settled.code, settled.index) == (SettlementCode.ABORTED, BLOCK_OPENING)
    assert (settled.beneficiary, settled.amount) == (ANN.public_key, 100)
    assert pair.gold(ANN) == 1_000
    assert pair.alpha.memory.get(escrow_key(swap.id, 0)) is None


def test_a_rejected_leg_aborts_the_swap_and_leaves_no_record() -> None:
    pair = Pair()
    swap = make_swap(pair.chain, leg(ALPHA, ANN, BOB, 100), leg(BETA, BOB, ANN, 4_000))
    pair.block(swap.open, pair.lock(swap), pair.lock(swap, 1, BOB))
    funds = RejectReason.INSUFFICIENT_FUNDS
    pair.block(pair.chain.attest((swap.id, 1, funds), of=BETA))
    record = pair.alpha.state.register.record(swap.id)
    assert record is not None
    assert record.decision is not None
    assert record.decision.reason == OutcomeReason.LEG_REJECTED
    assert pair.gold(ANN) == 1_000
    assert pair.beta.memory.get(escrow_key(swap.id, 1)) is None
    assert pair.beta.receipts[1:] == [], "nothing was in escrow, so nothing is settled"


def test_settlement_comes_before_the_blocks_own_transactions() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    pair.lock_and_attest(swap)
    spend = (ALPHA, pair.chain.signed(BOB, Transfer(b"gold", CARL.public_key, 1_100)))
    receipts = pair.block(spend, swap.reveal)
    assert isinstance(receipts[0], SettledReceipt)
    assert code_of(receipts[1:]) == ReceiptCode.OK
    assert pair.gold(CARL) == 1_100


def test_several_decisions_settle_in_order_of_position() -> None:
    pair = Pair()
    swaps = [make_swap(pair.chain) for _ in range(3)]
    pair.block(*(each.open for each in swaps), *(pair.lock(each) for each in swaps))
    order = [swaps[2], swaps[0], swaps[1]]
    receipts = pair.block(*(each.cancel for each in order))
    assert [each.subject for each in receipts] == [each.id for each in order]
    assert [each.index for each in receipts] == [0, 1, 2]


def test_a_swap_with_two_legs_on_one_rollup_settles_both() -> None:
    pair = Pair()
    swap = make_swap(pair.chain, leg(ALPHA, ANN, BOB, 100), leg(ALPHA, BOB, ANN, 30))
    pair.block(swap.open, pair.lock(swap), pair.lock(swap, 1, BOB), swap.reveal)
    pair.block(pair.chain.attest((swap.id, 0, RejectReason.NONE), (swap.id, 1, RejectReason.NONE)))
    assert (pair.gold(ANN), pair.gold(BOB)) == (930, 1_070)


@pytest.mark.parametrize("is_rejected", [False, True])
def test_a_committed_leg_without_escrow_creates_nothing_and_leaves_evidence(is_rejected: bool) -> None:
    pair = Pair()
    amount = 5_000 if is_rejected else 100
    swap = make_swap(pair.chain, leg(ALPHA, ANN, BOB, amount), leg(BETA, BOB, ANN, 40))
    locks = [pair.lock(swap)] if is_rejected else []
    pair.block(swap.open, *locks, pair.lock(swap, 1, BOB))
    none = RejectReason.NONE
    pair.block(pair.chain.attest((swap.id, 0, none)), pair.chain.attest((swap.id, 1, none), of=BETA))
    [unbacked] = pair.block(swap.reveal)
    assert unbacked == UnbackedReceipt(3, 0, swap.id, 0)
    assert (pair.gold(ANN), pair.gold(BOB)) == (1_000, 1_000)
    assert pair.gold(ANN, "beta") == 1_040, "the other side is cheated, which the receipt proves"
    assert pair.alpha.memory.get(escrow_key(swap.id, 0)) is None


def test_a_swap_that_is_opened_again_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
    pair = Pair()
    swap, other = (make_swap(pair.chain, lock_in_ms=20_000, expire_in_ms=30_000) for _ in range(2))
    first_lock = pair.lock(swap)
    pair.block(swap.open, first_lock)
    [crowded_out] = pair.block(other.open)
    assert isinstance(crowded_out, SettledReceipt)
    assert (crowded_out.subject, crowded_out.code) == (swap.id, SettlementCode.ABORTED)
    assert pair.gold(ANN) == 1_000
    pair.block(other.cancel)

    assert code_of(pair.block(swap.open, first_lock)) == ReceiptCode.DUPLICATE
    assert code_of(pair.block(pair.lock(swap))) == ReceiptCode.OK
    escrow = escrow_of(pair.alpha.memory, swap.id, 0)
    assert escrow is not None
    assert (escrow.opened_height, escrow.opened_index) == (4, 0)


def test_a_swap_that_is_crowded_out_and_opened_again_in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
    pair = Pair()
    swap, other = (make_swap(pair.chain, lock_in_ms=20_000, expire_in_ms=30_000) for _ in range(2))
    pair.block(swap.open, pair.lock(swap))
    receipts = pair.block(other.open, swap.open, pair.lock(swap))
    assert [type(each) for each in receipts] == [SettledReceipt, TransactionReceipt]
    escrow = escrow_of(pair.alpha.memory, swap.id, 0)
    assert escrow is not None
    assert (escrow.opened_height, escrow.opened_index) == (2, 1)
    assert pair.gold(ANN) == 900
    assert amount_at(pair.alpha.memory, open_locks_key(ANN.public_key)) == 1


# --- the premium ------------------------------------------------------------------------------------------


def play(how: str) -> tuple[Pair, Swap]:
    """Play a swap whose sender on alpha also locks a premium of 10 for Carl (7) and Bob (3)."""
    pair = Pair()
    swap = make_swap(pair.chain, premium=premium((CARL.public_key, 7), (BOB.public_key, 3)))
    match how:
        case "committed":
            pair.lock_and_attest(swap)
            pair.block(swap.reveal)
        case "not revealed":
            pair.lock_and_attest(swap)
            pair.pass_time(swap.terms.expires_ms)
        case "cancelled after all were locked":
            pair.lock_and_attest(swap)
            pair.block(swap.cancel)
        case "cancelled before":
            pair.block(swap.open, pair.lock(swap), pair.lock(swap, 1, BOB))
            pair.block(pair.chain.attest((swap.id, 0, RejectReason.NONE)))
            pair.block(swap.cancel)
        case "not locked":
            pair.block(swap.open, pair.lock(swap))
            pair.pass_time(swap.terms.lock_by_ms)
        case "rejected":
            pair.block(swap.open, pair.lock(swap), pair.lock(swap, 1, BOB))
            pair.block(pair.chain.attest((swap.id, 1, RejectReason.OTHER), of=BETA))
    return pair, swap


@pytest.mark.parametrize(
    ("how", "ann", "bob", "carl", "outcome"),
    [
        ("committed", 900, 1_100, 0, PremiumOutcome.RETURNED),
        ("not revealed", 990, 1_003, 7, PremiumOutcome.PAID),
        ("cancelled after all were locked", 990, 1_003, 7, PremiumOutcome.PAID),
        ("cancelled before", 1_000, 1_000, 0, PremiumOutcome.RETURNED),
        ("not locked", 1_000, 1_000, 0, PremiumOutcome.RETURNED),
        ("rejected", 1_000, 1_000, 0, PremiumOutcome.RETURNED),
    ],
)
def test_where_the_premium_goes(how: str, ann: int, bob: int, carl: int, outcome: PremiumOutcome) -> None:
    pair, swap = play(how)
    assert (pair.gold(ANN), pair.gold(BOB), pair.gold(CARL)) == (ann, bob, carl)
    [settled] = [each for each in pair.alpha.receipts if isinstance(each, SettledReceipt)]
    assert (settled.subject, settled.premium_outcome, settled.premium) == (swap.id, outcome, 10)
    assert pair.alpha.memory.get(escrow_key(swap.id, 0)) is None
    others = [each for each in pair.beta.receipts if isinstance(each, SettledReceipt)]
    assert all(each.premium_outcome == PremiumOutcome.NONE for each in others)


def test_other_terms_are_another_swap() -> None:
    pair = Pair()
    swap = make_swap(pair.chain)
    other = changed(swap, expires_ms=swap.terms.expires_ms + 1)
    pair.block(swap.open, other.open, pair.lock(swap))
    assert escrow_of(pair.alpha.memory, other.id, 0) is None
