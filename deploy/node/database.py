"""SQLite with one writing connection, transactions that are durable and indivisible, and bounded reads.

Owns how a database is opened, written, read and refused. Does not own any schema: a service passes its
migrations and its statements. The invariants:

- One connection writes, and it alone checkpoints; a file lock keeps a second process out. Readers cannot
write. - `transact` is everything or nothing, and on disk when it returns, whoever is cancelled meanwhile. - A
write that fails leaves nothing known about the disk: the database refuses everything from then on, and
  `StorageFailed` ends the process.

aiosqlite runs each connection in a thread of its own. Each trip to it costs about a tenth of a millisecond,
so that a transaction goes there as a whole: the connection's `executemany` understands `TRANSACTION` as one
more statement. That also makes a transaction impossible to cut in two, since a thread is not cancelled.
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import aiosqlite

from deploy.node.datadir import FileLock, sync_file, sync_folder
from deploy.node.failpoints import FAILPOINTS
from deploy.node.failures import DataRefused, StorageFailed
from deploy.node.seals import UNSOUND, add_functions, find_unsound

STATEMENTS: Final = FAILPOINTS.declare_write(
    "database.transaction.write", "a transaction's statements run next; torn: half of them did, uncommitted"
)
COMMIT_BEFORE: Final = FAILPOINTS.declare(
    "database.commit.before", "all statements ran, nothing is committed"
)
COMMIT_AFTER: Final = FAILPOINTS.declare("database.commit.after", "the transaction is on disk, untold")

TRANSACTION: Final = "-- one transaction"
"""What stands where SQL would when `executemany` is given a whole transaction."""

_LOOK_THROUGH: Final = "-- everything"
"""What stands there to have everything read and compared with its seals."""

READ_ROWS_MAX: Final = 100_000
"""Rows that one read may return; a query that finds more is a defect of its caller."""

CHECKED_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of a database up to which all of it is checked at the start, which takes half a second at most; of a
larger one each row is checked when it is read."""

_WAL_BYTES_KEPT: Final = 64 * 1024 * 1024
"""To which the write-ahead log is cut back after a checkpoint."""

Synchronous = Literal["FULL", "EXTRA", "NORMAL"]
"""When SQLite syncs. NORMAL loses acknowledged transactions with the power: for experiments only."""

SqlValue = int | float | str | bytes | None
Row = tuple[Any, ...]
Statement = tuple[str, Sequence[Sequence[SqlValue]]]
"""SQL with placeholders, and the rows of parameters it is run with, once for each."""

_Result = TypeVar("_Result")

# The primary result codes after which nothing is known about what is on disk.
_DISK_TROUBLE: Final = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    )
)


class _WritingConnection(sqlite3.Connection):
    """Runs a whole transaction in one call, in the thread that owns the connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        add_functions(self)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement for each row; under `TRANSACTION`, one transaction and what follows it."""
        if sql is _LOOK_THROUGH:
            return self.execute("SELECT ?", (find_unsound(self),))
        if sql is not TRANSACTION:
            return super().executemany(sql, parameters)
        statements, then = parameters
        cursor = self._transact(statements)
        if then is not None:
            then()
        return cursor

    def _transact(self, statements: Sequence[Statement]) -> sqlite3.Cursor:
        try:
            self.execute("BEGIN IMMEDIATE")
            FAILPOINTS.write(STATEMENTS, statements, self._run_all)
            FAILPOINTS.reach(COMMIT_BEFORE)
        except BaseException:
            if self.in_transaction:
                self._end("ROLLBACK")
            raise
        cursor = self._end("COMMIT")
        FAILPOINTS.reach(COMMIT_AFTER)
        return cursor

    def _run_all(self, statements: Sequence[Statement]) -> None:
        for statement, rows in statements:
            super().executemany(statement, rows)

    def _end(self, how: str) -> sqlite3.Cursor:
        try:
            return self.execute(how)
        except sqlite3.Error as error:
            raise StorageFailed(f"{how} failed: {error}; mend the disk and restart") from error


class _BoundedCursor(sqlite3.Cursor):
    """Returns at most READ_ROWS_MAX rows."""

    def fetchall(self) -> list[Any]:
        """Return all rows. Raises ValueError if there are more than READ_ROWS_MAX."""
        rows = self.fetchmany(READ_ROWS_MAX + 1)
        if len(rows) > READ_ROWS_MAX:
            raise ValueError(f"a read found more than {READ_ROWS_MAX} rows; give the query a LIMIT and page")
        return rows


class _ReadingConnection(sqlite3.Connection):
    """Reads through bounded cursors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        add_functions(self)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401
        """Run one statement."""
        return self.cursor(_BoundedCursor).execute(sql, parameters)


class Database:
    """An open database; see `open_database`."""

    def __init__(
        self,
        path: Path,
        writer: aiosqlite.Connection,
        readers: Sequence[aiosqlite.Connection],
        at_once: sqlite3.Connection,
        repair: str,
    ) -> None:
        self._path = path
        self._repair = repair
        self._at_once = at_once
        self._at_once_lock = threading.Lock()
        self._writer = writer
        self._failure: str | None = None
        self._idle: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        for reader in readers:
            self._idle.put_nowait(reader)

    async def transact(
        self, statements: Sequence[Statement], *, then: Callable[[], None] | None = None
    ) -> None:
        """Run the statements as one transaction, which is on disk when this returns.

        `then` is called in the connection's thread once it is on disk: what has to follow at once saves the
        way back and forth. A cancelled caller still waits for the outcome before it goes; the transaction is
        whole either way.

        Raises sqlite3.Error for a statement that fails (nothing of the transaction stays), StorageFailed for
        a disk that does, and ever after; and what `then` raises, which leaves the transaction on disk.
        """
        if self._failure is not None:
            raise StorageFailed(self._failure)
        try:
            await finish(self._run(statements, then))
        except StorageFailed as failure:
            self._failure = str(failure)
            raise

    async def read(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Return all rows of a query over what was committed last, at most READ_ROWS_MAX.

        Waits for a free reading connection; never for a write. Raises DataRefused for what is not as it was
        written, sqlite3.Error, or ValueError for too many rows.
        """
        reader = await self._idle.get()
        try:
            return [tuple(row) for row in await reader.execute_fetchall(sql, parameters)]
        except sqlite3.Error as error:
            if is_damage(error):
                raise _damaged(self._path, error, self._repair) from error
            raise
        finally:
            self._idle.put_nowait(reader)

    def read_at_once(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """Return the rows of a query as `read` does, in the calling thread, which waits for them.

        For a few rows that are needed amid a computation, in whichever thread that runs.
        """
        try:
            with self._at_once_lock:
                return self._at_once.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            if is_damage(error):
                raise _damaged(self._path, error, self._repair) from error
            raise

    async def read_one(self, sql: str, parameters: Sequence[SqlValue] = ()) -> Row | None:
        """Return the only row of a query, or None. Raises as `read`, and ValueError for several rows."""
        rows = await self.read(sql, parameters)
        if len(rows) > 1:
            raise ValueError(f"expected at most one row, found {len(rows)}: {sql}")
        return rows[0] if rows else None

    async def _run(self, statements: Sequence[Statement], then: Callable[[], None] | None) -> None:
        try:
            await self._writer.executemany(TRANSACTION, (statements, then))
        except (sqlite3.Error, OSError) as error:
            if is_disk_trouble(error):
                raise StorageFailed(f"{self._path}: {error}; mend the disk and restart") from error
            raise


@asynccontextmanager
async def open_database(
    path: Path,
    *,
    schema: Sequence[str],
    application_id: int,
    synchronous: Synchronous = "FULL",
    readers: int = 2,
    checkpoint_pages: int = 1_000,
    repair: str = "delete it to rebuild it, or restore a backup",
) -> AsyncIterator[Database]:
    """Open the database at `path`, making or migrating it, and close it at the end of the `async with` block.

    `schema` holds one SQL script per version, all tables STRICT; scripts once published never change.
    `application_id` is the owner's mark in the file. `readers` is the number of connections that `read`
    shares. A checkpoint runs after every `checkpoint_pages` pages written. `repair` is what a person is told
    to do if it is damaged.

    Raises DataLocked if another process has it, DataRefused if it is another program's, a newer version's or
    damaged, StorageFailed if it cannot be opened, sqlite3.Error if a script is wrong.
    """
    if readers < 1 or checkpoint_pages < 1:
        raise ValueError("readers and checkpoint_pages start at 1")
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        async with AsyncExitStack() as stack:
            try:
                for name in (path.name, f"{path.name}-wal"):
                    # A process may have been killed before it synced what is read from here on. Not later: to
                    # close a file drops the locks that SQLite has on it.
                    sync_file(path.with_name(name))
                writer = await stack.enter_async_context(
                    aiosqlite.connect(path, factory=_WritingConnection, isolation_level=None)
                )
                version = await _check_owner(path, writer, schema, application_id)
                await _set_up(writer, _writer_pragmas(synchronous, checkpoint_pages))
                await _check_contents(path, writer, repair)
                await _migrate(writer, schema, version, application_id)
                # The names of the database and its log must outlive the power as the contents do.
                sync_folder(path.parent)
                pool = [await stack.enter_async_context(_connect_reader(path)) for _ in range(readers)]
                for reader in pool:
                    await _set_up(reader, _READER_PRAGMAS)
                at_once = stack.enter_context(closing(_connect_at_once(path)))
            except (sqlite3.Error, OSError) as error:
                if is_disk_trouble(error):
                    raise _refusal(path, error, repair) from error
                raise
            yield Database(path, writer, pool, at_once, repair)
    finally:
        lock.close()


async def finish(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `work` to its end even if the caller is cancelled, and only then let the cancellation go on.

    If `work` failed storage, that is raised instead: it ends the process, which a cancellation need not.
    """
    task = asyncio.ensure_future(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as cancelled:
            interruption = cancelled
    if interruption is None:
        return task.result()
    failure = task.exception()
    if isinstance(failure, StorageFailed):
        raise failure
    raise interruption


def is_disk_trouble(error: sqlite3.Error | OSError) -> bool:
    """Tell whether an error leaves unknown what is on disk; every other is a defect of a statement."""
    if isinstance(error, OSError):
        return True
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DISK_TROUBLE


def is_damage(error: sqlite3.Error | OSError) -> bool:
    """Tell whether an error says that what is on disk is not what was written."""
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A value that does not fit its STRICT type, or a text that is none, was never written.
    is_garbled = isinstance(error, sqlite3.OperationalError) and "Could not decode" in str(error)
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or UNSOUND in str(error) or is_garbled


def _damaged(path: Path, what: object, repair: str) -> DataRefused:
    reason = "a row is not what was written" if UNSOUND in str(what) else what
    return DataRefused(f"{path} is damaged: {reason}; {repair}")


def _writer_pragmas(synchronous: Synchronous, checkpoint_pages: int) -> tuple[tuple[str, str, object], ...]:
    numbers = {"NORMAL": 1, "FULL": 2, "EXTRA": 3}
    return (
        ("journal_mode", "WAL", "wal"),
        ("synchronous", synchronous, numbers[synchronous]),
        ("foreign_keys", "ON", 1),
        ("trusted_schema", "OFF", 0),
        ("cell_size_check", "ON", 1),
        ("wal_autocheckpoint", str(checkpoint_pages), checkpoint_pages),
        ("journal_size_limit", str(_WAL_BYTES_KEPT), _WAL_BYTES_KEPT),
    )


_READER_PRAGMAS: Final = (
    ("query_only", "ON", 1),
    ("trusted_schema", "OFF", 0),
    ("cell_size_check", "ON", 1),
    # Versions before 3.51.3 can damage the log if two connections checkpoint at once.
    ("wal_autocheckpoint", "0", 0),
)


def _connect_reader(path: Path) -> aiosqlite.Connection:
    return aiosqlite.connect(_read_only(path), uri=True, factory=_ReadingConnection, isolation_level=None)


def _connect_at_once(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        _read_only(path),
        uri=True,
        factory=_ReadingConnection,
        isolation_level=None,
        check_same_thread=False,
    )
    for name, value, _ in _READER_PRAGMAS:
        connection.execute(f"PRAGMA {name} = {value}")
    return connection


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


async def _set_up(connection: aiosqlite.Connection, pragmas: Iterable[tuple[str, str, object]]) -> None:
    """Set each pragma and read it back: SQLite ignores those that it does not know, or cannot set now."""
    for name, value, expected in pragmas:
        await connection.execute_fetchall(f"PRAGMA {name} = {value}")
        found = await _pragma(connection, name)
        if found != expected:
            raise DataRefused(
                f"SQLite has {name} = {found!r} where {expected!r} was set; use another build of it"
            )


async def _pragma(connection: aiosqlite.Connection, name: str) -> object:
    rows = [row for (row,) in await connection.execute_fetchall(f"PRAGMA {name}")]
    return rows[0] if rows else None


async def _check_owner(
    path: Path, writer: aiosqlite.Connection, schema: Sequence[str], application_id: int
) -> int:
    """Return the file's version, 0 if it is new. Raises DataRefused if the file is not ours to open."""
    owner = await _pragma(writer, "application_id")
    [[table_count]] = await writer.execute_fetchall("SELECT count(*) FROM sqlite_schema")
    version = await _pragma(writer, "user_version")
    assert isinstance(version, int), "SQLite gives its version as a number"
    if owner != application_id and (owner or version or table_count):
        raise DataRefused(
            f"{path} belongs to another program (mark {owner}); give this process another data folder"
        )
    if version > len(schema):
        raise DataRefused(
            f"{path} has version {version}, this software knows {len(schema)}; start the newer software again"
        )
    return version


async def _check_contents(path: Path, writer: aiosqlite.Connection, repair: str) -> None:
    """Read all of a database that is not large. Raises DataRefused if it is not as it was written."""
    [[pages]] = await writer.execute_fetchall("PRAGMA page_count")
    [[page_bytes]] = await writer.execute_fetchall("PRAGMA page_size")
    if pages * page_bytes > CHECKED_BYTES_MAX:
        return
    found = await (await writer.executemany(_LOOK_THROUGH, ())).fetchone()
    assert found is not None, "it answers with one row"
    if found[0] is not None:
        raise _damaged(path, found[0], repair)


async def _migrate(
    writer: aiosqlite.Connection, schema: Sequence[str], version: int, application_id: int
) -> None:
    """Bring the file to version `len(schema)` in one transaction, and see that all tables are STRICT."""
    if version < len(schema):
        marks = f"PRAGMA application_id = {application_id}; PRAGMA user_version = {len(schema)}"
        steps = ("BEGIN IMMEDIATE", *schema[version:], marks, "COMMIT;")
        await finish(_run_script(writer, ";\n".join(step.rstrip().rstrip(";") for step in steps) + ";"))
    tables = await writer.execute_fetchall(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND NOT strict AND name NOT LIKE 'sqlite_%'"
    )
    loose = [name for (name,) in tables]
    if loose:
        raise DataRefused(f"the schema has tables that are not STRICT: {', '.join(loose)}; make them so")


async def _run_script(writer: aiosqlite.Connection, script: str) -> None:
    try:
        await writer.executescript(script)
    except sqlite3.Error:
        if writer.in_transaction:
            await writer.rollback()
        raise


def _refusal(path: Path, error: sqlite3.Error | OSError, repair: str) -> DataRefused | StorageFailed:
    if is_damage(error):
        return _damaged(path, error, repair)
    return StorageFailed(f"{path} cannot be opened: {error}; mend the disk or give another data folder")
