"""`lockstep devnet up`: a devnet in the foreground, for people.

Owns what is shown and when it ends: on Ctrl-C or SIGTERM, or with an error when a process ends by itself.
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
            _CONSOLE.print(f"keys of roles and traders: {network.folder / 'keys'}", soft_wrap=True)
            _CONSOLE.print("Ctrl-C stops it; the same command continues it.")
            await devnet.watched(stopping.wait())
            status.start()


def _table(devnet: Devnet) -> Table:
    table = Table("process", "pid", "address", "data", "log")
    network = devnet.network
    for kind in PROCESSES:
        paths = (network.data_folder(kind.name), network.log_file(kind.name))
        table.add_row(kind.name, str(devnet.pid(kind.name)), network.address(kind.name), *map(str, paths))
    for column in table.columns[2:]:
        column.overflow = "fold"
    return table
