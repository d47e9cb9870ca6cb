"""How long processes are waited for: what tells a machine that is busy from a process that hangs.

Time in which a process was ready to run and got no processor is not its own, and does not count. Linux tells
it (`/proc/PID/task/*/schedstat`); where it does not, real time counts. A process that hangs is not ready to
run, so that all time counts for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final, TypeVar

PATIENCE: Final = 10
"""How many times as long a process is waited for in real time at most, however busy the machine is."""

_LOOK_MS: Final = 50
_NS_IN_MS: Final = 1_000_000

_Result = TypeVar("_Result")


def starved_ms(pid: int) -> int:
    """Return for how long that thread of a process which got least has waited for a processor so far.

    In milliseconds; 0 for a process that is gone, and where the kernel does not tell.
    """
    return max(map(_waited_ns, Path(f"/proc/{pid}/task").glob("*/schedstat")), default=0) // _NS_IN_MS


def _waited_ns(schedstat: Path) -> int:
    try:
        return int(schedstat.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        # A thread that has just ended.
        return 0


class Stopwatch:
    """Measures from now on, in real time and without that in which processes got no processor."""

    def __init__(self, pids: Collection[int], starved: Callable[[int], int] = starved_ms) -> None:
        self._starved = starved
        self._before_ms = {pid: starved(pid) for pid in pids}
        self._started_s = time.monotonic()

    @property
    def real_ms(self) -> int:
        """Real time since the start."""
        return round((time.monotonic() - self._started_s) * 1_000)

    @property
    def starved_ms(self) -> int:
        """How much of it that process was starved which was starved most."""
        spans = (self._starved(pid) - before_ms for pid, before_ms in self._before_ms.items())
        # Who ended meanwhile tells nothing any more.
        return min(max((0, *spans)), self.real_ms)

    @property
    def own_ms(self) -> int:
        """How much of it counts."""
        return self.real_ms - self.starved_ms


async def patiently(
    work: Awaitable[_Result],
    limit_ms: int,
    pids: Collection[int],
    *,
    starved: Callable[[int], int] = starved_ms,
) -> _Result:
    """Return what `work` returns, which waits for processes. Raises TimeoutError if they had `limit_ms`.

    In real time it waits `PATIENCE` times as long at most.
    """
    watch, working = Stopwatch(pids, starved), asyncio.ensure_future(work)
    try:
        while not working.done():
            left_ms = min(limit_ms - watch.own_ms, PATIENCE * limit_ms - watch.real_ms)
            if left_ms <= 0:
                raise TimeoutError
            await asyncio.wait((working,), timeout=max(left_ms, _LOOK_MS) / 1_000)
        return working.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
