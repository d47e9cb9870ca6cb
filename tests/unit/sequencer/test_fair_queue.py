"""Turns: everything comes out once, in order within a namespace, and nobody's flood delays another."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.block import AdmittedBundle
from lockstep.order import ENTRY_PREFIX_BYTES, Bundle, Transaction
from lockstep.types import Namespace
from sequencer.admission import admit
from sequencer.builder import footprints_of
from sequencer.fair_queue import FairQueue, charge_of
from tests.unit.sequencer.chain import CHAIN, TIME_MS

A, B, C, D = NAMES = tuple(map(Namespace, "abcd"))


def bundle(number: int, sizes: dict[Namespace, int]) -> AdmittedBundle:
    """Return a bundle with a payload of a size for each namespace, unlike that of any other number."""
    transactions = tuple(
        Transaction(each, number.to_bytes(8, "big") + bytes(size)) for each, size in sizes.items()
    )
    return admit(CHAIN, Bundle(transactions, TIME_MS + 1), set(NAMES))


def charged(each: AdmittedBundle) -> dict[Namespace, int]:
    footprints = footprints_of(each).by_namespace
    return {namespace: charge_of(footprint) for namespace, footprint in footprints.items()}


def push(queue: FairQueue[AdmittedBundle], each: AdmittedBundle, *, after: int = 0) -> int:
    return queue.push(each, footprints_of(each), after=after)


SIZES = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3_000), min_size=1, max_size=4)
STEPS = st.lists(st.one_of(SIZES, st.none()), max_size=80)


@given(STEPS, st.dictionaries(st.sampled_from(NAMES), st.integers(1, 1_000)))
def test_what_goes_in_comes_out_once(
    steps: list[dict[Namespace, int] | None], weights: dict[Namespace, int]
) -> None:
    queue, pushed, popped = FairQueue[AdmittedBundle](weights), list[AdmittedBundle](), list[AdmittedBundle]()
    for number, sizes in enumerate(steps):
        if sizes is not None:
            pushed.append(bundle(number, sizes))
            push(queue, pushed[-1])
        elif len(queue):
            first = queue.first()
            popped.append(queue.pop())
            assert popped[-1] is first
        assert len(queue) == len(pushed) - len(popped)
    if len(pushed) % 2:
        popped += queue.clear()
    while len(queue):
        popped.append(queue.pop())
    assert Counter(each.bundle_id for each in popped) == Counter(each.bundle_id for each in pushed)
    for name in NAMES:
        alone = [each for each in pushed if set(charged(each)) == {name}]
        assert [each for each in popped if each in alone] == alone
    with pytest.raises(IndexError):
        queue.pop()


@given(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 60_000)), min_size=1, max_size=60),
    st.integers(0, 59),
    st.integers(0, 60_000),
)
def test_who_was_idle_waits_for_one_bundle_of_each_other_at_most(
    flood: list[tuple[Namespace, int]], served: int, size: int
) -> None:
    queue = FairQueue[AdmittedBundle]({})
    for number, (name, each_size) in enumerate(flood):
        push(queue, bundle(number, {name: each_size}))
    for _ in range(min(served, len(flood) - 1)):
        queue.pop()
    light = bundle(1_000, {D: size})
    push(queue, light)
    before = Counter[Namespace]()
    while (each := queue.pop()) is not light:
        before.update(charged(each).keys())
    assert all(count <= 1 for count in before.values())


@given(st.lists(st.integers(1, 60_000), min_size=30, max_size=60), st.integers(1, 60_000))
def test_a_flood_that_touches_a_light_namespace_does_not_drag_it_along(flood: list[int], size: int) -> None:
    queue = FairQueue[AdmittedBundle]({})
    for number, each_size in enumerate(flood):
        push(queue, bundle(number, {A: each_size, D: 0}))
    light = bundle(1_000, {D: size})
    push(queue, light)
    ahead = 0
    while queue.pop() is not light:
        ahead += 1
    # It owes no more than what the flood took in its own name.
    owed = len(flood) * charged(bundle(0, {D: 0}))[D]
    smallest = min(charged(bundle(0, {A: each, D: 0}))[A] for each in flood)
    assert ahead <= owed // smallest + 1


def test_what_is_left_of_the_first_is_still_first() -> None:
    queue = FairQueue[AdmittedBundle]({})
    first, second, rest = (bundle(number, {A: 1_000}) for number in range(3))
    push(queue, first)
    push(queue, second)
    assert queue.first() is first
    queue.replace_first(rest)
    assert len(queue) == 2
    assert [queue.first(), queue.pop(), queue.pop()] == [rest, rest, second]


def test_what_grows_is_charged_as_what_comes_behind_it() -> None:
    grown, behind = FairQueue[AdmittedBundle]({A: 3}), FairQueue[AdmittedBundle]({A: 3})
    first, second, both, third = (
        bundle(number, {A: size}) for number, size in enumerate((1_000, 500, 1_508 + ENTRY_PREFIX_BYTES, 0))
    )
    assert grown.last(A) is None
    push(grown, first)
    assert grown.last(A) is first
    grown.replace_last(A, both, footprints_of(second).by_namespace[A])
    assert len(grown) == 1
    for each in (first, second):
        push(behind, each)
    assert push(grown, third) == push(behind, third)
    assert [grown.pop(), grown.pop()] == [both, third]
    assert grown.last(A) is None


@pytest.mark.parametrize(("weights", "share"), [({}, 100), ({A: 3}, 150), ({A: 10, B: 10}, 100)])
def test_under_load_each_gets_its_share_by_bytes(weights: dict[Namespace, int], share: int) -> None:
    queue = FairQueue[AdmittedBundle](weights)
    for number in range(400):
        push(queue, bundle(number, {A: 1_000}))
    for number in range(400, 600):
        push(queue, bundle(number, {B: 1_000}))
    first = [set(charged(queue.pop())) for _ in range(200)]
    assert first.count({A}) == pytest.approx(share, abs=2)


def test_who_comes_late_has_saved_nothing() -> None:
    queue = FairQueue[AdmittedBundle]({})
    for number in range(200):
        push(queue, bundle(number, {A: 1_000}))
    for _ in range(100):
        queue.pop()
    for number in range(200, 300):
        push(queue, bundle(number, {B: 1_000}))
    first = [set(charged(queue.pop())) for _ in range(40)]
    assert first.count({A}) == pytest.approx(20, abs=1)


def test_large_bundles_count_for_what_they_are() -> None:
    queue = FairQueue[AdmittedBundle]({})
    for number in range(20):
        push(queue, bundle(number, {A: 40_000}))
    for number in range(20, 420):
        push(queue, bundle(number, {B: 1_938}))
    taken = Counter[Namespace]()
    for _ in range(200):
        taken.update(charged(queue.pop()))
    assert abs(taken[A] - taken[B]) <= 2 * 41_000


def test_what_must_follow_follows_however_far_back_that_is() -> None:
    queue = FairQueue[AdmittedBundle]({})
    for number in range(10):
        push(queue, bundle(number, {A: 1_000}))
    opening = bundle(100, {A: 0, B: 0})
    tag = push(queue, opening)
    reveal, other = bundle(101, {B: 0}), bundle(102, {B: 0})
    push(queue, reveal, after=tag)
    push(queue, other)
    order = queue.clear()
    assert order.index(opening) < order.index(reveal)
    assert order.index(other) < order.index(opening)


def test_small_transactions_are_charged_for_their_place() -> None:
    [charge] = charged(bundle(0, {A: 0})).values()
    assert charge * limits.BLOCK_TRANSACTIONS_MAX == limits.BLOCK_BYTES_MAX
    assert charged(bundle(0, {A: 1_000})) == {A: 1_008 + ENTRY_PREFIX_BYTES}


def test_an_empty_queue_remembers_no_debts() -> None:
    queue = FairQueue[AdmittedBundle]({})
    push(queue, bundle(0, {A: 60_000}))
    queue.pop()
    push(queue, bundle(1, {A: 0}))
    push(queue, bundle(2, {B: 0}))
    assert set(charged(queue.pop())) == {A}
