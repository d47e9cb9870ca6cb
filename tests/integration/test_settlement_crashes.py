"""The settlement log killed, restarted and robbed of its memory: what it signed, it keeps."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from bridge.settlement import writer
from bridge.settlement.client import Auditor, SettlementClient
from deploy.node import database, datadir
from deploy.node.seals import add_functions
from lockstep.checkpoint import Checkpoint, NoteVerifier, verify_checkpoint
from lockstep.errors import LockstepError, ReadOnly, ShuttingDown, UnavailablePeer
from lockstep.settlement_entries import GenesisEntry, encode_settlement_entry
from lockstep.signing import verify_raw
from lockstep.types import ChainId
from lockstep.v1 import settlement_pb2
from tests.integration.settlement_process import DEADLINE_S, Home, Process, make_home
from tests.unit.settlement.chain import GENESIS, ORIGIN, Chain, key_of

pytestmark = pytest.mark.processes

CHAIN = Chain()
RANGES = [CHAIN.range(height, height + 3) for height in range(1, 2_400, 4)]
LOG_KEY = NoteVerifier(ORIGIN, key_of("settlement").public_key)

POINTS = (
    writer.BEFORE_COMMIT,
    writer.COMMITTED,
    writer.STORED,
    writer.SIGNED,
    writer.PUBLISHED,
    database.COMMIT_BEFORE,
    database.COMMIT_AFTER,
    datadir.CELL_BEFORE,
    datadir.CELL_AFTER,
)


@pytest.fixture
def randomness() -> random.Random:
    """Random numbers; a failing test shows their seed, and LOCKSTEP_TEST_SEED repeats it."""
    seed = int(os.environ.get("LOCKSTEP_TEST_SEED", random.randrange(2**32)))
    sys.stdout.write(f"LOCKSTEP_TEST_SEED={seed}\n")
    return random.Random(seed)


class Witness:
    """Remembers everything that the log acknowledged and signed, over all its lives."""

    def __init__(self) -> None:
        self.acknowledged: dict[bytes, int] = {}
        self.signed: dict[int, bytes] = {}
        self.seen: Checkpoint | None = None

    def hear(self, note: bytes) -> None:
        """Keep a checkpoint; there may be only one of a size."""
        checkpoint = verify_checkpoint(note, LOG_KEY, verify=verify_raw)
        assert self.signed.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root

    async def send(self, process: Process, entries: Sequence[bytes], *, kill_after: int) -> None:
        """Stream entries in; kill the process once so many are acknowledged, if it does not die before."""
        async with process.stub() as stub:
            call = stub.AppendStream(self._requests(entries))
            try:
                async for response in call:
                    self.hear(response.checkpoint)
                    for outcome in response.outcomes:
                        assert outcome.HasField("index"), outcome
                        self.acknowledged[entries[outcome.correlation_id]] = outcome.index
                    if len(self.acknowledged) >= kill_after:
                        await process.end(signal.SIGKILL)
            except grpc.aio.AioRpcError as failure:
                if failure.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    async def _requests(self, entries: Sequence[bytes]):  # type: ignore[no-untyped-def]  # noqa: ANN202  # a generator
        for first in range(0, len(entries), 10):
            items = [
                settlement_pb2.AppendItem(correlation_id=place, entry=entries[place])
                for place in range(first, min(first + 10, len(entries)))
            ]
            yield settlement_pb2.AppendStreamRequest(items=items)

    async def verify(self, process: Process) -> None:
        """Check a process that came back: it has all it acknowledged and extends all it signed."""
        async with SettlementClient(process.address, GENESIS, seen=self.seen) as client:
            checkpoint = await client.checkpoint()
            auditor = Auditor(GENESIS)
            async for index, entry in client.entries():
                auditor.add(entry)
                if auditor.size in self.signed:
                    assert self.signed[auditor.size] == auditor.root
                if entry in self.acknowledged:
                    assert self.acknowledged[entry] == index
                if auditor.size == checkpoint.size:
                    break
            auditor.verify(checkpoint)
            assert max(self.acknowledged.values(), default=0) < checkpoint.size
            assert max(self.signed, default=0) <= checkpoint.size
            self.seen = client.seen


async def test_killed_under_load_again_and_again(tmp_path: Path, randomness: random.Random) -> None:
    home, witness = make_home(tmp_path), Witness()
    async with asyncio.timeout(4 * DEADLINE_S):
        while len(witness.acknowledged) < len(RANGES):
            async with Process(home) as process:
                await witness.verify(process)
                kill_after = len(witness.acknowledged) + randomness.randrange(1, 250)
                await witness.send(process, RANGES, kill_after=min(kill_after, len(RANGES)))
        async with Process(home) as process:
            await witness.verify(process)
            assert process.ready["size"] == len(RANGES) + 1


@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_point(tmp_path: Path, point: str, hit: int) -> None:
    home, witness = make_home(tmp_path), Witness()
    async with asyncio.timeout(DEADLINE_S):
        process = Process(home, {"LOCKSTEP_FAILPOINTS": f"{point}=kill@{hit}"})
        if await process.start():
            for entry in RANGES[:3]:
                await witness.send(process, [entry], kill_after=len(RANGES))
        assert await process.wait() == -signal.SIGKILL
        async with Process(home) as process:
            await witness.verify(process)
            await witness.send(process, RANGES[:10], kill_after=len(RANGES))
            await witness.verify(process)
            assert len(witness.acknowledged) == 10


@pytest.mark.parametrize("point", [database.COMMIT_BEFORE, datadir.CELL_BEFORE])
async def test_a_disk_that_fails_ends_the_process_and_nothing_is_acknowledged(
    tmp_path: Path, point: str
) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        async with Process(home, {"LOCKSTEP_FAILPOINTS": f"{point}=error@2"}) as process:
            async with process.client() as client:
                with pytest.raises((ShuttingDown, UnavailablePeer)):
                    await client.append(RANGES[0], timeout_ms=300)
            assert await process.wait() == 4
        async with Process(home) as process, process.client() as client:
            assert await client.append(RANGES[0]) == 1


async def test_stopped_under_load_it_answers_what_it_took(tmp_path: Path) -> None:
    home, witness = make_home(tmp_path), Witness()
    async with asyncio.timeout(DEADLINE_S):
        async with Process(home) as process:
            sending = asyncio.create_task(witness.send(process, RANGES, kill_after=len(RANGES) + 1))
            async with process.client() as client:
                while (await client.checkpoint()).size < 20:
                    pass
            assert await process.end(signal.SIGTERM) == 0
            await sending
        async with Process(home) as process:
            await witness.verify(process)
            assert len(witness.acknowledged) >= 19


# --- amnesia ----------------------------------------------------------------------------------------------


async def grown(home: Home, sizes: Sequence[int]) -> list[Path]:
    """Grow a log to some sizes, and return a copy of its database at each."""
    copies = []
    for size in sizes:
        async with Process(home) as process:
            async with process.client() as client:
                for entry in RANGES[: size - 1]:
                    await client.append(entry)
            assert await process.end(signal.SIGTERM) == 0
        copies.append(home.path / f"copy-{size}")
        shutil.copy(home.database, copies[-1])
    return copies


def put_back(home: Home, copy: Path | None) -> None:
    """Replace the database by a copy, or by nothing."""
    for file in home.database.parent.glob("settlement.sqlite*"):
        file.unlink()
    if copy is not None:
        shutil.copy(copy, home.database)


async def is_read_only(process: Process, client: SettlementClient) -> str:
    """Check that nothing is appended, and return why."""
    with pytest.raises(ReadOnly) as refusal:
        await client.append(RANGES[0])
    assert process.ready["read_only"] == refusal.value.reason
    assert "put back" in refusal.value.advice
    return refusal.value.reason


async def test_a_log_that_lost_entries_serves_what_it_has_and_signs_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        old, new = await grown(home, [3, 6])
        put_back(home, old)
        cell = home.cell.read_bytes()
        async with Process(home) as process, process.client() as client, process.stub() as stub:
            reason = await is_read_only(process, client)
            assert reason == "a checkpoint of 6 entries was signed, the database has 3"
            # It says no other thing than it said before, and shows what it still has.
            assert (await client.checkpoint()).size == 6
            response = await stub.GetInclusionProof(settlement_pb2.GetInclusionProofRequest(index=1, size=3))
            assert response.entry == RANGES[0]
            stream = stub.StreamEntries(settlement_pb2.StreamEntriesRequest())
            first = await stream.read()
            assert isinstance(first, settlement_pb2.StreamEntriesResponse)
            assert list(first.entries[1:]) == RANGES[:2]
            for call in (client.anchor(4), client.entry(1), anext(client.entries())):
                with pytest.raises(ReadOnly):
                    await call
        assert home.cell.read_bytes() == cell
        put_back(home, new)
        async with Process(home) as process, process.client() as client:
            assert await client.append(RANGES[5]) == 6


async def test_a_log_that_lost_its_database_does_not_start_anew(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        await grown(home, [3])
        put_back(home, None)
        async with Process(home) as process, process.client() as client:
            assert "the database has 0" in await is_read_only(process, client)
            assert (await client.checkpoint()).size == 3


async def test_a_log_whose_entries_changed_signs_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        await grown(home, [4])
        change(home, "UPDATE entries SET entry = ? WHERE position = 2", RANGES[200])
        async with Process(home) as process, process.client() as client:
            assert "are not those" in await is_read_only(process, client)


async def test_what_was_committed_but_not_signed_is_kept(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        await grown(home, [4])
        change(home, "INSERT INTO entries (position, entry, seal) VALUES (4, ?, x'')", RANGES[3])
        async with Process(home) as process, process.client() as client:
            assert process.ready["size"] == 5
            assert await client.append(RANGES[4]) == 5


def change(home: Home, statement: str, entry: bytes) -> None:
    """Change the database behind the log's back, as somebody who seals it again."""
    connection = sqlite3.connect(home.database)
    add_functions(connection)
    with connection:
        connection.execute(statement, (entry,))
        connection.execute("UPDATE entries SET seal = seal(position, entry)")
    connection.close()


async def exit_code(home: Home) -> tuple[int, str]:
    """Start a log that must not get ready, and return its exit code and log."""
    process = Process(home)
    assert await process.start() == ""
    return await process.wait(), process.log()


async def test_what_does_not_belong_together_does_not_start(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        await grown(home, [3])
        make_home(tmp_path, key="a0")
        code, log = await exit_code(home)
        assert (code, "is not this log's" in log) == (2, True)
        make_home(tmp_path)
        cell = home.cell.read_bytes()
        home.cell.unlink()
        code, log = await exit_code(home)
        assert (code, "last_checkpoint is gone" in log) == (5, True)
        home.cell.write_bytes(cell)
        other = encode_settlement_entry(GenesisEntry(ChainId(b"\x77" * 32), ORIGIN))
        change(home, "UPDATE entries SET entry = ? WHERE position = 0", other)
        code, log = await exit_code(home)
        assert (code, "another network" in log) == (5, True)


async def test_two_processes_do_not_share_the_data(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as first:
        code, _ = await exit_code(home)
        assert code == 3
        async with first.client() as client:
            assert await client.append(RANGES[0]) == 1


def test_errors_that_clients_wait_out_are_retryable() -> None:
    """The crash tests above pass errors on; these are the ones that a client repeats."""
    errors: tuple[LockstepError, ...] = (ShuttingDown(), UnavailablePeer(peer="x"))
    assert all(error.retryable for error in errors)
    assert not ReadOnly(reason="x", advice="x").retryable
