"""The calls of the `Settlement` service.

Owns nothing but their translation. What a call changes goes through the writer; what it reads is covered by
the newest published checkpoint, or by an older one. A call that is cancelled takes nothing back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc

from bridge.settlement.append_stream import AppendStream
from bridge.settlement.feed import Feed, Published
from bridge.settlement.messages import proof_message, read_anchor_request, status_message
from bridge.settlement.store import Store
from bridge.settlement.writer import Writer
from deploy.node.server import unless_stopping
from lockstep.errors import Malformed, NotFound, NotYet
from lockstep.merkle import AppendTree
from lockstep.settlement_log import read_candidate
from lockstep.settlement_names import Found, anchored_name
from lockstep.types import PublicKey, RollupId
from lockstep.v1 import settlement_pb2, settlement_pb2_grpc

NAME: Final = "lockstep.v1.Settlement"
"""The service's full name."""

_Context = grpc.aio.ServicerContext[Any, Any]


class SettlementService(settlement_pb2_grpc.SettlementServicer):
    """Answers the calls."""

    def __init__(
        self,
        *,
        store: Store,
        tree: AppendTree,
        writer: Writer,
        feed: Feed,
        public_key: PublicKey,
        stopping: asyncio.Event,
    ) -> None:
        """Read from `store` and from `tree`, which the writer extends."""
        self._store = store
        self._tree = tree
        self._writer = writer
        self._feed = feed
        self._public_key = public_key
        self._stopping = stopping

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server."""
        settlement_pb2_grpc.add_SettlementServicer_to_server(self, server)

    async def Append(
        self, request: settlement_pb2.AppendRequest, context: _Context
    ) -> settlement_pb2.AppendResponse:
        """Append one entry."""
        answer = await self._writer.submit(read_candidate(request.entry))
        if not isinstance(answer, int):
            raise answer
        return settlement_pb2.AppendResponse(index=answer, checkpoint=self._feed.newest.note)

    async def AppendStream(
        self, request_iterator: AsyncIterator[settlement_pb2.AppendStreamRequest], context: _Context
    ) -> AsyncIterator[settlement_pb2.AppendStreamResponse]:
        """Append many entries."""
        stream = AppendStream(request_iterator, self._writer.submit, self._stopping)
        async with aclosing(stream.outcomes()) as answered:
            async for outcomes in answered:
                yield settlement_pb2.AppendStreamResponse(
                    outcomes=outcomes, checkpoint=self._feed.newest.note
                )

    async def GetCheckpoint(
        self, request: settlement_pb2.GetCheckpointRequest, context: _Context
    ) -> settlement_pb2.GetCheckpointResponse:
        """Return the newest checkpoint."""
        return settlement_pb2.GetCheckpointResponse(checkpoint=self._feed.newest.note)

    async def GetInclusionProof(
        self, request: settlement_pb2.GetInclusionProofRequest, context: _Context
    ) -> settlement_pb2.GetInclusionProofResponse:
        """Prove that an entry is there."""
        newest = self._feed.newest
        size = self._size(newest, request.size)
        if request.index >= size:
            if request.size:
                raise Malformed(what="request", field="index", reason=f"is not below the size, {size}")
            raise NotYet(height=request.index, newest=size - 1)
        return settlement_pb2.GetInclusionProofResponse(
            proof=proof_message(self._tree, request.index, size),
            entry=await self._store.entry(request.index),
            checkpoint=b"" if request.size else newest.note,
        )

    async def GetConsistencyProof(
        self, request: settlement_pb2.GetConsistencyProofRequest, context: _Context
    ) -> settlement_pb2.GetConsistencyProofResponse:
        """Prove that one log is a prefix of another."""
        newest = self._feed.newest
        new_size = self._size(newest, request.new_size)
        if request.old_size > new_size:
            if request.new_size:
                raise Malformed(what="request", field="old_size", reason=f"is above new_size, {new_size}")
            raise NotYet(height=request.old_size, newest=new_size)
        return settlement_pb2.GetConsistencyProofResponse(
            new_size=new_size,
            hashes=self._tree.consistency_proof(request.old_size, new_size),
            checkpoint=b"" if request.new_size else newest.note,
        )

    async def StreamEntries(
        self, request: settlement_pb2.StreamEntriesRequest, context: _Context
    ) -> AsyncIterator[settlement_pb2.StreamEntriesResponse]:
        """Give out entries from an index on."""
        next_index, size = request.from_index, self._feed.newest.checkpoint.size
        if next_index > size:
            raise NotYet(height=next_index, newest=size - 1)
        while True:
            newest = await unless_stopping(self._stopping, self._feed.beyond(next_index))
            if newest.refusal is not None and next_index >= self._tree.size:
                raise newest.refusal.with_traceback(None)
            entries = await self._store.page(next_index, newest.checkpoint.size)
            yield settlement_pb2.StreamEntriesResponse(
                first_index=next_index, entries=entries, checkpoint=newest.note
            )
            next_index += len(entries)

    async def GetAnchor(
        self, request: settlement_pb2.GetAnchorRequest, context: _Context
    ) -> settlement_pb2.GetAnchorResponse:
        """Find what anchors a header or a commitment."""
        newest = self._feed.newest
        height, rollup = read_anchor_request(request)
        size = self._size(newest, 0)
        found = await (self._commitment(newest, rollup, height) if rollup else self._header(newest, height))
        return settlement_pb2.GetAnchorResponse(
            index=found.index,
            entry=found.entry,
            proof=proof_message(self._tree, found.index, size),
            checkpoint=newest.note,
        )

    async def GetStatus(
        self, request: settlement_pb2.SettlementGetStatusRequest, context: _Context
    ) -> settlement_pb2.SettlementGetStatusResponse:
        """Return where the log stands."""
        return status_message(self._feed.newest, self._public_key)

    def _size(self, newest: Published, asked: int) -> int:
        """Return the size of the log in which something is to be proven: the one asked for, if any."""
        size = asked or newest.checkpoint.size
        if size > newest.checkpoint.size:
            raise NotYet(height=size, newest=newest.checkpoint.size)
        if newest.refusal is not None and size > self._tree.size:
            raise newest.refusal.with_traceback(None)
        return size

    async def _header(self, newest: Published, height: int) -> Found:
        """Return the range that covers a height, as far as it is published."""
        found = await self._store.range_over(height) if height <= newest.log.tip.height else None
        if found is None:
            raise NotYet(height=height, newest=newest.log.tip.height)
        return found

    async def _commitment(self, newest: Published, rollup: str, height: int) -> Found:
        """Return the commitment that anchors a rollup at a height, as far as it is published."""
        if newest.log.registry.now.rollup(rollup) is None:
            raise NotFound(subject="rollup", name=rollup)
        name = anchored_name(rollup, height)
        found = (await self._store.find((name,))).get(name)
        if found is not None and found.index < newest.checkpoint.size:
            return found
        anchored = newest.log.anchored.get(RollupId(rollup))
        newest_height = 0 if anchored is None else anchored.height
        if height > newest_height:
            raise NotYet(height=height, newest=newest_height)
        raise NotFound(subject="anchored commitment", name=f"of {rollup} at height {height}")
