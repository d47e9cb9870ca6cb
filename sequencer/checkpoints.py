"""Checkpoints of the settlement log into the order, so that all followers see one and the same log.

Owns the task that takes the newest checkpoint, verified, and has it ordered in `_log` if the log has grown
since the one ordered last, every so often. It remembers nothing: what was ordered last is the chain's. An
outage of the log delays checkpoints and nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from deploy.node.failpoints import FAILPOINTS
from lockstep import limits
from lockstep.checkpoint import Checkpoint
from lockstep.errors import LockstepError
from lockstep.order import Bundle, Placement, Transaction
from lockstep.settlement_entries import encode_log_entry
from lockstep.types import LOG_NAMESPACE
from sequencer.chain import ChainState

BEFORE_ORDER: Final = FAILPOINTS.declare(
    "sequencer.checkpoint.before_order", "a checkpoint of the settlement log is submitted next"
)
ORDERED: Final = FAILPOINTS.declare(
    "sequencer.checkpoint.ordered", "a checkpoint is ordered, nothing was made of it"
)


class CheckpointLog(Protocol):
    """What of the settlement log's client is needed here."""

    async def signed_checkpoint(self) -> tuple[Checkpoint, bytes]:
        """Return the newest checkpoint, which extends all before it, and the note that says it."""


class Checkpoints:
    """Has checkpoints ordered; see the module."""

    def __init__(
        self,
        log: CheckpointLog,
        submit: Callable[[Bundle], "asyncio.Future[Placement]"],
        chain: ChainState,
        *,
        interval_ms: int,
    ) -> None:
        """Order one every `interval_ms` of real time at most; `submit` is the sequencer's own intake."""
        self._log = log
        self._submit = submit
        self._chain = chain
        self._interval_s = interval_ms / 1_000

    async def run(self) -> None:
        """Order checkpoints until cancelled; whatever fails, go on."""
        trouble = ""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.order()
                trouble = ""
            except LockstepError as error:
                if error.code != trouble:
                    structlog.get_logger().warning("checkpoint_delayed", reason=str(error))
                trouble = error.code

    async def order(self) -> Placement | None:
        """Have the newest checkpoint ordered; None if the log has not grown. Raises what log or intake do."""
        checkpoint, note = await self._log.signed_checkpoint()
        if checkpoint.size <= self._chain.log_size:
            return None
        entry = Transaction(LOG_NAMESPACE, encode_log_entry(note))
        until_ms = self._chain.register.time_ms + limits.VALIDITY_WINDOW_MS_DEFAULT
        FAILPOINTS.reach(BEFORE_ORDER)
        placement = await self._submit(Bundle((entry,), until_ms))
        FAILPOINTS.reach(ORDERED)
        return placement
