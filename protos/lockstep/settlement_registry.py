"""Whose signatures counted at which height, as far as the settlement log was told.

Owns what REGISTRATION entries do. The rules of changes are `lockstep.registry`'s; this keeps, besides the
registry now, what it was, because commitments are posted for heights long past. Invariant: what is answered
for a height does not depend on how often or in which steps the anchored height grew.

The log cannot see that a change was ordered, nor where: an entry has no room for a proof of it. So only what
governance signed is accepted, which governance itself has to keep from being ordered late or never; its
place is the poster's claim, and decides nothing but whether the change was announced in time. A change takes
effect at the height that is signed in it, if the log learns of it before that height is anchored; later, it
counts from there on but not for what was judged before. LEAVE depends on log time, which the log does not
follow, and has no effect here: of a rollup that left, nobody signs any more.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class KnownRegistry:
    """The registry at every height up to the anchored one, and what is pending."""

    timeline: tuple[InForce, ...]
    """One for each height at which changes took effect, ascending, genesis first; the last has what is
    pending now."""

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> "KnownRegistry":
        """Return what is known of a chain without blocks."""
        return cls((InForce(0, Registry.from_genesis(genesis)),))

    @property
    def now(self) -> Registry:
        """The registry at the anchored height, with what is pending."""
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
        return KnownRegistry(tuple(timeline)) if len(timeline) > len(self.timeline) else self

    def accepted(self, height: Height, index: int, payload: bytes) -> "KnownRegistry | str":
        """Return what is known with one more change, ordered at a place; or why it cannot be, in words."""
        registry, (event, *_) = accept(self.now, height=height, entries=((index, payload),))
        if event.outcome == Outcome.IGNORED:
            return event.reason
        last = InForce(self.timeline[-1].since, registry)
        return replace(self, timeline=(*self.timeline[:-1], last))
