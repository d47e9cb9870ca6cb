"""How long a service's work takes, stage by stage: what to look at before making anything faster.

Owns sums since the start of the process, in ns. They cost a few looks at a clock for each message and block,
and count real time: what another thread or process does meanwhile is in them.
"""

import time
from collections.abc import Callable, Sequence


class Stages:
    """Sums of time by stage."""

    def __init__(self, names: Sequence[str], clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """`clock_ns` is a monotonic clock."""
        self.now_ns = clock_ns
        """The clock."""
        self.total_ns = dict.fromkeys(names, 0)
        """Time in each stage so far, in the order in which work passes them."""

    def add(self, stage: str, started_ns: int) -> int:
        """Count the time since `started_ns` for a stage; return what the clock shows. KeyError if unknown."""
        now_ns = self.now_ns()
        self.total_ns[stage] += now_ns - started_ns
        return now_ns

    def add_span(self, stage: str, span_ns: int) -> None:
        """Count time that somebody else measured. KeyError if the stage is unknown."""
        self.total_ns[stage] += span_ns
