"""What a maker has offered, and which swap has taken it.

Owns the search for the quote that a swap keeps, and the bounds on what is remembered; does no I/O and knows
no clock: times are arguments, in seconds of one that only goes forward. Invariant: a quote is taken by one
swap, before it is over, and by terms that keep it.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, TypeAlias

from lockstep.errors import Malformed
from lockstep.quotes import Pair, Quote, RollupAsset, verify_kept
from lockstep.terms import Terms
from lockstep.types import PublicKey, SwapId

QUOTES_MAX: Final = 16_384
"""Quotes that are remembered at a time, and swaps that took one. The oldest is forgotten for a new one: who
asks all the time shortens how long quotes hold, and keeps nobody from being offered one."""

_Terms: TypeAlias = tuple[Pair, int, int]
"""By what a swap's quotes are found: the pair, what the taker gives, what it gets."""


@dataclass(frozen=True, slots=True)
class Given:
    """A quote that was given."""

    quote: Quote
    """What was offered."""
    over_s: float
    """When it is over."""


class Offered:
    """One maker's quotes."""

    def __init__(self, maker: PublicKey) -> None:
        """Remember what `maker` offers."""
        self._maker = maker
        self._open: dict[bytes, Given] = {}
        self._by_terms: dict[_Terms, dict[bytes, None]] = defaultdict(dict)
        self._taken: dict[SwapId, Given] = {}

    def add(self, given: Given, now_s: float) -> None:
        """Remember a quote. All are good for equally long: the oldest is over first."""
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.over_s > now_s and len(self._open) < QUOTES_MAX:
                break
            self._forget(oldest.quote)
        self._open[given.quote.quote_id] = given
        self._by_terms[_terms_of(given.quote)][given.quote.quote_id] = None

    def take(self, swap_id: SwapId, terms: Terms, now_s: float) -> Given | None:
        """Return the quote that a swap has taken, now or before; None if it takes none.

        Of several that it keeps, it is the one that holds longest: the swap was likely made for that.
        """
        if swap_id in self._taken:
            return self._taken[swap_id]
        sought = _terms_for(terms, self._maker)
        for quote_id in () if sought is None else reversed(self._by_terms.get(sought, {})):
            given = self._open[quote_id]
            if given.over_s > now_s and _is_kept(terms, given.quote):
                self._forget(given.quote)
                if len(self._taken) >= QUOTES_MAX:
                    # It is long over: a coordinator that lost it never tells its end.
                    del self._taken[next(iter(self._taken))]
                self._taken[swap_id] = given
                return given
        return None

    def end(self, swap_id: SwapId) -> Given | None:
        """Forget a swap that is over, and return the quote that it had taken, if any."""
        return self._taken.pop(swap_id, None)

    def _forget(self, quote: Quote) -> None:
        del self._open[quote.quote_id]
        same = self._by_terms[_terms_of(quote)]
        del same[quote.quote_id]
        if not same:
            del self._by_terms[_terms_of(quote)]


def _terms_of(quote: Quote) -> _Terms:
    return quote.pair, quote.give_amount, quote.get_amount


def _terms_for(terms: Terms, maker: PublicKey) -> _Terms | None:
    """Return by what the quote that terms may keep is found; None for terms that keep none."""
    if len(terms.legs) != 2:
        return None
    give, get = terms.legs if terms.legs[1].sender == maker else terms.legs[::-1]
    pair = Pair(RollupAsset(give.rollup, give.asset), RollupAsset(get.rollup, get.asset))
    return pair, give.amount, get.amount


def _is_kept(terms: Terms, quote: Quote) -> bool:
    try:
        verify_kept(terms, quote)
    except Malformed:
        return False
    return True
