"""Random histories: the register against the plain one, against itself restored, and its invariants."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep import limits
from lockstep.attesters import AttesterSet
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
from lockstep.registry_entries import Action, Drain, RotateAttester, SetAttesters
from lockstep.swap_entries import AttestItem, RejectReason, Verdict
from lockstep.terms import LegKind, Terms
from lockstep.types import ChainId, HeaderHash, SwapId
from tests.reference.register import Fact, Reference, facts_of
from tests.reference.world import (
    A1,
    A2,
    A3,
    B1,
    GENESIS,
    REVEALER,
    START_MS,
    STRANGER,
    World,
    attest,
    cancel_entry,
    change_entry,
    id_of,
    leg_on,
    make_terms,
    open_entry,
    reveal_entry,
)

RECORDS_MAX = 3
HEADERS_REMEMBERED = 5

BOTH = (leg_on("alpha"), leg_on("beta"))
SHAPES = (BOTH, BOTH, (leg_on("beta"), leg_on("beta", 6)), (*BOTH, leg_on("alpha", 7)))
SWAPS: list[tuple[str, Terms]] = [
    (
        f"swap {number}",
        make_terms(
            f"swap {number}",
            lock_by_ms=START_MS + 2_000 + number * 1_700,
            expires_ms=START_MS + 7_000 + number * 1_700 + number % 3,
            legs=SHAPES[number % len(SHAPES)],
        ),
    )
    for number in range(20)
]
INVALID: list[tuple[str, Terms]] = [
    ("burn", make_terms("burn", legs=(replace(BOTH[0], kind=LegKind.BURN), BOTH[1]))),
    ("foreign", make_terms("foreign", chain=ChainId(bytes(32)))),
    ("unknown", make_terms("unknown", legs=(BOTH[0], leg_on("gamma")))),
    ("too late", make_terms("too late", lock_by_ms=START_MS + 60_300, expires_ms=START_MS + 70_000)),
    ("too long", make_terms("too long", expires_ms=START_MS + limits.EXPIRY_MS_MAX + 9_000)),
]
KEYS = (A1, A2, A3, B1, B1)
ROLLUP_OF = {A1: "alpha", A2: "alpha", A3: "alpha", B1: "beta"}
CHANGES: tuple[tuple[str, Action], ...] = (
    ("beta", Drain()),
    ("alpha", SetAttesters(AttesterSet(1, (A3.public_key,)))),
    ("alpha", RotateAttester(A1.public_key, STRANGER.public_key)),
    ("beta", SetAttesters(AttesterSet(2, (B1.public_key, A1.public_key)))),
)


class Writer:
    """Writes a history: most of it honest work on swaps that are there, the rest wrong in every way."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.world = World()

    def chance(self, percent: int) -> bool:
        return self.dice.randrange(100) < percent

    def block(self) -> tuple[RegisterEvent, ...]:
        entries = [self.entry() for _ in range(self.dice.choice((0, 1, 2, 3, 4, 6)))]
        if entries and self.chance(15):
            entries.append(self.dice.choice(entries))
        changes = []
        if self.chance(6):
            subject, action = self.dice.choice(CHANGES)
            sequence = self.world.register.registry.sequences.get(subject, 0) + 1
            changes.append(change_entry(subject, action, sequence=sequence, at=self.world.height + 2))
        return self.world.block(*entries, advance_ms=self.advance_ms(), registry=changes)

    def advance_ms(self) -> int:
        """Return a step of log time: often one that ends just before, at or just after a deadline."""
        now_ms = self.world.register.time_ms
        deadlines = {ms for _, terms in SWAPS for ms in (terms.lock_by_ms, terms.expires_ms)}
        exact = sorted(ms + by - now_ms for ms in deadlines for by in (-1, 0, 1))
        steps = [ms for ms in exact if 1 <= ms <= limits.MAX_ADVANCE_MS]
        return (
            self.dice.choice(steps) if steps and self.chance(40) else self.dice.choice((1, 250, 250, 2_000))
        )

    def entry(self) -> bytes:
        match self.dice.randrange(16):
            case 0 | 1 | 2:
                upcoming = [terms for _, terms in SWAPS if terms.lock_by_ms > self.world.register.time_ms]
                return open_entry(self.dice.choice(upcoming[:4] or [SWAPS[0][1]]))
            case 3:
                return open_entry(self.swap()[1])
            case 4:
                return open_entry(self.dice.choice(INVALID)[1])
            case 5:
                return open_entry(self.swap()[1])[: self.dice.randrange(40)]
            case 6:
                name, terms = self.swap()
                return reveal_entry(terms, "another" if self.chance(20) else name)
            case 8:
                return cancel_entry(self.swap()[1], STRANGER if self.chance(40) else REVEALER)
            case _:
                return self.attestation()

    def swap(self) -> tuple[str, Terms]:
        recorded = [each for each in SWAPS if self.world.register.record(id_of(each[1])) is not None]
        return self.dice.choice(recorded if recorded and self.chance(90) else SWAPS)

    def attestation(self) -> bytes:
        key = self.dice.choice(KEYS)
        rollup = ROLLUP_OF.get(key, "alpha")
        items = [
            self.item(id_of(terms), leg)
            for _, terms in SWAPS
            for leg in range(3)
            if self.chance(70 if leg < len(terms.legs) and terms.legs[leg].rollup == rollup else 2)
        ]
        back = self.dice.choice((1, 1, 1, 1, 1, 2, 3, 0, HEADERS_REMEMBERED, HEADERS_REMEMBERED + 1))
        wrong = self.dice.randrange(25)
        return attest(
            STRANGER if wrong == 0 else key,
            {"alpha": "beta", "beta": "alpha"}[rollup] if wrong == 1 else rollup,
            max(1, self.world.height + 1 - back),
            *(items or [self.item(id_of(self.swap()[1]), 0)]),
            attester=key.public_key,
            hashed=HeaderHash(bytes(32)) if wrong == 2 else None,
        )

    def item(self, swap_id: SwapId, leg: int) -> AttestItem:
        if self.chance(88):
            return AttestItem(swap_id, leg, Verdict.LOCKED, RejectReason.NONE)
        reason = self.dice.choice((RejectReason.INSUFFICIENT_FUNDS, RejectReason.OTHER))
        return AttestItem(swap_id, leg, Verdict.REJECTED, reason)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", RECORDS_MAX)
    monkeypatch.setattr(limits, "HEADERS_REMEMBERED", HEADERS_REMEMBERED)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        assert (before.records, restore(GENESIS, rows_of(before).items()).root) == (
            records_before,
            root_before,
        )

        update(table, rows(before, world.register))
        assert table == rows_of(world.register)
        if writer.chance(30):
            world.register = restore(GENESIS, table.items())
            assert world.register.root == seen[-1][0]
        check_conservation(decided, events, world)

    reference = Reference(GENESIS, world.blocks)
    for height, (root, facts) in enumerate(seen, start=1):
        assert Counter(facts) == Counter(reference.facts(height))
        assert root == reference.root(height)
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
