"""The table of a swap's life: it is whole, nothing leaves its end, and its picture is current."""

from itertools import product
from pathlib import Path

import pytest

from lockstep.register_table import (
    MOVES,
    NO_OPS,
    REASONS,
    TERMINAL,
    Input,
    OutcomeReason,
    Phase,
    diagram,
    next_phase,
    why_no_op,
)

README = Path(__file__).parents[3] / "protos" / "README.md"
BEGIN = "<!-- This diagram is printed from the table; a test proves it current. -->\n```mermaid\n"
END = "\n```\n"

IMPOSSIBLE = {
    (Phase.OPEN, Input.EXPIRY),
    (Phase.REVEALED, Input.EXPIRY),
    *((Phase.LOCKED, given) for given in (Input.LAST_LEG_LOCKED, Input.LEG_REJECTED, Input.CROWDING)),
    *product(
        TERMINAL,
        (Input.LAST_LEG_LOCKED, Input.LEG_REJECTED, Input.LOCK_BY, Input.EXPIRY, Input.CROWDING),
    ),
}


def test_every_pair_moves_or_is_a_no_op_or_cannot_happen() -> None:
    pairs = [*MOVES, *NO_OPS, *IMPOSSIBLE]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == set(product(Phase, Input))


def test_what_cannot_happen_raises() -> None:
    for phase, given in IMPOSSIBLE | set(NO_OPS):
        with pytest.raises(AssertionError, match=f"is {phase.name} has no move for `{given.value}`"):
            next_phase(phase, given)


def test_no_ops_say_why_and_moves_do_not() -> None:
    assert why_no_op(Phase.REVEALED, Input.CANCEL) == "the preimage is revealed, which no cancellation undoes"
    assert why_no_op(Phase.ABORTED, Input.VOTE) == "the swap is ABORTED already"
    assert all(why_no_op(*pair) is None for pair in MOVES)


def test_nothing_leaves_a_decided_swap_and_every_phase_can_end() -> None:
    assert not any(phase in TERMINAL for phase, _ in MOVES)
    for phase in set(Phase) - TERMINAL:
        assert {Phase.COMMITTED, Phase.ABORTED} <= reachable(phase)


def reachable(phase: Phase) -> set[Phase]:
    found, ahead = {phase}, [phase]
    while ahead:
        here = ahead.pop()
        following = {after for (before, _), after in MOVES.items() if before == here} - found
        found |= following
        ahead += following
    return found


def test_what_aborts_has_a_reason_of_its_own() -> None:
    aborting = {given for (_, given), phase in MOVES.items() if phase == Phase.ABORTED}
    assert aborting == set(REASONS)
    assert set(REASONS.values()) == set(OutcomeReason) - {OutcomeReason.NONE}
    assert len(set(REASONS.values())) == len(REASONS)


def test_the_diagram_in_the_specification_is_current() -> None:
    text = README.read_text()
    assert text.count(BEGIN) == 1, "print lockstep.register_table.diagram() there"
    assert text.split(BEGIN)[1].split(END)[0] == diagram()
