"""The server over real sockets: errors, deadlines, bounds, health, TLS, stopping."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
    ProtoReflectionDescriptorDatabase,
)

from deploy.node.client import ClientSettings, connect, error_from_rpc
from deploy.node.failures import AddressUnavailable, SettingsInvalid
from deploy.node.server import Server, ServerSettings, serving, unless_stopping
from deploy.node.tls import ClientTls, ServerTls
from lockstep.errors import (
    DeadlineTooLong,
    Foreign,
    Internal,
    LockstepError,
    Malformed,
    NotYet,
    QueueFull,
    ShuttingDown,
    TimedOut,
    UnavailablePeer,
)
from tests.unit.node.echo import NAME, SECRET_DETAIL, Echo, ask, call_of, stream_of

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream", "Writer")
ANY_KIND = pytest.mark.parametrize("kind", KINDS)


@asynccontextmanager
async def running(
    settings: ServerSettings = ServerSettings(),  # noqa: B008  # frozen
    client: ClientSettings = ClientSettings(),  # noqa: B008  # frozen
) -> AsyncIterator[tuple[Server, Echo, grpc.aio.Channel]]:
    """Serve an Echo and connect to it."""
    stopping = asyncio.Event()
    echo = Echo(stopping)
    async with (
        asyncio.timeout(30),
        serving(settings, register=echo.register, service_names=(NAME,), stopping=stopping) as server,
        connect(server.address, client) as channel,
    ):
        yield server, echo, channel


async def failure(
    channel: grpc.aio.Channel, kind: str, request: bytes, timeout: float | None = 10
) -> LockstepError:
    """Return the error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await ask(channel, kind, request, timeout=timeout)
    assert SECRET_DETAIL not in repr(failed.value)
    return error_from_rpc(failed.value, peer="echo")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the caller's timeout is the deadline."""
    while not condition():  # noqa: ASYNC110  # what is waited for happens in gRPC
        await asyncio.sleep(0.001)


@ANY_KIND
async def test_answers_pass(kind: str) -> None:
    async with running() as (_, _, channel):
        assert (await ask(channel, kind, b"x")).endswith(b"x")
        assert (
            await ask(channel, "Typed", health_pb2.HealthCheckRequest(service="s").SerializeToString())
            == b"s"
        )


@ANY_KIND
async def test_expected_errors_arrive_whole(kind: str) -> None:
    async with running() as (_, _, channel):
        error = await failure(channel, kind, b"expected")
        assert isinstance(error, NotYet)
        assert error.to_record() == NotYet(height=9, newest=4).to_record()
        assert isinstance(await failure(channel, kind, b"huge"), Malformed), "too large for the trailers"


@ANY_KIND
async def test_defects_are_told_in_the_log_alone(kind: str) -> None:
    async with running() as (_, _, channel):
        with structlog.testing.capture_logs() as logged:
            assert isinstance(await failure(channel, kind, b"defect"), Internal)
            assert isinstance(await failure(channel, kind, b"timeout inside"), Internal)
        assert [(line["event"], line["method"]) for line in logged] == [
            ("call_failed", f"/{NAME}/{kind}")
        ] * 2
        assert isinstance(await failure(channel, kind, b"storage"), ShuttingDown)
        assert await ask(channel, kind, b"x"), "the server goes on"


@ANY_KIND
async def test_a_handlers_own_abort_passes(kind: str) -> None:
    async with running() as (_, _, channel):
        with structlog.testing.capture_logs() as logged:
            error = await failure(channel, kind, b"abort")
            await ask(channel, kind, b"x")
        assert logged == []
        assert isinstance(error, Foreign)
        assert (error.status, error.code) == ("ABORTED", "ABORTED")
        assert "the handler's own words" in error.message


@pytest.mark.parametrize("kind", ["Typed", "TypedStream"])
async def test_what_is_no_message_is_malformed(kind: str) -> None:
    async with running() as (_, _, channel):
        error = await failure(channel, kind, b"\xff\xff\xff")
        assert isinstance(error, Malformed)
        assert error.field == "encoding"


async def test_an_unknown_method_is_unimplemented() -> None:
    async with running() as (_, _, channel):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call_of(channel, "Nothing")(b"")
        assert error_from_rpc(failed.value, peer="echo").status == "UNIMPLEMENTED"
        assert "something else than echo answers there" in error_from_rpc(failed.value, peer="echo").message


@ANY_KIND
async def test_a_client_that_leaves_cancels_its_handler(kind: str) -> None:
    async with running() as (_, echo, channel):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await ask(channel, kind, b"hang", timeout=0.2)
        assert isinstance(error_from_rpc(failed.value, peer="echo"), TimedOut)
        await until(lambda: echo.cancelled == 1)
        if kind == "UnaryStream":
            await until(lambda: echo.closed == 1)


async def test_a_call_without_deadline_gets_one_and_a_stream_does_not() -> None:
    async with running(ServerSettings(deadline_ms_max=100)) as (_, echo, channel):
        assert isinstance(await failure(channel, "UnaryUnary", b"hang", timeout=None), TimedOut)
        await until(lambda: echo.cancelled == 1)
        stream = stream_of(channel, "UnaryStream")(b"hang")
        assert await stream.read() == b"first"
        assert isinstance(await failure(channel, "UnaryUnary", b"hang", timeout=None), TimedOut)
        assert not stream.done(), "a stream was given a deadline"
        stream.cancel()


async def test_a_deadline_that_would_not_be_kept_is_refused() -> None:
    async with running(ServerSettings(deadline_ms_max=1_000)) as (_, echo, channel):
        error = await failure(channel, "UnaryUnary", b"x", timeout=5)
        assert isinstance(error, DeadlineTooLong)
        assert (error.limit_ms, echo.asked) == (1_000, [])
        assert await ask(channel, "UnaryUnary", b"x", timeout=0.9) == b"x"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("UnaryUnary", ServerSettings(calls_max=2)), ("UnaryStream", ServerSettings(streams_max=2))],
)
async def test_calls_and_streams_are_bounded_apart(kind: str, settings: ServerSettings) -> None:
    async with running(settings) as (_, echo, channel), asyncio.TaskGroup() as group:
        held = [group.create_task(ask(channel, kind, b"hang")) for _ in range(2)]
        await until(lambda: echo.asked.count(b"hang") == 2)
        error = await failure(channel, kind, b"x")
        assert isinstance(error, QueueFull)
        assert error.limit == 2
        other = "UnaryStream" if kind == "UnaryUnary" else "UnaryUnary"
        assert (await ask(channel, other, b"x")).endswith(b"x")
        for task in held:
            task.cancel()
        await until(lambda: echo.cancelled == 2)
        assert (await ask(channel, kind, b"x")).endswith(b"x"), "the places were not given back"


async def test_messages_are_bounded() -> None:
    async with running(ServerSettings(receive_bytes_max=2_000, send_bytes_max=2_000)) as (_, echo, channel):
        assert (await failure(channel, "UnaryUnary", b"x" * 3_000)).status == "RESOURCE_EXHAUSTED"
        assert echo.asked == []
        assert (await failure(channel, "UnaryUnary", b"big")).status == "RESOURCE_EXHAUSTED"
        small = ClientSettings(receive_bytes_max=1_024)
    async with running(client=small) as (_, _, channel):
        assert (await failure(channel, "UnaryUnary", b"x" * 2_000)).status == "RESOURCE_EXHAUSTED"


async def test_connections_are_bounded() -> None:
    settings = ServerSettings(handshake_ms_max=60_000, connections_max=4)
    async with running(settings) as (server, _, channel):
        assert await ask(channel, "UnaryUnary", b"x") == b"x"
        silent = [await asyncio.open_connection(server.host, server.port) for _ in range(12)]
        reads = [asyncio.create_task(reader.read()) for reader, _ in silent]
        try:
            # Those beyond the bound are closed although their time is not up; who is connected stays so.
            await until(lambda: sum(read.done() for read in reads) >= 12 - 4)
            assert await ask(channel, "UnaryUnary", b"x") == b"x"
        finally:
            for _, writer in silent:
                writer.close()
            await asyncio.gather(*reads, return_exceptions=True)


async def test_a_stream_that_nobody_reads_gives_its_place_back() -> None:
    async with running(ServerSettings(streams_max=1)) as (_, echo, channel):
        flood = stream_of(channel, "Flood")(b"")
        assert await flood.read()
        assert isinstance(await failure(channel, "UnaryStream", b"x"), QueueFull)
        flood.cancel()
        await until(lambda: echo.closed == 1)
        assert await ask(channel, "UnaryStream", b"x") == b"firstx"


async def test_silent_connections_are_closed() -> None:
    async with running(ServerSettings(handshake_ms_max=300)) as (server, _, channel):
        silent = [await asyncio.open_connection(server.host, server.port) for _ in range(10)]
        try:
            # Each ends by the server's doing.
            await asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True)
        finally:
            for _, writer in silent:
                writer.close()
        assert await ask(channel, "UnaryUnary", b"x") == b"x"


async def test_a_second_server_cannot_share_the_port() -> None:
    async with running() as (server, _, _):
        with pytest.raises(AddressUnavailable, match=f"{server.address} cannot be bound; stop the process"):
            async with running(ServerSettings(port=server.port)):
                pass
    taken = socket.socket()
    with taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AddressUnavailable):
            async with running(ServerSettings(port=taken.getsockname()[1])):
                pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_plain_connections_stay_on_this_machine(host: str) -> None:
    with pytest.raises(SettingsInvalid, match="reached from other machines"):
        async with running(ServerSettings(host=host)):
            pass


async def test_plain_beyond_this_machine_if_asked() -> None:
    async with running(ServerSettings(host="0.0.0.0", plain_beyond_host=True)) as (server, _, _):
        assert server.port > 0


async def test_health_follows_the_service() -> None:
    serving_status = health_pb2.HealthCheckResponse.SERVING
    async with running() as (server, _, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", NAME):
            request = health_pb2.HealthCheckRequest(service=name)
            assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            await server.set_healthy(healthy=True)
            assert (await stub.Check(request)).status == serving_status
            await server.set_healthy(healthy=False)


def test_reflection_tells_the_services() -> None:
    async def scenario() -> list[str]:
        async with running() as (server, _, _):
            return await asyncio.to_thread(list_services, server.address)

    def list_services(address: str) -> list[str]:
        with grpc.insecure_channel(address) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert {NAME, "grpc.health.v1.Health"} <= set(asyncio.run(scenario()))


async def test_stopping_is_graceful() -> None:
    async with asyncio.timeout(30):
        stack: AbstractAsyncContextManager[tuple[Server, Echo, grpc.aio.Channel]] = running(
            ServerSettings(stop_grace_ms=400)
        )
        server, echo, channel = await stack.__aenter__()
        await server.set_healthy(healthy=True)
        endless = stream_of(channel, "Endless")(b"")
        assert await endless.read() == b"first"
        hanging = call_of(channel, "UnaryUnary")(b"hang")
        await until(lambda: echo.asked == [b"hang"])

        echo.stopping.set()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await endless.read()
        assert isinstance(error_from_rpc(ended.value, peer="echo"), ShuttingDown)
        assert isinstance(await failure(channel, "UnaryUnary", b"x"), ShuttingDown)
        assert echo.asked == [b"hang"]
        stub = health_pb2_grpc.HealthStub(channel)
        assert await stub.Check(health_pb2.HealthCheckRequest()), "health must answer to the end"
        assert not hanging.done()

        leaving = asyncio.create_task(stack.__aexit__(None, None, None))
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await hanging
        await leaving
        assert echo.cancelled == 1
    async with connect(server.address, ClientSettings()) as channel:
        assert isinstance(await failure(channel, "UnaryUnary", b"x"), UnavailablePeer)


async def test_work_is_cut_short_only_while_stopping() -> None:
    stopping = asyncio.Event()

    async def work(event: asyncio.Event) -> int:
        await event.wait()
        return 7

    done = asyncio.Event()
    done.set()
    assert await unless_stopping(stopping, work(done)) == 7
    waiting = asyncio.create_task(unless_stopping(stopping, work(asyncio.Event())))
    await asyncio.sleep(0)
    stopping.set()
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ZeroDivisionError):
        await unless_stopping(asyncio.Event(), asyncio.to_thread(lambda: 1 // 0))


def make_certificates(folder: Path) -> None:
    """Write certificates and keys: ca, server and client signed by it, and stranger signed by itself."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    for name in ("ca", "server", "client", "stranger"):
        key = ca_key if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        issuer = "ca" if name != "stranger" else name
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(minutes=1))
            .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
            .add_extension(
                x509.BasicConstraints(ca=name in ("ca", "stranger"), path_length=None), critical=True
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
            )
            .sign(key if name == "stranger" else ca_key, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


async def test_tls_both_ways(tmp_path: Path) -> None:
    make_certificates(tmp_path)

    def client(ca: str, name: str | None) -> ClientSettings:
        certificate, key = (
            (None, None) if name is None else (tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        )
        return ClientSettings(tls=ClientTls(tmp_path / f"{ca}.pem", certificate, key))

    pair = (tmp_path / "server.pem", tmp_path / "server.key")
    async with running(ServerSettings(tls=ServerTls(*pair)), client("ca", None)) as (server, _, channel):
        assert await ask(channel, "UnaryUnary", b"x") == b"x"
        for settings in (client("stranger", None), ClientSettings()):
            async with connect(server.address, settings) as wrong:
                assert isinstance(await failure(wrong, "UnaryUnary", b"x"), UnavailablePeer)
    mutual = ServerSettings(tls=ServerTls(*pair, tmp_path / "ca.pem"))
    async with running(mutual, client("ca", "client")) as (server, _, channel):
        assert await ask(channel, "UnaryUnary", b"x") == b"x"
        for settings in (client("ca", None), client("ca", "stranger")):
            async with connect(server.address, settings) as wrong:
                assert isinstance(await failure(wrong, "UnaryUnary", b"x"), UnavailablePeer)
    with pytest.raises(SettingsInvalid, match=r"none\.pem cannot be read"):
        connect("127.0.0.1:1", client("none", None))
    with pytest.raises(ValueError, match="come together"):
        ClientTls(tmp_path, certificate=tmp_path)
