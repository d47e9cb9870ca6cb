"""Receipts: what became of a rollup's transactions and of the legs that it settled.

Owns the receipts of protos/README.md, section 10, and the codes with which transactions fail. Receipts are
the leaves of an append-only RFC 6962 tree per rollup, in the order in which they were written. Codes, once
published, keep their number and meaning.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

import msgspec

from lockstep import limits
from lockstep.encoding import Layout, Reader, numbers_of, u8, u16, u128, var8
from lockstep.merkle import leaf_hash
from lockstep.types import PublicKey, SwapId, TransactionId

__pure__ = True

RECEIPT_VERSION: Final = 1
_LEAF_TAG: Final = b"\x03"


class ReceiptKind(IntEnum):
    """What a receipt is about."""

    TRANSACTION = 1
    """A transaction in the rollup's namespace."""
    SETTLED = 2
    """A leg of this rollup whose swap was decided, and whose escrow was paid out."""
    UNBACKED = 3
    """A leg of this rollup whose swap committed although nothing was in escrow."""


class ReceiptCode(IntEnum):
    """How a transaction ended. A code other than OK means that nothing changed but the table of seen ids.

    1..99 come from the envelope, 101..199 from `bank`, 201..299 from `escrow`.
    """

    OK = 0
    """It did what it says."""

    MALFORMED = 1
    """The bytes or a method's arguments break their layout. Make it with a current client."""
    WRONG_CHAIN = 2
    """Signed for another chain. Sign it again with this network's genesis file."""
    WRONG_ROLLUP = 3
    """Signed for another rollup. Sign it again for this one, or send it to that one."""
    BAD_SIGNATURE = 4
    """The signature is not the signer's over these bytes. Sign the exact bytes that are sent."""
    EXPIRED = 5
    """Its block's log time had reached `valid_until_ms`. Sign it again with a new window."""
    TOO_FAR_AHEAD = 6
    """`valid_until_ms` lay more than ten minutes ahead of its block. Sign it again with a shorter window."""
    DUPLICATE = 7
    """The same transaction stands earlier in the order, see its receipt. To do it twice, use a new salt."""
    UNKNOWN_METHOD = 8
    """The rollup has no such method. See its modules in the genesis file."""

    UNKNOWN_ASSET = 101
    """The rollup has no such asset. See its assets in the genesis file."""
    AMOUNT_ZERO = 102
    """The amount is zero. Send at least one base unit."""
    INSUFFICIENT_FUNDS = 103
    """The signer's balance, escrow not counted, is below the amount. Send less, or fund the account first."""
    OVERFLOW = 104
    """The asset's supply would exceed 2^128-1 base units. Ask for less."""
    FAUCET_FORBIDDEN = 105
    """The asset has no faucet. Get it from somebody who has it."""
    FAUCET_LIMIT = 106
    """The amount exceeds what the asset's faucet gives at once. Ask for less."""

    NO_OPEN_SWAP = 201
    """No swap of this id is open: not opened yet, or decided. Bundle the Open before the lock."""
    LEG_UNKNOWN = 202
    """The swap has no leg of this number. Count legs from 0."""
    LEG_OF_OTHER_ROLLUP = 203
    """The leg belongs to another rollup. Send the lock to that one."""
    NOT_THE_SENDER = 204
    """The signer is not the leg's sender. Only the sender can lock the leg."""
    LEG_ALREADY_DECIDED = 205
    """The leg has a verdict already, which stands. See the swap's status."""
    LOCK_REJECTED = 206
    """This lock gave the leg the verdict REJECTED, so the swap aborts. Its escrow record has the reason."""


class SettlementCode(IntEnum):
    """How a settled swap was decided."""

    COMMITTED = 1
    """The amount went to the recipient."""
    ABORTED = 2
    """The amount went back to the sender."""


class PremiumOutcome(IntEnum):
    """Where a leg's premium went."""

    NONE = 0
    """The leg had none."""
    RETURNED = 1
    """Back to the leg's sender."""
    PAID = 2
    """To the recipients that the terms name."""


class TransactionReceipt(msgspec.Struct, frozen=True):
    """What became of one transaction."""

    height: int
    """Height of its block."""
    index: int
    """Its place in the block."""
    subject: TransactionId
    """Its id; the order's transaction hash if the bytes could not be decoded, or are not signed by the signer
    that they name: anybody can make such a copy, and its receipt is not the transaction's."""
    code: ReceiptCode
    """How it ended."""
    signer: PublicKey
    """Who signed it; zeros if the bytes could not be decoded, or nobody did."""
    method: int
    """The method that it calls, u16; 0 if the bytes could not be decoded."""


@dataclass(frozen=True, slots=True)
class SettledReceipt:
    """How the escrow of one leg was paid out."""

    height: int
    """Height of the block that decided the swap."""
    index: int
    """Place of the deciding entry in that block; 0xFFFFFFFF when a deadline decided, before all entries."""
    subject: SwapId
    """The swap."""
    code: SettlementCode
    """How it was decided."""
    leg: int
    """The leg, 0..15."""
    asset: bytes
    """The asset's name, 1..32 bytes."""
    beneficiary: PublicKey
    """The account that got the amount."""
    amount: int
    """Base units, at least 1."""
    premium_outcome: PremiumOutcome
    """Where the premium went."""
    premium: int
    """Base units of the premium; 0 exactly if there was none."""


@dataclass(frozen=True, slots=True)
class UnbackedReceipt:
    """A committed leg without escrow: its attesters lied. Nothing was credited; the record is evidence."""

    height: int
    """Height of the block that decided the swap."""
    index: int
    """Place of the deciding entry in that block; 0xFFFFFFFF when a deadline decided, before all entries."""
    subject: SwapId
    """The swap."""
    leg: int
    """The leg, 0..15."""


Receipt: TypeAlias = TransactionReceipt | SettledReceipt | UnbackedReceipt

_UNBACKED_CODE: Final = 1

_PLACE: Final = Struct(">BBQI")
"""`u8 version | u8 kind | u64 height | u32 index`, with which a receipt begins."""

_ABOUT: Final = Layout(kind="B", height="Q", index="I", subject="32s", code="H")
"""What every receipt says after its version."""


def encode_receipt(receipt: Receipt) -> bytes:
    """Return a receipt's bytes."""
    match receipt:
        case TransactionReceipt(code=code):
            return _head(ReceiptKind.TRANSACTION, receipt, code) + receipt.signer + u16(receipt.method)
        case SettledReceipt(code=decision):
            return (
                _head(ReceiptKind.SETTLED, receipt, decision)
                + u8(receipt.leg)
                + var8(receipt.asset)
                + receipt.beneficiary
                + u128(receipt.amount)
                + u8(receipt.premium_outcome)
                + u128(receipt.premium)
            )
        case UnbackedReceipt():
            return _head(ReceiptKind.UNBACKED, receipt, _UNBACKED_CODE) + u8(receipt.leg)


def decode_receipt(encoded: bytes) -> Receipt:
    """Parse a receipt. Raises `Malformed`."""
    reader = Reader(encoded, "receipt")
    reader.version(RECEIPT_VERSION)
    kind, height, index, subject, code = reader.fields(_ABOUT)
    receipt: Receipt
    match kind:
        case ReceiptKind.TRANSACTION:
            if code not in numbers_of(ReceiptCode):
                raise reader.malformed("code", f"{code} is unknown")
            signer, method = PublicKey(reader.take(32, "signer")), reader.u16("method")
            receipt = TransactionReceipt(
                height, index, TransactionId(subject), ReceiptCode(code), signer, method
            )
        case ReceiptKind.SETTLED:
            receipt = _settled(reader, height, index, SwapId(subject), code)
        case ReceiptKind.UNBACKED:
            if code != _UNBACKED_CODE:
                raise reader.malformed("code", f"{code} is unknown")
            receipt = UnbackedReceipt(height, index, SwapId(subject), _leg(reader))
        case _:
            raise reader.malformed("kind", f"{kind} is unknown")
    reader.finish()
    return receipt


class About(NamedTuple):
    """What a receipt is found by."""

    kind: int
    """A `ReceiptKind`."""
    height: int
    """Height of its block."""
    subject: bytes
    """The transaction's id, or the swap."""
    code: int
    """How it ended, in the numbers of its kind."""
    leg: int | None
    """The leg; None if it is of a transaction."""


def about(encoded: bytes) -> About:
    """Return what a receipt that `encode_receipt` made is found by; checks nothing, so it is quick."""
    kind, height, _, subject, code = _ABOUT.read(encoded, 1)
    leg = None if kind == ReceiptKind.TRANSACTION else encoded[1 + _ABOUT.bytes_count]
    return About(kind, height, subject, code, leg)


def receipt_leaf_hash(encoded: bytes) -> bytes:
    """Return the hash of a receipt's bytes as a leaf of the rollup's tree of receipts."""
    return leaf_hash(_LEAF_TAG + encoded)


def _head(kind: ReceiptKind, receipt: Receipt, code: int) -> bytes:
    place = _PLACE.pack(RECEIPT_VERSION, kind, receipt.height, receipt.index)
    return place + receipt.subject + u16(code)


def _settled(reader: Reader, height: int, index: int, subject: SwapId, code: int) -> SettledReceipt:
    if code not in numbers_of(SettlementCode):
        raise reader.malformed("code", f"{code} is unknown")
    leg = _leg(reader)
    asset = reader.var8("asset", bytes_min=1, bytes_max=limits.ASSET_BYTES_MAX)
    beneficiary, amount = PublicKey(reader.take(32, "beneficiary")), reader.u128("amount")
    outcome, premium = reader.u8("premium_outcome"), reader.u128("premium")
    if amount == 0:
        raise reader.malformed("amount", "is zero; a lock holds at least one base unit")
    if outcome not in numbers_of(PremiumOutcome):
        raise reader.malformed("premium_outcome", f"{outcome} is unknown")
    if (outcome == PremiumOutcome.NONE) != (premium == 0):
        raise reader.malformed("premium", "is zero exactly when there was none")
    if code == SettlementCode.COMMITTED and outcome == PremiumOutcome.PAID:
        raise reader.malformed("premium_outcome", "is PAID, which a committed swap never does")
    if amount + premium > limits.AMOUNT_MAX:
        raise reader.malformed("premium", "exceeds 2^128-1 together with the amount")
    return SettledReceipt(
        height=height,
        index=index,
        subject=subject,
        code=SettlementCode(code),
        leg=leg,
        asset=asset,
        beneficiary=beneficiary,
        amount=amount,
        premium_outcome=PremiumOutcome(outcome),
        premium=premium,
    )


def _leg(reader: Reader) -> int:
    leg = reader.u8("leg")
    if leg >= limits.LEGS_MAX:
        raise reader.malformed("leg", f"is {leg}, legs are numbered 0 to {limits.LEGS_MAX - 1}")
    return leg
