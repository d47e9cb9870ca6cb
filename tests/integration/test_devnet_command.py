"""`lockstep devnet` on a real devnet: each command from outside, its JSON, what a dead launcher leaves."""

import asyncio
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.devnet.clients import until
from deploy.devnet.network import PROCESS_NAMES, create_network, open_network
from tests.integration.devnet_locks import all_let_go, is_held

pytestmark = pytest.mark.processes

Document = dict[str, Any]


class Shell:
    """Types commands about one devnet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = (sys.executable, "-P", "-m", "deploy.cli", "devnet", *words, "--folder", str(self.folder))
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def json(self, *words: str, exit_code: int = 0) -> Document:
        done = self.run(*words, "--json")
        assert done.returncode == exit_code, done.stdout + done.stderr
        found: Document = json.loads(done.stdout)
        assert found["ok"] is (exit_code == 0)
        return found

    def processes(self) -> dict[str, Document]:
        return {each["name"]: each for each in self.json("status")["processes"]}

    async def becomes(self, name: str, state: str) -> Document:
        """Wait until a process is in a state."""

        async def look() -> Document | None:
            found = (await asyncio.to_thread(self.processes))[name]
            return found if found["state"] == state else None

        return await until(look, f"{name} to be {state}")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A devnet that runs, detached, for all tests that leave it running."""
    # A path that is too long for a socket, to see that this is no matter.
    folder = tmp_path_factory.mktemp("devnet") / ("a-folder-with-a-long-name-" * 4) / "network"
    shell = Shell(folder)
    started = shell.json("up", "--detach")
    try:
        assert {each["state"] for each in started["processes"]} == {"running"}
        yield shell
    finally:
        shell.run("down")


def test_status_tells_of_each_process_where_it_is_and_how_far(shell: Shell) -> None:
    found = shell.json("status")
    network = open_network(shell.folder)
    assert (found["stage"], found["folder"]) == ("running", str(network.folder))
    assert found["chain_id"] == network.genesis.chain_id.hex()
    assert Path(found["network"]).is_file()
    os.kill(found["launcher"], 0)
    assert [each["name"] for each in found["processes"]] == list(PROCESS_NAMES)
    roots = {"sequencer": "header", "settlement": "log", "bridge": "register"}
    for each in found["processes"]:
        assert set(each) == {
            "name", "state", "since", "pid", "port", "address", "height", "root", "root_of", "data", "log",
        }  # fmt: skip
        assert each["state"] == "running"
        assert each["pid"] == int((Path(each["data"]) / "lock").read_text())
        assert (each["port"], each["address"]) == (network.ports[each["name"]], network.address(each["name"]))
        assert each["height"] >= 0
        assert each["root_of"] == roots.get(each["name"], "state")
        assert Path(each["log"]).is_file()
        assert each["since"].endswith("Z")


def test_status_is_a_table_for_people(shell: Shell) -> None:
    shown = shell.run("status").stdout
    for name, process in shell.processes().items():
        (line,) = (line for line in shown.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:4] == ["running", str(process["pid"]), str(process["port"])]
    assert f"{open_network(shell.folder).folder} is running" in shown


async def test_killed_is_started_again(shell: Shell) -> None:
    old = shell.processes()["beta-0"]
    (told,) = shell.json("kill", "beta-0")["processes"]
    assert told["name"] == "beta-0"
    assert told["pid"] != old["pid"]
    new = await shell.becomes("beta-0", "running")
    assert new["pid"] != old["pid"]
    assert new["since"] > old["since"]


async def test_killed_and_held_is_dead_until_it_is_started(shell: Shell) -> None:
    told = shell.json("kill", "--hold", "beta-0", "gamma-0")["processes"]
    assert [(each["name"], each["state"], each["pid"]) for each in told] == [
        ("beta-0", "stopped", None),
        ("gamma-0", "stopped", None),
    ]
    held = shell.processes()["beta-0"]
    assert (held["state"], held["pid"], held["height"], held["root"]) == ("stopped", None, None, None)
    assert not is_held(open_network(shell.folder), "beta-0")

    refused = shell.json("kill", "beta-0", exit_code=1)
    assert refused["code"] == "NOT_NOW"
    assert "lockstep devnet restart beta-0" in refused["error"]

    started = shell.json("restart", "beta-0", "gamma-0")["processes"]
    assert [each["state"] for each in started] == ["running", "running"]
    assert shell.processes()["beta-0"]["height"] >= 0


async def test_killed_for_some_time_comes_back_by_itself(shell: Shell) -> None:
    old = shell.processes()["gamma-0"]["pid"]
    (told,) = shell.json("kill", "--for", "1s", "gamma-0")["processes"]
    assert told["state"] == "stopped"
    assert (await shell.becomes("gamma-0", "running"))["pid"] != old


def test_paused_holds_its_process_and_answers_nothing_until_it_is_resumed(shell: Shell) -> None:
    old = shell.processes()["alpha-0"]["pid"]
    (told,) = shell.json("pause", "alpha-0")["processes"]
    assert (told["state"], told["pid"]) == ("paused", old)
    paused = shell.processes()["alpha-0"]
    assert (paused["state"], paused["pid"], paused["height"]) == ("paused", old, None)
    (told,) = shell.json("resume", "alpha-0")["processes"]
    assert (told["state"], told["pid"]) == ("running", old)
    assert shell.processes()["alpha-0"]["height"] >= 0


def test_one_that_was_paused_can_be_restarted(shell: Shell) -> None:
    old = shell.json("pause", "bridge")["processes"][0]["pid"]
    (told,) = shell.json("restart", "bridge")["processes"]
    assert told["state"] == "running"
    assert told["pid"] != old


def test_nothing_is_done_to_any_if_it_cannot_be_done_to_all(shell: Shell) -> None:
    shell.json("kill", "--hold", "gamma-0")
    old = shell.processes()["beta-1"]["pid"]
    shell.json("pause", "beta-1", "gamma-0", exit_code=1)
    assert (shell.processes()["beta-1"]["state"], shell.processes()["beta-1"]["pid"]) == ("running", old)
    shell.json("restart", "gamma-0")


def test_a_second_up_says_that_it_runs_and_what_to_do(shell: Shell) -> None:
    launcher = shell.json("status")["launcher"]
    for words in (("up",), ("up", "--detach")):
        done = shell.run(*words)
        assert done.returncode == 1
        assert f"runs already (launcher: process {launcher})" in done.stderr
        assert "`lockstep devnet down` stops it" in done.stderr
    assert {each["state"] for each in shell.processes().values()} == {"running"}


def test_a_launcher_that_is_suspended_is_told_from_one_that_is_gone(shell: Shell) -> None:
    launcher = shell.json("status")["launcher"]
    os.kill(launcher, signal.SIGSTOP)
    try:
        failed = shell.json("status", exit_code=3)
        assert (failed["code"], "`fg`" in failed["advice"]) == ("NO_ANSWER", True)
    finally:
        os.kill(launcher, signal.SIGCONT)
    assert shell.json("status")["launcher"] == launcher


def read_until(terminal: int, text: bytes, shown: bytes) -> bytes:
    """Add to `shown` what comes, until `text` has come."""
    while text not in shown:
        readable, _, _ = select.select([terminal], [], [], 60)
        assert readable, shown
        shown += os.read(terminal, 65_536)
    return shown


def test_a_terminal_is_left_alone_while_nothing_happens(tmp_path: Path) -> None:
    """A line that spins would write for ever; what is written last is what a person is to read."""
    ours, its = pty.openpty()
    command = (
        sys.executable,
        "-P",
        "-m",
        "deploy.cli",
        "devnet",
        "up",
        "--folder",
        str(tmp_path / "network"),
    )
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True) as launcher:
        try:
            shown = read_until(ours, b"continues it.\r\n", b"")
            Shell(tmp_path / "network").json("pause", "beta-1")
            shown = read_until(ours, b"beta-1 is paused\r\n", shown)
            assert shown.partition(b"continues it.\r\n")[2] == b"beta-1 is paused\r\n"
            launcher.send_signal(signal.SIGINT)
            assert launcher.wait(60) == 0
        finally:
            launcher.kill()
            os.close(its)
            os.close(ours)


def test_the_socket_is_its_owners_alone(shell: Shell) -> None:
    assert stat.S_IMODE((shell.folder / "control.sock").stat().st_mode) == 0o600


def test_a_name_that_is_none_is_refused_with_those_that_are(shell: Shell) -> None:
    done = shell.run("kill", "delta-0")
    assert done.returncode == 2
    assert "alpha-0" in done.stderr
    assert shell.json("kill", "delta-0", exit_code=2)["code"] == "USAGE"


def test_logs_of_one_and_of_all(shell: Shell) -> None:
    shell.json("restart", "beta-1", "gamma-0")
    done = shell.run("logs", "beta-1", "-n", "2", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["name"], line["event"]) for line in lines] == [
        ("beta-1", "process_stopping"),
        ("beta-1", "process_stopped"),
    ]
    raw = open_network(shell.folder).log_file("beta-1").read_text().splitlines()
    assert [{**json.loads(line), "name": "beta-1"} for line in raw[-2:]] == lines

    shown = shell.run("logs", "-n", "500").stdout.splitlines()
    assert [line[:12] for line in shown] == sorted(line[:12] for line in shown)
    assert {line.split()[1] for line in shown} >= {"beta-1", "gamma-0"}
    assert any(line.split()[1:4] == ["gamma-0", "info", "process_stopped"] for line in shown)


def test_logs_follow_what_is_added_until_ctrl_c(shell: Shell) -> None:
    shell.json("restart", "beta-1")
    command = (sys.executable, "-P", "-m", "deploy.cli", "devnet", "logs", "beta-1", "-f", "-n", "1")
    with subprocess.Popen(
        (*command, "--folder", str(shell.folder)), stdout=subprocess.PIPE, text=True
    ) as following:
        try:
            assert following.stdout is not None
            # What was there already says that it follows.
            assert "process_stopped" in following.stdout.readline()
            shell.json("restart", "beta-1")
            assert "process_stopping" in following.stdout.readline()
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == 0
        finally:
            following.kill()


async def test_down_stops_all_and_up_continues(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "network")
    shell.json("up", "--detach")
    height = shell.processes()["sequencer"]["height"]
    network = open_network(shell.folder)
    assert shell.json("down") == {"ok": True, "was_running": True, "folder": str(network.folder)}
    assert not any(is_held(network, name) for name in PROCESS_NAMES)
    assert not (shell.folder / "control.sock").exists()

    assert shell.json("down")["was_running"] is False
    stopped = shell.json("status")
    assert (stopped["stage"], stopped["launcher"]) == ("stopped", None)
    assert {(each["state"], each["pid"], each["height"]) for each in stopped["processes"]} == {
        ("stopped", None, None)
    }
    refused = shell.json("kill", "beta-0", exit_code=1)
    assert (refused["code"], refused["advice"]) == ("NOT_RUNNING", "`lockstep devnet up` starts it")

    shell.json("up", "--detach")
    assert shell.processes()["sequencer"]["height"] >= height
    shell.json("down")


async def test_what_a_killed_launcher_leaves_is_seen_through(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "network")
    launcher = shell.json("up", "--detach")["launcher"]
    shell.json("kill", "--hold", "gamma-0")
    os.kill(launcher, signal.SIGKILL)
    network = open_network(shell.folder)
    await all_let_go(network)
    assert (shell.folder / "control.sock").exists()
    assert shell.json("status")["stage"] == "stopped"
    assert shell.json("down")["was_running"] is False
    assert shell.json("pause", "beta-0", exit_code=1)["code"] == "NOT_RUNNING"

    started = shell.json("up", "--detach")
    assert started["launcher"] != launcher
    assert {each["state"] for each in started["processes"]} == {"running"}
    shell.json("down")


def test_a_detached_devnet_that_does_not_start_says_why(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network")
    settings = network.settings_file("bridge")
    settings.write_text("no_such_setting = 1\n" + settings.read_text())
    shell = Shell(network.folder)
    failed = shell.json("up", "--detach", exit_code=1)
    assert "no_such_setting" in failed["error"]
    assert not any(is_held(network, name) for name in PROCESS_NAMES)


def test_a_folder_without_a_devnet_is_named(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "nothing")
    for words in (("status",), ("down",), ("kill", "beta-0"), ("logs",)):
        failed = shell.json(*words, exit_code=2)
        assert f"{tmp_path / 'nothing'} holds no devnet; `lockstep devnet up` makes one" in failed["error"]
