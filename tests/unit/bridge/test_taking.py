"""A quote turned into terms, and terms held against a quote: what keeps it, and every way not to."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.client.quotes import take_quote, terms_of_quote
from lockstep import limits
from lockstep.errors import Expired, Malformed
from lockstep.quotes import Pair, Quote, RollupAsset, legs_of, premium_of, verify_kept
from lockstep.terms import LegKind, Premium, PremiumShare, Terms, decode_terms
from lockstep.types import ChainId
from tests.unit.bridge.chain import ALPHA, ANN, BETA, BOB, CHAIN, EVE, TIME_MS

QUOTE = Quote(
    chain=CHAIN,
    maker=BOB.account,
    quote_id=bytes(16),
    pair=Pair(RollupAsset(ALPHA, b"RED"), RollupAsset(BETA, b"BLUE")),
    give_amount=100,
    get_amount=200,
    premium_amount=3,
    valid_until_ms=TIME_MS + 10_000,
    expires_by_ms=TIME_MS + 70_000,
)
TERMS = decode_terms(terms_of_quote(QUOTE, ANN, time_ms=TIME_MS))


# --- a taker ----------------------------------------------------------------------------------------------


def test_terms_of_a_quote_keep_it() -> None:
    assert verify_kept(TERMS, QUOTE) == 1
    assert TERMS.legs == legs_of(QUOTE, ANN.account)
    assert TERMS.premium == Premium(0, (PremiumShare(BOB.account, 3),))
    assert (TERMS.lock_by_ms, TERMS.expires_ms) == (TIME_MS + 30_000, TIME_MS + 60_000)
    assert TERMS.revealer == ANN.account


@pytest.mark.parametrize("time_ms", [TIME_MS, TIME_MS + 5_000, QUOTE.valid_until_ms - 1])
@pytest.mark.parametrize("expires_within_ms", [15_000, 30_000, 50_000, 86_000_000])
@pytest.mark.parametrize("premium_amount", [0, 3])
def test_terms_keep_a_quote_whenever_it_is_taken(
    time_ms: int, expires_within_ms: int, premium_amount: int
) -> None:
    quote = replace(QUOTE, expires_by_ms=TIME_MS + expires_within_ms, premium_amount=premium_amount)
    terms = decode_terms(terms_of_quote(quote, ANN, time_ms=time_ms))
    assert verify_kept(terms, quote) == 1
    assert terms.lock_by_ms > time_ms
    assert (terms.premium is None) == (premium_amount == 0)


def test_times_are_only_shortened() -> None:
    taken = take_quote(QUOTE, ANN.account, time_ms=TIME_MS, lock_within_ms=7, reveal_within_ms=5_000)
    assert (taken.lock_within_ms, taken.reveal_within_ms) == (7, 5_000)
    tight = replace(QUOTE, expires_by_ms=TIME_MS + 15_000)
    taken = take_quote(tight, ANN.account, time_ms=TIME_MS + 9_999)
    assert (taken.lock_within_ms, taken.reveal_within_ms) == (1, limits.REVEAL_WINDOW_MS_MIN)


def test_what_is_over_and_what_is_ones_own_is_not_taken() -> None:
    with pytest.raises(Expired):
        take_quote(QUOTE, ANN.account, time_ms=QUOTE.valid_until_ms)
    with pytest.raises(ValueError, match="the taker's own"):
        take_quote(QUOTE, BOB.account, time_ms=TIME_MS)


# --- a maker ----------------------------------------------------------------------------------------------


def changed_leg(place: int, **changes: Any) -> Terms:  # noqa: ANN401 - fields of Leg
    legs = list(TERMS.legs)
    legs[place] = replace(legs[place], **changes)
    return replace(TERMS, legs=tuple(legs))


def test_the_order_of_the_legs_and_who_takes_does_not_matter() -> None:
    turned = replace(TERMS, legs=TERMS.legs[::-1], premium=Premium(1, (PremiumShare(BOB.account, 3),)))
    assert verify_kept(turned, QUOTE) == 0
    assert verify_kept(changed_leg(0, sender=EVE.account), QUOTE) == 1
    assert verify_kept(changed_leg(1, recipient=EVE.account), QUOTE) == 1
    assert verify_kept(replace(TERMS, revealer=EVE.account, salt=bytes(16)), QUOTE) == 1


NOT_KEPT: dict[str, tuple[Terms, str]] = {
    "another chain": (replace(TERMS, chain=ChainId(bytes(32))), "chain"),
    "a leg more": (replace(TERMS, legs=(*TERMS.legs, TERMS.legs[0])), "legs"),
    "the maker gives nothing": (changed_leg(1, sender=EVE.account), "legs"),
    "the maker gives more": (changed_leg(1, amount=201), "legs[1]"),
    "the maker gives less": (changed_leg(1, amount=199), "legs[1]"),
    "the maker gives another asset": (changed_leg(1, asset=b"RED"), "legs[1]"),
    "the maker gives elsewhere": (changed_leg(1, rollup=ALPHA), "legs[1]"),
    "the maker's is burnt": (changed_leg(1, kind=LegKind.BURN), "legs[1]"),
    "the maker gets less": (changed_leg(0, amount=99), "legs[0]"),
    "the maker gets another asset": (changed_leg(0, asset=b"BLUE"), "legs[0]"),
    "the maker gets elsewhere": (changed_leg(0, rollup=BETA), "legs[0]"),
    "what it gets is minted": (changed_leg(0, kind=LegKind.MINT), "legs[0]"),
    "somebody else gets it": (changed_leg(0, recipient=EVE.account), "legs[0].recipient"),
    "the maker gives both": (
        replace(TERMS, legs=(replace(TERMS.legs[1], amount=1), TERMS.legs[1])),
        "legs[0]",
    ),
    "no premium": (replace(TERMS, premium=None), "premium"),
    "a smaller premium": (replace(TERMS, premium=Premium(0, (PremiumShare(BOB.account, 2),))), "premium"),
    "a premium to somebody else": (
        replace(TERMS, premium=Premium(0, (PremiumShare(EVE.account, 3),))),
        "premium",
    ),
    "a premium that the maker pays": (replace(TERMS, premium=premium_of(QUOTE, 1)), "premium"),
    "too late an end": (replace(TERMS, expires_ms=QUOTE.expires_by_ms + 1), "expires_ms"),
}


@pytest.mark.parametrize("why", NOT_KEPT)
def test_what_does_not_keep_a_quote_is_named(why: str) -> None:
    terms, field = NOT_KEPT[why]
    with pytest.raises(Malformed) as raised:
        verify_kept(terms, QUOTE)
    assert raised.value.field == field


def test_a_premium_that_was_not_offered_is_none() -> None:
    free = replace(QUOTE, premium_amount=0)
    assert premium_of(free, 0) is None
    with pytest.raises(Malformed, match="premium"):
        verify_kept(TERMS, free)
    assert verify_kept(replace(TERMS, premium=None), free) == 1
