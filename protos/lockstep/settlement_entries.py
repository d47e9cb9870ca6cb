"""Entries of the settlement log, and of the namespace `_log` that carries its checkpoints.

Owns the bytes of protos/README.md, section 11, and the signature of a posted commitment. Does not decide what
may be appended: that needs the log. Invariant: what decodes has one reading, headers in it are headers, and
an entry of a REGISTRATION is in the block that its header is of; signatures are verified separately.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from lockstep import limits
from lockstep.commitment import Commitment
from lockstep.encoding import Reader, numbers_of, u8, u64, var8, var16, var32
from lockstep.errors import BadSignature, ProofInvalid
from lockstep.genesis_schema import is_origin
from lockstep.hashing import SIGN_COMMITMENT, ZERO_HASH
from lockstep.header import HEADER_BYTES, Header, decode_header, verify_header_signature
from lockstep.merkle import HASH_BYTES, AppendTree, verify_inclusion
from lockstep.order import (
    ENTRY_PREFIX_BYTES,
    Entry,
    NamespaceLeaf,
    data_root,
    decode_entry,
    decode_namespace_leaves,
    encode_entry,
    encode_namespace_leaves,
    hash_entry,
    is_rollup_id,
)
from lockstep.signing import SIGNATURE_BYTES, SigningKey, verify
from lockstep.types import (
    REGISTRY_NAMESPACE,
    ChainId,
    HeaderHash,
    Height,
    PublicKey,
    RollupId,
    Signature,
)

__pure__ = True

SETTLEMENT_ENTRY_VERSION: Final = 1
LOG_ENTRY_VERSION: Final = 1

STATEMENT_BYTES_MAX: Final = limits.PAYLOAD_BYTES_MAX
"""Bytes of one statement under evidence."""

_LEAVES_BYTES_MAX: Final = 2 + limits.BLOCK_NAMESPACES_MAX * (1 + limits.NAMESPACE_BYTES_MAX + 4 + HASH_BYTES)
_PROOF_HASHES_MAX: Final = (limits.BLOCK_TRANSACTIONS_MAX - 1).bit_length()


class EntryType(IntEnum):
    """What an entry of the settlement log is."""

    GENESIS = 1
    """The chain that the log is for; always entry 0."""
    HEADER_RANGE = 2
    """The next stretch of the chain of headers."""
    COMMITMENT = 3
    """A rollup's commitment, signed by one of its attesters."""
    EVIDENCE = 4
    """Two statements that contradict each other."""
    REGISTRATION = 5
    """A `_registry` entry, with the proof of where it was ordered."""


class ProofKind(IntEnum):
    """How a header is proven."""

    SEQUENCER_SIGNATURE = 1
    """The sequencer's signature of 64 bytes over the header."""


class EvidenceKind(IntEnum):
    """What contradicts what, and as which bytes the statements travel."""

    HEADERS = 1
    """Two headers at one height; each as `encode_proven_header` makes it."""
    ATTESTATIONS = 2
    """Two verdicts of one key on one leg; each a whole `_swap` entry."""
    COMMITMENTS = 3
    """Two commitments of one attester at one height; each a whole entry of this log."""
    REGISTER_ROOTS = 4
    """Two commitments at one height with different register roots; each a whole entry of this log."""


@dataclass(frozen=True, slots=True)
class ProvenHeader:
    """A header with what proves that it was made."""

    encoded: bytes
    """The header's 132 bytes, as signed."""
    proof: bytes
    """The proof; of kind SEQUENCER_SIGNATURE, 64 bytes."""
    proof_kind: ProofKind = ProofKind.SEQUENCER_SIGNATURE
    """What the proof is."""

    @property
    def header(self) -> Header:
        """The header, taken apart."""
        return decode_header(self.encoded)


@dataclass(frozen=True, slots=True)
class GenesisEntry:
    """Says which chain the log is for."""

    chain: ChainId
    """The chain."""
    origin: str
    """The log's name in checkpoints, as in the genesis file."""


@dataclass(frozen=True, slots=True)
class HeaderRange:
    """Anchors every header from one height to another: the last one's hash covers all before it."""

    first_height: Height
    """Height of the first header, from 1."""
    parent_hash: HeaderHash
    """Hash of the header before the first; the chain id before height 1."""
    last: ProvenHeader
    """The last header, at or above the first height."""


@dataclass(frozen=True, slots=True)
class PostedCommitment:
    """What an attester says about its rollup after a block."""

    chain: ChainId
    """The chain."""
    attester: PublicKey
    """Who says it."""
    header_hash: HeaderHash
    """Hash of the header at the commitment's height."""
    commitment: Commitment
    """What it vouches for."""
    previous_height: int
    """Height of this attester's commitment before this one; 0 for its first."""
    previous_commitment: bytes
    """32 bytes: hash of that commitment; zeros for its first."""


@dataclass(frozen=True, slots=True)
class CommitmentEntry:
    """A posted commitment under its attester's signature."""

    signature: Signature
    """The attester's, over `body`. Not verified by decoding: see `verify_commitment`."""
    body: bytes
    """The bytes that are signed."""
    posted: PostedCommitment
    """What they say."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two statements of which at most one can be honest. Not judged by decoding."""

    kind: EvidenceKind
    """What contradicts what."""
    first: bytes
    """The statement that was known first, 1..65,536 bytes."""
    second: bytes
    """The statement that contradicts it."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A change of the registry, proven to be ordered, so that the log alone tells whose signatures counted.

    Decoding verifies all of it but the header's proof and what the registry makes of the change.
    """

    header: ProvenHeader
    """The header of the block in which it was ordered."""
    leaves: tuple[NamespaceLeaf, ...]
    """What that block holds for every namespace: they make the header's data root."""
    entry: Entry
    """The entry of `_registry`."""
    leaf_index: int
    """Which of the block's `_registry` entries it is, from 0."""
    proof: tuple[bytes, ...]
    """The siblings that prove this, lowest first, 32 bytes each."""

    @property
    def height(self) -> Height:
        """Height of the block."""
        return self.header.header.height

    @property
    def index(self) -> int:
        """The entry's place in the block."""
        return self.entry.index

    @property
    def payload(self) -> bytes:
        """The change, as `lockstep.registry_entries` reads it."""
        return self.entry.payload


SettlementEntry: TypeAlias = GenesisEntry | HeaderRange | CommitmentEntry | Evidence | Registration


def sign_commitment(key: SigningKey, posted: PostedCommitment) -> CommitmentEntry:
    """Sign a commitment as its attester. Only ever for a state that is durable."""
    body = _encode_posted(posted)
    return CommitmentEntry(key.sign(SIGN_COMMITMENT, body), body, posted)


def verify_commitment(entry: CommitmentEntry) -> None:
    """Check that the attester named in a commitment signed it. Raises `BadSignature`.

    Whether that key attests for the rollup is the registry's to say.
    """
    if not verify(SIGN_COMMITMENT, entry.posted.attester, entry.body, entry.signature):
        raise BadSignature(what="commitment", signer=entry.posted.attester.hex())


def verify_proven_header(sequencer: PublicKey, proven: ProvenHeader) -> None:
    """Check a header's proof. Raises `BadSignature`."""
    verify_header_signature(sequencer, proven.encoded, Signature(proven.proof))


def registrations_of(
    header: ProvenHeader, leaves: Sequence[NamespaceLeaf], entries: Sequence[Entry]
) -> tuple[Registration, ...]:
    """Return a registration for each entry of `_registry` in a block.

    `leaves` are all of the block's, `entries` all of its `_registry` entries in order, as a follower has
    them; whether what they hold is a change, or valid, is not looked at.
    """
    tree = AppendTree(hash_entry(REGISTRY_NAMESPACE, encode_entry(each)) for each in entries)
    return tuple(
        Registration(header, tuple(leaves), entry, leaf_index, tree.inclusion_proof(leaf_index))
        for leaf_index, entry in enumerate(entries)
    )


def encode_settlement_entry(entry: SettlementEntry) -> bytes:
    """Return an entry's bytes, which are a leaf of the log."""
    match entry:
        case GenesisEntry():
            return _head(EntryType.GENESIS) + entry.chain + var8(entry.origin.encode("ascii"))
        case HeaderRange():
            start = u64(entry.first_height) + entry.parent_hash
            return _head(EntryType.HEADER_RANGE) + start + encode_proven_header(entry.last)
        case CommitmentEntry():
            return _head(EntryType.COMMITMENT) + entry.signature + entry.body
        case Evidence():
            statements = var32(entry.first) + var32(entry.second)
            return _head(EntryType.EVIDENCE) + u8(entry.kind) + statements
        case Registration():
            return _head(EntryType.REGISTRATION) + _encode_registration(entry)


def decode_settlement_entry(encoded: bytes) -> SettlementEntry:
    """Parse an entry of the log. Raises `Malformed`."""
    reader = Reader(encoded, "settlement entry")
    reader.version(SETTLEMENT_ENTRY_VERSION)
    entry_type = reader.u8("type")
    match entry_type:
        case EntryType.GENESIS:
            entry: SettlementEntry = _genesis_entry(reader)
        case EntryType.HEADER_RANGE:
            entry = _header_range(reader)
        case EntryType.COMMITMENT:
            signature, body = Signature(reader.take(SIGNATURE_BYTES, "signature")), reader.rest()
            entry = CommitmentEntry(signature, body, _decode_posted(body))
        case EntryType.EVIDENCE:
            entry = _evidence(reader)
        case EntryType.REGISTRATION:
            entry = _registration(reader)
        case _:
            raise reader.malformed("type", f"{entry_type} is unknown")
    reader.finish()
    return entry


def encode_proven_header(proven: ProvenHeader) -> bytes:
    """Return `var16(header) | u8 proof_kind | var16(proof)`."""
    return var16(proven.encoded) + u8(proven.proof_kind) + var16(proven.proof)


def decode_proven_header(encoded: bytes) -> ProvenHeader:
    """Parse a header with its proof, which is not verified. Raises `Malformed`."""
    reader = Reader(encoded, "proven header")
    proven = _proven_header(reader)
    reader.finish()
    return proven


def encode_log_entry(checkpoint: bytes) -> bytes:
    """Return the entry of `_log` that carries a signed checkpoint (`lockstep.checkpoint`)."""
    return u8(LOG_ENTRY_VERSION) + checkpoint


def decode_log_entry(encoded: bytes) -> bytes:
    """Return the signed checkpoint of an entry of `_log`, not parsed or verified. Raises `Malformed`."""
    reader = Reader(encoded, "log entry")
    reader.version(LOG_ENTRY_VERSION)
    checkpoint = reader.rest()
    if not checkpoint:
        raise reader.malformed("checkpoint", "is missing")
    return checkpoint


def _head(entry_type: EntryType) -> bytes:
    return u8(SETTLEMENT_ENTRY_VERSION) + u8(entry_type)


def _encode_posted(posted: PostedCommitment) -> bytes:
    commitment = posted.commitment
    return (
        posted.chain
        + var8(commitment.rollup.encode("ascii"))
        + posted.attester
        + u64(commitment.height)
        + posted.header_hash
        + commitment.state_root
        + u64(commitment.receipt_count)
        + commitment.receipts_root
        + commitment.register_root
        + u64(posted.previous_height)
        + posted.previous_commitment
    )


def _decode_posted(body: bytes) -> PostedCommitment:
    reader = Reader(body, "commitment")
    chain = ChainId(reader.take(32, "chain"))
    rollup = reader.var8("rollup", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX).decode("latin-1")
    attester, height = PublicKey(reader.take(32, "attester")), reader.u64("height")
    header_hash = HeaderHash(reader.take(32, "header_hash"))
    commitment = Commitment(
        rollup=RollupId(rollup),
        height=height,
        state_root=reader.take(32, "state_root"),
        receipt_count=reader.u64("receipt_count"),
        receipts_root=reader.take(32, "receipts_root"),
        register_root=reader.take(32, "register_root"),
    )
    previous_height, previous = reader.u64("previous_height"), reader.take(32, "previous_commitment")
    reader.finish()
    if not is_rollup_id(rollup):
        raise reader.malformed("rollup", "does not match [a-z0-9-]{1,32}")
    if not previous_height < height < 2**63:
        raise reader.malformed("height", "does not lie above previous_height and below 2^63")
    if (previous_height == 0) != (previous == ZERO_HASH):
        raise reader.malformed("previous_commitment", "is zeros exactly for an attester's first commitment")
    return PostedCommitment(chain, attester, header_hash, commitment, previous_height, previous)


def _genesis_entry(reader: Reader) -> GenesisEntry:
    chain = ChainId(reader.take(32, "chain"))
    origin = reader.var8("origin").decode("latin-1")
    if not is_origin(origin):
        raise reader.malformed("origin", "is not 1 to 255 printable ASCII characters without space and plus")
    return GenesisEntry(chain, origin)


def _header_range(reader: Reader) -> HeaderRange:
    first_height, parent_hash = Height(reader.u64("first_height")), HeaderHash(reader.take(32, "parent_hash"))
    last = _proven_header(reader)
    header = last.header
    if not 1 <= first_height <= header.height:
        raise reader.malformed("first_height", f"is {first_height}, the last header's is {header.height}")
    if first_height == header.height and parent_hash != header.parent_hash:
        raise reader.malformed("parent_hash", "is not the one in the range's only header")
    if first_height == 1 and parent_hash != HeaderHash(header.chain):
        raise reader.malformed("parent_hash", "is not the chain id although the range starts at height 1")
    return HeaderRange(first_height, parent_hash, last)


def _proven_header(reader: Reader) -> ProvenHeader:
    encoded = reader.var16("header", bytes_min=HEADER_BYTES, bytes_max=HEADER_BYTES)
    decode_header(encoded)
    kind = reader.u8("proof_kind")
    if kind != ProofKind.SEQUENCER_SIGNATURE:
        raise reader.malformed("proof_kind", f"{kind} is unknown")
    proof = reader.var16("proof", bytes_min=SIGNATURE_BYTES, bytes_max=SIGNATURE_BYTES)
    return ProvenHeader(encoded, proof, ProofKind(kind))


def _evidence(reader: Reader) -> Evidence:
    kind = reader.u8("kind")
    if kind not in numbers_of(EvidenceKind):
        raise reader.malformed("kind", f"{kind} is unknown")
    first, second = _statement(reader, "first"), _statement(reader, "second")
    if first == second:
        raise reader.malformed("second", "is the first statement again")
    if kind == EvidenceKind.HEADERS:
        for statement in (first, second):
            decode_proven_header(statement)
    return Evidence(EvidenceKind(kind), first, second)


def _encode_registration(registration: Registration) -> bytes:
    return (
        encode_proven_header(registration.header)
        + var32(encode_namespace_leaves(registration.leaves))
        + var32(encode_entry(registration.entry))
        + u64(registration.leaf_index)
        + u8(len(registration.proof))
        + b"".join(registration.proof)
    )


def _registration(reader: Reader) -> Registration:
    """Parse a registration and verify that the entry is in the header's block."""
    proven = _proven_header(reader)
    leaves = decode_namespace_leaves(reader.var32("leaves", bytes_max=_LEAVES_BYTES_MAX))
    encoded = reader.var32("entry", bytes_max=ENTRY_PREFIX_BYTES + limits.PAYLOAD_BYTES_MAX)
    entry, leaf_index, proof_hashes = decode_entry(encoded), reader.u64("leaf_index"), reader.u8("n")
    if proof_hashes > _PROOF_HASHES_MAX:
        raise reader.malformed("n", f"is {proof_hashes}, allowed are {_PROOF_HASHES_MAX}")
    proof = tuple(reader.take(HASH_BYTES, "inclusion proof") for _ in range(proof_hashes))
    header = proven.header
    if len(leaves) != header.namespace_count or data_root(leaves) != header.data_root:
        raise reader.malformed("leaves", "do not make the header's data root")
    leaf = next((each for each in leaves if each.namespace == REGISTRY_NAMESPACE), None)
    if leaf is None:
        raise reader.malformed("leaves", "have none of _registry")
    if entry.index >= header.transaction_count:
        raise reader.malformed("entry", "has a place beyond the end of its block")
    hashed = hash_entry(REGISTRY_NAMESPACE, encoded)
    try:
        verify_inclusion(leaf_hash=hashed, index=leaf_index, size=leaf.count, proof=proof, root=leaf.root)
    except ProofInvalid as error:
        raise reader.malformed("inclusion proof", f"does not hold: {error.message}") from error
    return Registration(proven, leaves, entry, leaf_index, proof)


def _statement(reader: Reader, field: str) -> bytes:
    return reader.var32(field, bytes_min=1, bytes_max=STATEMENT_BYTES_MAX)
