"""What a rollup node answers, verified: messages in, frozen records out.

Owns the checks between an answer and the commitment that it comes under, and between that commitment and the
signed header of its block. Does no I/O. Invariant: a record returned from here is what a node with this
commitment must have answered; whether the commitment is the honest one, only its attesters, the settlement
log or executing the order again can tell.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lockstep import limits
from lockstep.commitment import (
    Commitment,
    EscrowRecord,
    balance_key,
    decode_commitment,
    decode_escrow_record,
    escrow_key,
)
from lockstep.encoding import Reader, u64, u128
from lockstep.errors import Malformed, WrongChain, WrongRollup
from lockstep.genesis import Genesis
from lockstep.hashing import REGISTER, tagged_hash
from lockstep.header import header_hash
from lockstep.merkle import verify_inclusion
from lockstep.merkle_map import MapProof, verify_map_proof
from lockstep.receipts import Receipt, decode_receipt, receipt_leaf_hash
from lockstep.register import EncodedRecord, decode_record
from lockstep.settlement_entries import (
    CommitmentEntry,
    ProvenHeader,
    decode_settlement_entry,
    verify_commitment,
    verify_proven_header,
)
from lockstep.types import ChainId, PublicKey, SwapId
from lockstep.v1 import common_pb2, rollup_pb2
from sequencer.client.records import KeyAt

_AMOUNT: Final = re.compile(r"0|[1-9][0-9]{0,38}")


@dataclass(frozen=True, slots=True)
class ProvenCommitment:
    """A commitment whose block is known to be one of the chain."""

    commitment: Commitment
    """The commitment."""
    header: ProvenHeader
    """The signed header of its block."""
    posted: CommitmentEntry | None
    """The commitment under an attester's signature, if one was made for this height."""


@dataclass(frozen=True, slots=True)
class RollupStatus:
    """Where a node stands."""

    chain_id: ChainId
    """The chain."""
    rollup: str
    """The rollup."""
    modules: tuple[str, ...]
    """The modules of its runtime."""
    height: int
    """The last executed block; 0 before the first."""
    time_ms: int
    """Its log time."""
    head_height: int
    """The newest block that the sequencer told the node of."""
    commitment: Commitment | None
    """The commitment after `height`; None before the first block."""
    attester: PublicKey | None
    """The key with which the node attests; None if it only follows."""
    outbox_items: int
    """Verdicts that its key has not attested in the order yet."""
    posted_height: int
    """Height of its key's last commitment in the settlement log; 0 if none."""
    first_available_height: int
    """The first height whose commitment can be had."""
    not_ready_reason: str
    """Why the node does not answer for its state; empty if it does."""
    stage_ns: Mapping[str, int]
    """How long each stage of a block took since it started, in ns of real time, in the stages' order."""


@dataclass(frozen=True, slots=True)
class ProvenState:
    """Some values of a rollup's state, all after the same block."""

    values: Mapping[bytes, bytes | None]
    """The value of each key that was asked for (protos/README.md, section 10); None if there is none."""
    commitment: Commitment
    """What they were proven under."""


@dataclass(frozen=True, slots=True)
class ProvenReceipt:
    """A receipt with its proof, for others to verify."""

    receipt: Receipt
    """What it says."""
    encoded: bytes
    """Its bytes."""
    index: int
    """Its index among all of the rollup."""
    proof: tuple[bytes, ...]
    """Its inclusion under `commitment`: the siblings, lowest first."""
    commitment: Commitment
    """What it was proven under."""


@dataclass(frozen=True, slots=True)
class RollupSwap:
    """What the register and a rollup's escrow say of a swap."""

    height: int
    """The block after which this holds."""
    record: EncodedRecord | None
    """The register's record; None if it was dropped."""
    escrows: Mapping[int, EscrowRecord]
    """The escrow records of this rollup's legs that have a verdict and are not settled."""
    commitment: Commitment
    """What it was proven under."""


@dataclass(frozen=True, slots=True)
class ReceiptsPart:
    """Some receipts of a stream, in order. The node's word: `RollupClient.receipt` has a proof of each."""

    receipts: tuple[tuple[int, Receipt], ...]
    """The receipts with their indexes; without a filter there are no gaps."""
    next_index: int
    """Where to resume: the index behind the last receipt that was looked at."""
    height: int
    """The height up to which every receipt was sent."""


def verified_commitment(
    message: common_pb2.ProvenCommitment, *, genesis: Genesis, rollup: str, sequencer_key: KeyAt
) -> ProvenCommitment:
    """Return a commitment after checking it.

    1. It parses and is this rollup's. 2. Its header parses, is this chain's and at its height. 3. The
    sequencer signed the header. 4. An entry for the settlement log, if there is one, says the same and is
    signed by the attester that it names. Raises `Malformed`, `WrongRollup`, `WrongChain` or `BadSignature`.
    """
    commitment = decode_commitment(message.commitment)
    if commitment.rollup != rollup:
        raise WrongRollup(expected=rollup, found=commitment.rollup)
    if message.header.proof_kind != common_pb2.HEADER_PROOF_KIND_SEQUENCER_SIGNATURE:
        raise Malformed(
            what="answer", field="commitment.header.proof_kind", reason="is not a sequencer's signature"
        )
    proven = ProvenHeader(message.header.header, message.header.proof)
    header = proven.header
    if header.chain != genesis.chain_id:
        raise WrongChain(expected=genesis.chain_id.hex(), found=header.chain.hex())
    if header.height != commitment.height:
        raise Malformed(
            what="answer", field="commitment.header", reason=f"is of height {header.height}, not of its own"
        )
    verify_proven_header(sequencer_key(header.height), proven)
    return ProvenCommitment(commitment, proven, _verified_posted(message.posted, commitment, proven))


def verified_status(
    message: rollup_pb2.RollupGetStatusResponse, *, genesis: Genesis, rollup: str, sequencer_key: KeyAt
) -> RollupStatus:
    """Return a node's status; its commitment is checked, the rest is what the node says."""
    if message.chain_id != genesis.chain_id:
        raise WrongChain(expected=genesis.chain_id.hex(), found=message.chain_id.hex())
    if message.rollup != rollup:
        raise WrongRollup(expected=rollup, found=message.rollup)
    commitment = None
    if message.HasField("commitment"):
        proven = verified_commitment(
            message.commitment, genesis=genesis, rollup=rollup, sequencer_key=sequencer_key
        )
        commitment = proven.commitment
    if (0 if commitment is None else commitment.height) != message.height:
        raise Malformed(what="answer", field="height", reason="is not that of its commitment")
    return RollupStatus(
        chain_id=ChainId(message.chain_id),
        rollup=message.rollup,
        modules=tuple(message.modules),
        height=message.height,
        time_ms=message.time_ms,
        head_height=message.head_height,
        commitment=commitment,
        attester=PublicKey(message.attester) if message.attester else None,
        outbox_items=message.outbox_items,
        posted_height=message.posted_height,
        first_available_height=message.first_available_height,
        not_ready_reason=message.not_ready_reason,
        stage_ns={each.stage: each.total_ns for each in message.stages},
    )


def verified_balances(
    balances: Sequence[rollup_pb2.Balance], *, account: PublicKey, commitment: Commitment
) -> Mapping[str, int]:
    """Return balances by asset after checking each proof. Raises `Malformed` or `ProofInvalid`."""
    verified = {}
    for balance in balances:
        if _AMOUNT.fullmatch(balance.amount) is None or int(balance.amount) > limits.AMOUNT_MAX:
            raise Malformed(what="answer", field="balances.amount", reason="is no amount")
        amount = int(balance.amount)
        verify_map_proof(
            MapProof.decode(balance.proof),
            root=commitment.state_root,
            key=balance_key(balance.asset.encode(), account),
            value=u128(amount) if amount else None,
        )
        verified[balance.asset] = amount
    return verified


def verified_state(
    values: Sequence[rollup_pb2.StateValue], *, keys: Sequence[bytes], commitment: Commitment
) -> ProvenState:
    """Return the values of `keys` after checking each proof. Raises `Malformed` or `ProofInvalid`."""
    if [value.key for value in values] != list(keys):
        raise Malformed(what="answer", field="values", reason="are not those of the keys asked for")
    verified = {}
    for value in values:
        verified[value.key] = value.value if value.HasField("value") else None
        verify_map_proof(
            MapProof.decode(value.proof),
            root=commitment.state_root,
            key=value.key,
            value=verified[value.key],
        )
    return ProvenState(verified, commitment)


def verified_receipt(message: rollup_pb2.ProvenReceipt, *, commitment: Commitment) -> ProvenReceipt:
    """Return a receipt after checking that it is in the tree of the commitment's receipts."""
    if message.proof.size != commitment.receipt_count:
        raise Malformed(what="answer", field="receipt.proof.size", reason="is not the commitment's count")
    verify_inclusion(
        leaf_hash=receipt_leaf_hash(message.receipt),
        index=message.proof.index,
        size=message.proof.size,
        proof=tuple(message.proof.hashes),
        root=commitment.receipts_root,
    )
    return ProvenReceipt(
        receipt=decode_receipt(message.receipt),
        encoded=message.receipt,
        index=message.proof.index,
        proof=tuple(message.proof.hashes),
        commitment=commitment,
    )


def read_receipts(
    message: rollup_pb2.StreamReceiptsResponse, *, from_index: int | None, is_filtered: bool
) -> ReceiptsPart:
    """Return a part of a stream that continues at an index, if that is known. Raises `Malformed`."""
    indexes = [each.index for each in message.receipts]
    first = indexes[0] if from_index is None and indexes else from_index or 0
    expected = list(range(first, message.next_index))
    if message.next_index <= first or (indexes != expected and not is_filtered):
        raise Malformed(what="answer", field="receipts", reason="leave a gap")
    if indexes != sorted(set(indexes) & set(expected)):
        raise Malformed(what="answer", field="receipts", reason="are not in order")
    receipts = tuple((each.index, decode_receipt(each.receipt)) for each in message.receipts)
    return ReceiptsPart(receipts, message.next_index, message.height)


def verified_swap(
    message: rollup_pb2.RollupGetSwapResponse, *, swap_id: SwapId, proven: ProvenCommitment
) -> RollupSwap:
    """Return what is known of a swap: the record under the register's root, escrows under the state's."""
    commitment = proven.commitment
    parts = Reader(message.register_parts, "register parts")
    map_root, registry_digest = parts.take(32, "map_root"), parts.take(32, "registry_digest")
    parts.finish()
    place = u64(commitment.height) + header_hash(proven.header.encoded)
    if tagged_hash(REGISTER, place + map_root + registry_digest) != commitment.register_root:
        raise Malformed(
            what="answer", field="register_parts", reason="do not make the commitment's register root"
        )
    record = None
    if message.record:
        verify_map_proof(
            MapProof.decode(message.record_proof), root=map_root, key=swap_id, value=message.record
        )
        record = decode_record(message.record)
        if record.swap_id != swap_id:
            raise Malformed(what="answer", field="record", reason="is another swap's")
    escrows = {}
    for escrow in message.escrows:
        key = escrow_key(swap_id, escrow.leg) if escrow.leg < limits.LEGS_MAX else b""
        verify_map_proof(
            MapProof.decode(escrow.proof), root=commitment.state_root, key=key, value=escrow.record
        )
        escrows[escrow.leg] = decode_escrow_record(escrow.record)
    return RollupSwap(commitment.height, record, escrows, commitment)


def _verified_posted(
    entry_bytes: bytes, commitment: Commitment, proven: ProvenHeader
) -> CommitmentEntry | None:
    if not entry_bytes:
        return None
    entry = decode_settlement_entry(entry_bytes)
    if (
        not isinstance(entry, CommitmentEntry)
        or entry.posted.commitment != commitment
        or entry.posted.header_hash != header_hash(proven.encoded)
    ):
        raise Malformed(what="answer", field="commitment.posted", reason="says something else")
    verify_commitment(entry)
    return entry
