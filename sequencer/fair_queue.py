"""Bundles that wait for their turn, so that no namespace's flood delays another's.

Owns the order of service: start-time fair queueing. Virtual time is the tag of the bundle served last. Every
namespace has a finish: where its last bundle's cost ended. A bundle is charged to each namespace that it
touches, by what it takes there; it is served whole, and its tag is the latest start among its namespaces: the
one that has had most decides. A namespace's own charge is all that moves its finish, so that a flood cannot
drag another namespace along by touching it.

Bundles that one namespace decides have tags that do not fall, so that they stand in a lane, first come first
served, and only the heads of lanes are compared.

What is queued may be a parcel of many bundles that came together: it is charged, and served, like one bundle.

Invariants: what goes in comes out once; among bundles that one namespace decides, in order of arrival; one
that comes to an idle namespace waits for at most one of each other.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from heapq import heappop, heappush, heapreplace
from typing import Final, Generic, TypeAlias, TypeVar

from lockstep import limits
from lockstep.types import Namespace
from sequencer.builder import Footprint, Footprints

__pure__ = True

Item = TypeVar("Item")
"""A bundle, with whatever its owner needs to know of it."""

_Lane: TypeAlias = deque[tuple[int, int, Item]]
"""Tag, number of arrival, and bundle; tags do not fall."""

WEIGHT_MAX: Final = 1_000
"""The largest weight of a namespace."""

_TRANSACTION_BYTES_MIN: Final = limits.BLOCK_BYTES_MAX // limits.BLOCK_TRANSACTIONS_MAX
"""What a transaction is charged at least: as many of these fill a block by count as by bytes."""


def charge_of(footprint: Footprint) -> int:
    """Return how much of a block a bundle takes for a namespace, in bytes."""
    return max(footprint.entry_bytes, footprint.transactions * _TRANSACTION_BYTES_MIN)


class FairQueue(Generic[Item]):
    """What waits, and the turns."""

    def __init__(self, weights: Mapping[Namespace, int]) -> None:
        """`weights` are the shares of namespaces beside each other, 1..WEIGHT_MAX; 1 if not named."""
        self._weights = weights
        self._lanes: defaultdict[Namespace, _Lane[Item]] = defaultdict(deque)
        self._heads: list[tuple[int, int, _Lane[Item]]] = []
        self._finishes: dict[Namespace, int] = {}
        self._now = 0
        self._pushed = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, item: Item, footprints: Footprints, *, after: int = 0) -> int:
        """Add a bundle and return its tag; it is served after all that have the tag `after` by now."""
        now = self._now
        tag, decider = max(after, now), None
        for namespace, footprint in footprints.by_namespace.items():
            start = max(self._finishes.get(namespace, 0), now)
            if start >= tag:
                tag, decider = start, namespace
            cost = charge_of(footprint) * WEIGHT_MAX // self._weights.get(namespace, 1)
            self._finishes[namespace] = start + cost
        # One that waits for `after` alone would be out of order in any lane but its own.
        lane = deque() if decider is None else self._lanes[decider]
        number = self._pushed
        if not lane:
            heappush(self._heads, (tag, number, lane))
        lane.append((tag, number, item))
        self._pushed = number + 1
        self._count += 1
        return tag

    def first(self) -> Item:
        """Return the bundle whose turn it is; IndexError if there is none."""
        return self._heads[0][2][0][2]

    def last(self, namespace: Namespace) -> Item | None:
        """Return who came last of those that a namespace decides; None if none of them waits."""
        lane = self._lanes.get(namespace)
        return lane[-1][2] if lane else None

    def replace_last(self, namespace: Namespace, item: Item, added: Footprint) -> None:
        """Put an item in the place of `last`, from which it differs by `added`, for this namespace alone."""
        lane = self._lanes[namespace]
        tag, number, _ = lane[-1]
        lane[-1] = (tag, number, item)
        self._finishes[namespace] += charge_of(added) * WEIGHT_MAX // self._weights.get(namespace, 1)

    def replace_first(self, item: Item) -> None:
        """Put what is left of the one whose turn it is in its place; IndexError if there is none."""
        tag, number, lane = self._heads[0]
        lane[0] = (tag, number, item)

    def pop(self) -> Item:
        """Remove the bundle whose turn it is, and return it; IndexError if there is none."""
        lane = self._heads[0][2]
        self._now, _, item = lane.popleft()
        if lane:
            tag, number, _ = lane[0]
            heapreplace(self._heads, (tag, number, lane))
        else:
            heappop(self._heads)
        self._count -= 1
        if not self._count:
            self._forget()
        return item

    def clear(self) -> list[Item]:
        """Remove all bundles, and return them in their order."""
        waiting = [each for *_, lane in self._heads for each in lane]
        self._heads.clear()
        self._lanes.clear()
        self._count = 0
        self._forget()
        return [item for *_, item in sorted(waiting, key=lambda each: each[:2])]

    def _forget(self) -> None:
        """Start anew: where nobody waits, nobody owes anything."""
        self._finishes.clear()
        self._now = 0
