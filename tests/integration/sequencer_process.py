"""A sequencer as a real process, with a chain of its own: what its integration tests share."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.node.chain_files import save_key
from lockstep.attesters import AttesterSet
from lockstep.genesis import Genesis, RollupDefinition, Settlement, encode_genesis, parse_genesis
from lockstep.header import Tip, genesis_tip
from lockstep.order import Bundle, Transaction
from lockstep.signing import SigningKey
from lockstep.types import Namespace, RollupId
from sequencer.client import FollowedBlock, SequencerClient

ALPHA, BETA = Namespace("alpha"), Namespace("beta")
GENESIS_TIME_MS = 1_700_000_000_000
DEADLINE_S = 15

SEQUENCER_SEED, SETTLEMENT_SEED, GOVERNANCE_SEED = (bytes([seed]) * 32 for seed in (1, 2, 3))


def make_genesis() -> tuple[bytes, Genesis]:
    """Return a chain with the rollups `alpha` and `beta`."""
    raw = encode_genesis(
        name="test",
        genesis_time_ms=GENESIS_TIME_MS,
        sequencer=SigningKey(SEQUENCER_SEED).public_key,
        settlement=Settlement("test.example/log", SigningKey(SETTLEMENT_SEED).public_key),
        governance=SigningKey(GOVERNANCE_SEED).public_key,
        rollups=[
            RollupDefinition(RollupId(name), AttesterSet(1, (SigningKey(bytes([seed]) * 32).public_key,)))
            for seed, name in ((4, "alpha"), (5, "beta"))
        ],
        rotation_delay_blocks=5,
    )
    return raw, parse_genesis(raw)


@dataclass
class Home:
    """The files that a sequencer is started from."""

    path: Path
    """Their folder."""
    genesis: Genesis
    """The chain."""
    config: Path
    """The settings."""

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.path / "data"

    @property
    def start(self) -> Tip:
        """The chain before its first block."""
        return genesis_tip(self.genesis.chain_id, self.genesis.genesis_time_ms)


def make_home(path: Path, *, seed: bytes = SEQUENCER_SEED, settings: str = "", port: int = 0) -> Home:
    """Write genesis, key and settings to a folder."""
    raw, genesis = make_genesis()
    (path / "genesis.json").write_bytes(raw)
    save_key(path / "key.pem", seed)
    config = path / "sequencer.toml"
    config.write_text(
        'data = "data"\ngenesis = "genesis.json"\nkey = "key.pem"\nheartbeat_ms = 50\n'
        f"{settings}\n[server]\nport = {port}\n"
    )
    return Home(path, genesis, config)


class Process:
    """A running sequencer. Entering waits until it is ready; leaving kills it if it still runs."""

    def __init__(self, home: Home, environ: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.address = ""
        self.exit_code: int | None = None
        self._environ = {**os.environ, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Start it and return its first line; empty if it ended before it was ready."""
        with (self.home.path / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sequencer",
                "--config",
                str(self.home.config),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environ,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            return (await self._process.stdout.readline()).decode()

    async def __aenter__(self) -> Self:
        line = await self.start()
        assert line, self.log()
        self.address = json.loads(line)["ready"]["address"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.exit_code is None:
            await self.kill()

    def log(self) -> str:
        """Return everything that it logged."""
        return (self.home.path / "log").read_text()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        await self._end(signal.SIGTERM)
        assert self.exit_code is not None
        return self.exit_code

    async def wait(self) -> int:
        """Return its exit code once it ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(DEADLINE_S):
            self.exit_code = await self._process.wait()
        return self.exit_code

    async def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self.wait()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[SequencerClient]:
        """Give a client of it."""
        async with SequencerClient(self.address, self.home.genesis) as client:
            yield client


def free_port() -> int:
    """Return a port that nobody has, for a process that must be found again after its restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def bundle(*payloads: bytes, time_ms: int, window_ms: int = 30_000, namespace: Namespace = ALPHA) -> Bundle:
    """Return a bundle of payloads for one namespace."""
    return Bundle(tuple(Transaction(namespace, payload) for payload in payloads), time_ms + window_ms)


async def follow_until(
    client: SequencerClient, home: Home, height: int, *, tip: Tip | None = None
) -> list[FollowedBlock]:
    """Return every block after `tip`, genesis if None, up to `height`, with the entries of both rollups."""
    blocks = []
    following = client.follow(
        tip=tip or home.start, namespaces=(ALPHA, BETA), sequencer_key=lambda _: home.genesis.sequencer
    )
    async for followed in following:
        blocks.append(followed)
        if followed.block.header.height >= height:
            break
    await following.aclose()
    return blocks
