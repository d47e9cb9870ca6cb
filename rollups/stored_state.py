"""A whole state of which only what was needed since the start is in memory; the rest is in the database.

Owns what is read when. Writing is `rollups.recent`'s. Invariants: a value that was read is the one under the
state's root, or `DataRefused` is raised; a branch that was not read since the start did not change since.
"""

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Final

from deploy.node.database import Row
from deploy.node.failures import DataRefused
from lockstep.merkle_map import (
    Branch,
    BranchHash,
    BranchInvalid,
    MerkleMap,
    branch_of,
    key_hash,
    value_hash,
)
from lockstep.types import TransactionId
from rollups.recent import GROUP_BRANCHES, GROUPS, READ_STATE, Recent
from rollups.state import Changes

READ_AT_START_MAX: Final = 16_384
"""Branches up to which all are read at the start, which takes half a second at most; of more, each is read
when it is needed."""


class StoredState:
    """A rollup's values and seen ids at one height."""

    def __init__(
        self,
        read: Callable[[str, Sequence[int]], list[Row]],
        recent: Recent,
        *,
        refused: Callable[[str], DataRefused],
    ) -> None:
        """Have what `read` finds in the database, with `recent` over it; `refused` makes an error of a fault.

        Call `tree_of` before anything else.
        """
        self.seen: dict[int, set[TransactionId]] = {}
        """Every id that is remembered, by the second in which it expires."""
        self._read = read
        self._recent = recent
        self._refused = refused
        self._values: dict[bytes, bytes] = {}
        self._unread: dict[int, Branch] = {}
        # One thread reads a branch, others that need it wait: what is read once must not be read again later.
        self._lock = Lock()

    def tree_of(self, branches: Iterable[BranchHash]) -> MerkleMap:
        """Return the tree over the values, which consists of these branches."""
        self._unread = {known.number: Branch(known, self._fill) for known in branches}
        return MerkleMap.of_branches(self._unread.values())

    def get(self, key: bytes) -> bytes | None:
        """Return the value under a key, or None. Raises DataRefused if it is not the one under the root."""
        value = self._values.get(key)
        if value is None:
            branch = self._unread.get(branch_of(key_hash(key)))
            if branch is not None:
                branch.tree()
            # Also if it was not unread: another thread may have read it a moment ago.
            value = self._values.get(key)
        return value

    @property
    def is_read(self) -> bool:
        """Whether everything is in memory."""
        return not self._unread

    def read_group(self, group: int) -> None:
        """Read what was not read yet of a group of branches. Raises DataRefused."""
        self._read_branches(group * GROUP_BRANCHES, (group + 1) * GROUP_BRANCHES - 1)

    def read_if_small(self) -> None:
        """Read everything, unless it is much. Raises DataRefused."""
        if len(self._unread) <= READ_AT_START_MAX:
            for group in range(GROUPS):
                self.read_group(group)

    def has_seen(self, second: int, transaction_id: TransactionId) -> bool:
        """Answer whether an id is remembered among those that expire in a second."""
        return transaction_id in self.seen.get(second, ())

    def apply(self, changes: Changes) -> None:
        """Take changes over, once they are durable."""
        for key, value in changes.values.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        for second, ids in changes.seen.items():
            self.seen.setdefault(second, set()).update(ids)
        for second in changes.forgotten:
            self.seen.pop(second, None)

    def _fill(self, branch: Branch) -> None:
        """Read a branch, unless another thread did."""
        self._read_branches(branch.number, branch.number)

    def _read_branches(self, first: int, last: int) -> None:
        """Read those of some branches of a group that were not read yet."""
        with self._lock:
            numbers = range(first, last + 1)
            unread = {number: self._unread[number] for number in numbers if number in self._unread}
            if not unread:
                return
            values: dict[int, dict[bytes, bytes]] = {number: {} for number in unread}
            # First what is recent: meanwhile it may get into rows, but what is in neither cannot be missed.
            recent = self._recent.of_branches(first, last)
            for number, key, value in (*self._read(READ_STATE, (first, last)), *recent):
                if number not in values:
                    continue
                if value is None:
                    values[number].pop(key, None)
                else:
                    values[number][key] = value
            for number, branch in unread.items():
                try:
                    branch.fill((key_hash(key), value_hash(value)) for key, value in values[number].items())
                except BranchInvalid as error:
                    raise self._refused(f"values are not those under the state's root: {error}") from error
                self._values.update(values[number])
                del self._unread[number]
