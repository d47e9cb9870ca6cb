"""The coordinator's process: `python -m bridge --config FILE.toml`.

Owns how its parts are put together and in which order they start and stop: data folder, database,
coordinator, server. It serves what it knows as soon as it runs, and is healthy once it has followed the
order to its end.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from bridge.book import Book
from bridge.coordinator import Coordinator
from bridge.reading import Views
from bridge.service import NAME, BridgeService
from bridge.settings import BridgeSettings
from bridge.storage import APPLICATION_ID, SCHEMA, load
from deploy.node.chain_files import load_genesis
from deploy.node.command import run_service
from deploy.node.database import open_database
from deploy.node.datadir import DataFolder
from deploy.node.failures import DataRefused
from deploy.node.logs import configure_logs
from deploy.node.process import announce_ready
from deploy.node.server import Server, serving
from lockstep.errors import Malformed
from lockstep.registry import role_key_at
from sequencer.client import SequencerClient

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
            open_database(path, schema=SCHEMA, application_id=APPLICATION_ID, readers=4)
        )
        # Numbers of a lost database lie below: who resumes from one of those is told so, and not other
        # changes.
        clock_ms = time.time_ns() // 1_000_000
        try:
            book = Book(await load(database, genesis, new_sequence=clock_ms))
        except Malformed as error:
            reason = f"{path}: {error.message}; delete it, the order brings back what counts"
            raise DataRefused(reason) from error
        order = await stack.enter_async_context(
            SequencerClient(
                settings.sequencer,
                genesis,
                settings.sequencer_client,
                sequencer_key=lambda height: role_key_at(book.register.registry, "sequencer", height),
            )
        )
        coordinator = Coordinator(book, database, order)
        service = BridgeService(
            genesis=genesis, coordinator=coordinator, views=Views(database), stopping=stopping
        )
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(coordinator.run())
            async with serving(
                settings.server, register=service.register, service_names=(NAME,), stopping=stopping
            ) as server:
                health = tasks.create_task(_become_healthy(coordinator, server))
                announce_ready({"address": server.address, "height": book.register.height})
                await stopping.wait()
            # Every call is answered: nobody waits for the writer any more.
            health.cancel()
            work.cancel()


async def _become_healthy(coordinator: Coordinator, server: Server) -> None:
    await coordinator.caught_up.wait()
    await server.set_healthy(healthy=True)


if __name__ == "__main__":
    main()
