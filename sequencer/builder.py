"""From waiting bundles to the next block's proposal.

Owns what fits into one block, bundles being whole, and how they become its proposal. Which of them come is
`sequencer.waiting`'s. Pure: the caller gives time and parent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

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


class Footprint(NamedTuple):
    """What a bundle has for one namespace."""

    transactions: int
    """How many transactions."""
    payload_bytes: int
    """Bytes of their payloads."""

    @property
    def entry_bytes(self) -> int:
        """Bytes of a block that they take."""
        return self.payload_bytes + ENTRY_PREFIX_BYTES * self.transactions


Footprints: TypeAlias = Mapping[Namespace, Footprint]
"""What a bundle has for each namespace that it touches."""


def footprints_of(bundle: AdmittedBundle) -> Footprints:
    """Return what a bundle has for each namespace that it touches."""
    sizes: dict[Namespace, tuple[int, int]] = {}
    for namespace, payload in bundle.transactions:
        transactions, payload_bytes = sizes.get(namespace, (0, 0))
        sizes[namespace] = transactions + 1, payload_bytes + len(payload)
    return {namespace: Footprint(*size) for namespace, size in sizes.items()}


def entry_bytes(footprints: Footprints) -> int:
    """Return how many bytes of a block a bundle takes."""
    return sum(each.entry_bytes for each in footprints.values())


class Room:
    """What a block has room for."""

    def __init__(self, *, share: int = 1) -> None:
        """Of a whole block, or of one part in `share` of it."""
        self._bytes_free = limits.BLOCK_BYTES_MAX // share
        self._transactions_free = limits.BLOCK_TRANSACTIONS_MAX // share
        self._namespaces: set[Namespace] = set()

    def take(self, footprints: Footprints) -> bool:
        """Take a bundle in and answer True; or, if it does not fit, change nothing and answer False."""
        size_bytes = entry_bytes(footprints)
        count = sum(each.transactions for each in footprints.values())
        added = footprints.keys() - self._namespaces
        if (
            size_bytes > self._bytes_free
            or count > self._transactions_free
            or len(self._namespaces) + len(added) > limits.BLOCK_NAMESPACES_MAX
        ):
            return False
        self._bytes_free -= size_bytes
        self._transactions_free -= count
        self._namespaces |= added
        return True


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
