"""Swaps as bots make them: proposed, locked and revealed over one stream, settled on both rollups.

Owns what a swap's latency is: from giving the last lock until both rollups have told, by their streams of
receipts, that its legs are settled. Everything is signed before the clock starts. Invariant: whatever is
counted was committed on both rollups, and a sample of it was proven after the clock.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.client import BridgeClient, RevealPolicy, SwapPhase, SwapStream, SwapView, Trader, transfer_leg
from deploy.benchmark.accounts import account_key
from deploy.benchmark.jobs import Found, Prepared, SwapsJob
from deploy.node.chain_files import load_genesis
from deploy.node.logs import Secret
from lockstep.errors import LockstepError
from lockstep.receipts import SettledReceipt, SettlementCode, TransactionReceipt, UnbackedReceipt
from lockstep.terms import swap_id_of
from lockstep.types import SwapId
from rollups.client import RollupClient

SETTLED_MS_MAX: Final = 30_000
"""How long a swap may take."""

SAMPLES_MAX: Final = 32
"""How many swaps of a run are proven after it."""

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
    preimage: Secret
    """What the taker reveals."""
    locks: tuple[bytes, ...]
    """The payload of each leg's lock."""


class Swaps:
    """Does a SwapsJob."""

    def __init__(self, job: SwapsJob) -> None:
        self._job = job
        _, self._genesis = load_genesis(Path(job.genesis))
        self._open = AsyncExitStack()
        self._traders = [Trader(account_key(number), self._genesis) for number in range(job.accounts)]
        self._bridge = BridgeClient(job.bridge, self._genesis)
        self._stream = SwapStream([self._bridge])
        self._nodes: dict[str, RollupClient] = {}
        self._signed: list[_Signed] = []
        self._locked: dict[SwapId, asyncio.Future[None]] = {}
        self._settled: dict[tuple[SwapId, int], asyncio.Future[None]] = {}
        self._latencies_ms: list[float] = []
        self._ended_ns: list[int] = []
        self._unsettled = 0

    async def prepare(self) -> Prepared:
        """Connect, and sign the terms and locks of the next run's swaps."""
        if not self._nodes:
            await self._open.enter_async_context(self._bridge)
            await self._open.enter_async_context(self._stream)
            for rollup, address in self._job.nodes.items():
                client = RollupClient(address, self._genesis, rollup)
                self._nodes[rollup] = await self._open.enter_async_context(client)
        # The coordinator judges the windows, and under load it may be behind the sequencer.
        time_ms = (await self._bridge.status()).time_ms
        self._signed = [self._sign(place, time_ms) for place in range(self._job.count)]
        loop = asyncio.get_running_loop()
        self._locked = {swap.swap_id: loop.create_future() for swap in self._signed}
        self._settled = {
            (swap.swap_id, leg): loop.create_future()
            for swap in self._signed
            for leg in range(len(swap.locks))
        }
        self._latencies_ms, self._ended_ns, self._unsettled = [], [], 0
        return Prepared()

    async def run(self) -> Found:
        """Make the swaps, some at a time or at a rate."""
        waiting = iter(enumerate(self._signed))

        async def trade() -> None:
            for place, swap in waiting:
                if self._is_over(started_ns):
                    return
                due_ns = await self._until_due(place, started_ns)
                try:
                    async with asyncio.timeout(SETTLED_MS_MAX / 1_000):
                        begun_ns = await self._swap(swap)
                except (TimeoutError, LockstepError, SwapFailed):
                    self._unsettled += 1
                    continue
                now_ns = time.monotonic_ns()
                self._latencies_ms.append((now_ns - (due_ns or begun_ns)) / 1e6)
                self._ended_ns.append(now_ns)

        async with self._listening(), asyncio.TaskGroup() as group:
            started_ns = time.monotonic_ns()
            traders = [group.create_task(trade()) for _ in range(self._job.concurrency)]
            await asyncio.gather(*traders)
            seconds = (time.monotonic_ns() - started_ns) / 1e9
        await self._prove()
        return Found(
            seconds=seconds,
            count=len(self._latencies_ms),
            latencies_ms=tuple(self._latencies_ms),
            ended_seconds=tuple((ended_ns - started_ns) / 1e9 for ended_ns in self._ended_ns),
            unsettled=self._unsettled,
        )

    def _is_over(self, started_ns: int) -> bool:
        """Answer whether no more swaps are to be begun."""
        begin_seconds = self._job.begin_seconds
        return bool(begin_seconds) and time.monotonic_ns() - started_ns > begin_seconds * 1e9

    async def _until_due(self, place: int, started_ns: int) -> int:
        """Wait until a swap is due, and return when that was; 0 if it is due at once."""
        if not self._job.rate:
            return 0
        due_ns = started_ns + round(place * 1e9 / self._job.rate)
        await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        return due_ns

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
        return _Signed(swap_id_of(terms_bytes), terms_bytes, taker.preimage(terms_bytes), locks)

    async def _swap(self, swap: _Signed) -> int:
        """Do everything for a swap until both legs are settled; return when its last lock was given."""
        steps = [
            asyncio.ensure_future(self._propose(swap)),
            asyncio.ensure_future(self._stream.accept(swap.swap_id, 0, swap.locks[0])),
        ]
        if self._job.concurrency == 1:
            # What is measured begins with the last lock; many at a time need no pause before it.
            await asyncio.gather(*steps)
        started_ns = time.monotonic_ns()
        steps.append(asyncio.ensure_future(self._stream.accept(swap.swap_id, 1, swap.locks[1])))
        await asyncio.gather(*steps)
        if not self._job.is_up_front:
            await self._locked[swap.swap_id]
            await self._stream.reveal(swap.swap_id, swap.preimage)
        for leg in range(len(swap.locks)):
            await self._settled[swap.swap_id, leg]
        return started_ns

    async def _propose(self, swap: _Signed) -> SwapView:
        return await self._stream.propose(
            swap.terms_bytes,
            idempotency_key=swap.swap_id,
            reveal_policy=RevealPolicy.UP_FRONT if self._job.is_up_front else RevealPolicy.BY_TRADER,
            preimage=swap.preimage if self._job.is_up_front else None,
        )

    # --- what the traders hear ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Hear, while the `async with` block lasts, which legs are settled, and which swaps are locked."""
        listeners = []
        for leg, node in enumerate(self._nodes.values()):
            height = (await node.status()).height
            listeners.append(asyncio.ensure_future(self._hear_settled(node, leg, height + 1)))
        if not self._job.is_up_front:
            next_sequence = (await self._bridge.status()).next_sequence
            listeners.append(asyncio.ensure_future(self._hear_locked(next_sequence)))
        try:
            yield
        finally:
            for each in listeners:
                each.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)

    async def _hear_settled(self, node: RollupClient, leg: int, from_height: int) -> None:
        async with aclosing(node.receipts(from_height=from_height)) as parts:
            async for part in parts:
                for _, receipt in part.receipts:
                    if isinstance(receipt, TransactionReceipt):
                        continue
                    settled = self._settled.get((SwapId(receipt.subject), leg))
                    if settled is None or settled.done():
                        continue
                    if _is_committed(receipt):
                        settled.set_result(None)
                    else:
                        settled.set_exception(_failure(SwapId(receipt.subject), leg, receipt))

    async def _hear_locked(self, from_sequence: int) -> None:
        async with aclosing(self._bridge.watch(from_sequence)) as changes:
            async for view in changes:
                locked = self._locked.get(view.swap_id)
                if view.phase is SwapPhase.LOCKED and locked is not None and not locked.done():
                    locked.set_result(None)

    async def _prove(self) -> None:
        """Have both legs of a sample of what was settled proven under the rollups' commitments."""
        step = max(len(self._signed) // SAMPLES_MAX, 1)
        for swap in self._signed[::step]:
            if not all(self._settled[swap.swap_id, leg].done() for leg in range(len(swap.locks))):
                continue
            for leg, node in enumerate(self._nodes.values()):
                receipt = await node.settlement(swap.swap_id, leg, wait_ms=SETTLED_MS_MAX)
                if not _is_committed(receipt):
                    raise _failure(swap.swap_id, leg, receipt)


def _is_committed(receipt: SettledReceipt | UnbackedReceipt) -> bool:
    return isinstance(receipt, SettledReceipt) and receipt.code is SettlementCode.COMMITTED


def _failure(swap_id: SwapId, leg: int, receipt: object) -> SwapFailed:
    return SwapFailed(f"leg {leg} of swap {swap_id.hex()} was not committed: {receipt}")
