"""What the campaigns of durability are typed with, and the run that they work on.

Owns the options that they have in common. Each says in its own documentation what they mean.
"""

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.durability.recording import SUBJECTS, Run, record


def campaign_parser(
    module: str, description: str | None, *, counted: str, default: int
) -> argparse.ArgumentParser:
    """Return a parser with how much is to be done, from which seed, and whether it is recorded."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(f"--{counted}", type=int, default=default)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--record", action="store_true")
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what concerns the recorded run that a campaign works on, and how long it may."""
    parser.add_argument("--process", choices=SUBJECTS)
    parser.add_argument("--for", dest="seconds_max", type=seconds, default=3_600)
    parser.add_argument("--run", type=Path)


def subjects_of(typed: argparse.Namespace) -> Sequence[str]:
    """Return the processes that a campaign is about."""
    return (typed.process,) if typed.process else SUBJECTS


@contextmanager
def run_of(typed: argparse.Namespace) -> Iterator[Run]:
    """Yield the run that was named, recorded now if it is not there; without a name it is deleted after."""
    folder = typed.run or Path(tempfile.mkdtemp(prefix="lockstep-run-")) / "run"
    try:
        yield Run(folder.resolve()) if folder.exists() else asyncio.run(record(folder))
    finally:
        if typed.run is None:
            shutil.rmtree(folder.parent)


def today() -> str:
    """Return the day, as it is recorded."""
    return datetime.now(tz=UTC).date().isoformat()


def seconds(text: str) -> float:
    """Return the seconds of a time such as `90s`, `4m` or `1h`. Raises ArgumentTypeError."""
    units = {"s": 1, "m": 60, "h": 3_600}
    if text[-1:] not in units or not text[:-1].isdigit():
        raise argparse.ArgumentTypeError("a time is written as 90s, 4m or 1h")
    return int(text[:-1]) * units[text[-1]]
