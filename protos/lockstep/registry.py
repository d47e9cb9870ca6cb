"""The registry's rules: how ordered `_registry` entries change who and what the chain knows.

Owns which changes are valid and what they do; the state is `lockstep.registry_state`'s, the bytes are
`lockstep.registry_entries`'. A block changes the registry in two acts: first, before everything else in the
block, the changes due at its height take effect; later its entries are judged, and what is valid waits for
its own height. So nothing in a block is judged under a registry that the block itself brings.

Malformed and useless entries change nothing, for everybody alike; an event says why. The first rule broken
counts, in this order: layout, chain, sequence, effective height, room, signature, the rule of its kind
(`lockstep.registry_kinds`).

A change is judged again, by the rule of its kind, when it is due: what came between may have made it void;
one that an old key signed is also void if that key was replaced meanwhile. An old key announces its own
replacement `rotation_delay_blocks` ahead and has one such change pending at a time, so that governance can
veto one that a thief signed, and a thief cannot fill the registry. A VETO acts at once, on a change that is
still pending; it must be ordered below its own effective height. What an earlier governance key signed
stays pending when that key is replaced: the new one can veto it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.hashing import SIGN_REGISTRY
from lockstep.registry_entries import (
    Leave,
    RegistryChange,
    RegistryEntry,
    RotateAttester,
    RotateKey,
    SignedBy,
    Veto,
    decode_registry_entry,
)
from lockstep.registry_kinds import CHECKS, EFFECTS, named_by
from lockstep.registry_state import PendingChange, Registry, RollupRecord, RollupStatus
from lockstep.signing import verify
from lockstep.types import Height, PublicKey, RollupId

__pure__ = True
__all__ = [
    "EFFECTIVE_AHEAD_BLOCKS_MAX",
    "PENDING_CHANGES_MAX",
    "Outcome",
    "Registry",
    "RegistryEvent",
    "RollupRecord",
    "RollupStatus",
    "accept",
    "role_key_at",
    "step",
    "take_effect",
]

EFFECTIVE_AHEAD_BLOCKS_MAX: Final = 1_000_000
"""How far above its own block a change may take effect."""

PENDING_CHANGES_MAX: Final = 1_024
"""Changes that are pending at a time."""


class Outcome(Enum):
    """What became of a change."""

    IGNORED = "ignored"
    """It was not valid where it was ordered."""
    ACCEPTED = "accepted"
    """It waits for its effective height."""
    EFFECTIVE = "effective"
    """It holds from this block on."""
    VOID = "void"
    """When it was due, it was no longer valid."""
    VETOED = "vetoed"
    """A veto removed it before it was due."""


@dataclass(frozen=True, slots=True)
class RegistryEvent:
    """What became of an entry, for logs and people; no rule depends on it."""

    outcome: Outcome
    """What became of it."""
    height: Height
    """Height of the block that holds the entry."""
    index: int
    """The entry's place in that block."""
    change: RegistryChange | None
    """The change; None if the entry could not be decoded."""
    reason: str = ""
    """Why, if it was IGNORED or VOID."""


def step(
    registry: Registry, *, height: Height, time_ms: int, entries: Sequence[tuple[int, bytes]]
) -> tuple[Registry, tuple[RegistryEvent, ...]]:
    """Return the registry after a block, and what happened: both acts, one after the other.

    `entries` are `(index, payload)` of the block's `_registry` entries in order; `time_ms` is its log time.
    """
    registry, effects = take_effect(registry, height=height, time_ms=time_ms)
    registry, verdicts = accept(registry, height=height, entries=entries)
    return registry, effects + verdicts


def take_effect(
    registry: Registry, *, height: Height, time_ms: int
) -> tuple[Registry, tuple[RegistryEvent, ...]]:
    """Return the registry that holds within the block at `height`, and what took effect: the first act."""
    events = []
    for due in [each for each in registry.pending if _is_due(registry, each, height, time_ms)]:
        change = due.entry.change
        registry = _without(registry, due)
        reason = _why_void(registry, due.entry)
        if reason is None:
            changed = EFFECTS[change.kind](registry, change.subject, change.action, time_ms)
            registry = replace(changed, changed_height=height)
        outcome = Outcome.EFFECTIVE if reason is None else Outcome.VOID
        events.append(RegistryEvent(outcome, due.height, due.index, change, reason or ""))
    return registry, tuple(events)


def accept(
    registry: Registry, *, height: Height, entries: Sequence[tuple[int, bytes]]
) -> tuple[Registry, tuple[RegistryEvent, ...]]:
    """Return the registry after a block's entries were judged, and what became of each: the second act."""
    events: list[RegistryEvent] = []
    for index, payload in entries:
        try:
            entry = decode_registry_entry(payload)
        except Malformed as error:
            events.append(RegistryEvent(Outcome.IGNORED, height, index, None, error.message))
            continue
        reason = _why_not(registry, height, entry)
        if reason is not None:
            events.append(RegistryEvent(Outcome.IGNORED, height, index, entry.change, reason))
            continue
        registry, accepted = _accept_valid(registry, PendingChange(height, index, entry))
        events += accepted
    return registry, tuple(events)


def role_key_at(registry: Registry, role: str, height: Height) -> PublicKey:
    """Return a role's key in the block at `height`, given all blocks before it.

    A header is signed by the key in force at its own height, so it must be known before the header is.
    """
    if not registry.pending:
        return registry.keys[role]
    # Only LEAVE depends on log time, and it changes no role's key.
    return take_effect(registry, height=height, time_ms=0)[0].keys[role]


def _accept_valid(registry: Registry, new: PendingChange) -> tuple[Registry, tuple[RegistryEvent, ...]]:
    change = new.entry.change
    registry = replace(registry, sequences={**registry.sequences, change.subject: change.sequence})
    if not isinstance(change.action, Veto):
        accepted = RegistryEvent(Outcome.ACCEPTED, new.height, new.index, change)
        return replace(registry, pending=(*registry.pending, new)), (accepted,)
    effective = RegistryEvent(Outcome.EFFECTIVE, new.height, new.index, change)
    vetoed = named_by(registry, change.subject, change.action)
    if vetoed is None:
        raise AssertionError("a valid veto names a pending change")
    stopped = RegistryEvent(Outcome.VETOED, vetoed.height, vetoed.index, vetoed.entry.change)
    return _without(registry, vetoed), (effective, stopped)


def _why_not(registry: Registry, height: Height, entry: RegistryEntry) -> str | None:
    """Return the first rule that an entry of the block at `height` breaks, in words; None if it is valid."""
    change = entry.change
    if change.chain != registry.chain_id:
        return "is for another chain"
    expected = registry.sequences.get(change.subject, 0) + 1
    if change.sequence != expected:
        return f"has sequence {change.sequence}, the next of {change.subject} is {expected}"
    ahead = change.effective_height - height
    if not 1 <= ahead <= EFFECTIVE_AHEAD_BLOCKS_MAX:
        return f"takes effect {ahead} blocks ahead, allowed are 1 to {EFFECTIVE_AHEAD_BLOCKS_MAX}"
    if len(registry.pending) >= PENDING_CHANGES_MAX and not isinstance(change.action, Veto):
        return f"finds {PENDING_CHANGES_MAX} changes pending already"
    signer = registry.keys["governance"]
    if entry.signed_by == SignedBy.SUBJECT:
        own = _own_key(registry, change)
        if own is None:
            return "can only be signed by governance"
        if ahead < registry.rotation_delay_blocks:
            return f"is announced {ahead} blocks ahead, a key's own needs {registry.rotation_delay_blocks}"
        if any(_is_own(each.entry, change.subject, own) for each in registry.pending):
            return "follows another change that the same key signed and that is still pending"
        signer = own
    if not verify(SIGN_REGISTRY, signer, entry.body, entry.signature):
        return f"is not signed by {signer.hex()}"
    return CHECKS[change.kind](registry, change.subject, change.action)


def _why_void(registry: Registry, entry: RegistryEntry) -> str | None:
    """Return why a change that is due and no longer pending cannot take effect; None if it can."""
    change = entry.change
    own = _own_key(registry, change) if entry.signed_by == SignedBy.SUBJECT else None
    if own is not None and not _is_own(entry, change.subject, own):
        return "was signed by a key that has been replaced since"
    return CHECKS[change.kind](registry, change.subject, change.action)


def _own_key(registry: Registry, change: RegistryChange) -> PublicKey | None:
    """Return the key that a change replaces, which may sign it; None if it replaces none."""
    if isinstance(change.action, RotateKey):
        return registry.keys[change.subject]
    if isinstance(change.action, RotateAttester):
        return change.action.old_key
    return None


def _is_own(entry: RegistryEntry, subject: str, key: PublicKey) -> bool:
    """Answer whether an accepted entry is one by which a key of the subject announces its own replacement."""
    if entry.signed_by != SignedBy.SUBJECT or entry.change.subject != subject:
        return False
    return verify(SIGN_REGISTRY, key, entry.body, entry.signature)


def _is_due(registry: Registry, pending: PendingChange, height: Height, time_ms: int) -> bool:
    change = pending.entry.change
    if height < change.effective_height:
        return False
    if isinstance(change.action, Leave):
        return time_ms >= registry.rollups[RollupId(change.subject)].drained_ms + limits.DRAIN_MS_MIN
    return True


def _without(registry: Registry, pending: PendingChange) -> Registry:
    return replace(registry, pending=tuple(each for each in registry.pending if each is not pending))
