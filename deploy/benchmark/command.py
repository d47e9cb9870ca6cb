"""The benchmark's command: options, the order of scenarios, what is shown and written, and the exit code."""

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from deploy.benchmark.figures import ScenarioResult, show
from deploy.benchmark.scenarios import FULL, QUICK, SCENARIOS, Effort
from deploy.benchmark.workers import WorkFailed
from deploy.devnet.launcher import DevnetFailed
from deploy.node.failures import ProcessFailure
from lockstep.errors import LockstepError

_EXPECTED: Final = (DevnetFailed, LockstepError, ProcessFailure, TimeoutError, WorkFailed)
"""Failures whose message says it all."""

FILE_WIDTH: Final = 110
"""Columns of tables that no terminal shows."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Do less of everything: about a minute and a half.")
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
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what was found to FILE.",
)
def bench(
    *,
    quick: bool,
    names: Sequence[str],
    is_list: bool,
    runs: int | None,
    count: int | None,
    json_file: Path | None,
) -> None:
    """Measure how fast a network is on this machine, beside what the machine itself can do.

    Each scenario starts a devnet of its own in a temporary folder, warms it up, and counts several runs.
    Everything, load included, shares the machine. Beside a figure stands the machine's limit for it, measured
    in the same run, and the ratio: V, Ed25519 verifications per second over two processes; F, durable appends
    of the same sizes; T, the same messages over the same kind of gRPC stream, answered without a look.

    FILE is a JSON object: "machine", "effort", "seconds" and the list "scenarios" (name, what, cpu,
    cpu_us_each, stages_us_each, notes, and "figures": name, unit, median, lowest, highest, values, limit,
    ratio). A ratio of 1 is the limit.
    """
    if is_list:
        for name, scenario in SCENARIOS.items():
            click.echo(f"{name}: {scenario.what}")
        return
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {json_file} does not exist", param_hint="--json")
    effort = QUICK if quick else FULL
    effort = effort if count is None else effort.of_at_most(count)
    effort = effort if runs is None else effort.with_runs(runs)
    console = Console(highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width of its own.
        console.width = FILE_WIDTH
    started_s = time.monotonic()
    try:
        results = asyncio.run(_measure(names or tuple(SCENARIOS), effort, console))
    except (*_EXPECTED, BaseExceptionGroup) as failure:
        console.print(str(failure), style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    if json_file is not None:
        found = {
            "machine": machine(),
            "effort": effort.as_json(),
            "seconds": time.monotonic() - started_s,
            "scenarios": [result.as_json() for result in results],
        }
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


async def _measure(names: Sequence[str], effort: Effort, console: Console) -> list[ScenarioResult]:
    results = []
    for name in names:
        with console.status(f"{name}: {SCENARIOS[name].what}"):
            results.append(await SCENARIOS[name].measure(effort))
        show(results[-1], console)
    return results


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    return {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
