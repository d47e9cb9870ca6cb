"""What is wrong in a rollup's namespace: it is ordered unread, and the rollup answers with a receipt."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from lockstep import limits
from lockstep.hashing import SIGN_TRANSACTION
from lockstep.receipts import ReceiptCode, TransactionReceipt, decode_receipt
from lockstep.terms import swap_id_of
from lockstep.transactions import Call, Faucet, Lock, Transfer, sign_transaction
from lockstep.types import RollupId, SwapId
from lockstep.v1 import rollup_pb2, sequencer_pb2
from tests.integration.bad_input_world import AHEAD_MS, OTHER_CHAIN, OTHER_ID, TIMEOUT_S, World, submit

Payload = Callable[[World], Awaitable[bytes]]


@dataclass(frozen=True)
class OrderedCase:
    """Something that is wrong and ordered all the same, in alpha's namespace."""

    name: str
    """What, in words."""
    code: ReceiptCode
    """The code of its receipt."""
    payload: Payload


ORDERED_CASES: Final[list[OrderedCase]] = []
"""All of them, in the order of the table."""


def ordered(code: ReceiptCode, name: str) -> Callable[[Payload], Payload]:
    def add(payload: Payload) -> Payload:
        ORDERED_CASES.append(OrderedCase(name, code, payload))
        return payload

    return add


async def receipt_of(world: World, payload: bytes) -> TransactionReceipt:
    """Have a payload ordered, and return the receipt of its place."""
    answer = await submit(world, ("alpha", payload))
    assert isinstance(answer, sequencer_pb2.SubmitResponse)
    place = answer.placement
    request = rollup_pb2.StreamReceiptsRequest(from_height=place.height)
    async for response in world.rollup.StreamReceipts(request, timeout=TIMEOUT_S):
        for each in response.receipts:
            receipt = decode_receipt(each.receipt)
            if (receipt.height, receipt.index) == (place.height, place.first_index):
                assert isinstance(receipt, TransactionReceipt)
                return receipt
    raise AssertionError("the stream ended without the receipt")


async def signed(world: World, call: Call, *, by: str = "alice", **changes: object) -> bytes:
    """A transaction that acts but for the changes and what is wrong with the call."""
    stated: dict[str, object] = {
        "chain": world.chain,
        "rollup": RollupId("alpha"),
        "valid_until_ms": await world.time_ms() + AHEAD_MS,
        "salt": secrets.token_bytes(16),
        "call": call,
    }
    return sign_transaction(world.network.traders[by], **stated | changes)  # type: ignore[arg-type]


def transfer(world: World, amount: int = 1, asset: bytes = b"gold") -> Transfer:
    return Transfer(asset, world.bob.account, amount, b"")


@ordered(ReceiptCode.MALFORMED, "bytes that are no transaction")
async def _(world: World) -> bytes:
    return b"no transaction"


@ordered(ReceiptCode.MALFORMED, "a transfer with a byte left over")
async def _(world: World) -> bytes:
    payload = await signed(world, transfer(world))
    body = payload[64:] + b"x"
    return world.network.traders["alice"].sign(SIGN_TRANSACTION, body) + body


@ordered(ReceiptCode.WRONG_CHAIN, "a transfer for another chain")
async def _(world: World) -> bytes:
    return await signed(world, transfer(world), chain=OTHER_CHAIN)


@ordered(ReceiptCode.WRONG_ROLLUP, "a transfer for another rollup")
async def _(world: World) -> bytes:
    return await signed(world, transfer(world), rollup=RollupId("beta"))


@ordered(ReceiptCode.EXPIRED, "a transfer whose own window has passed")
async def _(world: World) -> bytes:
    return await signed(world, transfer(world), valid_until_ms=world.network.genesis.genesis_time_ms)


@ordered(ReceiptCode.TOO_FAR_AHEAD, "a transfer whose own window is more than 600,000 ms ahead")
async def _(world: World) -> bytes:
    far_ms = await world.time_ms() + limits.VALIDITY_WINDOW_MS_MAX + 60_000
    return await signed(world, transfer(world), valid_until_ms=far_ms)


@ordered(ReceiptCode.BAD_SIGNATURE, "a transfer whose signature is not the signer's")
async def _(world: World) -> bytes:
    payload = await signed(world, transfer(world))
    return bytes((payload[0] ^ 1,)) + payload[1:]


@ordered(ReceiptCode.DUPLICATE, "a transfer again, in another bundle")
async def _(world: World) -> bytes:
    return world.ordered.transactions[0].payload


@ordered(ReceiptCode.UNKNOWN_METHOD, "a method that the rollup has not")
async def _(world: World) -> bytes:
    body = bytearray((await signed(world, Faucet(b"gold", 1)))[64:])
    method = 1 + 32 + 1 + len("alpha") + 32 + 8 + 16
    body[method : method + 2] = b"\x7f\x7f"
    return world.network.traders["alice"].sign(SIGN_TRANSACTION, bytes(body)) + bytes(body)


@ordered(ReceiptCode.UNKNOWN_ASSET, "a transfer of an asset that the rollup has not")
async def _(world: World) -> bytes:
    return await signed(world, transfer(world, asset=b"silver"))


@ordered(ReceiptCode.AMOUNT_ZERO, "a transfer of nothing")
async def _(world: World) -> bytes:
    return await signed(world, transfer(world, 0))


@ordered(ReceiptCode.INSUFFICIENT_FUNDS, "a transfer of 2^128-1")
async def _(world: World) -> bytes:
    return await signed(world, transfer(world, limits.AMOUNT_MAX))


@ordered(ReceiptCode.FAUCET_LIMIT, "2^128-1 from the faucet")
async def _(world: World) -> bytes:
    return await signed(world, Faucet(b"gold", limits.AMOUNT_MAX))


@ordered(ReceiptCode.NO_OPEN_SWAP, "a lock for an unknown swap")
async def _(world: World) -> bytes:
    return await signed(world, Lock(SwapId(OTHER_ID), 0))


@ordered(ReceiptCode.NO_OPEN_SWAP, "a lock too soon: its swap is not in the order yet")
async def _(world: World) -> bytes:
    return await signed(world, Lock(swap_id_of(world.collecting), 0))


@ordered(ReceiptCode.NO_OPEN_SWAP, "a lock too late: its swap is decided")
async def _(world: World) -> bytes:
    return await signed(world, Lock(swap_id_of(world.committed), 0), by="bob")


@ordered(ReceiptCode.LEG_UNKNOWN, "a lock of a leg that the swap has not")
async def _(world: World) -> bytes:
    return await signed(world, Lock(swap_id_of(world.locked), 2))


@ordered(ReceiptCode.LEG_OF_OTHER_ROLLUP, "a lock of another rollup's leg")
async def _(world: World) -> bytes:
    return await signed(world, Lock(swap_id_of(world.locked), 1), by="bob")


@ordered(ReceiptCode.NOT_THE_SENDER, "a stranger's lock")
async def _(world: World) -> bytes:
    return await signed(world, Lock(swap_id_of(world.locked), 0), by="carol")


@ordered(ReceiptCode.LEG_ALREADY_DECIDED, "a second lock of a leg")
async def _(world: World) -> bytes:
    return await signed(world, Lock(swap_id_of(world.locked), 0))
