"""The settlement log as a process: what it appends, proves and streams, and that other tools agree."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint as OtherCheckpoint
from tlog_scales.tlog import ConsistencyProof, InclusionProof

from bridge.settlement.client import Auditor, SettlementClient, SettlementStatus
from deploy.node.client import error_from_rpc
from lockstep.checkpoint import Checkpoint, encode_checkpoint, sign_note, vkey
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    LockstepError,
    Malformed,
    NotFound,
    NotYet,
    UnknownKey,
)
from lockstep.merkle import leaf_hash
from lockstep.settlement_log import genesis_entry
from lockstep.v1 import settlement_pb2
from tests.integration.settlement_process import DEADLINE_S, Process, make_home
from tests.unit.settlement.chain import GENESIS, ORIGIN, Chain, key_of

pytestmark = pytest.mark.processes

CHAIN, FORK = Chain(), Chain(fork=1)
RANGES = [CHAIN.range(height, height + 3) for height in range(1, 200, 4)]


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[tuple[Process, SettlementClient]]:
    """Give a new log and a client of it."""
    async with asyncio.timeout(DEADLINE_S), Process(make_home(path)) as process, process.client() as client:
        yield process, client


async def take(entries: AsyncIterator[tuple[int, bytes]], count: int) -> list[tuple[int, bytes]]:
    """Return the next entries of a stream."""
    return [await anext(entries) for _ in range(count)]


async def raised(call: Awaitable[object]) -> LockstepError:
    """Return the error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return error_from_rpc(failure.value, peer="the log")


async def test_a_new_log_holds_its_genesis_entry(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, client):
        assert await client.status() == SettlementStatus(1, 0, GENESIS.chain_id, {}, 0)
        assert await client.entry(0) == genesis_entry(GENESIS)
        assert (await client.checkpoint()).root == leaf_hash(genesis_entry(GENESIS))


async def test_entries_are_appended_once_and_anchored(tmp_path: Path) -> None:
    first, second = CHAIN.commitment("a0", 4), CHAIN.commitment("a1", 4)
    async with running(tmp_path) as (_, client):
        indexes = [await client.append(each) for each in (RANGES[0], first, second, RANGES[1])]
        assert indexes == [1, 2, 3, 4]
        assert [await client.append(each) for each in (RANGES[1], second, RANGES[0])] == [4, 3, 1]
        status = await client.status()
        assert (status.size, status.anchored_height, status.anchored_hash) == (5, 8, CHAIN.hash(8))
        anchored = status.rollups["alpha"]
        assert (anchored.height, anchored.index) == (4, 3)
        for height, index in ((1, 1), (4, 1), (5, 4), (8, 4)):
            anchor = await client.anchor(height)
            assert (anchor.index, anchor.entry) == (index, RANGES[(height - 1) // 4])
        anchor = await client.anchor(4, "alpha")
        assert (anchor.index, anchor.entry) == (3, second)
        with pytest.raises(NotYet):
            await client.anchor(9, timeout_ms=300)
        with pytest.raises(NotYet):
            await client.anchor(8, "alpha", timeout_ms=300)
        with pytest.raises(NotYet):
            await client.anchor(4, "beta", timeout_ms=300)
        with pytest.raises(NotFound):
            await client.anchor(3, "alpha")
        with pytest.raises(NotFound):
            await client.anchor(4, "gamma")


async def test_what_the_rules_refuse(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, client):
        await client.append(RANGES[0])
        await client.append(CHAIN.commitment("b0", 4))
        with pytest.raises(Malformed):
            await client.append(b"\x01\x02nonsense")
        with pytest.raises(BadSignature):
            await client.append(Chain(sequencer="a0").range(5, 8))
        with pytest.raises(Discontinuous):
            await client.append(RANGES[2])
        with pytest.raises(UnknownKey):
            await client.append(CHAIN.commitment("x", 4))
        with pytest.raises(NotYet):
            await client.append(CHAIN.commitment("a0", 8), timeout_ms=300)
        assert (await client.status()).size == 3
        for _ in range(2):
            with pytest.raises(Contradiction, match="entry 3"):
                await client.append(FORK.range(1, 4))
            with pytest.raises(Contradiction, match="entry 4"):
                await client.append(CHAIN.commitment("b0", 4, state=1))
        status = await client.status()
        assert (status.size, status.evidence_count) == (5, 2)


async def test_a_register_root_that_differs_is_evidence_and_hinders_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, client):
        await client.append(RANGES[0])
        await client.append(CHAIN.commitment("a0", 4, register=1))
        assert await client.append(CHAIN.commitment("b0", 4)) == 3
        status = await client.status()
        assert (status.size, status.evidence_count, status.rollups["beta"].index) == (5, 1, 3)


async def test_many_at_a_time_are_committed_together_and_keep_their_order(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, client):
        indexes = await asyncio.gather(*(client.append(each) for each in RANGES[:1] * 20))
        assert set(indexes) == {1}
        await client.append(RANGES[1])
        names = ("a0", "a1", "a2", "b0")
        posted = [CHAIN.commitment(name, 4) for name in names]
        indexes = await asyncio.gather(*(client.append(each) for each in posted))
        assert sorted(indexes) == [3, 4, 5, 6]


async def test_a_stream_answers_each_item_in_order_and_stays_open(tmp_path: Path) -> None:
    entries = [*RANGES[:3], b"nonsense", RANGES[2], RANGES[4], FORK.range(1, 4), RANGES[3]]
    async with running(tmp_path) as (process, client), process.stub() as stub:
        call = stub.AppendStream()
        items = [
            settlement_pb2.AppendItem(correlation_id=100 + i, entry=each) for i, each in enumerate(entries)
        ]
        await call.write(settlement_pb2.AppendStreamRequest(items=items[:2]))
        await call.write(settlement_pb2.AppendStreamRequest(items=items[2:]))
        outcomes = await read_outcomes(call, len(entries))
        assert [each.correlation_id for each in outcomes] == list(range(100, 108))
        answers = [each.error.code if each.HasField("error") else each.index for each in outcomes]
        assert answers == [1, 2, 3, "MALFORMED", 3, "DISCONTINUOUS", "CONTRADICTION", 5]
        assert not outcomes[5].error.retryable
        # The same ids again, now that they are answered.
        await call.write(settlement_pb2.AppendStreamRequest(items=items[:2]))
        assert [each.index for each in await read_outcomes(call, 2)] == [1, 2]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert (await client.checkpoint()).size == 6


async def read_outcomes(
    call: grpc.aio.StreamStreamCall[settlement_pb2.AppendStreamRequest, settlement_pb2.AppendStreamResponse],
    count: int,
) -> Sequence[settlement_pb2.AppendOutcome]:
    """Read outcomes, each covered by the checkpoint that it comes with."""
    outcomes: list[settlement_pb2.AppendOutcome] = []
    while len(outcomes) < count:
        response = await call.read()
        assert isinstance(response, settlement_pb2.AppendStreamResponse)
        outcomes += response.outcomes
        size = OtherCheckpoint.from_text(response.checkpoint.decode()).size
        assert all(each.index < size for each in response.outcomes)
    return outcomes


@pytest.mark.parametrize("ids", [[7, 7], []])
async def test_a_stream_that_breaks_the_schemas_bounds_ends(tmp_path: Path, ids: list[int]) -> None:
    async with running(tmp_path) as (process, _), process.stub() as stub:
        items = [settlement_pb2.AppendItem(correlation_id=each, entry=RANGES[0]) for each in ids]

        async def requests() -> AsyncIterator[settlement_pb2.AppendStreamRequest]:
            yield settlement_pb2.AppendStreamRequest(items=items)

        call = stub.AppendStream(requests())
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            async for _response in call:
                pass
        assert isinstance(error_from_rpc(failure.value, peer=""), Malformed)


async def test_entries_stream_from_disk_and_then_live(tmp_path: Path) -> None:
    async with running(tmp_path) as (process, client):
        for each in RANGES[:5]:
            await client.append(each)
        async with process.client() as reader:
            async with aclosing(reader.entries()) as entries, aclosing(reader.entries(4)) as later:
                old = await take(entries, 6)
                assert old == list(enumerate([genesis_entry(GENESIS), *RANGES[:5]]))
                assert await take(later, 2) == old[4:]
                live = [asyncio.create_task(take(each, 10)) for each in (entries, later)]
                for each in RANGES[5:15]:
                    await client.append(each)
                assert [await each for each in live] == [list(enumerate(RANGES[5:15], 6))] * 2
            assert reader.seen.size == 16
            # From the very end: only what comes.
            async with aclosing(reader.entries(16)) as newest:
                task = asyncio.create_task(take(newest, 1))
                await client.append(RANGES[15])
                assert await task == [(16, RANGES[15])]


async def test_a_stream_resumes_over_a_restart(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as first, first.client() as client:
        await client.append(RANGES[0])
        port = int(first.address.rpartition(":")[2])
        async with aclosing(client.entries()) as entries:
            assert len(await take(entries, 2)) == 2
            waiting = asyncio.create_task(take(entries, 2))
            assert await first.end(signal.SIGTERM) == 0
            make_home(tmp_path, port=port)
            async with Process(home):
                assert await client.append(RANGES[1]) == 2
                assert await client.append(RANGES[2]) == 3
                assert await waiting == [(2, RANGES[1]), (3, RANGES[2])]


async def test_bounds_of_proofs_and_streams(tmp_path: Path) -> None:
    async with running(tmp_path) as (process, client), process.stub() as stub:
        await client.append(RANGES[0])
        for error, call in (
            (NotYet, stub.GetInclusionProof(settlement_pb2.GetInclusionProofRequest(index=2))),
            (NotYet, stub.GetInclusionProof(settlement_pb2.GetInclusionProofRequest(index=0, size=3))),
            (Malformed, stub.GetInclusionProof(settlement_pb2.GetInclusionProofRequest(index=1, size=1))),
            (NotYet, stub.GetConsistencyProof(settlement_pb2.GetConsistencyProofRequest(old_size=3))),
            (NotYet, stub.GetConsistencyProof(settlement_pb2.GetConsistencyProofRequest(new_size=3))),
            (
                Malformed,
                stub.GetConsistencyProof(settlement_pb2.GetConsistencyProofRequest(old_size=2, new_size=1)),
            ),
            (Malformed, stub.GetAnchor(settlement_pb2.GetAnchorRequest(height=0))),
            (Malformed, stub.GetAnchor(settlement_pb2.GetAnchorRequest(height=2**63))),
            (Malformed, stub.GetAnchor(settlement_pb2.GetAnchorRequest(height=1, rollup="A/b"))),
        ):
            assert isinstance(await raised(call), error)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            async for _ in stub.StreamEntries(settlement_pb2.StreamEntriesRequest(from_index=3)):
                pass
        assert isinstance(error_from_rpc(failure.value, peer=""), NotYet)


async def test_an_auditor_and_another_log_library_agree(tmp_path: Path) -> None:
    """tlog-scales verifies our checkpoints and proofs, as they come from the running process."""
    key = Vkey.from_string(vkey(ORIGIN, key_of("settlement").public_key))
    async with running(tmp_path) as (process, client), process.stub() as stub:
        notes = [(await client.signed_checkpoint())[1]]
        for each in (RANGES[0], CHAIN.commitment("a0", 4), CHAIN.commitment("b0", 4), *RANGES[1:6]):
            await client.append(each)
            notes.append((await client.signed_checkpoint())[1])
        checkpoints = [OtherCheckpoint.from_text(note.decode()) for note in notes]
        for checkpoint in checkpoints:
            checkpoint.verify(key)
        for old in checkpoints:
            for new in checkpoints[old.size - 1 :]:
                response = await stub.GetConsistencyProof(
                    settlement_pb2.GetConsistencyProofRequest(old_size=old.size, new_size=new.size)
                )
                proof = ConsistencyProof(old.size, new.size, list(response.hashes))
                proof.check(old.root_hash, new.root_hash)
        newest = checkpoints[-1]
        auditor = Auditor(GENESIS)
        for index in range(newest.size):
            shown = await stub.GetInclusionProof(
                settlement_pb2.GetInclusionProofRequest(index=index, size=newest.size)
            )
            inclusion = InclusionProof(index, newest.size, list(shown.proof.hashes))
            inclusion.check(leaf_hash(shown.entry), newest.root_hash)
            auditor.add(shown.entry)
        auditor.verify(Checkpoint(ORIGIN, newest.size, newest.root_hash))


async def test_a_client_refuses_a_log_that_does_not_extend_what_it_saw(tmp_path: Path) -> None:
    async with running(tmp_path) as (process, client):
        await client.append(RANGES[0])
        real = await client.checkpoint()
        for seen in (
            Checkpoint(ORIGIN, 2, b"\x01" * 32),
            Checkpoint(ORIGIN, 1, b"\x01" * 32),
            Checkpoint(ORIGIN, 3, real.root),
        ):
            async with SettlementClient(process.address, GENESIS, seen=seen) as follower:
                with pytest.raises(Contradiction):
                    await follower.checkpoint()
                with pytest.raises(Contradiction):
                    await follower.append(RANGES[1])
                with pytest.raises(Contradiction):
                    await anext(follower.entries())
                assert follower.seen == seen
        await client.append(RANGES[1])
        async with SettlementClient(process.address, GENESIS, seen=real) as follower:
            assert await follower.checkpoint() == await client.checkpoint() != real
        strange = key_of("a0").public_key
        async with SettlementClient(process.address, GENESIS, log_key=lambda: strange) as follower:
            with pytest.raises(BadSignature):
                await follower.checkpoint()


def test_what_signs_here_signs_for_other_tools() -> None:
    """The interop test would pass vacuously if the other library verified anything."""
    key = key_of("a0")
    note = sign_note(
        encode_checkpoint(ORIGIN, 1, bytes(32)), name=ORIGIN, public_key=key.public_key, sign=key.sign_raw
    )
    other = Vkey.from_string(vkey(ORIGIN, key_of("settlement").public_key))
    with pytest.raises(RuntimeError):
        OtherCheckpoint.from_text(note.decode()).verify(other)
