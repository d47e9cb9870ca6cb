"""How a state's values get to disk: at once as what a transaction changed, later into rows of their own.

What a block changes lies all over the state: writing each value into its row would write a page of the
database for each. So a transaction writes its changes into one row of `recent`, and besides brings the next
few groups of branches up to date, in turns: their rows of `state`, one for each key, and of `branches`, one
for the hashes of each group. So a page is written once for many changes. Owns these three tables and the
bytes in them. Invariant: `state` and `branches`, with the rows of `recent` over them in order, are the state;
what was brought up to date a whole round ago is in `recent` no more.

The rows hold no seals. Which hashes a branch and the state have follows from the commitment, and what is read
is compared with them (`rollups.stored_state`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from struct import Struct
from threading import Lock
from typing import Final, TypeAlias

from deploy.node.database import Statement
from lockstep.merkle_map import BRANCH_DEPTH, BranchHash, MerkleMap, branch_of, key_hash, value_hash

GROUPS: Final = 1_024
"""Groups of branches whose numbers follow each other."""

GROUP_BRANCHES: Final = (1 << BRANCH_DEPTH) // GROUPS
"""Branches of a group."""

ROUND_CHANGES: Final = 131_072
"""Changed values in which all groups are brought up to date once: if more, less is written, and the next
start has more to read."""

SEED_GROUPS: Final = 32
"""Groups that one transaction writes when a whole state is written."""

SCHEMA: Final = """
    ALTER TABLE state RENAME TO former_state;
    CREATE TABLE state(
        branch INTEGER NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (branch, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE branches(group_number INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT;
    CREATE TABLE recent(
        step INTEGER PRIMARY KEY,
        changes BLOB NOT NULL,
        hashes BLOB NOT NULL
    ) STRICT;
"""

READ_BRANCHES: Final = "SELECT hashes FROM branches ORDER BY group_number"
READ_RECENT: Final = "SELECT step, changes, hashes FROM recent WHERE step > ? ORDER BY step LIMIT ?"
READ_STATE: Final = "SELECT branch, key, value FROM state WHERE branch BETWEEN ? AND ?"
CLEAR: Final[Sequence[Statement]] = (
    ("DELETE FROM state", ((),)),
    ("DELETE FROM branches", ((),)),
    ("DELETE FROM recent", ((),)),
)
"""Leaves nothing of a state."""

_STATE_PUT: Final = (
    "INSERT INTO state(branch, key, value) VALUES (?, ?, ?) "
    "ON CONFLICT(branch, key) DO UPDATE SET value = excluded.value"
)
_STATE_REMOVE: Final = "DELETE FROM state WHERE branch = ? AND key = ?"
_BRANCHES_PUT: Final = (
    "INSERT INTO branches(group_number, hashes) VALUES (?, ?) "
    "ON CONFLICT(group_number) DO UPDATE SET hashes = excluded.hashes"
)
_RECENT_ADD: Final = "INSERT INTO recent(step, changes, hashes) VALUES (?, ?, ?)"
_RECENT_DROP: Final = "DELETE FROM recent WHERE step <= ?"

_LENGTHS: Final = Struct(">HI")
"""`u16 key length | u32 value length`, before a key and its value."""

_GONE: Final = 2**32 - 1
"""Stands as the length of the value of a key that is gone."""

_BRANCH: Final = Struct(">IB32s")
"""`u32 number | u8 kind | b32 hash`."""

_EMPTY, _LEAF, _INNER = range(3)
"""Kinds of branches: without a key, with one, with several."""

Change: TypeAlias = tuple[int, bytes, bytes | None]
"""A branch, one of its keys, and its value; None if it is gone."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How changes are written."""

    statements: Sequence[Statement]
    """Part of one transaction."""
    step: int
    """How many groups will ever have been brought up to date."""


class Recent:
    """What rows of `state` do not have yet."""

    def __init__(self) -> None:
        self._groups: list[dict[bytes, Change]] = [{} for _ in range(GROUPS)]
        self._step = 0
        # Branches are read by several threads.
        self._lock = Lock()

    def restore(self, step: int, changes: bytes) -> None:
        """Take a row of `recent`, the next one in order."""
        self._step = step
        self._add(decode_changes(changes))

    def of_branches(self, first: int, last: int) -> Sequence[Change]:
        """Return what changed in branches of one group."""
        with self._lock:
            group = self._groups[first // GROUP_BRANCHES].values()
            return [change for change in group if first <= change[0] <= last]

    def write(self, values: Mapping[bytes, bytes | None], after: MerkleMap) -> Writing:
        """Take changed values, under the tree `after` them, and return how they are written."""
        if not values:
            return Writing((), self._step)
        changes = [(branch_of(key_hash(key)), key, value) for key, value in values.items()]
        self._add(changes)
        numbers = sorted({branch for branch, _, _ in changes})
        step = self._step + min(GROUPS, -(-GROUPS * len(changes) // ROUND_CHANGES))
        statements: list[Statement] = [
            (_RECENT_ADD, [(step, b"".join(map(_encode_change, changes)), _encode_hashes(numbers, after))]),
            (_RECENT_DROP, [(step - GROUPS,)]),
        ]
        for group in self._turns(step):
            if self._groups[group]:
                statements += _rows(group, sorted(self._groups[group].values(), key=itemgetter(0, 1)), after)
        return Writing(statements, step)

    def written(self, writing: Writing) -> None:
        """Go on after what is on disk now."""
        with self._lock:
            for group in self._turns(writing.step):
                self._groups[group] = {}
            self._step = writing.step

    def _add(self, changes: Iterable[Change]) -> None:
        with self._lock:
            for change in changes:
                self._groups[change[0] // GROUP_BRANCHES][change[1]] = change

    def _turns(self, step: int) -> Iterator[int]:
        """Yield the groups that are brought up to date up to a step."""
        return (turn % GROUPS for turn in range(self._step, step))


def seed(values: Mapping[bytes, bytes]) -> Iterator[Sequence[Statement]]:
    """Yield what writes a whole state into empty tables, for one transaction after the other.

    A state of a million values is more than one transaction should hold.
    """
    groups: list[list[tuple[bytes, bytes]]] = [[] for _ in range(GROUPS)]
    for key in values:
        hashed_key = key_hash(key)
        groups[branch_of(hashed_key) // GROUP_BRANCHES].append((hashed_key, key))
    for first in range(0, GROUPS, SEED_GROUPS):
        statements: list[Statement] = []
        for group in range(first, first + SEED_GROUPS):
            if groups[group]:
                leaves = ((hashed_key, value_hash(values[key])) for hashed_key, key in groups[group])
                after = MerkleMap().update(leaves)
                changes = [(branch_of(hashed_key), key, values[key]) for hashed_key, key in groups[group]]
                statements += _rows(group, sorted(changes), after)
        if statements:
            yield statements


def decode_changes(encoded: bytes) -> Iterator[Change]:
    """Yield what a row of `recent` has."""
    start, end = 0, len(encoded)
    while start < end:
        key_bytes, value_bytes = _LENGTHS.unpack_from(encoded, start)
        start += _LENGTHS.size
        key = encoded[start : start + key_bytes]
        start += key_bytes
        value = None if value_bytes == _GONE else encoded[start : start + value_bytes]
        start += len(value or b"")
        yield branch_of(key_hash(key)), key, value


def decode_hashes(hashes: bytes) -> Iterator[tuple[int, BranchHash | None]]:
    """Yield the branches of a row by number; None for one that is empty."""
    for number, kind, hashed in _BRANCH.iter_unpack(hashes):
        yield number, None if kind == _EMPTY else BranchHash(number, kind == _LEAF, hashed)


def _rows(group: int, changes: Sequence[Change], after: MerkleMap) -> list[Statement]:
    """Return what brings a group up to date, in the order of its rows."""
    numbers = range(group * GROUP_BRANCHES, (group + 1) * GROUP_BRANCHES)
    return [
        (_STATE_REMOVE, [(branch, key) for branch, key, value in changes if value is None]),
        (_STATE_PUT, [change for change in changes if change[2] is not None]),
        (_BRANCHES_PUT, [(group, b"".join(map(_encode_hash, after.branches(numbers))))]),
    ]


def _encode_hashes(numbers: Sequence[int], after: MerkleMap) -> bytes:
    found = {each.number: each for each in after.branches(numbers)}
    return b"".join(
        _encode_hash(found[number]) if number in found else _BRANCH.pack(number, _EMPTY, bytes(32))
        for number in numbers
    )


def _encode_hash(branch: BranchHash) -> bytes:
    return _BRANCH.pack(branch.number, _LEAF if branch.is_leaf else _INNER, branch.hash)


def _encode_change(change: Change) -> bytes:
    _, key, value = change
    if value is None:
        return _LENGTHS.pack(len(key), _GONE) + key
    return _LENGTHS.pack(len(key), len(value)) + key + value
