"""Nodes that run in the test's own process, on an order and a settlement log that the test makes up."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lockstep.commitment import commitment_hash
from lockstep.errors import LockstepError, UnavailablePeer
from lockstep.header import Tip
from lockstep.order import Bundle, bundle_id_of
from lockstep.settlement_entries import CommitmentEntry, decode_settlement_entry
from lockstep.signing import SigningKey
from lockstep.types import Height, Namespace, RollupId
from rollups.attester import Attester
from rollups.comparing import LogComparison
from rollups.node import RollupNode
from rollups.peers import Peer, PeerComparison
from rollups.poster import Poster
from rollups.storage import open_storage
from sequencer.client import FollowedBlock, KeyAt, Ordered, Placement
from tests.unit.rollups.chain import ALPHA, SEQUENCER, Chain

DEADLINE_S = 20


class FakeOrder:
    """A sequencer that orders every bundle at once, in a block of its own, unless it is told to fail."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.failures: list[LockstepError] = []
        self.submitted: list[Bundle] = []
        self.is_ordering = True
        self.answering = asyncio.Event()
        self.answering.set()
        self._grown = asyncio.Event()
        self._asked = asyncio.Event()

    def block(self, *transactions: tuple[str, bytes], advance_ms: int = 100) -> int:
        """Make the next block and return its height."""
        made = self.chain.block(*transactions, advance_ms=advance_ms)
        self.tell()
        return made.header.height

    def tell(self) -> None:
        """Wake who follows: the chain has grown."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncIterator[FollowedBlock]:
        height = tip.height
        while True:
            grown = self._grown
            while height < len(self.chain.blocks):
                followed = self.chain.blocks[height]
                height = Height(height + 1)
                assert sequencer_key(height) == SEQUENCER.public_key
                shared = {each: followed.block.entries[each] for each in namespaces}
                block = replace(followed.block, entries=shared)
                yield replace(followed, block=block, head_height=Height(len(self.chain.blocks)))
            await grown.wait()

    async def until_submitted(self, count: int) -> None:
        """Wait until so many bundles came, and no more."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.submitted) < count:
                self._asked.clear()
                await self._asked.wait()
        assert len(self.submitted) == count

    async def submit(self, bundle: Bundle, *, timeout_ms: int = 10_000) -> Ordered:
        self.submitted.append(bundle)
        self._asked.set()
        await self.answering.wait()
        if self.failures:
            raise self.failures.pop(0)
        height = len(self.chain.blocks)
        if self.is_ordering:
            height = self.block(*((each.namespace, each.payload) for each in bundle.transactions))
        placement = Placement(bundle_id_of(self.chain.genesis.chain_id, bundle), Height(height), 0, 1)
        return Ordered(placement, self.chain.blocks[height - 1].header)


@dataclass(frozen=True)
class FakeAnchored:
    height: int
    commitment_hash: bytes


@dataclass(frozen=True)
class FakeStatus:
    size: int
    rollups: Mapping[str, FakeAnchored]


@dataclass
class FakeLog:
    """A settlement log that takes everything, unless it is told to fail."""

    kept: list[bytes] = field(default_factory=list)
    failures: list[LockstepError] = field(default_factory=list)
    anchored: dict[str, FakeAnchored] = field(default_factory=dict)
    is_away: bool = False
    asked: int = 0
    sent: int = 0
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, entry: bytes, *, timeout_ms: int = 10_000) -> int:
        self.sent += 1
        if self.failures:
            raise self.failures.pop(0)
        if entry not in self.kept:
            self.kept.append(entry)
        posted = decode_settlement_entry(entry)
        assert isinstance(posted, CommitmentEntry)
        commitment = posted.posted.commitment
        self.anchored[commitment.rollup] = FakeAnchored(commitment.height, commitment_hash(commitment))
        self.told.set()
        return self.kept.index(entry)

    async def status(self, *, timeout_ms: int = 10_000) -> FakeStatus:
        self.asked += 1
        if self.is_away:
            raise UnavailablePeer(peer="log")
        return FakeStatus(len(self.kept), dict(self.anchored))

    async def entries(self, from_index: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        for index, entry in enumerate(self.kept[from_index:], from_index):
            yield index, entry
        await asyncio.Event().wait()

    async def until_heights(self, *heights: int) -> None:
        """Wait until exactly these heights were posted, in this order."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.kept) < len(heights):
                self.told.clear()
                await self.told.wait()
        assert [entry.posted.commitment.height for entry in self.commitments] == list(heights)

    @property
    def commitments(self) -> list[CommitmentEntry]:
        found = map(decode_settlement_entry, self.kept)
        return [each for each in found if isinstance(each, CommitmentEntry)]


@asynccontextmanager
async def running(
    folder: Path,
    order: FakeOrder,
    *,
    rollup: RollupId = ALPHA,
    key: SigningKey | None = None,
    log: FakeLog | None = None,
    grace_ms: int = 10_000,
    peers: Mapping[str, Peer] | None = None,
) -> AsyncIterator[RollupNode]:
    """Run a node on the data in a folder, until the block ends or the node does."""
    async with open_storage(folder / f"{rollup}.db") as storage:
        attester = None if key is None else key.public_key
        node = await RollupNode.load(order.chain.genesis, rollup, storage, attester=attester)
        async with asyncio.TaskGroup() as group:
            works: list[Coroutine[Any, Any, None]] = [node.run(order)]
            if log is not None:
                works.append(LogComparison(node, log, attester=attester, grace_ms=grace_ms).run())
            if peers:
                works.append(PeerComparison(node, peers).run())
            if key is not None:
                works.append(Attester(key, node, order).run())
            if log is not None and key is not None:
                works.append(Poster(key, node, log).run())
            tasks = [group.create_task(work) for work in works]
            yield node
            for task in tasks:
                task.cancel()


async def until(node: RollupNode, condition: Callable[[], bool]) -> None:
    """Wait until something holds that can only change when the node publishes."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            changed = node.changed
            if condition():
                return
            await changed.wait()


async def reach(node: RollupNode, height: int) -> None:
    """Wait until a height is published."""
    async with asyncio.timeout(DEADLINE_S):
        await node.wait_for(height)
