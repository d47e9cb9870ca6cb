"""Following the chain: every block once, in order, verified, whatever happens to the connection.

Owns the resuming of the stream, and the alarm about log time that goes too fast or too slow. Invariant: a
block is yielded if and only if it continues the one yielded before it, is signed by the key in force, and
holds every entry of the namespaces asked for.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

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

DRIFT_WINDOW_MS: Final = 10_000
"""Over how much real time, at least, log time is compared with it."""

DRIFT_SHARE: Final = 4
"""Log time drifts if it is off by more than one part in so many."""


class DriftAlarm:
    """Compares log time with a clock of one's own, and warns once when they begin to differ.

    Only blocks that are the newest when they come tell how fast log time goes: who catches up starts anew.
    """

    def __init__(self, peer: str, clock_ms: Callable[[], int]) -> None:
        """Watch the log time of `peer` by a monotonic clock."""
        self._peer = peer
        self._clock_ms = clock_ms
        self._start: tuple[int, int] | None = None
        self._is_drifting = False

    def see(self, followed: FollowedBlock) -> None:
        """Take in a block as it comes."""
        header, now_ms = followed.block.header, self._clock_ms()
        if header.height < followed.head_height:
            self._start = None
            return
        if self._start is None:
            self._start = now_ms, header.time_ms
            return
        passed_ms, log_passed_ms = now_ms - self._start[0], header.time_ms - self._start[1]
        if passed_ms < DRIFT_WINDOW_MS:
            return
        self._start = now_ms, header.time_ms
        is_drifting = abs(log_passed_ms - passed_ms) * DRIFT_SHARE > passed_ms
        if is_drifting and not self._is_drifting:
            structlog.get_logger().warning(
                "log_time_drifts",
                peer=self._peer,
                height=header.height,
                log_passed_ms=log_passed_ms,
                passed_ms=passed_ms,
            )
        self._is_drifting = is_drifting


async def follow(
    stub: "sequencer_pb2_grpc.SequencerAsyncStub",
    *,
    peer: str,
    tip: Tip,
    namespaces: Sequence[Namespace],
    sequencer_key: KeyAt,
    backoff: Backoff,
    randomness: random.Random,
    clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
) -> AsyncGenerator[FollowedBlock, None]:
    """Yield every block after `tip`; see `SequencerClient.follow`."""
    log = structlog.get_logger()
    alarm = DriftAlarm(peer, clock_ms)
    failures = 0
    while True:
        request = sequencer_pb2.StreamBlocksRequest(from_height=tip.height + 1, namespaces=namespaces)
        call = stub.StreamBlocks(request)
        try:
            async for response in call:
                for share in response.blocks:
                    followed = _verify(tip, share, namespaces, sequencer_key, response.head_height)
                    alarm.see(followed)
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
    if isinstance(error, Foreign) and error.status == "UNIMPLEMENTED":
        # What answers is another service, and stays one.
        return False
    return error.retryable or isinstance(error, Internal | Foreign)


def _verify(
    tip: Tip,
    share: sequencer_pb2.BlockShare,
    namespaces: Sequence[Namespace],
    sequencer_key: KeyAt,
    head_height: int,
) -> FollowedBlock:
    started_ns = time.perf_counter_ns()
    proven = read_header(share.header)
    block = verify_block(
        tip, proven.encoded, share.namespace_leaves, share_entries(share.entries), namespaces
    )
    verify_proven_header(sequencer_key(block.header.height), proven)
    return FollowedBlock(
        block,
        proven,
        Height(max(head_height, block.header.height)),
        verified_ns=time.perf_counter_ns() - started_ns,
    )
