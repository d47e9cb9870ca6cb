"""RFC 6962 trees against the RFC's recursive definitions, the reference roots, and another implementation."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.errors import Malformed, ProofInvalid
from lockstep.merkle import (
    EMPTY_ROOT,
    AppendTree,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tests.vectors import generate_trees

FOLDER = Path(generate_trees.__file__).parent
VECTORS: dict[str, Any] = json.loads((FOLDER / "merkle.json").read_text())
VECTOR_LEAVES = [bytes.fromhex(leaf["leaf_hash"]) for leaf in VECTORS["leaves"]]

# Published with the Certificate Transparency reference implementation, for its eight test inputs.
REFERENCE_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(b"leaf %d" % index) for index in range(count)]


# --- the RFC's definitions, word for word -------------------------------------------------------------------


def split_point(size: int) -> int:
    """Return the largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def rfc_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split_point(len(leaves))
    return sha256(b"\x01" + rfc_root(leaves[:k]) + rfc_root(leaves[k:])).digest()


def rfc_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split_point(len(leaves))
    if index < k:
        return [*rfc_path(index, leaves[:k]), rfc_root(leaves[k:])]
    return [*rfc_path(index - k, leaves[k:]), rfc_root(leaves[:k])]


def rfc_subproof(old: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    """RFC 6962, 2.1.2."""
    if old == len(leaves):
        return [] if complete else [rfc_root(leaves)]
    k = split_point(len(leaves))
    if old <= k:
        return [*rfc_subproof(old, leaves[:k], complete=complete), rfc_root(leaves[k:])]
    return [*rfc_subproof(old - k, leaves[k:], complete=False), rfc_root(leaves[:k])]


# --- roots --------------------------------------------------------------------------------------------------


def test_the_reference_roots() -> None:
    hashes = [leaf_hash(data) for data in generate_trees.REFERENCE_LEAVES]
    for size, root in enumerate(REFERENCE_ROOTS, start=1):
        assert root_of(hashes[:size]).hex() == root
        assert root_of(tuple(hashes[:size])).hex() == root


@given(st.integers(0, 300))
def test_every_form_of_a_tree_has_the_root_of_the_definition(size: int) -> None:
    leaves = leaves_of(size)
    expected = rfc_root(leaves)
    one_by_one = Frontier()
    for leaf in leaves:
        one_by_one = one_by_one.append(leaf)
    assert root_of(leaves) == expected
    assert one_by_one.root() == expected
    assert one_by_one == Frontier().extend(leaves)
    assert AppendTree(leaves).root() == expected


@given(st.lists(st.integers(0, 9), max_size=30), st.data())
def test_an_append_tree_grown_in_any_steps_answers_for_every_past_size(
    steps: list[int], data: st.DataObject
) -> None:
    leaves = leaves_of(sum(steps))
    tree, grown = AppendTree(), 0
    for step in steps:
        if step == 1:
            tree.append(leaves[grown])
        else:
            tree.extend(leaves[grown : grown + step])
        grown += step
        assert tree.size == grown
    size = data.draw(st.integers(0, grown))
    assert tree.root(size) == rfc_root(leaves[:size])


def test_a_hash_of_another_length_is_refused_and_adds_nothing() -> None:
    tree = AppendTree(leaves_of(3))
    with pytest.raises(ValueError, match="32 bytes"):
        tree.extend([leaf_hash(b"good"), b"short"])
    assert tree.root() == root_of(leaves_of(3))
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier().append(b"short")


# --- proofs -------------------------------------------------------------------------------------------------


def test_all_inclusion_proofs_of_small_trees() -> None:
    tree = AppendTree(leaves_of(40))
    for size in range(1, 41):
        leaves = leaves_of(size)
        for index in range(size):
            proof = inclusion_proof(leaves, index)
            assert list(proof) == rfc_path(index, leaves)
            assert proof == tree.inclusion_proof(index, size)
            verify_inclusion(
                leaf_hash=leaves[index], index=index, size=size, proof=proof, root=tree.root(size)
            )


def test_all_consistency_proofs_of_small_trees() -> None:
    tree = AppendTree(leaves_of(40))
    for new_size in range(41):
        leaves = leaves_of(new_size)
        for old_size in range(new_size + 1):
            proof = consistency_proof(leaves, old_size)
            expected = rfc_subproof(old_size, leaves, complete=True) if old_size else []
            assert list(proof) == expected
            assert proof == tree.consistency_proof(old_size, new_size)
            verify_consistency(
                old_size=old_size,
                new_size=new_size,
                old_root=tree.root(old_size),
                new_root=tree.root(new_size),
                proof=proof,
            )


def test_a_proof_holds_for_no_other_place() -> None:
    leaves = leaves_of(13)
    tree = AppendTree(leaves)
    proof = tree.inclusion_proof(6)
    for size in range(20):
        for index in range(20):
            if (index, size) in ((6, 13), *_same_path(6, 13)):
                continue
            with pytest.raises(ProofInvalid):
                verify_inclusion(leaf_hash=leaves[6], index=index, size=size, proof=proof, root=tree.root())


def _same_path(index: int, size: int) -> list[tuple[int, int]]:
    """Return the places whose path has the same turns: a root alone does not tell them apart."""
    turns = _turns(index, size)
    return [(i, s) for s in range(20) for i in range(s) if _turns(i, s) == turns]


def _turns(index: int, size: int) -> list[bool]:
    if size == 1:
        return []
    k = split_point(size)
    return [*_turns(index, k), False] if index < k else [*_turns(index - k, size - k), True]


@given(st.integers(1, 200), st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(leaves, index)
    changed = data.draw(changed_proofs(proof))
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf_hash=leaves[index], index=index, size=size, proof=changed, root=root_of(leaves))


@given(st.integers(1, 200), st.data())
def test_a_changed_consistency_proof_is_refused(new_size: int, data: st.DataObject) -> None:
    leaves = leaves_of(new_size)
    old_size = data.draw(st.integers(0, new_size))
    proof = consistency_proof(leaves, old_size)
    changed = data.draw(changed_proofs(proof))
    with pytest.raises(ProofInvalid):
        verify_consistency(
            old_size=old_size,
            new_size=new_size,
            old_root=root_of(leaves[:old_size]),
            new_root=root_of(leaves),
            proof=changed,
        )


@st.composite
def changed_proofs(draw: st.DrawFn, proof: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return a proof with one bit flipped, one hash dropped, one added, or one cut short."""
    spoilt = list(proof)
    adding = draw(st.booleans())
    if proof and not adding:
        place = draw(st.integers(0, len(proof) - 1))
        flipped = int.from_bytes(proof[place], "big") ^ 1 << draw(st.integers(0, 255))
        replacement = draw(st.sampled_from(([flipped.to_bytes(32, "big")], [], [proof[place][:-1]])))
        spoilt[place : place + 1] = replacement
    else:
        spoilt.insert(draw(st.integers(0, len(proof))), draw(st.sampled_from((bytes(32), *proof))))
    return tuple(spoilt)


@given(st.integers(1, 100), st.data())
def test_a_log_with_another_past_has_no_consistency_proof(new_size: int, data: st.DataObject) -> None:
    leaves = leaves_of(new_size)
    old_size = data.draw(st.integers(1, new_size))
    rewritten = list(leaves)
    rewritten[data.draw(st.integers(0, old_size - 1))] = leaf_hash(b"rewritten")
    for proof in (consistency_proof(leaves, old_size), consistency_proof(rewritten, old_size)):
        with pytest.raises(ProofInvalid):
            verify_consistency(
                old_size=old_size,
                new_size=new_size,
                old_root=root_of(leaves[:old_size]),
                new_root=root_of(rewritten),
                proof=proof,
            )


def test_sizes_that_a_tree_never_had_are_refused() -> None:
    tree = AppendTree(leaves_of(5))
    for refused in (
        lambda: tree.root(6),
        lambda: tree.root(-1),
        lambda: tree.inclusion_proof(5),
        lambda: tree.inclusion_proof(3, 3),
        lambda: tree.inclusion_proof(-1),
        lambda: tree.inclusion_proof(0, 6),
        lambda: tree.consistency_proof(6),
        lambda: tree.consistency_proof(4, 3),
        lambda: tree.consistency_proof(-1),
        lambda: inclusion_proof([], 0),
    ):
        with pytest.raises(ValueError, match="tree"):
            refused()


def test_verifying_refuses_hashes_of_another_length() -> None:
    left, right = leaves_of(2)
    root = root_of([left, right])
    for leaf, sibling, claimed in (
        (left[1:], right, root),
        (left, right[1:], root),
        (left, right, root + b"\0"),
    ):
        with pytest.raises(ProofInvalid, match="32 bytes"):
            verify_inclusion(leaf_hash=leaf, index=0, size=2, proof=(sibling,), root=claimed)
    for old_root, sibling, new_root in (
        (left[1:], right, root),
        (left, right[1:], root),
        (left, right, root[1:]),
    ):
        with pytest.raises(ProofInvalid, match="32 bytes"):
            verify_consistency(old_size=1, new_size=2, old_root=old_root, new_root=new_root, proof=(sibling,))


def test_verifying_refuses_sizes_out_of_range() -> None:
    leaf = leaf_hash(b"")
    for index, size in ((0, 0), (1, 1), (-1, 1), (0, -1), (0, 2**64)):
        with pytest.raises(ProofInvalid):
            verify_inclusion(leaf_hash=leaf, index=index, size=size, proof=(), root=leaf)
    for old_size, new_size in ((-1, 1), (2, 1), (1, 2**64)):
        with pytest.raises(ProofInvalid):
            verify_consistency(old_size=old_size, new_size=new_size, old_root=leaf, new_root=leaf, proof=())


# --- the frontier -------------------------------------------------------------------------------------------


@given(st.integers(0, 200))
def test_a_frontier_survives_its_encoding(size: int) -> None:
    frontier = Frontier().extend(leaves_of(size))
    encoded = frontier.encode()
    assert len(encoded) == 8 + 32 * size.bit_count()
    assert Frontier.decode(encoded) == frontier


@given(st.binary(max_size=150))
def test_bytes_decode_to_a_frontier_that_encodes_to_them_or_not_at_all(encoded: bytes) -> None:
    try:
        frontier = Frontier.decode(encoded)
    except Malformed:
        return
    assert frontier.encode() == encoded


def test_a_frontier_with_the_wrong_number_of_peaks_cannot_be_made() -> None:
    for size, peaks in ((1, ()), (2, (EMPTY_ROOT, EMPTY_ROOT)), (-1, ()), (2**64, (EMPTY_ROOT,))):
        with pytest.raises(ValueError, match="peaks"):
            Frontier(size, peaks)


# --- vectors ------------------------------------------------------------------------------------------------


def test_the_vectors_are_what_the_generator_makes() -> None:
    for name, text in generate_trees.render().items():
        assert (FOLDER / name).read_text() == text, f"{name}: run python -m tests.vectors.generate_trees"


def test_vectors_of_roots() -> None:
    for leaf in VECTORS["leaves"]:
        assert leaf_hash(bytes.fromhex(leaf["data"])).hex() == leaf["leaf_hash"]
    for case in VECTORS["roots"]:
        assert root_of(VECTOR_LEAVES[: case["size"]]).hex() == case["root"]


@pytest.mark.parametrize(
    "case", VECTORS["inclusion"], ids=lambda case: case.get("why", f"{case['index']}-{case['size']}")
)
def test_vectors_of_inclusion(case: dict[str, Any]) -> None:
    def verify() -> None:
        verify_inclusion(
            leaf_hash=bytes.fromhex(case["leaf_hash"]),
            index=case["index"],
            size=case["size"],
            proof=[bytes.fromhex(each) for each in case["proof"]],
            root=bytes.fromhex(case["root"]),
        )

    if not case["valid"]:
        with pytest.raises(ProofInvalid):
            verify()
        return
    verify()
    proof = inclusion_proof(VECTOR_LEAVES[: case["size"]], case["index"])
    assert [each.hex() for each in proof] == case["proof"]


@pytest.mark.parametrize(
    "case", VECTORS["consistency"], ids=lambda case: case.get("why", f"{case['old_size']}-{case['new_size']}")
)
def test_vectors_of_consistency(case: dict[str, Any]) -> None:
    def verify() -> None:
        verify_consistency(
            old_size=case["old_size"],
            new_size=case["new_size"],
            old_root=bytes.fromhex(case["old_root"]),
            new_root=bytes.fromhex(case["new_root"]),
            proof=[bytes.fromhex(each) for each in case["proof"]],
        )

    if not case["valid"]:
        with pytest.raises(ProofInvalid):
            verify()
        return
    verify()
    proof = consistency_proof(VECTOR_LEAVES[: case["new_size"]], case["old_size"])
    assert [each.hex() for each in proof] == case["proof"]


@pytest.mark.parametrize(
    "case", VECTORS["frontiers"], ids=lambda case: case.get("why", str(case.get("size")))
)
def test_vectors_of_frontiers(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            Frontier.decode(encoded)
        return
    leaves = VECTOR_LEAVES[: case["size"]]
    assert Frontier.decode(encoded) == Frontier().extend(leaves)
    assert Frontier.decode(encoded).root() == root_of(leaves)


# --- another implementation ---------------------------------------------------------------------------------


def test_another_implementation_accepts_our_proofs_and_has_our_roots(tmp_path: Path) -> None:
    missing = "tlog-scales, a second log implementation, is not installed"
    tlog = pytest.importorskip("tlog_scales.tlog", reason=missing)
    tiles_writer = pytest.importorskip("tlog_scales.writer", reason=missing).TilesWriter
    tiles_reader = pytest.importorskip("tlog_scales.reader", reason=missing).TilesReader
    backend = pytest.importorskip("tlog_scales.backend", reason=missing).LocalBackend

    folder = tmp_path / "log"
    writer = tiles_writer.create(folder, "example.org/log")
    reader = tiles_reader(backend(folder))
    tree = AppendTree()
    for size in (1, 2, 7, 64, 255, 256, 257, 300, 513):
        old_size = tree.size
        for data in (b"entry %d" % index for index in range(old_size, size)):
            writer.add_leaf(data)
            tree.append(leaf_hash(data))
        writer.commit([])
        reader.set_size(size)
        assert reader.calculate_root_hash() == tree.root()

        index = size * 2 // 3
        inclusion = reader.get_inclusion_proof(index, size)
        assert inclusion == tlog.InclusionProof(index, size, list(tree.inclusion_proof(index)))
        inclusion.check(leaf_hash(b"entry %d" % index), tree.root())

        if old_size:
            consistency = reader.get_consistency_proof(old_size, size)
            assert consistency == tlog.ConsistencyProof(
                old_size, size, list(tree.consistency_proof(old_size))
            )
            consistency.check(tree.root(old_size), tree.root())


def test_leaves_and_nodes_hash_differently() -> None:
    left, right = leaves_of(2)
    assert node_hash(left, right) != leaf_hash(left + right)


def test_a_leaf_is_the_one_that_was_added() -> None:
    leaves = leaves_of(5)
    tree = AppendTree(leaves)
    assert [tree.leaf(index) for index in range(5)] == list(leaves)
    for index in (-1, 5):
        with pytest.raises(ValueError, match="there is no leaf"):
            tree.leaf(index)
