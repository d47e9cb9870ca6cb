"""A client of the settlement log.

Owns the calls, their repetition with the same bytes, and the newest checkpoint that it saw. What an answer
must prove is `bridge.settlement.client.answers`'. Invariant: every checkpoint that it accepts is consistent
with every other one that it accepted, and is no older than those accepted before it was asked for.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Collection
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from bridge.settlement.client.answers import (
    Anchor,
    ProvenEntries,
    SettlementStatus,
    extended,
    frontier_after,
    verified_anchor,
    verified_entry,
    verified_status,
)
from deploy.node.client import Backoff, CallMethod, ClientSettings, connect, error_from_rpc, retrying
from lockstep.checkpoint import Checkpoint, NoteVerifier, verify_checkpoint
from lockstep.errors import BadSignature, Contradiction, LockstepError, Malformed, NotYet, ProofInvalid
from lockstep.genesis import Genesis
from lockstep.merkle import EMPTY_ROOT, Frontier, verify_consistency
from lockstep.settlement_log import read_candidate, says_the_same
from lockstep.signing import verify_raw
from lockstep.types import PublicKey
from lockstep.v1 import settlement_pb2, settlement_pb2_grpc
from sequencer.client.records import KeyAt

CALL_TIMEOUT_MS: Final = 10_000
"""How long a call may take, repetitions included, unless told otherwise."""

_DEFAULT_SETTINGS: Final = ClientSettings()
_STREAM_BACKOFF: Final = Backoff()

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class SettlementClient:
    """Talks to one settlement log; use it in an `async with` block.

    Every call takes `timeout_ms`, which bounds all its attempts together, and raises `LockstepError`;
    `Contradiction` if the log went back on a checkpoint, which no log may ever do.
    """

    def __init__(
        self,
        target: str,
        genesis: Genesis,
        settings: ClientSettings = _DEFAULT_SETTINGS,
        *,
        seen: Checkpoint | None = None,
        log_key: Callable[[], PublicKey] | None = None,
        sequencer_key: KeyAt | None = None,
    ) -> None:
        """Talk to `target` (`host:port`) about the chain of `genesis`.

        `seen` is the newest checkpoint that the caller ever saw: the log must extend it. `log_key` tells who
        signs checkpoints now and `sequencer_key` whose header counts at a height; by default they are the
        keys that genesis names, which a client that outlives their rotation must replace. The key that
        `log_key` told before counts until the first checkpoint under the new one.
        """
        self._target = target
        self._genesis = genesis
        self._settings = settings
        origin = genesis.settlement.origin
        self._log_key = log_key or (lambda: genesis.settlement.public_key)
        self._verifier = NoteVerifier(origin, self._log_key())
        self._outgoing: NoteVerifier | None = None
        self._sequencer_key: KeyAt = sequencer_key or (lambda _height: genesis.sequencer)
        self._seen = seen or Checkpoint(origin, 0, EMPTY_ROOT)
        self._advancing = asyncio.Lock()
        self._peer = f"the settlement log at {target}"
        self._randomness = random.Random()

    async def __aenter__(self) -> Self:
        self._channel = connect(self._target, self._settings)
        self._stub = settlement_pb2_grpc.SettlementStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    @property
    def seen(self) -> Checkpoint:
        """The newest checkpoint that was accepted, to be kept by who must not be fooled after a restart.

        Of size 0 before the first.
        """
        return self._seen

    async def append(self, entry: bytes, *, timeout_ms: int = CALL_TIMEOUT_MS) -> int:
        """Append an entry and return its index once it is durable, and proven to be there.

        An entry that says what one in the log says already gets that one's index. Raises as the service's
        Append; `NotYet` may be worth a later attempt: the headers that it rests on are not anchored yet.
        """
        floor = self._seen.size
        request = settlement_pb2.AppendRequest(entry=entry)
        response = await self._call(self._stub.Append, request, timeout_ms)
        checkpoint = await self._accept(response.checkpoint, floor, timeout_ms)
        found = await self._entry(response.index, checkpoint, timeout_ms)
        if not says_the_same(read_candidate(found), read_candidate(entry)):
            raise _malformed("index", f"{response.index} is that of another entry")
        return response.index

    async def checkpoint(self, *, timeout_ms: int = CALL_TIMEOUT_MS) -> Checkpoint:
        """Return the newest checkpoint, which extends all that were accepted before."""
        checkpoint, _ = await self.signed_checkpoint(timeout_ms=timeout_ms)
        return checkpoint

    async def signed_checkpoint(self, *, timeout_ms: int = CALL_TIMEOUT_MS) -> tuple[Checkpoint, bytes]:
        """Return the newest checkpoint as `checkpoint` does, and the signed note that says it."""
        floor = self._seen.size
        request = settlement_pb2.GetCheckpointRequest()
        response = await self._call(self._stub.GetCheckpoint, request, timeout_ms)
        return await self._accept(response.checkpoint, floor, timeout_ms), response.checkpoint

    async def entry(self, index: int, *, timeout_ms: int = CALL_TIMEOUT_MS) -> bytes:
        """Return one entry, proven to be there. Raises `NotYet`."""
        floor = self._seen.size
        request = settlement_pb2.GetInclusionProofRequest(index=index)
        response = await self._call(self._stub.GetInclusionProof, request, timeout_ms)
        checkpoint = await self._accept(response.checkpoint, floor, timeout_ms)
        return verified_entry(response, index=index, checkpoint=checkpoint)

    async def proven_entries(
        self, indexes: Collection[int], *, timeout_ms: int = CALL_TIMEOUT_MS
    ) -> ProvenEntries:
        """Return entries with their proofs, all under the newest checkpoint. Raises `NotYet`."""
        checkpoint, note = await self.signed_checkpoint(timeout_ms=timeout_ms)
        entries = {}
        for index in sorted(indexes):
            if index >= checkpoint.size:
                raise NotYet(height=index, newest=checkpoint.size)
            request = settlement_pb2.GetInclusionProofRequest(index=index, size=checkpoint.size)
            response = await self._call(self._stub.GetInclusionProof, request, timeout_ms)
            entry = verified_entry(response, index=index, checkpoint=checkpoint)
            entries[index] = entry, tuple(response.proof.hashes)
        return ProvenEntries(entries, checkpoint, note)

    async def anchor(
        self, height: int, rollup: str | None = None, *, timeout_ms: int = CALL_TIMEOUT_MS
    ) -> Anchor:
        """Return the entry that anchors the header at `height`, or a rollup's commitment at it.

        Raises `NotYet`, `NotFound`.
        """
        floor = self._seen.size
        request = settlement_pb2.GetAnchorRequest(height=height, rollup=rollup or "")
        response = await self._call(self._stub.GetAnchor, request, timeout_ms)
        return verified_anchor(
            response,
            height=height,
            rollup=rollup,
            checkpoint=await self._accept(response.checkpoint, floor, timeout_ms),
            genesis=self._genesis,
            sequencer_key=self._sequencer_key,
        )

    async def status(self, *, timeout_ms: int = CALL_TIMEOUT_MS) -> SettlementStatus:
        """Return where the log stands. Raises `WrongChain` if it is another chain's."""
        floor = self._seen.size
        request = settlement_pb2.SettlementGetStatusRequest()
        response = await self._call(self._stub.GetStatus, request, timeout_ms)
        checkpoint = await self._accept(response.checkpoint, floor, timeout_ms)
        return verified_status(response, genesis=self._genesis, checkpoint=checkpoint)

    async def entries(self, from_index: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield every entry from an index on with its index, for ever, each proven to be in the log.

        A lost connection is made again and the stream resumed, without end. Raises what is not worth
        repeating.
        """
        frontier: Frontier | None = None
        attempt = 0
        while True:
            call = self._stub.StreamEntries(settlement_pb2.StreamEntriesRequest(from_index=from_index))
            error: LockstepError | None = None
            try:
                async for response in call:
                    frontier = await self._verified_after(frontier, from_index, response)
                    attempt = 0
                    for place, entry in enumerate(response.entries, from_index):
                        yield place, entry
                    from_index = frontier.size
            except grpc.aio.AioRpcError as failure:
                error = error_from_rpc(failure, peer=self._peer)
                if not error.retryable:
                    raise error from failure
            except LockstepError as failure:
                if not failure.retryable:
                    raise
                error = failure
            finally:
                call.cancel()
            attempt += 1
            after_ms = None if error is None else error.retry_after_ms
            await asyncio.sleep(_STREAM_BACKOFF.wait_ms(attempt, after_ms, self._randomness) / 1_000)

    async def _verified_after(
        self, frontier: Frontier | None, from_index: int, response: settlement_pb2.StreamEntriesResponse
    ) -> Frontier:
        """Return the log's right edge after a part of the stream that follows `frontier`.

        1. The part starts where it should and is not empty (Malformed).
        2. Its checkpoint is the log's and covers it (BadSignature, Malformed).
        3. The entries so far are a prefix of the log of the checkpoint (Contradiction).
        4. The checkpoint is consistent with those seen before (Contradiction).
        """
        if response.first_index != from_index or not response.entries:
            raise _malformed("entries", f"do not continue at {from_index}")
        if frontier is None:
            frontier = await self._frontier_at(from_index)
        longer = extended(frontier, response.entries)
        checkpoint = self._verified(response.checkpoint)
        if checkpoint.size < longer.size:
            raise _malformed("checkpoint", "does not cover the entries that it comes with")
        async with self._advancing:
            if (checkpoint.size, checkpoint.root) == (longer.size, longer.root()) and (
                (self._seen.size, self._seen.root) == (frontier.size, frontier.root())
            ):
                # What was seen last, with these entries behind it, has this very root: no proof says more.
                self._seen = checkpoint
                return longer
        accepted = await self._accept(response.checkpoint, 0, CALL_TIMEOUT_MS)
        await self._require_prefix(
            Checkpoint(accepted.origin, longer.size, longer.root()), accepted, CALL_TIMEOUT_MS
        )
        return longer

    async def _frontier_at(self, size: int) -> Frontier:
        """Return the right edge of the log of some size, which is a prefix of what was seen."""
        if size == 0:
            return Frontier()
        request = settlement_pb2.GetInclusionProofRequest(index=size - 1, size=size)
        response = await self._call(self._stub.GetInclusionProof, request, CALL_TIMEOUT_MS)
        return frontier_after(response, index=size - 1)

    async def _entry(self, index: int, checkpoint: Checkpoint, timeout_ms: int) -> bytes:
        if index >= checkpoint.size:
            raise _malformed("checkpoint", f"does not cover entry {index}")
        request = settlement_pb2.GetInclusionProofRequest(index=index, size=checkpoint.size)
        response = await self._call(self._stub.GetInclusionProof, request, timeout_ms)
        return verified_entry(response, index=index, checkpoint=checkpoint)

    async def _accept(self, note: bytes, floor: int, timeout_ms: int) -> Checkpoint:
        """Return what a note says, once it is signed by the log and consistent with what was seen.

        `floor` is the size that had been seen before the log was asked: it cannot be smaller now.
        """
        checkpoint = self._verified(note)
        if checkpoint.size < floor:
            raise _contradiction(self._seen, checkpoint)
        async with self._advancing:
            if checkpoint.size < self._seen.size:
                await self._require_prefix(checkpoint, self._seen, timeout_ms)
            else:
                await self._require_prefix(self._seen, checkpoint, timeout_ms)
                self._seen = checkpoint
        return checkpoint

    async def _require_prefix(self, older: Checkpoint, newer: Checkpoint, timeout_ms: int) -> None:
        """Insist that the log of one checkpoint is a prefix of that of another. Raises `Contradiction`."""
        hashes: tuple[bytes, ...] = ()
        if 0 < older.size < newer.size:
            request = settlement_pb2.GetConsistencyProofRequest(old_size=older.size, new_size=newer.size)
            response = await self._call(self._stub.GetConsistencyProof, request, timeout_ms)
            hashes = tuple(response.hashes)
        try:
            verify_consistency(
                old_size=older.size,
                new_size=newer.size,
                old_root=older.root,
                new_root=newer.root,
                proof=hashes,
            )
        except ProofInvalid as error:
            raise _contradiction(older, newer) from error

    def _verified(self, note: bytes) -> Checkpoint:
        key = self._log_key()
        if key != self._verifier.public_key:
            self._outgoing, self._verifier = self._verifier, NoteVerifier(self._verifier.name, key)
        try:
            checkpoint = verify_checkpoint(note, self._verifier, verify=verify_raw)
        except BadSignature:
            if self._outgoing is None:
                raise
            # A log signs with its old key until it is started with the new one.
            return verify_checkpoint(note, self._outgoing, verify=verify_raw)
        self._outgoing = None
        return checkpoint

    async def _call(
        self, method: CallMethod[_Request, _Response], request: _Request, timeout_ms: int
    ) -> _Response:
        return await retrying(
            method, request, timeout_ms=timeout_ms, peer=self._peer, randomness=self._randomness
        )


def _contradiction(older: Checkpoint, newer: Checkpoint) -> Contradiction:
    shown = " and ".join(f"size {each.size} root {each.root.hex()}" for each in (older, newer))
    return Contradiction(what="checkpoint of the settlement log", evidence=shown)


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="answer of the settlement log", field=field, reason=reason)
