"""Who waits for what becomes of a bundle.

Owns the askers of all bundles under way. Several may wait for one bundle; each is told once, under the number
that it gave. An asker may be gone when the answer is there: the bundle does not know.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby, repeat
from typing import Protocol, TypeAlias

from lockstep.errors import LockstepError
from lockstep.order import Placement
from lockstep.types import BundleId
from sequencer.builder import Run

Outcome: TypeAlias = Placement | BaseException
"""Where a bundle stands, durably, or why nobody can say: a LockstepError, or a defect."""


class Asker(Protocol):
    """Waits for outcomes."""

    def tell(self, number: int, outcome: Outcome) -> None:
        """Take the outcome of the bundle to which the asker gave `number`. Never raises."""

    def tell_run(self, numbers: Sequence[int], run: Run) -> None:
        """Take the places of bundles to which the asker gave these numbers. Never raises."""


_Waiting: TypeAlias = "tuple[Asker, int, _Waiting | None]"
"""An asker, its number for the bundle, and who else waits for the same."""


class Answers:
    """Askers by bundle."""

    def __init__(self) -> None:
        self._waiting: dict[BundleId, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, bundle_id: BundleId) -> bool:
        return bundle_id in self._waiting

    def has_any(self, bundle_ids: Iterable[BundleId]) -> bool:
        """Answer whether anybody waits for any of some bundles."""
        return not self._waiting.keys().isdisjoint(bundle_ids)

    def expect(self, bundle_id: BundleId, asker: Asker, number: int) -> None:
        """Let an asker wait for a bundle, beside those who do already."""
        self._waiting[bundle_id] = (asker, number, self._waiting.get(bundle_id))

    def expect_all(self, bundle_ids: Sequence[BundleId], numbers: Sequence[int], asker: Asker) -> None:
        """Let an asker wait for bundles, each under its number, for which nobody waits yet."""
        self._waiting.update(zip(bundle_ids, zip(repeat(asker), numbers, repeat(None)), strict=False))

    def give(self, bundle_id: BundleId, outcome: Outcome) -> None:
        """Tell who waits for a bundle what became of it. KeyError if nobody does."""
        _tell(self._waiting.pop(bundle_id), outcome)

    def give_run(self, run: Run) -> None:
        """Tell who waits for the bundles of a run where they stand. KeyError if nobody does for one."""
        askers, numbers, others = zip(*map(self._waiting.pop, run.bundle_ids), strict=True)
        start = 0
        for asker, those in groupby(askers):
            stop = start + len(list(those))
            asker.tell_run(numbers[start:stop], run[start:stop])
            start = stop
        for placement, more in zip(run, others, strict=True) if any(others) else ():
            _tell(more, placement)

    def give_all(self, error: LockstepError) -> None:
        """Tell everybody of an error."""
        for bundle_id in list(self._waiting):
            self.give(bundle_id, error)


def _tell(waiting: "_Waiting | None", outcome: Outcome) -> None:
    while waiting is not None:
        asker, number, waiting = waiting
        asker.tell(number, outcome)


class Answer:
    """An asker of one bundle that can be awaited."""

    def __init__(self) -> None:
        self.place: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        """The bundle's place."""

    def tell(self, _: int, outcome: Outcome) -> None:
        """Take the outcome."""
        if self.place.done():
            # Who asked went away.
            return
        if isinstance(outcome, Placement):
            self.place.set_result(outcome)
        else:
            self.place.set_exception(outcome)
            # Who asked may go away before he looks at it; then nobody else does.
            self.place.exception()

    def tell_run(self, numbers: Sequence[int], run: Run) -> None:
        """Take the place: the run has one bundle."""
        for number, placement in zip(numbers, run, strict=True):
            self.tell(number, placement)
