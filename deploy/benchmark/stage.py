"""A fresh devnet for one scenario: funded accounts, the processes that it needs, and what CPU they take.

Owns its folder, which is deleted at the end, and the reading of CPU time. Invariant: no process outlives the
`async with` block.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.benchmark.accounts import funded_genesis
from deploy.devnet.clients import Clients, connected, until
from deploy.devnet.launcher import Devnet, running
from deploy.devnet.network import PROCESSES, Network, create_network, open_network
from deploy.node.datadir import write_atomically
from rollups.client import RollupClient

EXECUTED_MS_MAX: Final = 120_000
"""How long nodes may take to execute what a run ordered."""

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stage:
    """A devnet that runs."""

    network: Network
    """Its folder."""
    devnet: Devnet
    """Its processes."""
    clients: Clients
    """Clients of all of them, also of those that do not run."""

    @property
    def genesis_file(self) -> str:
        """Path of the genesis file."""
        return str(self.network.folder / "genesis.json")

    def cpu_seconds(self) -> Mapping[str, float]:
        """Return the CPU time that each process that runs has taken so far."""
        names = [kind.name for kind in PROCESSES if self.devnet.is_running(kind.name)]
        return {name: _cpu_seconds(self.devnet.pid(name)) for name in names}

    async def wait_executed(self, names: Collection[str], height: int) -> None:
        """Wait until nodes have executed a block."""
        await asyncio.gather(*(_wait_executed(self.clients.nodes[name], height) for name in names))


@asynccontextmanager
async def staged(processes: Collection[str], *, accounts: int = 2) -> AsyncIterator[Stage]:
    """Have a new devnet with `accounts` funded accounts, and `processes` of it running."""
    folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-"))
    try:
        made = create_network(folder)
        write_atomically(folder / "genesis.json", funded_genesis(made.genesis, accounts))
        network = open_network(folder)
        async with running(network, only=processes) as devnet, connected(network) as clients:
            yield Stage(network, devnet, clients)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _wait_executed(node: RollupClient, height: int) -> None:
    async def has_executed() -> bool | None:
        return True if (await node.status()).height >= height else None

    await until(has_executed, f"a node to execute block {height}", timeout_ms=EXECUTED_MS_MAX)


def _cpu_seconds(pid: int) -> float:
    """Return what a process and its threads have used, in user and kernel mode."""
    # The second field, the name, may hold spaces and is in parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
