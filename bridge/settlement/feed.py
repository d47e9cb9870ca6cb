"""The newest checkpoint, for all who read or wait for it.

Owns what was published and who waits for more. Invariants: what is published is durable and signed; it only
grows.
"""

import asyncio
from dataclasses import dataclass

from lockstep.checkpoint import Checkpoint
from lockstep.errors import ReadOnly
from lockstep.settlement_log import Log


@dataclass(frozen=True, slots=True)
class Published:
    """What the log says of itself at one time."""

    log: Log
    """Its state."""
    checkpoint: Checkpoint
    """Its size and root, signed."""
    note: bytes
    """The checkpoint as a signed note."""
    refusal: ReadOnly | None = None
    """Why nothing is appended any more, if so: then the database may lack entries of the checkpoint."""


class Feed:
    """Holds the newest; see the module."""

    def __init__(self, newest: Published) -> None:
        self._newest = newest
        self._news = asyncio.Event()

    @property
    def newest(self) -> Published:
        """What was published last."""
        return self._newest

    def publish(self, published: Published) -> None:
        """Let everybody have the next checkpoint."""
        assert published.checkpoint.size >= self._newest.checkpoint.size, "a log only grows"
        self._newest = published
        self._news.set()
        self._news = asyncio.Event()

    async def beyond(self, index: int) -> Published:
        """Return the newest once it covers the entry at an index."""
        while self._newest.checkpoint.size <= index:
            await self._news.wait()
        return self._newest
