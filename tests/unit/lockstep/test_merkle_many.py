"""One proof for several leaves: it holds for exactly the leaves that it was made for."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import combinations

import pytest

from lockstep.errors import ProofInvalid
from lockstep.merkle import AppendTree
from lockstep.merkle_many import many_proof, verify_many

LEAVES = [sha256(b"leaf %d" % index).digest() for index in range(19)]
SHOWN = (1, 4)
SIZE = 7


def proof_of(indexes: Sequence[int], size: int) -> tuple[bytes, ...]:
    tree = AppendTree(LEAVES[:size])
    return many_proof({index: tree.inclusion_proof(index) for index in indexes}, size)


def verify(
    indexes: Sequence[int], size: int, proof: Sequence[bytes], *, root_size: int | None = None
) -> None:
    verify_many(
        leaf_hashes={index: LEAVES[index] for index in indexes},
        size=size,
        proof=proof,
        root=AppendTree(LEAVES).root(size if root_size is None else root_size),
    )


@pytest.mark.parametrize("size", range(1, len(LEAVES) + 1))
def test_every_choice_of_up_to_three_leaves_holds_with_the_fewest_hashes(size: int) -> None:
    tree = AppendTree(LEAVES[:size])
    for count in (1, 2, 3):
        for indexes in combinations(range(size), count):
            proof = proof_of(indexes, size)
            verify(indexes, size, proof)
            single = {each for index in indexes for each in tree.inclusion_proof(index)}
            assert len(proof) == len(set(proof))
            assert set(proof) <= single


def test_all_leaves_need_no_hashes() -> None:
    assert proof_of(range(SIZE), SIZE) == ()
    verify(range(SIZE), SIZE, ())


def test_the_order_of_hashes_is_that_of_the_tree() -> None:
    pair = AppendTree(LEAVES[2:4]).root()
    assert proof_of(SHOWN, SIZE) == (LEAVES[0], pair, LEAVES[5], LEAVES[6])


def test_one_leaf_has_the_hashes_of_its_own_proof_left_to_right() -> None:
    assert sorted(proof_of((4,), SIZE)) == sorted(AppendTree(LEAVES[:SIZE]).inclusion_proof(4))


@pytest.mark.parametrize(
    ("indexes", "size", "change", "says"),
    [
        (SHOWN, SIZE, lambda proof: proof[:-1], "fewer hashes"),
        (SHOWN, SIZE, lambda proof: (*proof, LEAVES[0]), "more hashes"),
        (SHOWN, SIZE, lambda proof: proof[::-1], "another root"),
        (SHOWN, SIZE, lambda proof: (LEAVES[9], *proof[1:]), "another root"),
        (SHOWN, SIZE, lambda proof: (*proof[:-1], b"short"), "32 bytes"),
        ((1, 5), SIZE, lambda proof: proof, "another root"),
        ((1,), SIZE, lambda proof: proof, "hashes"),
        (SHOWN, SIZE + 2, lambda proof: proof, "fewer hashes"),
        (SHOWN, SIZE - 1, lambda proof: proof, "more hashes"),
        ((1, SIZE), SIZE, lambda proof: proof, "no leaf 7"),
        ((), SIZE, lambda proof: proof, "of no leaf"),
    ],
)
def test_what_does_not_hold(indexes: Sequence[int], size: int, change, says: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  # a lambda
    with pytest.raises(ProofInvalid, match=says):
        verify(indexes, size, change(proof_of(SHOWN, SIZE)), root_size=SIZE)


def test_a_negative_index() -> None:
    with pytest.raises(ProofInvalid, match="no leaf"):
        verify_many(leaf_hashes={-1: LEAVES[0]}, size=SIZE, proof=(), root=LEAVES[0])


def test_a_leaf_hash_that_is_none() -> None:
    with pytest.raises(ProofInvalid, match="32 bytes"):
        verify_many(leaf_hashes={0: b"x"}, size=1, proof=(), root=b"x")
