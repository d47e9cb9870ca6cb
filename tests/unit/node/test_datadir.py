"""The data folder: one owner, files replaced whole, a cell that survives torn writes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.node.datadir import (
    CELL_VALUE_BYTES_MAX,
    DataFolder,
    DurableCell,
    FileLock,
    create_atomically,
    write_atomically,
)
from deploy.node.failures import DataLocked, DataRefused, StorageFailed
from tests.tools.syncs import watch_syncs

SLOTS = (0, 4_096)


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    with (
        DataFolder(folder),
        pytest.raises(DataLocked, match=rf"locked by process {os.getpid()}\b"),
        DataFolder(folder),
    ):
        pass
    with DataFolder(folder) as again:
        assert again.path == folder
    assert folder.stat().st_mode & 0o077 == 0


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_free(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from deploy.node.datadir import DataFolder
with DataFolder(Path({str(tmp_path)!r})):
    print("mine", flush=True)
    input()
"""
    environ = {"PYTHONPATH": ":".join(sys.path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", script], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(DataLocked, match=rf"locked by process {holder.pid}\b"), DataFolder(tmp_path):
            pass
        holder.kill()
        holder.wait(timeout=30)
        with DataFolder(tmp_path):
            pass


def test_a_lock_that_cannot_be_written_is_a_failed_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(StorageFailed, match=r"lock could not be written: .*; mend the disk"):
        FileLock(tmp_path / "lock")
    monkeypatch.undo()
    FileLock(tmp_path / "lock").close()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(StorageFailed, match="give another data folder"),
        DataFolder(tmp_path / "file" / "data"),
    ):
        pass


def test_a_folder_that_is_made_is_durable_with_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("deploy.node.datadir.sync_folder", synced.append)
    for _ in range(2):
        with DataFolder(tmp_path / "parent" / "data"):
            pass
    # The second time it is there, but whoever made it may not have come to syncing it.
    assert synced == [tmp_path / "parent", tmp_path, tmp_path / "parent"]


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "key"
    write_atomically(target, b"first")
    write_atomically(target, b"second")
    assert target.read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert target.stat().st_mode & 0o077 == 0


def test_a_new_file_is_written_once(tmp_path: Path) -> None:
    target = tmp_path / "record"
    create_atomically(target, b"first")
    with pytest.raises(FileExistsError):
        create_atomically(target, b"second")
    assert target.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["record"]
    assert target.stat().st_mode & 0o077 == 0
    with pytest.raises(StorageFailed, match="could not be written"):
        create_atomically(tmp_path / "no folder" / "record", b"first")


def test_a_cell_returns_what_was_stored_last(tmp_path: Path) -> None:
    path = tmp_path / "cell"
    with DurableCell(path) as cell:
        assert cell.load() is None
    for number in range(5):
        with DurableCell(path) as cell:
            cell.store(b"a" * number)
            cell.store(b"value %d" % number)
            assert cell.load() == b"value %d" % number
        with DurableCell(path) as cell:
            assert cell.load() == b"value %d" % number
    with DurableCell(path) as cell:
        cell.store(b"")
        assert cell.load() == b""
        cell.store(b"x" * CELL_VALUE_BYTES_MAX)
        with pytest.raises(ValueError, match="holds 256 bytes"):
            cell.store(b"x" * (CELL_VALUE_BYTES_MAX + 1))


@pytest.mark.parametrize("stored", [0, 1, 2, 3])
def test_a_write_torn_anywhere_leaves_the_old_or_the_new(tmp_path: Path, stored: int) -> None:
    path = tmp_path / "cell"
    with DurableCell(path) as cell:
        for number in range(stored):
            cell.store(b"value %d" % number)
        old = cell.load()
    before = path.read_bytes()
    with DurableCell(path) as cell:
        cell.store(b"new")
    after = path.read_bytes()
    changed = [index for index in range(len(after)) if before[index] != after[index]]
    for cut in range(min(changed), max(changed) + 2):
        path.write_bytes(after[:cut] + before[cut:])
        with DurableCell(path) as cell:
            assert cell.load() == (b"new" if cut > max(changed) else old)
            # What was torn is written over, and the value before it stays until then.
            cell.store(b"newer")
            assert cell.load() == b"newer"


def test_one_flipped_bit_never_shows_a_wrong_value(tmp_path: Path) -> None:
    path = tmp_path / "cell"
    with DurableCell(path) as cell:
        cell.store(b"old")
        cell.store(b"new")
    whole = path.read_bytes()
    for offset in SLOTS:
        for index in range(offset, offset + 512, 7):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
            with DurableCell(path) as cell:
                # The second value went to the first slot.
                assert cell.load() == (b"old" if offset == 0 else b"new")


def test_two_damaged_copies_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cell"
    with DurableCell(path) as cell:
        cell.store(b"old")
        cell.store(b"new")
    damaged = bytearray(path.read_bytes())
    for offset in SLOTS:
        damaged[offset + 20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataRefused, match="both copies are damaged"):
        DurableCell(path)


def test_what_a_killed_process_left_unsynced_in_a_cell_is_synced_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DurableCell(tmp_path / "cell") as cell:
        cell.store(b"old")
    synced = watch_syncs(monkeypatch)
    with DurableCell(tmp_path / "cell") as cell:
        assert "cell" in synced
        assert cell.load() == b"old"


def test_a_cell_that_cannot_be_synced_is_a_failed_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with DurableCell(tmp_path / "cell"):
        pass
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StorageFailed, match="could not be synced"):
        DurableCell(tmp_path / "cell")
