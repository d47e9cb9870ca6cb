"""What journals say is added up, and nothing that they do not say is written."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import reliability
from tests.chaos.journals import note, read
from tests.chaos.recording import HEALED, MATRIX, POINTS, RANDOM, main
from tests.reliability import Claim, load

SLICE = {
    "ok": True,
    "is_healed_in_time": True,
    "healed_ms": 2_000,
    "starved_ms": 100,
    "seconds": 60,
    "for_ms": 60_000,
    "gap_ms": 300,
    "at_once": 8,
    "transfer_ms": 500,
    "kills": 20,
    "faults": {"kill": 9, "cut": 1},
    "swaps_proposed": 200,
    "swaps_ended": {"COMMITTED": 150, "ABORTED": 40},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty record, for `main` to write to."""
    for name in ("FILE", "PAGE"):
        monkeypatch.setattr(reliability, name, tmp_path / getattr(reliability, name).name)
    (tmp_path / "RELIABILITY.json").write_text('{"claims": {}, "track_record": []}')
    return tmp_path


def recorded(*words: str | Path) -> dict[str, Claim]:
    """What stands in the record after a command."""
    ended = CliRunner().invoke(main, [str(word) for word in words])
    assert ended.exit_code == 0, ended.output
    return load().claims


def test_journals_add_up_and_their_networks_are_counted(folder: Path) -> None:
    one, other = folder / "one", folder / "other"
    note(one, fault="bridge/COMMITTED/a.b@1/kill", seed=3, ending="survived")
    note(one, fault="bridge/COMMITTED/a.b@9/kill", seed=3, ending="missed")
    note(one, audit="whole", seed=3)
    note(other, fault="bridge/COMMITTED/call@2/eio", seed=4, ending="failed")
    note(other, audit="unfinished", seed=4)
    claim = recorded("points", one, other)[POINTS]
    assert (claim.trials, claim.failures) == (2, 1)
    assert claim.seeds == "3 to 4; 2 different faults, by mode: 1 eio, 1 kill"
    assert "1 of 2 networks it judged whole, 1 it did not come to the end of in time" in claim.not_covered


def test_a_network_in_which_something_was_found_is_told(folder: Path) -> None:
    note(folder / "one", fault="bridge/COMMITTED/a.b@1/kill", seed=3, ending="survived")
    note(folder / "one", audit="violated", seed=3)
    assert "in 1 it FOUND SOMETHING" in recorded("points", folder / "one")[POINTS].not_covered


def test_the_matrix_tells_which_sets_there_were_and_counts_who_was_late(folder: Path) -> None:
    for case, heal_ms in (("open/bridge", 100), ("open/bridge", 200), ("open/bridge+taker", 10_001)):
        note(folder / "one", case=case, seed=1, ending="passed", heal_ms=heal_ms)
    claim = recorded("matrix", folder / "one")[MATRIX]
    assert (claim.trials, claim.failures) == (3, 1)
    assert "4 kills: 1 of the 56 sets of 1 at a moment, 1 of the 168 sets of 2" in claim.seeds
    assert "200 ms in the median, 10001 ms in nine of ten, 10001 ms at most" in claim.seeds


def test_trials_of_random_chaos_are_swaps_and_those_of_healing_are_heals(folder: Path) -> None:
    note(folder / "one", **{**SLICE, "seed": 7})
    note(folder / "one", **{**SLICE, "seed": 9, "healed_ms": 11_000, "starved_ms": 4_000})
    note(folder / "one", **{**SLICE, "seed": 8, "ok": False, "healed_ms": None, "is_healed_in_time": False})
    note(folder / "one", alarm="6: the harness slept")
    claims = recorded("random", folder / "one")
    assert (claims[RANDOM].trials, claims[RANDOM].failures) == (600, 1)
    assert claims[RANDOM].seeds == "7 to 9"
    assert "3 slices of 180 s in all: 60 kills; faults: 3 cut, 27 kill" in claims[RANDOM].not_covered
    assert "Not counted: 1 trials" in claims[RANDOM].not_covered
    assert (claims[HEALED].trials, claims[HEALED].failures) == (3, 1)
    assert "with it, 1 took longer than 10 s" in claims[HEALED].not_covered


def test_a_control_is_added_and_outlives_the_next_recording(folder: Path) -> None:
    note(folder / "one", fault="bridge/COMMITTED/a.b@1/kill", seed=3, ending="survived")
    note(folder / "control", fault="bridge/COMMITTED/a.b@1/kill", seed=3, ending="failed")
    recorded("points", folder / "one")
    for _ in range(2):
        recorded("points", folder / "control", "--control", "it forgets")
    [control] = recorded("points", folder / "one")[POINTS].controls
    assert (control.planted, control.trials, control.failures) == ("it forgets", 1, 1)


def test_trials_and_judgements_are_told_apart(folder: Path) -> None:
    note(None, audit="whole")
    note(folder / "one", audit="whole")
    note(folder / "one", case="x")
    note(folder / "one", alarm="7: the harness slept")
    said = read([folder / "one"])
    assert (said.trials, said.audits, said.alarms) == ([{"case": "x"}], ["whole"], ["7: the harness slept"])
