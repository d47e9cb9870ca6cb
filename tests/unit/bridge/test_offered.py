"""What a maker remembers of its quotes: one swap for each, until it is over, and no more than so many."""

from dataclasses import replace

import pytest

from bridge.client import offered
from bridge.client.offered import Given, Offered
from bridge.client.quotes import terms_of_quote
from lockstep.quotes import Quote
from lockstep.terms import Terms, decode_terms, swap_id_of
from lockstep.types import SwapId
from tests.unit.bridge.chain import ANN, BOB, TIME_MS
from tests.unit.bridge.test_taking import QUOTE


def numbered(number: int, **changes: int) -> Quote:
    return replace(QUOTE, quote_id=number.to_bytes(16, "big"), **changes)  # type: ignore[arg-type]


def swap_of(quote: Quote) -> tuple[SwapId, Terms]:
    """Return a new swap that keeps a quote."""
    encoded = terms_of_quote(quote, ANN, time_ms=TIME_MS)
    return swap_id_of(encoded), decode_terms(encoded)


def memory_of(*given: Given) -> Offered:
    made = Offered(BOB.account)
    for each in given:
        made.add(each, now_s=0)
    return made


def test_a_quote_is_taken_once_and_by_the_same_swap_again() -> None:
    given = Given(QUOTE, over_s=10)
    memory = memory_of(given)
    swap, another = swap_of(QUOTE), swap_of(QUOTE)
    assert memory.take(*swap, now_s=9.9) == given
    assert memory.take(*another, now_s=1) is None
    assert memory.take(*swap, now_s=99) == given, "once taken, it stays so"
    assert memory.end(swap[0]) == given
    assert memory.end(swap[0]) is None
    assert memory.take(*swap, now_s=1) is None


def test_a_quote_that_is_over_is_not_taken() -> None:
    assert memory_of(Given(QUOTE, over_s=10)).take(*swap_of(QUOTE), now_s=10) is None


def test_what_keeps_no_quote_takes_none() -> None:
    memory = memory_of(Given(QUOTE, over_s=10))
    for changes in ({"give_amount": 99}, {"get_amount": 201}, {"premium_amount": 2}):
        assert memory.take(*swap_of(numbered(0, **changes)), now_s=0) is None
    swap_id, terms = swap_of(QUOTE)
    turned = replace(terms, legs=(*terms.legs, terms.legs[0]))
    assert memory.take(swap_id, turned, now_s=0) is None
    assert Offered(ANN.account).take(swap_id, terms, now_s=0) is None
    assert memory.take(swap_id, terms, now_s=0) is not None


def test_of_equal_quotes_the_newest_that_the_swap_keeps_is_taken() -> None:
    old, new = numbered(1), numbered(2, valid_until_ms=QUOTE.valid_until_ms + 1)
    tight = numbered(3, expires_by_ms=TIME_MS + 20_000)
    memory = memory_of(*(Given(quote, over_s=10 + place) for place, quote in enumerate((old, new, tight))))
    taken = [memory.take(*swap_of(old), now_s=0) for _ in range(3)]
    assert [None if each is None else each.quote for each in taken] == [new, old, None]
    last = memory.take(*swap_of(tight), now_s=0)
    assert last is not None
    assert last.quote == tight


def test_what_is_over_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = memory_of(*(Given(numbered(number), over_s=number) for number in range(1, 9)))
    memory.add(Given(numbered(9), over_s=20), now_s=8)
    assert [int.from_bytes(name, "big") for name in memory._open] == [9]
    assert [len(each) for each in memory._by_terms.values()] == [1]


def test_at_the_bound_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offered, "QUOTES_MAX", 3)
    quotes = [numbered(number, get_amount=number) for number in range(1, 6)]
    memory = memory_of(*(Given(quote, over_s=10) for quote in quotes))
    found = [memory.take(*swap_of(quote), now_s=0) for quote in quotes]
    assert [each is not None for each in found] == [False, False, True, True, True]
    assert memory._open == {}
    assert memory._by_terms == {}
    more = numbered(7, get_amount=7)
    memory.add(Given(more, over_s=10), now_s=0)
    assert memory.take(*swap_of(more), now_s=0) is not None
    assert len(memory._taken) == 3
