"""The waiting room: bounds that no namespace fills, and decisions that nothing delays."""

from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.block import AdmittedBundle, Parcel
from lockstep.errors import LockstepError, QueueFull, QuotaExceeded, UselessEntry
from lockstep.genesis import Quota
from lockstep.order import ENTRY_PREFIX_BYTES, Bundle, Transaction
from lockstep.swap_entries import AttestItem, RejectReason
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, BundleId, Namespace, SwapId
from sequencer.admission import admit
from sequencer.builder import footprints_of
from sequencer.waiting import DECISIONS_MAX, DECISIONS_SHARE, JOINED_BYTES_MAX, WaitingRoom
from tests.reference.world import (
    A1,
    CHAIN,
    GENESIS,
    LOCKED,
    START_MS,
    World,
    attest,
    item_of,
    make_terms,
    open_entry,
    reveal_entry,
)
from tests.unit.sequencer.chain import parcel_of, single_bundles

NAMES = tuple(map(Namespace, ("alpha", "beta", "gamma", "delta")))
ALPHA, BETA, GAMMA, DELTA = NAMES
ALL = {*NAMES, SWAP_NAMESPACE, REGISTRY_NAMESPACE}
UNTIL_MS = START_MS + 30_000
SOME_NAMES = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
TERMS = [make_terms(f"{number}") for number in range(40)]


def room_of(*, bundles_max: int = 10_000, bytes_max: int = 10**9, quota: Quota | None = None) -> WaitingRoom:
    return WaitingRoom(
        log_origin=GENESIS.settlement.origin,
        quota=quota or Quota(10**9, 10**9),
        weights={},
        bundles_max=bundles_max,
        bytes_max=bytes_max,
    )


def ids_of(taken: Iterable[AdmittedBundle | Parcel]) -> list[BundleId]:
    alone = [each.bundle_ids if isinstance(each, Parcel) else (each.bundle_id,) for each in taken]
    return [bundle_id for each in alone for bundle_id in each]


def parcels_of(bundles: list[AdmittedBundle]) -> list[Parcel]:
    by_namespace = defaultdict(list)
    for each in bundles:
        by_namespace[each.transactions[0].namespace].append(each)
    return list(map(parcel_of, by_namespace.values()))


def size_of(each: AdmittedBundle) -> int:
    return footprints_of(each).entry_bytes


def bundle(payload: bytes, *names: Namespace, until_ms: int = UNTIL_MS) -> AdmittedBundle:
    transactions = tuple(Transaction(name, payload) for name in names or (ALPHA,))
    return admit(CHAIN, Bundle(transactions, until_ms), ALL)


def swap_bundle(*entries: bytes, until_ms: int = UNTIL_MS) -> AdmittedBundle:
    transactions = tuple(Transaction(SWAP_NAMESPACE, entry) for entry in entries)
    return admit(CHAIN, Bundle(transactions, until_ms), ALL)


def take(room: WaitingRoom, world: World, each: AdmittedBundle, clock_ms: int = 0) -> None:
    register = world.register
    candidate = room.judge(each, register, log_size=0, time_ms=register.time_ms + 1)
    room.take(candidate, register.registry, clock_ms)


def refusal(room: WaitingRoom, world: World, each: AdmittedBundle) -> LockstepError:
    with pytest.raises(LockstepError) as refused:
        take(room, world, each)
    return refused.value


def with_open_swaps() -> World:
    world = World()
    world.block(*map(open_entry, TERMS))
    return world


def test_decisions_go_first_through_a_flood_of_everything_else() -> None:
    world, room = with_open_swaps(), room_of()
    flood = [bytes([number]) * limits.PAYLOAD_BYTES_MAX for number in range(100)]
    for payload in flood:
        take(room, world, bundle(payload))
        take(room, world, bundle(payload, BETA, GAMMA))
    reveal = swap_bundle(reveal_entry(TERMS[0], "0"))
    attestation = swap_bundle(attest(A1, "alpha", 1, item_of(TERMS[0], 0)))
    for each in (reveal, attestation):
        take(room, world, each)
    chosen, expired = room.gather(START_MS + 300)
    assert (chosen[:2], expired) == ([reveal, attestation], [])
    assert sum(map(size_of, single_bundles(chosen))) <= limits.BLOCK_BYTES_MAX
    assert len(chosen) > 10


def test_decisions_are_accepted_when_queue_and_quota_are_full() -> None:
    world, room = with_open_swaps(), room_of(bundles_max=3, quota=Quota(4, 10**9))
    others = [swap_bundle(open_entry(make_terms(f"other {number}"))) for number in range(5)]
    assert isinstance(fill(room, world, others), QueueFull)
    take(room, world, swap_bundle(reveal_entry(TERMS[0], "0")))
    room = room_of(quota=Quota(4, 10**9))
    assert isinstance(fill(room, world, others), QuotaExceeded)
    take(room, world, swap_bundle(reveal_entry(TERMS[0], "0")))
    take(room, world, bundle(b"x"))


def fill(room: WaitingRoom, world: World, bundles: Iterable[AdmittedBundle]) -> LockstepError:
    for each in bundles:
        try:
            take(room, world, each)
        except LockstepError as error:
            return error
    raise AssertionError("everything was accepted")


def test_copies_of_a_decision_find_no_room_beside_it() -> None:
    world, room = with_open_swaps(), room_of(bundles_max=4)
    entry = reveal_entry(TERMS[0], "0")
    copies = [swap_bundle(entry, until_ms=UNTIL_MS + number) for number in range(9)]
    assert isinstance(fill(room, world, copies), QueueFull)
    other = swap_bundle(reveal_entry(TERMS[1], "1"))
    take(room, world, other)
    chosen, _ = room.gather(START_MS + 300)
    # The first is a decision, the copies take their turns behind the others.
    assert chosen[:2] == [copies[0], other]
    # While its block is made durable it is under way.
    copy = swap_bundle(entry, until_ms=UNTIL_MS + 100)
    take(room, world, copy)
    take(room, world, swap_bundle(reveal_entry(TERMS[2], "2")))
    assert room.gather(START_MS + 300)[0][1] is copy
    room.settle(chosen)
    world.block(entry)
    assert isinstance(refusal(room, world, copies[5]), UselessEntry)


def test_the_queue_of_decisions_is_bounded() -> None:
    world, count = World(), DECISIONS_MAX + 10
    terms = [make_terms(f"{number}") for number in range(count)]
    for first in range(0, count, 1_000):
        world.block(*map(open_entry, terms[first : first + 1_000]), advance_ms=1)
    reveals = [swap_bundle(reveal_entry(each, f"{number}")) for number, each in enumerate(terms)]
    room = room_of(bundles_max=8)
    for each in reveals[: DECISIONS_MAX + 4]:
        take(room, world, each)
    # The last ones wait with everything else, which is full for `_swap` now.
    error = refusal(room, world, reveals[DECISIONS_MAX + 4])
    assert isinstance(error, QueueFull)
    assert error.queue == "_swap bundle"
    take(room, world, bundle(b"x"))
    chosen, _ = room.gather(START_MS + 300)
    assert (len(chosen), len(room)) == (DECISIONS_MAX + 5, 0)


def test_decisions_leave_half_of_the_block_to_everything_else() -> None:
    world, room = with_open_swaps(), room_of()
    votes = []
    for number, terms in enumerate(TERMS):
        strangers = [
            AttestItem(SwapId(sha256(b"%d %d" % (number, each)).digest()), 0, LOCKED, RejectReason.NONE)
            for each in range(limits.ATTESTATION_ITEMS_MAX - 1)
        ]
        votes.append(swap_bundle(attest(A1, "alpha", 1, item_of(terms, 0), *strangers)))
    rollups = [bundle(bytes([number]) * limits.PAYLOAD_BYTES_MAX) for number in range(40)]
    for vote, rollup in zip(votes, rollups, strict=True):
        take(room, world, rollup)
        take(room, world, vote)
    chosen, _ = room.gather(START_MS + 300)
    decided_bytes = sum(size_of(each) for each in single_bundles(chosen) if each in votes)
    vote_bytes, half_bytes = size_of(votes[0]), limits.BLOCK_BYTES_MAX // DECISIONS_SHARE
    assert half_bytes - vote_bytes < decided_bytes <= half_bytes
    left_bytes = limits.BLOCK_BYTES_MAX - sum(map(size_of, single_bundles(chosen)))
    assert 0 <= left_bytes < size_of(rollups[0])
    again, _ = room.gather(START_MS + 301)
    assert {each.bundle_id for each in votes} <= {*ids_of(chosen), *ids_of(again)}


def test_no_namespace_fills_the_queue() -> None:
    world = World()
    for bundles_max, bytes_max in ((64, 10**9), (10_000, 64 * size_of(bundle(b"...")))):
        room = room_of(bundles_max=bundles_max, bytes_max=bytes_max)
        counts = []
        for name in NAMES:
            flood = (bundle(b"%3d" % number, name) for number in range(1_000))
            before = len(room)
            assert isinstance(fill(room, world, flood), QueueFull)
            counts.append(len(room) - before)
        # Each takes half of what the ones before left, so that there is something for the next.
        assert counts == [32, 16, 8, 4]


def test_a_light_namespace_is_in_the_next_block_whatever_waits() -> None:
    world, room = World(), room_of()
    for number in range(1_200):
        take(room, world, bundle(number.to_bytes(2, "big") * 10_000))
    for number in range(5):
        room.settle(room.gather(START_MS + number)[0])
        assert len(room) > 0
        light = bundle(b"%d" % number * 1_000, BETA)
        opening = swap_bundle(open_entry(make_terms(f"light {number}")))
        for each in (light, opening):
            take(room, world, each)
        chosen, _ = room.gather(START_MS + number)
        assert {light.bundle_id, opening.bundle_id} <= {*ids_of(chosen)}
        room.settle(chosen)


def test_a_bundle_counts_for_every_namespace_that_it_touches() -> None:
    world, room = World(), room_of(bundles_max=8)
    assert isinstance(fill(room, world, (bundle(b"%d" % each, ALPHA, BETA) for each in range(9))), QueueFull)
    for name, expected in ((ALPHA, "alpha bundle"), (BETA, "beta bundle")):
        error = refusal(room, world, bundle(b"x", name))
        assert isinstance(error, QueueFull)
        assert error.queue == expected
    take(room, world, bundle(b"x", GAMMA))
    chosen, _ = room.gather(START_MS + 300)
    assert len(chosen) == 5
    assert isinstance(fill(room, world, (bundle(b"%d" % each, ALPHA, BETA) for each in range(9))), QueueFull)
    assert len(room) == 4


def test_an_opening_is_ordered_before_what_rests_on_it() -> None:
    world, room = World(), room_of()
    for number in range(20):
        take(room, world, bundle(bytes([number]) * 10_000))
    terms = make_terms()
    opening = admit(
        CHAIN,
        Bundle((Transaction(SWAP_NAMESPACE, open_entry(terms)), Transaction(ALPHA, b"lock")), UNTIL_MS),
        ALL,
    )
    reveal = swap_bundle(reveal_entry(terms))
    for each in (opening, reveal):
        take(room, world, each)
    chosen, _ = room.gather(START_MS + 300)
    assert chosen.index(opening) < chosen.index(reveal)


def test_what_expired_is_told_and_forgotten() -> None:
    world, room = with_open_swaps(), room_of()
    late = [bundle(b"late", until_ms=START_MS + 300), swap_bundle(reveal_entry(TERMS[0], "0"), until_ms=1)]
    opening = swap_bundle(open_entry(make_terms()), until_ms=START_MS + 300)
    for each in (*late, opening):
        take(room, world, each)
    in_time = bundle(b"in time", until_ms=START_MS + 301)
    take(room, world, in_time)
    chosen, expired = room.gather(START_MS + 300)
    assert chosen == [in_time]
    assert {each.bundle_id for each in expired} == {each.bundle_id for each in (*late, opening)}
    assert isinstance(refusal(room, world, swap_bundle(reveal_entry(make_terms()))), UselessEntry)
    first = swap_bundle(reveal_entry(TERMS[0], "0"))
    take(room, world, bundle(b"before"))
    take(room, world, first)
    assert room.gather(START_MS + 300)[0][0] is first


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True), st.integers(1, 9)
            ),
            st.sampled_from(["gather", "clear"]),
        ),
        max_size=60,
    )
)
def test_bounds_are_kept_and_nothing_is_lost(steps: list[tuple[list[Namespace], int] | str]) -> None:
    world, room = World(), room_of(bundles_max=8, bytes_max=900)
    waiting: dict[bytes, AdmittedBundle] = {}
    for number, step in enumerate(steps):
        if isinstance(step, str):
            if step == "gather":
                out = room.gather(START_MS + 1)[0]
                assert {*ids_of(out)} == waiting.keys()
                room.settle(out)
            else:
                assert {*room.clear()} == waiting.keys()
            waiting.clear()
        else:
            names, size = step
            each = bundle(number.to_bytes(2, "big") * size, *names)
            free = 8 - len(waiting)
            used = max(sum(name in dict(other.transactions) for other in waiting.values()) for name in names)
            try:
                take(room, world, each)
            except QueueFull:
                pass
            else:
                waiting[each.bundle_id] = each
                assert used < free
        assert len(room) == len(waiting) <= 8
        assert sum(map(size_of, waiting.values())) <= 900


@given(
    st.lists(
        st.one_of(
            st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 9)), min_size=1, max_size=4),
            st.just("gather"),
        ),
        max_size=20,
    ),
    st.sampled_from([Quota(10**9, 10**9), Quota(6, 10**9), Quota(10**9, 60)]),
)
def test_what_is_taken_at_once_would_have_been_taken_one_by_one(
    steps: list[list[tuple[Namespace, int]] | str], quota: Quota
) -> None:
    world, places = World(), dict[BundleId, Namespace]()
    room, other = (room_of(bundles_max=8, bytes_max=900, quota=quota) for _ in range(2))
    for number, step in enumerate(steps):
        if isinstance(step, str):
            taken = [ids_of(each.gather(START_MS + 1)[0]) for each in (room, other)]
            # Turns may differ, nobody's order within a namespace does.
            assert sorted(taken[0], key=places.__getitem__) == sorted(taken[1], key=places.__getitem__)
            continue
        bundles = [bundle(bytes([number, place]) * size, name) for place, (name, size) in enumerate(step)]
        places |= {each.bundle_id: each.transactions[0].namespace for each in bundles}
        if room.take_at_once(parcels_of(bundles), world.register.registry, 0):
            for each in bundles:
                take(other, world, each)
        else:
            for each in bundles:
                outcomes = [_outcome(each_room, world, each) for each_room in (room, other)]
                assert outcomes[0] == outcomes[1]
        assert len(room) == len(other)


def _outcome(room: WaitingRoom, world: World, each: AdmittedBundle) -> str:
    try:
        take(room, world, each)
    except LockstepError as error:
        return str(error)
    return "taken"


def test_a_block_cuts_a_parcel_and_the_next_has_the_rest() -> None:
    world, room = World(), room_of(bundles_max=100_000)
    registry, size = world.register.registry, 4_000
    fitting = limits.BLOCK_BYTES_MAX // (ENTRY_PREFIX_BYTES + size)
    bundles = [bundle(number.to_bytes(2, "big").ljust(size, b"x")) for number in range(fitting + 100)]
    other = bundle(b"another's", BETA)
    assert room.take_at_once([parcel_of(bundles)], registry, 0)
    assert room.take_at_once([parcel_of([other])], registry, 0)
    first, _ = room.gather(START_MS + 1)
    # A large parcel takes turns in parts, none larger than one bundle may be.
    assert first[1] == parcel_of([other])
    in_first = [each for each in ids_of(first) if each != other.bundle_id]
    assert fitting - 1 <= len(in_first) <= fitting
    assert len(room) == len(bundles) - len(in_first)
    take(room, world, bundle(b"behind"))
    second, _ = room.gather(START_MS + 2)
    assert in_first + ids_of(second)[:-1] == [each.bundle_id for each in bundles]
    assert len(room) == 0


def test_what_is_late_in_a_parcel_is_taken_out_of_it() -> None:
    world, room = World(), room_of()
    windows_ms = (START_MS + 5, START_MS + 300, START_MS + 301, START_MS + 300)
    bundles = [bundle(b"%d" % number, until_ms=each) for number, each in enumerate(windows_ms)]
    assert room.take_at_once([parcel_of(bundles)], world.register.registry, 0)
    chosen, late = room.gather(START_MS + 300)
    assert chosen == [parcel_of(bundles[2:3])]
    expected = [(bundles[place].bundle_id, windows_ms[place]) for place in (0, 1, 3)]
    assert [tuple(each) for each in late] == expected
    assert len(room) == 0
    assert room.take_at_once([parcel_of(bundles[:2])], world.register.registry, 0)
    assert len(room.gather(START_MS + 300)[1]) == 2
    assert len(room) == 0


def test_what_waits_in_parcels_can_be_let_go() -> None:
    world, room = World(), room_of(bundles_max=8)
    bundles = [bundle(b"%d" % number) for number in range(4)]
    for _ in range(3):
        assert room.take_at_once([parcel_of(bundles)], world.register.registry, 0)
        assert room.clear() == [each.bundle_id for each in bundles]
        assert len(room) == 0


def test_small_parcels_of_a_namespace_wait_as_one() -> None:
    world, room = World(), room_of()
    registry = world.register.registry
    alphas = [bundle(b"a%d" % number) for number in range(5)]
    betas = [bundle(b"b%d" % number, BETA) for number in range(2)]
    apart = bundle(b"apart")
    assert room.take_at_once([parcel_of(alphas[:2]), parcel_of(betas[:1])], registry, 0)
    assert room.take_at_once([parcel_of(alphas[2:3]), parcel_of(betas[1:])], registry, 0)
    take(room, world, apart)
    assert room.take_at_once([parcel_of(alphas[3:])], registry, 0)
    assert len(room) == 8
    chosen, _ = room.gather(START_MS + 1)
    assert chosen == [parcel_of(alphas[:3]), parcel_of(betas), apart, parcel_of(alphas[3:])]
    assert len(room) == 0


def test_what_joins_is_charged_as_if_it_stood_behind() -> None:
    world, (joined, alone) = World(), (room_of(), room_of())
    registry = world.register.registry
    for number in range(40):
        each = bundle(b"%d" % number * 500)
        assert joined.take_at_once([parcel_of([each])], registry, 0)
        take(alone, world, each)
    for room in (joined, alone):
        for number in range(40):
            take(room, world, bundle(b"%d" % number * 500, BETA))
    turns = [ids_of(room.gather(START_MS + 1)[0]) for room in (joined, alone)]
    assert sorted(turns[0]) == sorted(turns[1])
    late = [bundle(b"late" * 500, name) for name in (ALPHA, BETA)]
    for room in (joined, alone):
        assert len(room) == 0
        for each in late:
            take(room, world, each)
        assert ids_of(room.gather(START_MS + 1)[0]) == [each.bundle_id for each in late]


def test_a_parcel_that_is_large_is_not_added_to() -> None:
    world, room = World(), room_of()
    registry = world.register.registry
    size = JOINED_BYTES_MAX // 4 - ENTRY_PREFIX_BYTES
    bundles = [bundle(bytes([number]) * size) for number in range(5)]
    for each in bundles:
        assert room.take_at_once([parcel_of([each])], registry, 0)
    chosen, _ = room.gather(START_MS + 1)
    assert chosen == [parcel_of(bundles[:4]), parcel_of(bundles[4:])]
