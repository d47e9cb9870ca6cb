"""Headers: 132 bytes, one parent, log time that advances a little, and the sequencer's signature."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.errors import BadSignature, Discontinuous, Malformed
from lockstep.header import (
    HEADER_BYTES,
    Header,
    Tip,
    decode_header,
    encode_header,
    genesis_tip,
    header_hash,
    sign_header,
    tip_of,
    verify_follows,
    verify_header_signature,
)
from lockstep.signing import SigningKey
from lockstep.types import ChainId, HeaderHash, Height, PublicKey
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_order
from tests.vectors.plain import plain

VECTORS: dict[str, Any] = json.loads((Path(generate_order.__file__).parent / "header.json").read_text())

SEQUENCER, STRANGER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)

hashes = st.binary(min_size=32, max_size=32)
u32s = st.integers(0, 2**32 - 1)

headers = st.builds(
    Header,
    chain=hashes.map(ChainId),
    height=st.integers(1, 2**63 - 1).map(Height),
    parent_hash=hashes.map(HeaderHash),
    time_ms=st.integers(0, 2**63 - 1),
    data_root=hashes,
    namespace_count=st.integers(0, 2**16 - 1),
    bundle_count=u32s,
    transaction_count=u32s,
    payload_bytes=st.integers(0, 2**64 - 1),
)

SAMPLE = generate_order.sample_header()
PARENT = Tip(SAMPLE.chain, Height(SAMPLE.height - 1), SAMPLE.parent_hash, SAMPLE.time_ms - 250)


def tip_from(case: dict[str, Any]) -> Tip:
    return Tip(
        chain=ChainId(bytes.fromhex(case["chain"])),
        height=Height(int(case["height"])),
        hash=HeaderHash(bytes.fromhex(case["hash"])),
        time_ms=int(case["time_ms"]),
    )


# --- bytes --------------------------------------------------------------------------------------------------


@given(headers)
def test_a_header_has_one_encoding(header: Header) -> None:
    encoded = encode_header(header)
    assert len(encoded) == HEADER_BYTES == 132
    assert decode_header(encoded) == header
    assert header_hash(encoded) == sha256(b"lockstep/v1/header\x00" + encoded).digest()


def test_the_codec_is_strict() -> None:
    assert_strict(encode_header(SAMPLE), decode=decode_header, encode=encode_header)


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({"height": 0}, False),
        ({"height": 1}, True),
        ({"height": 2**63 - 1}, True),
        ({"height": 2**63}, False),
        ({"time_ms": 0}, True),
        ({"time_ms": 2**63 - 1}, True),
        ({"time_ms": 2**63}, False),
    ],
)
def test_height_and_time_keep_their_bounds(changes: dict[str, int], valid: bool) -> None:
    header = replace(SAMPLE, **changes)  # type: ignore[arg-type]
    if valid:
        assert decode_header(encode_header(header)) == header
        return
    with pytest.raises(Malformed, match="height"):
        decode_header(encode_header(header))


@pytest.mark.parametrize("version", [0, 2, 0x0100, 0xFFFF])
def test_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(Malformed, match=f"version is {version}"):
        decode_header(version.to_bytes(2, "big") + encode_header(SAMPLE)[2:])


@pytest.mark.parametrize("case", VECTORS["headers"])
def test_header_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_header(encoded)
        return
    header = decode_header(encoded)
    assert plain(header) == case["fields"]
    assert encode_header(header) == encoded
    assert header_hash(encoded).hex() == case["hash"]


# --- signatures ---------------------------------------------------------------------------------------------


@given(headers, headers)
def test_a_header_is_signed_by_its_sequencer(header: Header, other: Header) -> None:
    encoded = encode_header(header)
    signature = sign_header(SEQUENCER, encoded)
    verify_header_signature(SEQUENCER.public_key, encoded, signature)
    with pytest.raises(BadSignature, match=STRANGER.public_key.hex()):
        verify_header_signature(STRANGER.public_key, encoded, signature)
    if other != header:
        with pytest.raises(BadSignature):
            verify_header_signature(SEQUENCER.public_key, encode_header(other), signature)


@pytest.mark.parametrize("case", VECTORS["signatures"])
def test_signature_vectors(case: dict[str, Any]) -> None:
    sequencer = PublicKey(bytes.fromhex(case["sequencer"]))
    encoded, signature = bytes.fromhex(case["encoded"]), bytes.fromhex(case["signature"])
    if case["valid"]:
        verify_header_signature(sequencer, encoded, signature)
        return
    with pytest.raises(BadSignature):
        verify_header_signature(sequencer, encoded, signature)


# --- the chain ----------------------------------------------------------------------------------------------


def test_the_tip_at_genesis_is_the_chain_itself() -> None:
    chain = ChainId(b"\x07" * 32)
    assert genesis_tip(chain, 1_000) == Tip(chain, Height(0), HeaderHash(chain), 1_000)


@given(headers)
def test_a_header_becomes_the_tip(header: Header) -> None:
    hashed = header_hash(encode_header(header))
    tip = tip_of(header, hashed)
    assert tip == Tip(header.chain, header.height, hashed, header.time_ms)


@given(st.lists(st.integers(1, 2_000), max_size=10))
def test_a_chain_of_headers_continues_itself(advances: list[int]) -> None:
    tip = genesis_tip(SAMPLE.chain, 0)
    for place, advance_ms in enumerate(advances):
        header = replace(
            SAMPLE, height=Height(place + 1), parent_hash=tip.hash, time_ms=tip.time_ms + advance_ms
        )
        verify_follows(header, tip)
        tip = tip_of(header, header_hash(encode_header(header)))
    assert tip.time_ms == sum(advances)


@pytest.mark.parametrize("advance_ms", [1, 2, 1_999, 2_000])
def test_log_time_advances_within_bounds(advance_ms: int) -> None:
    verify_follows(replace(SAMPLE, time_ms=PARENT.time_ms + advance_ms), PARENT)


@pytest.mark.parametrize("advance_ms", [-PARENT.time_ms, -1, 0, 2_001, 2**62])
def test_log_time_advances_no_further(advance_ms: int) -> None:
    with pytest.raises(Discontinuous, match=f"advances log time by {advance_ms} ms"):
        verify_follows(replace(SAMPLE, time_ms=PARENT.time_ms + advance_ms), PARENT)


def test_the_first_rule_that_is_broken_is_named() -> None:
    header = Header(ChainId(b"\x09" * 32), Height(77), HeaderHash(b"\x09" * 32), 0, bytes(32), 0, 0, 0, 0)
    for reason, repaired in (
        ("belongs to chain", {"chain": PARENT.chain}),
        ("has height 77 after 8", {"height": 9}),
        ("continues", {"parent_hash": PARENT.hash}),
        ("advances log time", {"time_ms": PARENT.time_ms + 1}),
    ):
        with pytest.raises(Discontinuous, match=reason):
            verify_follows(header, PARENT)
        header = replace(header, **repaired)
    verify_follows(header, PARENT)


@pytest.mark.parametrize("case", VECTORS["continuations"], ids=lambda case: case["why"])
def test_continuation_vectors(case: dict[str, Any]) -> None:
    header, parent = decode_header(bytes.fromhex(case["encoded"])), tip_from(case["parent"])
    if case["valid"]:
        verify_follows(header, parent)
        return
    with pytest.raises(Discontinuous):
        verify_follows(header, parent)
