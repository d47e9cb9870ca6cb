"""One bit of a file is another than it was: `python -m tests.durability.bit_rot`.

Takes what a killed process left (`recording`), flips one bit of one of its files, opens the folder with the
real code and reads everything (`observing`). Each flip is one of:

    refused     the process does not start on it, and says why (exit code 5)
    noticed     what the flip hit cannot be read; everything else is as it was
    harmless    everything reads as it was
    rolled back a rollup node stands at an earlier block, says of it what it did, and follows the order again
    served      something else is said than was: a failure
    unworded    the process does not start, with an error that tells a person nothing: a failure

    --flips N, --seed S, --process NAME, --for TIME, --run FOLDER, --record   as of the power-loss campaign
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from deploy.node.failures import ProcessFailure
from tests import reliability
from tests.durability.command import add_run_options, campaign_parser, run_of, subjects_of, today
from tests.durability.images import Disk, Image, Model
from tests.durability.judges import Note, read_note
from tests.durability.observing import ERROR, Facts, Observer, observer_of
from tests.durability.power_loss import FAILURES_SHOWN, MEMORY
from tests.durability.recording import Run
from tests.tools.shim import Operation, read_record

FLIPS: Final = 2_000
"""Of the documented campaign."""

SLICE_FLIPS_MAX: Final = 50
"""Flips that one worker makes at a time."""

FAILURES: Final = ("served", "unworded")
"""Outcomes that must not be."""

CLAIM: Final = "A flipped bit in any file of a process is noticed or changes nothing that it says"
"""What the campaign tries to break."""

NOT_COVERED: Final = (
    "One bit at a time, at rest, in what a killed process left of one run of two hundred blocks: no lost or "
    "misplaced write, no flip while a process runs, none in memory. Of databases above 32 MiB only rows that "
    "are read are checked, so that one whose key was hit may look as if it were not there."
)


@dataclass(frozen=True)
class Task:
    """Some flips in one process's files."""

    folder: Path
    """The run's."""
    name: str
    """The process."""
    seed: str
    """Of the choices; it repeats them on the same run."""
    flips: int
    """How many."""


@dataclass
class Outcome:
    """What came of some flips."""

    verdicts: Counter[str] = field(default_factory=Counter)
    """How many ended how, by process and outcome."""
    failures: list[str] = field(default_factory=list)
    """Those that failed."""

    @property
    def flips(self) -> int:
        """How many there were."""
        return self.verdicts.total()

    def add(self, other: "Outcome") -> None:
        """Count another's flips as well."""
        self.verdicts += other.verdicts
        self.failures += other.failures


def run_task(task: Task) -> Outcome:
    """Flip bits, one at a time."""
    run = Run(task.folder)
    disk, told = Disk(run.root, Model.ORDERED), list[Note]()
    for call in read_record(run.record(task.name)):
        if call.operation is Operation.MARK:
            told.append(read_note(call.data))
        else:
            disk.apply(call)
    whole = disk.whole()
    observer = observer_of(run.network, task.name, told)
    before = _observe(run, task.name, whole, observer)
    assert isinstance(before, dict), before
    failed = {name: fact for name, fact in before.items() if fact.startswith(ERROR)}
    assert not failed, f"{task.name} does not read although it is whole: {failed}"
    chance, outcome = random.Random(task.seed), Outcome()
    for number in range(task.flips):
        path, place, bit = choose(whole, chance)
        flipped = dict(whole.files)
        contents = bytearray(flipped[path])
        contents[place] ^= 1 << bit
        flipped[path] = bytes(contents)
        verdict, detail = judge(before, _observe(run, task.name, Image(whole.folders, flipped), observer))
        outcome.verdicts[f"{task.name} {verdict}"] += 1
        if verdict in FAILURES:
            where = f"{path.name} byte {place} bit {bit}"
            outcome.failures.append(f"{verdict}: {task.name} {where} ({task.seed} #{number}): {detail}")
    return outcome


def choose(image: Image, chance: random.Random) -> tuple[Path, int, int]:
    """Return a file that is not empty, a byte of it that matters to somebody, and a bit."""
    path = chance.choice(sorted(path for path, contents in image.files.items() if contents))
    return path, chance.randrange(len(image.files[path])), chance.randrange(8)


def judge(before: Facts, after: Facts | Exception) -> tuple[str, str]:
    """Return how a flip ended, and what shows it."""
    if isinstance(after, Exception):
        said = f"{type(after).__name__}: {after}"
        return ("refused" if isinstance(after, ProcessFailure) else "unworded"), said
    if after == before:
        return "harmless", ""
    errors = [name for name, fact in after.items() if fact.startswith(ERROR)]
    wrong = [name for name, fact in after.items() if name not in errors and before.get(name) != fact]
    missing = before.keys() - after.keys()
    if not wrong and not missing:
        return "noticed", errors[0]
    if _is_rolled_back(before, after, wrong):
        return "rolled back", after["height"]
    name = (wrong or sorted(missing))[0]
    return "served", f"{name}: {_difference(before.get(name, ''), after.get(name, ''))}"


_OF_THE_END: Final = ("height", "register", "state", "seen", "posted", "compared", "receipts")
"""Facts of a rollup node that are of its newest block."""

_UNKNOWN_YET: Final = ("first receipt", "posted", "receipt", "leg")
"""Starts of facts that may be missing at an earlier block, or be what they were before they changed."""


def _is_rolled_back(before: Facts, after: Facts, wrong: Sequence[str]) -> bool:
    """Answer whether a rollup node is what it was some blocks ago.

    What it says of its newest block it said then: loading has compared it with that block's commitment.
    """
    is_rollup = "seen" in before
    others = [name for name in wrong if name not in _OF_THE_END and not name.startswith(_UNKNOWN_YET)]
    return is_rollup and int(after["height"]) < int(before["height"]) and not others


def _difference(left: str, right: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0)
    return f"{left[max(0, place - 60) : place + 60]!r} became {right[max(0, place - 60) : place + 60]!r}"


def _observe(run: Run, name: str, image: Image, observer: Observer) -> Facts | Exception:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None) as folder:
        image.write(run.root, Path(folder))
        try:
            return asyncio.run(observer(Path(folder) / name))
        except Exception as error:  # noqa: BLE001  # how it refuses is what is asked
            return error


def campaign(
    run: Run, *, names: Sequence[str], flips: int, seed: str, seconds_max: float = 3_600, workers: int = 2
) -> Outcome:
    """Flip bits in the files of some processes of a run, in several processes of ours."""
    total, deadline_s = Outcome(), time.monotonic() + seconds_max
    each = min(SLICE_FLIPS_MAX, -(-flips // len(names)))
    parts = -(-flips // (each * len(names)))
    tasks = [Task(run.folder, name, f"{seed}/{name}/{part}", each) for part in range(parts) for name in names]
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for start in range(0, len(tasks), workers):
            if time.monotonic() > deadline_s:
                break
            for outcome in pool.map(run_task, tasks[start : start + workers]):
                total.add(outcome)
    return total


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; 1 if a flip was served."""
    parser = campaign_parser("tests.durability.bit_rot", __doc__, counted="flips", default=FLIPS)
    add_run_options(parser)
    typed = parser.parse_args(arguments)
    with run_of(typed) as run:
        outcome = campaign(
            run,
            names=subjects_of(typed),
            flips=typed.flips,
            seed=typed.seed,
            seconds_max=typed.seconds_max,
        )
    lines = outcome.failures[:FAILURES_SHOWN]
    lines += [f"{count:6} {verdict}" for verdict, count in sorted(outcome.verdicts.items())]
    lines.append(f"{outcome.flips} flips, {len(outcome.failures)} failed")
    sys.stdout.write("\n".join(lines) + "\n")
    if typed.record:
        reliability.record(
            CLAIM,
            trials=outcome.flips,
            failures=len(outcome.failures),
            seeds=f"{typed.seed}, on a run of real processes that is recorded anew each time",
            command=f"python -m tests.durability.bit_rot --flips {outcome.flips} --seed {typed.seed}",
            not_covered=NOT_COVERED,
            date=today(),
        )
    return bool(outcome.failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
