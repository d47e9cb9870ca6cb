"""The machine's own limits: verifications, durable appends, and gRPC that carries messages for nothing.

Owns what the limits consist of. Uses the project's verifier, the same calls as its writers, and the same
schemas; nothing of its services.
"""

import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc

from deploy.benchmark.accounts import account_key, opaque_bundles
from deploy.benchmark.floods import SUBMIT_STREAM, encoded_messages
from deploy.benchmark.jobs import AppendJob, EchoJob, Found, PingJob, Prepared, VerifyJob
from deploy.node.client import ClientSettings, connect
from lockstep.hashing import SIGN_TRANSACTION
from lockstep.limits import MESSAGE_BYTES_MAX
from lockstep.signing import verify
from lockstep.v1 import common_pb2, sequencer_pb2
from sequencer.client.messages import bundle_message

SUBMIT: Final = "/lockstep.v1.Sequencer/Submit"
"""The call that lone submits use."""

_BODY_BYTES: Final = 151
"""Bytes of a transfer's body, which is what a signature covers."""

_SIGNATURES: Final = 64
_SIGNED_HEADER: Final = common_pb2.SignedHeader(
    header=bytes(172), proof_kind=common_pb2.HEADER_PROOF_KIND_SEQUENCER_SIGNATURE, proof=bytes(64)
)


class Verify:
    """Does a VerifyJob."""

    def __init__(self, job: VerifyJob) -> None:
        self._seconds = job.seconds
        self._signed: list[tuple[bytes, bytes, bytes]] = []

    async def prepare(self) -> Prepared:
        """Sign some messages."""
        for number in range(_SIGNATURES):
            key, body = account_key(number), secrets.token_bytes(_BODY_BYTES)
            self._signed.append((key.public_key, body, key.sign(SIGN_TRANSACTION, body)))
        return Prepared()

    async def run(self) -> Found:
        """Verify them over and over."""
        started_s, count = time.monotonic(), 0
        while (seconds := time.monotonic() - started_s) < self._seconds:
            for key, body, signature in self._signed:
                assert verify(SIGN_TRANSACTION, key, body, signature), "it was signed"
            count += len(self._signed)
        return Found(seconds=seconds, count=count)

    async def close(self) -> None:
        """Nothing is open."""


class Append:
    """Does an AppendJob."""

    def __init__(self, job: AppendJob) -> None:
        self._job = job
        self._file = Path(job.folder) / "appended"

    async def prepare(self) -> Prepared:
        """Nothing is to be prepared."""
        return Prepared()

    async def run(self) -> Found:
        """Append, each time durably, as a log that does nothing else would."""
        block = secrets.token_bytes(self._job.append_bytes)
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        latencies_ms = []
        try:
            for _ in range(self._job.count):
                started_ns = time.monotonic_ns()
                os.write(file, block)
                os.fdatasync(file)
                latencies_ms.append((time.monotonic_ns() - started_ns) / 1e6)
        finally:
            os.close(file)
        return Found(count=self._job.count, latencies_ms=tuple(latencies_ms))

    async def close(self) -> None:
        """Delete what was appended."""
        self._file.unlink(missing_ok=True)


class Echo:
    """Does an EchoJob: a server that answers each message with one of the length of a real answer."""

    def __init__(self, job: EchoJob) -> None:
        outcome = sequencer_pb2.SubmissionOutcome(
            correlation_id=1, placement=common_pb2.Placement(bundle_id=bytes(32), height=1, count=1)
        )
        self._streamed = sequencer_pb2.SubmitStreamResponse(
            outcomes=[outcome] * job.outcomes, headers=[_SIGNED_HEADER]
        ).SerializeToString()
        self._unary = sequencer_pb2.SubmitResponse(
            placement=outcome.placement, header=_SIGNED_HEADER
        ).SerializeToString()
        self._server: grpc.aio.Server | None = None

    async def prepare(self) -> Prepared:
        """Listen. The server runs until this process ends."""
        size = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=size)
        handlers: dict[str, Any] = {
            "SubmitStream": grpc.stream_stream_rpc_method_handler(self._answer_stream),
            "Submit": grpc.unary_unary_rpc_method_handler(self._answer),
        }
        service = grpc.method_handlers_generic_handler("lockstep.v1.Sequencer", handlers)
        self._server.add_generic_rpc_handlers((service,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return Prepared(address=f"127.0.0.1:{port}")

    async def run(self) -> Found:
        """Nothing is to be run."""
        return Found()

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.stop(None)

    async def _answer_stream(self, requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for _request in requests:
            yield self._streamed

    async def _answer(self, _request: bytes, _: object) -> bytes:
        return self._unary


class Ping:
    """Does a PingJob."""

    def __init__(self, job: PingJob) -> None:
        self._job = job
        self._channel = connect(job.target, ClientSettings())

    async def prepare(self) -> Prepared:
        """Nothing is to be prepared."""
        return Prepared()

    async def run(self) -> Found:
        """Send one message after another, each when the one before is answered."""
        (bundle,) = opaque_bundles(
            ("alpha",), count=1, payload_bytes=self._job.payload_bytes, valid_until_ms=1
        )
        if self._job.is_unary:
            request = sequencer_pb2.SubmitRequest(bundle=bundle_message(bundle)).SerializeToString()
            latencies_ms = await self._unary(request)
        else:
            latencies_ms = await self._streamed(next(encoded_messages([bundle], 1)))
        return Found(count=len(latencies_ms), latencies_ms=tuple(latencies_ms))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _unary(self, request: bytes) -> list[float]:
        submit: Any = self._channel.unary_unary(SUBMIT)
        latencies_ms = []
        for _ in range(self._job.count):
            started_ns = time.monotonic_ns()
            await submit(request)
            latencies_ms.append((time.monotonic_ns() - started_ns) / 1e6)
        return latencies_ms

    async def _streamed(self, request: bytes) -> list[float]:
        call: Any = self._channel.stream_stream(SUBMIT_STREAM)()
        latencies_ms = []
        for _ in range(self._job.count):
            started_ns = time.monotonic_ns()
            await call.write(request)
            await call.read()
            latencies_ms.append((time.monotonic_ns() - started_ns) / 1e6)
        call.cancel()
        return latencies_ms
