"""From a block that a follower verified to what the plain implementation reads of it."""

from deploy.audit.plain.chain import Ordered
from lockstep.block import VerifiedBlock

__pure__ = True


def ordered_of(block: VerifiedBlock) -> Ordered:
    """Return a verified block as the plain implementation reads it."""
    return Ordered(
        height=block.header.height,
        header_hash=block.hash,
        time_ms=block.header.time_ms,
        entries={
            name: [(each.index, each.payload) for each in entries] for name, entries in block.entries.items()
        },
    )
