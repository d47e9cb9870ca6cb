"""Entries of the settlement log: one reading each, and signatures over the very bytes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.block import AdmittedBundle, build_block
from lockstep.commitment import Commitment
from lockstep.errors import BadSignature, Malformed
from lockstep.header import Header, Tip, encode_header
from lockstep.order import Transaction, decode_entry, decode_namespace_leaves, transaction_hash
from lockstep.settlement_entries import (
    CommitmentEntry,
    Evidence,
    EvidenceKind,
    GenesisEntry,
    HeaderRange,
    PostedCommitment,
    ProvenHeader,
    Registration,
    SettlementEntry,
    decode_log_entry,
    decode_proven_header,
    decode_settlement_entry,
    encode_log_entry,
    encode_proven_header,
    encode_settlement_entry,
    registrations_of,
    sign_commitment,
    verify_commitment,
    verify_proven_header,
)
from lockstep.signing import SigningKey
from lockstep.types import (
    REGISTRY_NAMESPACE,
    BundleId,
    ChainId,
    HeaderHash,
    Height,
    Namespace,
    PublicKey,
    RollupId,
)
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_registry
from tests.vectors.plain import plain

FOLDER = Path(generate_registry.__file__).parent
VECTORS: dict[str, Any] = json.loads((FOLDER / "settlement_entries.json").read_text())

ATTESTER = SigningKey(b"\x07" * 32)

hashes = st.binary(min_size=32, max_size=32)
chains = hashes.map(ChainId)
heights = st.integers(1, 2**63 - 1).map(Height)
u32s, u64s = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
statements = st.binary(min_size=1, max_size=40)

headers = st.builds(
    Header,
    chain=chains,
    height=st.integers(2, 2**63 - 1).map(Height),
    parent_hash=hashes.map(HeaderHash),
    time_ms=st.integers(0, 2**63 - 1),
    data_root=hashes,
    namespace_count=st.integers(0, 2**16 - 1),
    bundle_count=u32s,
    transaction_count=u32s,
    payload_bytes=u64s,
)
proven_headers = st.builds(
    ProvenHeader, encoded=headers.map(encode_header), proof=st.binary(min_size=64, max_size=64)
)


@st.composite
def header_ranges(draw: st.DrawFn) -> HeaderRange:
    last = draw(proven_headers)
    first_height = draw(st.integers(1, last.header.height))
    parent_hash = HeaderHash(draw(hashes))
    if first_height == last.header.height:
        parent_hash = last.header.parent_hash
    elif first_height == 1:
        parent_hash = HeaderHash(last.header.chain)
    return HeaderRange(Height(first_height), parent_hash, last)


@st.composite
def commitments(draw: st.DrawFn) -> CommitmentEntry:
    height = draw(heights)
    previous_height = draw(st.integers(0, height - 1))
    posted = PostedCommitment(
        chain=draw(chains),
        attester=draw(hashes.map(PublicKey)),
        header_hash=HeaderHash(draw(hashes)),
        commitment=Commitment(
            rollup=RollupId(draw(st.from_regex(r"\A[a-z0-9-]{1,32}\Z"))),
            height=height,
            state_root=draw(hashes),
            receipt_count=draw(u64s),
            receipts_root=draw(hashes),
            register_root=draw(hashes),
        ),
        previous_height=previous_height,
        previous_commitment=draw(hashes.filter(any)) if previous_height else bytes(32),
    )
    return sign_commitment(ATTESTER, posted)


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    kind = draw(st.sampled_from(EvidenceKind))
    of_kind = proven_headers.map(encode_proven_header) if kind == EvidenceKind.HEADERS else statements
    first, second = draw(st.lists(of_kind, min_size=2, max_size=2, unique=True))
    return Evidence(kind, first, second)


@st.composite
def registrations(draw: st.DrawFn) -> Registration:
    """A registration of a block that also has others' entries."""
    tip = Tip(draw(chains), Height(draw(st.integers(1, 2**63 - 2))), HeaderHash(draw(hashes)), 1_000)
    namespaces = st.sampled_from([REGISTRY_NAMESPACE, Namespace("alpha"), Namespace("beta")])
    drawn = draw(st.lists(st.tuples(namespaces, statements), max_size=8))
    payloads = [*drawn, (REGISTRY_NAMESPACE, draw(statements))]
    bundles = [
        AdmittedBundle(
            BundleId(number.to_bytes(32, "big")), (Transaction(*each),), (transaction_hash(*each),), 30_000
        )
        for number, each in enumerate(payloads)
    ]
    block = build_block(tip, 1_100, bundles)
    ours = [decode_entry(each) for each in block.entries[REGISTRY_NAMESPACE]]
    proven = ProvenHeader(block.header_bytes, draw(st.binary(min_size=64, max_size=64)))
    return draw(st.sampled_from(registrations_of(proven, decode_namespace_leaves(block.leaves_bytes), ours)))


entries: st.SearchStrategy[SettlementEntry] = st.one_of(
    st.builds(GenesisEntry, chain=chains, origin=st.from_regex(r"\A[!-*,-~]{1,255}\Z")),
    header_ranges(),
    commitments(),
    evidence(),
    registrations(),
)


@given(entries)
def test_an_entry_has_one_encoding(entry: SettlementEntry) -> None:
    encoded = encode_settlement_entry(entry)
    assert decode_settlement_entry(encoded) == entry
    assert_strict(encoded, decode=decode_settlement_entry, encode=encode_settlement_entry)


@given(proven_headers)
def test_a_proven_header_has_one_encoding(proven: ProvenHeader) -> None:
    encoded = encode_proven_header(proven)
    assert decode_proven_header(encoded) == proven
    assert_strict(encoded, decode=decode_proven_header, encode=encode_proven_header)


@given(st.binary(min_size=1, max_size=80))
def test_an_entry_of_log_has_one_encoding(checkpoint: bytes) -> None:
    encoded = encode_log_entry(checkpoint)
    assert decode_log_entry(encoded) == checkpoint
    assert_strict(encoded, decode=decode_log_entry, encode=encode_log_entry, has_rest=True)


@pytest.mark.parametrize("encoded", [b"", b"\x01", b"\x02note"])
def test_an_entry_of_log_holds_a_checkpoint(encoded: bytes) -> None:
    with pytest.raises(Malformed):
        decode_log_entry(encoded)


def decoded(name: str) -> list[Any]:
    """Return the valid entries of a type among the vectors."""
    cases = [case for case in VECTORS["entries"] if case["valid"] and case["type"] == name]
    return [decode_settlement_entry(bytes.fromhex(case["encoded"])) for case in cases]


def test_commitments_are_signed_by_the_attester_that_they_name() -> None:
    entry = decoded("CommitmentEntry")[0]
    verify_commitment(entry)
    forged = sign_commitment(ATTESTER, entry.posted)
    with pytest.raises(BadSignature):
        verify_commitment(forged)
    other_body = bytearray(entry.body)
    other_body[-1] ^= 1
    with pytest.raises(BadSignature):
        verify_commitment(replace(entry, body=bytes(other_body)))


def test_headers_are_proven_by_the_sequencer() -> None:
    proven = decoded("HeaderRange")[0].last
    sequencer = PublicKey(bytes.fromhex(VECTORS["sequencer"]))
    verify_proven_header(sequencer, proven)
    with pytest.raises(BadSignature):
        verify_proven_header(ATTESTER.public_key, proven)


@pytest.mark.parametrize("case", VECTORS["entries"])
def test_entry_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_settlement_entry(encoded)
        return
    entry = decode_settlement_entry(encoded)
    assert type(entry).__name__ == case["type"]
    assert plain(entry) == case["fields"]
    assert encode_settlement_entry(entry) == encoded


def test_log_entry_vector() -> None:
    vector = VECTORS["log_entry"]
    assert decode_log_entry(bytes.fromhex(vector["encoded"])).hex() == vector["checkpoint"]
