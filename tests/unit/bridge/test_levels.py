"""What follows from how far rollups and settlement log have got, and what is said of it."""

import pytest

from bridge.levels import (
    NOBODY,
    Asked,
    Heights,
    Level,
    Source,
    Step,
    anchor_wait,
    execution_wait,
    is_settled,
    level_of,
)
from tests.unit.bridge.chain import ALPHA, BETA

BOTH = (ALPHA, BETA)
EVERYBODY = Asked(frozenset(BOTH), has_log=True)


def heights(*, nodes: tuple[int, int] = (0, 0), log: tuple[int, int] = (0, 0)) -> Heights:
    """Return how far alpha and beta have got as nodes and log have it; 0: never heard."""
    found = {(Source.NODE, name): height for name, height in zip(BOTH, nodes, strict=True) if height}
    found |= {(Source.LOG, name): height for name, height in zip(BOTH, log, strict=True) if height}
    return Heights(found)


@pytest.mark.parametrize(
    ("seen", "level", "settled"),
    [
        (heights(), Level.ORDERED, (False, False)),
        (heights(nodes=(7, 6)), Level.ORDERED, (True, False)),
        (heights(nodes=(7, 7)), Level.EXECUTED, (True, True)),
        (heights(nodes=(99, 99), log=(7, 6)), Level.EXECUTED, (True, True)),
        (heights(nodes=(7, 0), log=(0, 8)), Level.EXECUTED, (True, True)),
        (heights(log=(7, 6)), Level.ORDERED, (True, False)),
        (heights(log=(7, 8)), Level.ANCHORED, (True, True)),
    ],
)
def test_levels_follow_from_heights(seen: Heights, level: Level, settled: tuple[bool, bool]) -> None:
    assert level_of(7, BOTH, seen) is level
    assert tuple(is_settled(7, name, seen) for name in BOTH) == settled
    # What is not decided is not settled, whatever was executed.
    assert not any(is_settled(0, name, seen) for name in BOTH)


def test_heights_only_grow() -> None:
    first = heights(nodes=(7, 3))
    assert first.raised(heights(nodes=(5, 9), log=(1, 0))) == heights(nodes=(7, 9), log=(1, 0))


def test_who_is_waited_for_is_named() -> None:
    step = Step("the decision", 7, (ALPHA, BETA, ALPHA))
    assert execution_wait(step, heights(nodes=(7, 6)), EVERYBODY) == "beta to execute the decision in block 7"
    assert execution_wait(step, heights(nodes=(7, 7)), EVERYBODY) == ""
    assert execution_wait(step, heights(), EVERYBODY) == "alpha, beta to execute the decision in block 7"
    assert "nobody is asked about beta" in execution_wait(step, heights(), Asked(frozenset({ALPHA})))
    assert "nobody is asked about alpha, beta" in execution_wait(step, heights(), NOBODY)
    # A log alone tells as well what is executed.
    assert "nobody" not in execution_wait(step, heights(), Asked(has_log=True))
    waits = anchor_wait(step, heights(log=(7, 6)), EVERYBODY)
    assert waits == "the settlement log to anchor the decision in block 7 for beta"
    assert anchor_wait(step, heights(log=(7, 7)), EVERYBODY) == ""
    assert anchor_wait(step, heights(), Asked(frozenset(BOTH))) == ""
