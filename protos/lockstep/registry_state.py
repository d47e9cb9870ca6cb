"""What the chain knows of its rollups and keys after a block: the registry as data.

Owns the records, what others ask of them, and their bytes under the digest. The rules by which the registry
changes are `lockstep.registry`'s. Immutable: mappings in these records are never changed in place. Invariant:
equal digests mean equal registries (of one chain), and the content under a digest restores the registry.

The digest
----------
`H("registry", u64 changed_height | b32 root)`, the root being that of the map (`lockstep.merkle_map`) with

    key                                value
    0x01 | rollup id                   u8 version = 1 | u8 status | u64 drained_ms
                                       | u32 transactions_per_second | u32 bytes_per_second
                                       | u8 threshold | u8 count | count * b32 key | definition (rest)
    0x02 | role                        b32 key
    0x03                               u16 rules version
    0x04 | subject                     u64 sequence
    0x05 | subject | u64 sequence      u64 height | u32 index | `_registry` entry (rest)

`status`: 1 ACTIVE, 2 DRAINING, 3 LEFT. The quota is two zeros where the sequencer's policy decides.
`definition` is the JSON that the rollup's REGISTER_ROLLUP carried; empty for rollups of the genesis file,
which the chain id covers. 0x04 holds each subject that was ever changed, with the sequence of its last
accepted change; 0x05 holds pending changes, with the place of their entry in the order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final, NamedTuple

from lockstep.attesters import AttesterSet, read_attesters
from lockstep.encoding import Reader, numbers_of, u8, u16, u32, u64
from lockstep.errors import Malformed
from lockstep.genesis import ROLE_NAMES, Genesis, Quota, RollupDefinition, parse_rollup_definition
from lockstep.hashing import REGISTRY, tagged_hash
from lockstep.merkle_map import MerkleMap, key_hash, value_hash
from lockstep.registry_entries import (
    RegistryEntry,
    SetRules,
    decode_registry_entry,
    encode_registry_entry,
)
from lockstep.types import ChainId, Height, PublicKey, RollupId

__pure__ = True

_RECORD_VERSION: Final = 1


class _Key(IntEnum):
    """The first byte of a key of the registry's map."""

    ROLLUP = 1
    ROLE = 2
    RULES = 3
    SEQUENCE = 4
    PENDING = 5


class RollupStatus(IntEnum):
    """Where a registered rollup stands."""

    ACTIVE = 1
    """New swaps may name it."""
    DRAINING = 2
    """No new swap may name it; open ones go on."""
    LEFT = 3
    """It is gone for good; its id is not used again."""


class RulesChange(NamedTuple):
    """A later version of the register's rules, announced."""

    height: Height
    """The first block under it."""
    version: int
    """The version."""


@dataclass(frozen=True, slots=True)
class RollupRecord:
    """What holds for a rollup now."""

    definition: RollupDefinition
    """As registered; attesters and quota in it may have changed since."""
    registered_as: bytes
    """The definition's JSON as its REGISTER_ROLLUP carried it; empty if the genesis file has it."""
    attesters: AttesterSet
    """Who speaks for it now."""
    quota: Quota | None
    """Its share of the order now; None leaves it to the sequencer's policy."""
    status: RollupStatus = RollupStatus.ACTIVE
    """Where it stands."""
    drained_ms: int = 0
    """Log time of the block in which DRAIN took effect; 0 before."""


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change that was accepted and has not taken effect yet."""

    height: Height
    """Height of the block that holds its entry."""
    index: int
    """Its entry's place in that block."""
    entry: RegistryEntry
    """The change, with its signature."""


@dataclass(frozen=True)
class Registry:
    """The registry after a block."""

    chain_id: ChainId
    """The chain."""
    rotation_delay_blocks: int
    """How many blocks ahead a key must announce its own replacement."""
    keys: Mapping[str, PublicKey]
    """The key of each role: `sequencer`, `settlement`, `governance`."""
    rules_version: int
    """The version of the register's rules in force."""
    rollups: Mapping[RollupId, RollupRecord]
    """Every rollup ever registered, those that left included."""
    sequences: Mapping[str, int]
    """The sequence of the last accepted change of each subject; a subject that is missing had none."""
    pending: tuple[PendingChange, ...]
    """Accepted changes that have not taken effect, in order of acceptance."""
    changed_height: Height
    """Height of the last block in which a change took effect; 0 if none ever did."""

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> "Registry":
        """Return the registry of a chain without blocks."""
        return cls(
            chain_id=genesis.chain_id,
            rotation_delay_blocks=genesis.rotation_delay_blocks,
            keys={
                "sequencer": genesis.sequencer,
                "settlement": genesis.settlement.public_key,
                "governance": genesis.governance,
            },
            rules_version=genesis.rules_version,
            rollups={
                each.id: RollupRecord(each, b"", each.attesters, each.quota) for each in genesis.rollups
            },
            sequences={},
            pending=(),
            changed_height=Height(0),
        )

    @classmethod
    def restore(
        cls, genesis: Genesis, changed_height: Height, content: Iterable[tuple[bytes, bytes]]
    ) -> "Registry":
        """Return the registry that has this `content`, as `content.items()` gave it.

        Raises `Malformed`. Content of unknown origin is genuine if the result's digest is.
        """
        return _restore(cls.from_genesis(genesis), changed_height, content)

    def rollup(self, rollup_id: str) -> RollupRecord | None:
        """Return what holds for a rollup; None if no such rollup was ever registered."""
        return self.rollups.get(RollupId(rollup_id))

    def is_open_for(self, rollup_id: str) -> bool:
        """Answer whether new swaps may name a rollup."""
        record = self.rollup(rollup_id)
        return record is not None and record.status == RollupStatus.ACTIVE

    @property
    def next_rules_change(self) -> RulesChange | None:
        """The next announced version of the rules: who does not know it stops before its height."""
        changes = [
            RulesChange(each.entry.change.effective_height, action.version)
            for each in self.pending
            if isinstance(action := each.entry.change.action, SetRules)
        ]
        return min(changes, default=None)

    @cached_property
    def content(self) -> Mapping[bytes, bytes]:
        """The map under the digest: every key with its value."""
        content = {u8(_Key.RULES): u16(self.rules_version)}
        for rollup_id, record in self.rollups.items():
            content[u8(_Key.ROLLUP) + rollup_id.encode()] = _encode_rollup(record)
        for role, key in self.keys.items():
            content[u8(_Key.ROLE) + role.encode()] = key
        for subject, sequence in self.sequences.items():
            content[u8(_Key.SEQUENCE) + subject.encode()] = u64(sequence)
        for each in self.pending:
            change = each.entry.change
            place = u8(_Key.PENDING) + change.subject.encode() + u64(change.sequence)
            content[place] = u64(each.height) + u32(each.index) + encode_registry_entry(each.entry)
        return content

    @cached_property
    def digest(self) -> bytes:
        """The 32 bytes that stand for all of this in the register's root."""
        pairs = ((key_hash(key), value_hash(value)) for key, value in self.content.items())
        return tagged_hash(REGISTRY, u64(self.changed_height) + MerkleMap().update(pairs).root)


def _encode_rollup(record: RollupRecord) -> bytes:
    quota = record.quota
    return (
        u8(_RECORD_VERSION)
        + u8(record.status)
        + u64(record.drained_ms)
        + (u32(quota.transactions_per_second) + u32(quota.bytes_per_second) if quota else bytes(8))
        + record.attesters.encoded
        + record.registered_as
    )


def _restore(start: Registry, changed_height: Height, content: Iterable[tuple[bytes, bytes]]) -> Registry:
    keys: dict[str, PublicKey] = {}
    rollups: dict[RollupId, RollupRecord] = {}
    sequences: dict[str, int] = {}
    pending: list[PendingChange] = []
    rules_version = 0
    for key, value in content:
        name, reader = key[1:].decode("latin-1"), Reader(value, "registry content")
        match key[:1]:
            case b"\x01":
                rollups[RollupId(name)] = _read_rollup(reader, start.rollup(name))
            case b"\x02":
                keys[name] = PublicKey(reader.take(32, "role"))
            case b"\x03":
                rules_version = reader.u16("rules_version")
            case b"\x04":
                sequences[name] = reader.u64("sequence")
            case b"\x05":
                height, index = Height(reader.u64("height")), reader.u32("index")
                pending.append(PendingChange(height, index, decode_registry_entry(reader.rest())))
            case _:
                raise reader.malformed("key", f"{key.hex()} is unknown")
        reader.finish()
    restored = Registry(
        chain_id=start.chain_id,
        rotation_delay_blocks=start.rotation_delay_blocks,
        keys=keys,
        rules_version=rules_version,
        rollups=rollups,
        sequences=sequences,
        pending=tuple(sorted(pending, key=lambda each: (each.height, each.index))),
        changed_height=changed_height,
    )
    if keys.keys() != set(ROLE_NAMES) or not rules_version or not start.rollups.keys() <= rollups.keys():
        raise Malformed(
            what="registry content", field="content", reason="lacks a role, a rollup or the rules"
        )
    return restored


def _read_rollup(reader: Reader, at_genesis: RollupRecord | None) -> RollupRecord:
    reader.version(_RECORD_VERSION)
    status, drained_ms = reader.u8("status"), reader.u64("drained_ms")
    if status not in numbers_of(RollupStatus):
        raise reader.malformed("status", f"{status} is unknown")
    quota = Quota(reader.u32("transactions_per_second"), reader.u32("bytes_per_second"))
    attesters, registered_as = read_attesters(reader), reader.rest()
    if (at_genesis is None) != bool(registered_as):
        raise reader.malformed("definition", "is there exactly for rollups that the genesis file has not")
    definition = at_genesis.definition if at_genesis else parse_rollup_definition(registered_as)
    return RollupRecord(
        definition=definition,
        registered_as=registered_as,
        attesters=attesters,
        quota=quota if quota.transactions_per_second else None,
        status=RollupStatus(status),
        drained_ms=drained_ms,
    )
