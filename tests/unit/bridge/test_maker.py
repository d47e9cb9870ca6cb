"""A maker and takers over real gRPC: what it locks, what it does not, and how it comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bridge.client import BridgeClient, LegState, Offered, SwapPhase, SwapView
from bridge.client.maker import Maker, Offer
from bridge.client.quotes import terms_of_quote
from bridge.service import NAME
from deploy.node.client import ClientSettings
from deploy.node.server import ServerSettings, serving
from lockstep.errors import NoQuote, UnknownNamespace
from lockstep.quote_requests import QuoteRequest, read_pair
from lockstep.quotes import Pair, Quote, RollupAsset
from lockstep.signing import SigningKey
from lockstep.terms import Terms, decode_terms, encode_terms, swap_id_of
from lockstep.transactions import decode_transaction
from lockstep.types import RollupId, SwapId
from tests.unit.bridge.chain import ANN, BOB, GENESIS, TIME_MS, FakeOrder
from tests.unit.bridge.running import DEADLINE_S, Rig, running, started

BOB_KEY = SigningKey(bytes([12]) * 32)
PAIR = read_pair(("alpha", "RED"), ("beta", "BLUE"))


async def double(request: QuoteRequest) -> Offer | None:
    """Two BLUE for a RED; nothing for 13, and too little for one."""
    if request.give_amount is None:
        assert request.get_amount is not None
        return Offer(request.get_amount // 2, premium_amount=1)
    return None if request.give_amount == 13 else Offer(2 * (request.give_amount - 1), premium_amount=1)


@dataclass
class Scene:
    """A coordinator that can be restarted, and a client of it."""

    order: FakeOrder
    path: Path
    port: int = 0
    rig: Rig | None = None

    @asynccontextmanager
    async def coordinator(self) -> AsyncIterator[BridgeClient]:
        """Run it on `path`, always at the same address."""
        async with AsyncExitStack() as stack:
            self.rig = await stack.enter_async_context(running(self.path, self.order))
            server = await stack.enter_async_context(
                serving(
                    ServerSettings(port=self.port, stop_grace_ms=200),
                    register=self.rig.service.register,
                    service_names=(NAME,),
                    stopping=self.rig.stopping,
                )
            )
            self.port = server.port
            settings = ClientSettings(reconnect_ms_max=100)
            yield await stack.enter_async_context(BridgeClient(server.address, GENESIS, settings))


@asynccontextmanager
async def making(client: BridgeClient, **changes: Any) -> AsyncIterator[Maker]:  # noqa: ANN401 - of Maker
    """Run Bob as a maker."""
    stated: dict[str, Any] = {"pairs": [PAIR], "price": double}
    maker = Maker(client, GENESIS, BOB_KEY, **stated | changes)
    work = asyncio.create_task(maker.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            await maker.connected.wait()
        yield maker
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    order = started()
    order.is_automatic = True
    return Scene(order, tmp_path / "bridge.sqlite")


async def best(client: BridgeClient, give_amount: int = 101) -> Quote:
    quotes = await client.request_quotes(PAIR, give_amount=give_amount)
    return quotes[0].quote


def taken(quote: Quote, number: int = 0) -> bytes:
    """Return Ann's terms; a number is a swap."""
    terms = decode_terms(terms_of_quote(quote, ANN, time_ms=TIME_MS))
    return ANN.new_terms(
        terms.legs,
        time_ms=TIME_MS,
        reveal_within_ms=terms.expires_ms - terms.lock_by_ms,
        premium=terms.premium,
        salt=number.to_bytes(16, "big"),
    )


async def propose(client: BridgeClient, terms_bytes: bytes) -> SwapId:
    swap_id = swap_id_of(terms_bytes)
    await client.propose(terms_bytes, idempotency_key=swap_id)
    return swap_id


async def until_locked_by_bob(client: BridgeClient, swap_id: SwapId) -> SwapView:
    """Wait until the maker's lock is there."""
    async with asyncio.timeout(DEADLINE_S):
        async for view in client.watch(0, [swap_id]):
            if view.legs[1].state is not LegState.AWAITED:
                return view
    raise AssertionError("watch ends only by raising")


async def test_a_swap_from_its_quote_to_its_end(scene: Scene) -> None:
    told: list[tuple[SwapPhase, Quote]] = []

    def tell(view: SwapView, quote: Quote) -> None:
        told.append((view.phase, quote))

    async with scene.coordinator() as client, making(client, tell=tell):
        quote = await best(client)
        assert (quote.maker, quote.give_amount, quote.get_amount) == (BOB.account, 101, 200)
        terms_bytes = terms_of_quote(quote, ANN, time_ms=TIME_MS)
        swap_id = await propose(client, terms_bytes)
        await client.accept(swap_id, 0, ANN.sign_lock(terms_bytes, 0))
        await client.wait_until(swap_id, [SwapPhase.OPEN])
        for leg in range(2):
            scene.order.attest(swap_id, leg)
        await client.wait_until(swap_id, [SwapPhase.LOCKED])
        await client.reveal(swap_id, ANN.preimage(terms_bytes))
        assert (await client.wait_until(swap_id, ())).phase is SwapPhase.COMMITTED
        assert scene.rig is not None
        await scene.rig.until(lambda: told[-1][0] is SwapPhase.COMMITTED)
        assert {each for _, each in told} == {quote}
        assert told[0][0] is SwapPhase.COLLECTING


async def test_the_taker_may_say_what_it_gets(scene: Scene) -> None:
    async with scene.coordinator() as client, making(client):
        [signed] = await client.request_quotes(PAIR, get_amount=200)
        assert (signed.quote.give_amount, signed.quote.get_amount) == (100, 200)


async def test_a_lock_is_good_for_no_longer_than_its_quote(scene: Scene) -> None:
    async with scene.coordinator() as client, making(client, valid_for_ms=9_000):
        quote = await best(client)
        terms_bytes = taken(quote)
        swap_id = await propose(client, terms_bytes)
        await until_locked_by_bob(client, swap_id)
        assert quote.valid_until_ms < decode_terms(terms_bytes).lock_by_ms
        await client.accept(swap_id, 0, ANN.sign_lock(terms_bytes, 0))
        await client.wait_until(swap_id, [SwapPhase.OPEN])
        [payload] = scene.order.entries("beta")
        assert decode_transaction(payload).valid_until_ms == quote.valid_until_ms


async def test_a_quote_is_locked_once(scene: Scene) -> None:
    async with scene.coordinator() as client, making(client):
        quote = await best(client)
        ids = [await propose(client, taken(quote, number)) for number in range(3)]
        # The maker looks at swaps in order: once it has locked this one, it has looked at all before it.
        ids.append(await propose(client, taken(await best(client, 51), 3)))
        await until_locked_by_bob(client, ids[-1])
        states = [(await client.swap(each)).legs[1].state for each in ids]
        assert states == [LegState.GIVEN, LegState.AWAITED, LegState.AWAITED, LegState.GIVEN]


async def test_of_equal_quotes_the_one_that_holds_longest_is_taken(scene: Scene) -> None:
    told: list[Quote] = []
    async with scene.coordinator() as client, making(client, tell=lambda _, quote: told.append(quote)):
        older = await best(client)
        scene.order.block(advance_ms=1_000)
        assert scene.rig is not None
        await scene.rig.until_followed()
        newer = await best(client)
        assert newer.valid_until_ms > older.valid_until_ms
        await until_locked_by_bob(client, await propose(client, taken(older, 0)))
        await until_locked_by_bob(client, await propose(client, taken(older, 1)))
        await scene.rig.until(lambda: older in told)
        assert told[0] == newer


async def test_what_keeps_no_quote_is_not_locked(scene: Scene) -> None:
    async with scene.coordinator() as client, making(client) as maker:
        quote = await best(client)
        over = await best(client, 51)
        given = maker._offered._open[over.quote_id]
        now_s = asyncio.get_running_loop().time()
        maker._offered._open[over.quote_id] = replace(given, over_s=now_s)
        fair = decode_terms(taken(quote))
        late = ANN.new_terms(
            fair.legs, time_ms=TIME_MS, reveal_within_ms=80_000, premium=fair.premium, salt=bytes(16)
        )
        wrong = [
            taken(replace(quote, get_amount=201), 0),
            taken(replace(quote, give_amount=100), 1),
            taken(replace(quote, premium_amount=0), 2),
            taken(replace(quote, pair=Pair(quote.pair.give, RollupAsset(RollupId("beta"), b"GREEN"))), 3),
            late,
            taken(over, 5),
        ]
        ids = [await propose(client, each) for each in wrong]
        ids.append(await propose(client, taken(quote, 9)))
        await until_locked_by_bob(client, ids[-1])
        states = [(await client.swap(each)).legs[1].state for each in ids]
        assert states == [LegState.AWAITED] * len(wrong) + [LegState.GIVEN]


async def test_no_offer_is_an_answer(scene: Scene) -> None:
    async with scene.coordinator() as client, making(client):
        for give_amount in (13, 1):
            with pytest.raises(NoQuote, match="1 of 1 makers answered in time"):
                await best(client, give_amount)
        assert (await best(client)).get_amount == 200


async def test_a_maker_that_is_slow_thinks_about_so_many_and_no_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.client.maker.ANSWERS_MAX", 1)
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(request: QuoteRequest) -> Offer | None:
        asked.set()
        await goes_on.wait()
        return await double(request)

    async with scene.coordinator() as client, making(client, price=slow):
        first = asyncio.create_task(client.request_quotes(PAIR, give_amount=101, wait_ms=5_000))
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
        with pytest.raises(NoQuote, match="1 of 1 makers answered in time"):
            await client.request_quotes(PAIR, give_amount=51, wait_ms=5_000)
        goes_on.set()
        assert len(await first) == 1


# --- it comes back ----------------------------------------------------------------------------------------


async def test_a_coordinator_that_was_away_is_found_again_and_the_quote_still_holds(scene: Scene) -> None:
    async with AsyncExitStack() as stack:
        async with scene.coordinator() as client:
            # Its own connection goes on while the coordinator does not.
            target = f"127.0.0.1:{scene.port}"
            settings = ClientSettings(reconnect_ms_max=100)
            own = await stack.enter_async_context(BridgeClient(target, GENESIS, settings))
            maker = await stack.enter_async_context(making(own))
            quote = await best(client)
        async with asyncio.timeout(DEADLINE_S):
            while maker.connected.is_set():  # noqa: ASYNC110 - the connection is lost when it is
                await asyncio.sleep(0)
        async with scene.coordinator() as client:
            async with asyncio.timeout(DEADLINE_S):
                await maker.connected.wait()
            await until_locked_by_bob(client, await propose(client, taken(quote)))
            assert (await best(client)).quote_id != quote.quote_id


def speaking() -> int:
    """Return how many tasks say something on a stream, or wait for something to say."""
    return sum("_consume_request_iterator" in repr(task) for task in asyncio.all_tasks())


async def test_a_stream_that_is_over_leaves_no_task_behind(scene: Scene) -> None:
    async with AsyncExitStack() as stack:
        async with scene.coordinator():
            settings = ClientSettings(reconnect_ms_max=100)
            own = await stack.enter_async_context(BridgeClient(f"127.0.0.1:{scene.port}", GENESIS, settings))
            maker = await stack.enter_async_context(making(own))
            assert speaking() == 1
        async with asyncio.timeout(DEADLINE_S):
            while maker.connected.is_set() or speaking() > 1:  # noqa: ASYNC110 - polled
                await asyncio.sleep(0)
        async with scene.coordinator():
            async with asyncio.timeout(DEADLINE_S):
                await maker.connected.wait()
                while speaking() > 1:  # noqa: ASYNC110 - polled
                    await asyncio.sleep(0)


async def test_a_coordinator_that_lost_its_database_gets_the_same_lock_again(
    scene: Scene, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        async with scene.coordinator() as client:
            target = f"127.0.0.1:{scene.port}"
            settings = ClientSettings(reconnect_ms_max=100)
            own = await stack.enter_async_context(BridgeClient(target, GENESIS, settings))
            await stack.enter_async_context(making(own))
            terms_bytes = taken(await best(client))
            await until_locked_by_bob(client, await propose(client, terms_bytes))
        scene.path = tmp_path / "another.sqlite"
        async with scene.coordinator() as client:
            swap_id = await propose(client, terms_bytes)
            await until_locked_by_bob(client, swap_id)
            await client.accept(swap_id, 0, ANN.sign_lock(terms_bytes, 0))
            assert (await client.wait_until(swap_id, [SwapPhase.OPEN])).phase is SwapPhase.OPEN


async def test_what_one_coordinator_quoted_is_locked_at_another(scene: Scene, tmp_path: Path) -> None:
    other, shared = Scene(scene.order, tmp_path / "other.sqlite"), Offered(BOB.account)
    async with (
        scene.coordinator() as here,
        other.coordinator() as there,
        making(here, offered=shared),
        making(there, offered=shared),
    ):
        terms_bytes = taken(await best(here))
        swap_id = await propose(there, terms_bytes)
        await until_locked_by_bob(there, swap_id)
        # Proposed at the first as well it is the same swap: one quote, one lock.
        await propose(here, terms_bytes)
        await until_locked_by_bob(here, swap_id)
        assert shared.take(*other_swap(terms_bytes), now_s=0) is None


def other_swap(terms_bytes: bytes) -> tuple[SwapId, Terms]:
    """Return another swap that would keep the same quote."""
    terms = replace(decode_terms(terms_bytes), salt=b"another salt....")
    return swap_id_of(encode_terms(terms)), terms


async def test_what_cannot_be_made_is_raised(scene: Scene) -> None:
    async with scene.coordinator() as client:
        maker = Maker(client, GENESIS, BOB_KEY, [read_pair(("alpha", "RED"), ("gamma", "X"))], double)
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(ExceptionGroup) as raised:
                await maker.run()
        assert raised.group_contains(UnknownNamespace)
    with pytest.raises(ValueError, match="settle_within_ms"):
        Maker(client, GENESIS, BOB_KEY, [PAIR], double, settle_within_ms=4_999)


async def test_log_time_may_come_from_elsewhere(scene: Scene) -> None:
    async def own_ms() -> int:
        return TIME_MS + 7

    async with scene.coordinator() as client, making(client, time_ms=own_ms):
        assert (await best(client)).valid_until_ms == TIME_MS + 10_007
