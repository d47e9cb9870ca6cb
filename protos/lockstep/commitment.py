"""What a rollup vouches for after a block, and the keys and values of its state.

Owns protos/README.md, section 10, except for receipts (`lockstep.receipts`). Knows no execution: modules
decide what stands under these keys. Invariant: keys of different things have different bytes.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from lockstep import limits
from lockstep.encoding import Layout, Reader, u8, u32, u64, u128, var8
from lockstep.hashing import COMMITMENT, SEEN, ZERO_HASH, tagged_hash
from lockstep.order import is_rollup_id
from lockstep.types import PublicKey, RollupId, SwapId, TransactionId

__pure__ = True

LOCKED: Final = 1
"""An escrow record's verdict: the leg's amount and premium are in escrow."""

REJECTED: Final = 2
"""An escrow record's verdict: nothing is in escrow, for the reason beside it."""


class StateKey(IntEnum):
    """The first byte of a key of the state."""

    BALANCE = 1
    """An account's balance of an asset."""
    ESCROW = 2
    """What became of the lock of a swap's leg."""
    OPEN_LOCKS = 3
    """How many open locks an account has."""
    SEEN = 4
    """The transactions seen that expire in one second of log time."""
    SUPPLY = 5
    """An asset's supply."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """The state of a rollup after a block, in three roots."""

    rollup: RollupId
    """The rollup."""
    height: int
    """The block after which this holds, from 1."""
    state_root: bytes
    """32 bytes: the root of its state map (`lockstep.merkle_map`)."""
    receipt_count: int
    """Receipts written since genesis."""
    receipts_root: bytes
    """32 bytes: the RFC 6962 root over all of them."""
    register_root: bytes
    """32 bytes: the swap register's root, the same on every rollup."""


@dataclass(frozen=True, slots=True)
class EscrowRecord:
    """The verdict on a swap's leg, once one has been given, and what it holds."""

    verdict: int
    """LOCKED or REJECTED."""
    reason: int
    """Why it was rejected, 1..255 as attested in `_swap`; 0 when locked."""
    opened_height: int
    """Height of the block that opened the swap."""
    opened_index: int
    """Place of the opening in that block."""
    asset: bytes
    """The asset's name, 1..32 bytes."""
    sender: PublicKey
    """The account to which it returns."""
    amount: int
    """Base units in escrow for the leg's recipient: at least 1 when locked, 0 when rejected."""
    premium: int
    """Base units in escrow beside the amount; amount and premium together fit u128."""


def encode_commitment(commitment: Commitment) -> bytes:
    """Return the bytes that a commitment's hash covers."""
    return (
        var8(commitment.rollup.encode("ascii"))
        + u64(commitment.height)
        + commitment.state_root
        + u64(commitment.receipt_count)
        + commitment.receipts_root
        + commitment.register_root
    )


def decode_commitment(encoded: bytes) -> Commitment:
    """Parse the bytes that a commitment's hash covers. Raises `Malformed`."""
    reader = Reader(encoded, "commitment")
    rollup = reader.var8("rollup", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX).decode("latin-1")
    commitment = Commitment(
        rollup=RollupId(rollup),
        height=reader.u64("height"),
        state_root=reader.take(32, "state_root"),
        receipt_count=reader.u64("receipt_count"),
        receipts_root=reader.take(32, "receipts_root"),
        register_root=reader.take(32, "register_root"),
    )
    reader.finish()
    if not is_rollup_id(rollup):
        raise reader.malformed("rollup", "does not match [a-z0-9-]{1,32}")
    if not 1 <= commitment.height < 2**63:
        raise reader.malformed("height", "is outside of 1..2^63-1")
    return commitment


def commitment_hash(commitment: Commitment) -> bytes:
    """Return the 32 bytes by which a commitment is named."""
    return tagged_hash(COMMITMENT, encode_commitment(commitment))


def balance_key(asset: bytes, account: PublicKey) -> bytes:
    """Return the key of an account's balance: u128 base units, absent when zero."""
    return _balance_prefix(asset) + account


@lru_cache(maxsize=1_024)
def _balance_prefix(asset: bytes) -> bytes:
    """Return what precedes the account: the same for all who have the asset."""
    return u8(StateKey.BALANCE) + var8(asset)


def escrow_key(swap_id: SwapId, leg: int) -> bytes:
    """Return the key of an escrow record."""
    return u8(StateKey.ESCROW) + swap_id + u8(leg)


def open_locks_key(account: PublicKey) -> bytes:
    """Return the key of an account's number of open locks: u32, absent when zero."""
    return u8(StateKey.OPEN_LOCKS) + account


def seen_key(second: int) -> bytes:
    """Return the key of the ids that expire in a second of log time (`valid_until_ms // 1000`).

    The value is the 32 bytes of `seen_hash`.
    """
    return u8(StateKey.SEEN) + u64(second)


def supply_key(asset: bytes) -> bytes:
    """Return the key of an asset's supply: u128 base units, escrow included."""
    return u8(StateKey.SUPPLY) + var8(asset)


def seen_hash(previous: bytes | None, transaction_id: TransactionId) -> bytes:
    """Return the value under a `seen_key` after one more id; `previous` is the value so far, None first."""
    return tagged_hash(SEEN, (previous or ZERO_HASH) + transaction_id)


_VERDICT: Final = Layout(verdict="B", reason="B", opened_height="Q", opened_index="I")
_HELD: Final = Layout(sender="32s", amount="16s", premium="16s")


def encode_escrow_record(record: EscrowRecord) -> bytes:
    """Return the value under an `escrow_key`."""
    return (
        u8(record.verdict)
        + u8(record.reason)
        + u64(record.opened_height)
        + u32(record.opened_index)
        + var8(record.asset)
        + record.sender
        + u128(record.amount)
        + u128(record.premium)
    )


def decode_escrow_record(encoded: bytes) -> EscrowRecord:
    """Parse the value under an `escrow_key`. Raises `Malformed`."""
    reader = Reader(encoded, "escrow record")
    verdict, reason, opened_height, opened_index = reader.fields(_VERDICT)
    asset = reader.var8("asset", bytes_min=1, bytes_max=limits.ASSET_BYTES_MAX)
    sender, amount, premium = reader.fields(_HELD)
    record = EscrowRecord(
        verdict=verdict,
        reason=reason,
        opened_height=opened_height,
        opened_index=opened_index,
        asset=asset,
        sender=PublicKey(sender),
        amount=int.from_bytes(amount, "big"),
        premium=int.from_bytes(premium, "big"),
    )
    reader.finish()
    if record.verdict not in (LOCKED, REJECTED):
        raise reader.malformed("verdict", f"{record.verdict} is unknown")
    if (record.verdict == LOCKED) != (record.reason == 0):
        raise reader.malformed("reason", "is given exactly when the lock was rejected")
    if (record.verdict == LOCKED) != (record.amount > 0):
        raise reader.malformed("amount", "is in escrow exactly when the lock was not rejected")
    if record.premium and record.verdict == REJECTED:
        raise reader.malformed("premium", "is in escrow although the lock was rejected")
    if record.amount + record.premium > limits.AMOUNT_MAX:
        raise reader.malformed("premium", "exceeds 2^128-1 together with the amount")
    return record
