"""What is wrong and asked of a rollup node."""

from functools import partial

from lockstep import limits
from lockstep.v1 import rollup_pb2
from tests.integration.bad_input import case
from tests.integration.bad_input_world import OTHER_ID, TIMEOUT_S, World, first_of, raw

SERVICE = "rollups/service.py"
on_account = partial(case, "Rollup.GetAccount")
on_state = partial(case, "Rollup.GetState", "MALFORMED", judge=SERVICE)
on_receipt = partial(case, "Rollup.GetReceipt")
on_swap = partial(case, "Rollup.GetSwap", judge=SERVICE)
on_receipts = partial(case, "Rollup.StreamReceipts", judge=SERVICE)
on_commitment = partial(case, "Rollup.GetCommitment", judge=SERVICE)


async def account(
    world: World, key: bytes, *assets: str, min_height: int = 0, timeout_s: float = TIMEOUT_S
) -> object:
    request = rollup_pb2.GetAccountRequest(account=key, assets=assets, min_height=min_height)
    return await world.rollup.GetAccount(request, timeout=timeout_s)


async def state(world: World, *keys: bytes) -> object:
    return await world.rollup.GetState(rollup_pb2.GetStateRequest(keys=keys), timeout=TIMEOUT_S)


async def receipt(world: World, **fields: object) -> object:
    request = rollup_pb2.GetReceiptRequest(**fields)  # type: ignore[arg-type]
    return await world.rollup.GetReceipt(request, timeout=TIMEOUT_S)


async def receipts(world: World, **fields: object) -> object:
    request = rollup_pb2.StreamReceiptsRequest(**fields)  # type: ignore[arg-type]
    return await first_of(world.rollup.StreamReceipts(request, timeout=TIMEOUT_S))


async def swap(world: World, swap_id: bytes) -> object:
    return await world.rollup.GetSwap(rollup_pb2.RollupGetSwapRequest(swap_id=swap_id), timeout=TIMEOUT_S)


async def commitment(world: World, height: int) -> object:
    request = rollup_pb2.GetCommitmentRequest(height=height)
    return await world.rollup.GetCommitment(request, timeout=TIMEOUT_S)


@on_account("MALFORMED", "bytes that are no message", says="request", judge="deploy/node/interceptor.py")
async def _(world: World) -> object:
    return await raw(world, "alpha-0", "Rollup/GetAccount", b"\xff\xff")


@on_account("RESOURCE_EXHAUSTED", "a message of more than 3 MiB", says="larger than max", judge="gRPC")
async def _(world: World) -> object:
    return await raw(world, "alpha-0", "Rollup/GetAccount", bytes(limits.MESSAGE_BYTES_MAX + 1))


@on_account("MALFORMED", "an account of 31 bytes", says="account", judge=SERVICE)
async def _(world: World) -> object:
    return await account(world, OTHER_ID[1:])


@on_account("MALFORMED", "65 assets", says="assets", judge=SERVICE)
async def _(world: World) -> object:
    return await account(world, OTHER_ID, *["gold"] * 65)


@on_account("MALFORMED", "an asset's name of 33 bytes", says="assets", judge=SERVICE)
async def _(world: World) -> object:
    return await account(world, OTHER_ID, "a" * 33)


@on_account("NOT_FOUND", "an asset that the rollup has not", says="asset silver", judge=SERVICE)
async def _(world: World) -> object:
    return await account(world, OTHER_ID, "silver")


@on_account("MALFORMED", "a least height beyond 2^63-1", says="min_height", judge=SERVICE)
async def _(world: World) -> object:
    return await account(world, OTHER_ID, min_height=2**63)


@on_account("DEADLINE_EXCEEDED", "a least height that does not come before the deadline", judge="gRPC")
async def _(world: World) -> object:
    return await account(world, OTHER_ID, min_height=10**9, timeout_s=0.3)


@on_state("no keys", says="keys")
async def _(world: World) -> object:
    return await state(world)


@on_state("257 keys", says="keys")
async def _(world: World) -> object:
    return await state(world, *[b"x"] * 257)


@on_state("a key that is longer than any", says="keys")
async def _(world: World) -> object:
    return await state(world, bytes(4_096))


@on_receipt("MALFORMED", "no subject", says="subject", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world)


@on_receipt("MALFORMED", "a transaction's id of 31 bytes", says="transaction_id", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, transaction_id=OTHER_ID[1:])


@on_receipt("MALFORMED", "leg 16", says="settled_leg.leg", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, settled_leg=rollup_pb2.LegName(swap_id=OTHER_ID, leg=16))


@on_receipt("MALFORMED", "an index beyond 2^63-1", says="index", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, index=2**63)


@on_receipt("MALFORMED", "a wait of a minute", says="wait_ms", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, transaction_id=OTHER_ID, wait_ms=60_000)


@on_receipt("MALFORMED", "a proof under a block beyond 2^63-1", says="at_height", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, index=0, at_height=2**63)


@on_receipt("NOT_YET", "a proof under a block that is not executed yet", says="newest", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, index=0, at_height=10**9)


@on_receipt("NOT_FOUND", "a transaction that was not executed so far", says="transaction", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, transaction_id=OTHER_ID)


@on_receipt("NOT_FOUND", "a leg that was not settled so far", says="leg 0", judge=SERVICE)
async def _(world: World) -> object:
    return await receipt(world, settled_leg=rollup_pb2.LegName(swap_id=OTHER_ID, leg=0))


@on_swap("MALFORMED", "a swap's id of 31 bytes", says="swap_id")
async def _(world: World) -> object:
    return await swap(world, OTHER_ID[1:])


@on_swap("UNKNOWN_SWAP", "an unknown swap", says="holds no swap")
async def _(world: World) -> object:
    return await swap(world, OTHER_ID)


@on_receipts("NOT_YET", "from beyond the next receipt", says="newest")
async def _(world: World) -> object:
    return await receipts(world, from_index=10**9)


@on_receipts("NOT_YET", "from beyond the next block", says="newest")
async def _(world: World) -> object:
    return await receipts(world, from_height=10**9)


@on_receipts("MALFORMED", "from beyond 2^63-1", says="from_index")
async def _(world: World) -> object:
    return await receipts(world, from_index=2**63)


@on_receipts("MALFORMED", "an account of 31 bytes", says="account")
async def _(world: World) -> object:
    return await receipts(world, account=OTHER_ID[1:])


@on_commitment("NOT_YET", "a height that is not executed yet", says="newest")
async def _(world: World) -> object:
    return await commitment(world, 10**9)


@on_commitment("MALFORMED", "a height beyond 2^63-1", says="height")
async def _(world: World) -> object:
    return await commitment(world, 2**63)


@case(
    "Rollup.StreamSnapshot", "NOT_IMPLEMENTED_YET", "a call that this version does not offer", judge=SERVICE
)
async def _(world: World) -> object:
    request = rollup_pb2.StreamSnapshotRequest()
    return await first_of(world.rollup.StreamSnapshot(request, timeout=TIMEOUT_S))
