"""The order's units: names, hashes, bundles of a valid shape, entries and namespace leaves."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.merkle import EMPTY_ROOT, leaf_hash, root_of
from lockstep.order import (
    ENTRY_PREFIX_BYTES,
    Bundle,
    Entry,
    NamespaceLeaf,
    Transaction,
    bundle_id,
    bundle_id_of,
    data_root,
    decode_entry,
    decode_namespace_leaves,
    encode_namespace_leaf,
    encode_namespace_leaves,
    entry_leaf_hash,
    entry_prefix,
    hash_entry,
    is_namespace,
    is_rollup_id,
    namespace_leaf_hash,
    namespace_leaves,
    transaction_hash,
    verify_bundle_shape,
)
from lockstep.types import SYSTEM_NAMESPACES, BundleId, ChainId, Namespace, TransactionHash
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_order
from tests.vectors.plain import plain, unfold

VECTORS: dict[str, Any] = json.loads((Path(generate_order.__file__).parent / "order.json").read_text())

CHAIN = ChainId(b"\x07" * 32)
ALPHA, BETA = Namespace("alpha"), Namespace("beta")

hashes = st.binary(min_size=32, max_size=32)
names = st.one_of(st.from_regex(r"\A[a-z0-9-]{1,32}\Z"), st.sampled_from(sorted(SYSTEM_NAMESPACES))).map(
    Namespace
)
times = st.integers(1, 2**63 - 1)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    count = draw(st.integers(1, limits.BUNDLE_TRANSACTIONS_MAX))
    first_index = draw(st.integers(0, limits.BLOCK_TRANSACTIONS_MAX - count))
    return Entry(
        index=first_index + draw(st.integers(0, count - 1)),
        first_index=first_index,
        count=count,
        valid_until_ms=draw(times),
        bundle_id=BundleId(draw(hashes)),
        payload=draw(st.binary(min_size=1, max_size=40)),
    )


leaf_lists = st.dictionaries(names, st.tuples(st.integers(1, 2**32 - 1), hashes), max_size=6).map(
    lambda found: tuple(NamespaceLeaf(name, *found[name]) for name in sorted(found))
)


def encode_entry(entry: Entry) -> bytes:
    prefix = entry_prefix(
        index=entry.index,
        first_index=entry.first_index,
        count=entry.count,
        valid_until_ms=entry.valid_until_ms,
        bundle=entry.bundle_id,
    )
    return prefix + entry.payload


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["namespaces"])
def test_name_vectors(case: dict[str, Any]) -> None:
    assert is_namespace(case["name"]) == case["valid"]
    assert is_rollup_id(case["name"]) == (case["valid"] and case["name"] not in SYSTEM_NAMESPACES)


@given(st.text(max_size=34))
def test_a_name_is_of_few_letters(name: str) -> None:
    letters = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert is_rollup_id(name) == (1 <= len(name) <= 32 and set(name) <= letters)


# --- transactions and bundles -------------------------------------------------------------------------------


@given(names, st.binary(min_size=1, max_size=40))
def test_the_hash_of_a_transaction_binds_name_and_payload(name: Namespace, payload: bytes) -> None:
    body = bytes([len(name)]) + name.encode() + payload
    assert transaction_hash(name, payload) == sha256(b"lockstep/v1/transaction\x00" + body).digest()


def test_where_the_name_ends_is_hashed() -> None:
    assert transaction_hash("alpha", b"beta") != transaction_hash("alph", b"abeta")


@given(hashes.map(ChainId), times, st.lists(hashes.map(TransactionHash), min_size=1, max_size=32))
def test_the_id_of_a_bundle_binds_all_of_it(
    chain: ChainId, valid_until_ms: int, transactions: list[TransactionHash]
) -> None:
    body = (
        chain
        + valid_until_ms.to_bytes(8, "big")
        + len(transactions).to_bytes(2, "big")
        + b"".join(transactions)
    )
    assert bundle_id(chain, valid_until_ms, transactions) == sha256(b"lockstep/v1/bundle\x00" + body).digest()


@pytest.mark.parametrize("case", VECTORS["transactions"])
def test_transaction_vectors(case: dict[str, Any]) -> None:
    assert transaction_hash(case["namespace"], bytes.fromhex(case["payload"])).hex() == case["hash"]


@pytest.mark.parametrize("case", VECTORS["bundles"], ids=lambda case: case["why"])
def test_bundle_vectors(case: dict[str, Any]) -> None:
    bundle = Bundle(
        tuple(Transaction(each["namespace"], unfold(each["payload"])) for each in case["transactions"]),
        int(case["valid_until_ms"]),
    )
    if case["valid"]:
        verify_bundle_shape(bundle)
        assert bundle_id_of(ChainId(bytes.fromhex(case["chain"])), bundle).hex() == case["bundle_id"]
        return
    with pytest.raises(Malformed):
        verify_bundle_shape(bundle)


ONE = Transaction(ALPHA, b"\x00")
LARGE = Transaction(ALPHA, bytes(limits.PAYLOAD_BYTES_MAX))


@pytest.mark.parametrize(
    ("transactions", "valid_until_ms"),
    [
        ((ONE,), 1),
        ((ONE,), 2**63 - 1),
        ((ONE,) * limits.BUNDLE_TRANSACTIONS_MAX, 1),
        ((LARGE,) * 4, 1),
        ((Transaction(Namespace("_log"), b"\x00"),), 1),
    ],
)
def test_a_shape_up_to_its_bounds_is_valid(
    transactions: tuple[Transaction, ...], valid_until_ms: int
) -> None:
    verify_bundle_shape(Bundle(transactions, valid_until_ms))


@pytest.mark.parametrize(
    ("transactions", "valid_until_ms", "field"),
    [
        ((), 1, "transactions"),
        ((ONE,) * (limits.BUNDLE_TRANSACTIONS_MAX + 1), 1, "transactions"),
        ((ONE,), 0, "valid_until_ms"),
        ((ONE,), -1, "valid_until_ms"),
        ((ONE,), 2**63, "valid_until_ms"),
        ((ONE, Transaction(Namespace("Ω"), b"\x00")), 1, "transactions[1].namespace"),
        ((Transaction(ALPHA, b""),), 1, "transactions[0].payload"),
        ((Transaction(ALPHA, LARGE.payload + b"\x00"),), 1, "transactions[0].payload"),
        ((*(LARGE,) * 4, ONE), 1, "transactions"),
    ],
)
def test_a_shape_beyond_its_bounds_is_refused(
    transactions: tuple[Transaction, ...], valid_until_ms: int, field: str
) -> None:
    with pytest.raises(Malformed) as caught:
        verify_bundle_shape(Bundle(transactions, valid_until_ms))
    assert (caught.value.what, caught.value.field) == ("bundle", field)


# --- entries ------------------------------------------------------------------------------------------------


@given(entries())
def test_an_entry_has_one_encoding(entry: Entry) -> None:
    encoded = encode_entry(entry)
    assert len(encoded) == ENTRY_PREFIX_BYTES + len(entry.payload)
    assert decode_entry(encoded) == entry
    assert_strict(encoded, decode=decode_entry, encode=encode_entry, has_rest=True)


@pytest.mark.parametrize("length", range(ENTRY_PREFIX_BYTES + 1))
def test_an_entry_without_payload_is_refused(length: int) -> None:
    encoded = bytes(9) + b"\x01" + bytes(7) + b"\x01" + bytes(32) + b"payload"
    decode_entry(encoded)
    with pytest.raises(Malformed):
        decode_entry(encoded[:length])


SAMPLE = Entry(5, 5, 1, 7, BundleId(bytes(32)), b"payload")


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 5, "first_index": 5, "count": 32},
        {"index": 36, "first_index": 5, "count": 32},
        {"index": 16_383, "first_index": 16_383},
        {"index": 16_352, "first_index": 16_352, "count": 32},
        {"valid_until_ms": 1},
        {"valid_until_ms": 2**63 - 1},
        {"payload": b"\x00"},
        {"payload": bytes(65_536)},
    ],
)
def test_an_entry_up_to_its_bounds_is_valid(changes: dict[str, Any]) -> None:
    entry = replace(SAMPLE, **changes)
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"index": 4}, "index"),
        ({"index": 6}, "index"),
        ({"index": 37, "count": 32}, "index"),
        ({"count": 0}, "index"),
        ({"count": 33}, "index"),
        ({"index": 16_384, "first_index": 16_384}, "first_index"),
        ({"index": 16_353, "first_index": 16_353, "count": 32}, "first_index"),
        ({"index": 2**32 - 1, "first_index": 2**32 - 1}, "first_index"),
        ({"valid_until_ms": 0}, "valid_until_ms"),
        ({"valid_until_ms": 2**63}, "valid_until_ms"),
        ({"payload": b""}, "payload"),
        ({"payload": bytes(65_537)}, "payload"),
    ],
)
def test_an_entry_beyond_its_bounds_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode_entry(encode_entry(replace(SAMPLE, **changes)))
    assert (caught.value.what, caught.value.field) == ("entry", field)


@given(entries(), names)
def test_the_leaf_of_an_entry_needs_no_payload(entry: Entry, name: Namespace) -> None:
    encoded = encode_entry(entry)
    hashed = transaction_hash(name, entry.payload)
    assert hash_entry(name, encoded) == entry_leaf_hash(encoded[:ENTRY_PREFIX_BYTES], hashed)
    assert hash_entry(name, encoded) == leaf_hash(b"\x01" + encoded[:ENTRY_PREFIX_BYTES] + hashed)


@pytest.mark.parametrize("case", VECTORS["entries"])
def test_entry_vectors(case: dict[str, Any]) -> None:
    encoded = unfold(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_entry(encoded)
        return
    entry = decode_entry(encoded)
    assert {name: case[name] for name in plain(entry) if name != "payload"} == {
        name: value for name, value in plain(entry).items() if name != "payload"
    }
    assert encode_entry(entry) == encoded
    assert hash_entry(case["namespace"], encoded).hex() == case["leaf_hash"]


# --- namespace leaves ---------------------------------------------------------------------------------------


@given(leaf_lists)
def test_a_list_of_leaves_has_one_encoding(leaves: tuple[NamespaceLeaf, ...]) -> None:
    encoded = encode_namespace_leaves(leaves)
    assert decode_namespace_leaves(encoded) == leaves
    assert_strict(encoded, decode=decode_namespace_leaves, encode=encode_namespace_leaves)


@given(leaf_lists)
def test_the_data_root_is_over_tagged_leaves_in_order(leaves: tuple[NamespaceLeaf, ...]) -> None:
    hashed = [leaf_hash(b"\x02" + encode_namespace_leaf(leaf)) for leaf in leaves]
    assert [namespace_leaf_hash(leaf) for leaf in leaves] == hashed
    assert data_root(leaves) == root_of(hashed)


def test_a_block_without_entries_has_the_empty_root() -> None:
    assert encode_namespace_leaves(()) == b"\x00\x00"
    assert data_root(()) == EMPTY_ROOT


@given(st.dictionaries(names, st.lists(hashes, min_size=1, max_size=4), max_size=6))
def test_leaves_are_sorted_as_bytes(found: dict[Namespace, list[bytes]]) -> None:
    leaves = namespace_leaves(found)
    assert [leaf.namespace.encode() for leaf in leaves] == sorted(name.encode() for name in found)
    for leaf in leaves:
        assert (leaf.count, leaf.root) == (len(found[leaf.namespace]), root_of(found[leaf.namespace]))
    assert decode_namespace_leaves(encode_namespace_leaves(leaves)) == leaves


def test_the_most_leaves() -> None:
    leaves = [NamespaceLeaf(Namespace(f"r{number:04}"), 1, bytes(32)) for number in range(1_025)]
    assert len(decode_namespace_leaves(encode_namespace_leaves(leaves[:1_024]))) == 1_024
    with pytest.raises(Malformed, match="is 1025, allowed are 1024"):
        decode_namespace_leaves(encode_namespace_leaves(leaves))


@pytest.mark.parametrize("case", VECTORS["namespace_leaves"])
def test_namespace_leaf_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_namespace_leaves(encoded)
        return
    leaves = decode_namespace_leaves(encoded)
    assert plain(leaves) == case["leaves"]
    assert encode_namespace_leaves(leaves) == encoded
    assert [namespace_leaf_hash(leaf).hex() for leaf in leaves] == case["leaf_hashes"]
    assert data_root(leaves).hex() == case["data_root"]
