"""Blocks for who reads them: from disk, from memory, over the seam, at any pace."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence

import pytest

from lockstep.errors import NotYet, Pruned, ShuttingDown
from lockstep.types import Height
from sequencer.engine import SealedBlock
from sequencer.feed import Feed
from tests.unit.sequencer.chain import ALPHA, BETA, MemoryEngine, proposals

MADE = proposals(40)


async def grown(count: int, *, recent_bytes_max: int = 10**9) -> tuple[MemoryEngine, Feed]:
    """Return a feed that was opened over nothing and has `count` blocks."""
    engine = MemoryEngine()
    feed = Feed(engine, recent_bytes_max=recent_bytes_max)
    for proposal in MADE[:count]:
        feed.publish(await engine.order(proposal))
    return engine, feed


async def take(batches: AsyncGenerator[Sequence[SealedBlock], None], count: int) -> list[SealedBlock]:
    taken: list[SealedBlock] = []
    while len(taken) < count:
        taken += await anext(batches)
    return taken


@pytest.mark.parametrize("recent_bytes_max", [0, 1_000, 10**9])
async def test_a_slow_reader_gets_every_block_once(recent_bytes_max: int) -> None:
    engine, feed = await grown(5, recent_bytes_max=recent_bytes_max)
    randomness = random.Random(3)
    readers = [feed.batches(Height(start), (ALPHA,)) for start in (1, 3, 6)]
    got: list[list[SealedBlock]] = [[], [], []]
    for proposal in MADE[5:]:
        feed.publish(await engine.order(proposal))
        for position, reader in enumerate(readers):
            # Some read at once, some fall far behind what memory holds.
            if randomness.random() < (0.9, 0.2, 0.05)[position]:
                got[position] += await anext(reader)
    for position, (start, reader) in enumerate(zip((1, 3, 6), readers, strict=True)):
        missing = 41 - start - len(got[position])
        got[position] += await take(reader, missing)
        assert [each.height for each in got[position]] == [*range(start, 41)]
        whole = await engine.read(range(start, 41), (ALPHA,), bytes_max=10**9)
        assert got[position] == whole
        await reader.aclose()


async def test_memory_is_bounded() -> None:
    _, feed = await grown(40, recent_bytes_max=1_000)
    assert sum(each.size_bytes for each in feed._recent) <= 1_000
    assert feed._recent_bytes == sum(each.size_bytes for each in feed._recent)
    _, feed = await grown(3, recent_bytes_max=0)
    assert [each.height for each in feed._recent] == [3]


async def test_the_next_block_is_waited_for_and_the_one_after_is_not_there() -> None:
    engine, feed = await grown(2)
    async with asyncio.timeout(10):
        waiting = asyncio.ensure_future(anext(feed.batches(Height(3), (BETA,))))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        feed.publish(await engine.order(MADE[2]))
        [block] = await waiting
        assert (block.height, block.shares) == (3, {})
        with pytest.raises(NotYet):
            await anext(feed.batches(Height(5), ()))
        with pytest.raises(NotYet):
            await feed.block(Height(4), ())
        assert (await feed.block(Height(3), (ALPHA,))).shares.keys() == {ALPHA}


async def test_what_was_pruned_is_told_from_what_is_not_there() -> None:
    engine, feed = await grown(5, recent_bytes_max=0)
    engine.first_height = Height(3)
    with pytest.raises(Pruned):
        await feed.block(Height(2), ())
    with pytest.raises(Pruned):
        await anext(feed.batches(Height(2), ()))
    assert [each.height for each in await anext(feed.batches(Height(3), ()))] == [3, 4, 5]


async def test_closing_ends_every_stream() -> None:
    _, feed = await grown(1)
    async with asyncio.timeout(10):
        waiting = asyncio.ensure_future(anext(feed.batches(Height(2), ())))
        await asyncio.sleep(0)
        feed.close()
        with pytest.raises(ShuttingDown):
            await waiting
        with pytest.raises(ShuttingDown):
            await anext(feed.batches(Height(1), ()))


async def test_a_gap_is_a_defect() -> None:
    engine, feed = await grown(1)
    await engine.order(MADE[1])
    third = await engine.order(MADE[2])
    with pytest.raises(AssertionError, match="published after"):
        feed.publish(third)
