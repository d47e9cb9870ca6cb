"""How long a process takes from its start to its first new durable answer with a long chain behind it.

    python -m tests.chaos.restart --blocks 100000

Builds the sequencer's ledger by its own code, block by block, in memory-backed storage where there is some,
since nothing of that is measured; lets a rollup node and a coordinator follow it to its end; then kills and
starts each, some times over, and measures up to

    sequencer   the signed receipt of a new bundle
    rollup      the receipt of a new transfer, executed and durable
    bridge      the answer to a new proposal, which is durable then

On a machine that is busy real time says little, so that time in which one of those who take part wanted a
processor and got none is told apart (`deploy.devnet.patience`). `--record` writes what was seen into
RELIABILITY.json.
"""

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from bridge.client import BridgeClient, Trader, transfer_leg
from deploy.devnet.clients import Clients, connected, until
from deploy.devnet.launcher import Devnet, running
from deploy.devnet.network import ALPHA, ASSET_OF, BETA, Network, create_network
from deploy.devnet.patience import Stopwatch, starved_ms
from deploy.node.chain_files import load_key
from deploy.node.datadir import DurableCell
from lockstep.header import genesis_tip, tip_of
from lockstep.limits import VALIDITY_WINDOW_MS_DEFAULT
from lockstep.order import Bundle, Transaction
from lockstep.transactions import decode_transaction
from lockstep.types import Namespace
from rollups.client import RollupClient
from sequencer.admission import admit, open_namespaces
from sequencer.builder import propose
from sequencer.chain import load_chain
from sequencer.client import SequencerClient
from sequencer.embedded import open_engine
from sequencer.ledger import open_ledger
from tests.reliability import record

RESTART_MS_MAX: Final = 2_000
"""How long it may take."""

BLOCK_MS: Final = 20
"""Log time between two blocks."""

FOLLOW_S_MAX: Final = 600
"""How long the rollup node and the coordinator may take to follow all blocks."""

ORDERING: Final = ("settlement", "sequencer")
"""Who runs from the start."""
FOLLOWING: Final = ("alpha-0", "beta-0", "bridge")
"""Who follows then."""

CLAIM: Final = (
    "A process that was killed gives its first new durable answer within 2 s, with a long chain behind it"
)


@dataclass(frozen=True)
class Restart:
    """A restart, from the start of the process to its answer."""

    real_ms: int
    """Real time."""
    starved_ms: int
    """How much of it the process, the sequencer or this program got no processor, whichever got least."""
    processor_ms: int
    """Time that a processor worked for the process."""

    @property
    def own_ms(self) -> int:
        """How long it took but for that the machine was busy."""
        return self.real_ms - self.starved_ms


@click.command()
@click.option("--blocks", type=click.IntRange(10), default=100_000, show_default=True)
@click.option("--times", type=click.IntRange(1), default=5, show_default=True, help="Restarts of each.")
@click.option("--record", "is_recorded", is_flag=True, help="Write what was seen into RELIABILITY.json.")
def main(*, blocks: int, times: int, is_recorded: bool) -> None:
    """Measure restarts. Exit code 1: one took too long."""
    found = asyncio.run(measure(blocks, times))
    late = sum(each.own_ms > RESTART_MS_MAX for spans in found.values() for each in spans)
    for name, spans in found.items():
        click.echo(f"{name}: {_told(spans)}; {len(spans)} restarts with {blocks} blocks behind")
    if is_recorded:
        record(
            CLAIM,
            trials=sum(map(len, found.values())),
            failures=late,
            seeds="none: nothing is random",
            command=f"python -m tests.chaos.restart --blocks {blocks} --times {times}",
            not_covered=f"chains of more than {blocks} blocks, of a transfer each. The machine was busy with "
            "other work; time in which somebody wanted a processor and got none does not count. "
            + "; ".join(f"{name}: {_told(spans)}" for name, spans in found.items())
            + ".",
            date=datetime.now(UTC).date().isoformat(),
        )
    sys.exit(1 if late else 0)


def _told(spans: Sequence[Restart]) -> str:
    own, real, worked = (
        [getattr(each, name) for each in spans] for name in ("own_ms", "real_ms", "processor_ms")
    )
    return (
        f"median {statistics.median(own):.0f} ms, worst {max(own)} ms; with the time without a processor "
        f"{statistics.median(real):.0f} and {max(real)} ms; a processor worked for it for "
        f"{statistics.median(worked):.0f} ms"
    )


async def measure(blocks: int, times: int) -> dict[str, list[Restart]]:
    """Return how long each restart took, by process."""
    folder = Path(tempfile.mkdtemp(prefix="restart-"))
    try:
        network = create_network(folder / "network")
        await build(network, blocks)
        async with running(network, only=ORDERING) as devnet, connected(network) as clients:
            bob, alice = (Trader(network.traders[name], network.genesis) for name in ("bob", "alice"))
            asking = _Asking(devnet, clients, bob, alice)
            found = {"sequencer": await asking.restarts("sequencer", asking.order, times)}
            await asyncio.gather(*map(devnet.start, FOLLOWING))
            await _followed(clients, blocks)
            found["rollup"] = await asking.restarts("beta-0", asking.execute, times)
            found["bridge"] = await asking.restarts("bridge", asking.propose, times)
            return found
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


async def build(network: Network, blocks: int) -> None:
    """Make the sequencer's data: `blocks` blocks, each with a transfer on beta from bob to alice."""
    data, memory = network.data_folder("sequencer"), Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        folder = Path(made)
        started_s = time.monotonic()
        await _build_in(folder, network, blocks)
        click.echo(f"{blocks} blocks were made in {time.monotonic() - started_s:.0f} s", err=True)
        await asyncio.to_thread(shutil.copytree, folder, data)


async def _build_in(folder: Path, network: Network, blocks: int) -> None:
    genesis = network.genesis
    key = load_key(network.folder / "keys" / "sequencer.pem")
    start = genesis_tip(genesis.chain_id, genesis.genesis_time_ms)
    bob, alice = (Trader(network.traders[name], genesis) for name in ("bob", "alice"))
    async with AsyncExitStack() as stack:
        cell = stack.enter_context(DurableCell(folder / "last_signed"))
        ledger = await stack.enter_async_context(open_ledger(folder / "ledger.sqlite"))
        chain = await load_chain(ledger, genesis)
        opening = open_engine(ledger, cell, key, genesis=start, check_key=lambda *_: None)
        engine, _ = await stack.enter_async_context(opening)
        tip, open_to = start, open_namespaces(chain.registry)
        for number in range(1, blocks + 1):
            time_ms = start.time_ms + number * BLOCK_MS
            until_ms = time_ms + VALIDITY_WINDOW_MS_DEFAULT
            payload = bob.sign_transfer(
                BETA, asset=ASSET_OF[BETA], recipient=alice.account, amount=1, valid_until_ms=until_ms
            )
            bundle = admit(
                genesis.chain_id, Bundle((Transaction(Namespace(BETA), payload),), until_ms), open_to
            )
            proposal = propose(tip, time_ms, [bundle])
            await engine.order(proposal)
            await chain.apply(proposal.block)
            tip = tip_of(proposal.block.header, proposal.block.hash)


async def _followed(clients: Clients, blocks: int) -> None:
    """Wait until everybody has followed all blocks."""

    async def is_there() -> bool | None:
        heights = (
            (await clients.nodes["alpha-0"].status()).height,
            (await clients.nodes["beta-0"].status()).height,
            (await clients.bridge.status()).height,
        )
        return min(heights) >= blocks or None

    await until(is_there, "all blocks to be followed", timeout_ms=FOLLOW_S_MAX * 1_000)


class _Asking:
    """Restarts processes, and asks each for something new."""

    def __init__(self, devnet: Devnet, clients: Clients, trader: Trader, other: Trader) -> None:
        self._devnet = devnet
        self._clients = clients
        self._trader = trader
        self._other = other

    async def restarts(self, name: str, ask: Callable[[int], Awaitable[object]], times: int) -> list[Restart]:
        """Restart a process some times over, and tell how long it took."""
        found = [await self.restart(name, ask) for _ in range(times)]
        click.echo(f"{name}: {found}", err=True)
        return found

    async def restart(self, name: str, ask: Callable[[int], Awaitable[object]]) -> Restart:
        """Kill a process and start it; return how long it took until it answered something new."""
        # Asked now, for the sequencer that could tell may be the one that is killed.
        time_ms = await until(self._clients.sequencer.time_ms, "the sequencer")
        await self._devnet.kill(name)
        watch = Stopwatch({os.getpid(), self._devnet.pid("sequencer")})
        await self._devnet.start(name)
        await until(lambda: _true(ask(time_ms)), f"a new answer of {name}")
        pid = self._devnet.pid(name)
        return Restart(watch.real_ms, max(watch.starved_ms, starved_ms(pid)), _processor_ms(pid))

    async def order(self, time_ms: int) -> bytes:
        """Have a new transfer ordered, and return its payload."""
        until_ms = time_ms + VALIDITY_WINDOW_MS_DEFAULT
        payload = self._trader.sign_transfer(
            BETA, asset=ASSET_OF[BETA], recipient=self._other.account, amount=1, valid_until_ms=until_ms
        )
        bundle = Bundle((Transaction(Namespace(BETA), payload),), until_ms)
        # A connection of its own, as below: one that broke waits before it is tried again.
        network = self._devnet.network
        async with SequencerClient(network.address("sequencer"), network.genesis) as sequencer:
            await sequencer.submit(bundle)
        return payload

    async def execute(self, time_ms: int) -> None:
        """Have a new transfer executed by the rollup's node."""
        payload = await self.order(time_ms)
        network = self._devnet.network
        async with RollupClient(network.address("beta-0"), network.genesis, BETA) as node:
            await node.receipt(decode_transaction(payload).id, wait_ms=10_000)

    async def propose(self, time_ms: int) -> None:
        """Have new terms taken by the coordinator."""
        one, other = self._trader.account, self._other.account
        legs = [
            transfer_leg(rollup=rollup, sender=sender, recipient=recipient, asset=ASSET_OF[rollup], amount=1)
            for rollup, sender, recipient in ((ALPHA, one, other), (BETA, other, one))
        ]
        terms_bytes = self._trader.new_terms(legs, time_ms=time_ms)
        network = self._devnet.network
        async with BridgeClient(network.address("bridge"), network.genesis) as bridge:
            await bridge.propose(terms_bytes, idempotency_key=terms_bytes[-16:])


def _processor_ms(pid: int) -> int:
    """Return the time that a processor worked for a process so far."""
    # What follows the name, which is in parentheses, begins with field 3; 14 and 15 are user and system.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000 // os.sysconf("SC_CLK_TCK")


async def _true(asked: Awaitable[object]) -> bool:
    await asked
    return True


if __name__ == "__main__":
    main()
