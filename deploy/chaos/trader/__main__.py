"""A trader's process: `python -m deploy.chaos.trader --config FILE.toml`."""

import asyncio
from contextlib import AsyncExitStack

from bridge.client import BridgeClient, Desk, Trader, Wallet, open_venue
from deploy.chaos.trader.journal import Journal, read_journal
from deploy.chaos.trader.settings import TraderSettings
from deploy.chaos.trader.trading import Trading
from deploy.node.chain_files import load_genesis, load_key
from deploy.node.command import run_service
from deploy.node.logs import configure_logs
from deploy.node.process import announce_ready


def main() -> None:
    """Trade until stopped."""
    run_service(
        serve,
        TraderSettings,
        module="deploy.chaos.trader",
        name="trader",
        description="Trades and pays on a network that is being disturbed.",
    )


async def serve(settings: TraderSettings, stopping: asyncio.Event) -> None:
    """Trade until `stopping` is set."""
    configure_logs(settings.logs, process=settings.name)
    _, genesis = load_genesis(settings.genesis)
    keys = {name: load_key(settings.keys / f"{name}.pem") for name in settings.names}
    said = list(read_journal(settings.journal))
    begun = sum(line.get("what") in ("proposed", "no quote") for line in said)
    async with AsyncExitStack() as stack:
        venue = await stack.enter_async_context(
            open_venue(
                genesis, bridges=settings.bridges, sequencer=settings.sequencer, rollups=settings.rollups
            )
        )
        bridges = [
            await stack.enter_async_context(BridgeClient(target, genesis)) for target in settings.bridges
        ]
        trading = Trading(
            settings=settings,
            key=keys[settings.name],
            accounts={name: key.public_key for name, key in keys.items()},
            desk=Desk(Trader(keys[settings.name], genesis), Wallet(settings.wallet), venue),
            bridges=tuple(bridges),
            journal=Journal(settings.journal, settings.name),
            done=begun,
        )
        announce_ready({})
        await trading.run(stopping)


if __name__ == "__main__":
    main()
