"""A slice of the power-loss campaign, its controls, and the model of a disk that both rest on."""

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.durability.images import Disk, Model
from tests.durability.power_loss import Outcome, Syncs, campaign
from tests.durability.recording import PROCESSES, SUBJECTS, Run
from tests.tools.shim import Call, Operation

IMAGES = 900
CONTROL_IMAGES = 120

ROOT = Path("/data")
FILE, OTHER, FOLDER = ROOT / "one" / "file", ROOT / "one" / "other", ROOT / "one"


def described(outcome: Outcome) -> str:
    return "\n".join(outcome.failures[:5])


@pytest.mark.needs_gcc
@pytest.mark.processes
def test_what_was_told_is_there_on_every_image(run: Run) -> None:
    outcome = campaign(run, names=SUBJECTS, images=IMAGES, seed="ci")
    assert outcome.images >= IMAGES
    assert not outcome.failures, described(outcome)


@pytest.mark.needs_gcc
@pytest.mark.processes
@pytest.mark.parametrize("syncs", [Syncs.NORMAL, Syncs.OFF])
def test_with_weaker_syncs_the_same_checks_fail(run: Run, syncs: Syncs) -> None:
    for name in PROCESSES:
        assert campaign(run, names=(name,), images=CONTROL_IMAGES, seed="ci", syncs=syncs).failures, name


# --- the model ---------------------------------------------------------------------------------------------


def call(operation: Operation, path: Path = FILE, offset: int = 0, data: bytes = b"") -> Call:
    return Call(operation, path, 1, offset, data)


def images(calls: Iterable[Call], model: Model) -> set[tuple[tuple[str, bytes], ...]]:
    """Return all that chance leaves of these calls, as names with contents."""
    found = set()
    for seed in range(300):
        disk = Disk(ROOT, model)
        for each in calls:
            disk.apply(each)
        image = disk.image(random.Random(seed))
        found.add(tuple(sorted((str(path.relative_to(ROOT)), data) for path, data in image.files.items())))
    return found


MADE = [call(Operation.MKDIR, FOLDER), call(Operation.CREATE), call(Operation.WRITE, data=b"old")]
SYNCED = [*MADE, call(Operation.SYNC), call(Operation.SYNC, FOLDER), call(Operation.SYNC, ROOT)]


@pytest.mark.parametrize("model", Model)
def test_what_is_synced_stays(model: Model) -> None:
    assert images(SYNCED, model) == {(("one/file", b"old"),)}


def test_what_is_not_synced_is_there_or_not() -> None:
    later = [call(Operation.WRITE, data=b"new"), call(Operation.WRITE, offset=3, data=b"er")]
    kept = {b"old", b"new", b"older", b"newer"}
    assert images([*SYNCED, *later], Model.ORDERED) == {(("one/file", each),) for each in kept}


def test_a_write_tears_between_sectors() -> None:
    torn = {each[0][1] for each in images([*SYNCED, call(Operation.WRITE, data=b"n" * 1_024)], Model.STRICT)}
    assert b"n" * 512 in torn
    assert b"old".ljust(512, b"\0") + b"n" * 512 in torn


def test_a_folder_that_is_not_synced_into_its_parent_may_vanish_by_the_letter_only() -> None:
    synced = [*MADE, call(Operation.SYNC), call(Operation.SYNC, FOLDER)]
    assert () in images(synced, Model.STRICT)
    assert images(synced, Model.ORDERED) == {(("one/file", b"old"),)}


@pytest.mark.parametrize("model", Model)
def test_a_file_that_is_replaced_is_the_old_or_the_new(model: Model) -> None:
    replaced = [
        call(Operation.CREATE, OTHER),
        call(Operation.WRITE, OTHER, data=b"new"),
        call(Operation.SYNC, OTHER),
        Call(Operation.RENAME, OTHER, 0, 0, str(FILE).encode()),
    ]
    found = images([*SYNCED, *replaced], model)
    assert {dict(each)["one/file"] for each in found} == {b"old", b"new"}
    assert images([*SYNCED, *replaced, call(Operation.SYNC, FOLDER)], model) == {(("one/file", b"new"),)}


def test_a_file_that_is_made_again_under_its_name_is_another() -> None:
    again = [call(Operation.UNLINK), call(Operation.CREATE), call(Operation.WRITE, offset=3, data=b"!")]
    found = images([*SYNCED, *again], Model.ORDERED)
    assert (("one/file", b"old"),) in found
    assert (("one/file", b"\0\0\0!"),) in found
    assert (("one/file", b"old!"),) not in found
