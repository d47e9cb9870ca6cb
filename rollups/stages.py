"""The stages of a block at a rollup node.

Owns their names; `deploy.node.stages` says what is summed.

    follow      a block is read from its message, its header and its shares are verified
    verify      signatures of its transactions, ahead of its turn and in several threads
    execute     register and transactions, receipts
    root        the trees over state and receipts
    commit      the blocks are on disk, and told
    attest      verdicts are signed, sent and ordered
"""

import time
from collections.abc import Callable
from typing import Final

from deploy.node import stages

STAGES: Final = ("follow", "verify", "execute", "root", "commit", "attest")
"""All stages, in the order in which a block passes them."""


class Stages(stages.Stages):
    """Sums of time by stage of execution."""

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        """`clock_ns` is a monotonic clock."""
        super().__init__(STAGES, clock_ns)
