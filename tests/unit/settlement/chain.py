"""A chain with its keys, and everything that can be put into its settlement log: what these tests share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from lockstep.attesters import AttesterSet
from lockstep.commitment import Commitment, commitment_hash
from lockstep.errors import LockstepError
from lockstep.genesis import RollupDefinition, Settlement, encode_genesis, parse_genesis
from lockstep.hashing import ZERO_HASH
from lockstep.header import Header, encode_header, header_hash, sign_header
from lockstep.order import (
    Entry,
    NamespaceLeaf,
    data_root,
    encode_entry,
    hash_entry,
    namespace_leaves,
)
from lockstep.registry_entries import Action, RegistryChange, SignedBy, sign_change
from lockstep.settlement_entries import (
    Evidence,
    EvidenceKind,
    HeaderRange,
    PostedCommitment,
    ProvenHeader,
    Registration,
    encode_proven_header,
    encode_settlement_entry,
    registrations_of,
    sign_commitment,
)
from lockstep.settlement_log import (
    Candidate,
    Log,
    Step,
    empty_log,
    genesis_entry,
    lookups,
    read_candidate,
    step,
)
from lockstep.settlement_names import Found
from lockstep.signing import SigningKey
from lockstep.swap_entries import Attestation, AttestItem, RejectReason, Verdict, sign_attestation
from lockstep.types import (
    REGISTRY_NAMESPACE,
    BundleId,
    ChainId,
    HeaderHash,
    Height,
    Namespace,
    RollupId,
    SwapId,
)

INTERVAL = 4
ORIGIN = "test.example/settlement"


def key_of(name: str) -> SigningKey:
    """Return the key of a role or an attester by its name."""
    return SigningKey(name.encode().ljust(32, b"."))


ATTESTERS: Mapping[str, tuple[str, ...]] = {"alpha": ("a0", "a1", "a2"), "beta": ("b0",)}
"""The attesters of each rollup; `alpha` needs two of three."""

GENESIS_BYTES = encode_genesis(
    name="test",
    genesis_time_ms=1_000,
    sequencer=key_of("sequencer").public_key,
    settlement=Settlement(ORIGIN, key_of("settlement").public_key),
    governance=key_of("governance").public_key,
    rollups=[
        RollupDefinition(
            RollupId(rollup),
            AttesterSet(len(names) // 2 + 1, tuple(key_of(name).public_key for name in names)),
        )
        for rollup, names in ATTESTERS.items()
    ],
    rotation_delay_blocks=5,
    anchor_interval_blocks=INTERVAL,
)
GENESIS = parse_genesis(GENESIS_BYTES)
CHAIN = GENESIS.chain_id


@dataclass
class Chain:
    """Headers of the chain, or of a fork of it, as far as they were asked for."""

    fork: int = 0
    """Chains of different forks have different headers."""
    sequencer: str = "sequencer"
    """Who signs."""
    changes: Mapping[int, Sequence[bytes]] = field(default_factory=dict)
    """By height, what is ordered in `_registry`."""
    first_index: int = 0
    """Place of the first of these in its block."""
    headers: list[bytes] = field(default_factory=list)

    def header(self, height: int) -> ProvenHeader:
        """Return the signed header at a height."""
        while len(self.headers) < height:
            parent = header_hash(self.headers[-1]) if self.headers else HeaderHash(CHAIN)
            self.headers.append(encode_header(self._next(parent)))
        encoded = self.headers[height - 1]
        return ProvenHeader(encoded, sign_header(key_of(self.sequencer), encoded))

    def hash(self, height: int) -> HeaderHash:
        """Return the hash of the header at a height; the chain id at 0."""
        return header_hash(self.header(height).encoded) if height else HeaderHash(CHAIN)

    def range(self, first: int, last: int) -> bytes:
        """Return the entry that anchors headers `first` to `last`."""
        entry = HeaderRange(Height(first), self.hash(first - 1), self.header(last))
        return encode_settlement_entry(entry)

    def registration(self, height: int, number: int = 0) -> Registration:
        """Return the registration of one of the changes in a block."""
        entries = self._entries(height)
        return registrations_of(self.header(height), leaves_of(entries), entries)[number]

    def commitment(
        self,
        name: str,
        height: int,
        previous: bytes | None = None,
        *,
        rollup: str = "",
        state: int = 0,
        register: int = 0,
        chain: ChainId = CHAIN,
        key: SigningKey | None = None,
    ) -> bytes:
        """Return an attester's commitment at a height, `previous` being its entry before."""
        committed = Commitment(
            rollup=RollupId(rollup or rollup_of(name)),
            height=height,
            state_root=bytes([state]) * 32,
            receipt_count=height,
            receipts_root=bytes([1]) * 32,
            register_root=bytes([register]) * 32,
        )
        before = None if previous is None else posted_of(previous).commitment
        posted = PostedCommitment(
            chain=chain,
            attester=key_of(name).public_key,
            header_hash=self.hash(height),
            commitment=committed,
            previous_height=0 if before is None else before.height,
            previous_commitment=ZERO_HASH if before is None else commitment_hash(before),
        )
        return encode_settlement_entry(sign_commitment(key or key_of(name), posted))

    def _next(self, parent: HeaderHash) -> Header:
        height = len(self.headers) + 1
        entries = self._entries(height)
        leaves = leaves_of(entries)
        return Header(
            chain=CHAIN,
            height=Height(height),
            parent_hash=parent,
            time_ms=1_000 + 100 * height,
            data_root=data_root(leaves) if leaves else bytes([self.fork]) * 32,
            namespace_count=len(leaves),
            bundle_count=len(entries),
            transaction_count=self.first_index + len(entries),
            payload_bytes=sum(len(each.payload) for each in entries),
        )

    def _entries(self, height: int) -> list[Entry]:
        return [
            Entry(index, index, 1, 30_000, BundleId(sha256(payload).digest()), payload)
            for index, payload in enumerate(self.changes.get(height, ()), self.first_index)
        ]


def leaves_of(
    entries: Sequence[Entry], namespace: Namespace = REGISTRY_NAMESPACE
) -> tuple[NamespaceLeaf, ...]:
    """Return the leaves of a block that has entries of one namespace only."""
    hashes = [hash_entry(namespace, encode_entry(each)) for each in entries]
    return namespace_leaves({namespace: hashes}) if entries else ()


def rollup_of(name: str) -> str:
    """Return the rollup that an attester speaks for."""
    return next((rollup for rollup, names in ATTESTERS.items() if name in names), "alpha")


def posted_of(encoded: bytes) -> PostedCommitment:
    """Return what a commitment's entry says."""
    entry = read_candidate(encoded).entry
    posted = getattr(entry, "posted", None)
    assert isinstance(posted, PostedCommitment)
    return posted


def registration(
    action: Action,
    *,
    subject: str,
    effective: int,
    sequence: int = 1,
    height: int = 1,
    index: int = 0,
    key: str = "governance",
    signed_by: SignedBy = SignedBy.GOVERNANCE,
    chain: ChainId = CHAIN,
    sequencer: str = "sequencer",
) -> bytes:
    """Return the entry that registers a change, ordered in a block of its own."""
    change = RegistryChange(chain, subject, sequence, Height(effective), action)
    payload = sign_change(key_of(key), change, signed_by)
    block = Chain(sequencer=sequencer, changes={height: [payload]}, first_index=index)
    return encode_settlement_entry(block.registration(height))


def attestation(
    name: str,
    verdict: Verdict,
    *,
    chain: Chain,
    height: int = INTERVAL,
    leg: int = 0,
    reason: RejectReason = RejectReason.OTHER,
    key: SigningKey | None = None,
    chain_id: ChainId = CHAIN,
) -> bytes:
    """Return an attester's `_swap` entry with one verdict; `reason` is that of a rejection."""
    given = RejectReason.NONE if verdict == Verdict.LOCKED else reason
    item = AttestItem(SwapId(bytes([9]) * 32), leg, verdict, given)
    said = Attestation(
        chain=chain_id,
        rollup=RollupId(rollup_of(name)),
        attester=key_of(name).public_key,
        executed_height=Height(height),
        header_hash=chain.hash(height),
        items=(item,),
    )
    return sign_attestation(key or key_of(name), said)


def evidence(kind: EvidenceKind, first: bytes, second: bytes) -> bytes:
    """Return an entry of evidence."""
    return encode_settlement_entry(Evidence(kind, first, second))


def headers_evidence(first: ProvenHeader, second: ProvenHeader) -> bytes:
    """Return evidence of two headers."""
    return evidence(EvidenceKind.HEADERS, encode_proven_header(first), encode_proven_header(second))


class Judged:
    """A log in memory that judges what it is given, as the process does but for the disk."""

    def __init__(self) -> None:
        self.log: Log = empty_log(GENESIS)
        self.entries: list[bytes] = []
        self.names: dict[str, int] = {}
        self.give(genesis_entry(GENESIS))

    def give(self, encoded: bytes) -> int | LockstepError:
        """Judge an entry, append what the step appends, and return the answer."""
        return self.step(encoded).answer

    def step(self, encoded: bytes) -> Step:
        """Judge an entry and append what the step appends."""
        candidate = read_candidate(encoded)
        done = step(self.log, self._finder(candidate), candidate)
        assert done.log.size == len(self.entries) + len(done.appended)
        self.log = done.log
        self.entries += done.appended
        self.names |= done.names
        return done

    def give_all(self, entries: Sequence[bytes]) -> None:
        """Give entries that must be appended."""
        for each in entries:
            size = len(self.entries)
            assert self.give(each) == size

    def _finder(self, candidate: Candidate):  # type: ignore[no-untyped-def]  # noqa: ANN202  # a closure
        allowed = lookups(self.log, candidate)

        def find(name: str) -> Found | None:
            assert name in allowed, f"{name} was not announced"
            index = self.names.get(name)
            return None if index is None else Found(index, self.entries[index])

        return find


def tampered(encoded: bytes, place: int = -1) -> bytes:
    """Return bytes with one bit changed."""
    changed = bytearray(encoded)
    changed[place] ^= 1
    return bytes(changed)


def resigned(proven: ProvenHeader, **changes: object) -> ProvenHeader:
    """Return a header with other fields, signed again."""
    encoded = encode_header(replace(proven.header, **changes))  # type: ignore[arg-type]  # any field
    return ProvenHeader(encoded, sign_header(key_of("sequencer"), encoded))
