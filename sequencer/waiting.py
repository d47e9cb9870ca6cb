"""Where accepted bundles wait for a block: what may come in, and who is next.

Owns two queues. Decisions (`sequencer.judgement`) have one of their own, and up to DECISIONS_SHARE of each
block before all else, so that no flood of anything delays the outcome of a swap; they are charged to no
quota. What decides the same as one that waits already, or finds that queue full, takes its turn with
everything else: in the fair queue, within the quotas of the namespaces that it touches. Invariants: nothing
is accepted beyond the bounds, and whatever is refused has left no trace; no namespace fills a queue, for it
may have no more waiting there than is still free; a bundle stays under way until it is settled.

Bundles that are alike wait as parcels: small ones of a namespace join, and a block may cut one.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Final, NamedTuple

import msgspec

from lockstep import limits
from lockstep.block import AdmittedBundle, Parcel
from lockstep.errors import QueueFull
from lockstep.genesis import Quota
from lockstep.register import Register
from lockstep.registry import Registry
from lockstep.types import SYSTEM_NAMESPACES, BundleId, Namespace, SwapId
from sequencer.builder import (
    Footprint,
    Footprints,
    Room,
    footprint_of_parcel,
    footprints_of,
    footprints_of_parcel,
)
from sequencer.fair_queue import FairQueue
from sequencer.judgement import NOTHING, Claim, Judge, Judgement
from sequencer.quotas import Quotas

__pure__ = True

DECISIONS_SHARE: Final = 2
"""One part in so many of each block is for decisions, if there are as many."""

DECISIONS_MAX: Final = 4_096
"""Decisions that wait in their own queue."""

DECISIONS_BYTES_MAX: Final = 4 * limits.BLOCK_BYTES_MAX
"""Bytes of their entries."""


JOINED_BYTES_MAX: Final = 64 * 1024
"""Bytes of entries that a parcel to which others were added has at most."""


class Candidate(msgspec.Struct, frozen=True):
    """A bundle that may come in if there is room."""

    bundle: AdmittedBundle | Parcel
    """The bundle, or many for rollups alone."""
    judgement: Judgement
    """What it would do."""
    footprints: Footprints
    """What it takes of a block."""

    @property
    def size_bytes(self) -> int:
        """Bytes of a block that it takes."""
        return self.footprints.entry_bytes

    @property
    def count(self) -> int:
        """How many bundles it is."""
        return len(self.bundle) if isinstance(self.bundle, Parcel) else 1

    @property
    def is_decision(self) -> bool:
        """Whether room is reserved for it."""
        return bool(self.judgement.claims)


class Late(NamedTuple):
    """A bundle whose window passed while it waited."""

    bundle_id: BundleId
    """The bundle."""
    valid_until_ms: int
    """Its window."""


class _Waiting:
    """What a namespace has in the fair queue."""

    __slots__ = ("bundles", "size_bytes")

    def __init__(self) -> None:
        self.bundles = 0
        self.size_bytes = 0

    def add(self, bundles: int, size_bytes: int) -> None:
        """Count what came, or with negative numbers what left."""
        self.bundles += bundles
        self.size_bytes += size_bytes


class WaitingRoom:
    """Bundles between their acceptance and their block."""

    def __init__(
        self,
        *,
        log_origin: str,
        quota: Quota,
        weights: Mapping[Namespace, int],
        bundles_max: int,
        bytes_max: int,
    ) -> None:
        """`quota` holds for namespaces to which the registry gives none; the bounds leave out decisions."""
        self._judge = Judge(log_origin)
        self._quotas = Quotas(quota)
        self._decisions: deque[Candidate] = deque()
        self._decisions_bytes = 0
        self._claims: set[Claim] = set()
        self._claimed_by: dict[BundleId, frozenset[Claim]] = {}
        self._fair = FairQueue[Candidate](weights)
        self._fair_bounds = (bundles_max, bytes_max)
        self._fair_bundles = 0
        self._fair_bytes = 0
        self._waiting: defaultdict[Namespace, _Waiting] = defaultdict(_Waiting)
        self._under_way: dict[BundleId, Judgement] = {}
        self._opening_tags: dict[SwapId, int] = {}

    def __len__(self) -> int:
        return len(self._decisions) + self._fair_bundles

    # --- in

    def judge(self, bundle: AdmittedBundle, register: Register, *, log_size: int, time_ms: int) -> Candidate:
        """Return a bundle as one that may come in. Raises as `Judge.judge`."""
        footprints = footprints_of(bundle)
        judgement = NOTHING
        if not SYSTEM_NAMESPACES.isdisjoint(footprints.by_namespace):
            judgement = self._judge.judge(bundle, register, log_size=log_size, time_ms=time_ms)
        return Candidate(bundle, judgement, footprints)

    def take(self, candidate: Candidate, registry: Registry, clock_ms: int) -> None:
        """Let a bundle wait for a block. Raises QueueFull or QuotaExceeded, having accepted nothing."""
        bundle = candidate.bundle
        assert isinstance(bundle, AdmittedBundle), "a parcel is taken at once"
        if candidate.is_decision and self._has_decisions_room(candidate):
            self._decisions.append(candidate)
            self._decisions_bytes += candidate.size_bytes
            self._claimed_by[bundle.bundle_id] = candidate.judgement.claims
            self._claims |= candidate.judgement.claims
        else:
            self._verify_fair_room(candidate)
            self._quotas.charge(candidate.footprints.by_namespace, registry, clock_ms)
            self._push(candidate)
        if candidate.judgement is not NOTHING:
            self._under_way[bundle.bundle_id] = candidate.judgement
            self._judge.add(bundle.bundle_id, candidate.judgement)

    def take_at_once(self, parcels: Sequence[Parcel], registry: Registry, clock_ms: int) -> bool:
        """Let the bundles of parcels wait, one for each of some rollups, if all surely find room.

        Answers whether they do, and takes none if not. It is what `judge` and `take` would do with one after
        another, at a fraction of the cost.
        """
        totals = {each.namespace: footprint_of_parcel(each) for each in parcels}
        if not self._have_fair_room(totals) or not self._quotas.charge_at_once(totals, registry, clock_ms):
            return False
        for parcel, footprint in zip(parcels, totals.values(), strict=True):
            if not self._join(parcel, footprint):
                for part in _parts(parcel, footprint.entry_bytes):
                    self._push(Candidate(part, NOTHING, footprints_of_parcel(part)))
        return True

    def _join(self, parcel: Parcel, added: Footprint) -> bool:
        """Add a parcel to the one of its namespace that waits last, if that is small, and answer whether."""
        namespace, added_bytes = parcel.namespace, added.entry_bytes
        last = self._fair.last(namespace)
        if last is None or not isinstance(last.bundle, Parcel):
            return False
        before = last.footprints
        if before.entry_bytes + added_bytes > JOINED_BYTES_MAX:
            return False
        footprints = Footprints(
            {namespace: before.by_namespace[namespace] + added},
            before.transactions + added.transactions,
            before.entry_bytes + added_bytes,
        )
        joined = Candidate(last.bundle + parcel, NOTHING, footprints)
        self._fair.replace_last(namespace, joined, added)
        self._count(namespace, added.transactions, added_bytes)
        return True

    def _have_fair_room(self, totals: Mapping[Namespace, Footprint]) -> bool:
        """Answer whether bundles of one transaction each find room, whatever their order."""
        bundles_max, bytes_max = self._fair_bounds
        sizes_bytes = [each.entry_bytes for each in totals.values()]
        bundles_free = bundles_max - self._fair_bundles - sum([each.transactions for each in totals.values()])
        bytes_free = bytes_max - self._fair_bytes - sum(sizes_bytes)
        for (namespace, each), size_bytes in zip(totals.items(), sizes_bytes, strict=True):
            waiting = self._waiting[namespace]
            if waiting.bundles + each.transactions > bundles_free:
                return False
            if waiting.size_bytes + size_bytes > bytes_free:
                return False
        return True

    def _has_decisions_room(self, candidate: Candidate) -> bool:
        """Answer whether a decision decides something that no bundle under way does, and finds room."""
        return (
            len(self._decisions) < DECISIONS_MAX
            and self._decisions_bytes + candidate.size_bytes <= DECISIONS_BYTES_MAX
            and candidate.judgement.claims.isdisjoint(self._claims)
        )

    def _verify_fair_room(self, candidate: Candidate) -> None:
        bundles_max, bytes_max = self._fair_bounds
        bundles_free, bytes_free = bundles_max - self._fair_bundles, bytes_max - self._fair_bytes
        if not bundles_free:
            raise QueueFull(queue="bundle", limit=bundles_max)
        if candidate.size_bytes > bytes_free:
            raise QueueFull(queue="bundle bytes", limit=bytes_max)
        for namespace in candidate.footprints.by_namespace:
            waiting = self._waiting[namespace]
            if waiting.bundles >= bundles_free:
                raise QueueFull(queue=f"{namespace} bundle", limit=waiting.bundles)
            if waiting.size_bytes >= bytes_free:
                raise QueueFull(queue=f"{namespace} bundle bytes", limit=waiting.size_bytes)

    def _push(self, candidate: Candidate) -> None:
        after = 0
        if candidate.judgement.follows:
            after = max(self._opening_tags.get(each, 0) for each in candidate.judgement.follows)
        tag = self._fair.push(candidate, candidate.footprints, after=after)
        for swap_id in candidate.judgement.opens:
            self._opening_tags[swap_id] = tag
        self._count_fair(candidate, 1)

    def _count_fair(self, candidate: Candidate, sign: int) -> None:
        """Count what came into the fair queue (1) or left it (-1)."""
        bundles, size_bytes = sign * candidate.count, sign * candidate.size_bytes
        namespaces = iter(candidate.footprints.by_namespace)
        self._count(next(namespaces), bundles, size_bytes)
        # It waits once, and for each namespace that it touches.
        for namespace in namespaces:
            self._waiting[namespace].add(bundles, size_bytes)

    def _count(self, namespace: Namespace, bundles: int, size_bytes: int) -> None:
        self._fair_bundles += bundles
        self._fair_bytes += size_bytes
        self._waiting[namespace].add(bundles, size_bytes)

    # --- out

    def gather(self, time_ms: int) -> tuple[list[AdmittedBundle | Parcel], list[Late]]:
        """Take what a block at `time_ms` holds; return it, and what expired before it.

        Decisions first, within their share; then all else by turns, up to the first that does not fit.
        """
        room, share = Room(), Room(share=DECISIONS_SHARE)
        chosen, late = list[AdmittedBundle | Parcel](), list[Late]()
        while self._decisions:
            candidate = self._decisions[0]
            is_late = _ends_ms(candidate.bundle) <= time_ms
            if not is_late and not (share.take(candidate.footprints) and room.take(candidate.footprints)):
                break
            self._decisions_bytes -= self._decisions.popleft().size_bytes
            if is_late:
                late += _give_up(candidate.bundle)
            else:
                chosen.append(candidate.bundle)
        while len(self._fair):
            candidate = self._fair.first()
            if _ends_ms(candidate.bundle) <= time_ms:
                late += self._give_up_late(candidate, time_ms)
            elif room.take(candidate.footprints):
                self._leave_fair()
                chosen.append(candidate.bundle)
            else:
                if isinstance(candidate.bundle, Parcel) and (count := room.part_of(candidate.bundle)):
                    chosen.append(candidate.bundle[:count])
                    self._leave_in_fair(candidate, candidate.bundle[count:])
                break
        self._forget([each.bundle_id for each in late])
        return chosen, late

    def _leave_fair(self) -> None:
        """Let go who is first in the fair queue."""
        self._count_fair(self._fair.pop(), -1)

    def _leave_in_fair(self, candidate: Candidate, rest: Parcel) -> None:
        """Leave the rest of a parcel where it was: first in the fair queue."""
        remaining = Candidate(rest, NOTHING, footprints_of_parcel(rest))
        self._count_fair(candidate, -1)
        self._fair.replace_first(remaining)
        self._count_fair(remaining, 1)

    def _give_up_late(self, candidate: Candidate, time_ms: int) -> Iterable[Late]:
        """Take what is late out of who is first in the fair queue, and return it."""
        bundle = candidate.bundle
        if isinstance(bundle, AdmittedBundle) or max(bundle.windows_ms) <= time_ms:
            self._leave_fair()
            return _give_up(bundle)
        in_time = [window_ms > time_ms for window_ms in bundle.windows_ms]
        self._leave_in_fair(candidate, _select(bundle, in_time))
        return _give_up(_select(bundle, [not each for each in in_time]))

    def settle(self, bundles: Iterable[AdmittedBundle | Parcel]) -> None:
        """Forget bundles that are in the register now."""
        if self._under_way:
            self._forget([each.bundle_id for each in bundles if isinstance(each, AdmittedBundle)])

    def clear(self) -> list[BundleId]:
        """Let everything that waits go, and return it."""
        waiting = [*self._decisions, *self._fair.clear()]
        self._decisions.clear()
        self._decisions_bytes = self._fair_bundles = self._fair_bytes = 0
        self._waiting.clear()
        bundle_ids = [late.bundle_id for each in waiting for late in _give_up(each.bundle)]
        self._forget(bundle_ids)
        return bundle_ids

    def _forget(self, bundle_ids: Iterable[BundleId]) -> None:
        """Forget bundles that are under way no more."""
        if not self._under_way:
            return
        for bundle_id in bundle_ids:
            judgement = self._under_way.pop(bundle_id, NOTHING)
            if judgement is NOTHING:
                continue
            self._claims -= self._claimed_by.pop(bundle_id, frozenset())
            self._judge.remove(bundle_id, judgement)
            for swap_id in judgement.opens:
                self._opening_tags.pop(swap_id, None)


def _ends_ms(bundle: AdmittedBundle | Parcel) -> int:
    """Return when the first window ends."""
    return bundle.valid_until_ms if isinstance(bundle, AdmittedBundle) else min(bundle.windows_ms)


def _give_up(bundle: AdmittedBundle | Parcel) -> Iterable[Late]:
    if isinstance(bundle, AdmittedBundle):
        return (Late(bundle.bundle_id, bundle.valid_until_ms),)
    return map(Late, bundle.bundle_ids, bundle.windows_ms)


def _select(parcel: Parcel, wanted: Sequence[bool]) -> Parcel:
    """Return some bundles of a parcel."""
    return Parcel(
        parcel.namespace,
        list(compress(parcel.bundle_ids, wanted)),
        list(compress(parcel.payloads, wanted)),
        list(compress(parcel.hashes, wanted)),
        list(compress(parcel.windows_ms, wanted)),
    )


def _parts(parcel: Parcel, entries_bytes: int) -> Sequence[Parcel]:
    """Return a parcel in parts that take about as much as one bundle may."""
    if entries_bytes <= limits.BUNDLE_BYTES_MAX:
        return (parcel,)
    size = max(len(parcel) * limits.BUNDLE_BYTES_MAX // entries_bytes, 1)
    return [parcel[start : start + size] for start in range(0, len(parcel), size)]
