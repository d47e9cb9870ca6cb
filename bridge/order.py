"""The seam to the ordering service: what the coordinator needs of `sequencer.client`."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from lockstep.header import Tip
from lockstep.order import Bundle
from lockstep.types import Namespace
from sequencer.client import FollowedBlock, KeyAt, Ordered


class Order(Protocol):
    """Tells blocks, verified; `sequencer.client.SequencerClient` does."""

    def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncIterator[FollowedBlock]:
        """Yield every block after `tip`, for ever."""
        ...


class Submitter(Protocol):
    """Takes bundles; `sequencer.client.SubmitStream` does."""

    async def submit(self, bundle: Bundle, *, timeout_ms: int = 10_000) -> Ordered:
        """Have a bundle ordered; the same bundle gets the first receipt. Raises LockstepError."""
        ...
