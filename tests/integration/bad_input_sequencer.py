"""What is wrong and sent to the sequencer."""

from dataclasses import replace
from functools import partial

from lockstep import limits
from lockstep.attesters import AttesterSet
from lockstep.checkpoint import encode_checkpoint, sign_note
from lockstep.hashing import SIGN_REGISTRY
from lockstep.registry_entries import (
    Drain,
    RegistryChange,
    SetAttesters,
    SignedBy,
    encode_change,
    sign_change,
)
from lockstep.settlement_entries import encode_log_entry
from lockstep.swap_entries import (
    AttestItem,
    RejectReason,
    Verdict,
    encode_reveal,
    sign_attestation,
    sign_cancel,
)
from lockstep.terms import LegKind, Premium, PremiumShare, swap_id_of
from lockstep.types import Height, RollupId, SwapId
from lockstep.v1 import sequencer_pb2
from tests.integration.bad_input import case
from tests.integration.bad_input_world import (
    OTHER_CHAIN,
    OTHER_ID,
    TIMEOUT_S,
    World,
    bundle_message,
    first_of,
    raise_first,
    raw,
    submit,
    submit_open,
    through,
)

SUBMIT = "Sequencer.Submit"
ADMISSION = "sequencer/admission.py"
JUDGEMENT = "sequencer/judgement.py"
EDGE = "deploy/node/interceptor.py"
GRPC = "gRPC"
on_submit = partial(case, SUBMIT, judge=ADMISSION)
on_useless = partial(case, SUBMIT, "USELESS_ENTRY", judge=JUDGEMENT)

# --- the bundle -------------------------------------------------------------------------------------------


@case(SUBMIT, "MALFORMED", "bytes that are no message", says="request", judge=EDGE)
async def _(world: World) -> object:
    return await raw(world, "sequencer", "Sequencer/Submit", b"\xff\xff")


@case(SUBMIT, "RESOURCE_EXHAUSTED", "a message of more than 3 MiB", says="larger than max", judge=GRPC)
async def _(world: World) -> object:
    return await raw(world, "sequencer", "Sequencer/Submit", bytes(limits.MESSAGE_BYTES_MAX + 1))


@case(SUBMIT, "DEADLINE_TOO_LONG", "a deadline of an hour", judge=EDGE)
async def _(world: World) -> object:
    return await raw(world, "sequencer", "Sequencer/Submit", b"", timeout_s=3_600)


@on_submit("MALFORMED", "no bundle", says="transactions")
async def _(world: World) -> object:
    return await world.sequencer.Submit(sequencer_pb2.SubmitRequest(), timeout=TIMEOUT_S)


@on_submit("MALFORMED", "an empty payload", says="payload")
async def _(world: World) -> object:
    return await submit(world, ("alpha", b""))


@on_submit("OVERSIZED", "a payload of 65,537 bytes", says="bytes of the payload")
async def _(world: World) -> object:
    return await submit(world, ("alpha", bytes(limits.PAYLOAD_BYTES_MAX + 1)))


@on_submit("OVERSIZED", "33 transactions", says="transactions of the bundle")
async def _(world: World) -> object:
    return await submit(world, *[("alpha", b"x")] * 33)


@on_submit("OVERSIZED", "262,145 bytes of payloads", says="bytes of the bundle")
async def _(world: World) -> object:
    return await submit(world, *[("alpha", bytes(limits.PAYLOAD_BYTES_MAX))] * 4, ("alpha", b"x"))


@on_submit("MALFORMED", "a namespace that cannot be", says="namespace")
async def _(world: World) -> object:
    return await submit(world, ("Alpha", b"x"))


@on_submit("UNKNOWN_NAMESPACE", "a rollup that is not registered", says="'delta'")
async def _(world: World) -> object:
    return await submit(world, ("delta", b"x"))


@on_submit("UNKNOWN_NAMESPACE", "a good transaction beside one for a wrong rollup", says="'delta'")
async def _(world: World) -> object:
    return await submit(world, ("alpha", b"x"), ("delta", b"x"))


@on_submit("MALFORMED", "no window", says="valid_until_ms")
async def _(world: World) -> object:
    return await submit(world, ("alpha", b"x"), valid_until_ms=0)


@on_submit("MALFORMED", "a window beyond 2^63-1", says="valid_until_ms")
async def _(world: World) -> object:
    return await submit(world, ("alpha", b"x"), valid_until_ms=2**63)


@on_submit("EXPIRED", "a window that has passed", says="bundle")
async def _(world: World) -> object:
    return await submit(world, ("alpha", b"x"), valid_until_ms=world.network.genesis.genesis_time_ms)


@on_submit("TOO_FAR_AHEAD", "a window more than 600,000 ms ahead", says="valid_until_ms")
async def _(world: World) -> object:
    far_ms = await world.time_ms() + limits.VALIDITY_WINDOW_MS_MAX + 60_000
    return await submit(world, ("alpha", b"x"), valid_until_ms=far_ms)


# --- entries of `_swap` -----------------------------------------------------------------------------------


@on_submit("MALFORMED", "an entry of `_swap` that cannot be read", says="version")
async def _(world: World) -> object:
    return await submit(world, ("_swap", b"\x07"))


@on_submit("MALFORMED", "an Open of 17 legs", says="leg_count")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_terms(legs=world.legs * 8 + world.legs[:1]))


@on_submit("MALFORMED", "an Open of one leg", says="leg_count")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_terms(legs=world.legs[:1]))


@on_submit("MALFORMED", "an Open with an amount of zero", says="legs[0].amount")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_leg(amount=0))


@on_submit("MALFORMED", "an Open whose amount and premium overflow", says="premium.shares")
async def _(world: World) -> object:
    premium = Premium(0, (PremiumShare(world.bob.account, limits.AMOUNT_MAX),))
    return await submit_open(world, await world.new_terms(premium=premium))


@on_submit("MALFORMED", "an Open with a leg from somebody to himself", says="legs[0].recipient")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_leg(recipient=world.alice.account))


@on_submit("MALFORMED", "a Reveal of 31 bytes", says="preimage")
async def _(world: World) -> object:
    return await submit(world, ("_swap", encode_reveal(swap_id_of(world.locked), bytes(32))[:-1]))


@on_submit("MALFORMED", "a good transaction beside a Reveal of 33 bytes", says="left over")
async def _(world: World) -> object:
    reveal = encode_reveal(swap_id_of(world.locked), bytes(32)) + b"x"
    return await submit(world, ("alpha", b"x"), ("_swap", reveal))


@on_useless("an Open for another chain", says="another chain")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_terms(chain=OTHER_CHAIN))


@on_useless("an Open again, in another bundle", says="recorded already")
async def _(world: World) -> object:
    return await submit_open(world, world.locked)


@on_useless("an Open whose `lock_by_ms` has passed", says="lock_by_ms")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_terms(lock_by_ms=await world.time_ms() - 1))


@on_useless("an Open whose `lock_by_ms` is more than 60,000 ms ahead", says="lock_by_ms")
async def _(world: World) -> object:
    time_ms = await world.time_ms()
    far = await world.new_terms(lock_by_ms=time_ms + 120_000, expires_ms=time_ms + 180_000)
    return await submit_open(world, far)


@on_useless("an Open that expires in more than a day", says="expires_ms")
async def _(world: World) -> object:
    far_ms = await world.time_ms() + limits.EXPIRY_MS_MAX + 60_000
    return await submit_open(world, await world.new_terms(expires_ms=far_ms))


@on_useless("an Open with a leg that burns", says="BURN")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_leg(kind=LegKind.BURN))


@on_useless("an Open with a leg on a rollup that is not registered", says="delta")
async def _(world: World) -> object:
    return await submit_open(world, await world.new_leg(rollup=RollupId("delta")))


@on_useless("a Reveal of an unknown swap", says="no such swap")
async def _(world: World) -> object:
    return await submit(world, ("_swap", encode_reveal(SwapId(OTHER_ID), bytes(32))))


@on_useless("a Reveal of another preimage", says="not the hashlock's")
async def _(world: World) -> object:
    return await submit(world, ("_swap", encode_reveal(swap_id_of(world.locked), bytes(32))))


@on_useless("a Reveal again, of a swap that is decided", says="COMMITTED already")
async def _(world: World) -> object:
    preimage = world.bob.preimage(world.committed).reveal()
    return await submit(world, ("_swap", encode_reveal(swap_id_of(world.committed), preimage)))


@on_useless("a Cancel by another than the revealer", says="not signed by the terms' revealer")
async def _(world: World) -> object:
    return await submit(world, ("_swap", world.bob.sign_cancel(swap_id_of(world.locked))))


@on_useless("a Cancel for another chain", says="another chain")
async def _(world: World) -> object:
    cancel = sign_cancel(world.network.traders["alice"], OTHER_CHAIN, swap_id_of(world.locked))
    return await submit(world, ("_swap", cancel))


@on_useless("a Cancel of a swap that is decided", says="COMMITTED already")
async def _(world: World) -> object:
    return await submit(world, ("_swap", world.bob.sign_cancel(swap_id_of(world.committed))))


# --- attestations -----------------------------------------------------------------------------------------


async def attest(world: World, signer: str = "alpha-0", **changes: object) -> object:
    return await submit(
        world, ("_swap", sign_attestation(world.keys[signer], await world.attestation(**changes)))
    )


@on_useless("an Attest that contradicts the same key's first one", says="voted")
async def _(world: World) -> object:
    return await attest(world)


@on_useless("an Attest again", says="voted")
async def _(world: World) -> object:
    return await attest(world, items=(item_of(world, Verdict.LOCKED),))


@on_useless("an Attest for another chain", says="another chain")
async def _(world: World) -> object:
    return await attest(world, chain=OTHER_CHAIN)


@on_useless("an Attest on a header that is not this chain's", says="header")
async def _(world: World) -> object:
    return await attest(world, header_hash=OTHER_ID)


@on_useless("an Attest of a height that is not there yet", says="height")
async def _(world: World) -> object:
    return await attest(world, executed_height=Height(10**9))


@on_useless("an Attest under another's signature", says="sign")
async def _(world: World) -> object:
    return await attest(world, "beta-0")


@on_useless("an Attest by a key that is no attester", says="attester")
async def _(world: World) -> object:
    return await attest(world, "governance", attester=world.keys["governance"].public_key)


@on_useless("an Attest of another rollup's leg", says="leg")
async def _(world: World) -> object:
    return await attest(world, items=(replace(item_of(world), leg=1),))


@on_useless("an Attest of an unknown swap", says="no such swap")
async def _(world: World) -> object:
    return await attest(world, items=(replace(item_of(world), swap_id=SwapId(OTHER_ID)),))


def item_of(world: World, verdict: Verdict = Verdict.REJECTED) -> AttestItem:
    reason = RejectReason.NONE if verdict is Verdict.LOCKED else RejectReason.INSUFFICIENT_FUNDS
    return AttestItem(swap_id_of(world.locked), 0, verdict, reason)


# --- the other system namespaces --------------------------------------------------------------------------


@on_submit("MALFORMED", "an entry of `_registry` that cannot be read", says="version")
async def _(world: World) -> object:
    return await submit(world, ("_registry", b"\x07"))


def change(world: World, **changes: object) -> RegistryChange:
    far = Height(10**5)
    return replace(RegistryChange(world.chain, "alpha", 1, far, Drain()), **changes)  # type: ignore[arg-type]


@on_useless("a change of the registry that governance did not sign", says="sign")
async def _(world: World) -> object:
    return await submit(world, ("_registry", sign_change(world.keys["alpha-0"], change(world))))


@on_useless("a change of the registry for another chain", says="chain")
async def _(world: World) -> object:
    entry = sign_change(world.keys["governance"], change(world, chain=OTHER_CHAIN))
    return await submit(world, ("_registry", entry))


@on_useless("a change of the registry with a sequence number that is not the next", says="sequence")
async def _(world: World) -> object:
    return await submit(
        world, ("_registry", sign_change(world.keys["governance"], change(world, sequence=9)))
    )


@on_useless("a change of the registry for a height that has passed", says="takes effect")
async def _(world: World) -> object:
    entry = sign_change(world.keys["governance"], change(world, effective_height=Height(1)))
    return await submit(world, ("_registry", entry))


@on_useless("a set of attesters of whom half suffice", says="threshold")
async def _(world: World) -> object:
    keys = (world.keys["alpha-0"].public_key, world.keys["beta-0"].public_key)
    body = encode_change(change(world, action=SetAttesters(AttesterSet(2, keys))))
    half = body.replace(bytes((2, 2)) + keys[0], bytes((1, 2)) + keys[0])
    assert half != body
    signature = world.keys["governance"].sign(SIGN_REGISTRY, half)
    return await submit(world, ("_registry", bytes((1, SignedBy.GOVERNANCE)) + signature + half))


@on_submit("MALFORMED", "an entry of `_log` without a checkpoint", says="checkpoint")
async def _(world: World) -> object:
    return await submit(world, ("_log", b"\1"))


@case(SUBMIT, "BAD_SIGNATURE", "a checkpoint that the settlement log did not sign", judge=JUDGEMENT)
async def _(world: World) -> object:
    origin, key = world.network.genesis.settlement.origin, world.keys["alpha-0"]
    body = encode_checkpoint(origin, 10**6, bytes(32))
    named = world.keys["settlement"].public_key
    note = sign_note(body, name=origin, public_key=named, sign=key.sign_raw)
    return await submit(world, ("_log", encode_log_entry(note)))


# --- repeated ---------------------------------------------------------------------------------------------


@case(SUBMIT, "", "a bundle again", says="the first receipt", judge="sequencer/live_ids.py")
async def _(world: World) -> object:
    old = sequencer_pb2.SubmitRequest(bundle=world.ordered)
    first = await world.sequencer.Submit(old, timeout=TIMEOUT_S)
    assert await world.sequencer.Submit(old, timeout=TIMEOUT_S) == first
    assert first.placement.height < world.since
    return first


# --- streams of items -------------------------------------------------------------------------------------

STREAM = "Sequencer.SubmitStream"


@case(
    STREAM,
    "UNKNOWN_NAMESPACE",
    "an item for a wrong rollup, answered in-band",
    says="'delta'",
    judge=ADMISSION,
)
async def _(world: World) -> object:
    bad = [await bundle_message(world, ("delta", b"x")), await bundle_message(world, ("alpha", b""))]
    items = [sequencer_pb2.Submission(correlation_id=n, bundle=each) for n, each in enumerate(bad)]
    request = sequencer_pb2.SubmitStreamRequest(submissions=items)
    outcomes = await through(world.sequencer.SubmitStream, [request], 2)
    raise_first(outcomes)
    return outcomes


@case(STREAM, "MALFORMED", "a message without items", says="submissions", judge="sequencer/submissions.py")
async def _(world: World) -> object:
    empty = sequencer_pb2.SubmitStreamRequest()
    return await through(world.sequencer.SubmitStream, [empty], 1)


# --- what is asked ----------------------------------------------------------------------------------------

on_blocks = partial(case, "Sequencer.StreamBlocks", judge="sequencer/service.py")
on_block = partial(case, "Sequencer.GetBlock", judge="sequencer/service.py")
on_find = partial(case, "Sequencer.GetTransaction", judge="sequencer/service.py")


async def blocks(world: World, height: int, *namespaces: str) -> object:
    request = sequencer_pb2.StreamBlocksRequest(from_height=height, namespaces=namespaces)
    return await first_of(world.sequencer.StreamBlocks(request, timeout=TIMEOUT_S))


async def block(world: World, height: int, *namespaces: str) -> object:
    request = sequencer_pb2.GetBlockRequest(height=height, namespaces=namespaces)
    return await world.sequencer.GetBlock(request, timeout=TIMEOUT_S)


async def find(world: World, bundle_id: bytes, valid_until_ms: int = 0) -> object:
    request = sequencer_pb2.GetTransactionRequest(bundle_id=bundle_id, valid_until_ms=valid_until_ms)
    return await world.sequencer.GetTransaction(request, timeout=TIMEOUT_S)


@on_blocks("MALFORMED", "from height 0", says="from_height")
async def _(world: World) -> object:
    return await blocks(world, 0)


@on_blocks("NOT_YET", "from beyond the next block", says="height")
async def _(world: World) -> object:
    return await blocks(world, 10**9)


@on_blocks("MALFORMED", "65 namespaces", says="namespaces")
async def _(world: World) -> object:
    return await blocks(world, 1, *(f"rollup-{number}" for number in range(65)))


@on_blocks("MALFORMED", "a namespace twice", says="twice")
async def _(world: World) -> object:
    return await blocks(world, 1, "alpha", "alpha")


@on_blocks("MALFORMED", "a namespace that cannot be", says="namespaces[1]")
async def _(world: World) -> object:
    return await blocks(world, 1, "alpha", "_other")


@on_block("MALFORMED", "height 0", says="height")
async def _(world: World) -> object:
    return await block(world, 0)


@on_block("MALFORMED", "a height beyond 2^63-1", says="height")
async def _(world: World) -> object:
    return await block(world, 2**63)


@on_block("NOT_YET", "a height that is not there yet", says="newest")
async def _(world: World) -> object:
    return await block(world, 10**9)


@on_find("MALFORMED", "an id of 31 bytes", says="bundle_id")
async def _(world: World) -> object:
    return await find(world, OTHER_ID[1:])


@on_find("MALFORMED", "a window beyond 2^63-1", says="valid_until_ms")
async def _(world: World) -> object:
    return await find(world, OTHER_ID, 2**63)


@on_find("NOT_FOUND", "a bundle that was not ordered so far", says="ordered bundle")
async def _(world: World) -> object:
    return await find(world, OTHER_ID)


@on_find("NEVER_ORDERED", "a bundle whose window passed without it", says="safe to make a new one")
async def _(world: World) -> object:
    return await find(world, OTHER_ID, world.network.genesis.genesis_time_ms)
