"""The journals of campaigns: a line of JSON for each trial and each judgement, which add up over runs.

Owns the form of the lines. `recording` puts what they say into RELIABILITY.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
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


def read(journals: Iterable[Path]) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    """Return the trials of journals, and what the auditor found of each network."""
    lines = [json.loads(line) for journal in journals for line in journal.read_text("utf-8").splitlines()]
    trials = [line for line in lines if AUDIT not in line]
    return trials, [line[AUDIT] for line in lines if AUDIT in line]
