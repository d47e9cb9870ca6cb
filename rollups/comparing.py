"""Comparing with the settlement log: is what this node executed what the rollup's attesters vouched for?

Owns what is compared and when; what comes of it is the node's. Before the node answers for its state it is
compared with the newest commitment on which the rollup's threshold agreed in the log, at that height, and
with the newest that its own key signed, which the log knows even if this node's data were lost. Later it is
compared every few seconds. Invariants: a node that differs says so, with height and both hashes, and answers
for nothing until a person has looked: one of the two executed another order, or executed it wrongly. A log
that is away holds back a node that was never compared for a stated grace, and one that was not at all.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from lockstep.commitment import commitment_hash
from lockstep.errors import Contradiction, LockstepError, UnavailablePeer
from lockstep.settlement_entries import CommitmentEntry, EntryType, decode_settlement_entry
from lockstep.types import PublicKey
from rollups.node import RollupNode

COMPARE_MS: Final = 10_000
"""How often a node is compared once it serves."""

PAUSE_MS: Final = 250
"""How long the log is left alone before it is asked again at the start."""

CALL_TIMEOUT_MS: Final = 1_000
"""How long a call may take."""

SILENCE_MS_MAX: Final = 10_000
"""How long the log may take for the next of its entries."""

_HOLD: Final = "settlement log"


class AnchoredCommitment(Protocol):
    """What the log has of a rollup; `bridge.settlement.client.AnchoredCommitment` is one."""

    @property
    def height(self) -> int:
        """Height of the newest commitment on which the rollup's threshold of attesters agreed."""

    @property
    def commitment_hash(self) -> bytes:
        """The 32 bytes that name it."""


class LogStatus(Protocol):
    """What the log says of itself; `bridge.settlement.client.SettlementStatus` is one."""

    @property
    def size(self) -> int:
        """How many entries it has."""

    @property
    def rollups(self) -> Mapping[str, AnchoredCommitment]:
        """The newest anchored commitment of each rollup."""


class ReadableLog(Protocol):
    """What there is to compare with; `bridge.settlement.client.SettlementClient` is one."""

    async def status(self, *, timeout_ms: int = 10_000) -> LogStatus:
        """Return what the log has."""

    def entries(self, from_index: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield every entry from an index on with its index, for ever."""


class LogComparison:
    """Compares one node with the settlement log."""

    def __init__(
        self, node: RollupNode, log: ReadableLog, *, attester: PublicKey | None, grace_ms: int
    ) -> None:
        """Hold `node`, which attests with `attester` if it does, back until it is compared with `log`.

        `grace_ms` is how long a log that is away holds back a node that was never compared.
        """
        self._node = node
        self._log = log
        self._attester = attester
        self._grace_ms = grace_ms
        node.hold_back(_HOLD, "it was not compared with the settlement log yet")

    async def run(self) -> None:
        """Compare, let the node speak, and compare again and again; until the node speaks no more."""
        await self._before_serving()
        self._node.release(_HOLD)
        while not self._node.stopped_reason:
            await asyncio.sleep(COMPARE_MS / 1_000)
            try:
                await self._compare_anchored(await self._log.status(timeout_ms=CALL_TIMEOUT_MS))
            except Contradiction as error:
                self._contradicted(error)
            except LockstepError as error:
                structlog.get_logger().info("settlement_log_not_compared", reason=str(error))

    async def _before_serving(self) -> None:
        """Return once the node was compared, or the log was away for the grace."""
        clock = asyncio.get_running_loop().time
        was_compared = await self._node.storage.compared_height() is not None
        deadline_s = clock() + (0 if was_compared else self._grace_ms / 1_000)
        while True:
            try:
                status = await self._log.status(timeout_ms=CALL_TIMEOUT_MS)
                await self._compare_anchored(status, is_first=True)
                await self._compare_own(status)
            except Contradiction as error:
                return self._contradicted(error)
            except LockstepError as error:
                if clock() >= deadline_s:
                    structlog.get_logger().warning("serving_without_settlement_log", reason=str(error))
                    return None
                self._node.hold_back(_HOLD, f"it has to be compared with the settlement log: {error}")
                await asyncio.sleep(PAUSE_MS / 1_000)
            else:
                return None

    async def _compare_anchored(self, status: LogStatus, *, is_first: bool = False) -> None:
        """Compare with the rollup's newest anchored commitment; the first time, wait to get that far."""
        anchored = status.rollups.get(self._node.rollup)
        if anchored is None or anchored.height < 1:
            return await self._agreed(0)
        if anchored.height > self._node.published.height and not is_first:
            return None
        if await self._is_own(anchored.height, anchored.commitment_hash, "the settlement log's is"):
            await self._agreed(anchored.height)
        return None

    async def _compare_own(self, status: LogStatus) -> None:
        """Compare with what this node's key signed last."""
        if self._attester is None:
            return
        newest, _ = await self._node.storage.posted(self._attester)
        said = "this node's key signed"
        if newest is not None:
            await self._is_own(newest.height, newest.commitment_hash, said)
        elif status.size and (found := await self._last_signed(self._attester, status.size)) is not None:
            await self._is_own(found.posted.commitment.height, commitment_hash(found.posted.commitment), said)

    async def _last_signed(self, attester: PublicKey, size: int) -> CommitmentEntry | None:
        """Return a key's last commitment among the log's first entries, which are all read.

        A node whose data were lost executes the whole order again; reading the whole log is less. Raises
        `UnavailablePeer` if the log falls silent.
        """
        last, loop = None, asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(SILENCE_MS_MAX / 1_000) as silence,
                aclosing(self._log.entries()) as found,
            ):
                async for index, encoded in found:
                    silence.reschedule(loop.time() + SILENCE_MS_MAX / 1_000)
                    if encoded[1] == EntryType.COMMITMENT:
                        entry = decode_settlement_entry(encoded)
                        if isinstance(entry, CommitmentEntry) and self._is_of(attester, entry):
                            last = entry
                    if index + 1 >= size:
                        break
        except TimeoutError as error:
            raise UnavailablePeer(peer="settlement log") from error
        return last

    def _is_of(self, attester: PublicKey, entry: CommitmentEntry) -> bool:
        posted = entry.posted
        return (posted.commitment.rollup, posted.attester) == (self._node.rollup, attester)

    async def _is_own(self, height: int, expected: bytes, others: str) -> bool:
        """Answer whether this node's commitment at a height, once it is there, is another's.

        If not, the node stops speaking; `others` says whose the other is.
        """
        if height > self._node.published.height:
            self._node.hold_back(_HOLD, f"it catches up to height {height}, to be compared there")
            await self._node.wait_for(height)
        block = await self._node.storage.block(height)
        assert block is not None, "every executed block is kept"
        own = commitment_hash(block.commitment)
        if own == expected:
            return True
        self._node.stop_speaking(
            f"at height {height} this node's commitment is {own.hex()}, {others} {expected.hex()}; "
            "find out which of them executed the order"
        )
        return False

    async def _agreed(self, height: int) -> None:
        if await self._node.storage.compared_height() != height:
            await self._node.storage.save_compared_height(height)

    def _contradicted(self, error: Contradiction) -> None:
        self._node.stop_speaking(f"the settlement log contradicts itself: {error.message}")
