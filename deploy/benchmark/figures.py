"""Results: what was measured, beside what the machine allows and what was aimed at.

Owns what a figure, a goal and a chart consist of, their arithmetic and their JSON. Measures nothing, shows
nothing. Invariant: a ratio of 1 is the limit, whether more or less is better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

PERCENTILES: Final = (50, 99)
"""Which percentiles of a latency are told."""

CORES: Final = 2
"""On how many cores everything is to run."""

BY_CPU: Final = f"by CPU time, if {CORES} cores did nothing else"
"""What a rate is called that was found from CPU time."""

_CURVE_PERCENTS: Final = (*range(0, 90, 2), *(90 + tenth / 2 for tenth in range(18)), 99, 99.5, 99.9, 100)
"""Where a latency's distribution is drawn: closely where it is rare."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the machine could do at most."""

    name: str
    """What was measured for it."""
    value: float
    """In the figure's unit."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to reach; see `at_least`, `at_most`, `of_limit`."""

    bound: float
    """Of the figure's median in its unit, or of its ratio."""
    is_least: bool
    """Whether more is better."""
    is_of_limit: bool = False
    """Whether the ratio is meant."""
    is_star: bool = False
    """Whether it is beyond what is asked for."""

    def is_met(self, figure: "Figure") -> bool:
        """Answer whether a figure reached it; a ratio that is not known did not."""
        reached = figure.ratio if self.is_of_limit else figure.median
        if reached is None:
            return False
        return reached >= self.bound if self.is_least else reached <= self.bound

    def words(self, limit: Limit | None) -> str:
        """Return it as people read it."""
        of = f" of {limit.name}" if self.is_of_limit and limit is not None else ""
        star = " (star)" if self.is_star else ""
        return f"at {'least' if self.is_least else 'most'} {readable(self.bound)}{of}{star}"


def at_least(bound: float, *, is_star: bool = False) -> Goal:
    """Return a goal for a median of which more is better."""
    return Goal(bound, is_least=True, is_star=is_star)


def at_most(bound: float) -> Goal:
    """Return a goal for a median of which less is better."""
    return Goal(bound, is_least=False)


def of_limit(bound: float, *, is_star: bool = False) -> Goal:
    """Return a goal for a ratio."""
    return Goal(bound, is_least=True, is_of_limit=True, is_star=is_star)


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
    goals: tuple[Goal, ...] = ()
    """What it is to reach."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What it is the sum of, by name, in its unit; empty if it is not told."""

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
            "goals": [
                {"words": goal.words(self.limit), "is_star": goal.is_star, "is_met": goal.is_met(self)}
                for goal in self.goals
            ],
            "parts": dict(self.parts),
        }


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a chart."""

    label: str
    """What it shows, with its unit."""
    is_log: bool = False
    """Whether equal steps multiply."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Figures to look at."""

    name: str
    """A file's name without its ending; unique in a scenario."""
    title: str
    """What is to be seen."""
    x: Axis
    """To the right."""
    y: Axis
    """Upwards; from 0 unless it is logarithmic."""
    lines: Mapping[str, Sequence[tuple[float, float]]]
    """Points by the line's name, from left to right."""

    def as_json(self) -> Mapping[str, object]:
        """Return the chart as it is written to a file."""
        return {
            "name": self.name,
            "title": self.title,
            "x": {"label": self.x.label, "is_log": self.x.is_log},
            "y": {"label": self.y.label, "is_log": self.y.is_log},
            "lines": {
                name: [[_rounded(x), _rounded(y)] for x, y in points] for name, points in self.lines.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """What a scenario found out."""

    figures: tuple[Figure, ...]
    """What was measured."""
    cpu: Mapping[str, float]
    """Share of one core that each process took while it was measured, by name; median of the runs."""
    cpu_us_each: Mapping[str, float]
    """CPU time in us that each process took for one bundle, transfer or swap; median of the runs."""
    stages_us_each: Mapping[str, Mapping[str, float]]
    """Real time in us that each process spent in each of its stages for one of them; median of the runs.
    Stages of one block overlap those of another."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """What helps to read the figures, such as transactions per block."""
    charts: tuple[Chart, ...] = ()
    """The same to look at."""

    def as_json(self) -> Mapping[str, object]:
        """Return the result as it is written to a file."""
        return {
            "figures": [figure.as_json() for figure in self.figures],
            "cpu": dict(self.cpu),
            "cpu_us_each": dict(self.cpu_us_each),
            "stages_us_each": {name: dict(stages) for name, stages in self.stages_us_each.items()},
            "notes": dict(self.notes),
            "charts": [chart.as_json() for chart in self.charts],
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def latency_figures(
    name: str,
    runs: Sequence[Sequence[float]],
    limit: Limit | None = None,
    goals: Mapping[int, Sequence[Goal]] | None = None,
) -> tuple[Figure, ...]:
    """Return a figure for each percentile of latencies in ms, one list of them per run.

    `goals` are by percentile.
    """
    return tuple(
        Figure(
            f"{name}, p{percent}",
            "ms",
            tuple(percentile(run, percent) for run in runs),
            limit,
            tuple((goals or {}).get(percent, ())),
        )
        for percent in PERCENTILES
    )


def latency_chart(title: str, latencies_ms: Mapping[str, Sequence[float]]) -> Chart:
    """Return the distributions of latencies in ms, by the name of their line."""
    return Chart(
        "latency",
        title,
        Axis("ms", is_log=True),
        Axis("share that took at most as long, %"),
        {name: _distribution(values) for name, values in latencies_ms.items() if values},
    )


def _distribution(values: Sequence[float]) -> Sequence[tuple[float, float]]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return [(ordered[min(int(len(ordered) * each / 100), last)], each) for each in _CURVE_PERCENTS]


def medians(runs: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the median of each name's values; a name that a run lacks is left out."""
    return {name: median(run[name] for run in runs) for name in runs[0] if all(name in run for run in runs)}


def drift(points: Sequence[tuple[float, float]]) -> float:
    """Return by which share of its middle value something changes from the first to the last point.

    By the median of the slopes between all pairs of points (Theil and Sen), which single outliers do not
    bend. 0 for fewer than two points, or if the middle is 0.
    """
    slopes = [
        (y_after - y_before) / (x_after - x_before)
        for place, (x_before, y_before) in enumerate(points)
        for x_after, y_after in points[place + 1 :]
        if x_after != x_before
    ]
    middle = median(y for _, y in points) if points else 0
    if not slopes or not middle:
        return 0.0
    return median(slopes) * (points[-1][0] - points[0][0]) / middle


def readable(value: float) -> str:
    """Return a number with three digits that matter."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _rounded(value: float) -> float:
    """Return a number with as many digits as a picture shows."""
    return float(f"{value:.5g}")
