"""The sequencer's calls, verified and repeated as often as that can help.

Owns one channel. Repeating is safe everywhere: a bundle's id is derived from its content, and the same
bundle gets its first receipt.
"""

import random
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Final, Self

import grpc

from deploy.node.client import DEFAULT_BACKOFF, ClientSettings, connect, error_from_rpc, retrying
from lockstep.errors import Discontinuous, UnavailablePeer, WrongChain
from lockstep.genesis import Genesis
from lockstep.hashing import GENESIS, tagged_hash
from lockstep.header import Tip
from lockstep.order import Bundle, bundle_id_of, verify_bundle_shape
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import BundleId, ChainId, Height, Namespace
from lockstep.v1 import sequencer_pb2, sequencer_pb2_grpc
from sequencer.client.following import follow
from sequencer.client.messages import bundle_message, read_header, read_placement
from sequencer.client.records import FollowedBlock, KeyAt, Ordered, SequencerStatus
from sequencer.client.stream import SubmitStream
from sequencer.client.verifying import Verifier

_CALL_TIMEOUT_MS: Final = 5_000
_NO_SETTINGS: Final = ClientSettings()


class SequencerClient:
    """A sequencer, seen from outside. Use it as an async context manager, or close it."""

    def __init__(
        self,
        target: str,
        genesis: Genesis,
        settings: ClientSettings = _NO_SETTINGS,
        *,
        sequencer_key: KeyAt | None = None,
    ) -> None:
        """Connect to `target` (`host:port`) for the chain of `genesis`.

        `sequencer_key` answers which key signs which header; without it the genesis key signs all.
        """
        self._peer = f"sequencer {target}"
        self._genesis = genesis
        self._channel = connect(target, settings)
        self._stub: sequencer_pb2_grpc.SequencerAsyncStub = sequencer_pb2_grpc.SequencerStub(self._channel)
        self._verifier = Verifier(genesis.chain_id, sequencer_key or (lambda _: genesis.sequencer))
        self._randomness = random.Random()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def submit(self, bundle: Bundle, *, timeout_ms: int = 10_000) -> Ordered:
        """Have a bundle ordered and return its receipt, verified. The same bundle gets the first receipt.

        Raises the errors of the Submit call; after a retryable one the outcome is unknown: submit the same
        bundle again, or ask `placement`. Raises Malformed at once for a bundle that cannot be ordered.
        """
        verify_bundle_shape(bundle)
        response = await retrying(
            self._stub.Submit,
            sequencer_pb2.SubmitRequest(bundle=bundle_message(bundle)),
            timeout_ms=timeout_ms,
            peer=self._peer,
            randomness=self._randomness,
        )
        return self._verifier.ordered(
            read_placement(response.placement),
            read_header(response.header),
            bundle=bundle_id_of(self._genesis.chain_id, bundle),
            count=len(bundle.transactions),
        )

    def stream(self, *, in_flight_max: int = 4_096) -> SubmitStream:
        """Return a stream for many bundles at a time, to be entered with `async with`."""
        return SubmitStream(
            self._stub,
            self._verifier,
            peer=self._peer,
            in_flight_max=in_flight_max,
            randomness=self._randomness,
        )

    async def placement(
        self, bundle_id: BundleId, valid_until_ms: int = 0, *, timeout_ms: int = _CALL_TIMEOUT_MS
    ) -> Ordered:
        """Return where a bundle was ordered, with each of its transactions proven.

        `valid_until_ms`, if known, makes the answer quicker and lets NEVER_ORDERED be told from NOT_FOUND.
        Raises the errors of the GetTransaction call.
        """
        response = await retrying(
            self._stub.GetTransaction,
            sequencer_pb2.GetTransactionRequest(bundle_id=bundle_id, valid_until_ms=valid_until_ms),
            timeout_ms=timeout_ms,
            peer=self._peer,
            randomness=self._randomness,
        )
        return self._verifier.proven_placement(response, bundle_id)

    async def status(self, *, timeout_ms: int = _CALL_TIMEOUT_MS) -> SequencerStatus:
        """Return what the sequencer says about itself. Raises WrongChain if it is another chain's."""
        response = await retrying(
            self._stub.GetStatus,
            sequencer_pb2.SequencerGetStatusRequest(),
            timeout_ms=timeout_ms,
            peer=self._peer,
            randomness=self._randomness,
        )
        self._check_chain(response.chain_id)
        head = read_header(response.head) if response.HasField("head") else None
        header = None if head is None else self._verifier.header(head)
        return SequencerStatus(
            chain_id=ChainId(response.chain_id),
            head=head,
            height=Height(0) if header is None else header.height,
            time_ms=self._genesis.genesis_time_ms if header is None else header.time_ms,
            first_available_height=Height(response.first_available_height),
            read_only_reason=response.read_only_reason,
            anchored_height=Height(response.anchored_height),
            heartbeat_ms=response.heartbeat_ms,
            live_bundle_ids=response.live_bundle_ids,
            engine=response.engine,
            stage_ns={each.stage: each.total_ns for each in response.stages},
        )

    async def time_ms(self) -> int:
        """Return the newest log time: what windows and deadlines are derived from."""
        return (await self.status()).time_ms

    async def genesis_bytes(self, *, timeout_ms: int = _CALL_TIMEOUT_MS) -> bytes:
        """Return the sequencer's genesis file. Raises WrongChain if it is another chain's."""
        response = await retrying(
            self._stub.GetGenesis,
            sequencer_pb2.GetGenesisRequest(),
            timeout_ms=timeout_ms,
            peer=self._peer,
            randomness=self._randomness,
        )
        self._check_chain(tagged_hash(GENESIS, response.genesis))
        return response.genesis

    def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncGenerator[FollowedBlock, None]:
        """Yield every block after `tip` with all entries of `namespaces`, verified, never skipping one.

        Goes on for ever: what can pass is waited for, and the stream resumes where it was. `sequencer_key` is
        asked just before a block is yielded, after the consumer has dealt with the one before it. Raises
        Malformed, BadSignature, Discontinuous for blocks that do not hold, and Pruned.
        """
        return follow(
            self._stub,
            peer=self._peer,
            tip=tip,
            namespaces=namespaces,
            sequencer_key=sequencer_key,
            backoff=DEFAULT_BACKOFF,
            randomness=self._randomness,
        )

    async def header(self, height: Height, *, timeout_ms: int = _CALL_TIMEOUT_MS) -> ProvenHeader:
        """Return the signed header at a height. Raises NotYet, Pruned, TimedOut."""
        request = sequencer_pb2.StreamBlocksRequest(from_height=height)
        call = self._stub.StreamBlocks(request, timeout=timeout_ms / 1_000)
        try:
            async for response in call:
                for share in response.blocks:
                    proven = read_header(share.header)
                    if self._verifier.header(proven).height != height:
                        raise Discontinuous(what="header", reason="is at another height than was asked for")
                    return proven
        except grpc.aio.AioRpcError as failure:
            raise error_from_rpc(failure, peer=self._peer) from failure
        finally:
            call.cancel()
        raise UnavailablePeer(peer=self._peer)

    def _check_chain(self, found: bytes) -> None:
        if found != self._genesis.chain_id:
            raise WrongChain(expected=self._genesis.chain_id.hex(), found=found.hex())
