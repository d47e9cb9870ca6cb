"""Transactions of rollups with our runtime: their envelope, and the calls of every module.

Owns the bytes of protos/README.md, section 5. What a call does is its module's (`rollups`). Invariant: the id
covers everything but the signature, so that no second id can be made of the same signed intent.
"""

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec

from lockstep import limits
from lockstep.encoding import Layout, Reader, encode_strictly, u8, u16, u64, u128, var8
from lockstep.errors import Malformed
from lockstep.hashing import ROLLUP_TRANSACTION, SIGN_TRANSACTION, tagged_hash
from lockstep.order import is_rollup_id
from lockstep.signing import SIGNATURE_BYTES, SigningKey, verify
from lockstep.types import ChainId, PublicKey, RollupId, Signature, SwapId, TransactionId

__pure__ = True

TRANSACTION_VERSION: Final = 1
SALT_BYTES: Final = 16


class Method(IntEnum):
    """What a transaction calls: the module in the high byte, its method in the low one."""

    BANK_TRANSFER = 0x0101
    """`bank.transfer`: moves base units to another account."""
    BANK_FAUCET = 0x0102
    """`bank.faucet`: creates base units for the signer, where genesis allows it."""
    ESCROW_LOCK = 0x0201
    """`escrow.lock`: puts a swap leg's amount and premium into escrow."""


class Transfer(msgspec.Struct, frozen=True):
    """`bank.transfer`."""

    asset: bytes
    """The asset's name, 1..32 bytes."""
    recipient: PublicKey
    """The account that gets it."""
    amount: int
    """Base units, u128."""
    memo: bytes = b""
    """At most 64 bytes that mean nothing to the runtime."""


class Faucet(msgspec.Struct, frozen=True):
    """`bank.faucet`."""

    asset: bytes
    """The asset's name, 1..32 bytes."""
    amount: int
    """Base units, u128."""


class Lock(msgspec.Struct, frozen=True):
    """`escrow.lock`."""

    swap_id: SwapId
    """The swap."""
    leg: int
    """The leg, u8, whose sender signs this."""


Call: TypeAlias = Transfer | Faucet | Lock

_Body: TypeAlias = tuple[ChainId, RollupId, PublicKey, int, bytes, int, bytes]
"""The fields of a body in their order, from the chain to the arguments."""

_INTENT: Final = Layout(signer="32s", valid_until_ms="Q", salt=f"{SALT_BYTES}s", method="H")
"""What stands between a body's rollup and its arguments."""

_TO: Final = Layout(recipient="32s", amount="16s")
"""What follows a transfer's asset: the amount is a u128."""

_METHOD_OF: Final[Mapping[type[Call], Method]] = {
    Transfer: Method.BANK_TRANSFER,
    Faucet: Method.BANK_FAUCET,
    Lock: Method.ESCROW_LOCK,
}


class RollupTransaction(msgspec.Struct, frozen=True):
    """A transaction, taken apart but for the arguments of its method. Its signature is not verified."""

    id: TransactionId
    """The hash of `body`."""
    signature: Signature
    """The signer's, over `body`."""
    body: bytes
    """The bytes that are signed."""
    chain: ChainId
    """The chain that it is for."""
    rollup: RollupId
    """The rollup that it is for."""
    signer: PublicKey
    """The account in whose name it acts."""
    valid_until_ms: int
    """Log time at which it can no longer act (exclusive), whatever its bundle's window."""
    salt: bytes
    """16 bytes that keep equal transactions apart."""
    method: int
    """The method, u16; unknown ones are the runtime's to refuse."""
    arguments: bytes
    """Read by `decode_call`."""


def sign_transaction(
    key: SigningKey, *, chain: ChainId, rollup: RollupId, valid_until_ms: int, salt: bytes, call: Call
) -> bytes:
    """Return the payload of a signed transaction. The same arguments give the same bytes, so the same id.

    `salt` is 16 bytes: random ones for a new intent, the same again to repeat one. Raises `Malformed` for a
    call, a name, a time or a salt that decoding would refuse: what no rollup can read is not signed.
    """
    arguments = encode_arguments(call)
    method = _METHOD_OF[type(call)]
    stated: _Body = (chain, rollup, key.public_key, valid_until_ms, salt, method, arguments)
    body = encode_strictly("transaction", stated, encode=_bytes_of, decode=_read_body)
    return key.sign(SIGN_TRANSACTION, body) + body


def transaction_id(body: bytes) -> TransactionId:
    """Return the id of a transaction with this body."""
    return TransactionId(tagged_hash(ROLLUP_TRANSACTION, body))


def encode_transaction(transaction: RollupTransaction) -> bytes:
    """Return the payload: the inverse of `decode_transaction`."""
    return transaction.signature + transaction.body


def decode_transaction(payload: bytes) -> RollupTransaction:
    """Parse a payload of a rollup's namespace but for the arguments. Raises `Malformed`."""
    signature, body = payload[:SIGNATURE_BYTES], payload[SIGNATURE_BYTES:]
    if len(signature) != SIGNATURE_BYTES:
        raise Malformed(
            what="transaction",
            field="signature",
            reason=f"needs {SIGNATURE_BYTES} bytes, {len(signature)} are there",
        )
    return RollupTransaction(transaction_id(body), Signature(signature), body, *_read_body(body))


def _read_body(body: bytes) -> _Body:
    reader = Reader(body, "transaction")
    reader.version(TRANSACTION_VERSION)
    chain = ChainId(reader.take(32, "chain"))
    rollup = _rollup_id(reader.var8("rollup", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX))
    if rollup is None:
        raise reader.malformed("rollup", "does not match [a-z0-9-]{1,32}")
    signer, valid_until_ms, salt, method = reader.fields(_INTENT)
    return chain, rollup, PublicKey(signer), valid_until_ms, salt, method, reader.rest()


@lru_cache(maxsize=limits.BLOCK_NAMESPACES_MAX)
def _rollup_id(name: bytes) -> RollupId | None:
    """Return the id that some bytes are; None if they are none. The same few come again and again."""
    decoded = name.decode("latin-1")
    return RollupId(decoded) if is_rollup_id(decoded) else None


def _bytes_of(stated: _Body) -> bytes:
    chain, rollup, signer, valid_until_ms, salt, method, arguments = stated
    return (
        u8(TRANSACTION_VERSION)
        + chain
        + var8(rollup.encode("latin-1"))
        + signer
        + u64(valid_until_ms)
        + salt
        + u16(method)
        + arguments
    )


def is_signed(transaction: RollupTransaction) -> bool:
    """Answer whether the signer named in a transaction signed it."""
    return verify(SIGN_TRANSACTION, transaction.signer, transaction.body, transaction.signature)


def encode_arguments(call: Call) -> bytes:
    """Return the arguments of a call. Raises `Malformed` for a call that `decode_call` could not return."""
    method = _METHOD_OF[type(call)]
    return encode_strictly(
        method.name, call, encode=_arguments_of, decode=lambda arguments: decode_call(method, arguments)
    )


def decode_call(method: Method, arguments: bytes) -> Call:
    """Parse the arguments of a method. Raises `Malformed`. Zero amounts pass: modules answer them."""
    reader = Reader(arguments, method.name)
    call: Call
    match method:
        case Method.BANK_TRANSFER:
            asset = reader.var8("asset", bytes_min=1, bytes_max=limits.ASSET_BYTES_MAX)
            recipient, amount = reader.fields(_TO)
            memo = reader.var8("memo", bytes_max=limits.MEMO_BYTES_MAX)
            call = Transfer(asset, PublicKey(recipient), int.from_bytes(amount, "big"), memo)
        case Method.BANK_FAUCET:
            asset = reader.var8("asset", bytes_min=1, bytes_max=limits.ASSET_BYTES_MAX)
            call = Faucet(asset, reader.u128("amount"))
        case Method.ESCROW_LOCK:
            call = Lock(SwapId(reader.take(32, "swap_id")), reader.u8("leg"))
    reader.finish()
    return call


def _arguments_of(call: Call) -> bytes:
    match call:
        case Transfer():
            return var8(call.asset) + call.recipient + u128(call.amount) + var8(call.memo)
        case Faucet():
            return var8(call.asset) + u128(call.amount)
        case Lock():
            return call.swap_id + u8(call.leg)
