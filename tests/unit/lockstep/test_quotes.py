"""Signed quotes: one encoding, the maker's signature, every bound from both sides."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.quotes import Pair, Quote, RollupAsset, SignedQuote, decode_quote, is_signed, sign_quote
from lockstep.types import ChainId, RollupId, Signature
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_quotes
from tests.vectors.generate_quotes import raw_quote
from tests.vectors.generate_registry import key_of
from tests.vectors.plain import plain

VECTORS: dict[str, Any] = json.loads((Path(generate_quotes.__file__).parent / "quotes.json").read_text())

ALICE, BOB = key_of("alice"), key_of("bob")
SAMPLE = decode_quote(raw_quote(premium_amount=5)).quote

assets = st.builds(
    RollupAsset, st.from_regex(r"\A[a-z0-9-]{1,32}\Z").map(RollupId), st.binary(min_size=1, max_size=32)
)


@st.composite
def quotes_of_any_kind(draw: st.DrawFn) -> Quote:
    give, get = draw(st.lists(assets, min_size=2, max_size=2, unique=True))
    give_amount = draw(st.integers(1, limits.AMOUNT_MAX))
    valid_until_ms = draw(st.integers(0, 2**63 - 1 - limits.REVEAL_WINDOW_MS_MIN))
    return Quote(
        chain=ChainId(draw(st.binary(min_size=32, max_size=32))),
        maker=ALICE.public_key,
        quote_id=draw(st.binary(min_size=16, max_size=16)),
        pair=Pair(give, get),
        give_amount=give_amount,
        get_amount=draw(st.integers(1, limits.AMOUNT_MAX)),
        premium_amount=draw(st.integers(0, limits.AMOUNT_MAX - give_amount)),
        valid_until_ms=valid_until_ms,
        expires_by_ms=draw(st.integers(valid_until_ms + limits.REVEAL_WINDOW_MS_MIN, 2**63 - 1)),
    )


@given(quotes_of_any_kind())
def test_a_quote_has_one_encoding_and_is_its_makers(quote: Quote) -> None:
    signed = decode_quote(sign_quote(ALICE, quote))
    assert signed.quote == quote
    assert is_signed(signed)
    assert not is_signed(decode_quote(sign_quote(BOB, quote)))
    assert decode_quote(signed.encoded) == signed


def test_the_codec_is_strict() -> None:
    # 64 bytes of signature may be any: `is_signed` judges them.
    assert_strict(raw_quote(), decode=decode_quote, encode=lambda signed: signed.encoded)


@given(st.binary(max_size=400))
def test_any_bytes_are_answered(encoded: bytes) -> None:
    try:
        decoded = decode_quote(encoded)
    except Malformed:
        return
    assert decoded.encoded == encoded


@pytest.mark.parametrize("case", VECTORS["quotes"], ids=lambda case: case["why"])
def test_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_quote(encoded)
        return
    signed = decode_quote(encoded)
    assert plain(signed.quote) == case["fields"]
    assert is_signed(signed) is case["signed"]
    if case["signed"]:
        key = next(key for key in (ALICE, BOB) if key.public_key == signed.quote.maker)
        assert sign_quote(key, signed.quote) == encoded


def test_every_byte_is_signed() -> None:
    encoded = raw_quote()
    for position in range(len(encoded)):
        changed = bytearray(encoded)
        changed[position] ^= 1
        try:
            signed = decode_quote(bytes(changed))
        except Malformed:
            continue
        assert not is_signed(signed), position


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quote_id": bytes(15)}, "give.rollup"),  # a byte early, and empty therefore
        ({"give_amount": 0}, "give_amount"),
        ({"get_amount": limits.AMOUNT_MAX + 1}, "a field"),
        ({"premium_amount": limits.AMOUNT_MAX}, "premium_amount"),
        ({"expires_by_ms": SAMPLE.valid_until_ms}, "expires_by_ms"),
        ({"pair": Pair(SAMPLE.pair.give, SAMPLE.pair.give)}, "get"),
    ],
)
def test_what_none_decode_to_is_not_signed(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as raised:
        sign_quote(ALICE, replace(SAMPLE, **changes))
    assert raised.value.field == field


def test_a_pair_is_told_in_words() -> None:
    assert str(SAMPLE.pair) == "gold on alpha for silver on beta"
    assert str(RollupAsset(RollupId("alpha"), b"\xff")) == "\\xff on alpha"


def test_a_signature_of_another_length_is_none() -> None:
    signed = decode_quote(raw_quote())
    assert not is_signed(SignedQuote(Signature(b""), signed.body, signed.quote))
