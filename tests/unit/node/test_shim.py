"""The shim sees every call that changes a file, in order, and fails the one that it is told to."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.shim import Operation, environment, mark, read_record

pytestmark = pytest.mark.needs_gcc

WORK = """
import os, sqlite3
from pathlib import Path
folder = Path({folder!r})
from deploy.node.datadir import write_atomically
write_atomically(folder / "note", b"twelve bytes")
with open(folder / "lines", "ab") as lines:
    lines.write(b"one")
with open(folder / "lines", "ab") as lines:
    lines.write(b"two")
base = sqlite3.connect(folder / "base.sqlite")
base.execute("PRAGMA journal_mode = WAL"); base.execute("PRAGMA synchronous = FULL")
base.execute("CREATE TABLE t (x BLOB)")
os.unlink(folder / "lines")
(folder.parent / "elsewhere").write_bytes(b"not watched")
"""


def run(tmp_path: Path, *, log: Path | None = None, fault: str = "") -> subprocess.CompletedProcess[str]:
    folder = tmp_path / "watched"
    folder.mkdir(exist_ok=True)
    environ = environment(folder, log=log, data=True, fault=fault)
    return subprocess.run(
        [sys.executable, "-c", WORK.format(folder=str(folder))],
        env={"PYTHONPATH": ":".join(sys.path), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_call_is_on_the_record_with_its_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = run(tmp_path, log=log)
    assert ended.returncode == 0, ended.stderr
    mark(log, b"done")
    calls = list(read_record(log))
    assert [(call.operation.name, call.path.name, call.offset) for call in calls[:8]] == [
        ("CREATE", ".note.new", 0),
        ("WRITE", ".note.new", 0),
        ("SYNC", ".note.new", 0),
        ("RENAME", ".note.new", 0),
        ("SYNC", "watched", 0),
        ("CREATE", "lines", 0),
        ("WRITE", "lines", 0),
        ("WRITE", "lines", 3),
    ]
    assert (calls[1].data, calls[3].target) == (b"twelve bytes", tmp_path / "watched" / "note")
    assert calls[1].inode == calls[2].inode != 0
    assert {"base.sqlite", "base.sqlite-wal"} <= {
        call.path.name for call in calls if call.operation is Operation.SYNC
    }
    assert "lines" in {call.path.name for call in calls if call.operation is Operation.UNLINK}
    assert not any("-shm" in call.path.name or "elsewhere" in call.path.name for call in calls)
    assert (calls[-1].operation, calls[-1].data) == (Operation.MARK, b"done")


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ("kill-before@2", {".note.new": b""}),
        ("torn@2", {".note.new": b"twelve"}),
        ("kill-after@2", {".note.new": b"twelve bytes"}),
        ("kill-before@4", {".note.new": b"twelve bytes"}),
        ("kill-after@4", {"note": b"twelve bytes"}),
        ("kill-unsynced@1", {".note.new": b"twelve bytes"}),
        ("kill-unsynced@2", {"note": b"twelve bytes"}),
    ],
)
def test_it_dies_at_the_nth_call(tmp_path: Path, fault: str, left: dict[str, bytes]) -> None:
    assert run(tmp_path, fault=fault).returncode == -signal.SIGKILL
    assert {file.name: file.read_bytes() for file in (tmp_path / "watched").iterdir()} == left


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_the_nth_call_fails(tmp_path: Path, number: int) -> None:
    ended = run(tmp_path, fault=f"{errno.errorcode[number].lower()}@3")
    assert ended.returncode == 1
    assert f"StorageFailed: {tmp_path}/watched/note could not be written: [Errno {number}]" in ended.stderr
    assert [file.name for file in (tmp_path / "watched").iterdir()] == [".note.new"]


def test_what_it_cannot_do_is_refused(tmp_path: Path) -> None:
    ended = run(tmp_path, fault="explode@1")
    assert ended.returncode == -signal.SIGABRT
    assert "shim: cannot do explode@1" in ended.stderr
