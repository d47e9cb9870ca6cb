"""Processes of a network that are forked from one that has imported everything (`fork_server`).

Owns the server and what is known of its children, each of which is used like a process of asyncio's. A
service starts several times as fast so, which is what lets a kill test have hundreds of cases.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

from tests.chaos.fork_server import ORDER_BYTES_MAX

START_S_MAX = 60
"""How long the server may take to import everything."""


class ForkedProcess:
    """A child of the server."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader | None) -> None:
        self.pid = pid
        """Its process id."""
        self.stdout = stdout
        """What it writes on stdout."""
        self.stderr = stderr
        """What it writes on stderr; None if that goes to a file."""
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        return self._exit_code.result() if self._exit_code.done() else None

    async def wait(self) -> int:
        """Wait until it ends and return its exit code."""
        return await asyncio.shield(self._exit_code)

    def send_signal(self, number: int) -> None:
        """Send a signal to it. Nothing if it ended."""
        if self.returncode is None:
            # It may have ended without our being told so yet.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL it. Nothing if it ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM it. Nothing if it ended."""
        self.send_signal(signal.SIGTERM)

    def ended(self, exit_code: int) -> None:
        """Note that it ended: for the server alone to call."""
        self._exit_code.set_result(exit_code)


class ForkServer:
    """The server, running; `fork_server` starts one."""

    def __init__(self, orders: socket.socket) -> None:
        self.ready = asyncio.Event()
        """Set once everything is imported."""
        self.arming: dict[str, Mapping[str, str]] = {}
        """What is added to the environment of a process that is started, by a word among its arguments: its
        settings file, or a trader's name. Each is for the next such process alone."""
        self._orders = orders
        self._children: dict[int, ForkedProcess] = {}
        self._forked: asyncio.Queue[int] = asyncio.Queue()
        self._early: dict[int, int] = {}
        self._one_at_a_time = asyncio.Lock()

    async def fork(
        self, module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int | None = None
    ) -> ForkedProcess:
        """Have a child run `main` of a module. `stderr` is a descriptor for it; without one it is a pipe."""
        armed = next((self.arming.pop(word) for word in arguments if word in self.arming), {})
        order = {"module": module, "arguments": list(arguments), "environ": {**environ, **armed}}
        with ExitStack() as after:
            stdout, out = await _pipe(after)
            errors, err = (None, stderr) if stderr is not None else await _pipe(after)
            async with self._one_at_a_time:
                socket.send_fds(self._orders, [json.dumps(order).encode()], [out, err])
                pid = await self._forked.get()
        process = ForkedProcess(pid, stdout, errors)
        self._children[pid] = process
        if pid in self._early:
            self._told({"pid": pid, "exit_code": self._early.pop(pid)})
        return process

    async def spawn(
        self, module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int, group: int
    ) -> ForkedProcess:
        """Start a service; see `launcher.Spawn`. Its group is not needed: it ends with the server."""
        return await self.fork(f"{module}.__main__", arguments, environ=environ, stderr=stderr)

    def read(self) -> None:
        """Take one message of the server."""
        message = self._orders.recv(ORDER_BYTES_MAX)
        if message:
            self._told(json.loads(message))
        else:
            asyncio.get_running_loop().remove_reader(self._orders)

    def _told(self, told: Mapping[str, int]) -> None:
        match told:
            case {"ready": _}:
                self.ready.set()
            case {"pid": pid, "exit_code": exit_code}:
                # A child may end before whoever asked for it has been told that it began.
                if pid in self._children:
                    self._children.pop(pid).ended(exit_code)
                else:
                    self._early[pid] = exit_code
            case {"pid": pid}:
                self._forked.put_nowait(pid)


@asynccontextmanager
async def fork_server() -> AsyncIterator[ForkServer]:
    """Run a server while the `async with` block lasts. At its end no child is left."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.fork_server", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # No terminal sends it its Ctrl-C.
                start_new_session=True,
            )
        server = ForkServer(ours)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, server.read)
        try:
            async with asyncio.timeout(START_S_MAX):
                await server.ready.wait()
            yield server
        finally:
            loop.remove_reader(ours)
            ours.shutdown(socket.SHUT_WR)
            await process.wait()


async def _pipe(after: ExitStack) -> tuple[asyncio.StreamReader, int]:
    """Return a pipe's two ends; the one to write to is closed with `after`."""
    reading, writing = os.pipe()
    after.callback(os.close, writing)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    return reader, writing
