"""One fault in one process during a swap: every named point and every durable system call, in every mode.

A fault is counted out first (`count`): the same swap without it lists the points that the process passes and
the calls that it makes, from its start on. Then the process is started armed, so that the fault comes at that
very hit; the swap goes on beside it, with everybody else real and running; the process is started again, and
everything is checked (`Arena.verify`). Which faults are run is the campaign's.
"""

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge.client import SwapPhase
from deploy.demonstration.market import OpenSwap
from deploy.devnet.launcher import DevnetFailed
from deploy.devnet.network import BETA
from deploy.node.failpoints import COUNT_VARIABLE, FAILPOINTS, FAILPOINTS_VARIABLE
from tests.chaos.arena import KILLED, Arena
from tests.chaos.moments import MAKER, TAKER, TRADERS
from tests.chaos.traders import GIVE_AND_GET, Ended, Trader, proposed, verify_told
from tests.tools import shim
from tests.tools.shim import Operation

PROCESSES: Final = (*KILLED, TAKER, MAKER)
"""Whose points and calls there are."""

OUTCOMES: Final = (SwapPhase.COMMITTED, SwapPhase.ABORTED)
"""How the swap ends beside which a fault comes."""

CALL: Final = "call"
"""What stands for a point's name where the n-th durable system call is meant."""

DELAY: Final = "delay(200)"
LINGER: Final = "linger(200)"
"""Time enough for an answer that does not wait for the disk to be given before the process dies."""

STORAGE_FAILED: Final = 4
TRADER_FAILED: Final = 1
"""Exit codes of a process whose disk fails: a service's, and a trader's command's."""

END_S_MAX: Final = 30
"""Within how many seconds of a fault a service has ended and is back."""

NUDGES_MAX: Final = 40
"""Transfers after the swap for which a fault is waited that did not come within it."""

_STORAGE: Final = ("cell.", "database.", "file.")
"""Points at which a disk can fail."""


@dataclass(frozen=True)
class Fault:
    """What happens to whom."""

    process: str
    """The process, or TAKER or MAKER."""
    outcome: SwapPhase
    """How the swap beside it ends."""
    point: str
    """The failpoint, or CALL."""
    hit: int
    """The how-manieth pass of the point, or call, since the process was started; from 1."""
    mode: str
    """As LOCKSTEP_FAILPOINTS or the shim know it."""

    def __str__(self) -> str:
        return f"{self.process}/{self.outcome.name}/{self.point}@{self.hit}/{self.mode}"

    @property
    def is_call(self) -> bool:
        """Whether it is below Python."""
        return self.point == CALL

    @property
    def endings(self) -> frozenset[int | None]:
        """Exit codes that the process may end with; None: it may go on."""
        if "kill" in self.mode or self.mode in ("torn", LINGER):
            return frozenset({-signal.SIGKILL})
        if self.mode == DELAY:
            return frozenset({None})
        failed = TRADER_FAILED if self.process in TRADERS else STORAGE_FAILED
        # SQLite itself gets over some failed calls, such as the deletion of a log that it starts anew.
        return frozenset({failed, None} if self.is_call else {failed})


@dataclass(frozen=True)
class Counted:
    """What a process passes and calls in a swap."""

    points: Counter[str]
    """How often it passes each point."""
    calls: tuple[Operation, ...]
    """Its durable system calls, in order."""

    def faults(self, process: str, outcome: SwapPhase) -> Iterator[Fault]:
        """Yield every fault that there can be."""
        for point, hits in sorted(self.points.items()):
            for hit in range(1, hits + 1):
                for mode in modes_of(point):
                    yield Fault(process, outcome, point, hit, mode)
        for number, operation in enumerate(self.calls, start=1):
            for mode in shim.FAULTS:
                if mode != "torn" or operation is Operation.WRITE:
                    yield Fault(process, outcome, CALL, number, mode)


def modes_of(point: str) -> tuple[str, ...]:
    """Return what can happen at a failpoint."""
    torn = ("torn",) if point in FAILPOINTS.writes() else ()
    failing = ("error", "enospc", LINGER) if point.startswith(_STORAGE) else ()
    return ("kill", *torn, *failing, DELAY)


@dataclass(frozen=True)
class Trace:
    """The files in which an armed process leaves what it passed and called."""

    folder: Path
    """Where they are."""

    @property
    def hits(self) -> Path:
        """One line for each point that was passed."""
        return self.folder / "hits"

    @property
    def calls(self) -> Path:
        """A record of calls, as shim.c writes it."""
        return self.folder / "calls"

    def environ(self, watched: Path, fault: Fault | None) -> Mapping[str, str]:
        """Return what a process is armed with, after making the files."""
        for file in (self.hits, self.calls):
            file.touch()
        watched.mkdir(mode=0o700, parents=True, exist_ok=True)
        below = f"{fault.mode}@{fault.hit}" if fault is not None and fault.is_call else ""
        above = f"{fault.point}={fault.mode}@{fault.hit}" if fault is not None and not fault.is_call else ""
        armed = {COUNT_VARIABLE: str(self.hits), **({FAILPOINTS_VARIABLE: above} if above else {})}
        if is_shim_loaded():
            armed.update(shim.environment(watched, log=self.calls, fault=below))
        return armed

    def counted(self) -> Counted:
        """Return what it passed and called."""
        calls = tuple(call.operation for call in shim.read_record(self.calls))
        return Counted(Counter(self.hits.read_text().split()), calls)

    def has_come_to(self, fault: Fault) -> bool:
        """Answer whether the process came to where the fault is."""
        seen = self.counted()
        # A call that failed is not on the record, so that the last of these came after it.
        return len(seen.calls) >= fault.hit if fault.is_call else seen.points[fault.point] >= fault.hit


def is_shim_loaded() -> bool:
    """Answer whether forked processes have the library that sees system calls."""
    return "LD_PRELOAD" in os.environ


async def count(arena: Arena, process: str, outcome: SwapPhase) -> Counted:
    """Return what a process passes and calls in a swap without any fault."""
    trace = _new_trace(arena)
    await _run(arena, process, outcome, trace, None)
    return trace.counted()


@dataclass(frozen=True)
class Struck:
    """What came of a fault after which everything held."""

    has_come: bool
    """Whether it came: a process may pass a point less often than when it was counted."""
    exit_code: int | None
    """What the process ended with; None if it went on."""


async def strike(arena: Arena, fault: Fault) -> Struck:
    """Have a fault come during a swap, and check everything.

    Raises AssertionError, and what waiting in vain raises, if something does not hold.
    """
    trace = _new_trace(arena)
    ending = await _run(arena, fault.process, fault.outcome, trace, fault)
    if ending is None and not trace.has_come_to(fault):
        return Struck(has_come=False, exit_code=None)
    assert ending in fault.endings, f"{fault.process} ended with {ending}, not {set(fault.endings)}"
    return Struck(has_come=True, exit_code=ending)


def _new_trace(arena: Arena) -> Trace:
    """Return a trace of its own: a process that was armed before may still write to its old one."""
    return Trace(Path(tempfile.mkdtemp(prefix="trace-", dir=arena.devnet.network.folder)))


async def _run(
    arena: Arena, process: str, outcome: SwapPhase, trace: Trace, fault: Fault | None
) -> int | None:
    """Swap beside a process that is armed, check everything, and return what it ended with, if it did."""
    await arena.acknowledge_some()
    before = await arena.tip()
    log = _needs_log(process, fault)
    if process in TRADERS:
        armed = trace.environ(arena.devnet.network.folder / "wallet", fault)
        swap, ending = await _trade(arena, process, outcome, armed)
        await arena.verify(swap, outcome, before=before, log=log)
        return ending
    armed = trace.environ(arena.devnet.network.data_folder(process), fault)
    async with _serving(arena, process, armed) as service:
        swap = await arena.swap(outcome)
        if fault is not None and None not in fault.endings:
            await _nudge(arena, service)
        await arena.verify(swap, outcome, before=before, log=log)
        if fault is not None and None not in fault.endings and trace.has_come_to(fault):
            # It may have come this very moment, and the service not have ended yet.
            async with asyncio.timeout(END_S_MAX):
                await service.back.wait()
    return service.ending


def _needs_log(process: str, fault: Fault | None) -> bool:
    """Answer whether the swap is to be waited for in the settlement log too."""
    parts = ("anchor", "commitment", "settlement")
    return fault is None or process == "settlement" or any(part in fault.point for part in parts)


# --- a service ----------------------------------------------------------------------------------------------


@dataclass
class _Service:
    """A service that was started armed."""

    ending: int | None = None
    """What it ended with."""
    back: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was started again since."""


@asynccontextmanager
async def _serving(arena: Arena, process: str, armed: Mapping[str, str]) -> AsyncIterator[_Service]:
    """Restart a service armed, and again, not armed, once it ended; at the end of the block in any case."""
    devnet, service = arena.devnet, _Service()

    async def live() -> None:
        # It may end before it is ready.
        with suppress(DevnetFailed):
            await devnet.start(process)
        service.ending = await devnet.ended(process)
        await devnet.start(process)
        service.back.set()

    await devnet.kill(process)
    arena.forks.arming[str(devnet.network.settings_file(process))] = armed
    living = asyncio.ensure_future(live())
    try:
        yield service
        if service.ending is not None:
            await living
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
    if service.ending is None:
        await devnet.restart(process)


async def _nudge(arena: Arena, service: _Service) -> None:
    """Keep the chain going until the fault has come and the service is back, but not for ever."""
    for _ in range(NUDGES_MAX):
        if service.back.is_set():
            return
        await arena.transfer(BETA, "bob", "carol", 1)


# --- a trader -----------------------------------------------------------------------------------------------


async def _trade(
    arena: Arena, process: str, outcome: SwapPhase, armed: Mapping[str, str]
) -> tuple[OpenSwap, int | None]:
    """Swap by the command line, one side of it armed, which resumes when it ended too early."""
    taker, maker = (Trader(arena, TRADERS[name]) for name in (TAKER, MAKER))
    endings: list[int | None] = []

    async def drive(name: str, trader: Trader, *words: str) -> None:
        if name == process:
            arena.forks.arming[trader.name] = armed
        ended = await trader.type(*words)
        if name == process and _is_early(ended):
            endings.append(ended.exit_code)
            ended = await _resume(trader, words)
        verify_told(ended, outcome)

    proposal = ("propose", *GIVE_AND_GET[taker.name], "--with", maker.name)
    terms = GIVE_AND_GET[maker.name]
    async with asyncio.TaskGroup() as group:
        if outcome is SwapPhase.COMMITTED:
            group.create_task(drive(TAKER, taker, *proposal, "--wait"))
        else:
            await taker.type(*proposal)
        swap_id = await proposed(arena, taker)
        group.create_task(drive(MAKER, maker, "accept", swap_id, *terms, "--wait"))
        swap = taker.open_swap()
        if outcome is SwapPhase.ABORTED:
            await arena.swap_is(swap, lambda view: view.phase is SwapPhase.LOCKED, "locked")
            group.create_task(drive(TAKER, taker, "cancel", swap_id))
    return swap, endings[0] if endings else None


def _is_early(ended: Ended) -> bool:
    """Answer whether a command ended before its swap did."""
    return ended.told is None or ended.told.get("outcome") not in {outcome.name for outcome in OUTCOMES}


async def _resume(trader: Trader, words: tuple[str, ...]) -> Ended:
    swap = trader.newest()
    if swap is None or words[0] == "cancel":
        # Nothing was recorded, and so nothing was sent; or perhaps not, and then resuming would reveal.
        return await trader.type(*words)
    return await trader.type("resume", swap.swap_id.hex())
