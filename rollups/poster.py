"""The poster: puts this node's commitments into the settlement log.

Owns the chain of one key's posted commitments: at every height that is a multiple of the genesis file's
interval, each naming the one before it. Invariants: a commitment is signed only when it is durable, and kept
before it is sent, so that the same bytes are sent again after any failure; two of one height are never signed
unless they are the same bytes. The log being away delays nothing but the posting. A key that signed something
else before, as the log then says, is no longer used: what went wrong is for a person to find.
"""

import asyncio
from typing import Final, Protocol

import structlog

from deploy.node.failpoints import FAILPOINTS
from lockstep.commitment import commitment_hash
from lockstep.errors import Contradiction, Discontinuous, LockstepError, UnknownKey
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


class SettlementLog(Protocol):
    """Where commitments go; `bridge.settlement.client.SettlementClient` is one."""

    async def append(self, entry: bytes, *, timeout_ms: int = 10_000) -> int:
        """Append an entry and return its index; the same entry again gets the same index."""


class Poster:
    """Posts for one node with one key."""

    def __init__(self, key: SigningKey, node: RollupNode, log: SettlementLog) -> None:
        """Sign with `key`, while it is an attester of the rollup's, and send to `log`."""
        self._key = key
        self._node = node
        self._log = log
        self.posted_height = 0
        """Height of the key's last commitment that is known to be in the log; 0 if none."""

    async def run(self) -> None:
        """Post what becomes due, for ever, while the node answers for its state."""
        while True:
            await self._node.until_ready()
            try:
                while await self._post_next():
                    pass
            except Contradiction as error:
                self._node.stop_speaking(f"the settlement log has another commitment: {error.message}")
            except LockstepError as error:
                log = structlog.get_logger()
                if error.retryable:
                    log.info("settlement_log_not_reached", reason=str(error))
                else:
                    log.warning("settlement_log_refused", reason=str(error))
                await asyncio.sleep((error.retry_after_ms or PAUSE_MS) / 1_000)
            else:
                await self._until_due()

    async def _post_next(self) -> bool:
        """Post the next commitment that is due; answer whether there was one."""
        if not self._is_attester() or self._node.not_ready_reason:
            return False
        attester = self._key.public_key
        newest, accepted = await self._node.storage.posted(attester)
        self.posted_height = 0 if accepted is None else accepted.height
        pending = newest if newest is not None and newest.log_index is None else None
        if pending is None:
            pending = await self._sign_next(newest, accepted)
        if pending is None:
            return False
        FAILPOINTS.reach(BEFORE_SEND)
        try:
            log_index = await self._log.append(pending.entry)
        except (UnknownKey, Discontinuous) as error:
            # At that height the key was no attester yet: its chain starts later, or, if this data was deleted
            # and made again, started later: then the log knows the key by now, but has what follows already.
            structlog.get_logger().warning("commitment_refused", height=pending.height, reason=str(error))
            log_index = REFUSED
        FAILPOINTS.reach(SENT)
        await self._node.storage.save_log_index(attester, pending.height, log_index)
        return True

    async def _sign_next(
        self, newest: PostedEntry | None, accepted: PostedEntry | None
    ) -> PostedEntry | None:
        """Sign and keep the next commitment, which names the last accepted one; None if it is not due."""
        interval = self._node.genesis.anchor_interval_blocks
        height = interval if newest is None else newest.height + interval
        if height > self._node.published.height:
            return None
        block = await self._node.storage.block(height)
        assert block is not None, "every executed block is kept"
        entry = sign_commitment(
            self._key,
            PostedCommitment(
                chain=self._node.genesis.chain_id,
                attester=self._key.public_key,
                header_hash=header_hash(block.header.encoded),
                commitment=block.commitment,
                previous_height=0 if accepted is None else accepted.height,
                previous_commitment=ZERO_HASH if accepted is None else accepted.commitment_hash,
            ),
        )
        signed = PostedEntry(height, commitment_hash(block.commitment), encode_settlement_entry(entry), None)
        await self._node.storage.save_posted(self._key.public_key, signed)
        return signed

    def _is_attester(self) -> bool:
        record = self._node.published.state.register.registry.rollup(self._node.rollup)
        return record is not None and self._key.public_key in record.attesters.keys

    async def _until_due(self) -> None:
        """Wait until a commitment may have become due."""
        interval = self._node.genesis.anchor_interval_blocks
        await self._node.wait_for((self._node.published.height // interval + 1) * interval)
