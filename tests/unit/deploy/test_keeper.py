"""The keeper of processes that end when a test says so; real ones would have to be caught in the act."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from deploy.devnet.keeper import Event, Hold, Keeper, NotNow, State
from deploy.devnet.launcher import Devnet, DevnetFailed, KilledEarly
from deploy.devnet.network import PROCESS_NAMES

NAME = PROCESS_NAMES[0]


class Processes:
    """A devnet without processes: each ends when a test says so."""

    def __init__(self) -> None:
        self.ends: dict[str, asyncio.Future[int]] = {}
        self.starts: list[str] = []
        self.failures: list[DevnetFailed] = []
        for name in PROCESS_NAMES:
            self.ends[name] = asyncio.get_running_loop().create_future()

    async def ended(self, name: str) -> int:
        return await asyncio.shield(self.ends[name])

    async def start(self, name: str) -> None:
        self.starts.append(name)
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.ends[name] = asyncio.get_running_loop().create_future()

    async def kill(self, name: str) -> None:
        self.ends[name].set_result(-9)

    async def terminate(self, name: str) -> int:
        self.ends[name].set_result(0)
        return 0

    def is_running(self, name: str) -> bool:
        return not self.ends[name].done()

    def pid(self, name: str) -> int:
        return len(self.starts)

    def failure(self, name: str, what: str) -> DevnetFailed:
        return DevnetFailed(f"{name} {what}")


class Kept:
    """A keeper at work, and what it told."""

    def __init__(self) -> None:
        self.processes = Processes()
        self.told: list[Event] = []
        self.more = asyncio.Event()
        self.keeper = Keeper(cast("Devnet", self.processes), self.tell)

    def tell(self, event: Event) -> None:
        self.told.append(event)
        self.more.set()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.told]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self.more.clear()
                await self.more.wait()


@asynccontextmanager
async def keeping() -> AsyncIterator[Kept]:
    kept = Kept()
    work = asyncio.ensure_future(kept.keeper.keep())
    await asyncio.sleep(0)
    try:
        yield kept
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_one_that_is_killed_while_it_starts_is_started_again() -> None:
    async with keeping() as kept:
        kept.processes.failures = [KilledEarly("killed"), KilledEarly("killed")]
        await kept.processes.kill(NAME)
        await kept.until(lambda: kept.kinds()[-1:] == ["back"])
        assert kept.kinds() == ["killed", "killed", "killed", "back"]
        assert kept.processes.starts == [NAME] * 3


async def test_one_that_cannot_start_ends_the_keeping() -> None:
    kept = Kept()
    kept.processes.failures = [DevnetFailed("it cannot")]
    await kept.processes.kill(NAME)
    with pytest.raises(DevnetFailed, match="it cannot"):
        await kept.keeper.keep()


async def test_one_that_ends_by_itself_ends_the_keeping() -> None:
    kept = Kept()
    await kept.processes.terminate(NAME)
    with pytest.raises(DevnetFailed, match="ended by itself with exit code 0"):
        await kept.keeper.keep()


async def test_nothing_can_be_done_to_one_that_is_just_being_started() -> None:
    async with keeping() as kept:
        await kept.keeper.kill([NAME], None)
        assert kept.keeper.state(NAME)[0] is State.RESTARTING
        with pytest.raises(NotNow, match="is just being started"):
            await kept.keeper.kill([NAME], None)
        await kept.until(lambda: kept.keeper.state(NAME)[0] is State.RUNNING)


async def test_a_restart_ends_a_hold_before_its_time() -> None:
    async with keeping() as kept:
        await kept.keeper.kill([NAME], Hold(3_600_000))
        assert kept.keeper.state(NAME)[0] is State.STOPPED
        with pytest.raises(NotNow, match=f"lockstep devnet restart {NAME}"):
            kept.keeper.pause([NAME])
        await kept.keeper.restart([NAME])
        assert kept.keeper.state(NAME)[0] is State.RUNNING
        # A hold is for one death.
        await kept.processes.kill(NAME)
        await kept.until(lambda: kept.kinds() == ["held", "back", "killed", "back"])


async def test_a_restart_of_one_that_runs_is_no_end_by_itself() -> None:
    async with keeping() as kept:
        await kept.keeper.restart([NAME])
        assert kept.kinds() == ["ended", "back"]
