"""The service over real gRPC with its client: every call, streams that resume, errors, no secret logged."""

import asyncio
import base64
import io
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest
import structlog

from bridge import book, watching, writing
from bridge.client import BridgeClient, LegState, RevealPolicy, SwapPhase, SwapView
from bridge.client.views import parse_swap
from deploy.node.client import ClientSettings, connect, error_from_rpc
from deploy.node.logs import LogSettings, configure_logs
from lockstep.errors import (
    BadSignature,
    Conflict,
    LockstepError,
    Malformed,
    NotYet,
    Pruned,
    TimedOut,
    UnknownSwap,
    UselessEntry,
)
from lockstep.terms import swap_id_of
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2, bridge_pb2_grpc
from tests.unit.bridge.chain import (
    ANN,
    BOB,
    EVE,
    GENESIS,
    SEQUENCER,
    FakeOrder,
    locks_of,
    make_terms,
)
from tests.unit.bridge.running import DEADLINE_S, FIRST_SEQUENCE, Rig, running, served, started

TERMS = make_terms()
SWAP_ID = swap_id_of(TERMS)
PREIMAGE = ANN.preimage(TERMS)


@asynccontextmanager
async def both(path: Path, order: FakeOrder) -> AsyncIterator[tuple[Rig, BridgeClient]]:
    async with served(path, order) as (rig, address), BridgeClient(address, GENESIS) as client:
        yield rig, client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.sqlite"


async def opened(client: BridgeClient, terms_bytes: bytes) -> SwapId:
    swap_id = swap_id_of(terms_bytes)
    await client.propose(terms_bytes, idempotency_key=swap_id)
    for leg, lock in enumerate(locks_of(terms_bytes)):
        await client.accept(swap_id, leg, lock)
    await client.wait_until(swap_id, [SwapPhase.OPEN, SwapPhase.REVEALED])
    return swap_id


async def test_a_swap_from_end_to_end(path: Path) -> None:
    order = started()
    order.is_automatic = True
    async with both(path, order) as (_rig, client):
        await opened(client, TERMS)
        for leg in range(2):
            order.attest(SWAP_ID, leg)
        view = await client.wait_until(SWAP_ID, [SwapPhase.LOCKED])
        assert [leg.state for leg in view.legs] == [LegState.LOCKED] * 2
        ordered = await client.reveal(SWAP_ID, PREIMAGE)
        assert ordered.placement.height == order.tip.height
        assert await client.reveal(SWAP_ID, PREIMAGE.reveal()) == ordered
        view = await client.wait_until(SWAP_ID, [SwapPhase.LOCKED])
        assert (view.phase, view.is_final) == (SwapPhase.COMMITTED, True)
        assert await client.swap(SWAP_ID) == view
        explained = await client.explain(SWAP_ID)
        assert [event.kind for event in explained.events] == [
            *("proposed", "given", "given", "submitted"),
            *("opened", "attested", "attested", "revealed", "decided"),
        ]
        assert [event.height for event in explained.events] == [0, 0, 0, 0, 2, 3, 4, 5, 5]
        assert explained.waiting_for.startswith("alpha, beta to execute the decision in block 5 (but nobody")
        status = await client.status()
        assert (status.height, status.time_ms, status.open_swaps) == (5, order.time_ms, 0)
        assert status.register_root == order.register.root
        assert status.next_sequence == view.sequence + 1


async def test_cancel(path: Path) -> None:
    order = started()
    order.is_automatic = True
    async with both(path, order) as (_, client):
        await opened(client, TERMS)
        ordered = await client.cancel(ANN.sign_cancel(SWAP_ID))
        view = await client.swap(SWAP_ID)
        assert (view.decided_height, view.decided_index) == (ordered.placement.height, 0)


async def test_errors_keep_their_codes(path: Path) -> None:
    order = started()
    async with both(path, order) as (_, client):
        with pytest.raises(UnknownSwap):
            await client.swap(SWAP_ID)
        with pytest.raises(UnknownSwap):
            await client.wait_until(SWAP_ID, [SwapPhase.OPEN])
        with pytest.raises(UnknownSwap):
            await client.explain(SWAP_ID)
        with pytest.raises(Malformed):
            await client.swap(SwapId(b"short"))
        with pytest.raises(Malformed):
            await client.reveal(SWAP_ID, b"short")
        with pytest.raises(Malformed):
            await client.cancel(b"")
        await client.propose(TERMS, idempotency_key=b"k")
        with pytest.raises(Conflict):
            await client.propose(make_terms(1), idempotency_key=b"k")
        with pytest.raises(UselessEntry):
            await client.reveal(SWAP_ID, PREIMAGE)
        with pytest.raises(TimedOut):
            await client.wait_until(SWAP_ID, [SwapPhase.OPEN], timeout_ms=50)


# --- lists ------------------------------------------------------------------------------------------------


async def test_lists(path: Path) -> None:
    order = started()
    order.is_automatic = True
    async with both(path, order) as (_, client):
        ids = [swap_id_of(make_terms(number)) for number in range(5)]
        for number in range(5):
            await client.propose(make_terms(number), idempotency_key=ids[number])
        await opened(client, make_terms(2))
        page = await client.list(page_size=2)
        assert [view.swap_id for view in page.swaps] == [ids[4], ids[3]]
        page = await client.list(page_size=2, page_token=page.next_page_token)
        assert [view.swap_id for view in page.swaps] == [ids[2], ids[1]]
        page = await client.list(page_size=2, page_token=page.next_page_token)
        assert ([view.swap_id for view in page.swaps], page.next_page_token) == ([ids[0]], b"")
        page = await client.list(phases=[SwapPhase.OPEN])
        assert [view.swap_id for view in page.swaps] == [ids[2]]
        page = await client.list(party=BOB.account, phases=[SwapPhase.COLLECTING])
        assert [view.swap_id for view in page.swaps] == [ids[4], ids[3], ids[1], ids[0]]
        assert (await client.list(party=EVE.account)).swaps == ()
        for wrong in ({"page_size": 257}, {"page_token": b"x"}, {"party": bytes(65)}):
            with pytest.raises(Malformed):
                await client.list(**wrong)


# --- watching ---------------------------------------------------------------------------------------------


async def take(
    client: BridgeClient,
    count: int,
    from_sequence: int = 0,
    *,
    swap_ids: Sequence[SwapId] = (),
    party: bytes = b"",
) -> list[SwapView]:
    """Return the next changes of a stream."""
    taken: list[SwapView] = []
    stream = client.watch(from_sequence, swap_ids, party=party)
    async with asyncio.timeout(DEADLINE_S), aclosing(stream) as changes:
        async for view in changes:
            taken.append(view)
            if len(taken) == count:
                break
    return taken


async def test_watching_from_the_start_and_from_a_number(path: Path) -> None:
    order = started()
    order.is_automatic = True
    async with both(path, order) as (_rig, client):
        await opened(client, TERMS)
        other = await opened(client, make_terms(1))
        everything = await take(client, 8, FIRST_SEQUENCE)
        assert [view.sequence for view in everything] == list(range(FIRST_SEQUENCE, FIRST_SEQUENCE + 8))
        first = [view.phase.name for view in everything if view.swap_id == SWAP_ID]
        # With the last lock comes the bundle: what one transaction changes is one change.
        assert first == ["COLLECTING", "COLLECTING", "SUBMITTED", "OPEN"]
        assert await take(client, 2, FIRST_SEQUENCE + 6) == everything[6:]
        # From 0: how each stands, in order of its last change.
        standing = await take(client, 2)
        assert [(view.swap_id, view.phase.name) for view in standing] == [(SWAP_ID, "OPEN"), (other, "OPEN")]
        assert [view.swap_id for view in await take(client, 1, swap_ids=[other])] == [other]
        assert [view.swap_id for view in await take(client, 2, party=ANN.account)] == [SWAP_ID, other]
        async with asyncio.timeout(DEADLINE_S), aclosing(client.watch(0, [SWAP_ID])) as changes:
            assert (await anext(changes)).phase is SwapPhase.OPEN
            order.attest(SWAP_ID, 0)
            assert (await anext(changes)).phase is SwapPhase.OPEN
            order.attest(SWAP_ID, 1)
            assert (await anext(changes)).phase is SwapPhase.LOCKED


@pytest.mark.parametrize("in_memory", [0, 3, 1_024])
async def test_one_stream_goes_on_from_page_to_page(
    path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    monkeypatch.setattr(watching, "PAGE_CHANGES", 2)
    monkeypatch.setattr(book, "NEWEST_CHANGES", in_memory)
    async with served(path, started()) as (rig, address):
        channel = connect(address, ClientSettings())
        stub: Any = bridge_pb2_grpc.BridgeStub(channel)
        call = stub.WatchSwaps(bridge_pb2.WatchSwapsRequest(from_sequence=FIRST_SEQUENCE))
        for number in range(5):
            await rig.propose(make_terms(number))
        seen: list[int] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(seen) < 7:
                response = await call.read()
                seen += [swap.sequence for swap in response.swaps]
                assert response.next_sequence == seen[-1] + 1
                if len(seen) == 5:
                    await rig.propose(make_terms(5))
                    await rig.propose(make_terms(6))
        assert seen == list(range(FIRST_SEQUENCE, FIRST_SEQUENCE + 7))
        call.cancel()
        await channel.close()


async def test_a_watcher_that_is_behind_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHANGES_KEPT", 3)
    order = started()
    async with served(path, order) as (rig, address), BridgeClient(address, GENESIS) as client:
        for number in range(6):
            await client.propose(make_terms(number), idempotency_key=bytes([number]))
        status = await client.status()
        assert (status.first_sequence, status.next_sequence) == (FIRST_SEQUENCE + 3, FIRST_SEQUENCE + 6)
        assert await raw_watch_error(address, FIRST_SEQUENCE + 2) == Pruned.code
        assert await raw_watch_error(address, FIRST_SEQUENCE + 7) == NotYet.code
        # The client starts over instead: how each swap stands.
        views = await take(client, 6, FIRST_SEQUENCE)
        assert [view.swap_id for view in views] == [swap_id_of(make_terms(number)) for number in range(6)]
        assert len(await rig.database.read("SELECT sequence FROM changes")) == 3


async def raw_watch_error(address: str, from_sequence: int) -> str:
    channel = connect(address, ClientSettings())
    stub: Any = bridge_pb2_grpc.BridgeStub(channel)
    request = bridge_pb2.WatchSwapsRequest(from_sequence=from_sequence)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in stub.WatchSwaps(request):
            pass
    await channel.close()
    return error_from_rpc(raised.value, peer="bridge").code


async def test_a_watcher_survives_a_restart(path: Path) -> None:
    order = started()
    order.is_automatic = True
    async with served(path, order) as (_, address):
        port = int(address.rpartition(":")[2])
        client = BridgeClient(address, GENESIS, ClientSettings(reconnect_ms_max=50))
        await opened(client, TERMS)
        seen: list[SwapView] = []
        is_open = asyncio.Event()

        async def watch() -> None:
            async with aclosing(client.watch(FIRST_SEQUENCE)) as changes:
                async for view in changes:
                    seen.append(view)
                    if view.phase is SwapPhase.OPEN:
                        is_open.set()
                    if view.phase is SwapPhase.LOCKED:
                        return

        watcher = asyncio.create_task(watch())
        async with asyncio.timeout(DEADLINE_S):
            await is_open.wait()
    order.attest(SWAP_ID, 0)
    async with served(path, order, port=port):
        order.attest(SWAP_ID, 1)
        async with asyncio.timeout(DEADLINE_S):
            await watcher
    # Proposed, two locks, opened, and one or two for the attestations: blocks may come together.
    assert len(seen) in (5, 6)
    assert [view.sequence for view in seen] == list(range(FIRST_SEQUENCE, FIRST_SEQUENCE + len(seen)))
    await client.close()


async def test_a_lost_database_starts_with_other_numbers_and_the_watcher_with_what_is(path: Path) -> None:
    order = started()
    order.is_automatic = True
    async with both(path, order) as (_, client):
        await opened(client, TERMS)
    for file in path.parent.glob("bridge.sqlite*"):
        file.unlink()
    async with both(path, order) as (_, client):
        [view] = await take(client, 1, FIRST_SEQUENCE - 500)
        assert (view.swap_id, view.phase) == (SWAP_ID, SwapPhase.OPEN)


# --- the stream of items ----------------------------------------------------------------------------------


async def test_a_stream_answers_each_item_and_goes_on(path: Path) -> None:
    order = started()
    order.is_automatic = True
    item, stream_request = bridge_pb2.SwapStreamItem, bridge_pb2.SwapStreamRequest
    async with served(path, order) as (rig, address):
        channel = connect(address, ClientSettings())
        stub: Any = bridge_pb2_grpc.BridgeStub(channel)
        call = stub.SwapStream()
        outcomes: dict[int, Any] = {}

        async def answers(count: int) -> None:
            async with asyncio.timeout(DEADLINE_S):
                while len(outcomes) < count:
                    for outcome in (await call.read()).outcomes:
                        outcomes[outcome.correlation_id] = outcome

        propose = bridge_pb2.ProposeRequest(idempotency_key=b"k", terms=TERMS)
        await call.write(
            stream_request(
                items=[
                    item(correlation_id=1, propose=propose),
                    item(correlation_id=2, propose=bridge_pb2.ProposeRequest(idempotency_key=b"k")),
                    item(correlation_id=3),
                ]
            )
        )
        await answers(3)
        assert outcomes[1].propose.swap.swap_id == SWAP_ID
        assert outcomes[2].error.code == outcomes[3].error.code == Malformed.code
        accepts = [
            item(correlation_id=4 + leg, accept=bridge_pb2.AcceptRequest(swap_id=SWAP_ID, leg=leg, lock=lock))
            for leg, lock in enumerate(locks_of(TERMS))
        ]
        await call.write(stream_request(items=accepts))
        await answers(5)
        await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        reveal = bridge_pb2.RevealRequest(swap_id=SWAP_ID, preimage=PREIMAGE.reveal())
        cancel = bridge_pb2.CancelRequest(cancel=ANN.sign_cancel(SWAP_ID))
        await call.write(stream_request(items=[item(correlation_id=6, reveal=reveal)]))
        await answers(6)
        await call.write(stream_request(items=[item(correlation_id=7, cancel=cancel)]))
        await call.done_writing()
        await answers(7)
        assert outcomes[6].reveal.placement.height == order.tip.height
        assert outcomes[7].error.code == UselessEntry.code
        assert await call.read() is grpc.aio.EOF
        await channel.close()


# --- what the client checks -------------------------------------------------------------------------------


async def test_the_client_believes_no_other_key(path: Path) -> None:
    order = started()
    order.is_automatic = True
    async with served(path, order) as (_, address):
        async with BridgeClient(address, GENESIS, sequencer_key=lambda _: EVE.account) as client:
            await opened(client, TERMS)
            with pytest.raises(BadSignature):
                await client.reveal(SWAP_ID, PREIMAGE)
        async with BridgeClient(address, GENESIS, sequencer_key=lambda _: SEQUENCER.public_key) as client:
            await client.reveal(SWAP_ID, PREIMAGE)


@pytest.mark.parametrize(
    "change",
    [
        {"swap_id": bytes(32)},
        {"terms": TERMS[:-1]},
        {"phase": 99},
        {"phase": bridge_pb2.SWAP_PHASE_COMMITTED},
        {"preimage": bytes(32)},
        {"reason_legs": [2]},
        {"legs": []},
    ],
)
async def test_answers_that_contradict_themselves(path: Path, change: dict[str, Any]) -> None:
    async with running(path, started()) as rig:
        await rig.propose(TERMS)
        message = await rig.views.swap(SWAP_ID)
    assert message is not None
    parse_swap(message)
    for name, value in change.items():
        message.ClearField(name)  # type: ignore[arg-type]
        if name == "legs":
            continue
        message.MergeFrom(bridge_pb2.Swap(**{name: value}))
    with pytest.raises(Malformed):
        parse_swap(message)


# --- secrets ----------------------------------------------------------------------------------------------


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("format_name", ["json", "human"])
@pytest.mark.parametrize("policy", [RevealPolicy.UP_FRONT, RevealPolicy.DELEGATED, RevealPolicy.BY_TRADER])
async def test_no_log_line_tells_a_preimage(
    path: Path, out: io.StringIO, format_name: Literal["json", "human"], policy: RevealPolicy
) -> None:
    configure_logs(LogSettings(level="debug", format=format_name), process="bridge", stream=out)
    order = started()
    errors: list[LockstepError] = [
        TimedOut(peer="order"),
        UselessEntry(kind="Reveal", reason="a sequencer that errs"),
    ]
    async with both(path, order) as (rig, client):
        preimage = None if policy is RevealPolicy.BY_TRADER else PREIMAGE
        order.failures = list(errors)
        await client.propose(TERMS, idempotency_key=b"k", reveal_policy=policy, preimage=preimage)
        with pytest.raises(LockstepError):
            await client.propose(make_terms(1), idempotency_key=b"k", reveal_policy=policy, preimage=preimage)
        with pytest.raises(UselessEntry):
            await client.reveal(SWAP_ID, PREIMAGE)
        for leg, lock in enumerate(locks_of(TERMS)):
            await client.accept(SWAP_ID, leg, lock)
        await rig.until(lambda: bool(order.waiting))
        order.block()
        for leg in range(2):
            order.attest(SWAP_ID, leg)
        order.is_automatic = True
        await client.wait_until(SWAP_ID, [SwapPhase.LOCKED])
        await client.reveal(SWAP_ID, PREIMAGE)
        await client.wait_until(SWAP_ID, [SwapPhase.COMMITTED])
        for thing in (rig.coordinator.book.live, rig.coordinator.book.batch, client):
            structlog.get_logger().debug("shown", thing=thing)
    async with running(path.with_name("other.sqlite"), FakeOrder()) as rig:
        # What is held, shown by mistake.
        order = rig.order
        order.block()
        await rig.until(rig.coordinator.caught_up.is_set)
        await rig.propose(TERMS, policy=policy, preimage=preimage)
        structlog.get_logger().debug("shown", thing=str(rig.coordinator.book.live))
        await rig.give(TERMS)
        structlog.get_logger().debug("shown", thing=repr(rig.coordinator.book.live))
        try:
            raise RuntimeError(len(PREIMAGE.reveal()))
        except RuntimeError:
            structlog.get_logger().exception("defect", sendings=repr(rig.coordinator.book.sendings()))
    # Renderers escape what a repr has escaped already.
    logged = out.getvalue().replace("\\\\", "\\")
    assert "shown" in logged
    raw = PREIMAGE.reveal()
    for shape in (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), repr(raw)[2:-1]):
        assert shape not in logged
