"""The writer with a real database: batches, answers, bounds, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.settlement.__main__ import load_log
from bridge.settlement.amnesia import LastSigned, decode_last_signed
from bridge.settlement.feed import Feed
from bridge.settlement.store import PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Store, open_store
from bridge.settlement.writer import BATCH_ENTRIES_MAX, Writer
from deploy.node.datadir import DurableCell
from deploy.node.failures import StorageFailed
from lockstep.attesters import AttesterSet
from lockstep.checkpoint import key_id, parse_checkpoint, parse_note
from lockstep.errors import QueueFull, ReadOnly
from lockstep.merkle import AppendTree
from lockstep.registry_entries import RotateKey, SetAttesters
from lockstep.settlement_log import genesis_entry, read_candidate
from lockstep.signing import SigningKey
from tests.unit.settlement.chain import GENESIS, Chain, key_of, registration

CHAIN = Chain()
RANGES = [CHAIN.range(height, height + 3) for height in range(1, 80, 4)]
FIRST = read_candidate(genesis_entry(GENESIS))


class Opened:
    """A writer and what it writes to."""

    def __init__(self, store: Store, cell: DurableCell, tree: AppendTree, writer: Writer, feed: Feed) -> None:
        self.store = store
        self.cell = cell
        self.tree = tree
        self.writer = writer
        self.feed = feed

    def submit(self, *entries: bytes) -> list[asyncio.Future[object]]:
        return [self.writer.submit(read_candidate(each)) for each in entries]  # type: ignore[misc]

    async def run_to_the_end(self) -> None:
        self.writer.stop()
        async with asyncio.timeout(10):
            await self.writer.run()


@asynccontextmanager
async def opened(
    path: Path,
    *,
    refusal: ReadOnly | None = None,
    entries_max: int = 100,
    bytes_max: int = 10**6,
    key: SigningKey | None = None,
) -> AsyncIterator[Opened]:
    async with open_store(path / "log.sqlite") as store:
        with DurableCell(path / "cell") as cell:
            tree, log = await load_log(store, GENESIS)
            value = cell.load()
            signed = None if value is None else decode_last_signed(value)
            writer = Writer(
                store=store,
                cell=cell,
                key=key or key_of("settlement"),
                tree=tree,
                log=log,
                entries_max=entries_max,
                bytes_max=bytes_max,
            )
            feed = await writer.start(FIRST, signed, refusal)
            yield Opened(store, cell, tree, writer, feed)


async def test_what_was_submitted_before_the_stop_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        answers = log.submit(*RANGES[:3])
        await log.run_to_the_end()
        assert [await each for each in answers] == [1, 2, 3]
        value = log.cell.load()
        assert value is not None
        assert decode_last_signed(value) == LastSigned(4, log.tree.root())
        checkpoint = parse_checkpoint(parse_note(log.feed.newest.note).body)
        assert checkpoint == log.feed.newest.checkpoint
        assert (checkpoint.size, checkpoint.root) == (4, log.tree.root())


async def test_what_waits_is_signed_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as log:
        stored: list[bytes] = []
        monkeypatch.setattr(log.cell, "store", stored.append)
        log.submit(*RANGES[:10])
        await log.run_to_the_end()
        assert len(stored) == 1


async def test_nothing_new_is_signed_for_what_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        first = log.submit(RANGES[0], RANGES[0])
        await log.run_to_the_end()
        note = log.feed.newest.note
        again = log.submit(RANGES[0], RANGES[4])
        await log.run_to_the_end()
        assert [await each for each in (*first, again[0])] == [1, 1, 1]
        assert log.feed.newest.note is note


async def test_entries_of_one_batch_are_judged_behind_each_other(tmp_path: Path) -> None:
    """Names that a batch takes are known within it; so is the registry after a registration."""
    action = SetAttesters(AttesterSet(2, tuple(key_of(name).public_key for name in ("b1", "b2", "b3"))))
    change = registration(action, subject="beta", effective=2)
    commitments = [CHAIN.commitment(name, 4, rollup="beta") for name in ("b1", "b2")]
    async with opened(tmp_path) as log:
        answers = log.submit(change, RANGES[0], *commitments, CHAIN.commitment("b1", 4, rollup="beta"))
        await log.run_to_the_end()
        assert [await each for each in answers] == [1, 2, 3, 4, 3]
        assert log.feed.newest.log.anchored["beta"].index == 4  # type: ignore[index]  # a rollup's id


async def test_a_caller_that_left_hinders_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        first, second = log.submit(*RANGES[:2])
        first.cancel()
        await log.run_to_the_end()
        assert await second == 2


async def test_the_queue_is_bounded_in_entries(tmp_path: Path) -> None:
    async with opened(tmp_path, entries_max=3) as log:
        log.submit(*RANGES[:3])
        with pytest.raises(QueueFull):
            log.submit(RANGES[3])
        await log.run_to_the_end()
        log.submit(*RANGES[3:6])
        await log.run_to_the_end()
        assert log.tree.size == 7


async def test_the_queue_is_bounded_in_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path, bytes_max=3 * len(RANGES[0])) as log:
        for first in (0, 3, 6):
            log.submit(*RANGES[first : first + 3])
            with pytest.raises(QueueFull):
                log.submit(RANGES[9])
            await log.run_to_the_end()
        assert log.tree.size == 10


async def test_a_failure_reaches_everybody_who_waits_and_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as log:

        async def fail(*_: object) -> None:
            raise StorageFailed("the disk is gone")

        monkeypatch.setattr(log.store, "append", fail)
        answers = log.submit(*RANGES[:2])
        with pytest.raises(StorageFailed):
            await log.run_to_the_end()
        for each in answers:
            with pytest.raises(StorageFailed):
                await each
        with pytest.raises(StorageFailed):
            log.submit(RANGES[0])
        assert log.feed.newest.checkpoint.size == 1


async def test_a_refusal_leaves_everything_as_it_is(tmp_path: Path) -> None:
    refusal = ReadOnly(reason="it forgot", advice="remember")
    async with opened(tmp_path) as log:
        log.submit(*RANGES[:2])
        await log.run_to_the_end()
        note = log.feed.newest.note
    async with opened(tmp_path, refusal=refusal) as log:
        with pytest.raises(ReadOnly) as first:
            log.submit(RANGES[2])
        frames = len(first.traceback)
        with pytest.raises(ReadOnly) as second:
            log.submit(RANGES[2])
        assert len(second.traceback) == frames, "what is raised for ever gathers no tracebacks"
        assert (log.feed.newest.note, log.feed.newest.refusal) == (note, refusal)


async def test_a_replaced_key_signs_for_what_is_there_and_nothing_after(tmp_path: Path) -> None:
    new = key_of("next log")
    change = registration(RotateKey(new.public_key), subject="settlement", effective=4)
    async with opened(tmp_path) as log:
        given = log.submit(change)
        await log.run_to_the_end()
        given += log.submit(RANGES[0])
        await log.run_to_the_end()
        assert [await each for each in given] == [1, 2]
        assert log.feed.newest.checkpoint.size == 3
        with pytest.raises(ReadOnly, match="another key"):
            log.submit(RANGES[1])
        left = log.feed.newest.checkpoint
    async with opened(tmp_path, key=new) as log:
        assert log.feed.newest.checkpoint == left
        [index] = log.submit(RANGES[1])
        await log.run_to_the_end()
        assert await index == 3
        note = parse_note(log.feed.newest.note)
        assert [key_id(GENESIS.settlement.origin, new.public_key)] == [
            each.key_id for each in note.signatures
        ]


async def test_what_waits_behind_a_replaced_key_is_refused(tmp_path: Path) -> None:
    change = registration(RotateKey(key_of("next log").public_key), subject="settlement", effective=4)
    async with opened(tmp_path) as log:
        log.submit(RANGES[0])
        await log.run_to_the_end()
        # A registration ends its batch: what is behind it comes into the next.
        given = log.submit(change, RANGES[1])
        await log.run_to_the_end()
        assert await given[0] == 2
        assert isinstance(await given[1], ReadOnly)
        assert log.tree.size == 3


async def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        log.submit(RANGES[0], *(CHAIN.commitment(name, 4) for name in ("a0", "a1", "b0")), RANGES[1])
        await log.run_to_the_end()
        before = log.feed.newest
    async with opened(tmp_path) as log:
        assert log.feed.newest == before


async def test_more_waits_than_one_batch_holds(tmp_path: Path) -> None:
    count = BATCH_ENTRIES_MAX + 5
    async with opened(tmp_path, entries_max=count) as log:
        answers = log.submit(*RANGES[:1] * count)
        await log.run_to_the_end()
        assert {await each for each in answers} == {1}


async def test_pages_are_bounded_and_have_no_gaps(tmp_path: Path) -> None:
    large = b"\x01" * (PAGE_BYTES_MAX // 3)
    entries = [b"\x01" * 10] * (PAGE_ENTRIES_MAX + 10) + [large] * 5 + [b"\x01" * (PAGE_BYTES_MAX + 1)] * 2
    async with open_store(tmp_path / "log.sqlite") as store:
        await store.append(0, entries, {})
        found: list[bytes] = []
        sizes = []
        while len(found) < len(entries):
            page = await store.page(len(found), len(entries))
            sizes.append(len(page))
            found += page
        assert found == entries
        assert sizes == [PAGE_ENTRIES_MAX, 12, 3, 1, 1]
        assert await store.page(3, 5) == entries[3:5]
