"""The bundles that could be ordered a second time: those whose window is still open.

Owns their memory, so that the same bundle gets its first receipt without a look at the disk. Millions of
them fit: an id and its place take some 50 bytes, in tables of bytes, where objects would take four times as
much. Each second of log time has a table of those whose windows end in it, and what expires goes by the
table. Invariant: while a bundle's window is open, its place is known here.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from struct import Struct
from typing import Final

from lockstep import limits
from lockstep.order import Placement
from lockstep.types import BundleId, Height
from sequencer.builder import Run

__pure__ = True

_INDEX_BITS: Final = 14
_COUNT_BITS: Final = 6
_ID_BYTES: Final = 32

_PLACE: Final = Struct(">Q")
"""A height, the first index and the count, in one number."""

_RECORD_BYTES: Final = _ID_BYTES + _PLACE.size

_BUCKETS_MIN: Final = 256
_GROWTH: Final = 8
"""A table has one bucket for each to eight bundles: fewer take longer to search, more take memory."""

assert limits.BLOCK_TRANSACTIONS_MAX <= 1 << _INDEX_BITS
assert limits.BUNDLE_TRANSACTIONS_MAX < 1 << _COUNT_BITS


class _Table:
    """The bundles whose windows end in one second: buckets of records, `b32 id | u64 place`."""

    __slots__ = ("buckets", "count", "mask")

    def __init__(self, buckets: int = _BUCKETS_MIN) -> None:
        self.buckets: list[bytes] = [b""] * buckets
        self.mask = buckets - 1
        self.count = 0

    def add_all(self, bundle_ids: Sequence[BundleId], places: Iterable[int]) -> None:
        """Add bundles that are not there yet."""
        while self.count + len(bundle_ids) > _GROWTH * len(self.buckets):
            self._grow()
        buckets, mask, pack = self.buckets, self.mask, _PLACE.pack
        for bundle_id, place in zip(bundle_ids, places, strict=True):
            buckets[hash(bundle_id) & mask] += bundle_id + pack(place)
        self.count += len(bundle_ids)

    def has_any(self, bundle_ids: Iterable[bytes]) -> bool:
        """Answer whether any of some bundles is there."""
        buckets, mask = self.buckets, self.mask
        # Nobody can make an id stand astride two records: it is a hash.
        return True in [bundle_id in buckets[hash(bundle_id) & mask] for bundle_id in bundle_ids]

    def find(self, bundle_id: BundleId) -> int | None:
        """Return a bundle's place, or None if it is not there."""
        bucket = self.buckets[hash(bundle_id) & self.mask]
        start = bucket.find(bundle_id)
        if start < 0 or start % _RECORD_BYTES:
            return None
        place: int = _PLACE.unpack_from(bucket, start + _ID_BYTES)[0]
        return place

    def _grow(self) -> None:
        larger = _Table(_GROWTH * len(self.buckets))
        for bucket in self.buckets:
            for start in range(0, len(bucket), _RECORD_BYTES):
                record = bucket[start : start + _RECORD_BYTES]
                larger.buckets[hash(record[:_ID_BYTES]) & larger.mask] += record
        self.buckets, self.mask = larger.buckets, larger.mask


class LiveIds:
    """Places of bundles by id, for as long as their windows last."""

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has_any(self, bundle_ids: Sequence[BundleId], windows_ms: Sequence[int]) -> bool:
        """Answer whether any of some bundles, with these windows, is remembered."""
        return any(
            second in self._tables and self._tables[second].has_any(bundle_ids[chosen])
            for second, chosen in _by_second(windows_ms)
        )

    def find(self, bundle_id: BundleId, valid_until_ms: int | None = None) -> Placement | None:
        """Return where a bundle stands, or None if it is not remembered; its window makes that faster."""
        tables: Iterable[_Table | None] = self._tables.values()
        if valid_until_ms is not None:
            tables = (self._tables.get(second_of(valid_until_ms)),)
        for table in tables:
            place = None if table is None else table.find(bundle_id)
            if place is not None:
                return _placement(bundle_id, place)
        return None

    def add(self, placement: Placement, valid_until_ms: int) -> None:
        """Remember a bundle with its window."""
        place = _place(placement.height, placement.first_index, placement.count)
        self._table(second_of(valid_until_ms)).add_all((placement.bundle_id,), (place,))
        self._count += 1

    def add_run(self, run: Run, windows_ms: Sequence[int]) -> None:
        """Remember the bundles of a run, each with its window."""
        first = _place(run.height, run.first_index, 1)
        places = range(first, first + (len(run) << _COUNT_BITS), 1 << _COUNT_BITS)
        for second, chosen in _by_second(windows_ms):
            self._table(second).add_all(run.bundle_ids[chosen], places[chosen])
        self._count += len(run)

    def expire(self, time_ms: int) -> None:
        """Forget the bundles that expire in seconds which are over at `time_ms`."""
        for second in [each for each in self._tables if (each + 1) * 1_000 <= time_ms]:
            self._count -= self._tables.pop(second).count

    def _table(self, second: int) -> _Table:
        table = self._tables.get(second)
        if table is None:
            table = self._tables[second] = _Table()
        return table


def second_of(valid_until_ms: int) -> int:
    """Return the second of log time by which a bundle is filed."""
    return valid_until_ms // 1_000


def _by_second(windows_ms: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Yield stretches of windows that end in one second, and which; those of one message mostly do."""
    start = 0
    for second, windows in groupby(windows_ms, key=second_of):
        stop = start + len(list(windows))
        yield second, slice(start, stop)
        start = stop


def _place(height: Height, first_index: int, count: int) -> int:
    return (height << _INDEX_BITS | first_index) << _COUNT_BITS | count


def _placement(bundle_id: BundleId, place: int) -> Placement:
    height = Height(place >> (_INDEX_BITS + _COUNT_BITS))
    first_index = place >> _COUNT_BITS & ((1 << _INDEX_BITS) - 1)
    return Placement(bundle_id, height, first_index, place & ((1 << _COUNT_BITS) - 1))
