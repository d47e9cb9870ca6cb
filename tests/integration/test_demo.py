"""The demo, end to end, as `./deploy/demo` runs it after setting up."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes


def run_demo(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (sys.executable, "-P", "-m", "deploy.demonstration", *arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def movements(found: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    return [(each["asset"], each["sender"], each["recipient"], each["amount"]) for each in found]


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    done = run_demo("--json", "found.json", "--keep", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["ok"], found["error"]) == (True, "")
    ends = [(swap["number"], swap["outcome"], swap["reason"], swap["level"]) for swap in found["swaps"]]
    assert ends == [
        (1, "COMMITTED", "NONE", "ANCHORED"),
        (2, "ABORTED", "NOT_REVEALED", "ANCHORED"),
        (3, "COMMITTED", "NONE", "ANCHORED"),
        (4, "ABORTED", "LEG_REJECTED", "ANCHORED"),
        (5, "COMMITTED", "NONE", "ANCHORED"),
        (6, "COMMITTED", "NONE", "ANCHORED"),
    ]
    assert [movements(swap["moved"]) for swap in found["swaps"]] == [
        [("gold", "alice", "bob", "50000"), ("silver", "bob", "alice", "200000")],
        [],
        [("gold", "alice", "bob", "30000"), ("silver", "bob", "alice", "115000")],
        [],
        [
            ("gold", "alice", "bob", "20000"),
            ("silver", "bob", "carol", "75000"),
            ("copper", "carol", "alice", "1200000"),
        ],
        [("gold", "alice", "bob", "70000"), ("silver", "bob", "alice", "260000")],
    ]
    for swap in found["swaps"]:
        assert swap["moved"] == (swap["legs"] if swap["outcome"] == "COMMITTED" else [])
        assert all(milliseconds >= 0 for milliseconds in swap["milliseconds"].values())
    whole = ["proposed", "locked", "revealed", "decided", "settled", "anchored"]
    assert [[step for step in whole if step not in swap["milliseconds"]] for swap in found["swaps"]] == [
        [],
        ["revealed"],
        ["locked", "revealed"],
        ["locked", "revealed"],
        [],
        [],
    ]
    assert len(found["transfers"]) == 2
    assert {check["name"]: check["ok"] for check in found["checks"]} == {
        "gold on alpha is conserved": True,
        "silver on beta is conserved": True,
        "copper on gamma is conserved": True,
        "every swap happened on all its rollups or on none": True,
        "every decision and settlement is anchored": True,
        "beta-0, which was killed, has the state of its replica": True,
        "the settlement log verifies and has it all": True,
    }
    assert "decided while beta-0 was dead" in done.stdout
    # Numbered in the order in which they are told.
    assert re.findall(r"^Swap (\d):", done.stdout, re.MULTILINE) == ["1", "2", "3", "4", "5", "6", "2"]

    kept = Path(done.stdout.rpartition("are in ")[2].strip())
    assert (kept / "genesis.json").exists()
    assert (kept / "logs" / "beta-0.log").stat().st_size > 0
    shutil.rmtree(kept)


def test_a_process_that_dies_ends_the_demo_and_is_named(tmp_path: Path) -> None:
    command = (sys.executable, "-P", "-m", "deploy.demonstration", "--json", str(tmp_path / "found.json"))
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if named := re.search(r"bridge: process (\d+)", line):
                os.kill(int(named[1]), signal.SIGKILL)
                break
        shown = process.stdout.read()
    assert process.returncode == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ok"] is False
    assert "bridge ended by itself with exit code -9" in found["error"]
    assert "Not all of it held" in shown
    shutil.rmtree(Path(shown.rpartition("are in ")[2].strip()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_stopped_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = (sys.executable, "-P", "-m", "deploy.demonstration")
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        (bridge,) = next(filter(None, (re.search(r"bridge: process (\d+)", line) for line in lines))).groups()
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == 1
    assert not any(tmp_path.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(int(bridge), 0)


def test_help_tells_the_options_and_the_layout_of_the_file(tmp_path: Path) -> None:
    shown = run_demo("--help", cwd=tmp_path).stdout
    for told in ("--json FILE", "--keep", "decided_height"):
        assert told in shown


def test_a_file_in_no_folder_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = run_demo("--json", "no-such-folder/found.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
