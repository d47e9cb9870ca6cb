"""A devnet that runs until it is told to stop, by a signal or by another process, and does what it is told.

Owns what `lockstep devnet up` is, without what is shown of it.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal

from deploy.devnet.control import Answer, ControlServer, ProcessReport, Request
from deploy.devnet.keeper import Event, Hold, Keeper, NotNow, State
from deploy.devnet.launcher import Devnet, Say, running
from deploy.devnet.network import PROCESS_NAMES, Network

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end it in order."""


async def run_session(
    network: Network, *, say: Say, ready: Callable[[Answer], None], tell: Callable[[Event], None]
) -> None:
    """Run a network until it is told to stop.

    `say` is told what is being waited for, `ready` is called once with all processes when they run, `tell`
    with what happens to them. Raises DevnetFailed when a process ends by itself, AlreadyRunning,
    StorageFailed.
    """
    session = _Session()
    loop = asyncio.get_running_loop()
    for number in _STOPPING:
        loop.add_signal_handler(number, session.stopping.set)
    async with ControlServer(network.folder, session.answer), running(network, say=say) as devnet:
        keeper = session.start(devnet, tell)
        ready(session.report())
        try:
            await first_of(keeper.keep(), session.stopping.wait())
        finally:
            session.stop()


class _Session:
    """What becomes of one run, and what it answers."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        """Set by whoever wants it to stop."""
        self._stage: Literal["starting", "running", "stopping"] = "starting"
        self._since_s = time.time()
        self._left_start = asyncio.Event()
        self._devnet: Devnet | None = None
        self._keeper: Keeper | None = None

    def start(self, devnet: Devnet, tell: Callable[[Event], None]) -> Keeper:
        """Note that all processes run, and return who keeps them."""
        self._devnet, self._keeper, self._stage = devnet, Keeper(devnet, tell), "running"
        self._left_start.set()
        return self._keeper

    def stop(self) -> None:
        """Note that they are being stopped."""
        self._stage, self._since_s = "stopping", time.time()

    def report(self, refusal: str = "") -> Answer:
        """Return how everything stands."""
        return Answer(os.getpid(), self._stage, tuple(map(self._report_one, PROCESS_NAMES)), refusal)

    def _report_one(self, name: str) -> ProcessReport:
        if self._devnet is None or self._keeper is None:
            return ProcessReport(name, State.STARTING, self._since_s)
        pid = self._devnet.pid(name) if self._devnet.is_running(name) else None
        if self._stage == "stopping":
            return ProcessReport(name, State.STOPPED, self._since_s, pid)
        state, since_s = self._keeper.state(name)
        return ProcessReport(name, state, since_s, pid)

    async def answer(self, request: Request) -> Answer:
        """Do what is asked for and return how everything stands then."""
        match request.do:
            case "status":
                return self.report()
            case "ready":
                await self._left_start.wait()
                return self.report()
            case "down":
                self.stopping.set()
                return self.report()
        if self._keeper is None or self._stage != "running":
            return self.report(f"the devnet is just {self._stage}; try again when that is done")
        if unknown := set(request.names) - set(PROCESS_NAMES):
            return self.report(f"there is no process {min(unknown)}; there are: {', '.join(PROCESS_NAMES)}")
        try:
            await self._act(self._keeper, request)
        except NotNow as refusal:
            return self.report(str(refusal))
        return self.report()

    @staticmethod
    async def _act(keeper: Keeper, request: Request) -> None:
        match request.do:
            case "kill":
                await keeper.kill(request.names, Hold(request.hold_ms) if request.is_held else None)
            case "pause":
                keeper.pause(request.names)
            case "resume":
                keeper.resume(request.names)
            case "restart":
                await keeper.restart(request.names)


async def first_of(*work: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them ends, end the others, and raise what ended it."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
