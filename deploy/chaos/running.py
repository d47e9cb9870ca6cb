"""One chaos run: the network is made, loaded, disturbed, left to heal, and judged.

Owns the order of all this and what a run ends with. First safety, then liveness: after the last fault is
over, everything that was begun has to come to its end in time.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bridge.client import BridgeClient, SwapPhase
from deploy.chaos.cutting import BY_PROXY_ALONE, Links, choose_cuts
from deploy.chaos.faults import Fault, Kind, Targets, schedule
from deploy.chaos.history import Counts, History
from deploy.chaos.injector import FAKETIME, Broken, Clocks, Injector, injecting
from deploy.chaos.judge import judging
from deploy.chaos.links.control import open_links
from deploy.chaos.links.namespaces import hosts_of, open_namespaces
from deploy.chaos.network import (
    BRIDGES,
    EXTRA,
    LINK_NAMES,
    LINKS,
    SECOND_BRIDGE,
    SERVICES,
    TRADERS,
    ChaosNetwork,
    Cuts,
    Load,
    create_chaos_network,
)
from deploy.devnet.clients import until
from deploy.devnet.launcher import Devnet, DevnetFailed, Spawn, execute, running
from deploy.devnet.network import NODES_OF
from deploy.devnet.patience import Stopwatch
from deploy.devnet.session import first_of
from lockstep.errors import LockstepError

HEAL_MS_MAX: Final = 10_000
"""How long after the last fault it may take until every swap is at its end, on a machine that has a processor
for whoever wants one."""

DRAIN_MS_MAX: Final = 60_000
"""How long that is waited for, to say how long it took."""

HISTORY_FILE: Final = "history.jsonl"
"""The history, in the run's folder."""

LOOK_S: Final = 0.1
"""How often it is looked whether all swaps are over."""

DEALS_MAX: Final = 1_000_000
"""Deals of a trader who is not told how many."""

Tell = Callable[[Mapping[str, Any]], None]
"""Is told of each fault and verdict as it comes: a line of the history."""


@dataclass(frozen=True)
class Plan:
    """What a run is to be."""

    seed: int
    """What deals and faults follow from."""
    for_ms: int
    """How long it is disturbed."""
    kinds: tuple[Kind, ...]
    """What may be done."""
    swaps: int | None = None
    """Deals after which it ends earlier; None: only by the time."""
    at: SwapPhase | None = None
    """The phase of a swap at which each fault begins; None: at random."""
    victims: tuple[str, ...] = ()
    """To whom it is done; none: to anybody."""
    gap_ms: int = 700
    """Between two faults, on average."""
    at_once: int = 4
    """Deals that each trader proposes at a time."""
    transfer_ms: int = 50
    """Pause of each trader between two bundles of payments."""
    cuts: Cuts | None = None
    """How links are cut; None: as can be done here."""


@dataclass
class Outcome:
    """What a run ended with."""

    broken: str = ""
    """Which promise was broken, and how; empty: none."""
    healed_ms: int | None = None
    """After the last fault, until every swap was at its end."""
    starved_ms: int = 0
    """For how much of that the process that was worst off wanted a processor and got none."""
    seconds: float = 0.0
    """Real time that the load and the faults went on."""
    counts: Counts = field(default_factory=Counts)
    """What happened."""
    audit: Mapping[str, Any] = field(default_factory=dict)
    """What the auditor looked at."""
    cuts: Cuts = Cuts.NONE
    """How links were cut."""
    unplayed: tuple[str, ...] = ()
    """What could not be done here, and why."""

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken

    @property
    def is_healed_in_time(self) -> bool:
        """Whether every swap came to its end in time, as far as the machine let it."""
        return self.healed_ms is not None and self.healed_ms - self.starved_ms <= HEAL_MS_MAX


async def run_chaos(folder: Path, plan: Plan, tell: Tell, *, spawn: Spawn = execute) -> Outcome:
    """Run `plan` in an empty or new folder.

    `spawn` is how processes are started. What breaks a promise is in the outcome. Raises SettingsInvalid for
    the folder, DevnetFailed if the network cannot be started at all, and defects.
    """
    # Whoever has a way of its own to start processes cannot start them in namespaces.
    asked = plan.cuts if spawn is execute else Cuts.PROXY
    cuts = choose_cuts(plan.kinds, asked)
    hosts = hosts_of((*SERVICES, *TRADERS)) if cuts is Cuts.NAMESPACES else {}
    made = create_chaos_network(folder, _load_of(plan), cuts, hosts)
    outcome = Outcome(cuts=cuts)
    history = History(made.network.folder / HISTORY_FILE, tell)
    outcome.counts = history.counts
    try:
        async with AsyncExitStack() as stack:
            spaces = await stack.enter_async_context(open_namespaces(hosts)) if hosts else None
            clocks = Clocks(spaces.spawn if spaces else spawn)
            devnet = await stack.enter_async_context(running(made.network, extra=EXTRA, spawn=clocks))
            run = _Run(plan, made, devnet, clocks, history, outcome, stack)
            links: Links | None = spaces or await run.start_links()
            await run.start_rest()
            await _play(run, links)
        history.note("all", "verdict", ok=outcome.ok, broken=outcome.broken, **history.counts.as_json())
    finally:
        history.close()
    return outcome


async def _play(run: "_Run", links: Links | None) -> None:
    """Do all of it, and note in the outcome what broke a promise."""
    outcome = run.outcome
    try:
        await run.play(links)
    except* Broken as several:
        outcome.broken = str(_first(several))
    except* (DevnetFailed, TimeoutError, LockstepError) as several:
        outcome.broken = outcome.broken or str(_first(several))


def _load_of(plan: Plan) -> Load:
    deals = DEALS_MAX if plan.swaps is None else -(-plan.swaps // len(TRADERS))
    return Load(plan.seed, deals, plan.at_once, plan.transfer_ms)


@dataclass
class _Run:
    """A run whose devnet is there."""

    plan: Plan
    made: ChaosNetwork
    devnet: Devnet
    clocks: Clocks
    history: History
    outcome: Outcome
    stack: AsyncExitStack

    async def play(self, links: Links | None) -> None:
        """Disturb, let heal, judge. Raises Broken, and DevnetFailed if a process does not come back."""
        enter = self.stack.enter_async_context
        judge = await enter(judging(self.made, self.devnet, self.history))
        injector = await enter(injecting(self.made, self.devnet, self.clocks, links, self.history))
        injector.watch((*SERVICES, *TRADERS))
        async with asyncio.TaskGroup() as group:
            auditing = group.create_task(judge.follow())
            reading = group.create_task(judge.read_journals())
            noticing = group.create_task(_raise_ended(injector))
            started_s = time.monotonic()
            await self._disturb(injector)
            self.outcome.seconds = time.monotonic() - started_s
            await self._heal(injector)
            reading.cancel()
            self.outcome.audit = await judge.conclude(auditing)
            noticing.cancel()
        if not self.outcome.is_healed_in_time:
            raise Broken(
                f"after the last fault, swaps took {self.outcome.healed_ms} ms to come to their end, "
                f"{self.outcome.starved_ms} ms of them without a processor, not {HEAL_MS_MAX}"
            )

    async def start_links(self) -> Links | None:
        """Start the proxy, if links are cut by one. Raises DevnetFailed."""
        if self.made.cuts is not Cuts.PROXY:
            return None
        await self.devnet.start(LINKS)
        links = await open_links(self.made.control_port)
        self.stack.callback(links.close)
        return links

    async def start_rest(self) -> None:
        """Start what a devnet has not. Raises DevnetFailed."""
        self.history.note("all", f"links are cut by {self.made.cuts}")
        await self.devnet.start(SECOND_BRIDGE)
        await asyncio.gather(*map(self.devnet.start, TRADERS))

    async def _disturb(self, injector: Injector) -> None:
        """Do faults until the time is over, or enough was swapped."""
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(self._set_when_enough(enough))
            if self.plan.at is None:
                await injector.run(self._faults(), enough)
            else:
                await self._aim(injector, enough)
            counting.cancel()

    async def _set_when_enough(self, enough: asyncio.Event) -> None:
        deadline_s = time.monotonic() + self.plan.for_ms / 1_000
        while time.monotonic() < deadline_s:
            if self.plan.swaps is not None and self.history.counts.deals >= self.plan.swaps:
                break
            await asyncio.sleep(0.1)
        enough.set()

    def _faults(self) -> Iterator[Fault]:
        missing = {} if FAKETIME else {Kind.CLOCK: "libfaketime is not installed"}
        if self.made.cuts is Cuts.NAMESPACES:
            missing.update(dict.fromkeys(BY_PROXY_ALONE, "it takes --cuts proxy"))
        kinds = [kind for kind in self.plan.kinds if kind not in missing]
        self.outcome.unplayed = tuple(
            f"{kind}: {reason}" for kind, reason in missing.items() if kind in self.plan.kinds
        )
        targets = Targets(
            services=SERVICES,
            traders=TRADERS,
            caches=(*sum(NODES_OF.values(), ()), *BRIDGES),
            links=() if self.made.cuts is Cuts.NONE else LINK_NAMES,
        )
        return schedule(self.plan.seed, targets, kinds=kinds, only=self.plan.victims, gap_ms=self.plan.gap_ms)

    async def _aim(self, injector: Injector, enough: asyncio.Event) -> None:
        """Do each fault when a swap comes to the phase that is aimed at."""
        network = self.made.network
        faults = self._faults()
        async with BridgeClient(network.address("bridge"), network.genesis) as client:
            while not enough.is_set():
                await first_of(_until_phase(client, self.plan.at), enough.wait())
                if not enough.is_set():
                    await injector.do(next(faults))

    async def _heal(self, injector: Injector) -> None:
        """Let everything that was begun come to its end. Raises Broken."""
        self.history.note("all", "healed: nothing new is begun")
        watch = Stopwatch([self.devnet.pid(name) for name in (*SERVICES, *TRADERS)])
        self.made.draining.touch()
        while late := [name for name in TRADERS if not self.made.idle(name).exists()]:
            if watch.own_ms > DRAIN_MS_MAX:
                raise Broken(f"{watch.real_ms} ms after the last fault {', '.join(late)} had open swaps")
            await asyncio.sleep(LOOK_S)
        self.outcome.healed_ms, self.outcome.starved_ms = watch.real_ms, watch.starved_ms
        self.history.note(
            "all", "every swap is at its end", after_ms=watch.real_ms, starved_ms=watch.starved_ms
        )
        injector.let_end(TRADERS)
        for name, code in zip(
            TRADERS, await asyncio.gather(*map(self.devnet.terminate, TRADERS)), strict=True
        ):
            if code:
                raise Broken(str(self.devnet.failure(name, f"ended with exit code {code}")))


async def _until_phase(client: BridgeClient, phase: SwapPhase | None) -> None:
    """Wait until some swap comes to a phase."""
    status = await until(client.status, "the coordinator")
    async with aclosing(client.watch(max(1, status.next_sequence))) as changes:
        async for view in changes:
            if view.phase is phase:
                return


async def _raise_ended(injector: Injector) -> None:
    raise Broken(await injector.ended)


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = several
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
