"""`lockstep audit`: what can be typed, what is shown while it goes on, and how it ends.

Exit codes are the frame's: 0 nothing found, 4 something does not hold, 3 the sequencer does not answer.
"""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import click

from deploy.audit.checkers import Audit
from deploy.audit.following import GRACE_MS, Follower, Target, following
from deploy.audit.invariants import Invariant, Violated
from deploy.audit.report import Summary, summary_of, write_report
from deploy.commands.frame import (
    EXIT_DONE,
    EXIT_UNVERIFIED,
    Command,
    Options,
    Say,
    network_options,
    print_json,
    print_json_line,
    print_table,
    progress,
    run,
)
from deploy.commands.parameters import DURATION
from deploy.node.failures import SettingsInvalid
from lockstep.order import Placement
from lockstep.types import BundleId, Height

SHOW_S: Final = 0.5
"""How often a terminal is told how far it came."""

TELL_S: Final = 10.0
"""How often a program is, with --follow and --json."""


@click.command(cls=Command)
@network_options
@click.option("--follow", is_flag=True, help="Go on for ever: until something does not hold, or Ctrl-C.")
@click.option("--until-height", type=click.IntRange(1), metavar="HEIGHT", help="Stop after this block.")
@click.option(
    "--grace",
    "grace_ms",
    type=DURATION,
    default=f"{GRACE_MS // 1_000}s",
    show_default=True,
    help="How long, at the end, a node that is away or behind is waited for.",
)
@click.option(
    "--acknowledged",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="JSON lines of bundles that were acknowledged: bundle_id, height, first_index, count.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Where a violation is written, as audit-violation.txt and .json; else the current folder.",
)
def audit(
    options: Options,
    *,
    follow: bool,
    until_height: int | None,
    grace_ms: int,
    acknowledged: Path | None,
    report: Path,
) -> None:
    """Check the whole network from outside: the order, every node, the settlement log.

    Executes everything again, from the first block on, by a second implementation, and compares what every
    service says. Without --follow it ends at what is the newest block now. Exit code 4: something does not
    hold; the first violation is shown and written to files.
    """

    async def work() -> int:
        network = options.network
        target = Target(options.genesis, network.sequencer, network.settlement, network.rollups, network.tls)
        checks = Audit(options.genesis, network.rollups)
        for placement in () if acknowledged is None else read_acknowledged(acknowledged):
            checks.acknowledged(placement)
        async with following(target, checks, grace_ms=grace_ms) as follower:
            return await _audit(follower, options, follow, until_height, report)

    run(options, work)


async def _audit(
    follower: Follower,
    options: Options,
    follow: bool,  # noqa: FBT001 - the option's value
    until_height: int | None,
    report: Path,
) -> int:
    started_s = time.monotonic()
    found: Violated | None = None

    def summary() -> Summary:
        return summary_of(follower, time.monotonic() - started_s)

    to_head = until_height is None and not follow
    with progress("waiting for the first block") as say:
        telling = asyncio.create_task(_tell(summary, say, is_json=options.is_json and follow))
        try:
            await _until_stopped(follower, follower.run(until_height, to_head=to_head))
        except Violated as violated:
            found = violated
        finally:
            telling.cancel()
    if found is None:
        _show(summary(), options, is_line=follow)
        return EXIT_DONE
    _show_violation(found, summary(), options, report, is_line=follow)
    return EXIT_UNVERIFIED


async def _until_stopped(follower: Follower, work: Coroutine[Any, Any, None]) -> None:
    """Do an audit's work until it is done, or somebody sends SIGINT or SIGTERM, which is no failure.

    Then it comes to its end; at a second signal, or before the first block, it ends at once.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        if stopping or not follower.audit.height:
            task.cancel()
        stopping.append(asyncio.ensure_future(follower.stop()))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await asyncio.gather(*stopping)


# --- what is shown ----------------------------------------------------------------------------------------


async def _tell(summary: Callable[[], Summary], say: Say, *, is_json: bool) -> None:
    """Say how far it came, until cancelled."""
    told_s = time.monotonic()
    before, before_s = 0, told_s
    while True:
        await asyncio.sleep(SHOW_S)
        now, now_s = summary(), time.monotonic()
        rate = (now.height - before) / (now_s - before_s)
        before, before_s = now.height, now_s
        away = sum(bool(node.away) for node in now.nodes)
        compared = min((node.compared_height for node in now.nodes), default=0)
        say(
            f"block {now.height} of {now.head_height}, {rate:.0f}/s; nodes up to {compared}, "
            f"log up to {now.anchored_height}; {sum(now.swaps.values())} swaps"
            + (f"; {away} of {len(now.nodes)} nodes away" if away else "")
        )
        if is_json and now_s - told_s >= TELL_S:
            told_s = now_s
            print_json_line({"event": "progress", **now.as_json()})


def _show(summary: Summary, options: Options, *, is_line: bool) -> None:
    if options.is_json:
        told = {"ok": True, **summary.as_json()}
        if is_line:
            print_json_line({"event": "summary", **told})
        else:
            print_json(told)
        return
    for line in summary.lines():
        click.echo(line)
    click.echo()
    print_table(
        ("checked", "invariant", "what it says"),
        [(str(summary.checks.get(each, 0)), each.name, each.value) for each in Invariant],
    )
    click.echo()
    click.secho("no violation", fg="green", nl=False)
    click.echo("" if summary.is_complete else "; but not everybody could be compared up to the last block")


def _show_violation(
    violated: Violated, summary: Summary, options: Options, folder: Path, *, is_line: bool
) -> None:
    violation = violated.violation
    files = [str(file) for file in write_report(folder, violation, summary)]
    if options.is_json:
        told = {
            "ok": False,
            "code": "VIOLATION",
            "error": violation.message,
            "advice": f"see {files[0]}",
            "violation": violation.as_json(),
            "summary": summary.as_json(),
        }
        if is_line:
            print_json_line({"event": "violation", **told})
        else:
            print_json(told)
        return
    head, *lines = violation.lines()
    click.secho(head, fg="red")
    for line in (
        *lines,
        "",
        "looked at until then:",
        *summary.lines(),
        "",
        f"written to {' and '.join(files)}",
    ):
        click.echo(line)


# --- what is read -----------------------------------------------------------------------------------------


def read_acknowledged(path: Path) -> Sequence[Placement]:
    """Return the placements in a file of JSON lines. Raises SettingsInvalid, naming the line."""
    placements = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            told = json.loads(line)
            placements.append(
                Placement(
                    BundleId(bytes.fromhex(told["bundle_id"])),
                    Height(int(told["height"])),
                    int(told["first_index"]),
                    int(told["count"]),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsInvalid(
                f"{path}:{number}: is no acknowledgement ({error}); write bundle_id in hex, height, "
                f"first_index and count"
            ) from error
    return placements
