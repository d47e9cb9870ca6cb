"""What each kind of registry change needs to be valid, and what it does.

Owns one row of this table per kind; what holds for all kinds is `lockstep.registry`'s.

    kind             subject    signed by                   valid while
    REGISTER_ROLLUP  rollup     governance                  its id was never used or awaited; there is room
    SET_ATTESTERS    rollup     governance                  it has not left; the set is a valid one
    DRAIN            rollup     governance                  it is ACTIVE
    LEAVE            rollup     governance                  it is DRAINING; waits until it has been for a day
    ROTATE_KEY       role       governance or the old key   the key is valid, and no role has or awaits it
    ROTATE_ATTESTER  rollup     governance or the old key   not left; swapping the keys leaves a valid set
    VETO             any        governance                  the change it names is pending
    SET_RULES        `rules`    governance                  the version is above the one in force
    SET_QUOTA        rollup     governance                  it has not left
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from lockstep.attesters import AttesterSet, verify_attesters
from lockstep.errors import Malformed
from lockstep.genesis import RESERVED_IDS, parse_rollup_definition
from lockstep.genesis_schema import ROLLUPS_MAX
from lockstep.registry_entries import (
    Action,
    ChangeKind,
    Drain,
    Leave,
    RegisterRollup,
    RotateAttester,
    RotateKey,
    SetAttesters,
    SetQuota,
    SetRules,
    Veto,
)
from lockstep.registry_state import PendingChange, Registry, RollupRecord, RollupStatus
from lockstep.signing import is_registrable
from lockstep.types import RollupId

__pure__ = True


def _check_register(registry: Registry, subject: str, action: RegisterRollup) -> str | None:
    awaited = {
        each.entry.change.subject
        for each in registry.pending
        if isinstance(each.entry.change.action, RegisterRollup)
    }
    if subject in registry.rollups or subject in awaited:
        return "names a rollup whose id is used already"
    # Sequences are kept for good, also of ids whose registration was vetoed: they count.
    named = (registry.rollups.keys() | registry.sequences.keys()) - RESERVED_IDS - {subject}
    if len(named) >= ROLLUPS_MAX:
        return f"finds {ROLLUPS_MAX} rollups already"
    try:
        definition = parse_rollup_definition(action.definition)
    except Malformed as error:
        return f"has a definition that cannot be: {error.message}"
    if definition.id != subject:
        return f"has a definition of {definition.id}"
    return None


def _register(registry: Registry, subject: str, action: RegisterRollup, _time_ms: int) -> Registry:
    definition = parse_rollup_definition(action.definition)
    record = RollupRecord(definition, action.definition, definition.attesters, definition.quota)
    return replace(registry, rollups={**registry.rollups, RollupId(subject): record})


def _check_attesters(registry: Registry, subject: str, action: SetAttesters) -> str | None:
    return _check_present(registry, subject, action) or _check_set(action.attesters)


def _set_attesters(registry: Registry, subject: str, action: SetAttesters, _time_ms: int) -> Registry:
    return _with_rollup(registry, replace(registry.rollups[RollupId(subject)], attesters=action.attesters))


def _check_drain(registry: Registry, subject: str, _action: Drain) -> str | None:
    return None if registry.is_open_for(subject) else "names a rollup that is not ACTIVE"


def _drain(registry: Registry, subject: str, _action: Drain, time_ms: int) -> Registry:
    record = registry.rollups[RollupId(subject)]
    return _with_rollup(registry, replace(record, status=RollupStatus.DRAINING, drained_ms=time_ms))


def _check_leave(registry: Registry, subject: str, _action: Leave) -> str | None:
    record = registry.rollup(subject)
    is_draining = record is not None and record.status == RollupStatus.DRAINING
    return None if is_draining else "names a rollup that is not DRAINING"


def _leave(registry: Registry, subject: str, _action: Leave, _time_ms: int) -> Registry:
    return _with_rollup(registry, replace(registry.rollups[RollupId(subject)], status=RollupStatus.LEFT))


def _check_rotate_key(registry: Registry, _role: str, action: RotateKey) -> str | None:
    if not is_registrable(action.new_key):
        return "brings a key that is not an Ed25519 public key of prime order"
    awaited = {
        each.entry.change.action.new_key
        for each in registry.pending
        if isinstance(each.entry.change.action, RotateKey)
    }
    if action.new_key in {*registry.keys.values(), *awaited}:
        return "brings a key that a role has or awaits already"
    return None


def _rotate_key(registry: Registry, role: str, action: RotateKey, _time_ms: int) -> Registry:
    return replace(registry, keys={**registry.keys, role: action.new_key})


def _check_rotate_attester(registry: Registry, subject: str, action: RotateAttester) -> str | None:
    missing = _check_present(registry, subject, action)
    if missing is not None:
        return missing
    attesters = registry.rollups[RollupId(subject)].attesters
    if action.old_key not in attesters.keys:
        return "replaces a key that is not in the set"
    return _check_set(_rotated(attesters, action))


def _rotate_attester(registry: Registry, subject: str, action: RotateAttester, _time_ms: int) -> Registry:
    record = registry.rollups[RollupId(subject)]
    return _with_rollup(registry, replace(record, attesters=_rotated(record.attesters, action)))


def _check_veto(registry: Registry, subject: str, action: Veto) -> str | None:
    return None if named_by(registry, subject, action) else "names no change that is pending"


def _check_rules(registry: Registry, _subject: str, action: SetRules) -> str | None:
    if action.version <= registry.rules_version:
        return f"goes to version {action.version}, in force is {registry.rules_version}"
    return None


def _set_rules(registry: Registry, _subject: str, action: SetRules, _time_ms: int) -> Registry:
    return replace(registry, rules_version=action.version)


def _set_quota(registry: Registry, subject: str, action: SetQuota, _time_ms: int) -> Registry:
    return _with_rollup(registry, replace(registry.rollups[RollupId(subject)], quota=action.quota))


def _check_present(registry: Registry, subject: str, _action: Action) -> str | None:
    record = registry.rollup(subject)
    if record is None or record.status == RollupStatus.LEFT:
        return "names a rollup that is not registered or has left"
    return None


def _check_set(attesters: AttesterSet) -> str | None:
    try:
        verify_attesters(attesters)
    except Malformed as error:
        return f"brings a set that cannot be: {error.message}"
    return None


def _rotated(attesters: AttesterSet, action: RotateAttester) -> AttesterSet:
    keys = tuple(action.new_key if key == action.old_key else key for key in attesters.keys)
    return AttesterSet(attesters.threshold, keys)


def named_by(registry: Registry, subject: str, veto: Veto) -> PendingChange | None:
    """Return the pending change that a veto names, if there is one."""
    named = (subject, veto.vetoed_sequence)
    matches = (e for e in registry.pending if (e.entry.change.subject, e.entry.change.sequence) == named)
    return next(matches, None)


def _with_rollup(registry: Registry, record: RollupRecord) -> Registry:
    return replace(registry, rollups={**registry.rollups, record.definition.id: record})


CHECKS: Final[Mapping[ChangeKind, Callable[[Registry, str, Any], str | None]]] = {
    ChangeKind.REGISTER_ROLLUP: _check_register,
    ChangeKind.SET_ATTESTERS: _check_attesters,
    ChangeKind.DRAIN: _check_drain,
    ChangeKind.LEAVE: _check_leave,
    ChangeKind.ROTATE_KEY: _check_rotate_key,
    ChangeKind.ROTATE_ATTESTER: _check_rotate_attester,
    ChangeKind.VETO: _check_veto,
    ChangeKind.SET_RULES: _check_rules,
    ChangeKind.SET_QUOTA: _check_present,
}
"""`(registry, subject, action)`: why a change is not valid, in words; None if it is."""

# A veto is not here: it acts as soon as it is accepted.
EFFECTS: Final[Mapping[ChangeKind, Callable[[Registry, str, Any, int], Registry]]] = {
    ChangeKind.REGISTER_ROLLUP: _register,
    ChangeKind.SET_ATTESTERS: _set_attesters,
    ChangeKind.DRAIN: _drain,
    ChangeKind.LEAVE: _leave,
    ChangeKind.ROTATE_KEY: _rotate_key,
    ChangeKind.ROTATE_ATTESTER: _rotate_attester,
    ChangeKind.SET_RULES: _set_rules,
    ChangeKind.SET_QUOTA: _set_quota,
}
"""`(registry, subject, action, time_ms)`: the registry in which a valid change holds."""
