"""Slices of `lockstep chaos`, one after the other: `python -m tests.chaos.random_campaign`.

Each slice is a network, a seed and a verdict; processes are forked from one that has imported everything,
which is all that differs from the command. `--planted` puts a bug into the sequencer, which must be found.
What ran stands in a journal, which `tests.chaos.recording` puts into RELIABILITY.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from deploy.chaos.command import replay_of
from deploy.chaos.faults import ALL_KINDS, Kind
from deploy.chaos.running import HISTORY_FILE, Outcome, Plan, run_chaos
from deploy.commands.parameters import DURATION
from deploy.devnet.launcher import Spawn
from tests.chaos.forks import ForkedProcess, ForkServer, fork_server
from tests.chaos.journals import JOURNAL_OPTION, note

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
@JOURNAL_OPTION
def main(
    *,
    slices: int,
    for_ms: int,
    seed: int,
    gap_ms: int,
    at_once: int,
    transfer_ms: int,
    planted: str | None,
    journal: Path | None,
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
    outcomes = asyncio.run(_run_all(plans, planted, journal))
    sys.exit(0 if all(outcome.ok for outcome in outcomes) else 1)


async def _run_all(plans: Sequence[Plan], planted: str | None, journal: Path | None) -> list[Outcome]:
    outcomes = []
    for plan in plans:
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.seed}-"))
        async with fork_server() as server:
            outcome = await run_chaos(folder, plan, lambda _: None, spawn=_spawn_of(server, planted))
        outcomes.append(outcome)
        _show(plan, outcome, folder, journal)
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


def _show(plan: Plan, outcome: Outcome, folder: Path, journal: Path | None) -> None:
    told: dict[str, Any] = {
        "seed": plan.seed,
        "ok": outcome.ok,
        "is_healed_in_time": outcome.is_healed_in_time,
        "healed_ms": outcome.healed_ms,
        "starved_ms": outcome.starved_ms,
        "seconds": round(outcome.seconds),
        **{name: getattr(plan, name) for name in ("for_ms", "gap_ms", "at_once", "transfer_ms")},
        **outcome.counts.as_json(),
    }
    note(journal, **told)
    click.echo(json.dumps(told))
    if not outcome.ok:
        click.echo(
            f"{outcome.broken}\n{replay_of(plan)}\nhistory and everything else: {folder / HISTORY_FILE}"
        )


if __name__ == "__main__":
    main()
