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
from typing import Final

from lockstep import limits
from lockstep.block import AdmittedBundle
from lockstep.order import ENTRY_PREFIX_BYTES
from lockstep.types import Namespace

__pure__ = True

WEIGHT_MAX: Final = 1_000
"""The largest weight of a namespace."""

_TRANSACTION_BYTES_MIN: Final = limits.BLOCK_BYTES_MAX // limits.BLOCK_TRANSACTIONS_MAX
"""What a transaction is charged at least: as many of these fill a block by count as by bytes."""


def charges_of(bundle: AdmittedBundle) -> dict[Namespace, int]:
    """Return how much of a block a bundle takes for each namespace that it touches, in bytes."""
    charges: dict[Namespace, int] = {}
    for namespace, payload in bundle.transactions:
        charge = max(len(payload) + ENTRY_PREFIX_BYTES, _TRANSACTION_BYTES_MIN)
        charges[namespace] = charges.get(namespace, 0) + charge
    return charges


class FairQueue:
    """The bundles and their turns."""

    def __init__(self, weights: Mapping[Namespace, int]) -> None:
        """`weights` are the shares of namespaces beside each other, 1..WEIGHT_MAX; 1 if not named."""
        self._weights = weights
        self._heap: list[tuple[int, int, AdmittedBundle]] = []
        self._finishes: dict[Namespace, int] = {}
        self._now = 0
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, bundle: AdmittedBundle, *, after: int = 0) -> int:
        """Add a bundle and return its tag; it is served after all that have the tag `after` by now."""
        charges = charges_of(bundle)
        starts = {each: max(self._now, self._finishes.get(each, 0)) for each in charges}
        tag = max(after, *starts.values())
        for namespace, charge in charges.items():
            cost = charge * WEIGHT_MAX // self._weights.get(namespace, 1)
            self._finishes[namespace] = starts[namespace] + cost
        heappush(self._heap, (tag, self._pushed, bundle))
        self._pushed += 1
        return tag

    def first(self) -> AdmittedBundle:
        """Return the bundle whose turn it is; IndexError if there is none."""
        return self._heap[0][2]

    def pop(self) -> AdmittedBundle:
        """Remove the bundle whose turn it is, and return it; IndexError if there is none."""
        self._now, _, bundle = heappop(self._heap)
        if not self._heap:
            self._forget()
        return bundle

    def clear(self) -> list[AdmittedBundle]:
        """Remove all bundles, and return them in their order."""
        bundles = [bundle for *_, bundle in sorted(self._heap, key=lambda each: each[:2])]
        self._heap.clear()
        self._forget()
        return bundles

    def _forget(self) -> None:
        """Start anew: where nobody waits, nobody owes anything."""
        self._finishes.clear()
        self._now = 0
