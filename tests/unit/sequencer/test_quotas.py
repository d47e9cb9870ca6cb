"""Quotas: a second's worth at once, a debt of less than one bundle, no charge for what is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.block import AdmittedBundle
from lockstep.errors import QuotaExceeded
from lockstep.genesis import Quota
from lockstep.order import Bundle, Transaction
from lockstep.registry import Registry
from lockstep.types import Namespace, RollupId
from sequencer.admission import admit
from sequencer.builder import footprints_of
from sequencer.quotas import ByNamespace, Quotas
from tests.unit.sequencer.chain import ALPHA, BETA, CHAIN, GENESIS, TIME_MS, admitted

REGISTRY = Registry.from_genesis(GENESIS)
LARGE = Quota(10**6, 10**6)


def by_namespace(bundle: AdmittedBundle) -> ByNamespace:
    return footprints_of(bundle).by_namespace


def with_quota(rollup: Namespace, quota: Quota) -> Registry:
    record = replace(REGISTRY.rollups[RollupId(rollup)], quota=quota)
    return replace(REGISTRY, rollups={**REGISTRY.rollups, RollupId(rollup): record})


def refusal(quotas: Quotas, payload: bytes, registry: Registry, clock_ms: int) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as refused:
        quotas.charge(by_namespace(admitted(payload)), registry, clock_ms)
    return refused.value


@pytest.mark.parametrize(("quota", "what"), [(Quota(5, 10**6), "transactions"), (Quota(10**6, 50), "bytes")])
def test_a_second_at_once_then_as_time_goes(quota: Quota, what: str) -> None:
    quotas = Quotas(quota)
    for _ in range(5):
        quotas.charge(by_namespace(admitted(b"ten bytes.")), REGISTRY, 1_000)
    error = refusal(quotas, b"ten bytes.", REGISTRY, 1_000)
    assert (error.subject, error.quota) == ("namespace alpha", what)
    assert error.limit == (5 if what == "transactions" else 50)
    assert error.retry_after_ms == 1
    quotas.charge(by_namespace(admitted(b"ten bytes.")), REGISTRY, 1_001)
    # That one was taken on credit, and is paid first.
    error = refusal(quotas, b"ten bytes.", REGISTRY, 1_001)
    assert error.retry_after_ms == 200
    refusal(quotas, b"ten bytes.", REGISTRY, 1_200)
    quotas.charge(by_namespace(admitted(b"ten bytes.")), REGISTRY, 1_201)
    # What is not used is not saved beyond one second.
    for _ in range(5):
        quotas.charge(by_namespace(admitted(b"ten bytes.")), REGISTRY, 1_000_000)
    refusal(quotas, b"ten bytes.", REGISTRY, 1_000_000)


def test_the_registry_comes_before_the_policy_and_changes_hold_at_once() -> None:
    quotas, tight = Quotas(LARGE), with_quota(ALPHA, Quota(1, 10**6))
    quotas.charge(by_namespace(admitted(b"1")), tight, 0)
    refusal(quotas, b"2", tight, 0)
    quotas.charge(by_namespace(admitted(b"2", namespace=BETA)), tight, 0)
    quotas.charge(by_namespace(admitted(b"2")), REGISTRY, 10)
    quotas.charge(by_namespace(admitted(b"3")), REGISTRY, 20)
    # Lowered again, the balance is cut to one second's worth.
    quotas.charge(by_namespace(admitted(b"4")), tight, 30)
    refusal(quotas, b"5", tight, 30)


def test_a_bundle_is_charged_to_all_or_to_none() -> None:
    quotas, tight = Quotas(LARGE), with_quota(BETA, Quota(2, 10**6))
    both = admit(CHAIN, Bundle((Transaction(ALPHA, b"x"), Transaction(BETA, b"y")), TIME_MS), {ALPHA, BETA})
    for _ in range(2):
        quotas.charge(by_namespace(both), tight, 0)
    tight = with_quota(ALPHA, Quota(1_000, 2))
    quotas = Quotas(Quota(3, 10**6))
    for _ in range(2):
        quotas.charge(by_namespace(both), tight, 0)
    with pytest.raises(QuotaExceeded) as refused:
        quotas.charge(by_namespace(both), tight, 0)
    assert (refused.value.subject, refused.value.quota) == ("namespace alpha", "bytes")
    # Beta had two of three, and the refused one took nothing of it.
    quotas.charge(by_namespace(admitted(b"z", namespace=BETA)), tight, 0)
    with pytest.raises(QuotaExceeded):
        quotas.charge(by_namespace(admitted(b"z", namespace=BETA)), tight, 0)


def test_of_several_debts_the_longest_is_told() -> None:
    for rates, what, wait_ms in (((1, 10), "bytes", 9_001), ((1, 1_000), "transactions", 1)):
        quotas = Quotas(Quota(*rates))
        quotas.charge(by_namespace(admitted(bytes(100))), REGISTRY, 0)
        error = refusal(quotas, b"x", REGISTRY, 0)
        assert (error.quota, error.retry_after_ms) == (what, wait_ms)


@given(
    st.integers(1, 200),
    st.integers(1, 5_000),
    st.lists(st.tuples(st.integers(-5, 300), st.integers(1, 2_000)), min_size=1, max_size=60),
)
def test_over_any_time_no_more_than_the_rate_a_second_and_one_bundle(
    transactions: int, byte_count: int, steps: list[tuple[int, int]]
) -> None:
    quotas, clock_ms = Quotas(Quota(transactions, byte_count)), 0
    passed_bytes = passed = newest_ms = 0
    for advance_ms, size in steps:
        clock_ms += advance_ms
        newest_ms = max(newest_ms, clock_ms)
        try:
            quotas.charge(by_namespace(admitted(bytes(size))), REGISTRY, clock_ms)
        except QuotaExceeded as error:
            # Who waits as long as he is told gets through.
            clock_ms = newest_ms = newest_ms + (error.retry_after_ms or 0)
            quotas.charge(by_namespace(admitted(bytes(size))), REGISTRY, clock_ms)
        passed, passed_bytes = passed + 1, passed_bytes + size
    assert (passed - 1) * 1_000 <= transactions * (newest_ms + 1_000)
    assert (passed_bytes - 2_000) * 1_000 <= byte_count * (newest_ms + 1_000)
