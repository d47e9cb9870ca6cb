"""What a trader does next: every phase, role and wish, before and after each deadline."""

from dataclasses import replace

import pytest

from bridge.client import LegState, RecordedSwap, Role, Standing, SwapPhase
from bridge.client.steps import Step, next_step, standing_of_record
from bridge.swap import PHASE_OF
from lockstep.register import decode_record, encode_record
from lockstep.swap_entries import encode_open
from tests.unit.bridge.chain import BOB, FakeOrder, make_terms, swap_bundle
from tests.unit.bridge.test_wallet import record

A, G, L = LegState.AWAITED, LegState.GIVEN, LegState.LOCKED
ANNS, BOBS = record(), record(trader=BOB)
EARLY, LATE, OVER = 0, ANNS.terms.lock_by_ms, ANNS.terms.expires_ms


def standing(phase: SwapPhase, legs: tuple[LegState, ...] = (A, A)) -> Standing:
    return Standing("a test", phase, legs, 0, 0, "")


CASES: list[tuple[RecordedSwap, Standing | None, int, Step]] = [
    # Nobody knows it: only who made the terms brings them.
    (ANNS, None, EARLY, Step.PROPOSE),
    (BOBS, None, EARLY, Step.WAIT),
    (ANNS, None, LATE, Step.CONCLUDE),
    (BOBS, None, LATE, Step.CONCLUDE),
    # Locks are missing.
    (ANNS, standing(SwapPhase.COLLECTING), EARLY, Step.LOCK),
    (ANNS, standing(SwapPhase.COLLECTING, (G, A)), EARLY, Step.WAIT),
    (BOBS, standing(SwapPhase.COLLECTING, (G, A)), EARLY, Step.LOCK),
    (ANNS, standing(SwapPhase.COLLECTING), LATE, Step.CONCLUDE),
    (ANNS, standing(SwapPhase.SUBMITTED, (G, G)), EARLY, Step.WAIT),
    (ANNS, standing(SwapPhase.SUBMITTED, (G, G)), LATE, Step.CONCLUDE),
    # In the order, opened by somebody else or by a coordinator that lost the lock.
    (ANNS, standing(SwapPhase.OPEN), EARLY, Step.LOCK),
    (ANNS, standing(SwapPhase.OPEN, (G, A)), EARLY, Step.WAIT),
    (BOBS, standing(SwapPhase.REVEALED, (L, A)), EARLY, Step.LOCK),
    (BOBS, standing(SwapPhase.REVEALED, (L, A)), LATE, Step.WAIT),
    # Everything is locked: who has the preimage shows it, until it would be useless.
    (ANNS, standing(SwapPhase.LOCKED, (L, L)), EARLY, Step.REVEAL),
    (ANNS, standing(SwapPhase.LOCKED, (L, L)), LATE, Step.REVEAL),
    (ANNS, standing(SwapPhase.LOCKED, (L, L)), OVER, Step.WAIT),
    (BOBS, standing(SwapPhase.LOCKED, (L, L)), EARLY, Step.WAIT),
    # Over.
    (BOBS, standing(SwapPhase.COMMITTED, (L, L)), EARLY, Step.CONCLUDE),
    (BOBS, standing(SwapPhase.ABORTED, (L, A)), EARLY, Step.CONCLUDE),
    (BOBS, standing(SwapPhase.LAPSED), LATE, Step.CONCLUDE),
    # Nobody is believed that it is over while it can still be opened.
    (BOBS, standing(SwapPhase.LAPSED), EARLY, Step.WAIT),
]


@pytest.mark.parametrize(("swap", "stands", "time_ms", "step"), CASES)
def test_the_next_step(swap: RecordedSwap, stands: Standing | None, time_ms: int, step: Step) -> None:
    assert next_step(swap, stands, time_ms=time_ms) is step


@pytest.mark.parametrize("phase", SwapPhase)
@pytest.mark.parametrize("swap", [ANNS, BOBS], ids=["proposer", "counterparty"])
def test_who_cancels_neither_proposes_nor_locks_nor_reveals(swap: RecordedSwap, phase: SwapPhase) -> None:
    cancelled = replace(swap, is_cancelling=True)
    found = {
        next_step(cancelled, stands, time_ms=EARLY)
        for stands in (None, standing(phase), standing(phase, (L, L)))
    }
    assert not found & {Step.PROPOSE, Step.LOCK, Step.REVEAL}
    is_cancellable = phase in (SwapPhase.OPEN, SwapPhase.LOCKED) and swap.role is Role.PROPOSER
    assert (Step.CANCEL in found) is is_cancellable


def test_a_standing_is_read_from_the_registers_record() -> None:
    order, terms_bytes = FakeOrder(), make_terms()
    swap_id = record().swap_id
    order.block(swap_bundle(encode_open(terms_bytes), valid_until_ms=order.time_ms + 5_000))
    for given, expected in (((), (A, A)), ((1,), (A, G))):
        found = order.register.record(swap_id)
        assert found is not None
        told = standing_of_record(decode_record(encode_record(found)), frozenset(given), "a test")
        assert (told.phase, told.legs, told.opened_height) == (SwapPhase.OPEN, expected, 1)
    order.attest(swap_id, 0)
    order.attest(swap_id, 1)
    locked = order.register.record(swap_id)
    assert locked is not None
    told = standing_of_record(decode_record(encode_record(locked)), frozenset(), "a test")
    assert (told.phase, told.legs) == (SwapPhase.LOCKED, (L, L))
    order.pass_time(locked.terms.expires_ms)
    over = order.register.record(swap_id)
    assert over is not None
    told = standing_of_record(decode_record(encode_record(over)), frozenset(), "a test")
    assert (told.phase, told.reason) == (SwapPhase.ABORTED, "NOT_REVEALED")
    assert told.decided_height == order.tip.height


def test_the_registers_phases_are_the_coordinators() -> None:
    assert {phase.name: kept.name for phase, kept in PHASE_OF.items()} == {
        phase.name: SwapPhase[phase.name].name for phase in PHASE_OF
    }
