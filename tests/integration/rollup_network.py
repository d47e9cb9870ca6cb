"""A small network of real processes: settlement log, sequencer, and rollup nodes that a test kills."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from deploy.node.chain_files import save_key
from deploy.node.failpoints import FAILPOINTS_VARIABLE
from lockstep.genesis import Genesis, RollupDefinition, parse_genesis
from lockstep.order import Bundle, Transaction
from lockstep.types import Namespace
from rollups.client import RollupClient
from sequencer.client import Ordered, SequencerClient
from tests.unit.rollups.chain import genesis_file, seed

DEADLINE_S = 60


@dataclass
class Node:
    """A process that can be killed and started again on the same data."""

    name: str
    module: str
    folder: Path
    settings: str
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / f"data-{self.name}"

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    async def start(self, failpoints: str = "") -> None:
        """Start it and wait until it is ready; the first start gives it its port."""
        config = self.folder / f"{self.name}.toml"
        config.write_text(
            f'data = "data-{self.name}"\ngenesis = "genesis.json"\n{self.settings}\n'
            f"[server]\nport = {self.port}\n"
        )
        environ = {**os.environ, **({FAILPOINTS_VARIABLE: failpoints} if failpoints else {})}
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                "--config",
                str(config),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environ,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = await self.process.stdout.readline()
        assert line, self.log()
        self.port = int(json.loads(line)["ready"]["address"].rpartition(":")[2])

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Return the exit code once it ended."""
        assert self.process is not None
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()


@dataclass
class Network:
    """All of them, with clients."""

    folder: Path
    genesis: Genesis
    nodes: Mapping[str, Node]
    sequencer: SequencerClient
    stack: AsyncExitStack
    salts: int = 0
    clients: dict[str, RollupClient] = field(default_factory=dict)

    async def client(self, name: str) -> RollupClient:
        if name not in self.clients:
            client = RollupClient(self.nodes[name].address, self.genesis, name.partition("-")[0])
            self.clients[name] = await self.stack.enter_async_context(client)
        return self.clients[name]

    async def order(self, *transactions: tuple[str, bytes]) -> Ordered:
        """Have transactions ordered as one bundle."""
        bundle = Bundle(
            tuple(Transaction(Namespace(name), payload) for name, payload in transactions),
            await self.sequencer.time_ms() + 20_000,
        )
        return await self.sequencer.submit(bundle)

    async def verify_same(self, *names: str) -> None:
        """Check that nodes of one rollup have one commitment at every height up to the newest common one."""
        clients = [await self.client(name) for name in names]
        height = max([(await client.status()).height for client in clients])
        account = self.genesis.sequencer
        for client in clients:
            await client.balances(account, min_height=height)
        for each in range(1, height + 1):
            found = [await client.commitment(each) for client in clients]
            assert found.count(found[0]) == len(found), f"nodes differ at height {each}"


@asynccontextmanager
async def network(
    folder: Path,
    *names: str,
    rollups: Sequence[RollupDefinition] = (),
    keys: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Network]:
    """Run settlement log, sequencer and these rollup nodes, such as `beta-0`; those named -0 attest.

    `rollups` are the genesis file's; `keys` says by their names with which keys nodes attest instead. All
    processes are killed at the end.
    """
    raw = genesis_file(*rollups)
    (folder / "genesis.json").write_bytes(raw)
    genesis = parse_genesis(raw)
    for name in ("sequencer", "settlement"):
        save_key(folder / f"{name}.pem", seed(name))
    for name in ("alpha", "beta"):
        save_key(folder / f"{name}-0.pem", seed(f"attester of {name}"))
    for name, key in keys.items():
        save_key(folder / f"{name}.pem", seed(key))
    log = Node("settlement", "bridge.settlement", folder, 'key = "settlement.pem"')
    nodes = {"settlement": log}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_kill_all, nodes)
        await log.start()
        order = Node(
            "sequencer",
            "sequencer",
            folder,
            f'key = "sequencer.pem"\nsettlement = "{log.address}"\nheartbeat_ms = 50',
        )
        nodes["sequencer"] = order
        await order.start()
        for name in names:
            rollup = name.partition("-")[0]
            settings = f'rollup = "{rollup}"\nsequencer = "{order.address}"\nsettlement = "{log.address}"' + (
                f'\nkey = "{name}.pem"' if name.endswith("-0") or name in keys else ""
            )
            nodes[name] = Node(name, "rollups", folder, settings)
            await nodes[name].start()
        client = await stack.enter_async_context(SequencerClient(order.address, genesis))
        yield Network(folder, genesis, nodes, client, stack)


async def _kill_all(nodes: Mapping[str, Node]) -> None:
    for node in nodes.values():
        if node.process is not None:
            await node.kill()
