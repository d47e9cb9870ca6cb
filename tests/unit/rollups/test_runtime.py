"""The envelope of transactions, the table of seen ids, and the order of work in a block."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest

from lockstep.commitment import seen_hash, seen_key
from lockstep.genesis import Modules, RollupDefinition, encode_rollup_definition
from lockstep.hashing import SIGN_TRANSACTION
from lockstep.merkle import Frontier
from lockstep.order import transaction_hash
from lockstep.receipts import Receipt, ReceiptCode, TransactionReceipt, encode_receipt, receipt_leaf_hash
from lockstep.register import SwapRecord
from lockstep.registry_entries import RegisterRollup, RegistryChange, sign_change
from lockstep.transactions import Call, Lock, Method, Transfer, decode_transaction, sign_transaction
from lockstep.types import REGISTRY_NAMESPACE, ChainId, Height, PublicKey, RollupId, SwapId, TransactionId
from rollups.modules.bank import balance_of
from rollups.modules.module import Context, Failed, Handler
from rollups.runtime import NOBODY, apply_block, block_of
from rollups.state import Overlay, map_of
from tests.unit.rollups.chain import (
    ALPHA,
    ANN,
    BETA,
    BOB,
    CARL,
    Chain,
    Replica,
    key,
    make_genesis,
    make_swap,
    rollup,
)

PAY = Transfer(b"gold", CARL.public_key, 1)


class One:
    """A chain with a replica of alpha."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.alpha = Replica(self.chain.genesis)

    def send(self, *payloads: bytes, advance_ms: int = 100) -> list[TransactionReceipt]:
        before = len(self.alpha.receipts)
        self.alpha.apply(self.chain.block(*((ALPHA, each) for each in payloads), advance_ms=advance_ms))
        return [each for each in self.alpha.receipts[before:] if isinstance(each, TransactionReceipt)]

    def code(self, payload: bytes, advance_ms: int = 100) -> ReceiptCode:
        [receipt] = self.send(payload, advance_ms=advance_ms)
        return receipt.code

    def payment(self, *, window_ms: int = 30_000, signer: str = "ann", **fields: object) -> bytes:
        self.chain.salts += 1
        arguments: dict[str, object] = {
            "chain": self.chain.genesis.chain_id,
            "rollup": ALPHA,
            "valid_until_ms": self.chain.time_ms + window_ms,
            "salt": self.chain.salts.to_bytes(16, "big"),
            "call": PAY,
            **fields,
        }
        return sign_transaction(key(signer), **arguments)  # type: ignore[arg-type]

    @property
    def paid(self) -> int:
        return balance_of(self.alpha.memory, b"gold", CARL.public_key)


def spoiled(payload: bytes, place: int) -> bytes:
    return payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]


# --- the envelope -----------------------------------------------------------------------------------------


def test_a_good_one_acts_and_says_who_and_what() -> None:
    one = One()
    payment = one.payment()
    [receipt] = one.send(payment)
    assert receipt == TransactionReceipt(
        1, 0, decode_transaction(payment).id, ReceiptCode.OK, ANN.public_key, 0x0101
    )
    assert one.paid == 1


@pytest.mark.parametrize("payload", [b"x", b"\x02" * 63, b"\x02" * 200])
def test_bytes_that_do_not_decode(payload: bytes) -> None:
    one = One()
    [receipt] = one.send(payload)
    subject = TransactionId(transaction_hash(ALPHA, payload))
    assert receipt == TransactionReceipt(1, 0, subject, ReceiptCode.MALFORMED, PublicKey(bytes(32)), 0)


def test_another_chain() -> None:
    one = One()
    assert one.code(one.payment(chain=ChainId(bytes(32)))) == ReceiptCode.WRONG_CHAIN


def test_another_rollup() -> None:
    one = One()
    assert one.code(one.payment(rollup=BETA)) == ReceiptCode.WRONG_ROLLUP


@pytest.mark.parametrize(
    ("window_ms", "code"),
    [
        (99, ReceiptCode.EXPIRED),
        (100, ReceiptCode.EXPIRED),
        (101, ReceiptCode.OK),
        (600_100, ReceiptCode.OK),
        (600_101, ReceiptCode.TOO_FAR_AHEAD),
    ],
)
def test_the_window_is_judged_at_the_block(window_ms: int, code: ReceiptCode) -> None:
    one = One()
    assert one.code(one.payment(window_ms=window_ms), advance_ms=100) == code


@pytest.mark.parametrize("place", [0, 63, -1])
def test_a_spoiled_signature_or_body(place: int) -> None:
    one = One()
    payment = one.payment()
    copy = spoiled(payment, place % len(payment))
    [receipt] = one.send(copy)
    assert isinstance(receipt, TransactionReceipt)
    assert receipt.code == ReceiptCode.BAD_SIGNATURE
    assert receipt.subject == TransactionId(transaction_hash(ALPHA, copy)), (
        "it does not answer for what it was made of"
    )
    assert receipt.signer == NOBODY
    assert one.code(payment) == ReceiptCode.OK, "a spoiled copy does not burn it"


def test_an_unknown_method() -> None:
    one = One()
    payload = unknown_method(one)
    assert one.code(payload) == ReceiptCode.UNKNOWN_METHOD
    assert one.code(payload) == ReceiptCode.DUPLICATE


def test_bad_arguments() -> None:
    one = One()
    payload = resigned(one.payment(), lambda body: body + b"\x00")
    assert one.code(payload) == ReceiptCode.MALFORMED
    assert one.code(payload) == ReceiptCode.DUPLICATE


def test_faults_are_told_in_the_documented_order() -> None:
    """Each payload has all faults from some point on; the first one counts."""
    one = One()
    good = one.payment()
    one.code(good)
    other_chain = ChainId(bytes(32))
    in_order = [
        (one.payment(chain=other_chain, rollup=BETA, window_ms=1)[:70], ReceiptCode.MALFORMED),
        (spoiled(one.payment(chain=other_chain, rollup=BETA, window_ms=1), 0), ReceiptCode.WRONG_CHAIN),
        (spoiled(one.payment(rollup=BETA, window_ms=1), 0), ReceiptCode.WRONG_ROLLUP),
        (spoiled(one.payment(window_ms=1), 0), ReceiptCode.EXPIRED),
        (spoiled(one.payment(window_ms=700_000), 0), ReceiptCode.TOO_FAR_AHEAD),
        (spoiled(good, 0), ReceiptCode.BAD_SIGNATURE),
        (good, ReceiptCode.DUPLICATE),
    ]
    receipts = one.send(*(payload for payload, _ in in_order))
    assert [each.code for each in receipts] == [code for _, code in in_order]


def resigned(payload: bytes, change: Callable[[bytes], bytes]) -> bytes:
    body = change(payload[64:])
    return ANN.sign(SIGN_TRANSACTION, body) + body


def unknown_method(one: One) -> bytes:
    payload = one.payment()
    arguments = decode_transaction(payload).arguments
    return resigned(payload, lambda body: body[: -len(arguments) - 2] + b"\x7f\x01" + arguments)


# --- seen ids ---------------------------------------------------------------------------------------------


def test_a_transaction_acts_once() -> None:
    one = One()
    payment = one.payment()
    assert [each.code for each in one.send(payment, payment)] == [ReceiptCode.OK, ReceiptCode.DUPLICATE]
    assert one.code(payment) == ReceiptCode.DUPLICATE
    assert one.paid == 1


def test_a_failing_one_is_a_duplicate_afterwards() -> None:
    one = One()
    payment = one.payment(call=Transfer(b"gold", CARL.public_key, 5_000))
    assert one.code(payment) == ReceiptCode.INSUFFICIENT_FUNDS
    assert one.code(payment) == ReceiptCode.DUPLICATE


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"window_ms": 1}, ReceiptCode.EXPIRED),
        ({"window_ms": 700_000}, ReceiptCode.TOO_FAR_AHEAD),
        ({"rollup": BETA}, ReceiptCode.WRONG_ROLLUP),
        ({"call": Lock(SwapId(bytes(32)), 0)}, ReceiptCode.NO_OPEN_SWAP),
    ],
)
def test_what_is_not_remembered(fields: dict[str, object], code: ReceiptCode) -> None:
    one = One()
    payment = one.payment(**fields)  # type: ignore[arg-type]
    assert [each.code for each in one.send(payment, payment)] == [code, code]
    assert not one.alpha.memory.seen


def test_ids_stand_under_the_root_as_one_leaf_per_second() -> None:
    one = One()
    # Log time is 1,000,000: windows of 30,000 and 30,999 end in one second, 31,000 in the next.
    payments = [one.payment(window_ms=window_ms) for window_ms in (30_000, 30_999, 31_000)]
    one.send(*payments)
    ids = [decode_transaction(each).id for each in payments]
    assert one.alpha.memory.get(seen_key(1_030)) == seen_hash(seen_hash(None, ids[0]), ids[1])
    assert one.alpha.memory.get(seen_key(1_031)) == seen_hash(None, ids[2])
    assert one.alpha.memory.seen == {1_030: {ids[0], ids[1]}, 1_031: {ids[2]}}


def test_a_second_is_forgotten_when_it_is_over() -> None:
    one = One()
    one.send(one.payment(window_ms=2_500), one.payment(window_ms=3_500))
    one.send(advance_ms=1_900)
    one.send(advance_ms=999)
    assert one.chain.time_ms == 1_002_999
    assert set(one.alpha.memory.seen) == {1_002, 1_003}
    one.send(advance_ms=1)
    assert set(one.alpha.memory.seen) == {1_003}
    assert one.alpha.memory.get(seen_key(1_002)) is None
    one.send(advance_ms=2_000)
    assert not one.alpha.memory.seen


def test_an_id_is_remembered_to_the_last_millisecond_of_its_window() -> None:
    one = One()
    payment = one.payment(window_ms=2_001)
    assert one.code(payment) == ReceiptCode.OK
    assert one.code(payment, advance_ms=1_900) == ReceiptCode.DUPLICATE
    assert one.code(payment, advance_ms=1) == ReceiptCode.EXPIRED


# --- what commitments cover -------------------------------------------------------------------------------


def test_the_commitment_is_made_of_state_receipts_and_register() -> None:
    one = One()
    swap = make_swap(one.chain)
    lock = one.chain.signed(ANN, Lock(swap.id, 0))
    executed = one.alpha.apply(one.chain.block(swap.open, (ALPHA, lock), (ALPHA, b"junk")))
    commitment = executed.after.commitment
    leaves = [receipt_leaf_hash(encode_receipt(each)) for each in one.alpha.receipts]
    assert commitment.height == 1
    assert commitment.state_root == map_of(one.alpha.memory.values.items()).root
    assert commitment.receipts_root == Frontier().extend(leaves).root()
    assert commitment.receipt_count == 2
    assert commitment.register_root == executed.after.register.root


def test_every_block_has_another_commitment() -> None:
    one = One()
    commitments = [one.alpha.apply(one.chain.block()).after.commitment for _ in range(3)]
    assert all(left.register_root != right.register_root for left, right in pairwise(commitments))


def test_execution_leaves_what_it_was_given_as_it_was() -> None:
    one = One()
    before = (dict(one.alpha.memory.values), one.alpha.state.commitment)
    block = one.chain.block((ALPHA, one.payment()))
    first = apply_block(one.alpha.state, one.alpha.memory, block_of(block, ALPHA))
    again = apply_block(one.alpha.state, one.alpha.memory, block_of(block, ALPHA))
    assert (dict(one.alpha.memory.values), one.alpha.state.commitment) == before
    assert first.after.commitment == again.after.commitment != before[1]


# --- modules ----------------------------------------------------------------------------------------------


class Clumsy:
    """A module whose only call writes and then fails, or is refused with an effect that stays."""

    name = "clumsy"

    def __init__(self, ending: Failed | ReceiptCode) -> None:
        self.ending = ending

    @property
    def handlers(self) -> Mapping[Method, Handler]:
        return {Method.BANK_TRANSFER: self.call}

    def call(self, state: Overlay, context: Context, call: Call) -> ReceiptCode:
        state.put(b"clumsy", b"was here")
        if isinstance(self.ending, Failed):
            raise self.ending
        return self.ending

    def seed(self, state: Overlay) -> None:
        state.put(b"seeded", b"yes")

    def settle(self, state: Overlay, rollup: RollupId, record: SwapRecord) -> tuple[Receipt, ...]:
        return ()


@pytest.mark.parametrize(
    ("ending", "stays", "is_seen"),
    [
        (ReceiptCode.OK, True, True),
        (ReceiptCode.LOCK_REJECTED, True, True),
        (Failed(ReceiptCode.OVERFLOW), False, True),
        (Failed(ReceiptCode.NOT_THE_SENDER, is_remembered=False), False, False),
    ],
)
def test_a_call_takes_effect_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, ending: Failed | ReceiptCode, stays: bool, is_seen: bool
) -> None:
    monkeypatch.setattr("rollups.runtime.modules_of", lambda _: (Clumsy(ending),))
    one = One()
    one.alpha.plain = None
    assert one.alpha.memory.get(b"seeded") == b"yes"
    assert one.code(one.payment()) == (ending.code if isinstance(ending, Failed) else ending)
    assert (one.alpha.memory.get(b"clumsy") is not None) == stays
    assert bool(one.alpha.memory.seen) == is_seen


# --- composition ------------------------------------------------------------------------------------------


def test_a_rollup_without_a_module_has_not_its_methods() -> None:
    bank = rollup(ALPHA).modules.bank
    for modules, code in (
        (Modules(), ReceiptCode.UNKNOWN_METHOD),
        (Modules(bank), ReceiptCode.OK),
    ):
        definition = RollupDefinition(ALPHA, rollup(ALPHA).attesters, modules)
        chain = Chain(make_genesis(definition))
        alpha = Replica(chain.genesis)
        lock = chain.signed(ANN, Lock(SwapId(bytes(32)), 0))
        alpha.apply(chain.block((ALPHA, chain.signed(ANN, PAY)), (ALPHA, lock)))
        codes = [each.code for each in alpha.receipts if isinstance(each, TransactionReceipt)]
        assert codes == [code, ReceiptCode.UNKNOWN_METHOD]


def test_a_rollup_that_is_registered_later_starts_then() -> None:
    chain = Chain(make_genesis(rollup(BETA)))
    alpha = Replica(chain.genesis)
    action = RegisterRollup(encode_rollup_definition(rollup(ALPHA)))
    change = RegistryChange(chain.genesis.chain_id, "alpha", 1, Height(3), action)
    entry = sign_change(key("governance"), change)
    alpha.apply(chain.block((REGISTRY_NAMESPACE, entry), (ALPHA, chain.signed(ANN, PAY))))
    alpha.apply(chain.block())
    assert (alpha.state.definition, alpha.receipts) == (None, [])
    assert not alpha.memory.values
    alpha.apply(chain.block((ALPHA, chain.signed(ANN, PAY))))
    assert [each.code for each in alpha.receipts if isinstance(each, TransactionReceipt)] == [ReceiptCode.OK]
    assert balance_of(alpha.memory, b"gold", ANN.public_key) == 999
    alpha.apply(chain.block())
    assert balance_of(alpha.memory, b"gold", ANN.public_key) == 999, "it is seeded once"


def test_replicas_of_different_rollups_share_the_register_alone() -> None:
    chain = Chain()
    alpha, beta = Replica(chain.genesis, ALPHA), Replica(chain.genesis, BETA)
    block = chain.block((ALPHA, chain.signed(ANN, PAY)), (BETA, chain.signed(BOB, PAY, to=BETA)))
    left, right = alpha.apply(block).after.commitment, beta.apply(block).after.commitment
    assert left.register_root == right.register_root
    assert left.receipts_root != right.receipts_root
