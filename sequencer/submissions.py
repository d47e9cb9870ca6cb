"""One SubmitStream: many bundles in, their outcomes out, in any order.

Owns what one stream has in flight, which is bounded: beyond it nothing more is read until answers are out.
A bundle that fails is answered in-band and the stream goes on; a message that breaks the schema's bounds
ends it, after what was read before it is answered.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from lockstep.errors import Internal, LockstepError, Malformed, ShuttingDown
from lockstep.order import Bundle, Placement, Singles
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import Height
from lockstep.v1 import sequencer_pb2
from sequencer.answers import Asker, Outcome
from sequencer.builder import Run
from sequencer.client.messages import read_submissions
from sequencer.prepared import failed, placed, placed_run, response_header
from sequencer.stages import Stages

IN_FLIGHT_MAX: Final = 16_384
"""Bundles of one stream that were read and not answered."""

SUBMISSIONS_MAX: Final = 1_024
"""Bundles of one message."""

_RESPONSE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of the outcomes of one message, about."""


class _Settled(NamedTuple):
    """Outcomes that the client was not told yet."""

    bundles: int
    """Of how many bundles."""
    encoded: bytes
    """Their fields of a response."""
    height: Height
    """The block of those that are placed; 0 for one that failed."""


class Submissions:
    """A stream's bundles between their reading and their answers."""

    def __init__(
        self,
        accept_all: Callable[[Sequence[int], Singles | Sequence[Bundle], Asker], None],
        header_of: Callable[[Height], Awaitable[ProvenHeader]],
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        stages: Stages | None = None,
    ) -> None:
        """`accept_all` accepts numbered bundles for an asker; `header_of` returns a block's header."""
        self._accept_all = accept_all
        self._header_of = header_of
        self._in_flight_max = in_flight_max
        self._stages = stages or Stages()
        self._in_flight = 0
        self._settled: deque[_Settled] = deque()
        self._changed = asyncio.Event()
        self._answered = asyncio.Event()
        self._newest_sent = Height(0)

    async def answer(
        self, requests: AsyncIterator[sequencer_pb2.SubmitStreamRequest], stopping: asyncio.Event
    ) -> AsyncGenerator[bytes, None]:
        """Yield encoded responses until all requests are answered; once `stopping`, read no more and end.

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
                elif stop.done() and self._in_flight <= 0:
                    raise ShuttingDown
                elif reading.done() and self._in_flight <= 0:
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
            started_ns = self._stages.now_ns()
            numbers, bundles = read_submissions(request)
            self._stages.add("receive", started_ns)
            while numbers:
                free = self._in_flight_max - self._in_flight
                if free:
                    started_ns = self._stages.now_ns()
                    self._accept_all(numbers[:free], bundles[:free], self)
                    self._stages.add("verify", started_ns)
                    # Not after a defect, which ends the stream: how many of them are under way is not known.
                    self._in_flight += len(numbers[:free])
                    numbers, bundles = numbers[free:], bundles[free:]
                else:
                    self._answered.clear()
                    await self._answered.wait()

    def tell(self, number: int, outcome: Outcome) -> None:
        """Take the outcome of the bundle with a correlation id."""
        if isinstance(outcome, Placement):
            self._settle(_Settled(1, placed(number, outcome), outcome.height))
        else:
            error = outcome if isinstance(outcome, LockstepError) else Internal()
            self._settle(_Settled(1, failed(number, error), Height(0)))

    def tell_run(self, numbers: Sequence[int], run: Run) -> None:
        """Take the places of the bundles with these correlation ids."""
        self._settle(_Settled(len(run), placed_run(numbers, run), run.height))

    def _settle(self, settled: _Settled) -> None:
        self._settled.append(settled)
        self._changed.set()

    async def _response(self) -> bytes:
        """Return outcomes that are settled, as many as fit, with the headers that the client lacks."""
        started_ns = self._stages.now_ns()
        fields: list[bytes] = []
        response_bytes, heights = 0, set[Height]()
        while self._settled and response_bytes < _RESPONSE_BYTES_MAX:
            settled = self._settled.popleft()
            fields.append(settled.encoded)
            heights.add(settled.height)
            response_bytes += len(settled.encoded)
            self._in_flight -= settled.bundles
        self._answered.set()
        self._stages.add("send", started_ns)
        for height in sorted(heights - {self._newest_sent, Height(0)}):
            fields.append(response_header(await self._header_of(height)))
        self._newest_sent = max(heights | {self._newest_sent})
        return b"".join(fields)
