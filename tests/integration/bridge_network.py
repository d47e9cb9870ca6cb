"""Coordinators among real rollup nodes and a settlement log: what tests of levels and cycles share."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from bridge.client import BridgeClient, CommitLevel, RevealPolicy, SwapPhase, SwapView, Trader, transfer_leg
from deploy.node.client import ClientSettings
from deploy.node.logs import Secret
from lockstep.allocations import Allocation
from lockstep.attesters import AttesterSet
from lockstep.genesis import Asset, BankModule, EscrowModule, Modules, RollupDefinition
from lockstep.terms import decode_terms, swap_id_of
from lockstep.types import RollupId, SwapId
from tests.integration.rollup_network import DEADLINE_S, Network, Node
from tests.integration.rollup_network import network as rollup_network
from tests.unit.rollups.chain import ALPHA, ANN, BETA, BOB, CARL, key

GAMMA = RollupId("gamma")
CYCLE = (ALPHA, BETA, GAMMA)
TRADERS = (ANN, BOB, CARL)


def rollups() -> tuple[RollupDefinition, ...]:
    """Return alpha, beta and gamma, on which each trader has 10.00 gold, each with one attester."""
    allocations = tuple(Allocation(trader.public_key, 1_000) for trader in TRADERS)
    modules = Modules(BankModule((Asset("gold", 2, 0, allocations),)), EscrowModule(minimum_lock=5))
    keys = {name: key(f"attester of {name}").public_key for name in CYCLE}
    return tuple(
        RollupDefinition(name, AttesterSet(1, (attester,)), modules=modules)
        for name, attester in keys.items()
    )


class Market:
    """The network, its traders, and coordinators that know all its nodes."""

    def __init__(self, net: Network, stack: AsyncExitStack) -> None:
        self.net = net
        self.ann, self.bob, self.carl = ring = [Trader(each, net.genesis) for each in TRADERS]
        self.traders: dict[bytes, Trader] = {trader.account: trader for trader in ring}
        self._stack = stack
        self._salts = 0

    async def coordinator(self, name: str = "bridge", failpoints: str = "") -> Node:
        """Start a coordinator; one of the same name has the data of the one before it."""
        node = self.net.nodes.get(name)
        if node is None:
            address = {each: node.address for each, node in self.net.nodes.items()}
            known = ", ".join(
                f"{rollup} = {[target for each, target in address.items() if each.startswith(rollup)]}"
                for rollup in CYCLE
                if f"{rollup}-0" in address
            )
            settings = (
                f'sequencer = "{address["sequencer"]}"\nsettlement = "{address["settlement"]}"\n'
                f"rollups = {{ {known} }}"
            )
            node = Node(name, "bridge", self.net.folder, settings)
            # The network kills every node that it knows.
            assert isinstance(self.net.nodes, dict)
            self.net.nodes[name] = node
        await node.start(failpoints)
        return node

    async def client(self, node: Node) -> BridgeClient:
        """Return a client of a coordinator, which outlives it."""
        client = BridgeClient(node.address, self.net.genesis, ClientSettings(reconnect_ms_max=100))
        return await self._stack.enter_async_context(client)

    async def terms(
        self, names: Sequence[RollupId] = (ALPHA, BETA), *, amount: int = 100, lock_within_ms: int = 30_000
    ) -> bytes:
        """Return Ann's terms of now: with the next trader of the ring on each rollup."""
        self._salts += 1
        ring = [trader.account for trader in (self.ann, self.bob, self.carl)][: len(names)]
        legs = [
            transfer_leg(
                rollup=name,
                sender=ring[place % len(ring)],
                recipient=ring[(place + 1) % len(ring)],
                asset="gold",
                amount=amount,
            )
            for place, name in enumerate(names)
        ]
        return self.ann.new_terms(
            legs,
            time_ms=await self.net.sequencer.time_ms(),
            lock_within_ms=lock_within_ms,
            salt=self._salts.to_bytes(16, "big"),
        )

    async def give(
        self,
        client: BridgeClient,
        terms_bytes: bytes,
        *,
        policy: RevealPolicy = RevealPolicy.BY_TRADER,
        preimage: Secret | None = None,
    ) -> SwapId:
        """Propose a swap and give all its locks."""
        swap_id = swap_id_of(terms_bytes)
        await client.propose(terms_bytes, idempotency_key=swap_id, reveal_policy=policy, preimage=preimage)
        for place, leg in enumerate(decode_terms(terms_bytes).legs):
            await client.accept(swap_id, place, self.traders[leg.sender].sign_lock(terms_bytes, place))
        return swap_id

    async def commit(self, client: BridgeClient, terms_bytes: bytes) -> SwapId:
        """See a swap through until it is committed."""
        swap_id = await self.give(client, terms_bytes)
        view = await client.wait_until(swap_id, [SwapPhase.LOCKED])
        assert view.phase is SwapPhase.LOCKED, view
        await client.reveal(swap_id, self.ann.preimage(terms_bytes))
        return swap_id


@asynccontextmanager
async def market(folder: Path, *names: str) -> AsyncIterator[Market]:
    """Run settlement log, sequencer and these rollup nodes; those named -0 attest."""
    keys = {"gamma-0": "attester of gamma"} if "gamma-0" in names else {}
    async with (
        rollup_network(folder, *names, rollups=rollups(), keys=keys) as net,
        AsyncExitStack() as stack,
    ):
        yield Market(net, stack)


async def until_level(client: BridgeClient, swap_id: SwapId, level: CommitLevel) -> SwapView:
    """Wait until a decided swap has a level."""
    async with asyncio.timeout(DEADLINE_S), aclosing(client.watch(0, [swap_id])) as changes:
        async for view in changes:
            if view.is_final and view.level >= level:
                return view
    raise AssertionError("watch ends only by raising")


def delete_data(node: Node) -> None:
    """Delete everything that a process has, once it ended."""
    shutil.rmtree(node.data)
