"""The client: errors mapped back, and retries that are bounded and send the same request."""

import asyncio
import random
from collections.abc import Awaitable

import grpc
import pytest

from deploy.node.client import Backoff, CallMethod, ClientSettings, connect, retrying
from deploy.node.failures import SettingsInvalid
from deploy.node.rpc_errors import DETAILS_KEY, encode_error, error_from_rpc
from deploy.node.server import ServerSettings, serving
from lockstep.errors import (
    Foreign,
    Internal,
    LockstepError,
    NotYet,
    QueueFull,
    ShuttingDown,
    TimedOut,
    UnavailablePeer,
)
from tests.unit.node.echo import NAME, Echo, call_of

FAST = Backoff(first_ms=1, longest_ms=4, attempts_max=5)


def received(error: LockstepError) -> grpc.aio.AioRpcError:
    """Return what a client gets when a server answers with this error."""
    code, message, trailers = encode_error(error)
    return grpc.aio.AioRpcError(code, trailing_metadata=grpc.aio.Metadata(*trailers), details=message)


@pytest.mark.parametrize(
    "error",
    [
        NotYet(height=9, newest=4),
        NotYet(height=9, newest=4, retry_after_ms=None),
        QueueFull(queue="bundle", limit=3, retry_after_ms=1_234),
        Internal(),
        ShuttingDown(),
        Foreign(code="FROM_THE_FUTURE", status="ABORTED", text="words", received_fields={"a": "b"}),
    ],
)
def test_errors_travel_both_ways(error: LockstepError) -> None:
    back = error_from_rpc(received(error), peer="p")
    assert type(back) is type(error)
    assert back.status == error.status
    assert back.to_record() == error.to_record()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailablePeer),
        (grpc.StatusCode.DEADLINE_EXCEEDED, TimedOut),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Foreign),
        (grpc.StatusCode.UNKNOWN, Foreign),
    ],
)
@pytest.mark.parametrize("trailers", [(), ((DETAILS_KEY, b"\xff\xff"),), ((DETAILS_KEY, b""),)])
def test_answers_without_our_details(
    code: grpc.StatusCode, expected: type[LockstepError], trailers: tuple[tuple[str, bytes], ...]
) -> None:
    failure = grpc.aio.AioRpcError(code, trailing_metadata=grpc.aio.Metadata(*trailers), details="words")
    error = error_from_rpc(failure, peer="the sequencer")
    assert type(error) is expected
    assert "the sequencer" in error.message
    assert error.status == code.name
    assert error.retryable is (expected is not Foreign)


def test_a_call_that_is_cut_off_while_its_server_stops_may_be_repeated() -> None:
    failure = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata())
    error = error_from_rpc(failure, peer="p")
    assert type(error) is UnavailablePeer
    assert error.retryable


def test_details_of_another_domain_are_not_ours() -> None:
    code, message, [(key, value)] = encode_error(NotYet(height=9, newest=4))
    trailers = grpc.aio.Metadata((key, value.replace(b"lockstep", b"elsewher")))
    error = error_from_rpc(grpc.aio.AioRpcError(code, trailing_metadata=trailers, details=message), peer="p")
    assert isinstance(error, Foreign)


class Flaky:
    """A method that fails as told, then answers; it keeps what it was asked."""

    def __init__(self, *errors: LockstepError) -> None:
        self.errors = list(errors)
        self.requests: list[object] = []
        self.timeouts: list[float | None] = []

    def __call__(self, request: object, /, *, timeout: float | None = None) -> Awaitable[bytes]:
        self.requests.append(request)
        self.timeouts.append(timeout)
        return self.answer()

    async def answer(self) -> bytes:
        if self.errors:
            raise received(self.errors.pop(0))
        return b"done"


async def call(
    method: CallMethod[bytes, bytes], request: bytes = b"x", timeout_ms: int = 5_000, backoff: Backoff = FAST
) -> bytes:
    async with asyncio.timeout(20):
        return await retrying(
            method,
            request,
            timeout_ms=timeout_ms,
            peer="echo",
            randomness=random.Random(1),
            backoff=backoff,
        )


async def test_retries_send_the_same_request_until_it_succeeds() -> None:
    busy = QueueFull(queue="q", limit=1, retry_after_ms=1)
    flaky, request = Flaky(busy, busy, NotYet(height=1, newest=0, retry_after_ms=None)), bytes(1_000)
    assert await call(flaky, request) == b"done"
    assert len(flaky.requests) == 4
    assert all(sent is request for sent in flaky.requests)
    timeouts = [timeout or 0 for timeout in flaky.timeouts]
    assert timeouts == sorted(timeouts, reverse=True), "attempts share one deadline"


async def test_what_cannot_help_is_not_repeated() -> None:
    flaky = Flaky(Internal())
    with pytest.raises(Internal):
        await call(flaky)
    assert len(flaky.requests) == 1


async def test_attempts_are_bounded() -> None:
    flaky = Flaky(*[QueueFull(queue="q", limit=1, retry_after_ms=1) for _ in range(9)])
    with pytest.raises(QueueFull):
        await call(flaky)
    assert len(flaky.requests) == 5


async def test_time_is_bounded() -> None:
    flaky = Flaky(*[QueueFull(queue="q", limit=1, retry_after_ms=60_000) for _ in range(9)])
    with pytest.raises(QueueFull):
        await call(flaky, timeout_ms=300)
    assert len(flaky.requests) == 1


def test_waits_grow_randomly_within_bounds() -> None:
    backoff, randomness = Backoff(first_ms=10, longest_ms=50), random.Random(7)
    for attempt, bound in ((1, 10), (2, 20), (3, 40), (4, 50), (900, 50)):
        waits = [backoff.wait_ms(attempt, 5, randomness) for _ in range(200)]
        assert 5 <= min(waits) < 5 + bound / 4
        assert 5 + bound * 3 / 4 < max(waits) <= 5 + bound


async def test_over_a_real_connection_and_a_server_that_comes_back() -> None:
    stopping = asyncio.Event()
    echo = Echo(stopping)
    async with serving(
        ServerSettings(), register=echo.register, service_names=(NAME,), stopping=stopping
    ) as server:
        port = server.port
        async with connect(server.address, ClientSettings()) as channel:
            assert await call(call_of(channel, "UnaryUnary"), b"expected twice") == b"expected twice"
            assert echo.asked == [b"expected twice"] * 3

    async with connect(f"127.0.0.1:{port}", ClientSettings()) as channel:
        method = call_of(channel, "UnaryUnary")
        with pytest.raises(UnavailablePeer):
            await call(method)
        patient = Backoff(first_ms=1, longest_ms=50, attempts_max=100)
        waiting = asyncio.create_task(call(method, backoff=patient, timeout_ms=20_000))
        stopping, settings = asyncio.Event(), ServerSettings(port=port)
        echo = Echo(stopping)
        async with serving(settings, register=echo.register, service_names=(NAME,), stopping=stopping):
            assert await waiting == b"x"


@pytest.mark.parametrize("target", ["", "127.0.0.1", "127.0.0.1:", ":7001", "host:port", "host:1:"])
async def test_what_is_no_address_is_refused(target: str) -> None:
    with pytest.raises(SettingsInvalid, match="is no address; write host:port"):
        connect(target, ClientSettings())


@pytest.mark.parametrize("target", ["127.0.0.1:1", "localhost:7001", "[::1]:7001", "dns:///a.example:65535"])
async def test_addresses(target: str) -> None:
    await connect(target, ClientSettings()).close()
