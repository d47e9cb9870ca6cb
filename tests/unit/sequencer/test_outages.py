"""Outages and clocks that jump, while a swap is open: neither expires what is in flight."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.node.datadir import DurableCell
from lockstep.errors import Expired
from lockstep.limits import MAX_ADVANCE_MS
from lockstep.order import Bundle, Placement, Transaction
from lockstep.register import Phase, SwapRecord
from lockstep.types import SWAP_NAMESPACE
from sequencer.admission import admit
from sequencer.chain import ChainState, load_chain
from sequencer.embedded import open_engine
from sequencer.feed import Feed
from sequencer.ledger import open_ledger
from sequencer.live_ids import LiveIds
from sequencer.writer import Writer
from tests.reference.world import id_of, make_terms, open_entry, reveal_entry
from tests.unit.sequencer.chain import CHAIN, GENESIS, SEQUENCER, START, TIME_MS, waiting_room

HEARTBEAT_MS = 20
STEP_MS = 500
OUTAGE_MS, HOUR_MS = 600_000, 3_600_000
# Less than the outage and the hour by far, more than log time may jump.
TERMS = make_terms(chain=CHAIN, lock_by_ms=TIME_MS + 5_000, expires_ms=TIME_MS + 10_000)


class Clock:
    """A monotonic clock, which need not be one."""

    def __init__(self) -> None:
        self.ms = 77_000


class Rig:
    """A running sequencer without its server, on a real ledger."""

    def __init__(self, clock: Clock, feed: Feed, writer: Writer, chain: ChainState) -> None:
        self.clock = clock
        self.feed = feed
        self.writer = writer
        self.chain = chain

    def record(self) -> SwapRecord:
        record = self.chain.register.record(id_of(TERMS))
        assert record is not None
        return record

    async def submit(self, entry: bytes, until_ms: int) -> Placement:
        bundle = admit(CHAIN, Bundle((Transaction(SWAP_NAMESPACE, entry),), until_ms), {SWAP_NAMESPACE})
        return await self.writer.submit(bundle)

    async def heartbeat(self) -> int:
        """Wait for a block that is there because of the clock; return by how much log time went on."""
        before, time_ms = self.feed.height, self.writer.tip.time_ms
        while self.feed.height == before:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)
        assert self.feed.height == before + 1
        return self.writer.tip.time_ms - time_ms

    async def blocks_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.clock.ms += STEP_MS
            await self.heartbeat()


@asynccontextmanager
async def running(path: Path, clock: Clock) -> AsyncIterator[Rig]:
    """Start the sequencer on what is in `path`; at the end it is gone as by a kill, but for its files."""
    with DurableCell(path / "cell") as cell:
        async with asyncio.timeout(20), open_ledger(path / "ledger.sqlite") as ledger:
            chain = await load_chain(ledger, GENESIS)
            async with open_engine(ledger, cell, SEQUENCER, genesis=START, check_key=lambda *_: None) as (
                engine,
                loss,
            ):
                assert loss is None
                feed = Feed(engine)
                writer = Writer(
                    engine,
                    feed,
                    chain,
                    LiveIds(),
                    waiting_room(),
                    genesis=START,
                    clock_ms=lambda: clock.ms,
                    heartbeat_ms=HEARTBEAT_MS,
                    live_ids_max=1_000,
                )
                task = asyncio.create_task(writer.run())
                try:
                    yield Rig(clock, feed, writer, chain)
                finally:
                    writer.stop()
                    await task


async def test_ten_minutes_down_are_one_millisecond(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as rig:
        await rig.submit(open_entry(TERMS), TIME_MS + 5_000)
        height, time_ms = rig.feed.height, rig.writer.tip.time_ms
    clock.ms += OUTAGE_MS
    async with running(tmp_path, clock) as rig:
        assert rig.record().phase is Phase.OPEN
        while rig.feed.height == height:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)
        blocks = await rig.feed.block(rig.chain.height, ())
        assert (blocks.height, blocks.header.header.time_ms) == (height + 1, time_ms + 1)
        # A bundle and a swap of before are still good.
        assert (await rig.submit(reveal_entry(TERMS), TIME_MS + 5_000)).height > height
        assert rig.record().phase is Phase.REVEALED
        # And deadlines go on from there, no sooner and no later.
        await rig.blocks_until(lambda: rig.writer.tip.time_ms >= TERMS.lock_by_ms - STEP_MS)
        assert rig.record().phase is Phase.REVEALED
        await rig.blocks_until(lambda: rig.writer.tip.time_ms >= TERMS.lock_by_ms)
        assert id_of(TERMS) not in rig.chain.register.records or rig.record().phase is Phase.ABORTED
        with pytest.raises(Expired):
            await rig.submit(open_entry(TERMS), TIME_MS + 5_000)


async def test_a_clock_that_starts_anew_after_a_reboot_is_one_millisecond(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as rig:
        await rig.submit(open_entry(TERMS), TIME_MS + 5_000)
        height, time_ms = rig.feed.height, rig.writer.tip.time_ms
    clock.ms = 3
    async with running(tmp_path, clock) as rig:
        while rig.feed.height == height:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)
        assert (await rig.feed.header(rig.chain.height)).header.time_ms == time_ms + 1


@pytest.mark.parametrize(("step_ms", "advance_ms"), [(HOUR_MS, MAX_ADVANCE_MS), (-HOUR_MS, 1)])
async def test_an_hours_step_of_the_clock_expires_nothing(
    tmp_path: Path, step_ms: int, advance_ms: int
) -> None:
    clock = Clock()
    clock.ms += HOUR_MS
    async with running(tmp_path, clock) as rig:
        await rig.submit(open_entry(TERMS), TIME_MS + 5_000)
        time_ms = rig.writer.tip.time_ms
        clock.ms += step_ms
        await rig.submit(reveal_entry(TERMS), TIME_MS + 5_000)
        assert rig.writer.tip.time_ms == time_ms + advance_ms
        assert rig.record().phase is Phase.REVEALED
        # From then on it goes as before, by the clock as it is now.
        clock.ms += HEARTBEAT_MS
        assert await rig.heartbeat() == HEARTBEAT_MS
        clock.ms += HEARTBEAT_MS + 7
        assert await rig.heartbeat() == HEARTBEAT_MS + 7
        assert rig.record().phase is Phase.REVEALED
