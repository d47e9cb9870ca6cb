"""`python -m rollups --config FILE.toml`: one node of one rollup."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from bridge.settlement.client import SettlementClient
from deploy.node.chain_files import load_genesis, load_key
from deploy.node.command import run_service
from deploy.node.datadir import DataFolder
from deploy.node.failures import SettingsInvalid
from deploy.node.logs import configure_logs
from deploy.node.process import announce_ready
from deploy.node.server import Server, serving
from lockstep.order import is_rollup_id
from lockstep.types import RollupId
from lockstep.v1 import rollup_pb2_grpc
from rollups.attester import UNDER_WAY_MAX, Attester
from rollups.client import RollupClient
from rollups.comparing import LogComparison
from rollups.node import RollupNode
from rollups.peers import PeerComparison
from rollups.poster import Poster
from rollups.service import SERVICE_NAME, RollupService
from rollups.settings import RollupSettings
from rollups.storage import open_storage
from sequencer.client import SequencerClient


def main() -> None:
    """Run the node until it is stopped."""
    run_service(
        serve,
        RollupSettings,
        module="rollups",
        name="rollup",
        description="A node of one rollup.",
    )


async def serve(settings: RollupSettings, stopping: asyncio.Event) -> None:
    """Open the data, serve, and follow the order until `stopping` is set."""
    configure_logs(settings.logs, process=f"rollup {settings.rollup}")
    if not is_rollup_id(settings.rollup):
        raise SettingsInvalid(f"rollup {settings.rollup!r} is no rollup's id; they match [a-z0-9-]{{1,32}}")
    genesis = load_genesis(settings.genesis)[1]
    key = None if settings.key is None else load_key(settings.key)
    attester = None if key is None else key.public_key
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder(settings.data))
        storage = await stack.enter_async_context(open_storage(folder.path / "rollup.db"))
        node = await RollupNode.load(genesis, RollupId(settings.rollup), storage, attester=attester)
        order = await stack.enter_async_context(_order_client(settings.sequencer, node))
        # Called only once it serves: whatever fails before leaves no coroutine that was never awaited.
        tasks: list[Callable[[], Coroutine[Any, Any, None]]] = [partial(node.run, order)]
        poster = None
        if settings.settlement is not None:
            log = await stack.enter_async_context(_settlement_client(settings.settlement, node))
            grace_ms = settings.settlement_grace_ms
            tasks.append(LogComparison(node, log, attester=attester, grace_ms=grace_ms).run)
            if key is not None:
                poster = Poster(key, node, log)
                tasks.append(poster.run)
        if settings.peers:
            peers = {
                target: await stack.enter_async_context(_peer_client(target, node))
                for target in settings.peers
            }
            tasks.append(PeerComparison(node, peers).run)
        if key is not None:
            bundles = await stack.enter_async_context(order.stream(in_flight_max=UNDER_WAY_MAX))
            tasks.append(Attester(key, node, bundles).run)
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
            tasks.append(partial(_tell_health, node, server))
            running = [group.create_task(task()) for task in tasks]
            announce_ready(
                {"address": server.address, "rollup": settings.rollup, "height": node.published.height}
            )
            await stopping.wait()
            for task in running:
                task.cancel()


def _order_client(target: str, node: RollupNode) -> SequencerClient:
    return SequencerClient(target, node.genesis, sequencer_key=node.sequencer_keys.at)


def _settlement_client(target: str, node: RollupNode) -> SettlementClient:
    """Return a client that knows the log's key as of the node's height."""
    return SettlementClient(
        target,
        node.genesis,
        log_key=lambda: node.published.state.register.registry.keys["settlement"],
        sequencer_key=node.sequencer_keys.at,
    )


def _peer_client(target: str, node: RollupNode) -> RollupClient:
    return RollupClient(target, node.genesis, node.rollup, sequencer_key=node.sequencer_keys.at)


async def _tell_health(node: RollupNode, server: Server) -> None:
    """Be healthy while the node answers for its state."""
    is_healthy = False
    while True:
        changed = node.changed
        if is_healthy == bool(node.not_ready_reason):
            is_healthy = not is_healthy
            await server.set_healthy(healthy=is_healthy)
        else:
            await changed.wait()


if __name__ == "__main__":
    main()
