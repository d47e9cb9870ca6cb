"""Commitments, the keys of the state, and escrow records."""

import json
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.commitment import (
    LOCKED,
    REJECTED,
    Commitment,
    EscrowRecord,
    balance_key,
    commitment_hash,
    decode_commitment,
    decode_escrow_record,
    encode_commitment,
    encode_escrow_record,
    escrow_key,
    open_locks_key,
    seen_hash,
    seen_key,
    supply_key,
)
from lockstep.errors import Malformed
from lockstep.types import PublicKey, RollupId, SwapId, TransactionId
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_registry

VECTORS: dict[str, Any] = json.loads(
    (Path(generate_registry.__file__).parent / "commitment.json").read_text()
)

hashes = st.binary(min_size=32, max_size=32)
accounts = hashes.map(PublicKey)
assets = st.binary(min_size=1, max_size=32)
u32s, u64s = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@st.composite
def escrow_records(draw: st.DrawFn) -> EscrowRecord:
    reason = draw(st.integers(0, 255))
    amount = draw(st.integers(1, 2**128 - 1)) if reason == 0 else 0
    return EscrowRecord(
        verdict=REJECTED if reason else LOCKED,
        reason=reason,
        opened_height=draw(u64s),
        opened_index=draw(u32s),
        asset=draw(assets),
        sender=draw(accounts),
        amount=amount,
        premium=draw(st.integers(0, 2**128 - 1 - amount)) if reason == 0 else 0,
    )


@given(escrow_records())
def test_an_escrow_record_has_one_encoding(record: EscrowRecord) -> None:
    encoded = encode_escrow_record(record)
    assert decode_escrow_record(encoded) == record
    assert_strict(encoded, decode=decode_escrow_record, encode=encode_escrow_record)


keys = st.one_of(
    st.tuples(st.just("balance"), assets, accounts).map(lambda t: (t, balance_key(t[1], t[2]))),
    st.tuples(st.just("escrow"), hashes, st.integers(0, 15)).map(
        lambda t: (t, escrow_key(SwapId(t[1]), t[2]))
    ),
    st.tuples(st.just("locks"), accounts).map(lambda t: (t, open_locks_key(t[1]))),
    st.tuples(st.just("seen"), u64s).map(lambda t: (t, seen_key(t[1]))),
    st.tuples(st.just("supply"), assets).map(lambda t: (t, supply_key(t[1]))),
)


@given(st.lists(keys, max_size=8))
def test_different_things_stand_under_different_keys(many: list[tuple[object, bytes]]) -> None:
    for (one, one_key), (other, other_key) in combinations(many, 2):
        assert (one == other) == (one_key == other_key)


def test_seen_ids_are_chained_in_order() -> None:
    first, second = TransactionId(b"\x01" * 32), TransactionId(b"\x02" * 32)
    assert seen_hash(None, first) == sha256(b"lockstep/v1/seen\x00" + bytes(32) + first).digest()
    assert seen_hash(seen_hash(None, first), second) != seen_hash(seen_hash(None, second), first)


# --- golden vectors -----------------------------------------------------------------------------------------


def test_the_vectors_are_what_the_generator_makes() -> None:
    for name, text in generate_registry.render().items():
        assert (Path(generate_registry.__file__).parent / name).read_text() == text, name


@pytest.mark.parametrize("case", VECTORS["commitments"])
def test_commitment_vectors(case: dict[str, Any]) -> None:
    commitment = Commitment(
        rollup=RollupId(case["rollup"]),
        height=int(case["height"]),
        state_root=bytes.fromhex(case["state_root"]),
        receipt_count=int(case["receipt_count"]),
        receipts_root=bytes.fromhex(case["receipts_root"]),
        register_root=bytes.fromhex(case["register_root"]),
    )
    assert encode_commitment(commitment).hex() == case["encoded"]
    assert commitment_hash(commitment).hex() == case["hash"]


def test_state_key_vectors() -> None:
    vectors = VECTORS["state_keys"]
    asset, account = bytes.fromhex(vectors["asset"]), PublicKey(bytes.fromhex(vectors["account"]))
    swap_id = SwapId(bytes.fromhex(vectors["swap_id"]))
    assert balance_key(asset, account).hex() == vectors["balance"]
    assert escrow_key(swap_id, vectors["leg"]).hex() == vectors["escrow"]
    assert open_locks_key(account).hex() == vectors["open_locks"]
    assert seen_key(int(vectors["second"])).hex() == vectors["seen"]
    assert supply_key(asset).hex() == vectors["supply"]


def test_seen_vectors() -> None:
    value = None
    for step in VECTORS["seen"]:
        value = seen_hash(value, TransactionId(bytes.fromhex(step["transaction_id"])))
        assert value.hex() == step["value"]


@pytest.mark.parametrize("case", VECTORS["escrow_records"])
def test_escrow_record_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_escrow_record(encoded)
        return
    record = decode_escrow_record(encoded)
    assert record == EscrowRecord(
        verdict=case["verdict"],
        reason=case["reason"],
        opened_height=int(case["opened_height"]),
        opened_index=case["opened_index"],
        asset=bytes.fromhex(case["asset"]),
        sender=PublicKey(bytes.fromhex(case["sender"])),
        amount=int(case["amount"]),
        premium=int(case["premium"]),
    )
    assert encode_escrow_record(record) == encoded


@given(st.integers(1, 2**63 - 1), u64s, hashes)
def test_the_commitments_codec_is_strict(height: int, receipt_count: int, root: bytes) -> None:
    commitment = Commitment(RollupId("alpha"), height, root, receipt_count, root[::-1], bytes(32))
    encoded = encode_commitment(commitment)
    assert decode_commitment(encoded) == commitment
    assert_strict(encoded, decode=decode_commitment, encode=encode_commitment)


@pytest.mark.parametrize("height", [0, 2**63])
def test_a_commitments_height_is_a_blocks(height: int) -> None:
    commitment = Commitment(RollupId("alpha"), height, bytes(32), 0, bytes(32), bytes(32))
    with pytest.raises(Malformed, match="height"):
        decode_commitment(encode_commitment(commitment))
