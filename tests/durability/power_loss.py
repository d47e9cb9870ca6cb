"""The power goes at any moment of a run: `python -m tests.durability.power_loss`.

Makes images that a power cut could have left, opens each with the real code, and checks that nothing that was
told is missing or different (`judges`). A control weakens the syncs of the same record, as SQLite's
`synchronous = NORMAL` and `OFF` would have: then the same checks must fail.

    --images N      images in all, evenly over processes and models (30,000)
    --seed S        of the random choices (1); the run itself is a new one each time
    --process NAME  only this one of sequencer, settlement, alpha-0, beta-0, bridge, wallet
    --for TIME      stop after this long, such as 4m or 90s
    --run FOLDER    use, or make, the run that is recorded there
    --record        write the outcome into tests/RELIABILITY.json
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from tests import reliability
from tests.durability.command import add_run_options, campaign_parser, run_of, subjects_of, today
from tests.durability.images import Disk, Model
from tests.durability.judges import MUST_BE_TOLD, Note, judge_of, read_note
from tests.durability.recording import Run
from tests.reliability import Control
from tests.tools.shim import Call, Operation, read_record

IMAGES: Final = 30_000
"""Of the documented campaign."""

SLICE_IMAGES_MAX: Final = 100
"""Images that one worker makes in one pass over a record."""

CONTROL_IMAGES: Final = 600
"""Images of each control of a campaign."""

FAILURES_SHOWN: Final = 20
"""Of each kind of line."""

CLAIM: Final = (
    "Power loss: whatever was acknowledged is there, unchanged, on every disk that a power cut can leave"
)
"""What the campaign tries to break."""

NOT_COVERED: Final = (
    "Images are drawn at random from the record of one run; two models of a disk (names in order at any "
    "sync, as ext4; POSIX to the letter), no other file system, no disk that lies about a sync, no real cut."
)

MEMORY: Final = Path("/dev/shm")
"""Where images are put, if it is there: what is synced there costs nothing."""


class Syncs(Enum):
    """How often the run synced."""

    AS_RECORDED = "as recorded"
    NORMAL = "synchronous = NORMAL"
    """SQLite leaves out the sync of its log at each commit, not the one before a checkpoint."""
    OFF = "no sync at all"


@dataclass(frozen=True)
class Task:
    """Some images of one process."""

    folder: Path
    """The run's."""
    name: str
    """The process."""
    model: Model
    """What a sync promises."""
    syncs: Syncs
    """Which syncs count."""
    seed: str
    """Of the choices; it repeats them on the same run."""
    images: int
    """How many."""


@dataclass
class Outcome:
    """What came of some images."""

    images: int = 0
    """Images that were opened."""
    failures: list[str] = field(default_factory=list)
    """Those that did not hold, with what repeats each."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why, in short."""

    def add(self, other: "Outcome") -> None:
        """Count another's images as well."""
        self.images += other.images
        self.failures += other.failures
        self.reasons += other.reasons


def weakened(calls: Iterable[Call], syncs: Syncs) -> Iterator[Call]:
    """Yield the calls of a record as they would have been with weaker syncs."""
    held: Call | None = None
    for call in calls:
        is_sync = call.operation is Operation.SYNC
        if syncs is Syncs.OFF and is_sync:
            continue
        if syncs is Syncs.NORMAL and is_sync and call.path.name.endswith("-wal"):
            held = call
            continue
        if held is not None and call.operation is Operation.WRITE and call.path.name.endswith(_DATABASES):
            # A checkpoint writes the database once the log is synced.
            yield held
            held = None
        yield call


_DATABASES: Final = (".sqlite", ".db")


def run_task(task: Task) -> Outcome:
    """Make and judge images, in order of the moment that each is of."""
    run = Run(task.folder)
    calls = list(weakened(read_record(run.record(task.name)), task.syncs))
    chance = random.Random(task.seed)
    moments = sorted(chance.randrange(len(calls)) for _ in range(task.images))
    outcome, disk, told, done = Outcome(), Disk(run.root, task.model), list[Note](), 0
    judge = judge_of(run, task.name)
    for number, moment in enumerate(moments):
        for call in calls[done : moment + 1]:
            if call.operation is Operation.MARK:
                told.append(read_note(call.data))
            else:
                disk.apply(call)
        done = moment + 1
        image = disk.image(chance)
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None) as folder:
            image.write(run.root, Path(folder))
            try:
                asyncio.run(judge(Path(folder) / task.name, told))
            except Exception as failure:  # noqa: BLE001  # whatever it is, the image did not hold
                reason = f"{type(failure).__name__}: {str(failure)[:200]}"
                outcome.failures.append(f"{task} image {number}, after call {moment}: {reason}")
                outcome.reasons[f"{task.name}: {reason[:80]}"] += 1
            outcome.images += 1
    return outcome


def campaign(
    run: Run,
    *,
    names: Sequence[str],
    images: int,
    seed: str,
    syncs: Syncs = Syncs.AS_RECORDED,
    models: Sequence[Model] = tuple(Model),
    seconds_max: float = 3_600,
    workers: int = 2,
) -> Outcome:
    """Judge images of some processes of a run, in several processes of ours."""
    verify_told(run, names)
    total, deadline_s = Outcome(), time.monotonic() + seconds_max
    tasks = list(_tasks(run, names, models, syncs, seed, images))
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for start in range(0, len(tasks), workers):
            if time.monotonic() > deadline_s:
                break
            for outcome in pool.map(run_task, tasks[start : start + workers]):
                total.add(outcome)
    return total


def verify_told(run: Run, names: Sequence[str]) -> None:
    """Insist that a run told of everything that its images are judged by."""
    for name in names:
        marks = (call for call in read_record(run.record(name)) if call.operation is Operation.MARK)
        told = {key for mark in marks for key in read_note(mark.data)}
        assert told >= MUST_BE_TOLD[name], f"{name} told of {sorted(told)}"


def _tasks(
    run: Run, names: Sequence[str], models: Sequence[Model], syncs: Syncs, seed: str, images: int
) -> Iterator[Task]:
    """Yield tasks in turns, so that a campaign that is cut short has some of everything."""
    left = images
    part = 0
    slice_images = min(SLICE_IMAGES_MAX, -(-images // (len(names) * len(models))))
    while left > 0:
        for name in names:
            for model in models:
                count = min(slice_images, left)
                if count > 0:
                    yield Task(run.folder, name, model, syncs, f"{seed}/{name}/{model.value}/{part}", count)
                left -= count
        part += 1


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; 1 if an image did not hold, or if a control held."""
    parser = campaign_parser("tests.durability.power_loss", __doc__, counted="images", default=IMAGES)
    add_run_options(parser)
    typed = parser.parse_args(arguments)
    names = subjects_of(typed)
    with run_of(typed) as run:
        outcome = campaign(
            run, names=names, images=typed.images, seed=typed.seed, seconds_max=typed.seconds_max
        )
        controls = {
            syncs: campaign(run, names=names, images=CONTROL_IMAGES, seed=typed.seed, syncs=syncs)
            for syncs in (Syncs.NORMAL, Syncs.OFF)
        }
    sys.stdout.write(_described(outcome, controls))
    if typed.record:
        _record(outcome, controls, typed.seed)
    return bool(outcome.failures) or not all(control.failures for control in controls.values())


def _described(outcome: Outcome, controls: Mapping[Syncs, Outcome]) -> str:
    lines = outcome.failures[:FAILURES_SHOWN]
    lines += [f"{count:6} {reason}" for reason, count in outcome.reasons.most_common(FAILURES_SHOWN)]
    lines.append(f"{outcome.images} images, {len(outcome.failures)} did not hold")
    lines += [
        f"control, {syncs.value}: {control.images} images, {len(control.failures)} did not hold"
        for syncs, control in controls.items()
    ]
    return "\n".join(lines) + "\n"


def _record(outcome: Outcome, controls: Mapping[Syncs, Outcome], seed: str) -> None:
    reliability.record(
        CLAIM,
        trials=outcome.images,
        failures=len(outcome.failures),
        seeds=f"{seed}, on a run of real processes that is recorded anew each time",
        command=f"python -m tests.durability.power_loss --images {outcome.images} --seed {seed}",
        not_covered=NOT_COVERED,
        date=today(),
        controls=[
            Control(f"the same record with {syncs.value}", control.images, len(control.failures))
            for syncs, control in controls.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
