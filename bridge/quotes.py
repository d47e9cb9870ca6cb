"""Requests for quotes: who makes prices now, who is asked, and whose answers are passed on.

Owns the makers that are connected and the requests that wait for them. All of it is in memory: a coordinator
that is started again knows no makers until they come back, and nothing depends on it. Everything is bounded:
makers, their pairs, requests at a time, what waits to be read by a maker, and answers that cannot be passed
on. Invariant: a taker gets only quotes that are signed by their makers, are what it asked for, and could
still be opened when they were passed on.

Makers are who they say: anybody may say hello under any name, but only the name's key signs quotes. A maker
that is silent costs takers their `wait_ms`; one stream never touches another's.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Final

import structlog

from bridge.client.quote_messages import read_request, request_message
from bridge.coordinator import Coordinator
from deploy.node.server import unless_stopping
from lockstep.errors import (
    LockstepError,
    Malformed,
    NoQuote,
    NotFound,
    NotReady,
    QueueFull,
    QuotaExceeded,
    ShuttingDown,
    UnknownNamespace,
)
from lockstep.quote_requests import (
    QuoteRequest,
    best_first,
    read_pair,
    verify_answer,
    verify_fresh,
)
from lockstep.quotes import Pair, SignedQuote
from lockstep.signing import PUBLIC_KEY_BYTES
from lockstep.types import ChainId, PublicKey
from lockstep.v1 import bridge_pb2
from sequencer.client.messages import error_message

MAKERS_MAX: Final = 64
"""Makers that are connected at a time."""

PAIRS_MAX: Final = 256
"""Pairs that one maker makes."""

REQUESTS_MAX: Final = 256
"""Requests of takers that wait for makers at a time."""

UNREAD_MAX: Final = 64
"""Messages that wait for one maker to read them: it is asked no more until it does."""

REFUSED_PER_SECOND_MAX: Final = 256
"""Answers of one maker that were not passed on, in a second, at which its stream ends."""

WAIT_MS_MAX: Final = 5_000
"""How long a taker can have makers waited for."""

WAIT_MS_DEFAULT: Final = 500
"""How long makers are waited for if the taker does not say."""

HELLO_MS_MAX: Final = 10_000
"""How long a stream may take to say which pairs it makes."""


class _Collection:
    """The answers to one request."""

    def __init__(self, request: QuoteRequest) -> None:
        self.request = request
        self.quotes: list[SignedQuote] = []
        self.asked = 0
        """Makers that were asked."""
        self.heard = 0
        """Makers of these that have answered, or left."""
        self.complete = asyncio.Event()
        """Set once everybody was heard."""

    def hear(self) -> None:
        """Note that one of the makers says no more."""
        self.heard += 1
        if self.heard == self.asked:
            self.complete.set()


class _Maker:
    """A maker that is connected."""

    def __init__(self, account: PublicKey, pairs: frozenset[Pair]) -> None:
        self.account = account
        self.pairs = pairs
        self.unread: asyncio.Queue[bridge_pb2.MakeQuotesResponse | None] = asyncio.Queue()
        """What is to be sent to it; None: nothing more."""
        self._waiting: dict[int, _Collection] = {}

    def ask(self, number: int, collection: _Collection, message: bridge_pb2.MakeQuotesResponse) -> None:
        """Ask it, unless it has not read what it was asked before."""
        if self.unread.qsize() < UNREAD_MAX:
            collection.asked += 1
            self._waiting[number] = collection
            self.unread.put_nowait(message)

    def tell(self, number: int, error: LockstepError) -> None:
        """Tell it that an answer was not passed on, if it reads at all."""
        if self.unread.qsize() < UNREAD_MAX:
            self.unread.put_nowait(
                bridge_pb2.MakeQuotesResponse(correlation_id=number, error=error_message(error))
            )

    def answered(self, number: int) -> _Collection | None:
        """Return what it was asked by this number, once; None: nothing, or it was answered, or it is over."""
        return self._waiting.pop(number, None)

    def leave(self) -> None:
        """Have nobody wait for it any more."""
        for collection in self._waiting.values():
            collection.hear()
        self._waiting.clear()


class Makers:
    """The makers of one coordinator, and the requests to them."""

    def __init__(self, chain: ChainId, coordinator: Coordinator, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set; log time and registry are what the coordinator has followed."""
        self._chain = chain
        self._coordinator = coordinator
        self._stopping = stopping
        self._makers: list[_Maker] = []
        self._requests = 0
        self._numbers = count(1)
        self._log = structlog.get_logger("bridge")

    def __len__(self) -> int:
        """Return how many makers are connected."""
        return len(self._makers)

    # --- a taker's side -------------------------------------------------------------------------------------

    async def request(self, message: bridge_pb2.RequestQuotesRequest) -> tuple[SignedQuote, ...]:
        """Ask every maker of a pair, and return what they offer, best first.

        Order of checks: the request, that the order was followed to its end, rollups, room, makers. Raises
        Malformed, NotReady, UnknownNamespace, QueueFull, NoQuote, or ShuttingDown at the end.
        """
        request, wait_ms = read_request(message), _read_wait_ms(message.wait_ms)
        self._verify_open(request.pair)
        if self._requests >= REQUESTS_MAX:
            raise QueueFull(queue="quote request", limit=REQUESTS_MAX)
        makers = [maker for maker in self._makers if request.pair in maker.pairs]
        collection = _Collection(request)
        self._requests += 1
        try:
            await self._collect(collection, makers, wait_ms)
        finally:
            self._requests -= 1
        quotes = best_first(each for each in collection.quotes if self._is_fresh(each))
        if not quotes:
            if self._stopping.is_set():
                # Makers were sent away: that nobody offers anything would say nothing about them.
                raise ShuttingDown
            raise NoQuote(pair=str(request.pair), reason=_reason(len(makers), collection.heard))
        return quotes

    async def _collect(self, collection: _Collection, makers: list[_Maker], wait_ms: int) -> None:
        """Wait until everybody who was asked has answered or left, or the time is over."""
        number = next(self._numbers)
        message = self._question(number, collection.request, wait_ms)
        try:
            for maker in makers:
                maker.ask(number, collection, message)
            if collection.asked:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_ms / 1_000):
                        await collection.complete.wait()
        finally:
            for maker in makers:
                maker.answered(number)

    def _question(self, number: int, request: QuoteRequest, wait_ms: int) -> bridge_pb2.MakeQuotesResponse:
        return bridge_pb2.MakeQuotesResponse(
            correlation_id=number,
            asked=bridge_pb2.QuoteAsked(
                request=request_message(request, wait_ms=wait_ms),
                time_ms=self._coordinator.book.register.time_ms,
            ),
        )

    def _is_fresh(self, signed: SignedQuote) -> bool:
        try:
            verify_fresh(signed.quote, time_ms=self._coordinator.book.register.time_ms)
        except LockstepError:
            return False
        return True

    # --- a maker's side -------------------------------------------------------------------------------------

    async def responses(
        self, requests: AsyncIterator[bridge_pb2.MakeQuotesRequest]
    ) -> AsyncGenerator[bridge_pb2.MakeQuotesResponse, None]:
        """Yield what a maker is asked and told, until it has said all, or the service stops.

        Raises Malformed, NotReady, UnknownNamespace, QueueFull, QuotaExceeded, and ShuttingDown at the end.
        """
        hello = await unless_stopping(self._stopping, _first(requests))
        if hello is None:
            return
        account, pairs = _read_hello(hello)
        for pair in pairs:
            self._verify_open(pair)
        with self._connected(_Maker(account, pairs)) as maker:
            yield bridge_pb2.MakeQuotesResponse(ready=bridge_pb2.MakerReady())
            reading = asyncio.create_task(self._read(maker, requests))
            try:
                while (message := await unless_stopping(self._stopping, maker.unread.get())) is not None:
                    yield message
                await reading
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    @contextmanager
    def _connected(self, maker: _Maker) -> Iterator[_Maker]:
        if len(self._makers) >= MAKERS_MAX:
            raise QueueFull(queue="maker", limit=MAKERS_MAX)
        self._makers.append(maker)
        self._log.info("maker_connected", maker=maker.account, pairs=len(maker.pairs))
        try:
            yield maker
        finally:
            self._makers.remove(maker)
            maker.leave()
            self._log.info("maker_left", maker=maker.account)

    async def _read(self, maker: _Maker, requests: AsyncIterator[bridge_pb2.MakeQuotesRequest]) -> None:
        """Take in answers; None in the queue says that there are no more, or that this failed."""
        clock = asyncio.get_running_loop().time
        second, refused = int(clock()), 0
        try:
            async for request in requests:
                if request.WhichOneof("request") != "quote":
                    raise _malformed(
                        "MakeQuotesRequest", "request", "is no answer; hello comes once, at first"
                    )
                number = request.quote.correlation_id
                try:
                    self._take_in(maker, number, request.quote.quote)
                except LockstepError as error:
                    self._log.debug("quote_refused", maker=maker.account, code=error.code)
                    second, refused = (second, refused + 1) if int(clock()) == second else (int(clock()), 1)
                    if refused > REFUSED_PER_SECOND_MAX:
                        raise QuotaExceeded(
                            subject="the maker", quota="refused answers", limit=REFUSED_PER_SECOND_MAX
                        ) from error
                    maker.tell(number, error)
        finally:
            maker.unread.put_nowait(None)

    def _take_in(self, maker: _Maker, number: int, encoded: bytes) -> None:
        """Pass an answer on. Raises what the maker is to be told; the request is answered all the same."""
        collection = maker.answered(number)
        if collection is None:
            raise NotFound(subject="open request for quotes", name=str(number))
        try:
            if encoded:
                signed = verify_answer(encoded, collection.request, chain=self._chain, maker=maker.account)
                verify_fresh(signed.quote, time_ms=self._coordinator.book.register.time_ms)
                collection.quotes.append(signed)
        finally:
            collection.hear()

    def _verify_open(self, pair: Pair) -> None:
        """Check that swaps of a pair can be opened now. Raises NotReady or UnknownNamespace."""
        if not self._coordinator.caught_up.is_set():
            raise NotReady(reason="it follows the order to its end, and does not know all rollups yet")
        registry = self._coordinator.book.register.registry
        for side in (pair.give, pair.get):
            if not registry.is_open_for(side.rollup):
                raise UnknownNamespace(namespace=side.rollup)


async def _first(
    requests: AsyncIterator[bridge_pb2.MakeQuotesRequest],
) -> bridge_pb2.MakeQuotesRequest | None:
    """Return the first message of a stream, None if there is none; raises Malformed if it takes too long."""
    try:
        async with asyncio.timeout(HELLO_MS_MAX / 1_000):
            return await anext(requests, None)
    except TimeoutError:
        raise _malformed("MakeQuotesRequest", "hello", f"did not come within {HELLO_MS_MAX} ms") from None


def _read_hello(message: bridge_pb2.MakeQuotesRequest) -> tuple[PublicKey, frozenset[Pair]]:
    """Read who makes which pairs. Order of checks: that it is a hello, maker, pairs. Raises Malformed."""
    if message.WhichOneof("request") != "hello":
        raise _malformed("MakeQuotesRequest", "request", "is no hello, with which a maker begins")
    hello = message.hello
    if len(hello.maker) != PUBLIC_KEY_BYTES:
        raise _malformed("hello", "maker", f"has {len(hello.maker)} bytes, not {PUBLIC_KEY_BYTES}")
    if not 1 <= len(hello.pairs) <= PAIRS_MAX:
        raise _malformed("hello", "pairs", f"are {len(hello.pairs)}, allowed are 1 to {PAIRS_MAX}")
    pairs = frozenset(
        read_pair((pair.give.rollup, pair.give.asset), (pair.get.rollup, pair.get.asset))
        for pair in hello.pairs
    )
    if len(pairs) != len(hello.pairs):
        raise _malformed("hello", "pairs", "name a pair twice")
    return PublicKey(hello.maker), pairs


def _read_wait_ms(value: int) -> int:
    if value > WAIT_MS_MAX:
        raise _malformed("request for quotes", "wait_ms", f"is {value}, allowed are 1 to {WAIT_MS_MAX}")
    return value or WAIT_MS_DEFAULT


def _reason(makers: int, heard: int) -> str:
    """Return why nobody offers anything, and what a taker can do about it."""
    if not makers:
        return "no maker of this pair is connected; ask another coordinator, or agree with somebody directly"
    said = f"{heard} of {makers} makers answered in time, none with an offer that can be passed on"
    return f"{said}; ask again a little later, for another amount, or give them more time"


def _malformed(what: str, field: str, reason: str) -> Malformed:
    return Malformed(what=what, field=field, reason=reason)
