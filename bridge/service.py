"""The calls of the `Bridge` service.

Owns nothing but their translation: messages to commands and queries, and back. What a call changes goes
through the coordinator's writer; what it reads was committed. A call that is cancelled takes nothing back.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from bridge.commands import Accept, Propose, Reveal, Withdraw
from bridge.coordinator import Coordinator
from bridge.history import waiting_for
from bridge.levels import NOBODY, Asked
from bridge.phases import Phase
from bridge.quotes import Makers
from bridge.reading import Views
from bridge.requests import read_cancel, read_lock, read_preimage, read_proposal, read_swap_id
from bridge.streams import SwapItems
from bridge.watching import Watch
from lockstep import limits
from lockstep.errors import Malformed, NotReady, UnknownSwap
from lockstep.genesis import Genesis
from lockstep.v1 import bridge_pb2, bridge_pb2_grpc

NAME: Final = "lockstep.v1.Bridge"
"""The service's full name."""

PAGE_SWAPS_MAX: Final = 256
"""Swaps of one page of a listing."""

PAGE_SWAPS_DEFAULT: Final = 64
"""Swaps of a page for who does not say."""

WATCHED_SWAPS_MAX: Final = 1_024
"""Swaps that one stream can be asked for by id."""

_TOKEN_BYTES: Final = 8
_ALL_PHASES: Final = sum(1 << phase for phase in Phase)
_NUMBER_MAX: Final = 2**63 - 1

_Context = grpc.aio.ServicerContext[Any, Any]
_Message = TypeVar("_Message", bound=Message)


class BridgeService(bridge_pb2_grpc.BridgeServicer):
    """Answers the calls."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        coordinator: Coordinator,
        views: Views,
        stopping: asyncio.Event,
        asked: Asked = NOBODY,
    ) -> None:
        """Answer for `coordinator`, which asks `asked` about levels, until `stopping` is set."""
        self._chain = genesis.chain_id
        self._coordinator = coordinator
        self._views = views
        self._stopping = stopping
        self._asked = asked
        self._makers = Makers(self._chain, coordinator, stopping)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        bridge_pb2_grpc.add_BridgeServicer_to_server(self, server)

    async def Propose(
        self, request: bridge_pb2.ProposeRequest, context: _Context
    ) -> bridge_pb2.ProposeResponse:
        """Register a swap's terms."""
        return await self.propose(request)

    async def Accept(self, request: bridge_pb2.AcceptRequest, context: _Context) -> bridge_pb2.AcceptResponse:
        """Take a leg's lock."""
        return await self.accept(request)

    async def Reveal(self, request: bridge_pb2.RevealRequest, context: _Context) -> bridge_pb2.RevealResponse:
        """Show a preimage."""
        return await self.reveal(request)

    async def Cancel(self, request: bridge_pb2.CancelRequest, context: _Context) -> bridge_pb2.CancelResponse:
        """Send a cancellation."""
        return await self.cancel(request)

    async def GetSwap(
        self, request: bridge_pb2.BridgeGetSwapRequest, context: _Context
    ) -> bridge_pb2.BridgeGetSwapResponse:
        """How a swap stands."""
        return bridge_pb2.BridgeGetSwapResponse(swap=await self._swap(request.swap_id))

    async def ListSwaps(
        self, request: bridge_pb2.ListSwapsRequest, context: _Context
    ) -> bridge_pb2.ListSwapsResponse:
        """Swaps, newest first."""
        limit = request.page_size or PAGE_SWAPS_DEFAULT
        if limit > PAGE_SWAPS_MAX:
            raise _malformed("page_size", f"is {limit}, allowed are 1 to {PAGE_SWAPS_MAX}")
        rows = await self._views.page(
            party=_party(request.party),
            phases=_phases(request.phases),
            below=_below(request.page_token),
            limit=limit,
        )
        token = rows[-1][0].to_bytes(_TOKEN_BYTES, "big") if len(rows) == limit else b""
        return bridge_pb2.ListSwapsResponse(swaps=[swap for _, swap in rows], next_page_token=token)

    async def WatchSwaps(
        self, request: bridge_pb2.WatchSwapsRequest, context: _Context
    ) -> AsyncIterator[bridge_pb2.WatchSwapsResponse]:
        """Every change from a number on."""
        if len(request.swap_ids) > WATCHED_SWAPS_MAX:
            raise _malformed("swap_ids", f"are {len(request.swap_ids)}, allowed are {WATCHED_SWAPS_MAX}")
        if request.from_sequence > _NUMBER_MAX:
            raise _malformed("from_sequence", "is beyond 2^63-1")
        swap_ids = frozenset(map(read_swap_id, request.swap_ids))
        watch = Watch(self._coordinator, self._views, swap_ids, _party(request.party), self._stopping)
        async for response in watch.responses(request.from_sequence):
            yield response

    async def ExplainSwap(
        self, request: bridge_pb2.ExplainSwapRequest, context: _Context
    ) -> bridge_pb2.ExplainSwapResponse:
        """Everything that is known of a swap."""
        return await self.explain(request)

    async def SwapStream(
        self, request_iterator: AsyncIterator[bridge_pb2.SwapStreamRequest], context: _Context
    ) -> AsyncIterator[bridge_pb2.SwapStreamResponse]:
        """Propose, Accept, Reveal and Cancel for many swaps."""
        async for response in SwapItems(self, self._stopping).responses(request_iterator):
            yield response

    async def RequestQuotes(
        self, request: bridge_pb2.RequestQuotesRequest, context: _Context
    ) -> bridge_pb2.RequestQuotesResponse:
        """Prices of makers."""
        quotes = await self._makers.request(request)
        return bridge_pb2.RequestQuotesResponse(quotes=[quote.encoded for quote in quotes])

    async def MakeQuotes(
        self, request_iterator: AsyncIterator[bridge_pb2.MakeQuotesRequest], context: _Context
    ) -> AsyncIterator[bridge_pb2.MakeQuotesResponse]:
        """A maker's side."""
        async with aclosing(self._makers.responses(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def GetStatus(
        self, request: bridge_pb2.BridgeGetStatusRequest, context: _Context
    ) -> bridge_pb2.BridgeGetStatusResponse:
        """Where the coordinator stands."""
        book = self._coordinator.book
        return bridge_pb2.BridgeGetStatusResponse(
            chain_id=self._chain,
            software_version=version("lockstep"),
            height=book.register.height,
            time_ms=book.register.time_ms,
            register_root=book.register.root,
            open_swaps=sum(not swap.is_final for swap in book.live.values()),
            first_sequence=book.first_sequence,
            next_sequence=book.durable_sequence,
            makers=len(self._makers),
        )

    # --- what one call and one item of a stream have in common ----------------------------------------------

    async def propose(self, request: bridge_pb2.ProposeRequest) -> bridge_pb2.ProposeResponse:
        """Do what Propose does."""
        proposal = read_proposal(
            idempotency_key=request.idempotency_key,
            terms_bytes=request.terms,
            policy=request.reveal_policy,
            preimage=request.preimage,
            chain=self._chain,
        )
        swap = _answer(await self._coordinator.ask(Propose(proposal)), bridge_pb2.Swap)
        return bridge_pb2.ProposeResponse(swap=swap)

    async def accept(self, request: bridge_pb2.AcceptRequest) -> bridge_pb2.AcceptResponse:
        """Do what Accept does."""
        swap_id = read_swap_id(request.swap_id)
        lock = read_lock(request.lock, chain=self._chain)
        swap = _answer(await self._coordinator.ask(Accept(swap_id, request.leg, lock)), bridge_pb2.Swap)
        return bridge_pb2.AcceptResponse(swap=swap)

    async def reveal(self, request: bridge_pb2.RevealRequest) -> bridge_pb2.RevealResponse:
        """Do what Reveal does."""
        command = Reveal(read_swap_id(request.swap_id), read_preimage(request.preimage))
        return _answer(await self._coordinator.ask(command), bridge_pb2.RevealResponse)

    async def cancel(self, request: bridge_pb2.CancelRequest) -> bridge_pb2.CancelResponse:
        """Do what Cancel does."""
        command = Withdraw(read_cancel(request.cancel, chain=self._chain))
        return _answer(await self._coordinator.ask(command), bridge_pb2.CancelResponse)

    async def explain(self, request: bridge_pb2.ExplainSwapRequest) -> bridge_pb2.ExplainSwapResponse:
        """Do what ExplainSwap does."""
        view = await self._swap(request.swap_id)
        events = await self._views.events(read_swap_id(request.swap_id))
        book = self._coordinator.book
        live = book.live.get(read_swap_id(request.swap_id))
        waits = waiting_for(view, live, book.heights, self._asked)
        return bridge_pb2.ExplainSwapResponse(swap=view, events=events, waiting_for=waits)

    async def _swap(self, encoded_id: bytes) -> bridge_pb2.Swap:
        swap_id = read_swap_id(encoded_id)
        view = await self._views.swap(swap_id)
        if view is None:
            if not self._coordinator.caught_up.is_set():
                # It may be in blocks that were not followed yet.
                height = self._coordinator.book.register.height
                raise NotReady(reason=f"it follows the order and stands at height {height}")
            raise UnknownSwap(swap_id=swap_id.hex())
        return view


def _answer(message: Message | None, kind: type[_Message]) -> _Message:
    assert isinstance(message, kind), f"the writer answers with a {kind.__name__}"
    return message


def _party(party: bytes) -> bytes:
    if len(party) > limits.PARTY_BYTES_MAX:
        raise _malformed("party", f"has {len(party)} bytes, allowed are {limits.PARTY_BYTES_MAX}")
    return party


def _phases(phases: Iterable[int]) -> int:
    mask = 0
    for phase in phases:
        if phase not in tuple(Phase):
            raise _malformed("phases", f"{phase} is unknown")
        mask |= 1 << phase
    return mask or _ALL_PHASES


def _below(token: bytes) -> int:
    if not token:
        return _NUMBER_MAX
    number = int.from_bytes(token, "big")
    if len(token) != _TOKEN_BYTES or number > _NUMBER_MAX:
        raise _malformed("page_token", "is none that this service gave")
    return number


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="request", field=field, reason=reason)
