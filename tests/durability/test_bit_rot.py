"""A slice of the bit-rot campaign, and that it sees what no checksum catches."""

import pytest

from tests.durability.bit_rot import Task, campaign, run_task
from tests.durability.recording import SUBJECTS, Run

FLIPS = 180
CONTROL_FLIPS = 60

pytestmark = [pytest.mark.needs_gcc, pytest.mark.processes]


def test_a_flipped_bit_is_noticed_or_changes_nothing(run: Run) -> None:
    outcome = campaign(run, names=SUBJECTS, flips=FLIPS, seed="ci")
    assert outcome.flips >= FLIPS
    assert not outcome.failures, "\n".join(outcome.failures[:5])
    noticed = {verdict.split(" ", 1)[0] for verdict in outcome.verdicts if not verdict.endswith("harmless")}
    assert noticed == set(SUBJECTS), "some flips hit something in every process"


@pytest.mark.parametrize("name", ["alpha-0", "bridge"])
def test_without_the_checks_a_flipped_bit_is_served(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.node.seals.sound", lambda *_: True)
    monkeypatch.setattr("deploy.node.database.find_unsound", lambda _: None)
    outcome = run_task(Task(run.folder, name, "control", CONTROL_FLIPS))
    assert any(failure.startswith("served") for failure in outcome.failures), outcome.verdicts
