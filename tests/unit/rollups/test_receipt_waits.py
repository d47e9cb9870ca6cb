"""Who waits for a receipt is woken by it and by no other."""

from lockstep.receipts import (
    ReceiptCode,
    TransactionReceipt,
    UnbackedReceipt,
    encode_receipt,
)
from lockstep.types import PublicKey, SwapId, TransactionId
from rollups.receipt_waits import NO_LEG, Awaited, ReceiptWaits

SUBJECT = bytes(range(32))
OF_TRANSACTION = encode_receipt(
    TransactionReceipt(7, 0, TransactionId(SUBJECT), ReceiptCode.OK, PublicKey(bytes(32)), 1)
)
OF_LEG_1 = encode_receipt(UnbackedReceipt(7, 0, SwapId(SUBJECT), 1))
ALL: tuple[Awaited, ...] = ((SUBJECT, NO_LEG), (SUBJECT, 0), (SUBJECT, 1), (bytes(32), NO_LEG), 4, 5, 6)


def woken_by(first_index: int, *receipts: bytes) -> set[Awaited]:
    """Return which of `ALL` are woken when these receipts are published."""
    waits = ReceiptWaits()
    found = set()
    for awaited in ALL:
        with waits.of(awaited) as woken, waits.of(awaited) as too:
            waits.publish(first_index, receipts)
            assert woken.is_set() == too.is_set()
            if woken.is_set():
                found.add(awaited)
    return found


def test_a_receipt_wakes_who_waits_for_its_subject_or_its_index() -> None:
    assert woken_by(4, OF_TRANSACTION) == {(SUBJECT, NO_LEG), 4}
    assert woken_by(4, OF_LEG_1) == {(SUBJECT, 1), 4}
    assert woken_by(5, OF_TRANSACTION, OF_LEG_1) == {(SUBJECT, NO_LEG), (SUBJECT, 1), 5, 6}
    assert woken_by(0) == set()


def test_all_can_be_woken_and_who_left_is_not() -> None:
    waits = ReceiptWaits()
    with waits.of(3) as left:
        pass
    with waits.of(3) as one, waits.of((SUBJECT, 0)) as another:
        waits.wake_all()
        assert one.is_set()
        assert another.is_set()
    waits.publish(3, [OF_TRANSACTION])
    assert not left.is_set()
