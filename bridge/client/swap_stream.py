"""A long-lived stream for bots and market makers: many swaps' steps in flight, sent and answered in batches.

Owns the correlation of answers with what was asked, and its repetition after the connection was lost, to the
same coordinator or the next. Invariant: everything that is asked is sent at least once on every connection
until it is answered, always the same bytes: swap ids and idempotency keys make that once.
"""

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, TypeAlias

import grpc

from bridge.client.failover import is_worth_asking_another
from bridge.client.service import BridgeClient, expect, proposal_message, shown
from bridge.client.views import RevealPolicy, SwapView, parse_swap
from deploy.node.client import DEFAULT_BACKOFF, error_from_rpc
from deploy.node.logs import Secret
from lockstep.errors import LockstepError, Malformed, ShuttingDown, TimedOut
from lockstep.limits import MESSAGE_BYTES_MAX
from lockstep.swap_entries import Cancel, decode_swap_entry
from lockstep.terms import swap_id_of
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2
from sequencer.client import Ordered
from sequencer.client.messages import read_error

IN_FLIGHT_MAX: Final = 256
"""Items that wait for their answer at a time, unless told otherwise: as many as a coordinator takes."""

PROPOSALS_KEPT: Final = 4_096
"""Of how many swaps, the newest, the proposal is kept, for a coordinator that may not have it."""

_ITEMS_MAX: Final = 256
"""Items of one message."""

_ITEM_TIMEOUT_MS: Final = 10_000
_BATCH_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2

_Call: TypeAlias = "grpc.aio.StreamStreamCall[bridge_pb2.SwapStreamRequest, bridge_pb2.SwapStreamResponse]"


@dataclass(slots=True)
class _InFlight:
    """Something that was not answered yet."""

    swap_id: SwapId
    """What it is about."""
    item: bridge_pb2.SwapStreamItem
    """What is sent, each time the same bytes."""
    answer: "asyncio.Future[bridge_pb2.SwapStreamOutcome]"
    """What the asker awaits."""


@dataclass(slots=True)
class _Connection:
    """What one connection has still to send, and what its coordinator was told."""

    waiting: deque[_InFlight] = field(default_factory=deque)
    """In the order in which it was asked."""
    proposed: set[SwapId] = field(default_factory=set)
    """Swaps that were proposed on it."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something was added."""


class SwapStream:
    """A stream of steps of swaps; enter it with `async with`. At the end what is unanswered fails.

    Steps are sent in the order in which they are asked, so that a lock may be given before its proposal is
    answered. They are asked of one coordinator; when that is lost, of the next, which is also given the
    proposals that it may lack. A lock that the lost one had taken is not known to the next: `accept` it there
    again if the answers say that it is missing. What cannot pass by itself fails what is in flight; the next
    step tries anew.
    """

    def __init__(self, clients: Sequence[BridgeClient], *, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        """Prepare a stream to the first of these that answers; ValueError if there are none."""
        if not clients:
            raise ValueError("name at least one coordinator")
        self._clients = tuple(clients)
        self._current = 0
        self._slots = asyncio.Semaphore(in_flight_max)
        self._correlation_ids = itertools.count(1)
        self._in_flight: dict[int, _InFlight] = {}
        self._proposals: dict[SwapId, bridge_pb2.ProposeRequest] = {}
        self._connection = _Connection()
        self._randomness = random.Random()
        self._task: asyncio.Task[None] | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._is_open = True
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "entered before it is left"
        self._is_open = False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail_all(ShuttingDown())

    async def propose(
        self,
        terms_bytes: bytes,
        *,
        idempotency_key: bytes,
        reveal_policy: RevealPolicy = RevealPolicy.BY_TRADER,
        preimage: Secret | None = None,
        timeout_ms: int = _ITEM_TIMEOUT_MS,
    ) -> SwapView:
        """Do what `BridgeClient.propose` does."""
        request = proposal_message(terms_bytes, idempotency_key, reveal_policy, preimage)
        swap_id = swap_id_of(terms_bytes)
        self._keep(swap_id, request)
        outcome = await self._ask(swap_id, bridge_pb2.SwapStreamItem(propose=request), timeout_ms)
        return expect(parse_swap(outcome.propose.swap), swap_id)

    async def accept(
        self, swap_id: SwapId, leg: int, lock_payload: bytes, *, timeout_ms: int = _ITEM_TIMEOUT_MS
    ) -> SwapView:
        """Do what `BridgeClient.accept` does."""
        request = bridge_pb2.AcceptRequest(swap_id=swap_id, leg=leg, lock=lock_payload)
        outcome = await self._ask(swap_id, bridge_pb2.SwapStreamItem(accept=request), timeout_ms)
        return expect(parse_swap(outcome.accept.swap), swap_id)

    async def reveal(
        self, swap_id: SwapId, preimage: bytes | Secret, *, timeout_ms: int = _ITEM_TIMEOUT_MS
    ) -> Ordered:
        """Do what `BridgeClient.reveal` does."""
        request = bridge_pb2.RevealRequest(swap_id=swap_id, preimage=shown(preimage))
        outcome = await self._ask(swap_id, bridge_pb2.SwapStreamItem(reveal=request), timeout_ms)
        return self._clients[self._current].read_ordered(outcome.reveal)

    async def cancel(self, cancel_entry: bytes, *, timeout_ms: int = _ITEM_TIMEOUT_MS) -> Ordered:
        """Do what `BridgeClient.cancel` does."""
        entry = decode_swap_entry(cancel_entry)
        if not isinstance(entry, Cancel):
            raise Malformed(what="cancellation", field="entry", reason="is another entry")
        item = bridge_pb2.SwapStreamItem(cancel=bridge_pb2.CancelRequest(cancel=cancel_entry))
        outcome = await self._ask(entry.swap_id, item, timeout_ms)
        return self._clients[self._current].read_ordered(outcome.cancel)

    # --- one item -------------------------------------------------------------------------------------------

    def _keep(self, swap_id: SwapId, request: bridge_pb2.ProposeRequest) -> None:
        self._proposals[swap_id] = request
        while len(self._proposals) > PROPOSALS_KEPT:
            del self._proposals[next(iter(self._proposals))]

    async def _ask(
        self, swap_id: SwapId, item: bridge_pb2.SwapStreamItem, timeout_ms: int
    ) -> bridge_pb2.SwapStreamOutcome:
        """Have an item answered; it is sent again after retryable errors. Raises its error, or TimedOut."""
        scope = asyncio.timeout(timeout_ms / 1_000)
        attempt = 0
        try:
            async with scope, self._slots:
                while True:
                    attempt += 1
                    try:
                        return await self._ask_once(swap_id, item)
                    except LockstepError as error:
                        if not error.retryable or not self._is_open:
                            raise
                        after_ms = error.retry_after_ms
                    wait_ms = DEFAULT_BACKOFF.wait_ms(min(attempt, 32), after_ms, self._randomness)
                    await asyncio.sleep(wait_ms / 1_000)
        except TimeoutError:
            if scope.expired():
                raise TimedOut(peer=self._peer) from None
            raise

    async def _ask_once(
        self, swap_id: SwapId, item: bridge_pb2.SwapStreamItem
    ) -> bridge_pb2.SwapStreamOutcome:
        if not self._is_open:
            raise ShuttingDown
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        item.correlation_id = next(self._correlation_ids)
        asked = _InFlight(swap_id, item, asyncio.get_running_loop().create_future())
        self._in_flight[item.correlation_id] = asked
        self._connection.waiting.append(asked)
        self._connection.changed.set()
        try:
            return await asked.answer
        finally:
            del self._in_flight[asked.item.correlation_id]

    # --- connections ----------------------------------------------------------------------------------------

    @property
    def _peer(self) -> str:
        return self._clients[self._current].peer

    async def _run(self) -> None:
        """Keep a connection to somebody until the stream is left; what cannot pass fails everybody."""
        failures = 0
        error: LockstepError = ShuttingDown()
        try:
            while True:
                failures = 1 if await self._connected() else failures + 1
                self._current = (self._current + 1) % len(self._clients)
                if failures >= len(self._clients):
                    wait_ms = DEFAULT_BACKOFF.wait_ms(min(failures, 32), None, self._randomness)
                    await asyncio.sleep(wait_ms / 1_000)
        except LockstepError as failure:
            error = failure
        finally:
            self._fail_all(error)

    async def _connected(self) -> bool:
        """Send and receive until the connection ends; answer whether anything was received on it."""
        self._connection = connection = _Connection(deque(self._in_flight.values()))
        call = self._clients[self._current].item_stream()
        sender = asyncio.create_task(self._send(call, connection))
        answered = False
        try:
            async for response in call:
                answered = True
                self._receive(response)
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, peer=self._peer)
            if not is_worth_asking_another(error):
                raise error from failure
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        return answered

    def _receive(self, response: bridge_pb2.SwapStreamResponse) -> None:
        for outcome in response.outcomes:
            asked = self._in_flight.get(outcome.correlation_id)
            if asked is None or asked.answer.done():
                # Its asker went away, or it is a proposal that was only repeated.
                continue
            kind = outcome.WhichOneof("outcome")
            if kind == "error":
                asked.answer.set_exception(read_error(outcome.error))
            elif kind == asked.item.WhichOneof("request"):
                asked.answer.set_result(outcome)
            else:
                reason = f"is {kind}, asked was {asked.item.WhichOneof('request')}"
                asked.answer.set_exception(
                    Malformed(what="answer of the bridge", field="outcome", reason=reason)
                )

    async def _send(self, call: _Call, connection: _Connection) -> None:
        """Write what waits, as much at a time as a message may hold, until the connection ends."""
        while True:
            items = self._batch(connection)
            if items:
                try:
                    await call.write(bridge_pb2.SwapStreamRequest(items=items))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    # The call is over; who receives finds out why.
                    return
            else:
                connection.changed.clear()
                await connection.changed.wait()

    def _batch(self, connection: _Connection) -> list[bridge_pb2.SwapStreamItem]:
        items: list[bridge_pb2.SwapStreamItem] = []
        batch_bytes = 0
        # An item may bring its swap's proposal along.
        while connection.waiting and len(items) < _ITEMS_MAX - 1 and batch_bytes < _BATCH_BYTES_MAX:
            asked = connection.waiting.popleft()
            if asked.answer.done():
                continue
            needed = [asked.item]
            if asked.swap_id not in connection.proposed and not asked.item.HasField("propose"):
                needed = [*self._proposal_of(asked.swap_id), asked.item]
            connection.proposed.add(asked.swap_id)
            batch_bytes += sum(item.ByteSize() + 8 for item in needed)
            items += needed
        return items

    def _proposal_of(self, swap_id: SwapId) -> list[bridge_pb2.SwapStreamItem]:
        """Return what makes a swap known to a coordinator that may not know it, if it is kept."""
        request = self._proposals.get(swap_id)
        if request is None:
            return []
        # Nobody waits under this id: the item that follows tells whether the swap is known.
        return [bridge_pb2.SwapStreamItem(correlation_id=next(self._correlation_ids), propose=request)]

    def _fail_all(self, error: LockstepError) -> None:
        for asked in self._in_flight.values():
            if not asked.answer.done():
                asked.answer.set_exception(error)
