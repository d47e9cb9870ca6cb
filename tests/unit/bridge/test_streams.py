"""One stream of items: what is bounded, and how it ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.streams import ITEMS_MAX, SwapItems
from lockstep.errors import UnknownSwap
from lockstep.v1 import bridge_pb2

DEADLINE_S = 10


class Fake:
    """Proposes what it is given, refuses to accept, and fails at the rest."""

    async def propose(self, request: bridge_pb2.ProposeRequest) -> bridge_pb2.ProposeResponse:
        return bridge_pb2.ProposeResponse(swap=bridge_pb2.Swap(swap_id=request.idempotency_key))

    async def accept(self, request: bridge_pb2.AcceptRequest) -> bridge_pb2.AcceptResponse:
        raise UnknownSwap(swap_id=request.swap_id.hex())

    async def reveal(self, request: bridge_pb2.RevealRequest) -> bridge_pb2.RevealResponse:
        raise AssertionError("a defect")

    async def cancel(self, request: bridge_pb2.CancelRequest) -> bridge_pb2.CancelResponse:
        raise AssertionError("a defect")


def proposal(number: int) -> bridge_pb2.SwapStreamItem:
    request = bridge_pb2.ProposeRequest(idempotency_key=b"%d" % number)
    return bridge_pb2.SwapStreamItem(correlation_id=number, propose=request)


class Client:
    """Sends messages, one after the other, and keeps the stream open."""

    def __init__(self, *messages: list[bridge_pb2.SwapStreamItem], stays: bool = False) -> None:
        self.taken = 0
        self._messages = messages
        self._stays = stays

    async def requests(self) -> AsyncIterator[bridge_pb2.SwapStreamRequest]:
        for items in self._messages:
            self.taken += 1
            yield bridge_pb2.SwapStreamRequest(items=items)
        if self._stays:
            await asyncio.Event().wait()


async def test_every_item_is_answered_and_errors_travel_in_band() -> None:
    refused = bridge_pb2.SwapStreamItem(correlation_id=3, accept=bridge_pb2.AcceptRequest(swap_id=b"s" * 32))
    client = Client([proposal(1), proposal(2)], [refused])
    stream = SwapItems(Fake(), asyncio.Event())
    async with asyncio.timeout(DEADLINE_S):
        answered = [
            each async for message in stream.responses(client.requests()) for each in message.outcomes
        ]
    assert {each.correlation_id: each.WhichOneof("outcome") for each in answered} == {
        1: "propose",
        2: "propose",
        3: "error",
    }


async def test_a_client_that_reads_no_answers_is_not_read_from() -> None:
    messages = [[proposal(number) for number in range(ITEMS_MAX)] for _ in range(8)]
    client = Client(*messages)
    responses = SwapItems(Fake(), asyncio.Event()).responses(client.requests())
    async with asyncio.timeout(DEADLINE_S):
        answered = len((await anext(responses)).outcomes)
        for _ in range(100):
            # The answers that wait are made without any wait: this is all the time that they take.
            await asyncio.sleep(0)
        assert client.taken == 2, "a message's worth of answers waits, and the next message for room"
        async for response in responses:
            answered += len(response.outcomes)
    assert answered == 8 * ITEMS_MAX


async def test_a_defect_ends_the_stream_although_the_client_stays() -> None:
    item = bridge_pb2.SwapStreamItem(correlation_id=1, reveal=bridge_pb2.RevealRequest())
    responses = SwapItems(Fake(), asyncio.Event()).responses(Client([item], stays=True).requests())
    with pytest.raises(AssertionError, match="a defect"):
        async with asyncio.timeout(DEADLINE_S):
            await anext(responses)


async def test_what_is_answered_together_travels_together() -> None:
    client = Client([proposal(number) for number in range(ITEMS_MAX)])
    responses = SwapItems(Fake(), asyncio.Event()).responses(client.requests())
    async with asyncio.timeout(DEADLINE_S):
        messages = [message async for message in responses]
    assert sum(len(message.outcomes) for message in messages) == ITEMS_MAX
    assert len(messages) < ITEMS_MAX // 8
