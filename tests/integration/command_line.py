"""A devnet, and the command line as a person types it there: what tests of commands share."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.devnet.launcher import Devnet, running
from deploy.devnet.network import Network, create_network
from deploy.network_file import NETWORK_FILE

DEADLINE_S = 60
"""Real seconds that a command may take."""


@dataclass(frozen=True)
class Told:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Mapping[str, Any]:
        """The JSON on its stdout."""
        value: Mapping[str, Any] = json.loads(self.out)
        return value


@dataclass(frozen=True)
class Desk:
    """A running devnet with a terminal beside it."""

    network: Network
    """Its folder."""
    devnet: Devnet
    """Its processes."""

    async def type(self, *words: str) -> Told:
        """Type `lockstep WORDS` and return what it came to."""
        process = await self.start(*words)
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Told(process.returncode, out.decode(), err.decode())

    async def done(self, *words: str) -> Mapping[str, Any]:
        """Type a command with --json that must succeed, and return what it says."""
        told = await self.type(*words, "--json")
        assert told.code == 0, told
        assert told.json["ok"] is True
        return told.json

    async def refused(self, *words: str, code: int) -> Mapping[str, Any]:
        """Type a command with --json that must end with an exit code, and return what it says."""
        told = await self.type(*words, "--json")
        assert told.code == code, told
        assert told.json["ok"] is False
        return told.json

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """Type a command and leave it running."""
        return await start_lockstep(words, network=self.network.folder)


async def start_lockstep(words: Sequence[str], *, network: Path) -> asyncio.subprocess.Process:
    """Start `lockstep WORDS` where the environment names a network's folder."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "deploy.cli", *words),
        env=os.environ | {"LOCKSTEP_NETWORK": str(network / NETWORK_FILE)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def desk_at_devnet(folder: Path) -> AsyncIterator[Desk]:
    """Run a new devnet in a folder while the `async with` block lasts."""
    network = create_network(folder)
    async with running(network) as devnet:
        yield Desk(network, devnet)
