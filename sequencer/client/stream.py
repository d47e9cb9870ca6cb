"""A long-lived stream for those who submit a lot: many bundles in flight, sent and answered in batches.

Owns the correlation of answers with bundles and their resubmission after the connection was lost.
Invariant: each bundle in flight is sent at least once on every connection until it is answered; the
sequencer makes that once in the order.
"""

import asyncio
import itertools
import random
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import grpc

from deploy.node.client import DEFAULT_BACKOFF, error_from_rpc
from lockstep.errors import Discontinuous, LockstepError, ShuttingDown, TimedOut
from lockstep.limits import MESSAGE_BYTES_MAX
from lockstep.order import Bundle, bundle_id_of, verify_bundle_shape
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import BundleId
from lockstep.v1 import sequencer_pb2, sequencer_pb2_grpc
from sequencer.client.following import is_worth_resuming
from sequencer.client.messages import bundle_message, read_error, read_header, read_placement
from sequencer.client.records import Ordered
from sequencer.client.verifying import Verifier, check_placement

_Call: TypeAlias = "grpc.aio.StreamStreamCall[sequencer_pb2.SubmitStreamRequest, Any]"

_BATCH_SUBMISSIONS_MAX: Final = 1_024
_BATCH_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2


@dataclass(slots=True)
class _InFlight:
    """A bundle that was not answered yet."""

    submission: sequencer_pb2.Submission
    """What is sent, each time the same bytes."""
    bundle_id: BundleId
    """Whose receipt is awaited."""
    count: int
    """Its transactions."""
    answer: "asyncio.Future[Ordered]"
    """What the submitter awaits."""


@dataclass(slots=True)
class _Sending:
    """What one connection has still to send."""

    waiting: deque[_InFlight]
    """In order of submission."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something was added."""


class SubmitStream:
    """A stream of bundles. Enter it with `async with`; at the end what is unanswered fails.

    What cannot pass by itself, as another service at the address, fails what is in flight; the next bundle
    tries anew.
    """

    def __init__(
        self,
        stub: "sequencer_pb2_grpc.SequencerAsyncStub",
        verifier: Verifier,
        *,
        peer: str,
        in_flight_max: int,
        randomness: random.Random,
    ) -> None:
        """Prepare a stream over a client's channel; `in_flight_max` bundles wait for answers at a time."""
        self._stub = stub
        self._verifier = verifier
        self._peer = peer
        self._randomness = randomness
        self._slots = asyncio.Semaphore(in_flight_max)
        self._correlation_ids = itertools.count(1)
        self._in_flight: dict[int, _InFlight] = {}
        self._sending = _Sending(deque())
        self._newest: ProvenHeader | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._is_open = True
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "entered before it is left"
        self._is_open = False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail_all(ShuttingDown())

    async def submit(self, bundle: Bundle, *, timeout_ms: int = 10_000) -> Ordered:
        """Have a bundle ordered and return its receipt, verified; waits for a slot if too many are in flight.

        Sends it again after retryable errors. Raises as `SequencerClient.submit`.
        """
        verify_bundle_shape(bundle)
        scope = asyncio.timeout(timeout_ms / 1_000)
        try:
            async with scope, self._slots:
                return await self._submit_until_settled(bundle)
        except TimeoutError:
            if scope.expired():
                raise TimedOut(peer=self._peer) from None
            raise

    async def _submit_until_settled(self, bundle: Bundle) -> Ordered:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._submit_once(bundle)
            except LockstepError as error:
                if not error.retryable or not self._is_open:
                    raise
                wait_ms = DEFAULT_BACKOFF.wait_ms(min(attempt, 32), error.retry_after_ms, self._randomness)
            await asyncio.sleep(wait_ms / 1_000)

    async def _submit_once(self, bundle: Bundle) -> Ordered:
        if not self._is_open:
            raise ShuttingDown
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        correlation_id = next(self._correlation_ids)
        item = _InFlight(
            sequencer_pb2.Submission(correlation_id=correlation_id, bundle=bundle_message(bundle)),
            bundle_id_of(self._verifier.chain, bundle),
            len(bundle.transactions),
            asyncio.get_running_loop().create_future(),
        )
        self._in_flight[correlation_id] = item
        self._sending.waiting.append(item)
        self._sending.changed.set()
        try:
            return await item.answer
        finally:
            del self._in_flight[correlation_id]

    async def _run(self) -> None:
        """Keep a connection until the stream is left; what cannot pass fails everybody."""
        failures = 0
        error: LockstepError = ShuttingDown()
        try:
            while True:
                answered = await self._connection()
                failures = 1 if answered else failures + 1
                wait_ms = DEFAULT_BACKOFF.wait_ms(min(failures, 32), None, self._randomness)
                await asyncio.sleep(wait_ms / 1_000)
        except LockstepError as failure:
            error = failure
        finally:
            self._fail_all(error)

    async def _connection(self) -> bool:
        """Send and receive until the connection ends; answer whether anything was received on it."""
        self._sending = sending = _Sending(deque(self._in_flight.values()))
        self._newest = None
        call = self._stub.SubmitStream()
        sender = asyncio.create_task(_send(call, sending))
        answered = False
        try:
            async for response in call:
                answered = True
                self._receive(response)
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, peer=self._peer)
            if not is_worth_resuming(error):
                raise error from failure
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return answered

    def _receive(self, response: sequencer_pb2.SubmitStreamResponse) -> None:
        headers = {}
        for message in response.headers:
            proven = read_header(message)
            headers[self._verifier.header(proven).height] = proven
        if self._newest is not None:
            headers.setdefault(self._newest.header.height, self._newest)
        for outcome in response.outcomes:
            item = self._in_flight.get(outcome.correlation_id)
            if item is None or item.answer.done():
                # Its submitter went away; the bundle keeps its place.
                continue
            if outcome.HasField("error"):
                item.answer.set_exception(read_error(outcome.error))
                continue
            placement = read_placement(outcome.placement)
            proven_header = headers.get(placement.height)
            if proven_header is None:
                raise Discontinuous(what="receipt", reason=f"comes without the header at {placement.height}")
            check_placement(placement, proven_header.header, bundle=item.bundle_id, count=item.count)
            item.answer.set_result(Ordered(placement, proven_header))
        if headers:
            self._newest = headers[max(headers)]

    def _fail_all(self, error: LockstepError) -> None:
        for item in self._in_flight.values():
            if not item.answer.done():
                item.answer.set_exception(error)


async def _send(call: _Call, sending: _Sending) -> None:
    """Write what waits, as much at a time as a message may hold, until the connection ends."""
    while True:
        request = _batch(sending)
        if request.submissions:
            try:
                await call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                # The call is over; who receives finds out why.
                return
        else:
            sending.changed.clear()
            await sending.changed.wait()


def _batch(sending: _Sending) -> sequencer_pb2.SubmitStreamRequest:
    request = sequencer_pb2.SubmitStreamRequest()
    batch_bytes = 0
    while sending.waiting and len(request.submissions) < _BATCH_SUBMISSIONS_MAX:
        item = sending.waiting[0]
        batch_bytes += item.submission.ByteSize() + 8
        if batch_bytes > _BATCH_BYTES_MAX and request.submissions:
            break
        sending.waiting.popleft()
        if not item.answer.done():
            request.submissions.append(item.submission)
    return request
