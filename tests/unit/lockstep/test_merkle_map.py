"""The authenticated map against its definition, and its proofs against every change of one byte."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.errors import Malformed, ProofInvalid
from lockstep.merkle_map import (
    DEPTH_MAX,
    EMPTY_ROOT,
    MapProof,
    MerkleMap,
    OtherLeaf,
    ProofKind,
    key_hash,
    value_hash,
    verify_map_proof,
)
from tests.vectors import generate_trees

FOLDER = Path(generate_trees.__file__).parent
VECTORS: dict[str, Any] = json.loads((FOLDER / "merkle_map.json").read_text())


def defined_root(pairs: Mapping[bytes, bytes]) -> bytes:
    """The definition in the module's docstring, on strings of bits."""

    def root(members: list[tuple[str, bytes, bytes]], depth: int) -> bytes:
        if not members:
            return bytes(32)
        if len(members) == 1:
            _, key, value = members[0]
            return sha256(b"\x11" + key + value).digest()
        zeros = [member for member in members if member[0][depth] == "0"]
        ones = [member for member in members if member[0][depth] == "1"]
        return sha256(b"\x13" + root(zeros, depth + 1) + root(ones, depth + 1)).digest()

    return root([(f"{int.from_bytes(k, 'big'):0256b}", k, v) for k, v in pairs.items()], 0)


@st.composite
def key_hashes(draw: st.DrawFn) -> bytes:
    """Return key hashes that often share long prefixes, up to all bits but the last."""
    shared = draw(st.sampled_from((0, 1, 7, 8, 9, 100, 250, 255)))
    base = draw(st.sampled_from((0, 2**256 - 1, int.from_bytes(sha256(b"base").digest(), "big"))))
    tail = draw(st.integers(0, min(2 ** (256 - shared) - 1, 15)))
    return (base ^ tail << max(0, 256 - shared - 4)).to_bytes(32, "big")


hashes = st.sampled_from([sha256(b"value %d" % index).digest() for index in range(4)])
contents = st.dictionaries(key_hashes(), hashes, max_size=20)
batches = st.dictionaries(key_hashes(), st.none() | hashes, max_size=12)


# --- the root -----------------------------------------------------------------------------------------------


def test_the_root_of_the_empty_map_is_zeros() -> None:
    assert MerkleMap().root == EMPTY_ROOT == bytes(32)
    assert MerkleMap().update([]).root == EMPTY_ROOT


def test_the_root_of_one_key_is_its_leaf() -> None:
    key, value = key_hash(b"key"), value_hash(b"value")
    assert MerkleMap().update([(key, value)]).root == sha256(b"\x11" + key + value).digest()


@given(contents)
def test_a_root_is_the_definitions(pairs: dict[bytes, bytes]) -> None:
    assert MerkleMap().update(pairs.items()).root == defined_root(pairs)


@given(st.lists(batches, max_size=8))
def test_after_every_update_the_root_is_the_definitions_and_older_maps_keep_theirs(
    history: list[dict[bytes, bytes | None]],
) -> None:
    current, content = MerkleMap(), dict[bytes, bytes]()
    versions = []
    for batch in history:
        current = current.update(batch.items())
        for key, value in batch.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        versions.append((current, defined_root(content)))
    for version, expected in versions:
        assert version.root == expected


@given(contents, st.randoms(use_true_random=False))
def test_the_order_of_changes_does_not_matter(pairs: dict[bytes, bytes], random: Random) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)
    one_by_one = MerkleMap()
    for pair in shuffled:
        one_by_one = one_by_one.update([pair])
    assert one_by_one.root == MerkleMap().update(pairs.items()).root == MerkleMap().update(shuffled).root


@given(contents, contents)
def test_inserting_and_removing_leads_back(pairs: dict[bytes, bytes], more: dict[bytes, bytes]) -> None:
    before = MerkleMap().update(pairs.items())
    added = {key: value for key, value in more.items() if key not in pairs}
    after = before.update(added.items())
    assert after.update((key, None) for key in added).root == before.root
    for key in added:
        after = after.update([(key, None)])
    assert after.root == before.root


@given(contents, batches)
def test_changes_that_change_nothing_keep_the_root(
    pairs: dict[bytes, bytes], batch: dict[bytes, bytes | None]
) -> None:
    current = MerkleMap().update(pairs.items())
    useless = {key: pairs.get(key) for key in (*pairs, *batch)}
    assert current.update(useless.items()).root == current.root


def test_a_key_twice_in_one_update_is_refused() -> None:
    key, value = key_hash(b"key"), value_hash(b"value")
    with pytest.raises(ValueError, match="twice"):
        MerkleMap().update([(key, value), (key_hash(b"other"), value), (key, None)])


@pytest.mark.parametrize(("key", "value"), [(31, 32), (33, 32), (32, 31), (32, 33), (31, None), (0, None)])
def test_a_hash_of_another_length_is_refused(key: int, value: int | None) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        MerkleMap().update([(bytes(key), None if value is None else bytes(value))])


# --- proofs -------------------------------------------------------------------------------------------------


def map_of(pairs: Mapping[bytes, bytes]) -> MerkleMap:
    return MerkleMap().update((key_hash(key), value_hash(value)) for key, value in pairs.items())


small_keys = st.integers(0, 60).map(lambda number: b"%d" % number)


@given(st.dictionaries(small_keys, st.binary(max_size=2), max_size=40), small_keys)
def test_every_proof_answers_its_question_and_no_other(pairs: dict[bytes, bytes], key: bytes) -> None:
    current = map_of(pairs)
    proof = MapProof.decode(current.proof(key).encode())
    value = pairs.get(key)
    assert proof == current.proof(key)
    assert (proof.kind is ProofKind.PRESENT) == (value is not None)
    verify_map_proof(proof, root=current.root, key=key, value=value)
    for wrong in (None, b"", b"wrong"):
        if wrong != value:
            with pytest.raises(ProofInvalid):
                verify_map_proof(proof, root=current.root, key=key, value=wrong)


def test_paths_of_256_bits_and_no_more() -> None:
    """Paths of 256 bits cannot be had by hashing keys: the limits are tried by proofs made by hand."""
    proof = MapProof(ProofKind.PRESENT, (bytes(32),) * (DEPTH_MAX - 1) + (b"\x01" * 32,))
    assert MapProof.decode(proof.encode()) == proof
    deeper = MapProof(ProofKind.PRESENT, (b"\x01" * 32,) * (DEPTH_MAX + 1))
    with pytest.raises(ProofInvalid, match="no path"):
        verify_map_proof(deeper, root=EMPTY_ROOT, key=b"", value=b"")
    with pytest.raises(Malformed, match="depth"):
        MapProof.decode(deeper.encode())


@pytest.mark.parametrize("kind", ProofKind)
def test_every_change_of_one_byte_spoils_a_proof(kind: ProofKind) -> None:
    pairs = {b"%d" % number: b"value" for number in range(12)}
    current = map_of(pairs)
    key = next(key for number in range(1_000) if current.proof(key := b"%d" % number).kind is kind)
    encoded = current.proof(key).encode()
    for place in range(len(encoded)):
        for mask in range(1, 256):
            spoilt = bytearray(encoded)
            spoilt[place] ^= mask
            assert_refused(bytes(spoilt), root=current.root, key=key, value=pairs.get(key))


@given(st.dictionaries(small_keys, st.just(b"value"), max_size=40), small_keys, st.data())
def test_a_proof_cut_or_lengthened_is_refused(
    pairs: dict[bytes, bytes], key: bytes, data: st.DataObject
) -> None:
    current = map_of(pairs)
    encoded = current.proof(key).encode()
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    longer = encoded + data.draw(st.sampled_from((b"\x00", bytes(32), encoded[-32:], bytes(64))))
    for spoilt in (cut, longer):
        with pytest.raises(Malformed):
            MapProof.decode(spoilt)


def assert_refused(spoilt: bytes, *, root: bytes, key: bytes, value: bytes | None) -> None:
    try:
        proof = MapProof.decode(spoilt)
    except Malformed:
        return
    assert proof.encode() == spoilt, "a proof has one encoding"
    with pytest.raises(ProofInvalid):
        verify_map_proof(proof, root=root, key=key, value=value)


@given(st.binary(max_size=140))
def test_bytes_decode_to_a_proof_that_encodes_to_them_or_not_at_all(encoded: bytes) -> None:
    for attempt in (encoded, b"\x01\x01\x00" + encoded, b"\x01\x03\x00" + encoded):
        try:
            proof = MapProof.decode(attempt)
        except Malformed:
            continue
        assert proof.encode() == attempt


def test_a_leaf_off_the_keys_path_proves_no_absence() -> None:
    """Even under a root that a liar made up: the place of a disclosed leaf must be where its key belongs."""
    key = b"key"
    elsewhere = bytes((key_hash(key)[0] ^ 0x80,)) + key_hash(key)[1:]
    other = OtherLeaf(elsewhere, value_hash(b"value"))
    sibling = sha256(b"sibling").digest()
    leaf = sha256(b"\x11" + other.key_hash + other.value_hash).digest()
    pair = (sibling, leaf) if key_hash(key)[0] >> 7 else (leaf, sibling)
    proof = MapProof(ProofKind.ABSENT_OTHER, (sibling,), other)
    with pytest.raises(ProofInvalid, match="path"):
        verify_map_proof(proof, root=sha256(b"\x13" + pair[0] + pair[1]).digest(), key=key, value=None)


def test_a_leaf_below_its_place_proves_nothing() -> None:
    """Even under a root that a liar made up: a leaf without a neighbour belongs higher up."""
    key, value = b"key", b"value"
    leaf = MerkleMap().update([(key_hash(key), value_hash(value))]).root
    pair = (EMPTY_ROOT, leaf) if key_hash(key)[0] >> 7 else (leaf, EMPTY_ROOT)
    proof = MapProof(ProofKind.PRESENT, (EMPTY_ROOT,))
    with pytest.raises(ProofInvalid, match="no path"):
        verify_map_proof(proof, root=sha256(b"\x13" + pair[0] + pair[1]).digest(), key=key, value=value)
    with pytest.raises(Malformed, match="empty sibling"):
        MapProof.decode(proof.encode())


def test_records_that_contradict_themselves_are_refused() -> None:
    key, other = b"key", OtherLeaf(key_hash(b"other"), value_hash(b"value"))
    own = OtherLeaf(key_hash(key), value_hash(b"value"))
    root = map_of({key: b"value"}).root
    for proof, value in (
        (MapProof(ProofKind.ABSENT_OTHER, (), None), None),
        (MapProof(ProofKind.ABSENT_EMPTY, (), other), None),
        (MapProof(ProofKind.PRESENT, (), other), b"value"),
        (MapProof(ProofKind.ABSENT_OTHER, (), own), None),
        (MapProof(ProofKind.PRESENT, (EMPTY_ROOT,)), b"value"),
        (MapProof(ProofKind.PRESENT, (b"short",)), b"value"),
        (MapProof(ProofKind.ABSENT_OTHER, (), OtherLeaf(b"short", b"")), None),
    ):
        with pytest.raises(ProofInvalid):
            verify_map_proof(proof, root=root, key=key, value=value)


# --- vectors ------------------------------------------------------------------------------------------------


def test_vectors_of_hashes() -> None:
    for case in VECTORS["hashes"]:
        assert key_hash(bytes.fromhex(case["key"])).hex() == case["key_hash"]
        assert value_hash(bytes.fromhex(case["value"])).hex() == case["value_hash"]


def test_vectors_of_roots() -> None:
    for case in VECTORS["maps"]:
        pairs = {bytes.fromhex(pair["key"]): bytes.fromhex(pair["value"]) for pair in case["pairs"]}
        assert map_of(pairs).root.hex() == case["root"]
        assert defined_root({key_hash(k): value_hash(v) for k, v in pairs.items()}).hex() == case["root"]


def test_vectors_of_updates() -> None:
    current, content = MerkleMap(), dict[bytes, bytes]()
    for case in VECTORS["updates"]:
        changes = [
            (bytes.fromhex(each["key_hash"]), optional(each["value_hash"])) for each in case["changes"]
        ]
        current = current.update(changes)
        content |= {key: value for key, value in changes if value is not None}
        content = {key: value for key, value in content.items() if (key, None) not in changes}
        assert current.root.hex() == case["root"] == defined_root(content).hex()


@pytest.mark.parametrize("case", VECTORS["proofs"], ids=lambda case: case.get("why", case["kind"]))
def test_vectors_of_proofs(case: dict[str, Any]) -> None:
    encoded, value = bytes.fromhex(case["proof"]), optional(case["value"])
    root, key = bytes.fromhex(case["root"]), bytes.fromhex(case["key"])
    if not case["valid"]:
        assert_refused(encoded, root=root, key=key, value=value)
        return
    proof = MapProof.decode(encoded)
    assert proof.kind.name == case["kind"]
    assert proof.encode() == encoded
    verify_map_proof(proof, root=root, key=key, value=value)


def optional(spelled: str | None) -> bytes | None:
    return None if spelled is None else bytes.fromhex(spelled)
