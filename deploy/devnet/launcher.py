"""The processes of a devnet: started, waited for, killed, paused, stopped.

Owns their lifetimes. Does not own what they do, nor the folder that they run in. Invariant: none outlives
the launcher, whether it ends by itself, by Ctrl-C or by SIGKILL (`deploy.devnet.guard`). No terminal sends
them its Ctrl-C, so that the launcher stops them in order.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

from deploy.devnet.network import PROCESS_NAMES, PROCESSES, Network, ProcessKind
from deploy.devnet.patience import patiently
from deploy.node.failpoints import FAILPOINTS_VARIABLE
from deploy.node.settings import ENVIRONMENT_PREFIX

START_MS_MAX: Final = 30_000
"""How long a process may take until it says that it is ready, not counting that it gets no processor."""

STOP_MS_MAX: Final = 10_000
"""How long a process may take to stop when asked to; then it is killed."""

_TAIL_LINES: Final = 25
_GUARD: Final = Path(__file__).with_name("guard.py")

_Result = TypeVar("_Result")

Say = Callable[[str], None]
"""Is told, in words, what is going on."""


class DevnetFailed(Exception):
    """A process did not do what it was started for; the message names it and ends with its log."""


class KilledEarly(DevnetFailed):
    """A process was killed by a signal, not by us, before it was ready."""


class Child(Protocol):
    """A process that was started, as asyncio's subprocesses are."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """What it writes on stdout."""

    async def wait(self) -> int:
        """Wait until it ends and return its exit code."""

    def send_signal(self, signal: int) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """SIGKILL it."""

    def terminate(self) -> None:
        """SIGTERM it."""


class Spawn(Protocol):
    """How a process is started."""

    async def __call__(
        self, module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int, group: int
    ) -> Child:
        """Start `python -m MODULE ARGUMENTS` in a process group, with a pipe for its stdout."""


async def execute(
    module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int, group: int
) -> Child:
    """Start a process as everybody does; see Spawn."""
    return await asyncio.create_subprocess_exec(
        # -P: no folder that happens to be the current one hides a package.
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=stderr,
        env=environ,
        process_group=group,
    )


def _say_nothing(_: str) -> None:
    pass


@asynccontextmanager
async def running(
    network: Network,
    *,
    only: Collection[str] = PROCESS_NAMES,
    extra: Sequence[ProcessKind] = (),
    say: Say = _say_nothing,
    spawn: Spawn = execute,
    ready_ms: int = START_MS_MAX,
) -> AsyncIterator["Devnet"]:
    """Run the processes of a network, all or `only` some, while the `async with` block lasts.

    Others can be started later, and `extra` ones, which have settings in the network's folder and are
    stopped before all others. `spawn` is how a process is started, `ready_ms` how long it may take until it
    is ready. Raises DevnetFailed.
    """
    guard = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(_GUARD)), stdin=PIPE, process_group=0
    )
    devnet = Devnet(network, guard.pid, spawn, extra, ready_ms)
    try:
        for stage in sorted({kind.stage for kind in PROCESSES}):
            names = [kind.name for kind in PROCESSES if kind.stage == stage and kind.name in only]
            if not names:
                continue
            say(f"starting {', '.join(names)}")
            for outcome in await asyncio.gather(*map(devnet.start, names), return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        yield devnet
    finally:
        try:
            say("stopping")
            await devnet.stop()
        finally:
            assert guard.stdin is not None, "it was made with a pipe"
            guard.stdin.close()
            await guard.wait()


class Devnet:
    """The processes of a network; see `running`."""

    def __init__(
        self,
        network: Network,
        group: int,
        spawn: Spawn,
        extra: Sequence[ProcessKind] = (),
        ready_ms: int = START_MS_MAX,
    ) -> None:
        self.network = network
        """The folder that they run in."""
        self._kinds = {kind.name: kind for kind in (*PROCESSES, *extra)}
        self.group = group
        """The process group of all that is started, which ends with the launcher, whatever ends that."""
        self._spawn_child = spawn
        self._ready_ms = ready_ms
        self._processes: dict[str, Child] = {}
        self._ended_by_us: set[int] = set()
        self._started = asyncio.Event()

    async def start(self, name: str, *, failpoints: str = "") -> Mapping[str, object]:
        """Start a process that does not run, and return what it says when it is ready.

        `failpoints` arms points in it, as LOCKSTEP_FAILPOINTS does. Raises DevnetFailed if it ends before it
        is ready or takes too long; it is killed then.
        """
        assert not self.is_running(name), f"{name} runs already"
        process = await self._spawn(self._kinds[name], failpoints)
        self._processes[name] = process
        self._started.set()
        self._started = asyncio.Event()
        assert process.stdout is not None, "it was made with a pipe"
        try:
            line = await patiently(process.stdout.readline(), self._ready_ms, (process.pid,))
        except TimeoutError:
            await self.kill(name)
            raise self.failure(name, f"was not ready within {self._ready_ms} ms") from None
        if not line:
            code = await process.wait()
            failure = self.failure(name, f"ended with exit code {code} before it was ready")
            raise KilledEarly(*failure.args) if code < 0 else failure
        ready: Mapping[str, object] = json.loads(line)["ready"]
        return ready

    async def kill(self, name: str) -> None:
        """SIGKILL a process, paused or not, and wait until it is gone. Nothing if it is gone already."""
        process = self._processes[name]
        self._ended_by_us.add(process.pid)
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def terminate(self, name: str) -> int:
        """SIGTERM a process and return its exit code; SIGKILL it after STOP_MS_MAX."""
        process = self._processes[name]
        self._ended_by_us.add(process.pid)
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            async with asyncio.timeout(STOP_MS_MAX / 1_000):
                return await process.wait()
        except TimeoutError:
            await self.kill(name)
            return await process.wait()

    async def restart(self, name: str, *, failpoints: str = "") -> Mapping[str, object]:
        """SIGKILL a process and start it again, on the same data and port."""
        await self.kill(name)
        return await self.start(name, failpoints=failpoints)

    def pause(self, name: str) -> None:
        """SIGSTOP a process: it keeps its connections and answers nothing."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT a process that was paused. Nothing if it runs or is gone."""
        if self.is_running(name):
            self._processes[name].send_signal(signal.SIGCONT)

    async def ended(self, name: str) -> int:
        """Wait until a process ends and return its exit code, or minus the signal that killed it."""
        return await self._processes[name].wait()

    async def watched(self, work: Awaitable[_Result]) -> _Result:
        """Return what `work` returns, unless a process that nobody here ended does so: then DevnetFailed."""
        working, ending = asyncio.ensure_future(work), asyncio.ensure_future(self.first_ended())
        try:
            await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                name = ending.result()
                raise self.failure(name, f"ended by itself with exit code {await self.ended(name)}")
            return working.result()
        finally:
            working.cancel()
            ending.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def first_ended(self) -> str:
        """Wait until a process ends that nobody here ended, and return its name."""
        while True:
            names = {
                asyncio.ensure_future(process.wait()): name
                for name, process in self._processes.items()
                if process.pid not in self._ended_by_us
            }
            started = asyncio.ensure_future(self._started.wait())
            try:
                done, _ = await asyncio.wait((*names, started), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in (*names, started):
                    wait.cancel()
                await asyncio.gather(*names, started, return_exceptions=True)
            for name in (names[wait] for wait in done if wait in names):
                if self.pid(name) not in self._ended_by_us:
                    return name

    def is_running(self, name: str) -> bool:
        """Answer whether a process was started and has not ended."""
        process = self._processes.get(name)
        return process is not None and process.returncode is None

    def pid(self, name: str) -> int:
        """Return the pid of a process that was started."""
        return self._processes[name].pid

    async def stop(self) -> None:
        """Stop all processes, the last stage first."""
        kinds = self._kinds.values()
        for stage in sorted({kind.stage for kind in kinds}, reverse=True):
            names = [kind.name for kind in kinds if kind.stage == stage and kind.name in self._processes]
            await asyncio.gather(*map(self.terminate, names))

    def log_tail(self, name: str, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of a process's log."""
        log = self.network.log_file(name)
        if not log.exists():
            return "(it has no log)"
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def failure(self, name: str, what: str) -> DevnetFailed:
        """Return the error that says what a process did wrong, with the end of its log."""
        log = self.network.log_file(name)
        return DevnetFailed(f"{name} {what}; its log, {log}, ends with:\n{self.log_tail(name)}")

    async def _spawn(self, kind: ProcessKind, failpoints: str) -> Child:
        # The settings file says everything; what the caller's environment sets is for other processes.
        environ = {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
        if failpoints:
            environ[FAILPOINTS_VARIABLE] = failpoints
        settings = ("--config", str(self.network.settings_file(kind.name)))
        with self.network.log_file(kind.name).open("ab") as log:
            return await self._spawn_child(
                kind.module, settings, environ=environ, stderr=log.fileno(), group=self.group
            )
