"""A map whose branches are read when they are needed, against one that is there as a whole."""

from collections.abc import Iterable, Mapping
from hashlib import sha256

import pytest
from hypothesis import given

from lockstep.merkle_map import (
    BRANCH_DEPTH,
    Branch,
    BranchHash,
    BranchInvalid,
    MerkleMap,
    branch_of,
    key_hash,
    verify_map_proof,
)
from tests.unit.lockstep.test_merkle_map import batches, contents

VALUE = sha256(b"value").digest()


def known(whole: MerkleMap, keys: Iterable[bytes]) -> list[BranchHash]:
    """Return what a map says of the branches of some keys."""
    return list(whole.branches(sorted(set(map(branch_of, keys)))))


def stored(whole: MerkleMap, pairs: Mapping[bytes, bytes]) -> tuple[MerkleMap, list[int]]:
    """Return the map of a map's branches, and the numbers of those that are read, as they are."""
    read: list[int] = []

    def fill(branch: Branch) -> None:
        read.append(branch.number)
        branch.fill((key, value) for key, value in pairs.items() if branch_of(key) == branch.number)

    return MerkleMap.of_branches(Branch(each, fill) for each in known(whole, pairs)), read


def apply(pairs: Mapping[bytes, bytes], batch: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
    merged = {**pairs, **batch}
    return {key: value for key, value in merged.items() if value is not None}


@given(contents, batches, batches)
def test_a_map_of_branches_is_the_map(
    pairs: dict[bytes, bytes], batch: dict[bytes, bytes | None], second: dict[bytes, bytes | None]
) -> None:
    whole = MerkleMap().update(pairs.items())
    lazy, read = stored(whole, pairs)
    assert (lazy.root, read) == (whole.root, [])
    after = lazy.update(batch.items())
    assert after.root == whole.update(batch.items()).root
    alone = {each.number for each in known(whole, pairs) if each.is_leaf}
    assert set(read) <= set(map(branch_of, batch)) | alone, "another's leaf is read to see whose it is"
    assert after.update(second.items()).root == whole.update(batch.items()).update(second.items()).root
    assert lazy.update(second.items()).root == whole.update(second.items()).root, "versions stay valid"
    assert len(read) == len(set(read)), "a branch is read once, whichever version needs it"


@given(contents, batches)
def test_a_map_that_was_stored_after_each_change_goes_on_as_it_was(
    pairs: dict[bytes, bytes], batch: dict[bytes, bytes | None]
) -> None:
    whole, left = MerkleMap().update(pairs.items()), dict(pairs)
    for change in batch.items():
        lazy, _ = stored(whole, left)
        left = apply(left, dict([change]))
        changed, whole = lazy.update([change]), MerkleMap().update(left.items())
        assert changed.root == whole.root
        assert known(changed, (*left, change[0])) == known(whole, (*left, change[0]))


@given(contents, batches)
def test_a_branch_is_what_its_keys_make_alone(
    pairs: dict[bytes, bytes], batch: dict[bytes, bytes | None]
) -> None:
    left = apply(pairs, batch)
    after = MerkleMap().update(pairs.items()).update(batch.items())
    found = known(after, (*pairs, *batch))
    assert [each.number for each in found] == sorted(set(map(branch_of, left)))
    for each in found:
        own = {key: value for key, value in left.items() if branch_of(key) == each.number}
        assert each.is_leaf == (len(own) == 1)
        assert known(MerkleMap().update(own.items()), own) == [each]


@given(contents)
def test_proofs_read_the_branch_of_their_key_alone(pairs: dict[bytes, bytes]) -> None:
    whole = MerkleMap().update(pairs.items())
    lazy, read = stored(whole, pairs)
    assert lazy.proof(b"a key") == whole.proof(b"a key")
    assert len(read) <= 1
    if key_hash(b"a key") not in pairs:
        verify_map_proof(lazy.proof(b"a key"), root=whole.root, key=b"a key", value=None)


def test_the_number_of_a_branch_is_the_first_bits() -> None:
    assert branch_of(b"\xff" * 32) == (1 << BRANCH_DEPTH) - 1
    assert branch_of(b"\x00\x01" + bytes(30)) == 1
    assert branch_of(b"\x00\x00" + b"\xff" * 30) == 0


def test_unknown_branches_have_nothing() -> None:
    assert list(MerkleMap().branches([0, 7])) == []
    alone = MerkleMap().update([(bytes(32), VALUE)])
    assert list(alone.branches([])) == []
    assert list(alone.branches([1, 2])) == []
    assert [each.number for each in alone.branches([0, 1])] == [0]


PAIRS = [(bytes(32), VALUE), (bytes(31) + b"\1", VALUE)]


@pytest.mark.parametrize(
    "others",
    [
        [],
        PAIRS[:1],
        [PAIRS[0], (bytes(31) + b"\2", VALUE)],
        [PAIRS[0], (PAIRS[1][0], bytes(32))],
        [*PAIRS, (bytes(31) + b"\3", VALUE)],
    ],
)
def test_leaves_that_are_not_the_branchs_are_refused(others: list[tuple[bytes, bytes]]) -> None:
    branch = Branch(known(MerkleMap().update(PAIRS), [bytes(32)])[0], lambda each: each.fill(others))
    lazy = MerkleMap.of_branches([branch])
    for _ in range(2):
        with pytest.raises(BranchInvalid, match="branch 0"):
            lazy.update([(bytes(32), None)])
    assert not branch.is_filled
    branch.fill(reversed(PAIRS))
    assert lazy.update([(bytes(32), None)]).root == MerkleMap().update(PAIRS[1:]).root


def test_a_leaf_does_not_pass_for_an_inner_node_of_its_hash() -> None:
    [one] = known(MerkleMap().update(PAIRS[:1]), [bytes(32)])
    lazy = MerkleMap.of_branches([Branch(one._replace(is_leaf=False), lambda each: each.fill(PAIRS[:1]))])
    assert lazy.root != MerkleMap().update(PAIRS[:1]).root
    with pytest.raises(BranchInvalid):
        lazy.proof(b"a key") if branch_of(key_hash(b"a key")) == 0 else lazy.update([PAIRS[1]])
