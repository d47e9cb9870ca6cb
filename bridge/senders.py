"""Tasks that send bundles, the same bytes each time, until they are ordered or nobody wants them any more.

Owns the repetition and nothing that is remembered: what to send is durable before it comes here, and what
became of it is read out of the order. Invariants: a bundle is sent by one task at a time; no error ends the
sending of what the coordinator drives itself, only its window does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog

from bridge.commands import Command, Settle
from bridge.order import Submitter
from bridge.swap import Sending, SendKind
from deploy.node.client import Backoff
from deploy.node.failpoints import FAILPOINTS
from lockstep.errors import LockstepError
from lockstep.types import BundleId, SwapId

SUBMIT_TIMEOUT_MS: Final = 10_000
"""How long one attempt waits for its receipt."""

IN_FLIGHT_MAX: Final = 256
"""Bundles that wait for their receipt at a time; further ones wait here."""

_BACKOFF: Final = Backoff()

BEFORE_SEND: Final[Mapping[SendKind, str]] = {
    kind: FAILPOINTS.declare(
        f"bridge.{name}.before_send",
        f"{what} is durable and about to be sent, once more or for the first time",
    )
    for kind, name, what in (
        (SendKind.OPENING, "bundle", "an opening bundle"),
        (SendKind.LOCK, "lock", "a lone lock"),
        (SendKind.REVEAL, "reveal", "a reveal"),
        (SendKind.CANCEL, "cancel", "a cancellation"),
    )
}
"""Failpoints before each attempt."""

SENT: Final[Mapping[SendKind, str]] = {
    kind: FAILPOINTS.declare(f"bridge.{name}.sent", f"{what} is ordered, and nothing was made of the receipt")
    for kind, name, what in (
        (SendKind.OPENING, "bundle", "an opening bundle"),
        (SendKind.LOCK, "lock", "a lone lock"),
        (SendKind.REVEAL, "reveal", "a reveal"),
        (SendKind.CANCEL, "cancel", "a cancellation"),
    )
}
"""Failpoints once the receipt is there."""


class Senders:
    """The tasks, in a group that outlives none of them."""

    def __init__(
        self, order: Submitter, group: asyncio.TaskGroup, tell: Callable[[Command], Awaitable[None]]
    ) -> None:
        """Send to `order` in tasks of `group`; `tell` the writer what was answered."""
        self._order = order
        self._group = group
        self._tell = tell
        self._tasks: dict[BundleId, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._randomness = random.Random()
        self._log = structlog.get_logger("bridge.senders")

    def start(self, sendings: Iterable[tuple[SwapId, Sending]]) -> None:
        """Send these, which are durable, until they are stopped or ordered."""
        for swap_id, sending in sendings:
            if sending.bundle_id not in self._tasks:
                self._tasks[sending.bundle_id] = self._group.create_task(self._run(swap_id, sending))

    def stop(self, bundle_id: BundleId) -> None:
        """Send this no more. What was sent before may still be ordered, which the order will tell."""
        task = self._tasks.pop(bundle_id, None)
        if task is not None:
            task.cancel()

    async def _run(self, swap_id: SwapId, sending: Sending) -> None:
        try:
            await self._send(swap_id, sending)
        finally:
            # Stopped, it may have a successor already.
            if self._tasks.get(sending.bundle_id) is asyncio.current_task():
                del self._tasks[sending.bundle_id]

    async def _send(self, swap_id: SwapId, sending: Sending) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._slots:
                    FAILPOINTS.reach(BEFORE_SEND[sending.kind])
                    await self._order.submit(sending.bundle, timeout_ms=SUBMIT_TIMEOUT_MS)
                break
            except LockstepError as error:
                # Neither an answer nor its absence says that the bundle will not be ordered: an earlier
                # attempt may have been taken in.
                self._log.info(
                    "sending_unanswered",
                    swap_id=swap_id,
                    kind=sending.kind.name,
                    bundle_id=sending.bundle_id,
                    attempt=attempt,
                    code=error.code,
                    reason=error.message,
                )
                if not error.retryable:
                    await self._tell(Settle(sending.bundle_id, error))
                wait_ms = _BACKOFF.wait_ms(min(attempt, 32), error.retry_after_ms, self._randomness)
                await asyncio.sleep(wait_ms / 1_000)
        FAILPOINTS.reach(SENT[sending.kind])
        if sending.kind is SendKind.LOCK:
            # All else is seen in `_swap`, which is followed.
            await self._tell(Settle(sending.bundle_id, None))
