"""The machine's limits, measured beside what is compared with them.

Owns what V, F and T are. V: Ed25519 verifications per second over two processes. F: appends of a size per
second, each durable. T: the same messages over the same kind of gRPC stream, answered without a look.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec

from deploy.benchmark.figures import Limit, percentile
from deploy.benchmark.jobs import AppendJob, EchoJob, FloodJob, PingJob, VerifyJob
from deploy.benchmark.workers import once, working

VERIFIERS: Final = 2
"""Processes that verify at a time."""

VERIFY_SECONDS: Final = 1.0
"""For how long they do."""

APPENDS: Final = 100
"""Appends that F is measured over."""


class Verified(NamedTuple):
    """V, measured in two ways."""

    real: Limit
    """In real time: what is left of the cores by what else the machine does."""
    by_cpu: Limit
    """In CPU time: for figures that are told by it."""

    def between(self, after: "Verified") -> "Verified":
        """Return the mean of this, which was measured before something, and of what was measured after."""
        return Verified(*(_mean(one, other) for one, other in zip(self, after, strict=True)))


def _mean(one: Limit, other: Limit) -> Limit:
    return Limit(one.name, (one.value + other.value) / 2)


async def verifications() -> Verified:
    """Measure V."""
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(working(VerifyJob(VERIFY_SECONDS))) for _ in range(VERIFIERS)
        ]
        await asyncio.gather(*(worker.prepare() for worker in workers))
        found = await asyncio.gather(*(worker.run() for worker in workers))
    return Verified(
        Limit("V", sum(each.count / each.seconds for each in found)),
        Limit("V by CPU time", sum(each.count / each.cpu_seconds for each in found)),
    )


async def append_ms(folder: Path, append_bytes: int) -> float:
    """Return 1/F: the median ms of a durable append of a size."""
    found = await once(AppendJob(str(folder), append_bytes, APPENDS))
    return percentile(found.latencies_ms, 50)


async def transport(flood: FloodJob) -> Limit:
    """Measure T for a flood: how many of its bundles per second are carried and answered."""
    async with working(EchoJob(flood.message_bundles)) as echo:
        address = (await echo.prepare()).address
        async with working(msgspec.structs.replace(flood, target=address, time_ms=1, rate=0.0)) as flooding:
            rates = []
            for _ in range(3):
                await flooding.prepare()
                found = await flooding.run()
                rates.append(found.count / found.seconds)
    return Limit("T", median(rates))


async def round_trip_ms(*, is_unary: bool, count: int) -> float:
    """Return the median ms in which a lone submit is carried and answered."""
    async with working(EchoJob(1)) as echo:
        address = (await echo.prepare()).address
        found = await once(PingJob(address, is_unary=is_unary, count=count))
    return percentile(found.latencies_ms, 50)


def per_second(ms: float, *, each: float, name: str) -> Limit:
    """Return a limit of `each` things per `ms`."""
    return Limit(name, each * 1_000 / ms)
