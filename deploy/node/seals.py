"""Checksums of rows: a row that is read is the row that was written.

SQLite keeps none of its own: a bit that flips in a value is served like any other. A table whose content
no hash of the protocol covers has a column `seal`, its last, which is written as `seal(...)` of the row's
other columns, in their order and but for an `id` that only numbers rows, and is read under `WHERE sound(seal,
...)` of the same. Owns both functions, which every connection has. Not a defence against somebody: who can
write the file can seal it.
"""

import sqlite3
from hashlib import blake2b
from typing import Final

SEAL_BYTES: Final = 16
"""Bytes of a seal."""

UNSOUND: Final = "user-defined function raised exception"
"""What SQLite says when a row is not what was sealed."""


class Unsound(Exception):
    """A row is not what was sealed."""


def seal(*columns: int | float | str | bytes | None) -> bytes:
    """Return the checksum of a row's columns, each with its type and length."""
    digest = blake2b(digest_size=SEAL_BYTES)
    for column in columns:
        if isinstance(column, bytes):
            digest.update(b"b%d:" % len(column))
            digest.update(column)
        elif isinstance(column, str):
            text = column.encode()
            digest.update(b"s%d:" % len(text) + text)
        else:
            digest.update(b"%a;" % column)
    return digest.digest()


def sound(sealed: bytes, *columns: int | float | str | bytes | None) -> bool:
    """Answer that a row is what was sealed. Raises Unsound if it is not."""
    if sealed != seal(*columns):
        raise Unsound
    return True


def add_functions(connection: sqlite3.Connection) -> None:
    """Let statements of a connection use `seal` and `sound`."""
    connection.create_function("seal", -1, seal, deterministic=True)
    connection.create_function("sound", -1, sound, deterministic=True)


def find_unsound(connection: sqlite3.Connection) -> str | None:
    """Read everything, and return what of a database is not as it was written; None if all is.

    Takes a second for some hundred megabytes.
    """
    [(structure,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if structure != "ok":
        return str(structure)
    for table, read_all in connection.execute(_READ_SEALED_TABLES).fetchall():
        for *values, sealed in connection.execute(read_all):
            if sealed != seal(*values):
                return f"a row of {table} is not what was written"
    return None


# Every table with seals, and the statement that reads it: the schema's own names, in the schema's order.
_READ_SEALED_TABLES: Final = """
    SELECT schema.name, 'SELECT ' || group_concat(columns.name) || ' FROM ' || schema.name
    FROM sqlite_schema AS schema, pragma_table_info(schema.name) AS columns
    WHERE schema.type = 'table' AND columns.name != 'id'
    GROUP BY schema.name HAVING max(columns.name = 'seal')
"""
