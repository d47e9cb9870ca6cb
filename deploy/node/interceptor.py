"""What every call passes on its way to a handler and back.

Owns, for all services alike: the bounds on calls and streams at a time, the deadline of calls, the refusal of
what is not a message, the refusal while stopping, and the mapping of errors. A `LockstepError` reaches the
client with its details; anything unexpected reaches it as INTERNAL with a fixed text and is logged here with
its traceback. Nowhere else may `Exception` be caught: it would also catch gRPC's own `AbortError`, and the
handler would run on.

A call is answered with one message and has a deadline; a stream is answered with any number and has none.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from inspect import isasyncgenfunction
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from deploy.node.failures import DataRefused, ProcessFailure
from deploy.node.rpc_errors import encode_error
from lockstep.errors import (
    DeadlineTooLong,
    Internal,
    LockstepError,
    Malformed,
    QueueFull,
    ShuttingDown,
    TimedOut,
)

_Context = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic for the type checker alone

_HEALTH: Final = "/grpc.health.v1.Health/"
"""Answers while the server stops, and says so."""

_UNREADABLE: Final = object()
"""Stands for a request that is not a message of its type."""

_MAKERS: Final[dict[tuple[bool, bool], Callable[..., _Handler]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class _Slots:
    """So many at a time and no more."""

    def __init__(self, queue: str, limit: int) -> None:
        self._queue = queue
        self._limit = limit
        self._taken = 0

    def __enter__(self) -> None:
        if self._taken >= self._limit:
            raise QueueFull(queue=self._queue, limit=self._limit)
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self._taken -= 1


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the handler of each method once."""

    def __init__(
        self, *, calls_max: int, streams_max: int, deadline_ms_max: int, stopping: asyncio.Event
    ) -> None:
        """Bound calls and streams at a time and the deadline of calls; refuse all once `stopping` is set."""
        self._calls = _Slots("call", calls_max)
        self._streams = _Slots("stream", streams_max)
        self._deadline_ms_max = deadline_ms_max
        self._stopping = stopping
        self._wrapped: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["_Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Return the wrapped handler of a method; what the server does not know stays unknown."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        streams = (bool(handler.request_streaming), bool(handler.response_streaming))
        names = {
            (False, False): "unary_unary",
            (False, True): "unary_stream",
            (True, False): "stream_unary",
            (True, True): "stream_stream",
        }
        behaviour = getattr(handler, names[streams])
        if not handler.response_streaming:
            outer: Callable[..., object] = self._wrap_call(method, behaviour)
        elif isasyncgenfunction(behaviour):
            outer = self._wrap_generator(method, behaviour)
        else:
            outer = self._wrap_writer(method, behaviour)
        return _MAKERS[streams](
            outer,
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=_unless_prepared(handler.response_serializer),
        )

    def _wrap_call(self, method: str, behaviour: Callable[..., Awaitable[object]]) -> Callable[..., object]:
        async def call(request: object, context: _Context) -> object:
            async with self._guard(method, context, self._calls):
                self._check_deadline(context)
                return await self._in_time(method, behaviour(_readable(request), context))

        return call

    def _wrap_generator(
        self, method: str, behaviour: Callable[..., AsyncIterator[object]]
    ) -> Callable[..., object]:
        async def stream(request: object, context: _Context) -> AsyncIterator[object]:
            async with self._guard(method, context, self._streams):
                responses: Any = behaviour(_readable(request), context)
                async with aclosing(responses):
                    async for response in responses:
                        yield response

        return stream

    def _wrap_writer(self, method: str, behaviour: Callable[..., Awaitable[None]]) -> Callable[..., object]:
        async def stream(request: object, context: _Context) -> None:
            async with self._guard(method, context, self._streams):
                await behaviour(_readable(request), context)

        return stream

    @asynccontextmanager
    async def _guard(self, method: str, context: _Context, slots: _Slots) -> AsyncIterator[None]:
        """Refuse what may not start; answer what fails."""
        try:
            if self._stopping.is_set() and not method.startswith(_HEALTH):
                raise ShuttingDown
            with slots:
                yield
        except grpc.aio.AbortError:
            # The handler, or gRPC's own services, have answered already.
            raise
        except LockstepError as error:
            await _abort(context, error)
        except DataRefused as damage:
            # What was asked for was not written like this. All else may be whole: the process goes on.
            structlog.get_logger().error("data_damaged", method=method, reason=str(damage))
            await _abort(context, Internal())
        except ProcessFailure as failure:
            # The process is about to end and says why itself; for the caller the outcome is unknown.
            structlog.get_logger().warning("call_cut_off", method=method, reason=type(failure).__name__)
            await _abort(context, ShuttingDown())
        except Exception:  # noqa: BLE001  # the one place where defects are turned into an answer
            structlog.get_logger().exception("call_failed", method=method)
            await _abort(context, Internal())

    def _check_deadline(self, context: _Context) -> None:
        """Refuse a deadline that this server would not keep, rather than surprise the caller later."""
        remaining_s: float | None = context.time_remaining()
        if remaining_s is not None and remaining_s * 1_000 > self._deadline_ms_max:
            raise DeadlineTooLong(deadline_ms=round(remaining_s * 1_000), limit_ms=self._deadline_ms_max)

    async def _in_time(self, method: str, work: Awaitable[object]) -> object:
        """Await a call's answer; without a deadline of its own it gets the longest one.

        gRPC itself ends a call whose own deadline passes, by cancelling its handler.
        """
        scope = asyncio.timeout(self._deadline_ms_max / 1_000)
        try:
            async with scope:
                return await work
        except TimeoutError:
            if scope.expired():
                raise TimedOut(peer=method) from None
            raise


async def _abort(context: _Context, error: LockstepError) -> None:
    code, message, trailers = encode_error(error)
    await context.abort(code, message, trailers)


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Make a deserializer return _UNREADABLE: what it raises would reach the client as gRPC words it."""
    if deserialize is None:
        return None

    def read(encoded: bytes) -> object:
        try:
            return deserialize(encoded)
        except DecodeError:
            return _UNREADABLE

    return read


def _unless_prepared(serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Let handlers give messages as bytes, which are sent as they are."""
    if serialize is None:
        return None

    def write(message: object) -> bytes:
        return message if type(message) is bytes else serialize(message)

    return write


def _readable(request: object) -> object:
    """Return a request, or a stream of them, that holds messages only. Raises Malformed where it does not."""
    if request is _UNREADABLE:
        raise Malformed(what="request", field="encoding", reason="is not that of the method's message")
    return _readable_stream(request) if isinstance(request, AsyncIterable) else request


async def _readable_stream(requests: AsyncIterable[object]) -> AsyncIterator[object]:
    async for request in requests:
        yield _readable(request)
