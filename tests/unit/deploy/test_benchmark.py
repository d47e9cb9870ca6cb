"""The benchmark's arithmetic, its files and its pictures; no process is started."""

import io
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from deploy.benchmark import command
from deploy.benchmark.accounts import account, funded_genesis, transfer_bundles
from deploy.benchmark.effort import FULL, QUICK, Effort
from deploy.benchmark.figures import (
    Axis,
    Chart,
    Figure,
    Goal,
    Limit,
    Measured,
    at_least,
    at_most,
    drift,
    latency_chart,
    latency_figures,
    medians,
    of_limit,
    percentile,
)
from deploy.benchmark.plots import AxisToDraw, ChartToDraw, PlotsMissing, draw, draw_chart
from deploy.benchmark.results import (
    published_rows,
    read_published,
    read_results,
    write_results,
)
from deploy.benchmark.scenarios import Scenario, Set
from deploy.benchmark.showing import show
from deploy.benchmark.sizes import cpu_seconds, descriptors, disk_bytes, memory_mib
from deploy.benchmark.swapping import Span
from deploy.benchmark.workers import WorkFailed
from deploy.devnet.network import ALPHA, BETA, GAMMA, create_network
from lockstep.genesis import parse_genesis
from lockstep.transactions import Method, Transfer, decode_call, decode_transaction
from lockstep.types import ChainId

# --- figures ----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [
        (at_least(20), True),
        (at_least(20.1), False),
        (at_most(20), True),
        (at_most(19.9), False),
        (of_limit(0.5), True),
        (of_limit(0.51), False),
    ],
)
def test_a_goal_is_of_the_median_or_of_the_ratio(goal: Goal, is_met: bool) -> None:
    figure = Figure("x", "swaps/s", (10.0, 20.0, 60.0), Limit("V", 40.0), (goal,))
    assert goal.is_met(figure) is is_met
    [told] = json.loads(json.dumps(figure.as_json()))["goals"]
    assert told["is_met"] is is_met


def test_a_goal_of_a_limit_that_was_not_measured_is_missed() -> None:
    assert not of_limit(0.1).is_met(Figure("x", "swaps/s", (10.0,)))


def test_goals_in_words() -> None:
    assert at_least(150_000, is_star=True).words(None) == "at least 150,000 (star)"
    assert of_limit(0.25).words(Limit("V", 1.0)) == "at least 0.25 of V"
    assert at_most(1.3).words(None) == "at most 1.3"


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 51), (99, 100), (100, 100)])
def test_percentiles_are_values_that_were_measured(percent: int, value: int) -> None:
    assert percentile([float(each) for each in range(100, 0, -1)], percent) == value


def test_latencies_have_a_figure_for_each_percentile_with_its_goals() -> None:
    p50, p99 = latency_figures("x", [[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]], goals={99: (at_most(5),)})
    assert (p50.name, p50.values, p50.goals) == ("x, p50", (2.0, 4.0), ())
    assert (p99.name, p99.values, p99.goals) == ("x, p99", (9.0, 5.0), (at_most(5),))


def test_a_distribution_rises_to_all() -> None:
    chart = latency_chart("x", {"a": [float(each) for each in range(1_000, 0, -1)], "none": []})
    assert list(chart.lines) == ["a"]
    line = chart.lines["a"]
    assert line == sorted(line)
    assert (501.0, 50) in line
    assert line[-1] == (1_000.0, 100)


def test_medians_are_of_names_that_every_run_has() -> None:
    assert medians([{"a": 1.0, "b": 5.0}, {"a": 3.0}, {"a": 2.0, "c": 1.0}]) == {"a": 2.0}


def test_a_drift_is_told_by_the_slope_between_pairs_and_not_by_an_outlier() -> None:
    rising = [(float(at), 100.0 + at) for at in range(21)]
    assert drift(rising) == pytest.approx(20 / 110)
    assert drift([(at, 5_000.0 if at == 7 else value) for at, value in rising]) == pytest.approx(
        20 / 110, rel=0.05
    )
    assert drift([(float(at), 7.0) for at in range(5)]) == 0
    assert drift([(1.0, 7.0)]) == drift([]) == 0


# --- effort -----------------------------------------------------------------------------------------------


def test_less_can_be_done_of_everything() -> None:
    less = FULL.of_at_most(30).with_accounts(50).with_runs(2).lasting(10).with_transactions(90)
    assert (less.opaque, less.transfers, less.lone, less.idle_swaps, less.swaps) == (30,) * 5
    assert (less.accounts, less.sizes, less.runs, less.order_transactions) == (50, (50,), 2, 90)
    assert (less.soak_seconds, less.slice_seconds) == (10, 2)
    assert QUICK.of_at_most(10**9) == QUICK, "it is a bound"


# --- files ------------------------------------------------------------------------------------------------


def measured() -> Measured:
    """Return a result with one of everything."""
    goals = (at_least(15), of_limit(0.9))
    return Measured(
        figures=(
            Figure("done", "things/s", (10.0, 20.0, 30.0), Limit("V", 40.0), goals),
            Figure("x", "ms", (1,)),
        ),
        cpu={"sequencer": 0.5},
        cpu_us_each={"sequencer": 7.0},
        stages_us_each={"sequencer": {"commit": 3.0}},
        notes={"per block": 8.0},
        charts=(
            Chart("speed", "How fast", Axis("n", is_log=True), Axis("us"), {"a": [(1.0, 2.0), (3.0, 4.0)]}),
        ),
    )


def result(name: str) -> dict[str, object]:
    """Return a scenario's result as the command writes it."""
    told = {"name": name, "command": f"./deploy/bench --only {name}", "date": "2026-11-25", "seconds": 1.5}
    return {**told, "load_average": {"before": 0.25, "after": 1.0}, **measured().as_json()}


def test_results_are_read_as_they_were_written_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert read_results(file) == {}
    found = {name: result(name) for name in ("b", "a")}
    write_results(file, {"cores": 2}, found, order=("a", "b", "c"))
    assert json.loads(file.read_text())["machine"] == {"cores": 2}
    assert read_results(file) == json.loads(json.dumps(found))
    assert list(read_results(file)) == ["a", "b"]
    assert "[[1.0, 2.0], [3.0, 4.0]]" in file.read_text(), "points are one line"


def test_what_is_published_of_a_result(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(file, {}, {"a": result("a")}, order=("a",))
    assert published_rows(read_published(file)) == [
        (
            "`a`",
            "done",
            "at least 15: met<br>at least 0.9 of V: **missed**",
            "20 things/s (10 to 30)",
            "40 (V)",
            "0.50",
            "0.2",
        )
    ], "only what has a goal"


def test_of_a_scenario_without_goals_everything_is_published_with_what_it_consists_of(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    disk = Figure("disk", "bytes", (30.0,), parts={"shares": 20.0, "blocks": 10.0})
    found = Measured((disk,), {}, {}, {})
    write_results(file, {}, {"a": {**result("a"), **found.as_json()}}, order=("a",))
    [row] = published_rows(read_published(file))
    assert row[:5] == ("`a`", "disk", "", "30 bytes: shares 20, blocks 10", "")


def test_a_terminal_shows_everything() -> None:
    shown = io.StringIO()
    show("a", "does a", measured(), Console(file=shown, width=200))
    for told in ("does a", "10..30", "V: 40", "0.500", "at least 15: met", "at least 0.9 of V: missed"):
        assert told in shown.getvalue()
    assert "stages of sequencer, us each: commit 3" in shown.getvalue()


# --- load -------------------------------------------------------------------------------------------------


def test_transfers_are_signed_spread_over_all_accounts_and_never_to_oneself() -> None:
    chain, accounts = ChainId(bytes(32)), 200
    assets = [("alpha", "gold"), ("beta", "silver")]
    bundles = list(transfer_bundles(chain, assets, count=2 * accounts, accounts=accounts, valid_until_ms=9))
    names = {account(number) for number in range(accounts)}
    for rollup, asset in assets:
        own = [each.transactions[0] for each in bundles if each.transactions[0].namespace == rollup]
        looked = [decode_transaction(each.payload) for each in own]
        calls = [decode_call(Method(each.method), each.arguments) for each in looked]
        assert all(isinstance(call, Transfer) and call.asset == asset.encode() for call in calls)
        assert {each.signer for each in looked} == names
        recipients = [call.recipient for call in calls if isinstance(call, Transfer)]
        assert all(one.signer != other for one, other in zip(looked, recipients, strict=True))
        assert len(set(recipients)) > accounts / 2
    assert len({bundle.transactions[0].payload for bundle in bundles}) == len(bundles)


def test_a_genesis_is_funded_rollup_by_rollup_and_has_more_namespaces(tmp_path: Path) -> None:
    made = create_network(tmp_path).genesis
    funded = parse_genesis(funded_genesis(made, {ALPHA: 3, BETA: 1}, more_namespaces=("x", "y")))
    assert [rollup.id for rollup in funded.rollups] == [ALPHA, BETA, GAMMA, "x", "y"]
    for before, after, more in zip(made.rollups, funded.rollups, (3, 1, 0), strict=False):
        assert before.modules.bank is not None
        assert after.modules.bank is not None
        [old], [new] = before.modules.bank.assets, after.modules.bank.assets
        given = [each.account for each in new.allocations[len(old.allocations) :]]
        assert given == [account(number) for number in range(more)]


def test_between_kills_what_settled_is_told_with_and_without_the_time_in_which_nobody_served() -> None:
    settled = [each / 10 for each in range(100)]
    span = Span(settled, 2.0, 3.0, 7.0)
    assert (span.rate, span.rate_served, span.dead_seconds) == (10, 10, 1)
    assert Span([each for each in settled if not 2 <= each < 3], 2.0, 3.0, 7.0).rate == 8


# --- the command ------------------------------------------------------------------------------------------


def test_a_scenario_that_fails_loses_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(effort: Effort) -> Measured:
        raise WorkFailed("no moon")

    async def succeed(effort: Effort) -> Measured:
        assert effort.transfers == 7
        return measured()

    scenarios = {"bad": Scenario("x", Set.QUICK, fail), "good": Scenario("does y", Set.QUICK, succeed)}
    monkeypatch.setattr(command, "SCENARIOS", scenarios)
    monkeypatch.setattr(command, "names_of", lambda _: ("bad", "good"))
    file = tmp_path / "results.json"
    write_results(file, {}, {name: result(name) for name in ("bad", "good")}, order=("bad", "good"))
    before = read_results(file)
    arguments = ["--quick", "--count", "7", "--json", str(file), "--merge"]
    done = CliRunner().invoke(command.bench, arguments)
    assert done.exit_code == 1
    assert "bad failed: no moon" in done.output
    assert "does y" in done.output
    after = read_results(file)
    assert after["bad"] == before["bad"], "what is not measured anew is kept"
    assert after["good"]["command"] == "./deploy/bench --only good --quick --count 7"
    assert after["good"]["figures"] == before["good"]["figures"]


# --- pictures ---------------------------------------------------------------------------------------------


class FakeAxes:
    """Keeps what it is told, as (name, arguments)."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        ticks = SimpleNamespace(
            set_major_formatter=lambda form: self.told.append(("major", form)),
            set_minor_formatter=lambda form: self.told.append(("minor", form)),
        )
        self.xaxis = self.yaxis = ticks

    def __getattr__(self, name: str) -> object:
        return lambda *args, **kwargs: self.told.append((name, *args, *kwargs.values()))


def chart_to_draw(*, is_log: bool, points: int) -> ChartToDraw:
    line = tuple((float(each), 2.0 * each) for each in range(points))
    return ChartToDraw(
        "x", "How fast", AxisToDraw("n", is_log=True), AxisToDraw("us", is_log=is_log), {"a": line}
    )


def test_a_chart_is_drawn() -> None:
    axes = FakeAxes()
    draw_chart(chart_to_draw(is_log=False, points=2), axes)  # type: ignore[arg-type]  # it takes anything
    assert axes.told == [
        ("plot", [0.0, 1.0], [0.0, 2.0], "o-", "a"),
        ("set_title", "How fast"),
        ("set_xlabel", "n"),
        ("set_ylabel", "us"),
        ("set_xscale", "log"),
        ("major", "{x:,g}"),
        ("minor", "{x:,g}"),
        ("set_ylim", 0),
        ("grid", True),
        ("legend",),
    ]


def test_a_logarithmic_chart_has_no_zero_and_a_curve_no_dots() -> None:
    axes = FakeAxes()
    draw_chart(chart_to_draw(is_log=True, points=50), axes)  # type: ignore[arg-type]  # it takes anything
    assert "set_ylim" not in [told[0] for told in axes.told]
    assert axes.told[0][3] == "-"


def test_every_chart_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeFigure:
        def __init__(self, **_: object) -> None:
            self.axes = FakeAxes()

        def subplots(self) -> FakeAxes:
            return self.axes

        def savefig(self, file: Path) -> None:
            file.write_text(str(len(self.axes.told)))

    monkeypatch.setitem(sys.modules, "matplotlib", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "matplotlib.figure", SimpleNamespace(Figure=FakeFigure))
    folder = tmp_path / "new" / "plots"
    assert list(draw(folder, {"a": result("a")})) == [folder / "a-speed.svg"]
    assert (folder / "a-speed.svg").read_text() == "10"


def test_it_is_said_how_to_install_what_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotsMissing, match="setup --bench"):
        draw(tmp_path / "plots", {})
    assert not (tmp_path / "plots").exists()


# --- sizes ------------------------------------------------------------------------------------------------


def test_a_process_has_memory_descriptors_and_cpu_time() -> None:
    before = cpu_seconds(os.getpid())
    assert sum(range(100_000)) > 0
    assert cpu_seconds(os.getpid()) > before
    assert memory_mib(os.getpid()) > 5
    count = descriptors(os.getpid())
    with Path(os.devnull).open():
        assert descriptors(os.getpid()) == count + 1


def test_disk_is_told_by_table_and_index(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "data.sqlite")) as database:
        database.execute("CREATE TABLE things(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        database.executemany("INSERT INTO things(name) VALUES (?)", [(str(each),) for each in range(9_999)])
        database.commit()
    (tmp_path / "note").write_bytes(bytes(123))
    found = disk_bytes(tmp_path)
    assert found["note"] == 123
    assert found["things"] > 50_000
    assert found["index of things_1"] > 50_000
    assert sum(found.values()) == 123 + (tmp_path / "data.sqlite").stat().st_size
