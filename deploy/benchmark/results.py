"""Results in a file: written after each scenario, read again to add to them or to publish them.

Owns the file's frame, and the part of it that is published: RESULTS.json beside this module, of which
README.md has the table. Invariant: a file is whole or not there.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from deploy.benchmark.figures import BY_CPU, readable

PUBLISHED: Final = Path(__file__).with_name("RESULTS.json")
"""The results that are published."""

COMMAND: Final = "./deploy/bench --only "
"""What repeats a scenario, with its name and options after it."""


class PublishedLimit(msgspec.Struct, frozen=True):
    """What a figure is compared with."""

    name: str
    """What was measured for it."""
    value: float
    """In the figure's unit."""


class PublishedGoal(msgspec.Struct, frozen=True):
    """What a figure was to reach."""

    words: str
    """As people read it."""
    is_star: bool
    """Whether it is beyond what is asked for."""
    is_met: bool
    """Whether it was reached."""


class PublishedFigure(msgspec.Struct, frozen=True):
    """A figure, as far as it is published."""

    name: str
    """What it is."""
    unit: str
    """Of its median."""
    median: float
    """Of its runs."""
    lowest: float
    """Of its runs."""
    highest: float
    """Of its runs."""
    limit: PublishedLimit | None
    """What it is compared with."""
    ratio: float | None
    """How much of the limit was reached."""
    goals: tuple[PublishedGoal, ...]
    """What it was to reach."""
    parts: dict[str, float] = {}
    """What it is the sum of; empty if it is not told."""


class PublishedScenario(msgspec.Struct, frozen=True):
    """A scenario, as far as it is published."""

    name: str
    """The scenario."""
    command: str
    """What repeats it."""
    date: str
    """The day."""
    load_average: dict[str, float]
    """How busy the machine was `before` and `after`, with what does not belong to it."""
    figures: tuple[PublishedFigure, ...]
    """What was measured."""


class Published(msgspec.Struct, frozen=True):
    """The whole file, as far as it is published."""

    scenarios: tuple[PublishedScenario, ...]
    """In the order in which they are run."""


def write_results(
    file: Path,
    machine: Mapping[str, object],
    found: Mapping[str, Mapping[str, object]],
    *,
    order: Sequence[str],
) -> None:
    """Write the results of scenarios, by name, in an order of names."""
    scenarios = [found[name] for name in order if name in found]
    text = _encoded({"machine": machine, "scenarios": scenarios})
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(f"{text}\n", encoding="utf-8")
    beside.replace(file)


def read_results(file: Path) -> dict[str, Mapping[str, object]]:
    """Return the results in a file by scenario; nothing if it is not there."""
    if not file.exists():
        return {}
    return {each["name"]: each for each in json.loads(file.read_bytes())["scenarios"]}


def read_published(file: Path = PUBLISHED) -> Published:
    """Return what is published of a file of results. Raises msgspec.ValidationError."""
    return msgspec.json.decode(file.read_bytes(), type=Published)


def published_rows(published: Published) -> list[tuple[str, ...]]:
    """Return a row for each figure that README.md shows.

    Those that have a goal or are told by CPU time; all of a scenario that has no goal at all. What is typed
    after COMMAND, the figure, what it is to reach, what was seen with lowest and highest, the limit, the
    ratio, and how busy the machine was before.
    """
    return [
        (
            f"`{scenario.command.removeprefix(COMMAND)}`",
            figure.name,
            "<br>".join(f"{goal.words}: {'met' if goal.is_met else '**missed**'}" for goal in figure.goals),
            _seen(figure),
            "" if figure.limit is None else f"{readable(figure.limit.value)} ({figure.limit.name})",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            f"{scenario.load_average['before']:.1f}",
        )
        for scenario in published.scenarios
        for figure in scenario.figures
        if figure.goals or BY_CPU in figure.name or not any(each.goals for each in scenario.figures)
    ]


def _seen(figure: PublishedFigure) -> str:
    """Return a median with its unit, then the spread if there is one, then the parts."""
    spread = f" ({readable(figure.lowest)} to {readable(figure.highest)})"
    parts = ", ".join(f"{name} {readable(size)}" for name, size in figure.parts.items())
    return (
        f"{readable(figure.median)} {figure.unit}"
        f"{spread if figure.lowest != figure.highest else ''}{f': {parts}' if parts else ''}"
    )


def _encoded(value: object, indent: str = "") -> str:
    """Return JSON with a line for each field and each object, and lists of numbers on one line."""
    deeper = indent + " "
    match value:
        case dict() if value:
            lines = (f"{deeper}{json.dumps(name)}: {_encoded(each, deeper)}" for name, each in value.items())
            return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
        case [dict(), *_]:
            lines = (deeper + _encoded(each, deeper) for each in value)
            return "[\n" + ",\n".join(lines) + f"\n{indent}]"
        case _:
            return json.dumps(value)
