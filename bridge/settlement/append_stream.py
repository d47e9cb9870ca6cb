"""One AppendStream: entries in, outcomes out in the same order, so many at a time.

Owns the order, the correlation ids and the bound on what is unanswered. Invariant: every item that was read
is answered once, unless the caller leaves or the process ends.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from bridge.settlement.messages import outcome_message, read_items
from bridge.settlement.writer import Answer
from deploy.node.server import unless_stopping
from lockstep.errors import LockstepError, Malformed
from lockstep.settlement_log import Candidate, read_candidate
from lockstep.v1 import settlement_pb2

UNANSWERED_MAX: Final = 4_096
"""Items that may be unanswered at a time; more are not read before."""

OUTCOMES_MAX: Final = 1_024
"""Outcomes of one message."""

Submit = Callable[[Candidate], asyncio.Future[Answer]]
"""Queues an entry; raises `LockstepError` if it is refused at once."""


@dataclass(frozen=True, slots=True)
class _Item:
    """An item that is not answered yet."""

    correlation_id: int
    answer: asyncio.Future[Answer]


class AppendStream:
    """One stream; see the module."""

    def __init__(
        self,
        requests: AsyncIterator[settlement_pb2.AppendStreamRequest],
        submit: Submit,
        stopping: asyncio.Event,
    ) -> None:
        """Read from `requests` until they end or `stopping` is set."""
        self._requests = requests
        self._submit = submit
        self._stopping = stopping
        self._unanswered: asyncio.Queue[_Item | None] = asyncio.Queue()
        self._correlation_ids: set[int] = set()
        self._room = asyncio.Semaphore(UNANSWERED_MAX)

    async def outcomes(self) -> AsyncGenerator[list[settlement_pb2.AppendOutcome], None]:
        """Yield what became of the items, in the order in which they were sent, as soon as it is known.

        Ends when the requests end. Raises `Malformed` for items that break the schema's bounds and
        `ShuttingDown`, both behind the outcomes of all items before.
        """
        reading = asyncio.create_task(self._read())
        try:
            item = await self._unanswered.get()
            while item is not None:
                outcomes = [await self._outcome(item)]
                item = await self._next_answered(outcomes)
                yield outcomes
                if item is None:
                    item = await self._unanswered.get()
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _next_answered(self, outcomes: list[settlement_pb2.AppendOutcome]) -> _Item | None:
        """Add the outcomes that are known already; return the first item that has to be waited for."""
        while not self._unanswered.empty() and len(outcomes) < OUTCOMES_MAX:
            item = self._unanswered.get_nowait()
            if item is None:
                # The end is found again by who waits for the next item.
                self._unanswered.put_nowait(None)
                return None
            if not item.answer.done():
                return item
            outcomes.append(await self._outcome(item))
        return None

    async def _outcome(self, item: _Item) -> settlement_pb2.AppendOutcome:
        answer = await item.answer
        self._correlation_ids.discard(item.correlation_id)
        self._room.release()
        return outcome_message(item.correlation_id, answer)

    async def _read(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                for item in read_items(request):
                    await unless_stopping(self._stopping, self._room.acquire())
                    self._add(item)
        finally:
            self._unanswered.put_nowait(None)

    async def _next_request(self) -> settlement_pb2.AppendStreamRequest | None:
        return await unless_stopping(self._stopping, anext(self._requests, None))

    def _add(self, item: settlement_pb2.AppendItem) -> None:
        if item.correlation_id in self._correlation_ids:
            reason = f"{item.correlation_id} is that of an item that is not answered yet"
            raise Malformed(what="request", field="correlation_id", reason=reason)
        self._correlation_ids.add(item.correlation_id)
        try:
            answer = self._submit(read_candidate(item.entry))
        except LockstepError as error:
            answer = asyncio.get_running_loop().create_future()
            answer.set_result(error)
        self._unanswered.put_nowait(_Item(item.correlation_id, answer))
