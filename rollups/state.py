"""What execution reads and writes: a rollup's values and the ids of transactions it has seen.

Owns the overlay in which changes gather, so that a transaction or a block takes effect whole or not at all,
and the table of seen ids. What the keys mean is `lockstep.commitment`'s and the modules'. Invariant: under
every second of log time that is not over, the value is the hash over exactly the ids held for it, in order of
recording; ids themselves are not under the root.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from lockstep.commitment import seen_hash, seen_key
from lockstep.encoding import u32, u128
from lockstep.merkle_map import MerkleMap, key_hash, value_hash
from lockstep.types import TransactionId

__pure__ = True

SECOND_MS: Final = 1_000
"""Ids are remembered by the second in which their window ends."""


class View(Protocol):
    """A rollup's state, to read from."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under a key, or None."""

    def has_seen(self, second: int, transaction_id: TransactionId) -> bool:
        """Answer whether an id is remembered among those that expire in a second."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How one state differs from another."""

    values: Mapping[bytes, bytes | None]
    """New values by key; None: the key is gone."""
    seen: Mapping[int, tuple[TransactionId, ...]]
    """Ids newly remembered, by the second in which they expire, in order of recording."""
    forgotten: tuple[int, ...]
    """Seconds whose ids are remembered no more, ascending."""


@dataclass(slots=True)
class MemoryState:
    """A whole state in memory. The only view that is changed in place, by whoever owns it."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    """Every key with its value."""
    seen: dict[int, set[TransactionId]] = field(default_factory=dict)
    """Every id that is remembered, by the second in which it expires."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under a key, or None."""
        return self.values.get(key)

    def has_seen(self, second: int, transaction_id: TransactionId) -> bool:
        """Answer whether an id is remembered among those that expire in a second."""
        return transaction_id in self.seen.get(second, ())

    def apply(self, changes: Changes) -> None:
        """Take changes over."""
        for key, value in changes.values.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        for second, ids in changes.seen.items():
            self.seen.setdefault(second, set()).update(ids)
        for second in changes.forgotten:
            self.seen.pop(second, None)


class Overlay:
    """Changes laid over a view, which stays as it is."""

    __slots__ = ("_base", "_forgotten", "_seen", "_values")

    def __init__(self, base: View) -> None:
        """Start without changes over `base`."""
        self._base = base
        self._values: dict[bytes, bytes | None] = {}
        self._seen: dict[int, dict[TransactionId, None]] = {}
        self._forgotten: set[int] = set()

    def get(self, key: bytes) -> bytes | None:
        """Return the value under a key, or None."""
        return self._values[key] if key in self._values else self._base.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set the value under a key, or with None remove it."""
        self._values[key] = value

    def has_seen(self, second: int, transaction_id: TransactionId) -> bool:
        """Answer whether an id is remembered among those that expire in a second."""
        if transaction_id in self._seen.get(second, ()):
            return True
        return second not in self._forgotten and self._base.has_seen(second, transaction_id)

    def see(self, second: int, transaction_id: TransactionId) -> None:
        """Remember an id until its second is over."""
        self._seen.setdefault(second, {})[transaction_id] = None
        key = seen_key(second)
        self._values[key] = seen_hash(self.get(key), transaction_id)

    def forget(self, second: int) -> None:
        """Forget the ids of a second that is over."""
        self._seen.pop(second, None)
        self._forgotten.add(second)
        self.put(seen_key(second), None)

    def absorb(self, changes: Changes) -> None:
        """Lay further changes on top."""
        self._values.update(changes.values)
        for second, ids in changes.seen.items():
            self._seen.setdefault(second, {}).update(dict.fromkeys(ids))
        for second in changes.forgotten:
            self._seen.pop(second, None)
            self._forgotten.add(second)

    def put_all(self, values: Mapping[bytes, bytes | None]) -> None:
        """Set the values under many keys; None removes."""
        self._values.update(values)

    @property
    def puts(self) -> Mapping[bytes, bytes | None]:
        """Every value that was put by key, also one that is what it was below."""
        return self._values

    @property
    def changes(self) -> Changes:
        """What was changed: only keys whose value is another than in the view below."""
        below = self._base.get
        return Changes(
            values={key: value for key, value in self._values.items() if value != below(key)},
            seen={second: tuple(ids) for second, ids in self._seen.items() if ids},
            forgotten=tuple(sorted(self._forgotten)),
        )


def amount_at(state: View, key: bytes) -> int:
    """Return the number under a key; what is absent is zero."""
    return int.from_bytes(state.get(key) or b"", "big")


def put_amount(state: Overlay, key: bytes, amount: int) -> None:
    """Set a u128 under a key, which is absent when zero."""
    state.put(key, u128(amount) if amount else None)


def put_count(state: Overlay, key: bytes, count: int) -> None:
    """Set a u32 under a key, which is absent when zero."""
    state.put(key, u32(count) if count else None)


def updated(content: MerkleMap, values: Mapping[bytes, bytes | None]) -> MerkleMap:
    """Return the map after changes of values by key."""
    return content.update(
        (key_hash(key), None if value is None else value_hash(value)) for key, value in values.items()
    )


def map_of(values: Iterable[tuple[bytes, bytes]]) -> MerkleMap:
    """Return the map that holds these keys with their values."""
    return MerkleMap().update((key_hash(key), value_hash(value)) for key, value in values)
