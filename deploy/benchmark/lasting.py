"""Scenarios of what stays and of what grows: disk, memory over many transactions, hours of load in small.

Owns what a drift is: by which share of its middle something changes over the whole time.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import msgspec

from deploy.benchmark.effort import Effort
from deploy.benchmark.figures import (
    Axis,
    Chart,
    Figure,
    Limit,
    Measured,
    at_most,
    drift,
    percentile,
)
from deploy.benchmark.jobs import FloodJob, Found
from deploy.benchmark.runs import EXECUTING, NODE_OF, ORDERING, Runs, assets_of, flood, verify_samples
from deploy.benchmark.sizes import descriptors, disk_bytes
from deploy.benchmark.stage import Stage, staged
from deploy.benchmark.workers import Worker, working
from deploy.devnet.network import ALPHA, BETA

NODE: Final = NODE_OF[BETA]
"""The rollup whose disk is looked at."""

PAYLOAD_BYTES: Final = 200
"""Bytes of a transaction whose place on disk is told."""

ORDERED_WINDOW_MS: Final = 30_000
"""The window of bundles in the long run of the sequencer: clients' default. So long their ids are kept."""

STEADY_WINDOW_MS: Final = 60_000
"""The window of transfers while a network is watched: it must outlast signing ahead and being sent. Ids are
kept for as long, so that memory grows for a minute before it can be steady."""

SHARE_OF_MOST: Final = 0.5
"""At which share of the highest rate a network is watched."""

DRIFT_MAX: Final = 0.1
"""By which share of its middle something may change and still not drift."""


async def disk(effort: Effort) -> Measured:
    """Measure what a transaction takes on disk, at the sequencer and at a rollup, part by part."""
    async with staged((*ORDERING, NODE), accounts={BETA: effort.accounts}) as stage:
        job = flood(stage, effort.transfers, assets_of(BETA), accounts=effort.accounts)
        runs = Runs(stage)
        before = _disk(stage)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs, executed_by=(NODE,))
        await verify_samples(stage, runs.found)
        while_running = _disk(stage)
        for name in (NODE, "sequencer"):
            await stage.devnet.terminate(name)
        after = _disk(stage)
    count = job.count * (effort.runs + 1)
    each = {name: _each(before[name], after[name], count) for name in after}
    wal = {name: sum(size for part, size in while_running[name].items() if "-wal" in part) for name in after}
    payload = Limit("the payload alone", runs.found[0].payload_bytes)
    figures = [
        Figure(
            f"{name}, on disk for each", "bytes", (sum(parts.values()),), payload, (), _largest_first(parts)
        )
        for name, parts in (("sequencer", each["sequencer"]), ("rollup node", each[NODE]))
    ]
    notes = {f"write-ahead log of {name} while it runs, MiB": size / 2**20 for name, size in wal.items()}
    return runs.measured(figures, {"transactions": count, **notes})


def _largest_first(parts: Mapping[str, float]) -> Mapping[str, float]:
    """Return the parts that matter."""
    return {part: size for part, size in sorted(parts.items(), key=lambda each: -each[1]) if size >= 0.1}


def _disk(stage: Stage) -> Mapping[str, Mapping[str, int]]:
    return {name: disk_bytes(stage.network.data_folder(name)) for name in ("sequencer", NODE)}


def _each(before: Mapping[str, int], after: Mapping[str, int], count: int) -> Mapping[str, float]:
    """Return the bytes of each part that one of `count` transactions added; logs of writes apart."""
    return {part: (size - before.get(part, 0)) / count for part, size in after.items() if "-wal" not in part}


async def sequencer_memory(effort: Effort) -> Measured:
    """Measure the sequencer's memory over many transactions."""
    async with staged(ORDERING) as stage:
        job = flood(stage, min(effort.opaque, effort.order_transactions), assets_of(ALPHA))
        job = msgspec.structs.replace(job, window_ms=ORDERED_WINDOW_MS)
        runs, points = Runs(stage), [(0.0, stage.memory_mib()["sequencer"])]
        async with working(job) as worker:
            for number in range(max(effort.order_transactions // job.count, 2)):
                await worker.prepare()
                await runs.once(worker)
                points.append(((number + 1) * job.count / 1e6, stage.memory_mib()["sequencer"]))
        live = (await stage.clients.sequencer.status()).live_bundle_ids
    # What it takes to get going is no growth: the second half tells.
    later = points[len(points) // 2 :]
    grown = (later[-1][1] - later[0][1]) * 2**20 / ((later[-1][0] - later[0][0]) * 1e6)
    figures = (
        Figure("most memory", "MiB", (max(mib for _, mib in points),), None, (at_most(300),)),
        _drift_figure("drift in the second half", drift(later)),
        Figure("growth for each transaction in the second half", "bytes", (grown,)),
    )
    chart = Chart(
        "memory",
        "Memory of the sequencer by how much it has ordered",
        Axis("million transactions"),
        Axis("MiB"),
        {"sequencer": points},
    )
    notes = {
        "transactions": points[-1][0] * 1e6,
        "window of a bundle, s": ORDERED_WINDOW_MS / 1e3,
        "ids remembered at the end": live,
    }
    return runs.measured(figures, notes, (chart,))


@dataclass(frozen=True, slots=True)
class _Slice:
    """A part of a long load."""

    minutes: float
    """When it ended, from the start on."""
    found: Found
    """Its load."""
    memory_mib: Mapping[str, float]
    """Of each process, at its end."""
    descriptors: Mapping[str, int]
    """Open file descriptors of each process, at its end."""


async def soak(effort: Effort) -> Measured:
    """Measure what drifts while a network goes on at half its most."""
    async with staged(EXECUTING, accounts=dict.fromkeys(NODE_OF, effort.accounts)) as stage:
        most, runs = Runs(stage), Runs(stage)
        names = tuple(NODE_OF.values())
        job = flood(stage, effort.transfers, assets_of(*NODE_OF), accounts=effort.accounts)
        async with working(job) as worker:
            await most.repeat(worker, min(effort.runs, 3), executed_by=names)
        rate = median(most.rates()) * SHARE_OF_MOST
        count = max(int(rate * effort.slice_seconds), 1)
        steady = flood(
            stage,
            count,
            assets_of(*NODE_OF),
            accounts=effort.accounts,
            # Small messages, or else what waits for a message to be full is all that is seen.
            message_bundles=max(min(count // 50, 20), 1),
            rate=rate,
        )
        steady = msgspec.structs.replace(steady, window_ms=STEADY_WINDOW_MS)
        slices = await _slices(runs, steady, effort.soak_seconds)
        await stage.wait_executed(names, runs.found[-1].last_height)
        await verify_samples(stage, runs.found)
    figures, notes = _soak_figures(slices)
    sent = {"transfers per second": rate, "transfers": sum(each.found.count for each in slices)}
    return runs.measured(figures, {**sent, **notes}, _soak_charts(slices))


async def _slices(runs: Runs, job: FloodJob, seconds: float) -> Sequence[_Slice]:
    """Send one part after another without a pause: while one worker sends, the other signs the next part."""
    slices: list[_Slice] = []
    async with working(job) as first, working(job) as second:
        await first.prepare()
        started_s = time.monotonic()
        sending, signing = first, second
        while time.monotonic() - started_s < seconds:
            await _together(runs, sending, signing)
            pids = runs.stage.running()
            slices.append(
                _Slice(
                    minutes=(time.monotonic() - started_s) / 60,
                    found=runs.found[-1],
                    memory_mib=runs.stage.memory_mib(),
                    descriptors={name: descriptors(pid) for name, pid in pids.items()},
                )
            )
            sending, signing = signing, sending
    return slices


async def _together(runs: Runs, sending: Worker, signing: Worker) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(runs.once(sending))
        group.create_task(signing.prepare())


def _soak_figures(slices: Sequence[_Slice]) -> tuple[Sequence[Figure], Mapping[str, float]]:
    """Return the figures of a long load, and what each process has to do with them."""
    # What it takes to get going is no drift: of ten minutes one, as long as ids are kept.
    settled = slices[len(slices) // 10 :]
    latency_ms = {
        percent: [percentile(each.found.latencies_ms, percent) for each in settled] for percent in (50, 99)
    }

    def points(values: Sequence[float]) -> Sequence[tuple[float, float]]:
        return [(each.minutes, value) for each, value in zip(settled, values, strict=True)]

    names = tuple(slices[0].memory_mib)
    memory = {name: drift(points([each.memory_mib[name] for each in settled])) for name in names}
    opened = {name: drift(points([each.descriptors[name] for each in settled])) for name in names}
    figures = (
        *(
            _drift_figure(f"drift of the latency, p{percent}", drift(points(values)))
            for percent, values in latency_ms.items()
        ),
        _drift_figure("drift of memory, the most of any process", max(memory.values())),
        _drift_figure("drift of descriptors, the most of any process", max(opened.values())),
        *(
            Figure(f"a message, due to answered, p{percent}", "ms", tuple(values))
            for percent, values in latency_ms.items()
        ),
    )
    notes = {f"drift of memory, {name}": share for name, share in memory.items()}
    notes |= {f"growth of memory, {name}, bytes per transfer": _growth(settled, name) for name in names}
    return figures, notes


def _drift_figure(name: str, share: float) -> Figure:
    """Return a figure of what must not rise; what falls is no harm."""
    return Figure(name, "of its middle", (max(share, 0.0),), None, (at_most(DRIFT_MAX),))


def _growth(slices: Sequence[_Slice], name: str) -> float:
    """Return the bytes by which a process grew for each transfer that the network executed."""
    transfers = sum(each.found.count for each in slices[1:])
    grown_mib = slices[-1].memory_mib[name] - slices[0].memory_mib[name]
    return grown_mib * 2**20 / transfers if transfers else 0.0


def _soak_charts(slices: Sequence[_Slice]) -> Sequence[Chart]:
    minutes = Axis("minutes")
    latency_lines = {
        f"p{percent}": [(each.minutes, percentile(each.found.latencies_ms, percent)) for each in slices]
        for percent in (50, 99)
    }
    memory_lines = {
        name: [(each.minutes, each.memory_mib[name]) for each in slices] for name in slices[0].memory_mib
    }
    return (
        Chart("latency", "A message, due to answered, at half the load", minutes, Axis("ms"), latency_lines),
        Chart("memory", "Memory at half the load", minutes, Axis("MiB"), memory_lines),
    )
