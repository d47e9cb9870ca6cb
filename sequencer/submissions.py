"""One SubmitStream: many bundles in, their outcomes out, in any order.

Owns what one stream has in flight, which is bounded: beyond it nothing more is read until answers are out.
A bundle that fails is answered in-band and the stream goes on; a message that breaks the schema's bounds
ends it, after what was read before it is answered.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

from lockstep.errors import Internal, LockstepError, Malformed, ShuttingDown
from lockstep.order import Bundle, Placement
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import Height
from lockstep.v1 import sequencer_pb2
from sequencer.client.messages import error_message, header_message, placement_message, read_bundle

IN_FLIGHT_MAX: Final = 16_384
"""Bundles of one stream that were read and not answered."""

SUBMISSIONS_MAX: Final = 1_024
"""Bundles of one message."""

_RESPONSE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of the outcomes of one message, about."""


class Submissions:
    """A stream's bundles between their reading and their answers."""

    def __init__(
        self,
        submit: Callable[[Bundle], "asyncio.Future[Placement]"],
        header_of: Callable[[Height], Awaitable[ProvenHeader]],
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        """`submit` accepts a bundle or raises; `header_of` returns a block's header."""
        self._submit = submit
        self._header_of = header_of
        self._slots = asyncio.Semaphore(in_flight_max)
        self._in_flight = 0
        self._settled: deque[sequencer_pb2.SubmissionOutcome] = deque()
        self._changed = asyncio.Event()
        self._newest_sent = Height(0)

    async def answer(
        self, requests: AsyncIterator[sequencer_pb2.SubmitStreamRequest], stopping: asyncio.Event
    ) -> AsyncGenerator[sequencer_pb2.SubmitStreamResponse, None]:
        """Yield outcomes until all requests are answered; once `stopping`, read no more and end.

        Raises what ends the stream: Malformed, ShuttingDown.
        """
        reading = asyncio.ensure_future(self._read(requests))
        stop = asyncio.ensure_future(stopping.wait())
        for each in (reading, stop):
            each.add_done_callback(lambda _: self._changed.set())
        try:
            while True:
                self._changed.clear()
                if self._settled:
                    yield await self._response()
                elif stop.done() and not self._in_flight:
                    raise ShuttingDown
                elif reading.done() and not self._in_flight:
                    reading.result()
                    return
                else:
                    if stop.done():
                        reading.cancel()
                    await self._changed.wait()
        finally:
            reading.cancel()
            stop.cancel()
            await asyncio.gather(reading, stop, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[sequencer_pb2.SubmitStreamRequest]) -> None:
        async for request in requests:
            count = len(request.submissions)
            if not 1 <= count <= SUBMISSIONS_MAX:
                reason = f"has {count}, allowed are 1 to {SUBMISSIONS_MAX}"
                raise Malformed(what="submission message", field="submissions", reason=reason)
            for submission in request.submissions:
                await self._slots.acquire()
                self._take(submission)

    def _take(self, submission: sequencer_pb2.Submission) -> None:
        # A defect is not in flight: nobody would wait for its answer but the end of the stream.
        try:
            place = self._submit(read_bundle(submission.bundle))
        except LockstepError as error:
            self._in_flight += 1
            self._settle(submission.correlation_id, error)
        else:
            self._in_flight += 1
            place.add_done_callback(partial(self._placed, submission.correlation_id))

    def _placed(self, correlation_id: int, place: "asyncio.Future[Placement]") -> None:
        error = Internal() if place.cancelled() else place.exception()
        if error is None:
            self._settle(correlation_id, place.result())
        elif isinstance(error, LockstepError):
            self._settle(correlation_id, error)
        else:
            self._settle(correlation_id, Internal())

    def _settle(self, correlation_id: int, outcome: Placement | LockstepError) -> None:
        message = sequencer_pb2.SubmissionOutcome(correlation_id=correlation_id)
        if isinstance(outcome, Placement):
            message.placement.CopyFrom(placement_message(outcome))
        else:
            message.error.CopyFrom(error_message(outcome))
        self._settled.append(message)
        self._in_flight -= 1
        self._changed.set()

    async def _response(self) -> sequencer_pb2.SubmitStreamResponse:
        """Return outcomes that are settled, as many as fit, with the headers that the client lacks."""
        response = sequencer_pb2.SubmitStreamResponse()
        response_bytes = 0
        while self._settled and response_bytes < _RESPONSE_BYTES_MAX:
            outcome = self._settled.popleft()
            self._slots.release()
            response_bytes += outcome.ByteSize()
            response.outcomes.append(outcome)
        heights = {each.placement.height for each in response.outcomes if each.HasField("placement")}
        for height in sorted(heights - {self._newest_sent}):
            response.headers.append(header_message(await self._header_of(Height(height))))
        self._newest_sent = Height(max(heights | {self._newest_sent}))
        return response
