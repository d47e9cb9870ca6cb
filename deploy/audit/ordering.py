"""The order itself: bundles stand whole, and what was acknowledged is there.

Nobody else checks the sequencer's rule about bundles: a rollup sees its own share of one. Pure.
"""

from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final

from deploy.audit.invariants import Invariant, Violated, Violation
from deploy.audit.plain.reading import bundle_id, transaction_hash
from lockstep.block import VerifiedBlock
from lockstep.order import Entry, Placement

__pure__ = True

WINDOW_MS: Final = 600_000
"""How far ahead of its block a bundle's `valid_until_ms` may lie (section 3)."""


class Bundles:
    """The bundles of every block so far, as far as they are needed."""

    def __init__(self, counts: "Counter[Invariant]", *, keeps_placements: bool) -> None:
        self._counts = counts
        self._live: set[bytes] = set()
        """Ids that may not come again."""
        self._ends: list[tuple[int, bytes]] = []
        """A heap of the log times from which they may."""
        self._placements: dict[bytes, tuple[int, int, int]] | None = {} if keeps_placements else None
        self._awaited: dict[int, list[Placement]] = {}
        """Acknowledged bundles of blocks that were not seen yet."""
        self.total = 0
        """Bundles so far."""

    def block(self, block: VerifiedBlock) -> None:
        """Check the next block's bundles, and the acknowledgements that are about it."""
        height, time_ms = block.header.height, block.header.time_ms
        while self._ends and self._ends[0][0] <= time_ms:
            self._live.discard(heappop(self._ends)[1])
        bundles: dict[bytes, list[tuple[str, Entry]]] = {}
        for namespace, entries in block.entries.items():
            for entry in entries:
                bundles.setdefault(entry.bundle_id, []).append((namespace, entry))
        places: dict[bytes, tuple[int, int, int]] = {}
        for name, members in bundles.items():
            self._check(block, name, members)
            first = members[0][1]
            places[name] = (height, first.first_index, first.count)
        self.total += block.header.bundle_count
        if self._placements is not None:
            self._placements |= places
        for placement in self._awaited.pop(height, ()):
            self._compare(placement, places.get(placement.bundle_id))

    def acknowledged(self, placement: Placement, newest_height: int) -> None:
        """Take what the sequencer acknowledged; check it now, or when its block comes.

        One that is about a block that was seen can only be checked by who keeps placements: ValueError else.
        """
        if placement.height > newest_height:
            self._awaited.setdefault(placement.height, []).append(placement)
        elif self._placements is None:
            raise ValueError("acknowledgements come before their blocks, or placements are kept")
        else:
            self._compare(placement, self._placements.get(placement.bundle_id))

    def awaited(self) -> Iterable[Placement]:
        """Return acknowledged bundles whose blocks did not come."""
        return [each for placements in self._awaited.values() for each in placements]

    def _check(self, block: VerifiedBlock, name: bytes, members: list[tuple[str, Entry]]) -> None:
        height, time_ms = block.header.height, block.header.time_ms
        members.sort(key=lambda member: member[1].index)
        first = members[0][1]
        if not time_ms < first.valid_until_ms <= time_ms + WINDOW_MS:
            raise _broken(height, name, f"valid until {first.valid_until_ms} was ordered at {time_ms}")
        if name in self._live:
            raise _broken(height, name, "was ordered a second time inside its window")
        self._live.add(name)
        heappush(self._ends, (first.valid_until_ms, name))
        self._counts[Invariant.BUNDLES] += 1
        if len(members) < first.count:
            # Transactions of namespaces that nobody registered are not seen; the rest was verified.
            return
        hashes = [transaction_hash(namespace, entry.payload) for namespace, entry in members]
        made = bundle_id(block.header.chain, first.valid_until_ms, hashes)
        if made != name:
            raise _broken(height, name, f"has the content of bundle {made.hex()}")

    def _compare(self, placement: Placement, found: tuple[int, int, int] | None) -> None:
        self._counts[Invariant.ACKNOWLEDGED] += 1
        promised = (placement.height, placement.first_index, placement.count)
        if found == promised:
            return
        where = "is not in that block" if found is None else "stands elsewhere, or with other transactions"
        raise Violated(
            Violation(
                Invariant.ACKNOWLEDGED,
                f"an acknowledged bundle {where}",
                height=placement.height,
                place=f"bundle {placement.bundle_id.hex()}",
                expected=_place(promised),
                actual="nowhere" if found is None else _place(found),
            )
        )


def _broken(height: int, name: bytes, what: str) -> Violated:
    place = f"bundle {name.hex()}"
    return Violated(Violation(Invariant.BUNDLES, f"a bundle {what}", height=height, place=place))


def _place(place: tuple[int, int, int]) -> str:
    height, first_index, count = place
    return f"height {height}, {count} from index {first_index}"
