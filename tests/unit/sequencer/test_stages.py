"""Time by stage: what is added, and that ordering a bundle passes every stage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from pathlib import Path

import pytest

from deploy.node.datadir import DurableCell
from lockstep.genesis import Quota
from lockstep.register import genesis_register
from lockstep.v1 import sequencer_pb2
from sequencer.chain import ChainState
from sequencer.client.messages import bundle_message
from sequencer.embedded import open_engine
from sequencer.feed import Feed
from sequencer.intake import Intake
from sequencer.ledger import open_ledger
from sequencer.live_ids import LiveIds
from sequencer.stages import STAGES, Stages
from sequencer.submissions import Submissions
from sequencer.waiting import WaitingRoom
from sequencer.writer import Writer
from tests.unit.sequencer.chain import CHAIN, GENESIS, SEQUENCER, START, bundle


def test_each_stage_has_a_sum_of_its_own() -> None:
    clock_ns = count(1_000, 10)
    stages = Stages(lambda: next(clock_ns))
    started_ns = stages.now_ns()
    assert stages.add("build", started_ns) == 1_010
    stages.add("build", started_ns)
    stages.add("send", 1_010)
    assert stages.total_ns == dict.fromkeys(STAGES, 0) | {"build": 30, "send": 20}
    with pytest.raises(KeyError):
        stages.add("something else", 0)


async def test_a_bundle_passes_every_stage(tmp_path: Path) -> None:
    async def requests() -> AsyncIterator[sequencer_pb2.SubmitStreamRequest]:
        submission = sequencer_pb2.Submission(correlation_id=1, bundle=bundle_message(bundle(b"x")))
        yield sequencer_pb2.SubmitStreamRequest(submissions=[submission])

    with DurableCell(tmp_path / "last_signed") as cell:
        async with (
            open_ledger(tmp_path / "ledger.sqlite") as ledger,
            open_engine(ledger, cell, SEQUENCER, genesis=START, check_key=lambda *_: None) as (engine, _),
        ):
            feed, chain = Feed(engine), ChainState(genesis_register(GENESIS))
            waiting = WaitingRoom(
                log_origin="log", quota=Quota(9, 9_000), weights={}, bundles_max=9, bytes_max=9_000
            )
            writer = Writer(
                engine,
                feed,
                chain,
                LiveIds(),
                waiting,
                genesis=START,
                clock_ms=lambda: 1_000,
                heartbeat_ms=60_000,
                live_ids_max=9,
                stages=engine.stages,
            )
            running = asyncio.create_task(writer.run())
            intake = Intake(CHAIN, chain, writer, engine)
            submissions = Submissions(intake.accept_all, feed.header, stages=writer.stages)
            async with aclosing(submissions.answer(requests(), asyncio.Event())) as responses:
                [outcome] = sequencer_pb2.SubmitStreamResponse.FromString(await anext(responses)).outcomes
            writer.stop()
            await running
    assert outcome.HasField("placement")
    assert tuple(engine.stages.total_ns) == STAGES
    assert all(total_ns > 0 for total_ns in engine.stages.total_ns.values())
