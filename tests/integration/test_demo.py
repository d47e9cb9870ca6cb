"""The demo, end to end, as `./deploy/demo` runs it after setting up."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.demonstration.narrator import Narrator
from deploy.demonstration.proofs import verify_receipts
from deploy.demonstration.report import ReceiptResult, Report, SwapResult
from deploy.node.chain_files import load_genesis
from lockstep.swap_receipt_verify import verify_swap_receipt

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


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


@dataclass(frozen=True)
class Demo:
    """A demo that was run with --json and --keep."""

    shown: str
    found: dict[str, Any]
    kept: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    done = run_demo("--json", "found.json", "--keep", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = Path(done.stdout.rpartition("are in ")[2].strip())
    yield Demo(done.stdout, json.loads((folder / "found.json").read_text()), kept)
    shutil.rmtree(kept)


def test_the_demo_shows_what_it_promises(demo: Demo) -> None:
    found = demo.found
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
        "every swap's receipt verifies with nothing but the genesis file": True,
    }
    assert "decided while beta-0 was dead" in demo.shown
    # Numbered in the order in which they are told.
    assert re.findall(r"^Swap (\d):", demo.shown, re.MULTILINE) == ["1", "2", "3", "4", "5", "6", "2"]

    assert (demo.kept / "genesis.json").exists()
    assert (demo.kept / "logs" / "beta-0.log").stat().st_size > 0


def typed(command: str, *, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        shlex.split(command), cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_where_to_look_next_is_there(demo: Demo, tmp_path: Path) -> None:
    """What it says to type is typed, in its order, on the devnet that the first command starts."""
    told = demo.shown.rpartition("Where to look next")[2]
    lockstep = str(Path(sys.executable).with_name("lockstep"))
    commands = [line.strip().partition("  ")[0] for line in told.splitlines() if lockstep in line]
    assert [command.split()[1:3] for command in commands] == [
        ["devnet", "up"],
        ["devnet", "status"],
        ["account", "balance"],
        ["swap", "propose"],
        ["devnet", "kill"],
        ["audit"],
        ["devnet", "down"],
        ["receipt", "verify"],
    ]
    try:
        for command in commands:
            done = typed(command, cwd=tmp_path)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    finally:
        typed(f"{lockstep} devnet down", cwd=tmp_path)
    guides = re.findall(r"^  (\S+\.md)  ", told, re.MULTILINE)
    assert guides
    assert all((ROOT / guide).is_file() for guide in guides)


def test_every_receipt_shows_what_the_demo_saw(demo: Demo) -> None:
    _, genesis = load_genesis(demo.kept / "genesis.json")
    for swap in demo.found["swaps"]:
        encoded = (demo.kept / swap["receipt"]["file"]).read_bytes()
        assert (len(encoded), True) == (swap["receipt"]["bytes"], swap["receipt"]["ok"])
        shown = verify_swap_receipt(encoded, genesis)
        assert (shown.swap_id.hex(), shown.outcome.name) == (swap["swap_id"], swap["outcome"])


def swap_result(swap: dict[str, Any]) -> SwapResult:
    """What the demo had found of a swap before it verified its receipt, as far as that looks at it."""
    return SwapResult(
        number=swap["number"],
        name=swap["name"],
        swap_id=bytes.fromhex(swap["swap_id"]),
        legs=(),
        outcome=swap["outcome"],
        reason=swap["reason"],
        milliseconds={},
        opened_height=swap["opened_height"],
        decided_height=swap["decided_height"],
        level=swap["level"],
        expected=True,
        moved=(),
        receipt=ReceiptResult(swap["receipt"]["file"], swap["receipt"]["bytes"]),
    )


def without_receipt(swap: SwapResult) -> SwapResult:
    return replace(swap, receipt=None)


def with_another_end(swap: SwapResult) -> SwapResult:
    return replace(swap, outcome="ABORTED", reason="CANCELLED")


def with_the_receipt_of_another(swap: SwapResult) -> SwapResult:
    assert swap.receipt is not None
    return replace(swap, receipt=replace(swap.receipt, file="receipts/swap-6.receipt"))


def with_what_is_no_receipt(swap: SwapResult) -> SwapResult:
    assert swap.receipt is not None
    return replace(swap, receipt=replace(swap.receipt, file="genesis.json"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda swap: swap, ""),
        (without_receipt, "some are missing"),
        (with_another_end, "another end of the swap"),
        (with_the_receipt_of_another, "another end of the swap"),
        (with_what_is_no_receipt, "does not verify at step 1 layout"),
    ],
)
def test_a_receipt_that_does_not_show_it_is_found(
    demo: Demo, change: Callable[[SwapResult], SwapResult], told: str
) -> None:
    swaps = {swap["number"]: swap_result(swap) for swap in demo.found["swaps"]}
    report = Report(swaps={**swaps, 5: change(swaps[5])})
    verify_receipts(demo.kept, report, Narrator(Console(file=io.StringIO())))
    (check,) = report.checks
    assert check.ok is (not told)
    assert told in check.detail
    assert [number for number, swap in report.swaps.items() if not (swap.receipt and swap.receipt.ok)] == (
        [5] if told else []
    )


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
