"""Nodes and a settlement log in memory that follow a fake order: what tests of levels share."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bridge.client import SwapView
from bridge.observing import Node, Observer
from lockstep.checkpoint import Checkpoint
from lockstep.commitment import Commitment
from lockstep.errors import LockstepError, NotYet, TimedOut, UnavailablePeer
from lockstep.header import header_hash
from lockstep.register import apply_block, genesis_register, input_of
from lockstep.settlement_entries import (
    HeaderRange,
    PostedCommitment,
    encode_settlement_entry,
    sign_commitment,
)
from lockstep.types import HeaderHash, Height, RollupId, SwapId
from tests.unit.bridge.chain import ATTESTERS, CHAIN, GENESIS, FakeOrder
from tests.unit.bridge.running import DEADLINE_S, Rig

ZEROS = bytes(32)


@dataclass
class Answer:
    """What a node answers."""

    commitment: Commitment


@dataclass
class FakeNode:
    """A node as `bridge.observing.Node`, which has executed whatever is ordered, once it is up."""

    order: FakeOrder
    rollup: RollupId
    is_up: bool = True
    is_astray: bool = False
    """Whether it follows another order."""
    executed: int | None = None
    """The last block that it has executed; None: whatever is ordered."""
    asked: list[int] = field(default_factory=list)
    """The heights that it was asked for."""

    async def state(self, keys: Sequence[bytes], *, min_height: int = 0, timeout_ms: int = 10_000) -> Answer:
        self.asked.append(min_height)
        if not self.is_up:
            raise UnavailablePeer(peer=self.rollup)
        height = self.order.tip.height if self.executed is None else self.executed
        if min_height > height:
            raise TimedOut(peer=self.rollup)
        return Answer(await self.commitment(height))

    async def commitment(self, height: int = 0, *, timeout_ms: int = 10_000) -> Commitment:
        if height > self.order.tip.height:
            raise NotYet(height=height, newest=self.order.tip.height)
        register = genesis_register(GENESIS)
        for each in self.order.blocks[:height]:
            register, _ = apply_block(register, input_of(each.block))
        root = ZEROS if self.is_astray else register.root
        return Commitment(self.rollup, height, ZEROS, 0, ZEROS, root)


@dataclass
class Anchored:
    """How far the log has a rollup."""

    height: int


@dataclass
class Entry:
    """An entry of the log."""

    entry: bytes


@dataclass
class FakeLog:
    """A settlement log as `bridge.observing.AnchorLog`. Anchors what a test says."""

    order: FakeOrder
    heights: dict[str, int] = field(default_factory=dict)
    """The newest anchored commitment of each rollup."""
    failures: list[LockstepError] = field(default_factory=list)
    """What the next questions get instead of an answer."""
    is_astray: bool = False
    """Whether the headers that it anchors are others."""
    asked: int = 0
    """How often it was asked how far it is."""

    @property
    def seen(self) -> Checkpoint:
        return Checkpoint("test.example/log", sum(self.heights.values()), ZEROS)

    @property
    def rollups(self) -> Mapping[str, Anchored]:
        return {name: Anchored(height) for name, height in self.heights.items()}

    async def status(self, *, timeout_ms: int = 10_000) -> "FakeLog":
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return self

    async def anchor(self, height: int, rollup: str | None = None, *, timeout_ms: int = 10_000) -> Entry:
        proven = self.order.blocks[height - 1].header
        if rollup is None:
            return Entry(encode_settlement_entry(HeaderRange(Height(1), HeaderHash(CHAIN), proven)))
        name, found = RollupId(rollup), header_hash(proven.encoded)
        posted = PostedCommitment(
            chain=CHAIN,
            attester=ATTESTERS[name].public_key,
            header_hash=HeaderHash(ZEROS) if self.is_astray else found,
            commitment=Commitment(name, height, ZEROS, 0, ZEROS, ZEROS),
            previous_height=0,
            previous_commitment=ZEROS,
        )
        return Entry(encode_settlement_entry(sign_commitment(ATTESTERS[name], posted)))


@asynccontextmanager
async def observing(
    rig: Rig, nodes: Mapping[RollupId, Mapping[str, Node]], log: FakeLog | None = None
) -> AsyncIterator[None]:
    """Have nodes and log asked for a coordinator; a defect of that is raised at the end."""
    work = asyncio.create_task(Observer(rig.coordinator, rig.views, nodes, log).run())
    try:
        yield
    finally:
        work.cancel()
        for outcome in await asyncio.gather(work, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def until_level(rig: Rig, swap_id: bytes, level: int) -> None:
    """Wait until the durable state of a swap has a level."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            changed = rig.coordinator.changed
            [row] = await rig.database.read("SELECT level FROM swaps WHERE swap_id = ?", (swap_id,))
            if row[0] >= level:
                return
            await changed.wait()


async def until_settled(rig: Rig, swap_id: SwapId, *legs: bool) -> SwapView:
    """Wait until just these legs of a swap are durably settled."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            changed = rig.coordinator.changed
            view = await rig.swap(swap_id)
            if tuple(leg.settled for leg in view.legs) == legs:
                return view
            await changed.wait()
