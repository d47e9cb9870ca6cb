"""Following the chain: every block once, in order, verified, whatever happens to the connection.

Owns the resuming of the stream. Invariant: a block is yielded if and only if it continues the one yielded
before it, is signed by the key in force, and holds every entry of the namespaces asked for.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence

import grpc
import structlog

from deploy.node.client import Backoff, error_from_rpc
from lockstep.block import verify_block
from lockstep.errors import Foreign, Internal, LockstepError
from lockstep.header import Tip, tip_of
from lockstep.settlement_entries import verify_proven_header
from lockstep.types import Height, Namespace
from lockstep.v1 import sequencer_pb2, sequencer_pb2_grpc
from sequencer.client.messages import read_header, share_entries
from sequencer.client.records import FollowedBlock, KeyAt


async def follow(
    stub: "sequencer_pb2_grpc.SequencerAsyncStub",
    *,
    peer: str,
    tip: Tip,
    namespaces: Sequence[Namespace],
    sequencer_key: KeyAt,
    backoff: Backoff,
    randomness: random.Random,
) -> AsyncGenerator[FollowedBlock, None]:
    """Yield every block after `tip`; see `SequencerClient.follow`."""
    log = structlog.get_logger()
    failures = 0
    while True:
        request = sequencer_pb2.StreamBlocksRequest(from_height=tip.height + 1, namespaces=namespaces)
        call = stub.StreamBlocks(request)
        try:
            async for response in call:
                for share in response.blocks:
                    followed = _verify(tip, share, namespaces, sequencer_key, response.head_height)
                    yield followed
                    tip = tip_of(followed.block.header, followed.block.hash)
                    failures = 0
            # A stream ends by itself only when its server stops.
            error: LockstepError | None = None
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, peer=peer)
            if not is_worth_resuming(error):
                raise error from failure
        finally:
            call.cancel()
        failures += 1
        wait_ms = backoff.wait_ms(
            min(failures, 32), None if error is None else error.retry_after_ms, randomness
        )
        reason = "it ended" if error is None else str(error)
        log.info("stream_resumes", peer=peer, height=tip.height + 1, reason=reason, wait_ms=round(wait_ms))
        await asyncio.sleep(wait_ms / 1_000)


def is_worth_resuming(error: LockstepError) -> bool:
    """Answer whether a stream may succeed later: whatever the service does not refuse for good."""
    return error.retryable or isinstance(error, Internal | Foreign)


def _verify(
    tip: Tip,
    share: sequencer_pb2.BlockShare,
    namespaces: Sequence[Namespace],
    sequencer_key: KeyAt,
    head_height: int,
) -> FollowedBlock:
    proven = read_header(share.header)
    block = verify_block(
        tip, proven.encoded, share.namespace_leaves, share_entries(share.entries), namespaces
    )
    verify_proven_header(sequencer_key(block.header.height), proven)
    return FollowedBlock(block, proven, Height(max(head_height, block.header.height)))
