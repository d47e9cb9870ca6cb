"""Results for people: a table for each scenario, with what is told below it.

Owns how results look at a terminal. Invariant: a goal that was missed is called so.
"""

from rich.console import Console
from rich.table import Table

from deploy.benchmark.figures import Figure, Measured, readable


def show(name: str, what: str, measured: Measured, console: Console) -> None:
    """Print a scenario's result."""
    table = Table(title=f"{name}: {what}", title_justify="left", title_style="bold")
    table.add_column("figure", overflow="fold")
    for heading in ("median", "runs", "unit"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("limit", overflow="fold")
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("to reach", overflow="fold")
    for figure in measured.figures:
        table.add_row(
            figure.name,
            readable(figure.median),
            f"{readable(min(figure.values))}..{readable(max(figure.values))}",
            figure.unit,
            "" if figure.limit is None else f"{figure.limit.name}: {readable(figure.limit.value)}",
            "" if figure.ratio is None else f"{figure.ratio:.3f}",
            judged(figure),
        )
    console.print(table)
    told_below = {
        **{f"{figure.name}, of which": figure.parts for figure in measured.figures},
        "CPU, cores": measured.cpu,
        "CPU, us each": measured.cpu_us_each,
        **{f"stages of {each}, us each": stages for each, stages in measured.stages_us_each.items()},
        "also": measured.notes,
    }
    for heading, values_by_name in told_below.items():
        if values_by_name:
            told = ", ".join(f"{name} {readable(value)}" for name, value in values_by_name.items())
            console.print(f"  {heading}: {told}", soft_wrap=True, markup=False)
    console.print()


def judged(figure: Figure) -> str:
    """Return what a figure was to reach, and whether it did."""
    return "; ".join(
        f"{goal.words(figure.limit)}: {'met' if goal.is_met(figure) else 'missed'}" for goal in figure.goals
    )
