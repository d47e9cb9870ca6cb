"""The two trees: the map under state and register, and the growing tree of receipts.

The map is its definition (`lockstep/merkle_map.py` states it; no code of it is used): the root of a set of
pairs is worked out by splitting the set by one bit of the key's hash after another. What is kept in between
is the hash of every subtree that did not change.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from hashlib import sha256

__pure__ = True

EMPTY = bytes(32)


class Map:
    """Keys and values under one root."""

    def __init__(self) -> None:
        self.leaves: dict[int, bytes] = {}
        """The leaf of each key, by the key's hash as a number of 256 bits."""
        self.sorted: list[int] = []
        """Those numbers in order: a subtree is a stretch of them."""
        self.changed: set[int] = set()
        """Those that were put or removed since the root was last asked for."""
        self.known: dict[tuple[int, int], bytes] = {}
        """Hashes of inner nodes by depth and the bits that lead there, as of then."""

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set a key's value, or with None remove it."""
        k = sha256(b"\x10" + key).digest()
        place = int.from_bytes(k, "big")
        if value is None:
            if self.leaves.pop(place, None) is None:
                return
            del self.sorted[bisect_left(self.sorted, place)]
        else:
            if place not in self.leaves:
                insort(self.sorted, place)
            self.leaves[place] = sha256(b"\x11" + k + sha256(b"\x12" + value).digest()).digest()
        self.changed.add(place)

    def root(self) -> bytes:
        """Return the root over all keys."""
        root = self._root(0, 0, self.sorted, sorted(self.changed))
        self.changed.clear()
        return root

    def _root(self, depth: int, bits: int, keys: Sequence[int], changed: Sequence[int]) -> bytes:
        """Return the root over the keys that begin with these `depth` bits; some of them changed."""
        if len(keys) < 2:
            for place in changed:
                self._forget(depth, place)
            return self.leaves[keys[0]] if keys else EMPTY
        known = self.known.get((depth, bits))
        if known is None or changed:
            ones = (bits * 2 + 1) << (255 - depth)
            middle, turn = bisect_left(keys, ones), bisect_left(changed, ones)
            left = self._root(depth + 1, bits * 2, keys[:middle], changed[:turn])
            right = self._root(depth + 1, bits * 2 + 1, keys[middle:], changed[turn:])
            known = self.known[depth, bits] = sha256(b"\x13" + left + right).digest()
        return known

    def _forget(self, depth: int, place: int) -> None:
        """Forget the nodes on the way to a key below a place where none are any more."""
        while depth < 256 and self.known.pop((depth, place >> (256 - depth)), None) is not None:
            depth += 1


class Growing:
    """An RFC 6962 tree that only grows: of its complete subtrees, largest first, the roots."""

    def __init__(self) -> None:
        self.size = 0
        self.roots: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add a leaf's data."""
        node = sha256(b"\0" + leaf).digest()
        self.size += 1
        size = self.size
        while size % 2 == 0:
            node = sha256(b"\1" + self.roots.pop() + node).digest()
            size //= 2
        self.roots.append(node)

    def root(self) -> bytes:
        """Return the root over all leaves."""
        if not self.roots:
            return sha256().digest()
        *others, node = self.roots
        for each in reversed(others):
            node = sha256(b"\1" + each + node).digest()
        return node
