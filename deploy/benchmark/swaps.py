"""Swaps as traders make them: proposed, locked, revealed, settled on both rollups.

Owns what a swap's latency is: from giving the last lock to the proven receipts of both legs. Everything is
signed before the clock starts. Invariant: whatever is counted was committed on both rollups.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.client import BridgeClient, RevealPolicy, SwapPhase, Trader, transfer_leg
from deploy.benchmark.accounts import account_key
from deploy.benchmark.jobs import Found, Prepared, SwapsJob
from deploy.node.chain_files import load_genesis
from lockstep.receipts import SettledReceipt, SettlementCode
from lockstep.terms import swap_id_of
from lockstep.types import SwapId
from rollups.client import RollupClient
from sequencer.client import SequencerClient

SETTLED_MS_MAX: Final = 30_000
"""How long a swap may take."""

_LOCK_WITHIN_MS: Final = 50_000
"""Within which log time a run's locks can be used: less than the most that is allowed, since who is asked for
the time may be ahead of who judges."""


class SwapFailed(Exception):
    """A swap did not end as it should have."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """Everything that a swap needs of its two traders."""

    swap_id: SwapId
    """The swap."""
    terms_bytes: bytes
    """What was agreed."""
    taker: Trader
    """Who has the preimage."""
    locks: tuple[bytes, ...]
    """The payload of each leg's lock."""


class Swaps:
    """Does a SwapsJob."""

    def __init__(self, job: SwapsJob) -> None:
        self._job = job
        _, self._genesis = load_genesis(Path(job.genesis))
        self._open = AsyncExitStack()
        self._traders = [Trader(account_key(number), self._genesis) for number in range(job.accounts)]
        self._sequencer = SequencerClient(job.sequencer, self._genesis)
        self._bridge = BridgeClient(job.bridge, self._genesis)
        self._nodes: dict[str, RollupClient] = {}
        self._signed: list[_Signed] = []
        self._locked: dict[SwapId, asyncio.Future[None]] = {}
        self._latencies_ms: list[float] = []

    async def prepare(self) -> Prepared:
        """Connect, and sign the terms and locks of the next run's swaps."""
        if not self._nodes:
            for client in (self._sequencer, self._bridge):
                await self._open.enter_async_context(client)
            for rollup, address in self._job.nodes.items():
                client_ = RollupClient(address, self._genesis, rollup)
                self._nodes[rollup] = await self._open.enter_async_context(client_)
        time_ms = await self._sequencer.time_ms()
        self._signed = [self._sign(place, time_ms) for place in range(self._job.count)]
        self._locked = {swap.swap_id: asyncio.get_running_loop().create_future() for swap in self._signed}
        self._latencies_ms = []
        return Prepared()

    async def run(self) -> Found:
        """Make the swaps, some at a time."""
        waiting = iter(self._signed)

        async def trade() -> None:
            for swap in waiting:
                async with asyncio.timeout(SETTLED_MS_MAX / 1_000):
                    await self._swap(swap)

        async with self._watching(), asyncio.TaskGroup() as group:
            started_ns = time.monotonic_ns()
            traders = [group.create_task(trade()) for _ in range(self._job.concurrency)]
            await asyncio.gather(*traders)
            seconds = (time.monotonic_ns() - started_ns) / 1e9
        return Found(seconds=seconds, count=len(self._latencies_ms), latencies_ms=tuple(self._latencies_ms))

    async def close(self) -> None:
        """Close all connections."""
        await self._open.aclose()

    def _sign(self, place: int, time_ms: int) -> _Signed:
        taker, maker = (self._traders[(2 * place + side) % len(self._traders)] for side in (0, 1))
        legs = [
            transfer_leg(
                rollup=rollup,
                sender=giver.account,
                recipient=taken_by.account,
                asset=self._job.assets[rollup],
                amount=1,
            )
            for rollup, giver, taken_by in zip(self._job.nodes, (taker, maker), (maker, taker), strict=True)
        ]
        terms_bytes = taker.new_terms(legs, time_ms=time_ms, lock_within_ms=_LOCK_WITHIN_MS)
        locks = (taker.sign_lock(terms_bytes, 0), maker.sign_lock(terms_bytes, 1))
        return _Signed(swap_id_of(terms_bytes), terms_bytes, taker, locks)

    async def _swap(self, swap: _Signed) -> None:
        preimage = swap.taker.preimage(swap.terms_bytes)
        await self._bridge.propose(
            swap.terms_bytes,
            idempotency_key=swap.swap_id,
            reveal_policy=RevealPolicy.UP_FRONT if self._job.is_up_front else RevealPolicy.BY_TRADER,
            preimage=preimage if self._job.is_up_front else None,
        )
        await self._bridge.accept(swap.swap_id, 0, swap.locks[0])
        started_ns = time.monotonic_ns()
        await self._bridge.accept(swap.swap_id, 1, swap.locks[1])
        if not self._job.is_up_front:
            await self._locked[swap.swap_id]
            await self._bridge.reveal(swap.swap_id, preimage)
        await asyncio.gather(*(self._settled(swap.swap_id, leg) for leg in range(len(self._nodes))))
        self._latencies_ms.append((time.monotonic_ns() - started_ns) / 1e6)

    async def _settled(self, swap_id: SwapId, leg: int) -> None:
        node = self._nodes[tuple(self._job.nodes)[leg]]
        receipt = await node.settlement(swap_id, leg, wait_ms=SETTLED_MS_MAX)
        if not (isinstance(receipt, SettledReceipt) and receipt.code is SettlementCode.COMMITTED):
            raise SwapFailed(f"leg {leg} of swap {swap_id.hex()} was not committed: {receipt}")

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Hear, while the `async with` block lasts, which swaps are locked, if a taker wants to know."""
        if self._job.is_up_front:
            yield
            return
        next_sequence = (await self._bridge.status()).next_sequence
        watching = asyncio.ensure_future(self._watch(next_sequence))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, from_sequence: int) -> None:
        async with aclosing(self._bridge.watch(from_sequence)) as changes:
            async for view in changes:
                locked = self._locked.get(view.swap_id)
                if view.phase is SwapPhase.LOCKED and locked is not None and not locked.done():
                    locked.set_result(None)
