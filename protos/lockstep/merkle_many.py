r"""One proof for several leaves of an RFC 6962 tree: no hash comes twice, none that follows from the leaves.

Owns the order in which the hashes stand. Trees and proofs of one leaf are `lockstep.merkle`'s. Invariant: a
tree's size and the places of the leaves say how many hashes there are and where each belongs, so that a proof
which verifies has no other form.

The tree is walked from its root, left before right. A subtree without a shown leaf is given by its hash, and
not entered; a shown leaf is given by its data. The proof is the hashes in the order in which the walk comes
to them. Shown are leaves 1 and 4 of 7, so the proof is `a b c d`:

                 root
             /          \
          .                .
        /   \            /   \
       .     b          .     d       a is the hash of leaf 0, b that over leaves 2 and 3,
      / \               / \            c and d are the hashes of leaves 5 and 6
     a   1             4   c
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from lockstep.errors import ProofInvalid
from lockstep.merkle import HASH_BYTES, SIZE_MAX, node_hash

__pure__ = True


def verify_many(*, leaf_hashes: Mapping[int, bytes], size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Verify that a tree of `size` leaves under `root` has these leaf hashes, by index. Raises ProofInvalid.

    A root does not bind the size of its tree: take both from one signed statement.
    """
    indexes = sorted(leaf_hashes)
    if not indexes:
        raise ProofInvalid(reason="it is of no leaf")
    if not 0 <= indexes[0] <= indexes[-1] < size <= SIZE_MAX:
        raise ProofInvalid(reason=f"there is no leaf {indexes[-1]} in a tree of {size}")
    if any(len(each) != HASH_BYTES for each in (*leaf_hashes.values(), *proof)):
        raise ProofInvalid(reason=f"it must consist of hashes of {HASH_BYTES} bytes")
    left = iter(proof)
    computed = _root(0, size, [(index, leaf_hashes[index]) for index in indexes], left)
    if next(left, None) is not None:
        raise ProofInvalid(reason="it has more hashes than are needed")
    if computed != root:
        raise ProofInvalid(reason=f"the proof of leaf {', '.join(map(str, indexes))} leads to another root")


def many_proof(proofs: Mapping[int, Sequence[bytes]], size: int) -> tuple[bytes, ...]:
    """Return one proof out of the proofs of single leaves in a tree of `size` leaves, by index.

    The single ones, lowest sibling first, are known to hold.
    """
    return tuple(_needed(0, size, [(index, list(proofs[index])) for index in sorted(proofs)]))


def _root(start: int, size: int, shown: list[tuple[int, bytes]], proof: Iterator[bytes]) -> bytes:
    """Return the hash over `size` leaves from `start` on, of which some are shown."""
    if not shown:
        given = next(proof, None)
        if given is None:
            raise ProofInvalid(reason="it has fewer hashes than are needed")
        return given
    if size == 1:
        return shown[0][1]
    split = _split(size)
    cut = bisect_left(shown, (start + split,))
    left = _root(start, split, shown[:cut], proof)
    return node_hash(left, _root(start + split, size - split, shown[cut:], proof))


def _needed(start: int, size: int, shown: list[tuple[int, list[bytes]]]) -> Iterator[bytes]:
    """Yield the hashes that the leaves shown below a node do not give, taking them off the single proofs."""
    if size == 1:
        return
    split = _split(size)
    # The topmost sibling of every leaf on one side is the whole other side.
    siblings = [single.pop() for _, single in shown]
    cut = bisect_left(shown, (start + split,))
    left, right = shown[:cut], shown[cut:]
    if left:
        yield from _needed(start, split, left)
    else:
        yield siblings[0]
    if right:
        yield from _needed(start + split, size - split, right)
    else:
        yield siblings[0]


def _split(size: int) -> int:
    """Return the leaves left of a node over `size` leaves: the largest power of two below it."""
    return 1 << ((size - 1).bit_length() - 1)
