"""Terms of swaps: one encoding, one id, every bound from both sides."""

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
from lockstep.terms import (
    Leg,
    LegKind,
    Premium,
    PremiumShare,
    Terms,
    decode_terms,
    encode_terms,
    swap_id_of,
)
from lockstep.types import ChainId, PublicKey, RollupId
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_swaps
from tests.vectors.generate_swaps import raw_leg, raw_premium, raw_terms
from tests.vectors.plain import plain

VECTORS: dict[str, Any] = json.loads((Path(generate_swaps.__file__).parent / "terms.json").read_text())

MOST = limits.AMOUNT_MAX

hashes = st.binary(min_size=32, max_size=32)
parties = st.binary(min_size=1, max_size=64)


@st.composite
def legs(draw: st.DrawFn) -> Leg:
    sender, recipient = draw(st.lists(parties, min_size=2, max_size=2, unique=True))
    return Leg(
        rollup=RollupId(draw(st.from_regex(r"\A[a-z0-9-]{1,32}\Z"))),
        kind=draw(st.sampled_from(LegKind)),
        sender=sender,
        recipient=recipient,
        asset=draw(st.binary(min_size=1, max_size=32)),
        amount=draw(st.integers(1, MOST)),
    )


@st.composite
def terms_of_any_kind(draw: st.DrawFn) -> Terms:
    found = tuple(draw(st.lists(legs(), min_size=2, max_size=4)))
    premium = None
    if draw(st.booleans()):
        leg = draw(st.integers(0, len(found) - 1))
        room = MOST - found[leg].amount
        amounts = draw(st.lists(st.integers(1, max(room // 16, 1)), min_size=1, max_size=16))
        if sum(amounts) <= room:
            premium = Premium(leg, tuple(PremiumShare(draw(parties), amount) for amount in amounts))
    lock_by_ms = draw(st.integers(0, 2**63 - 1 - limits.REVEAL_WINDOW_MS_MIN))
    return Terms(
        chain=ChainId(draw(hashes)),
        legs=found,
        hashlock=draw(hashes.filter(any)),
        lock_by_ms=lock_by_ms,
        expires_ms=draw(st.integers(lock_by_ms + limits.REVEAL_WINDOW_MS_MIN, 2**63 - 1)),
        revealer=PublicKey(draw(hashes)),
        premium=premium,
        salt=draw(st.binary(min_size=16, max_size=16)),
    )


SAMPLE = decode_terms(raw_terms(premiums=[raw_premium(1, ((b"carol", 2), (b"dave", 3)))]))


# --- bytes --------------------------------------------------------------------------------------------------


@given(terms_of_any_kind())
def test_terms_have_one_encoding(terms: Terms) -> None:
    encoded = encode_terms(terms)
    assert decode_terms(encoded) == terms
    assert encode_terms(decode_terms(encoded)) == encoded
    assert swap_id_of(encoded) == sha256(b"lockstep/v1/swap\x00" + encoded).digest()


@pytest.mark.parametrize("name", ["two legs", "a premium", "the shortest names", "a burn and a mint"])
def test_the_codec_is_strict(name: str) -> None:
    assert_strict(generate_swaps.valid_terms()[name], decode=decode_terms, encode=encode_terms)


@given(terms_of_any_kind(), st.data())
def test_mutated_bytes_are_refused_or_are_other_terms(terms: Terms, data: st.DataObject) -> None:
    mutated = bytearray(encode_terms(terms))
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_terms(bytes(mutated))
    except Malformed:
        return
    assert encode_terms(decoded) == mutated


@given(st.binary(max_size=120))
def test_any_bytes_are_answered(encoded: bytes) -> None:
    try:
        decoded = decode_terms(encoded)
    except Malformed:
        return
    assert encode_terms(decoded) == encoded


@pytest.mark.parametrize("case", VECTORS["terms"], ids=lambda case: case["why"])
def test_terms_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_terms(encoded)
        return
    terms = decode_terms(encoded)
    assert plain(terms) == case["fields"]
    assert encode_terms(terms) == encoded
    assert swap_id_of(encoded).hex() == case["swap_id"]


REASONS = {
    "one leg": ("leg_count", "is 1, allowed are 2 to 16"),
    "17 legs": ("leg_count", "is 17, allowed are 2 to 16"),
    "leg kind 4": ("legs[0].kind", "4 is unknown"),
    "a rollup with a byte beyond ASCII": ("legs[0].rollup", "does not match"),
    "a sender of 65 bytes": ("legs[0].sender", "has 65 bytes"),
    "the recipient is the sender": ("legs[1].recipient", "is the sender"),
    "an amount of zero": ("legs[1].amount", "is zero"),
    "a hashlock of zeros": ("hashlock", "all zeros"),
    "too little time to reveal": ("expires_ms", "5000 ms or more after lock_by_ms"),
    "it expires beyond 2^63-1": ("expires_ms", "beyond 2^63-1"),
    "two premiums": ("premium_count", "is 2"),
    "a premium on a leg that is not there": ("premium.leg", "is 2, the swap has 2 legs"),
    "a premium to 17 recipients": ("premium.count", "is 17"),
    "a share of zero": ("premium.shares[1].amount", "is zero"),
    "amount and shares exceed u128": ("premium.shares", "exceed 2^128-1"),
}


@pytest.mark.parametrize("why", REASONS)
def test_terms_are_refused_by_the_rule_that_they_break(why: str) -> None:
    field, reason = REASONS[why]
    with pytest.raises(Malformed) as caught:
        decode_terms(generate_swaps.invalid_terms()[why])
    assert (caught.value.what, caught.value.field) == ("terms", field)
    assert reason in caught.value.reason


# --- bounds, from the outside -------------------------------------------------------------------------------


def with_leg(**changes: Any) -> Terms:  # noqa: ANN401 - fields of a leg
    return replace(SAMPLE, legs=(replace(SAMPLE.legs[0], **changes), *SAMPLE.legs[1:]))


def with_shares(*amounts: int, leg: int = 1, recipient: bytes = b"carol") -> Terms:
    return replace(SAMPLE, premium=Premium(leg, tuple(PremiumShare(recipient, each) for each in amounts)))


VALID: dict[str, Terms] = {
    "as it is": SAMPLE,
    "two legs": replace(SAMPLE, legs=SAMPLE.legs[:2]),
    "16 legs": replace(SAMPLE, legs=SAMPLE.legs[:2] * 8),
    "parties of 1 byte": with_leg(sender=b"a", recipient=b"b"),
    "parties of 64 bytes": with_leg(sender=b"a" * 64, recipient=b"b" * 64),
    "an asset of 1 byte": with_leg(asset=b"a"),
    "an asset of 32 bytes": with_leg(asset=b"a" * 32),
    "the least amount": with_leg(amount=1),
    "the greatest amount": with_leg(amount=MOST),
    "16 shares": with_shares(*[1] * 16),
    "premium and amount are u128": with_shares(MOST - SAMPLE.legs[1].amount),
    "just time enough": replace(SAMPLE, expires_ms=SAMPLE.lock_by_ms + 5_000),
}

INVALID: dict[str, Terms] = {
    "no legs": replace(SAMPLE, legs=()),
    "one leg": replace(SAMPLE, legs=SAMPLE.legs[:1], premium=None),
    "17 legs": replace(SAMPLE, legs=SAMPLE.legs[:1] * 17),
    "256 legs": replace(SAMPLE, legs=SAMPLE.legs[:1] * 256),
    "258 legs": replace(SAMPLE, legs=SAMPLE.legs[:1] * 258),
    "no rollup": with_leg(rollup=""),
    "a rollup beyond the alphabet": with_leg(rollup="Ω"),
    "a rollup of 300 letters": with_leg(rollup="a" * 300),
    "an unknown kind": with_leg(kind=4),
    "a kind beyond a byte": with_leg(kind=257),
    "no sender": with_leg(sender=b""),
    "a sender of 65 bytes": with_leg(sender=b"a" * 65),
    "a recipient of 300 bytes": with_leg(recipient=b"a" * 300),
    "sender and recipient alike": with_leg(recipient=SAMPLE.legs[0].sender),
    "no asset": with_leg(asset=b""),
    "an asset of 33 bytes": with_leg(asset=b"a" * 33),
    "an amount of zero": with_leg(amount=0),
    "a negative amount": with_leg(amount=-1),
    "an amount beyond u128": with_leg(amount=MOST + 1),
    "no shares": with_shares(),
    "17 shares": with_shares(*[1] * 17),
    "a share of zero": with_shares(1, 0),
    "a share to nobody": with_shares(1, recipient=b""),
    "premium and amount beyond u128": with_shares(MOST - SAMPLE.legs[1].amount + 1),
    "a premium on no leg": with_shares(1, leg=2),
    "a premium on a negative leg": with_shares(1, leg=-1),
    "a hashlock of zeros": replace(SAMPLE, hashlock=bytes(32)),
    "a hashlock of 31 bytes": replace(SAMPLE, hashlock=SAMPLE.hashlock[:31]),
    "a chain of 33 bytes": replace(SAMPLE, chain=ChainId(bytes(33))),
    "a revealer of 31 bytes and a salt of 17": replace(
        SAMPLE, revealer=PublicKey(bytes(31)), salt=bytes(17), premium=None
    ),
    "a salt of 15 bytes": replace(SAMPLE, salt=bytes(15)),
    "a salt of 17 bytes": replace(SAMPLE, salt=bytes(17)),
    "too little time": replace(SAMPLE, expires_ms=SAMPLE.lock_by_ms + 4_999),
    "a negative time": replace(SAMPLE, lock_by_ms=-1),
    "a time of 2^63": replace(SAMPLE, expires_ms=2**63),
    "a time beyond u64": replace(SAMPLE, expires_ms=2**64),
}


@pytest.mark.parametrize("why", VALID)
def test_terms_up_to_their_bounds_encode(why: str) -> None:
    assert decode_terms(encode_terms(VALID[why])) == VALID[why]


@pytest.mark.parametrize("why", INVALID)
def test_terms_beyond_their_bounds_do_not_encode(why: str) -> None:
    with pytest.raises(Malformed):
        encode_terms(INVALID[why])


def test_terms_that_read_as_other_terms_do_not_encode() -> None:
    # Fields of wrong lengths that make up for each other: the bytes are those of other, valid terms.
    shifted = replace(SAMPLE, revealer=PublicKey(bytes(32) + b"\x00"), premium=None, salt=bytes(15))
    other = replace(SAMPLE, revealer=PublicKey(bytes(32)), premium=None, salt=bytes(16))
    assert encode_terms(other).endswith(bytes(49))
    with pytest.raises(Malformed, match="another length"):
        encode_terms(shifted)


# --- what terms say -----------------------------------------------------------------------------------------


def test_a_premium_is_held_by_its_leg_alone() -> None:
    assert SAMPLE.premium is not None
    assert SAMPLE.premium.total == 5
    assert [SAMPLE.premium_of(leg) for leg in range(3)] == [0, 5, 0]
    assert [replace(SAMPLE, premium=None).premium_of(leg) for leg in range(2)] == [0, 0]


def test_equal_swaps_are_kept_apart_by_their_salt() -> None:
    other = replace(SAMPLE, salt=bytes(16))
    assert swap_id_of(encode_terms(other)) != swap_id_of(encode_terms(SAMPLE))


def test_the_largest_terms_fit_a_payload() -> None:
    leg = raw_leg(rollup=b"r" * 32, sender=b"s" * 64, recipient=b"r" * 64, asset=b"a" * 32)
    largest = raw_terms(legs=[leg] * 16, premiums=[raw_premium(0, [(b"p" * 64, 1)] * 16)])
    decode_terms(largest)
    assert 2 + len(largest) <= limits.PAYLOAD_BYTES_MAX
