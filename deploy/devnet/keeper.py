"""Keeps the processes of a running devnet alive, and does to them what people ask for.

Owns what becomes of each process: one that is killed is started again, unless somebody wants it to stay dead.
Does not own how a process is started or ended, which is the launcher's. A process that ends by itself ends
the keeping: nobody asked for that.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from deploy.devnet.launcher import Devnet, DevnetFailed, KilledEarly
from deploy.devnet.network import PROCESS_NAMES


class State(StrEnum):
    """Where a process stands."""

    STARTING = "starting"
    """For the first time; not ready yet."""
    RUNNING = "running"
    """Ready, as far as anybody knows."""
    PAUSED = "paused"
    """Stopped by SIGSTOP: it holds its connections and answers nothing."""
    STOPPED = "stopped"
    """Dead, and to stay so until somebody starts it or its time is over."""
    RESTARTING = "restarting"
    """Dead, and being started; not ready yet."""


class NotNow(Exception):
    """A process is not in the state in which that can be done to it; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process."""

    name: str
    """The process."""
    kind: str
    """`killed`, `held`, `ended`, `back`, `paused` or `resumed`."""
    text: str
    """It, in a sentence."""


@dataclass(frozen=True, slots=True)
class Hold:
    """For how long a process that ends is left dead."""

    hold_ms: int | None
    """Milliseconds; None is until somebody starts it."""


@dataclass(slots=True)
class _Kept:
    """What is known of one process."""

    state: State = State.RUNNING
    since_s: float = field(default_factory=time.time)
    hold: Hold | None = None
    """What is to become of it when it ends next; None for being started again."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends the hold."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Is set, and made anew, when the state changes."""


_AT_ONCE: Final = Hold(0)


class Keeper:
    """The keeping of a devnet all of whose processes run."""

    def __init__(self, devnet: Devnet, tell: Callable[[Event], None]) -> None:
        """Keep `devnet`, and `tell` what happens to its processes."""
        self._devnet = devnet
        self._tell = tell
        self._kept = {name: _Kept() for name in PROCESS_NAMES}

    def state(self, name: str) -> tuple[State, float]:
        """Return where a process stands, and since when in seconds of the epoch."""
        kept = self._kept[name]
        return kept.state, kept.since_s

    async def keep(self) -> None:
        """Keep all processes alive, for ever. Raises DevnetFailed when one ends by itself or cannot start."""
        try:
            async with asyncio.TaskGroup() as group:
                for name in PROCESS_NAMES:
                    group.create_task(self._keep(name))
        except ExceptionGroup as group:
            failed = group.exceptions[0]
            # Several may end at once, of the same cause; a defect is told whole.
            raise failed if isinstance(failed, DevnetFailed) else group from None

    # --- what people ask for ------------------------------------------------------------------------------

    async def kill(self, names: Sequence[str], hold: Hold | None) -> None:
        """SIGKILL processes; with a `hold` they stay dead so long, else they are started again.

        Returns when they are dead. Raises NotNow.
        """
        self._require(names, State.RUNNING, State.PAUSED)
        noticed = [self._kept[name].changed for name in names]
        for name in names:
            self._kept[name].hold = hold
        await asyncio.gather(*map(self._devnet.kill, names))
        for changed in noticed:
            await changed.wait()

    def pause(self, names: Sequence[str]) -> None:
        """SIGSTOP processes. Raises NotNow."""
        self._require(names, State.RUNNING, State.PAUSED)
        for name in names:
            self._devnet.pause(name)
            self._enter(name, State.PAUSED)
            self._tell(Event(name, "paused", f"{name} is paused"))

    def resume(self, names: Sequence[str]) -> None:
        """SIGCONT processes; nothing to those that run. Raises NotNow."""
        self._require(names, State.RUNNING, State.PAUSED)
        for name in names:
            self._devnet.resume(name)
            if self._kept[name].state is State.PAUSED:
                self._enter(name, State.RUNNING)
                self._tell(Event(name, "resumed", f"{name} goes on"))

    async def restart(self, names: Sequence[str]) -> None:
        """Stop processes in order, where they run, and start them; return when they are ready.

        Raises NotNow.
        """
        self._require(names, State.RUNNING, State.PAUSED, State.STOPPED)
        await asyncio.gather(*map(self._restart, names))

    async def _restart(self, name: str) -> None:
        kept = self._kept[name]
        if kept.state is State.STOPPED:
            kept.release.set()
        else:
            kept.hold = _AT_ONCE
            await self._devnet.terminate(name)
        while kept.state is not State.RUNNING or not self._devnet.is_running(name):
            await kept.changed.wait()

    def _require(self, names: Sequence[str], *states: State) -> None:
        for name in names:
            state = self._kept[name].state
            if state not in states:
                what = {
                    State.STOPPED: f"is dead and stays so; `lockstep devnet restart {name}` starts it",
                    State.RESTARTING: "is just being started; try again when it runs",
                }.get(state, f"is {state}")
                raise NotNow(f"{name} {what}")

    # --- the keeping --------------------------------------------------------------------------------------

    async def _keep(self, name: str) -> None:
        kept = self._kept[name]
        while True:
            code = await self._devnet.ended(name)
            hold, kept.hold = kept.hold, None
            if hold is None and code >= 0:
                raise self._devnet.failure(name, f"ended by itself with exit code {code}")
            how = f"was killed by signal {-code}" if code < 0 else "ended as it was asked to"
            if hold is not None and hold is not _AT_ONCE:
                await self._stay_dead(name, hold, how)
            else:
                self._tell(Event(name, "killed" if code < 0 else "ended", f"{name} {how}; starting it again"))
            await self._start(name)

    async def _stay_dead(self, name: str, hold: Hold, how: str) -> None:
        kept = self._kept[name]
        kept.release.clear()
        self._enter(name, State.STOPPED)
        if hold.hold_ms is None:
            until, wait_s = f"until `lockstep devnet restart {name}`", None
        else:
            until, wait_s = f"for {hold.hold_ms / 1_000:g} s", hold.hold_ms / 1_000
        self._tell(Event(name, "held", f"{name} {how}; it stays dead {until}"))
        try:
            async with asyncio.timeout(wait_s):
                await kept.release.wait()
        except TimeoutError:
            pass

    async def _start(self, name: str) -> None:
        self._enter(name, State.RESTARTING)
        while True:
            try:
                await self._devnet.start(name)
                break
            except KilledEarly:
                self._tell(Event(name, "killed", f"{name} was killed before it was ready; starting it again"))
        self._enter(name, State.RUNNING)
        self._tell(Event(name, "back", f"{name} is back: process {self._devnet.pid(name)}"))

    def _enter(self, name: str, state: State) -> None:
        kept = self._kept[name]
        kept.state, kept.since_s = state, time.time()
        kept.changed.set()
        kept.changed = asyncio.Event()
