"""RFC 6962 Merkle trees over SHA-256: roots, proofs, and two forms of a growing tree.

Owns the hashing rules of protos/README.md, section 2 ("Trees"), and both verifiers. Does not know what a
leaf's data means; its callers put a byte in front of it that names the tree. Invariant: the root over `n`
leaf hashes is the same however it was computed: at once, by `Frontier`, or by `AppendTree` at a later size.

A node at `(level, index)` covers leaves `index << level` up to, not including, `(index + 1) << level`. It is
*complete* when the tree holds all of them. A tree of `size` leaves has `size >> level` complete nodes on a
level and at most one more, its *ragged* node, on the right edge:

    level 3                      ragged: all 7
    level 2        complete                     ragged: 4 5 6
    level 1    complete  complete           complete      ragged: 6
    level 0     0    1    2    3             4    5          6

Complete nodes never change as the tree grows, so they are all that has to be kept; the ragged ones of any
size follow from them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from lockstep.encoding import Reader, u64
from lockstep.errors import ProofInvalid

__pure__ = True

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of a tree without leaves."""

SIZE_MAX: Final = 2**64 - 1
"""Leaves of the largest tree."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf's data (RFC 6962, 2.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node over the hashes of its children (RFC 6962, 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes in order. One pass per level, about one hash per leaf."""
    level = list(leaf_hashes)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        # The last node of an odd level has no sibling and moves up as it is.
        unpaired = level[-1:] if len(level) % 2 else []
        level = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level += unpaired
    return level[0]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the siblings, lowest first, that prove leaf `index` (RFC 9162, 2.1.3.1).

    Raises ValueError for a leaf that the tree does not have.
    """
    return AppendTree(leaf_hashes).inclusion_proof(index)


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Return the proof that the first `old_size` leaves are a prefix of all (RFC 9162, 2.1.4.1).

    Raises ValueError for an old size beyond the tree.
    """
    return AppendTree(leaf_hashes).consistency_proof(old_size)


def verify_inclusion(*, leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Verify that a tree of `size` leaves under `root` has `leaf_hash` at `index` (RFC 9162, 2.1.3.2).

    A root does not bind the size of its tree: take both from one signed statement. Raises ProofInvalid.
    """
    _require_size("size", size)
    if not 0 <= index < size:
        raise ProofInvalid(reason=f"there is no leaf {index} in a tree of {size}")
    _require_hashes("leaf hash", (leaf_hash,))
    _require_hashes("root", (root,))
    _require_hashes("proof", proof)

    position, last, computed = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise ProofInvalid(reason="the proof is longer than the path to the root")
        if position % 2 or position == last:
            computed = node_hash(sibling, computed)
            # A ragged node without a sibling moves up unhashed until it is somebody's right child.
            while position and not position % 2:
                position >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, sibling)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ProofInvalid(reason="the proof is shorter than the path to the root")
    if computed != root:
        raise ProofInvalid(reason=f"the proof of leaf {index} leads to another root")


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Verify that the tree of `new_size` leaves extends the tree of `old_size` (RFC 9162, 2.1.4.2).

    The RFC leaves out the empty tree: it is a prefix of every tree, and its proof has no hashes. Raises
    ProofInvalid.
    """
    _require_size("old size", old_size)
    _require_size("new size", new_size)
    if old_size > new_size:
        raise ProofInvalid(reason=f"a tree of {new_size} leaves cannot extend one of {old_size}")
    _require_hashes("root", (old_root, new_root))
    _require_hashes("proof", proof)
    if (old_size == 0 and old_root != EMPTY_ROOT) or (new_size == 0 and new_root != EMPTY_ROOT):
        raise ProofInvalid(reason="the root of an empty tree is the hash of nothing")
    if old_size in (0, new_size):
        if proof:
            raise ProofInvalid(reason="no hashes are needed from an empty tree or to an equal one")
        if old_size == new_size and old_root != new_root:
            raise ProofInvalid(reason="two trees of one size have different roots")
        return
    _verify_extension(old_size, new_size, old_root, new_root, proof)


def _verify_extension(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Walk from the old tree's last complete subtree to both roots, for `0 < old_size < new_size`."""
    position, last = old_size - 1, new_size - 1
    while position % 2:
        position >>= 1
        last >>= 1
    # A tree of a power of two leaves is one complete subtree: its root is known and not in the proof.
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    if not path:
        raise ProofInvalid(reason="the proof is empty")
    old_computed = new_computed = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid(reason="the proof is longer than the path to the root")
        if position % 2 or position == last:
            old_computed = node_hash(sibling, old_computed)
            new_computed = node_hash(sibling, new_computed)
            while position and not position % 2:
                position >>= 1
                last >>= 1
        else:
            new_computed = node_hash(new_computed, sibling)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ProofInvalid(reason="the proof is shorter than the path to the root")
    if old_computed != old_root:
        raise ProofInvalid(reason="the proof leads to another old root")
    if new_computed != new_root:
        raise ProofInvalid(reason="the proof leads to another new root")


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: enough to append and to compute the root, in at most 64 hashes.

    Raises ValueError when made with a number of peaks that does not fit its size.
    """

    size: int = 0
    """Leaves of the tree."""

    peaks: tuple[bytes, ...] = ()
    """Roots of the complete subtrees, one per bit set in `size`, by falling height: left to right."""

    def __post_init__(self) -> None:
        if not 0 <= self.size <= SIZE_MAX or len(self.peaks) != self.size.bit_count():
            raise ValueError(f"{len(self.peaks)} peaks do not make a tree of {self.size} leaves")

    def append(self, leaf_hash: bytes) -> "Frontier":
        """Return the frontier with one more leaf."""
        return self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> "Frontier":
        """Return the frontier with more leaves, in order. Raises ValueError for hashes not of 32 bytes."""
        size, peaks = self.size, list(self.peaks)
        for added in leaf_hashes:
            if len(added) != HASH_BYTES:
                raise ValueError(f"a leaf hash has {HASH_BYTES} bytes, not {len(added)}")
            merged = added
            completed = size
            while completed % 2:
                merged = node_hash(peaks.pop(), merged)
                completed >>= 1
            peaks.append(merged)
            size += 1
        return Frontier(size, tuple(peaks))

    def root(self) -> bytes:
        """Return the root of the tree."""
        if not self.peaks:
            return EMPTY_ROOT
        computed = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            computed = node_hash(peak, computed)
        return computed

    def encode(self) -> bytes:
        """Return `u64 size | peaks`."""
        return u64(self.size) + b"".join(self.peaks)

    @classmethod
    def decode(cls, encoded: bytes) -> "Frontier":
        """Read what `encode` wrote. Raises Malformed."""
        reader = Reader(encoded, "frontier")
        size = reader.u64("size")
        peaks = tuple(reader.take(HASH_BYTES, "peaks") for _ in range(size.bit_count()))
        reader.finish()
        return cls(size, peaks)


class AppendTree:
    """A growing tree in memory that answers for every size it ever had.

    It keeps the complete nodes, level by level, 64 bytes for each leaf in all. Appending and proving take
    O(log n) hashes.
    """

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        """Make a tree of leaf hashes in order; raises as `extend`."""
        self._levels = [bytearray()]
        self.extend(leaf_hashes)

    @property
    def size(self) -> int:
        """Leaves of the tree."""
        return len(self._levels[0]) // HASH_BYTES

    def leaf(self, index: int) -> bytes:
        """Return the hash of a leaf. Raises ValueError for one that the tree does not have."""
        if not 0 <= index < self.size:
            raise ValueError(f"there is no leaf {index} in a tree of {self.size}")
        return bytes(self._levels[0][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf at the right; raises as `extend`."""
        self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaves at the right, in order. Raises ValueError, and adds none, if one is not 32 bytes."""
        added = list(leaf_hashes)
        for each in added:
            if len(each) != HASH_BYTES:
                raise ValueError(f"a leaf hash has {HASH_BYTES} bytes, not {len(each)}")
        for level, below in enumerate(self._levels):
            below += b"".join(added)
            above_bytes = len(self._levels[level + 1]) if level + 1 < len(self._levels) else 0
            # Two nodes that became siblings make one complete node of the level above.
            starts = range(2 * above_bytes, len(below) - 2 * HASH_BYTES + 1, 2 * HASH_BYTES)
            added = [sha256(b"\x01" + below[start : start + 2 * HASH_BYTES]).digest() for start in starts]
            if not added:
                return
            if level + 1 == len(self._levels):
                self._levels.append(bytearray())

    def root(self, size: int | None = None) -> bytes:
        """Return the root when the tree had `size` leaves, by default now.

        Raises ValueError for a size that the tree never had.
        """
        size = self._past_size(size)
        if size == 0:
            return EMPTY_ROOT
        height = (size - 1).bit_length()
        return self._node(height, 0, size, self._ragged(size))

    def inclusion_proof(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Return the siblings, lowest first, that prove leaf `index` in the tree of `size` leaves.

        RFC 9162, 2.1.3.1. Raises ValueError for a leaf or a size that the tree does not have.
        """
        size = self._past_size(size)
        if not 0 <= index < size:
            raise ValueError(f"there is no leaf {index} in a tree of {size}")
        return self._path(0, index, size, self._ragged(size))

    def consistency_proof(self, old_size: int, new_size: int | None = None) -> tuple[bytes, ...]:
        """Return the proof that the tree of `old_size` is a prefix of that of `new_size` (RFC 9162, 2.1.4.1).

        Raises ValueError for sizes that the tree never had or that are not in order.
        """
        new_size = self._past_size(new_size)
        if not 0 <= old_size <= new_size:
            raise ValueError(f"a tree of {old_size} leaves is no prefix of one of {new_size}")
        if old_size in (0, new_size):
            return ()
        # The last complete subtree of the old tree: as high as the old size has zero bits at its end.
        level = (old_size & -old_size).bit_length() - 1
        index = (old_size >> level) - 1
        path = self._path(level, index, new_size, self._ragged(new_size))
        if old_size.bit_count() == 1:
            return path
        return (self._complete(level, index), *path)

    def _past_size(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError(f"the tree has {self.size} leaves and never had {size}")
        return size

    def _path(self, level: int, index: int, size: int, ragged: list[bytes]) -> tuple[bytes, ...]:
        """Return the siblings from `(level, index)` up to the root of the tree of `size` leaves."""
        path = []
        while (last := (size - 1) >> level) > 0:
            sibling = index ^ 1
            if sibling <= last:
                path.append(self._node(level, sibling, size, ragged))
            level += 1
            index >>= 1
        return tuple(path)

    def _node(self, level: int, index: int, size: int, ragged: list[bytes]) -> bytes:
        """Return the hash at `(level, index)` in the tree of `size` leaves."""
        if (index + 1) << level <= size:
            return self._complete(level, index)
        return ragged[level]

    def _complete(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def _ragged(self, size: int) -> list[bytes]:
        """Return, for the tree of `size` leaves, every level's ragged hash, b"" where a level has none."""
        ragged = [b""]
        for level in range(size.bit_length()):
            below = ragged[level]
            complete = size >> level
            if complete % 2:
                left = self._complete(level, complete - 1)
                ragged.append(node_hash(left, below) if below else left)
            else:
                ragged.append(below)
        return ragged


def _require_size(name: str, size: int) -> None:
    if not 0 <= size <= SIZE_MAX:
        raise ProofInvalid(reason=f"the {name} {size} is out of range")


def _require_hashes(name: str, hashes: Sequence[bytes]) -> None:
    if any(len(each) != HASH_BYTES for each in hashes):
        raise ProofInvalid(reason=f"the {name} must consist of hashes of {HASH_BYTES} bytes")
