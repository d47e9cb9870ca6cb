"""What is measured, by name.

Owns how often each scenario runs, what it counts, and which limit stands beside it. Every scenario has a
devnet of its own, and warms it up with a run that is not counted.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

from deploy.benchmark import hardware
from deploy.benchmark.figures import Figure, Limit, ScenarioResult, latency_figures
from deploy.benchmark.jobs import FloodJob, Found, LoneJob, SwapsJob
from deploy.benchmark.stage import Stage, staged
from deploy.benchmark.workers import Worker, WorkFailed, working
from deploy.devnet.network import ALPHA, ASSET_OF, BETA
from lockstep.receipts import ReceiptCode
from lockstep.types import RollupId, TransactionId

MESSAGE_BUNDLES: Final = 100
"""Bundles of one message of a flood."""

MESSAGES_MAX: Final = 64
"""Messages of a flood in flight: less than the half of the sequencer's queue that one namespace may fill."""

ACCOUNTS: Final = 1_000
"""Funded accounts on each rollup."""

ORDERING: Final = ("settlement", "sequencer")
EXECUTING: Final = (*ORDERING, "alpha-0", "beta-0")
SWAPPING: Final = (*EXECUTING, "bridge")

NODE_OF: Final[Mapping[RollupId, str]] = {ALPHA: "alpha-0", BETA: "beta-0"}
"""Whom to ask about a rollup."""

_ENTRY_BYTES: Final = 250
_BLOCK_BYTES: Final = 400
_GENESIS_ASSETS: Final = {str(rollup): ASSET_OF[rollup] for rollup in NODE_OF}


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done."""

    runs: int
    """Runs that count."""
    opaque: int
    """Bundles of a run that are only ordered."""
    transfers: int
    """Transfers of a run."""
    lone: int
    """Lone submits of a run."""
    idle_swaps: int
    """Swaps of a run, one at a time."""
    swaps: int
    """Swaps of a run, many at a time."""
    swaps_at_a_time: int
    """How many."""

    def of_at_most(self, count: int) -> "Effort":
        """Return the same with at most `count` of anything in a run."""
        return replace(
            self,
            opaque=min(count, self.opaque),
            transfers=min(count, self.transfers),
            lone=min(count, self.lone),
            idle_swaps=min(count, self.idle_swaps),
            swaps=min(count, self.swaps),
        )

    def with_runs(self, runs: int) -> "Effort":
        """Return the same with another number of runs."""
        return replace(self, runs=runs)

    def as_json(self) -> Mapping[str, object]:
        """Return it as it is written to a file."""
        return asdict(self)


QUICK: Final = Effort(
    runs=3, opaque=20_000, transfers=6_000, lone=200, idle_swaps=20, swaps=100, swaps_at_a_time=32
)
FULL: Final = Effort(
    runs=5, opaque=100_000, transfers=30_000, lone=2_000, idle_swaps=200, swaps=1_000, swaps_at_a_time=32
)


@dataclass(slots=True)
class _Runs:
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
    stages_us_each: list[Mapping[str, float]] = field(default_factory=list)
    """Real time in us that the sequencer spent in each stage for each thing that was done, per run."""

    async def repeat(self, worker: Worker, runs: int, *, executed_by: Collection[str] = ()) -> None:
        """Run once to warm up and then `runs` times; a run ends when nodes have executed it."""
        for number in range(runs + 1):
            await worker.prepare()
            stages_before = await self._stage_ns()
            before, started_s = self.stage.cpu_seconds(), time.monotonic()
            found = await worker.run()
            await self.stage.wait_executed(executed_by, found.last_height)
            ended_s, after = time.monotonic(), self.stage.cpu_seconds()
            if number:
                seconds = ended_s - found.started_ns / 1e9 if executed_by else found.seconds
                taken = {name: after[name] - before[name] for name in before} | {"load": found.cpu_seconds}
                self.found.append(found)
                self.seconds.append(seconds)
                self.cpu.append({name: cpu / (ended_s - started_s) for name, cpu in taken.items()})
                self.cpu_us_each.append({name: cpu * 1e6 / found.count for name, cpu in taken.items()})
                stages = (await self._stage_ns()).items()
                self.stages_us_each.append(
                    {name: (ns - stages_before[name]) / 1e3 / found.count for name, ns in stages}
                )

    async def _stage_ns(self) -> Mapping[str, int]:
        return (await self.stage.clients.sequencer.status()).stage_ns

    def rates(self) -> tuple[float, ...]:
        """Return how much was done per second, per run."""
        return tuple(found.count / seconds for found, seconds in zip(self.found, self.seconds, strict=True))

    def latencies_ms(self) -> Sequence[Sequence[float]]:
        """Return the latencies of each run."""
        return [found.latencies_ms for found in self.found]

    def per_block(self) -> float:
        """Return the median number of bundles per block."""
        return median(found.count / found.blocks for found in self.found)

    def result(
        self, name: str, figures: Sequence[Figure], notes: Mapping[str, float] | None = None
    ) -> ScenarioResult:
        """Return the scenario's result."""
        return ScenarioResult(
            name,
            SCENARIOS[name].what,
            tuple(figures),
            _medians(self.cpu),
            _medians(self.cpu_us_each),
            _medians(self.stages_us_each),
            notes or {},
        )


def _medians(runs: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the median of each name's values."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


async def order_only(effort: Effort) -> ScenarioResult:
    """Measure ordering alone."""
    async with staged(ORDERING) as stage:
        job = await _flood(stage, effort.opaque, {str(ALPHA): ASSET_OF[ALPHA]})
        runs = _Runs(stage)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs)
        per_block = runs.per_block()
        append_ms = await _append_ms(stage, per_block)
    carried = await hardware.transport(job)
    durable = hardware.per_second(append_ms, each=per_block, name="F")
    rates = runs.rates()
    figures = (
        Figure("ordered", "bundles/s", rates, carried),
        Figure("the same", "bundles/s", rates, durable),
        *latency_figures("a message, sent to answered", runs.latencies_ms(), None),
    )
    return runs.result("order-only", figures, {"bundles per block": per_block, "ms per append": append_ms})


async def order_and_execute(effort: Effort) -> ScenarioResult:
    """Measure ordering and execution together."""
    before = await hardware.verifications()
    async with staged(EXECUTING, accounts=ACCOUNTS) as stage:
        job = await _flood(stage, effort.transfers, _GENESIS_ASSETS, accounts=ACCOUNTS)
        runs = _Runs(stage)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs, executed_by=tuple(NODE_OF.values()))
        await _verify_samples(stage, runs.found)
        per_block = runs.per_block()
        append_ms = await _append_ms(stage, per_block)
    verified = hardware.between(before, await hardware.verifications())
    # Sequencer and two rollups make everything durable, one after another on one disk.
    durable = hardware.per_second(append_ms, each=per_block, name="F")
    rates = runs.rates()
    figures = (
        Figure("executed by both", "transfers/s", rates, verified),
        Figure("the same", "transfers/s", rates, durable),
        Figure("ordered meanwhile", "bundles/s", _rates_ordered(runs.found)),
    )
    return runs.result(
        "order-execute", figures, {"transfers per block": per_block, "ms per append": append_ms}
    )


async def lone_submit(effort: Effort) -> ScenarioResult:
    """Measure the latency of lone submits, by stream and by single calls."""
    figures: list[Figure] = []
    async with staged(ORDERING) as stage:
        runs = _Runs(stage)
        append_ms = await hardware.append_ms(stage.network.folder, _BLOCK_BYTES)
        for is_unary, name in ((False, "stream"), (True, "unary")):
            trip_ms = await hardware.round_trip_ms(is_unary=is_unary, count=max(effort.lone, 50))
            limit = Limit("1 T, 1 F", trip_ms + append_ms)
            job = LoneJob(
                target=stage.network.address("sequencer"),
                genesis=stage.genesis_file,
                namespace=ALPHA,
                is_unary=is_unary,
                count=effort.lone,
            )
            one_way = _Runs(stage)
            async with working(job) as worker:
                await one_way.repeat(worker, effort.runs)
            figures += latency_figures(f"{name}, sent to receipt", one_way.latencies_ms(), limit)
            runs.cpu += one_way.cpu
            runs.cpu_us_each += one_way.cpu_us_each
            runs.stages_us_each += one_way.stages_us_each
    return runs.result("lone-submit", figures, {"ms per append": append_ms})


async def swap_idle(effort: Effort) -> ScenarioResult:
    """Measure the latency of one swap at a time."""
    figures: list[Figure] = []
    async with staged(SWAPPING, accounts=ACCOUNTS) as stage:
        runs = _Runs(stage)
        append_ms = await hardware.append_ms(stage.network.folder, _BLOCK_BYTES)
        trip_ms = await hardware.round_trip_ms(is_unary=True, count=50)
        # To accept: a call and its write. The opening block, then the attestations' block, each to be
        # written by the sequencer, carried to the rollups and executed durably there; a reveal is one more.
        for is_up_front, name, blocks in (
            (True, "revealed up front", 2),
            (False, "revealed by the taker", 3),
        ):
            limit = Limit(
                f"{blocks + 1} T, {2 * blocks + 1} F",
                (blocks + 1) * trip_ms + (2 * blocks + 1) * append_ms,
            )
            one_way = _Runs(stage)
            async with working(_swaps(stage, effort.idle_swaps, 1, is_up_front=is_up_front)) as worker:
                await one_way.repeat(worker, effort.runs)
            figures += latency_figures(f"{name}, accepted to settled", one_way.latencies_ms(), limit)
            runs.cpu += one_way.cpu
            runs.cpu_us_each += one_way.cpu_us_each
            runs.stages_us_each += one_way.stages_us_each
    return runs.result("swap-idle", figures, {"ms per append": append_ms, "ms per round trip": trip_ms})


async def swaps_sustained(effort: Effort) -> ScenarioResult:
    """Measure many swaps at a time."""
    before = await hardware.verifications()
    async with staged(SWAPPING, accounts=ACCOUNTS) as stage:
        runs = _Runs(stage)
        job = _swaps(stage, effort.swaps, effort.swaps_at_a_time, is_up_front=True)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs)
    verified = hardware.between(before, await hardware.verifications())
    # Two locks and two attestations, each verified by whoever relies on it: rollups, register of each.
    limit = Limit("V / 12", verified.value / 12)
    figures = (
        Figure("proposed to settled", "swaps/s", runs.rates(), limit),
        *latency_figures("accepted to settled", runs.latencies_ms(), None),
    )
    return runs.result("swaps-sustained", figures, {"at a time": effort.swaps_at_a_time})


async def catch_up(effort: Effort) -> ScenarioResult:
    """Measure how fast a node that starts from nothing executes what another executed live."""
    before = await hardware.verifications()
    async with staged((*ORDERING, "beta-0"), accounts=ACCOUNTS) as stage:
        job = await _flood(stage, effort.transfers, {str(BETA): ASSET_OF[BETA]}, accounts=ACCOUNTS)
        runs = _Runs(stage)
        async with working(job) as worker:
            await runs.repeat(worker, effort.runs, executed_by=("beta-0",))
        await _verify_samples(stage, runs.found)
        live = Limit("live", median(runs.rates()))
        await stage.devnet.start("beta-1")
        started_s = time.monotonic()
        await stage.wait_executed(("beta-1",), runs.found[-1].last_height)
        executed = job.count * (effort.runs + 1)
        caught_up = executed / (time.monotonic() - started_s)
    verified = hardware.between(before, await hardware.verifications())
    figures = (
        Figure("executed live", "transfers/s", runs.rates(), verified),
        Figure("caught up, once ready", "transfers/s", (caught_up,), live),
    )
    return runs.result("catch-up", figures, {"transfers": executed})


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something to measure."""

    what: str
    """What it does, in one sentence."""
    measure: Callable[[Effort], Awaitable[ScenarioResult]]
    """Does it."""


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "order-only": Scenario("bundles of one 200-byte transaction, 100 per message, durable", order_only),
    "order-execute": Scenario(
        "signed transfers, two rollups, roots computed, all durable", order_and_execute
    ),
    "lone-submit": Scenario("one client, one bundle at a time, to the durable signed receipt", lone_submit),
    "swap-idle": Scenario("one swap at a time, settled on both rollups", swap_idle),
    "swaps-sustained": Scenario("many swaps at a time, revealed up front, settled on both", swaps_sustained),
    "catch-up": Scenario("a rollup node executes from the order what another executed live", catch_up),
}
"""All scenarios, in the order in which they are run."""


async def _flood(stage: Stage, count: int, assets: Mapping[str, str], *, accounts: int = 0) -> FloodJob:
    message_bundles = min(MESSAGE_BUNDLES, count)
    return FloodJob(
        target=stage.network.address("sequencer"),
        chain=stage.network.genesis.chain_id.hex(),
        time_ms=await stage.clients.sequencer.time_ms(),
        assets=dict(assets),
        # An echo answers every message as if it were full.
        count=count - count % message_bundles,
        message_bundles=message_bundles,
        messages_max=MESSAGES_MAX,
        transfer_accounts=accounts,
    )


def _swaps(stage: Stage, count: int, concurrency: int, *, is_up_front: bool) -> SwapsJob:
    return SwapsJob(
        sequencer=stage.network.address("sequencer"),
        bridge=stage.network.address("bridge"),
        nodes={str(rollup): stage.network.address(name) for rollup, name in NODE_OF.items()},
        genesis=stage.genesis_file,
        assets=_GENESIS_ASSETS,
        is_up_front=is_up_front,
        count=count,
        concurrency=concurrency,
        accounts=ACCOUNTS,
    )


async def _append_ms(stage: Stage, per_block: float) -> float:
    """Measure an append of a block of so many transactions."""
    return await hardware.append_ms(Path(stage.network.folder), round(per_block * _ENTRY_BYTES))


def _rates_ordered(found: Sequence[Found]) -> tuple[float, ...]:
    return tuple(each.count / each.seconds for each in found)


async def _verify_samples(stage: Stage, found: Sequence[Found]) -> None:
    """Check that transactions of a flood did what they say: what fails is cheap, and must not count."""
    for rollup, transaction_id in (sample for each in found for sample in each.samples):
        node = stage.clients.nodes[NODE_OF[RollupId(rollup)]]
        receipt = await node.receipt(TransactionId(bytes.fromhex(transaction_id)))
        if receipt.code is not ReceiptCode.OK:
            raise WorkFailed(f"transfer {transaction_id} on {rollup} ended as {receipt.code.name}")
