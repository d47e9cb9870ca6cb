"""`python -m rollups --config FILE.toml`: one node of one rollup."""

import argparse
import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from bridge.settlement.client import SettlementClient
from deploy.node.chain_files import load_genesis, load_key
from deploy.node.datadir import DataFolder
from deploy.node.failures import SettingsInvalid
from deploy.node.logs import configure_logs
from deploy.node.process import announce_ready, run
from deploy.node.server import Server, serving
from deploy.node.settings import load_settings
from lockstep.order import is_rollup_id
from lockstep.types import RollupId
from lockstep.v1 import rollup_pb2_grpc
from rollups.attester import Attester
from rollups.node import RollupNode
from rollups.poster import Poster
from rollups.service import SERVICE_NAME, RollupService
from rollups.settings import RollupSettings
from rollups.storage import open_storage
from sequencer.client import SequencerClient


def main() -> None:
    """Run the node until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m rollups", description="A node of one rollup.")
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="settings; LOCKSTEP_* overrides them"
    )
    path: Path | None = parser.parse_args().config

    async def node(stopping: asyncio.Event) -> None:
        await serve(load_settings(RollupSettings, path, os.environ), stopping)

    sys.exit(run(node, name="rollup"))


async def serve(settings: RollupSettings, stopping: asyncio.Event) -> None:
    """Open the data, serve, and follow the order until `stopping` is set."""
    configure_logs(settings.logs, process=f"rollup {settings.rollup}")
    if not is_rollup_id(settings.rollup):
        raise SettingsInvalid(f"rollup {settings.rollup!r} is no rollup's id; they match [a-z0-9-]{{1,32}}")
    _, genesis = load_genesis(settings.genesis)
    key = None if settings.key is None else load_key(settings.key)
    attester = None if key is None else key.public_key
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder(settings.data))
        storage = await stack.enter_async_context(open_storage(folder.path / "rollup.db"))
        node = await RollupNode.load(genesis, RollupId(settings.rollup), storage, attester=attester)
        order = await stack.enter_async_context(SequencerClient(settings.sequencer, genesis))
        poster = None
        if settings.settlement is not None:
            log = await stack.enter_async_context(SettlementClient(settings.settlement, genesis))
            poster = Poster(key, node, log)
        service = RollupService(node, stopping, attester=attester, poster=poster)
        server = await stack.enter_async_context(
            serving(
                settings.server,
                register=lambda server: rollup_pb2_grpc.add_RollupServicer_to_server(service, server),
                service_names=(SERVICE_NAME,),
                stopping=stopping,
            )
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(node.run(order))]
            if key is not None:
                tasks.append(group.create_task(Attester(key, node, order).run()))
            if poster is not None:
                tasks.append(group.create_task(poster.run()))
            tasks.append(group.create_task(_tell_health(node, server)))
            announce_ready(
                {"address": server.address, "rollup": settings.rollup, "height": node.published.height}
            )
            await stopping.wait()
            for task in tasks:
                task.cancel()


async def _tell_health(node: RollupNode, server: Server) -> None:
    """Be healthy until the node no longer answers for its state."""
    await server.set_healthy(healthy=True)
    while not node.not_ready_reason:
        changed = node.changed
        await changed.wait()
    await server.set_healthy(healthy=False)


if __name__ == "__main__":
    main()
