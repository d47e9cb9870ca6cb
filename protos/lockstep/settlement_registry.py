"""Whose signatures counted at which height, as far as the settlement log was told.

Owns what REGISTRATION entries do. The rules of changes are `lockstep.registry`'s; this keeps, besides the
registry now, what it was, because commitments are posted for heights long past. Invariant: what is answered
for a height follows from which changes are known; not from when, or in which order, the log was told, nor
from how often or in which steps the anchored height grew.

A change is known with the proof of its place in the order, so the chain's own rules judge it, whoever signed
it, among those that are known, in the order of their places. Who is told of every change that the chain
accepts, in order, comes to the chain's registry. One that is missing shows in the sequence of the next of
its subject, which is refused until it is there. Until then the log may accept what the chain ignored because
of the missing one; once that one is there, so does the log.

A change takes effect at the height that is signed in it; if the log learns of it only when that height is
anchored, it does not count for what was judged before. LEAVE depends on log time, which the log does not
follow, and has no effect here: of a rollup that left, nobody signs any more.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from lockstep.attesters import AttesterSet
from lockstep.genesis import Genesis
from lockstep.registry import Outcome, accept, take_effect
from lockstep.registry_state import Registry
from lockstep.types import Height, PublicKey

__pure__ = True


class InForce(NamedTuple):
    """A registry and the first height at which it holds."""

    since: int
    """The height; 0 for that of genesis."""
    registry: Registry
    """The registry, with the changes that were pending then."""


class Ordered(NamedTuple):
    """A change and its place in the order."""

    height: Height
    """Height of its block."""
    place: int
    """Its index in that block."""
    payload: bytes
    """The `_registry` entry."""


@dataclass(frozen=True, slots=True)
class KnownRegistry:
    """The registry at every height up to the anchored one, and what is pending."""

    genesis: Registry
    """The registry before the first block."""
    ordered: tuple[Ordered, ...]
    """Every change that is known, by place."""
    timeline: tuple[InForce, ...]
    """One for each height at which changes took effect, ascending, genesis first; the last has what is
    pending now."""

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> "KnownRegistry":
        """Return what is known of a chain without blocks."""
        return _at_genesis(Registry.from_genesis(genesis))

    @property
    def now(self) -> Registry:
        """The registry at the anchored height, or at the last known change if that is above."""
        return self.timeline[-1].registry

    def at(self, height: int) -> Registry:
        """Return the registry that holds in the block at a height."""
        timeline = self.advanced(height).timeline
        return timeline[bisect_right(timeline, height, key=lambda each: each.since) - 1].registry

    def sequencer_key_at(self, height: int) -> PublicKey:
        """Return the key that signs the header at a height."""
        return self.at(height).keys["sequencer"]

    def attesters_at(self, rollup: str, height: int) -> AttesterSet | None:
        """Return who speaks for a rollup at a height; None if no such rollup is registered then."""
        record = self.at(height).rollup(rollup)
        return None if record is None else record.attesters

    def was_attester(self, rollup: str, key: PublicKey) -> bool:
        """Answer whether a key ever spoke for a rollup."""
        records = (each.registry.rollup(rollup) for each in self.timeline)
        return any(record is not None and key in record.attesters.keys for record in records)

    def advanced(self, height: int) -> "KnownRegistry":
        """Return what is known once headers up to `height` are anchored: due changes take effect."""
        timeline = list(self.timeline)
        effective = {each.entry.change.effective_height for each in self.now.pending}
        for due in sorted(each for each in effective if each <= height):
            since, current = timeline[-1]
            changed, events = take_effect(current, height=due, time_ms=0)
            if events:
                timeline.append(InForce(max(since, due), changed))
        if len(timeline) == len(self.timeline):
            return self
        return KnownRegistry(self.genesis, self.ordered, tuple(timeline))

    def accepted(self, height: Height, index: int, payload: bytes) -> "KnownRegistry | str":
        """Return what is known with one more change, ordered at a place; or why it cannot be, in words."""
        new = Ordered(height, index, payload)
        place = bisect_right(self.ordered, new[:2], key=lambda each: each[:2])
        if place == len(self.ordered) and self.timeline[-1].since <= height:
            known, reason = _followed_by(self, new)
            return reason or known
        # It comes late: all that is known is judged anew, each at its place.
        known = _at_genesis(self.genesis)
        for each in (*self.ordered[:place], new, *self.ordered[place:]):
            known, reason = _followed_by(known, each)
            if each is new and reason:
                return reason
        return known


def _at_genesis(registry: Registry) -> KnownRegistry:
    return KnownRegistry(registry, (), (InForce(0, registry),))


def _followed_by(known: KnownRegistry, new: Ordered) -> tuple[KnownRegistry, str]:
    """Return what is known with a change behind all others, and why the chain ignores it, if it does."""
    height, index, payload = new
    reached = known.advanced(height)
    registry, (event, *_) = accept(reached.now, height=height, entries=((index, payload),))
    last = InForce(reached.timeline[-1].since, registry)
    grown = KnownRegistry(known.genesis, (*known.ordered, new), (*reached.timeline[:-1], last))
    return grown, event.reason if event.outcome == Outcome.IGNORED else ""
