"""The sequencer killed, at random and at every named point: what was acknowledged keeps its place."""

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from lockstep.errors import ReadOnly, ShuttingDown, TimedOut, UnavailablePeer
from lockstep.header import Tip, tip_of
from lockstep.order import Bundle
from sequencer.client import FollowedBlock, Ordered, SequencerClient
from tests.integration.sequencer_process import (
    ALPHA,
    BETA,
    DEADLINE_S,
    GENESIS_TIME_MS,
    SETTLEMENT_SEED,
    Home,
    Process,
    bundle,
    follow_until,
    free_port,
    make_home,
)

pytestmark = pytest.mark.processes

POINTS = (
    "sequencer.block.before_commit",
    "database.commit.before",
    "database.commit.after",
    "sequencer.block.committed",
    "cell.store.before",
    "cell.store.after",
    "sequencer.block.recorded",
    "sequencer.block.signed",
    "sequencer.block.published",
    "sequencer.submit.before_ack",
)
"""Every point that one block passes, in order."""


class Load:
    """Submits without pause, and keeps what was sent and what was acknowledged."""

    def __init__(self, client: SequencerClient) -> None:
        self.sent: list[Bundle] = []
        self.acknowledged: list[tuple[Bundle, Ordered]] = []
        self._client = client

    @asynccontextmanager
    async def running(self, submitters: int = 8) -> AsyncIterator[None]:
        async with self._client.stream() as stream, asyncio.TaskGroup() as tasks:

            async def submit() -> None:
                while True:
                    # Bundles of one transaction are accepted many at once, others one by one.
                    more = (b"and more",) if len(self.sent) % 3 == 0 else ()
                    each = bundle(b"payload %d" % len(self.sent), *more, time_ms=GENESIS_TIME_MS + 60_000)
                    self.sent.append(each)
                    self.acknowledged.append((each, await stream.submit(each, timeout_ms=DEADLINE_S * 1_000)))

            running = [tasks.create_task(submit()) for _ in range(submitters)]
            yield
            for task in running:
                task.cancel()

    def check(self, blocks: list[FollowedBlock]) -> None:
        """Check that everything acknowledged stands where it was said, once, with its bytes."""
        entries = {
            (each.block.header.height, entry.index): entry
            for each in blocks
            for entry in each.block.entries[ALPHA]
        }
        headers = {each.block.header.height: each.header for each in blocks}
        for sent, ordered in self.acknowledged:
            placement = ordered.placement
            assert ordered.header == headers[placement.height]
            for position, (_, payload) in enumerate(sent.transactions):
                entry = entries[placement.height, placement.first_index + position]
                assert (entry.payload, entry.bundle_id) == (payload, placement.bundle_id)
        first = [entry.bundle_id for entry in entries.values() if entry.index == entry.first_index]
        assert len(first) == len(set(first)), "a bundle was ordered twice"
        assert {entry.payload for entry in entries.values()} <= {
            payload for each in self.sent for _, payload in each.transactions
        }


class Follower:
    """Follows the chain through every crash."""

    def __init__(self, client: SequencerClient, home: Home) -> None:
        self.blocks: list[FollowedBlock] = []
        self._client = client
        self._home = home

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def follow() -> None:
            async for followed in self._client.follow(
                tip=self._home.start,
                namespaces=(ALPHA, BETA),
                sequencer_key=lambda _: self._home.genesis.sequencer,
            ):
                self.blocks.append(followed)

        task = asyncio.create_task(follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def reaches(self, height: int) -> None:
        while len(self.blocks) < height:  # noqa: ASYNC110  # what is waited for happens in gRPC
            await asyncio.sleep(0.005)


async def more(load: Load, count: int) -> None:
    wanted = len(load.acknowledged) + count
    while len(load.acknowledged) < wanted:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.005)


async def test_killed_under_load_it_keeps_every_place(tmp_path: Path) -> None:
    home = make_home(tmp_path, port=free_port())
    randomness = random.Random(7)
    async with asyncio.timeout(60):
        process = Process(home)
        await process.__aenter__()
        async with process.client() as client:
            load, follower = Load(client), Follower(client, home)
            async with follower.running(), load.running():
                for _ in range(4):
                    await more(load, randomness.randrange(5, 60))
                    await process.kill()
                    process = Process(home)
                    await process.__aenter__()
                await more(load, 20)
            newest = load.acknowledged[-1][1].placement.height
            blocks = await follow_until(client, home, newest)
            load.check(blocks)
            # What the follower was shown before and between the crashes is what stands there now.
            shared = min(len(blocks), len(follower.blocks))
            assert [each.header for each in follower.blocks[:shared]] == [
                each.header for each in blocks[:shared]
            ]
            assert await process.stop() == 0


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_point_it_goes_on_from_there(tmp_path: Path, point: str) -> None:
    home = make_home(tmp_path, port=free_port())
    async with (
        asyncio.timeout(60),
        Process(home, {"LOCKSTEP_FAILPOINTS": f"{point}=kill@4"}) as doomed,
        doomed.client() as client,
    ):
        load, follower = Load(client), Follower(client, home)
        async with follower.running(), AsyncExitStack() as stack:
            async with load.running(submitters=2):
                assert await doomed.wait() == -9
                await stack.enter_async_context(Process(home))
                await more(load, 10)
            newest = load.acknowledged[-1][1].placement.height
            blocks = await follow_until(client, home, newest)
            load.check(blocks)
            await follower.reaches(newest)
            assert [each.header for each in follower.blocks[:newest]] == [each.header for each in blocks]


async def test_an_outage_expires_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        async with Process(home) as process, process.client() as client:
            [*_, last] = await follow_until(client, home, 3)
            await process.stop()
        async with Process(home) as process, process.client() as client:
            tip = tip_of(last.block.header, last.block.hash)
            blocks = await follow_until(client, home, 20, tip=tip)
            times = [tip.time_ms, *(each.block.header.time_ms for each in blocks)]
            assert 1 in {after - before for before, after in pairwise(times)}
            assert times[-1] < tip.time_ms + 2_000


async def test_it_remembers_after_a_clean_and_an_unclean_stop(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    sent, receipts = None, []
    async with asyncio.timeout(DEADLINE_S):
        for end in ("stop", "kill", "stop"):
            async with Process(home) as process, process.client() as client:
                sent = sent or bundle(b"once", time_ms=await client.time_ms())
                receipts.append(await client.submit(sent))
                await (process.stop() if end == "stop" else process.kill())
    assert receipts[0] == receipts[1] == receipts[2]


async def test_a_failing_disk_ends_it_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    point = {"LOCKSTEP_FAILPOINTS": "database.commit.before=enospc@3"}
    async with asyncio.timeout(DEADLINE_S), Process(home, point) as process, process.client() as client:
        calls = [
            client.submit(bundle(b"%d" % number, time_ms=GENESIS_TIME_MS), timeout_ms=800)
            for number in range(20)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert await process.wait() == 4
        assert {type(each) for each in answers} <= {Ordered, UnavailablePeer, ShuttingDown, TimedOut}
        assert "StorageFailed" in process.log()


async def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as process, process.client() as client:
        second = Process(home)
        assert await second.start() == ""
        assert await second.wait() == 3
        assert "DataLocked" in second.log()
        await client.submit(bundle(b"x", time_ms=await client.time_ms()))


async def test_a_key_that_is_not_the_chains_is_refused(tmp_path: Path) -> None:
    stranger = Process(make_home(tmp_path, seed=SETTLEMENT_SEED))
    assert await stranger.start() == ""
    assert await stranger.wait() == 2
    assert "is not this chain's" in stranger.log()


def copy_ledger(home: Home, to: Path) -> None:
    for file in home.data.glob("ledger.sqlite*"):
        shutil.copy(file, to)


async def advance(home: Home, bundles: int) -> Tip:
    """Run a sequencer for a while and return where it stood."""
    async with Process(home) as process, process.client() as client:
        ordered: Ordered | None = None
        for number in range(bundles):
            ordered = await client.submit(
                bundle(os.urandom(8), b"%d" % number, time_ms=await client.time_ms())
            )
        assert ordered is not None
        [*_, last] = await follow_until(client, home, ordered.placement.height)
        await process.stop()
        return tip_of(last.block.header, last.block.hash)


async def test_restored_from_an_older_copy_it_serves_and_orders_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    async with asyncio.timeout(DEADLINE_S):
        older = await advance(home, 3)
        copy_ledger(home, copy)
        newer = await advance(home, 3)
        for file in home.data.glob("ledger.sqlite*"):
            file.unlink()
        shutil.copytree(copy, home.data, dirs_exist_ok=True)
        async with Process(home) as process, process.client() as client:
            status = await client.status()
            assert f"ends at {status.height}" in status.read_only_reason
            assert older.height <= status.height < newer.height
            assert len(await follow_until(client, home, older.height)) == older.height
            with pytest.raises(ReadOnly, match="put back"):
                await client.submit(bundle(b"x", time_ms=status.time_ms))
            assert (await client.status()).height == status.height
            assert await process.stop() == 0


async def test_without_its_database_it_orders_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with asyncio.timeout(DEADLINE_S):
        await advance(home, 1)
        for file in home.data.glob("ledger.sqlite*"):
            file.unlink()
        async with Process(home) as process, process.client() as client:
            with pytest.raises(ReadOnly, match="ends at 0"):
                await client.submit(bundle(b"x", time_ms=GENESIS_TIME_MS))
            assert (await client.status()).head is None
            assert await process.stop() == 0


async def test_calls_that_are_cancelled_leave_blocks_whole(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    slow = {"LOCKSTEP_FAILPOINTS": "database.commit.before=delay(150)"}
    async with asyncio.timeout(DEADLINE_S), Process(home, slow) as process, process.client() as client:
        time_ms = await client.time_ms()
        bundles = [bundle(b"%d" % number, b"and", b"more", time_ms=time_ms) for number in range(40)]
        calls = [asyncio.create_task(client.submit(each)) for each in bundles]
        while (await client.status()).live_bundle_ids < len(bundles):
            # What is waited for happens in the other process.
            assert not any(call.done() for call in calls)
        for call in calls[::2]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert any(call.cancelled() for call in calls)
        # The same bundles again get one place each, whatever became of the first calls.
        ordered = await asyncio.gather(*map(client.submit, bundles))
        again = await asyncio.gather(*map(client.submit, bundles))
        assert ordered == again
        for call, receipt in zip(calls, ordered, strict=True):
            assert call.cancelled() or call.result() == receipt
        blocks = await follow_until(client, home, max(each.placement.height for each in ordered))
        for each in blocks:
            entries = each.block.entries[ALPHA]
            assert len(entries) == each.block.header.transaction_count
            assert [entry.index for entry in entries] == [*range(len(entries))]
        total = sum(each.block.header.transaction_count for each in blocks)
        assert total == 3 * len(bundles)
