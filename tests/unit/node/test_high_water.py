"""A database with fewer transactions than there were is noticed; a number that is damaged says nothing."""

from pathlib import Path

import pytest

from deploy.node.failures import DataRefused
from deploy.node.high_water import read_number, verify_newest, write_number


def test_a_database_that_lost_its_newest_transactions_is_refused(tmp_path: Path) -> None:
    told = tmp_path / "commits"
    verify_newest(told, 0, repair="do this")
    write_number(told, 6)
    write_number(told, 7)
    verify_newest(told, 7, repair="do this")
    # After a power cut the file may be behind.
    verify_newest(told, 8, repair="do this")
    with pytest.raises(DataRefused, match=r"had 7 transactions and has 6.*; do this"):
        verify_newest(told, 6, repair="do this")


def test_a_damaged_number_is_none(tmp_path: Path) -> None:
    told = tmp_path / "commits"
    write_number(told, 7)
    whole = told.read_bytes()
    for place in range(len(whole)):
        told.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read_number(told) == 0
    told.write_bytes(whole[:9])
    assert read_number(told) == 0
