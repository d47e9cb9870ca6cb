"""The benchmark, on so little load that its figures mean nothing: what it tells, never how fast it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.benchmark.scenarios import SCENARIOS, Set, names_of
from rollups.stages import STAGES as ROLLUP_STAGES
from sequencer.stages import STAGES as SEQUENCER_STAGES

TINY = ("--quick", "--runs", "1", "--count", "30", "--accounts", "40")


def run_bench(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (sys.executable, "-P", "-m", "deploy.benchmark", *arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def figures_of(scenario: dict[str, Any]) -> dict[str, tuple[str, bool, bool]]:
    """Return unit, and whether there is a limit and a goal, of each figure by its name."""
    return {
        each["name"]: (each["unit"], each["limit"] is not None, bool(each["goals"]))
        for each in scenario["figures"]
    }


@pytest.mark.processes
def test_scenarios_tell_figures_limits_goals_cpu_and_stages(tmp_path: Path) -> None:
    wanted = ("order-execute", "swap-idle", "disk")
    only = [word for name in wanted for word in ("--only", name)]
    done = run_bench(*TINY, *only, "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["machine"]["cores"] >= 1
    scenarios = {each["name"]: each for each in found["scenarios"]}
    assert tuple(scenarios) == wanted
    for name, scenario in scenarios.items():
        assert scenario["command"].startswith(f"./deploy/bench --only {name} --quick --runs 1 --count 30")
        assert scenario["effort"]["transfers"] == 30
        assert scenario["cpu"].keys() == scenario["cpu_us_each"].keys() >= {"sequencer", "load"}
        stages = {name: tuple(us_each) for name, us_each in scenario["stages_us_each"].items()}
        assert stages.pop("sequencer") == SEQUENCER_STAGES
        assert set(stages.values()) == {ROLLUP_STAGES}
        for us_each in scenario["stages_us_each"].values():
            untouched = {stage for stage, us in us_each.items() if not us > 0}
            assert untouched <= (set() if name == "swap-idle" else {"attest"}), "only swaps are attested"
        for figure in scenario["figures"]:
            assert 0 < figure["lowest"] <= figure["median"] <= figure["highest"]
            assert (figure["ratio"] is None) == (figure["limit"] is None)
    assert scenarios["order-execute"]["cpu"].keys() >= {"alpha-0", "beta-0", "gamma-0"}
    assert figures_of(scenarios["order-execute"])["executed by all three"] == ("transfers/s", True, True)
    assert [chart["name"] for chart in scenarios["swap-idle"]["charts"]] == ["latency"]
    assert {name: told for name, told in figures_of(scenarios["swap-idle"]).items() if told[2]} == {
        f"{how}, accepted to settled, p{percent}": ("ms", True, True)
        for how in ("revealed up front", "revealed by the taker")
        for percent in (50, 99)
    }
    for figure in scenarios["disk"]["figures"]:
        assert sum(figure["parts"].values()) == pytest.approx(figure["median"], rel=0.05)
    assert "transfers/s" in done.stdout
    assert "missed" in done.stdout or "met" in done.stdout


def test_scenarios_are_listed_with_the_set_they_belong_to(tmp_path: Path) -> None:
    listed = run_bench("--list", cwd=tmp_path).stdout.splitlines()
    assert [line.partition(":")[0] for line in listed] == list(SCENARIOS)
    long = [line.partition(":")[0] for line in listed if line.endswith("(only with --all, or named)")]
    assert long == [name for name, scenario in SCENARIOS.items() if scenario.belongs_to is Set.ALL]


def test_a_set_holds_those_before_it() -> None:
    assert names_of(Set.ALL) == tuple(SCENARIOS)
    assert set(names_of(Set.QUICK)) < set(names_of(Set.FULL)) < set(names_of(Set.ALL))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--only", "order-everything"), "order-only"),
        (("--json", "nowhere/found.json"), "does not exist"),
        (("--merge",), "goes with --json"),
        (("--for", "soon"), "--for"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = run_bench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
