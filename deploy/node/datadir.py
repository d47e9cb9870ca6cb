"""A data folder that one process owns, and the two ways to put bytes into it durably.

Owns the lock against a second process, files that are replaced whole or not at all, and `DurableCell`, a few
bytes that are overwritten often (the last signed height and hash). Does not know what the bytes mean. What a
call has returned from is on disk; what is on disk is either the old or the new value, whenever the power
goes.
"""

import fcntl
import hashlib
import os
from io import RawIOBase
from pathlib import Path
from typing import Final, Self

from deploy.node.failpoints import FAILPOINTS
from deploy.node.failures import DataLocked, DataRefused, StorageFailed

REPLACE_WRITE: Final = FAILPOINTS.declare_write(
    "file.replace.write", "the new contents of a file are written next, beside the old"
)
REPLACE_BEFORE: Final = FAILPOINTS.declare(
    "file.replace.before", "the new contents are synced, not yet in place"
)
REPLACE_AFTER: Final = FAILPOINTS.declare("file.replace.after", "the new contents are in place and synced")
CREATE_WRITE: Final = FAILPOINTS.declare_write(
    "file.create.write", "the contents of a new file are written next, under another name"
)
CREATE_BEFORE: Final = FAILPOINTS.declare(
    "file.create.before", "the contents of a new file are synced, not yet in place"
)
CREATE_AFTER: Final = FAILPOINTS.declare("file.create.after", "the new file is in place and synced")
CELL_BEFORE: Final = FAILPOINTS.declare_write("cell.store.before", "nothing of the new value is written")
CELL_AFTER: Final = FAILPOINTS.declare("cell.store.after", "the new value is written and synced")

CELL_VALUE_BYTES_MAX: Final = 256
"""Bytes of a cell's value."""

_CELL_MAGIC: Final = b"lockcell"
_CELL_SLOT_BYTES: Final = 512
"""One slot lies within one sector, and the two slots in different ones."""

_SLOT_OFFSETS: Final = (0, 4_096)
_CHECKSUM_BYTES: Final = 32


class FileLock:
    """An exclusive lock on a file, held until it is closed or the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises DataLocked, naming the process that holds it, or StorageFailed."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be opened: {error}; give another data folder") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise DataLocked(
                f"{path} is locked by process {holder}: two processes on the same data would destroy it. "
                "Stop that process, or give this one another data folder."
            ) from None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._descriptor)
            raise StorageFailed(f"{path} could not be written: {error}; mend the disk and restart") from error

    def close(self) -> None:
        """Give the lock up. The file stays: without it, two processes could lock two files of one name."""
        os.close(self._descriptor)


class DataFolder:
    """A folder that belongs to this process while the `with` block lasts."""

    def __init__(self, path: Path) -> None:
        """Name the folder; it is made, readable by its owner alone, when the block is entered."""
        self.path = path
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        """Make the folder if need be and lock it. Raises DataLocked or StorageFailed."""
        try:
            make_folder(self.path)
        except OSError as error:
            raise StorageFailed(f"{self.path} cannot be made: {error}; give another data folder") from error
        self._lock = FileLock(self.path / "lock")
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()


class DurableCell:
    """A few bytes in a file of fixed size, overwritten in place and never lost.

    Two slots, each with a counter and a checksum; a value goes to the slot that does not hold the newest one,
    so that a torn write spoils only what was being written.

        slot = magic b8 | u64 counter | u16 length | value | zeros to 480 | SHA-256 of all before
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises DataRefused if both copies are damaged, StorageFailed or OSError."""
        self._path = path
        if not path.exists():
            write_atomically(path, bytes(_SLOT_OFFSETS[-1] + _CELL_SLOT_BYTES))
        try:
            # A process may have been killed before it synced what is read here.
            sync_file(path)
        except OSError as error:
            raise StorageFailed(f"{path} could not be synced: {error}; mend the disk and restart") from error
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._counter, self._newest = self._read()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def load(self) -> bytes | None:
        """Return the value stored last, or None if none ever was."""
        return self._newest

    def store(self, value: bytes) -> None:
        """Replace the value; it is on disk when this returns. Blocks the calling thread for one sync.

        Raises ValueError beyond CELL_VALUE_BYTES_MAX, StorageFailed if the disk does.
        """
        if len(value) > CELL_VALUE_BYTES_MAX:
            raise ValueError(f"a cell holds {CELL_VALUE_BYTES_MAX} bytes, not {len(value)}")
        counter = self._counter + 1
        try:
            slot, offset = _encode_slot(counter, value), _SLOT_OFFSETS[counter % 2]
            FAILPOINTS.write(CELL_BEFORE, slot, lambda part: _write_at(self._descriptor, part, offset))
            os.fdatasync(self._descriptor)
            FAILPOINTS.reach(CELL_AFTER)
        except OSError as error:
            raise StorageFailed(
                f"{self._path} could not be written: {error}; mend the disk and restart"
            ) from error
        self._counter, self._newest = counter, value

    def _read(self) -> tuple[int, bytes | None]:
        slots = [os.pread(self._descriptor, _CELL_SLOT_BYTES, offset) for offset in _SLOT_OFFSETS]
        decoded = [found for found in map(_decode_slot, slots) if found is not None]
        if decoded:
            return max(decoded)
        # A first write may tear; then one slot is spoiled and the other still as it was made.
        if bytes(_CELL_SLOT_BYTES) in slots:
            return 0, None
        raise DataRefused(
            f"{self._path} holds no readable value: both copies are damaged. Restore it from a "
            "backup; without it this process cannot know what it signed last."
        )


def write_atomically(path: Path, contents: bytes) -> None:
    """Put `contents` at `path`, whole or not at all, on disk when this returns. Raises StorageFailed.

    The file is readable by its owner alone.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        _write_synced(descriptor, REPLACE_WRITE, contents)
        FAILPOINTS.reach(REPLACE_BEFORE)
        temporary.replace(path)
        sync_folder(path.parent)
        FAILPOINTS.reach(REPLACE_AFTER)
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {error}; mend the disk and restart") from error


def create_atomically(path: Path, contents: bytes) -> None:
    """As `write_atomically`, but where there is no file yet: of several who try, one succeeds.

    Raises FileExistsError, or StorageFailed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_synced(descriptor, CREATE_WRITE, contents)
            FAILPOINTS.reach(CREATE_BEFORE)
            path.hardlink_to(temporary)
        finally:
            temporary.unlink()
        sync_folder(path.parent)
        FAILPOINTS.reach(CREATE_AFTER)
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {error}; mend the disk and restart") from error


def make_folder(path: Path) -> None:
    """Make a folder that its owner alone can read, and its parents; it is on disk when this returns.

    Without that a folder may vanish with everything in it, however often its files were synced. One that is
    there is synced as well: who made it may have died before it was. Raises OSError.
    """
    made = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in made or (path,):
        try:
            sync_folder(each.parent)
        except PermissionError:
            # The parent of a folder that was there may be none of ours to open; its maker saw to it.
            if made:
                raise


def sync_folder(path: Path) -> None:
    """Put a folder's list of names on disk, without which a new file may vanish. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Put what a file has on disk, if it is there. Raises OSError.

    For what another process wrote: who was killed before its own sync left it to the kernel, from where it is
    read like everything else, and is gone with the power.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(descriptor: int, point: str, contents: bytes) -> None:
    """Write a new file's contents, passing `point`, sync and close it. Raises OSError."""
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        FAILPOINTS.write(point, contents, lambda part: _write_all(file, part))
        os.fsync(descriptor)


def _write_all(file: RawIOBase, contents: bytes) -> None:
    """Write on until all is written: one call may write a part. Raises OSError."""
    rest = memoryview(contents)
    while rest:
        rest = rest[file.write(rest) :]


def _write_at(descriptor: int, contents: bytes, offset: int) -> None:
    """Write at an offset, in one call or not at all. Raises OSError."""
    written = os.pwrite(descriptor, contents, offset)
    if written != len(contents):
        raise OSError(f"wrote {written} of {len(contents)} bytes")


def _encode_slot(counter: int, value: bytes) -> bytes:
    body = _CELL_MAGIC + counter.to_bytes(8, "big") + len(value).to_bytes(2, "big") + value
    padded = body.ljust(_CELL_SLOT_BYTES - _CHECKSUM_BYTES, b"\0")
    return padded + hashlib.sha256(padded).digest()


def _decode_slot(slot: bytes) -> tuple[int, bytes] | None:
    """Return a slot's counter and value, or None if it does not hold one whole."""
    padded, checksum = slot[:-_CHECKSUM_BYTES], slot[-_CHECKSUM_BYTES:]
    if len(slot) != _CELL_SLOT_BYTES or hashlib.sha256(padded).digest() != checksum:
        return None
    if not padded.startswith(_CELL_MAGIC):
        return None
    length = int.from_bytes(padded[16:18], "big")
    return int.from_bytes(padded[8:16], "big"), padded[18 : 18 + length]
