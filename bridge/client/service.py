"""A client of the bridge's service.

Owns the calls, their repetition with the same ids, and the resumption of `watch`. Answers are parsed and
checked in `views`. Invariant: an error that leaves the outcome unknown is raised as such (`retryable`), and
repeating the call is always safe.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing
from typing import Final, Self, TypeVar

import grpc

from bridge.client.quote_messages import request_message
from bridge.client.views import (
    BridgeStatus,
    EventView,
    Explanation,
    RevealPolicy,
    SwapPage,
    SwapPhase,
    SwapView,
    parse_swap,
)
from deploy.node.client import Backoff, CallMethod, ClientSettings, connect, error_from_rpc, retrying
from deploy.node.logs import Secret
from lockstep.errors import LockstepError, Malformed, NotYet, Pruned, TimedOut, WrongChain
from lockstep.genesis import Genesis
from lockstep.quote_requests import QuoteRequest, verify_answer
from lockstep.quotes import Pair, SignedQuote
from lockstep.terms import swap_id_of
from lockstep.types import ChainId, SwapId
from lockstep.v1 import bridge_pb2, bridge_pb2_grpc
from sequencer.client import KeyAt, Ordered
from sequencer.client.messages import read_header, read_placement
from sequencer.client.verifying import Verifier

CALL_TIMEOUT_MS: Final = 10_000
"""How long a call may take, repetitions included, unless told otherwise."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_DEFAULT_SETTINGS: Final = ClientSettings()
_WATCH_BACKOFF: Final = Backoff()


class BridgeClient:
    """Talks to one coordinator; an async context manager.

    Every call takes `timeout_ms`, which bounds all its attempts together, and raises `LockstepError`.
    """

    def __init__(
        self,
        target: str,
        genesis: Genesis,
        settings: ClientSettings = _DEFAULT_SETTINGS,
        *,
        sequencer_key: KeyAt | None = None,
    ) -> None:
        """Talk to `target` (`host:port`) about the chain of `genesis`.

        `sequencer_key` tells whose header counts at a height; by default the key that genesis names, which a
        client that outlives a rotation of it must replace.
        """
        self._genesis = genesis
        self._verifier = Verifier(genesis.chain_id, sequencer_key or (lambda _: genesis.sequencer))
        self.peer = f"the bridge at {target}"
        """What it is called in errors."""
        self._channel = connect(target, settings)
        self._stub = bridge_pb2_grpc.BridgeStub(self._channel)
        self._randomness = random.Random()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def propose(
        self,
        terms_bytes: bytes,
        *,
        idempotency_key: bytes,
        reveal_policy: RevealPolicy = RevealPolicy.BY_TRADER,
        preimage: Secret | None = None,
        timeout_ms: int = CALL_TIMEOUT_MS,
    ) -> SwapView:
        """Register a swap's terms. The same key and arguments again give the same swap.

        `idempotency_key` is 1..64 bytes. `preimage` goes with UP_FRONT and DELEGATED, and only with them.
        """
        request = proposal_message(terms_bytes, idempotency_key, reveal_policy, preimage)
        response = await self._call(self._stub.Propose, request, timeout_ms)
        return expect(parse_swap(response.swap), swap_id_of(terms_bytes))

    async def accept(
        self, swap_id: SwapId, leg: int, lock_payload: bytes, *, timeout_ms: int = CALL_TIMEOUT_MS
    ) -> SwapView:
        """Give the signed lock of a leg (`Trader.sign_lock`)."""
        request = bridge_pb2.AcceptRequest(swap_id=swap_id, leg=leg, lock=lock_payload)
        response = await self._call(self._stub.Accept, request, timeout_ms)
        return expect(parse_swap(response.swap), swap_id)

    async def reveal(
        self, swap_id: SwapId, preimage: bytes | Secret, *, timeout_ms: int = CALL_TIMEOUT_MS
    ) -> Ordered:
        """Show a swap's preimage, and return where that was ordered."""
        request = bridge_pb2.RevealRequest(swap_id=swap_id, preimage=shown(preimage))
        response = await self._call(self._stub.Reveal, request, timeout_ms)
        return self.read_ordered(response)

    async def cancel(self, cancel_entry: bytes, *, timeout_ms: int = CALL_TIMEOUT_MS) -> Ordered:
        """Send a signed cancellation (`Trader.sign_cancel`), and return where it was ordered."""
        request = bridge_pb2.CancelRequest(cancel=cancel_entry)
        return self.read_ordered(await self._call(self._stub.Cancel, request, timeout_ms))

    async def swap(self, swap_id: SwapId, *, timeout_ms: int = CALL_TIMEOUT_MS) -> SwapView:
        """Return how a swap stands. Raises `UnknownSwap`."""
        request = bridge_pb2.BridgeGetSwapRequest(swap_id=swap_id)
        response = await self._call(self._stub.GetSwap, request, timeout_ms)
        return expect(parse_swap(response.swap), swap_id)

    async def list(
        self,
        *,
        party: bytes = b"",
        phases: Collection[SwapPhase] = (),
        page_size: int = 0,
        page_token: bytes = b"",
        timeout_ms: int = CALL_TIMEOUT_MS,
    ) -> SwapPage:
        """Return a page of swaps, newest first: of one party, in certain phases, or all."""
        request = bridge_pb2.ListSwapsRequest(
            party=party,
            phases=[bridge_pb2.SwapPhase.ValueType(phase) for phase in phases],
            page_size=page_size,
            page_token=page_token,
        )
        response = await self._call(self._stub.ListSwaps, request, timeout_ms)
        return SwapPage(tuple(map(parse_swap, response.swaps)), response.next_page_token)

    async def explain(self, swap_id: SwapId, *, timeout_ms: int = CALL_TIMEOUT_MS) -> Explanation:
        """Return everything that the coordinator knows of a swap."""
        request = bridge_pb2.ExplainSwapRequest(swap_id=swap_id)
        response = await self._call(self._stub.ExplainSwap, request, timeout_ms)
        return Explanation(
            expect(parse_swap(response.swap), swap_id),
            tuple(
                EventView(event.height, event.index, event.time_ms, event.kind, event.text)
                for event in response.events
            ),
            response.waiting_for,
        )

    async def request_quotes(
        self,
        pair: Pair,
        *,
        give_amount: int | None = None,
        get_amount: int | None = None,
        wait_ms: int = 0,
        timeout_ms: int = CALL_TIMEOUT_MS,
    ) -> tuple[SignedQuote, ...]:
        """Ask the connected makers of a pair, and return their quotes, best first.

        Exactly one amount is said, in base units. `wait_ms` is how long makers may take, 1..5,000; 0: 500.
        Each quote is for what was asked and signed by the maker that it names. Raises `NoQuote`.
        """
        request = QuoteRequest(pair, give_amount, get_amount)
        message = request_message(request, wait_ms=wait_ms)
        response = await self._call(self._stub.RequestQuotes, message, timeout_ms)
        chain = self._genesis.chain_id
        return tuple(verify_answer(encoded, request, chain=chain) for encoded in response.quotes)

    def quote_stream(
        self, requests: AsyncIterator[bridge_pb2.MakeQuotesRequest]
    ) -> "grpc.aio.StreamStreamCall[bridge_pb2.MakeQuotesRequest, bridge_pb2.MakeQuotesResponse]":
        """Return a maker's stream, for `Maker`."""
        return self._stub.MakeQuotes(requests)

    def item_stream(
        self,
    ) -> "grpc.aio.StreamStreamCall[bridge_pb2.SwapStreamRequest, bridge_pb2.SwapStreamResponse]":
        """Return a stream of steps of swaps, for `SwapStream`."""
        return self._stub.SwapStream()

    async def status(self, *, timeout_ms: int = CALL_TIMEOUT_MS) -> BridgeStatus:
        """Return where the coordinator stands. Raises `WrongChain` if it follows another chain."""
        request = bridge_pb2.BridgeGetStatusRequest()
        response = await self._call(self._stub.GetStatus, request, timeout_ms)
        if response.chain_id != self._genesis.chain_id:
            raise WrongChain(expected=self._genesis.chain_id.hex(), found=response.chain_id.hex())
        return BridgeStatus(
            chain_id=ChainId(response.chain_id),
            software_version=response.software_version,
            height=response.height,
            time_ms=response.time_ms,
            register_root=response.register_root,
            open_swaps=response.open_swaps,
            first_sequence=response.first_sequence,
            next_sequence=response.next_sequence,
            makers=response.makers,
        )

    async def watch(
        self, from_sequence: int = 0, swap_ids: Sequence[SwapId] = (), *, party: bytes = b""
    ) -> AsyncGenerator[SwapView, None]:
        """Yield every change of the swaps that are asked for, for ever.

        From 0: first how each swap stands now, then every change. Resume with the last `sequence` plus one.
        A lost connection is made again and the stream resumed. Where the coordinator does not have the
        numbers (it prunes, its database was lost or is an older one), how each swap stands now comes instead
        of the missing changes. Raises what is not worth repeating.
        """
        attempt = 0
        while True:
            request = bridge_pb2.WatchSwapsRequest(
                from_sequence=from_sequence, swap_ids=list(swap_ids), party=party
            )
            call = self._stub.WatchSwaps(request)
            try:
                async for response in call:
                    attempt = 0
                    for swap in response.swaps:
                        yield parse_swap(swap)
                    from_sequence = response.next_sequence
                error: LockstepError | None = None
            except grpc.aio.AioRpcError as failure:
                error = error_from_rpc(failure, peer=self.peer)
                if isinstance(error, Pruned | NotYet) and from_sequence:
                    from_sequence = 0
                    continue
                if not error.retryable:
                    raise error from failure
            finally:
                call.cancel()
            attempt += 1
            after_ms = None if error is None else error.retry_after_ms
            await asyncio.sleep(_WATCH_BACKOFF.wait_ms(attempt, after_ms, self._randomness) / 1_000)

    async def wait_until(
        self, swap_id: SwapId, phases: Collection[SwapPhase], *, timeout_ms: int = 60_000
    ) -> SwapView:
        """Wait until a swap is in one of `phases` or over, and return how it stands then: look at its phase.

        Raises `UnknownSwap`, or `TimedOut` after `timeout_ms` of real time.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                # Unknown swaps are never told of by the stream, and would be waited for in vain.
                await self.swap(swap_id)
                async with aclosing(self.watch(0, (swap_id,))) as changes:
                    async for view in changes:
                        if view.phase in phases or view.is_final:
                            return view
        except TimeoutError:
            raise TimedOut(peer=self.peer) from None
        raise AssertionError("watch ends only by raising")

    async def _call(
        self, method: CallMethod[_Request, _Response], request: _Request, timeout_ms: int
    ) -> _Response:
        return await retrying(
            method, request, timeout_ms=timeout_ms, peer=self.peer, randomness=self._randomness
        )

    def read_ordered(self, response: bridge_pb2.RevealResponse | bridge_pb2.CancelResponse) -> Ordered:
        """Return where a reveal or cancellation was ordered, the header's signature verified."""
        placement = read_placement(response.placement)
        return self._verifier.ordered(
            placement, read_header(response.header), bundle=placement.bundle_id, count=None
        )


def proposal_message(
    terms_bytes: bytes, idempotency_key: bytes, reveal_policy: RevealPolicy, preimage: Secret | None
) -> bridge_pb2.ProposeRequest:
    """Return a proposal as it travels."""
    return bridge_pb2.ProposeRequest(
        idempotency_key=idempotency_key,
        terms=terms_bytes,
        reveal_policy=bridge_pb2.RevealPolicy.ValueType(reveal_policy),
        preimage=b"" if preimage is None else preimage.reveal(),
    )


def shown(preimage: bytes | Secret) -> bytes:
    """Return the bytes of a preimage that is to be shown."""
    return preimage.reveal() if isinstance(preimage, Secret) else preimage


def expect(view: SwapView, swap_id: SwapId) -> SwapView:
    """Return a view, if it is of the swap that was asked for. Raises Malformed."""
    if view.swap_id != swap_id:
        raise Malformed(what="answer of the bridge", field="swap_id", reason="is not the one asked for")
    return view
