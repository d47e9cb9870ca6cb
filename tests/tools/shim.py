"""The durable system calls of a process, seen and failed below Python.

Compiles and arms shim.c, whose head says what it sees and does, and reads what it recorded. Owns no process:
a test starts one with `environment(...)`, or arms one that has the library loaded by `arm`. What a test saw
from outside, such as an acknowledgement, it puts on the same record by `mark`, so that the order of calls and
acknowledgements is one.
"""

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("shim.c")
COMPILER: Final = "gcc"

VARIABLES: Final = ("SHIM_FOLDER", "SHIM_LOG", "SHIM_DATA", "SHIM_FAULT")
"""What shim.c reads, in the order of `lockstep_shim_arm`."""

FAULTS: Final = ("kill-before", "kill-after", "torn", "eio", "enospc")
"""What can happen at the n-th call."""

_HEAD: Final = struct.Struct("<IIQQQ")


class Operation(IntEnum):
    """What a call does."""

    WRITE = 1
    TRUNCATE = 2
    SYNC = 3
    """Of a file, or of a folder, which makes its names durable."""
    RENAME = 4
    UNLINK = 5
    CREATE = 6
    """An open that makes the file, or empties it."""
    LINK = 7
    MKDIR = 8
    MARK = 9
    """No call: a note of the test's."""


@dataclass(frozen=True)
class Call:
    """One call, done and successful, or a mark."""

    operation: Operation
    """What it does."""
    path: Path
    """The file or folder, by the name that it had then."""
    inode: int
    """Of the file; 0 for calls that take names."""
    offset: int
    """Where a write starts, or the length that a file is cut to."""
    data: bytes
    """The bytes written, if they were asked for; the new name of RENAME and LINK; the note of MARK."""

    @property
    def target(self) -> Path:
        """The new name of RENAME and LINK."""
        return Path(os.fsdecode(self.data))


def is_available() -> bool:
    """Answer whether the library can be compiled here."""
    return shutil.which(COMPILER) is not None


def library() -> Path:
    """Compile the library, once for each version of its source, and return where it is."""
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = Path(tempfile.gettempdir()) / f"lockstep-shim-{os.getuid()}-{version}.so"
    if not made.exists():
        new = made.with_suffix(f".{os.getpid()}")
        options = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
        subprocess.run([COMPILER, *options, "-o", new, SOURCE, "-ldl", "-lpthread"], check=True)
        new.replace(made)
    return made


def environment(
    folder: Path, *, log: Path | None = None, data: bool = False, fault: str = ""
) -> Mapping[str, str]:
    """Return the variables with which a process is watched from its start.

    `log` gets a record of each call below `folder`, with the bytes written if `data`. `fault` is `MODE@N`.
    """
    texts = (str(folder), "" if log is None else str(log), "1" if data else "", fault)
    return {"LD_PRELOAD": str(library()), **dict(zip(VARIABLES, texts, strict=True))}


def arm(environ: Mapping[str, str]) -> None:
    """Watch this process from now on as the variables say; it was started with the library."""
    set_up = ctypes.CDLL(None).lockstep_shim_arm
    set_up.restype = None
    set_up(*(ctypes.c_char_p(environ.get(name, "").encode()) for name in VARIABLES))


def mark(log: Path, note: bytes) -> None:
    """Put a note on a record, after everything that is on it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, _HEAD.pack(Operation.MARK, 0, 0, 0, len(note)) + note)
    finally:
        os.close(descriptor)


def read_record(log: Path) -> Iterator[Call]:
    """Yield what is on a record, in order."""
    with log.open("rb") as file:
        while head := file.read(_HEAD.size):
            operation, path_bytes, inode, offset, data_bytes = _HEAD.unpack(head)
            path = Path(os.fsdecode(file.read(path_bytes)))
            yield Call(Operation(operation), path, inode, offset, file.read(data_bytes))
