"""The coordinator on an order in memory that runs the real register: what each swap comes to, and how."""

import asyncio
from pathlib import Path

import pytest

from bridge.client import AbortReason, LegState, RevealPolicy, SwapPhase
from deploy.node.logs import Secret
from lockstep.errors import (
    BadSignature,
    Conflict,
    Expired,
    LockstepError,
    Malformed,
    NeverOrdered,
    NotReady,
    TimedOut,
    TooFarAhead,
    UnavailablePeer,
    UnknownNamespace,
    UnknownSwap,
    UselessEntry,
    WrongChain,
    WrongRollup,
)
from lockstep.order import bundle_id_of
from lockstep.swap_entries import Verdict, encode_open, encode_reveal
from lockstep.terms import decode_terms, swap_id_of
from lockstep.transactions import Lock
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2
from tests.unit.bridge.chain import (
    ANN,
    BOB,
    CHAIN,
    EVE,
    FakeOrder,
    kinds,
    locks_of,
    make_terms,
    swap_bundle,
)
from tests.unit.bridge.running import Rig, running, started

TERMS = make_terms()
SWAP_ID = swap_id_of(TERMS)
PREIMAGE = ANN.preimage(TERMS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.sqlite"


async def opened(rig: Rig, terms_bytes: bytes = TERMS, **options: object) -> SwapId:
    """Propose, give both locks and have the bundle ordered."""
    await rig.propose(terms_bytes, **options)  # type: ignore[arg-type]
    swap_id = await rig.give(terms_bytes)
    await rig.until(lambda: bool(rig.order.waiting))
    rig.order.block()
    await rig.until_followed()
    return swap_id


async def locked(rig: Rig, swap_id: SwapId) -> None:
    for leg in range(2):
        rig.order.attest(swap_id, leg)
    await rig.until_followed()


# --- the ways a swap can go ---------------------------------------------------------------------------------


async def test_revealed_by_the_trader(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        view = await rig.propose(TERMS)
        assert (view.phase, view.funds_safe, view.level) == (SwapPhase.COLLECTING, True, 0)
        locks = locks_of(TERMS)
        view = await rig.accept(SWAP_ID, 0, locks[0])
        assert [leg.state for leg in view.legs] == [LegState.GIVEN, LegState.AWAITED]
        assert not view.funds_safe
        assert order.submitted == []
        view = await rig.accept(SWAP_ID, 1, locks[1])
        assert view.phase is SwapPhase.SUBMITTED
        await rig.until(lambda: bool(order.waiting))
        [bundle] = order.submitted
        assert kinds(bundle) == ["Open", "alpha", "beta"]
        assert [payload for _, payload in bundle.transactions[1:]] == locks
        assert bundle.valid_until_ms == decode_terms(TERMS).lock_by_ms
        order.block()
        view = await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        assert (view.opened_height, view.opened_index, view.level) == (2, 0, 1)
        order.attest(SWAP_ID, 0)
        order.attest(SWAP_ID, 1)
        view = await rig.until_phase(SWAP_ID, SwapPhase.LOCKED)
        assert [leg.state for leg in view.legs] == [LegState.LOCKED] * 2
        assert view.preimage is None
        order.is_automatic = True
        response = await rig.reveal(SWAP_ID, PREIMAGE.reveal())
        assert response.placement.height == 5
        view = await rig.swap(SWAP_ID)
        assert (view.phase, view.preimage, view.funds_safe) == (SwapPhase.COMMITTED, PREIMAGE.reveal(), True)
        assert (view.decided_height, view.decided_index) == (5, 0)
        assert view.funds_free_by_ms == order.time_ms


async def test_revealed_up_front_commits_by_itself(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig, policy=RevealPolicy.UP_FRONT, preimage=PREIMAGE)
        assert kinds(order.submitted[0]) == ["Open", "alpha", "beta", "Reveal"]
        view = await rig.swap(SWAP_ID)
        assert (view.phase, view.funds_free_by_ms) == (SwapPhase.REVEALED, decode_terms(TERMS).lock_by_ms)
        await locked(rig, SWAP_ID)
        assert (await rig.swap(SWAP_ID)).phase is SwapPhase.COMMITTED
        assert len(order.submitted) == 1


async def test_delegated_is_revealed_once_locked_and_not_before(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig, policy=RevealPolicy.DELEGATED, preimage=PREIMAGE)
        assert kinds(order.submitted[0]) == ["Open", "alpha", "beta"]
        order.attest(SWAP_ID, 0)
        await rig.until_followed()
        assert len(order.submitted) == 1
        order.attest(SWAP_ID, 1)
        await rig.until_sent(["Reveal"])
        assert (await rig.swap(SWAP_ID)).phase is SwapPhase.LOCKED
        order.block()
        await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)
        assert order.entries().count(encode_reveal(SWAP_ID, PREIMAGE.reveal())) == 1


async def test_a_rejected_leg_aborts(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        order.attest(SWAP_ID, 1, Verdict.REJECTED)
        view = await rig.until_phase(SWAP_ID, SwapPhase.ABORTED)
        assert (view.abort_reason, view.reason_legs) == (AbortReason.LEG_REJECTED, (1,))
        assert view.legs[1].state is LegState.REJECTED
        assert view.legs[1].reject_reason == 1
        with pytest.raises(UselessEntry, match="ABORTED"):
            await rig.reveal(SWAP_ID, PREIMAGE.reveal())


@pytest.mark.parametrize(
    ("is_locked", "reason"), [(False, AbortReason.NOT_LOCKED), (True, AbortReason.NOT_REVEALED)]
)
async def test_deadlines_abort(path: Path, is_locked: bool, reason: AbortReason) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        if is_locked:
            await locked(rig, SWAP_ID)
        order.pass_time(decode_terms(TERMS).expires_ms)
        view = await rig.until_phase(SWAP_ID, SwapPhase.ABORTED)
        assert (view.abort_reason, view.decided_index) == (reason, 2**32 - 1)


async def test_cancelled_by_the_revealer(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        with pytest.raises(BadSignature):
            await rig.cancel(BOB.sign_cancel(SWAP_ID))
        order.is_automatic = True
        response = await rig.cancel(ANN.sign_cancel(SWAP_ID))
        assert (await rig.swap(SWAP_ID)).abort_reason is AbortReason.CANCELLED
        assert await rig.cancel(ANN.sign_cancel(SWAP_ID)) == response
        with pytest.raises(UselessEntry):
            await rig.reveal(SWAP_ID, PREIMAGE.reveal())


async def test_lapses_only_when_nobody_can_open_it_any_more(path: Path) -> None:
    order = started()
    lock_by_ms = decode_terms(TERMS).lock_by_ms
    async with running(path, order) as rig:
        await rig.propose(TERMS)
        await rig.give(TERMS)
        await rig.until(lambda: bool(order.waiting))
        order.pass_time(lock_by_ms - 1)
        await rig.until_followed()
        assert (await rig.swap(SWAP_ID)).phase is SwapPhase.SUBMITTED
        order.block(advance_ms=1)
        view = await rig.until_phase(SWAP_ID, SwapPhase.LAPSED)
        assert (view.funds_safe, view.funds_free_by_ms, view.opened_height) == (True, lock_by_ms, 0)
        assert [leg.state for leg in view.legs] == [LegState.AWAITED] * 2
        # Nothing is left of it to be sent.
        assert await rig.database.read("SELECT * FROM sendings UNION ALL SELECT *, 0 FROM locks") == []


async def test_no_locks_at_all_lapse_too(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await rig.propose(TERMS)
        order.pass_time(decode_terms(TERMS).lock_by_ms)
        await rig.until_phase(SWAP_ID, SwapPhase.LAPSED)
        assert order.submitted == []


async def test_a_bundle_whose_window_passed_makes_room_for_new_locks(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await rig.propose(TERMS)
        short, long = order.time_ms + 1_000, decode_terms(TERMS).lock_by_ms
        await rig.accept(SWAP_ID, 0, ANN.sign_lock(TERMS, 0, valid_until_ms=long))
        await rig.accept(SWAP_ID, 1, BOB.sign_lock(TERMS, 1, valid_until_ms=short))
        await rig.until(lambda: bool(order.waiting))
        [first] = order.submitted
        assert first.valid_until_ms == short
        order.pass_time(short)
        view = await rig.until_phase(SWAP_ID, SwapPhase.COLLECTING)
        # Ann's lock still stands; Bob's expired.
        assert [leg.state for leg in view.legs] == [LegState.GIVEN, LegState.AWAITED]
        with pytest.raises(Conflict):
            await rig.accept(SWAP_ID, 0, ANN.sign_lock(TERMS, 0, valid_until_ms=long - 1))
        with pytest.raises(Expired):
            await rig.accept(SWAP_ID, 1, BOB.sign_lock(TERMS, 1, valid_until_ms=short))
        order.waiting.clear()
        await rig.accept(SWAP_ID, 1, BOB.sign_lock(TERMS, 1, valid_until_ms=long))
        await rig.until(lambda: bool(order.waiting))
        order.block()
        await rig.until_phase(SWAP_ID, SwapPhase.OPEN)


# --- unknown is not failed ----------------------------------------------------------------------------------


async def test_an_unknown_outcome_is_waited_for_and_the_same_bytes_are_sent_again(path: Path) -> None:
    order = started()
    failures: list[LockstepError] = [
        UnavailablePeer(peer="order", retry_after_ms=1),
        TimedOut(peer="order"),
        UselessEntry(kind="Open", reason="a sequencer that errs"),
    ]
    async with running(path, order) as rig:
        order.failures = failures
        await rig.propose(TERMS)
        await rig.give(TERMS)
        await rig.until(lambda: len(order.submitted) == 4)
        assert len({bundle_id_of(CHAIN, each) for each in order.submitted}) == 1
        assert (await rig.swap(SWAP_ID)).phase is SwapPhase.SUBMITTED
        order.block()
        await rig.until_phase(SWAP_ID, SwapPhase.OPEN)


async def test_an_answer_that_was_lost_is_read_out_of_the_order(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        order.is_automatic, order.loses_answers = True, 1
        await rig.propose(TERMS)
        await rig.give(TERMS)
        await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        assert order.entries().count(encode_open(TERMS)) == 1


async def test_a_reveal_whose_answer_was_lost_is_answered_by_the_order(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        await locked(rig, SWAP_ID)
        order.is_automatic, order.loses_answers = True, 1
        response = await rig.reveal(SWAP_ID, PREIMAGE.reveal())
        assert (await rig.swap(SWAP_ID)).phase is SwapPhase.COMMITTED
        assert response.placement.height == order.tip.height


async def test_a_reveal_that_was_never_ordered_is_told_so_and_can_be_made_anew(path: Path) -> None:
    order = started()
    terms_bytes = make_terms(reveal_within_ms=100_000)
    async with running(path, order) as rig:
        swap_id = await opened(rig, terms_bytes)
        await locked(rig, swap_id)
        order.failures = [TimedOut(peer="order")] * 1_000
        preimage = ANN.preimage(terms_bytes).reveal()

        asked = asyncio.create_task(rig.reveal(swap_id, preimage))
        await rig.until(lambda: any(kinds(each) == ["Reveal"] for each in order.submitted))
        order.pass_time(order.time_ms + 30_000)
        with pytest.raises(NeverOrdered):
            await asked
        assert (await rig.swap(swap_id)).phase is SwapPhase.LOCKED
        order.failures, order.is_automatic = [], True
        await rig.reveal(swap_id, preimage)
        assert (await rig.swap(swap_id)).phase is SwapPhase.COMMITTED


async def test_a_refused_reveal_is_not_sent_again(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        order.failures = [UselessEntry(kind="Reveal", reason="the sequencer knows better")]
        with pytest.raises(UselessEntry, match="knows better"):
            await rig.reveal(SWAP_ID, PREIMAGE.reveal())
        assert (await rig.swap(SWAP_ID)).phase is SwapPhase.OPEN
        assert await rig.database.read("SELECT * FROM sendings") == []


# --- idempotency and conflict -------------------------------------------------------------------------------


async def test_the_same_key_means_the_same_request(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        first = await rig.propose(TERMS, key=b"k")
        assert await rig.propose(TERMS, key=b"k") == first
        # Another key for the same terms finds the same swap.
        assert await rig.propose(TERMS, key=b"other") == first
        with pytest.raises(Conflict):
            await rig.propose(make_terms(1), key=b"k")
        with pytest.raises(Conflict):
            await rig.propose(TERMS, key=b"k", policy=RevealPolicy.DELEGATED, preimage=PREIMAGE)
        with pytest.raises(Conflict):
            await rig.propose(TERMS, key=b"third", policy=RevealPolicy.DELEGATED, preimage=PREIMAGE)
    async with running(path, order) as rig:
        with pytest.raises(Conflict):
            await rig.propose(make_terms(1), key=b"k")
        for policy in (RevealPolicy.UP_FRONT, RevealPolicy.DELEGATED):
            with pytest.raises(Conflict):
                await rig.propose(TERMS, key=b"k", policy=policy, preimage=PREIMAGE)
        assert await rig.propose(TERMS, key=b"k") == first
        assert await rig.propose(TERMS, key=b"other") == first
        order.pass_time(decode_terms(TERMS).lock_by_ms)
        await rig.until_phase(SWAP_ID, SwapPhase.LAPSED)
        # The answer is the same swap even when its times have passed.
        assert (await rig.propose(TERMS, key=b"k")).phase is SwapPhase.LAPSED


async def test_locks_are_taken_once(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await rig.propose(TERMS)
        lock = ANN.sign_lock(TERMS, 0)
        first = await rig.accept(SWAP_ID, 0, lock)
        assert await rig.accept(SWAP_ID, 0, lock) == first
        with pytest.raises(Conflict):
            await rig.accept(SWAP_ID, 0, ANN.sign_lock(TERMS, 0, valid_until_ms=order.time_ms + 5_000))
        await rig.accept(SWAP_ID, 1, BOB.sign_lock(TERMS, 1))
        await rig.until(lambda: bool(order.waiting))
        order.block()
        await rig.until_followed()
        assert (await rig.accept(SWAP_ID, 0, lock)).phase is SwapPhase.OPEN
        await locked(rig, SWAP_ID)
        assert (await rig.accept(SWAP_ID, 0, lock)).phase is SwapPhase.LOCKED
        assert len(order.submitted) == 1


async def test_a_reveal_asked_twice_is_sent_once_and_answered_alike(path: Path) -> None:

    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        await locked(rig, SWAP_ID)
        asked = [asyncio.create_task(rig.reveal(SWAP_ID, PREIMAGE.reveal())) for _ in range(3)]
        await rig.until_sent(["Reveal"])
        asked[0].cancel()
        order.block()
        _, second, third = await asyncio.gather(*asked, return_exceptions=True)
        assert second == third
        assert await rig.reveal(SWAP_ID, PREIMAGE.reveal()) == second
        assert order.entries().count(encode_reveal(SWAP_ID, PREIMAGE.reveal())) == 1
    async with running(path, order) as rig:
        assert await rig.reveal(SWAP_ID, PREIMAGE.reveal()) == second


async def test_a_caller_that_goes_away_takes_nothing_back(path: Path) -> None:

    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        await locked(rig, SWAP_ID)
        asked = asyncio.create_task(rig.reveal(SWAP_ID, PREIMAGE.reveal()))
        await rig.until_sent(["Reveal"])
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        order.block()
        await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms_bytes", "error"),
    [
        (b"", Malformed),
        (TERMS[:-1], Malformed),
        (TERMS[:1] + bytes(32) + TERMS[33:], WrongChain),
        (TERMS.replace(b"\x01\x20" + ANN.account, b"\x02\x20" + ANN.account), Malformed),
        (TERMS.replace(b"\x05alpha", b"\x05gamma"), UnknownNamespace),
        (make_terms(time_ms=1_000_000 - 19_900), Expired),
        (make_terms(lock_within_ms=60_101), TooFarAhead),
        (make_terms(reveal_within_ms=86_400_000), TooFarAhead),
    ],
)
async def test_terms_that_cannot_be_opened(
    path: Path, terms_bytes: bytes, error: type[LockstepError]
) -> None:
    async with running(path, started()) as rig:
        with pytest.raises(error):
            await rig.propose(terms_bytes, key=b"k")
        # The key is free for the right request.
        await rig.propose(TERMS, key=b"k")


@pytest.mark.parametrize(
    ("policy", "preimage"),
    [
        (RevealPolicy.BY_TRADER, PREIMAGE),
        (RevealPolicy.UP_FRONT, None),
        (RevealPolicy.DELEGATED, Secret(bytes(32))),
        (RevealPolicy.DELEGATED, Secret(PREIMAGE.reveal() + b"\0")),
        (9, None),
    ],
)
async def test_preimages_go_with_their_policy(
    path: Path, policy: RevealPolicy, preimage: Secret | None
) -> None:
    async with running(path, started()) as rig:
        with pytest.raises(Malformed):
            await rig.propose(TERMS, policy=policy, preimage=preimage)
        with pytest.raises(Malformed):
            await rig.propose(TERMS, key=bytes(65))


@pytest.mark.parametrize(
    ("leg", "lock", "error"),
    [
        (0, b"", Malformed),
        (2, ANN.sign_lock(TERMS, 0), Malformed),
        (1, ANN.sign_lock(TERMS, 0), WrongRollup),
        (0, BOB.sign_lock(TERMS, 1), WrongRollup),
        (0, ANN.sign_lock(make_terms(1), 0), Malformed),
        (0, ANN.sign_faucet("alpha", asset="RED", amount=1, valid_until_ms=1_005_000), Malformed),
        (0, bytes(64) + ANN.sign_lock(TERMS, 0)[64:], BadSignature),
        (0, ANN.sign_lock(TERMS, 0, valid_until_ms=1_000_100), Expired),
        (0, ANN.sign_lock(TERMS, 0, valid_until_ms=1_600_101), TooFarAhead),
    ],
)
async def test_locks_that_do_not_fit(path: Path, leg: int, lock: bytes, error: type[LockstepError]) -> None:
    async with running(path, started()) as rig:
        await rig.propose(TERMS)
        with pytest.raises(error):
            await rig.accept(SWAP_ID, leg, lock)
        assert [each.state for each in (await rig.swap(SWAP_ID)).legs] == [LegState.AWAITED] * 2


async def test_a_strangers_lock(path: Path) -> None:
    async with running(path, started()) as rig:
        await rig.propose(TERMS)
        lock = EVE.sign_call("alpha", Lock(SWAP_ID, 0), valid_until_ms=1_010_000)
        with pytest.raises(Malformed, match="sender"):
            await rig.accept(SWAP_ID, 0, lock)


async def test_unknown_swaps(path: Path) -> None:
    async with running(path, started()) as rig:
        with pytest.raises(UnknownSwap):
            await rig.accept(SWAP_ID, 0, ANN.sign_lock(TERMS, 0))
        with pytest.raises(UnknownSwap):
            await rig.reveal(SWAP_ID, bytes(32))
        with pytest.raises(UnknownSwap):
            await rig.cancel(ANN.sign_cancel(SWAP_ID))
        await rig.propose(TERMS)
        with pytest.raises(UselessEntry, match="not in the order"):
            await rig.reveal(SWAP_ID, PREIMAGE.reveal())
        with pytest.raises(UselessEntry, match="not in the order"):
            await rig.cancel(ANN.sign_cancel(SWAP_ID))
        with pytest.raises(UselessEntry, match="hashlock"):
            await rig.reveal(SWAP_ID, bytes(32))


async def test_until_it_has_caught_up_it_calls_nothing_unknown(path: Path) -> None:
    async with running(path, FakeOrder()) as rig:
        with pytest.raises(NotReady):
            await rig.accept(SWAP_ID, 0, ANN.sign_lock(TERMS, 0))
        with pytest.raises(NotReady):
            await rig.propose(TERMS)
        with pytest.raises(NotReady):
            await rig.service.explain(bridge_pb2.ExplainSwapRequest(swap_id=SWAP_ID))
        rig.order.block()
        await rig.until(rig.coordinator.caught_up.is_set)
        with pytest.raises(UnknownSwap):
            await rig.service.explain(bridge_pb2.ExplainSwapRequest(swap_id=SWAP_ID))
        await rig.propose(TERMS)


# --- others' hands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [RevealPolicy.BY_TRADER, RevealPolicy.UP_FRONT])
async def test_a_swap_that_a_stranger_opened_gets_its_locks_alone(path: Path, policy: RevealPolicy) -> None:
    order = started()
    async with running(path, order) as rig:
        preimage = None if policy is RevealPolicy.BY_TRADER else PREIMAGE
        await rig.propose(TERMS, policy=policy, preimage=preimage)
        order.block(swap_bundle(encode_open(TERMS), valid_until_ms=order.time_ms + 5_000))
        await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        await rig.give(TERMS)
        await rig.until_sent(["alpha"])
        await rig.until_sent(["beta"])
        order.block()
        assert order.entries("alpha") + order.entries("beta") == locks_of(TERMS)
        await rig.until_followed()
        if policy is RevealPolicy.UP_FRONT:
            assert (await rig.until_phase(SWAP_ID, SwapPhase.REVEALED)).preimage == PREIMAGE.reveal()
        await rig.until(lambda: not rig.coordinator.book.live[SWAP_ID].sendings)
        sent = len(order.submitted)
        await locked(rig, SWAP_ID)
        assert len(order.submitted) == sent


async def test_an_opening_on_its_way_that_a_stranger_overtakes(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await rig.propose(TERMS)
        order.failures = [UnavailablePeer(peer="order")]
        await rig.give(TERMS)
        order.block(
            swap_bundle(encode_open(TERMS), valid_until_ms=order.time_ms + 5_000), takes_waiting=False
        )
        await rig.until_sent(["alpha"])
        await rig.until_sent(["beta"])


async def test_two_coordinators_drive_one_swap(path: Path, tmp_path: Path) -> None:
    order = started()
    async with running(path, order) as one, running(tmp_path / "two.sqlite", order) as two:
        for rig in (one, two):
            await rig.propose(TERMS, policy=RevealPolicy.DELEGATED, preimage=PREIMAGE)
            await rig.give(TERMS)
        await one.until(lambda: len(order.submitted) == 2)
        # The same terms and locks make the same bundle.
        assert len(order.waiting) == 1
        order.block()
        for rig in (one, two):
            await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        for leg in range(2):
            order.attest(SWAP_ID, leg)
        order.is_automatic = True
        for rig in (one, two):
            await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)
        assert order.entries().count(encode_open(TERMS)) == 1


async def test_two_openings_in_one_block_are_one_swap(path: Path, tmp_path: Path) -> None:
    order = started()
    order.is_admitting = False
    async with running(path, order) as one, running(tmp_path / "two.sqlite", order) as two:
        for number, rig in enumerate((one, two)):
            await rig.propose(TERMS)
            for leg, trader in enumerate((ANN, BOB)):
                lock = trader.sign_lock(TERMS, leg, valid_until_ms=order.time_ms + 5_000 + number)
                await rig.accept(SWAP_ID, leg, lock)
        await one.until(lambda: len(order.waiting) == 2)
        order.block()
        assert order.entries().count(encode_open(TERMS)) == 2
        for rig in (one, two):
            await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
            # Either's locks were ordered with its bundle, and need not go again.
            assert not rig.coordinator.book.live[SWAP_ID].sendings


async def test_a_reveal_by_somebody_else_answers_who_waits(path: Path) -> None:

    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        await locked(rig, SWAP_ID)
        order.failures = [TimedOut(peer="order")] * 1_000
        asked = asyncio.create_task(rig.reveal(SWAP_ID, PREIMAGE.reveal()))
        await rig.until(lambda: any(kinds(each) == ["Reveal"] for each in order.submitted))
        entry = encode_reveal(SWAP_ID, PREIMAGE.reveal())
        wrong = encode_reveal(SWAP_ID, bytes(32))
        other = swap_bundle(wrong, entry, valid_until_ms=order.time_ms + 7_000)
        order.block(other)
        response = await asked
        assert response.placement.bundle_id == bundle_id_of(CHAIN, other)
