"""Results: what was measured, beside what the machine allows; as JSON and as a table.

Owns what a figure consists of. Measures nothing. Invariant: a ratio of 1 is the limit, whether more or less
is better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

PERCENTILES: Final = (50, 99)
"""Which percentiles of a latency are told."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the machine could do at most."""

    name: str
    """What was measured for it."""
    value: float
    """In the figure's unit."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, several times."""

    name: str
    """What it is."""
    unit: str
    """Of the values; `/s` at its end means that more is better, otherwise less is."""
    values: tuple[float, ...]
    """One value per run, at least one."""
    limit: Limit | None = None
    """What it is compared with; None if it is only told."""

    @property
    def median(self) -> float:
        """The median of the runs."""
        return median(self.values)

    @property
    def ratio(self) -> float | None:
        """How much of the limit was reached."""
        if self.limit is None or not self.limit.value or not self.median:
            return None
        reached = self.median / self.limit.value
        return reached if self.unit.endswith("/s") else 1 / reached

    def as_json(self) -> Mapping[str, object]:
        """Return the figure as it is written to a file."""
        limit = None if self.limit is None else {"name": self.limit.name, "value": self.limit.value}
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "values": list(self.values),
            "limit": limit,
            "ratio": self.ratio,
        }


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """What one scenario found."""

    name: str
    """The scenario."""
    what: str
    """What it does, in one sentence."""
    figures: tuple[Figure, ...]
    """What was measured."""
    cpu: Mapping[str, float]
    """Share of one core that each process took while it was measured, by name; median of the runs."""
    cpu_us_each: Mapping[str, float]
    """CPU time in us that each process took for one bundle, transfer or swap; median of the runs."""
    stages_us_each: Mapping[str, float]
    """Real time in us that the sequencer spent in each stage for one of them; median of the runs. Stages of
    one block overlap those of another."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """What helps to read the figures, such as transactions per block."""

    def as_json(self) -> Mapping[str, object]:
        """Return the result as it is written to a file."""
        return {
            "name": self.name,
            "what": self.what,
            "figures": [figure.as_json() for figure in self.figures],
            "cpu": dict(self.cpu),
            "cpu_us_each": dict(self.cpu_us_each),
            "stages_us_each": dict(self.stages_us_each),
            "notes": dict(self.notes),
        }


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value below which `percent` of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def latency_figures(name: str, runs: Sequence[Sequence[float]], limit: Limit | None) -> tuple[Figure, ...]:
    """Return a figure for each percentile of latencies in ms, one list of them per run."""
    return tuple(
        Figure(f"{name}, p{percent}", "ms", tuple(percentile(run, percent) for run in runs), limit)
        for percent in PERCENTILES
    )


def show(result: ScenarioResult, console: Console) -> None:
    """Print a scenario's result as a table."""
    table = Table(title=f"{result.name}: {result.what}", title_justify="left", title_style="bold")
    table.add_column("figure", overflow="fold")
    for heading in ("median", "runs", "unit", "limit"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("of", overflow="fold")
    table.add_column("ratio", justify="right", no_wrap=True)
    for figure in result.figures:
        spread = f"{readable(min(figure.values))}..{readable(max(figure.values))}"
        limit = ("", "") if figure.limit is None else (readable(figure.limit.value), figure.limit.name)
        ratio = "" if figure.ratio is None else f"{figure.ratio:.3f}"
        table.add_row(figure.name, readable(figure.median), spread, figure.unit, *limit, ratio)
    console.print(table)
    told_below = {
        "CPU, cores": result.cpu,
        "CPU, us each": result.cpu_us_each,
        "sequencer's stages, us each": result.stages_us_each,
        "also": result.notes,
    }
    for heading, values_by_name in told_below.items():
        if values_by_name:
            told = ", ".join(f"{name} {readable(value)}" for name, value in values_by_name.items())
            console.print(f"  {heading}: {told}", soft_wrap=True, markup=False)
    console.print()


def readable(value: float) -> str:
    """Return a number with three digits that matter."""
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
