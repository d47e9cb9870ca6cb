"""Scenarios of swaps: one at a time, many, and many while a rollup is killed over and over.

Owns how disturbed throughput is compared with undisturbed one.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from statistics import median
from typing import Final

import msgspec

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
)
from deploy.benchmark.jobs import Found, SwapsJob
from deploy.benchmark.runs import BLOCK_BYTES, NODE_OF, ORDERING, Runs, assets_of
from deploy.benchmark.stage import Stage, staged
from deploy.benchmark.workers import WorkFailed, working
from deploy.devnet.network import ALPHA, BETA

SWAPPING: Final = (*ORDERING, NODE_OF[ALPHA], NODE_OF[BETA], "bridge")
"""The processes that swaps between two rollups need."""

VICTIM: Final = NODE_OF[BETA]
"""Who is killed."""

ACCOUNTS_MAX: Final = 1_000
"""How many accounts trade at most."""

SHARE_OF_MOST: Final = 0.8
"""At which share of the highest rate the latency under load is told."""

PREPARED_SECONDS_MAX: Final = 30
"""How much load is signed ahead at most: locks can be used for less than a minute, and to sign takes time."""

VERIFICATIONS: Final = 12
"""Signatures that are verified for one swap: two locks and two attestations, each by whoever relies on it."""


async def swap_idle(effort: Effort) -> Measured:
    """Measure the latency of one swap at a time."""
    figures: list[Figure] = []
    latencies = {}
    async with _staged(effort) as stage:
        runs = Runs(stage)
        written_ms = await hardware.append_ms(stage.network.folder, BLOCK_BYTES)
        trip_ms = await hardware.round_trip_ms(is_unary=True, count=50)
        # To accept: a call and its write. The opening block, then the attestations' block, each to be
        # written by the sequencer, carried to the rollups and executed durably there; a reveal is one more.
        for is_up_front, name, blocks, goals in (
            (True, "revealed up front", 2, {50: (at_most(10),), 99: (at_most(40),)}),
            (False, "revealed by the taker", 3, {50: (at_most(15),), 99: (at_most(50),)}),
        ):
            limit = Limit(
                f"{blocks + 1} T, {2 * blocks + 1} F",
                (blocks + 1) * trip_ms + (2 * blocks + 1) * written_ms,
            )
            one_way = Runs(stage)
            job = _job(stage, effort, effort.idle_swaps, 1, is_up_front=is_up_front)
            async with working(job) as worker:
                await one_way.repeat(worker, effort.runs)
            _insist_on_all(one_way)
            figures += latency_figures(f"{name}, accepted to settled", one_way.latencies_ms(), limit, goals)
            latencies[name] = one_way.all_latencies_ms()
            runs.add(one_way)
    notes = {"ms per append": written_ms, "ms per round trip": trip_ms}
    chart = latency_chart("A swap on an idle network, accepted to settled on both rollups", latencies)
    return runs.measured(figures, notes, (chart,))


async def swaps_sustained(effort: Effort) -> Measured:
    """Measure many swaps at a time, and their latency when there are a little fewer."""
    before = await hardware.verifications()
    async with _staged(effort) as stage:
        full, below = Runs(stage), Runs(stage)
        async with working(_job(stage, effort, effort.swaps, effort.swaps_at_a_time)) as worker:
            await full.repeat(worker, effort.runs)
        _insist_on_all(full)
        rate = median(full.rates()) * SHARE_OF_MOST
        async with working(_job(stage, effort, effort.swaps, effort.swaps, rate=rate)) as worker:
            await below.repeat(worker, effort.runs)
        _insist_on_all(below)
    verified = before.between(await hardware.verifications())
    limit, limit_by_cpu = (
        Limit(f"{each.name} / {VERIFICATIONS}", each.value / VERIFICATIONS) for each in verified
    )
    goals = (at_least(400), at_least(1_000, is_star=True))
    figures = (
        Figure("proposed to settled", "swaps/s", full.rates(), limit, goals),
        Figure(f"settled, {BY_CPU}", "swaps/s", full.rates_by_cpu(), limit_by_cpu),
        *latency_figures("accepted to settled, at the most", full.latencies_ms()),
        *latency_figures(
            f"due to settled, at {SHARE_OF_MOST:.0%} of it", below.latencies_ms(), None, {99: (at_most(500),)}
        ),
    )
    chart = latency_chart(
        "A swap under load, settled on both rollups",
        {
            "at the most, from the last lock on": full.all_latencies_ms(),
            f"at {SHARE_OF_MOST:.0%} of it, from when it was due": below.all_latencies_ms(),
        },
    )
    return full.measured(figures, {"at a time": effort.swaps_at_a_time}, (chart,))


async def swaps_killed(effort: Effort) -> Measured:
    """Measure many swaps at a time while a rollup's only node is killed and started over and over."""
    async with _staged(effort) as stage:
        calm = Runs(stage)
        async with working(_job(stage, effort, effort.swaps, effort.swaps_at_a_time)) as worker:
            await calm.repeat(worker, effort.runs)
        _insist_on_all(calm)
        undisturbed = median(calm.rates())
        shaken, spans = await _shaken(stage, effort, undisturbed)
    whole = tuple(span.rate / undisturbed for span in spans)
    served = tuple(span.rate_served / undisturbed for span in spans)
    dead = tuple(span.dead_seconds for span in spans)
    lost = sum(found.unsettled for found in shaken)
    figures = (
        Figure("undisturbed", "swaps/s", calm.rates()),
        Figure("not settled within 30 s", "swaps", (float(lost),), None, (at_most(0),)),
        Figure("from a kill to the next, of undisturbed", "times", whole, None, (at_least(0.8),)),
        Figure("while the rollup runs, of undisturbed", "times", served, None, (at_least(0.8),)),
        Figure("from a kill until it serves again", "s", dead),
    )
    notes = {"kills": len(spans), "s from kill to kill": effort.kill_every_seconds}
    return calm.measured(figures, notes, (_chart(shaken),))


class Span:
    """From a kill to the next."""

    def __init__(self, ended: Sequence[float], killed_s: float, served_s: float, next_s: float) -> None:
        """All in seconds from a run's first act on: when swaps had settled, and when it was what."""
        self.rate = sum(killed_s <= each < next_s for each in ended) / (next_s - killed_s)
        """Swaps that settled per second."""
        self.rate_served = sum(served_s <= each < next_s for each in ended) / (next_s - served_s)
        """Those from when the node served again."""
        self.dead_seconds = served_s - killed_s
        """How long it did not."""


async def _shaken(stage: Stage, effort: Effort, rate: float) -> tuple[list[Found], list[Span]]:
    """Swap while a node is killed; so many are signed ahead as undisturbed traders would come to."""
    every_seconds, left = effort.kill_every_seconds, effort.kills
    kills_max = max(int(PREPARED_SECONDS_MAX // every_seconds) - 1, 1)
    all_found, spans = [], []
    while left > 0:
        kills = min(left, kills_max)
        left -= kills
        # From the start to the first kill, and after the last, it goes on for as long as in between.
        seconds = every_seconds * (kills + 1)
        job = _job(stage, effort, int(rate * seconds * 1.2) + 1, effort.swaps_at_a_time)
        async with working(msgspec.structs.replace(job, begin_seconds=seconds)) as worker:
            await worker.prepare()
            running = asyncio.ensure_future(worker.run())
            try:
                events = await _kill(stage, kills, every_seconds, running)
                found = await running
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        all_found.append(found)
        started_s = found.started_ns / 1e9
        at = [(killed_s - started_s, served_s - started_s) for killed_s, served_s in events]
        ends = [*(killed_s for killed_s, _ in at[1:]), seconds]
        if not at:
            raise WorkFailed(f"all swaps had settled before the first kill, within {every_seconds} s")
        spans += [Span(found.ended_seconds, *both, end) for both, end in zip(at, ends, strict=True)]
    return all_found, spans


async def _kill(
    stage: Stage, kills: int, every_seconds: float, running: "asyncio.Future[Found]"
) -> list[tuple[float, float]]:
    """Kill a node every so often until the load is over; return when it was killed, and served again."""
    events: list[tuple[float, float]] = []
    next_s = time.monotonic() + every_seconds
    while len(events) < kills:
        await asyncio.wait((running,), timeout=max(next_s - time.monotonic(), 0))
        if running.done():
            break
        killed_s = time.monotonic()
        await stage.devnet.restart(VICTIM)
        events.append((killed_s, time.monotonic()))
        next_s = killed_s + every_seconds
    return events


def _chart(shaken: Sequence[Found]) -> Chart:
    """Return how many swaps settled in each second."""
    lines = {}
    for number, found in enumerate(shaken, start=1):
        edges = range(int(found.ended_seconds[-1]) + 1)
        lines[f"run {number}"] = [
            (float(start), float(sum(start <= each < end for each in found.ended_seconds)))
            for start, end in pairwise(edges)
        ]
    return Chart(
        "kills",
        f"Swaps that settled in each second, while {VICTIM} is killed again and again",
        Axis("s"),
        Axis("swaps per second"),
        lines,
    )


def _staged(effort: Effort) -> AbstractAsyncContextManager[Stage]:
    return staged(SWAPPING, accounts=dict.fromkeys((ALPHA, BETA), _traders(effort)))


def _traders(effort: Effort) -> int:
    return min(effort.accounts, ACCOUNTS_MAX)


def _insist_on_all(runs: Runs) -> None:
    unsettled = sum(found.unsettled for found in runs.found)
    if unsettled:
        raise WorkFailed(f"{unsettled} swaps were not settled on both rollups in time")


def _job(
    stage: Stage,
    effort: Effort,
    count: int,
    concurrency: int,
    *,
    is_up_front: bool = True,
    rate: float = 0.0,
) -> SwapsJob:
    address = stage.network.address
    return SwapsJob(
        bridge=address("bridge"),
        nodes={str(rollup): address(NODE_OF[rollup]) for rollup in (ALPHA, BETA)},
        genesis=stage.genesis_file,
        assets=assets_of(ALPHA, BETA),
        is_up_front=is_up_front,
        count=count,
        concurrency=concurrency,
        accounts=_traders(effort),
        rate=rate,
    )
