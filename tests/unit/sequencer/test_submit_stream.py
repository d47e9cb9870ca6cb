"""The stream of submissions goes on after whatever ended its connection."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from lockstep.errors import LockstepError, Malformed, ShuttingDown
from lockstep.order import Bundle, Transaction, bundle_id_of
from lockstep.v1 import sequencer_pb2
from sequencer.client.messages import header_message, placement_message
from sequencer.client.records import Ordered
from sequencer.client.stream import SubmitStream
from tests.unit.sequencer.chain import ALPHA, CHAIN, TIME_MS, MemoryEngine, proposals, single_bundles
from tests.unit.sequencer.test_client import VERIFIER, rpc_error

BUNDLE = Bundle((Transaction(ALPHA, b"1"),), TIME_MS + 1)


class Call:
    """A connection that fails once something was sent, or answers it."""

    def __init__(self, end: Exception | None) -> None:
        self._end = end
        self._sent: asyncio.Queue[sequencer_pb2.SubmitStreamRequest] = asyncio.Queue()

    async def write(self, request: sequencer_pb2.SubmitStreamRequest) -> None:
        self._sent.put_nowait(request)

    async def __aiter__(self) -> AsyncIterator[sequencer_pb2.SubmitStreamResponse]:
        while True:
            request = await self._sent.get()
            if self._end is not None:
                raise self._end
            [proposal] = proposals(1)
            block = await MemoryEngine().order(proposal)
            [placement] = proposal.placements
            outcome = sequencer_pb2.SubmissionOutcome(
                correlation_id=request.submissions[0].correlation_id, placement=placement_message(placement)
            )
            yield sequencer_pb2.SubmitStreamResponse(
                outcomes=[outcome], headers=[header_message(block.header)]
            )

    def cancel(self) -> None:
        """Nothing holds on to it."""


class Stub:
    """A sequencer with whom each connection ends as the test says."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = list(ends)

    def SubmitStream(self) -> Call:
        return Call(self.ends.pop(0))


def stream_to(stub: Any) -> SubmitStream:  # noqa: ANN401
    return SubmitStream(stub, VERIFIER, peer="stub", in_flight_max=2, randomness=random.Random(0))


async def ordered_bundle() -> Bundle:
    [proposal] = proposals(1)
    [bundle] = single_bundles(proposal.bundles)
    return Bundle(bundle.transactions, bundle.valid_until_ms)


@pytest.mark.parametrize("lost", [grpc.StatusCode.UNAVAILABLE, None])
async def test_what_cannot_pass_fails_who_waits_and_the_next_tries_anew(lost: grpc.StatusCode | None) -> None:
    refusal = Malformed(what="request", field="all", reason="a test")
    ends: list[Exception | None] = [rpc_error(refusal), None]
    if lost is not None:
        ends.insert(1, grpc.aio.AioRpcError(lost, grpc.aio.Metadata(), grpc.aio.Metadata()))
    bundle = await ordered_bundle()
    async with asyncio.timeout(10), stream_to(Stub(*ends)) as stream:
        with pytest.raises(Malformed):
            await stream.submit(bundle)
        ordered = await stream.submit(bundle)
    assert isinstance(ordered, Ordered)
    assert ordered.placement.bundle_id == bundle_id_of(CHAIN, bundle)
    with pytest.raises(ShuttingDown):
        await stream.submit(bundle)


async def test_who_waits_when_it_is_left_is_told() -> None:
    waiting: asyncio.Task[Ordered]
    stub = Stub(None)
    stub.SubmitStream = Silent  # type: ignore[method-assign]
    async with stream_to(stub) as stream:
        waiting = asyncio.create_task(stream.submit(BUNDLE))
        await asyncio.sleep(0)
    with pytest.raises(LockstepError):
        await waiting


class Silent(Call):
    """A connection on which nothing is answered."""

    def __init__(self) -> None:
        super().__init__(None)

    async def __aiter__(self) -> AsyncIterator[sequencer_pb2.SubmitStreamResponse]:
        await asyncio.Event().wait()
        yield sequencer_pb2.SubmitStreamResponse()
