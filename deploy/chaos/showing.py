"""What people and programs see of a run: what was done to whom as it happens, and the verdict.

Owns words and colours: a table that changes on a terminal, plain lines elsewhere, a line of JSON for each
with --json. Decides nothing.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.chaos.network import SERVICES, TRADERS, Cuts
from deploy.chaos.running import HEAL_MS_MAX, Outcome, Plan
from deploy.commands.frame import print_json_line

Tell = Callable[[Mapping[str, Any]], None]

_LINES_MAX: Final = 12
_SHOWN_ELSEWHERE: Final = frozenset({"at_s", "who", "what"})


class Lines:
    """Plain lines, for where nobody watches."""

    def __enter__(self) -> Tell:
        return lambda line: click.echo(_words(line))

    def __exit__(self, *_: object) -> None:
        pass


class Json:
    """A document on each line."""

    def __enter__(self) -> Tell:
        return lambda line: print_json_line({"event": "chaos", **line})

    def __exit__(self, *_: object) -> None:
        pass


class Screen:
    """Processes and what is being done to them, and the last that was done."""

    def __init__(self, plan: Plan, console: Console | None = None) -> None:
        """Show it on the terminal, or on a console."""
        self._plan = plan
        self._started_s = time.monotonic()
        self._states: dict[str, str] = {}
        self._done: dict[str, int] = {}
        self._last: deque[str] = deque(maxlen=_LINES_MAX)
        self._live = Live(console=console or Console(), get_renderable=self._picture, refresh_per_second=4)

    def __enter__(self) -> Tell:
        self._live.start()
        return self._take

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _take(self, line: Mapping[str, Any]) -> None:
        self._last.append(_words(line))
        for name in str(line["who"]).split(", "):
            if str(line["what"]).endswith(" begins"):
                self._states[name] = str(line["what"]).removesuffix(" begins")
                self._done[name] = self._done.get(name, 0) + 1
            elif str(line["what"]).endswith(" is over"):
                self._states[name] = ""

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for head in ("process", "now", "faults"):
            table.add_column(head)
        for name in (*SERVICES, *TRADERS):
            state = self._states.get(name, "")
            table.add_row(
                name, Text(state or "runs", "red" if state else "green"), str(self._done.get(name, 0))
            )
        seconds = time.monotonic() - self._started_s
        head = f"seed {self._plan.seed}: {seconds:.0f} s of {self._plan.for_ms / 1_000:.0f} s"
        return Group(Text(head, "bold"), table, *(Text(text, no_wrap=True) for text in self._last))


def watching(plan: Plan, *, is_json: bool) -> "Lines | Json | Screen":
    """Return what shows a run to whoever looks."""
    if is_json:
        return Json()
    return Screen(plan) if sys.stdout.isatty() else Lines()


def outcome_json(outcome: Outcome, *, folder: Path, history: Path, replay: str) -> dict[str, Any]:
    """Return how a run ended, for programs."""
    return {
        "event": "verdict",
        "ok": outcome.ok,
        "broken": outcome.broken,
        "seconds": round(outcome.seconds, 1),
        "healed_ms": outcome.healed_ms,
        "starved_ms": outcome.starved_ms,
        **outcome.counts.as_json(),
        "audit": dict(outcome.audit),
        "cuts": outcome.cuts,
        "unplayed": list(outcome.unplayed),
        "history": str(history),
        "folder": str(folder),
        "replay": replay,
    }


def show_outcome(outcome: Outcome, *, folder: Path, history: Path, replay: str) -> None:
    """Print how a run ended, for people."""
    counts = outcome.counts
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.faults.items())) or "none"
    ended = ", ".join(f"{count} {name}" for name, count in sorted(counts.swaps.items())) or "none"
    click.echo()
    for line in (
        f"{outcome.seconds:.0f} s disturbed: {sum(counts.killed.values())} kills; faults: {faults}",
        f"{counts.proposed} swaps proposed; seen to their end: {ended}",
        f"{counts.bundles} bundles with {counts.transactions} transactions were acknowledged to traders",
    ):
        click.echo(line)
    if outcome.healed_ms is not None:
        click.echo(
            f"after the last fault every swap was at its end in {outcome.healed_ms / 1_000:.1f} s "
            f"(at most {HEAL_MS_MAX // 1_000} s, but for {outcome.starved_ms / 1_000:.1f} s in which "
            f"a process got no processor)"
        )
    if outcome.audit:
        checks = sum(outcome.audit["invariants"].values())
        click.echo(f"the auditor made {checks} checks over {outcome.audit['height']} blocks")
    if outcome.cuts is not Cuts.NONE:
        click.echo(f"links were cut by {outcome.cuts}")
    for text in outcome.unplayed:
        click.echo(f"not done: {text}")
    click.echo(f"history: {history}")
    click.echo(f"again:   {replay}")
    click.echo("         (the same deals and faults in the same order; when each happens, processes decide)")
    if outcome.ok:
        click.secho("every promise was kept", fg="green")
        return
    click.secho("A PROMISE WAS BROKEN", fg="red", bold=True)
    click.echo(outcome.broken)
    click.echo(f"everything is kept in {folder}")


def _words(line: Mapping[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.gmtime(line["at_s"])) + f".{int(line['at_s'] % 1 * 10)}"
    rest = " ".join(
        f"{name}={value}"
        for name, value in line.items()
        if name not in _SHOWN_ELSEWHERE and value not in ("", {}, []) and not isinstance(value, dict)
    )
    return f"{at}  {line['who']:<24} {line['what']:<20} {rest}"
