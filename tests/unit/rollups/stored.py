"""What a node's database has of the state, put together without the code that reads it lazily."""

import sqlite3
from contextlib import closing
from pathlib import Path

from rollups.recent import READ_RECENT, decode_changes
from rollups.state import MemoryState
from rollups.stored_state import StoredState


def values_in(path: Path) -> dict[bytes, bytes]:
    """Return every key with its value, ascending, of the database in a file."""
    with closing(sqlite3.connect(path)) as database:
        values: dict[bytes, bytes] = dict(database.execute("SELECT key, value FROM state"))
        for _, changes, _ in database.execute(READ_RECENT, (-1, 100_000)):
            for _, key, value in decode_changes(changes):
                if value is None:
                    values.pop(key, None)
                else:
                    values[key] = value
    return dict(sorted(values.items()))


def verify_same(stored: StoredState, whole: MemoryState) -> None:
    """Insist that a state says what another does. That it has no more, equal roots say."""
    assert {key: stored.get(key) for key in whole.values} == whole.values
    assert stored.seen == whole.seen
