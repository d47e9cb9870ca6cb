"""The registry of a running chain, followed from its genesis file.

Owns the walk through the order. Every header is verified under the key that the registry named for its
height, every `_registry` entry is proven to be there and none to be missing: the sequencer that serves this
cannot lie about it. Takes as long as the chain is: some thousand blocks a second.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from lockstep.errors import UnavailablePeer
from lockstep.genesis import Genesis
from lockstep.header import Tip, genesis_tip, tip_of
from lockstep.key_history import KeyHistory
from lockstep.registry import Registry, RegistryEvent, role_key_at, step
from lockstep.types import REGISTRY_NAMESPACE, Height, PublicKey
from sequencer.client import FollowedBlock, SequencerClient

STALL_MS_MAX: Final = 15_000
"""How long to wait for a block; an idle chain makes one in a fraction of a second."""

Say = Callable[[str], None]
"""Is told, in words, what is going on."""

_SAY_BLOCKS: Final = 5_000


class ChainRegistry:
    """The registry after the newest block that was followed; see `following`."""

    def __init__(self, genesis: Genesis) -> None:
        """Start before the first block."""
        self.registry = Registry.from_genesis(genesis)
        """The registry."""
        self.tip: Tip = genesis_tip(genesis.chain_id, genesis.genesis_time_ms)
        """The block that it is after."""
        self.sequencer_keys = KeyHistory("sequencer", self.registry, 0)
        """Who signed which header."""

    def take(self, followed: FollowedBlock) -> tuple[RegistryEvent, ...]:
        """Go on to the next block, and return what became of changes in it."""
        block = followed.block
        height = block.header.height
        entries = [(entry.index, entry.payload) for entry in block.entries[REGISTRY_NAMESPACE]]
        self.registry, events = step(
            self.registry, height=height, time_ms=block.header.time_ms, entries=entries
        )
        self.tip = tip_of(block.header, block.hash)
        self.sequencer_keys.follow(self.registry, height)
        return events

    def next_key(self, height: Height) -> PublicKey:
        """Return the key that signs the header after the tip."""
        return role_key_at(self.registry, "sequencer", height)


class Follower:
    """Goes through the order, block by block."""

    def __init__(
        self,
        genesis: Genesis,
        chain: ChainRegistry,
        blocks: AsyncIterator[FollowedBlock],
        *,
        peer: str,
        say: Say,
    ) -> None:
        self.genesis = genesis
        """The chain's genesis."""
        self.chain = chain
        """Where it is."""
        self.newest: FollowedBlock | None = None
        """The block at the chain's tip; None before one was followed."""
        self._blocks = blocks
        self._peer = peer
        self._say = say

    async def next(self) -> tuple[tuple[RegistryEvent, ...], Height]:
        """Follow one more block; return what became of changes in it, and the newest height there is.

        Raises UnavailablePeer if none comes for long; Malformed, BadSignature, Discontinuous, Pruned.
        """
        try:
            async with asyncio.timeout(STALL_MS_MAX / 1_000):
                followed = await anext(self._blocks)
        except TimeoutError:
            raise UnavailablePeer(peer=self._peer) from None
        if followed.block.header.height % _SAY_BLOCKS == 0:
            self._say(f"following the order: block {followed.block.header.height} of {followed.head_height}")
        self.newest = followed
        return self.chain.take(followed), followed.head_height

    async def to_head(self) -> None:
        """Follow every block that there is. Raises as `next`."""
        head_height = Height(1)
        while self.chain.tip.height < head_height:
            _, head_height = await self.next()


@asynccontextmanager
async def following(
    client: SequencerClient, chain: ChainRegistry, *, genesis: Genesis, peer: str, say: Say
) -> AsyncIterator[Follower]:
    """Follow the order from where `chain` is, while the `async with` block lasts."""
    blocks = client.follow(tip=chain.tip, namespaces=(REGISTRY_NAMESPACE,), sequencer_key=chain.next_key)
    async with aclosing(blocks):
        yield Follower(genesis, chain, blocks, peer=peer, say=say)
