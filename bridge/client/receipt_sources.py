"""The services from which a swap's receipt is made, connected, under keys that are found out on the way.

Owns the connections. What is asked of them is `bridge.client.receipts`'.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bridge.client.failover import Failover
from bridge.client.receipt_keys import KnownKeys
from bridge.client.service import BridgeClient
from bridge.settlement.client import SettlementClient
from deploy.node.client import ClientSettings
from deploy.node.failures import SettingsInvalid
from lockstep.genesis import Genesis
from lockstep.header import Tip, genesis_tip, header_hash, tip_of
from lockstep.types import Height, RollupId
from rollups.client import RollupClient
from sequencer.client import SequencerClient

ATTEMPT_MS: Final = 3_000
"""How long one of several services may take before the next is asked."""

_DEFAULT_SETTINGS: Final = ClientSettings()


@dataclass(frozen=True, slots=True)
class Sources:
    """The services from which a receipt is made, connected; `open_sources` makes one."""

    genesis: Genesis
    """The chain."""
    keys: KnownKeys
    """Whose signatures count; all clients ask it."""
    sequencer: SequencerClient
    """The order."""
    settlement: SettlementClient
    """The settlement log."""
    rollups: Mapping[RollupId, Failover[RollupClient]]
    """Nodes of each rollup, in the order in which they are tried."""
    bridges: Failover[BridgeClient] | None
    """Coordinators, in the order in which they are tried; None: the rollups alone say where a swap is."""

    def nodes(self, rollup: RollupId) -> Failover[RollupClient]:
        """Return a rollup's nodes. Raises SettingsInvalid if none is named."""
        found = self.rollups.get(rollup)
        if found is None:
            raise SettingsInvalid(f"no node of rollup {rollup} is named, which settled a leg; name one")
        return found

    async def tip_before(self, height: Height) -> Tip:
        """Return what the block at a height continues. Raises `NotYet`, `Pruned`."""
        if height == 1:
            return genesis_tip(self.genesis.chain_id, self.genesis.genesis_time_ms)
        proven = await self.sequencer.header(Height(height - 1), timeout_ms=ATTEMPT_MS)
        return tip_of(proven.header, header_hash(proven.encoded))


@asynccontextmanager
async def open_sources(
    genesis: Genesis,
    *,
    sequencer: str,
    settlement: str,
    rollups: Mapping[str, Sequence[str]],
    bridges: Sequence[str] = (),
    settings: ClientSettings = _DEFAULT_SETTINGS,
) -> AsyncIterator[Sources]:
    """Keep connections to services (`host:port`) while the `async with` block lasts."""
    keys = KnownKeys(genesis)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        coordinators = [
            await enter(BridgeClient(each, genesis, settings, sequencer_key=keys.sequencer_at))
            for each in bridges
        ]
        nodes = {
            RollupId(name): Failover(
                [
                    await enter(RollupClient(each, genesis, name, settings, sequencer_key=keys.sequencer_at))
                    for each in targets
                ]
            )
            for name, targets in rollups.items()
        }
        order = SequencerClient(sequencer, genesis, settings, sequencer_key=keys.sequencer_at)
        log = SettlementClient(
            settlement, genesis, settings, log_key=keys.log, sequencer_key=keys.sequencer_at
        )
        yield Sources(
            genesis=genesis,
            keys=keys,
            sequencer=await enter(order),
            settlement=await enter(log),
            rollups=nodes,
            bridges=Failover(coordinators) if coordinators else None,
        )
