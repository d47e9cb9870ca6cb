"""The sequencer's process: `python -m sequencer --config FILE.toml`.

Owns how its parts are put together and in which order they start and stop: data folder, ledger, engine,
server, writer; each uses only those before it, but for the writer, which outlasts the calls that the server
still has.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

import structlog

from bridge.settlement.client import SettlementClient
from deploy.node.chain_files import load_genesis, load_key
from deploy.node.command import run_service
from deploy.node.datadir import DataFolder, DurableCell
from deploy.node.failures import SettingsInvalid
from deploy.node.logs import configure_logs
from deploy.node.process import announce_ready
from deploy.node.server import serving
from lockstep.errors import NotReady, ReadOnly
from lockstep.genesis import Genesis, Quota
from lockstep.header import Tip, genesis_tip
from lockstep.types import Height, Namespace, PublicKey
from sequencer.anchoring import Anchoring
from sequencer.chain import ChainState, load_chain
from sequencer.checkpoints import Checkpoints
from sequencer.embedded import EmbeddedEngine, open_engine
from sequencer.feed import Feed
from sequencer.intake import Intake
from sequencer.ledger import Ledger, open_ledger
from sequencer.live_ids import LiveIds, second_of
from sequencer.service import NAME, Policy, SequencerService
from sequencer.settings import SequencerSettings
from sequencer.waiting import WaitingRoom
from sequencer.writer import Writer

LEDGER_FILE: Final = "ledger.sqlite"
"""The order, in the data folder."""

CELL_FILE: Final = "last_signed"
"""The record of what was signed last, beside it."""


def main() -> None:
    """Run the sequencer until it is stopped."""
    run_service(
        serve,
        SequencerSettings,
        module="sequencer",
        name="sequencer",
        description="Orders transactions of many rollups.",
    )


async def serve(settings: SequencerSettings, stopping: asyncio.Event) -> None:
    """Open the data, order and serve until `stopping` is set."""
    configure_logs(settings.logs, process="sequencer")
    genesis_bytes, genesis = load_genesis(settings.genesis)
    start = genesis_tip(genesis.chain_id, genesis.genesis_time_ms)
    key = load_key(settings.key)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder(settings.data))
        cell = stack.enter_context(DurableCell(folder.path / CELL_FILE))
        ledger = await stack.enter_async_context(open_ledger(folder.path / LEDGER_FILE))
        is_new = cell.load() is None
        chain = await load_chain(ledger, genesis)
        _check_key(chain, key.public_key)

        def check_head_key(height: Height, public_key: PublicKey) -> None:
            if public_key != chain.head_key:
                raise SettingsInvalid(
                    f"{settings.key} did not sign block {height}, whose signature is not stored; start once "
                    f"with the key {chain.head_key.hex()}, stop, and start with this one again"
                )

        engine, loss = await stack.enter_async_context(
            open_engine(ledger, cell, key, genesis=start, check_key=check_head_key)
        )
        feed = Feed(engine)
        writer = await _make_writer(settings, genesis, start, ledger, engine, feed, chain)
        if loss is not None:
            _refuse(writer, loss)
        elif settings.settlement is not None:
            # It may have lost everything, or be an older copy of itself: only the log can tell.
            who = "a new sequencer" if is_new else "a sequencer that starts"
            writer.refuse(NotReady(reason=f"{who} asks the settlement log first"))
        intake = Intake(genesis.chain_id, chain, writer, engine)
        async with asyncio.TaskGroup() as tasks:
            anchoring, checkpoints = None, None
            if settings.settlement is not None:
                log = await stack.enter_async_context(
                    SettlementClient(
                        settings.settlement,
                        genesis,
                        settings.settlement_client,
                        log_key=lambda: chain.registry.keys["settlement"],
                    )
                )
                anchoring = Anchoring(
                    log,
                    feed,
                    genesis=start,
                    interval_ms=settings.anchor_ms,
                    interval_blocks=genesis.anchor_interval_blocks,
                    judge=lambda found: writer.allow() if found is None else _refuse(writer, found),
                )
                checkpoints = Checkpoints(log, intake.submit, chain, interval_ms=settings.checkpoint_ms)
            service = SequencerService(
                genesis=genesis,
                genesis_bytes=genesis_bytes,
                engine=engine,
                feed=feed,
                writer=writer,
                intake=intake,
                policy=Policy(
                    settings.heartbeat_ms, settings.queue_bundles_max, settings.live_bundle_ids_max
                ),
                anchored_height=lambda: Height(0) if anchoring is None else anchoring.anchored_height,
                stopping=stopping,
            )
            async with serving(
                settings.server, register=service.register, service_names=(NAME,), stopping=stopping
            ) as server:
                tasks.create_task(writer.run())
                asking = [] if anchoring is None else [tasks.create_task(anchoring.run())]
                if checkpoints is not None:
                    asking.append(tasks.create_task(checkpoints.run()))
                if anchoring is not None and not is_new:
                    asking.append(tasks.create_task(_order_without(writer, settings.settlement_wait_ms)))
                await server.set_healthy(healthy=True)
                announce_ready({"address": server.address, "height": feed.height})
                try:
                    await stopping.wait()
                finally:
                    feed.close()
            # Every call is answered: nobody waits for the writer any more.
            writer.stop()
            for task in asking:
                task.cancel()


async def _make_writer(
    settings: SequencerSettings,
    genesis: Genesis,
    start: Tip,
    ledger: Ledger,
    engine: EmbeddedEngine,
    feed: Feed,
    chain: ChainState,
) -> Writer:
    """Return a writer that remembers every bundle whose window is still open."""
    live = LiveIds()
    head = engine.head
    time_ms = start.time_ms if head is None else head.header.header.time_ms
    async for second, placement in ledger.placements_from(second_of(time_ms)):
        live.add(placement, 1_000 * second)
    return Writer(
        engine,
        feed,
        chain,
        live,
        WaitingRoom(
            log_origin=genesis.settlement.origin,
            quota=Quota(settings.quota_transactions_per_second, settings.quota_bytes_per_second),
            weights={Namespace(each): weight for each, weight in settings.weights.items()},
            bundles_max=settings.queue_bundles_max,
            bytes_max=settings.queue_bytes_max,
        ),
        genesis=start,
        clock_ms=lambda: time.monotonic_ns() // 1_000_000,
        heartbeat_ms=settings.heartbeat_ms,
        live_ids_max=settings.live_bundle_ids_max,
        gather_ms=settings.gather_ms,
        stages=engine.stages,
    )


def _check_key(chain: ChainState, key: PublicKey) -> None:
    """Refuse a key that signs neither the newest header nor the next. Raises SettingsInvalid."""
    if key not in (chain.head_key, chain.next_key):
        raise SettingsInvalid(
            f"the key {key.hex()} is not this chain's, whose sequencer is {chain.next_key.hex()}; "
            "name the file of that key"
        )


async def _order_without(writer: Writer, wait_ms: int) -> None:
    """Order without the settlement log's word once it had time to answer: its outage is none of ours."""
    await asyncio.sleep(wait_ms / 1_000)
    if isinstance(writer.refusal, NotReady):
        structlog.get_logger().warning("ordering_unasked", waited_ms=wait_ms)
    writer.allow()


def _refuse(writer: Writer, loss: ReadOnly) -> None:
    if not isinstance(writer.refusal, ReadOnly):
        structlog.get_logger().error("read_only", reason=loss.reason, advice=loss.advice)
    writer.refuse(loss)


if __name__ == "__main__":
    main()
