"""Traders as processes: the command line, killed where a test says, and gone on with by `swap resume`."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.client import RecordedSwap, SwapPhase, Wallet
from deploy.demonstration.market import OpenSwap
from deploy.devnet.clients import until
from deploy.network_file import NETWORK_FILE, NETWORK_VARIABLE
from deploy.node.failpoints import FAILPOINTS_VARIABLE
from lockstep.errors import UnknownSwap
from tests.chaos.arena import Arena
from tests.chaos.forks import ForkedProcess

COMMAND_S_MAX = 60
"""How long a command may take: the deadlines of a swap are shorter."""

PROPOSER, COUNTERPARTY = "alice", "bob"
"""The sides of the arena's deal."""

GIVE_AND_GET = {
    PROPOSER: ("--give", "3.00:gold@alpha", "--get", "7.00:silver@beta"),
    COUNTERPARTY: ("--give", "7.00:silver@beta", "--get", "3.00:gold@alpha"),
}
"""What each side of it types."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    exit_code: int
    """Its exit code; negative: the signal that killed it."""
    told: Any
    """What it told as JSON; None if it was killed."""
    progress: str
    """What it wrote on stderr."""

    @property
    def is_killed(self) -> bool:
        """Whether it was killed."""
        return self.exit_code == -signal.SIGKILL


class Typed:
    """A command that was typed and runs."""

    def __init__(self, arguments: Sequence[str], process: ForkedProcess) -> None:
        """Take what it tells from now on."""
        assert process.stderr is not None, "it was made with a pipe"
        self.arguments = arguments
        """What was typed."""
        self.process = process
        """The process."""
        self._told = asyncio.ensure_future(process.stdout.read())
        self._progress = asyncio.ensure_future(process.stderr.read())

    async def ended(self, *, timeout_s: float = COMMAND_S_MAX) -> Ended:
        """Wait until it ends. Raises TimeoutError after killing it, with what it told by then."""
        try:
            async with asyncio.timeout(timeout_s):
                exit_code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            progress = (await self._progress).decode()
            raise TimeoutError(f"{self.arguments} did not end within {timeout_s} s: {progress}") from None
        told, progress = await self._told, (await self._progress).decode()
        return Ended(exit_code, json.loads(told) if told else None, progress)

    async def stopped(self) -> None:
        """Wait until it stands still at a failpoint."""

        async def look() -> bool | None:
            assert self.process.returncode is None, f"{self.arguments} ended: {await self.ended()}"
            # The state follows the name, which is in parentheses and may hold any character.
            status = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8", errors="replace")
            return True if status.rpartition(")")[2].split()[0] == "T" else None

        await until(look, f"{self.arguments} to come to its failpoint")

    def go_on(self) -> None:
        """Let it go on if it stands still."""
        self.process.send_signal(signal.SIGCONT)


class Trader:
    """One trader of a network, each of whose commands is a process."""

    def __init__(self, arena: Arena, name: str) -> None:
        """Trade with the key of this name, and the wallet of the network."""
        self.name = name
        self.account = arena.market.traders[name].account
        self._arena = arena
        self._folder: Path = arena.devnet.network.folder
        self.wallet = Wallet(self._folder / "wallet")

    async def start(self, *words: str, failpoints: str = "") -> "Typed":
        """Start `lockstep swap WORDS --key NAME --json`."""
        environ = {**os.environ, NETWORK_VARIABLE: str(self._folder / NETWORK_FILE)}
        arguments = ("swap", *words, "--key", self.name, "--json")
        armed = {FAILPOINTS_VARIABLE: failpoints} if failpoints else {}
        process = await self._arena.forks.fork("deploy.cli", arguments, environ=environ | armed)
        return Typed(arguments, process)

    async def type(self, *words: str, failpoints: str = "") -> Ended:
        """Run a command to its end."""
        return await (await self.start(*words, failpoints=failpoints)).ended()

    async def trade(self, *words: str, failpoints: str = "") -> Ended:
        """Run a command to its swap's end; if it is killed, go on with `resume`, as a person would."""
        ended = await self.type(*words, "--wait", failpoints=failpoints)
        if not failpoints:
            return ended
        assert ended.is_killed, f"{self.name} never came to {failpoints}: {ended}"
        swap = self.newest()
        if swap is None:
            # Nothing was recorded, and so nothing was sent.
            return await self.type(*words, "--wait")
        return await self.type("resume", swap.swap_id.hex())

    def newest(self) -> RecordedSwap | None:
        """Return the trader's newest swap that is not at its end, or else that ended last; None if new."""
        known = {swap.swap_id for swap in self._arena.swaps}
        return next((swap for swap in self.wallet.swaps(self.account) if swap.swap_id not in known), None)

    def open_swap(self) -> OpenSwap:
        """Return the newest swap as the arena knows swaps."""
        swap = self.newest()
        assert swap is not None
        return OpenSwap(swap.terms_bytes, swap.swap_id, self._arena.market.traders[PROPOSER])


async def proposed(arena: Arena, proposer: Trader) -> str:
    """Wait until the coordinator has a trader's newest swap, and return its id as it is typed."""

    async def look() -> str | None:
        swap = proposer.newest()
        if swap is None:
            return None
        try:
            return (await arena.clients.bridge.swap(swap.swap_id)).swap_id.hex()
        except UnknownSwap:
            return None

    return await until(look, "the proposal", timeout_ms=COMMAND_S_MAX * 1_000)


def verify_told(ended: Ended, outcome: SwapPhase) -> None:
    """Check that a command told the swap's end, with the proven end of each of the trader's legs."""
    assert ended.told is not None, ended
    assert ended.told.get("outcome") == outcome.name, ended
    assert ended.exit_code == (0 if ended.told["ok"] else 1)
