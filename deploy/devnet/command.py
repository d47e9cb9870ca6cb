"""`lockstep devnet up`: a devnet in the foreground, for people.

Owns what is shown and when it ends: on Ctrl-C or SIGTERM, or with an error when a process ends by itself. One
that somebody kills is started again: that is what people try.
"""

import asyncio
import signal
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from deploy.devnet.launcher import Devnet, DevnetFailed, running
from deploy.devnet.network import PROCESSES, Network, create_network, is_network, open_network
from deploy.node.failures import EXIT_CLEAN, EXIT_DEFECT, ProcessFailure

_CONSOLE: Final = Console(highlight=False)

_PATHS: Final = {
    "genesis file": "genesis.json",
    "keys of roles and traders": "keys",
    "settings of each process": "settings",
    "data of each process": "data",
    "logs": "logs",
}
"""What people look for in its folder, and where it is."""


def run_until_stopped(folder: Path) -> int:
    """Run the network in `folder`, which is made if need be, and return the exit code."""
    try:
        network = open_network(folder) if is_network(folder) else create_network(folder)
        asyncio.run(_run(network))
    except (ProcessFailure, DevnetFailed) as failure:
        _CONSOLE.print(str(failure), style="red", markup=False, soft_wrap=True)
        return failure.exit_code if isinstance(failure, ProcessFailure) else EXIT_DEFECT
    return EXIT_CLEAN


async def _run(network: Network) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    with _CONSOLE.status("starting", spinner="line") as status:
        async with running(network, say=status.update) as devnet:
            status.stop()
            _CONSOLE.print(_table(devnet))
            for what, path in _PATHS.items():
                _CONSOLE.print(f"{what}: {network.folder / path}", soft_wrap=True)
            _CONSOLE.print("Kill any process: it is started again.")
            _CONSOLE.print("Ctrl-C stops it; the same command continues it.")
            keeping = asyncio.ensure_future(_restart_killed(devnet))
            stop = asyncio.ensure_future(stopping.wait())
            try:
                await asyncio.wait((keeping, stop), return_when=asyncio.FIRST_COMPLETED)
                if keeping.done():
                    keeping.result()
            finally:
                keeping.cancel()
                stop.cancel()
                await asyncio.gather(keeping, stop, return_exceptions=True)
            status.start()


async def _restart_killed(devnet: Devnet) -> None:
    """Start again whatever a signal killed. Raises DevnetFailed when a process ends by itself."""
    while True:
        name = await devnet.first_ended()
        code = await devnet.ended(name)
        if code >= 0:
            raise devnet.failure(name, f"ended by itself with exit code {code}")
        _CONSOLE.print(f"{name} was killed by signal {-code}; starting it again")
        await devnet.start(name)
        _CONSOLE.print(f"{name} is back: process {devnet.pid(name)}")


def _table(devnet: Devnet) -> Table:
    table = Table("process", "pid", "address")
    for kind in PROCESSES:
        table.add_row(kind.name, str(devnet.pid(kind.name)), devnet.network.address(kind.name))
    return table
