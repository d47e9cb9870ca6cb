"""A taker's side of quotes: what was offered, turned into a swap.

Owns which legs, premium and times keep a quote. Asking is `BridgeClient.request_quotes`, whose answers are
checked: each is signed by the maker that it names, for what was asked. A quote binds nobody. A maker that
does not lock, after all, costs its taker the time until `lock_by_ms`, and no funds.
"""

from dataclasses import dataclass

from bridge.client.trader import LOCK_WITHIN_MS, REVEAL_WITHIN_MS, Trader
from lockstep import limits
from lockstep.quote_requests import verify_fresh
from lockstep.quotes import Quote, legs_of, premium_of
from lockstep.terms import Leg, Premium
from lockstep.types import PublicKey


@dataclass(frozen=True, slots=True)
class TakenQuote:
    """A swap that keeps a quote: the arguments of `Trader.new_terms`."""

    legs: tuple[Leg, ...]
    """What the taker gives, and what it gets."""
    premium: Premium | None
    """What the taker pays if it does not reveal."""
    lock_within_ms: int
    """Log time from now within which every lock must be attested."""
    reveal_within_ms: int
    """Log time after that within which the taker must reveal."""


def take_quote(
    quote: Quote,
    taker: PublicKey,
    *,
    time_ms: int,
    lock_within_ms: int = LOCK_WITHIN_MS,
    reveal_within_ms: int = REVEAL_WITHIN_MS,
) -> TakenQuote:
    """Return the swap that a taker proposes at log time `time_ms` to have what was quoted.

    Times are shortened where the quote asks for less. The maker's lock is good until the quote's
    `valid_until_ms`: the taker's own must be given before. Raises Expired, or ValueError for the maker
    itself.
    """
    if taker == quote.maker:
        raise ValueError("this quote is the taker's own; a swap needs two parties")
    verify_fresh(quote, time_ms=time_ms)
    lock_within_ms = min(lock_within_ms, quote.expires_by_ms - limits.REVEAL_WINDOW_MS_MIN - time_ms)
    latest_ms = quote.expires_by_ms - time_ms - lock_within_ms
    return TakenQuote(
        legs_of(quote, taker), premium_of(quote, 0), lock_within_ms, min(reveal_within_ms, latest_ms)
    )


def terms_of_quote(quote: Quote, taker: Trader, *, time_ms: int) -> bytes:
    """Return new terms of a taker's that keep a quote; errors as in `take_quote`."""
    taken = take_quote(quote, taker.account, time_ms=time_ms)
    return taker.new_terms(
        taken.legs,
        time_ms=time_ms,
        lock_within_ms=taken.lock_within_ms,
        reveal_within_ms=taken.reveal_within_ms,
        premium=taken.premium,
    )
