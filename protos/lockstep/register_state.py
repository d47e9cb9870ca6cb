"""The swap register after a block, what a block brings to it, and what then happens: the register as data.

Owns the records that `lockstep.register` steps, and the root over them. Immutable: `apply_block` returns a
new register and leaves the old one valid. Invariant: everything
but the root's tree and the two indexes (`alarms`, `changed`) follows from the order alone, and those follow
from the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

from lockstep import limits
from lockstep.block import VerifiedBlock
from lockstep.encoding import u64
from lockstep.genesis import Genesis
from lockstep.hashing import REGISTER, tagged_hash
from lockstep.header import Tip
from lockstep.layered_map import LayeredMap
from lockstep.merkle_map import MapProof, MerkleMap
from lockstep.register_records import Place, SwapRecord, Vote
from lockstep.registry import RegistryEvent
from lockstep.registry_state import Registry
from lockstep.types import (
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    HeaderHash,
    Height,
    SwapId,
)

__pure__ = True


class Crowdable(NamedTuple):
    """The swaps that can make room in a full register, by their openings, in order of opening."""

    decided: Sequence[tuple[Place, SwapId]]
    """Decided swaps: the first to go."""
    unattested: Sequence[tuple[Place, SwapId]]
    """Undecided swaps without an attested leg."""


@dataclass(frozen=True, eq=False)
class Register:
    """The register after a block. Two of them are equal if their roots are."""

    registry: Registry
    """Who and what the chain knows."""
    records: LayeredMap[SwapId, SwapRecord]
    """The swaps, in order of opening; at most REGISTER_RECORDS_MAX."""
    height: Height
    """The block just applied; 0 at genesis."""
    header_hash: HeaderHash
    """The hash of its header; the chain id at genesis."""
    time_ms: int
    """Its log time; the genesis time at genesis."""
    header_hashes: LayeredMap[Height, HeaderHash]
    """The last HEADERS_REMEMBERED hashes, this block's included, ascending."""
    attestations: LayeredMap[Place, bytes]
    """The last ATTESTATIONS_REMEMBERED `_swap` entries of which a vote counted, ascending by place."""
    merkle_map: MerkleMap
    """The tree over the records' bytes, by swap id."""
    alarms: LayeredMap[int, LayeredMap[SwapId, None]]
    """The records by the next log time at which each must be looked at: see `alarm_ms`."""
    changed: Mapping[SwapId, bytes | None]
    """The bytes of the records that the block opened or changed; None for one that it dropped."""

    @property
    def map_root(self) -> bytes:
        """The 32 bytes of the root over all records."""
        return self.merkle_map.root

    @cached_property
    def root(self) -> bytes:
        """The 32 bytes that stand for all of this (section 8)."""
        body = u64(self.height) + self.header_hash + self.map_root + self.registry.digest
        return tagged_hash(REGISTER, body)

    @property
    def tip(self) -> Tip:
        """What the next header is judged against."""
        return Tip(self.registry.chain_id, self.height, self.header_hash, self.time_ms)

    @cached_property
    def crowdable(self) -> Crowdable:
        """The swaps that can make room in a full register. Made when first asked for, from all records."""
        decided, unattested = [], []
        for record in self.records.values():
            if record.decision is not None:
                decided.append((record.opened, record.swap_id))
            elif not record.has_attested_leg:
                unattested.append((record.opened, record.swap_id))
        return Crowdable(decided, unattested)

    def record(self, swap_id: SwapId) -> SwapRecord | None:
        """Return a swap's record; None if it was never opened, or is dropped."""
        return self.records.get(swap_id)

    def header_hash_at(self, height: Height) -> HeaderHash | None:
        """Return the hash of a block's header; None if it is not remembered, and for height 0."""
        return self.header_hashes.get(height)

    def record_proof(self, swap_id: SwapId) -> MapProof:
        """Return the proof under `map_root` of a swap's record, or that there is none."""
        return self.merkle_map.proof(swap_id)


def genesis_register(genesis: Genesis) -> Register:
    """Return the register of a chain without blocks."""
    return Register(
        registry=Registry.from_genesis(genesis),
        records=LayeredMap(),
        height=Height(0),
        header_hash=HeaderHash(genesis.chain_id),
        time_ms=genesis.genesis_time_ms,
        header_hashes=LayeredMap(),
        attestations=LayeredMap(),
        merkle_map=MerkleMap(),
        alarms=LayeredMap(),
        changed={},
    )


def alarm_ms(record: SwapRecord, time_ms: int) -> int:
    """Return the first log time after `time_ms`, the newest block's, at which a record must be looked at.

    For an undecided swap this is its next deadline. A decided one is dropped by the first later block whose
    time has reached `lock_by_ms`.
    """
    if time_ms < record.terms.lock_by_ms:
        return record.terms.lock_by_ms
    return time_ms + 1 if record.is_terminal else record.terms.expires_ms


# --- what a block brings ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockInput:
    """The part of a block that the register reads."""

    height: Height
    """Its height, one above the register's."""
    header_hash: HeaderHash
    """The hash of its header."""
    time_ms: int
    """Its log time, 1..2,000 ms above the register's."""
    registry_entries: Sequence[tuple[int, bytes]]
    """Index and payload of its `_registry` entries, in order."""
    swap_entries: Sequence[tuple[int, bytes]]
    """Index and payload of its `_swap` entries, in order."""


def input_of(block: VerifiedBlock) -> BlockInput:
    """Return what the register reads of a block; KeyError if it was not verified for `_swap`, `_registry`."""
    return BlockInput(
        height=block.header.height,
        header_hash=block.hash,
        time_ms=block.header.time_ms,
        registry_entries=[(each.index, each.payload) for each in block.entries[REGISTRY_NAMESPACE]],
        swap_entries=[(each.index, each.payload) for each in block.entries[SWAP_NAMESPACE]],
    )


# --- what then happens --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """A swap was recorded."""

    record: SwapRecord
    """Its record."""


@dataclass(frozen=True, slots=True)
class Voted:
    """An attester's verdict on a leg counted."""

    record: SwapRecord
    """The record after it."""
    leg: int
    """The leg."""
    vote: Vote
    """The verdict and whose it is."""


@dataclass(frozen=True, slots=True)
class Revealed:
    """A swap's preimage was shown for the first time."""

    record: SwapRecord
    """The record after it."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A swap was committed or aborted. This settles its legs: the record may be gone when the block ends."""

    record: SwapRecord
    """The record, which never changes again."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A decided swap's record was dropped."""

    swap_id: SwapId
    """Its id."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An entry changed nothing."""

    index: int
    """Its place in the block."""
    reason: str
    """The first rule that it broke, in words that continue `ignored because`. No rule depends on it."""


@dataclass(frozen=True, slots=True)
class RegistryChanged:
    """A change of the registry was accepted, took effect, turned out void, or was vetoed."""

    event: RegistryEvent
    """Which change, and what became of it."""


@dataclass(frozen=True, slots=True)
class Contradicted:
    """An attester contradicted its own earlier verdict on a leg of one and the same opening."""

    first: bytes
    """The `_swap` entry of the verdict that stands."""
    second: bytes
    """The `_swap` entry that contradicts it."""


RegisterEvent: TypeAlias = (
    Opened | Voted | Revealed | Decided | Dropped | Ignored | RegistryChanged | Contradicted
)

assert limits.MAX_ADVANCE_MS < limits.REVEAL_WINDOW_MS_MIN, "no block passes both deadlines of a swap"
