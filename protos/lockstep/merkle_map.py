"""An authenticated key-value map whose root depends on its content alone, never on its history.

Owns the tree's definition, its batch update, and proofs of presence and absence. Stores hashes, not keys or
values: those live in their owner's database, and any set of them rebuilds the same tree. Parts of it may be
known by their hash alone until they are needed (`Branch`). Invariant: `MerkleMap.root` is the root defined
here.

Definition
----------
    key hash    k     = SHA-256(0x10 | key)
    value hash  v     = SHA-256(0x12 | value)
    leaf              = SHA-256(0x11 | k | v)
    inner node        = SHA-256(0x13 | left | right)
    empty subtree     = 32 zero bytes

    root(S, d), for a set S of pairs (k, v) that agree in the first d bits of k:
        S is empty:        the empty subtree
        S has one pair:    its leaf, at whatever depth d that is
        otherwise:         the inner node over root(S0, d + 1) and root(S1, d + 1),
                           S0 and S1 being the pairs whose bit d of k is 0 and 1

    The map's root is root(all pairs, 0). Bit 0 is the most significant bit of k's first byte.

Why a root proves one content
-----------------------------
The four hashes start with different bytes, and none of them is 0x00, 0x01 (RFC 6962) or "l"
(`lockstep.hashing`), so no input of one kind is an input of another: a leaf cannot be shown as an inner node,
nor a key's hash as either. Leaves and inner nodes have inputs of fixed width, so an input has one reading.
Showing a node as empty, or the reverse, takes an input that hashes to 32 zero bytes. A leaf holds its whole
k, so it cannot be moved: a proof walks the bits of the asked key, and the leaf found there must be that key's
(presence) or share the walked bits (absence). Nothing below a leaf can exist: its hash has no children.

A path is as long as the longest run of leading bits that two key hashes share: about log2(n), and at the cost
of 2^m hashes an attacker makes one m bits long. Never more than 256.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from lockstep.encoding import Reader, numbers_of, u8, u16
from lockstep.errors import ProofInvalid

__pure__ = True

HASH_BYTES: Final = 32
DEPTH_MAX: Final = 256
"""The longest path: one step per bit of a key hash."""

EMPTY_ROOT: Final = bytes(HASH_BYTES)
"""The hash of an empty subtree, and the root of a map without keys."""

PROOF_VERSION: Final = 1

BRANCH_DEPTH: Final = 16
"""The depth of branches: of a million keys, a branch has about fifteen."""

# An inner node is (hash, left, right), a leaf is the 96 bytes hash | k | v, an empty subtree is None, and a
# Branch stands for a subtree of which the hash is known. Leaves are plain bytes because a map has a million
# of them: half the memory of tuples, and nothing for the garbage collector to follow.
_Node: TypeAlias = "tuple[bytes, _Node, _Node] | Branch | bytes | None"

# A change is the leaf to be set, or to remove a key the 64 bytes EMPTY_ROOT | k. Both have k at
# the same place.
_REMOVAL_BYTES: Final = 2 * HASH_BYTES


def key_hash(key: bytes) -> bytes:
    """Return the 32 bytes under which a key stands in the tree."""
    return sha256(b"\x10" + key).digest()


def branch_of(hashed_key: bytes) -> int:
    """Return the number of the branch in which a key with this hash stands: its first BRANCH_DEPTH bits."""
    return int.from_bytes(hashed_key[:4], "big") >> (32 - BRANCH_DEPTH)


def value_hash(value: bytes) -> bytes:
    """Return the 32 bytes that stand for a value in its leaf."""
    return sha256(b"\x12" + value).digest()


class ProofKind(IntEnum):
    """What stands at the end of a key's path."""

    PRESENT = 1
    """The key's own leaf."""

    ABSENT_EMPTY = 2
    """An empty subtree."""

    ABSENT_OTHER = 3
    """The leaf of another key, alone in the subtree in which the key would be."""


class OtherLeaf(NamedTuple):
    """The leaf that a proof of absence discloses."""

    key_hash: bytes
    """Its k, 32 bytes."""

    value_hash: bytes
    """Its v, 32 bytes."""


@dataclass(frozen=True, slots=True)
class MapProof:
    """A key's path through the tree. Says nothing by itself: see `verify_map_proof`."""

    kind: ProofKind
    """What stands at the path's end."""

    siblings: tuple[bytes, ...]
    """The hashes beside the path, from the root downwards: at most 256, the deepest never EMPTY_ROOT."""

    other: OtherLeaf | None = None
    """The disclosed leaf, exactly if `kind` is ABSENT_OTHER."""

    def encode(self) -> bytes:
        """Return the proof's only encoding.

            u8 version = 1 | u8 kind | u16 depth | bitmap | siblings | (b32 other k | b32 other v: kind 3)

        The bitmap has a bit for each of the `depth` siblings, most significant first, set if it is not
        empty, and zeros to the end of its last byte; only siblings that are not empty follow it.
        """
        bitmap = 0
        for sibling in self.siblings:
            bitmap = bitmap << 1 | (sibling != EMPTY_ROOT)
        depth = len(self.siblings)
        bitmap_bytes = (depth + 7) // 8
        return b"".join(
            (
                u8(PROOF_VERSION) + u8(self.kind) + u16(depth),
                (bitmap << (8 * bitmap_bytes - depth)).to_bytes(bitmap_bytes, "big"),
                *(sibling for sibling in self.siblings if sibling != EMPTY_ROOT),
                *(self.other or ()),
            )
        )

    @classmethod
    def decode(cls, encoded: bytes) -> "MapProof":
        """Read what `encode` wrote, and nothing else. Raises Malformed."""
        reader = Reader(encoded, "map proof")
        reader.version(PROOF_VERSION)
        kind = reader.u8("kind")
        if kind not in numbers_of(ProofKind):
            raise reader.malformed("kind", f"{kind} is unknown")
        depth = reader.u16("depth")
        if depth > DEPTH_MAX:
            raise reader.malformed("depth", f"is {depth}, at most {DEPTH_MAX} is possible")
        bitmap_bytes = (depth + 7) // 8
        padding = 8 * bitmap_bytes - depth
        bitmap = int.from_bytes(reader.take(bitmap_bytes, "bitmap"), "big")
        if bitmap & ((1 << padding) - 1):
            raise reader.malformed("bitmap", "has bits beyond the depth")
        bitmap >>= padding
        if depth and not bitmap & 1:
            raise reader.malformed("bitmap", "ends with an empty sibling: the path would end higher up")
        siblings = []
        for bit in range(depth - 1, -1, -1):
            sibling = reader.take(HASH_BYTES, "siblings") if bitmap >> bit & 1 else EMPTY_ROOT
            if bitmap >> bit & 1 and sibling == EMPTY_ROOT:
                raise reader.malformed("siblings", "hold an empty one that the bitmap calls not empty")
            siblings.append(sibling)
        other = None
        if kind == ProofKind.ABSENT_OTHER:
            other = OtherLeaf(reader.take(HASH_BYTES, "other key"), reader.take(HASH_BYTES, "other value"))
        reader.finish()
        return cls(ProofKind(kind), tuple(siblings), other)


def verify_map_proof(proof: MapProof, *, root: bytes, key: bytes, value: bytes | None) -> None:
    """Verify that the map under `root` holds `value` under `key`, or with None that it does not hold the key.

    1. The proof is of the kind that was asked for.
    2. The path is at most 256 long and ends where the tree must end: its deepest sibling is not empty.
    3. A disclosed leaf is another key's and lies on the asked key's path.
    4. The end of the path and its siblings hash to the root.

    Raises ProofInvalid.
    """
    if (proof.kind == ProofKind.PRESENT) != (value is not None):
        raise ProofInvalid(reason=f"a proof of kind {proof.kind.name} does not answer what was asked")
    if (proof.kind == ProofKind.ABSENT_OTHER) != (proof.other is not None):
        raise ProofInvalid(reason="another leaf is disclosed exactly by a proof of kind ABSENT_OTHER")
    if any(len(each) != HASH_BYTES for each in (root, *proof.siblings, *(proof.other or ()))):
        raise ProofInvalid(reason=f"every hash has {HASH_BYTES} bytes")

    depth = len(proof.siblings)
    if depth > DEPTH_MAX or (depth and proof.siblings[-1] == EMPTY_ROOT):
        raise ProofInvalid(reason="no path of this map ends there")

    hashed_key = key_hash(key)
    path = int.from_bytes(hashed_key, "big") >> (DEPTH_MAX - depth)
    computed = EMPTY_ROOT
    if value is not None:
        computed = _leaf(hashed_key, value_hash(value))[:HASH_BYTES]
    elif proof.other is not None:
        if proof.other.key_hash == hashed_key:
            raise ProofInvalid(reason="the disclosed leaf is the key's own")
        if int.from_bytes(proof.other.key_hash, "big") >> (DEPTH_MAX - depth) != path:
            raise ProofInvalid(reason="the disclosed leaf does not lie on the key's path")
        computed = _leaf(*proof.other)[:HASH_BYTES]

    for sibling in reversed(proof.siblings):
        left, right = (sibling, computed) if path & 1 else (computed, sibling)
        computed = sha256(b"\x13" + left + right).digest()
        path >>= 1
    if computed != root:
        raise ProofInvalid(reason="the proof leads to another root")


class BranchInvalid(Exception):
    """The leaves that were given for a branch do not make its hash: it was made of others."""


class BranchHash(NamedTuple):
    """What is known of a branch that is not empty."""

    number: int
    """The first BRANCH_DEPTH bits of its keys' hashes."""
    is_leaf: bool
    """Whether it has one key only."""
    hash: bytes
    """The 32 bytes of `root` of its pairs at BRANCH_DEPTH."""


class Branch:
    """All keys whose hashes begin with the same BRANCH_DEPTH bits, known by their hash until they are needed.

    Versions of a map share it, so that its leaves are read once at most.
    """

    __slots__ = ("_read", "_tree", "hash", "is_leaf", "number")

    def __init__(self, known: BranchHash, read: "Callable[[Branch], None]") -> None:
        """Stand for a branch; `read` is called when its leaves are needed, and gives them to `fill`."""
        self.number, self.is_leaf, self.hash = known
        self._read = read
        self._tree: _Node = None

    @property
    def is_filled(self) -> bool:
        """Whether its leaves are there."""
        return self._tree is not None

    def fill(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the branch's leaves, in pairs `(key hash, value hash)`. Raises `BranchInvalid`."""
        leaves = sorted((_leaf(key, value) for key, value in pairs), key=_key_of)
        tree = _build(leaves, 0, len(leaves), BRANCH_DEPTH)
        if _hash_of(tree) != self.hash or isinstance(tree, bytes) != self.is_leaf:
            raise BranchInvalid(f"the leaves of branch {self.number} make another hash than its own")
        self._tree = tree

    def tree(self) -> "tuple[bytes, _Node, _Node] | bytes":
        """Return the subtree. Raises what reading its leaves raises."""
        if self._tree is None:
            self._read(self)
        assert isinstance(self._tree, tuple | bytes), "a branch is filled when it was read, and never empty"
        return self._tree


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MerkleMap:
    """One version of the map. Updating makes a new one that shares what did not change; old ones stay valid.

    `MerkleMap()` is the empty map; every other comes from `update` or `of_branches`. Whatever needs the
    leaves of a branch raises what reading them raises.
    """

    _node: _Node = field(default=None)

    @classmethod
    def of_branches(cls, branches: Iterable[Branch]) -> "MerkleMap":
        """Return the map that consists of these branches, given in any order, each at most once."""
        level: dict[int, _Node] = {branch.number: branch for branch in branches}
        for _ in range(BRANCH_DEPTH):
            get = level.get
            level = {
                number: _join(get(2 * number), get(2 * number + 1))
                for number in dict.fromkeys([number >> 1 for number in level])
            }
        return cls(level.get(0))

    def branches(self, numbers: Sequence[int]) -> Sequence[BranchHash]:
        """Return what is known of branches, by number ascending; of an empty one nothing. Reads no leaves."""
        found: list[BranchHash] = []
        if numbers:
            _find_branches(self._node, numbers, 0, len(numbers), 0, found)
        return found

    @property
    def root(self) -> bytes:
        """The map's root, 32 bytes."""
        return _hash_of(self._node)

    def __repr__(self) -> str:
        return f"MerkleMap({self.root.hex()})"

    def update(self, changes: Iterable[tuple[bytes, bytes | None]]) -> "MerkleMap":
        """Return the map after all changes: pairs `(key hash, value hash)`, None to remove the key.

        Removing a key that is not there changes nothing. The order of the pairs does not matter. Raises
        ValueError for a hash that is not 32 bytes long and for a key that comes twice.
        """
        batch = [_change(key, value) for key, value in changes]
        batch.sort(key=_key_of)
        for key, following in pairwise(map(_key_of, batch)):
            if key == following:
                raise ValueError(f"the key hash {key.hex()} comes twice in one update")
        return MerkleMap(_apply(self._node, batch, 0, len(batch), 0)) if batch else self

    def proof(self, key: bytes) -> MapProof:
        """Return the proof that `key` is present with its value, or that it is absent."""
        hashed_key = key_hash(key)
        siblings = []
        node, depth = self._node, 0
        while isinstance(node, tuple | Branch):
            if isinstance(node, Branch):
                node = node.tree()
                continue
            _, left, right = node
            if hashed_key[depth >> 3] >> (7 - (depth & 7)) & 1:
                siblings.append(_hash_of(left))
                node = right
            else:
                siblings.append(_hash_of(right))
                node = left
            depth += 1
        if node is None:
            return MapProof(ProofKind.ABSENT_EMPTY, tuple(siblings))
        if _key_of(node) == hashed_key:
            return MapProof(ProofKind.PRESENT, tuple(siblings))
        other = OtherLeaf(key_hash=_key_of(node), value_hash=node[2 * HASH_BYTES :])
        return MapProof(ProofKind.ABSENT_OTHER, tuple(siblings), other)


def _apply(node: _Node, batch: list[bytes], start: int, end: int, depth: int) -> _Node:
    """Return the subtree at `depth` after the changes `start..end`, at least one, in order of keys."""
    if end - start == 1:
        return _apply_one(node, batch[start], depth)
    if isinstance(node, Branch):
        return _apply(node.tree(), batch, start, end, depth)
    if isinstance(node, tuple):
        _, left, right = node
        middle = _split(batch, start, end, depth)
        new_left = _apply(left, batch, start, middle, depth + 1) if start < middle else left
        new_right = _apply(right, batch, middle, end, depth + 1) if middle < end else right
        if new_left is left and new_right is right:
            return node
        return _join(new_left, new_right)
    changes = batch[start:end]
    leaves = [change for change in changes if len(change) != _REMOVAL_BYTES]
    if node is not None and _key_of(node) not in map(_key_of, changes):
        insort(leaves, node, key=_key_of)
    return _build(leaves, 0, len(leaves), depth)


def _apply_one(node: _Node, change: bytes, depth: int) -> _Node:
    """Do the work of `_apply` for a single change: down its path, then up again."""
    below, path = node, []
    while True:
        if isinstance(below, tuple):
            _, left, right = below
            if change[HASH_BYTES + (depth >> 3)] >> (7 - (depth & 7)) & 1:
                path.append((left, True))
                below = right
            else:
                path.append((right, False))
                below = left
            depth += 1
        elif isinstance(below, Branch):
            below = below.tree()
        else:
            break

    changed: _Node = None if len(change) == _REMOVAL_BYTES else change
    if below is not None and _key_of(below) != _key_of(change):
        # Another key's leaf stands here: it stays, and moves down if a leaf comes beside it.
        changed = below if changed is None else _build(sorted((below, change), key=_key_of), 0, 2, depth)
    if changed == below:
        return node
    for sibling, went_right in reversed(path):
        changed = _join(sibling, changed) if went_right else _join(changed, sibling)
    return changed


def _find_branches(
    node: _Node, numbers: Sequence[int], start: int, end: int, depth: int, found: list[BranchHash]
) -> None:
    """Add what the subtree at `depth` has of the branches `start..end`, at least one, of rising numbers."""
    while isinstance(node, tuple) and depth < BRANCH_DEPTH:
        _, left, right = node
        depth += 1
        # The first branch on the right of all that begin with the bits that lead here.
        turn = (numbers[start] >> (BRANCH_DEPTH - depth) | 1) << (BRANCH_DEPTH - depth)
        if numbers[end - 1] < turn:
            node = left
        elif numbers[start] >= turn:
            node = right
        else:
            middle = bisect_left(numbers, turn, start, end)
            _find_branches(left, numbers, start, middle, depth, found)
            node, start = right, middle
    if isinstance(node, tuple):
        found.append(BranchHash(numbers[start], is_leaf=False, hash=node[0]))
    elif isinstance(node, Branch):
        if node.number in numbers[start:end]:
            found.append(BranchHash(node.number, node.is_leaf, node.hash))
    elif node is not None and (number := branch_of(_key_of(node))) in numbers[start:end]:
        found.append(BranchHash(number, is_leaf=True, hash=node[:HASH_BYTES]))


def _build(leaves: list[bytes], start: int, end: int, depth: int) -> _Node:
    """Return the subtree at `depth` over the leaves `start..end` of a list in order of keys."""
    if end - start < 2:
        return leaves[start] if start < end else None
    middle = _split(leaves, start, end, depth)
    return _join(_build(leaves, start, middle, depth + 1), _build(leaves, middle, end, depth + 1))


def _join(left: _Node, right: _Node) -> _Node:
    """Return the subtree over two others: a lone leaf moves up, everything else gets an inner node."""
    if left is None and _moves_up(right):
        return right
    if right is None and _moves_up(left):
        return left
    # `_hash_of` is not called for an inner node: this is where an update spends its time.
    left_hash = left[0] if isinstance(left, tuple) else _hash_of(left)
    right_hash = right[0] if isinstance(right, tuple) else _hash_of(right)
    return (sha256(b"\x13" + left_hash + right_hash).digest(), left, right)


def _moves_up(node: _Node) -> bool:
    """Answer whether a subtree beside an empty one takes the place of both: one leaf does, and none."""
    return node.is_leaf if isinstance(node, Branch) else not isinstance(node, tuple)


def _split(changes: list[bytes], start: int, end: int, depth: int) -> int:
    """Return where, in `start..end` of a list in order of keys, bit `depth` of the key turns from 0 to 1."""
    place, shift = HASH_BYTES + (depth >> 3), 7 - (depth & 7)
    while start < end:
        middle = (start + end) // 2
        if changes[middle][place] >> shift & 1:
            end = middle
        else:
            start = middle + 1
    return start


def _change(key: bytes, value: bytes | None) -> bytes:
    if len(key) != HASH_BYTES or (value is not None and len(value) != HASH_BYTES):
        raise ValueError(f"the hashes of keys and values have {HASH_BYTES} bytes")
    return EMPTY_ROOT + key if value is None else _leaf(key, value)


def _leaf(key: bytes, value: bytes) -> bytes:
    return sha256(b"\x11" + key + value).digest() + key + value


def _key_of(change: bytes) -> bytes:
    return change[HASH_BYTES:_REMOVAL_BYTES]


def _hash_of(node: _Node) -> bytes:
    if isinstance(node, tuple):
        return node[0]
    if isinstance(node, bytes):
        return node[:HASH_BYTES]
    return EMPTY_ROOT if node is None else node.hash
