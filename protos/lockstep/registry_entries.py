"""Entries of `_registry`: signed changes of who and what the chain knows.

Owns the bytes of protos/README.md, section 9. Whether a change is valid now is `lockstep.registry`'s to say.
Subjects share one space of names, because no rollup may be called like a role or `rules`
(`lockstep.genesis`); so the subject of a veto has one meaning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from lockstep import limits
from lockstep.attesters import AttesterSet, read_attesters
from lockstep.encoding import Reader, numbers_of, u8, u16, u32, u64, var8, var32
from lockstep.genesis import RESERVED_IDS, ROLE_NAMES, RULES_SUBJECT, Quota
from lockstep.hashing import SIGN_REGISTRY
from lockstep.order import is_rollup_id
from lockstep.signing import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey
from lockstep.types import ChainId, Height, PublicKey, Signature

__pure__ = True

REGISTRY_ENTRY_VERSION: Final = 1


class ChangeKind(IntEnum):
    """What a change does."""

    REGISTER_ROLLUP = 1
    """Registers a rollup whose id was never used."""
    SET_ATTESTERS = 2
    """Gives a rollup another attester set."""
    DRAIN = 3
    """From here on no new swap may name the rollup."""
    LEAVE = 4
    """Ends a rollup that has drained for a day of log time."""
    ROTATE_KEY = 5
    """Gives a role another key."""
    ROTATE_ATTESTER = 6
    """Puts another key in the place of one attester."""
    VETO = 7
    """Withdraws a pending change."""
    SET_RULES = 8
    """Puts the register under a later version of its rules."""
    SET_QUOTA = 9
    """Gives a rollup another share of the order."""


class SignedBy(IntEnum):
    """In whose name a change is signed."""

    GOVERNANCE = 1
    """The governance key."""
    SUBJECT = 2
    """The key that the change replaces."""


@dataclass(frozen=True, slots=True)
class RegisterRollup:
    """REGISTER_ROLLUP."""

    definition: bytes
    """JSON for `lockstep.genesis.parse_rollup_definition`; its id is the subject. Not parsed here."""


@dataclass(frozen=True, slots=True)
class SetAttesters:
    """SET_ATTESTERS."""

    attesters: AttesterSet
    """The new set. Not verified here."""


@dataclass(frozen=True, slots=True)
class Drain:
    """DRAIN."""


@dataclass(frozen=True, slots=True)
class Leave:
    """LEAVE."""


@dataclass(frozen=True, slots=True)
class RotateKey:
    """ROTATE_KEY."""

    new_key: PublicKey
    """The key that takes the role."""


@dataclass(frozen=True, slots=True)
class RotateAttester:
    """ROTATE_ATTESTER."""

    old_key: PublicKey
    """The key that goes."""
    new_key: PublicKey
    """The key that takes its place in the set."""


@dataclass(frozen=True, slots=True)
class Veto:
    """VETO."""

    vetoed_sequence: int
    """Sequence number of the subject's pending change that shall not take effect."""


@dataclass(frozen=True, slots=True)
class SetRules:
    """SET_RULES."""

    version: int
    """The rules' version, u16, above the one in force."""


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SET_QUOTA."""

    quota: Quota | None
    """The new share; None (two zeros on the wire) leaves it to the sequencer's policy."""


Action: TypeAlias = (
    RegisterRollup | SetAttesters | Drain | Leave | RotateKey | RotateAttester | Veto | SetRules | SetQuota
)


@dataclass(frozen=True, slots=True)
class RegistryChange:
    """What is signed."""

    chain: ChainId
    """The chain that it is for."""
    subject: str
    """What is changed: a rollup's id, the name of a role, or `rules`."""
    sequence: int
    """The subject's number of changes so far, plus one."""
    effective_height: Height
    """The height from which it holds, above its own block's. A veto acts at once, if ordered below it."""
    action: Action
    """What changes."""

    @property
    def kind(self) -> ChangeKind:
        """What it does, as a number on the wire."""
        return _KIND_OF[type(self.action)]


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """A change under its signature, which is not verified."""

    signed_by: SignedBy
    """In whose name it is signed."""
    signature: Signature
    """Over `body`."""
    body: bytes
    """The bytes that are signed."""
    change: RegistryChange
    """What they say."""


def sign_change(key: SigningKey, change: RegistryChange, signed_by: SignedBy = SignedBy.GOVERNANCE) -> bytes:
    """Return the payload of the `_registry` transaction that asks for a change."""
    body = encode_change(change)
    return encode_registry_entry(RegistryEntry(signed_by, key.sign(SIGN_REGISTRY, body), body, change))


def encode_registry_entry(entry: RegistryEntry) -> bytes:
    """Return an entry's bytes."""
    return u8(REGISTRY_ENTRY_VERSION) + u8(entry.signed_by) + entry.signature + entry.body


def decode_registry_entry(encoded: bytes) -> RegistryEntry:
    """Parse an entry. Raises `Malformed`."""
    reader = Reader(encoded, "registry entry")
    reader.version(REGISTRY_ENTRY_VERSION)
    signed_by = reader.u8("signed_by")
    if signed_by not in numbers_of(SignedBy):
        raise reader.malformed("signed_by", f"{signed_by} is unknown")
    signature, body = Signature(reader.take(SIGNATURE_BYTES, "signature")), reader.rest()
    return RegistryEntry(SignedBy(signed_by), signature, body, decode_change(body))


def encode_change(change: RegistryChange) -> bytes:
    """Return the body that is signed."""
    return (
        change.chain
        + u8(change.kind)
        + var8(change.subject.encode("ascii"))
        + u64(change.sequence)
        + u64(change.effective_height)
        + _encode_content(change.action)
    )


def decode_change(body: bytes) -> RegistryChange:
    """Parse a body. Raises `Malformed`."""
    reader = Reader(body, "registry change")
    chain, kind = ChainId(reader.take(32, "chain")), reader.u8("kind")
    if kind not in numbers_of(ChangeKind):
        raise reader.malformed("kind", f"{kind} is unknown")
    subject = reader.var8("subject", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX).decode("latin-1")
    if not _is_subject(ChangeKind(kind), subject):
        raise reader.malformed("subject", f"cannot be the subject of {ChangeKind(kind).name}")
    sequence, effective_height = reader.u64("sequence"), Height(reader.u64("effective_height"))
    if not 1 <= sequence < 2**63:
        raise reader.malformed("sequence", "is outside of 1..2^63-1")
    if not 1 <= effective_height < 2**63:
        raise reader.malformed("effective_height", "is outside of 1..2^63-1")
    action = _DECODE[ChangeKind(kind)](reader)
    reader.finish()
    return RegistryChange(chain, subject, sequence, effective_height, action)


def _is_subject(kind: ChangeKind, subject: str) -> bool:
    if kind == ChangeKind.ROTATE_KEY:
        return subject in ROLE_NAMES
    if kind == ChangeKind.SET_RULES:
        return subject == RULES_SUBJECT
    return is_rollup_id(subject) and (kind == ChangeKind.VETO or subject not in RESERVED_IDS)


def _encode_content(action: Action) -> bytes:
    match action:
        case RegisterRollup(definition):
            return var32(definition)
        case SetAttesters(attesters):
            return attesters.encoded
        case Drain() | Leave():
            return b""
        case RotateKey(new_key):
            return new_key
        case RotateAttester(old_key, new_key):
            return old_key + new_key
        case Veto(vetoed_sequence):
            return u64(vetoed_sequence)
        case SetRules(version):
            return u16(version)
        case SetQuota(quota):
            return u32(quota.transactions_per_second) + u32(quota.bytes_per_second) if quota else bytes(8)


def _decode_register(reader: Reader) -> RegisterRollup:
    return RegisterRollup(reader.var32("definition", bytes_min=1, bytes_max=limits.PAYLOAD_BYTES_MAX))


def _decode_quota(reader: Reader) -> SetQuota:
    transactions = reader.u32("transactions_per_second")
    byte_count = reader.u32("bytes_per_second")
    if (transactions == 0) != (byte_count == 0):
        raise reader.malformed(
            "bytes_per_second", "and transactions_per_second are zero together or not at all"
        )
    return SetQuota(Quota(transactions, byte_count) if transactions else None)


def _key(reader: Reader, field: str) -> PublicKey:
    return PublicKey(reader.take(PUBLIC_KEY_BYTES, field))


_DECODE: Final[Mapping[ChangeKind, Callable[[Reader], Action]]] = {
    ChangeKind.REGISTER_ROLLUP: _decode_register,
    ChangeKind.SET_ATTESTERS: lambda reader: SetAttesters(read_attesters(reader)),
    ChangeKind.DRAIN: lambda _: Drain(),
    ChangeKind.LEAVE: lambda _: Leave(),
    ChangeKind.ROTATE_KEY: lambda reader: RotateKey(_key(reader, "new_key")),
    ChangeKind.ROTATE_ATTESTER: lambda reader: RotateAttester(
        old_key=_key(reader, "old_key"), new_key=_key(reader, "new_key")
    ),
    ChangeKind.VETO: lambda reader: Veto(reader.u64("vetoed_sequence")),
    ChangeKind.SET_RULES: lambda reader: SetRules(reader.u16("version")),
    ChangeKind.SET_QUOTA: _decode_quota,
}

_KIND_OF: Final[Mapping[type[Action], ChangeKind]] = {
    RegisterRollup: ChangeKind.REGISTER_ROLLUP,
    SetAttesters: ChangeKind.SET_ATTESTERS,
    Drain: ChangeKind.DRAIN,
    Leave: ChangeKind.LEAVE,
    RotateKey: ChangeKind.ROTATE_KEY,
    RotateAttester: ChangeKind.ROTATE_ATTESTER,
    Veto: ChangeKind.VETO,
    SetRules: ChangeKind.SET_RULES,
    SetQuota: ChangeKind.SET_QUOTA,
}
