"""The benchmark's command: options, the order of scenarios, what is shown and written, and the exit code."""

import asyncio
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from deploy.benchmark.effort import FULL, QUICK, Effort
from deploy.benchmark.plots import PlotsMissing, draw
from deploy.benchmark.results import COMMAND, read_results, write_results
from deploy.benchmark.scenarios import SCENARIOS, Set, names_of
from deploy.benchmark.showing import show
from deploy.benchmark.workers import WorkFailed
from deploy.commands.parameters import DURATION
from deploy.devnet.launcher import DevnetFailed
from deploy.node.failures import ProcessFailure
from lockstep.errors import LockstepError

_EXPECTED: Final = (DevnetFailed, LockstepError, ProcessFailure, TimeoutError, WorkFailed)
"""Failures whose message says it all."""

FILE_WIDTH: Final = 130
"""Columns of tables that no terminal shows."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Do less of everything, and only the short scenarios: a minute.")
@click.option("--all", "is_all", is_flag=True, help="Run the long scenarios too: more than half an hour.")
@click.option(
    "--only",
    "names",
    metavar="NAME",
    type=click.Choice(tuple(SCENARIOS)),
    multiple=True,
    help="Run this scenario alone. May be given several times.",
)
@click.option("--list", "is_list", is_flag=True, help="Name the scenarios and exit.")
@click.option("--runs", type=click.IntRange(1, 100), help="How many runs of each count.")
@click.option("--count", type=click.IntRange(1), help="At most so many bundles, transfers or swaps in a run.")
@click.option("--accounts", type=click.IntRange(2), help="At most so many funded accounts on a rollup.")
@click.option(
    "--transactions", type=click.IntRange(1), help="Over how many the sequencer's memory is watched."
)
@click.option(
    "--for", "lasting_ms", metavar="DURATION", type=DURATION, help="How long the soak lasts, such as 10m."
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what was found to FILE, after each scenario.",
)
@click.option("--merge", is_flag=True, help="Keep what FILE says of scenarios that are not run now.")
@click.option(
    "--plots",
    "plots_folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Draw what was found, as SVG files in FOLDER.",
)
def bench(
    *,
    quick: bool,
    is_all: bool,
    names: Sequence[str],
    is_list: bool,
    runs: int | None,
    count: int | None,
    accounts: int | None,
    transactions: int | None,
    lasting_ms: int | None,
    json_file: Path | None,
    merge: bool,
    plots_folder: Path | None,
) -> None:
    """Measure how fast a network is on this machine, beside what the machine itself can do.

    Each scenario starts a devnet of its own in a temporary folder, warms it up, and counts several runs.
    Everything, load included, shares the machine. Beside a figure stands the machine's limit for it, measured
    in the same run, and the ratio: V, Ed25519 verifications per second over two processes; F, durable appends
    of the same sizes; T, the same messages over the same kind of gRPC stream, answered without a look. Then
    what the figure is to reach, and whether it did; only the full effort is meant to. If a scenario fails,
    the others go on, and the exit code is 1.

    FILE is a JSON object: "machine", and the list "scenarios" (name, what, command, date, seconds,
    load_average, effort, cpu, cpu_us_each, stages_us_each, notes, charts, and "figures": name, unit, median,
    lowest, highest, values, limit, ratio, goals). A ratio of 1 is the limit. FOLDER gets a picture for each
    chart, once `./deploy/setup --bench` has installed what draws them, which ./deploy/bench does.
    """
    if is_list:
        for name, scenario in SCENARIOS.items():
            click.echo(f"{name}: {scenario.what}{_SET_WORDS[scenario.belongs_to]}")
        return
    _verify_files(json_file, plots_folder, merge=merge)
    effort = QUICK if quick else FULL
    effort = effort if count is None else effort.of_at_most(count)
    effort = effort if accounts is None else effort.with_accounts(accounts)
    effort = effort if transactions is None else effort.with_transactions(transactions)
    effort = effort if lasting_ms is None else effort.lasting(lasting_ms / 1_000)
    effort = effort if runs is None else effort.with_runs(runs)
    console = Console(highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width of its own.
        console.width = FILE_WIDTH
    wanted = names or names_of(Set.ALL if is_all else Set.QUICK if quick else Set.FULL)
    found = read_results(json_file) if merge and json_file is not None else {}
    typed, measured = _typed(), []
    for name in wanted:
        try:
            found |= {name: asyncio.run(_measure(name, effort, typed, console))}
        except (*_EXPECTED, BaseExceptionGroup) as failure:
            # What others find in half an hour is not thrown away for this.
            console.print(f"{name} failed: {failure}", style="red", markup=False, soft_wrap=True)
            continue
        measured.append(name)
        if json_file is not None:
            write_results(json_file, machine(), found, order=tuple(SCENARIOS))
    if plots_folder is not None:
        for file in draw(plots_folder, {name: found[name] for name in measured}):
            console.print(f"drawn: {file}", markup=False, soft_wrap=True)
    if len(measured) < len(wanted):
        sys.exit(1)


_SET_WORDS: Final[Mapping[Set, str]] = {
    Set.QUICK: "",
    Set.FULL: " (not with --quick)",
    Set.ALL: " (only with --all, or named)",
}


def _verify_files(json_file: Path | None, plots_folder: Path | None, *, merge: bool) -> None:
    """Insist, before anything takes minutes, that what is found can be kept."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {json_file} does not exist", param_hint="--json")
    if merge and json_file is None:
        raise click.BadParameter("goes with --json FILE", param_hint="--merge")
    if plots_folder is not None:
        try:
            draw(plots_folder, {})
        except PlotsMissing as missing:
            raise click.BadParameter(str(missing), param_hint="--plots") from missing


async def _measure(name: str, effort: Effort, typed: str, console: Console) -> Mapping[str, object]:
    """Run a scenario, show what it found, and return that as it is written to a file."""
    scenario = SCENARIOS[name]
    load_before, started_s = os.getloadavg()[0], time.monotonic()
    with console.status(f"{name}: {scenario.what}"):
        measured = await scenario.measure(effort)
    show(name, scenario.what, measured, console)
    return {
        "name": name,
        "what": scenario.what,
        "command": f"{COMMAND}{name}{typed}",
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": time.monotonic() - started_s,
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "effort": effort.as_json(),
        **measured.as_json(),
    }


def _typed() -> str:
    """Return those options that change what a scenario does, as they are to be typed again."""
    context = click.get_current_context()
    flags = ("quick",)
    values = ("runs", "count", "accounts", "transactions")
    words = [f" --{name}" for name in flags if context.params[name]]
    words += [f" --{name} {context.params[name]}" for name in values if context.params[name] is not None]
    if (lasting_ms := context.params["lasting_ms"]) is not None:
        words.append(f" --for {lasting_ms}ms")
    return "".join(words)


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    return {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
