"""A submission stream without a network: outcomes in any order, headers once, bounds."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from lockstep import limits
from lockstep.errors import Internal, LockstepError, Malformed, QueueFull, ShuttingDown
from lockstep.order import Bundle, Placement, Singles
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import BundleId, Height
from lockstep.v1 import sequencer_pb2
from sequencer.answers import Asker, Outcome
from sequencer.client.messages import bundle_message, read_error
from sequencer.submissions import Submissions
from tests.unit.sequencer.chain import bundle

Response = sequencer_pb2.SubmitStreamResponse
Requests = asyncio.Queue[sequencer_pb2.SubmitStreamRequest | None]


async def read_all(encoded: AsyncGenerator[bytes, None]) -> AsyncGenerator[Response, None]:
    """Yield the messages whose bytes a stream answers with."""
    async with aclosing(encoded):
        async for each in encoded:
            yield Response.FromString(each)


class Rig:
    """A stream whose bundles the test answers."""

    def __init__(self, in_flight_max: int = 100) -> None:
        self.asked: dict[bytes, tuple[Asker, int]] = {}
        self.refusal: Exception | None = None
        self.headers_read: list[int] = []
        self.requests: Requests = asyncio.Queue()
        self.stopping = asyncio.Event()
        submissions = Submissions(self.accept_all, self.header, in_flight_max=in_flight_max)
        self.responses = read_all(submissions.answer(self.read(), self.stopping))

    def accept_all(self, numbers: Sequence[int], bundles: Singles | Sequence[Bundle], asker: Asker) -> None:
        for number, sent in zip(numbers, bundles, strict=True):
            if isinstance(self.refusal, LockstepError):
                asker.tell(number, self.refusal)
            elif self.refusal is not None:
                raise self.refusal
            else:
                self.asked[sent.transactions[0].payload] = asker, number

    async def header(self, height: Height) -> ProvenHeader:
        self.headers_read.append(height)
        return ProvenHeader(b"header %d" % height, bytes(64))

    async def read(self) -> AsyncIterator[sequencer_pb2.SubmitStreamRequest]:
        while (request := await self.requests.get()) is not None:
            yield request

    def send(self, *numbers: int) -> None:
        self.requests.put_nowait(
            sequencer_pb2.SubmitStreamRequest(
                submissions=[
                    sequencer_pb2.Submission(
                        correlation_id=number, bundle=bundle_message(bundle(b"%d" % number))
                    )
                    for number in numbers
                ]
            )
        )

    async def has(self, count: int) -> None:
        while len(self.asked) < count:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0)

    def place(self, number: int, height: int) -> None:
        self.tell(number, Placement(BundleId(bytes(32)), Height(height), number, 1))

    def tell(self, number: int, outcome: Outcome) -> None:
        asker, asked = self.asked[b"%d" % number]
        asker.tell(asked, outcome)

    async def next(self) -> tuple[dict[int, int], list[bytes]]:
        """Return the next response: height by correlation id, and headers."""
        async with asyncio.timeout(10):
            response = await anext(self.responses)
        heights = {each.correlation_id: each.placement.height for each in response.outcomes}
        return heights, [each.header for each in response.headers]


async def test_each_is_answered_on_its_own_with_the_headers_it_needs() -> None:
    rig = Rig()
    rig.send(1, 2, 3)
    rig.send(4, 5)
    first = asyncio.ensure_future(rig.next())
    await rig.has(5)
    rig.place(3, 7)
    rig.place(1, 7)
    assert await first == ({3: 7, 1: 7}, [b"header 7"])
    # The newest header that was sent is not sent again; an older one is.
    rig.place(2, 7)
    rig.place(4, 6)
    assert await rig.next() == ({2: 7, 4: 6}, [b"header 6"])
    rig.place(5, 7)
    assert await rig.next() == ({5: 7}, [])
    rig.requests.put_nowait(None)
    with pytest.raises(StopAsyncIteration):
        await rig.next()


async def test_what_is_refused_is_told_in_band_and_the_stream_goes_on() -> None:
    rig = Rig()
    rig.refusal = QueueFull(queue="bundle", limit=3)
    rig.send(1)
    async with asyncio.timeout(10):
        response = await anext(rig.responses)
    [outcome] = response.outcomes
    assert outcome.correlation_id == 1
    error = read_error(outcome.error)
    assert isinstance(error, QueueFull)
    assert (error.queue, error.limit, error.retryable, error.retry_after_ms) == ("bundle", 3, True, 100)
    rig.refusal = None
    rig.send(2, 3)
    waiting = asyncio.ensure_future(rig.next())
    await rig.has(2)
    rig.tell(2, ShuttingDown())
    rig.tell(3, RuntimeError("a defect"))
    rig.requests.put_nowait(None)
    assert (await waiting) == ({2: 0, 3: 0}, [])
    await rig.responses.aclose()


async def test_a_defect_is_told_without_its_particulars() -> None:
    rig = Rig()
    rig.send(1)
    waiting = asyncio.ensure_future(anext(rig.responses))
    await rig.has(1)
    rig.tell(1, RuntimeError("secret"))
    async with asyncio.timeout(10):
        [outcome] = (await waiting).outcomes
    assert isinstance(read_error(outcome.error), Internal)
    assert "secret" not in str(outcome)
    await rig.responses.aclose()


async def test_no_more_is_read_than_may_be_in_flight() -> None:
    rig = Rig(in_flight_max=3)
    rig.send(*range(10))
    first = asyncio.ensure_future(rig.next())
    await rig.has(3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(rig.asked) == 3
    rig.place(0, 1)
    assert (await first)[0] == {0: 1}
    waiting = asyncio.ensure_future(rig.next())
    await rig.has(4)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(rig.asked) == 4
    rig.place(1, 1)
    await waiting
    await rig.responses.aclose()


@pytest.mark.parametrize("count", [0, 1_025])
async def test_a_message_beyond_its_bounds_ends_the_stream_after_what_was_read(count: int) -> None:
    rig = Rig()
    rig.send(9_999)
    rig.send(*range(count))
    first = asyncio.ensure_future(rig.next())
    await rig.has(1)
    rig.place(9_999, 1)
    assert (await first)[0] == {9_999: 1}
    with pytest.raises(Malformed):
        await rig.next()


async def test_stopping_answers_what_was_read_and_ends() -> None:
    rig = Rig()
    rig.send(1)
    first = asyncio.ensure_future(rig.next())
    await rig.has(1)
    rig.stopping.set()
    for _ in range(20):
        await asyncio.sleep(0)
    rig.send(2)
    rig.place(1, 1)
    assert (await first)[0] == {1: 1}
    with pytest.raises(ShuttingDown):
        await rig.next()
    assert list(rig.asked) == [b"1"]


async def test_responses_stay_within_the_limit_of_a_message() -> None:
    rig = Rig(in_flight_max=16_384)
    rig.refusal = Malformed(what="x" * 200, field="y" * 200, reason="z" * 200)
    for start in range(0, 3_072, 1_024):
        rig.send(*range(start, start + 1_024))
    rig.requests.put_nowait(None)
    answered = 0
    async with asyncio.timeout(30):
        async for response in rig.responses:
            assert response.ByteSize() < limits.MESSAGE_BYTES_MAX
            answered += len(response.outcomes)
    assert answered == 3_072


async def test_a_defect_ends_the_stream_although_the_client_stays() -> None:
    rig = Rig()
    rig.refusal = AssertionError("a defect")
    rig.send(1)
    with pytest.raises(AssertionError, match="a defect"):
        async with asyncio.timeout(10):
            await anext(rig.responses)


async def test_a_defect_behind_what_was_accepted_ends_the_stream_too() -> None:
    rig = Rig()
    accept_all = rig.accept_all

    def accept_some(numbers: Sequence[int], bundles: Singles | Sequence[Bundle], asker: Asker) -> None:
        accept_all(numbers[:2], bundles[:2], asker)
        raise AssertionError("a defect")

    rig.accept_all = accept_some  # type: ignore[method-assign]
    rig.responses = read_all(Submissions(rig.accept_all, rig.header).answer(rig.read(), rig.stopping))
    rig.send(1, 2, 3)
    first = asyncio.ensure_future(rig.next())
    await rig.has(2)
    rig.place(1, 7)
    rig.place(2, 7)
    assert await first == ({1: 7, 2: 7}, [b"header 7"])
    with pytest.raises(AssertionError, match="a defect"):
        await rig.next()
