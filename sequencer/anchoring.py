"""Anchoring: putting the chain's headers into the settlement log, and learning from it what we forgot.

Owns the task that does it. It remembers nothing: where to go on is what the log says. An outage of the log
delays anchors, a start for as long as the settings say, and nothing else. Changes of the registry go there
with the headers (`sequencer.registrations`). A log that holds headers which this
sequencer does not have proves that it lost something: then it must not order.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from deploy.node.failpoints import FAILPOINTS
from lockstep.errors import LockstepError, NotYet, Pruned, ReadOnly
from lockstep.header import Tip, header_hash, tip_of
from lockstep.settlement_entries import HeaderRange, encode_settlement_entry
from lockstep.types import HeaderHash, Height
from sequencer.amnesia import LastSigned, find_loss_against_log
from sequencer.feed import Feed
from sequencer.registrations import first_change, tell_changes

BEFORE_SEND: Final = FAILPOINTS.declare("sequencer.anchor.before_send", "a range of headers is sent next")
SENT: Final = FAILPOINTS.declare("sequencer.anchor.sent", "the log has the range of headers")


class AnchoredStatus(Protocol):
    """What of the log's status is needed here."""

    @property
    def anchored_height(self) -> int:
        """Height of the last header in the log; 0 if there is none."""

    @property
    def anchored_hash(self) -> bytes:
        """Its hash; the chain id if there is none."""


class HeaderLog(Protocol):
    """What of the settlement log's client is needed here."""

    async def status(self) -> AnchoredStatus:
        """Return where the log stands."""

    async def append(self, entry: bytes) -> int:
        """Append an entry and return its index."""


class Anchoring:
    """Anchors headers every so often; see the module."""

    def __init__(
        self,
        log: HeaderLog,
        feed: Feed,
        *,
        genesis: Tip,
        interval_ms: int,
        interval_blocks: int,
        judge: Callable[[ReadOnly | None], None],
    ) -> None:
        """Anchor every `interval_ms` of real time, in ranges that end at multiples of `interval_blocks`.

        `judge` is told whenever the log was asked: why the sequencer must not order, or None.
        """
        self._log = log
        self._feed = feed
        self._genesis = genesis
        self._interval_s = interval_ms / 1_000
        self._interval_blocks = interval_blocks
        self._judge = judge
        self._anchored_height = Height(0)
        self._told_height = Height(0)

    @property
    def anchored_height(self) -> Height:
        """Height of the last header that is known to be in the log; 0 if none is."""
        return self._anchored_height

    async def run(self) -> None:
        """Anchor until cancelled; whatever the log's failures, go on."""
        trouble = ""
        while True:
            try:
                await self.anchor()
                trouble = ""
            except LockstepError as error:
                if error.code != trouble:
                    structlog.get_logger().warning("anchoring_delayed", reason=str(error))
                trouble = error.code
            await asyncio.sleep(self._interval_s)

    async def anchor(self) -> None:
        """Ask the log where it stands, and append the headers that it lacks. Raises the log's errors."""
        status = await self._log.status()
        anchored = LastSigned(Height(status.anchored_height), HeaderHash(status.anchored_hash))
        head = self._feed.head
        tip = self._genesis if head is None else tip_of(head.header.header, header_hash(head.header.encoded))
        loss = find_loss_against_log(anchored, tip, await self._own_hash(anchored.height))
        self._judge(loss)
        if loss is not None:
            return
        self._anchored_height = anchored.height
        parent_hash = anchored.hash if anchored.height else self._genesis.hash
        await self._tell_changes()
        while self._anchored_height < tip.height:
            parent_hash = await self._append_range(parent_hash, tip.height)
            await self._tell_changes()

    async def _append_range(self, parent_hash: HeaderHash, head_height: Height) -> HeaderHash:
        """Append the next range of headers, and return the hash of its last."""
        first_height = Height(self._anchored_height + 1)
        # Commitments are about headers at multiples of the interval, so that each of those ends a range.
        end = Height(min(-(-first_height // self._interval_blocks) * self._interval_blocks, head_height))
        # So does each that changes are ordered in: the log is told of them before the next.
        change = await first_change(self._feed, range(first_height, end))
        last = await self._feed.header(end if change is None else change)
        headers = HeaderRange(first_height, parent_hash, last)
        FAILPOINTS.reach(BEFORE_SEND)
        await self._log.append(encode_settlement_entry(headers))
        FAILPOINTS.reach(SENT)
        self._anchored_height = last.header.height
        return header_hash(last.encoded)

    async def _tell_changes(self) -> None:
        """Tell the log of changes of the registry in the block at the anchored height, once."""
        height = self._anchored_height
        if height in (0, self._told_height) or height < self._feed.first_height:
            return
        await tell_changes(self._feed, self._log, height)
        self._told_height = height

    async def _own_hash(self, height: Height) -> HeaderHash | None:
        """Return the hash of our header at a height; None if we have none."""
        if height == 0:
            return None
        try:
            return header_hash((await self._feed.header(height)).encoded)
        except (NotYet, Pruned):
            return None
