"""Whether a database has its newest transactions: their number, told a second time in a file beside it.

A bit that flips in SQLite's log makes it drop the transactions from there on, without a word. So each writes
its number, and after it is durable a file gets the same. The file is not synced, which would cost as much as
the transaction: after a power cut it may tell a lower number, never a higher one.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Final

from deploy.node.failures import DataRefused, StorageFailed

_NUMBER_BYTES: Final = 8
_CHECKSUM_BYTES: Final = 16


def read_number(path: Path) -> int:
    """Return the number that a file tells; 0 if there is none, or if it is none."""
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        return 0
    number = contents[:_NUMBER_BYTES]
    return int.from_bytes(number, "big") if contents[_NUMBER_BYTES:] == _checksum(number) else 0


def write_number(path: Path, number: int) -> None:
    """Tell a number, without a sync. Raises StorageFailed."""
    encoded = number.to_bytes(_NUMBER_BYTES, "big")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, encoded + _checksum(encoded), 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageFailed(f"{path} could not be written: {error}; mend the disk and restart") from error


def verify_newest(path: Path, number: int, *, repair: str) -> None:
    """Check that a database with `number` transactions has all that the file at `path` tells of.

    Raises DataRefused, which ends with `repair`.
    """
    told = read_number(path)
    if told > number:
        raise DataRefused(
            f"the database had {told} transactions and has {number}: its log is damaged, or it is an older "
            f"copy than {path.name}; {repair}"
        )


def _checksum(number: bytes) -> bytes:
    return blake2b(number, digest_size=_CHECKSUM_BYTES).digest()
