"""What is asked of makers, and which quotes answer it: every rule from both sides, and their order."""

from dataclasses import replace
from typing import Any

import pytest

from lockstep.errors import BadSignature, Expired, LockstepError, Malformed, TooFarAhead, WrongChain
from lockstep.quote_requests import (
    QuoteRequest,
    best_first,
    read_pair,
    read_quote_request,
    verify_answer,
    verify_fresh,
)
from lockstep.quotes import Pair, Quote, RollupAsset, SignedQuote, decode_quote, sign_quote
from lockstep.types import ChainId, RollupId
from tests.vectors.generate_quotes import VALID_UNTIL_MS, raw_quote
from tests.vectors.generate_registry import key_of
from tests.vectors.generate_swaps import CHAIN

ALICE, BOB = key_of("alice"), key_of("bob")
GOLD, SILVER = RollupAsset(RollupId("alpha"), b"gold"), RollupAsset(RollupId("beta"), b"silver")
PAIR = Pair(GOLD, SILVER)
SELL = QuoteRequest(PAIR, give_amount=1_000, get_amount=None)
BUY = QuoteRequest(PAIR, give_amount=None, get_amount=7)


def quote_of(**changes: Any) -> Quote:  # noqa: ANN401 - fields of Quote
    return replace(decode_quote(raw_quote()).quote, **changes)


def signed(**changes: Any) -> bytes:  # noqa: ANN401 - fields of Quote
    return sign_quote(ALICE, quote_of(**changes))


# --- what is asked ----------------------------------------------------------------------------------------


def read(**changes: Any) -> QuoteRequest:  # noqa: ANN401 - arguments of read_quote_request
    stated: dict[str, Any] = {
        "give": ("alpha", "gold"),
        "give_amount": "1000",
        "get": ("beta", "silver"),
        "get_amount": "",
    }
    return read_quote_request(**stated | changes)


def test_requests_are_read() -> None:
    assert read() == SELL
    assert read(give_amount="", get_amount="7") == BUY
    assert read(give_amount=str(2**128 - 1)).give_amount == 2**128 - 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"give": ("Alpha", "gold")}, "give.rollup"),
        ({"get": ("_swap", "gold")}, "get.rollup"),
        ({"get": ("", "gold")}, "get.rollup"),
        ({"give": ("alpha", "")}, "give.asset"),
        ({"give": ("alpha", "a" * 33)}, "give.asset"),
        ({"get": ("alpha", "gold")}, "get"),
        ({"give_amount": ""}, "give_amount"),
        ({"get_amount": "7"}, "give_amount"),
        ({"give_amount": "0"}, "give_amount"),
        ({"give_amount": "-1"}, "give_amount"),
        ({"give_amount": "1.5"}, "give_amount"),
        ({"give_amount": "01"}, "give_amount"),
        ({"give_amount": "\N{ARABIC-INDIC DIGIT FIVE}"}, "give_amount"),
        ({"give_amount": str(2**128)}, "give_amount"),
        ({"give_amount": "1" * 10_000}, "give_amount"),
        ({"give_amount": "", "get_amount": "x"}, "get_amount"),
    ],
)
def test_what_is_malformed_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as raised:
        read(**changes)
    assert raised.value.field == field


def test_pairs_have_a_direction() -> None:
    assert read_pair(("alpha", "gold"), ("beta", "silver")) == PAIR
    assert read_pair(("beta", "silver"), ("alpha", "gold")) != PAIR
    assert read_pair(("alpha", "gold"), ("beta", "gold")).get.asset == b"gold"


# --- which quotes answer it -------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [SELL, BUY])
def test_an_answer_is_read(request_: QuoteRequest) -> None:
    found = verify_answer(signed(), request_, chain=CHAIN, maker=ALICE.public_key)
    assert found.quote == quote_of()
    assert verify_answer(signed(), request_, chain=CHAIN) == found


WRONG: dict[str, tuple[bytes, QuoteRequest, type[LockstepError], str]] = {
    "layout": (b"", SELL, Malformed, "signature"),
    "chain": (signed(chain=ChainId(bytes(32))), SELL, WrongChain, "made for chain"),
    "maker": (sign_quote(BOB, quote_of(maker=BOB.public_key)), SELL, Malformed, "maker"),
    "pair": (signed(pair=Pair(SILVER, GOLD)), SELL, Malformed, "pair is silver on beta for gold on alpha"),
    "give_amount": (signed(give_amount=999), SELL, Malformed, "give_amount is 999, asked was 1000"),
    "get_amount": (signed(get_amount=8), BUY, Malformed, "get_amount is 8, asked was 7"),
    "signature": (sign_quote(BOB, quote_of()), SELL, BadSignature, ALICE.public_key.hex()),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_does_not_answer_it_is_refused(why: str) -> None:
    encoded, request, kind, says = WRONG[why]
    with pytest.raises(kind, match=says):
        verify_answer(encoded, request, chain=CHAIN, maker=ALICE.public_key)


def test_the_first_fault_is_named() -> None:
    everything = sign_quote(
        BOB, quote_of(chain=ChainId(bytes(32)), pair=Pair(SILVER, GOLD), give_amount=1, get_amount=1)
    )
    with pytest.raises(WrongChain):
        verify_answer(everything, SELL, chain=CHAIN, maker=BOB.public_key)


def test_a_quote_is_fresh_until_its_time() -> None:
    verify_fresh(quote_of(), time_ms=VALID_UNTIL_MS - 1)
    verify_fresh(quote_of(), time_ms=VALID_UNTIL_MS - 600_000)
    with pytest.raises(Expired):
        verify_fresh(quote_of(), time_ms=VALID_UNTIL_MS)
    with pytest.raises(TooFarAhead):
        verify_fresh(quote_of(), time_ms=VALID_UNTIL_MS - 600_001)


# --- which is best ----------------------------------------------------------------------------------------


def ranked(*changes: dict[str, Any]) -> list[int]:
    """Return the places of quotes with these changes, best first."""
    quotes: list[SignedQuote] = [
        decode_quote(signed(quote_id=bytes([place] * 16), **each)) for place, each in enumerate(changes)
    ]
    return [each.quote.quote_id[0] for each in best_first(quotes)]


def test_the_most_to_get_is_best() -> None:
    assert ranked({"get_amount": 7}, {"get_amount": 9}, {"get_amount": 8}) == [1, 2, 0]


def test_the_least_to_give_is_best() -> None:
    assert ranked({"give_amount": 8}, {"give_amount": 7}, {"give_amount": 9}) == [1, 0, 2]


def test_a_smaller_premium_and_then_an_earlier_answer_is_better() -> None:
    assert ranked({"premium_amount": 2}, {}, {"premium_amount": 1}, {}) == [1, 3, 2, 0]
    assert ranked({"premium_amount": 2, "get_amount": 8}, {}) == [0, 1]
