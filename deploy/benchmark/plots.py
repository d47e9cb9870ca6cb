"""Charts as pictures, by matplotlib, which only `./deploy/setup --bench` installs.

Owns how a chart looks. Draws from results as they are written to a file, so that old ones can be drawn again:
`python -m deploy.benchmark.plots RESULTS.json FOLDER`.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, Protocol

import msgspec

from deploy.benchmark.results import read_results

SIZE_INCHES: Final = (8.0, 4.5)
"""Width and height of a picture."""


class PlotsMissing(Exception):
    """What draws is not installed; the message says how to."""


class AxisToDraw(msgspec.Struct, frozen=True):
    """One direction of a chart."""

    label: str
    """What it shows, with its unit."""
    is_log: bool
    """Whether equal steps multiply."""


class ChartToDraw(msgspec.Struct, frozen=True):
    """A chart, as it is in a file of results."""

    name: str
    """The picture's name without the scenario's and its ending."""
    title: str
    """What is to be seen."""
    x: AxisToDraw
    """To the right."""
    y: AxisToDraw
    """Upwards."""
    lines: dict[str, tuple[tuple[float, float], ...]]
    """Points by the line's name."""


class Ticks(Protocol):
    """What is needed of one of matplotlib's axes."""

    def set_major_formatter(self, formatter: str) -> object:
        """Say how values are written."""

    def set_minor_formatter(self, formatter: str) -> object:
        """Say how those between them are written."""


class Axes(Protocol):
    """What is needed of matplotlib's pairs of axes."""

    @property
    def xaxis(self) -> Ticks:
        """The one to the right."""

    @property
    def yaxis(self) -> Ticks:
        """The one upwards."""

    def plot(self, x: Sequence[float], y: Sequence[float], marker: str, *, label: str) -> object:
        """Draw a line."""

    def set_title(self, label: str) -> object:
        """Write above."""

    def set_xlabel(self, xlabel: str) -> object:
        """Write below."""

    def set_ylabel(self, ylabel: str) -> object:
        """Write beside."""

    def set_xscale(self, value: str) -> object:
        """Say how steps to the right count."""

    def set_yscale(self, value: str) -> object:
        """Say how steps upwards count."""

    def set_ylim(self, bottom: float) -> object:
        """Say where the picture begins."""

    def grid(self, visible: bool) -> object:  # noqa: FBT001  # matplotlib's own
        """Draw lines to read values by."""

    def legend(self) -> object:
        """Name the lines."""


def draw(folder: Path, results: Mapping[str, Mapping[str, object]]) -> Iterator[Path]:
    """Draw every chart of some results as FOLDER/SCENARIO-CHART.svg, and yield the files.

    Raises PlotsMissing at once, and makes the folder.
    """
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise PlotsMissing("needs matplotlib; ./deploy/setup --bench installs it") from error
    folder.mkdir(parents=True, exist_ok=True)
    return _drawn(folder, results, figures)


def _drawn(folder: Path, results: Mapping[str, Mapping[str, object]], figures: ModuleType) -> Iterator[Path]:
    for scenario, result in results.items():
        for chart in msgspec.convert(result["charts"], tuple[ChartToDraw, ...]):
            figure = figures.Figure(figsize=SIZE_INCHES, layout="constrained")
            draw_chart(chart, figure.subplots())
            file = folder / f"{scenario}-{chart.name}.svg"
            figure.savefig(file)
            yield file


def draw_chart(chart: ChartToDraw, axes: Axes) -> None:
    """Draw a chart."""
    for name, points in chart.lines.items():
        # Few points are measurements of their own, many are a curve.
        marker = "o-" if len(points) < 20 else "-"
        axes.plot([x for x, _ in points], [y for _, y in points], marker, label=name)
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x.label)
    axes.set_ylabel(chart.y.label)
    if chart.x.is_log:
        axes.set_xscale("log")
        _write_plainly(axes.xaxis)
    if chart.y.is_log:
        axes.set_yscale("log")
        _write_plainly(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True)
    axes.legend()


def _write_plainly(ticks: Ticks) -> None:
    """Have a logarithmic axis say 20 and not 2 x 10^1."""
    ticks.set_major_formatter("{x:,g}")
    ticks.set_minor_formatter("{x:,g}")


if __name__ == "__main__":
    for drawn in draw(Path(sys.argv[2]), read_results(Path(sys.argv[1]))):
        sys.stdout.write(f"{drawn}\n")
