"""The calls of the `Sequencer` service.

Owns nothing but their translation: messages to records, records to messages. What a call changes goes
through the writer; what it reads comes from the feed and the engine. A call that is cancelled takes nothing
back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, TypeAlias

import grpc

from lockstep import limits
from lockstep.errors import HistoryPruned, Malformed, NeverOrdered, NotFound
from lockstep.genesis import Genesis
from lockstep.order import Placement, is_namespace
from lockstep.types import BundleId, Height, Namespace
from lockstep.v1 import common_pb2, sequencer_pb2, sequencer_pb2_grpc
from sequencer.client.messages import (
    header_message,
    placement_message,
    read_bundle,
    read_bundle_id,
    read_height,
)
from sequencer.engine import OrderingEngine, SealedBlock
from sequencer.feed import Feed
from sequencer.intake import Intake
from sequencer.prepared import PreparedBlocks
from sequencer.proofs import names_of, prove
from sequencer.submissions import Submissions
from sequencer.writer import Writer

NAME: Final = "lockstep.v1.Sequencer"
"""The service's full name."""

PROTOCOL_VERSION: Final = 1
"""Version of the schemas and of the byte layouts."""

STREAM_NAMESPACES_MAX: Final = 64
"""Namespaces that one stream or block can be asked for."""

_Context = grpc.aio.ServicerContext[Any, Any]

_Prepared: TypeAlias = Any
"""The bytes of a message, which the server sends as they are (`deploy.node.interceptor`)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the status tells of the service's settings."""

    heartbeat_ms: int
    """The longest real time between two blocks."""
    queue_bundles_max: int
    """Bundles that may wait."""
    live_bundle_ids_max: int
    """Bundle ids that may be remembered."""


class SequencerService(sequencer_pb2_grpc.SequencerServicer):
    """Answers the calls."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        genesis_bytes: bytes,
        engine: OrderingEngine,
        feed: Feed,
        writer: Writer,
        intake: Intake,
        policy: Policy,
        anchored_height: Callable[[], Height],
        stopping: asyncio.Event,
    ) -> None:
        self._genesis = genesis
        self._genesis_bytes = genesis_bytes
        self._engine = engine
        self._feed = feed
        self._writer = writer
        self._intake = intake
        self._policy = policy
        self._anchored_height = anchored_height
        self._stopping = stopping
        self._prepared_blocks = PreparedBlocks()

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        sequencer_pb2_grpc.add_SequencerServicer_to_server(self, server)

    async def Submit(
        self, request: sequencer_pb2.SubmitRequest, context: _Context
    ) -> sequencer_pb2.SubmitResponse:
        """Order one bundle."""
        stages = self._writer.stages
        started_ns = stages.now_ns()
        bundle = read_bundle(request.bundle)
        started_ns = stages.add("receive", started_ns)
        answer = self._intake.submit(bundle)
        stages.add("verify", started_ns)
        placement = await answer
        header = await self._feed.header(placement.height)
        return sequencer_pb2.SubmitResponse(
            placement=placement_message(placement), header=header_message(header)
        )

    async def SubmitStream(
        self, request_iterator: AsyncIterator[sequencer_pb2.SubmitStreamRequest], context: _Context
    ) -> AsyncIterator[_Prepared]:
        """Order many."""
        submissions = Submissions(self._intake.accept_all, self._feed.header, stages=self._writer.stages)
        async with aclosing(submissions.answer(request_iterator, self._stopping)) as responses:
            async for response in responses:
                yield response

    async def StreamBlocks(
        self, request: sequencer_pb2.StreamBlocksRequest, context: _Context
    ) -> AsyncIterator[_Prepared]:
        """Every block from a height on."""
        namespaces = _namespaces(request.namespaces, "StreamBlocksRequest")
        from_height = read_height(request.from_height, "StreamBlocksRequest", "from_height")
        async with aclosing(self._feed.batches(from_height, namespaces)) as batches:
            async for blocks in batches:
                yield self._prepared_blocks.message(blocks, namespaces, self._feed.height)

    async def GetBlock(
        self, request: sequencer_pb2.GetBlockRequest, context: _Context
    ) -> sequencer_pb2.GetBlockResponse:
        """One block."""
        namespaces = _namespaces(request.namespaces, "GetBlockRequest")
        block = await self._feed.block(read_height(request.height, "GetBlockRequest"), namespaces)
        return sequencer_pb2.GetBlockResponse(block=_share_message(block))

    async def GetTransaction(
        self, request: sequencer_pb2.GetTransactionRequest, context: _Context
    ) -> sequencer_pb2.GetTransactionResponse:
        """Where a bundle stands, proven."""
        bundle_id = read_bundle_id(request.bundle_id, "GetTransactionRequest")
        if request.valid_until_ms >= 2**63:
            raise Malformed(what="GetTransactionRequest", field="valid_until_ms", reason="is not a log time")
        placement = await self._find(bundle_id, request.valid_until_ms)
        leaves = await self._feed.block(placement.height, ())
        names = names_of(leaves.leaves_bytes)
        return await asyncio.to_thread(prove, placement, await self._feed.block(placement.height, names))

    async def GetStatus(
        self, request: sequencer_pb2.SequencerGetStatusRequest, context: _Context
    ) -> sequencer_pb2.SequencerGetStatusResponse:
        """What the service is and where it stands."""
        head, refusal = self._feed.head, self._writer.refusal
        return sequencer_pb2.SequencerGetStatusResponse(
            chain_id=self._genesis.chain_id,
            protocol_version=PROTOCOL_VERSION,
            software_version=version("lockstep"),
            engine=self._engine.name,
            head=None if head is None else header_message(head.header),
            time_ms=self._time_ms(),
            first_available_height=self._engine.first_height,
            read_only_reason="" if refusal is None else refusal.message,
            heartbeat_ms=self._policy.heartbeat_ms,
            limits=_limits(self._policy),
            live_bundle_ids=self._writer.live_ids,
            anchored_height=self._anchored_height(),
            stages=[
                common_pb2.StageTime(stage=stage, total_ns=total_ns)
                for stage, total_ns in self._writer.stages.total_ns.items()
            ],
        )

    async def GetGenesis(
        self, request: sequencer_pb2.GetGenesisRequest, context: _Context
    ) -> sequencer_pb2.GetGenesisResponse:
        """The genesis file."""
        return sequencer_pb2.GetGenesisResponse(genesis=self._genesis_bytes)

    async def _find(self, bundle_id: BundleId, valid_until_ms: int) -> Placement:
        """Return where a bundle stands. Raises NotFound, NeverOrdered or HistoryPruned."""
        # Read before the search: what comes later is beyond the window, or is no part of the answer.
        time_ms, first = self._time_ms(), self._engine.first_height
        # Memory needs no window, so that a wrong one does not hide what was ordered just now.
        placement = self._writer.find(bundle_id) or await self._engine.find(bundle_id, valid_until_ms)
        if placement is not None and first <= placement.height <= self._feed.height:
            return placement
        if first > 1 and not await self._covers_window(first, valid_until_ms):
            raise HistoryPruned(subject=f"bundle {bundle_id.hex()}", first_available=first)
        if 0 < valid_until_ms <= time_ms:
            raise NeverOrdered(subject="bundle", name=bundle_id.hex())
        raise NotFound(subject="ordered bundle", name=bundle_id.hex())

    def _time_ms(self) -> int:
        """Return the log time of the newest block, or of genesis before the first."""
        head = self._feed.head
        return self._genesis.genesis_time_ms if head is None else head.header.header.time_ms

    async def _covers_window(self, first: Height, valid_until_ms: int) -> bool:
        """Answer whether every block that could hold a bundle is still here."""
        if not valid_until_ms:
            return False
        first_ms = (await self._feed.header(first)).header.time_ms
        return first_ms <= valid_until_ms - limits.VALIDITY_WINDOW_MS_MAX


def _namespaces(names: Sequence[str], what: str) -> tuple[Namespace, ...]:
    """Return the namespaces that a request asks for. Raises Malformed."""
    if len(names) > STREAM_NAMESPACES_MAX:
        reason = f"are {len(names)}, allowed are {STREAM_NAMESPACES_MAX}"
        raise Malformed(what=what, field="namespaces", reason=reason)
    for position, name in enumerate(names):
        if not is_namespace(name):
            raise Malformed(what=what, field=f"namespaces[{position}]", reason="is not a namespace's name")
    if len(set(names)) < len(names):
        raise Malformed(what=what, field="namespaces", reason="name one twice")
    return tuple(map(Namespace, sorted(names)))


def _share_message(block: SealedBlock) -> sequencer_pb2.BlockShare:
    return sequencer_pb2.BlockShare(
        header=header_message(block.header),
        namespace_leaves=block.leaves_bytes,
        entries=map(sequencer_pb2.NamespaceEntries.FromString, block.shares.values()),
    )


def _limits(policy: Policy) -> sequencer_pb2.Limits:
    return sequencer_pb2.Limits(
        payload_bytes_max=limits.PAYLOAD_BYTES_MAX,
        bundle_transactions_max=limits.BUNDLE_TRANSACTIONS_MAX,
        bundle_bytes_max=limits.BUNDLE_BYTES_MAX,
        block_bytes_max=limits.BLOCK_BYTES_MAX,
        block_transactions_max=limits.BLOCK_TRANSACTIONS_MAX,
        validity_window_ms_max=limits.VALIDITY_WINDOW_MS_MAX,
        advance_ms_max=limits.MAX_ADVANCE_MS,
        message_bytes_max=limits.MESSAGE_BYTES_MAX,
        queue_bundles_max=policy.queue_bundles_max,
        live_bundle_ids_max=policy.live_bundle_ids_max,
    )
