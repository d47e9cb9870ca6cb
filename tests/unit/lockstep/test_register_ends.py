"""The swap register: how deadlines, dropping and a full register end swaps; admission; invariants."""

from dataclasses import replace

import pytest

from lockstep import limits
from lockstep.register import (
    BLOCK_OPENING,
    BlockInput,
    Decided,
    Decision,
    Dropped,
    OutcomeReason,
    Phase,
    SwapRecord,
    apply_block,
    useless_reason,
    useless_reasons,
)
from lockstep.register_records import verify_record
from lockstep.swap_entries import decode_swap_entry
from lockstep.types import (
    Height,
)
from tests.reference.scenes import (
    EXPIRES_MS,
    LOCK_BY_MS,
    SWAP,
    TERMS,
    alpha_locked,
    beta_locked,
    ignored,
    kinds,
    locked,
    opened,
    outcome,
)
from tests.reference.world import (
    A1,
    A2,
    B1,
    REJECTED,
    World,
    attest,
    cancel_entry,
    header_hash,
    id_of,
    item_of,
    make_terms,
    open_entry,
    preimage_of,
    reveal_entry,
)

# --- deadlines ----------------------------------------------------------------------------------------------


def test_time_before_lock_by_is_open_and_at_it_is_past() -> None:
    world = opened()
    world.advance_to(LOCK_BY_MS - 2)
    assert kinds(world.block(*alpha_locked(world), advance_ms=1)) == ["Voted", "Voted"]
    assert world.register.time_ms == LOCK_BY_MS - 1
    events = world.block(beta_locked(world), advance_ms=1)
    assert kinds(events) == ["Decided", "Ignored"]
    assert outcome(events) == (
        Phase.ABORTED,
        Decision(world.height, BLOCK_OPENING, OutcomeReason.NOT_LOCKED, (1,)),
    )


def test_a_revealed_swap_is_aborted_at_lock_by_too() -> None:
    world = opened()
    world.block(reveal_entry(TERMS))
    assert outcome(world.advance_to(LOCK_BY_MS))[1].reason_legs == (0, 1)


def test_a_locked_swap_passes_lock_by_and_ends_at_expiry() -> None:
    world = locked()
    assert world.advance_to(LOCK_BY_MS + 1) == ()
    assert world.record(TERMS).phase == Phase.LOCKED
    world.advance_to(EXPIRES_MS - 1)
    at_the_last = apply_block(
        world.register,
        BlockInput(Height(world.height + 1), header_hash(1), EXPIRES_MS, [], [(0, reveal_entry(TERMS))]),
    )[1]
    assert kinds(at_the_last) == ["Decided", "Ignored"]
    assert outcome(at_the_last) == (
        Phase.ABORTED,
        Decision(Height(world.height + 1), BLOCK_OPENING, OutcomeReason.NOT_REVEALED, ()),
    )


def test_a_reveal_just_before_expiry_commits() -> None:
    world = locked()
    world.advance_to(EXPIRES_MS - 2)
    assert outcome(world.block(reveal_entry(TERMS), advance_ms=1))[0] == Phase.COMMITTED
    assert world.register.time_ms == EXPIRES_MS - 1


def test_deadlines_are_judged_at_the_first_block_that_reaches_them() -> None:
    world = opened()
    world.advance_to(LOCK_BY_MS - 1)
    [event] = world.block(advance_ms=limits.MAX_ADVANCE_MS)
    assert isinstance(event, Decided)
    assert world.register.time_ms > LOCK_BY_MS


def test_swaps_that_end_together_end_in_order_of_opening() -> None:
    world = World()
    names = ["c", "a", "b"]
    for name in names:
        world.block(open_entry(make_terms(name)))
    events = world.advance_to(LOCK_BY_MS)
    ends = [event.record.swap_id for event in events if isinstance(event, Decided)]
    assert ends == [id_of(make_terms(name)) for name in names]


# --- dropping -----------------------------------------------------------------------------------------------


def test_a_swap_decided_early_is_kept_until_lock_by() -> None:
    world = opened()
    world.block(cancel_entry(TERMS))
    world.advance_to(LOCK_BY_MS - 1)
    assert world.record(TERMS).phase == Phase.ABORTED
    assert world.block(advance_ms=1) == (Dropped(SWAP),)
    assert world.register.record(SWAP) is None
    ignored(world, open_entry(TERMS), "lock_by_ms lies -250 ms ahead")


def test_a_swap_decided_at_or_after_lock_by_is_kept_for_one_block() -> None:
    world = opened()
    assert kinds(world.advance_to(LOCK_BY_MS)) == ["Decided"]
    assert world.record(TERMS).phase == Phase.ABORTED
    assert world.block(advance_ms=1) == (Dropped(SWAP),)

    world = locked()
    world.advance_to(LOCK_BY_MS + 1_000)
    world.block(reveal_entry(TERMS))
    assert world.record(TERMS).phase == Phase.COMMITTED
    assert world.block() == (Dropped(SWAP),)
    assert world.register.map_root == bytes(32)
    assert not world.register.alarms


# --- a full register ----------------------------------------------------------------------------------------


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 2)


ONE, TWO, THREE, FOUR = (make_terms(name) for name in ("one", "two", "three", "four"))


@pytest.mark.usefixtures("room_for_two")
def test_a_full_register_drops_the_decided_swap_that_was_opened_first() -> None:
    world = World()
    world.block(open_entry(ONE), open_entry(TWO), cancel_entry(TWO), cancel_entry(ONE))
    assert kinds(world.block(open_entry(THREE))) == ["Dropped", "Opened"]
    assert [id_of(TWO), id_of(THREE)] == list(world.register.records)
    world.block(open_entry(FOUR))
    assert [id_of(THREE), id_of(FOUR)] == list(world.register.records)


@pytest.mark.usefixtures("room_for_two")
def test_a_full_register_crowds_out_the_oldest_swap_without_an_attested_leg() -> None:
    world = World()
    world.block(open_entry(ONE), open_entry(TWO))
    world.block(attest(B1, "beta", 1, item_of(ONE, 1)), attest(A1, "alpha", 1, item_of(TWO, 0)))
    events = world.block(b"", open_entry(THREE))
    assert kinds(events) == ["Ignored", "Decided", "Dropped", "Opened"]
    assert events[2] == Dropped(id_of(TWO))
    assert outcome(events) == (Phase.ABORTED, Decision(Height(3), 1, OutcomeReason.CROWDED_OUT, ()))
    assert [id_of(ONE), id_of(THREE)] == list(world.register.records)


@pytest.mark.usefixtures("room_for_two")
def test_a_register_full_of_attested_swaps_opens_nothing() -> None:
    world = World()
    world.block(open_entry(ONE), open_entry(TWO))
    world.block(attest(B1, "beta", 1, item_of(ONE, 1), item_of(TWO, 1)))
    ignored(world, open_entry(THREE), "full of swaps with attested legs")
    assert kinds(world.block(cancel_entry(TWO), open_entry(THREE))) == ["Decided", "Dropped", "Opened"]


@pytest.mark.usefixtures("room_for_two")
def test_crowding_sees_what_the_same_block_did_before() -> None:
    world = World()
    world.block(open_entry(ONE), open_entry(TWO))
    events = world.block(open_entry(THREE), attest(B1, "beta", 1, item_of(TWO, 1)), open_entry(FOUR))
    dropped = [event.swap_id for event in events if isinstance(event, Dropped)]
    assert dropped == [id_of(ONE), id_of(THREE)]
    events = world.block(open_entry(ONE), cancel_entry(ONE), open_entry(THREE), open_entry(ONE))
    dropped = [event.swap_id for event in events if isinstance(event, Dropped)]
    assert dropped == [id_of(FOUR), id_of(ONE), id_of(THREE)]
    assert list(world.register.records) == [id_of(TWO), id_of(ONE)]
    assert world.record(ONE).opened_index == 3


@pytest.mark.usefixtures("room_for_two")
def test_a_swap_opened_again_has_none_of_its_old_votes() -> None:
    world = World()
    world.block(open_entry(ONE), open_entry(TWO))
    early = attest(A2, "alpha", 1, item_of(ONE, 0))
    world.block(attest(A1, "alpha", 1, item_of(ONE, 0)), cancel_entry(ONE))
    world.block(open_entry(THREE), open_entry(ONE))
    assert (world.record(ONE).opened_height, world.record(ONE).phase) == (3, Phase.OPEN)
    assert world.record(ONE).legs[0].votes == ()
    ignored(world, early, "lies before the swap's opening")
    again = attest(A1, "alpha", 3, item_of(ONE, 0, REJECTED))
    assert kinds(world.block(again)) == ["Voted"]


def test_a_swap_opened_again_stands_last_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 4)
    names = ("a", "b", "again", "c", "d", "e", "f")
    a, b, again, c, d, e, f = (make_terms(name) for name in names)
    world = World()
    world.block(*map(open_entry, (a, b, again, c)))
    events = world.block(
        open_entry(d), cancel_entry(again), open_entry(e), open_entry(again), open_entry(f), open_entry(a)
    )
    dropped = [event.swap_id for event in events if isinstance(event, Dropped)]
    assert dropped == [id_of(each) for each in (a, again, b, c, d)]
    assert list(world.register.records) == [id_of(each) for each in (e, again, f, a)]


def test_crowding_out_costs_one_look_at_all_records_per_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 50)
    world = World()
    world.block(*(open_entry(make_terms(f"first {number}")) for number in range(50)))
    looks = 0
    plain = SwapRecord.__dict__["has_attested_leg"]

    def counted(record: SwapRecord) -> bool:
        nonlocal looks
        looks += 1
        return bool(plain.func(record))

    monkeypatch.setattr(SwapRecord, "has_attested_leg", property(counted))
    world.block(*(open_entry(make_terms(f"second {number}")) for number in range(50)))
    assert looks <= 4 * 50
    assert all(record.opened_height == 2 for record in world.register.records.values())


# --- admission ----------------------------------------------------------------------------------------------


def test_entries_of_one_bundle_are_judged_one_after_another() -> None:
    world = World()
    entries = [
        decode_swap_entry(each) for each in (reveal_entry(TERMS), open_entry(TERMS), reveal_entry(TERMS))
    ]
    time_ms = world.register.time_ms + 1
    assert useless_reasons(world.register, entries, height=Height(1), time_ms=time_ms) == [
        "no such swap is recorded",
        None,
        None,
    ]
    assert world.register.record(SWAP) is None


def test_admission_counts_deadlines_that_come_with_the_block_or_far_ahead() -> None:
    world = locked()
    entry = decode_swap_entry(reveal_entry(TERMS))
    for time_ms, reason in (
        (EXPIRES_MS - 1, None),
        (EXPIRES_MS, "the swap is ABORTED already"),
        (EXPIRES_MS + 10**9, "the swap is ABORTED already"),
    ):
        assert useless_reason(world.register, entry, height=Height(900), time_ms=time_ms) == reason


# --- invariants ---------------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_ends_the_process() -> None:
    record = locked().record(TERMS)
    decided = Decision(Height(9), 0, OutcomeReason.NONE, ())
    for impossible in (
        replace(record, phase=Phase.OPEN),
        replace(record, phase=Phase.COMMITTED, decision=decided),
        replace(record, phase=Phase.COMMITTED, preimage=preimage_of("swap")),
        replace(record, phase=Phase.ABORTED, decision=decided),
        replace(record, decision=decided),
        replace(record, phase=Phase.COMMITTED, preimage=bytes(32), decision=decided),
        replace(record, legs=tuple(replace(leg, votes=leg.votes * 2) for leg in record.legs)),
    ):
        with pytest.raises(AssertionError, match=SWAP.hex()):
            verify_record(impossible)
