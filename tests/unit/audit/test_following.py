"""The follower, with clients that are away, late, or lie."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from deploy.audit.checkers import Audit
from deploy.audit.following import Follower
from deploy.audit.invariants import Invariant, Violated, Violation
from deploy.audit.log_watch import LogWatch
from deploy.audit.nodes import NodeWatch
from deploy.audit.plain.rollup import balance_key
from deploy.audit.report import summary_of
from deploy.audit.watching import Watch
from lockstep.checkpoint import Checkpoint
from lockstep.commitment import Commitment
from lockstep.encoding import u128
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    NotImplementedYet,
    NotReady,
    Pruned,
    UnavailablePeer,
    from_record,
)
from lockstep.genesis import encode_rollup_definition
from lockstep.header import Tip
from lockstep.merkle import leaf_hash, root_of
from lockstep.registry_entries import RegisterRollup, RegistryChange, SetRules, sign_change
from lockstep.types import REGISTRY_NAMESPACE, ChainId, Height, Namespace, RollupId
from rollups.client import ProvenCommitment, ProvenState, RollupStatus
from sequencer.client import FollowedBlock, KeyAt
from tests.unit.audit.worlds import World, traded
from tests.unit.rollups.chain import ALPHA, BETA, CARL, key, rollup
from tests.unit.rollups.histories import History

AWAY = UnavailablePeer(peer="the node")
DEADLINE_S = 30


@dataclass
class FakeOrder:
    """The order of a world; the stream stays open at its end."""

    world: World
    error_at: dict[int, Exception] = field(default_factory=dict)
    asked: list[Sequence[Namespace]] = field(default_factory=list)
    told: int = 0
    """The last height that was handed out."""

    async def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncGenerator[FollowedBlock, None]:
        self.asked.append(namespaces)
        for followed in self.world.blocks[tip.height :]:
            height = followed.block.header.height
            if height in self.error_at:
                raise self.error_at[height]
            assert sequencer_key(height) == self.world.history.chain.genesis.sequencer
            entries = {name: followed.block.entries.get(name, ()) for name in namespaces}
            self.told = height
            yield replace(
                followed,
                block=replace(followed.block, entries=entries),
                head_height=Height(len(self.world.blocks)),
            )
        await asyncio.Event().wait()


@dataclass
class FakeNode:
    """A node that says what is in `commitments`, once for each error in `errors` not at all."""

    world: World
    rollup: str
    commitments: dict[int, Commitment] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    state_error: Exception | None = None
    state_gate: asyncio.Event | None = None
    """What its state waits for."""
    values: dict[bytes, bytes] = field(default_factory=dict)
    """Values of its state that are its own."""
    order: FakeOrder | None = None
    audit: Audit | None = None
    first_height: int = 1

    async def proven_commitment(self, height: int = 0) -> ProvenCommitment:
        if self.errors:
            raise self.errors.pop(0)
        if height < self.first_height:
            raise Pruned(height=Height(height), first_available=Height(self.first_height))
        commitment = self.commitments.get(height, self.world.commitments[self.rollup, height])
        return ProvenCommitment(commitment, self.world.blocks[height - 1].header, None)

    async def state(self, keys: Sequence[bytes], *, min_height: int = 0) -> ProvenState:
        if self.state_error is not None:
            raise self.state_error
        if self.state_gate is not None:
            await self.state_gate.wait()
        assert self.audit is not None
        height = min(min_height + 3, len(self.world.blocks))
        at = Audit(self.world.history.chain.genesis)
        for followed in self.world.blocks[:height]:
            at.block(followed.block)
        honest = at.chain.rollups[self.rollup].state
        values = {each: self.values.get(each, honest.get(each)) for each in keys}
        return ProvenState(values, self.world.commitments[self.rollup, height])

    async def status(self) -> RollupStatus:
        return RollupStatus(
            chain_id=ChainId(bytes(32)), rollup=self.rollup, modules=(), height=0, time_ms=0, head_height=0,
            commitment=None, attester=None, outbox_items=0, posted_height=0,
            first_available_height=self.first_height, not_ready_reason="", stage_ns={},
        )  # fmt: skip


@dataclass
class FakeLog:
    """The settlement log of a world."""

    log: list[bytes]
    errors: list[Exception] = field(default_factory=list)
    lasting_error: Exception | None = None

    async def entries(self, from_index: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        for index, entry in enumerate(self.log[from_index:], from_index):
            if self.errors:
                raise self.errors.pop(0)
            yield index, entry
        await asyncio.Event().wait()

    async def checkpoint(self) -> Checkpoint:
        if self.lasting_error is not None:
            raise self.lasting_error
        return Checkpoint("example.org/test", len(self.log), root_of(list(map(leaf_hash, self.log))))


class Network:
    """A network of fakes, and the follower of it."""

    def __init__(self, world: World, *, grace_ms: int = 20_000) -> None:
        self.audit = Audit(world.history.chain.genesis)
        self.watch = Watch(self.audit, until_height=None)
        self.order = FakeOrder(world)
        self.alpha, self.beta = (FakeNode(world, name, audit=self.audit) for name in (ALPHA, BETA))
        self.log = FakeLog(world.log())
        self.follower = Follower(
            self.watch,
            self.order,
            LogWatch(self.watch, self.log),
            [
                NodeWatch(self.watch, self.alpha, ALPHA, "alpha-0"),
                NodeWatch(self.watch, self.beta, BETA, "beta-0"),
            ],
            grace_ms=grace_ms,
        )

    async def run(self, until_height: int | None = None, *, to_head: bool = True) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.follower.run(until_height, to_head=to_head and until_height is None)

    async def violation(self) -> Violation:
        with pytest.raises(Violated) as raised:
            await self.run()
        return raised.value.violation


@pytest.fixture(scope="module")
def world() -> World:
    return World(traded(7))


@pytest.fixture
def network(world: World) -> Network:
    return Network(world)


async def test_everything_is_compared_up_to_the_head_and_summed_up(network: Network, world: World) -> None:
    await network.run()
    summary = summary_of(network.follower, 2.0)
    assert summary.is_complete
    assert summary.height == summary.head_height == len(world.blocks)
    assert summary.checks[Invariant.COMMITMENTS] == 2 * len(world.blocks)
    assert summary.checks[Invariant.ANCHORS] == len(world.log()) - 1
    assert summary.blocks_per_s == len(world.blocks) / 2
    assert summary.as_json()["complete"] is True
    assert len(summary.lines()) == 6


async def test_it_stops_at_a_height(network: Network) -> None:
    await network.run(5)
    assert network.audit.height == 5
    assert all(node.compared_height == 5 for node in network.follower.nodes)
    assert network.audit.counts[Invariant.ANCHORS] == 3, "what is anchored above is not looked at"


async def test_it_is_stopped_at_what_was_looked_at_and_waits_for_who_answers(world: World) -> None:
    network = Network(world)
    network.beta.errors = [AWAY] * 10_000
    running = asyncio.create_task(network.run(to_head=False))
    async with asyncio.timeout(DEADLINE_S):
        await network.watch.until(lambda: network.audit.height == len(world.blocks))
    await network.follower.stop()
    await running
    summary = summary_of(network.follower, 1)
    assert [node.compared_height for node in summary.nodes] == [len(world.blocks), 0]


async def test_a_sequencer_that_is_not_there(world: World) -> None:
    network = Network(world, grace_ms=1)
    network.order.world = World(History())
    with pytest.raises(UnavailablePeer, match="the sequencer"):
        await network.run()


@pytest.mark.parametrize(
    "error", [Discontinuous(what="header", reason="x"), BadSignature(what="x", signer="y")]
)
async def test_a_block_that_does_not_hold(network: Network, error: Exception) -> None:
    network.order.error_at[9] = error
    violation = await network.violation()
    assert (violation.invariant, violation.height) == (Invariant.ORDER, 9)


async def test_an_order_that_was_pruned_cannot_be_audited(network: Network) -> None:
    network.order.error_at[1] = Pruned(height=Height(1), first_available=Height(9))
    with pytest.raises(Pruned):
        await network.run()


async def test_what_a_service_refuses_is_no_lie(network: Network) -> None:
    refused = Discontinuous(what="header", reason="x")
    received = from_record(refused.to_record(), refused.status)
    network.order.error_at[2] = received
    with pytest.raises(Discontinuous):
        await network.run()


# --- nodes ------------------------------------------------------------------------------------------------


async def test_a_node_that_comes_back_is_compared_from_where_it_was(network: Network, world: World) -> None:
    network.alpha.errors = [AWAY, AWAY]
    await network.run()
    assert summary_of(network.follower, 1).is_complete
    assert network.audit.counts[Invariant.COMMITMENTS] == 2 * len(world.blocks)


async def test_a_node_that_stays_away_is_told_of_and_no_violation(world: World) -> None:
    network = Network(world, grace_ms=100)
    network.beta.errors = [AWAY] * 10_000
    await network.run()
    summary = summary_of(network.follower, 1)
    assert not summary.is_complete
    assert [node.away for node in summary.nodes] == ["", AWAY.message]
    assert "AWAY" in "\n".join(summary.lines())
    assert network.audit.height == len(world.blocks)


async def test_a_node_without_its_first_blocks_is_compared_from_where_it_begins(
    network: Network, world: World
) -> None:
    network.beta.first_height = 12
    await network.run()
    assert network.follower.nodes[1].skipped_height == 11
    assert network.audit.counts[Invariant.COMMITMENTS] == 2 * len(world.blocks) - 11


async def test_a_node_with_another_state_is_asked_which_keys_differ(network: Network, world: World) -> None:
    network.beta.commitments[10] = replace(world.commitments[BETA, 10], state_root=bytes(32))
    rich = balance_key(b"gold", CARL.public_key)
    network.beta.values = {rich: u128(10**9)}
    violation = await network.violation()
    assert (violation.invariant, violation.height, violation.rollup) == (Invariant.COMMITMENTS, 10, BETA)
    assert "beta-0" in violation.source
    [difference] = violation.differences
    assert (difference.key, difference.actual) == (rich, u128(10**9))
    assert difference.expected != difference.actual
    assert rich.hex() in "\n".join(violation.lines())


async def test_to_ask_what_differs_the_order_is_followed_beyond_the_last_block_to_look_at(
    network: Network, world: World
) -> None:
    network.beta.commitments[10] = replace(world.commitments[BETA, 10], state_root=bytes(32))
    network.beta.values = {balance_key(b"gold", CARL.public_key): u128(10**9)}
    with pytest.raises(Violated) as raised:
        await network.run(10)
    assert raised.value.violation.differences
    assert network.audit.height == 13


async def test_who_stops_it_meanwhile_is_told_what_was_found(network: Network, world: World) -> None:
    network.beta.commitments[10] = replace(world.commitments[BETA, 10], state_root=bytes(32))
    network.beta.state_gate = asyncio.Event()
    running = asyncio.create_task(network.run())
    async with asyncio.timeout(DEADLINE_S):
        await network.watch.until(lambda: network.watch.found is not None)
    running.cancel()
    with pytest.raises(Violated, match="has another state"):
        await running


async def test_a_node_that_cannot_be_asked_which_keys_differ(network: Network, world: World) -> None:
    network.alpha.commitments[10] = replace(world.commitments[ALPHA, 10], state_root=bytes(32))
    network.alpha.state_error = NotReady(reason="it differs")
    violation = await network.violation()
    assert violation.height == 10
    assert "it differs" in violation.remark


async def test_a_node_that_differs_in_nothing_that_is_known(network: Network, world: World) -> None:
    network.alpha.commitments[10] = replace(world.commitments[ALPHA, 10], state_root=bytes(32))
    violation = await network.violation()
    assert not violation.differences
    assert "none of" in violation.remark


async def test_a_node_whose_answer_does_not_verify(network: Network) -> None:
    network.alpha.errors = [BadSignature(what="header", signer="somebody")]
    violation = await network.violation()
    assert (violation.invariant, violation.source) == (
        Invariant.COMMITMENTS,
        "the node of alpha at alpha-0",
    )


# --- the settlement log -----------------------------------------------------------------------------------


async def test_a_log_that_breaks_off_is_read_on(network: Network, world: World) -> None:
    network.log.errors = [UnavailablePeer(peer="the log")]
    await network.run()
    assert network.audit.log.size == len(world.log())


async def test_a_log_that_stays_away_is_told_of(world: World) -> None:
    network = Network(world, grace_ms=100)
    network.log.lasting_error = UnavailablePeer(peer="the log")
    await network.run()
    assert "the log does not answer" in summary_of(network.follower, 1).log_away


async def test_a_log_that_goes_back_on_its_word(network: Network) -> None:
    network.log.lasting_error = Contradiction(what="checkpoint", evidence="two roots")
    violation = await network.violation()
    assert violation.invariant == Invariant.APPEND_ONLY
    assert "two roots" in violation.message


async def test_a_signature_of_the_log_is_looked_at_again_before_it_is_a_lie(network: Network) -> None:
    network.log.errors = [BadSignature(what="checkpoint", signer="the log")] * 2
    await network.run()
    assert summary_of(network.follower, 1).is_complete
    again = Network(network.order.world)
    again.log.lasting_error = BadSignature(what="checkpoint", signer="the log")
    assert (await again.violation()).invariant == Invariant.APPEND_ONLY


# --- rollups that come later ------------------------------------------------------------------------------


async def test_a_rollup_that_registers_is_followed_before_it_begins() -> None:
    history = History()
    chain = history.chain
    gamma = rollup(ALPHA)
    definition = encode_rollup_definition(replace(gamma, id=RollupId("gamma")))
    change = RegistryChange(chain.genesis.chain_id, "gamma", 1, Height(3), RegisterRollup(definition))
    chain.block((REGISTRY_NAMESPACE, sign_change(key("governance"), change)))
    for _ in range(4):
        chain.block()
    network = Network(World(history))
    await network.run()
    first, second = network.order.asked
    assert "gamma" not in first
    assert "gamma" in second
    assert network.audit.chain.rollups["gamma"].state


async def test_rules_that_this_version_does_not_know_are_not_audited() -> None:
    history = History()
    chain = history.chain
    change = RegistryChange(chain.genesis.chain_id, "rules", 1, Height(3), SetRules(2))
    chain.block((REGISTRY_NAMESPACE, sign_change(key("governance"), change)))
    chain.block()
    network = Network(World(history))
    chain.block()
    with pytest.raises(NotImplementedYet, match="version 2 of the register's rules, from block 3 on"):
        await network.run()
