"""The client of SwapStream: steps in order, answers to whom they belong, and another coordinator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bridge.client import BridgeClient, RevealPolicy, SwapPhase, SwapStream
from lockstep.errors import ShuttingDown, TimedOut, UnknownSwap
from lockstep.terms import swap_id_of
from tests.unit.bridge.chain import ANN, GENESIS, FakeOrder, locks_of, make_terms
from tests.unit.bridge.running import DEADLINE_S, Rig, served, started

TERMS = make_terms()
SWAP_ID = swap_id_of(TERMS)
PREIMAGE = ANN.preimage(TERMS)
LOCKS = locks_of(TERMS)


@asynccontextmanager
async def streaming(*addresses: str) -> AsyncIterator[SwapStream]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(BridgeClient(address, GENESIS)) for address in addresses]
        yield await stack.enter_async_context(SwapStream(clients))


@asynccontextmanager
async def one(path: Path, order: FakeOrder) -> AsyncIterator[tuple[Rig, SwapStream]]:
    async with served(path / "bridge.sqlite", order) as (rig, address), streaming(address) as stream:
        yield rig, stream


async def test_a_swap_from_end_to_end_without_waiting_between_proposal_and_locks(tmp_path: Path) -> None:
    order = FakeOrder(is_automatic=True)
    order.block()
    async with asyncio.timeout(DEADLINE_S), one(tmp_path, order) as (rig, stream):
        proposed, *accepted = await asyncio.gather(
            stream.propose(TERMS, idempotency_key=SWAP_ID),
            *(stream.accept(SWAP_ID, leg, lock) for leg, lock in enumerate(LOCKS)),
        )
        assert {view.swap_id for view in (proposed, *accepted)} == {SWAP_ID}
        await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        for leg in range(2):
            order.attest(SWAP_ID, leg)
        await rig.until_phase(SWAP_ID, SwapPhase.LOCKED)
        ordered = await stream.reveal(SWAP_ID, PREIMAGE)
        assert ordered.placement.height == order.tip.height
        await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)


async def test_a_cancellation_is_told_where_it_is(tmp_path: Path) -> None:
    order = FakeOrder(is_automatic=True)
    order.block()
    async with asyncio.timeout(DEADLINE_S), one(tmp_path, order) as (rig, stream):
        await stream.propose(TERMS, idempotency_key=SWAP_ID)
        await rig.give(TERMS)
        await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        ordered = await stream.cancel(ANN.sign_cancel(SWAP_ID))
        assert ordered.placement.height == order.tip.height


async def test_a_refusal_is_for_who_asked_and_the_stream_goes_on(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S), one(tmp_path, started()) as (_, stream):
        other = make_terms(1)
        refused, proposed = await asyncio.gather(
            stream.accept(swap_id_of(other), 0, locks_of(other)[0]),
            stream.propose(TERMS, idempotency_key=SWAP_ID),
            return_exceptions=True,
        )
        assert isinstance(refused, UnknownSwap)
        assert not isinstance(proposed, BaseException)
        assert (await stream.accept(SWAP_ID, 0, LOCKS[0])).phase is SwapPhase.COLLECTING


async def test_more_steps_than_may_be_in_flight_are_all_done(tmp_path: Path) -> None:
    many = [make_terms(number) for number in range(300)]
    async with asyncio.timeout(DEADLINE_S), one(tmp_path, started()) as (rig, stream):
        views = await asyncio.gather(
            *(stream.propose(terms, idempotency_key=swap_id_of(terms)) for terms in many)
        )
        assert [view.terms_bytes for view in views] == many
        assert len(rig.coordinator.book.live) == 300


async def test_a_lost_coordinator_is_replaced_by_the_next_which_gets_the_proposal(tmp_path: Path) -> None:
    order = started()
    async with AsyncExitStack() as first_one, served(tmp_path / "b.sqlite", order) as (rig, second):
        _, first = await first_one.enter_async_context(served(tmp_path / "a.sqlite", order))
        async with asyncio.timeout(DEADLINE_S), streaming(first, second) as stream:
            await stream.propose(
                TERMS, idempotency_key=SWAP_ID, reveal_policy=RevealPolicy.UP_FRONT, preimage=PREIMAGE
            )
            assert rig.coordinator.book.live == {}
            await first_one.aclose()
            for leg, lock in enumerate(LOCKS):
                await stream.accept(SWAP_ID, leg, lock)
            await rig.until_sent(["Open", "alpha", "beta", "Reveal"])


async def test_what_is_in_flight_when_a_coordinator_is_lost_is_asked_of_the_next(tmp_path: Path) -> None:
    order = FakeOrder()
    order.block()
    async with AsyncExitStack() as first_one, served(tmp_path / "b.sqlite", order) as (rig, second):
        lost, first = await first_one.enter_async_context(served(tmp_path / "a.sqlite", order))
        async with asyncio.timeout(DEADLINE_S), streaming(first, second) as stream:
            await stream.propose(TERMS, idempotency_key=SWAP_ID)
            await lost.give(TERMS)
            await lost.until_sent(["Open", "alpha", "beta"])
            order.block()
            await lost.until_phase(SWAP_ID, SwapPhase.OPEN)
            revealing = asyncio.create_task(stream.reveal(SWAP_ID, PREIMAGE))
            await lost.until_sent(["Reveal"])
            await first_one.aclose()
            # Its bytes differ, made at another log time; the order takes the first of the two.
            order.block()
            await rig.until_phase(SWAP_ID, SwapPhase.REVEALED)
            assert (await revealing).placement.height == order.tip.height


async def test_nobody_answers_in_time(tmp_path: Path) -> None:
    async with served(tmp_path / "bridge.sqlite", started()) as (_, address):
        pass
    async with asyncio.timeout(DEADLINE_S), streaming(address) as stream:
        with pytest.raises(TimedOut):
            await stream.propose(TERMS, idempotency_key=SWAP_ID, timeout_ms=200)


async def test_what_is_unanswered_at_the_end_fails(tmp_path: Path) -> None:
    async with served(tmp_path / "bridge.sqlite", started()) as (_, address):
        pass
    async with asyncio.timeout(DEADLINE_S):
        async with streaming(address) as stream:
            proposing = asyncio.create_task(stream.propose(TERMS, idempotency_key=SWAP_ID))
            await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await proposing
