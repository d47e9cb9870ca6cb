"""Does faults to the processes of a network, and notices what ends by itself.

Owns the processes' lifetimes during a run: who is dead, on purpose, and started again. Invariant: a process
has one fault at a time, and after a fault it runs as before. What ends and was not made to, or does not end
and should, is `Broken`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from bridge.settlement.client import SettlementClient
from deploy.chaos.cutting import Links
from deploy.chaos.disks import Disk
from deploy.chaos.faults import SEQUENCER, SETTLEMENT, Fault, Kind
from deploy.chaos.history import History
from deploy.chaos.links.proxy import Direction, Weather
from deploy.chaos.network import EXTRA, ChaosNetwork
from deploy.devnet.clients import until
from deploy.devnet.launcher import Child, Devnet, Spawn
from deploy.devnet.network import PROCESSES
from deploy.devnet.patience import PATIENCE, patiently
from deploy.node.failures import DataLocked
from sequencer.client import SequencerClient

COMMIT_POINT: Final = "database.commit.before"
"""Where a disk is full or slow."""

END_MS_MAX: Final = 20_000
"""How long a process may take to end whose disk is full, or to notice that it must not order."""

TWIN_MS_MAX: Final = 120_000
"""How long a second process on the same data is waited for."""

FAKETIME: Final = tuple(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
"""Where libfaketime is, if it is installed."""

_MODULE_OF: Final = {kind.name: kind.module for kind in (*PROCESSES, *EXTRA)}


class Broken(Exception):
    """The network broke a promise; the message says which and how."""


class Clocks:
    """Starts processes with another wall clock: a `Spawn` around another."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self.offset_s: dict[str, int] = {}
        """By how much the wall clock of a process is wrong when it is started next."""

    async def __call__(
        self, module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int, group: int
    ) -> Child:
        """Start a process; its settings' name is its own."""
        offset_s = self.offset_s.get(Path(arguments[-1]).stem)
        if offset_s is not None:
            environ = {
                **environ,
                "LD_PRELOAD": str(FAKETIME[0]),
                "FAKETIME": f"{offset_s:+d}s",
                # Time spans are measured by a clock that nobody sets.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        return await self._spawn(module, arguments, environ=environ, stderr=stderr, group=group)


class Injector:
    """Disturbs one network, while the `async with` block lasts."""

    def __init__(
        self,
        made: ChaosNetwork,
        devnet: Devnet,
        clocks: Clocks,
        links: Links | None,
        history: History,
    ) -> None:
        self._made = made
        self._devnet = devnet
        self._clocks = clocks
        self._links = links
        self._history = history
        self._claimed = {name: asyncio.Lock() for name in _MODULE_OF}
        self._may_end: set[str] = set()
        self._guards: dict[str, asyncio.Task[None]] = {}
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Is told which process ended by itself, and how."""
        self.state = dict.fromkeys(_MODULE_OF, "")
        """What is being done to each process now."""

    # --- processes ----------------------------------------------------------------------------------------

    def watch(self, names: Sequence[str]) -> None:
        """Notice from now on when processes that run end by themselves."""
        for name in names:
            self._guards[name] = asyncio.create_task(self._guard(name))

    def let_end(self, names: Sequence[str]) -> None:
        """Take the end of processes as in order from now on."""
        self._may_end.update(names)

    async def start(self, name: str, *, failpoints: str = "") -> None:
        """Start a process that is dead."""
        await self._devnet.start(name, failpoints=failpoints)
        self._may_end.discard(name)
        self.watch((name,))

    async def kill(self, name: str) -> None:
        """SIGKILL a process."""
        self._may_end.add(name)
        await self._devnet.kill(name)
        self._history.counts.killed[name] += 1

    async def close(self) -> None:
        """Notice nothing any more."""
        for guard in self._guards.values():
            guard.cancel()
        await asyncio.gather(*self._guards.values(), return_exceptions=True)

    async def _guard(self, name: str) -> None:
        code = await self._devnet.ended(name)
        if name not in self._may_end and not self.ended.done():
            self.ended.set_result(str(self._devnet.failure(name, f"ended by itself with exit code {code}")))

    # --- faults -------------------------------------------------------------------------------------------

    async def run(self, faults: Iterator[Fault], enough: asyncio.Event) -> None:
        """Do faults one after the other, several at a time, until `enough`; then let those end."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                try:
                    async with asyncio.timeout(fault.after_ms / 1_000):
                        await enough.wait()
                except TimeoutError:
                    pass
                if enough.is_set():
                    return
                stack = AsyncExitStack()
                for name in fault.claims:
                    await stack.enter_async_context(self._claimed[name])
                group.create_task(self._do_and_release(fault, stack))

    async def do(self, fault: Fault) -> None:
        """Do a fault and wait until it is over."""
        stack = AsyncExitStack()
        for name in fault.claims:
            await stack.enter_async_context(self._claimed[name])
        await self._do_and_release(fault, stack)

    async def _do_and_release(self, fault: Fault, claims: AsyncExitStack) -> None:
        async with claims:
            if any(not self._devnet.is_running(name) for name in fault.victims):
                # A trader that is done, or a process that ended: that is somebody else's finding.
                return
            self._note(fault, "begins")
            self._history.counts.faults[fault.kind] += 1
            for name in fault.victims:
                self.state[name] = fault.kind
            try:
                await self._actions[fault.kind](self, fault)
            finally:
                for name in fault.victims:
                    self.state[name] = ""
            self._note(fault, "is over")

    def _note(self, fault: Fault, what: str) -> None:
        self._history.note(
            ", ".join(fault.victims),
            f"{fault.kind} {what}",
            number=fault.number,
            for_ms=fault.for_ms,
            **({"links": list(fault.links)} if fault.links else {}),
            **({"amount": fault.amount} if fault.amount else {}),
        )

    async def _kill(self, fault: Fault) -> None:
        await asyncio.gather(*map(self.kill, fault.victims))
        await _last(fault)
        await asyncio.gather(*map(self.start, fault.victims))

    async def _pause(self, fault: Fault) -> None:
        for name in fault.victims:
            self._devnet.pause(name)
        await _last(fault)
        for name in fault.victims:
            self._devnet.resume(name)

    async def _restart(self, fault: Fault) -> None:
        self.let_end(fault.victims)
        for name in fault.victims:
            code = await self._devnet.terminate(name)
            if code != 0:
                raise Broken(str(self._devnet.failure(name, f"was asked to stop and ended with code {code}")))
            await self.start(name)

    async def _disturb_links(self, fault: Fault) -> None:
        assert self._links is not None, "faults of links are done where there are links"
        one = Direction.UP if fault.is_up else Direction.DOWN
        weather = {
            Kind.CUT: Weather(frozenset(Direction)),
            Kind.ONE_WAY: Weather(frozenset((one,))),
            Kind.DELAY: Weather(delay_ms=fault.amount),
            Kind.RESET: Weather(),
        }[fault.kind]
        await self._links.become(fault.links, weather, is_reset=fault.kind is Kind.RESET)
        await _last(fault)
        await self._links.become(fault.links)

    async def _fill_disk(self, fault: Fault) -> None:
        (name,) = fault.victims
        await self.kill(name)
        await self._devnet.start(name, failpoints=f"{COMMIT_POINT}=enospc@{fault.amount}")
        try:
            code = await patiently(self._devnet.ended(name), END_MS_MAX, (self._devnet.pid(name),))
        except TimeoutError:
            # It never came to that commit, as one that has nothing to do does not.
            await self.kill(name)
        else:
            if code == 0:
                raise Broken(str(self._devnet.failure(name, "took a full disk for success")))
        await _last(fault)
        await self.start(name)

    async def _slow_disk(self, fault: Fault) -> None:
        (name,) = fault.victims
        await self.kill(name)
        await self.start(name, failpoints=f"{COMMIT_POINT}=delay({fault.amount})")
        await _last(fault)
        await self.kill(name)
        await self.start(name)

    async def _jump_clock(self, fault: Fault) -> None:
        (name,) = fault.victims
        self._clocks.offset_s[name] = fault.amount
        await self.kill(name)
        await self.start(name)
        await _last(fault)
        del self._clocks.offset_s[name]
        await self.kill(name)
        await self.start(name)

    async def _twin(self, fault: Fault) -> None:
        (name,) = fault.victims
        settings = self._made.network.settings_file(name)
        twin = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _MODULE_OF[name], "--config", str(settings)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Or it would take the place of the process, once this one is killed and that one gone.
            process_group=self._devnet.group,
        )
        assert twin.stdout is not None, "it was made with a pipe"
        try:
            async with asyncio.timeout(TWIN_MS_MAX / 1_000):
                # That it takes long on a machine that is busy says nothing; that it is ready does.
                if await twin.stdout.readline():
                    raise Broken(f"a second {name} on the same data was ready, and not turned away")
                code = await twin.wait()
        except TimeoutError:
            self._history.note(name, "twin was neither ready nor turned away in time")
            return
        finally:
            if twin.returncode is None:
                twin.kill()
                await twin.wait()
        if code != DataLocked.exit_code:
            raise Broken(f"a second {name} on the same data ended with exit code {code}, not as locked out")

    async def _delete(self, fault: Fault) -> None:
        (name,) = fault.victims
        await self.kill(name)
        await asyncio.to_thread(Disk(self._made.network, name).lose)
        await _last(fault)
        await self.start(name)

    async def _put_back_stale(self, fault: Fault) -> None:
        (name,) = fault.victims
        disk = Disk(self._made.network, name)
        await self.kill(name)
        await asyncio.to_thread(disk.copy)
        await self.start(name)
        await _last(fault)
        if name == SEQUENCER:
            await self._put_back_stale_sequencer(disk)
            return
        await self.kill(name)
        disk.put_back_older()
        await self.start(name)
        await asyncio.to_thread(disk.forget_newest)

    async def _put_back_stale_sequencer(self, disk: Disk) -> None:
        """Put an older copy back: it may order nothing, which the settlement log tells it."""
        network = self._made.network
        sequencer = SequencerClient(network.address(SEQUENCER), network.genesis)
        settlement = SettlementClient(network.address(SETTLEMENT), network.genesis)
        async with sequencer, settlement:
            height = (await until(sequencer.status, "the sequencer")).height

            async def is_anchored() -> bool | None:
                return (await settlement.status()).anchored_height > height or None

            await until(is_anchored, f"the settlement log to anchor what comes after block {height}")
            await self.kill(SEQUENCER)
            disk.put_back_older()
            await self.start(SEQUENCER)

            async def refusal() -> str | None:
                return (await sequencer.status()).read_only_reason or None

            try:
                asking = until(refusal, "it to be read-only", timeout_ms=PATIENCE * END_MS_MAX)
                reason = await patiently(asking, END_MS_MAX, (self._devnet.pid(SEQUENCER),))
            except TimeoutError:
                raise Broken("a sequencer with an older copy of its folder goes on ordering") from None
            self._history.note(SEQUENCER, "is read-only", reason=reason)
            await self.kill(SEQUENCER)
            await asyncio.to_thread(disk.put_back_newest)
            await self.start(SEQUENCER)

    _actions: Mapping[Kind, "Callable[[Injector, Fault], Awaitable[None]]"] = {
        Kind.KILL: _kill,
        Kind.OUTAGE: _kill,
        Kind.PAUSE: _pause,
        Kind.RESTART: _restart,
        **dict.fromkeys((Kind.CUT, Kind.ONE_WAY, Kind.DELAY, Kind.RESET), _disturb_links),
        Kind.DISK_FULL: _fill_disk,
        Kind.SLOW_DISK: _slow_disk,
        Kind.CLOCK: _jump_clock,
        Kind.TWIN: _twin,
        Kind.DELETE: _delete,
        Kind.STALE: _put_back_stale,
    }


@asynccontextmanager
async def injecting(
    made: ChaosNetwork, devnet: Devnet, clocks: Clocks, links: Links | None, history: History
) -> AsyncIterator[Injector]:
    """Keep an injector while the `async with` block lasts."""
    injector = Injector(made, devnet, clocks, links, history)
    try:
        yield injector
    finally:
        await injector.close()


async def _last(fault: Fault) -> None:
    await asyncio.sleep(fault.for_ms / 1_000)
