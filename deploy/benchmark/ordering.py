"""Scenarios of the sequencer alone: bulk, batch sizes, one at a time, subscribers.

Owns what they compare. Nobody executes what is ordered here.
"""

from statistics import median
from typing import Final

from deploy.benchmark import hardware
from deploy.benchmark.effort import Effort
from deploy.benchmark.figures import (
    BY_CPU,
    Axis,
    Chart,
    Figure,
    Limit,
    Measured,
    at_least,
    at_most,
    latency_chart,
    latency_figures,
    medians,
    of_limit,
)
from deploy.benchmark.jobs import FollowJob, LoneJob
from deploy.benchmark.runs import BLOCK_BYTES, ORDERING, Runs, assets_of, durable, flood
from deploy.benchmark.stage import Stage, staged
from deploy.benchmark.workers import WorkFailed, working
from deploy.devnet.network import ALPHA

BATCHES: Final = (1, 10, 100, 1_000)
"""Bundles of one message, as far as the sequencer takes them."""


async def order_only(effort: Effort) -> Measured:
    """Measure ordering alone."""
    async with staged(ORDERING) as stage:
        job = flood(stage, effort.opaque, assets_of(ALPHA))
        runs = Runs(stage)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs)
        per_block = runs.per_block()
        limit = await durable(stage, per_block)
    carried = await hardware.transport(job)
    goals = (at_least(100_000), at_least(150_000, is_star=True), of_limit(0.3))
    figures = (
        Figure("ordered", "bundles/s", runs.rates(), carried, goals),
        Figure("the same", "bundles/s", runs.rates(), limit),
        Figure(f"ordered, {BY_CPU}", "bundles/s", runs.rates_by_cpu()),
        *latency_figures("a message, sent to answered", runs.latencies_ms()),
    )
    chart = latency_chart(
        "A message of 100 bundles, sent to answered, under full load", {"message": runs.all_latencies_ms()}
    )
    return runs.measured(figures, {"bundles per block": per_block}, (chart,))


async def batch_sizes(effort: Effort) -> Measured:
    """Measure ordering by how many bundles one message holds."""
    figures, ordered, carried_by_size = [], [], []
    async with staged(ORDERING) as stage:
        runs = Runs(stage)
        for size in BATCHES:
            # Small messages are slow, and would otherwise take most of the time.
            count = max(effort.opaque * min(size, 10) // 10, 1)
            job = flood(stage, count, assets_of(ALPHA), message_bundles=size)
            of_size = Runs(stage)
            async with working(job) as worker:
                await of_size.repeat(worker, effort.runs)
            runs.add(of_size)
            carried = await hardware.transport(job)
            figures.append(Figure(f"{size} per message", "bundles/s", of_size.rates(), carried))
            ordered.append((float(size), median(of_size.rates())))
            carried_by_size.append((float(size), carried.value))
    chart = Chart(
        "throughput",
        "Bundles of 200 bytes, ordered and durable, by how many of them one message holds",
        Axis("bundles per message", is_log=True),
        Axis("bundles per second", is_log=True),
        {"ordered": ordered, "T, carried and answered without a look": carried_by_size},
    )
    return runs.measured(figures, charts=(chart,))


async def lone_submit(effort: Effort) -> Measured:
    """Measure the latency of lone submits, by stream and by single calls."""
    figures: list[Figure] = []
    latencies = {}
    goals = {
        False: {50: (at_most(1),), 99: (at_most(5),)},
        True: {50: (at_most(2),)},
    }
    async with staged(ORDERING) as stage:
        runs = Runs(stage)
        written_ms = await hardware.append_ms(stage.network.folder, BLOCK_BYTES)
        for is_unary, name in ((False, "stream"), (True, "unary")):
            trip_ms = await hardware.round_trip_ms(is_unary=is_unary, count=max(effort.lone, 50))
            one_way = Runs(stage)
            async with working(_lone(stage, effort.lone, is_unary=is_unary)) as worker:
                await one_way.repeat(worker, effort.runs)
            limit = Limit("1 T, 1 F", trip_ms + written_ms)
            figures += latency_figures(
                f"{name}, sent to receipt", one_way.latencies_ms(), limit, goals[is_unary]
            )
            latencies[name] = one_way.all_latencies_ms()
            runs.add(one_way)
    chart = latency_chart("A lone client, one bundle at a time, to the durable signed receipt", latencies)
    return runs.measured(figures, {"ms per append": written_ms}, (chart,))


async def subscribers(effort: Effort) -> Measured:
    """Measure ordering with many subscribers, each on a namespace of its own, against few."""
    few, many = effort.subscribers
    runs_few, runs_many = await _subscribed(effort, few), await _subscribed(effort, many)
    share = tuple(rate / median(runs_few.rates()) for rate in runs_many.rates())
    us_few, us_many = (medians(each.cpu_us_each)["sequencer"] for each in (runs_few, runs_many))
    figures = (
        Figure(f"rate with {many}, of that with {few}", "times", share, None, (at_least(0.8),)),
        Figure("the same by the sequencer's CPU time", "times", (us_few / max(us_many, 1e-3),)),
        Figure(f"ordered with {few}", "bundles/s", runs_few.rates()),
        Figure(f"ordered with {many}", "bundles/s", runs_many.rates()),
    )
    notes = {f"{name} with {few}, cores": cores for name, cores in medians(runs_few.cpu).items()}
    return runs_many.measured(figures, notes)


async def _subscribed(effort: Effort, number: int) -> Runs:
    """Order for so many namespaces, while somebody follows each of them and verifies every block."""
    names = [f"many-{place:02}" for place in range(number)]
    async with staged(ORDERING, more_namespaces=names) as stage:
        runs = Runs(stage)
        following = FollowJob(
            target=stage.network.address("sequencer"),
            genesis=stage.genesis_file,
            namespaces=tuple((name,) for name in names),
        )
        job = flood(stage, effort.opaque, dict.fromkeys(names, ""))
        async with working(job) as worker, working(following) as subscribers:
            await subscribers.prepare()
            await runs.repeat(worker, effort.runs, others={"subscribers": subscribers})
            came, sent = (await subscribers.run()).count, job.count * (effort.runs + 1)
            if came != sent:
                raise WorkFailed(f"{came} of {sent} transactions came to {number} subscribers")
    return runs


def _lone(stage: Stage, count: int, *, is_unary: bool) -> LoneJob:
    return LoneJob(
        target=stage.network.address("sequencer"),
        genesis=stage.genesis_file,
        namespace=ALPHA,
        is_unary=is_unary,
        count=count,
    )
