"""Blocks of the order that have come and are not executed yet: decoded, their signatures verified meanwhile.

Owns how far that goes ahead, and in which threads it is done. Executes nothing. Invariants: blocks come out
in the order in which they came in, and before whatever ended them; no block is asked for before it is known
who has to sign its header.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from lockstep.errors import LockstepError
from lockstep.order import Entry
from lockstep.types import REGISTRY_NAMESPACE, Namespace, RollupId
from rollups.runtime import OwnEntry, RollupBlock, look_at, rollup_block
from rollups.stages import Stages
from sequencer.client import FollowedBlock

BLOCKS_AHEAD_MAX: Final = 32
"""Blocks that wait for their execution."""

ENTRIES_AHEAD_MAX: Final = 4_096
"""Own transactions in blocks that wait; the block that exceeds it waits, too."""

ENTRIES_INLINE_MAX: Final = 8
"""Own transactions of a block up to which a trip to other threads costs more than it saves."""

ENTRIES_PER_THREAD: Final = 256
"""Transactions whose signatures one thread verifies in one go."""


@dataclass(frozen=True, slots=True)
class _Coming:
    """A block that waits."""

    followed: FollowedBlock
    """The block."""
    entries: Sequence[Entry]
    """Its own transactions."""
    looked: "tuple[OwnEntry, ...] | asyncio.Task[tuple[OwnEntry, ...]]"
    """The same once they are looked at, or who is doing it."""


class LookAhead:
    """Looks at blocks as they come; run `fill` beside whoever takes them with `next`."""

    def __init__(
        self, blocks: AsyncIterator[FollowedBlock], rollup: RollupId, stages: Stages | None = None
    ) -> None:
        """Take blocks from `blocks`, for the node of `rollup`; count in `stages` how long that takes."""
        self._blocks = blocks
        self._namespace = Namespace(rollup)
        self._stages = stages or Stages()
        self._coming: deque[_Coming] = deque()
        self._entries_ahead = 0
        self._executing = False
        self._ended: LockstepError | None = None
        self._came = asyncio.Event()
        self._went = asyncio.Event()

    @property
    def has_next(self) -> bool:
        """Whether a block waits, so that `next` returns without waiting for the order."""
        return bool(self._coming)

    async def fill(self) -> None:
        """Look at blocks until there is none any more; why there is none, `next` raises in its turn."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    followed = await anext(self._blocks)
                except LockstepError as error:
                    self._ended = error
                    self._came.set()
                    return
                self._stages.add_span("follow", followed.verified_ns)
                entries = followed.block.entries[self._namespace]
                is_small = len(entries) <= ENTRIES_INLINE_MAX
                looked = self._look_at(entries) if is_small else group.create_task(self._in_threads(entries))
                self._coming.append(_Coming(followed, entries, looked))
                self._entries_ahead += len(entries)
                self._came.set()
                # An entry of the registry may say who signs the next header: known once it is executed.
                await self._until_room(for_all=bool(followed.block.entries[REGISTRY_NAMESPACE]))

    async def next(self) -> tuple[FollowedBlock, RollupBlock]:
        """Return the next block, which is to be executed before `next` is called again.

        Raises what ended the order, once there is no block before it.
        """
        self._executing = False
        self._went.set()
        while not self._coming:
            if self._ended is not None:
                raise self._ended
            self._came.clear()
            await self._came.wait()
        coming = self._coming.popleft()
        self._executing = True
        self._entries_ahead -= len(coming.entries)
        looked = coming.looked
        own_entries = await looked if isinstance(looked, asyncio.Task) else looked
        return coming.followed, rollup_block(coming.followed.block, own_entries)

    async def _until_room(self, *, for_all: bool) -> None:
        """Return when another block may wait; with `for_all`, when none waits or is being executed."""
        while (
            len(self._coming) >= BLOCKS_AHEAD_MAX
            or self._entries_ahead >= ENTRIES_AHEAD_MAX
            or (for_all and (self._coming or self._executing))
        ):
            self._went.clear()
            await self._went.wait()

    def _look_at(self, entries: Sequence[Entry]) -> tuple[OwnEntry, ...]:
        """Decode and verify a small block's transactions."""
        started_ns = self._stages.now_ns()
        looked = look_at(entries)
        self._stages.add("verify", started_ns)
        return looked

    async def _in_threads(self, entries: Sequence[Entry]) -> tuple[OwnEntry, ...]:
        """Decode and verify a block's transactions in parts, in several threads."""
        started_ns = self._stages.now_ns()
        parts = [
            entries[start : start + ENTRIES_PER_THREAD]
            for start in range(0, len(entries), ENTRIES_PER_THREAD)
        ]
        looked = await asyncio.gather(*(asyncio.to_thread(look_at, part) for part in parts))
        self._stages.add("verify", started_ns)
        return tuple(own for part in looked for own in part)
