"""A fresh devnet for one scenario: funded accounts, the processes that it needs, and what CPU they take.

Owns its folder, which is deleted at the end, and the reading of CPU time. Invariant: no process outlives the
`async with` block.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.benchmark.accounts import funded_genesis
from deploy.benchmark.sizes import cpu_seconds, memory_mib
from deploy.devnet.clients import Clients, connected, until
from deploy.devnet.launcher import Devnet, running
from deploy.devnet.network import PROCESSES, Network, create_network, open_network
from deploy.node.datadir import write_atomically
from lockstep.types import RollupId
from rollups.client import RollupClient

EXECUTED_MS_MAX: Final = 300_000
"""How long nodes may take to execute what a run ordered."""

READY_MS_MAX: Final = 300_000
"""How long a process may take to read a genesis of a million accounts."""


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

    def running(self) -> Mapping[str, int]:
        """Return the pid of each process that runs."""
        names = [kind.name for kind in PROCESSES if self.devnet.is_running(kind.name)]
        return {name: self.devnet.pid(name) for name in names}

    def cpu_seconds(self) -> Mapping[str, float]:
        """Return the CPU time that each process that runs has taken so far."""
        return {name: cpu_seconds(pid) for name, pid in self.running().items()}

    def memory_mib(self) -> Mapping[str, float]:
        """Return the MiB that each process that runs has resident."""
        return {name: memory_mib(pid) for name, pid in self.running().items()}

    async def stage_ns(self) -> Mapping[str, Mapping[str, int]]:
        """Return the time that each process which counts it has spent in each stage so far, in ns."""
        nodes = [name for name in self.running() if name in self.clients.nodes]
        told = await asyncio.gather(*(self.clients.nodes[name].status() for name in nodes))
        stage_ns = {name: status.stage_ns for name, status in zip(nodes, told, strict=True)}
        return {"sequencer": (await self.clients.sequencer.status()).stage_ns, **stage_ns}

    async def wait_executed(self, names: Collection[str], height: int) -> None:
        """Wait until nodes have executed a block."""
        await asyncio.gather(*(wait_executed(self.clients.nodes[name], height) for name in names))


@asynccontextmanager
async def staged(
    processes: Collection[str],
    *,
    accounts: Mapping[RollupId, int] | None = None,
    more_namespaces: Sequence[str] = (),
) -> AsyncIterator[Stage]:
    """Have a new devnet and `processes` of it running, with so many funded accounts on each rollup."""
    folder = Path(tempfile.mkdtemp(prefix="lockstep-bench-"))
    try:
        made = create_network(folder)
        genesis = funded_genesis(made.genesis, accounts or {}, more_namespaces=more_namespaces)
        write_atomically(folder / "genesis.json", genesis)
        network = open_network(folder)
        async with (
            running(network, only=processes, ready_ms=READY_MS_MAX) as devnet,
            connected(network) as clients,
        ):
            yield Stage(network, devnet, clients)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def wait_executed(node: RollupClient, height: int) -> None:
    """Wait until a node has executed a block."""

    async def has_executed() -> bool | None:
        return True if (await node.status()).height >= height else None

    await until(has_executed, f"a node to execute block {height}", timeout_ms=EXECUTED_MS_MAX)
