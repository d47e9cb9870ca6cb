"""What was tried to break, how often, and what came of it: the one writer of RELIABILITY.json.

Owns tests/RELIABILITY.json and the page that is made of it, tests/RELIABILITY.md. A claim stands there with
the number of trials behind it and with what they did not cover, so that a reader can tell what was seen from
what is hoped. Only results that were seen are recorded: campaigns call `record` at their end.

    python -m tests.reliability             makes the page anew from the file
    python -m tests.reliability bug ...     adds a line to the track record; --help says what
"""

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from deploy.node.datadir import write_atomically
from tests.documented import table

FILE: Final = Path(__file__).with_name("RELIABILITY.json")
PAGE: Final = Path(__file__).with_name("RELIABILITY.md")

ZERO_FAILURES_BOUND: Final = 3
"""Zero failures in N trials bound a trial's chance to fail by 3/N, at 95 % confidence (the rule of three)."""


class Control(msgspec.Struct, frozen=True):
    """A planted bug or a weakened setting under which the same trials must fail."""

    planted: str
    """What was broken on purpose."""
    trials: int
    """How many trials ran with it."""
    failures: int
    """How many of them failed; 0 means that the trials are blind to this."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim and the trials behind it."""

    trials: int
    """Trials that ran to a verdict."""
    failures: int
    """Of these, how many broke the claim, on the version that is recorded here."""
    seeds: str
    """What repeats the random choices, in words or numbers."""
    command: str
    """What repeats the trials."""
    not_covered: str
    """What these trials say nothing about."""
    date: str
    """The day on which they ran, as 2026-11-25."""
    controls: tuple[Control, ...] = ()
    """What the same trials were shown to notice."""


class Bug(msgspec.Struct, frozen=True, kw_only=True):
    """A bug that a campaign found and that is mended."""

    what: str
    """What went wrong, as a user would have seen it."""
    found_by: str
    """The campaign or test that found it."""
    seed: str
    """What repeats the finding."""
    mended: str
    """Where: the regression test that fails without the mend."""


class Record(msgspec.Struct, frozen=True):
    """The whole file."""

    claims: dict[str, Claim]
    """By the claim's sentence."""
    track_record: tuple[Bug, ...]
    """Oldest first."""


def record(
    claim: str,
    *,
    trials: int,
    failures: int,
    seeds: str,
    command: str,
    not_covered: str,
    date: str,
    controls: Sequence[Control] = (),
) -> None:
    """Write what was seen of a claim, in the place of what stood there for it, and make the page anew.

    Raises ValueError for numbers that cannot be.
    """
    if not 0 <= failures <= trials or trials == 0:
        raise ValueError(f"{failures} failures in {trials} trials cannot be")
    seen = Claim(
        trials=trials,
        failures=failures,
        seeds=seeds,
        command=command,
        not_covered=not_covered,
        date=date,
        controls=tuple(controls),
    )
    _change(lambda old: Record({**old.claims, claim: seen}, old.track_record))


def record_bug(bug: Bug) -> None:
    """Add a line to the track record; one that stands there already is not added again."""
    _change(lambda old: old if bug in old.track_record else Record(old.claims, (*old.track_record, bug)))


def load() -> Record:
    """Return what is recorded."""
    return msgspec.json.decode(FILE.read_bytes(), type=Record)


# --- the page ---------------------------------------------------------------------------------------------

_HEAD: Final = """\
# Reliability

What was tried to break Lockstep, how often, and what came of it. Made from `RELIABILITY.json` by
`python -m tests.reliability`; a test proves it current. A row stands here only after its trials ran. Zero
failures in N trials do not prove that there is no failure: they bound the chance of one per trial by 3/N, at
95 % confidence. A control is a bug that was planted, or a setting that was weakened, to see the same trials
fail.

## Claims

"""

_TRACK_RECORD: Final = """
## Track record

What the campaigns and crash tests found. Each is mended at its cause, and has a test that fails without the
mend.

"""


def page_of(content: Record) -> str:
    """Return the page for a record."""
    summary = table(
        ("claim", "trials", "failures", "chance of a failure per trial", "controls seen to fail", "date"),
        (_row(claim, seen) for claim, seen in sorted(content.claims.items())),
    )
    details = "".join(_details(claim, seen) for claim, seen in sorted(content.claims.items()))
    bugs = table(
        ("bug", "found by", "seed", "mended, with the test"),
        ((bug.what, bug.found_by, bug.seed, bug.mended) for bug in content.track_record),
    )
    return f"{_HEAD}{summary}{details}{_TRACK_RECORD}{bugs}"


def _row(claim: str, seen: Claim) -> tuple[str, ...]:
    caught = sum(control.failures > 0 for control in seen.controls)
    controls = f"{caught} of {len(seen.controls)}" if seen.controls else "none"
    return claim, f"{seen.trials:,}", f"{seen.failures:,}", chance_of_failure(seen), controls, seen.date


def chance_of_failure(seen: Claim) -> str:
    """Return what the trials say about one more: a bound if none failed, else the share that did."""
    if seen.failures:
        return f"{seen.failures / seen.trials:.2%} seen"
    return f"below {ZERO_FAILURES_BOUND / seen.trials:.3%}"


def _details(claim: str, seen: Claim) -> str:
    lines = [f"\n### {claim}\n"]
    lines.append(f"- Repeated by `{seen.command}`; seeds: {seen.seeds}.")
    lines.append(f"- Not covered: {seen.not_covered}")
    lines += (
        f"- Control: {control.planted}; {control.failures:,} of {control.trials:,} trials failed."
        for control in seen.controls
    )
    return "\n".join(lines) + "\n"


# --- the files --------------------------------------------------------------------------------------------


def _change(change: Callable[[Record], Record]) -> None:
    with _alone():
        changed = change(load())
        write_atomically(FILE, msgspec.json.format(msgspec.json.encode(changed), indent=2) + b"\n")
        _write_page(changed)
        for file in (FILE, PAGE):
            file.chmod(0o644)


def _write_page(content: Record) -> None:
    write_atomically(PAGE, page_of(content).encode())
    PAGE.chmod(0o644)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other campaigns from writing meanwhile, by a lock on the folder, which leaves no file behind."""
    folder = os.open(FILE.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main(arguments: Sequence[str]) -> None:
    """Make the page, or add a bug to the track record."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability")
    bug = parser.add_subparsers(dest="verb").add_parser("bug", help="add a line to the track record")
    for name in ("what", "found-by", "seed", "mended"):
        bug.add_argument(f"--{name}", required=True)
    typed = parser.parse_args(arguments)
    if typed.verb == "bug":
        record_bug(Bug(what=typed.what, found_by=typed.found_by, seed=typed.seed, mended=typed.mended))
    else:
        _write_page(load())


if __name__ == "__main__":
    main(sys.argv[1:])
