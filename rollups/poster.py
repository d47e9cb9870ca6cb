"""The poster: puts this node's commitments into the settlement log, and compares with what is there.

Owns the chain of one key's posted commitments: at every height that is a multiple of the genesis file's
interval, each naming the one before it. Invariants: a commitment is signed only when it is durable, and kept
before it is sent, so that the same bytes are sent again after any failure; two of one height are never signed
unless they are the same bytes. The log being away delays nothing but the posting. A node whose own
commitment is not the log's stops speaking: one of them has executed another order, or executed it wrongly.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from deploy.node.failpoints import FAILPOINTS
from lockstep.commitment import commitment_hash
from lockstep.errors import Contradiction, LockstepError, UnknownKey
from lockstep.hashing import ZERO_HASH
from lockstep.header import header_hash
from lockstep.settlement_entries import PostedCommitment, encode_settlement_entry, sign_commitment
from lockstep.signing import SigningKey
from rollups.node import RollupNode
from rollups.storage import REFUSED, PostedEntry

BEFORE_SEND: Final = FAILPOINTS.declare(
    "rollup.commitment.before_send", "a signed commitment is durable, nothing is sent"
)
SENT: Final = FAILPOINTS.declare("rollup.commitment.sent", "the log has the commitment, unknown to this node")

PAUSE_MS: Final = 2_000
"""How long the log is left alone after it did not answer or refused."""

COMPARE_MS: Final = 10_000
"""How often a node that has nothing to post compares itself with the log."""


class AnchoredCommitment(Protocol):
    """What the log has of a rollup; `bridge.settlement.client.AnchoredCommitment` is one."""

    @property
    def height(self) -> int:
        """Height of the rollup's newest commitment."""

    @property
    def commitment_hash(self) -> bytes:
        """The 32 bytes that name it."""


class LogStatus(Protocol):
    """What the log says of itself; `bridge.settlement.client.SettlementStatus` is one."""

    @property
    def rollups(self) -> Mapping[str, AnchoredCommitment]:
        """The newest commitment of each rollup."""


class SettlementLog(Protocol):
    """Where commitments go; `bridge.settlement.client.SettlementClient` is one."""

    async def append(self, entry: bytes, *, timeout_ms: int = 10_000) -> int:
        """Append an entry and return its index; the same entry again gets the same index."""

    async def status(self) -> LogStatus:
        """Return what the log has."""


class Poster:
    """Posts and compares for one node; without a key it only compares."""

    def __init__(self, key: SigningKey | None, node: RollupNode, log: SettlementLog) -> None:
        """Sign with `key`, if it is given and an attester of the rollup's, and send to `log`."""
        self._key = key
        self._node = node
        self._log = log
        self.posted_height = 0
        """Height of the key's last commitment that is known to be in the log; 0 if none."""

    async def run(self) -> None:
        """Compare and post what becomes due, for ever; until the node speaks no more."""
        while not self._node.not_ready_reason:
            try:
                await self._compare()
                while await self._post_next():
                    pass
            except Contradiction as error:
                self._node.stop_speaking(f"the settlement log has another commitment: {error.message}")
                return
            except LockstepError as error:
                log = structlog.get_logger()
                if error.retryable:
                    log.info("settlement_log_not_reached", reason=str(error))
                else:
                    log.warning("settlement_log_refused", reason=str(error))
                await asyncio.sleep((error.retry_after_ms or PAUSE_MS) / 1_000)
                continue
            await self._until_due()

    async def _compare(self) -> None:
        """Compare with the log's newest commitment of this rollup, if this node has got that far."""
        status = await self._log.status()
        anchored = status.rollups.get(self._node.rollup)
        if anchored is None or anchored.height > self._node.published.height:
            return
        own = await self._node.storage.block(anchored.height)
        if own is not None and commitment_hash(own.commitment) != anchored.commitment_hash:
            self._node.stop_speaking(
                f"at height {anchored.height} this node's commitment is "
                f"{commitment_hash(own.commitment).hex()}, the settlement log's is "
                f"{anchored.commitment_hash.hex()}; find out which of them executed the order"
            )

    async def _post_next(self) -> bool:
        """Post the next commitment that is due; answer whether there was one."""
        if self._key is None or not self._is_attester() or self._node.not_ready_reason:
            return False
        attester = self._key.public_key
        newest, accepted = await self._node.storage.posted(attester)
        self.posted_height = 0 if accepted is None else accepted.height
        pending = newest if newest is not None and newest.log_index is None else None
        if pending is None:
            pending = await self._sign_next(self._key, newest, accepted)
        if pending is None:
            return False
        FAILPOINTS.reach(BEFORE_SEND)
        try:
            log_index = await self._log.append(pending.entry)
        except UnknownKey:
            # At that height the key was no attester yet: its chain starts later.
            log_index = REFUSED
        FAILPOINTS.reach(SENT)
        await self._node.storage.save_log_index(attester, pending.height, log_index)
        return True

    async def _sign_next(
        self, key: SigningKey, newest: PostedEntry | None, accepted: PostedEntry | None
    ) -> PostedEntry | None:
        """Sign and keep the next commitment, which names the last accepted one; None if it is not due."""
        interval = self._node.genesis.anchor_interval_blocks
        height = interval if newest is None else newest.height + interval
        if height > self._node.published.height:
            return None
        block = await self._node.storage.block(height)
        assert block is not None, "every executed block is kept"
        entry = sign_commitment(
            key,
            PostedCommitment(
                chain=self._node.genesis.chain_id,
                attester=key.public_key,
                header_hash=header_hash(block.header.encoded),
                commitment=block.commitment,
                previous_height=0 if accepted is None else accepted.height,
                previous_commitment=ZERO_HASH if accepted is None else accepted.commitment_hash,
            ),
        )
        signed = PostedEntry(height, commitment_hash(block.commitment), encode_settlement_entry(entry), None)
        await self._node.storage.save_posted(key.public_key, signed)
        return signed

    def _is_attester(self) -> bool:
        record = self._node.published.state.register.registry.rollup(self._node.rollup)
        return record is not None and self._key is not None and self._key.public_key in record.attesters.keys

    async def _until_due(self) -> None:
        """Wait until a commitment may have become due, or it is time to compare again."""
        interval = self._node.genesis.anchor_interval_blocks
        due = (self._node.published.height // interval + 1) * interval
        try:
            async with asyncio.timeout(COMPARE_MS / 1_000):
                await self._node.wait_for(due)
        except TimeoutError:
            return
