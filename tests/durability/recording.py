"""A real run whose durable calls are recorded, with what was told to whom at its place among them.

Owns the run: a network of real processes under transfers and swaps, each of them killed once, killed once at
a sync and stopped once on the way, and a trader's wallet. Everything is in one folder, so that many images
can be made of one run:

    FOLDER/network/         the devnet's folder
    FOLDER/records/NAME     the calls and marks of each process (`tests.tools.shim`)

A mark is a JSON object: what a client had received when it was written. It stands a moment later on the
record than the answer left the process, never earlier, so that no image is asked for what was not told.
"""

import asyncio
import hashlib
import json
import random
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc

from bridge.client import RevealPolicy, SwapPhase
from deploy.demonstration.market import Market, exchange
from deploy.devnet.clients import connected, until
from deploy.devnet.launcher import Child, Devnet, KilledEarly, execute, running
from deploy.devnet.network import ALPHA, ASSET_OF, BETA, Network, create_network, open_network
from deploy.node.client import ClientSettings, connect
from lockstep.limits import VALIDITY_WINDOW_MS_DEFAULT
from lockstep.order import Bundle, Transaction, bundle_id_of
from lockstep.settlement_entries import CommitmentEntry, decode_settlement_entry
from lockstep.terms import swap_id_of
from lockstep.types import Namespace, RollupId
from lockstep.v1 import (
    bridge_pb2,
    bridge_pb2_grpc,
    rollup_pb2,
    rollup_pb2_grpc,
    sequencer_pb2,
    sequencer_pb2_grpc,
    settlement_pb2,
    settlement_pb2_grpc,
)
from tests.tools.shim import environment, mark

PROCESSES: Final = ("settlement", "sequencer", "alpha-0", "beta-0", "bridge")
"""Who is recorded, beside the wallet."""

WALLET: Final = "wallet"
SUBJECTS: Final = (*PROCESSES, WALLET)
"""Everything that is recorded."""

SWAPS: Final = 6
"""Swaps of a run, in each of its parts."""

_UNSYNCED_MAX: Final = 14
"""At which of its syncs a process is killed at the latest: the first are those of its start."""

_BLOCK_PAUSE_S: Final = 0.2
"""Between two blocks while a process is to die."""

_DEAL: Final = exchange("alice", 3_00, "bob", 7_00)
_POLICIES: Final = (RevealPolicy.BY_TRADER, RevealPolicy.DELEGATED, RevealPolicy.UP_FRONT)


@dataclass(frozen=True)
class Run:
    """A run that was recorded."""

    folder: Path
    """Where everything of it is."""

    @property
    def network(self) -> Network:
        """The devnet."""
        return open_network(self.folder / "network")

    @property
    def root(self) -> Path:
        """The folder below which calls were recorded."""
        return self.folder / "network" / "data"

    def record(self, name: str) -> Path:
        """Return where the calls of a process are."""
        return self.folder / "records" / name


async def record(folder: Path) -> Run:
    """Make a run in a new folder. Takes some ten seconds."""
    folder = folder.resolve()
    (folder / "records").mkdir(parents=True)
    run = Run(folder)
    network = create_network(folder / "network")
    armed: dict[str, str] = {}

    async def spawn(
        module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int, group: int
    ) -> Child:
        name = Path(arguments[-1]).stem
        watched = environment(run.root, log=run.record(name), data=True, fault=armed.pop(name, ""))
        return await execute(module, arguments, environ={**environ, **watched}, stderr=stderr, group=group)

    async with (
        running(network, only=PROCESSES, spawn=spawn) as devnet,
        connected(network) as clients,
        _listening(run, network),
    ):
        market = Market(network, clients)
        await _trade(run, market)
        for name in PROCESSES:
            await devnet.restart(name)
        await _trade(run, market)
        for name in PROCESSES:
            armed[name] = f"kill-unsynced@{random.randint(1, _UNSYNCED_MAX)}"
            await _die_at_a_sync(run, market, devnet, name)
        await _trade(run, market)
        for name in PROCESSES:
            await devnet.terminate(name)
            await devnet.start(name)
        await _trade(run, market)
        # What a process that is killed leaves is what bits rot in.
        for name in PROCESSES:
            await devnet.kill(name)
    await _record_wallet(run)
    return run


async def _die_at_a_sync(run: Run, market: Market, devnet: Devnet, name: str) -> None:
    """Restart an armed process, and again once it died, which leaves its last write to the kernel."""
    # It may end before it is ready.
    with suppress(KilledEarly):
        await devnet.restart(name)
    died = asyncio.Event()

    async def come_back() -> None:
        await devnet.ended(name)
        died.set()
        await devnet.start(name)

    back = asyncio.create_task(come_back())
    while not died.is_set():
        await asyncio.gather(*(_transfer(run, market, rollup, 1) for rollup in (ALPHA, BETA)))
        # A few blocks are enough, and a record that is short makes more images.
        await asyncio.sleep(_BLOCK_PAUSE_S)
    await back


async def _record_wallet(run: Run) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.durability.trading", str(run.folder)),
        env={"PYTHONPATH": ":".join(sys.path), **environment(run.root, log=run.record(WALLET), data=True)},
    )
    assert await process.wait() == 0, "the wallet was used"


async def _trade(run: Run, market: Market) -> None:
    """Make some swaps and transfers, and note every answer."""
    async with asyncio.TaskGroup() as group:
        for number in range(SWAPS):
            group.create_task(_swap(run, market, _POLICIES[number % len(_POLICIES)]))
        for rollup in (ALPHA, BETA):
            group.create_task(_transfer_some(run, market, rollup))


async def _swap(run: Run, market: Market, policy: RevealPolicy) -> None:
    log = run.record("bridge")
    terms_bytes = await until(lambda: market.propose(_DEAL, policy), "the bridge to take a proposal")
    swap_id = swap_id_of(terms_bytes)
    asked = {"proposed": swap_id.hex(), "key": terms_bytes[-16:].hex(), "policy": policy.value}
    mark(log, _note(asked))
    for leg, give in enumerate(_DEAL.gives):
        lock = market.traders[give.sender].sign_lock(terms_bytes, leg)
        await until(partial(market.clients.bridge.accept, swap_id, leg, lock), "a lock")
        mark(log, _note({"accepted": swap_id.hex(), "leg": leg, "lock": lock.hex()}))
    if policy is RevealPolicy.BY_TRADER:
        await market.clients.bridge.wait_until(swap_id, (SwapPhase.LOCKED,))
        preimage = market.traders[_DEAL.revealer].preimage(terms_bytes)
        ordered = await until(lambda: market.clients.bridge.reveal(swap_id, preimage), "a reveal")
        mark(log, _note({"revealed": swap_id.hex(), "height": ordered.placement.height}))
    await market.clients.bridge.wait_until(swap_id, ())


async def _transfer_some(run: Run, market: Market, rollup: RollupId) -> None:
    for amount in range(1, SWAPS):
        await _transfer(run, market, rollup, amount)


async def _transfer(run: Run, market: Market, rollup: RollupId, amount: int) -> None:
    sequencer, log = market.clients.sequencer, run.record("sequencer")
    time_ms = await until(sequencer.time_ms, "the sequencer")
    payload = market.traders["bob"].sign_transfer(
        rollup,
        asset=ASSET_OF[rollup],
        recipient=market.traders["carol"].account,
        amount=amount,
        valid_until_ms=time_ms + VALIDITY_WINDOW_MS_DEFAULT,
    )
    window_ms = time_ms + VALIDITY_WINDOW_MS_DEFAULT
    bundle = Bundle((Transaction(Namespace(rollup), payload),), window_ms)
    ordered = await until(partial(sequencer.submit, bundle), "a transfer's receipt")
    place = ordered.placement
    mark(
        log,
        _note(
            {
                "ordered": bundle_id_of(market.genesis.chain_id, bundle).hex(),
                "valid_until_ms": window_ms,
                "place": [place.height, place.first_index, place.count],
            }
        ),
    )


# --- what streams tell -------------------------------------------------------------------------------------


@asynccontextmanager
async def _listening(run: Run, network: Network) -> AsyncIterator[None]:
    """Note what every stream tells, while the block lasts."""
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(connect(network.address(name), ClientSettings()))
            for name in PROCESSES
        }
        tasks = [
            asyncio.create_task(_for_ever(listen))
            for listen in (
                _Blocks(run, channels["sequencer"]),
                _Entries(run, channels["settlement"]),
                _Receipts(run, channels["alpha-0"], "alpha-0"),
                _Receipts(run, channels["beta-0"], "beta-0"),
                _Swaps(run, channels["bridge"]),
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


class _Listener:
    """A stream that is resumed where it was cut off."""

    async def listen(self) -> None:
        raise NotImplementedError


async def _for_ever(listener: _Listener) -> None:
    while True:
        with suppress(grpc.aio.AioRpcError):
            await listener.listen()
        await asyncio.sleep(0.02)


class _Blocks(_Listener):
    def __init__(self, run: Run, channel: grpc.aio.Channel) -> None:
        self._log = run.record("sequencer")
        self._stub: Any = sequencer_pb2_grpc.SequencerStub(channel)
        self._next = 1

    async def listen(self) -> None:
        asked = sequencer_pb2.StreamBlocksRequest(from_height=self._next)
        async for response in self._stub.StreamBlocks(asked):
            for block in response.blocks:
                told = {"height": self._next, "header": block.header.header.hex()}
                mark(self._log, _note({**told, "proof": block.header.proof.hex()}))
                self._next += 1


class _Entries(_Listener):
    def __init__(self, run: Run, channel: grpc.aio.Channel) -> None:
        self._run = run
        self._stub: Any = settlement_pb2_grpc.SettlementStub(channel)
        self._next = 0

    async def listen(self) -> None:
        asked = settlement_pb2.StreamEntriesRequest(from_index=self._next)
        async for response in self._stub.StreamEntries(asked):
            for entry in response.entries:
                told = {"index": self._next, "entry": hashlib.sha256(entry).hexdigest()}
                mark(self._run.record("settlement"), _note(told))
                self._next += 1
                decoded = decode_settlement_entry(entry)
                if isinstance(decoded, CommitmentEntry):
                    posted = decoded.posted
                    name = f"{posted.commitment.rollup}-0"
                    told = {"attester": posted.attester.hex(), "posted": posted.commitment.height}
                    mark(self._run.record(name), _note({**told, "entry": entry.hex()}))
            mark(self._run.record("settlement"), _note({"checkpoint": response.checkpoint.hex()}))


class _Receipts(_Listener):
    def __init__(self, run: Run, channel: grpc.aio.Channel, name: str) -> None:
        self._log = run.record(name)
        self._stub: Any = rollup_pb2_grpc.RollupStub(channel)
        self._next = 0

    async def listen(self) -> None:
        asked = rollup_pb2.StreamReceiptsRequest(from_index=self._next)
        async for response in self._stub.StreamReceipts(asked):
            for each in response.receipts:
                mark(self._log, _note({"index": each.index, "receipt": each.receipt.hex()}))
            self._next = response.next_index
            answer = await self._stub.GetCommitment(rollup_pb2.GetCommitmentRequest(), timeout=10)
            told = answer.commitment.commitment.hex()
            mark(self._log, _note({"commitment": told}))


class _Swaps(_Listener):
    def __init__(self, run: Run, channel: grpc.aio.Channel) -> None:
        self._log = run.record("bridge")
        self._stub: Any = bridge_pb2_grpc.BridgeStub(channel)
        self._next = 0

    async def listen(self) -> None:
        asked = bridge_pb2.WatchSwapsRequest(from_sequence=self._next)
        async for response in self._stub.WatchSwaps(asked):
            for swap in response.swaps:
                mark(self._log, _note({"view": swap.SerializeToString().hex()}))
            self._next = response.next_sequence


def _note(told: Mapping[str, object]) -> bytes:
    return json.dumps(told).encode()
