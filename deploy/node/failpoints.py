"""Named points at which a test makes the process die or fail.

Owns the registry of points and what the environment asks of them. A point is declared when its module is
imported, so that the full list is known before anything runs, and reached where the name says. Without the
two variables below, to reach a point costs one dictionary look-up and does nothing; names are checked all the
same.

    LOCKSTEP_FAILPOINTS        name=mode[@n][;name=mode[@n]]...
        kill          SIGKILL to this process: nothing is flushed, no handler runs
        torn          half of what the point writes is written, then SIGKILL; for points of writes alone
        error         OSError EIO, as from a broken disk
        enospc        OSError ENOSPC, as from a full disk
        delay(ms)     the calling thread sleeps, as in a slow system call
        linger(ms)    the calling thread sleeps, then SIGKILL: what is told meanwhile is told too soon
        stop          SIGSTOP to this process: it stands still there until somebody's SIGCONT or SIGKILL
        @n            only on the n-th hit of that name, counted from 1; without it on each hit
    LOCKSTEP_FAILPOINTS_COUNT  a file to which every hit appends a line `name`, so that a counting run lists
                               all crash points of a scenario in the order in which they are passed
"""

import errno
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from deploy.node.failures import SettingsInvalid

FAILPOINTS_VARIABLE: Final = "LOCKSTEP_FAILPOINTS"
COUNT_VARIABLE: Final = "LOCKSTEP_FAILPOINTS_COUNT"

_Contents = TypeVar("_Contents", bound=Sequence[Any])

_NAME: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_TERM: Final = re.compile(
    r"(?P<mode>kill|torn|stop|error|enospc|(delay|linger)\((?P<ms>\d{1,6})\))(@(?P<hit>[1-9]\d{0,8}))?"
)


@dataclass(frozen=True)
class Term:
    """What the environment asks of one point."""

    mode: str
    """`kill`, `torn`, `stop`, `error`, `enospc`, `delay` or `linger`."""

    delay_ms: int
    """How long `delay` and `linger` sleep; 0 for the other modes."""

    hit: int | None
    """The only hit on which it acts, counted from 1; None for every hit."""


class Failpoints:
    """A registry of points. The process has one, `FAILPOINTS`; tests make their own."""

    def __init__(self) -> None:
        self._declared: dict[str, str] = {}
        self._writes: set[str] = set()
        self._terms: dict[str, Term] = {}
        self._count_file: Path | None = None
        self._hits: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._armed = False

    def declare(self, name: str, what: str) -> str:
        """Declare a point and return its name; `what` says in words where it stands.

        Raises ValueError if the name is taken or is not of the form `owner.place`.
        """
        if _NAME.fullmatch(name) is None or name in self._declared:
            raise ValueError(f"the failpoint name {name!r} is taken or not of the form owner.place")
        self._declared[name] = what
        return name

    def declare_write(self, name: str, what: str) -> str:
        """Declare a point at which something is written, to be passed by `write`; as `declare`."""
        self._writes.add(self.declare(name, what))
        return name

    def declared(self) -> Mapping[str, str]:
        """Return every point that was declared and where it stands."""
        return dict(self._declared)

    def writes(self) -> frozenset[str]:
        """Return the points at which something is written, and can be torn."""
        return frozenset(self._writes)

    def activate(self, environ: Mapping[str, str]) -> None:
        """Do from now on what the environment asks. Raises SettingsInvalid for unknown names and modes."""
        terms = dict(map(self._parse_term, filter(None, environ.get(FAILPOINTS_VARIABLE, "").split(";"))))
        count_file = environ.get(COUNT_VARIABLE)
        self._terms = terms
        self._count_file = None if count_file is None else Path(count_file)
        self._hits.clear()
        self._armed = bool(terms) or self._count_file is not None
        if self._armed:
            structlog.get_logger().warning(
                "failpoints_armed",
                advice="this process will fail on purpose; never set these variables outside of tests",
                terms={name: str(term) for name, term in terms.items()},
                count_file=count_file,
            )

    def reach(self, name: str) -> None:
        """Pass the point `name`. Raises KeyError if it was never declared, OSError if a test asked for it."""
        if not self._armed:
            # The look-up keeps undeclared names from hiding until a test arms something.
            _ = self._declared[name]
            return
        self._reach_armed(name)

    def write(self, name: str, contents: _Contents, write: Callable[[_Contents], object]) -> None:
        """Pass the point `name` and call `write` with `contents`; see `reach`.

        If a test wants the write torn, it gets the first half, and the process dies.
        """
        assert name in self._writes, f"{name} was not declared as a write"
        if self._armed and self._reach_armed(name) == "torn":
            half = contents[: len(contents) // 2]
            write(half)  # type: ignore[arg-type]  # a slice is of its sequence's type
            os.kill(os.getpid(), signal.SIGKILL)
        write(contents)

    def _reach_armed(self, name: str) -> str:
        """Do what is asked of this hit and return its mode; empty if nothing is."""
        _ = self._declared[name]
        with self._lock:
            self._hits[name] += 1
            hit = self._hits[name]
            if self._count_file is not None:
                with self._count_file.open("a") as counted:
                    counted.write(f"{name}\n")
        term = self._terms.get(name)
        if term is None or term.hit not in (None, hit):
            return ""
        _act(name, term)
        return term.mode

    def _parse_term(self, text: str) -> tuple[str, Term]:
        name, _, mode = text.strip().partition("=")
        matched = _TERM.fullmatch(mode)
        if name not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none"
            raise SettingsInvalid(
                f"{FAILPOINTS_VARIABLE}: {name!r} is no failpoint of this process; it has: {known}"
            )
        if matched is None:
            raise SettingsInvalid(
                f"{FAILPOINTS_VARIABLE}: {mode!r} is not a mode for {name}; write kill, stop, error, enospc, "
                "delay(ms) or linger(ms), or torn where something is written, each with @n for the n-th hit"
            )
        if matched["mode"] == "torn" and name not in self._writes:
            raise SettingsInvalid(
                f"{FAILPOINTS_VARIABLE}: nothing is written at {name} that could be torn; there is at: "
                f"{', '.join(sorted(self._writes)) or 'none'}"
            )
        hit, delay_ms = matched["hit"], matched["ms"]
        return name, Term(
            matched["mode"].partition("(")[0], int(delay_ms or 0), None if hit is None else int(hit)
        )


def _act(name: str, term: Term) -> None:
    actions: dict[str, Callable[[], None]] = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        # Whoever writes does it.
        "torn": lambda: None,
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "error": lambda: _fail(errno.EIO, name),
        "enospc": lambda: _fail(errno.ENOSPC, name),
        "delay": lambda: time.sleep(term.delay_ms / 1_000),
        "linger": lambda: _linger(term.delay_ms),
    }
    actions[term.mode]()


def _linger(delay_ms: int) -> None:
    time.sleep(delay_ms / 1_000)
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(number: int, name: str) -> None:
    raise OSError(number, f"{os.strerror(number)} (failpoint {name})")


FAILPOINTS: Final = Failpoints()
"""The registry of this process."""
