"""Anchoring against a settlement log in memory: continuous, resumed, and a witness of what was lost."""

import asyncio
from dataclasses import dataclass

import pytest

from lockstep.errors import LockstepError, ReadOnly, UnavailablePeer
from lockstep.header import header_hash
from lockstep.settlement_entries import HeaderRange, decode_settlement_entry
from sequencer.anchoring import Anchoring
from sequencer.feed import Feed
from tests.unit.sequencer.chain import BETA, START, MemoryEngine, proposals

MADE = proposals(12)


@dataclass
class Status:
    """What a log says of itself."""

    anchored_height: int
    anchored_hash: bytes


class MemoryLog:
    """A settlement log that holds header ranges."""

    def __init__(self) -> None:
        self.ranges: list[HeaderRange] = []
        self.failure: LockstepError | None = None
        self.loses_answer = False
        self.asked = 0

    async def status(self) -> Status:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        if not self.ranges:
            return Status(0, START.chain)
        last = self.ranges[-1].last
        return Status(last.header.height, header_hash(last.encoded))

    async def append(self, entry: bytes) -> int:
        decoded = decode_settlement_entry(entry)
        assert isinstance(decoded, HeaderRange)
        status = await self.status()
        assert decoded.first_height == status.anchored_height + 1
        assert decoded.parent_hash == status.anchored_hash
        self.ranges.append(decoded)
        if self.loses_answer:
            raise UnavailablePeer(peer="log")
        return len(self.ranges)


class Rig:
    """A feed, a log, and anchoring between them."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.feed = Feed(self.engine)
        self.log = MemoryLog()
        self.judgements: list[ReadOnly | None] = []
        self.anchoring = self.again()

    def again(self) -> Anchoring:
        return Anchoring(
            self.log, self.feed, genesis=START, interval_ms=1, interval_blocks=4, judge=self.judgements.append
        )

    async def grow(self, count: int) -> None:
        for proposal in MADE[len(self.engine.blocks) :][:count]:
            self.feed.publish(await self.engine.order(proposal))

    def anchored(self) -> list[tuple[int, int]]:
        return [(each.first_height, each.last.header.height) for each in self.log.ranges]


async def test_ranges_follow_each_other() -> None:
    rig = Rig()
    await rig.anchoring.anchor()
    assert rig.anchored() == []
    await rig.grow(1)
    await rig.anchoring.anchor()
    await rig.anchoring.anchor()
    await rig.grow(3)
    await rig.anchoring.anchor()
    assert rig.anchored() == [(1, 1), (2, 4)]
    assert rig.log.ranges[0].parent_hash == START.hash
    assert rig.anchoring.anchored_height == 4
    assert set(rig.judgements) == {None}


async def test_every_multiple_of_the_interval_ends_a_range() -> None:
    rig = Rig()
    await rig.grow(10)
    await rig.anchoring.anchor()
    assert rig.anchored() == [(1, 4), (5, 8), (9, 10)]
    await rig.grow(2)
    await rig.anchoring.anchor()
    assert rig.anchored() == [(1, 4), (5, 8), (9, 10), (11, 12)]


async def test_a_lost_answer_and_a_restart_repeat_nothing() -> None:
    rig = Rig()
    await rig.grow(2)
    rig.log.loses_answer = True
    with pytest.raises(UnavailablePeer):
        await rig.anchoring.anchor()
    rig.log.loses_answer = False
    restarted = rig.again()
    await restarted.anchor()
    assert restarted.anchored_height == 2
    await rig.grow(1)
    await restarted.anchor()
    assert rig.anchored() == [(1, 2), (3, 3)]


async def test_an_outage_delays_anchors_and_nothing_else() -> None:
    rig = Rig()
    await rig.grow(2)
    rig.log.failure = UnavailablePeer(peer="log")
    task = asyncio.create_task(rig.anchoring.run())
    async with asyncio.timeout(10):
        while rig.log.asked < 3:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0)
        assert rig.judgements == []
        rig.log.failure = None
        while not rig.log.ranges:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert rig.anchored() == [(1, 2)]


async def test_a_log_that_knows_more_is_believed() -> None:
    ahead, behind = Rig(), Rig()
    await ahead.grow(4)
    await ahead.anchoring.anchor()
    await behind.grow(3)
    behind.log.ranges = ahead.log.ranges
    await behind.anchoring.anchor()
    [loss] = behind.judgements
    assert loss is not None
    assert "holds header 4, the database ends at 3" in loss.reason
    assert len(behind.log.ranges) == 1


async def test_a_log_with_another_header_is_believed() -> None:
    rig, forked = Rig(), Rig()
    await rig.grow(3)
    for proposal in proposals(2, namespace=BETA):
        forked.feed.publish(await forked.engine.order(proposal))
    await forked.anchoring.anchor()
    rig.log.ranges = forked.log.ranges
    await rig.anchoring.anchor()
    [loss] = rig.judgements
    assert loss is not None
    assert "another header 2" in loss.reason
    assert len(rig.log.ranges) == 1
