"""A coordinator as a real process, a real sequencer, and rollups that only attest: what its tests share."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.client import BridgeClient, SwapPhase, Trader, transfer_leg
from deploy.node.client import ClientSettings
from lockstep.errors import UselessEntry
from lockstep.genesis import Genesis
from lockstep.order import Bundle, Transaction
from lockstep.register import Register, apply_block, genesis_register, input_of
from lockstep.signing import SigningKey
from lockstep.swap_entries import Attestation, AttestItem, RejectReason, Verdict, sign_attestation
from lockstep.terms import swap_id_of
from lockstep.transactions import Lock, Method, decode_call, decode_transaction
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, Namespace, SwapId
from sequencer.client import FollowedBlock, SequencerClient
from tests.integration import sequencer_process
from tests.integration.sequencer_process import ALPHA, BETA

DEADLINE_S = 20
ATTESTERS = {name: SigningKey(bytes([seed]) * 32) for seed, name in ((4, "alpha"), (5, "beta"))}


class Process:
    """A running coordinator. Entering waits until it is ready; leaving kills it if it still runs."""

    def __init__(self, folder: Path, sequencer: str, environ: Mapping[str, str] | None = None) -> None:
        """Run on `folder`, where its data stays from one process to the next, as does its port."""
        self.folder = folder
        self.address = ""
        self.exit_code: int | None = None
        self._sequencer = sequencer
        self._environ = {**os.environ, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        port_file = self.folder / "port"
        port = port_file.read_text() if port_file.exists() else "0"
        config = self.folder / "bridge.toml"
        config.write_text(
            f'data = "bridge"\ngenesis = "genesis.json"\nsequencer = "{self._sequencer}"\n'
            f'[logs]\nlevel = "debug"\n[server]\nport = {port}\n'
        )
        with (self.folder / "bridge.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", "--config", str(config)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environ,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = await self._process.stdout.readline()
        assert line, self.log()
        self.address = json.loads(line)["ready"]["address"]
        port_file.write_text(self.address.rpartition(":")[2])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.exit_code is None:
            await self.end(signal.SIGKILL)

    def log(self) -> str:
        """Return everything that it logged."""
        return (self.folder / "bridge.log").read_text()

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal and return its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        """Return its exit code once it ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(DEADLINE_S):
            self.exit_code = await self._process.wait()
        return self.exit_code


class Rollups:
    """Attesters of both rollups, that lock whatever is asked: for each Lock in the order, LOCKED."""

    def __init__(self, client: SequencerClient, genesis: Genesis) -> None:
        self.register: Register = genesis_register(genesis)
        """The register as they follow it."""
        self.blocks: list[FollowedBlock] = []
        """Every block."""
        self.is_attesting = True
        """Whether they say anything."""
        self._client = client
        self._genesis = genesis
        self._locked: set[tuple[SwapId, int]] = set()
        self._attested: set[tuple[SwapId, int]] = set()

    async def run(self) -> None:
        """Follow and attest for ever."""
        namespaces = (SWAP_NAMESPACE, REGISTRY_NAMESPACE, ALPHA, BETA)
        async with asyncio.TaskGroup() as group:
            async for followed in self._client.follow(
                tip=self.register.tip,
                namespaces=namespaces,
                sequencer_key=lambda _: self._genesis.sequencer,
            ):
                self.blocks.append(followed)
                self.register, _ = apply_block(self.register, input_of(followed.block))
                for name in (ALPHA, BETA):
                    self._locked |= set(map(_lock_of, self._payloads(followed, name)))
                for swap_id, leg in self._locked - self._attested if self.is_attesting else ():
                    record = self.register.record(swap_id)
                    if record is not None and not record.is_terminal:
                        self._attested.add((swap_id, leg))
                        group.create_task(self._attest(swap_id, leg))

    def entries(self, namespace: str) -> list[bytes]:
        """Return every payload of a namespace."""
        return [payload for block in self.blocks for payload in self._payloads(block, Namespace(namespace))]

    async def _attest(self, swap_id: SwapId, leg: int) -> None:
        record = self.register.record(swap_id)
        assert record is not None
        rollup = record.terms.legs[leg].rollup
        key, tip = ATTESTERS[rollup], self.register.tip
        item = AttestItem(swap_id, leg, Verdict.LOCKED, RejectReason.NONE)
        attestation = Attestation(tip.chain, rollup, key.public_key, tip.height, tip.hash, (item,))
        entry = Transaction(SWAP_NAMESPACE, sign_attestation(key, attestation))
        # Useless it is if the swap was decided meanwhile.
        with suppress(UselessEntry):
            await self._client.submit(Bundle((entry,), tip.time_ms + 30_000))

    @staticmethod
    def _payloads(followed: FollowedBlock, namespace: Namespace) -> list[bytes]:
        return [entry.payload for entry in followed.block.entries[namespace]]


def _lock_of(payload: bytes) -> tuple[SwapId, int]:
    call = decode_call(Method.ESCROW_LOCK, decode_transaction(payload).arguments)
    assert isinstance(call, Lock)
    return call.swap_id, call.leg


class Net:
    """A sequencer, its rollups, and room for a coordinator."""

    def __init__(
        self,
        home: sequencer_process.Home,
        sequencer: sequencer_process.Process,
        rollups: Rollups,
        stack: AsyncExitStack,
    ) -> None:
        self.home = home
        self.genesis = home.genesis
        self.sequencer = sequencer
        self.rollups = rollups
        self._stack = stack
        self.ann, self.bob = (Trader(SigningKey(bytes([seed]) * 32), home.genesis) for seed in (11, 12))

    def bridge(self, environ: Mapping[str, str] | None = None) -> Process:
        """Return a coordinator to be started; each has the data of the one before it."""
        return Process(self.home.path, self.sequencer.address, environ)

    @asynccontextmanager
    async def client(self, process: Process) -> AsyncIterator[BridgeClient]:
        """Give a client of a coordinator."""
        settings = ClientSettings(reconnect_ms_max=100)
        async with BridgeClient(process.address, self.genesis, settings) as client:
            yield client

    async def restart_sequencer(self) -> None:
        """Start the sequencer again where it was."""
        self.sequencer = await self._stack.enter_async_context(sequencer_process.Process(self.home))

    async def follow(self, client: BridgeClient) -> None:
        """Wait until the rollups are where the coordinator is, or further."""
        height = (await client.status()).height
        await until(lambda: self.rollups.register.height >= height)

    def new_terms(
        self, number: int = 0, *, lock_within_ms: int = 30_000, reveal_within_ms: int = 30_000
    ) -> bytes:
        """Return Ann's terms, 100 RED on alpha for 200 of Bob's BLUE on beta, from now."""
        ann, bob = self.ann.account, self.bob.account
        legs = [
            transfer_leg(rollup="alpha", sender=ann, recipient=bob, asset="RED", amount=100),
            transfer_leg(rollup="beta", sender=bob, recipient=ann, asset="BLUE", amount=200),
        ]
        now_ms = self.rollups.register.time_ms
        return self.ann.new_terms(
            legs,
            time_ms=now_ms,
            lock_within_ms=lock_within_ms,
            reveal_within_ms=reveal_within_ms,
            salt=number.to_bytes(16, "big"),
        )

    async def give(self, client: BridgeClient, terms_bytes: bytes) -> SwapId:
        """Give both locks of a swap, and return its id."""
        swap_id = swap_id_of(terms_bytes)
        for leg, trader in enumerate((self.ann, self.bob)):
            await client.accept(swap_id, leg, trader.sign_lock(terms_bytes, leg))
        return swap_id


@asynccontextmanager
async def network(path: Path) -> AsyncIterator[Net]:
    """Run a sequencer and attesting rollups in `path`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = sequencer_process.make_home(path, port=port)
    async with AsyncExitStack() as stack:
        sequencer = await stack.enter_async_context(sequencer_process.Process(home))
        settings = ClientSettings(reconnect_ms_max=100)
        client = await stack.enter_async_context(SequencerClient(sequencer.address, home.genesis, settings))
        rollups = Rollups(client, home.genesis)
        attesting = asyncio.create_task(rollups.run())
        try:
            await until(lambda: bool(rollups.blocks))
            yield Net(home, sequencer, rollups, stack)
        finally:
            attesting.cancel()
            await asyncio.gather(attesting, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - it depends on other processes
            await asyncio.sleep(0.01)


OPENED = (SwapPhase.OPEN, SwapPhase.LOCKED, SwapPhase.REVEALED)
