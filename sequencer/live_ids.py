"""The bundles that could be ordered a second time: those whose window is still open.

Owns their memory, so that the same bundle gets its first receipt without a look at the disk. Millions of
them fit: a place is one number, and what expires goes by the second. Invariant: while a bundle's window is
open, its place is known here.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from lockstep.order import Placement
from lockstep.types import BundleId, Height

__pure__ = True

_COUNT_BITS: Final = 16
_INDEX_BITS: Final = 32


class LiveIds:
    """Places of bundles by id, for as long as their windows last."""

    def __init__(self) -> None:
        self._places: dict[BundleId, int] = {}
        self._by_second: defaultdict[int, list[BundleId]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._places)

    def has_any(self, bundle_ids: Iterable[BundleId]) -> bool:
        """Answer whether any of some bundles is remembered."""
        return not self._places.keys().isdisjoint(bundle_ids)

    def find(self, bundle_id: BundleId) -> Placement | None:
        """Return where a bundle stands, or None if it is not remembered."""
        place = self._places.get(bundle_id)
        if place is None:
            return None
        height = place >> (_INDEX_BITS + _COUNT_BITS)
        first_index = place >> _COUNT_BITS & ((1 << _INDEX_BITS) - 1)
        return Placement(bundle_id, Height(height), first_index, place & ((1 << _COUNT_BITS) - 1))

    def add(self, placement: Placement, second: int) -> None:
        """Remember a bundle whose window ends within `second` of log time."""
        self.add_all((placement,), (second,))

    def add_all(self, placements: Iterable[Placement], seconds: Iterable[int]) -> None:
        """Remember bundles, each with the second in which its window ends."""
        places, by_second = self._places, self._by_second
        for each, second in zip(placements, seconds, strict=True):
            bundle_id = each.bundle_id
            places[bundle_id] = (each.height << _INDEX_BITS | each.first_index) << _COUNT_BITS | each.count
            by_second[second].append(bundle_id)

    def expire(self, time_ms: int) -> None:
        """Forget the bundles that expire in seconds which are over at `time_ms`."""
        for second in [each for each in self._by_second if (each + 1) * 1_000 <= time_ms]:
            for bundle_id in self._by_second.pop(second):
                del self._places[bundle_id]


def second_of(valid_until_ms: int) -> int:
    """Return the second of log time by which a bundle is filed."""
    return valid_until_ms // 1_000
