"""What processes and their data take: memory, descriptors, CPU time, and disk by table.

Owns the reading of /proc and of databases from outside. Changes nothing.
"""

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

_SCHED_CLOCK: Final = 2
_MIB: Final = 1024 * 1024
_SQLITE: Final = b"SQLite format 3\0"


def cpu_seconds(pid: int) -> float:
    """Return what a process and its threads have used, in user and kernel mode."""
    # The number that clock_getcpuclockid(3) returns: a process's clock counts in ns, /proc in hundredths.
    return time.clock_gettime(~pid << 3 | _SCHED_CLOCK)


def memory_mib(pid: int) -> float:
    """Return the MiB of memory that a process has resident now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def descriptors(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def disk_bytes(folder: Path) -> Mapping[str, int]:
    """Return the bytes of a data folder: for each database its tables and indexes, then all other files.

    A write-ahead log counts as a file beside its database, `NAME-wal`; what of it is in the database
    already counts twice, as on the disk.
    """
    found: dict[str, int] = {}
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        with file.open("rb") as opened:
            is_database = opened.read(len(_SQLITE)) == _SQLITE
        if is_database:
            found |= _tables(file)
        else:
            found[file.name] = file.stat().st_size
    return found


def _tables(file: Path) -> Mapping[str, int]:
    """Return the bytes of all pages of a database by table and index, and of those that are free."""
    bytes_by_name: dict[str, int] = defaultdict(int)
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        for name, size in database.execute("SELECT name, SUM(pgsize) FROM dbstat GROUP BY name"):
            bytes_by_name[_named(name)] += size
        free, page = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")
        )
    return {**bytes_by_name, "free pages": free * page}


def _named(name: str) -> str:
    """Return what people call a table or an index that SQLite named."""
    return name.replace("sqlite_autoindex_", "index of ")
