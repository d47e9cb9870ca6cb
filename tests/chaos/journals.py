"""The journals of campaigns: a line of JSON for each trial and each judgement, which add up over runs.

Owns the form of the lines. `recording` puts what they say into RELIABILITY.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

JOURNAL_OPTION: Final = click.option(
    "--journal", type=click.Path(dir_okay=False, path_type=Path), help="A line for each trial goes there."
)
"""Of every campaign."""

AUDIT: Final = "audit"
"""The field of a line that tells what the auditor found of a network, and not of a trial."""


def note(journal: Path | None, **fields: object) -> None:
    """Add a line, if there is a journal."""
    if journal is not None:
        with journal.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(fields) + "\n")


ALARM: Final = "alarm"
"""The field of a line that a person put in the place of a trial which a mistake of the harness ended."""


@dataclass(frozen=True)
class Journals:
    """What journals say."""

    trials: Sequence[Mapping[str, Any]]
    """Every trial."""
    audits: Sequence[str]
    """What the auditor found of each network."""
    alarms: Sequence[str]
    """Trials that do not count, and why."""


def read(journals: Iterable[Path]) -> Journals:
    """Return what journals say together."""
    lines = [json.loads(line) for journal in journals for line in journal.read_text("utf-8").splitlines()]
    return Journals(
        trials=[line for line in lines if AUDIT not in line and ALARM not in line],
        audits=[line[AUDIT] for line in lines if AUDIT in line],
        alarms=[line[ALARM] for line in lines if ALARM in line],
    )
