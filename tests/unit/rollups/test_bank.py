"""The bank: transfers and faucets, each rule valid and invalid, through the runtime as blocks bring them."""

import pytest

from lockstep.commitment import balance_key, supply_key
from lockstep.receipts import ReceiptCode, TransactionReceipt
from lockstep.transactions import Call, Faucet, Transfer
from lockstep.types import PublicKey
from rollups.modules.bank import balance_of
from rollups.state import amount_at
from tests.unit.rollups.chain import ALPHA, ANN, BOB, CARL, Chain, Replica

ANYBODY = PublicKey(b"\x07" * 32)
MOST = 2**128 - 1


def execute(call: Call, *, by: object = ANN) -> tuple[Replica, ReceiptCode]:
    chain = Chain()
    alpha = Replica(chain.genesis)
    alpha.apply(chain.block((ALPHA, chain.signed(by, call))))  # type: ignore[arg-type]
    [receipt] = alpha.receipts
    assert isinstance(receipt, TransactionReceipt)
    return alpha, receipt.code


def test_genesis_gives_out_what_it_allocates() -> None:
    alpha = Replica(Chain().genesis)
    assert balance_of(alpha.memory, b"gold", ANN.public_key) == 1_000
    assert balance_of(alpha.memory, b"gold", CARL.public_key) == 0
    assert amount_at(alpha.memory, supply_key(b"gold")) == 2_000
    assert amount_at(alpha.memory, supply_key(b"vast")) == MOST
    assert alpha.memory.get(supply_key(b"free")) is None


def test_a_transfer_moves_base_units() -> None:
    alpha, code = execute(Transfer(b"gold", ANYBODY, 300, b"memo"))
    assert code == ReceiptCode.OK
    assert balance_of(alpha.memory, b"gold", ANN.public_key) == 700
    assert balance_of(alpha.memory, b"gold", ANYBODY) == 300
    assert amount_at(alpha.memory, supply_key(b"gold")) == 2_000


def test_a_transfer_of_everything_leaves_no_key() -> None:
    alpha, code = execute(Transfer(b"gold", BOB.public_key, 1_000))
    assert code == ReceiptCode.OK
    assert alpha.memory.get(balance_key(b"gold", ANN.public_key)) is None
    assert balance_of(alpha.memory, b"gold", BOB.public_key) == 2_000


@pytest.mark.parametrize("amount", [1, 1_000])
def test_a_transfer_to_oneself_changes_no_balance(amount: int) -> None:
    alpha, code = execute(Transfer(b"gold", ANN.public_key, amount))
    assert code == ReceiptCode.OK
    assert balance_of(alpha.memory, b"gold", ANN.public_key) == 1_000


def test_the_largest_amount_moves_and_comes_back() -> None:
    alpha, code = execute(Transfer(b"vast", ANYBODY, MOST), by=CARL)
    assert code == ReceiptCode.OK
    assert balance_of(alpha.memory, b"vast", ANYBODY) == MOST


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (Transfer(b"silver", ANYBODY, 0), ReceiptCode.UNKNOWN_ASSET),
        (Transfer(b"gold", ANYBODY, 0), ReceiptCode.AMOUNT_ZERO),
        (Transfer(b"gold", ANYBODY, 1_001), ReceiptCode.INSUFFICIENT_FUNDS),
        (Transfer(b"gold", ANN.public_key, 1_001), ReceiptCode.INSUFFICIENT_FUNDS),
        (Transfer(b"free", ANYBODY, 1), ReceiptCode.INSUFFICIENT_FUNDS),
        (Faucet(b"silver", 0), ReceiptCode.UNKNOWN_ASSET),
        (Faucet(b"gold", 0), ReceiptCode.AMOUNT_ZERO),
        (Faucet(b"gold", 1), ReceiptCode.FAUCET_FORBIDDEN),
        (Faucet(b"free", 501), ReceiptCode.FAUCET_LIMIT),
        (Faucet(b"vast", 1), ReceiptCode.OVERFLOW),
    ],
)
def test_what_fails_changes_nothing(call: Call, code: ReceiptCode) -> None:
    alpha, found = execute(call)
    assert found == code
    untouched = Replica(Chain().genesis)
    values = {key: value for key, value in alpha.memory.values.items() if key[0] != 4}
    assert values == untouched.memory.values, "all but the table of seen ids is as before"


def test_a_faucet_creates_for_its_signer() -> None:
    alpha, code = execute(Faucet(b"free", 500), by=CARL)
    assert code == ReceiptCode.OK
    assert balance_of(alpha.memory, b"free", CARL.public_key) == 500
    assert amount_at(alpha.memory, supply_key(b"free")) == 500
