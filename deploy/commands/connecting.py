"""How a command reaches the services of a network: each connected when it is first asked for.

Owns the connections of one command, and which keys it verifies by. A command that needs one service opens
one, and runs while others are down. On a chain whose sequencer or settlement log signs with another key than
genesis names, the order is followed from its start, by which every change of keys is proven.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from bridge.client import BridgeClient
from bridge.settlement.client import SettlementClient
from deploy.commands.frame import EXIT_TYPED_WRONG, CommandFailed, Options, progress
from deploy.network_file import NetworkFile
from deploy.node.client import ClientSettings
from deploy.registry.following import ChainRegistry, following
from lockstep.checkpoint import Checkpoint
from lockstep.errors import BadSignature, LockstepError
from lockstep.genesis import Genesis
from lockstep.types import Height, PublicKey
from rollups.client import RollupClient
from sequencer.client import SequencerClient

ATTEMPT_MS_MAX: Final = 3_000
"""How long one of several services may take before the next one is asked."""

PROBE_MS_MAX: Final = 1_000
"""How long to wait for a first answer, by which it is seen whose key is in use."""

STALL_MS_MAX: Final = 15_000
"""How long a stream may tell nothing where something is known to be next."""


class Connections:
    """The services of a network, as clients that are made when they are asked for; see `connected`."""

    def __init__(self, options: Options, stack: AsyncExitStack) -> None:
        """Connect by `options`; clients are closed by `stack`. Raises SettingsInvalid."""
        self.network: NetworkFile = options.network
        """Where everything is."""
        self.genesis: Genesis = options.genesis
        """The chain, which every answer is verified against."""
        self._settings = ClientSettings(tls=self.network.tls)
        self._stack = stack
        # Nothing is verified before it is known whose keys are in use, though several ask at once.
        self._opening = asyncio.Lock()
        self._chain: ChainRegistry | None = None
        self._sequencer: SequencerClient | None = None
        self._settlement: SettlementClient | None = None
        self._bridges: tuple[BridgeClient, ...] = ()
        self._nodes: dict[str, tuple[RollupClient, ...]] = {}

    async def sequencer(self) -> SequencerClient:
        """Return the sequencer's client."""
        async with self._opening:
            return await self._open_sequencer()

    async def settlement(self, *, seen: Checkpoint | None = None) -> SettlementClient:
        """Return the settlement log's client. `seen`: as there; it counts when this is first called."""
        async with self._opening:
            return await self._open_settlement(seen)

    async def registry(self) -> ChainRegistry:
        """Return the registry as of the newest block, followed from genesis. Raises LockstepError."""
        async with self._opening:
            return await self._follow(await self._open_sequencer())

    async def _open_sequencer(self) -> SequencerClient:
        if self._sequencer is None:
            client = SequencerClient(
                self.network.sequencer, self.genesis, self._settings, sequencer_key=self.sequencer_key
            )
            self._sequencer = await self._stack.enter_async_context(client)
            try:
                await client.status(timeout_ms=PROBE_MS_MAX)
            except BadSignature:
                await self._follow(client)
            except LockstepError:
                # Who needs an answer asks again, and is told then.
                pass
        return self._sequencer

    async def _open_settlement(self, seen: Checkpoint | None) -> SettlementClient:
        if self._settlement is None:
            sequencer = await self._open_sequencer()
            client = SettlementClient(
                self.network.settlement,
                self.genesis,
                self._settings,
                seen=seen,
                log_key=self._log_key,
                sequencer_key=self.sequencer_key,
            )
            self._settlement = await self._stack.enter_async_context(client)
            try:
                await client.checkpoint(timeout_ms=PROBE_MS_MAX)
            except BadSignature:
                await self._follow(sequencer)
            except LockstepError:
                pass
        return self._settlement

    async def _follow(self, sequencer: SequencerClient) -> ChainRegistry:
        if self._chain is None:
            chain = ChainRegistry(self.genesis)
            peer = f"sequencer {self.network.sequencer}"
            with progress("following the order") as say:
                async with following(sequencer, chain, genesis=self.genesis, peer=peer, say=say) as follower:
                    await follower.to_head()
            self._chain = chain
        return self._chain

    def sequencer_key(self, height: Height) -> PublicKey:
        """Return the key that signs the header at a height, as far as is known."""
        return self.genesis.sequencer if self._chain is None else self._chain.sequencer_keys.at(height)

    def _log_key(self) -> PublicKey:
        if self._chain is None:
            return self.genesis.settlement.public_key
        return self._chain.registry.keys["settlement"]

    async def bridges(self) -> tuple[BridgeClient, ...]:
        """Return the clients of the coordinators, in the order in which they are to be asked."""
        if not self._bridges:
            await self.sequencer()
            self._bridges = tuple([await self._bridge(target) for target in self.network.bridges])
        return self._bridges

    async def nodes(self, rollup: str) -> tuple[RollupClient, ...]:
        """Return the clients of a rollup's nodes, in the order in which they are to be asked.

        Raises CommandFailed if the network file names none.
        """
        if rollup not in self.network.rollups:
            known = ", ".join(self.network.rollups) or "none"
            raise CommandFailed(
                f"the network file names no node of rollup {rollup}; it names nodes of: {known}",
                advice=f'add `{rollup} = ["HOST:PORT"]` below [rollups] in it',
                code="NO_NODE",
                exit_code=EXIT_TYPED_WRONG,
            )
        if rollup not in self._nodes:
            await self.sequencer()
            targets = self.network.rollups[rollup]
            self._nodes[rollup] = tuple([await self._node(rollup, target) for target in targets])
        return self._nodes[rollup]

    async def _bridge(self, target: str) -> BridgeClient:
        client = BridgeClient(target, self.genesis, self._settings, sequencer_key=self.sequencer_key)
        return await self._stack.enter_async_context(client)

    async def _node(self, rollup: str, target: str) -> RollupClient:
        client = RollupClient(target, self.genesis, rollup, self._settings, sequencer_key=self.sequencer_key)
        return await self._stack.enter_async_context(client)


@asynccontextmanager
async def connected(options: Options) -> AsyncIterator[Connections]:
    """Keep connections to the network of a command while the `async with` block lasts."""
    async with AsyncExitStack() as stack:
        yield Connections(options, stack)
