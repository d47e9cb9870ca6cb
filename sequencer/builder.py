"""From waiting bundles to the next block's proposal.

Owns what fits into one block, bundles being whole, and how they become its proposal. Which of them come is
`sequencer.waiting`'s. Pure: the caller gives time and parent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final

import msgspec

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


class Footprint(msgspec.Struct, frozen=True):
    """What a bundle has for one namespace, or many have."""

    transactions: int
    """How many transactions."""
    payload_bytes: int
    """Bytes of their payloads."""

    @property
    def entry_bytes(self) -> int:
        """Bytes of a block that they take."""
        return self.payload_bytes + ENTRY_PREFIX_BYTES * self.transactions

    def __add__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.transactions + other.transactions, self.payload_bytes + other.payload_bytes)


NO_FOOTPRINT: Final = Footprint(0, 0)
"""What a bundle has for a namespace that it does not touch."""


class Footprints(msgspec.Struct, frozen=True, eq=False):
    """What a bundle takes of a block; bundles that are alike may share one."""

    by_namespace: Mapping[Namespace, Footprint]
    """What it has for each namespace that it touches."""
    transactions: int
    """How many transactions it has in all."""
    entry_bytes: int
    """Bytes of a block that they take."""


def footprints_of(bundle: AdmittedBundle) -> Footprints:
    """Return what a bundle takes of a block."""
    transactions = bundle.transactions
    if len(transactions) == 1:
        namespace, payload = transactions[0]
        return footprints_of_one(namespace, len(payload))
    footprints: dict[Namespace, Footprint] = {}
    for namespace, payload in transactions:
        footprint = Footprint(1, len(payload))
        footprints[namespace] = footprints.get(namespace, NO_FOOTPRINT) + footprint
    return _total(footprints)


@lru_cache(maxsize=4_096)
def footprints_of_one(namespace: Namespace, payload_bytes: int) -> Footprints:
    """Return what a bundle of one transaction takes."""
    return _total({namespace: Footprint(1, payload_bytes)})


def _total(by_namespace: Mapping[Namespace, Footprint]) -> Footprints:
    total = sum(by_namespace.values(), start=NO_FOOTPRINT)
    return Footprints(by_namespace, total.transactions, total.entry_bytes)


class Room:
    """What a block has room for."""

    def __init__(self, *, share: int = 1) -> None:
        """Of a whole block, or of one part in `share` of it."""
        self._bytes_free = limits.BLOCK_BYTES_MAX // share
        self._transactions_free = limits.BLOCK_TRANSACTIONS_MAX // share
        self._namespaces: set[Namespace] = set()

    def take(self, footprints: Footprints) -> bool:
        """Take a bundle in and answer True; or, if it does not fit, change nothing and answer False."""
        namespaces = self._namespaces
        if not namespaces.issuperset(footprints.by_namespace):
            namespaces = namespaces.union(footprints.by_namespace)
        if (
            footprints.entry_bytes > self._bytes_free
            or footprints.transactions > self._transactions_free
            or len(namespaces) > limits.BLOCK_NAMESPACES_MAX
        ):
            return False
        self._bytes_free -= footprints.entry_bytes
        self._transactions_free -= footprints.transactions
        self._namespaces = namespaces
        return True


def propose(parent: Tip, time_ms: int, bundles: Sequence[AdmittedBundle]) -> Proposal:
    """Return the block after `parent` at `time_ms` that holds `bundles`, and where each stands."""
    block = build_block(parent, time_ms, bundles)
    height = block.header.height
    counts = [len(bundle.transactions) for bundle in bundles]
    placements = [
        Placement(bundle.bundle_id, height, first_index, count)
        for bundle, first_index, count in zip(bundles, accumulate(counts, initial=0), counts, strict=False)
    ]
    return Proposal(block, tuple(bundles), tuple(placements))
