"""Runs of one scenario: warmed up, counted, and what all processes took meanwhile.

Owns how a run is timed and what is noted of it, and the jobs that scenarios share. Invariant: the first run,
which warms up, is in no figure.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from deploy.benchmark import hardware
from deploy.benchmark.figures import CORES, Chart, Figure, Limit, Measured, medians
from deploy.benchmark.jobs import FloodJob, Found
from deploy.benchmark.sizes import cpu_seconds
from deploy.benchmark.stage import Stage
from deploy.benchmark.workers import Worker, WorkFailed
from deploy.devnet.network import ALPHA, ASSET_OF, BETA, GAMMA
from lockstep.receipts import ReceiptCode
from lockstep.types import RollupId, TransactionId

MESSAGE_BUNDLES: Final = 100
"""Bundles of one message of a flood."""

MESSAGES_MAX: Final = 64
"""Messages of a flood in flight: less than the half of the sequencer's queue that one namespace may fill."""

NODE_OF: Final[Mapping[RollupId, str]] = {ALPHA: "alpha-0", BETA: "beta-0", GAMMA: "gamma-0"}
"""Who executes a rollup, and whom to ask about it."""

ORDERING: Final = ("settlement", "sequencer")
"""The processes that order."""

EXECUTING: Final = (*ORDERING, *NODE_OF.values())
"""Those that order and execute."""

ENTRY_BYTES: Final = 250
"""About how many bytes an append takes for each transaction."""

BLOCK_BYTES: Final = 400
"""About how many bytes an append takes for a small block."""


@dataclass(slots=True)
class Runs:
    """The runs of one scenario, as far as they have come."""

    stage: Stage
    """The devnet."""
    found: list[Found] = field(default_factory=list)
    """What the worker found, per run that counts."""
    seconds: list[float] = field(default_factory=list)
    """From the first act to the end that the scenario waits for, per run."""
    cpu: list[Mapping[str, float]] = field(default_factory=list)
    """Cores that each process took, per run."""
    cpu_us_each: list[Mapping[str, float]] = field(default_factory=list)
    """CPU time in us that each process took for each thing that was done, per run."""
    stages_us_each: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)
    """Real time in us that a process spent in each of its stages for each thing that was done, per run."""

    async def repeat(
        self,
        worker: Worker,
        runs: int,
        *,
        executed_by: Collection[str] = (),
        others: Mapping[str, Worker] | None = None,
    ) -> None:
        """Run once to warm up and then `runs` times; a run ends when nodes have executed it.

        `others` are workers whose CPU is to be told besides, by name.
        """
        for number in range(runs + 1):
            await worker.prepare()
            if number:
                await self.once(worker, executed_by=executed_by, others=others)
            else:
                found = await worker.run()
                await self.stage.wait_executed(executed_by, found.last_height)

    async def once(
        self,
        worker: Worker,
        *,
        executed_by: Collection[str] = (),
        others: Mapping[str, Worker] | None = None,
    ) -> None:
        """Have a worker that is prepared run once, and note it."""
        pids = {name: other.pid for name, other in (others or {}).items()}
        stages_before = await self.stage.stage_ns()
        before, started_s = self._cpu(pids), time.monotonic()
        found = await worker.run()
        await self.stage.wait_executed(executed_by, found.last_height)
        ended_s, after = time.monotonic(), self._cpu(pids)
        taken = {name: after[name] - before[name] for name in before if name in after}
        taken["load"] = found.cpu_seconds
        self.found.append(found)
        self.seconds.append(ended_s - found.started_ns / 1e9 if executed_by else found.seconds)
        self.cpu.append({name: cpu / (ended_s - started_s) for name, cpu in taken.items()})
        self.cpu_us_each.append({name: cpu * 1e6 / found.count for name, cpu in taken.items()})
        for name, stages in (await self.stage.stage_ns()).items():
            earlier = stages_before.get(name, {})
            self.stages_us_each.setdefault(name, []).append(
                {stage: (ns - earlier.get(stage, 0)) / 1e3 / found.count for stage, ns in stages.items()}
            )

    def add(self, other: "Runs") -> None:
        """Take in what another part of the scenario took; not what it found."""
        self.cpu += other.cpu
        self.cpu_us_each += other.cpu_us_each
        for name, stages in other.stages_us_each.items():
            self.stages_us_each.setdefault(name, []).extend(stages)

    def rates(self) -> tuple[float, ...]:
        """Return how much was done per second, per run."""
        return tuple(found.count / seconds for found, seconds in zip(self.found, self.seconds, strict=True))

    def rates_answered(self) -> tuple[float, ...]:
        """Return how much was answered per second, executed or not, per run."""
        return tuple(each.count / each.seconds for each in self.found)

    def rates_by_cpu(self) -> tuple[float, ...]:
        """Return how much could be done per second if CORES cores did nothing else and never waited, per run.

        By the CPU time of all processes, the load's included: what else a machine does hardly disturbs it.
        """
        return tuple(CORES * 1e6 / max(sum(taken.values()), 1e-3) for taken in self.cpu_us_each)

    def latencies_ms(self) -> Sequence[Sequence[float]]:
        """Return the latencies of each run."""
        return [found.latencies_ms for found in self.found]

    def all_latencies_ms(self) -> Sequence[float]:
        """Return the latencies of all runs."""
        return [latency_ms for found in self.found for latency_ms in found.latencies_ms]

    def per_block(self) -> float:
        """Return the median number of bundles per block."""
        return median(found.count / found.blocks for found in self.found)

    def measured(
        self,
        figures: Sequence[Figure],
        notes: Mapping[str, float] | None = None,
        charts: Sequence[Chart] = (),
    ) -> Measured:
        """Return what the scenario found out."""
        return Measured(
            tuple(figures),
            medians(self.cpu),
            medians(self.cpu_us_each),
            {name: medians(stages) for name, stages in self.stages_us_each.items()},
            notes or {},
            tuple(charts),
        )

    def _cpu(self, others: Mapping[str, int]) -> Mapping[str, float]:
        return {**self.stage.cpu_seconds(), **{name: cpu_seconds(pid) for name, pid in others.items()}}


def assets_of(*rollups: RollupId) -> dict[str, str]:
    """Return the asset of each of some rollups."""
    return {str(rollup): ASSET_OF[rollup] for rollup in rollups}


def flood(
    stage: Stage,
    count: int,
    assets: Mapping[str, str],
    *,
    accounts: int = 0,
    message_bundles: int = MESSAGE_BUNDLES,
    rate: float = 0.0,
) -> FloodJob:
    """Return the job of sending random bytes, or with `accounts` transfers, to rollups in turns."""
    message_bundles = min(message_bundles, count)
    return FloodJob(
        target=stage.network.address("sequencer"),
        chain=stage.network.genesis.chain_id.hex(),
        assets=dict(assets),
        # An echo answers every message as if it were full.
        count=count - count % message_bundles,
        message_bundles=message_bundles,
        messages_max=max(MESSAGES_MAX * MESSAGE_BUNDLES // message_bundles, 4),
        transfer_accounts=accounts,
        rate=rate,
    )


async def append_ms(stage: Stage, per_block: float) -> float:
    """Measure an append of a block of so many transactions."""
    return await hardware.append_ms(stage.network.folder, round(per_block * ENTRY_BYTES))


async def durable(stage: Stage, per_block: float) -> Limit:
    """Measure F for blocks of so many transactions: how many per second can be appended."""
    return hardware.per_second(await append_ms(stage, per_block), each=per_block, name="F")


async def verify_samples(stage: Stage, found: Sequence[Found]) -> None:
    """Check that transactions of a flood did what they say: what fails is cheap, and must not count."""
    for rollup, transaction_id in (sample for each in found for sample in each.samples):
        node = stage.clients.nodes[NODE_OF[RollupId(rollup)]]
        receipt = await node.receipt(TransactionId(bytes.fromhex(transaction_id)))
        if receipt.code is not ReceiptCode.OK:
            raise WorkFailed(f"transfer {transaction_id} on {rollup} ended as {receipt.code.name}")
