"""Slices of `lockstep chaos`, one after the other: `python -m tests.chaos.random_campaign`.

Each slice is a network, a seed and a verdict; processes are forked from one that has imported everything,
which is all that differs from the command. `--planted` puts a bug into the sequencer, which must be found.
What ran is recorded with `--record` (`tests.reliability`).
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from deploy.chaos.command import replay_of
from deploy.chaos.faults import ALL_KINDS, Kind
from deploy.chaos.running import HEAL_MS_MAX, HISTORY_FILE, Outcome, Plan, run_chaos
from deploy.commands.parameters import DURATION
from deploy.devnet.launcher import Spawn
from tests.chaos.forks import ForkedProcess, ForkServer, fork_server
from tests.reliability import Control, load, record

CLAIM: Final = (
    "Whoever is killed, paused, cut off or robbed of a disk, at random and under load: nothing acknowledged "
    "is lost or moved, both sides of a swap move or neither, value is conserved, all nodes come to one state"
)
HEALED: Final = f"After the last fault every open swap is at its end within {HEAL_MS_MAX // 1_000} s"

NOT_COVERED: Final = (
    "power loss and bit rot, which have trials of their own; more than one machine; a wrong wall clock, "
    "which `lockstep chaos` sets by libfaketime and forked processes cannot have; the settlement log's data "
    "deleted or older. Trials are slices: a network, a seed, a verdict."
)

PLANTED: Final[Mapping[str, tuple[str, str, tuple[Kind, ...], tuple[str, ...]]]] = {
    "early-ack": (
        "tests.chaos.planted.early_ack",
        "the sequencer answers before a block is on disk",
        (Kind.KILL,),
        ("sequencer",),
    ),
    "no-guard": (
        "tests.chaos.planted.no_guard",
        "the sequencer orders on an older copy of its folder",
        (Kind.STALE,),
        ("sequencer",),
    ),
}
"""Bugs: the module, in words, and the faults and victims by which they show."""


@click.command()
@click.option("--slices", type=click.IntRange(1), default=4, show_default=True)
@click.option("--for", "for_ms", type=DURATION, default="200s", show_default=True, help="Of each slice.")
@click.option("--seed", type=int, default=100, show_default=True, help="Of the first; the next has one more.")
@click.option("--gap", "gap_ms", type=DURATION, default="400ms", show_default=True)
@click.option("--at-once", type=int, default=12, show_default=True)
@click.option("--transfer", "transfer_ms", type=DURATION, default="200ms", show_default=True)
@click.option("--planted", type=click.Choice(list(PLANTED)))
@click.option("--record", "is_recorded", is_flag=True, help="Write what ran into RELIABILITY.json.")
def main(
    *,
    slices: int,
    for_ms: int,
    seed: int,
    gap_ms: int,
    at_once: int,
    transfer_ms: int,
    planted: str | None,
    is_recorded: bool,
) -> None:
    """Run slices of chaos and say what came of them. Exit code 1: a promise was broken."""
    kinds: tuple[Kind, ...] = tuple(kind for kind in ALL_KINDS if kind is not Kind.CLOCK)
    victims: tuple[str, ...] = ()
    if planted is not None:
        _, _, kinds, victims = PLANTED[planted]
    plans = [
        Plan(
            seed + number,
            for_ms,
            kinds,
            victims=victims,
            gap_ms=gap_ms,
            at_once=at_once,
            transfer_ms=transfer_ms,
        )
        for number in range(slices)
    ]
    outcomes = asyncio.run(_run_all(plans, planted))
    if is_recorded:
        (_record if planted is None else _record_control)(plans, outcomes, planted or "")
    sys.exit(0 if all(outcome.ok for outcome in outcomes) else 1)


async def _run_all(plans: Sequence[Plan], planted: str | None) -> list[Outcome]:
    outcomes = []
    for plan in plans:
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-"))
        async with fork_server() as server:
            outcome = await run_chaos(folder, plan, lambda _: None, spawn=_spawn_of(server, planted))
        outcomes.append(outcome)
        _show(plan, outcome, folder)
        if outcome.ok:
            await asyncio.to_thread(shutil.rmtree, folder)
    return outcomes


def _spawn_of(server: ForkServer, planted: str | None) -> Spawn:
    if planted is None:
        return server.spawn

    async def spawn(
        module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int, group: int
    ) -> ForkedProcess:
        chosen = PLANTED[planted][0] if module == "sequencer" else f"{module}.__main__"
        return await server.fork(chosen, arguments, environ=environ, stderr=stderr)

    return spawn


def _show(plan: Plan, outcome: Outcome, folder: Path) -> None:
    told = {
        "seed": plan.seed,
        "ok": outcome.ok,
        "seconds": round(outcome.seconds),
        "healed_ms": outcome.healed_ms,
    }
    click.echo(json.dumps({**told, **outcome.counts.as_json()}))
    if not outcome.ok:
        click.echo(
            f"{outcome.broken}\n{replay_of(plan)}\nhistory and everything else: {folder / HISTORY_FILE}"
        )


def _record(plans: Sequence[Plan], outcomes: Sequence[Outcome], _: str) -> None:
    """Record slices, added to none that were recorded before."""
    kills, swaps, faults = 0, Counter[str](), Counter[str]()
    for outcome in outcomes:
        kills += sum(outcome.counts.killed.values())
        swaps += outcome.counts.swaps
        faults += outcome.counts.faults
    common: dict[str, Any] = {
        "trials": len(outcomes),
        "failures": sum(not outcome.ok for outcome in outcomes),
        "seeds": f"{plans[0].seed} to {plans[-1].seed}",
        "command": f"python -m tests.chaos.random_campaign --slices {len(plans)} --for {plans[0].for_ms}ms "
        f"--seed {plans[0].seed} --gap {plans[0].gap_ms}ms --at-once {plans[0].at_once} "
        f"--transfer {plans[0].transfer_ms}ms",
        "date": datetime.now(UTC).date().isoformat(),
    }
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()))
    ended = ", ".join(f"{count} {name}" for name, count in sorted(swaps.items()))
    known = load().claims.get(CLAIM)
    record(
        CLAIM,
        **common,
        not_covered=f"{NOT_COVERED} In these: {kills} kills; faults: {told}; swaps that ended: {ended}.",
        controls=() if known is None else known.controls,
    )
    healed = [outcome.healed_ms for outcome in outcomes if outcome.healed_ms is not None]
    common["failures"] = sum(
        outcome.healed_ms is None or outcome.healed_ms > HEAL_MS_MAX for outcome in outcomes
    )
    record(
        HEALED,
        **common,
        not_covered=f"swaps whose terms allow more time than those of chaos. The times were {healed} ms.",
    )


def _record_control(_: Sequence[Plan], outcomes: Sequence[Outcome], planted: str) -> None:
    """Add to the claim what was seen with a planted bug."""
    claim = load().claims[CLAIM]
    words = PLANTED[planted][1]
    control = Control(words, len(outcomes), sum(not outcome.ok for outcome in outcomes))
    others = tuple(each for each in claim.controls if each.planted != words)
    record(
        CLAIM,
        trials=claim.trials,
        failures=claim.failures,
        seeds=claim.seeds,
        command=claim.command,
        not_covered=claim.not_covered,
        date=claim.date,
        controls=(*others, control),
    )


if __name__ == "__main__":
    main()
