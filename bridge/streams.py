"""Propose, Accept, Reveal and Cancel for many swaps on one stream.

Owns the correlation of items and answers, and the bound on items that are not answered: a client that reads
no answers is not read from either. An item is done by the same code as the call of its name; its error
travels in-band and the stream goes on. What is no error but a defect ends the stream, as it would the call.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final, Protocol

from deploy.node.server import unless_stopping
from lockstep.errors import LockstepError, Malformed
from lockstep.v1 import bridge_pb2
from sequencer.client.messages import error_message

ITEMS_MAX: Final = 256
"""Items of one message, and items of one stream that are worked on, or answered and not read, at a time."""


class Handlers(Protocol):
    """What does the items."""

    async def propose(self, request: bridge_pb2.ProposeRequest) -> bridge_pb2.ProposeResponse:
        """Do what Propose does."""
        ...

    async def accept(self, request: bridge_pb2.AcceptRequest) -> bridge_pb2.AcceptResponse:
        """Do what Accept does."""
        ...

    async def reveal(self, request: bridge_pb2.RevealRequest) -> bridge_pb2.RevealResponse:
        """Do what Reveal does."""
        ...

    async def cancel(self, request: bridge_pb2.CancelRequest) -> bridge_pb2.CancelResponse:
        """Do what Cancel does."""
        ...


class SwapItems:
    """One stream's items and answers."""

    def __init__(self, handlers: Handlers, stopping: asyncio.Event) -> None:
        """Have items done by `handlers` until the client has sent all, or `stopping` is set."""
        self._handlers = handlers
        self._stopping = stopping
        self._slots = asyncio.Semaphore(ITEMS_MAX)
        self._outcomes: asyncio.Queue[bridge_pb2.SwapStreamOutcome | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def responses(
        self, requests: AsyncIterator[bridge_pb2.SwapStreamRequest]
    ) -> AsyncIterator[bridge_pb2.SwapStreamResponse]:
        """Yield outcomes as they come, those that are there together in one message.

        Raises Malformed for too many items, ShuttingDown at the end, and whatever an item raises that is no
        expected error: a defect ends the stream, whether or not the client goes on.
        """
        reading = asyncio.create_task(self._read(requests))
        try:
            while (outcome := await unless_stopping(self._stopping, self._outcomes.get())) is not None:
                outcomes = [outcome, *self._ready()]
                yield bridge_pb2.SwapStreamResponse(outcomes=outcomes)
                # Only now: whoever does not read is not read from.
                for _ in outcomes:
                    self._slots.release()
            if self._failure is not None:
                raise self._failure
            await reading
        finally:
            for task in (reading, *self._tasks):
                task.cancel()
            await asyncio.gather(reading, *self._tasks, return_exceptions=True)

    def _ready(self) -> Iterator[bridge_pb2.SwapStreamOutcome]:
        """Yield the outcomes that are there already: what one commit answers travels in one message."""
        while not self._outcomes.empty():
            outcome = self._outcomes.get_nowait()
            if outcome is None:
                self._outcomes.put_nowait(None)
                return
            yield outcome

    async def _read(self, requests: AsyncIterator[bridge_pb2.SwapStreamRequest]) -> None:
        """Start what is asked; None in the queue says that all is answered, or that this failed."""
        try:
            async for request in requests:
                if not 1 <= len(request.items) <= ITEMS_MAX:
                    reason = f"are {len(request.items)}, allowed are 1 to {ITEMS_MAX}"
                    raise Malformed(what="SwapStreamRequest", field="items", reason=reason)
                for item in request.items:
                    await self._slots.acquire()
                    task = asyncio.create_task(self._do(item))
                    self._tasks.add(task)
                    task.add_done_callback(self._finished)
            await asyncio.gather(*self._tasks)
        finally:
            self._outcomes.put_nowait(None)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = failure
            self._outcomes.put_nowait(None)

    async def _do(self, item: bridge_pb2.SwapStreamItem) -> None:
        outcome = bridge_pb2.SwapStreamOutcome(correlation_id=item.correlation_id)
        try:
            match item.WhichOneof("request"):
                case "propose":
                    outcome.propose.CopyFrom(await self._handlers.propose(item.propose))
                case "accept":
                    outcome.accept.CopyFrom(await self._handlers.accept(item.accept))
                case "reveal":
                    outcome.reveal.CopyFrom(await self._handlers.reveal(item.reveal))
                case "cancel":
                    outcome.cancel.CopyFrom(await self._handlers.cancel(item.cancel))
                case _:
                    raise Malformed(what="SwapStreamItem", field="request", reason="is missing")
        except LockstepError as error:
            outcome.error.CopyFrom(error_message(error))
        self._outcomes.put_nowait(outcome)
