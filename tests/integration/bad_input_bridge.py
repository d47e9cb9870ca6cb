"""What is wrong and sent to the bridge coordinator."""

from functools import partial

from lockstep import limits
from lockstep.swap_entries import encode_reveal, sign_cancel
from lockstep.terms import LegKind, Premium, PremiumShare, decode_terms, swap_id_of
from lockstep.transactions import Lock, Transfer, sign_transaction
from lockstep.types import RollupId, SwapId
from lockstep.v1 import bridge_pb2
from tests.integration.bad_input import case
from tests.integration.bad_input_world import (
    AHEAD_MS,
    OTHER_CHAIN,
    OTHER_ID,
    TIMEOUT_S,
    World,
    first_of,
    raise_first,
    raw,
    through,
)

REQUESTS = "bridge/requests.py"
CALLS = "bridge/calls.py"
SERVICE = "bridge/service.py"
TERMS = "lockstep/terms.py"
on_propose = partial(case, "Bridge.Propose")
on_accept = partial(case, "Bridge.Accept")
on_reveal = partial(case, "Bridge.Reveal")
on_cancel = partial(case, "Bridge.Cancel")

# --- proposals --------------------------------------------------------------------------------------------


async def propose(
    world: World, terms_bytes: bytes, *, key: bytes = b"wrong", policy: int = 0, preimage: bytes = b""
) -> object:
    request = bridge_pb2.ProposeRequest(
        idempotency_key=key,
        terms=terms_bytes,
        reveal_policy=bridge_pb2.RevealPolicy.ValueType(policy),
        preimage=preimage,
    )
    return await world.bridge.Propose(request, timeout=TIMEOUT_S)


@on_propose("MALFORMED", "bytes that are no message", says="request", judge="deploy/node/interceptor.py")
async def _(world: World) -> object:
    return await raw(world, "bridge", "Bridge/Propose", b"\xff\xff")


@on_propose("RESOURCE_EXHAUSTED", "a message of more than 3 MiB", says="larger than max", judge="gRPC")
async def _(world: World) -> object:
    return await raw(world, "bridge", "Bridge/Propose", bytes(limits.MESSAGE_BYTES_MAX + 1))


@on_propose("MALFORMED", "no idempotency key", says="idempotency_key", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(), key=b"")


@on_propose("MALFORMED", "an idempotency key of 65 bytes", says="idempotency_key", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(), key=bytes(65))


@on_propose("MALFORMED", "terms that cannot be read", says="version", judge=TERMS)
async def _(world: World) -> object:
    return await propose(world, b"\7")


@on_propose("MALFORMED", "17 legs", says="leg_count", judge=TERMS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(legs=world.legs * 8 + world.legs[:1]))


@on_propose("MALFORMED", "one leg", says="leg_count", judge=TERMS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(legs=world.legs[:1]))


@on_propose("MALFORMED", "an amount of zero", says="legs[0].amount", judge=TERMS)
async def _(world: World) -> object:
    return await propose(world, await world.new_leg(amount=0))


@on_propose("MALFORMED", "an amount and a premium that overflow", says="premium.shares", judge=TERMS)
async def _(world: World) -> object:
    premium = Premium(0, (PremiumShare(world.bob.account, limits.AMOUNT_MAX),))
    return await propose(world, await world.new_terms(premium=premium))


@on_propose("MALFORMED", "a leg from somebody to himself", says="legs[0].recipient", judge=TERMS)
async def _(world: World) -> object:
    return await propose(world, await world.new_leg(recipient=world.alice.account))


@on_propose("", "one party gives all legs", says="allowed: what the parties agree on is theirs", judge=TERMS)
async def _(world: World) -> object:
    assert {leg.sender for leg in decode_terms(world.collecting).legs} == {world.alice.account}
    return await world.clients.bridge.swap(swap_id_of(world.collecting))


@on_propose("MALFORMED", "a leg that burns", says="legs[0].kind", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_leg(kind=LegKind.BURN))


@on_propose("WRONG_CHAIN", "terms for another chain", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(chain=OTHER_CHAIN))


@on_propose("MALFORMED", "an unknown reveal policy", says="reveal_policy", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(), policy=9)


@on_propose("MALFORMED", "a preimage although the trader reveals", says="preimage", judge=REQUESTS)
async def _(world: World) -> object:
    terms_bytes = await world.new_terms()
    return await propose(world, terms_bytes, preimage=world.alice.preimage(terms_bytes).reveal())


@on_propose("MALFORMED", "another preimage than the hashlock's", says="preimage", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(), policy=2, preimage=bytes(32))


@on_propose("MALFORMED", "a preimage of 31 bytes", says="preimage", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(), policy=3, preimage=bytes(31))


@on_propose("EXPIRED", "a `lock_by_ms` that has passed", says="lock_by_ms", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(lock_by_ms=await world.time_ms() - 1_000))


@on_propose("TOO_FAR_AHEAD", "a `lock_by_ms` more than 60,000 ms ahead", judge=REQUESTS)
async def _(world: World) -> object:
    time_ms = await world.time_ms()
    return await propose(
        world, await world.new_terms(lock_by_ms=time_ms + 120_000, expires_ms=time_ms + 180_000)
    )


@on_propose("TOO_FAR_AHEAD", "terms that expire in more than a day", judge=REQUESTS)
async def _(world: World) -> object:
    far_ms = await world.time_ms() + limits.EXPIRY_MS_MAX + 60_000
    return await propose(world, await world.new_terms(expires_ms=far_ms))


@on_propose("UNKNOWN_NAMESPACE", "a leg on a rollup that is not registered", says="'delta'", judge=REQUESTS)
async def _(world: World) -> object:
    return await propose(world, await world.new_leg(rollup=RollupId("delta")))


@on_propose("CONFLICT", "a used idempotency key with other terms", says="idempotency key", judge=CALLS)
async def _(world: World) -> object:
    return await propose(world, await world.new_terms(), key=b"alice gives both")


@on_propose("CONFLICT", "the same terms with another reveal policy", says="swap", judge=CALLS)
async def _(world: World) -> object:
    preimage = world.alice.preimage(world.collecting).reveal()
    return await propose(world, world.collecting, policy=3, preimage=preimage)


@on_propose("", "a proposal again", says="the same swap", judge=CALLS)
async def _(world: World) -> object:
    before = await world.clients.bridge.swap(swap_id_of(world.collecting))
    again = await propose(world, world.collecting, key=b"alice gives both")
    assert isinstance(again, bridge_pb2.ProposeResponse)
    assert again.swap.sequence == before.sequence
    return again


# --- locks ------------------------------------------------------------------------------------------------


async def accept(world: World, lock: bytes, *, terms: bytes | None = None, leg: int = 0) -> object:
    swap_id = swap_id_of(world.collecting if terms is None else terms)
    request = bridge_pb2.AcceptRequest(swap_id=swap_id, leg=leg, lock=lock)
    return await world.bridge.Accept(request, timeout=TIMEOUT_S)


def lock_of(world: World, **changes: object) -> bytes:
    """Alice's lock of her first leg of the swap that waits for it, with changes."""
    decoded = decode_terms(world.collecting)
    stated: dict[str, object] = {
        "chain": world.chain,
        "rollup": RollupId("alpha"),
        "valid_until_ms": decoded.lock_by_ms,
        "salt": decoded.salt,
        "call": Lock(swap_id_of(world.collecting), 0),
    }
    name = changes.pop("by", "alice")
    assert isinstance(name, str)
    return sign_transaction(world.network.traders[name], **stated | changes)  # type: ignore[arg-type]


@on_accept("MALFORMED", "a swap's id of 31 bytes", says="swap_id", judge=REQUESTS)
async def _(world: World) -> object:
    request = bridge_pb2.AcceptRequest(swap_id=OTHER_ID[1:], lock=lock_of(world))
    return await world.bridge.Accept(request, timeout=TIMEOUT_S)


@on_accept("UNKNOWN_SWAP", "an unknown swap", says="holds no swap", judge=CALLS)
async def _(world: World) -> object:
    request = bridge_pb2.AcceptRequest(swap_id=OTHER_ID, lock=lock_of(world))
    return await world.bridge.Accept(request, timeout=TIMEOUT_S)


@on_accept("MALFORMED", "a lock that cannot be read", says="version", judge="lockstep/transactions.py")
async def _(world: World) -> object:
    return await accept(world, bytes(200))


@on_accept("WRONG_CHAIN", "a lock for another chain", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world, chain=OTHER_CHAIN))


@on_accept("MALFORMED", "a transfer instead of a lock", says="escrow.lock", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world, call=Transfer(b"gold", world.bob.account, 5, b"")))


@on_accept("BAD_SIGNATURE", "a lock whose signature is not the signer's", says="lock", judge=REQUESTS)
async def _(world: World) -> object:
    lock = lock_of(world)
    return await accept(world, bytes((lock[0] ^ 1,)) + lock[1:])


@on_accept("MALFORMED", "a leg that the swap has not", says="leg", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world), leg=2)


@on_accept("WRONG_ROLLUP", "a lock for another rollup", says="alpha", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world, rollup=RollupId("beta")))


@on_accept("MALFORMED", "a lock of another swap", says="another swap", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world, call=Lock(SwapId(OTHER_ID), 0)))


@on_accept("MALFORMED", "a lock of another leg", says="another leg", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world, call=Lock(swap_id_of(world.collecting), 1)))


@on_accept("MALFORMED", "a stranger's lock", says="leg's sender", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world, by="carol"))


@on_accept("EXPIRED", "a lock whose window has passed", says="lock", judge=REQUESTS)
async def _(world: World) -> object:
    return await accept(world, lock_of(world, valid_until_ms=await world.time_ms() - 1_000))


@on_accept("TOO_FAR_AHEAD", "a lock whose window is more than 600,000 ms ahead", judge=REQUESTS)
async def _(world: World) -> object:
    far_ms = await world.time_ms() + limits.VALIDITY_WINDOW_MS_MAX + 60_000
    return await accept(world, lock_of(world, valid_until_ms=far_ms))


@on_accept("", "a lock too late: its swap is decided", says="the swap as it is; nothing is sent", judge=CALLS)
async def _(world: World) -> object:
    swap_id = swap_id_of(world.committed)
    before = await world.clients.bridge.swap(swap_id)
    late = lock_of(world, by="bob", call=Lock(swap_id, 0), valid_until_ms=await world.time_ms() + AHEAD_MS)
    answer = await accept(world, late, terms=world.committed)
    assert isinstance(answer, bridge_pb2.AcceptResponse)
    assert answer.swap.sequence == before.sequence
    return answer


# --- reveals and cancellations ----------------------------------------------------------------------------


async def reveal(world: World, swap_id: bytes, preimage: bytes) -> object:
    request = bridge_pb2.RevealRequest(swap_id=swap_id, preimage=preimage)
    return await world.bridge.Reveal(request, timeout=TIMEOUT_S)


async def cancel(world: World, entry: bytes) -> object:
    return await world.bridge.Cancel(bridge_pb2.CancelRequest(cancel=entry), timeout=TIMEOUT_S)


@on_reveal("MALFORMED", "a preimage of 31 bytes", says="preimage", judge=REQUESTS)
async def _(world: World) -> object:
    return await reveal(world, swap_id_of(world.locked), bytes(31))


@on_reveal("MALFORMED", "a preimage of 33 bytes", says="preimage", judge=REQUESTS)
async def _(world: World) -> object:
    return await reveal(world, swap_id_of(world.locked), bytes(33))


@on_reveal("MALFORMED", "a swap's id of 31 bytes", says="swap_id", judge=REQUESTS)
async def _(world: World) -> object:
    return await reveal(world, OTHER_ID[1:], bytes(32))


@on_reveal("UNKNOWN_SWAP", "an unknown swap", says="holds no swap", judge=CALLS)
async def _(world: World) -> object:
    return await reveal(world, OTHER_ID, bytes(32))


@on_reveal("USELESS_ENTRY", "another preimage than the hashlock's", says="does not open", judge=CALLS)
async def _(world: World) -> object:
    return await reveal(world, swap_id_of(world.locked), bytes(32))


@on_reveal("USELESS_ENTRY", "a swap that is not in the order yet", says="not in the order yet", judge=CALLS)
async def _(world: World) -> object:
    preimage = world.alice.preimage(world.collecting).reveal()
    return await reveal(world, swap_id_of(world.collecting), preimage)


@on_reveal("", "a reveal again, of a swap that is decided", says="the first receipt", judge=CALLS)
async def _(world: World) -> object:
    preimage = world.bob.preimage(world.committed).reveal()
    answer = await reveal(world, swap_id_of(world.committed), preimage)
    assert isinstance(answer, bridge_pb2.RevealResponse)
    assert answer.placement.height < world.since
    return answer


@on_cancel("MALFORMED", "an entry that cannot be read", says="version", judge="lockstep/swap_entries.py")
async def _(world: World) -> object:
    return await cancel(world, b"\7")


@on_cancel("MALFORMED", "a Reveal instead of a Cancel", says="cancel", judge=REQUESTS)
async def _(world: World) -> object:
    return await cancel(world, encode_reveal(swap_id_of(world.locked), bytes(32)))


@on_cancel("WRONG_CHAIN", "a Cancel for another chain", judge=REQUESTS)
async def _(world: World) -> object:
    key = world.network.traders["alice"]
    return await cancel(world, sign_cancel(key, OTHER_CHAIN, swap_id_of(world.locked)))


@on_cancel("UNKNOWN_SWAP", "an unknown swap", says="holds no swap", judge=CALLS)
async def _(world: World) -> object:
    return await cancel(world, world.alice.sign_cancel(SwapId(OTHER_ID)))


@on_cancel("BAD_SIGNATURE", "a Cancel by another than the revealer", says="cancellation", judge=REQUESTS)
async def _(world: World) -> object:
    return await cancel(world, world.bob.sign_cancel(swap_id_of(world.locked)))


@on_cancel("USELESS_ENTRY", "a swap that is not in the order yet", says="not in the order yet", judge=CALLS)
async def _(world: World) -> object:
    return await cancel(world, world.alice.sign_cancel(swap_id_of(world.collecting)))


@on_cancel("USELESS_ENTRY", "a swap that is decided", says="COMMITTED already", judge=CALLS)
async def _(world: World) -> object:
    return await cancel(world, world.bob.sign_cancel(swap_id_of(world.committed)))


# --- streams of items -------------------------------------------------------------------------------------


on_stream = partial(case, "Bridge.SwapStream", "MALFORMED", judge="bridge/streams.py")


@on_stream("an item without a request, answered in-band", says="request")
async def _(world: World) -> object:
    items = [bridge_pb2.SwapStreamItem(correlation_id=number) for number in range(2)]
    outcomes = await through(world.bridge.SwapStream, [bridge_pb2.SwapStreamRequest(items=items)], 2)
    raise_first(outcomes)
    return outcomes


@on_stream("a message without items", says="items")
async def _(world: World) -> object:
    return await through(world.bridge.SwapStream, [bridge_pb2.SwapStreamRequest()], 1)


@on_stream("257 items", says="items")
async def _(world: World) -> object:
    items = [bridge_pb2.SwapStreamItem(correlation_id=number) for number in range(257)]
    return await through(world.bridge.SwapStream, [bridge_pb2.SwapStreamRequest(items=items)], 257)


# --- what is asked ----------------------------------------------------------------------------------------

on_list = partial(case, "Bridge.ListSwaps", "MALFORMED", judge=SERVICE)
on_watch = partial(case, "Bridge.WatchSwaps")


async def listed(world: World, **fields: object) -> object:
    return await world.bridge.ListSwaps(
        bridge_pb2.ListSwapsRequest(**fields),  # type: ignore[arg-type]
        timeout=TIMEOUT_S,
    )


async def watch(world: World, from_sequence: int = 0, *swap_ids: bytes, party: bytes = b"") -> object:
    request = bridge_pb2.WatchSwapsRequest(from_sequence=from_sequence, swap_ids=swap_ids, party=party)
    return await first_of(world.bridge.WatchSwaps(request, timeout=TIMEOUT_S))


@case("Bridge.GetSwap", "MALFORMED", "a swap's id of 31 bytes", says="swap_id", judge=REQUESTS)
async def _(world: World) -> object:
    request = bridge_pb2.BridgeGetSwapRequest(swap_id=OTHER_ID[1:])
    return await world.bridge.GetSwap(request, timeout=TIMEOUT_S)


@case("Bridge.GetSwap", "UNKNOWN_SWAP", "an unknown swap", says="holds no swap", judge=SERVICE)
async def _(world: World) -> object:
    return await world.bridge.GetSwap(bridge_pb2.BridgeGetSwapRequest(swap_id=OTHER_ID), timeout=TIMEOUT_S)


@case("Bridge.ExplainSwap", "MALFORMED", "a swap's id of 31 bytes", says="swap_id", judge=REQUESTS)
async def _(world: World) -> object:
    request = bridge_pb2.ExplainSwapRequest(swap_id=OTHER_ID[1:])
    return await world.bridge.ExplainSwap(request, timeout=TIMEOUT_S)


@case("Bridge.ExplainSwap", "UNKNOWN_SWAP", "an unknown swap", says="holds no swap", judge=SERVICE)
async def _(world: World) -> object:
    return await world.bridge.ExplainSwap(bridge_pb2.ExplainSwapRequest(swap_id=OTHER_ID), timeout=TIMEOUT_S)


@on_list("a page of 257", says="page_size")
async def _(world: World) -> object:
    return await listed(world, page_size=257)


@on_list("a token that this service did not give", says="page_token")
async def _(world: World) -> object:
    return await listed(world, page_token=b"\xff")


@on_list("an unknown phase", says="phases")
async def _(world: World) -> object:
    return await listed(world, phases=[bridge_pb2.SwapPhase.ValueType(99)])


@on_list("a party of 65 bytes", says="party")
async def _(world: World) -> object:
    return await listed(world, party=bytes(65))


@on_watch("MALFORMED", "from beyond 2^63-1", says="from_sequence", judge=SERVICE)
async def _(world: World) -> object:
    return await watch(world, 2**63)


@on_watch("NOT_YET", "from beyond the next change", judge="bridge/watching.py")
async def _(world: World) -> object:
    return await watch(world, 2**63 - 1)


@on_watch("PRUNED", "from before the first change that is kept", judge="bridge/watching.py")
async def _(world: World) -> object:
    return await watch(world, 1)


@on_watch("MALFORMED", "1,025 swaps", says="swap_ids", judge=SERVICE)
async def _(world: World) -> object:
    return await watch(world, 0, *(number.to_bytes(32, "big") for number in range(1_025)))


@on_watch("MALFORMED", "a swap's id of 31 bytes", says="swap_id", judge=REQUESTS)
async def _(world: World) -> object:
    return await watch(world, 0, OTHER_ID[1:])


@on_watch("MALFORMED", "a party of 65 bytes", says="party", judge=SERVICE)
async def _(world: World) -> object:
    return await watch(world, party=bytes(65))
