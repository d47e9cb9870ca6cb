"""From waiting bundles to the next block's proposal.

Owns what is gathered into one block: the waiting bundles in order of arrival, each whole, as many as the
limits of a block allow; those whose window has passed are left out. Pure: the caller gives time and parent.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from lockstep import limits
from lockstep.block import AdmittedBundle, Block, build_block
from lockstep.header import Tip
from lockstep.order import ENTRY_PREFIX_BYTES, Placement
from lockstep.types import Namespace

__pure__ = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """A complete block that is not durable yet."""

    block: Block
    """The block."""
    bundles: tuple[AdmittedBundle, ...]
    """Its bundles in order."""
    placements: tuple[Placement, ...]
    """Where each of them stands in it."""


def entry_bytes(bundle: AdmittedBundle) -> int:
    """Return how many bytes of a block a bundle takes."""
    payload_bytes = sum(len(payload) for _, payload in bundle.transactions)
    return payload_bytes + ENTRY_PREFIX_BYTES * len(bundle.transactions)


def gather(waiting: deque[AdmittedBundle], time_ms: int) -> tuple[list[AdmittedBundle], list[AdmittedBundle]]:
    """Take from the left of `waiting` what a block at `time_ms` holds; return it, and what expired before it.

    Stops at the first bundle that does not fit, so that nothing overtakes.
    """
    chosen: list[AdmittedBundle] = []
    expired: list[AdmittedBundle] = []
    namespaces: set[Namespace] = set()
    block_bytes = transactions = 0
    while waiting:
        bundle = waiting[0]
        if bundle.valid_until_ms <= time_ms:
            expired.append(waiting.popleft())
            continue
        block_bytes += entry_bytes(bundle)
        transactions += len(bundle.transactions)
        namespaces.update(namespace for namespace, _ in bundle.transactions)
        if (
            block_bytes > limits.BLOCK_BYTES_MAX
            or transactions > limits.BLOCK_TRANSACTIONS_MAX
            or len(namespaces) > limits.BLOCK_NAMESPACES_MAX
        ):
            break
        chosen.append(waiting.popleft())
    return chosen, expired


def propose(parent: Tip, time_ms: int, bundles: Sequence[AdmittedBundle]) -> Proposal:
    """Return the block after `parent` at `time_ms` that holds `bundles`, and where each stands."""
    block = build_block(parent, time_ms, bundles)
    placements: list[Placement] = []
    first_index = 0
    for bundle in bundles:
        count = len(bundle.transactions)
        placements.append(Placement(bundle.bundle_id, block.header.height, first_index, count))
        first_index += count
    return Proposal(block, tuple(bundles), tuple(placements))
