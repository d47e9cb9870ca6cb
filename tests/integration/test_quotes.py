"""Quotes through a real coordinator: makers that compete, are slow, are killed, and one that outlives it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bridge.client import BridgeClient, LegState, Maker, Offer, SwapPhase, terms_of_quote
from bridge.client.maker import Price
from lockstep.errors import NoQuote
from lockstep.quote_requests import QuoteRequest, read_pair
from lockstep.signing import SigningKey
from lockstep.terms import swap_id_of
from tests.integration.bridge_process import DEADLINE_S, Net, network

pytestmark = pytest.mark.processes

BOB, CAT = (SigningKey(bytes([seed]) * 32) for seed in (12, 13))
PAIR = read_pair(("alpha", "RED"), ("beta", "BLUE"))


def at(price: int) -> Price:
    """Make a maker that gives so many BLUE for a RED."""

    async def offer(request: QuoteRequest) -> Offer | None:
        assert request.give_amount is not None
        return Offer(price * request.give_amount)

    return offer


async def never(_: QuoteRequest) -> Offer | None:
    """Think for ever."""
    await asyncio.Event().wait()
    return None


@asynccontextmanager
async def making(net: Net, client: BridgeClient, key: SigningKey, price: Price) -> AsyncIterator[Maker]:
    maker = Maker(client, net.genesis, key, [PAIR], price)
    work = asyncio.create_task(maker.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await maker.connected.wait()
        yield maker
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def ask(client: BridgeClient, wait_ms: int = 5_000) -> list[tuple[bytes, int]]:
    """Return who offers how much for 100 RED."""
    quotes = await client.request_quotes(PAIR, give_amount=100, wait_ms=wait_ms)
    return [(each.quote.maker, each.quote.get_amount) for each in quotes]


async def take(net: Net, client: BridgeClient) -> bytes:
    """Have Ann take the best quote, give her lock, and return the terms."""
    best, *_ = await client.request_quotes(PAIR, give_amount=100, wait_ms=5_000)
    terms_bytes = terms_of_quote(best.quote, net.ann, time_ms=(await client.status()).time_ms)
    await client.propose(terms_bytes, idempotency_key=swap_id_of(terms_bytes))
    await client.accept(swap_id_of(terms_bytes), 0, net.ann.sign_lock(terms_bytes, 0))
    return terms_bytes


async def commit(net: Net, client: BridgeClient, terms_bytes: bytes) -> None:
    """Reveal once both legs are locked, and see the swap through."""
    swap_id = swap_id_of(terms_bytes)
    assert (await client.wait_until(swap_id, [SwapPhase.LOCKED])).phase is SwapPhase.LOCKED
    await client.reveal(swap_id, net.ann.preimage(terms_bytes))
    assert (await client.wait_until(swap_id, [])).phase is SwapPhase.COMMITTED


async def test_two_makers_compete_and_the_better_one_trades(tmp_path: Path) -> None:
    async with network(tmp_path) as net, net.bridge() as process, net.client(process) as client:
        with pytest.raises(NoQuote, match="no maker of this pair is connected"):
            await ask(client)
        async with making(net, client, CAT, at(2)), making(net, client, BOB, at(3)):
            assert (await client.status()).makers == 2
            assert await ask(client) == [(BOB.public_key, 300), (CAT.public_key, 200)]
            terms_bytes = await take(net, client)
            await commit(net, client, terms_bytes)
        with pytest.raises(NoQuote, match="no maker of this pair is connected"):
            await asyncio.wait_for(until_nobody_makes(client), DEADLINE_S)
        assert (await process.end(signal.SIGTERM)) == 0
        assert "call_failed" not in process.log()


async def until_nobody_makes(client: BridgeClient) -> None:
    """Ask until the coordinator has noticed that its makers are gone."""
    while True:
        try:
            await ask(client)
        except NoQuote as error:
            if "connected;" in error.message:
                raise


async def test_a_maker_that_thinks_for_ever_and_one_that_leaves_while_it_does(tmp_path: Path) -> None:
    thinking = asyncio.Event()

    async def think(_: QuoteRequest) -> Offer | None:
        thinking.set()
        await asyncio.Event().wait()
        return None

    async with (
        network(tmp_path) as net,
        net.bridge() as process,
        net.client(process) as client,
        making(net, client, BOB, at(3)),
    ):
        async with making(net, client, CAT, think):
            # It costs the taker no more than it waits, and nobody else's quote.
            assert await ask(client, wait_ms=200) == [(BOB.public_key, 300)]
        thinking.clear()
        async with net.client(process) as lost, making(net, lost, CAT, think):
            asking = asyncio.create_task(ask(client))
            await asyncio.wait_for(thinking.wait(), DEADLINE_S)
            await lost.close()
            # Nobody waits for whose connection is gone.
            assert await asyncio.wait_for(asking, DEADLINE_S) == [(BOB.public_key, 300)]


async def test_the_coordinator_is_killed_and_its_maker_makes_on(tmp_path: Path) -> None:
    async with (
        network(tmp_path) as net,
        net.bridge() as process,
        net.client(process) as own,
        making(net, own, BOB, at(3)),
    ):
        best, *_ = await own.request_quotes(PAIR, give_amount=100)
        await process.end(signal.SIGKILL)
        async with net.bridge() as again, net.client(again) as client:
            assert again.address == process.address
            # What it offered before still stands: the maker remembers, the coordinator need not.
            terms_bytes = terms_of_quote(best.quote, net.ann, time_ms=net.rollups.register.time_ms)
            swap_id = swap_id_of(terms_bytes)
            await client.propose(terms_bytes, idempotency_key=swap_id)
            await client.accept(swap_id, 0, net.ann.sign_lock(terms_bytes, 0))
            await commit(net, client, terms_bytes)
            assert await asyncio.wait_for(until_somebody_makes(client), DEADLINE_S) == [(BOB.public_key, 300)]


async def until_somebody_makes(client: BridgeClient) -> list[tuple[bytes, int]]:
    """Ask until a maker has connected again, and return what is offered."""
    while True:
        with suppress(NoQuote):
            return await ask(client)


async def test_a_maker_that_is_started_again_locks_nothing_that_it_does_not_remember(tmp_path: Path) -> None:
    async with network(tmp_path) as net, net.bridge() as process, net.client(process) as client:
        async with making(net, client, BOB, at(3)):
            best, *_ = await client.request_quotes(PAIR, give_amount=100)
        async with making(net, client, BOB, at(2)):
            old = terms_of_quote(best.quote, net.ann, time_ms=(await client.status()).time_ms)
            await client.propose(old, idempotency_key=b"old")
            # It looks at swaps in order: when this one is through, it has seen the other.
            await commit(net, client, await take(net, client))
            view = await client.swap(swap_id_of(old))
            assert [leg.state for leg in view.legs] == [LegState.AWAITED] * 2
