"""From waiting bundles to the next block's proposal.

Owns what fits into one block, bundles being whole, and how they become its proposal. Which of them come is
`sequencer.waiting`'s. Pure: the caller gives time and parent.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final

import msgspec

from lockstep import limits
from lockstep.block import AdmittedBundle, Block, Parcel, build_block
from lockstep.header import Tip
from lockstep.order import ENTRY_PREFIX_BYTES, Placement
from lockstep.types import BundleId, Height, Namespace

__pure__ = True


class Run(msgspec.Struct, frozen=True):
    """Where the bundles of a parcel stand: one behind another."""

    bundle_ids: Sequence[BundleId]
    """The bundles, of one transaction each."""
    height: Height
    """Their block."""
    first_index: int
    """Place of the first of them."""

    def __len__(self) -> int:
        return len(self.bundle_ids)

    def __getitem__(self, part: slice) -> "Run":
        start, _, _ = part.indices(len(self))
        return Run(self.bundle_ids[part], self.height, self.first_index + start)

    def __iter__(self) -> Iterator[Placement]:
        for index, bundle_id in enumerate(self.bundle_ids, self.first_index):
            yield Placement(bundle_id, self.height, index, 1)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A complete block that is not durable yet."""

    block: Block
    """The block."""
    bundles: tuple[AdmittedBundle | Parcel, ...]
    """Its bundles in order."""
    places: tuple[Placement | Run, ...]
    """Where each of them stands in it."""

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Where every single bundle stands in it."""
        alone = [(each,) if isinstance(each, Placement) else each for each in self.places]
        return tuple([placement for each in alone for placement in each])


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


def footprints_of_parcel(parcel: Parcel) -> Footprints:
    """Return what the bundles of a parcel take of a block."""
    return _total({parcel.namespace: footprint_of_parcel(parcel)})


def footprint_of_parcel(parcel: Parcel) -> Footprint:
    """Return what the bundles of a parcel have for its namespace."""
    return Footprint(len(parcel), sum(map(len, parcel.payloads)))


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
    """Return what a bundle takes that has so much for each of some namespaces."""
    footprints = by_namespace.values()
    return Footprints(
        by_namespace,
        sum([each.transactions for each in footprints]),
        sum([each.entry_bytes for each in footprints]),
    )


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

    def part_of(self, parcel: Parcel) -> int:
        """Return how many bundles of a parcel fit, of those that come first."""
        entries_bytes = accumulate([ENTRY_PREFIX_BYTES + len(payload) for payload in parcel.payloads])
        fitting = bisect_right(list(entries_bytes), self._bytes_free)
        is_open = parcel.namespace in self._namespaces or len(self._namespaces) < limits.BLOCK_NAMESPACES_MAX
        return min(fitting, self._transactions_free) if is_open else 0


def propose(parent: Tip, time_ms: int, bundles: Sequence[AdmittedBundle | Parcel]) -> Proposal:
    """Return the block after `parent` at `time_ms` that holds `bundles`, and where each stands."""
    block = build_block(parent, time_ms, bundles)
    height, places, index = block.header.height, list[Placement | Run](), 0
    for each in bundles:
        if isinstance(each, Parcel):
            places.append(Run(each.bundle_ids, height, index))
            index += len(each)
        else:
            places.append(Placement(each.bundle_id, height, index, len(each.transactions)))
            index += len(each.transactions)
    return Proposal(block, tuple(bundles), tuple(places))
