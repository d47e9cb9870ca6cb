"""Changes of the registry on their way into the settlement log, which counts signatures by them.

Owns which entries of a block the log is told: every one of `_registry`, whoever signed it, with the proof of
its place. The log judges them itself, by the chain's rules; what it refuses for good is left out, and the
log of this process says so. Invariant, with `sequencer.anchoring`: a header is anchored only when the log was
told of every change that was ordered below it, so that a change, which takes effect above its own block, is
known there before any header or commitment is judged by it. Where to go on after a restart follows from the
anchored height alone.
"""

from typing import Final, Protocol

import structlog

from deploy.node.failpoints import FAILPOINTS
from lockstep.errors import LockstepError
from lockstep.order import decode_entry, decode_namespace_leaves
from lockstep.settlement_entries import Registration, encode_settlement_entry, registrations_of
from lockstep.types import REGISTRY_NAMESPACE, Height
from sequencer.engine import SealedBlock
from sequencer.feed import Feed
from sequencer.ledger import entries_in

BEFORE_SEND: Final = FAILPOINTS.declare(
    "sequencer.registration.before_send", "the settlement log is told of a change of the registry next"
)
SENT: Final = FAILPOINTS.declare("sequencer.registration.sent", "the log has a change of the registry")


class EntryLog(Protocol):
    """What of the settlement log's client is needed here."""

    async def append(self, entry: bytes) -> int:
        """Append an entry and return its index; one that is there already gets its index."""


async def first_change(feed: Feed, heights: range) -> Height | None:
    """Return the first of some heights, all of them there, whose block has `_registry` entries."""
    for height in map(Height, heights):
        if REGISTRY_NAMESPACE in (await feed.block(height, (REGISTRY_NAMESPACE,))).shares:
            return height
    return None


async def tell_changes(feed: Feed, log: EntryLog, height: Height) -> None:
    """Tell the log of every change in a block, in order. Raises what is worth repeating."""
    for registration in _registrations(await feed.block(height, (REGISTRY_NAMESPACE,))):
        FAILPOINTS.reach(BEFORE_SEND)
        try:
            await log.append(encode_settlement_entry(registration))
        except LockstepError as error:
            if error.retryable:
                raise
            structlog.get_logger().warning(
                "registration_refused", height=height, index=registration.index, reason=str(error)
            )
        FAILPOINTS.reach(SENT)


def _registrations(block: SealedBlock) -> tuple[Registration, ...]:
    share = block.shares.get(REGISTRY_NAMESPACE)
    if share is None:
        return ()
    leaves = decode_namespace_leaves(block.leaves_bytes)
    return registrations_of(block.header, leaves, [decode_entry(each) for each in entries_in(share)])
