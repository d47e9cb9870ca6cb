"""A machine that is busy is told from a process that hangs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploy.devnet.patience import PATIENCE, Stopwatch, patiently, starved_ms

DEADLINE_S = 30


@contextmanager
def child(code: str) -> Iterator[int]:
    """A process of Python that runs some code on the first processor that there is."""
    with subprocess.Popen((sys.executable, "-S", "-c", code)) as process:
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        try:
            yield process.pid
        finally:
            process.kill()


async def test_who_shares_a_processor_with_others_has_waited_for_it() -> None:
    if not Path(f"/proc/{os.getpid()}/schedstat").exists():
        assert starved_ms(os.getpid()) == 0, "a kernel that does not tell"
        return
    with ExitStack() as stack:
        pids = [stack.enter_context(child("while True: pass")) for _ in range(3)]
        watch, deadline_s = Stopwatch(pids), time.monotonic() + DEADLINE_S
        while watch.starved_ms < 100:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)
        assert watch.own_ms < watch.real_ms


async def test_who_stands_still_is_not_waited_for_longer_than_the_limit() -> None:
    with child("import time; time.sleep(1_000)") as pid:
        os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.Event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DEADLINE_S):
                await patiently(waiting.wait(), 1, (pid,))


async def test_who_gets_no_processor_is_waited_for_longer_but_not_for_ever() -> None:
    looks = 0

    def all_the_time(_: int) -> int:
        nonlocal looks
        looks += 1
        return looks * 1_000

    with pytest.raises(TimeoutError):
        await patiently(asyncio.Event().wait(), 100, (1,), starved=all_the_time)
    # Without its hunger the second look, after 100 ms, would have been the last.
    assert looks > PATIENCE / 2


async def test_an_answer_is_passed_on_and_so_is_an_error() -> None:
    async def answer() -> str:
        return "ready"

    async def fail() -> str:
        raise ValueError("it broke")

    assert await patiently(answer(), 1, ()) == "ready"
    with pytest.raises(ValueError, match="it broke"):
        await patiently(fail(), 1_000, ())


def test_who_is_gone_has_not_waited() -> None:
    with subprocess.Popen((sys.executable, "-S", "-c", "")) as process:
        process.wait()
    assert starved_ms(process.pid) == 0
    told = iter((50, 0))
    assert Stopwatch((process.pid,), lambda _: next(told)).starved_ms == 0
