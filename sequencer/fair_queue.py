"""Bundles that wait for their turn, so that no namespace's flood delays another's.

Owns the order of service: start-time fair queueing. Virtual time is the tag of the bundle served last. Every
namespace has a finish: where its last bundle's cost ended. A bundle is charged to each namespace that it
touches, by what it takes there; it is served whole, and its tag is the latest start among its namespaces: the
one that has had most decides. A namespace's own charge is all that moves its finish, so that a flood cannot
drag another namespace along by touching it.

Invariants: what goes in comes out once; among bundles that one namespace decides, in order of arrival; one
that comes to an idle namespace waits for at most one bundle of each other.
"""

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Final, Generic, TypeVar

from lockstep import limits
from lockstep.types import Namespace
from sequencer.builder import Footprints

__pure__ = True

Item = TypeVar("Item")
"""A bundle, with whatever its owner needs to know of it."""

WEIGHT_MAX: Final = 1_000
"""The largest weight of a namespace."""

_TRANSACTION_BYTES_MIN: Final = limits.BLOCK_BYTES_MAX // limits.BLOCK_TRANSACTIONS_MAX
"""What a transaction is charged at least: as many of these fill a block by count as by bytes."""


def charges_of(footprints: Footprints) -> dict[Namespace, int]:
    """Return how much of a block a bundle takes for each namespace that it touches, in bytes."""
    return {
        namespace: max(each.entry_bytes, each.transactions * _TRANSACTION_BYTES_MIN)
        for namespace, each in footprints.items()
    }


class FairQueue(Generic[Item]):
    """What waits, and the turns."""

    def __init__(self, weights: Mapping[Namespace, int]) -> None:
        """`weights` are the shares of namespaces beside each other, 1..WEIGHT_MAX; 1 if not named."""
        self._weights = weights
        self._heap: list[tuple[int, int, Item]] = []
        self._finishes: dict[Namespace, int] = {}
        self._now = 0
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, item: Item, footprints: Footprints, *, after: int = 0) -> int:
        """Add a bundle and return its tag; it is served after all that have the tag `after` by now."""
        tag = max(after, self._now)
        for namespace, charge in charges_of(footprints).items():
            start = max(self._now, self._finishes.get(namespace, 0))
            tag = max(tag, start)
            self._finishes[namespace] = start + charge * WEIGHT_MAX // self._weights.get(namespace, 1)
        heappush(self._heap, (tag, self._pushed, item))
        self._pushed += 1
        return tag

    def first(self) -> Item:
        """Return the bundle whose turn it is; IndexError if there is none."""
        return self._heap[0][2]

    def pop(self) -> Item:
        """Remove the bundle whose turn it is, and return it; IndexError if there is none."""
        self._now, _, item = heappop(self._heap)
        if not self._heap:
            self._forget()
        return item

    def clear(self) -> list[Item]:
        """Remove all bundles, and return them in their order."""
        items = [item for *_, item in sorted(self._heap, key=lambda each: each[:2])]
        self._heap.clear()
        self._forget()
        return items

    def _forget(self) -> None:
        """Start anew: where nobody waits, nobody owes anything."""
        self._finishes.clear()
        self._now = 0
