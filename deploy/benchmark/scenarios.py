"""What is measured, by name, and what of it is run when nobody says what.

Owns the list. Every scenario has devnets of its own, and warms them up with a run that is not counted.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from deploy.benchmark.effort import Effort
from deploy.benchmark.executing import catch_up, order_and_execute, state_size
from deploy.benchmark.figures import Measured
from deploy.benchmark.lasting import disk, sequencer_memory, soak
from deploy.benchmark.ordering import batch_sizes, lone_submit, order_only, subscribers
from deploy.benchmark.swapping import swap_idle, swaps_killed, swaps_sustained


class Set(IntEnum):
    """Which runs a scenario belongs to; a set holds those before it."""

    QUICK = 0
    """Runs with --quick, too."""
    FULL = 1
    """Runs without options."""
    ALL = 2
    """Takes many minutes: runs with --all, or when it is named."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something to measure."""

    what: str
    """What it does, in one sentence."""
    belongs_to: Set
    """When it is run."""
    measure: Callable[[Effort], Awaitable[Measured]]
    """Does it."""


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "order-only": Scenario(
        "bundles of one 200-byte transaction, 100 per message, durable", Set.QUICK, order_only
    ),
    "order-execute": Scenario(
        "signed transfers, three rollups, roots computed, all durable", Set.QUICK, order_and_execute
    ),
    "lone-submit": Scenario(
        "one client, one bundle at a time, to the durable signed receipt", Set.QUICK, lone_submit
    ),
    "swap-idle": Scenario("one swap at a time, settled on both rollups", Set.QUICK, swap_idle),
    "swaps-sustained": Scenario(
        "many swaps at a time, revealed up front, settled on both", Set.QUICK, swaps_sustained
    ),
    "swaps-killed": Scenario(
        "the same while one rollup's only node is killed again and again", Set.FULL, swaps_killed
    ),
    "catch-up": Scenario(
        "a rollup node executes from the order what another executed live", Set.FULL, catch_up
    ),
    "batch-sizes": Scenario(
        "ordering by how many bundles one message holds, 1 to 1,000", Set.FULL, batch_sizes
    ),
    "subscribers": Scenario(
        "ordering while many namespaces have a subscriber each, against few", Set.FULL, subscribers
    ),
    "disk": Scenario("what a transaction takes on disk, by table and index", Set.FULL, disk),
    "state-size": Scenario(
        "a transfer, a restart and memory by the number of accounts, to 1,000,000", Set.FULL, state_size
    ),
    "sequencer-memory": Scenario(
        "memory of the sequencer over 10,000,000 transactions", Set.ALL, sequencer_memory
    ),
    "soak": Scenario("half the load for ten minutes: what drifts", Set.ALL, soak),
}
"""All scenarios, in the order in which they are run."""


def names_of(wanted: Set) -> tuple[str, ...]:
    """Return the names of the scenarios of a set."""
    return tuple(name for name, scenario in SCENARIOS.items() if scenario.belongs_to <= wanted)
