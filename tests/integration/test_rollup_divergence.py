"""A node as a process whose data were changed: the settlement log or a peer shows it, and it falls silent."""

import asyncio
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from bridge.settlement.client import SettlementClient
from deploy.node.client import ClientSettings, connect
from lockstep.attesters import AttesterSet
from lockstep.commitment import commitment_hash
from lockstep.errors import NotReady
from lockstep.register import Phase
from lockstep.types import PublicKey
from tests.integration.rollup_deals import make_deal
from tests.integration.rollup_network import DEADLINE_S, Network, Node, network
from tests.unit.rollups.chain import ALPHA, ANN, BETA, CARL, key, rollup
from tests.unit.rollups.tampering import make_rich

pytestmark = pytest.mark.processes

THREE = {f"alpha-{number}": f"attester {number} of alpha" for number in range(3)}

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def until_health(node: Node, *expected: int) -> None:
    """Wait until a node's health has been told to be each of these, in this order."""
    remaining = list(expected)
    async with asyncio.timeout(DEADLINE_S), connect(node.address, ClientSettings()) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="lockstep.v1.Rollup")
        )
        async for response in watching:
            if response.status == remaining[0]:
                del remaining[0]
            if not remaining:
                watching.cancel()
                return


async def tampered(net: Network, name: str, *, with_log: bool = False) -> int:
    """Stop a node of alpha, change its data and start it; return from which height on it differs.

    `with_log`: start it once the settlement log has a later commitment of others.
    """
    await net.nodes[name].end()
    height = await make_rich(net.nodes[name].data / "rollup.db", net.genesis)
    if with_log:
        async with (
            asyncio.timeout(DEADLINE_S),
            SettlementClient(net.nodes["settlement"].address, net.genesis) as log,
        ):
            while (anchored := (await log.status()).rollups.get("alpha")) is None or anchored.height < height:
                # What is waited for happens in the other process.
                pass
    await net.nodes[name].start()
    return height


async def until_reason(net: Network, name: str, *, saying: str = "commitment") -> str:
    client = await net.client(name)
    await until_health(net.nodes[name], NOT_SERVING)
    async with asyncio.timeout(DEADLINE_S):
        while saying not in (reason := (await client.status()).not_ready_reason):
            # What is waited for happens in the other process.
            pass
    return reason


async def verify_silent(net: Network, name: str, account: PublicKey) -> None:
    client = await net.client(name)
    with pytest.raises(NotReady):
        await client.balance(account, "gold", timeout_ms=1_000)


async def test_the_log_shows_it_before_anything_is_served_or_attested(tmp_path: Path) -> None:
    attesters = AttesterSet(2, tuple(key(name).public_key for name in THREE.values()))
    definitions = (rollup(ALPHA, attesters=attesters), rollup(BETA))
    async with network(tmp_path, *THREE, "beta-0", rollups=definitions, keys=THREE) as net:
        await until_health(net.nodes["alpha-0"], SERVING)
        alpha, other = await net.client("alpha-0"), await net.client("alpha-1")
        await tampered(net, "alpha-0", with_log=True)
        deal = await make_deal(net)
        opened = await net.order(deal.open, *deal.locks)
        reason = await until_reason(net, "alpha-0")
        height = int(reason.partition("at height ")[2].partition(" ")[0])
        for each in (alpha, other):
            assert commitment_hash(await each.commitment(height)).hex() in reason
        await verify_silent(net, "alpha-0", CARL.public_key)
        await deal.until_phase("beta-0", Phase.LOCKED, opened.placement.height)
        swap = await other.swap(deal.id, min_height=opened.placement.height + 20)
        assert swap.record is not None
        assert swap.record.phase == Phase.LOCKED
        assert (await alpha.status()).outbox_items == 1, "found, and never said"
        assert await other.balance(CARL.public_key, "gold") == 0


async def test_of_two_that_differ_both_fall_silent_and_name_the_same_height(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0", "alpha-1") as net:
        nodes = [net.nodes["alpha-0"], net.nodes["alpha-1"]]
        addresses = [node.address for node in nodes]
        for node, peer in zip(nodes, reversed(addresses), strict=True):
            await node.end()
            node.settings += f'\npeers = ["{peer}"]'
            await node.start()
        for node in nodes:
            await until_health(node, SERVING)
        height = await tampered(net, "alpha-1")
        for name, peer in zip(("alpha-0", "alpha-1"), reversed(addresses), strict=True):
            # Whether the settlement log or the peer shows it first, the first height is told in the end.
            reason = await until_reason(net, name, saying="peer")
            assert f"peer {peer} differs from height {height} on in the state root:" in reason


async def test_a_peer_shows_it_to_a_node_that_served(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0", "alpha-1") as net:
        honest, other = net.nodes["alpha-1"], net.nodes["alpha-0"]
        await honest.end()
        honest.settings += f'\npeers = ["{other.address}"]'
        await honest.start()
        await until_health(honest, SERVING)
        assert await (await net.client("alpha-1")).balance(ANN.public_key, "gold") == 1_000
        # Without the settlement log the other one has nobody to tell it.
        other.settings = "\n".join(
            line for line in other.settings.splitlines() if not line.startswith("settlement")
        )
        switching = asyncio.create_task(until_health(honest, SERVING, NOT_SERVING))
        height = await tampered(net, "alpha-0")
        await until_health(other, SERVING)
        await switching
        reason = await until_reason(net, "alpha-1")
        assert f"peer {other.address} differs from height {height} on in the state root:" in reason
        for name in ("alpha-0", "alpha-1"):
            there = await (await net.client(name)).commitment(height)
            assert commitment_hash(there).hex() in reason
        await verify_silent(net, "alpha-1", ANN.public_key)
        assert "peer_diverges" in honest.log()
