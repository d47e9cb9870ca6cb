"""Comparing with peers: do other nodes of this rollup have the same commitments, and from where on not?

Owns the search for the first divergent height and what comes of it. Peers are other nodes of the same rollup
that the settings name. Commitments are compared at the newest common height; where they differ, the first
height at which they do is found by halving, because the tree of receipts only grows and so never agrees
again. Invariant: a node goes on only while those that agree with it, itself counted, outnumber those that do
not; so of two that differ neither is believed, and of three the odd one falls silent.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from lockstep.commitment import Commitment, commitment_hash
from lockstep.errors import LockstepError
from lockstep.settlement_entries import ProvenHeader
from rollups.node import RollupNode

COMPARE_MS: Final = 5_000
"""How often peers are asked."""

CALL_TIMEOUT_MS: Final = 1_000
"""How long a call to a peer may take."""

_HOLD: Final = "peers"


class Commitments(Protocol):
    """A commitment with its block's signed header."""

    @property
    def commitment(self) -> Commitment:
        """The commitment."""

    @property
    def header(self) -> ProvenHeader:
        """The signed header of its block."""


class Peer(Protocol):
    """Another node of the rollup; `rollups.client.RollupClient` is one."""

    async def proven_commitment(self, height: int = 0, *, timeout_ms: int = 10_000) -> Commitments:
        """Return the commitment after a block, 0 being the newest. Raises `LockstepError`."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """From where on a peer has other commitments."""

    peer: str
    """The peer's address."""
    height: int
    """The first height at which they differ, as far as the peer can be asked."""
    agreed_height: int
    """The last height that is known to agree: the one before it, unless the peer cannot be asked further."""
    parts: tuple[str, ...]
    """What differs there."""
    own_hash: bytes
    """32 bytes: this node's commitment there."""
    peer_hash: bytes
    """32 bytes: the peer's."""

    def __str__(self) -> str:
        since = f"from height {self.height} on"
        if self.agreed_height + 1 < self.height:
            since = f"at height {self.height}, and perhaps from height {self.agreed_height + 1} on,"
        return (
            f"peer {self.peer} differs {since} in {', '.join(self.parts)}: this node's commitment there is "
            f"{self.own_hash.hex()}, the peer's is {self.peer_hash.hex()}; "
            "find out which of them executed the order"
        )


class PeerComparison:
    """Compares one node with its peers."""

    def __init__(self, node: RollupNode, peers: Mapping[str, Peer]) -> None:
        """Hold `node` back until each of `peers`, given by their addresses, was asked once."""
        self._node = node
        self._peers = peers
        self._verdicts: dict[str, Divergence | None] = {}
        node.hold_back(_HOLD, "it was not compared with its peers yet")

    async def run(self) -> None:
        """Compare, let the node speak, and compare again and again, until peers have silenced it.

        It goes on when somebody else has: with peers one finds from where on.
        """
        while True:
            await asyncio.gather(*map(self._compare, self._peers))
            if self._is_outnumbered():
                return
            self._node.release(_HOLD)
            await asyncio.sleep(COMPARE_MS / 1_000)

    async def _compare(self, name: str) -> None:
        """Keep whether a peer agrees. One that does not answer keeps what was found last."""
        if not self._node.published.height:
            return
        try:
            found = await self._divergence(name)
        except LockstepError as error:
            structlog.get_logger().info("peer_not_compared", peer=name, reason=str(error))
            return
        if found is not None and found != self._verdicts.get(name):
            structlog.get_logger().error("peer_diverges", peer=name, divergence=str(found))
        self._verdicts[name] = found

    async def _divergence(self, name: str) -> Divergence | None:
        """Return from where on a peer differs; None if it agrees at the newest common height."""
        theirs = await self._theirs(name, 0)
        newest = self._node.published.height
        if theirs.commitment.height > newest:
            theirs = await self._theirs(name, newest)
        divergent, agreed = theirs.commitment.height, 0
        if not await self._differing_parts(theirs):
            return None
        first = theirs
        while divergent - agreed > 1:
            middle = (agreed + divergent) // 2
            try:
                theirs = await self._theirs(name, middle)
            except LockstepError as error:
                if error.retryable:
                    raise
                # Pruned, or signed by a sequencer's key of former times: what is known has to do.
                break
            if await self._differing_parts(theirs):
                divergent, first = middle, theirs
            else:
                agreed = middle
        own = await self._node.storage.block(divergent)
        assert own is not None, "every executed block is kept"
        parts = await self._differing_parts(first)
        return Divergence(
            name, divergent, agreed, parts, commitment_hash(own.commitment), commitment_hash(first.commitment)
        )

    async def _theirs(self, name: str, height: int) -> Commitments:
        return await self._peers[name].proven_commitment(height, timeout_ms=CALL_TIMEOUT_MS)

    async def _differing_parts(self, theirs: Commitments) -> tuple[str, ...]:
        """Return in what a peer's commitment differs from this node's of the same height."""
        own = await self._node.storage.block(theirs.commitment.height)
        assert own is not None, "every executed block is kept"
        one, other = own.commitment, theirs.commitment
        same = {
            "the header": own.header.encoded == theirs.header.encoded,
            "the state root": one.state_root == other.state_root,
            "the receipts root": (one.receipt_count, one.receipts_root)
            == (other.receipt_count, other.receipts_root),
            "the register root": one.register_root == other.register_root,
        }
        return tuple(part for part, is_same in same.items() if not is_same)

    def _is_outnumbered(self) -> bool:
        """Stop the node from speaking unless those that agree outnumber those that do not."""
        against = [verdict for verdict in self._verdicts.values() if verdict is not None]
        agreeing = 1 + len(self._verdicts) - len(against)
        if agreeing > len(against):
            return False
        self._node.stop_speaking(str(min(against, key=lambda each: each.height)))
        return True
