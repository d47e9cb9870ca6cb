"""The sequencer as a process: what it accepts, answers and streams."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest

from deploy.node.client import ClientSettings, connect, error_from_rpc
from lockstep.errors import (
    Expired,
    LockstepError,
    Malformed,
    NeverOrdered,
    NotFound,
    NotYet,
    TooFarAhead,
    UnknownNamespace,
)
from lockstep.order import Bundle, Transaction, bundle_id_of
from lockstep.types import Namespace
from lockstep.v1 import sequencer_pb2, sequencer_pb2_grpc
from sequencer.client import Ordered
from tests.integration.sequencer_process import (
    ALPHA,
    BETA,
    DEADLINE_S,
    Process,
    bundle,
    follow_until,
    make_home,
)

pytestmark = pytest.mark.processes


async def test_a_bundle_is_ordered_proven_and_followed(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as process, process.client() as client:
        sent = Bundle(
            (Transaction(ALPHA, b"one"), Transaction(BETA, b"two"), Transaction(ALPHA, b"three")),
            await client.time_ms() + 30_000,
        )
        ordered = await client.submit(sent)
        assert ordered.placement.count == 3
        # The same again: the first receipt. Asked for: the same, with every transaction proven.
        assert await client.submit(sent) == ordered
        assert await client.placement(ordered.placement.bundle_id) == ordered
        assert await client.placement(ordered.placement.bundle_id, sent.valid_until_ms) == ordered
        blocks = await follow_until(client, home, ordered.placement.height + 2)
        assert [each.block.header.height for each in blocks] == [*range(1, ordered.placement.height + 3)]
        block = blocks[ordered.placement.height - 1].block
        alpha, beta = block.entries[ALPHA], block.entries[BETA]
        assert [(each.index, each.payload) for each in alpha] == [(0, b"one"), (2, b"three")]
        assert [(each.index, each.payload) for each in beta] == [(1, b"two")]
        assert {each.bundle_id for each in (*alpha, *beta)} == {ordered.placement.bundle_id}
        status = await client.status()
        assert (status.engine, status.read_only_reason, status.first_available_height) == ("embedded", "", 1)
        assert await client.genesis_bytes() == (home.path / "genesis.json").read_bytes()
        assert await process.stop() == 0


async def test_refusals_say_why(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as process, process.client() as client:
        time_ms = await client.time_ms()
        with pytest.raises(UnknownNamespace):
            await client.submit(bundle(b"x", time_ms=time_ms, namespace=Namespace("gamma")))
        with pytest.raises(Malformed, match="swap entry"):
            await client.submit(bundle(b"x", time_ms=time_ms, namespace=Namespace("_swap")))
        with pytest.raises(TooFarAhead):
            await client.submit(bundle(b"x", time_ms=time_ms, window_ms=700_000))
        late = bundle(b"x", time_ms=time_ms, window_ms=-1)
        with pytest.raises(Expired):
            await client.submit(late)
        with pytest.raises(NeverOrdered):
            await client.placement(bundle_id_of(home.genesis.chain_id, late), late.valid_until_ms)
        with pytest.raises(NotFound):
            await client.placement(bundle_id_of(home.genesis.chain_id, late))


async def test_a_height_that_is_not_there_yet_is_told_from_a_bad_one(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as process, process.client() as client:
        await follow_until(client, home, 2)
        async with connect(process.address, ClientSettings()) as channel:
            stub: sequencer_pb2_grpc.SequencerAsyncStub = sequencer_pb2_grpc.SequencerStub(channel)
            for height, namespaces, expected in (
                (1, ["alpha"], None),
                (1_000_000, [], NotYet),
                (0, [], Malformed),
                (2**63, [], Malformed),
                (1, ["alpha", "alpha"], Malformed),
                (1, ["Alpha"], Malformed),
                (1, [f"r{number}" for number in range(65)], Malformed),
            ):
                block = stub.GetBlock(
                    sequencer_pb2.GetBlockRequest(height=height, namespaces=namespaces), timeout=5
                )
                assert type(await error_of(block)) is (expected or type(None))
                stream = stub.StreamBlocks(
                    sequencer_pb2.StreamBlocksRequest(from_height=height, namespaces=namespaces), timeout=5
                )
                assert type(await error_of(stream.read())) is (expected or type(None))
                stream.cancel()


async def error_of(call: Awaitable[object]) -> LockstepError | None:
    try:
        await call
    except grpc.aio.AioRpcError as failure:
        return error_from_rpc(failure, peer="sequencer")
    return None


async def test_a_stream_orders_many_and_tells_of_each(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as process, process.client() as client:
        time_ms = await client.time_ms()
        async with client.stream() as stream:
            good = [bundle(b"payload %d" % number, time_ms=time_ms) for number in range(500)]
            bad = bundle(b"x", time_ms=time_ms, namespace=Namespace("gamma"))
            sends = [stream.submit(each) for each in (*good[:250], bad, *good[250:], good[0])]
            answers = await asyncio.gather(*sends, return_exceptions=True)
        assert isinstance(answers.pop(250), UnknownNamespace)
        ordered = [each for each in answers if isinstance(each, Ordered)]
        assert len(ordered) == 501
        assert ordered[0] == ordered[-1]
        places = [(each.placement.height, each.placement.first_index) for each in ordered[:-1]]
        assert places == sorted(set(places))
        blocks = await follow_until(client, home, places[-1][0])
        payloads = [entry.payload for each in blocks for entry in each.block.entries[ALPHA]]
        assert payloads == [b"payload %d" % number for number in range(500)]
        assert len({height for height, _ in places}) < 100


async def test_a_reader_that_stalls_gets_everything_later(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(30), Process(home) as process, process.client() as client:
        time_ms = await client.time_ms()
        following = client.follow(
            tip=home.start, namespaces=(ALPHA,), sequencer_key=lambda _: home.genesis.sequencer
        )
        first = await anext(following)
        # Far more than connections hold, while it does not read.
        big = [bundle(*[bytes([number]) * 65_536] * 4, time_ms=time_ms) for number in range(60)]
        async with client.stream() as stream:
            ordered = await asyncio.gather(*(stream.submit(each, timeout_ms=25_000) for each in big))
        newest = max(each.placement.height for each in ordered)
        heights, payload_bytes = [first.block.header.height], 0
        async for followed in following:
            heights.append(followed.block.header.height)
            payload_bytes += sum(len(each.payload) for each in followed.block.entries[ALPHA])
            if heights[-1] >= newest:
                break
        await following.aclose()
        assert heights == [*range(1, len(heights) + 1)]
        assert payload_bytes == len(big) * 4 * 65_536
