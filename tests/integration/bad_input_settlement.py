"""What is wrong and sent to the settlement log."""

from dataclasses import replace
from functools import partial

from lockstep import limits
from lockstep.block import AdmittedBundle, build_block
from lockstep.commitment import Commitment
from lockstep.hashing import SIGN_HEADER
from lockstep.header import Tip, encode_header, sign_header
from lockstep.order import Transaction, decode_entry, decode_namespace_leaves, transaction_hash
from lockstep.registry_entries import Drain, RegistryChange, SignedBy, sign_change
from lockstep.settlement_entries import (
    CommitmentEntry,
    Evidence,
    EvidenceKind,
    GenesisEntry,
    HeaderRange,
    PostedCommitment,
    ProvenHeader,
    Registration,
    SettlementEntry,
    encode_proven_header,
    encode_settlement_entry,
    registrations_of,
    sign_commitment,
)
from lockstep.types import REGISTRY_NAMESPACE, BundleId, HeaderHash, Height, RollupId, Signature
from lockstep.v1 import settlement_pb2
from tests.integration.bad_input import case
from tests.integration.bad_input_world import (
    OTHER_CHAIN,
    OTHER_ID,
    TIMEOUT_S,
    World,
    first_of,
    raise_first,
    raw,
    through,
)

APPEND = "Settlement.Append"
RULES = "lockstep/settlement_log.py"
on_layout = partial(case, APPEND, "MALFORMED", judge="lockstep/settlement_entries.py")
on_append = partial(case, APPEND, judge=RULES)
on_evidence = partial(case, APPEND, judge="lockstep/settlement_evidence.py")


async def append(world: World, entry: SettlementEntry | bytes) -> settlement_pb2.AppendResponse:
    encoded = entry if isinstance(entry, bytes) else encode_settlement_entry(entry)
    return await world.settlement.Append(settlement_pb2.AppendRequest(entry=encoded), timeout=TIMEOUT_S)


# --- layout -----------------------------------------------------------------------------------------------


@case(APPEND, "MALFORMED", "bytes that are no message", says="request", judge="deploy/node/interceptor.py")
async def _(world: World) -> object:
    return await raw(world, "settlement", "Settlement/Append", b"\xff\xff")


@case(APPEND, "RESOURCE_EXHAUSTED", "a message of more than 3 MiB", says="larger than max", judge="gRPC")
async def _(world: World) -> object:
    return await raw(world, "settlement", "Settlement/Append", bytes(limits.MESSAGE_BYTES_MAX + 1))


@on_layout("no entry", says="version")
async def _(world: World) -> object:
    return await append(world, b"")


@on_layout("an entry of an unknown type", says="type")
async def _(world: World) -> object:
    return await append(world, b"\1\7")


@on_layout("an entry with a byte left over", says="left over")
async def _(world: World) -> object:
    return await append(world, encode_settlement_entry(await world.newest_range()) + b"x")


@on_layout("a statement of 65,537 bytes under evidence", says="first")
async def _(world: World) -> object:
    large = bytes(limits.PAYLOAD_BYTES_MAX + 1)
    return await append(world, Evidence(EvidenceKind.ATTESTATIONS, large, b"x"))


# --- headers, and evidence about them ---------------------------------------------------------------------


async def altered(world: World, signer: str = "sequencer", **changes: object) -> HeaderRange:
    """The newest header range with another header, signed again."""
    newest = await world.newest_range()
    encoded = encode_header(replace(newest.last.header, **changes))  # type: ignore[arg-type]
    last = ProvenHeader(encoded, world.keys[signer].sign(SIGN_HEADER, encoded))
    return replace(newest, last=last)


@on_append("DISCONTINUOUS", "a second genesis entry", says="no other")
async def _(world: World) -> object:
    return await append(world, GenesisEntry(world.chain, "another.example/log"))


@on_append("WRONG_CHAIN", "a genesis entry of another chain")
async def _(world: World) -> object:
    return await append(world, GenesisEntry(OTHER_CHAIN, world.network.genesis.settlement.origin))


@on_append("WRONG_CHAIN", "a header of another chain")
async def _(world: World) -> object:
    return await append(world, await altered(world, chain=OTHER_CHAIN))


@on_append("BAD_SIGNATURE", "a header that the sequencer did not sign", says="header")
async def _(world: World) -> object:
    return await append(world, await altered(world, "alpha-0", data_root=OTHER_ID))


@on_append("DISCONTINUOUS", "a header range with a gap before it", says="anchored is")
async def _(world: World) -> object:
    far = Height(10**9)
    gap = await altered(world, height=far, parent_hash=OTHER_ID)
    return await append(world, replace(gap, first_height=far, parent_hash=HeaderHash(OTHER_ID)))


def headers(first: ProvenHeader, second: ProvenHeader) -> Evidence:
    return Evidence(EvidenceKind.HEADERS, encode_proven_header(first), encode_proven_header(second))


@on_evidence("MALFORMED", "evidence of two headers that do not contradict each other", says="another height")
async def _(world: World) -> object:
    newest = (await world.newest_range()).last
    other = replace(newest.header, height=Height(newest.header.height + 1))
    second = ProvenHeader(encode_header(other), newest.proof)
    return await append(world, headers(newest, second))


@on_evidence("BAD_SIGNATURE", "evidence with a header that the sequencer did not sign", says="header")
async def _(world: World) -> object:
    forged = await altered(world, "alpha-0", data_root=OTHER_ID)
    return await append(world, headers((await world.newest_range()).last, forged.last))


@on_evidence("MALFORMED", "evidence of attestations that are none", says="version")
async def _(world: World) -> object:
    return await append(world, Evidence(EvidenceKind.ATTESTATIONS, b"one", b"other"))


@on_append("CONTRADICTION", "a second signed header at an anchored height", says="evidence")
async def _(world: World) -> object:
    return await append(world, await altered(world, data_root=OTHER_ID))


# --- commitments ------------------------------------------------------------------------------------------


async def said(world: World, **changes: object) -> PostedCommitment:
    return replace((await world.commitment()).posted, **changes)  # type: ignore[arg-type]


async def lied(world: World, **changes: object) -> Commitment:
    commitment = (await world.commitment()).posted.commitment
    return replace(commitment, **changes)  # type: ignore[arg-type]


@on_append("WRONG_CHAIN", "a commitment for another chain")
async def _(world: World) -> object:
    return await append(world, sign_commitment(world.keys["alpha-0"], await said(world, chain=OTHER_CHAIN)))


@on_append(
    "UNKNOWN_KEY", "a commitment by a key that does not attest for the rollup", says="commitment of alpha"
)
async def _(world: World) -> object:
    key = world.keys["beta-0"]
    return await append(world, sign_commitment(key, await said(world, attester=key.public_key)))


@on_append("UNKNOWN_KEY", "a commitment of a rollup that is not registered", says="commitment of delta")
async def _(world: World) -> object:
    delta = await lied(world, rollup=RollupId("delta"))
    return await append(world, sign_commitment(world.keys["alpha-0"], await said(world, commitment=delta)))


@on_append("BAD_SIGNATURE", "a commitment under another's signature", says="commitment")
async def _(world: World) -> object:
    lie = await said(world, commitment=await lied(world, state_root=OTHER_ID))
    entry = sign_commitment(world.keys["beta-0"], lie)
    return await append(world, CommitmentEntry(Signature(entry.signature), entry.body, entry.posted))


@on_append("NOT_YET", "a commitment about a header that is not anchored yet", says="newest")
async def _(world: World) -> object:
    far = await lied(world, height=8 * 10**8)
    return await append(world, sign_commitment(world.keys["alpha-0"], await said(world, commitment=far)))


@on_append("CONTRADICTION", "a second commitment of one key at one height", says="evidence")
async def _(world: World) -> object:
    lie = await said(world, commitment=await lied(world, state_root=OTHER_ID))
    return await append(world, sign_commitment(world.keys["alpha-0"], lie))


# --- registrations -----------------------------------------------------------------------------------------


def registration(world: World, key: str, *, sequencer: str = "sequencer", **changes: object) -> Registration:
    """A change in governance's name, in a block that nobody ordered."""
    change = RegistryChange(world.chain, "alpha", 1, Height(10**6 + 10), Drain())
    change = replace(change, **changes)  # type: ignore[arg-type]
    transaction = Transaction(REGISTRY_NAMESPACE, sign_change(world.keys[key], change, SignedBy.GOVERNANCE))
    hashed = transaction_hash(*transaction)
    bundle = AdmittedBundle(BundleId(OTHER_ID), (transaction,), (hashed,), 30_000)
    parent = Tip(world.chain, Height(10**6), HeaderHash(OTHER_ID), 1_000)
    block = build_block(parent, 1_100, [bundle])
    proof = sign_header(world.keys[sequencer], block.header_bytes)
    entries = [decode_entry(each) for each in block.entries[REGISTRY_NAMESPACE]]
    leaves = decode_namespace_leaves(block.leaves_bytes)
    [registered] = registrations_of(ProvenHeader(block.header_bytes, proof), leaves, entries)
    return registered


@on_layout("a registration whose header has another data root", says="data root")
async def _(world: World) -> object:
    honest = registration(world, "governance")
    return await append(world, replace(honest, header=(await world.newest_range()).last))


@on_layout("a registration whose entry is not in the block", says="inclusion proof")
async def _(world: World) -> object:
    honest = registration(world, "governance")
    return await append(world, replace(honest, entry=replace(honest.entry, payload=b"another")))


@on_append("WRONG_CHAIN", "a registration for another chain")
async def _(world: World) -> object:
    return await append(world, registration(world, "governance", chain=OTHER_CHAIN))


@on_append("BAD_SIGNATURE", "a registration whose header the sequencer did not sign", says="header")
async def _(world: World) -> object:
    return await append(world, registration(world, "governance", sequencer="settlement"))


@on_append("DISCONTINUOUS", "a registration that the chain ignored", says="is not signed by")
async def _(world: World) -> object:
    return await append(world, registration(world, "alpha-0"))


@on_append("DISCONTINUOUS", "a registration behind one that is missing", says="has sequence")
async def _(world: World) -> object:
    return await append(world, registration(world, "governance", sequence=2))


# --- repeated ---------------------------------------------------------------------------------------------


@on_append("", "an entry again", says="its first index")
async def _(world: World) -> object:
    entry = await world.newest_range()
    first = await append(world, entry)
    again = await append(world, entry)
    assert (first.index, first.index > 0) == (again.index, True)
    return again


# --- streams of items -------------------------------------------------------------------------------------


@case(
    "Settlement.AppendStream",
    "MALFORMED",
    "an item that cannot be read, answered in-band",
    says="version",
    judge=RULES,
)
async def _(world: World) -> object:
    items = [settlement_pb2.AppendItem(correlation_id=number, entry=b"") for number in range(2)]
    request = settlement_pb2.AppendStreamRequest(items=items)
    outcomes = await through(world.settlement.AppendStream, [request], 2)
    raise_first(outcomes)
    return outcomes


@case(
    "Settlement.AppendStream",
    "MALFORMED",
    "a message without items",
    says="items",
    judge="bridge/settlement/messages.py",
)
async def _(world: World) -> object:
    return await through(world.settlement.AppendStream, [settlement_pb2.AppendStreamRequest()], 1)


# --- what is asked ----------------------------------------------------------------------------------------

on_inclusion = partial(case, "Settlement.GetInclusionProof", judge="bridge/settlement/service.py")
on_consistency = partial(case, "Settlement.GetConsistencyProof", judge="bridge/settlement/service.py")
on_anchor = partial(case, "Settlement.GetAnchor", judge="bridge/settlement/service.py")


async def inclusion(world: World, index: int, size: int) -> object:
    request = settlement_pb2.GetInclusionProofRequest(index=index, size=size)
    return await world.settlement.GetInclusionProof(request, timeout=TIMEOUT_S)


async def consistency(world: World, old_size: int, new_size: int) -> object:
    request = settlement_pb2.GetConsistencyProofRequest(old_size=old_size, new_size=new_size)
    return await world.settlement.GetConsistencyProof(request, timeout=TIMEOUT_S)


async def anchor(world: World, height: int, rollup: str = "") -> object:
    request = settlement_pb2.GetAnchorRequest(height=height, rollup=rollup)
    return await world.settlement.GetAnchor(request, timeout=TIMEOUT_S)


@on_inclusion("MALFORMED", "an index that is not below the size", says="index")
async def _(world: World) -> object:
    return await inclusion(world, 2, 2)


@on_inclusion("NOT_YET", "an index that is not there yet", says="newest")
async def _(world: World) -> object:
    return await inclusion(world, 2**64 - 1, 0)


@on_inclusion("NOT_YET", "a size that is not there yet", says="newest")
async def _(world: World) -> object:
    return await inclusion(world, 0, 2**64 - 1)


@on_consistency("MALFORMED", "an old size above the new one", says="old_size")
async def _(world: World) -> object:
    return await consistency(world, 2, 1)


@on_consistency("NOT_YET", "an old size that is not there yet", says="newest")
async def _(world: World) -> object:
    return await consistency(world, 2**64 - 1, 0)


@case(
    "Settlement.StreamEntries", "NOT_YET", "from beyond the next entry", judge="bridge/settlement/service.py"
)
async def _(world: World) -> object:
    request = settlement_pb2.StreamEntriesRequest(from_index=2**64 - 1)
    return await first_of(world.settlement.StreamEntries(request, timeout=TIMEOUT_S))


@on_anchor("MALFORMED", "height 0", says="height")
async def _(world: World) -> object:
    return await anchor(world, 0)


@on_anchor("MALFORMED", "a rollup's name that cannot be", says="rollup")
async def _(world: World) -> object:
    return await anchor(world, 1, "Alpha")


@on_anchor("NOT_FOUND", "a rollup that is not registered", says="delta")
async def _(world: World) -> object:
    return await anchor(world, 1, "delta")


@on_anchor("NOT_YET", "a height that is not anchored yet", says="newest")
async def _(world: World) -> object:
    return await anchor(world, 10**9)


@on_anchor("NOT_YET", "a commitment that is not anchored yet", says="newest")
async def _(world: World) -> object:
    return await anchor(world, 10**9, "alpha")
