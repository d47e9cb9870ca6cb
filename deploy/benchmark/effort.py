"""How much a run of the benchmark does.

Owns every count that a scenario takes, so that `--quick`, `--count` and `--accounts` change them in one
place.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

_COUNTS: Final = ("opaque", "transfers", "lone", "idle_swaps", "swaps", "order_transactions")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done."""

    runs: int
    """Runs that count."""
    opaque: int
    """Bundles of a run that are only ordered."""
    transfers: int
    """Transfers of a run."""
    lone: int
    """Lone submits of a run."""
    idle_swaps: int
    """Swaps of a run, one at a time."""
    swaps: int
    """Swaps of a run, many at a time."""
    swaps_at_a_time: int
    """How many."""
    accounts: int
    """Funded accounts on each rollup."""
    sizes: tuple[int, ...]
    """Numbers of accounts at which the cost of state is measured, rising."""
    subscribers: tuple[int, int]
    """Numbers of subscribers that are compared, few and many."""
    order_transactions: int
    """Transactions over which the sequencer's memory is watched."""
    kills: int
    """How often a rollup is killed under load."""
    kill_every_seconds: float
    """From one kill to the next."""
    soak_seconds: float
    """How long half the load goes on."""
    slice_seconds: float
    """How long each part of it is, for which latencies and sizes are told."""

    def of_at_most(self, count: int) -> "Effort":
        """Return the same with at most `count` of anything in a run."""
        return self._changed({name: min(count, getattr(self, name)) for name in _COUNTS})

    def with_accounts(self, accounts: int) -> "Effort":
        """Return the same with at most so many accounts."""
        sizes = tuple(dict.fromkeys(min(size, accounts) for size in self.sizes))
        return self._changed({"accounts": min(accounts, self.accounts), "sizes": sizes})

    def with_transactions(self, transactions: int) -> "Effort":
        """Return the same where the sequencer's memory is watched over another number of transactions."""
        return self._changed({"order_transactions": transactions})

    def with_runs(self, runs: int) -> "Effort":
        """Return the same with another number of runs."""
        return self._changed({"runs": runs})

    def lasting(self, seconds: float) -> "Effort":
        """Return the same with half the load for another time, in at least five parts."""
        return self._changed({"soak_seconds": seconds, "slice_seconds": min(self.slice_seconds, seconds / 5)})

    def as_json(self) -> Mapping[str, object]:
        """Return it as it is written to a file."""
        return asdict(self)

    def _changed(self, values: Mapping[str, object]) -> "Effort":
        assert values.keys() <= {field.name for field in fields(self)}, "they are its own"
        return replace(self, **values)  # type: ignore[arg-type]  # by name, each of its field's type


FULL: Final = Effort(
    runs=5,
    opaque=100_000,
    transfers=30_000,
    lone=2_000,
    idle_swaps=200,
    swaps=2_000,
    swaps_at_a_time=64,
    accounts=100_000,
    sizes=(10_000, 100_000, 1_000_000),
    subscribers=(2, 32),
    order_transactions=10_000_000,
    kills=5,
    kill_every_seconds=10.0,
    soak_seconds=600.0,
    slice_seconds=10.0,
)
"""What figures are published of."""

QUICK: Final = replace(
    FULL,
    runs=3,
    opaque=20_000,
    transfers=6_000,
    lone=200,
    idle_swaps=20,
    swaps=200,
    accounts=2_000,
    sizes=(1_000, 10_000),
    order_transactions=200_000,
    kills=1,
    soak_seconds=30.0,
    slice_seconds=3.0,
)
"""What tells within about a minute whether something is wrong."""
