"""Failpoints: declared names only, every mode, the n-th hit, the counting run."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.node.datadir import DurableCell
from deploy.node.failpoints import COUNT_VARIABLE, FAILPOINTS, FAILPOINTS_VARIABLE, Failpoints
from deploy.node.failures import SettingsInvalid


@pytest.fixture
def points() -> Failpoints:
    made = Failpoints()
    made.declare("ledger.commit.before", "before")
    made.declare("ledger.commit.after", "after")
    made.declare_write("ledger.write", "here")
    return made


def test_unset_does_nothing(points: Failpoints) -> None:
    points.activate({})
    points.reach("ledger.commit.after")


@pytest.mark.parametrize("environ", [{}, {FAILPOINTS_VARIABLE: "ledger.commit.after=error@9"}])
def test_an_undeclared_name_is_a_defect_armed_or_not(points: Failpoints, environ: dict[str, str]) -> None:
    points.activate(environ)
    with pytest.raises(KeyError):
        points.reach("ledger.comit.after")


@pytest.mark.parametrize(("mode", "number"), [("error", errno.EIO), ("enospc", errno.ENOSPC)])
def test_errors_on_the_nth_hit_alone(points: Failpoints, mode: str, number: int) -> None:
    points.activate({FAILPOINTS_VARIABLE: f"ledger.commit.after={mode}@2; ledger.commit.before=delay(0)"})
    points.reach("ledger.commit.after")
    points.reach("ledger.commit.before")
    with pytest.raises(OSError, match=r"failpoint ledger\.commit\.after") as failed:
        points.reach("ledger.commit.after")
    assert failed.value.errno == number
    points.reach("ledger.commit.after")


def test_without_a_number_every_hit_fails(points: Failpoints) -> None:
    points.activate({FAILPOINTS_VARIABLE: "ledger.commit.after=error"})
    for _ in range(3):
        with pytest.raises(OSError, match="failpoint"):
            points.reach("ledger.commit.after")


def test_delay(points: Failpoints) -> None:
    points.activate({FAILPOINTS_VARIABLE: "ledger.commit.after=delay(30)"})
    started = time.monotonic()
    points.reach("ledger.commit.after")
    assert time.monotonic() - started >= 0.03


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ledger.commmit.after=kill", "is no failpoint of this process; it has: ledger.commit.after"),
        ("ledger.commit.after=explode", "write kill, stop, error, enospc"),
        ("ledger.commit.after=kill@0", "write kill, stop, error, enospc"),
        ("ledger.commit.after", "write kill, stop, error, enospc"),
        (
            "ledger.commit.after=torn",
            "nothing is written at .*; there is at: ledger.write",
        ),
    ],
)
def test_what_is_not_understood_is_refused(points: Failpoints, text: str, complaint: str) -> None:
    with pytest.raises(SettingsInvalid, match=complaint):
        points.activate({FAILPOINTS_VARIABLE: text})


@pytest.mark.parametrize("name", ["ledger.commit.after", "nodots", "Upper.case", "a. b"])
def test_names_are_declared_once_and_well_formed(points: Failpoints, name: str) -> None:
    with pytest.raises(ValueError, match="is taken or not of the form"):
        points.declare(name, "again")


def test_counting_lists_hits_in_order(points: Failpoints, tmp_path: Path) -> None:
    counted = tmp_path / "hits"
    points.activate({COUNT_VARIABLE: str(counted)})
    for name in ("ledger.commit.before", "ledger.commit.after", "ledger.commit.before"):
        points.reach(name)
    assert counted.read_text().split() == [
        "ledger.commit.before",
        "ledger.commit.after",
        "ledger.commit.before",
    ]


def test_the_kit_declares_its_own() -> None:
    import deploy.node.database  # noqa: F401

    assert {
        "database.commit.before",
        "cell.store.after",
        "file.replace.before",
        "file.create.write",
    } <= FAILPOINTS.declared().keys()


def test_kill_is_sudden(tmp_path: Path) -> None:
    script = f"""
import os
from pathlib import Path
from deploy.node.failpoints import FAILPOINTS
from deploy.node.datadir import write_atomically
FAILPOINTS.activate(os.environ)
for number in range(5):
    write_atomically(Path({str(tmp_path / "file")!r}), str(number).encode())
"""
    environ = {"PYTHONPATH": ":".join(sys.path), FAILPOINTS_VARIABLE: "file.replace.before=kill@3"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert "failpoints_armed" in ended.stdout + ended.stderr
    assert (tmp_path / "file").read_text() == "1"


def test_stopped_until_it_is_told_to_go_on() -> None:
    script = """
import os
from deploy.node.failpoints import FAILPOINTS
FAILPOINTS.declare("ledger.commit.after", "after")
FAILPOINTS.activate(os.environ)
FAILPOINTS.reach("ledger.commit.after")
"""
    environ = {"PYTHONPATH": ":".join(sys.path), FAILPOINTS_VARIABLE: "ledger.commit.after=stop"}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=20) == 0


def test_a_write_gets_all_of_its_contents_unless_it_is_to_be_torn(points: Failpoints) -> None:
    written: list[bytes] = []
    points.write("ledger.write", b"all of it", written.append)
    points.activate({FAILPOINTS_VARIABLE: "ledger.write=torn@3"})
    points.write("ledger.write", b"twice", written.append)
    points.activate({FAILPOINTS_VARIABLE: "ledger.write=enospc"})
    with pytest.raises(OSError, match=r"failpoint ledger\.write"):
        points.write("ledger.write", b"not written", written.append)
    assert written == [b"all of it", b"twice"]


def test_what_was_not_declared_as_a_write_cannot_be_written_at(points: Failpoints) -> None:
    with pytest.raises(AssertionError, match="was not declared as a write"):
        points.write("ledger.commit.after", b"", bytes)


@pytest.mark.parametrize(
    ("point", "work", "left"),
    [
        ("file.replace.write", "write_atomically(folder / 'it', b'twelve bytes')", {".it.new": b"twelve"}),
        (
            "cell.store.before",
            "DurableCell(folder / 'it').store(b'new')",
            {"it": b"lockcell" + bytes(7) + b"\2\0\3new"},
        ),
    ],
)
def test_a_torn_write_leaves_half_and_no_process(
    tmp_path: Path, point: str, work: str, left: dict[str, bytes]
) -> None:
    DurableCell(tmp_path / "it").store(b"old")
    script = f"""
import os
from pathlib import Path
from deploy.node.failpoints import FAILPOINTS
from deploy.node.datadir import DurableCell, write_atomically
folder = Path({str(tmp_path)!r})
FAILPOINTS.activate(os.environ)
{work}
"""
    environ = {"PYTHONPATH": ":".join(sys.path), FAILPOINTS_VARIABLE: f"{point}=torn"}
    ended = subprocess.run([sys.executable, "-c", script], env=environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    for name, contents in left.items():
        assert (tmp_path / name).read_bytes().startswith(contents)
    assert DurableCell(tmp_path / "it").load() == b"old"


def test_it_lingers_before_it_is_killed(tmp_path: Path) -> None:
    script = """
import os, threading
from deploy.node.failpoints import FAILPOINTS
FAILPOINTS.declare("ledger.commit", "here")
FAILPOINTS.activate(os.environ)
thread = threading.Thread(target=FAILPOINTS.reach, args=("ledger.commit",))
thread.start()
print("told meanwhile", flush=True)
thread.join()
print("never")
"""
    environ = {"PYTHONPATH": ":".join(sys.path), FAILPOINTS_VARIABLE: "ledger.commit=linger(300)"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.splitlines()[-1] == "told meanwhile"


def test_a_torn_transaction_is_none(tmp_path: Path) -> None:
    script = f"""
import asyncio, os
from pathlib import Path
from deploy.node.failpoints import FAILPOINTS
from deploy.node.database import open_database

async def main():
    schema = ("CREATE TABLE t (x INTEGER) STRICT",)
    path = Path({str(tmp_path / "base.sqlite")!r})
    async with open_database(path, schema=schema, application_id=7) as base:
        print(await base.read("SELECT x FROM t"), flush=True)
        FAILPOINTS.activate(os.environ)
        await base.transact([("INSERT INTO t VALUES (?)", [(number,)]) for number in range(4)])

asyncio.run(main())
"""
    for _ in range(2):
        environ = {"PYTHONPATH": ":".join(sys.path), FAILPOINTS_VARIABLE: "database.transaction.write=torn"}
        ended = subprocess.run(
            [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert ended.stdout.splitlines()[0] == "[]"
