"""The trader's own half: terms, preimages and signatures that come out the same again."""

from hashlib import sha256

import pytest

from bridge.client import Trader
from lockstep.errors import Malformed
from lockstep.signing import SigningKey
from lockstep.swap_entries import Cancel, decode_swap_entry
from lockstep.terms import decode_terms, swap_id_of
from lockstep.transactions import (
    Faucet,
    Lock,
    Method,
    Transfer,
    decode_call,
    decode_transaction,
    is_signed,
)
from tests.unit.bridge.chain import ANN, BOB, CHAIN, GENESIS, TIME_MS, locks_of, make_terms

TERMS = make_terms()


def test_preimages_come_back_from_key_and_terms_alone() -> None:
    again = Trader(SigningKey(bytes([11]) * 32), GENESIS)
    preimage = again.preimage(TERMS)
    assert preimage == ANN.preimage(TERMS)
    assert sha256(preimage.reveal()).digest() == decode_terms(TERMS).hashlock
    assert preimage.reveal().hex() == "63891a3341e3f41416211ec971a5f57776f322b4f6a8539e7d94e37ed30c79a7"


def test_preimages_differ_by_salt_key_and_chain() -> None:
    preimages = {ANN.preimage(make_terms(number)).reveal() for number in range(5)}
    assert len(preimages) == 5
    with pytest.raises(ValueError, match="did not make"):
        BOB.preimage(TERMS)


def test_new_terms_have_fresh_salts() -> None:
    legs = decode_terms(TERMS).legs
    first, second = (ANN.new_terms(legs, time_ms=TIME_MS) for _ in range(2))
    assert decode_terms(first).salt != decode_terms(second).salt
    assert decode_terms(first).hashlock != decode_terms(second).hashlock
    assert decode_terms(first).revealer == ANN.account
    assert ANN.preimage(first) != ANN.preimage(second)
    with pytest.raises(Malformed):
        ANN.new_terms(legs, time_ms=TIME_MS, reveal_within_ms=4_999)


def test_locks_are_the_same_when_signed_again() -> None:
    assert locks_of(TERMS) == locks_of(TERMS)
    first, second = map(decode_transaction, locks_of(TERMS))
    assert (first.rollup, second.rollup) == ("alpha", "beta")
    assert is_signed(first)
    assert first.valid_until_ms == decode_terms(TERMS).lock_by_ms
    assert decode_call(Method.ESCROW_LOCK, second.arguments) == Lock(swap_id_of(TERMS), 1)
    assert decode_transaction(ANN.sign_lock(TERMS, 0, valid_until_ms=7)).id != first.id


@pytest.mark.parametrize("leg", [1, 2, -1])
def test_only_ones_own_legs_are_locked(leg: int) -> None:
    with pytest.raises(ValueError, match="not given by this trader"):
        ANN.sign_lock(TERMS, leg)
    assert (ANN.legs_to_lock(TERMS), BOB.legs_to_lock(TERMS)) == ((0,), (1,))


def test_payments_repeat_with_their_salt_alone() -> None:
    def pay(salt: bytes | None) -> bytes:
        return ANN.sign_transfer(
            "alpha", asset="RED", recipient=BOB.account, amount=5, valid_until_ms=9, memo=b"m", salt=salt
        )

    assert pay(bytes(16)) == pay(bytes(16))
    assert pay(None) != pay(None)
    paid = decode_transaction(pay(bytes(16)))
    assert (paid.chain, paid.signer, paid.valid_until_ms) == (CHAIN, ANN.account, 9)
    assert decode_call(Method.BANK_TRANSFER, paid.arguments) == Transfer(b"RED", BOB.account, 5, b"m")
    made = decode_transaction(ANN.sign_faucet("beta", asset="BLUE", amount=3, valid_until_ms=9))
    assert decode_call(Method.BANK_FAUCET, made.arguments) == Faucet(b"BLUE", 3)
    assert is_signed(made)


def test_cancellations() -> None:
    entry = decode_swap_entry(ANN.sign_cancel(swap_id_of(TERMS)))
    assert isinstance(entry, Cancel)
    assert (entry.chain, entry.swap_id) == (CHAIN, swap_id_of(TERMS))
