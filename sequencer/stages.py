"""How long ordering takes, stage by stage: what to look at before making anything faster.

Owns the sums since the start of the process, in ns. They cost a few looks at a clock for each message and
block, and count real time: what another thread or process does meanwhile is in them.

    receive     messages become records
    verify      admission, hashes, quotas, into the queue
    queue       the bundle that waited longest for each block
    build       who is next, the block and its shares
    commit      the block is on disk
    sign        it is recorded and signed
    send        streams have it, who asked is told, outcomes become messages
"""

import time
from collections.abc import Callable
from typing import Final

STAGES: Final = ("receive", "verify", "queue", "build", "commit", "sign", "send")
"""All stages, in the order in which a bundle passes them."""


class Stages:
    """Sums of time by stage."""

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """`clock_ns` is a monotonic clock."""
        self.now_ns = clock_ns
        """The clock."""
        self.total_ns = dict.fromkeys(STAGES, 0)
        """Time in each stage so far."""

    def add(self, stage: str, started_ns: int) -> int:
        """Count the time since `started_ns` for a stage; return what the clock shows. KeyError if unknown."""
        now_ns = self.now_ns()
        self.total_ns[stage] += now_ns - started_ns
        return now_ns
