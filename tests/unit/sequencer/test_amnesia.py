"""Whether everything that was signed is remembered."""

import pytest

from lockstep.errors import Malformed
from lockstep.header import Tip
from lockstep.types import HeaderHash, Height
from sequencer.amnesia import (
    LastSigned,
    decode_last_signed,
    encode_last_signed,
    find_loss,
    find_loss_against_log,
)
from tests.unit.sequencer.chain import CHAIN, START

A, B, C = (HeaderHash(bytes([number]) * 32) for number in (1, 2, 3))


def tip(height: int, hashed: HeaderHash) -> Tip:
    return Tip(CHAIN, Height(height), hashed, 0)


@pytest.mark.parametrize(
    ("signed", "end", "parent_hash", "reason"),
    [
        (LastSigned(Height(0), START.hash), START, START.hash, None),
        (LastSigned(Height(0), START.hash), tip(1, A), START.hash, None),
        (LastSigned(Height(4), A), tip(4, A), C, None),
        (LastSigned(Height(4), A), tip(5, B), A, None),
        (LastSigned(Height(4), A), tip(3, B), C, "block 4 was signed, the database ends at 3"),
        (LastSigned(Height(4), A), START, START.hash, "ends at 0"),
        (LastSigned(Height(4), A), tip(4, B), C, "another block 4"),
        (LastSigned(Height(4), A), tip(5, B), C, "another block 4"),
        (LastSigned(Height(4), A), tip(6, B), C, "ends at block 6"),
        (LastSigned(Height(0), START.hash), tip(2, B), A, "ends at block 2"),
    ],
)
def test_the_database_against_the_record(
    signed: LastSigned, end: Tip, parent_hash: HeaderHash, reason: str | None
) -> None:
    loss = find_loss(signed, end, parent_hash)
    assert (loss is None) == (reason is None)
    assert loss is None or (reason is not None and reason in loss.reason)


@pytest.mark.parametrize(
    ("anchored", "end", "own_hash", "reason"),
    [
        (LastSigned(Height(0), START.hash), START, None, None),
        (LastSigned(Height(0), START.hash), tip(9, A), None, None),
        (LastSigned(Height(9), A), tip(9, A), A, None),
        (LastSigned(Height(8), B), tip(9, A), B, None),
        (LastSigned(Height(8), B), tip(9, A), None, None),
        (LastSigned(Height(9), A), tip(8, B), None, "holds header 9, the database ends at 8"),
        (LastSigned(Height(8), C), tip(9, A), B, "another header 8"),
    ],
)
def test_the_chain_against_the_log(
    anchored: LastSigned, end: Tip, own_hash: HeaderHash | None, reason: str | None
) -> None:
    loss = find_loss_against_log(anchored, end, own_hash)
    assert (loss is None) == (reason is None)
    assert loss is None or (reason is not None and reason in loss.reason)


def test_the_record_is_strict() -> None:
    encoded = encode_last_signed(LastSigned(Height(7), A))
    assert decode_last_signed(encoded) == LastSigned(Height(7), A)
    for broken in (encoded[:-1], encoded + b"x", b""):
        with pytest.raises(Malformed):
            decode_last_signed(broken)
