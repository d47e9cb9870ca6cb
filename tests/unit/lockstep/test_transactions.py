"""Transactions of rollups: signed over their very bytes, named by all of them but the signature."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.hashing import SIGN_TRANSACTION
from lockstep.signing import SigningKey
from lockstep.transactions import (
    Call,
    Faucet,
    Lock,
    Method,
    RollupTransaction,
    Transfer,
    decode_call,
    decode_transaction,
    encode_arguments,
    encode_transaction,
    is_signed,
    sign_transaction,
    transaction_id,
)
from lockstep.types import ChainId, PublicKey, RollupId, SwapId
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_swaps
from tests.vectors.generate_registry import key_of
from tests.vectors.generate_swaps import raw_transaction
from tests.vectors.plain import plain

VECTORS: dict[str, Any] = json.loads((Path(generate_swaps.__file__).parent / "transactions.json").read_text())

KEY, STRANGER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
CHAIN, ALPHA, SALT = ChainId(b"\x07" * 32), RollupId("alpha"), bytes(range(16))

hashes = st.binary(min_size=32, max_size=32)
assets = st.binary(min_size=1, max_size=32)
amounts = st.integers(0, 2**128 - 1)
calls: st.SearchStrategy[Call] = st.one_of(
    st.builds(Transfer, assets, hashes.map(PublicKey), amounts, st.binary(max_size=64)),
    st.builds(Faucet, assets, amounts),
    st.builds(Lock, hashes.map(SwapId), st.integers(0, 255)),
)
METHODS = {Transfer: Method.BANK_TRANSFER, Faucet: Method.BANK_FAUCET, Lock: Method.ESCROW_LOCK}

TRANSFER = Transfer(b"gold", STRANGER.public_key, 5, b"for bread")
FAUCET = Faucet(b"gold", 5)
LOCK = Lock(SwapId(bytes(32)), 3)


def sign(**changes: Any) -> bytes:  # noqa: ANN401 - arguments of sign_transaction
    stated: dict[str, Any] = {
        "chain": CHAIN,
        "rollup": ALPHA,
        "valid_until_ms": 30_000,
        "salt": SALT,
        "call": TRANSFER,
    }
    return sign_transaction(KEY, **(stated | changes))


# --- the envelope -------------------------------------------------------------------------------------------


@given(
    hashes.map(ChainId),
    st.from_regex(r"\A[a-z0-9-]{1,32}\Z").map(RollupId),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=16, max_size=16),
    calls,
)
def test_what_was_signed_is_what_is_read(
    chain: ChainId, rollup: RollupId, valid_until_ms: int, salt: bytes, call: Call
) -> None:
    payload = sign_transaction(
        KEY, chain=chain, rollup=rollup, valid_until_ms=valid_until_ms, salt=salt, call=call
    )
    transaction = decode_transaction(payload)
    assert transaction == RollupTransaction(
        id=transaction_id(payload[64:]),
        signature=transaction.signature,
        body=payload[64:],
        chain=chain,
        rollup=rollup,
        signer=KEY.public_key,
        valid_until_ms=valid_until_ms,
        salt=salt,
        method=METHODS[type(call)],
        arguments=encode_arguments(call),
    )
    assert transaction.signature + transaction.body == encode_transaction(transaction) == payload
    assert is_signed(transaction)
    assert transaction.id == sha256(b"lockstep/v1/rollup-transaction\x00" + payload[64:]).digest()
    assert decode_call(Method(transaction.method), transaction.arguments) == call


def test_the_codec_is_strict_up_to_the_arguments() -> None:
    payload = sign()
    assert_strict(payload, decode=decode_transaction, encode=encode_transaction, has_rest=True)
    fixed = len(payload) - len(decode_transaction(payload).arguments)
    assert decode_transaction(payload[:fixed]).arguments == b""
    for length in range(fixed):
        with pytest.raises(Malformed):
            decode_transaction(payload[:length])


@given(st.data())
def test_any_change_of_a_byte_is_refused_or_not_signed(data: st.DataObject) -> None:
    payload = bytearray(sign())
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] ^= data.draw(st.integers(1, 255))
    try:
        transaction = decode_transaction(bytes(payload))
    except Malformed:
        assert position >= 64
        return
    assert not is_signed(transaction)
    assert (transaction.id == decode_transaction(sign()).id) == (position < 64)


@given(st.binary(max_size=300))
def test_any_bytes_are_answered(payload: bytes) -> None:
    try:
        transaction = decode_transaction(payload)
    except Malformed:
        return
    assert encode_transaction(transaction) == payload


def test_the_same_intent_has_the_same_bytes() -> None:
    assert sign() == sign()
    assert len({sign(), sign(salt=bytes(16)), sign(call=LOCK), sign(rollup=RollupId("beta"))}) == 4


def test_a_transaction_is_not_signed_in_anothers_name() -> None:
    transaction = decode_transaction(sign())
    assert is_signed(transaction)
    assert not is_signed(replace(transaction, signer=STRANGER.public_key))
    assert not is_signed(replace(transaction, signature=STRANGER.sign(SIGN_TRANSACTION, transaction.body)))
    assert not is_signed(replace(transaction, signature=KEY.sign_raw(transaction.body)))


@pytest.mark.parametrize(
    "changes",
    [
        {"rollup": RollupId("")},
        {"rollup": RollupId("Alpha")},
        {"rollup": RollupId("_swap")},
        {"rollup": RollupId("Ω")},
        {"rollup": RollupId("a" * 33)},
        {"rollup": RollupId("a" * 300)},
        {"chain": ChainId(bytes(31))},
        {"chain": ChainId(bytes(33))},
        {"salt": bytes(15)},
        {"salt": bytes(17)},
        {"salt": bytes(17), "chain": ChainId(bytes(31))},
        {"valid_until_ms": -1},
        {"valid_until_ms": 2**64},
    ],
)
def test_what_no_rollup_could_read_is_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        sign(**changes)


# --- calls --------------------------------------------------------------------------------------------------


@given(calls)
def test_a_call_has_one_encoding(call: Call) -> None:
    method = METHODS[type(call)]
    arguments = encode_arguments(call)
    assert decode_call(method, arguments) == call
    assert_strict(arguments, decode=lambda encoded: decode_call(method, encoded), encode=encode_arguments)


@given(st.sampled_from(Method), st.binary(max_size=120))
def test_any_arguments_are_answered(method: Method, arguments: bytes) -> None:
    try:
        call = decode_call(method, arguments)
    except Malformed:
        return
    assert encode_arguments(call) == arguments


@pytest.mark.parametrize(
    "call",
    [
        replace(TRANSFER, asset=b"a"),
        replace(TRANSFER, asset=b"a" * 32),
        replace(TRANSFER, amount=0),
        replace(TRANSFER, amount=limits.AMOUNT_MAX),
        replace(TRANSFER, memo=b""),
        replace(TRANSFER, memo=b"m" * 64),
        replace(FAUCET, asset=b"a" * 32),
        replace(FAUCET, amount=limits.AMOUNT_MAX),
        replace(LOCK, leg=0),
        replace(LOCK, leg=255),
    ],
)
def test_a_call_up_to_its_bounds_encodes(call: Call) -> None:
    assert decode_call(METHODS[type(call)], encode_arguments(call)) == call


@pytest.mark.parametrize(
    "call",
    [
        replace(TRANSFER, asset=b""),
        replace(TRANSFER, asset=b"a" * 33),
        replace(TRANSFER, asset=b"a" * 300),
        replace(TRANSFER, amount=-1),
        replace(TRANSFER, amount=limits.AMOUNT_MAX + 1),
        replace(TRANSFER, memo=b"m" * 65),
        replace(TRANSFER, memo=b"m" * 300),
        replace(TRANSFER, recipient=PublicKey(bytes(31))),
        replace(FAUCET, asset=b""),
        replace(FAUCET, asset=b"a" * 33),
        replace(FAUCET, amount=limits.AMOUNT_MAX + 1),
        replace(LOCK, leg=-1),
        replace(LOCK, leg=256),
        replace(LOCK, swap_id=SwapId(bytes(31))),
    ],
)
def test_a_call_beyond_its_bounds_does_not_encode(call: Call) -> None:
    with pytest.raises(Malformed):
        encode_arguments(call)
    with pytest.raises(Malformed):
        sign(call=call)


def test_methods_are_those_of_the_specification() -> None:
    assert {each.name: each.value for each in Method} == {
        "BANK_TRANSFER": 0x0101,
        "BANK_FAUCET": 0x0102,
        "ESCROW_LOCK": 0x0201,
    }


# --- vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["transactions"], ids=lambda case: case["why"])
def test_transaction_vectors(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_transaction(payload)
        return
    transaction = decode_transaction(payload)
    fields = plain(transaction)
    assert {name: fields[name] for name in fields if name not in ("id", "body")} == case["fields"]
    assert transaction.id.hex() == case["id"]
    assert encode_transaction(transaction) == payload
    assert is_signed(transaction) == case["signed"]


@pytest.mark.parametrize("case", VECTORS["calls"], ids=lambda case: case["why"])
def test_call_vectors(case: dict[str, Any]) -> None:
    method, arguments = Method(case["method"]), bytes.fromhex(case["arguments"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_call(method, arguments)
        return
    call = decode_call(method, arguments)
    assert method.name == case["name"]
    assert plain(call) == case["fields"]
    assert encode_arguments(call) == arguments


def test_our_signer_makes_what_the_specification_says() -> None:
    signed = sign_transaction(
        key_of("alice"),
        chain=generate_swaps.CHAIN,
        rollup=ALPHA,
        valid_until_ms=generate_swaps.LOCK_BY_MS,
        salt=generate_swaps.SALT,
        call=Lock(SwapId(b"\x01" * 32), 0),
    )
    assert signed == raw_transaction()
