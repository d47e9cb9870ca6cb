"""What the calls answer about the past: receipts after the window, never ordered, not yet known, pruned."""

import asyncio
from typing import Any

import pytest

from lockstep import limits
from lockstep.errors import Expired, HistoryPruned, LockstepError, NeverOrdered, NotFound, Pruned
from lockstep.order import bundle_id_of
from lockstep.register import genesis_register
from lockstep.types import BundleId, Height
from lockstep.v1 import sequencer_pb2
from sequencer.chain import ChainState
from sequencer.feed import Feed
from sequencer.intake import Intake
from sequencer.live_ids import LiveIds
from sequencer.service import Policy, SequencerService
from sequencer.stages import STAGES
from sequencer.writer import Writer
from tests.unit.sequencer.chain import (
    CHAIN,
    GENESIS,
    START,
    TIME_MS,
    MemoryEngine,
    bundle,
    proposals,
    single_bundles,
    waiting_room,
)

NO_CONTEXT: Any = None
MADE = proposals(6)
PLACED = MADE[3].placements[0]
WINDOW_MS = single_bundles(MADE[3].bundles)[0].valid_until_ms
STRANGER = BundleId(bytes(32))


class Forgetful(MemoryEngine):
    """Finds a bundle only by its window, as the ledger does."""

    async def find(self, bundle_id: BundleId, valid_until_ms: int) -> Any:  # noqa: ANN401
        if valid_until_ms not in (0, WINDOW_MS):
            return None
        return await super().find(bundle_id, valid_until_ms)


class Rig:
    """A service over six blocks, whose writer does not run."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.live = LiveIds()
        self.feed = Feed(engine)
        chain = ChainState(genesis_register(GENESIS))
        writer = Writer(
            engine,
            self.feed,
            chain,
            self.live,
            waiting_room(),
            genesis=START,
            clock_ms=lambda: 0,
            heartbeat_ms=1_000,
            live_ids_max=10,
        )
        self.intake = Intake(CHAIN, chain, writer, engine)
        self.service = SequencerService(
            genesis=GENESIS,
            genesis_bytes=b"genesis",
            engine=engine,
            feed=self.feed,
            writer=writer,
            intake=self.intake,
            policy=Policy(1_000, 10, 10),
            anchored_height=lambda: Height(3),
            stopping=asyncio.Event(),
        )

    async def ask(self, bundle_id: BundleId, valid_until_ms: int) -> LockstepError | int:
        """Return the height that GetTransaction answers, or its error."""
        request = sequencer_pb2.GetTransactionRequest(bundle_id=bundle_id, valid_until_ms=valid_until_ms)
        try:
            return (await self.service.GetTransaction(request, NO_CONTEXT)).placement.height
        except LockstepError as error:
            return error


async def rig_of_six() -> Rig:
    engine = Forgetful()
    for proposal in MADE:
        await engine.order(proposal)
    return Rig(engine)


HEAD_MS = MADE[-1].block.header.time_ms


@pytest.mark.parametrize(
    ("bundle_id", "valid_until_ms", "expected"),
    [
        (PLACED.bundle_id, WINDOW_MS, 4),
        (PLACED.bundle_id, 0, 4),
        (STRANGER, 0, NotFound),
        (STRANGER, HEAD_MS + 1, NotFound),
        (STRANGER, HEAD_MS, NeverOrdered),
        (STRANGER, 1, NeverOrdered),
    ],
)
async def test_where_a_bundle_stands(
    bundle_id: BundleId, valid_until_ms: int, expected: int | type[LockstepError]
) -> None:
    answer = await (await rig_of_six()).ask(bundle_id, valid_until_ms)
    assert answer == expected if isinstance(expected, int) else type(answer) is expected


async def test_a_wrong_window_does_not_hide_what_is_remembered() -> None:
    rig = await rig_of_six()
    assert type(await rig.ask(PLACED.bundle_id, WINDOW_MS - 1)) is NotFound
    rig.live.add(PLACED, 10**9)
    assert await rig.ask(PLACED.bundle_id, WINDOW_MS - 1) == 4


@pytest.mark.parametrize(
    ("valid_until_ms", "expected"),
    [
        (0, HistoryPruned),
        (TIME_MS, HistoryPruned),
        # The first block that is still here is as early as the window can have begun.
        (TIME_MS + 300 + limits.VALIDITY_WINDOW_MS_MAX - 1, HistoryPruned),
        (TIME_MS + 300 + limits.VALIDITY_WINDOW_MS_MAX, NotFound),
    ],
)
async def test_pruned_history_makes_the_answer_unknown_not_negative(
    valid_until_ms: int, expected: type[LockstepError]
) -> None:
    rig = await rig_of_six()
    rig.engine.first_height = Height(3)
    assert type(await rig.ask(STRANGER, valid_until_ms)) is expected
    assert await rig.ask(PLACED.bundle_id, 0) == 4
    with pytest.raises(Pruned):
        await rig.service.GetBlock(sequencer_pb2.GetBlockRequest(height=2), NO_CONTEXT)


async def test_after_its_window_an_ordered_bundle_gets_its_receipt_and_another_expired() -> None:
    rig = await rig_of_six()
    ordered_late, never = bundle(b"ordered", valid_until_ms=HEAD_MS), bundle(b"never", valid_until_ms=HEAD_MS)
    known = bundle_id_of(CHAIN, ordered_late)
    rig.engine.placements[known] = type(PLACED)(known, Height(2), 0, 1)

    async def find(bundle_id: BundleId, valid_until_ms: int) -> Any:  # noqa: ANN401
        assert valid_until_ms == HEAD_MS
        return rig.engine.placements.get(bundle_id)

    rig.engine.find = find  # type: ignore[method-assign]
    assert (await rig.intake.submit(ordered_late)).height == 2
    with pytest.raises(Expired):
        await rig.intake.submit(never)


async def test_the_status_says_where_it_stands() -> None:
    rig = await rig_of_six()
    status = await rig.service.GetStatus(sequencer_pb2.SequencerGetStatusRequest(), NO_CONTEXT)
    assert status.head.header == MADE[-1].block.header_bytes
    assert (status.time_ms, status.first_available_height, status.anchored_height) == (HEAD_MS, 1, 3)
    assert (status.engine, status.read_only_reason, status.protocol_version) == ("memory", "", 1)
    assert tuple(each.stage for each in status.stages) == STAGES
    empty = await Rig(MemoryEngine()).service.GetStatus(sequencer_pb2.SequencerGetStatusRequest(), NO_CONTEXT)
    assert (empty.HasField("head"), empty.time_ms) == (False, TIME_MS)
