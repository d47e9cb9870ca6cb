"""Random histories: the register against the plain one, against itself restored, and its invariants."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.audit.plain.register import Fact
from lockstep import limits
from lockstep.register import (
    Decided,
    OutcomeReason,
    Phase,
    Place,
    Register,
    RegisterEvent,
    SwapRecord,
    apply_block,
    restore,
    rows,
)
from lockstep.types import SwapId
from tests.reference.facts import facts_of, plain_history
from tests.reference.world import (
    GENESIS,
    World,
)
from tests.reference.writer import HEADERS_REMEMBERED, RECORDS_MAX, Writer


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", RECORDS_MAX)
    monkeypatch.setattr(limits, "HEADERS_REMEMBERED", HEADERS_REMEMBERED)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), blocks=st.integers(1, 32))
def test_a_history_gives_what_the_plain_register_gives(seed: int, blocks: int) -> None:
    check_history(seed, blocks)


def test_the_histories_are_worth_their_time() -> None:
    """Everything that can happen to a swap happens in them, so that a rule that broke would be seen."""
    found = Counter(
        fact[4:6] if fact[1] == "decided" else fact[1]
        for seed in range(40)
        for fact in check_history(seed, 32)
    )
    expected = ["opened", "voted", "revealed", "dropped", "ignored", "contradicted", ("COMMITTED", "NONE")]
    reasons = [reason.name for reason in OutcomeReason if reason != OutcomeReason.NONE]
    for what in [*expected, *(("ABORTED", reason) for reason in reasons)]:
        assert found[what] >= 8, what


def check_history(seed: int, blocks: int) -> list[Fact]:
    """Write a history, check each block as it comes and all of it against the plain register."""
    writer = Writer(seed)
    world, table = writer.world, rows_of(writer.world.register)
    decided: dict[tuple[SwapId, Place], SwapRecord] = {}
    seen: list[tuple[bytes, list[Fact]]] = []
    for _ in range(blocks):
        before = world.register
        root_before, records_before = before.root, dict(before.records)
        events = writer.block()
        seen.append((world.register.root, facts_of(events)))

        again, same_events = apply_block(before, world.blocks[-1])
        assert (again.root, same_events) == (world.register.root, events)
        assert dict(before.records) == records_before
        assert restore(GENESIS, rows_of(before).items()).root == root_before

        update(table, rows(before, world.register))
        assert table == rows_of(world.register)
        if writer.chance(30):
            world.register = restore(GENESIS, table.items())
            assert world.register.root == seen[-1][0]
        check_conservation(decided, events, world)

    for (root, facts), (plain_root, plain_facts) in zip(
        seen, plain_history(GENESIS, world.blocks), strict=True
    ):
        assert Counter(facts) == Counter(plain_facts)
        assert root == plain_root
        indexes = [fact[0] for fact in facts if isinstance(fact[0], int)]
        assert indexes == sorted(indexes)
    return [fact for _, facts in seen for fact in facts]


def rows_of(register: Register) -> dict[bytes, bytes]:
    """Return the content of a table that holds the register."""
    table: dict[bytes, bytes] = {}
    update(table, rows(None, register))
    return table


def update(table: dict[bytes, bytes], changes: Iterable[tuple[bytes, bytes | None]]) -> None:
    for key, value in changes:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def check_conservation(
    decided: dict[tuple[SwapId, Place], SwapRecord], events: Iterable[RegisterEvent], world: World
) -> None:
    """Every opening is decided once, by one record that never changes, and is dropped only thereafter."""
    for happened in events:
        if isinstance(happened, Decided):
            record = happened.record
            name = (record.swap_id, record.opened)
            assert name not in decided
            decided[name] = record
            committed = record.phase == Phase.COMMITTED
            assert committed == (record.is_fully_locked and record.preimage is not None)
    for record in world.register.records.values():
        name = (record.swap_id, record.opened)
        assert decided.get(name) == (record if record.is_terminal else None)
        assert record.is_terminal or record.terms.expires_ms > world.register.time_ms
    assert len(world.register.records) <= RECORDS_MAX
    opened = [record.opened for record in world.register.records.values()]
    assert opened == sorted(opened)
