"""Blocks for who reads them: the newest from memory, all others from disk.

Owns the newest blocks in memory, and who waits for the next one. A reader asks for what follows its last
block, at its own pace: there is no queue per reader that could grow, overflow or skip, and no seam between
what was and what comes. Only blocks that are durable and proven come here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from lockstep.errors import NotYet, Pruned, ShuttingDown
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import Height, Namespace
from sequencer.engine import OrderingEngine, SealedBlock

RECENT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of the newest blocks kept in memory."""

BATCH_BYTES_MAX: Final = 1024 * 1024
"""Bytes of several blocks in one message; a single one may have more."""


class Feed:
    """Gives blocks out by height; publishes new ones."""

    def __init__(self, engine: OrderingEngine, *, recent_bytes_max: int = RECENT_BYTES_MAX) -> None:
        """Give out what the engine has; the writer publishes what it makes."""
        self._engine = engine
        self._recent: deque[SealedBlock] = deque()
        self._recent_bytes = 0
        self._recent_bytes_max = recent_bytes_max
        self._head = engine.head
        self._news = asyncio.Event()
        self._closed = False

    @property
    def head(self) -> SealedBlock | None:
        """The newest block that was published; None before the first."""
        return self._head

    @property
    def height(self) -> Height:
        """Its height; 0 before the first."""
        return Height(0) if self._head is None else self._head.height

    @property
    def first_height(self) -> Height:
        """The first height that can be had."""
        return self._engine.first_height

    def publish(self, block: SealedBlock) -> None:
        """Let everybody have the next block."""
        if block.height != self.height + 1:
            raise AssertionError(f"block {block.height} is published after {self.height}")
        self._head = block
        self._recent.append(block)
        self._recent_bytes += block.size_bytes
        while self._recent_bytes > self._recent_bytes_max and len(self._recent) > 1:
            self._recent_bytes -= self._recent.popleft().size_bytes
        self._wake()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._wake()

    async def block(self, height: Height, namespaces: Sequence[Namespace]) -> SealedBlock:
        """Return one block's share. Raises NotYet or Pruned."""
        self._check(height)
        if height > self.height:
            raise NotYet(height=height, newest=self.height)
        [block, *_] = await self._batch(height, namespaces, bytes_max=0)
        return block

    async def header(self, height: Height) -> ProvenHeader:
        """Return a block's header. Raises as `block`."""
        return (await self.block(height, ())).header

    async def batches(
        self, from_height: Height, namespaces: Sequence[Namespace]
    ) -> AsyncGenerator[Sequence[SealedBlock], None]:
        """Yield every block's share from a height on, several at a time, for ever.

        Raises NotYet beyond the next block, Pruned; ShuttingDown once the feed is closed.
        """
        self._check(from_height)
        if from_height > self.height + 1:
            raise NotYet(height=from_height, newest=self.height)
        next_height = from_height
        while True:
            while next_height > self.height:
                if self._closed:
                    raise ShuttingDown
                await self._news.wait()
            if self._closed:
                raise ShuttingDown
            blocks = await self._batch(next_height, namespaces, bytes_max=BATCH_BYTES_MAX)
            yield blocks
            next_height = Height(next_height + len(blocks))

    async def _batch(
        self, start: Height, namespaces: Sequence[Namespace], *, bytes_max: int
    ) -> Sequence[SealedBlock]:
        """Return shares from a height on, which is there: at least one, within `bytes_max`."""
        if not self._recent or start < self._recent[0].height:
            return await self._engine.read(range(start, self.height + 1), namespaces, bytes_max=bytes_max)
        shares: list[SealedBlock] = []
        batch_bytes = 0
        for position in range(start - self._recent[0].height, len(self._recent)):
            share = self._recent[position].share(namespaces)
            batch_bytes += share.size_bytes
            if batch_bytes > bytes_max and shares:
                break
            shares.append(share)
        return shares

    def _check(self, height: Height) -> None:
        first = self._engine.first_height
        if height < first:
            raise Pruned(height=height, first_available=first)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
