"""The database: what is acknowledged is there, nothing is half there, nobody else writes."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import deploy.node.database as module
from deploy.node.database import Database, Statement, open_database
from deploy.node.failpoints import FAILPOINTS, FAILPOINTS_VARIABLE
from deploy.node.failures import DataLocked, DataRefused, StorageFailed
from tests.tools.syncs import watch_syncs

MARK = 0x4C4F434B
FIRST = "CREATE TABLE entry (height INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;"
SECOND = """
CREATE TABLE note (height INTEGER REFERENCES entry (height), text TEXT NOT NULL) STRICT; -- a comment
CREATE INDEX note_height ON note (height);
"""
SCHEMA = (FIRST, SECOND)
COUNT = "SELECT count(*) FROM entry"


def entries(*heights: int) -> Statement:
    return ("INSERT INTO entry VALUES (?, ?)", [(height, b"payload") for height in heights])


def notes(*heights: int) -> Statement:
    return ("INSERT INTO note VALUES (?, ?)", [(height, "text") for height in heights])


async def count(database: Database) -> int:
    row = await database.read_one(COUNT)
    assert row is not None
    return int(row[0])


async def test_what_follows_a_transaction_finds_it_on_disk_and_none_that_failed(tmp_path: Path) -> None:
    path, seen = tmp_path / "db", list[int]()

    def then() -> None:
        with closing(sqlite3.connect(path)) as other:
            seen.append(other.execute(COUNT).fetchone()[0])

    def fail() -> None:
        raise StorageFailed("what follows failed")

    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        await database.transact([entries(1, 2)], then=then)
        assert seen == [2]
        with pytest.raises(sqlite3.IntegrityError):
            await database.transact([entries(1)], then=then)
        assert seen == [2]
        with pytest.raises(StorageFailed, match="what follows failed"):
            await database.transact([entries(3)], then=fail)
        assert await count(database) == 3
        with pytest.raises(StorageFailed, match="what follows failed"):
            await database.transact([entries(4)], then=then)


async def test_what_is_read_at_once_is_what_was_committed_last_in_any_thread(tmp_path: Path) -> None:
    heights = "SELECT height FROM entry WHERE height >= ? ORDER BY height"
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        await database.transact([entries(1, 2, 3)])
        assert database.read_at_once(heights, (2,)) == [(2,), (3,)]
        await database.transact([entries(4)])
        found = await asyncio.gather(
            *(asyncio.to_thread(database.read_at_once, heights, (height,)) for height in range(1, 5))
        )
        assert [len(rows) for rows in found] == [4, 3, 2, 1]
        with pytest.raises(DataRefused, match="a row is not what was written"):
            database.read_at_once("SELECT height FROM entry WHERE sound(x'00', height)")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.read_at_once("DELETE FROM entry")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            database.read_at_once("SELECT * FROM absent")


async def test_what_is_written_is_read_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        await database.transact([entries(1, 2, 3), notes(2)])
        assert await database.read("SELECT height FROM entry ORDER BY height") == [(1,), (2,), (3,)]
    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        assert await count(database) == 3
        assert await database.read_one("SELECT text FROM note WHERE height = ?", (2,)) == ("text",)
        assert await database.read_one("SELECT text FROM note WHERE height = ?", (9,)) is None
        with pytest.raises(ValueError, match="at most one row, found 3"):
            await database.read_one("SELECT height FROM entry")


async def test_a_failing_statement_leaves_nothing(tmp_path: Path) -> None:
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        await database.transact([entries(1)])
        with pytest.raises(sqlite3.IntegrityError):
            await database.transact([entries(2, 3), entries(1)])
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            await database.transact([entries(4), notes(99)])
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await database.transact([entries(5), ("INSERT INTO nowhere VALUES (?)", [(1,)])])
        await database.transact([entries(6)])
        assert await count(database) == 2


async def test_cancellation_cuts_nothing(tmp_path: Path, randomness: random.Random) -> None:
    """Cancel at random moments: the transaction is whole, the connection free, and the caller told."""
    cancelled = 0
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        for trial in range(200):
            first = trial * 10
            task = asyncio.create_task(database.transact([entries(first), entries(first + 1), notes(first)]))
            await asyncio.sleep(randomness.uniform(0, 0.0006))
            cancelled += task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                # Begun is done: whoever was cancelled after it began finds all of it.
                expected = {(0,), (2,)}
            else:
                expected = {(2,)}
            found = await database.read("SELECT count(*) FROM entry WHERE height >= ?", (first,))
            assert set(found) <= expected
            assert not database._writer.in_transaction
            await database.transact([entries(first + 2)])
            assert await database.read("SELECT count(*) % 2 FROM entry WHERE height % 10 < 2") == [(0,)]
    assert cancelled > 20


async def test_a_cancelled_caller_waits_for_the_outcome(tmp_path: Path) -> None:
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        task = asyncio.create_task(database.transact([entries(*range(20_000))]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await count(database) == 20_000


async def test_a_deadline_ends_the_wait_not_the_write(tmp_path: Path) -> None:
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await database.transact([entries(*range(50_000))])
        assert await count(database) == 50_000


@pytest.mark.parametrize("mode", ["error", "enospc"])
@pytest.mark.parametrize("point", ["database.commit.before", "database.commit.after"])
async def test_failed_storage_is_final(tmp_path: Path, mode: str, point: str) -> None:
    path = tmp_path / "db"
    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        await database.transact([entries(1)])
        FAILPOINTS.activate({FAILPOINTS_VARIABLE: f"{point}={mode}@1"})
        try:
            with pytest.raises(StorageFailed, match="mend the disk"):
                await database.transact([entries(2)])
        finally:
            FAILPOINTS.activate({})
        with pytest.raises(StorageFailed, match="mend the disk"):
            await database.transact([entries(3)])
    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        assert await database.read("SELECT height FROM entry") == (
            [(1,), (2,)] if "after" in point else [(1,)]
        )


async def test_a_full_disk_is_final(tmp_path: Path) -> None:
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        await database._writer.execute_fetchall("PRAGMA max_page_count = 12")
        with pytest.raises(StorageFailed, match="full"):
            await database.transact([("INSERT INTO entry VALUES (?, zeroblob(100000))", [(1,)])])
        with pytest.raises(StorageFailed, match="full"):
            await database.transact([entries(2)])


async def test_failed_storage_outranks_a_cancellation(tmp_path: Path) -> None:
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        FAILPOINTS.activate({FAILPOINTS_VARIABLE: "database.commit.before=error"})
        try:
            task = asyncio.create_task(database.transact([entries(1)]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(StorageFailed):
                await task
        finally:
            FAILPOINTS.activate({})


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from deploy.node.database import open_database
async def main():
    async with open_database(Path({str(tmp_path / "db")!r}), schema=("",), application_id=1):
        pass
asyncio.run(main())
"""
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        environ = {"PYTHONPATH": ":".join(sys.path)}
        other = subprocess.run(
            [sys.executable, "-c", script],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert f"DataLocked: {tmp_path / 'db.lock'} is locked by process {os.getpid()}" in other.stderr
        with pytest.raises(DataLocked):
            async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK):
                pass
        await database.transact([entries(1)])


async def test_readers_cannot_write_nor_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with open_database(path, schema=SCHEMA, application_id=MARK, readers=1) as database:
        await database.transact([entries(1)])
        for statement in ("DELETE FROM entry", "PRAGMA wal_checkpoint(TRUNCATE)"):
            with pytest.raises(sqlite3.OperationalError):
                await database.read(statement)
        # Not even after the connection's own promise is taken back.
        await database.read("PRAGMA query_only = OFF")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await database.read("DELETE FROM entry")
        assert path.with_name("db-wal").stat().st_size > 0, "a reader moved the log"
        assert await count(database) == 1
    assert not path.with_name("db-wal").exists(), "the writer leaves last and moves the log"


async def test_reads_do_not_wait_for_a_write(tmp_path: Path) -> None:
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        write = asyncio.create_task(database.transact([entries(*range(100_000))]))
        assert await count(database) == 0
        assert not write.done()
        await write


async def test_reads_share_their_connections_and_give_them_back(tmp_path: Path) -> None:
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK, readers=2) as database:
        await database.transact([entries(*range(10))])
        results = await asyncio.gather(*(count(database) for _ in range(20)))
        assert results == [10] * 20
        with pytest.raises(sqlite3.OperationalError):
            await database.read("SELECT nothing")
        tasks = [asyncio.create_task(count(database)) for _ in range(6)]
        await asyncio.sleep(0)
        for task in tasks[:4]:
            task.cancel()
        assert [
            result for result in await asyncio.gather(*tasks, return_exceptions=True) if result == 10
        ] == [10, 10]
        assert database._idle.qsize() == 2


async def test_reads_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_ROWS_MAX", 5)
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        await database.transact([entries(*range(6))])
        assert len(await database.read("SELECT height FROM entry LIMIT 5")) == 5
        with pytest.raises(ValueError, match="LIMIT"):
            await database.read("SELECT height FROM entry")


async def test_pragmas_hold_on_every_connection(tmp_path: Path) -> None:
    async with open_database(
        tmp_path / "db", schema=SCHEMA, application_id=MARK, checkpoint_pages=77
    ) as database:
        for name, expected in {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "trusted_schema": 0,
            "cell_size_check": 1,
            "wal_autocheckpoint": 77,
            "application_id": MARK,
            "user_version": 2,
        }.items():
            [row] = await database._writer.execute_fetchall(f"PRAGMA {name}")
            assert row[0] == expected, name
        for name, expected in {"query_only": 1, "wal_autocheckpoint": 0, "trusted_schema": 0}.items():
            assert await database.read(f"PRAGMA {name}") == [(expected,)], name


async def test_a_setting_that_does_not_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_READER_PRAGMAS", (("no_such_pragma", "1", 1),))
    with pytest.raises(DataRefused, match="no_such_pragma = None where 1 was set"):
        async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK):
            pass


async def test_migration_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with open_database(path, schema=(FIRST,), application_id=MARK) as database:
        await database.transact([entries(1)])
    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        await database.transact([notes(1)])
        assert await count(database) == 1
    with pytest.raises(DataRefused, match="version 2, this software knows 1; start the newer"):
        async with open_database(path, schema=(FIRST,), application_id=MARK):
            pass


async def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with open_database(path, schema=(FIRST,), application_id=MARK):
        pass
    broken = "CREATE TABLE half (a INTEGER) STRICT; CREATE TABLE entry (a INTEGER) STRICT;"
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        async with open_database(path, schema=(FIRST, broken), application_id=MARK):
            pass
    async with open_database(path, schema=(FIRST,), application_id=MARK) as database:
        assert await database.read("SELECT name FROM sqlite_schema") == [("entry",)]


async def test_foreign_and_loose_and_damaged_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    untouched = foreign.read_bytes()
    with pytest.raises(DataRefused, match="belongs to another program"):
        async with open_database(foreign, schema=SCHEMA, application_id=MARK):
            pass
    assert foreign.read_bytes() == untouched
    with pytest.raises(DataRefused, match="not STRICT: loose"):
        async with open_database(tmp_path / "l", schema=("CREATE TABLE loose (a)",), application_id=MARK):
            pass
    (tmp_path / "noise").write_bytes(b"noise" * 1_000)
    with pytest.raises(DataRefused, match="is damaged"):
        async with open_database(tmp_path / "noise", schema=SCHEMA, application_id=MARK):
            pass
    with pytest.raises(StorageFailed, match="cannot be opened"):
        async with open_database(tmp_path / "folder" / "db", schema=SCHEMA, application_id=MARK):
            pass


async def test_what_a_killed_process_left_unsynced_is_synced_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "left"
    left.mkdir()
    async with open_database(tmp_path / "db", schema=SCHEMA, application_id=MARK) as database:
        await database.transact([entries(1)])
        # As a kill leaves it: what was committed is in the log alone.
        for name in ("db", "db-wal"):
            shutil.copy(tmp_path / name, left / name)
    synced = watch_syncs(monkeypatch)
    async with open_database(left / "db", schema=SCHEMA, application_id=MARK) as database:
        assert {"db", "db-wal"} <= set(synced)
        assert await count(database) == 1
