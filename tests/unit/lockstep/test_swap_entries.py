"""Entries of `_swap`: one reading each, and signatures over the very bytes, for one kind alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.hashing import SIGN_ATTESTATION, SIGN_CANCEL
from lockstep.signing import SigningKey, verify
from lockstep.swap_entries import (
    Attest,
    Attestation,
    AttestItem,
    Cancel,
    Open,
    RejectReason,
    Reveal,
    Verdict,
    decode_swap_entry,
    encode_attestation,
    encode_open,
    encode_reveal,
    encode_swap_entry,
    sign_attestation,
    sign_cancel,
)
from lockstep.terms import decode_terms, swap_id_of
from lockstep.types import ChainId, HeaderHash, Height, PublicKey, RollupId, SwapId
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_swaps
from tests.vectors.generate_swaps import CHAIN, raw_attest, raw_attestation, raw_terms
from tests.vectors.plain import plain

VECTORS: dict[str, Any] = json.loads((Path(generate_swaps.__file__).parent / "swap_entries.json").read_text())
ENTRIES: dict[str, bytes] = generate_swaps.valid_entries()

KEY = SigningKey(b"\x01" * 32)

hashes = st.binary(min_size=32, max_size=32)
verdicts = st.one_of(
    st.just((Verdict.LOCKED, RejectReason.NONE)),
    st.tuples(
        st.just(Verdict.REJECTED),
        st.sampled_from([reason for reason in RejectReason if reason != RejectReason.NONE]),
    ),
)
item_lists = st.dictionaries(st.tuples(hashes, st.integers(0, 255)), verdicts, min_size=1, max_size=5).map(
    lambda found: tuple(AttestItem(SwapId(key[0]), key[1], *found[key]) for key in sorted(found))
)
attestations = st.builds(
    Attestation,
    chain=hashes.map(ChainId),
    rollup=st.from_regex(r"\A[a-z0-9-]{1,32}\Z").map(RollupId),
    attester=hashes.map(PublicKey),
    executed_height=st.integers(1, 2**63 - 1).map(Height),
    header_hash=hashes.map(HeaderHash),
    items=item_lists,
)


def attestation_of(encoded: bytes) -> Attestation:
    entry = decode_swap_entry(encoded)
    assert isinstance(entry, Attest)
    return entry.attestation


SAMPLE = attestation_of(ENTRIES["an Attest of every verdict and reason"])


# --- each kind ----------------------------------------------------------------------------------------------


def test_an_open_holds_terms_and_their_id() -> None:
    terms_bytes = raw_terms()
    entry = decode_swap_entry(encode_open(terms_bytes))
    assert entry == Open(swap_id_of(terms_bytes), terms_bytes, decode_terms(terms_bytes))


@given(attestations)
def test_an_attestation_is_signed_over_its_bytes(attestation: Attestation) -> None:
    encoded = sign_attestation(KEY, attestation)
    entry = decode_swap_entry(encoded)
    assert isinstance(entry, Attest)
    assert entry.attestation == attestation
    assert entry.body == encode_attestation(attestation) == encoded[66:]
    assert verify(SIGN_ATTESTATION, KEY.public_key, entry.body, entry.signature)
    assert not verify(SIGN_CANCEL, KEY.public_key, entry.body, entry.signature)
    assert encode_swap_entry(entry) == encoded


@given(hashes.map(SwapId), hashes)
def test_a_reveal_holds_32_bytes(swap_id: SwapId, preimage: bytes) -> None:
    entry = decode_swap_entry(encode_reveal(swap_id, preimage))
    assert entry == Reveal(swap_id, preimage)
    assert encode_swap_entry(entry) == encode_reveal(swap_id, preimage)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_preimage_of_another_length_is_not_encoded(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encode_reveal(SwapId(bytes(32)), bytes(length))
    with pytest.raises(Malformed):
        decode_swap_entry(b"\x01\x03" + bytes(32) + bytes(length))


@given(hashes.map(ChainId), hashes.map(SwapId))
def test_a_cancel_is_signed_for_chain_and_swap(chain: ChainId, swap_id: SwapId) -> None:
    encoded = sign_cancel(KEY, chain, swap_id)
    entry = decode_swap_entry(encoded)
    assert isinstance(entry, Cancel)
    assert (entry.chain, entry.swap_id, entry.body) == (chain, swap_id, chain + swap_id)
    assert verify(SIGN_CANCEL, KEY.public_key, entry.body, entry.signature)
    assert not verify(SIGN_ATTESTATION, KEY.public_key, entry.body, entry.signature)
    assert encode_swap_entry(entry) == encoded


@pytest.mark.parametrize("name", [name for name in ENTRIES if len(ENTRIES[name]) < 1_000])
def test_the_codec_is_strict(name: str) -> None:
    assert_strict(ENTRIES[name], decode=decode_swap_entry, encode=encode_swap_entry)


@given(st.sampled_from([each for each in ENTRIES.values() if len(each) < 1_000]), st.data())
def test_mutated_bytes_are_refused_or_are_another_entry(encoded: bytes, data: st.DataObject) -> None:
    mutated = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        entry = decode_swap_entry(bytes(mutated))
    except Malformed:
        return
    assert encode_swap_entry(entry) == mutated


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(encoded: bytes) -> None:
    try:
        entry = decode_swap_entry(encoded)
    except Malformed:
        return
    assert encode_swap_entry(entry) == encoded


@pytest.mark.parametrize("kind", [0, *range(5, 256)])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(Malformed, match=f"kind {kind} is unknown"):
        decode_swap_entry(b"\x01" + bytes([kind]) + ENTRIES["a Reveal"][2:])


# --- attestations -------------------------------------------------------------------------------------------


def item(swap: int, leg: int, verdict: int = 1, reason: int = 0) -> tuple[bytes, int, int, int]:
    return (bytes([swap]) * 32, leg, verdict, reason)


@pytest.mark.parametrize("verdict", [0, *range(3, 256)])
def test_an_unknown_verdict_is_refused(verdict: int) -> None:
    with pytest.raises(Malformed, match="verdict"):
        decode_swap_entry(raw_attest(items=[item(1, 0, verdict, 1)]))


@pytest.mark.parametrize("reason", range(256))
def test_a_reason_goes_with_its_verdict(reason: int) -> None:
    known = reason in (1, 2, 3, 4, 5, 255)
    for verdict, valid in ((1, reason == 0), (2, known)):
        encoded = raw_attest(items=[item(1, 0, verdict, reason)])
        if valid:
            assert attestation_of(encoded).items[0].reason == reason
            continue
        with pytest.raises(Malformed, match="reason"):
            decode_swap_entry(encoded)


def test_names_of_verdicts_and_reasons_are_those_of_the_specification() -> None:
    assert {each.name: each.value for each in Verdict} == {"LOCKED": 1, "REJECTED": 2}
    assert {each.name: each.value for each in RejectReason} == {
        "NONE": 0,
        "INSUFFICIENT_FUNDS": 1,
        "UNKNOWN_ASSET": 2,
        "TOO_MANY_OPEN_LOCKS": 3,
        "BELOW_MINIMUM": 4,
        "UNREADABLE_RECIPIENT": 5,
        "OTHER": 255,
    }


@pytest.mark.parametrize(
    ("places", "ascending"),
    [
        ([(1, 0)], True),
        ([(1, 0), (1, 1)], True),
        ([(1, 0), (1, 255), (2, 0)], True),
        ([(1, 9), (2, 0)], True),
        ([(1, 0), (1, 0)], False),
        ([(1, 1), (1, 0)], False),
        ([(2, 0), (1, 1)], False),
        ([(1, 0), (3, 0), (2, 0)], False),
        ([(1, 0), (2, 0), (1, 0)], False),
        ([(1, 0), (2, 0), (2, 0)], False),
    ],
)
def test_items_ascend_strictly_by_swap_and_leg(places: list[tuple[int, int]], ascending: bool) -> None:
    encoded = raw_attest(items=[item(*place) for place in places])
    if ascending:
        assert [(each.swap_id[0], each.leg) for each in attestation_of(encoded).items] == places
        return
    with pytest.raises(Malformed, match="not strictly ascending"):
        decode_swap_entry(encoded)


def test_the_most_items_fit_a_payload() -> None:
    most = ENTRIES["an Attest of the most items"]
    assert len(attestation_of(most).items) == limits.ATTESTATION_ITEMS_MAX == 1_024
    assert len(most) + 31 <= limits.PAYLOAD_BYTES_MAX
    with pytest.raises(Malformed, match="is 1025, allowed are 1 to 1024"):
        decode_swap_entry(raw_attest(items=generate_swaps.numbered_items(1_025)))


@pytest.mark.parametrize(
    "changes",
    [
        {"items": ()},
        {"items": (SAMPLE.items[1], SAMPLE.items[0])},
        {"items": (SAMPLE.items[0], SAMPLE.items[0])},
        {"items": SAMPLE.items * 200},
        {"items": SAMPLE.items * 20_000},
        {"items": (replace(SAMPLE.items[0], reason=RejectReason.OTHER),)},
        {"items": (replace(SAMPLE.items[0], verdict=Verdict.REJECTED),)},
        {"items": (replace(SAMPLE.items[0], leg=256),)},
        {"items": (replace(SAMPLE.items[0], swap_id=SwapId(bytes(31))),)},
        {"executed_height": Height(0)},
        {"executed_height": Height(-1)},
        {"executed_height": Height(2**63)},
        {"executed_height": Height(2**64)},
        {"rollup": RollupId("")},
        {"rollup": RollupId("Alpha")},
        {"rollup": RollupId("_swap")},
        {"rollup": RollupId("Ω")},
        {"rollup": RollupId("a" * 33)},
        {"rollup": RollupId("a" * 300)},
        {"chain": ChainId(bytes(31))},
        {"attester": PublicKey(bytes(33))},
        {"header_hash": HeaderHash(b"")},
    ],
)
def test_what_none_could_read_is_not_signed(changes: dict[str, Any]) -> None:
    assert encode_attestation(SAMPLE)
    with pytest.raises(Malformed):
        sign_attestation(KEY, replace(SAMPLE, **changes))


# --- vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["entries"], ids=lambda case: case["why"])
def test_entry_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_swap_entry(encoded)
        return
    entry = decode_swap_entry(encoded)
    assert type(entry).__name__ == case["kind"]
    assert encode_swap_entry(entry) == encoded
    if "fields" in case:
        assert plain(entry) == case["fields"]
    if isinstance(entry, Attest):
        attester = bytes.fromhex(VECTORS["attester"])
        assert entry.attestation.attester == attester
        assert verify(SIGN_ATTESTATION, attester, entry.body, entry.signature)
    if isinstance(entry, Cancel):
        assert verify(SIGN_CANCEL, bytes.fromhex(VECTORS["revealer"]), entry.body, entry.signature)


def test_our_encoder_makes_what_the_specification_says() -> None:
    body = raw_attestation()
    attestation = attestation_of(raw_attest())
    assert encode_attestation(attestation) == body
    assert attestation.chain == CHAIN
