"""What a trader says that it did, as JSON lines: for the judge, and for a person afterwards.

A line is in the file when the call returns: a SIGKILL after it takes nothing back. One that a kill cut short
is ended by the next process, and is no JSON.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lockstep.order import Placement


class Journal:
    """The file, to be added to."""

    def __init__(self, path: Path, name: str) -> None:
        """Add to the file of the trader `name`."""
        self._name = name
        self._file = path.open("ab", buffering=0)
        if self._file.tell() and not path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")

    def note(self, what: str, **fields: object) -> None:
        """Add a line."""
        line = {"at_s": round(time.time(), 3), "who": self._name, "what": what, **fields}
        self._file.write(json.dumps(line).encode() + b"\n")

    def acknowledged(self, placement: Placement, ms: float) -> None:
        """Note that the sequencer acknowledged a bundle, `ms` milliseconds after it was first sent."""
        self.note(
            "acknowledged",
            bundle_id=placement.bundle_id.hex(),
            height=placement.height,
            first_index=placement.first_index,
            count=placement.count,
            ms=round(ms, 1),
        )


def read_journal(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a journal that are whole."""
    if path.exists():
        yield from lines_of(path.read_bytes())


def lines_of(raw: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield what is said by lines, without those that a kill cut short."""
    for line in raw.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
