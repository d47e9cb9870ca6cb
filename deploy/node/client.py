"""Channels to our servers, and calls that are repeated as often as that can help.

Owns the client's half of what `server` sets, and the only place where calls are tried again. gRPC itself
retries nothing: it does not know which calls may be repeated. Ours may: a repeated request carries the same
id and gets the first answer, so that the same request object is sent each time and nothing in it is made
anew.
"""

import asyncio
import random
import re
from collections.abc import Awaitable
from typing import Annotated, Final, Protocol, TypeVar

import grpc
import msgspec

from deploy.node.failures import SettingsInvalid
from deploy.node.rpc_errors import error_from_rpc
from deploy.node.tls import ClientTls, client_credentials
from lockstep.errors import LockstepError
from lockstep.limits import MESSAGE_BYTES_MAX

__all__ = ["Backoff", "ClientSettings", "connect", "error_from_rpc", "retrying"]

_Request = TypeVar("_Request", contravariant=True)
_Response = TypeVar("_Response", covariant=True)
_Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=86_400_000)]


class ClientSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach servers."""

    tls: ClientTls | None = None
    """Certificates; without them the connection is plain."""

    receive_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)] = MESSAGE_BYTES_MAX
    """Bytes of one received message."""

    send_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)] = MESSAGE_BYTES_MAX
    """Bytes of one sent message."""

    keepalive_ms: _Milliseconds = 20_000
    """How often a silent connection is asked whether it is alive; servers allow every 10 s."""

    keepalive_timeout_ms: _Milliseconds = 10_000
    """How long it may take to answer."""

    reconnect_ms_max: _Milliseconds = 1_000
    """The longest pause between attempts to connect to a server that is away."""


class Backoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait between attempts: a random part of a bound that doubles."""

    first_ms: _Milliseconds = 50
    """The bound before the second attempt."""

    longest_ms: _Milliseconds = 2_000
    """Where the bound stops growing."""

    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 8
    """Attempts in all."""

    def wait_ms(self, attempt: int, retry_after_ms: int | None, randomness: random.Random) -> float:
        """Return how long to wait after a failed attempt, counted from 1; at least what the server asks."""
        bound_ms = min(self.first_ms * 2 ** (attempt - 1), self.longest_ms)
        return (retry_after_ms or 0) + randomness.uniform(0, bound_ms)


DEFAULT_BACKOFF: Final = Backoff()
"""For calls that a person or a block waits for."""


_TARGET: Final = re.compile(r".*[^:]:[0-9]{1,5}")


class CallMethod(Protocol[_Request, _Response]):
    """A method of a stub that is asked with one message and answers with one."""

    def __call__(self, request: _Request, /, *, timeout: float | None = None) -> Awaitable[_Response]:
        """Call it; `timeout` in seconds."""


def connect(target: str, settings: ClientSettings) -> grpc.aio.Channel:
    """Return a channel to `target` (`host:port`), for the caller to close. Raises SettingsInvalid."""
    if _TARGET.fullmatch(target) is None:
        # gRPC would take it, and look for a server there for ever.
        raise SettingsInvalid(f"{target!r} is no address; write host:port, such as 127.0.0.1:7001")
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", settings.receive_bytes_max),
        ("grpc.max_send_message_length", settings.send_bytes_max),
        ("grpc.keepalive_time_ms", settings.keepalive_ms),
        ("grpc.keepalive_timeout_ms", settings.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        # By default a server that was away for a while is looked for every two minutes.
        ("grpc.initial_reconnect_backoff_ms", min(100, settings.reconnect_ms_max)),
        ("grpc.min_reconnect_backoff_ms", min(100, settings.reconnect_ms_max)),
        ("grpc.max_reconnect_backoff_ms", settings.reconnect_ms_max),
        # What the environment says about web proxies, and what DNS says about services, is not for us.
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
    ]
    if settings.tls is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, client_credentials(settings.tls), options)


async def retrying(
    method: CallMethod[_Request, _Response],
    request: _Request,
    *,
    timeout_ms: int,
    peer: str,
    randomness: random.Random,
    backoff: Backoff = DEFAULT_BACKOFF,
) -> _Response:
    """Call `method` until it answers, its error is not worth repeating, or time or attempts are used up.

    `timeout_ms` bounds everything together. `peer` names the service in errors. Raises the last
    `LockstepError`.
    """
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + timeout_ms / 1_000
    attempt = 0
    while True:
        attempt += 1
        try:
            return await method(request, timeout=max(deadline_s - clock(), 0.001))
        except grpc.aio.AioRpcError as failure:
            error: LockstepError = error_from_rpc(failure, peer=peer)
            wait_s = backoff.wait_ms(attempt, error.retry_after_ms, randomness) / 1_000
            if not error.retryable or attempt >= backoff.attempts_max or clock() + wait_s >= deadline_s:
                raise error from failure
        await asyncio.sleep(wait_s)
