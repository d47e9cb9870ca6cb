"""Makers and the requests that wait for them: who is asked, who is waited for, what is bounded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge import quotes
from bridge.quotes import MAKERS_MAX, PAIRS_MAX, REFUSED_PER_SECOND_MAX, REQUESTS_MAX, UNREAD_MAX, Makers
from lockstep.errors import (
    LockstepError,
    Malformed,
    NoQuote,
    NotReady,
    QueueFull,
    QuotaExceeded,
    ShuttingDown,
    UnknownNamespace,
)
from lockstep.quotes import Pair, Quote, RollupAsset, sign_quote
from lockstep.signing import SigningKey
from lockstep.v1 import bridge_pb2
from sequencer.client.messages import read_error
from tests.unit.bridge.chain import ALPHA, BETA, CHAIN, TIME_MS, FakeOrder
from tests.unit.bridge.running import DEADLINE_S, Rig, running, started

ADA, BEN = SigningKey(b"\x21" * 32), SigningKey(b"\x22" * 32)
RED, BLUE = RollupAsset(ALPHA, b"RED"), RollupAsset(BETA, b"BLUE")
PAIR = Pair(RED, BLUE)

LONG_MS = 600_000
"""A wait that no test waits for: whoever does has found a defect. No real taker may ask for as long."""


def offer(key: SigningKey = ADA, get_amount: int = 200, **changes: Any) -> bytes:  # noqa: ANN401 - of Quote
    """Return a signed quote for 100 RED."""
    quote = Quote(
        chain=CHAIN,
        maker=key.public_key,
        quote_id=bytes(16),
        pair=PAIR,
        give_amount=100,
        get_amount=get_amount,
        premium_amount=0,
        valid_until_ms=TIME_MS + 30_000,
        expires_by_ms=TIME_MS + 60_000,
    )
    return sign_quote(key, replace(quote, **changes))


def name_of(asset: RollupAsset) -> bridge_pb2.AssetName:
    return bridge_pb2.AssetName(rollup=asset.rollup, asset=asset.asset.decode())


def request_for(give_amount: str = "100", *, wait_ms: int = LONG_MS) -> bridge_pb2.RequestQuotesRequest:
    return bridge_pb2.RequestQuotesRequest(
        give=name_of(RED), give_amount=give_amount, get=name_of(BLUE), wait_ms=wait_ms
    )


def hello(key: SigningKey, pairs: Sequence[Pair] = (PAIR,)) -> bridge_pb2.MakeQuotesRequest:
    messages = [bridge_pb2.Pair(give=name_of(pair.give), get=name_of(pair.get)) for pair in pairs]
    return bridge_pb2.MakeQuotesRequest(hello=bridge_pb2.MakerHello(maker=key.public_key, pairs=messages))


class Stream:
    """A maker's end of its stream."""

    def __init__(self, makers: Makers, *first: bridge_pb2.MakeQuotesRequest) -> None:
        self._sent: asyncio.Queue[bridge_pb2.MakeQuotesRequest | None] = asyncio.Queue()
        for message in first:
            self._sent.put_nowait(message)
        self.responses = makers.responses(self._requests())

    async def _requests(self) -> AsyncIterator[bridge_pb2.MakeQuotesRequest]:
        while (message := await self._sent.get()) is not None:
            yield message

    async def read(self) -> bridge_pb2.MakeQuotesResponse:
        """Return the next message."""
        async with asyncio.timeout(DEADLINE_S):
            return await anext(self.responses)

    async def read_into(self, told: list[bridge_pb2.MakeQuotesResponse]) -> None:
        """Read to the end."""
        async for message in self.responses:
            told.append(message)

    def answer(self, number: int, quote: bytes = b"") -> None:
        """Answer a request; without a quote: none is made."""
        message = bridge_pb2.MakerQuote(correlation_id=number, quote=quote)
        self._sent.put_nowait(bridge_pb2.MakeQuotesRequest(quote=message))

    def end(self) -> None:
        """Say that no more comes."""
        self._sent.put_nowait(None)

    async def refusal(self) -> LockstepError:
        """Return the error that comes next."""
        message = await self.read()
        assert message.WhichOneof("response") == "error", message
        return read_error(message.error)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "bridge.sqlite", started()) as made:
        yield made


@pytest.fixture
def makers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Makers:
    monkeypatch.setattr(quotes, "WAIT_MS_MAX", LONG_MS)
    return Makers(CHAIN, rig.coordinator, rig.stopping)


@asynccontextmanager
async def connected(
    makers: Makers, key: SigningKey, pairs: Sequence[Pair] = (PAIR,)
) -> AsyncIterator[Stream]:
    stream = Stream(makers, hello(key, pairs))
    assert (await stream.read()).WhichOneof("response") == "ready"
    try:
        yield stream
    finally:
        await stream.responses.aclose()


async def offered(asking: "asyncio.Task[Any]") -> list[int]:
    """Return what the taker gets of each quote that it was given."""
    async with asyncio.timeout(DEADLINE_S):
        return [each.quote.get_amount for each in await asking]


async def test_all_makers_of_the_pair_are_asked_and_the_best_comes_first(makers: Makers) -> None:
    other = Pair(BLUE, RED)
    async with connected(makers, ADA) as ada, connected(makers, BEN) as ben, connected(makers, BEN, [other]):
        assert len(makers) == 3
        asking = asyncio.create_task(makers.request(request_for()))
        asked = [await ada.read(), await ben.read()]
        assert asked[0] == asked[1]
        assert asked[0].asked.request == request_for()
        assert asked[0].asked.time_ms >= TIME_MS
        ada.answer(asked[0].correlation_id, offer(ADA, 199))
        assert (await ada_is_taken_in(ada)) == "NOT_FOUND"
        assert not asking.done(), "the second maker is waited for"
        ben.answer(asked[1].correlation_id, offer(BEN, 201))
        assert await offered(asking) == [201, 199]
    assert len(makers) == 0


async def ada_is_taken_in(stream: Stream) -> str:
    """Wait until what a maker sent was read, by what it is told to something unasked behind it."""
    stream.answer(0)
    return (await stream.refusal()).code


async def test_who_is_silent_is_waited_for_no_longer_than_the_taker_says(makers: Makers) -> None:
    async with connected(makers, ADA) as ada, connected(makers, BEN) as ben:
        asking = asyncio.create_task(makers.request(request_for(wait_ms=50)))
        number = (await ada.read()).correlation_id
        ada.answer(number, offer(ADA))
        assert await offered(asking) == [200]
        assert (await ben.read()).correlation_id == number
        ben.answer(number, offer(BEN))
        assert (await ben.refusal()).code == "NOT_FOUND", "it came too late"


@pytest.mark.parametrize("leaves", ["it says that no more comes", "its connection is lost"])
async def test_who_leaves_is_not_waited_for(makers: Makers, leaves: str) -> None:
    async with connected(makers, BEN) as ben:
        stream = Stream(makers, hello(ADA))
        await stream.read()
        asking = asyncio.create_task(makers.request(request_for()))
        await stream.read()
        number = (await ben.read()).correlation_id
        ben.answer(number, offer(BEN))
        if leaves == "its connection is lost":
            await stream.responses.aclose()
        else:
            stream.end()
            with pytest.raises(StopAsyncIteration):
                await stream.read()
        assert await offered(asking) == [200]
        assert len(makers) == 1


async def test_nobody_offers_anything(makers: Makers) -> None:
    with pytest.raises(NoQuote, match="no maker of this pair is connected; ask another coordinator"):
        await makers.request(request_for())
    async with connected(makers, ADA) as ada:
        asking = asyncio.create_task(makers.request(request_for()))
        ada.answer((await ada.read()).correlation_id)
        with pytest.raises(NoQuote, match="1 of 1 makers answered in time, none with an offer"):
            await offered(asking)
        with pytest.raises(NoQuote, match="0 of 1 makers answered in time"):
            await makers.request(request_for(wait_ms=1))


REFUSED = {
    "no quote at all": (b"\x07", "MALFORMED"),
    "of another chain": (offer(chain=type(CHAIN)(bytes(32))), "WRONG_CHAIN"),
    "of another maker": (offer(BEN), "MALFORMED"),
    "for another amount": (offer(give_amount=99), "MALFORMED"),
    "signed by another": (offer(BEN, maker=ADA.public_key), "BAD_SIGNATURE"),
    "expired": (offer(valid_until_ms=TIME_MS), "EXPIRED"),
    "too far ahead": (
        offer(valid_until_ms=TIME_MS + 700_000, expires_by_ms=TIME_MS + 800_000),
        "TOO_FAR_AHEAD",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_is_refused_is_told_to_the_maker_and_not_passed_on(makers: Makers, why: str) -> None:
    quote, code = REFUSED[why]
    async with connected(makers, ADA) as ada:
        asking = asyncio.create_task(makers.request(request_for()))
        number = (await ada.read()).correlation_id
        ada.answer(number, quote)
        assert (await ada.refusal()).code == code
        with pytest.raises(NoQuote):
            await offered(asking)
        ada.answer(number, offer(ADA))
        assert (await ada.refusal()).code == "NOT_FOUND", "only the first answer counts"


async def test_a_quote_that_expires_while_others_are_waited_for_is_not_passed_on(
    rig: Rig, makers: Makers
) -> None:
    async with connected(makers, ADA) as ada, connected(makers, BEN) as ben:
        asking = asyncio.create_task(makers.request(request_for()))
        number = (await ada.read()).correlation_id
        ada.answer(number, offer(ADA, valid_until_ms=TIME_MS + 2_000))
        await ada_is_taken_in(ada)
        rig.order.pass_time(TIME_MS + 2_000)
        await rig.until(lambda: rig.coordinator.book.register.time_ms >= TIME_MS + 2_000)
        ben.answer((await ben.read()).correlation_id, offer(BEN, 100))
        assert await offered(asking) == [100]


async def test_a_maker_cannot_answer_what_another_was_asked(makers: Makers) -> None:
    async with connected(makers, ADA) as ada, connected(makers, BEN, [Pair(BLUE, RED)]) as ben:
        asking = asyncio.create_task(makers.request(request_for()))
        number = (await ada.read()).correlation_id
        ben.answer(number, offer(BEN))
        assert (await ben.refusal()).code == "NOT_FOUND"
        ada.answer(number, offer(ADA))
        assert await offered(asking) == [200]


async def test_two_streams_of_one_name_are_two_makers(makers: Makers) -> None:
    """Whoever says another's name gets that one's questions, and can answer none."""
    async with connected(makers, ADA) as real, connected(makers, ADA) as false:
        asking = asyncio.create_task(makers.request(request_for()))
        number = (await false.read()).correlation_id
        false.answer(number, offer(BEN, 999, maker=ADA.public_key))
        assert (await false.refusal()).code == "BAD_SIGNATURE"
        assert (await real.read()).correlation_id == number
        real.answer(number, offer(ADA))
        assert await offered(asking) == [200]


# --- bounds -----------------------------------------------------------------------------------------------


async def test_so_many_makers_and_no_more(makers: Makers) -> None:
    streams = [Stream(makers, hello(ADA)) for _ in range(MAKERS_MAX + 1)]
    for stream in streams[:-1]:
        await stream.read()
    with pytest.raises(QueueFull):
        await streams[-1].read()
    await streams[0].responses.aclose()
    async with connected(makers, BEN):
        assert len(makers) == MAKERS_MAX
    for stream in streams:
        await stream.responses.aclose()


async def test_so_many_requests_at_a_time_and_no_more(
    makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "UNREAD_MAX", REQUESTS_MAX)
    async with connected(makers, ADA) as ada:
        asking = [asyncio.create_task(makers.request(request_for())) for _ in range(REQUESTS_MAX)]
        numbers = [(await ada.read()).correlation_id for _ in asking]
        with pytest.raises(QueueFull):
            await makers.request(request_for())
        for number in numbers:
            ada.answer(number, offer(ADA))
        for each in asking:
            assert await offered(each) == [200]
        asking = [asyncio.create_task(makers.request(request_for()))]
        ada.answer((await ada.read()).correlation_id, offer(ADA))
        assert await offered(asking[0]) == [200]


async def test_a_maker_that_does_not_read_is_not_asked(makers: Makers) -> None:
    async with connected(makers, ADA) as ada:
        for _ in range(UNREAD_MAX):
            with pytest.raises(NoQuote):
                await makers.request(request_for(wait_ms=1))
        # It is not waited for either, however long the taker would.
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(NoQuote, match="0 of 1 makers answered"):
                await makers.request(request_for())
        ada.answer(17)
        assert {(await ada.read()).WhichOneof("response") for _ in range(UNREAD_MAX)} == {"asked"}


async def test_a_maker_that_floods_is_sent_away(makers: Makers, monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine, all of them are in one second.
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1_000.5, raising=False)
    async with connected(makers, ADA) as ada:
        for number in range(REFUSED_PER_SECOND_MAX + 1):
            ada.answer(number, offer(ADA))
        told: list[bridge_pb2.MakeQuotesResponse] = []
        with pytest.raises(QuotaExceeded):
            await ada.read_into(told)
        assert 0 < len(told) <= UNREAD_MAX
        assert len(makers) == 0


async def test_a_taker_that_leaves_is_asked_for_no_more(makers: Makers) -> None:
    async with connected(makers, ADA) as ada:
        asking = asyncio.create_task(makers.request(request_for()))
        number = (await ada.read()).correlation_id
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        ada.answer(number, offer(ADA))
        assert (await ada.refusal()).code == "NOT_FOUND"


# --- what begins and ends ---------------------------------------------------------------------------------


async def test_hello_is_read_strictly(makers: Makers) -> None:
    many = [Pair(RollupAsset(ALPHA, b"%d" % number), BLUE) for number in range(PAIRS_MAX + 1)]
    short = bridge_pb2.MakerHello(maker=b"short", pairs=hello(ADA).hello.pairs)
    wrong = {
        "maker": bridge_pb2.MakeQuotesRequest(hello=short),
        "pairs are 0": hello(ADA, []),
        "pairs are 257": hello(ADA, many),
        "twice": hello(ADA, [PAIR, PAIR]),
        "get is what is given": hello(ADA, [Pair(RED, RED)]),
        "is no hello": bridge_pb2.MakeQuotesRequest(quote=bridge_pb2.MakerQuote()),
    }
    for says, message in wrong.items():
        with pytest.raises(Malformed, match=says):
            await Stream(makers, message).read()
    unknown = Pair(RED, RollupAsset(type(ALPHA)("gamma"), b"GREEN"))
    with pytest.raises(UnknownNamespace):
        await Stream(makers, hello(ADA, [unknown])).read()
    assert len(makers) == 0


async def test_hello_comes_once(makers: Makers) -> None:
    async with connected(makers, ADA):
        stream = Stream(makers, hello(ADA), hello(ADA))
        await stream.read()
        with pytest.raises(Malformed, match="hello comes once"):
            await stream.read()


async def test_who_says_nothing_is_not_waited_for_for_ever(
    makers: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "HELLO_MS_MAX", 1)
    with pytest.raises(Malformed, match="did not come within"):
        await Stream(makers).read()


async def test_who_says_nothing_and_leaves_is_no_maker(makers: Makers) -> None:
    stream = Stream(makers)
    stream.end()
    with pytest.raises(StopAsyncIteration):
        await stream.read()


async def test_the_end_of_the_service_ends_every_wait(rig: Rig, makers: Makers) -> None:
    stream = Stream(makers, hello(ADA))
    await stream.read()
    asking = asyncio.create_task(makers.request(request_for()))
    await stream.read()
    rig.stopping.set()
    with pytest.raises(ShuttingDown):
        await stream.read()
    with pytest.raises(ShuttingDown):
        await offered(asking)


async def test_nobody_is_waited_for_longer_than_is_allowed(rig: Rig) -> None:
    makers = Makers(CHAIN, rig.coordinator, rig.stopping)
    with pytest.raises(Malformed, match="wait_ms is 5001, allowed are 1 to 5000"):
        await makers.request(request_for(wait_ms=5_001))
    with pytest.raises(NoQuote):
        await makers.request(request_for(wait_ms=5_000))


async def test_while_it_catches_up_nothing_is_quoted(tmp_path: Path) -> None:
    async with running(tmp_path / "other.sqlite", FakeOrder()) as behind:
        makers = Makers(CHAIN, behind.coordinator, behind.stopping)
        with pytest.raises(NotReady):
            await makers.request(request_for(wait_ms=0))
        with pytest.raises(NotReady):
            await Stream(makers, hello(ADA)).read()
