"""Whose signatures count, for a client that starts from the genesis file and cannot have followed the chain.

Owns the changes of the registry as far as they were read, and where the settlement log has them. Invariant:
every change was ordered in a block that the sequencer of its time signed, and valid at its place, so that
nobody who serves them can make one up.
"""

from contextlib import aclosing

from bridge.settlement.client import SettlementClient
from lockstep.block import VerifiedBlock
from lockstep.errors import BadSignature, Discontinuous
from lockstep.genesis import Genesis
from lockstep.header import genesis_tip
from lockstep.settlement_entries import (
    EntryType,
    HeaderRange,
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
        self._told = self.registry
        self._next_index = 0
        self._anchored_height = Height(0)

    def sequencer_at(self, height: Height) -> PublicKey:
        """Return the key that signs the header at a height."""
        return self.registry.sequencer_key_at(height)

    def log(self) -> PublicKey:
        """Return the key that signs the settlement log's checkpoints now."""
        return self.registry.now.keys["settlement"]

    async def read(self, log: SettlementClient, sequencer: SequencerClient, height: Height) -> None:
        """Read every change that the log has, from where this stopped the time before.

        The log anchors a header only when it was told of all changes below, so this waits until it has one
        at the height or above. It takes all of the log the first time; if the log's key was replaced, the
        changes are read in the order first, which takes all of the chain. Raises what does not hold, and what
        is worth repeating.
        """
        try:
            size = (await log.checkpoint()).size
        except BadSignature:
            await self._follow(sequencer)
            size = (await log.checkpoint()).size
        if self._next_index < size or self._anchored_height < height:
            async with aclosing(log.entries(self._next_index)) as entries:
                async for index, encoded in entries:
                    self._take(index, encoded)
                    if self._next_index >= size and self._anchored_height >= height:
                        break
        self.registry = self._told.advanced(self._anchored_height)

    def _take(self, index: int, encoded: bytes) -> None:
        self._next_index = index + 1
        if encoded[1] not in (EntryType.HEADER_RANGE, EntryType.REGISTRATION):
            return
        entry = decode_settlement_entry(encoded)
        if isinstance(entry, HeaderRange):
            self._anchored_height = entry.last.header.height
        elif isinstance(entry, Registration):
            verify_proven_header(self._told.sequencer_key_at(entry.height), entry.header)
            accepted = self._told.accepted(entry.height, entry.index, entry.payload)
            if isinstance(accepted, str):
                raise Discontinuous(what="registration in the settlement log", reason=accepted)
            self._told = accepted
            self.indexes = (*self.indexes, index)

    def follow(self, block: VerifiedBlock) -> None:
        """Take in the changes in a block of the order, which has all entries of `_registry`."""
        height = block.header.height
        for entry in block.entries[REGISTRY_NAMESPACE]:
            known = self.registry.accepted(height, entry.index, entry.payload)
            # What the chain ignores changes nothing, here as there.
            if not isinstance(known, str):
                self.registry = known
        self.registry = self.registry.advanced(height)

    async def _follow(self, sequencer: SequencerClient) -> None:
        tip = genesis_tip(self._genesis.chain_id, self._genesis.genesis_time_ms)
        blocks = sequencer.follow(tip=tip, namespaces=(REGISTRY_NAMESPACE,), sequencer_key=self.sequencer_at)
        async with aclosing(blocks) as coming:
            async for followed in coming:
                self.follow(followed.block)
                if followed.block.header.height >= followed.head_height:
                    return
