"""Scenarios of rollups that execute: live, catching up, and by the size of their state.

Owns what a rate of execution is: from the first act of the load until every node has executed all of it
durably, roots included.
"""

import asyncio
import time
from dataclasses import dataclass
from statistics import median
from typing import Final

from deploy.benchmark import hardware
from deploy.benchmark.accounts import WINDOW_MS, transfer_bundles
from deploy.benchmark.effort import Effort
from deploy.benchmark.figures import (
    BY_CPU,
    Axis,
    Chart,
    Figure,
    Limit,
    Measured,
    at_most,
    of_limit,
)
from deploy.benchmark.runs import (
    EXECUTING,
    NODE_OF,
    ORDERING,
    Runs,
    assets_of,
    durable,
    flood,
    verify_samples,
)
from deploy.benchmark.stage import Stage, staged, wait_executed
from deploy.benchmark.workers import working
from deploy.devnet.network import BETA
from rollups.client import RollupClient

NODE: Final = NODE_OF[BETA]
"""Who executes where one rollup is enough."""

REPLICA: Final = "beta-1"
"""Who catches up with it."""


async def order_and_execute(effort: Effort) -> Measured:
    """Measure ordering and execution together."""
    before = await hardware.verifications()
    async with staged(EXECUTING, accounts=dict.fromkeys(NODE_OF, effort.accounts)) as stage:
        job = flood(stage, effort.transfers, assets_of(*NODE_OF), accounts=effort.accounts)
        runs = Runs(stage)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs, executed_by=tuple(NODE_OF.values()))
        await verify_samples(stage, runs.found)
        per_block = runs.per_block()
        # All processes make everything durable, one after another on one disk.
        limit = await durable(stage, per_block)
    verified = before.between(await hardware.verifications())
    goals = (of_limit(0.25), of_limit(0.35, is_star=True))
    figures = (
        Figure("executed by all three", "transfers/s", runs.rates(), verified.real, goals),
        Figure("the same", "transfers/s", runs.rates(), limit),
        Figure(f"executed, {BY_CPU}", "transfers/s", runs.rates_by_cpu(), verified.by_cpu, goals),
        Figure("ordered meanwhile", "bundles/s", runs.rates_answered()),
    )
    notes = {"transfers per block": per_block, "accounts on each rollup": effort.accounts}
    return runs.measured(figures, notes)


async def catch_up(effort: Effort) -> Measured:
    """Measure how fast a node that starts from nothing executes what another executed live.

    Live has two meanings here. In the first part all three rollups execute their share of one load, which is
    what nodes usually do; in the second the node executes alone, with only order and load beside it. Then it
    is stopped, and a replica, alone too, executes from the order what was its share of both.
    """
    names = tuple(NODE_OF.values())
    async with staged(EXECUTING, accounts=dict.fromkeys(NODE_OF, effort.accounts)) as stage:
        shared, alone = Runs(stage), Runs(stage)
        job = flood(stage, effort.transfers, assets_of(*NODE_OF), accounts=effort.accounts)
        async with working(job) as worker:
            await shared.repeat(worker, effort.runs, executed_by=names)
        for name in names:
            if name != NODE:
                await stage.devnet.terminate(name)
        own = flood(stage, effort.transfers, assets_of(BETA), accounts=effort.accounts)
        async with working(own) as worker:
            await alone.repeat(worker, effort.runs, executed_by=(NODE,))
        await verify_samples(stage, alone.found)
        await stage.devnet.terminate(NODE)
        of_shared = len(range(tuple(NODE_OF).index(BETA), job.count, len(NODE_OF)))
        executed = (of_shared + own.count) * (effort.runs + 1)
        caught_up = await _catch_up(stage, alone.found[-1].last_height, executed)
    share = of_shared / job.count
    live = tuple(rate * share for rate in shared.rates())
    figures = (
        Figure("live, its share beside all others", "transfers/s", live),
        Figure("live, alone with the load", "transfers/s", alone.rates()),
        Figure(
            "caught up alone, once ready",
            "transfers/s",
            (caught_up,),
            Limit("live beside all others", median(live)),
            (of_limit(2),),
        ),
        Figure("the same", "transfers/s", (caught_up,), Limit("live, alone", median(alone.rates()))),
    )
    return alone.measured(figures, {"transfers": executed, "accounts on each rollup": effort.accounts})


async def _catch_up(stage: Stage, height: int, executed: int) -> float:
    """Start a node from nothing and return how many transfers per second it executes until a block."""
    await stage.devnet.start(REPLICA)
    started_s = time.monotonic()
    async with RollupClient(stage.network.address(REPLICA), stage.network.genesis, BETA) as client:
        await wait_executed(client, height)
    return executed / (time.monotonic() - started_s)


@dataclass(frozen=True, slots=True)
class _OfSize:
    """What one number of accounts costs."""

    accounts: int
    """How many there are."""
    runs: Runs
    """The runs of transfers."""
    cpu_us: tuple[float, ...]
    """The node's CPU time for a transfer, per run."""
    memory_mib: float
    """What the node has resident after them."""
    restarted_memory_mib: float
    """What it has resident after it was killed and started again."""
    restart_seconds: tuple[float, ...]
    """From the start of its process until it has executed a new block."""
    restart_cpu_seconds: tuple[float, ...]
    """The CPU time that it took for that."""


async def state_size(effort: Effort) -> Measured:
    """Measure what a transfer, a restart and memory cost by the number of accounts."""
    found = [await _of_size(effort, accounts) for accounts in effort.sizes]
    few, many = found[0], found[-1]
    times = tuple(cpu_us / median(few.cpu_us) for cpu_us in many.cpu_us)
    memory = (many.memory_mib, many.restarted_memory_mib)
    few_words, many_words = f"{few.accounts:,}", f"{many.accounts:,} accounts"
    figures = (
        Figure(
            f"CPU of a transfer with {many_words}, of that with {few_words}",
            "times",
            times,
            None,
            (at_most(1.3),),
        ),
        Figure(
            f"restart with {many_words}, to first new block", "s", many.restart_seconds, None, (at_most(3),)
        ),
        Figure(f"memory of a node with {many_words}", "MiB", (max(memory),), None, (at_most(1_024),)),
        *(Figure(f"CPU of a transfer with {each.accounts:,} accounts", "us", each.cpu_us) for each in found),
        *(
            Figure(f"restart with {each.accounts:,} accounts", "s", each.restart_seconds)
            for each in found[:-1]
        ),
        *(
            Figure(f"CPU of a restart with {each.accounts:,} accounts", "s", each.restart_cpu_seconds)
            for each in found
        ),
        *(Figure(f"memory with {each.accounts:,} accounts", "MiB", (each.memory_mib,)) for each in found),
    )
    return many.runs.measured(figures, charts=_size_charts(found))


async def _of_size(effort: Effort, accounts: int) -> _OfSize:
    async with staged((*ORDERING, NODE), accounts={BETA: accounts}) as stage:
        runs = Runs(stage)
        job = flood(stage, effort.transfers, assets_of(BETA), accounts=accounts)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs, executed_by=(NODE,))
        await verify_samples(stage, runs.found)
        memory_mib = stage.memory_mib()[NODE]
        restarts = [await _restart(stage, accounts) for _ in range(effort.runs)]
        return _OfSize(
            accounts=accounts,
            runs=runs,
            cpu_us=tuple(each[NODE] for each in runs.cpu_us_each),
            memory_mib=memory_mib,
            restarted_memory_mib=stage.memory_mib()[NODE],
            restart_seconds=tuple(seconds for seconds, _ in restarts),
            restart_cpu_seconds=tuple(seconds for _, seconds in restarts),
        )


async def _restart(stage: Stage, accounts: int) -> tuple[float, float]:
    """Kill the node and start it; return seconds until it has executed a new transfer, real and of CPU."""
    await stage.devnet.kill(NODE)
    clients, genesis = stage.clients, stage.network.genesis
    [(rollup, asset)] = assets_of(BETA).items()
    [bundle] = transfer_bundles(
        genesis.chain_id,
        [(rollup, asset)],
        count=1,
        accounts=accounts,
        valid_until_ms=await clients.sequencer.time_ms() + WINDOW_MS,
    )
    started_s = time.monotonic()
    starting = asyncio.ensure_future(stage.devnet.start(NODE))
    ordered = await clients.sequencer.submit(bundle)
    await starting
    # A connection that broke waits for a second before it is tried again.
    async with RollupClient(stage.network.address(NODE), genesis, BETA) as client:
        await wait_executed(client, ordered.placement.height)
    return time.monotonic() - started_s, stage.cpu_seconds()[NODE]


def _size_charts(found: list[_OfSize]) -> tuple[Chart, ...]:
    accounts = Axis("accounts", is_log=True)

    def chart(name: str, title: str, unit: str, values: list[float]) -> Chart:
        points = [(float(each.accounts), value) for each, value in zip(found, values, strict=True)]
        return Chart(name, title, accounts, Axis(unit), {"median": points})

    return (
        chart(
            "cost",
            "CPU time of a rollup node for one transfer, by the size of its state",
            "us",
            [median(each.cpu_us) for each in found],
        ),
        chart(
            "restart",
            "From a node's start to the first new block executed",
            "s",
            [median(each.restart_seconds) for each in found],
        ),
        chart("memory", "Memory of a rollup node", "MiB", [each.memory_mib for each in found]),
    )
