"""The coordinator's process: `python -m bridge --config FILE.toml`.

Owns how its parts are put together and in which order they start and stop: data folder, database,
coordinator, server. It serves what it knows as soon as it runs, and is healthy once it has followed the
order to its end.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

import structlog

from bridge.book import Book
from bridge.coordinator import Coordinator
from bridge.levels import Asked
from bridge.observing import AnchorLog, Node, Observer
from bridge.reading import Views
from bridge.senders import IN_FLIGHT_MAX
from bridge.service import NAME, BridgeService
from bridge.settings import BridgeSettings
from bridge.settlement.client import SettlementClient
from bridge.storage import APPLICATION_ID, SCHEMA, load
from deploy.node.chain_files import load_genesis
from deploy.node.command import run_service
from deploy.node.database import open_database
from deploy.node.datadir import DataFolder
from deploy.node.failures import DataRefused, SettingsInvalid
from deploy.node.high_water import verify_newest
from deploy.node.logs import configure_logs
from deploy.node.process import announce_ready
from deploy.node.server import Server, serving
from lockstep.checkpoint import Checkpoint
from lockstep.errors import Malformed
from lockstep.genesis import Genesis
from lockstep.order import is_rollup_id
from lockstep.types import RollupId
from rollups.client import RollupClient
from sequencer.client import SequencerClient

LOST: Final = (
    "swaps that are in the order come back from it; if there was another database before, these do not: "
    "proposals and locks that were not ordered, idempotency keys, preimages that were delegated, quotes"
)
"""What is said of an empty database."""

REPAIR: Final = "delete the data folder: the order brings back every swap that it has"
"""What is advised where the database is damaged."""

COMMITS_FILE: Final = "commits"
"""How many transactions the database had, in the data folder."""

DATABASE_FILE: Final = "bridge.sqlite"
"""The coordinator's database, in the data folder."""


def main() -> None:
    """Run the coordinator until it is stopped."""
    run_service(
        serve,
        BridgeSettings,
        module="bridge",
        name="bridge",
        description="Assembles and drives swaps.",
    )


async def serve(settings: BridgeSettings, stopping: asyncio.Event) -> None:
    """Open the data, follow the order, and serve until `stopping` is set."""
    configure_logs(settings.logs, process="bridge")
    _, genesis = load_genesis(settings.genesis)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder(settings.data))
        path = folder.path / DATABASE_FILE
        database = await stack.enter_async_context(
            open_database(path, schema=SCHEMA, application_id=APPLICATION_ID, readers=4, repair=REPAIR)
        )
        # Numbers of a lost database lie below: who resumes from one of those is told so, and not other
        # changes.
        clock_ms = time.time_ns() // 1_000_000
        try:
            loaded = await load(database, genesis, new_sequence=clock_ms)
        except Malformed as error:
            raise DataRefused(f"{path}: {error.message}; {REPAIR}") from error
        verify_newest(folder.path / COMMITS_FILE, loaded.commits, repair=REPAIR)
        if loaded.is_new:
            structlog.get_logger("bridge").info("database_is_empty", path=str(path), lost=LOST)
        book = Book(loaded)
        order = await stack.enter_async_context(
            SequencerClient(
                settings.sequencer,
                genesis,
                settings.sequencer_client,
                sequencer_key=book.sequencer_keys.at,
            )
        )
        bundles = await stack.enter_async_context(order.stream(in_flight_max=IN_FLIGHT_MAX))
        commits_file = folder.path / COMMITS_FILE
        coordinator = Coordinator(book, database, order, bundles, commits_file=commits_file)
        observer = Observer(
            coordinator,
            Views(database),
            await _connect_nodes(settings, genesis, book, stack),
            await _connect_log(settings, genesis, book, loaded.checkpoint, stack),
        )
        service = BridgeService(
            genesis=genesis,
            coordinator=coordinator,
            views=Views(database),
            stopping=stopping,
            asked=Asked(frozenset(settings.rollups), settings.settlement is not None),
        )
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(coordinator.run())
            observing = tasks.create_task(observer.run())
            async with serving(
                settings.server, register=service.register, service_names=(NAME,), stopping=stopping
            ) as server:
                health = tasks.create_task(_become_healthy(coordinator, server))
                announce_ready({"address": server.address, "height": book.register.height})
                await stopping.wait()
            # Every call is answered: nobody waits for the writer any more.
            health.cancel()
            observing.cancel()
            work.cancel()


async def _connect_nodes(
    settings: BridgeSettings, genesis: Genesis, book: Book, stack: AsyncExitStack
) -> dict[RollupId, dict[str, Node]]:
    nodes: dict[RollupId, dict[str, Node]] = {}
    for rollup, named in settings.rollups.items():
        if not is_rollup_id(rollup):
            raise SettingsInvalid(f"rollups.{rollup} is no rollup's id; they match [a-z0-9-]{{1,32}}")
        targets = (named,) if isinstance(named, str) else named
        nodes[RollupId(rollup)] = {
            target: await stack.enter_async_context(
                RollupClient(
                    target,
                    genesis,
                    rollup,
                    settings.rollup_client,
                    sequencer_key=book.sequencer_keys.at,
                )
            )
            for target in targets
        }
    return nodes


async def _connect_log(
    settings: BridgeSettings,
    genesis: Genesis,
    book: Book,
    seen: Checkpoint | None,
    stack: AsyncExitStack,
) -> AnchorLog | None:
    if settings.settlement is None:
        return None
    return await stack.enter_async_context(
        SettlementClient(
            settings.settlement,
            genesis,
            settings.settlement_client,
            seen=seen,
            log_key=lambda: book.register.registry.keys["settlement"],
            sequencer_key=book.sequencer_keys.at,
        )
    )


async def _become_healthy(coordinator: Coordinator, server: Server) -> None:
    await coordinator.caught_up.wait()
    await server.set_healthy(healthy=True)


if __name__ == "__main__":
    main()
