"""A bit that flips in a file, or a row that is changed, is noticed at the start or when it is read."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import deploy.node.database as module
from deploy.node.database import open_database
from deploy.node.failures import DataRefused
from deploy.node.seals import seal

MARK = 0x4C4F434B
SCHEMA = (
    "CREATE TABLE entry (height INTEGER PRIMARY KEY, payload BLOB NOT NULL, seal BLOB NOT NULL) STRICT;",
)
PUT = "INSERT INTO entry VALUES (?1, ?2, seal(?1, ?2))"
READ = "SELECT payload FROM entry WHERE height = ? AND sound(seal, height, payload)"


def test_columns_cannot_run_into_each_other() -> None:
    rows: list[tuple[int | str | bytes | None, ...]]
    rows = [(b"ab", b"c"), (b"a", b"bc"), ("ab", b"c"), (b"ab", "c"), (1, 2), (12, None), (b"1", b"2"), ()]
    assert len({seal(*row) for row in rows}) == len(rows)


@pytest.mark.parametrize("is_small", [True, False])
async def test_a_row_that_is_not_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_small: bool
) -> None:
    path = tmp_path / "db"
    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        await database.transact([(PUT, [(1, b"one"), (2, b"two")])])
        assert await database.read(READ, (1,)) == [(b"one",)]
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE entry SET payload = x'6f6e64' WHERE height = 1")
    if is_small:
        with pytest.raises(DataRefused, match="a row of entry is not what was written"):
            async with open_database(path, schema=SCHEMA, application_id=MARK):
                pass
        return
    monkeypatch.setattr(module, "CHECKED_BYTES_MAX", 0)
    async with open_database(path, schema=SCHEMA, application_id=MARK, repair="do this") as database:
        assert await database.read(READ, (2,)) == [(b"two",)]
        with pytest.raises(DataRefused, match="a row is not what was written; do this"):
            await database.read(READ, (1,))


async def test_a_page_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with open_database(path, schema=SCHEMA, application_id=MARK) as database:
        await database.transact([(PUT, [(height, bytes(900)) for height in range(100)])])
    contents = bytearray(path.read_bytes())
    # The first byte of the second page says what the page is.
    contents[4_096] ^= 1
    path.write_bytes(contents)
    with pytest.raises(DataRefused, match="is damaged"):
        async with open_database(path, schema=SCHEMA, application_id=MARK):
            pass
