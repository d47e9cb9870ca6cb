"""The outbox: a verdict is outstanding until its key has voted, its swap is over, or is another opening."""

import pytest

from lockstep import limits
from lockstep.swap_entries import RejectReason
from lockstep.transactions import Lock
from rollups.outbox import EMPTY, Outbox, outstanding
from tests.unit.rollups.chain import ALPHA, ANN, ATTESTERS, BETA, Chain, Replica, Swap, key, make_swap

OURS = ATTESTERS[ALPHA].public_key


class Kept:
    """A replica of alpha with an outbox that is kept up block by block."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.alpha = Replica(self.chain.genesis)
        self.outbox: Outbox = EMPTY

    def block(self, *transactions: tuple[str, bytes], advance_ms: int = 100) -> None:
        executed = self.alpha.apply(self.chain.block(*transactions, advance_ms=advance_ms))
        self.outbox = outstanding({**self.outbox, **executed.verdicts}, executed.after.register, OURS)

    def swap(self) -> Swap:
        return make_swap(self.chain, lock_in_ms=20_000, expire_in_ms=40_000)

    def lock(self, swap: Swap) -> tuple[str, bytes]:
        return ALPHA, self.chain.signed(ANN, Lock(swap.id, 0))


def test_a_verdict_waits_for_the_vote_of_its_own_key() -> None:
    kept = Kept()
    swap = kept.swap()
    kept.block(swap.open, kept.lock(swap))
    assert list(kept.outbox) == [(swap.id, 0)]
    kept.block(kept.chain.attest((swap.id, 1, RejectReason.NONE), of=BETA))
    assert list(kept.outbox) == [(swap.id, 0)], "another leg's vote changes nothing"
    assert outstanding(kept.outbox, kept.alpha.state.register, key("stranger").public_key) == EMPTY
    kept.block(kept.chain.attest((swap.id, 0, RejectReason.NONE)))
    assert kept.outbox == EMPTY


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_verdict_on_a_decided_swap_is_not_outstanding(how: str) -> None:
    kept = Kept()
    swap = kept.swap()
    kept.block(swap.open, kept.lock(swap))
    if how == "cancel":
        kept.block(swap.cancel)
    else:
        while kept.chain.time_ms < swap.terms.lock_by_ms:
            assert kept.outbox
            kept.block(advance_ms=2_000)
    assert kept.outbox == EMPTY


def test_a_verdict_of_an_earlier_opening_is_not_attested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
    kept = Kept()
    swap, other = kept.swap(), kept.swap()
    kept.block(swap.open, kept.lock(swap))
    assert kept.outbox
    kept.block(other.open, swap.open)
    assert kept.alpha.state.register.record(swap.id) is not None, "it is recorded, as another opening"
    assert kept.outbox == EMPTY, "its escrow was returned: LOCKED would be a lie now"
