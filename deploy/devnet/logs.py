"""The logs of a devnet's processes: their last lines, what is added to them, and how people read them.

Owns the reading. Lines are those of `deploy.node.logs`, one JSON object each; what is none, such as the
traceback of a crash, is passed on as it is.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from deploy.devnet.network import Network

_BLOCK_BYTES: Final = 65_536
_POLL_MS: Final = 100

_SHOWN_ELSEWHERE: Final = frozenset({"event", "level", "logger", "timestamp", "process", "exception"})
_COLOUR_OF: Final = {"warning": "yellow", "error": "red", "critical": "red"}


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a process's log."""

    name: str
    """The process."""
    text: str
    """The line."""
    fields: dict[str, Any]
    """What it says; empty if it is no JSON object."""

    @property
    def timestamp(self) -> str:
        """When it was written, as text that sorts; empty if it does not say."""
        return str(self.fields.get("timestamp", ""))

    def to_json(self) -> dict[str, Any]:
        """Return its fields and the name of its process in the devnet."""
        return {"name": self.name, **(self.fields or {"event": self.text})}

    def to_text(self) -> str:
        """Return it for people: time of day (UTC), process, level, event, fields."""
        if not self.fields:
            return f"{'':12} {self.name:<10} {'':7} {self.text}"
        level = str(self.fields.get("level", ""))
        shown = [
            f"{self.timestamp[11:23]:12} {self.name:<10}",
            click.style(f"{level:<7}", _COLOUR_OF.get(level)),
        ]
        shown.append(click.style(str(self.fields.get("event", "")), bold=True))
        shown += [
            f"{field}={value if isinstance(value, str) else json.dumps(value)}"
            for field, value in self.fields.items()
            if field not in _SHOWN_ELSEWHERE
        ]
        trace = self.fields.get("exception")
        return " ".join(shown) + (f"\n{trace}" if trace else "")


class LogReader:
    """Reads the logs of some processes of a devnet."""

    def __init__(self, network: Network, names: Sequence[str]) -> None:
        """Read the logs of the processes `names`."""
        self._logs = [_Log(name, network.log_file(name)) for name in names]

    def last(self, count: int) -> list[LogLine]:
        """Return the last lines of all logs together, in the order of time."""
        lines = [line for log in self._logs for line in log.last(count)]
        return sorted(lines, key=lambda line: line.timestamp)[-count:] if count else []

    async def added(self) -> AsyncIterator[LogLine]:
        """Yield what is added after what was read, for ever."""
        while True:
            lines = [line for log in self._logs for line in log.added()]
            for line in sorted(lines, key=lambda line: line.timestamp):
                yield line
            if not lines:
                await asyncio.sleep(_POLL_MS / 1_000)


class _Log:
    """One log, read up to some place."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._offset = 0

    def last(self, count: int) -> list[LogLine]:
        """Return the last lines, and go on from the end."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            start = file.seek(0, 2)
            tail = b""
            # One line end more, since the one before the first line says where that begins.
            while start and tail.count(b"\n") <= count:
                size = min(_BLOCK_BYTES, start)
                start = file.seek(start - size)
                tail = file.read(size) + tail
        self._offset = start + tail.rfind(b"\n") + 1
        return self._lines(tail[: tail.rfind(b"\n") + 1])[-count:] if count else []

    def added(self) -> list[LogLine]:
        """Return the whole lines that were added since."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        return self._lines(whole)

    def _lines(self, raw: bytes) -> list[LogLine]:
        return [_parse(self._name, text) for text in raw.decode("utf-8", errors="replace").splitlines()]


def _parse(name: str, text: str) -> LogLine:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    return LogLine(name, text, fields if isinstance(fields, dict) else {})
