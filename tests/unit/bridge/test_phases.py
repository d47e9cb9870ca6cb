"""The table of phases: every pair, what it promises, and what people are told."""

import itertools
from typing import Any

import pytest

from bridge import phases, swap
from bridge.client import views
from bridge.phases import FINAL, MOVES, UNORDERED, Input, LegState, Phase, Standing, next_phase
from lockstep.swap_entries import Verdict
from lockstep.terms import Premium, PremiumShare, decode_terms
from lockstep.v1 import bridge_pb2
from tests.unit.bridge.chain import BOB, make_terms

TERMS = decode_terms(make_terms(premium=Premium(0, (PremiumShare(BOB.account, 5),))))

# What may follow what, written down a second time, by where it ends.
EXPECTED = {
    Phase.COLLECTING: {
        "lock given": Phase.COLLECTING,
        "bundle made": Phase.SUBMITTED,
        "lock_by passed": Phase.LAPSED,
        "opened": Phase.OPEN,
    },
    Phase.SUBMITTED: {
        "window passed": Phase.COLLECTING,
        "lock_by passed": Phase.LAPSED,
        "opened": Phase.OPEN,
    },
    Phase.OPEN: {
        "lock given": Phase.OPEN,
        "attested": Phase.OPEN,
        "all locked": Phase.LOCKED,
        "revealed": Phase.REVEALED,
        "aborted": Phase.ABORTED,
    },
    Phase.LOCKED: {"attested": Phase.LOCKED, "committed": Phase.COMMITTED, "aborted": Phase.ABORTED},
    Phase.REVEALED: {
        "lock given": Phase.REVEALED,
        "attested": Phase.REVEALED,
        "committed": Phase.COMMITTED,
        "aborted": Phase.ABORTED,
    },
    Phase.COMMITTED: {"reopened": Phase.OPEN},
    Phase.ABORTED: {"reopened": Phase.OPEN},
    Phase.LAPSED: {},
}


@pytest.mark.parametrize(("phase", "given"), list(itertools.product(Phase, Input)))
def test_every_pair(phase: Phase, given: Input) -> None:
    expected = EXPECTED[phase].get(given.value)
    if expected is None:
        with pytest.raises(AssertionError, match=f"a swap in {phase.name} has no move"):
            next_phase(phase, given)
    else:
        assert next_phase(phase, given) is expected


def test_what_is_over_stays_so_but_for_a_new_opening() -> None:
    assert {given for phase, given in MOVES if phase in FINAL} == {Input.REOPENED}
    assert not any(phase is Phase.LAPSED for phase, _ in MOVES)


def test_only_what_was_never_ordered_lapses_and_only_what_was_is_decided() -> None:
    ends = {(phase, end) for (phase, _), end in MOVES.items() if end in FINAL}
    assert {phase for phase, end in ends if end is Phase.LAPSED} == UNORDERED
    assert {phase for phase, end in ends if end is not Phase.LAPSED} == {
        Phase.OPEN,
        Phase.LOCKED,
        Phase.REVEALED,
    }


def test_nothing_is_called_failed() -> None:
    names = [phase.name for phase in Phase] + [given.name for given in Input]
    assert not any("FAIL" in name or "ERROR" in name for name in names)


def test_every_phase_can_be_reached_and_left() -> None:
    assert set(MOVES.values()) == set(Phase)
    assert {phase for phase, _ in MOVES} == set(Phase) - {Phase.LAPSED}


def test_numbers_are_those_of_the_schema() -> None:
    def names(kind: Any, prefix: str) -> dict[str, int]:  # noqa: ANN401 - protobuf names no type for it
        return {name.removeprefix(prefix): number for name, number in kind.items()}

    in_schema = names(bridge_pb2.SwapPhase, "SWAP_PHASE_")
    assert {phase.name: phase.value for phase in Phase} | {"UNSPECIFIED": 0} == in_schema
    assert {phase.name: phase.value for phase in views.SwapPhase} | {"UNSPECIFIED": 0} == in_schema
    in_schema = names(bridge_pb2.LegState, "LEG_STATE_")
    assert {state.name: state.value for state in LegState} | {"UNSPECIFIED": 0} == in_schema
    assert {state.name: state.value for state in views.LegState} | {"UNSPECIFIED": 0} == in_schema
    in_schema = names(bridge_pb2.RevealPolicy, "REVEAL_POLICY_")
    assert {policy.name: policy.value for policy in swap.RevealPolicy} | {"UNSPECIFIED": 0} == in_schema
    assert {policy.name: policy.value for policy in views.RevealPolicy} | {"UNSPECIFIED": 0} == in_schema
    in_schema = names(bridge_pb2.AbortReason, "ABORT_REASON_")
    assert {reason.name: reason.value for reason in views.AbortReason} == {
        name.replace("UNSPECIFIED", "NONE"): number for name, number in in_schema.items()
    }


def test_the_diagram_shows_every_move() -> None:
    drawn = phases.diagram().splitlines()
    assert drawn[0] == "stateDiagram-v2"
    for (start, given), end in MOVES.items():
        assert f"    {start.name} --> {end.name}: {given.value}" in drawn
    assert len(drawn) == 2 + len(MOVES) + len(FINAL)


def standing(
    phase: Phase,
    *legs: LegState,
    reveals_itself: bool = False,
    window_ms: int = 0,
    final_ms: int = 0,
) -> Standing:
    states = legs or (LegState.AWAITED, LegState.AWAITED)
    return Standing(phase, TERMS, states, reveals_itself, window_ms, final_ms)


A, G, L, R = LegState.AWAITED, LegState.GIVEN, LegState.LOCKED, LegState.REJECTED


@pytest.mark.parametrize(
    ("at", "is_safe"),
    [
        (standing(Phase.COLLECTING, A, A), True),
        (standing(Phase.COLLECTING, G, A), False),
        (standing(Phase.COLLECTING, A, G), False),
        (standing(Phase.SUBMITTED, G, G), False),
        (standing(Phase.OPEN, A, A), False),
        (standing(Phase.OPEN, G, G), False),
        (standing(Phase.LOCKED, L, L), False),
        (standing(Phase.REVEALED, L, G), False),
        (standing(Phase.COMMITTED, L, L), True),
        (standing(Phase.ABORTED, L, R), True),
        (standing(Phase.LAPSED, A, A), True),
    ],
)
def test_funds_are_safe_when_no_lock_is_out_or_all_is_decided(at: Standing, is_safe: bool) -> None:
    assert phases.is_funds_safe(at) is is_safe


def test_when_funds_are_free_at_the_latest() -> None:
    free = {phase: phases.funds_free_by_ms(standing(phase, final_ms=7)) for phase in Phase}
    assert free == {
        Phase.COLLECTING: TERMS.expires_ms,
        Phase.SUBMITTED: TERMS.expires_ms,
        Phase.OPEN: TERMS.expires_ms,
        Phase.LOCKED: TERMS.expires_ms,
        Phase.REVEALED: TERMS.lock_by_ms,
        Phase.COMMITTED: 7,
        Phase.ABORTED: 7,
        Phase.LAPSED: 7,
    }


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (standing(Phase.COLLECTING, G, A), ["leg 1 (beta)", str(TERMS.lock_by_ms)]),
        (standing(Phase.SUBMITTED, G, G, window_ms=77), ["Wait", "77"]),
        (standing(Phase.SUBMITTED, G, G), ["Wait", str(TERMS.lock_by_ms)]),
        (standing(Phase.OPEN, G, A), ["Give", "leg 1 (beta)", str(TERMS.lock_by_ms)]),
        (standing(Phase.OPEN, L, G), ["attesters of leg 1 (beta)", str(TERMS.lock_by_ms)]),
        (standing(Phase.REVEALED, G, L), ["attesters of leg 0 (alpha)", str(TERMS.lock_by_ms)]),
        (standing(Phase.LOCKED, L, L), ["Reveal the preimage", str(TERMS.expires_ms)]),
        (standing(Phase.LOCKED, L, L, reveals_itself=True), ["coordinator reveals", str(TERMS.expires_ms)]),
        (standing(Phase.COMMITTED, L, L), ["Nothing", "recipient"]),
        (standing(Phase.ABORTED, L, R), ["Nothing", "sender"]),
        (standing(Phase.LAPSED, A, A), ["Nothing", "never ordered"]),
    ],
)
def test_people_are_told_who_must_do_what(at: Standing, words: list[str]) -> None:
    told = phases.next_action(at)
    assert all(word in told for word in words), told
    assert told.endswith(".")
    assert bool(phases.waiting_for(at)) is (at.phase not in FINAL)


def test_leg_states() -> None:
    assert phases.leg_state(Verdict.LOCKED, is_given=False) is LegState.LOCKED
    assert phases.leg_state(Verdict.REJECTED, is_given=True) is LegState.REJECTED
    assert phases.leg_state(None, is_given=True) is LegState.GIVEN
    assert phases.leg_state(None, is_given=False) is LegState.AWAITED
