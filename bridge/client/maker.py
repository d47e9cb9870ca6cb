"""A maker: answers takers with signed quotes, and locks its leg of the swaps that keep one.

Owns the maker's stream and what is locked; what was offered is in memory (`offered`). `Maker.run` goes on
through lost connections and coordinators that are started again. Invariants:

- a lock is signed only for terms that keep a quote which was given and is not over, and once for each quote;
- a lock is valid for no longer than its quote: the order keeps that, whoever tells what the time is;
- the same swap again gets the same lock, byte for byte, so that a lost answer costs nothing.

A maker that is started again has offered nothing: takers of its earlier quotes get no lock, and no harm.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeAlias

import grpc
import structlog

from bridge.client.offered import Given, Offered
from bridge.client.quote_messages import asset_message, read_request
from bridge.client.service import CALL_TIMEOUT_MS, BridgeClient
from bridge.client.trader import Trader
from bridge.client.views import LegState, SwapView
from deploy.node.client import Backoff, error_from_rpc
from lockstep import limits
from lockstep.errors import LockstepError, Malformed
from lockstep.genesis import Genesis
from lockstep.quote_requests import QuoteRequest
from lockstep.quotes import QUOTE_ID_BYTES, Pair, Quote, sign_quote, verify_kept
from lockstep.signing import SigningKey
from lockstep.types import PublicKey, SwapId
from lockstep.v1 import bridge_pb2

VALID_FOR_MS: Final = 10_000
"""How long a quote is honoured unless told otherwise."""

SETTLE_WITHIN_MS: Final = 60_000
"""How long after that funds may be held at most, unless told otherwise."""

ANSWERS_MAX: Final = 64
"""Requests that are thought about at a time, further ones are answered with no offer; and answers that wait
for the coordinator to read them."""

_BACKOFF: Final = Backoff()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a maker says to a request."""

    amount: int
    """Base units of the side that the request leaves open: what the taker gets, or what it gives."""
    premium_amount: int = 0
    """Base units of what the taker gives that it pays if it does not reveal; 0: none."""


Price: TypeAlias = Callable[[QuoteRequest], Awaitable[Offer | None]]
"""Says what is offered for a request; None: nothing."""

Tell: TypeAlias = Callable[[SwapView, Quote], None]
"""Is told how a swap stands that took a quote, after each change."""

TimeSource: TypeAlias = Callable[[], Awaitable[int]]
"""Returns the newest log time, in milliseconds."""


def _ignore(_view: SwapView, _quote: Quote) -> None:
    pass


_Answers: TypeAlias = "asyncio.Queue[bridge_pb2.MakeQuotesRequest | None]"
"""What a stream has still to say; None: it is over."""


class Maker:
    """One account that makes prices through one coordinator. `run` it in a task."""

    def __init__(
        self,
        bridge: BridgeClient,
        genesis: Genesis,
        key: SigningKey,
        pairs: Collection[Pair],
        price: Price,
        *,
        valid_for_ms: int = VALID_FOR_MS,
        settle_within_ms: int = SETTLE_WITHIN_MS,
        time_ms: TimeSource | None = None,
        tell: Tell = _ignore,
        offered: Offered | None = None,
    ) -> None:
        """Offer what `price` says for requests of `pairs`, 1..256.

        A quote is good for `valid_for_ms` of log time and of this process's own, whichever is over first, and
        funds are held for no more than `settle_within_ms` (at least 5,000) of log time after that. Log time
        comes from `time_ms`, by default with each request from the coordinator, which by lying could have
        them held for longer: a maker with a node or a sequencer of its own asks that. `tell` hears of each
        change of a swap that took a quote. Makers of one account that share `offered` lock at each of their
        coordinators what was quoted through any.
        """
        if settle_within_ms < limits.REVEAL_WINDOW_MS_MIN:
            raise ValueError(
                f"settle_within_ms is at least {limits.REVEAL_WINDOW_MS_MIN}: takers must reveal"
            )
        self.connected = asyncio.Event()
        """Set while the coordinator asks this maker."""
        self._bridge = bridge
        self._genesis = genesis
        self._key = key
        self._trader = Trader(key, genesis)
        self._pairs = tuple(pairs)
        self._price = price
        self._valid_for_ms = valid_for_ms
        self._settle_within_ms = settle_within_ms
        self._time_ms = time_ms
        self._tell = tell
        self._offered = Offered(self._trader.account) if offered is None else offered
        self._giving: set[SwapId] = set()
        self._answers: _Answers = asyncio.Queue()
        self._thinking = 0
        self._randomness = random.Random()
        self._log = structlog.get_logger("maker")

    @property
    def account(self) -> PublicKey:
        """The maker's account."""
        return self._trader.account

    async def run(self) -> None:
        """Make quotes and lock for ever. Raises what is not worth repeating, and what `price` raises."""
        async with asyncio.TaskGroup() as group:
            # From before the first quote on: no swap can have taken one earlier.
            since = await self._patiently(self._next_sequence)
            group.create_task(self._follow(group, since))
            group.create_task(self._make(group))

    # --- quotes ---------------------------------------------------------------------------------------------

    async def _make(self, group: asyncio.TaskGroup) -> None:
        """Answer requests, on one stream after the other."""
        attempt = 0
        while True:
            self._answers = asyncio.Queue()
            stream = self._bridge.quote_stream(self._said())
            error: LockstepError | None = None
            try:
                async for message in stream:
                    attempt = 0
                    self._hear(group, message)
            except grpc.aio.AioRpcError as failure:
                error = error_from_rpc(failure, peer=self._bridge.peer)
                if not error.retryable:
                    raise error from failure
            finally:
                self.connected.clear()
                stream.cancel()
                # A stream that is over by itself leaves who reads these waiting for ever.
                self._answers.put_nowait(None)
            attempt += 1
            after_ms = None if error is None else error.retry_after_ms
            await asyncio.sleep(_BACKOFF.wait_ms(attempt, after_ms, self._randomness) / 1_000)

    async def _said(self) -> AsyncIterator[bridge_pb2.MakeQuotesRequest]:
        """Yield the hello, and then answers until the stream is over."""
        answers = self._answers
        pairs = [
            bridge_pb2.Pair(give=asset_message(pair.give), get=asset_message(pair.get))
            for pair in self._pairs
        ]
        hello = bridge_pb2.MakerHello(maker=self.account, pairs=pairs)
        yield bridge_pb2.MakeQuotesRequest(hello=hello)
        while (answer := await answers.get()) is not None:
            yield answer

    def _hear(self, group: asyncio.TaskGroup, message: bridge_pb2.MakeQuotesResponse) -> None:
        match message.WhichOneof("response"):
            case "ready":
                self.connected.set()
            case "asked" if self._thinking < ANSWERS_MAX:
                self._thinking += 1
                group.create_task(self._answer(message.correlation_id, message.asked, self._answers))
            case "asked":
                _put(self._answers, message.correlation_id, b"")
            case _:
                self._log.warning("quote_refused", code=message.error.code, reason=message.error.message)

    async def _answer(
        self,
        number: int,
        asked: bridge_pb2.QuoteAsked,
        answers: _Answers,
    ) -> None:
        """Answer on the stream on which this was asked; it is in vain if that is over."""
        try:
            signed = await self._quote(asked)
        finally:
            self._thinking -= 1
        _put(answers, number, signed)

    async def _quote(self, asked: bridge_pb2.QuoteAsked) -> bytes:
        """Return the signed quote for a request, which is remembered; empty if nothing is offered."""
        try:
            return await self._quote_for(read_request(asked.request), asked.time_ms)
        except Malformed as error:
            # An amount that is rounded to nothing, say: no reason to offer nothing to others.
            self._log.warning("no_quote_made", reason=error.message)
            return b""

    async def _quote_for(self, request: QuoteRequest, told_ms: int) -> bytes:
        offer = await self._price(request) if request.pair in self._pairs else None
        if offer is None:
            return b""
        time_ms = told_ms if self._time_ms is None else await self._patiently(self._time_ms)
        quote = Quote(
            chain=self._genesis.chain_id,
            maker=self.account,
            quote_id=secrets.token_bytes(QUOTE_ID_BYTES),
            pair=request.pair,
            give_amount=offer.amount if request.give_amount is None else request.give_amount,
            get_amount=offer.amount if request.get_amount is None else request.get_amount,
            premium_amount=offer.premium_amount,
            valid_until_ms=time_ms + self._valid_for_ms,
            expires_by_ms=time_ms + self._valid_for_ms + self._settle_within_ms,
        )
        signed = sign_quote(self._key, quote)
        now_s = asyncio.get_running_loop().time()
        self._offered.add(Given(quote, now_s + self._valid_for_ms / 1_000), now_s)
        return signed

    # --- swaps ----------------------------------------------------------------------------------------------

    async def _follow(self, group: asyncio.TaskGroup, since: int) -> None:
        """Look at every change of every swap in which this account has a part."""
        async with aclosing(self._bridge.watch(since, party=self.account)) as changes:
            async for view in changes:
                self._look(group, view)

    def _look(self, group: asyncio.TaskGroup, view: SwapView) -> None:
        now_s = asyncio.get_running_loop().time()
        if view.is_final:
            given = self._offered.end(view.swap_id)
        else:
            given = self._offered.take(view.swap_id, view.terms, now_s)
        if given is None:
            return
        leg = verify_kept(view.terms, given.quote)
        is_awaited = not view.is_final and view.legs[leg].state is LegState.AWAITED
        if is_awaited and view.swap_id not in self._giving:
            self._giving.add(view.swap_id)
            group.create_task(self._lock(view, leg, given))
        self._tell(view, given.quote)

    async def _lock(self, view: SwapView, leg: int, given: Given) -> None:
        """Give the lock of a leg, as long as its quote is not over."""
        valid_until_ms = min(view.terms.lock_by_ms, given.quote.valid_until_ms)
        lock = self._trader.sign_lock(view.terms_bytes, leg, valid_until_ms=valid_until_ms)
        clock, attempt = asyncio.get_running_loop().time, 0
        try:
            while (left_ms := round((given.over_s - clock()) * 1_000)) > 0:
                attempt += 1
                try:
                    await self._bridge.accept(
                        view.swap_id, leg, lock, timeout_ms=min(left_ms, CALL_TIMEOUT_MS)
                    )
                except LockstepError as error:
                    if not error.retryable:
                        self._log.warning("lock_refused", swap_id=view.swap_id.hex(), code=error.code)
                        return
                    await self._pause(attempt, error)
                else:
                    return
            self._log.warning("lock_not_given", swap_id=view.swap_id.hex())
        finally:
            self._giving.discard(view.swap_id)

    # --- patience -------------------------------------------------------------------------------------------

    async def _next_sequence(self) -> int:
        return (await self._bridge.status()).next_sequence

    async def _patiently(self, ask: TimeSource) -> int:
        """Ask until there is an answer. Raises what is not worth repeating."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await ask()
            except LockstepError as error:
                if not error.retryable:
                    raise
                await self._pause(attempt, error)

    async def _pause(self, attempt: int, error: LockstepError) -> None:
        await asyncio.sleep(_BACKOFF.wait_ms(attempt, error.retry_after_ms, self._randomness) / 1_000)


def _put(answers: _Answers, number: int, quote: bytes) -> None:
    """Answer, unless the coordinator has not read so many earlier answers: then it asks for nothing good."""
    if answers.qsize() < ANSWERS_MAX:
        message = bridge_pb2.MakerQuote(correlation_id=number, quote=quote)
        answers.put_nowait(bridge_pb2.MakeQuotesRequest(quote=message))
