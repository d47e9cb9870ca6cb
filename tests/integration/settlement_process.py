"""A settlement log as a real process: what its tests share. The chain is that of the unit tests."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from bridge.settlement.client import SettlementClient
from deploy.node.chain_files import save_key
from deploy.node.client import ClientSettings, connect
from lockstep.v1 import settlement_pb2_grpc
from tests.unit.settlement.chain import GENESIS, GENESIS_BYTES

DEADLINE_S = 15


@dataclass(frozen=True)
class Home:
    """The files that a settlement log is started from."""

    path: Path
    """Their folder."""

    @property
    def config(self) -> Path:
        """The settings."""
        return self.path / "settlement.toml"

    @property
    def database(self) -> Path:
        """The entries."""
        return self.path / "data" / "settlement.sqlite"

    @property
    def cell(self) -> Path:
        """The record of the checkpoint signed last."""
        return self.path / "data" / "last_checkpoint"


def make_home(path: Path, *, key: str = "settlement", settings: str = "", port: int = 0) -> Home:
    """Write genesis, key and settings to a folder."""
    home = Home(path)
    (path / "genesis.json").write_bytes(GENESIS_BYTES)
    save_key(path / "key.pem", key.encode().ljust(32, b"."))
    home.config.write_text(
        f'data = "data"\ngenesis = "genesis.json"\nkey = "key.pem"\n{settings}\n[server]\nport = {port}\n'
    )
    return home


class Process:
    """A running settlement log. Entering waits until it is ready; leaving kills it if it still runs."""

    def __init__(self, home: Home, environ: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.ready: Mapping[str, Any] = {}
        self._environ = {**os.environ, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self.ready["address"])

    async def start(self) -> str:
        """Start it and return its first line; empty if it ended before it was ready."""
        with (self.home.path / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bridge.settlement",
                "--config",
                str(self.home.config),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environ,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = (await self._process.stdout.readline()).decode()
        if line:
            self.ready = json.loads(line)["ready"]
        return line

    async def __aenter__(self) -> Self:
        assert await self.start(), self.log()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end(signal.SIGKILL)

    def log(self) -> str:
        """Return everything that it logged."""
        return (self.home.path / "log").read_text()

    async def wait(self) -> int:
        """Return its exit code once it ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(DEADLINE_S):
            return await self._process.wait()

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal, if it still runs, and return its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.wait()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[SettlementClient]:
        """Give a client of it."""
        async with SettlementClient(self.address, GENESIS) as client:
            yield client

    @asynccontextmanager
    async def stub(self) -> AsyncIterator["settlement_pb2_grpc.SettlementAsyncStub"]:
        """Give the bare calls, for what no client of ours would ask or check."""
        channel: grpc.aio.Channel = connect(self.address, ClientSettings())
        async with channel:
            yield settlement_pb2_grpc.SettlementStub(channel)
