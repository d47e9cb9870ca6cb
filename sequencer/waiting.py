"""Where accepted bundles wait for a block: what may come in, and who is next.

Owns two queues. Decisions (`sequencer.judgement`) have one of their own, and up to DECISIONS_SHARE of each
block before all else, so that no flood of anything delays the outcome of a swap; they are charged to no
quota. What decides the same as one that waits already, or finds that queue full, takes its turn with
everything else: in the fair queue, within the quotas of the namespaces that it touches. Invariants: nothing
is accepted beyond the bounds, and whatever is refused has left no trace; no namespace fills a queue, for it
may have no more waiting there than is still free; a bundle stays under way until it is settled.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from lockstep import limits
from lockstep.block import AdmittedBundle
from lockstep.errors import QueueFull
from lockstep.genesis import Quota
from lockstep.order import ENTRY_PREFIX_BYTES
from lockstep.register import Register
from lockstep.registry import Registry
from lockstep.types import SYSTEM_NAMESPACES, BundleId, Namespace, SwapId
from sequencer.builder import Footprint, Footprints, Room, footprints_of, footprints_of_one
from sequencer.fair_queue import FairQueue, charge_of_one
from sequencer.judgement import NOTHING, Claim, Judge, Judgement
from sequencer.quotas import Quotas

__pure__ = True

DECISIONS_SHARE: Final = 2
"""One part in so many of each block is for decisions, if there are as many."""

DECISIONS_MAX: Final = 4_096
"""Decisions that wait in their own queue."""

DECISIONS_BYTES_MAX: Final = 4 * limits.BLOCK_BYTES_MAX
"""Bytes of their entries."""


class Candidate(msgspec.Struct, frozen=True):
    """A bundle that may come in if there is room."""

    bundle: AdmittedBundle
    """The bundle."""
    judgement: Judgement
    """What it would do."""
    footprints: Footprints
    """What it takes of a block."""

    @property
    def size_bytes(self) -> int:
        """Bytes of a block that it takes."""
        return self.footprints.entry_bytes

    @property
    def is_decision(self) -> bool:
        """Whether room is reserved for it."""
        return bool(self.judgement.claims)


class _Waiting:
    """What a namespace has in the fair queue."""

    __slots__ = ("bundles", "size_bytes")

    def __init__(self) -> None:
        self.bundles = 0
        self.size_bytes = 0


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
        self._fair_bytes = 0
        self._waiting: defaultdict[Namespace, _Waiting] = defaultdict(_Waiting)
        self._under_way: dict[BundleId, Judgement] = {}
        self._opening_tags: dict[SwapId, int] = {}

    def __len__(self) -> int:
        return len(self._decisions) + len(self._fair)

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
        if candidate.is_decision and self._has_decisions_room(candidate):
            self._decisions.append(candidate)
            self._decisions_bytes += candidate.size_bytes
            self._claimed_by[candidate.bundle.bundle_id] = candidate.judgement.claims
            self._claims |= candidate.judgement.claims
        else:
            self._verify_fair_room(candidate)
            self._quotas.charge(candidate.footprints.by_namespace, registry, clock_ms)
            self._push(candidate)
        if candidate.judgement is not NOTHING:
            self._under_way[candidate.bundle.bundle_id] = candidate.judgement
            self._judge.add(candidate.bundle, candidate.judgement)

    def take_at_once(self, bundles: Sequence[AdmittedBundle], registry: Registry, clock_ms: int) -> bool:
        """Let many bundles wait if each is one transaction for a rollup, and all surely find room.

        Answers whether they do, and takes none if not. It is what `judge` and `take` would do with one after
        another, at a fraction of the cost.
        """
        candidates: defaultdict[Namespace, list[Candidate]] = defaultdict(list)
        for bundle in bundles:
            if len(bundle.transactions) != 1:
                return False
            namespace, payload = bundle.transactions[0]
            footprints = footprints_of_one(namespace, len(payload))
            candidates[namespace].append(Candidate(bundle, NOTHING, footprints))
        totals = {namespace: _total(each) for namespace, each in candidates.items()}
        if (
            not SYSTEM_NAMESPACES.isdisjoint(totals)
            or not self._have_fair_room(totals)
            or not self._quotas.charge_at_once(totals, registry, clock_ms)
        ):
            return False
        for namespace, total in totals.items():
            waiting = candidates[namespace]
            charges = [charge_of_one(each.footprints.entry_bytes) for each in waiting]
            self._fair.push_alone(namespace, waiting, charges)
            self._fair_bytes += total.entry_bytes
            self._waiting[namespace].bundles += total.transactions
            self._waiting[namespace].size_bytes += total.entry_bytes
        return True

    def _have_fair_room(self, totals: Mapping[Namespace, Footprint]) -> bool:
        """Answer whether bundles of one transaction each find room, whatever their order."""
        bundles_max, bytes_max = self._fair_bounds
        bundles_free = bundles_max - len(self._fair) - sum(each.transactions for each in totals.values())
        bytes_free = bytes_max - self._fair_bytes - sum(each.entry_bytes for each in totals.values())
        return all(
            self._waiting[namespace].bundles + each.transactions <= bundles_free
            and self._waiting[namespace].size_bytes + each.entry_bytes <= bytes_free
            for namespace, each in totals.items()
        )

    def _has_decisions_room(self, candidate: Candidate) -> bool:
        """Answer whether a decision decides something that no bundle under way does, and finds room."""
        return (
            len(self._decisions) < DECISIONS_MAX
            and self._decisions_bytes + candidate.size_bytes <= DECISIONS_BYTES_MAX
            and candidate.judgement.claims.isdisjoint(self._claims)
        )

    def _verify_fair_room(self, candidate: Candidate) -> None:
        bundles_max, bytes_max = self._fair_bounds
        bundles_free, bytes_free = bundles_max - len(self._fair), bytes_max - self._fair_bytes
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
        self._fair_bytes += candidate.size_bytes
        for namespace in candidate.footprints.by_namespace:
            waiting = self._waiting[namespace]
            waiting.bundles += 1
            waiting.size_bytes += candidate.size_bytes

    # --- out

    def gather(self, time_ms: int) -> tuple[list[AdmittedBundle], list[AdmittedBundle]]:
        """Take what a block at `time_ms` holds; return it, and what expired before it.

        Decisions first, within their share; then all else by turns, up to the first that does not fit.
        """
        room, expired = Room(), list[AdmittedBundle]()
        share = Room(share=DECISIONS_SHARE)
        chosen: list[AdmittedBundle] = []
        while self._decisions:
            candidate = self._decisions[0]
            is_late = candidate.bundle.valid_until_ms <= time_ms
            if not is_late and not (share.take(candidate.footprints) and room.take(candidate.footprints)):
                break
            self._decisions_bytes -= self._decisions.popleft().size_bytes
            (expired if is_late else chosen).append(candidate.bundle)
        taken: list[Candidate] = []
        while len(self._fair):
            candidate = self._fair.first()
            is_late = candidate.bundle.valid_until_ms <= time_ms
            if not is_late and not room.take(candidate.footprints):
                break
            taken.append(self._fair.pop())
            (expired if is_late else chosen).append(candidate.bundle)
        self._left_fair(taken)
        self.settle(expired)
        return chosen, expired

    def settle(self, bundles: Iterable[AdmittedBundle]) -> None:
        """Forget bundles that are in the register now, or will never be."""
        if not self._under_way:
            return
        for bundle in bundles:
            judgement = self._under_way.pop(bundle.bundle_id, NOTHING)
            if judgement is NOTHING:
                continue
            self._claims -= self._claimed_by.pop(bundle.bundle_id, frozenset())
            self._judge.remove(bundle, judgement)
            for swap_id in judgement.opens:
                self._opening_tags.pop(swap_id, None)

    def clear(self) -> list[AdmittedBundle]:
        """Let everything that waits go, and return it."""
        bundles = [each.bundle for each in self._decisions]
        self._decisions.clear()
        self._decisions_bytes = 0
        waiting = self._fair.clear()
        self._left_fair(waiting)
        bundles += [each.bundle for each in waiting]
        self.settle(bundles)
        return bundles

    def _left_fair(self, candidates: Iterable[Candidate]) -> None:
        # Most are alike.
        for footprints, count in Counter([each.footprints for each in candidates]).items():
            size_bytes = count * footprints.entry_bytes
            self._fair_bytes -= size_bytes
            for namespace in footprints.by_namespace:
                waiting = self._waiting[namespace]
                waiting.bundles -= count
                waiting.size_bytes -= size_bytes


def _total(candidates: Sequence[Candidate]) -> Footprint:
    """Return what candidates of one transaction each, for one namespace, have together."""
    entries_bytes = sum([each.footprints.entry_bytes for each in candidates])
    return Footprint(len(candidates), entries_bytes - ENTRY_PREFIX_BYTES * len(candidates))
