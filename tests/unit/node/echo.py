"""A service whose handlers do what their request says: the other side of the server's and client's tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from deploy.node.failures import StorageFailed
from deploy.node.server import unless_stopping
from lockstep.errors import Malformed, NotYet

NAME = "test.Echo"
SECRET_DETAIL = "secret detail of a defect"

Context = grpc.aio.ServicerContext[Any, Any]


class Echo:
    """Counts what it was asked, and fails as asked."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self.stopping = stopping
        self.asked: list[bytes] = []
        self.cancelled = 0
        self.started = asyncio.Event()
        self.closed = 0

    async def act(self, request: bytes, context: Context) -> bytes:
        self.asked.append(request)
        self.started.set()
        match request:
            case b"expected":
                raise NotYet(height=9, newest=4)
            case b"expected twice" if self.asked.count(request) < 3:
                raise NotYet(height=9, newest=4, retry_after_ms=1)
            case b"huge":
                raise Malformed(what="ß%" * 5_000, field="%" * 5_000, reason="\n" * 5_000)
            case b"big":
                return bytes(3_000)
            case b"defect":
                raise RuntimeError(SECRET_DETAIL)
            case b"storage":
                raise StorageFailed(SECRET_DETAIL)
            case b"timeout inside":
                raise TimeoutError(SECRET_DETAIL)
            case b"abort":
                await context.abort(grpc.StatusCode.ABORTED, "the handler's own words")
            case b"hang":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
        return request

    async def unary_unary(self, request: bytes, context: Context) -> bytes:
        return await self.act(request, context)

    async def unary_stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            yield await self.act(request, context)
        finally:
            self.closed += 1

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        return b"".join([await self.act(request, context) async for request in requests])

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await self.act(request, context)

    async def writer(self, request: bytes, context: Context) -> None:
        await context.write(b"first")
        await context.write(await self.act(request, context))

    async def endless(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Wait for items that never come, and end when the server stops."""
        yield b"first"
        self.started.set()
        await unless_stopping(self.stopping, asyncio.Event().wait())

    async def flood(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Send more than anybody reads."""
        try:
            while True:
                yield bytes(1_000_000)
        finally:
            self.closed += 1

    async def typed(self, request: health_pb2.HealthCheckRequest, context: Context) -> bytes:
        return str(request.service).encode()

    async def typed_stream(
        self, requests: AsyncIterator[health_pb2.HealthCheckRequest], context: Context
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield str(request.service).encode()

    def register(self, server: grpc.aio.Server) -> None:
        parse: Callable[[bytes], Any] = health_pb2.HealthCheckRequest.FromString
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self.unary_stream),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.stream_unary),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self.stream_stream),
            "Writer": grpc.unary_stream_rpc_method_handler(self.writer),
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless),
            "Flood": grpc.unary_stream_rpc_method_handler(self.flood),
            "Typed": grpc.unary_unary_rpc_method_handler(self.typed, request_deserializer=parse),
            "TypedStream": grpc.stream_stream_rpc_method_handler(
                self.typed_stream, request_deserializer=parse
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))


def call_of(channel: grpc.aio.Channel, kind: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return a method of the service that is answered with one message."""
    return channel.unary_unary(f"/{NAME}/{kind}")


def stream_of(channel: grpc.aio.Channel, kind: str) -> grpc.aio.UnaryStreamMultiCallable[bytes, bytes]:
    """Return a method of the service that is answered with a stream."""
    return channel.unary_stream(f"/{NAME}/{kind}")


async def ask(channel: grpc.aio.Channel, kind: str, request: bytes, timeout: float | None = None) -> bytes:
    """Call one of the methods with one request and return all of its answers joined."""
    if kind in ("UnaryUnary", "Typed"):
        return await call_of(channel, kind)(request, timeout=timeout)
    if kind == "StreamUnary":
        gather: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(f"/{NAME}/{kind}")
        return await gather(iter((request,)), timeout=timeout)
    if kind in ("StreamStream", "TypedStream"):
        both: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{NAME}/{kind}")
        return b"".join([answer async for answer in both(iter((request,)), timeout=timeout)])
    return b"".join([answer async for answer in stream_of(channel, kind)(request, timeout=timeout)])
