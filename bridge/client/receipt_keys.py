"""Whose signatures count, for a client that starts from the genesis file and cannot have followed the chain.

Owns the changes of the registry as far as they were read, and where the settlement log has them. Invariant:
every change was ordered in a block that the sequencer of its time signed, and valid at its place, so that
nobody who serves them can make one up.
"""

from contextlib import aclosing

from bridge.settlement.client import SettlementClient
from lockstep.errors import BadSignature, Discontinuous
from lockstep.genesis import Genesis
from lockstep.header import genesis_tip
from lockstep.settlement_entries import (
    EntryType,
    Registration,
    decode_settlement_entry,
    verify_proven_header,
)
from lockstep.settlement_registry import KnownRegistry
from lockstep.types import REGISTRY_NAMESPACE, Height, PublicKey
from sequencer.client import SequencerClient


class KnownKeys:
    """The registry as far as it was read; clients ask it whose signature counts."""

    def __init__(self, genesis: Genesis) -> None:
        """Know the genesis file alone."""
        self._genesis = genesis
        self.registry = KnownRegistry.from_genesis(genesis)
        """The registry, with its past."""
        self.indexes: tuple[int, ...] = ()
        """Where the settlement log has its changes, ascending."""

    def sequencer_at(self, height: Height) -> PublicKey:
        """Return the key that signs the header at a height."""
        return self.registry.sequencer_key_at(height)

    def log(self) -> PublicKey:
        """Return the key that signs the settlement log's checkpoints now."""
        return self.registry.now.keys["settlement"]

    async def read(self, log: SettlementClient, sequencer: SequencerClient) -> None:
        """Read every change that the log has now.

        That takes all of the log. If its key was replaced, the changes are read in the order first, which
        takes all of the chain. Raises what does not hold, and what is worth repeating.
        """
        try:
            size = (await log.checkpoint()).size
        except BadSignature:
            await self._follow(sequencer)
            size = (await log.checkpoint()).size
        await self._scan(log, size)

    async def _scan(self, log: SettlementClient, size: int) -> None:
        known, indexes = KnownRegistry.from_genesis(self._genesis), list[int]()
        async with aclosing(log.entries()) as entries:
            async for index, encoded in entries:
                if encoded[1] == EntryType.REGISTRATION:
                    entry = decode_settlement_entry(encoded)
                    assert isinstance(entry, Registration), "its second byte says so"
                    verify_proven_header(known.sequencer_key_at(entry.height), entry.header)
                    known = _accepted(known, entry.height, entry.index, entry.payload)
                    indexes.append(index)
                if index == size - 1:
                    break
        height = max((each.height for each in known.ordered), default=Height(0))
        self.registry = known.advanced(height)
        self.indexes = tuple(indexes)

    async def _follow(self, sequencer: SequencerClient) -> None:
        tip = genesis_tip(self._genesis.chain_id, self._genesis.genesis_time_ms)
        blocks = sequencer.follow(tip=tip, namespaces=(REGISTRY_NAMESPACE,), sequencer_key=self.sequencer_at)
        async with aclosing(blocks) as followed_blocks:
            async for followed in followed_blocks:
                height = followed.block.header.height
                for entry in followed.block.entries[REGISTRY_NAMESPACE]:
                    known = self.registry.accepted(height, entry.index, entry.payload)
                    # What the chain ignores changes nothing, here as there.
                    if not isinstance(known, str):
                        self.registry = known
                self.registry = self.registry.advanced(height)
                if height >= followed.head_height:
                    return


def _accepted(known: KnownRegistry, height: Height, index: int, payload: bytes) -> KnownRegistry:
    accepted = known.accepted(height, index, payload)
    if isinstance(accepted, str):
        raise Discontinuous(what="registration in the settlement log", reason=accepted)
    return accepted
