"""How far rollups and settlement log have got with a swap, as far as the coordinator has seen.

Owns what follows from heights: whether a leg is settled, which level a swap has, and the words for it. A
swap's last step is its opening, and once it is decided the decision; levels are about that step, in the block
at its height. Knows nobody who was asked. Invariants: heights only grow, so that a level of one step never
falls; nothing follows from a height that nobody told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from lockstep.types import RollupId

__pure__ = True


class Level(IntEnum):
    """How far a swap's last step has got, as in the schema. FINAL is not offered: nobody can challenge."""

    NONE = 0
    """It is not in the order."""
    ORDERED = 1
    """It is in the order."""
    EXECUTED = 2
    """Every leg's rollup has executed it."""
    ANCHORED = 3
    """The settlement log has its header, and of every leg's rollup a commitment at its height or above."""


class Source(IntEnum):
    """Where a rollup's height comes from."""

    NODE = 1
    """A node of the rollup says that it has executed the order up to there, to the register that is ours."""
    LOG = 2
    """The settlement log has the header there, which is ours, and the rollup's commitment after it."""


@dataclass(frozen=True, slots=True)
class Heights:
    """How far each rollup has got. A rollup that is missing stands at 0: nothing is known."""

    by_source: Mapping[tuple[Source, RollupId], int] = field(default_factory=dict)
    """The highest height that was seen."""

    def of(self, source: Source, rollup: str) -> int:
        """Return how far a rollup has got as one source has it; 0 if it was never heard."""
        return self.by_source.get((source, RollupId(rollup)), 0)

    def executed(self, rollup: str) -> int:
        """Return up to where a rollup has executed the order. A commitment says that its attesters have."""
        return max(self.of(Source.NODE, rollup), self.of(Source.LOG, rollup))

    def anchored(self, rollup: str) -> int:
        """Return up to where a rollup is anchored."""
        return self.of(Source.LOG, rollup)

    def raised(self, others: "Heights") -> "Heights":
        """Return the higher of both for every source and rollup."""
        keys = self.by_source.keys() | others.by_source.keys()
        return Heights({key: max(self.by_source.get(key, 0), others.by_source.get(key, 0)) for key in keys})


def level_of(step_height: int, rollups: Sequence[RollupId], heights: Heights) -> Level:
    """Return the level of a step in the block at `step_height`, for a swap with legs on `rollups`."""
    if all(heights.anchored(rollup) >= step_height for rollup in rollups):
        return Level.ANCHORED
    if all(heights.executed(rollup) >= step_height for rollup in rollups):
        return Level.EXECUTED
    return Level.ORDERED


def is_settled(decided_height: int, rollup: RollupId, heights: Heights) -> bool:
    """Answer whether a leg on `rollup` is settled; `decided_height` is 0 while the swap is not decided.

    Settlement cannot fail: a rollup that has executed the deciding block has settled its legs in it.
    """
    return 0 < decided_height <= heights.executed(rollup)


# --- for people -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom the coordinator asks."""

    rollups: frozenset[str] = frozenset()
    """Rollups of which it knows a node."""
    has_log: bool = False
    """Whether it knows the settlement log."""


NOBODY: Final = Asked()
"""As for a coordinator whose settings name nobody."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a swap's level is about."""

    name: str
    """How it is called in sentences."""
    height: int
    """The block that it is in."""
    rollups: Sequence[str]
    """The rollups that have to get there."""


def execution_wait(step: Step, heights: Heights, asked: Asked) -> str:
    """Return who has not executed a step, as far as was seen, in words. Empty: nobody."""
    missing = [each for each in dict.fromkeys(step.rollups) if heights.executed(each) < step.height]
    if not missing:
        return ""
    text = f"{', '.join(missing)} to execute {step.name} in block {step.height}"
    unasked = [each for each in missing if not asked.has_log and each not in asked.rollups]
    if unasked:
        text += f" (but nobody is asked about {', '.join(unasked)}: the settings name no node and no log)"
    return text


def anchor_wait(step: Step, heights: Heights, asked: Asked) -> str:
    """Return what the settlement log lacks of a step, in words. Empty: nothing, or nobody asks it."""
    missing = [each for each in dict.fromkeys(step.rollups) if heights.anchored(each) < step.height]
    if not missing or not asked.has_log:
        return ""
    return f"the settlement log to anchor {step.name} in block {step.height} for {', '.join(missing)}"
