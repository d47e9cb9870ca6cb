"""Blocks: every share of a block is taken, and nothing that was tampered with or that no builder makes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.block import AdmittedBundle, Block, VerifiedBlock, build_block, verify_block
from lockstep.errors import Discontinuous, LockstepError, Malformed
from lockstep.header import Tip, decode_header, encode_header, header_hash, tip_of
from lockstep.order import (
    Bundle,
    NamespaceLeaf,
    Transaction,
    bundle_id,
    bundle_id_of,
    decode_namespace_leaves,
    encode_namespace_leaves,
    transaction_hash,
)
from lockstep.types import ChainId, HeaderHash, Height, Namespace
from tests.vectors import generate_block
from tests.vectors.generate_block import ALPHA, BETA, BUNDLES, SWAP, forge, sample_block
from tests.vectors.generate_order import CHAIN, GENESIS_TIP, START_MS
from tests.vectors.plain import plain, unfold

VECTORS: dict[str, Any] = json.loads((Path(generate_block.__file__).parent / "block.json").read_text())

NAMES = tuple(Namespace(name) for name in ("_log", "_registry", "_swap", "alpha", "beta", "gamma"))


def admit(bundle: Bundle) -> AdmittedBundle:
    hashes = tuple(transaction_hash(*each) for each in bundle.transactions)
    return AdmittedBundle(bundle_id_of(CHAIN, bundle), bundle.transactions, hashes, bundle.valid_until_ms)


transactions = st.builds(Transaction, st.sampled_from(NAMES), st.binary(min_size=1, max_size=8))
bundle_lists = st.lists(
    st.builds(
        Bundle,
        st.lists(transactions, min_size=1, max_size=5).map(tuple),
        st.integers(1, 2**63 - 1),
    ),
    max_size=6,
    unique_by=lambda bundle: bundle_id_of(CHAIN, bundle),
)
wanted_lists = st.lists(st.sampled_from(NAMES), unique=True)


def share_of(block: Block, wanted: Sequence[Namespace], parent: Tip = GENESIS_TIP) -> VerifiedBlock:
    entries = {name: block.entries[name] for name in wanted if name in block.entries}
    return verify_block(parent, block.header_bytes, block.leaves_bytes, entries, wanted)


# --- building and verifying ---------------------------------------------------------------------------------


@given(bundle_lists, wanted_lists, st.integers(1, limits.MAX_ADVANCE_MS))
def test_every_share_of_a_block_is_taken(
    bundles: list[Bundle], wanted: list[Namespace], advance_ms: int
) -> None:
    block = build_block(GENESIS_TIP, START_MS + advance_ms, list(map(admit, bundles)))
    share = share_of(block, wanted)
    assert (share.header, share.hash) == (block.header, block.hash)
    assert set(share.entries) == set(wanted)

    flat = [(bundle, place) for bundle in bundles for place in range(len(bundle.transactions))]
    for name, entries in share.entries.items():
        placed = [
            index for index, (bundle, place) in enumerate(flat) if bundle.transactions[place][0] == name
        ]
        assert [entry.index for entry in entries] == placed
        for entry in entries:
            bundle, place = flat[entry.index]
            assert entry.payload == bundle.transactions[place].payload
            assert entry.first_index == entry.index - place
            assert entry.count == len(bundle.transactions)
            assert entry.valid_until_ms == bundle.valid_until_ms
            assert entry.bundle_id == bundle_id_of(CHAIN, bundle)


@given(bundle_lists)
def test_a_header_counts_what_its_block_holds(bundles: list[Bundle]) -> None:
    block = build_block(GENESIS_TIP, START_MS + 1, list(map(admit, bundles)))
    flat = [each for bundle in bundles for each in bundle.transactions]
    header = block.header
    assert header.bundle_count == len(bundles)
    assert header.transaction_count == len(flat) == sum(map(len, block.entries.values()))
    assert header.payload_bytes == sum(len(payload) for _, payload in flat)
    assert header.namespace_count == len({name for name, _ in flat}) == len(block.entries)
    assert [leaf.namespace for leaf in share_of(block, ()).leaves] == sorted(block.entries)
    assert block.header_bytes == encode_header(header)
    assert block.hash == header_hash(block.header_bytes)


@given(st.lists(bundle_lists, max_size=4))
def test_blocks_make_a_chain(blocks: list[list[Bundle]]) -> None:
    tip = GENESIS_TIP
    for bundles in blocks:
        block = build_block(tip, tip.time_ms + 250, list(map(admit, bundles)))
        share = share_of(block, NAMES, tip)
        assert share.header.height == tip.height + 1
        with pytest.raises(Discontinuous):
            share_of(block, NAMES, replace(tip, height=Height(tip.height + 1)))
        tip = tip_of(share.header, share.hash)
    assert tip.height == len(blocks)


@given(bundle_lists, st.data())
def test_no_change_of_a_share_is_taken(bundles: list[Bundle], data: st.DataObject) -> None:
    block = build_block(GENESIS_TIP, START_MS + 250, list(map(admit, bundles)))
    name = data.draw(st.sampled_from(NAMES))
    entries = list(block.entries.get(name, ()))
    act = data.draw(st.sampled_from(("drop", "repeat", "swap", "add", "change", "move")))
    if act in ("drop", "repeat", "change"):
        assume(entries)
        place = data.draw(st.integers(0, len(entries) - 1))
        if act == "change":
            changed = bytearray(entries[place])
            changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
            entries[place] = bytes(changed)
        else:
            entries[place : place + 1] = [] if act == "drop" else entries[place : place + 1] * 2
    elif act == "swap":
        assume(len(entries) > 1)
        place = data.draw(st.integers(0, len(entries) - 2))
        entries[place], entries[place + 1] = entries[place + 1], entries[place]
    elif act == "add":
        entries.insert(data.draw(st.integers(0, len(entries))), data.draw(st.binary(max_size=60)))
    else:
        others = [each for other, of_one in block.entries.items() if other != name for each in of_one]
        assume(others)
        moved = data.draw(st.sampled_from(others))
        entries = sorted([*entries, moved], key=lambda each: each[:4])
    with pytest.raises(Malformed):
        verify_block(GENESIS_TIP, block.header_bytes, block.leaves_bytes, {name: entries}, [name])


@given(bundle_lists, st.data())
def test_no_change_of_header_or_leaves_is_taken_but_for_time(
    bundles: list[Bundle], data: st.DataObject
) -> None:
    block = build_block(GENESIS_TIP, START_MS + 250, list(map(admit, bundles)))
    header, leaves = bytearray(block.header_bytes), bytearray(block.leaves_bytes)
    target = data.draw(st.sampled_from((header, leaves)))
    position = data.draw(st.integers(0, len(target) - 1))
    target[position] ^= data.draw(st.integers(1, 255))
    # Only the signature binds log time within its bounds; here it is not looked at.
    assume(target is leaves or not 74 <= position < 82)
    with pytest.raises(LockstepError):
        verify_block(GENESIS_TIP, bytes(header), bytes(leaves), block.entries, NAMES)


def test_what_nobody_asked_for_is_not_looked_at() -> None:
    block = sample_block()
    share = verify_block(
        GENESIS_TIP, block.header_bytes, block.leaves_bytes, {**block.entries, ALPHA: [b"?"]}, [BETA]
    )
    assert list(share.entries) == [BETA]


def test_a_namespace_wanted_twice_is_verified() -> None:
    assert list(share_of(sample_block(), [ALPHA, ALPHA]).entries) == [ALPHA]


# --- what is not built --------------------------------------------------------------------------------------


@pytest.mark.parametrize("advance_ms", [0, -1, limits.MAX_ADVANCE_MS + 1])
def test_a_block_at_a_wrong_time_is_not_built(advance_ms: int) -> None:
    with pytest.raises(Discontinuous, match="advances log time"):
        build_block(GENESIS_TIP, START_MS + advance_ms, [])


def single(name: str, payload: bytes, valid_until_ms: int = START_MS) -> AdmittedBundle:
    return admit(Bundle((Transaction(Namespace(name), payload),), valid_until_ms))


def test_the_largest_block_is_built_and_taken() -> None:
    sizes = [65_486] * 32
    assert sum(size + 50 for size in sizes) == limits.BLOCK_BYTES_MAX
    bundles = [single("alpha", bytes(size), number + 1) for number, size in enumerate(sizes)]
    share_of(build_block(GENESIS_TIP, START_MS + 1, bundles), [ALPHA])
    with pytest.raises(Malformed, match="payload_bytes makes 2097153"):
        build_block(GENESIS_TIP, START_MS + 1, [*bundles[1:], single("alpha", bytes(65_487))])


def test_the_most_transactions_are_built_and_taken() -> None:
    full = Bundle((Transaction(ALPHA, b"x"),) * 32, 1)
    bundles = [admit(msgspec.structs.replace(full, valid_until_ms=number + 1)) for number in range(512)]
    assert limits.BLOCK_TRANSACTIONS_MAX == 512 * 32
    share = share_of(build_block(GENESIS_TIP, START_MS + 1, bundles), [ALPHA])
    assert len(share.entries[ALPHA]) == 16_384
    with pytest.raises(Malformed, match="transaction_count makes 16385"):
        build_block(GENESIS_TIP, START_MS + 1, [*bundles, single("alpha", b"x")])


def test_the_most_namespaces_are_built_and_taken() -> None:
    bundles = [single(f"r{number}", b"x") for number in range(limits.BLOCK_NAMESPACES_MAX)]
    block = build_block(GENESIS_TIP, START_MS + 1, bundles)
    assert len(share_of(block, [ALPHA]).leaves) == 1_024
    with pytest.raises(Malformed, match="namespace_count makes 1025"):
        build_block(GENESIS_TIP, START_MS + 1, [*bundles, single("s", b"x")])


def test_a_header_of_too_many_namespaces_is_refused() -> None:
    leaves = [NamespaceLeaf(Namespace(f"r{number:04}"), 1, bytes(32)) for number in range(1_025)]
    block = forge({}, leaves=leaves, transaction_count=1_025, bundle_count=1_025, payload_bytes=1_025)
    with pytest.raises(Malformed, match="namespace_count makes 1025"):
        share_of(block, ())


# --- vectors ------------------------------------------------------------------------------------------------


def tip_from(case: dict[str, Any]) -> Tip:
    return Tip(
        chain=ChainId(bytes.fromhex(case["chain"])),
        height=Height(int(case["height"])),
        hash=HeaderHash(bytes.fromhex(case["hash"])),
        time_ms=int(case["time_ms"]),
    )


@pytest.mark.parametrize("case", VECTORS["blocks"])
def test_block_vectors(case: dict[str, Any]) -> None:
    parent, bundles = tip_from(case["parent"]), []
    for each in case["bundles"]:
        listed = tuple(
            Transaction(transaction["namespace"], unfold(transaction["payload"]))
            for transaction in each["transactions"]
        )
        hashes = tuple(transaction_hash(*transaction) for transaction in listed)
        until_ms = int(each["valid_until_ms"])
        assert bundle_id(parent.chain, until_ms, hashes).hex() == each["bundle_id"]
        bundles.append(AdmittedBundle(bundle_id(parent.chain, until_ms, hashes), listed, hashes, until_ms))
    block = build_block(parent, int(case["time_ms"]), bundles)
    assert block.header_bytes.hex() == case["header"]
    assert block.hash.hex() == case["hash"]
    assert block.leaves_bytes.hex() == case["leaves"]
    assert plain(block.entries) == case["entries"]


def verify_case(case: dict[str, Any]) -> VerifiedBlock:
    entries = {name: [unfold(each) for each in of_one] for name, of_one in case["entries"].items()}
    return verify_block(
        tip_from(case["parent"]), unfold(case["header"]), unfold(case["leaves"]), entries, case["wanted"]
    )


@pytest.mark.parametrize("case", VECTORS["shares"], ids=lambda case: case["why"])
def test_share_vectors(case: dict[str, Any]) -> None:
    if not case["valid"]:
        with pytest.raises((Malformed, Discontinuous)):
            verify_case(case)
        return
    share = verify_case(case)
    assert share.header == decode_header(unfold(case["header"]))
    assert encode_namespace_leaves(share.leaves) == unfold(case["leaves"])
    assert set(share.entries) == set(case["wanted"])
    for entries in share.entries.values():
        assert all(one.index < other.index for one, other in pairwise(entries))


REASONS = {
    "the last entry is missing": "are 2, the header commits to 3",
    "an entry twice instead of another": "do not make the namespace's root",
    "entries where the block has none": "are 1, the header commits to 0",
    "an entry without its payload": "hold one without a payload",
    "a leaf has another count": "do not make the header's data root",
    "a namespace too many is counted": "do not make the header's data root",
    "a transaction too many is counted": "transaction_count is not the sum",
    "indexes descend": "not in order of their index",
    "an index in two namespaces": "share an index",
    "bundles overlap across namespaces": "overlap",
    "a bundle has two windows": "say different things about bundle",
    "a bundle reaches beyond the block": "reach beyond",
    "a bundle too many is counted": "bundle_count",
    "fewer bundles than the gaps between those seen": "bundle_count",
    "a byte too few is counted": "payload_bytes",
    "16,385 transactions": "transaction_count makes 16385",
}
"""Of some cases, which rule must be the one that refuses them."""


@pytest.mark.parametrize("why", REASONS)
def test_a_share_is_refused_by_the_rule_that_it_breaks(why: str) -> None:
    (case,) = [each for each in VECTORS["shares"] if each["why"] == why]
    with pytest.raises(Malformed, match=REASONS[why]):
        verify_case(case)


def test_the_sample_block_mixes_namespaces_within_bundles() -> None:
    share = share_of(sample_block(), [SWAP, ALPHA, BETA])
    assert [entry.index for entry in share.entries[SWAP]] == [0, 3]
    assert [entry.first_index for entry in share.entries[BETA]] == [0, 5, 5]
    assert {entry.count for entry in share.entries[ALPHA]} == {len(each) for _, each in BUNDLES}
    assert decode_namespace_leaves(sample_block().leaves_bytes) == share.leaves
