"""The stages of a bundle at the sequencer.

Owns their names; `deploy.node.stages` says what is summed.

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

from deploy.node import stages

STAGES: Final = ("receive", "verify", "queue", "build", "commit", "sign", "send")
"""All stages, in the order in which a bundle passes them."""


class Stages(stages.Stages):
    """Sums of time by stage of ordering."""

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """`clock_ns` is a monotonic clock."""
        super().__init__(STAGES, clock_ns)
