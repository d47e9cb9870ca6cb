"""Receipts: one encoding each, and nothing that could not have happened."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.errors import Malformed
from lockstep.receipts import (
    PremiumOutcome,
    Receipt,
    ReceiptCode,
    SettledReceipt,
    SettlementCode,
    TransactionReceipt,
    UnbackedReceipt,
    about,
    decode_receipt,
    encode_receipt,
    receipt_leaf_hash,
)
from lockstep.types import PublicKey, SwapId, TransactionId
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_registry
from tests.vectors.plain import plain

VECTORS: dict[str, Any] = json.loads((Path(generate_registry.__file__).parent / "receipts.json").read_text())

hashes = st.binary(min_size=32, max_size=32)
u16s, u32s, u64s = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
legs = st.integers(0, 15)


@st.composite
def settled(draw: st.DrawFn) -> SettledReceipt:
    amount = draw(st.integers(1, 2**128 - 2))
    code = draw(st.sampled_from(SettlementCode))
    outcomes = [
        each for each in PremiumOutcome if (code, each) != (SettlementCode.COMMITTED, PremiumOutcome.PAID)
    ]
    outcome = draw(st.sampled_from(outcomes))
    return SettledReceipt(
        height=draw(u64s),
        index=draw(u32s),
        subject=SwapId(draw(hashes)),
        code=code,
        leg=draw(legs),
        asset=draw(st.binary(min_size=1, max_size=32)),
        beneficiary=PublicKey(draw(hashes)),
        amount=amount,
        premium_outcome=outcome,
        premium=draw(st.integers(1, 2**128 - 1 - amount)) if outcome else 0,
    )


receipts: st.SearchStrategy[Receipt] = st.one_of(
    st.builds(
        TransactionReceipt,
        height=u64s,
        index=u32s,
        subject=hashes.map(TransactionId),
        code=st.sampled_from(ReceiptCode),
        signer=hashes.map(PublicKey),
        method=u16s,
    ),
    settled(),
    st.builds(UnbackedReceipt, height=u64s, index=u32s, subject=hashes.map(SwapId), leg=legs),
)


@given(receipts)
def test_a_receipt_has_one_encoding(receipt: Receipt) -> None:
    encoded = encode_receipt(receipt)
    assert decode_receipt(encoded) == receipt
    assert_strict(encoded, decode=decode_receipt, encode=encode_receipt)


@given(receipts)
def test_what_a_receipt_is_found_by_is_what_it_says(receipt: Receipt) -> None:
    leg = None if isinstance(receipt, TransactionReceipt) else receipt.leg
    code = 1 if isinstance(receipt, UnbackedReceipt) else receipt.code
    kind = {TransactionReceipt: 1, SettledReceipt: 2, UnbackedReceipt: 3}[type(receipt)]
    assert about(encode_receipt(receipt)) == (kind, receipt.height, receipt.subject, code, leg)


@given(receipts)
def test_a_leaf_names_its_tree(receipt: Receipt) -> None:
    encoded = encode_receipt(receipt)
    assert receipt_leaf_hash(encoded) == sha256(b"\x00\x03" + encoded).digest()


@pytest.mark.parametrize("case", VECTORS["receipts"])
def test_receipt_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_receipt(encoded)
        return
    receipt = decode_receipt(encoded)
    assert plain(receipt) == case["fields"]
    assert encode_receipt(receipt) == encoded
    assert receipt_leaf_hash(encoded).hex() == case["leaf_hash"]


def test_codes_keep_their_numbers() -> None:
    assert VECTORS["codes"] == {code.name: code.value for code in ReceiptCode}
