"""The settlement log's database: entries by index, and the names by which they are found.

Owns the schema and every statement. Entries are never changed or deleted; names follow from the entries and
stand beside them to save a search (`lockstep.settlement_names`). Invariant: entries and the names that they
bear are one transaction.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from deploy.node.database import Database, open_database
from deploy.node.failures import DataRefused
from lockstep.settlement_names import Found, anchored_name, range_name

APPLICATION_ID: Final = 0x4C6B534C
"""`LkSL`: the mark of this database's files."""

SCHEMA: Final = (
    """
    CREATE TABLE entries (position INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
    CREATE TABLE names (name TEXT PRIMARY KEY, position INTEGER NOT NULL REFERENCES entries)
        STRICT, WITHOUT ROWID;
    """,
    """
    -- Checksums of the other columns (deploy.node.seals).
    ALTER TABLE entries ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE names ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    UPDATE entries SET seal = seal(position, entry);
    UPDATE names SET seal = seal(name, position);
    """,
)

PAGE_ENTRIES_MAX: Final = 1_024
"""Entries of one page for a reader."""

PAGE_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one page; a single entry always fits."""

_REPAIR: Final = "put back a copy of the data folder; followers have every entry, too"

_PUT_ENTRY: Final = "INSERT INTO entries (position, entry, seal) VALUES (?1, ?2, seal(?1, ?2))"
_PUT_NAME: Final = "INSERT OR REPLACE INTO names (name, position, seal) VALUES (?1, ?2, seal(?1, ?2))"

_LOAD_ENTRIES: Final = 10_000
_RANGES_END: Final = "range0"
"""The first text behind all names of ranges: "0" follows "/"."""


class Store:
    """The open database; see `open_store`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, first: int, entries: Sequence[bytes], names: Mapping[str, int]) -> None:
        """Add entries from index `first` on, and the names of entries, durably. Raises StorageFailed."""
        await self._database.transact(
            (
                (_PUT_ENTRY, list(enumerate(entries, first))),
                (_PUT_NAME, list(names.items())),
            )
        )

    async def find(self, names: Iterable[str]) -> dict[str, Found]:
        """Return the entries that bear some of the names."""
        rows = await self._database.read(
            """
            SELECT names.name, names.position, entries.entry FROM json_each(?) AS asked
            JOIN names ON names.name = asked.value JOIN entries USING (position)
            WHERE sound(names.seal, names.name, names.position)
                AND sound(entries.seal, entries.position, entries.entry)
            """,
            (json.dumps(list(names)),),
        )
        return {name: Found(position, entry) for name, position, entry in rows}

    async def range_over(self, height: int) -> Found | None:
        """Return the header range that covers a height; None if none does yet."""
        row = await self._database.read_one(
            """
            SELECT names.position, entries.entry FROM names JOIN entries USING (position)
            WHERE names.name >= ? AND names.name < ? AND sound(names.seal, names.name, names.position)
                AND sound(entries.seal, entries.position, entries.entry)
            ORDER BY names.name LIMIT 1
            """,
            (range_name(height), _RANGES_END),
        )
        return None if row is None else Found(*row)

    async def newest_anchored(self, rollup: str) -> Found | None:
        """Return the entry that anchors a rollup's newest commitment; None if none does yet."""
        row = await self._database.read_one(
            """
            SELECT names.position, entries.entry FROM names JOIN entries USING (position)
            WHERE names.name BETWEEN ? AND ? AND sound(names.seal, names.name, names.position)
                AND sound(entries.seal, entries.position, entries.entry)
            ORDER BY names.name DESC LIMIT 1
            """,
            (anchored_name(rollup, 0), anchored_name(rollup, 2**64 - 1)),
        )
        return None if row is None else Found(*row)

    async def entry(self, index: int) -> bytes:
        """Return the entry at an index that is there."""
        [entry] = await self.page(index, index + 1)
        return entry

    async def page(self, first: int, end: int) -> list[bytes]:
        """Return entries from `first` on and below `end`, which are there: at least one, within bounds."""
        rows = await self._database.read(
            "SELECT entry FROM entries WHERE position >= ? AND position < ? AND sound(seal, position, entry) "
            "ORDER BY position LIMIT ?",
            (first, end, PAGE_ENTRIES_MAX),
        )
        page: list[bytes] = []
        page_bytes = 0
        for (entry,) in rows:
            page_bytes += len(entry)
            if page and page_bytes > PAGE_BYTES_MAX:
                break
            page.append(entry)
        return page

    async def all_entries(self) -> AsyncIterator[list[bytes]]:
        """Yield every entry in order, many at a time. Raises DataRefused if one is missing."""
        size = 0
        while True:
            rows = await self._database.read(
                "SELECT position, entry FROM entries WHERE position >= ? AND sound(seal, position, entry) "
                "ORDER BY position LIMIT ?",
                (size, _LOAD_ENTRIES),
            )
            if not rows:
                return
            last = rows[-1][0]
            if last + 1 - size != len(rows):
                raise DataRefused(f"entries are missing between {size} and {last}; {_REPAIR}")
            size = last + 1
            yield [entry for _, entry in rows]


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """Open or make the database; raises as `open_database`."""
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID, repair=_REPAIR) as database:
        yield Store(database)
