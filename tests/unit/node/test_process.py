"""Processes: the readiness line, graceful and forced stops, exit codes, what is switched off."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

HEAD = """
import asyncio, os, resource, sys
from pathlib import Path
from deploy.node.datadir import DataFolder
from deploy.node.failures import StorageFailed
from deploy.node.logs import LogSettings
from deploy.node.process import announce_ready, run
from deploy.node.settings import load_settings
import msgspec

class Settings(msgspec.Struct, forbid_unknown_fields=True):
    port: int

async def main(stopping):
"""
TAIL = """
sys.exit(run(main, name="sample", stop_grace_ms=300))
"""


def start(body: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    script = HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines()) + TAIL
    return subprocess.Popen(
        [sys.executable, *arguments, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(
    process: subprocess.Popen[str], signals: Sequence[int] = ()
) -> tuple[int, list[dict[str, object]]]:
    """Wait for readiness if signals are to be sent, send them, and return the exit code and the log."""
    with process:
        assert process.stdout is not None
        for number in signals:
            assert process.stdout.readline()
            process.send_signal(number)
        _, log = process.communicate(timeout=30)
    return process.returncode, [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_then_stopped_by_a_signal(number: int) -> None:
    process = start("announce_ready({'port': 7})\nawait stopping.wait()")
    with process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": {"pid": process.pid, "port": 7}}
        process.send_signal(number)
        out, log = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    events = [json.loads(line) for line in log.splitlines()]
    assert [event["event"] for event in events] == ["process_stopping", "process_stopped"]
    assert {event["process"] for event in events} == {"sample"}


def test_lifetimes_unwind_in_reverse_before_the_exit() -> None:
    body = """
try:
    try:
        announce_ready({})
        await stopping.wait()
    finally:
        await asyncio.sleep(0)
        os.write(2, b'{"event": "inner"}\\n')
finally:
    os.write(2, b'{"event": "outer"}\\n')
"""
    code, log = finish(start(body), [signal.SIGTERM])
    assert code == 0
    assert [line["event"] for line in log] == ["process_stopping", "inner", "outer", "process_stopped"]


def test_one_that_does_not_stop_is_cut_off() -> None:
    code, log = finish(start("announce_ready({})\nawait asyncio.Event().wait()"), [signal.SIGTERM])
    assert code == 1
    assert log[-1]["event"] == "process_cut_off"
    assert log[-1]["reason"] == "it did not stop within 300 ms"


def test_a_second_signal_cuts_off_at_once() -> None:
    body = """
announce_ready({})
await stopping.wait()
announce_ready({})
await asyncio.Event().wait()
"""
    code, log = finish(start(body), [signal.SIGTERM, signal.SIGINT])
    assert (code, log[-1]["reason"]) == (1, "SIGINT came again")


def test_a_defect_is_logged_once_with_its_traceback() -> None:
    body = """
async def fail():
    raise ZeroDivisionError("the defect")
async with asyncio.TaskGroup() as group:
    group.create_task(fail())
    await stopping.wait()
"""
    code, [line] = finish(start(body))
    assert code == 1
    assert (line["event"], line["kind"]) == ("process_failed", "defect")
    assert "ZeroDivisionError: the defect" in str(line["exception"])


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ("load_settings(Settings, None, {'LOCKSTEP_PROT': '1'})", 2, "did you mean LOCKSTEP_PORT"),
        ("with DataFolder(Path('{folder}')):\n    os.system('true')", 3, "is locked by process {pid}"),
        ("raise ExceptionGroup('g', [KeyError(1), ExceptionGroup('h', [StorageFailed('disk')])])", 4, "disk"),
    ],
)
def test_exit_codes(tmp_path: Path, body: str, code: int, reason: str) -> None:
    from deploy.node.datadir import DataFolder

    with DataFolder(tmp_path):
        found, [line] = finish(start(body.replace("{folder}", str(tmp_path))))
    assert found == code == line["exit_code"]
    assert reason.replace("{pid}", str(os.getpid())) in str(line["reason"])
    assert "exception" not in line


@pytest.mark.parametrize(("arguments", "environ"), [(("-O",), {}), ((), {"PYTHONOPTIMIZE": "1"})])
def test_optimised_python_is_refused(arguments: tuple[str, ...], environ: dict[str, str]) -> None:
    code, [line] = finish(start("pass", *arguments, **environ))
    assert code == 2
    assert "without python -O" in str(line["reason"])


def test_unknown_failpoints_are_refused() -> None:
    code, [line] = finish(start("pass", LOCKSTEP_FAILPOINTS="no.such=kill"))
    assert code == 2
    assert "no failpoint of this process" in str(line["reason"])


def test_no_core_is_written() -> None:
    code, _ = finish(start("assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)"))
    assert code == 0


def test_readiness_survives_a_listener_that_left() -> None:
    process = start("await asyncio.sleep(0)\nsys.stdin.read()\nannounce_ready({})\nannounce_ready({})")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    log = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 0, log
