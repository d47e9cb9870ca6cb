"""The writer over an engine that the test holds back: who is answered when, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from lockstep import limits
from lockstep.block import AdmittedBundle
from lockstep.errors import (
    Expired,
    LockstepError,
    NotReady,
    QueueFull,
    QuotaExceeded,
    ReadOnly,
    ShuttingDown,
    TooFarAhead,
    TooManyLiveIds,
    UselessEntry,
)
from lockstep.genesis import Quota
from lockstep.order import Bundle, Placement, Transaction
from lockstep.register import RULES_KNOWN, genesis_register
from lockstep.registry_entries import RegistryChange, SetRules, SignedBy, sign_change
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height, PublicKey
from sequencer.admission import Admitted, admit
from sequencer.answers import Outcome
from sequencer.builder import Proposal, Run
from sequencer.chain import ChainState
from sequencer.engine import SealedBlock
from sequencer.feed import Feed
from sequencer.live_ids import LiveIds
from sequencer.pace import BUNDLES_ALONE, BUNDLES_ENOUGH
from sequencer.writer import DECISION_IDS_SHARE, Writer
from tests.reference.world import cancel_entry, make_terms, open_entry, reveal_entry
from tests.unit.sequencer.chain import (
    AMPLE,
    CHAIN,
    GENESIS,
    GOVERNANCE,
    START,
    STRANGER,
    TIME_MS,
    MemoryEngine,
    admitted,
    parcel_of,
    waiting_room,
)

FOR_EVER_MS = 3_600_000


class HeldEngine(MemoryEngine):
    """Makes a block durable when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Semaphore(0)
        self.allowed = asyncio.Semaphore(0)
        self.failure: Exception | None = None

    async def order(self, proposal: Proposal) -> SealedBlock:
        self.asked.release()
        await self.allowed.acquire()
        if self.failure is not None:
            raise self.failure
        return await super().order(proposal)


@dataclass
class Rig:
    """A writer that runs, and the hands on everything around it."""

    engine: HeldEngine
    feed: Feed
    writer: Writer
    task: "asyncio.Task[None] | None" = None
    clock_ms: list[int] = field(default_factory=lambda: [1_000])

    async def asked(self) -> None:
        """Wait until the engine has a block."""
        await self.engine.asked.acquire()

    def let(self) -> None:
        """Let the engine make a block durable."""
        self.engine.allowed.release()


@asynccontextmanager
async def running(
    *,
    heartbeat_ms: int = FOR_EVER_MS,
    queue_bundles_max: int = 100,
    queue_bytes_max: int = 10**9,
    live_ids_max: int = 1_000,
    public_key: PublicKey | None = None,
    quota: Quota = AMPLE,
    gather_ms: int = 0,
) -> AsyncIterator[Rig]:
    """Run a writer past its first block, which is a heartbeat."""
    engine = HeldEngine()
    if public_key is not None:
        engine.public_key = public_key
    feed = Feed(engine)
    clock_ms = [1_000]
    writer = Writer(
        engine,
        feed,
        ChainState(genesis_register(GENESIS)),
        LiveIds(),
        waiting_room(bundles_max=queue_bundles_max, bytes_max=queue_bytes_max, quota=quota),
        genesis=START,
        clock_ms=lambda: clock_ms[0],
        heartbeat_ms=heartbeat_ms,
        live_ids_max=live_ids_max,
        gather_ms=gather_ms,
    )
    rig = Rig(engine, feed, writer, clock_ms=clock_ms)
    async with asyncio.timeout(20):
        rig.task = asyncio.create_task(writer.run())
        try:
            if public_key is None:
                await rig.asked()
                rig.let()
                await until(lambda: feed.height == 1)
            yield rig
        finally:
            writer.stop()
            for _ in range(100):
                rig.let()
            await asyncio.gather(rig.task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the caller's timeout is the deadline."""
    while not condition():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0)


def refusal(writer: Writer, bundle: AdmittedBundle) -> LockstepError:
    with pytest.raises(LockstepError) as refused:
        writer.submit(bundle)
    return refused.value


async def test_nobody_is_answered_before_the_block_is_durable_and_published() -> None:
    async with running() as rig:
        answer = rig.writer.submit(admitted(b"x"))
        heights_when_answered: list[tuple[int, int]] = []
        answer.add_done_callback(
            lambda _: heights_when_answered.append((len(rig.engine.blocks), rig.feed.height))
        )
        await rig.asked()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not answer.done()
        assert rig.feed.height == 1
        rig.let()
        placement = await answer
        assert (placement.height, placement.first_index, placement.count) == (2, 0, 1)
        await until(lambda: bool(heights_when_answered))
        assert heights_when_answered == [(2, 2)]


async def test_a_lone_bundle_goes_at_once_and_a_flood_gathers_behind_it() -> None:
    async with running() as rig:
        first = rig.writer.submit(admitted(b"first"))
        await rig.asked()
        flood = [rig.writer.submit(admitted(b"%d" % number)) for number in range(50)]
        rig.let()
        await rig.asked()
        rig.let()
        assert (await first).height == 2
        places = [await each for each in flood]
        assert [(each.height, each.first_index) for each in places] == [(3, number) for number in range(50)]


async def test_after_a_shared_block_the_next_gathers_until_it_is_worth_its_cost() -> None:
    async with running(queue_bundles_max=10_000, live_ids_max=10_000, gather_ms=FOR_EVER_MS) as rig:
        first = [rig.writer.submit(admitted(b"shared %d" % number)) for number in range(BUNDLES_ALONE + 1)]
        await rig.asked()
        rig.clock_ms[0] += FOR_EVER_MS
        rig.let()
        await asyncio.gather(*first)
        flood = [rig.writer.submit(admitted(b"%d" % number)) for number in range(BUNDLES_ENOUGH - 1)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert rig.engine.asked.locked()
        flood.append(rig.writer.submit(admitted(b"enough")))
        await rig.asked()
        rig.let()
        assert {(await each).height for each in flood} == {3}


async def test_after_a_block_of_few_the_next_does_not_gather() -> None:
    async with running(gather_ms=FOR_EVER_MS) as rig:
        for height in (2, 3):
            answers = [
                rig.writer.submit(admitted(b"%d" % (10 * height + each))) for each in range(BUNDLES_ALONE)
            ]
            await rig.asked()
            rig.clock_ms[0] += FOR_EVER_MS
            rig.let()
            assert {(await each).height for each in answers} == {height}


async def test_a_clock_that_is_put_back_makes_no_block_gather_for_longer() -> None:
    async with running(gather_ms=1) as rig:
        first = [rig.writer.submit(admitted(b"shared %d" % number)) for number in range(BUNDLES_ALONE + 1)]
        await rig.asked()
        rig.clock_ms[0] += FOR_EVER_MS
        rig.let()
        await asyncio.gather(*first)
        rig.clock_ms[0] -= FOR_EVER_MS
        late = rig.writer.submit(admitted(b"late"))
        await rig.asked()
        rig.let()
        assert (await late).height == 3


@pytest.mark.parametrize("end", ["stop", "refuse"])
async def test_a_block_that_gathers_holds_up_no_end(end: str) -> None:
    async with running(gather_ms=FOR_EVER_MS) as rig:
        first = [rig.writer.submit(admitted(b"shared %d" % number)) for number in range(BUNDLES_ALONE + 1)]
        await rig.asked()
        rig.clock_ms[0] += FOR_EVER_MS
        rig.let()
        await asyncio.gather(*first)
        late = rig.writer.submit(admitted(b"late"))
        for _ in range(10):
            await asyncio.sleep(0)
        if end == "refuse":
            rig.writer.refuse(ShuttingDown())
        rig.writer.stop()
        with pytest.raises(ShuttingDown):
            await late
        assert rig.task is not None
        await rig.task


async def test_the_same_bundle_shares_one_place_in_flight_and_after() -> None:
    async with running() as rig:
        once = admitted(b"once")
        answers = [rig.writer.submit(once) for _ in range(2)]
        await rig.asked()
        answers.append(rig.writer.submit(once))
        assert rig.writer.live_ids == 1
        rig.let()
        placements = [await each for each in answers]
        placements.append(await rig.writer.submit(once))
        assert placements == [placements[0]] * 4
        assert rig.writer.live_ids == 1


async def test_a_submitter_that_goes_away_takes_nothing_with_it() -> None:
    async with running() as rig:
        bundle = admitted(b"x")
        calls = [asyncio.create_task(wait_for(rig.writer, bundle)) for _ in range(2)]
        await rig.asked()
        calls[0].cancel()
        rig.let()
        assert (await calls[1]).height == 2
        assert calls[0].cancelled()


async def wait_for(writer: Writer, bundle: AdmittedBundle) -> Placement:
    return await writer.submit(bundle)


class Told:
    """Somebody who asked, and what he was told."""

    def __init__(self) -> None:
        self.outcomes: dict[int, Outcome] = {}

    def tell(self, number: int, outcome: Outcome) -> None:
        assert number not in self.outcomes
        self.outcomes[number] = outcome

    def tell_run(self, numbers: Sequence[int], run: Run) -> None:
        for number, placement in zip(numbers, run, strict=True):
            self.tell(number, placement)


def together(bundles: Sequence[AdmittedBundle]) -> Admitted:
    """Return bundles as they are when they came in one message."""
    parcel = parcel_of(bundles)
    return Admitted(parcel.bundle_ids, parcel.windows_ms, [parcel])


async def test_many_that_need_no_closer_look_are_accepted_at_once() -> None:
    bundles = [admitted(b"%d" % number) for number in range(5)]
    async with running() as rig:
        told, other = Told(), Told()
        assert rig.writer.accept_at_once([7, 8, 9], together(bundles[:3]), told)
        rig.writer.accept(bundles[1], other, 3)
        await rig.asked()
        rig.let()
        await until(lambda: len(told.outcomes) == 3)
        places = [
            Placement(bundle.bundle_id, Height(2), index, 1) for index, bundle in enumerate(bundles[:3])
        ]
        assert told.outcomes == dict(zip([7, 8, 9], places, strict=True))
        assert other.outcomes == {3: places[1]}


async def test_askers_whose_bundles_joined_are_each_told_of_their_own() -> None:
    bundles = [admitted(b"%d" % number) for number in range(5)]
    async with running() as rig:
        first = rig.writer.submit(admitted(b"first"))
        await rig.asked()
        one, other = Told(), Told()
        assert rig.writer.accept_at_once([1, 2], together(bundles[:2]), one)
        assert rig.writer.accept_at_once([1], together(bundles[2:3]), other)
        assert rig.writer.accept_at_once([3, 4], together(bundles[3:]), one)
        for _ in range(2):
            rig.let()
        await first
        await until(lambda: len(one.outcomes) + len(other.outcomes) == 5)
        places = [Placement(each.bundle_id, Height(3), index, 1) for index, each in enumerate(bundles)]
        assert one.outcomes == dict(zip([1, 2, 3, 4], places[:2] + places[3:], strict=True))
        assert other.outcomes == {1: places[2]}


@pytest.mark.parametrize(
    "others",
    [
        [admitted(b"twice"), admitted(b"twice")],
        [admitted(b"under way")],
        [admitted(b"ordered")],
        [admitted(b"late", valid_until_ms=TIME_MS)],
        [admitted(b"early", valid_until_ms=TIME_MS + 1_000_000)],
        [admitted(b"%d" % number) for number in range(6)],
    ],
    ids=["a copy", "under way", "ordered", "expired", "too far ahead", "too many ids"],
)
async def test_if_one_needs_a_closer_look_none_is_accepted_at_once(others: list[AdmittedBundle]) -> None:
    async with running(live_ids_max=8) as rig:
        ordered = rig.writer.submit(admitted(b"ordered"))
        await rig.asked()
        rig.let()
        await ordered
        rig.writer.submit(admitted(b"under way"))
        told, bundles = Told(), [admitted(b"new"), *others]
        assert not rig.writer.accept_at_once(range(len(bundles)), together(bundles), told)
        assert (told.outcomes, rig.writer.live_ids) == ({}, 2)
        rig.writer.refuse(ShuttingDown())
        assert not rig.writer.accept_at_once([1], together([admitted(b"new")]), told)


async def test_a_full_queue_refuses_before_it_accepts() -> None:
    bundles = [admitted(b"%d" % number) for number in range(5)]
    async with running(queue_bundles_max=4) as rig:
        rig.writer.submit(bundles[0])
        await rig.asked()
        kept = [rig.writer.submit(each) for each in bundles[1:3]]
        assert isinstance(refusal(rig.writer, bundles[3]), QueueFull)
        rig.let()
        await rig.asked()
        rig.let()
        assert [(await each).first_index for each in kept] == [0, 1]
        again = rig.writer.submit(bundles[3])
        await rig.asked()
        rig.let()
        assert (await again).height == 4


async def test_a_queue_is_full_by_bytes_too_and_empties_again() -> None:
    bundles = [admitted(bytes([number]) * 50) for number in range(4)]
    async with running(queue_bytes_max=350) as rig:
        for round_bundles in (bundles[:2], bundles[2:]):
            answers = [rig.writer.submit(each) for each in round_bundles]
            assert isinstance(refusal(rig.writer, admitted(b"z" * 50)), QueueFull)
            await rig.asked()
            rig.let()
            await asyncio.gather(*answers)


async def test_live_ids_are_bounded_and_expire() -> None:
    async with running(live_ids_max=1, heartbeat_ms=100) as rig:
        first = rig.writer.submit(admitted(b"x", valid_until_ms=TIME_MS + 900))
        other = admitted(b"y", valid_until_ms=TIME_MS + 30_000)
        assert isinstance(refusal(rig.writer, other), TooManyLiveIds)
        await rig.asked()
        rig.let()
        await first
        assert isinstance(refusal(rig.writer, other), TooManyLiveIds)
        # The same one is known, which needs no room.
        assert await rig.writer.submit(admitted(b"x", valid_until_ms=TIME_MS + 900)) == await first
        rig.clock_ms[0] += 1_500
        await rig.asked()
        rig.let()
        await until(lambda: rig.feed.height == 3)
        second = rig.writer.submit(other)
        await rig.asked()
        rig.let()
        assert (await second).height == 4


async def test_windows_are_judged_now_and_again_at_the_block() -> None:
    async with running() as rig:
        head_ms = rig.writer.tip.time_ms
        latest_ms = head_ms + limits.VALIDITY_WINDOW_MS_MAX
        assert isinstance(refusal(rig.writer, admitted(b"x", valid_until_ms=head_ms)), Expired)
        assert isinstance(refusal(rig.writer, admitted(b"x", valid_until_ms=latest_ms + 1)), TooFarAhead)
        first = rig.writer.submit(admitted(b"first"))
        await rig.asked()
        # It waits for the block before it, and by then its window is over.
        late = rig.writer.submit(admitted(b"late", valid_until_ms=head_ms + 101))
        in_time = rig.writer.submit(admitted(b"in time", valid_until_ms=head_ms + 102))
        rig.clock_ms[0] += 100
        rig.let()
        await rig.asked()
        rig.let()
        assert (await first).height == 2
        assert ((await in_time).height, (await in_time).first_index) == (3, 0)
        with pytest.raises(Expired):
            await late
        assert rig.writer.tip.time_ms == head_ms + 101


async def test_nobody_is_told_that_he_expired_before_a_durable_block_shows_it() -> None:
    async with running() as rig:
        head_ms = rig.writer.tip.time_ms
        first = rig.writer.submit(admitted(b"first"))
        await rig.asked()
        late = rig.writer.submit(admitted(b"late", valid_until_ms=head_ms + 100))
        rig.clock_ms[0] += 100
        rig.let()
        await first
        # Nothing else waits, yet a block is made: it brings the time that the window ends with.
        await rig.asked()
        assert not late.done()
        rig.let()
        with pytest.raises(Expired):
            await late
        assert rig.feed.height == 3
        assert rig.writer.tip.time_ms >= head_ms + 100


async def test_what_expired_in_a_block_that_was_lost_is_unknown() -> None:
    async with running() as rig:
        head_ms = rig.writer.tip.time_ms
        first = rig.writer.submit(admitted(b"first"))
        await rig.asked()
        late = rig.writer.submit(admitted(b"late", valid_until_ms=head_ms + 100))
        rig.clock_ms[0] += 100
        rig.let()
        await first
        await rig.asked()
        rig.engine.failure = OSError("the disk is gone")
        rig.let()
        with pytest.raises(ShuttingDown):
            await late
        assert rig.task is not None
        with pytest.raises(OSError, match="the disk is gone"):
            await rig.task


async def test_an_idle_chain_has_a_heartbeat() -> None:
    async with running(heartbeat_ms=10) as rig:
        for height in (2, 3):
            rig.clock_ms[0] += 10
            await rig.asked()
            rig.let()
            await until(lambda expected=height: rig.feed.height == expected)  # type: ignore[misc]
        headers = [each.header.header for each in rig.engine.blocks]
        assert [each.transaction_count for each in headers] == [0, 0, 0]
        assert headers[1].time_ms - headers[0].time_ms == 10


async def test_when_the_engine_fails_it_ends_and_everybody_is_told() -> None:
    async with running() as rig:
        in_block = rig.writer.submit(admitted(b"in the block"))
        await rig.asked()
        waiting = rig.writer.submit(admitted(b"waiting"))
        rig.engine.failure = OSError("the disk is gone")
        rig.let()
        for answer in (in_block, waiting):
            with pytest.raises(ShuttingDown):
                await answer
        assert rig.task is not None
        with pytest.raises(OSError, match="the disk is gone"):
            await rig.task
        assert isinstance(refusal(rig.writer, admitted(b"later")), ShuttingDown)
        assert rig.feed.height == 1


async def test_a_refusal_ends_what_waits_but_not_what_the_engine_has() -> None:
    read_only = ReadOnly(reason="it forgot", advice="restore it")
    async with running(heartbeat_ms=10) as rig:
        in_block = rig.writer.submit(admitted(b"in the block"))
        await rig.asked()
        waiting = rig.writer.submit(admitted(b"waiting"))
        rig.writer.refuse(read_only)
        rig.writer.allow()
        with pytest.raises(ReadOnly):
            await waiting
        rig.let()
        placement = await in_block
        assert isinstance(refusal(rig.writer, admitted(b"later")), ReadOnly)
        # What is known is still answered, and no heartbeat comes.
        assert await rig.writer.submit(admitted(b"in the block")) == placement
        rig.clock_ms[0] += 1_000
        for _ in range(100):
            rig.let()
            await asyncio.sleep(0)
        assert rig.feed.height == 2


async def test_not_ready_passes() -> None:
    async with running() as rig:
        rig.writer.refuse(NotReady(reason="asking"))
        assert isinstance(refusal(rig.writer, admitted(b"x")), NotReady)
        rig.writer.allow()
        answer = rig.writer.submit(admitted(b"x"))
        await rig.asked()
        rig.let()
        assert (await answer).height == 2


async def test_under_another_key_than_the_chains_nothing_is_ordered() -> None:
    async with running(public_key=STRANGER.public_key) as rig:
        await until(lambda: rig.writer.refusal is not None)
        error = refusal(rig.writer, admitted(b"x"))
        assert isinstance(error, ReadOnly)
        assert "another key" in error.reason
        assert rig.engine.blocks == []


async def test_stopping_finishes_the_block_and_refuses_the_rest() -> None:
    async with running() as rig:
        in_block = rig.writer.submit(admitted(b"in the block"))
        await rig.asked()
        waiting = rig.writer.submit(admitted(b"waiting"))
        rig.writer.stop()
        rig.let()
        assert (await in_block).height == 2
        with pytest.raises(ShuttingDown):
            await waiting
        assert rig.task is not None
        await rig.task


# --- what admission knows -----------------------------------------------------------------------------------

TERMS = make_terms(chain=CHAIN, lock_by_ms=TIME_MS + 30_000, expires_ms=TIME_MS + 40_000)


def swap_bundle(*entries: bytes, until_ms: int = TIME_MS + 30_000) -> AdmittedBundle:
    transactions = tuple(Transaction(SWAP_NAMESPACE, entry) for entry in entries)
    return admit(CHAIN, Bundle(transactions, until_ms), {SWAP_NAMESPACE})


async def test_what_rests_on_an_opening_is_taken_while_that_waits_and_while_its_block_is_made() -> None:
    reveal, cancel = reveal_entry(TERMS), cancel_entry(TERMS, chain=CHAIN)
    async with running() as rig:
        assert isinstance(refusal(rig.writer, swap_bundle(reveal)), UselessEntry)
        opening = rig.writer.submit(swap_bundle(open_entry(TERMS)))
        waiting = rig.writer.submit(swap_bundle(reveal))
        await rig.asked()
        in_flight = rig.writer.submit(swap_bundle(cancel))
        rig.let()
        await asyncio.gather(opening, waiting)
        # The block is in the register: from now on it is known for sure.
        assert isinstance(refusal(rig.writer, swap_bundle(reveal, until_ms=TIME_MS + 29_000)), UselessEntry)
        await rig.asked()
        rig.let()
        assert (await in_flight).height == 3


async def test_entries_are_judged_by_the_time_that_passed_since_the_newest_block() -> None:
    async with running() as rig:
        opening = rig.writer.submit(swap_bundle(open_entry(TERMS)))
        await rig.asked()
        rig.let()
        await opening
        soon = make_terms(
            "soon", chain=CHAIN, lock_by_ms=rig.writer.tip.time_ms + 500, expires_ms=TIME_MS + 10_000
        )
        rig.clock_ms[0] += 500
        assert isinstance(refusal(rig.writer, swap_bundle(open_entry(soon))), UselessEntry)
        rig.clock_ms[0] -= 1
        rig.writer.submit(swap_bundle(open_entry(soon)))


async def test_decisions_have_ids_in_reserve() -> None:
    async with running(live_ids_max=DECISION_IDS_SHARE) as rig:
        flood = [rig.writer.submit(admitted(b"%d" % number)) for number in range(DECISION_IDS_SHARE - 1)]
        opening = rig.writer.submit(swap_bundle(open_entry(TERMS)))
        await rig.asked()
        rig.let()
        await asyncio.gather(*flood, opening)
        assert isinstance(refusal(rig.writer, admitted(b"one more")), TooManyLiveIds)
        reveal = rig.writer.submit(swap_bundle(reveal_entry(TERMS)))
        error = refusal(rig.writer, swap_bundle(cancel_entry(TERMS, chain=CHAIN)))
        assert isinstance(error, TooManyLiveIds)
        await rig.asked()
        rig.let()
        assert (await reveal).height == 3


async def test_what_is_refused_for_its_quota_leaves_no_trace() -> None:
    async with running(quota=Quota(1, 10**9)) as rig:
        first = rig.writer.submit(admitted(b"1"))
        error = refusal(rig.writer, admitted(b"2"))
        assert isinstance(error, QuotaExceeded)
        assert rig.writer.live_ids == 1
        await rig.asked()
        rig.let()
        await first
        rig.clock_ms[0] += error.retry_after_ms or 0
        second = rig.writer.submit(admitted(b"2"))
        await rig.asked()
        rig.let()
        assert (await second).height == 3


async def test_before_rules_that_it_does_not_know_it_stops_ordering() -> None:
    change = RegistryChange(CHAIN, "rules", 1, Height(3), SetRules(RULES_KNOWN + 1))
    entry = sign_change(GOVERNANCE, change, SignedBy.GOVERNANCE)
    async with running() as rig:
        transactions = (Transaction(REGISTRY_NAMESPACE, entry),)
        last = rig.writer.submit(admit(CHAIN, Bundle(transactions, TIME_MS + 1_000), {REGISTRY_NAMESPACE}))
        await rig.asked()
        rig.let()
        assert (await last).height == 2
        error = refusal(rig.writer, swap_bundle(open_entry(TERMS)))
        assert isinstance(error, ReadOnly)
        assert "rules" in error.reason
        assert rig.feed.height == 2
