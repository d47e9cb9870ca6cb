"""What the settlement log answers, verified: messages in, frozen records out.

Owns the checks between an answer and the checkpoint that it comes under. Does no I/O. Invariant: a record
returned from here is what a log with this checkpoint must have answered. Whether the checkpoint extends those
seen before is the client's to find out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lockstep.checkpoint import Checkpoint
from lockstep.errors import Malformed, ProofInvalid, WrongChain
from lockstep.genesis import Genesis
from lockstep.merkle import Frontier, leaf_hash, verify_inclusion
from lockstep.settlement_entries import (
    CommitmentEntry,
    HeaderRange,
    decode_settlement_entry,
    verify_commitment,
    verify_proven_header,
)
from lockstep.v1 import common_pb2, settlement_pb2
from sequencer.client.records import KeyAt


@dataclass(frozen=True, slots=True)
class Anchor:
    """The entry that anchors a header or a commitment, proven to be in the log."""

    index: int
    """Its place in the log, from 0."""
    entry: bytes
    """The entry: a header range that covers the height, or the commitment that completed the threshold."""
    proof: tuple[bytes, ...]
    """Its inclusion under `checkpoint`: the siblings, lowest first."""
    checkpoint: Checkpoint
    """What the log said of itself."""
    note: bytes
    """The same as a signed note, for others to verify."""


@dataclass(frozen=True, slots=True)
class ProvenEntries:
    """Entries of the log, all proven under one checkpoint, for others to verify."""

    entries: Mapping[int, tuple[bytes, tuple[bytes, ...]]]
    """Each entry by its index, with its inclusion under `checkpoint`: the siblings, lowest first."""
    checkpoint: Checkpoint
    """What the log said of itself."""
    note: bytes
    """The same as a signed note."""


@dataclass(frozen=True, slots=True)
class AnchoredCommitment:
    """The last commitment of a rollup that its threshold of attesters agreed on in the log."""

    height: int
    """Its height."""
    commitment_hash: bytes
    """32 bytes: its hash."""
    index: int
    """Index of the entry that completed the threshold."""


@dataclass(frozen=True, slots=True)
class SettlementStatus:
    """Where the log stands. Its size is proven by a checkpoint; the rest is the log's word."""

    size: int
    """Entries of the log."""
    anchored_height: int
    """Height of the last header that is anchored; 0 if none."""
    anchored_hash: bytes
    """32 bytes: hash of that header; the chain id if none."""
    rollups: Mapping[str, AnchoredCommitment]
    """The last anchored commitment of each rollup that has one."""
    evidence_count: int
    """Entries of evidence in the log."""


def verified_entry(
    response: settlement_pb2.GetInclusionProofResponse, *, index: int, checkpoint: Checkpoint
) -> bytes:
    """Return the entry at an index that was asked for, proven to be there under a checkpoint.

    Raises `Malformed`, `ProofInvalid`.
    """
    _require_place(response.proof, index=index, size=checkpoint.size)
    _verify_leaf(response.entry, response.proof, checkpoint)
    return response.entry


def verified_anchor(
    response: settlement_pb2.GetAnchorResponse,
    *,
    height: int,
    rollup: str | None,
    checkpoint: Checkpoint,
    genesis: Genesis,
    sequencer_key: KeyAt,
) -> Anchor:
    """Return the anchor that was asked for.

    1. The proof is of the entry's index, in the tree of the checkpoint (Malformed).
    2. The entry is in that tree (ProofInvalid).
    3. It is one that can anchor what was asked for (Malformed), for this chain (WrongChain).
    4. Its signer, the sequencer or the attester, signed it (BadSignature).

    That the attester completed the rollup's threshold is the log's word: `lockstep.settlement_log` over all
    entries finds out.
    """
    _require_place(response.proof, index=response.index, size=checkpoint.size)
    _verify_leaf(response.entry, response.proof, checkpoint)
    entry = decode_settlement_entry(response.entry)
    match entry:
        case HeaderRange() if rollup is None and entry.first_height <= height <= entry.last.header.height:
            _require_chain(genesis, entry.last.header.chain)
            verify_proven_header(sequencer_key(entry.last.header.height), entry.last)
        case CommitmentEntry(posted=posted) if (
            rollup == posted.commitment.rollup and height == posted.commitment.height
        ):
            _require_chain(genesis, posted.chain)
            verify_commitment(entry)
        case _:
            raise _malformed("entry", "does not anchor what was asked for")
    return Anchor(
        response.index, response.entry, tuple(response.proof.hashes), checkpoint, response.checkpoint
    )


def verified_status(
    response: settlement_pb2.SettlementGetStatusResponse, *, genesis: Genesis, checkpoint: Checkpoint
) -> SettlementStatus:
    """Return what the log says about itself. Raises `WrongChain`, `Malformed`."""
    _require_chain(genesis, response.chain_id)
    if response.size != checkpoint.size:
        raise _malformed("size", "is not that of the checkpoint")
    if len(response.anchored_hash) != 32:
        raise _malformed("anchored_hash", "is not a hash of 32 bytes")
    rollups = {
        each.rollup: AnchoredCommitment(each.height, each.commitment_hash, each.index)
        for each in response.rollups
    }
    return SettlementStatus(
        size=response.size,
        anchored_height=response.anchored_height,
        anchored_hash=response.anchored_hash,
        rollups=rollups,
        evidence_count=response.evidence_count,
    )


def frontier_after(response: settlement_pb2.GetInclusionProofResponse, *, index: int) -> Frontier:
    """Return the right edge of the log that ends with an entry, out of that entry's proof in this very log.

    The siblings of the last leaf are the roots of the complete subtrees before it. Nothing is proven yet:
    compare the root with one that is known. Raises `Malformed`, `ProofInvalid`.
    """
    _require_place(response.proof, index=index, size=index + 1)
    try:
        return Frontier(index, tuple(reversed(response.proof.hashes))).append(leaf_hash(response.entry))
    except ValueError as error:
        raise ProofInvalid(reason=f"it is not that of the last of {index + 1} entries") from error


def extended(frontier: Frontier, entries: Sequence[bytes]) -> Frontier:
    """Return the right edge of the log with more entries."""
    return frontier.extend(leaf_hash(entry) for entry in entries)


def _verify_leaf(entry: bytes, proof: common_pb2.InclusionProof, checkpoint: Checkpoint) -> None:
    verify_inclusion(
        leaf_hash=leaf_hash(entry),
        index=proof.index,
        size=proof.size,
        proof=proof.hashes,
        root=checkpoint.root,
    )


def _require_place(proof: common_pb2.InclusionProof, *, index: int, size: int) -> None:
    if (proof.index, proof.size) != (index, size):
        raise _malformed("proof", f"is of entry {proof.index} of {proof.size}, not of {index} of {size}")


def _require_chain(genesis: Genesis, chain: bytes) -> None:
    if chain != genesis.chain_id:
        raise WrongChain(expected=genesis.chain_id.hex(), found=chain.hex())


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="answer of the settlement log", field=field, reason=reason)
