"""How other processes reach the launcher of a running devnet: a socket in the devnet's folder.

Owns the lock by which a folder has one launcher, the socket and what is said on it. The lock and the
listening end with the launcher, however that ends, so that neither can be stale: a socket that nobody listens
on means that nothing runs. The socket is its owner's alone.

One request and one answer for each connection, each a line of JSON. The connection of a `down` is closed when
every process has ended and the lock is free.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from deploy.node.datadir import FileLock
from deploy.node.failures import DataLocked, ProcessFailure

_SOCKET: Final = "control.sock"
_LOCK: Final = "launcher.lock"

ANSWER_MS_MAX: Final = 90_000
"""How long an answer may take; stopping and starting a process, each in its longest time, takes less."""

_LINE_BYTES_MAX: Final = 1024 * 1024


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the launcher is asked for."""

    do: Literal["status", "ready", "kill", "pause", "resume", "restart", "down"]
    """`ready` is answered when all processes run, the others at once or when they are done."""

    names: tuple[str, ...] = ()
    """The processes."""

    is_held: bool = False
    """Of a `kill`: whether they stay dead."""

    hold_ms: int | None = None
    """Of a `kill` that is held: for how long; None for until a `restart`."""


class ProcessReport(msgspec.Struct, frozen=True):
    """A process as its launcher sees it."""

    name: str
    """How it is called."""

    state: str
    """See `deploy.devnet.keeper.State`."""

    since_s: float
    """Since when, in seconds of the epoch."""

    pid: int | None = None
    """Its process id; None if there is no process."""


class Answer(msgspec.Struct, frozen=True):
    """What the launcher answers."""

    launcher: int
    """Its own process id."""

    stage: Literal["starting", "running", "stopping"]
    """Where the devnet as a whole stands."""

    processes: tuple[ProcessReport, ...] = ()
    """All of them, in the order in which they are started."""

    refusal: str = ""
    """Why nothing was done; empty if it was."""


class NotRunning(Exception):
    """No launcher has the folder, or it ended before it answered."""


class NoAnswer(Exception):
    """A launcher has the folder, and does not answer."""


class AlreadyRunning(ProcessFailure):
    """Another launcher has the folder."""


class ControlServer:
    """The launcher's end, while the `async with` block lasts: it holds the lock and answers."""

    def __init__(self, folder: Path, answer: Callable[[Request], Awaitable[Answer]]) -> None:
        """Serve `folder`, with what `answer` returns."""
        self._folder = folder
        self._answer = answer
        self._serving: set[asyncio.Task[None]] = set()
        self._lock: FileLock | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Take the folder and listen. Raises AlreadyRunning, StorageFailed."""
        try:
            self._lock = FileLock(self._folder / _LOCK)
        except DataLocked:
            holder = (self._folder / _LOCK).read_text(encoding="utf-8", errors="replace").strip()
            raise AlreadyRunning(
                f"the devnet in {self._folder} runs already (launcher: process {holder or 'unknown'}); "
                "`lockstep devnet status` shows it, `lockstep devnet down` stops it"
            ) from None
        # Only who has the lock comes here, so that what is there is what a killed launcher left.
        (self._folder / _SOCKET).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            with contextlib.chdir(self._folder):
                listening.bind(_SOCKET)
        finally:
            os.umask(mask)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_LINE_BYTES_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more, give the folder up, and let those go who wait for that."""
        assert self._server is not None, "the block was entered"
        assert self._lock is not None, "the block was entered"
        self._server.close()
        (self._folder / _SOCKET).unlink(missing_ok=True)
        self._lock.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None, "asyncio runs it as one"
        self._serving.add(serving)
        try:
            request = msgspec.json.decode(await reader.readline(), type=Request)
            writer.write(msgspec.json.encode(await self._answer(request)) + b"\n")
            await writer.drain()
            if request.do == "down":
                # Until the block ends.
                await asyncio.get_running_loop().create_future()
        except (asyncio.CancelledError, msgspec.MsgspecError, OSError, ValueError):
            # The block ends, or it is no client of this version, or it went away: closing tells it all that
            # there is to tell. Nothing comes after this, so that a cancellation has nothing else to stop.
            pass
        finally:
            self._serving.discard(serving)
            writer.close()


def ask(folder: Path, request: Request, *, timeout_ms: int = ANSWER_MS_MAX) -> Answer:
    """Ask the launcher of a devnet, and wait for its answer; after `down`, until it is gone.

    Blocks. Raises NotRunning, NoAnswer, OSError if the socket may not be used.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_ms / 1_000)
        try:
            # The path of a socket has about a hundred bytes at most; its name alone always fits.
            with contextlib.chdir(folder):
                connection.connect(_SOCKET)
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline(_LINE_BYTES_MAX)
                if request.do == "down":
                    answers.read()
        except TimeoutError:
            raise NoAnswer(f"the launcher of {folder} does not answer within {timeout_ms} ms") from None
        except (FileNotFoundError, NotADirectoryError, ConnectionError):
            raise NotRunning(f"no devnet runs in {folder}") from None
    if not line:
        raise NotRunning(f"the devnet in {folder} ended before it answered")
    return msgspec.json.decode(line, type=Answer)
