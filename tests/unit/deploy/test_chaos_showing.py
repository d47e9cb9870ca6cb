"""What people see of a chaos run while it goes on, and what they are told at its end."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.chaos.command import replay_of
from deploy.chaos.faults import Kind
from deploy.chaos.running import HEAL_MS_MAX, Outcome, Plan
from deploy.chaos.showing import Screen, outcome_json, show_outcome, watching

PLAN = Plan(seed=7, for_ms=60_000, kinds=(Kind.KILL, Kind.PAUSE))

BEGINS = {"at_s": 3_661.25, "who": "alice, beta-0", "what": "kill begins", "number": 1, "for_ms": 300}
IS_OVER = {**BEGINS, "at_s": 3_662.5, "what": "kill is over"}


def shown(*lines: dict[str, object]) -> list[str]:
    """The rows of the screen after some lines of the history."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=120, height=60)
    with Screen(PLAN, console) as tell:
        for line in lines:
            tell(line)
    assert isinstance(console.file, io.StringIO)
    return [row.rstrip() for row in console.file.getvalue().rpartition("seed 7")[2].splitlines()]


def row_of(rows: list[str], name: str) -> list[str]:
    return next(row.split() for row in rows if row.split()[:1] == [name])


def test_a_fault_is_shown_at_each_of_its_victims_while_it_lasts() -> None:
    rows = shown(BEGINS)
    assert row_of(rows, "beta-0") == ["beta-0", "kill", "1"]
    assert row_of(rows, "alice") == ["alice", "kill", "1"]
    assert row_of(rows, "bob") == ["bob", "runs", "0"]
    assert any("01:01:01.2" in row and "kill begins" in row for row in rows)
    rows = shown(BEGINS, IS_OVER)
    assert row_of(rows, "beta-0") == ["beta-0", "runs", "1"]


def test_where_nobody_watches_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(PLAN, is_json=False) as tell:
        tell(BEGINS)
    assert "alice, beta-0            kill begins          number=1 for_ms=300" in capsys.readouterr().out
    with watching(PLAN, is_json=True) as tell:
        tell(BEGINS)
    assert json.loads(capsys.readouterr().out) == {"event": "chaos", **BEGINS}


def test_the_verdict_is_told_with_the_command_that_repeats_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: dict[str, Any] = {
        "folder": Path("run"),
        "history": Path("run/history.jsonl"),
        "replay": replay_of(PLAN),
    }
    show_outcome(Outcome(healed_ms=4_000, starved_ms=500), **told)
    out = capsys.readouterr().out
    assert "lockstep chaos --for 60000ms --seed 7 --faults kill,pause --gap 700ms --at-once 4" in out
    assert "in 4.0 s (at most 10 s, but for 0.5 s in which a process got no processor)" in out
    assert "every promise was kept" in out
    show_outcome(Outcome(broken="a unit is missing"), **told)
    assert "A PROMISE WAS BROKEN\na unit is missing\neverything is kept in run" in capsys.readouterr().out


def test_healing_is_judged_without_the_time_in_which_a_process_got_no_processor() -> None:
    assert not Outcome().is_healed_in_time
    assert Outcome(healed_ms=HEAL_MS_MAX).is_healed_in_time
    assert not Outcome(healed_ms=HEAL_MS_MAX + 1).is_healed_in_time
    assert Outcome(healed_ms=HEAL_MS_MAX + 500, starved_ms=500).is_healed_in_time
    told = outcome_json(Outcome(healed_ms=4, starved_ms=1), folder=Path(), history=Path(), replay="")
    assert (told["healed_ms"], told["starved_ms"]) == (4, 1)
