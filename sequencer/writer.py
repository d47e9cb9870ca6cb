"""The one writer: what is submitted waits here, becomes blocks, and is answered once it is durable.

Owns the remembered bundles and when blocks are made (`sequencer.pace`). While one block is made durable the
next one gathers: a lone bundle is ordered at once, a flood fills large blocks. Who submitted may go away at
any time; the block does not know. Invariants: a bundle is in at most one block; nobody is answered, not even
that his window has passed, before the block that shows it is durable and proven; a block that was given to
the engine is never given up.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from deploy.node.failpoints import FAILPOINTS
from lockstep.block import AdmittedBundle, Parcel
from lockstep.errors import (
    Expired,
    LockstepError,
    NotReady,
    ReadOnly,
    ShuttingDown,
    TooManyLiveIds,
)
from lockstep.header import Tip, header_hash, tip_of
from lockstep.order import Placement
from lockstep.register import RULES_KNOWN
from lockstep.types import BundleId
from sequencer.admission import Admitted, has_window, verify_window
from sequencer.answers import Answer, Answers, Asker
from sequencer.builder import Proposal, Run, propose
from sequencer.chain import ChainState
from sequencer.engine import OrderingEngine, SealedBlock
from sequencer.feed import Feed
from sequencer.live_ids import LiveIds
from sequencer.log_time import Stopwatch
from sequencer.pace import BUNDLES_ENOUGH, gathering_ms
from sequencer.stages import Stages
from sequencer.waiting import Late, WaitingRoom

PUBLISHED: Final = FAILPOINTS.declare(
    "sequencer.block.published", "streams have the block, nobody is answered"
)
DECISION_IDS_SHARE: Final = 8
"""One part in so many of the ids that may be remembered is there beside them, for decisions alone."""

BEFORE_ACK: Final = FAILPOINTS.declare("sequencer.submit.before_ack", "a bundle's submitter is answered next")


class Writer:
    """Orders bundles; see the module."""

    def __init__(
        self,
        engine: OrderingEngine,
        feed: Feed,
        chain: ChainState,
        live: LiveIds,
        waiting: WaitingRoom,
        *,
        genesis: Tip,
        clock_ms: Callable[[], int],
        heartbeat_ms: int,
        live_ids_max: int,
        gather_ms: int = 0,
        stages: Stages | None = None,
    ) -> None:
        """Continue the engine's head; `clock_ms` is a monotonic clock in whole milliseconds.

        While many submit a block gathers for up to `gather_ms` after the one before.
        """
        self._engine = engine
        self._feed = feed
        self._chain = chain
        self._live = live
        self._waiting = waiting
        self._clock_ms = clock_ms
        self._heartbeat_ms = heartbeat_ms
        self._live_ids_max = live_ids_max
        self._gather_ms = gather_ms
        self._gathers_until_ms = 0
        self.stages = stages or Stages()
        """How long ordering takes."""
        self._waiting_since_ns: int | None = None
        self._tip = genesis if engine.head is None else _tip(engine.head)
        self._stopwatch = Stopwatch(self._tip.time_ms)
        self._answers = Answers()
        self._work = asyncio.Event()
        self._enough = asyncio.Event()
        self._refusal: LockstepError | None = None
        self._stopping = False
        self._may_order()

    @property
    def tip(self) -> Tip:
        """The newest block."""
        return self._tip

    @property
    def refusal(self) -> LockstepError | None:
        """Why nothing is ordered; None if it is."""
        return self._refusal

    @property
    def live_ids(self) -> int:
        """How many bundles are remembered."""
        return len(self._live) + len(self._answers)

    def submit(self, bundle: AdmittedBundle) -> "asyncio.Future[Placement]":
        """Accept a bundle and return a future of its place. Raises as `accept`; so does the future."""
        answer = Answer()
        self.accept(bundle, answer, 0)
        return answer.place

    def accept(self, bundle: AdmittedBundle, asker: Asker, number: int) -> None:
        """Accept a bundle, of whose place `asker` is told under `number`.

        A bundle that is known gets its first place. Raises, having accepted nothing, in this order: ReadOnly,
        NotReady or ShuttingDown; Expired, TooFarAhead; what `WaitingRoom.judge` raises; TooManyLiveIds; what
        `WaitingRoom.take` raises. The outcome may be Expired or ShuttingDown.
        """
        bundle_id = bundle.bundle_id
        if bundle_id in self._answers:
            self._answers.expect(bundle_id, asker, number)
            return
        placement = self._live.find(bundle_id, bundle.valid_until_ms)
        if placement is not None:
            asker.tell(number, placement)
            return
        if self._refusal is not None:
            # Raised many times: the traceback of the times before must not pile up on it.
            raise self._refusal.with_traceback(None)
        verify_window(bundle.valid_until_ms, self._tip.time_ms)
        # The next block is made now or later, so that this is the least that its log time can be.
        clock_ms = self._clock_ms()
        time_ms = self._stopwatch.time_ms_at(clock_ms)
        chain = self._chain
        candidate = self._waiting.judge(bundle, chain.register, log_size=chain.log_size, time_ms=time_ms)
        reserve = self._live_ids_max // DECISION_IDS_SHARE if candidate.is_decision else 0
        if self.live_ids >= self._live_ids_max + reserve:
            raise TooManyLiveIds(limit=self._live_ids_max)
        self._waiting.take(candidate, chain.registry, clock_ms)
        self._answers.expect(bundle_id, asker, number)
        self._has_work()

    def accept_at_once(self, numbers: Sequence[int], admitted: Admitted, asker: Asker) -> bool:
        """Accept bundles, of whose places `asker` is told under `numbers`, if none needs a closer look.

        Answers whether they were accepted, all or none. If not, `accept` says what becomes of each.
        """
        bundle_ids, windows_ms = admitted.bundle_ids, admitted.windows_ms
        if (
            self._refusal is not None
            or len(set(bundle_ids)) < len(bundle_ids)
            or self._answers.has_any(bundle_ids)
            or self._live.has_any(bundle_ids, windows_ms)
            or not has_window(min(windows_ms), self._tip.time_ms)
            or not has_window(max(windows_ms), self._tip.time_ms)
            or self.live_ids + len(bundle_ids) > self._live_ids_max
            or not self._waiting.take_at_once(admitted.parcels, self._chain.registry, self._clock_ms())
        ):
            return False
        self._answers.expect_all(bundle_ids, numbers, asker)
        self._has_work()
        return True

    def _has_work(self) -> None:
        if self._waiting_since_ns is None:
            self._waiting_since_ns = self.stages.now_ns()
        self._work.set()
        if len(self._waiting) >= BUNDLES_ENOUGH:
            self._enough.set()

    def find(self, bundle_id: BundleId) -> Placement | None:
        """Return where a bundle stands, if its window is still open."""
        return self._live.find(bundle_id)

    def refuse(self, refusal: ReadOnly | NotReady | ShuttingDown) -> None:
        """Order nothing from now on; a block that the engine has is finished."""
        self._refusal = refusal
        self._waiting_since_ns = None
        self._enough.set()
        for bundle_id in self._waiting.clear():
            self._answers.give(bundle_id, refusal)

    def allow(self) -> None:
        """Order again after NotReady."""
        if isinstance(self._refusal, NotReady):
            self._refusal = None
            self._work.set()

    def stop(self) -> None:
        """Let `run` return after the block that is being made."""
        self._stopping = True
        self._work.set()
        self._enough.set()

    async def run(self) -> None:
        """Make blocks until `stop`. Raises what the engine does, which ends the process."""
        try:
            while not self._stopping:
                is_due = await self._wait_for_work()
                await self._gather()
                if self._may_order():
                    await self._make_block(is_due=is_due)
        finally:
            self._stopping = True
            self.refuse(ShuttingDown())
            # What the engine had when it failed: its outcome is unknown until the next start.
            self._answers.give_all(ShuttingDown())

    async def _wait_for_work(self) -> bool:
        """Wait until there is something to order or a heartbeat is due; answer whether it is due."""
        if self._refusal is not None:
            await _is_set(self._work, None)
            return False
        if len(self._waiting):
            return self._until_heartbeat_ms() == 0
        return not await _is_set(self._work, self._until_heartbeat_ms())

    async def _gather(self) -> None:
        """Let more bundles come, if the block before says that they do."""
        # A clock that was put back holds nothing up.
        wait_ms = min(self._gathers_until_ms - self._clock_ms(), self._gather_ms)
        is_ordering = not self._stopping and self._refusal is None
        if is_ordering and wait_ms > 0 and len(self._waiting) < BUNDLES_ENOUGH:
            await _is_set(self._enough, wait_ms)

    def _until_heartbeat_ms(self) -> int:
        """Return when the next heartbeat is due; after a start at once, to show that blocks go on."""
        last_ms = self._stopwatch.read_at_ms
        return 0 if last_ms is None else max(last_ms + self._heartbeat_ms - self._clock_ms(), 0)

    async def _make_block(self, *, is_due: bool) -> None:
        started_ns = self.stages.now_ns()
        if self._waiting_since_ns is not None:
            started_ns = self.stages.add("queue", self._waiting_since_ns)
        begun_ms = self._clock_ms()
        stopwatch = self._stopwatch.advance(begun_ms)
        chosen, late = self._waiting.gather(stopwatch.time_ms)
        if not chosen and not late and not is_due:
            return
        # What is left over waits for a block like what comes now.
        self._waiting_since_ns = self.stages.now_ns() if len(self._waiting) else None
        proposal = propose(self._tip, stopwatch.time_ms, chosen)
        self.stages.add("build", started_ns)
        sealed = await self._engine.order(proposal)
        started_ns = self.stages.now_ns()
        self._stopwatch = stopwatch
        self._tip = tip_of(proposal.block.header, proposal.block.hash)
        await self._take_over(proposal)
        self._feed.publish(sealed)
        FAILPOINTS.reach(PUBLISHED)
        self._answer(proposal)
        self._expire(late)
        self.stages.add("send", started_ns)
        made_ms = self._clock_ms()
        self._gathers_until_ms = made_ms + gathering_ms(
            bundles=proposal.block.header.bundle_count,
            made_in_ms=made_ms - begun_ms,
            gather_ms_max=self._gather_ms,
        )
        # At once, for admission judges by the rules of the next block.
        self._may_order()

    async def _take_over(self, proposal: Proposal) -> None:
        """Bring what is remembered up to the new block."""
        await self._chain.apply(proposal.block)
        self._waiting.settle(proposal.bundles)
        for bundle, place in zip(proposal.bundles, proposal.places, strict=True):
            match bundle, place:
                case Parcel(), Run():
                    self._live.add_run(place, bundle.windows_ms)
                case AdmittedBundle(), Placement():
                    self._live.add(place, bundle.valid_until_ms)
        self._live.expire(self._tip.time_ms)

    def _answer(self, proposal: Proposal) -> None:
        for place in proposal.places:
            FAILPOINTS.reach(BEFORE_ACK)
            if isinstance(place, Placement):
                self._answers.give(place.bundle_id, place)
            else:
                self._answers.give_run(place)

    def _expire(self, bundles: Iterable[Late]) -> None:
        """Say of bundles that they expired, now that a durable block is past their windows.

        Sooner it would be a guess: after a crash log time goes on from the last block, and a bundle that was
        called expired could still be ordered.
        """
        for bundle in bundles:
            error = Expired(what="bundle", valid_until_ms=bundle.valid_until_ms, time_ms=self._tip.time_ms)
            self._answers.give(bundle.bundle_id, error)

    def _may_order(self) -> bool:
        """Answer whether to make a block; refuse from the height on at which another key signs."""
        if self._stopping or self._refusal is not None:
            return False
        version = self._chain.unknown_rules
        if version is not None:
            structlog.get_logger().error("rules_unknown", height=self._tip.height + 1, version=version)
            self.refuse(
                ReadOnly(
                    reason=f"block {self._tip.height + 1} is under version {version} of the register's "
                    f"rules, this software knows version {RULES_KNOWN}",
                    advice="stop it and start a newer one",
                )
            )
            return False
        if self._engine.public_key in (None, self._chain.next_key):
            return True
        structlog.get_logger().error("key_replaced", height=self._tip.height + 1)
        self.refuse(
            ReadOnly(
                reason=f"from block {self._tip.height + 1} on another key signs headers",
                advice="stop it and start it with the key that the registry names",
            )
        )
        return False


async def _is_set(event: asyncio.Event, timeout_ms: int | None) -> bool:
    """Wait until an event is set from now on; answer whether that was in time."""
    event.clear()
    try:
        async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _tip(block: SealedBlock) -> Tip:
    return tip_of(block.header.header, header_hash(block.header.encoded))
