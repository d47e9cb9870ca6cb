"""A node compared with the settlement log and with its peers: before it serves, and from then on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.commitment import commitment_hash
from lockstep.errors import Contradiction, NotReady, NotYet, Pruned, UnavailablePeer
from lockstep.header import Tip
from lockstep.transactions import Lock, Transfer
from lockstep.types import Namespace
from rollups.node import RollupNode
from rollups.peers import Divergence
from rollups.storage import StoredBlock
from sequencer.client import FollowedBlock, KeyAt
from tests.unit.rollups.chain import ALPHA, ANN, ATTESTERS, CARL, Chain, make_swap
from tests.unit.rollups.running import DEADLINE_S, FakeAnchored, FakeLog, FakeOrder, reach, running, until
from tests.unit.rollups.tampering import make_rich


def pay(order: FakeOrder) -> int:
    return order.block((ALPHA, order.chain.signed(ANN, Transfer(b"gold", CARL.public_key, 1))))


def lock(order: FakeOrder) -> None:
    swap = make_swap(order.chain, lock_in_ms=20_000, expire_in_ms=40_000)
    order.block(swap.open, (ALPHA, order.chain.signed(ANN, Lock(swap.id, 0))))


async def hash_at(node: RollupNode, height: int) -> bytes:
    block = await node.storage.block(height)
    assert block is not None
    return commitment_hash(block.commitment)


async def ready(node: RollupNode) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await node.until_ready()


# --- the settlement log -----------------------------------------------------------------------------------


async def test_nothing_is_told_or_attested_before_the_log_was_asked(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog(is_away=True)
    lock(order)
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log, grace_ms=60_000) as node:
        await reach(node, 1)
        order.block()
        await reach(node, 2)
        asked = log.asked
        await until(node, lambda: log.asked > asked)
        with pytest.raises(NotReady, match="compared with the settlement log"):
            node.verify_ready()
        assert node.outbox
        assert not order.submitted
        log.is_away = False
        await ready(node)
        await until(node, lambda: not node.outbox)
    assert len(order.submitted) == 1


async def test_a_log_that_is_away_holds_back_for_the_grace_alone(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog(is_away=True)
    pay(order)
    async with running(tmp_path, order, log=log, grace_ms=300) as node:
        await reach(node, 1)
        assert node.not_ready_reason
        await ready(node)
    assert log.asked > 1


async def test_an_outage_does_not_hold_back_a_node_that_was_compared(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog()
    pay(order)
    async with running(tmp_path, order, log=log) as node:
        await ready(node)
        log.is_away = True
        await reach(node, pay(order))
        node.verify_ready()
    async with running(tmp_path, order, log=log, grace_ms=10**8) as node:
        await ready(node)


async def test_a_node_behind_the_log_serves_once_it_is_compared_there(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog()
    (tmp_path / "other").mkdir()
    for _ in range(3):
        pay(order)
    async with running(tmp_path / "other", order) as other:
        await reach(other, 3)
        log.anchored[ALPHA] = FakeAnchored(3, await hash_at(other, 3))
    behind = FakeOrder(Chain())
    for each in order.chain.blocks[:2]:
        behind.chain.blocks.append(each)
    async with running(tmp_path, behind, log=log) as node:
        await reach(node, 2)
        await until(node, lambda: "height 3" in node.not_ready_reason)
        behind.chain.blocks.append(order.chain.blocks[2])
        behind.tell()
        await ready(node)
        assert await node.storage.compared_height() == 3


async def test_data_that_were_changed_consistently_are_found_out_by_the_log(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog()
    lock(order)
    async with running(tmp_path, order) as node:
        await reach(node, 1)
        honest = await hash_at(node, 1)
    log.anchored[ALPHA] = FakeAnchored(1, honest)
    await make_rich(tmp_path / f"{ALPHA}.db", order.chain.genesis)
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log) as node:
        await until(node, lambda: bool(node.stopped_reason))
        assert (
            f"at height 1 this node's commitment is {(await hash_at(node, 1)).hex()}" in node.stopped_reason
        )
        assert f"the settlement log's is {honest.hex()}" in node.stopped_reason
        await reach(node, order.block())
        assert node.outbox
    assert not order.submitted, "what it found is not to be attested"


async def test_a_divergence_that_the_log_shows_later_silences_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollups.comparing.COMPARE_MS", 20)
    order, log = FakeOrder(Chain()), FakeLog()
    pay(order)
    async with running(tmp_path, order, log=log) as node:
        await ready(node)
        log.anchored[ALPHA] = FakeAnchored(1, bytes(32))
        await until(node, lambda: bool(node.stopped_reason))


async def test_what_the_own_key_signed_before_the_data_were_lost_counts(tmp_path: Path) -> None:
    """Below the threshold nothing is anchored: the log's entries alone know what the key said."""
    order, log = FakeOrder(Chain()), FakeLog()
    for _ in range(4):
        pay(order)
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log):
        await log.until_heights(4)
    log.anchored.clear()
    buggy = Skipping(order.chain, from_height=3)
    (tmp_path / "rebuilt").mkdir()
    async with running(tmp_path / "rebuilt", buggy, key=ATTESTERS[ALPHA], log=log) as node:
        await until(node, lambda: bool(node.stopped_reason))
        assert "at height 4" in node.stopped_reason
        assert "this node's key signed" in node.stopped_reason
        assert log.sent == 1, "a second statement at that height would convict the key"


async def test_a_log_that_went_back_on_itself_silences_a_node(tmp_path: Path) -> None:
    class Forked(FakeLog):
        async def status(self, *, timeout_ms: int = 10_000) -> object:  # type: ignore[override]
            raise Contradiction(what="checkpoint", evidence="two of them")

    order = FakeOrder(Chain())
    pay(order)
    async with running(tmp_path, order, log=Forked()) as node:
        await until(node, lambda: "contradicts itself" in node.stopped_reason)


# --- peers ------------------------------------------------------------------------------------------------


class Skipping(FakeOrder):
    """Stands for a planted bug: from a height on, execution never sees the rollup's last transaction."""

    def __init__(self, chain: Chain, *, from_height: int) -> None:
        super().__init__(chain)
        self._from_height = from_height

    async def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncIterator[FollowedBlock]:
        async for followed in super().follow(tip=tip, namespaces=namespaces, sequencer_key=sequencer_key):
            block = followed.block
            if block.header.height >= self._from_height:
                own = block.entries[Namespace(ALPHA)][:-1]
                block = replace(block, entries={**block.entries, Namespace(ALPHA): own})
            yield replace(followed, block=block)


class NodeAsPeer:
    """Asks a node as the client does, without a connection."""

    def __init__(self, node: RollupNode) -> None:
        self.node = node
        self.is_away = False
        self.heights: list[int] = []
        self._asked = asyncio.Condition()

    async def until_asked(self, more: int) -> None:
        """Wait until it was asked so many times more."""
        target = len(self.heights) + more
        async with asyncio.timeout(DEADLINE_S), self._asked:
            await self._asked.wait_for(lambda: len(self.heights) >= target)

    async def proven_commitment(self, height: int = 0, *, timeout_ms: int = 10_000) -> StoredBlock:
        async with self._asked:
            self.heights.append(height)
            self._asked.notify_all()
        if self.is_away:
            raise UnavailablePeer(peer="peer")
        block = await self.node.storage.block(height or self.node.published.height)
        if block is None:
            raise NotYet(height=height, newest=self.node.published.height)
        return block


@pytest.mark.parametrize("from_height", [1, 2, 33, 64, 100])
async def test_the_first_divergent_height_and_its_parts_are_named(tmp_path: Path, from_height: int) -> None:
    order = FakeOrder(Chain())
    for _ in range(100):
        pay(order)
    for name in ("honest", "buggy"):
        (tmp_path / name).mkdir()
    async with running(tmp_path / "buggy", Skipping(order.chain, from_height=from_height)) as buggy:
        await reach(buggy, 100)
        peer = NodeAsPeer(buggy)
        async with running(tmp_path / "honest", order) as first:
            await reach(first, 100)
        async with running(tmp_path / "honest", order, peers={"other:1": peer}) as node:
            await until(node, lambda: bool(node.stopped_reason))
            expected = Divergence(
                "other:1",
                from_height,
                from_height - 1,
                ("the state root", "the receipts root"),
                await hash_at(node, from_height),
                await hash_at(buggy, from_height),
            )
            assert node.stopped_reason == str(expected)
            assert f"from height {from_height} on" in node.stopped_reason
        assert len(peer.heights) < 10


async def test_a_divergence_counts_also_where_the_peer_cannot_be_asked_further(tmp_path: Path) -> None:
    class Pruning(NodeAsPeer):
        async def proven_commitment(self, height: int = 0, *, timeout_ms: int = 10_000) -> StoredBlock:
            if 0 < height <= 6:
                raise Pruned(height=height, first_available=7)
            return await NodeAsPeer.proven_commitment(self, height)

    order = FakeOrder(Chain())
    for _ in range(10):
        pay(order)
    (tmp_path / "buggy").mkdir()
    async with running(tmp_path / "buggy", Skipping(order.chain, from_height=3)) as buggy:
        await reach(buggy, 10)
        async with running(tmp_path, order) as first:
            await reach(first, 10)
        async with running(tmp_path, order, peers={"other:1": Pruning(buggy)}) as node:
            await until(node, lambda: bool(node.stopped_reason))
            assert "differs at height 10, and perhaps from height 1 on, in" in node.stopped_reason


async def test_nodes_that_agree_serve_also_at_different_heights(tmp_path: Path) -> None:
    order = FakeOrder(Chain())
    for _ in range(5):
        pay(order)
    behind = FakeOrder(Chain())
    behind.chain.blocks = order.chain.blocks[:3]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with running(tmp_path / "first", order) as ahead:
        await reach(ahead, 5)
        async with running(tmp_path / "second", behind, peers={"ahead:1": NodeAsPeer(ahead)}) as node:
            await ready(node)
    async with (
        running(tmp_path / "second", behind) as node,
        running(tmp_path / "first", order, peers={"behind:1": NodeAsPeer(node)}) as ahead,
    ):
        await ready(ahead)


async def test_of_three_the_odd_one_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollups.peers.COMPARE_MS", 20)
    order = FakeOrder(Chain())
    for name in ("one", "two", "odd"):
        (tmp_path / name).mkdir()
    buggy = Skipping(order.chain, from_height=2)
    peers: dict[str, NodeAsPeer] = {}
    pay(order)
    async with running(tmp_path / "two", order) as two, running(tmp_path / "odd", buggy) as odd:
        peers = {"two:1": NodeAsPeer(two), "odd:1": NodeAsPeer(odd)}
        async with running(tmp_path / "one", order, peers=peers) as one:
            await ready(one)
            height = pay(order)
            buggy.tell()
            for node in (one, two, odd):
                await reach(node, height)
            await peers["odd:1"].until_asked(5)
            one.verify_ready()
            peers["two:1"].node = odd
            await until(one, lambda: bool(one.stopped_reason))
            assert "from height 2 on" in one.stopped_reason


async def test_a_peer_that_is_away_holds_nobody_back(tmp_path: Path) -> None:
    order = FakeOrder(Chain())
    pay(order)
    async with running(tmp_path, order) as node:
        await reach(node, 1)
        peer = NodeAsPeer(node)
    peer.is_away = True
    async with running(tmp_path, order, peers={"away:1": peer}) as node:
        await ready(node)
