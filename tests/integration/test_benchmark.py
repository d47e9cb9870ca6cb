"""The benchmark, on so little load that its figures mean nothing: what it tells, never how fast it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.benchmark.figures import Figure, Limit, percentile
from deploy.benchmark.scenarios import SCENARIOS
from sequencer.stages import STAGES


def run_bench(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (sys.executable, "-P", "-m", "deploy.benchmark", *arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def figures_of(scenario: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {each["name"]: (each["unit"], each["limit"] is not None) for each in scenario["figures"]}


@pytest.mark.processes
def test_every_scenario_tells_figures_limits_and_cpu(tmp_path: Path) -> None:
    done = run_bench("--quick", "--runs", "1", "--count", "30", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["machine"]["cores"] >= 1
    assert found["effort"]["transfers"] == 30
    scenarios = {each["name"]: each for each in found["scenarios"]}
    assert list(scenarios) == list(SCENARIOS)
    for scenario in scenarios.values():
        assert scenario["cpu"].keys() == scenario["cpu_us_each"].keys() >= {"sequencer", "load"}
        assert tuple(scenario["stages_us_each"]) == STAGES
        assert all(time_us > 0 for time_us in scenario["stages_us_each"].values())
        for figure in scenario["figures"]:
            assert 0 < figure["lowest"] <= figure["median"] <= figure["highest"]
            assert (figure["ratio"] is None) == (figure["limit"] is None)
    assert figures_of(scenarios["order-only"])["ordered"] == ("bundles/s", True)
    assert figures_of(scenarios["order-execute"])["executed by both"] == ("transfers/s", True)
    assert figures_of(scenarios["swaps-sustained"])["proposed to settled"] == ("swaps/s", True)
    assert figures_of(scenarios["swap-idle"]).keys() == {
        f"{how}, accepted to settled, p{percent}"
        for how in ("revealed up front", "revealed by the taker")
        for percent in (50, 99)
    }
    assert scenarios["order-execute"]["cpu"].keys() >= {"alpha-0", "beta-0"}
    assert "swaps/s" in done.stdout


def test_scenarios_are_listed(tmp_path: Path) -> None:
    listed = run_bench("--list", cwd=tmp_path).stdout
    assert [line.partition(":")[0] for line in listed.splitlines()] == list(SCENARIOS)


def test_an_unknown_scenario_is_refused(tmp_path: Path) -> None:
    done = run_bench("--only", "order-everything", cwd=tmp_path)
    assert done.returncode == 2
    assert "order-only" in done.stderr


@pytest.mark.parametrize(
    ("unit", "values", "limit", "ratio"),
    [("swaps/s", (10.0, 20.0, 60.0), 40.0, 0.5), ("ms", (10.0, 20.0, 60.0), 5.0, 0.25)],
)
def test_a_ratio_of_one_is_the_limit(
    unit: str, values: tuple[float, ...], limit: float, ratio: float
) -> None:
    figure = Figure("x", unit, values, Limit("y", limit))
    assert figure.median == 20.0
    assert figure.ratio == ratio


def test_without_a_limit_there_is_no_ratio() -> None:
    assert Figure("x", "ms", (1.0,)).ratio is None


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 51), (99, 100), (100, 100)])
def test_percentiles_are_values_that_were_measured(percent: int, value: int) -> None:
    assert percentile([float(each) for each in range(100, 0, -1)], percent) == value
