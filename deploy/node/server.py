"""A gRPC server with a bound on everything, that stops gracefully.

Owns the server's options, its address, the health and reflection services and the order of stopping. Does not
own any service: those are registered by the caller, who also tells when they are healthy. gRPC's own defaults
are open (a port shared in silence, no bound on calls, connections or time), so that every option that bounds
something is set here.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Final, TypeVar

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from deploy.node.failures import AddressUnavailable, SettingsInvalid
from deploy.node.interceptor import EdgeInterceptor
from deploy.node.tls import ServerTls, server_credentials
from lockstep.errors import ShuttingDown
from lockstep.limits import MESSAGE_BYTES_MAX

METADATA_BYTES_MAX: Final = 8_192
"""Bytes of a call's headers; a little more ends the call, twice as much the connection."""

_Result = TypeVar("_Result")
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)]


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a server listens and what it allows."""

    host: str = "127.0.0.1"
    """The address to bind."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """The port to bind; 0 takes a free one."""

    tls: ServerTls | None = None
    """Certificates; without them the connection is plain."""

    plain_beyond_host: bool = False
    """Whether to listen without TLS on an address that other machines reach."""

    reflection: bool = True
    """Whether to tell the schemas to who asks."""

    calls_max: _Count = 512
    """Calls at a time; further ones are refused with QUEUE_FULL."""

    streams_max: _Count = 256
    """Streams at a time; further ones are refused with QUEUE_FULL."""

    connections_max: _Count = 256
    """Connections at a time; further ones are closed."""

    connection_streams_max: _Count = 128
    """Calls and streams at a time on one connection; further ones wait at the client."""

    receive_bytes_max: _Bytes = MESSAGE_BYTES_MAX
    """Bytes of one received message."""

    send_bytes_max: _Bytes = MESSAGE_BYTES_MAX
    """Bytes of one sent message."""

    deadline_ms_max: _Milliseconds = 30_000
    """The longest deadline of a call, and that of a call which comes without."""

    handshake_ms_max: _Milliseconds = 5_000
    """How long a connection may take to become one."""

    connection_idle_ms_max: _Milliseconds = 300_000
    """How long a connection may stay without a call."""

    connection_age_ms_max: _Milliseconds = 3_600_000
    """How long a connection may stay at all; clients make a new one and resume their streams."""

    connection_grace_ms: _Milliseconds = 30_000
    """How long calls may go on after that."""

    keepalive_ms: _Milliseconds = 30_000
    """How often a silent connection is asked whether it is alive."""

    keepalive_timeout_ms: _Milliseconds = 10_000
    """How long it may take to answer."""

    ping_interval_ms_min: _Milliseconds = 10_000
    """How often clients may ask; more than two early ones end the connection."""

    stop_grace_ms: _Milliseconds = 5_000
    """How long calls and streams may take to end once the server stops."""


class Server:
    """A running server; see `serving`."""

    def __init__(
        self, host: str, port: int, names: Sequence[str], servicer: health.aio.HealthServicer
    ) -> None:
        self.host = host
        """The address that is bound."""
        self.port = port
        """The port that is bound."""
        self._names = ("", *names)
        self._health = servicer

    @property
    def address(self) -> str:
        """What a client on this machine connects to."""
        return _join(self.host, self.port)

    async def set_healthy(self, *, healthy: bool) -> None:
        """Tell the health service whether the services can be used. They start unhealthy."""
        response = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._health.set(name, response.SERVING if healthy else response.NOT_SERVING)


@asynccontextmanager
async def serving(
    settings: ServerSettings,
    *,
    register: Callable[[grpc.aio.Server], None],
    service_names: Sequence[str],
    stopping: asyncio.Event,
) -> AsyncIterator[Server]:
    """Serve while the `async with` block lasts.

    `register` adds the services, whose full names are `service_names`. At the end, or when somebody else sets
    `stopping`, new calls are refused; handlers of streams see the event and end; after `stop_grace_ms` what
    still runs is cancelled.

    Raises AddressUnavailable if the address cannot be bound, SettingsInvalid for an unsafe one.
    """
    _check_plain(settings)
    interceptor = EdgeInterceptor(
        calls_max=settings.calls_max,
        streams_max=settings.streams_max,
        deadline_ms_max=settings.deadline_ms_max,
        stopping=stopping,
    )
    server = grpc.aio.server(
        interceptors=(interceptor,),
        options=_options(settings),
        # The interceptor refuses earlier and says why; this one also counts what it lets through, such as
        # health.
        maximum_concurrent_rpcs=settings.calls_max + settings.streams_max + 64,
    )
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    register(server)
    if settings.reflection:
        names = (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    running = Server(settings.host, _bind(server, settings), service_names, servicer)
    await running.set_healthy(healthy=False)
    await server.start()
    try:
        yield running
    finally:
        stopping.set()
        await servicer.enter_graceful_shutdown()
        await server.stop(settings.stop_grace_ms / 1_000)


async def unless_stopping(stopping: asyncio.Event, work: Awaitable[_Result]) -> _Result:
    """Return what `work` returns, or cancel it and raise ShuttingDown once `stopping` is set.

    For handlers of streams, which must not wait for the next item while the server stops.
    """
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ShuttingDown
        return task.result()
    finally:
        task.cancel()
        stop.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        # Without this a second process binds the same port in silence, and the kernel deals calls to both.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.receive_bytes_max),
        ("grpc.max_send_message_length", settings.send_bytes_max),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", settings.connection_streams_max),
        ("grpc.max_allowed_incoming_connections", settings.connections_max),
        ("grpc.server_handshake_timeout_ms", settings.handshake_ms_max),
        ("grpc.max_connection_idle_ms", settings.connection_idle_ms_max),
        ("grpc.max_connection_age_ms", settings.connection_age_ms_max),
        ("grpc.max_connection_age_grace_ms", settings.connection_grace_ms),
        ("grpc.keepalive_time_ms", settings.keepalive_ms),
        ("grpc.keepalive_timeout_ms", settings.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", settings.ping_interval_ms_min),
        ("grpc.http2.max_ping_strikes", 2),
    ]


def _check_plain(settings: ServerSettings) -> None:
    """Refuse to be readable from other machines unless somebody asked for it."""
    if settings.tls is None and not settings.plain_beyond_host and not _is_loopback(settings.host):
        raise SettingsInvalid(
            f"host {settings.host} is reached from other machines; name certificates under tls, "
            "or set plain_beyond_host if something else protects the connection"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> int:
    address = _join(settings.host, settings.port)
    try:
        _try_to_bind(settings.host, settings.port)
        if settings.tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, server_credentials(settings.tls))
    except (OSError, RuntimeError) as error:
        raise AddressUnavailable(
            f"{address} cannot be bound; stop the process that has it, or set another port (0: any free one)"
        ) from error


def _try_to_bind(host: str, port: int) -> None:
    """Bind as gRPC will, and let go. Raises OSError: gRPC's complaint is a line of C++ on stderr."""
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
