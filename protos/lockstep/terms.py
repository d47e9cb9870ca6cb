"""The terms of a swap: what all its parties agree on, and by whose hash it is named.

Owns protos/README.md, section 6. Invariant: what decodes keeps every bound that does not depend on time or
on the registry, so that whoever holds `Terms` need not check them again; equal terms have equal bytes.
Whether a swap may be opened now is `lockstep.register`'s to say.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from lockstep import limits
from lockstep.encoding import Reader, encode_strictly, numbers_of, u8, u64, u128, var8
from lockstep.hashing import SWAP, ZERO_HASH, tagged_hash
from lockstep.order import is_rollup_id
from lockstep.types import ChainId, PublicKey, RollupId, SwapId

__pure__ = True

TERMS_VERSION: Final = 1
SALT_BYTES: Final = 16

TERMS_CACHED_MAX: Final = 1_024
"""Terms that are kept as they were parsed last: a few megabytes."""


class LegKind(IntEnum):
    """What a leg does with its asset."""

    TRANSFER = 1
    """Moves it from the sender to the recipient, on one rollup."""
    BURN = 2
    """Reserved: takes it out of its rollup's supply. Rules version 1 opens no such leg."""
    MINT = 3
    """Reserved: adds it to its rollup's supply. Rules version 1 opens no such leg."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a swap, on one rollup."""

    rollup: RollupId
    """The rollup that locks and settles it."""
    kind: LegKind
    """What it does."""
    sender: bytes
    """Who gives, 1..64 bytes that its rollup reads."""
    recipient: bytes
    """Who gets, 1..64 bytes that its rollup reads; not the sender."""
    asset: bytes
    """The asset's name on its rollup, 1..32 bytes."""
    amount: int
    """Base units, at least 1."""


@dataclass(frozen=True, slots=True)
class PremiumShare:
    """What one recipient gets of a premium."""

    recipient: bytes
    """Who gets it, 1..64 bytes that the premium's rollup reads."""
    amount: int
    """Base units, at least 1."""


@dataclass(frozen=True, slots=True)
class Premium:
    """What a leg's sender pays for having kept the others waiting, in the leg's asset.

    Locked beside the leg's amount; paid when the swap was NOT_REVEALED, or CANCELLED with all legs locked;
    returned otherwise.
    """

    leg: int
    """The leg whose sender pays."""
    shares: tuple[PremiumShare, ...]
    """Who gets how much, 1..16 shares."""

    @property
    def total(self) -> int:
        """Base units of all shares together; with the leg's amount at most 2^128-1."""
        return sum(share.amount for share in self.shares)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a swap is."""

    chain: ChainId
    """The chain whose order decides it."""
    legs: tuple[Leg, ...]
    """2..16 legs; a leg is named by its place here."""
    hashlock: bytes
    """32 bytes: the SHA-256 of the preimage whose reveal commits the swap. Not all zeros."""
    lock_by_ms: int
    """Log time from which a swap with a leg not attested is aborted."""
    expires_ms: int
    """Log time from which a swap that is not revealed is aborted; at least 5,000 after `lock_by_ms`."""
    revealer: PublicKey
    """The key that may cancel; by convention the preimage's holder."""
    premium: Premium | None
    """What the revealer's side pays if it does not reveal."""
    salt: bytes
    """16 bytes that keep equal swaps apart."""

    def premium_of(self, leg: int) -> int:
        """Return the base units of premium that a leg's lock holds beside its amount; 0 for most legs."""
        return self.premium.total if self.premium is not None and self.premium.leg == leg else 0


def swap_id_of(encoded: bytes) -> SwapId:
    """Return the id of the swap with these terms bytes. They start with the version and the chain."""
    return SwapId(tagged_hash(SWAP, encoded))


def encode_terms(terms: Terms) -> bytes:
    """Return the terms' bytes. Raises `Malformed` for terms that `decode_terms` could not return."""
    return encode_strictly("terms", terms, encode=_bytes_of, decode=decode_terms)


def _bytes_of(terms: Terms) -> bytes:
    parts = [u8(TERMS_VERSION), terms.chain, u8(len(terms.legs))]
    for leg in terms.legs:
        parts += [
            var8(leg.rollup.encode("latin-1")),
            u8(leg.kind),
            var8(leg.sender),
            var8(leg.recipient),
            var8(leg.asset),
            u128(leg.amount),
        ]
    parts += [terms.hashlock, u64(terms.lock_by_ms), u64(terms.expires_ms), terms.revealer]
    if terms.premium is None:
        parts.append(u8(0))
    else:
        parts += [u8(1), u8(terms.premium.leg), u8(len(terms.premium.shares))]
        for share in terms.premium.shares:
            parts += [var8(share.recipient), u128(share.amount)]
    return b"".join((*parts, terms.salt))


def decode_terms(encoded: bytes) -> Terms:
    """Parse terms, keeping every bound of section 6. Raises `Malformed`, naming the first field at fault."""
    return _decode(encoded)


# Whoever takes part in a swap comes across its terms again and again: proposed, opened, told.
@lru_cache(maxsize=TERMS_CACHED_MAX)
def _decode(encoded: bytes) -> Terms:
    reader = Reader(encoded, "terms")
    reader.version(TERMS_VERSION)
    chain, leg_count = ChainId(reader.take(32, "chain")), reader.u8("leg_count")
    if not limits.LEGS_MIN <= leg_count <= limits.LEGS_MAX:
        raise reader.malformed(
            "leg_count", f"is {leg_count}, allowed are {limits.LEGS_MIN} to {limits.LEGS_MAX}"
        )
    legs = tuple(_read_leg(reader, f"legs[{place}]") for place in range(leg_count))
    hashlock = reader.take(32, "hashlock")
    if hashlock == ZERO_HASH:
        raise reader.malformed("hashlock", "is all zeros, which no preimage has")
    lock_by_ms, expires_ms = reader.u64("lock_by_ms"), reader.u64("expires_ms")
    if expires_ms >= 2**63:
        raise reader.malformed("expires_ms", "is beyond 2^63-1")
    if lock_by_ms + limits.REVEAL_WINDOW_MS_MIN > expires_ms:
        raise reader.malformed(
            "expires_ms", f"does not lie {limits.REVEAL_WINDOW_MS_MIN} ms or more after lock_by_ms"
        )
    terms = Terms(
        chain=chain,
        legs=legs,
        hashlock=hashlock,
        lock_by_ms=lock_by_ms,
        expires_ms=expires_ms,
        revealer=PublicKey(reader.take(32, "revealer")),
        premium=_read_premium(reader, legs),
        salt=reader.take(SALT_BYTES, "salt"),
    )
    reader.finish()
    return terms


def _read_leg(reader: Reader, field: str) -> Leg:
    rollup = reader.var8(f"{field}.rollup", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX)
    rollup_id = rollup.decode("latin-1")
    if not is_rollup_id(rollup_id):
        raise reader.malformed(f"{field}.rollup", "does not match [a-z0-9-]{1,32}")
    kind = reader.u8(f"{field}.kind")
    if kind not in numbers_of(LegKind):
        raise reader.malformed(f"{field}.kind", f"{kind} is unknown")
    sender, recipient = _read_party(reader, f"{field}.sender"), _read_party(reader, f"{field}.recipient")
    if sender == recipient:
        raise reader.malformed(f"{field}.recipient", "is the sender")
    asset = reader.var8(f"{field}.asset", bytes_min=1, bytes_max=limits.ASSET_BYTES_MAX)
    amount = _read_amount(reader, f"{field}.amount")
    return Leg(RollupId(rollup_id), LegKind(kind), sender, recipient, asset, amount)


def _read_premium(reader: Reader, legs: tuple[Leg, ...]) -> Premium | None:
    present = reader.u8("premium_count")
    if present > 1:
        raise reader.malformed("premium_count", f"is {present}, allowed are 0 and 1")
    if not present:
        return None
    leg, count = reader.u8("premium.leg"), reader.u8("premium.count")
    if leg >= len(legs):
        raise reader.malformed("premium.leg", f"is {leg}, the swap has {len(legs)} legs")
    if not 1 <= count <= limits.PREMIUM_RECIPIENTS_MAX:
        raise reader.malformed(
            "premium.count", f"is {count}, allowed are 1 to {limits.PREMIUM_RECIPIENTS_MAX}"
        )
    fields = [f"premium.shares[{place}]" for place in range(count)]
    premium = Premium(
        leg,
        tuple(
            PremiumShare(_read_party(reader, f"{field}.recipient"), _read_amount(reader, f"{field}.amount"))
            for field in fields
        ),
    )
    if legs[leg].amount + premium.total > limits.AMOUNT_MAX:
        raise reader.malformed("premium.shares", "exceed 2^128-1 together with the leg's amount")
    return premium


def _read_party(reader: Reader, field: str) -> bytes:
    return reader.var8(field, bytes_min=1, bytes_max=limits.PARTY_BYTES_MAX)


def _read_amount(reader: Reader, field: str) -> int:
    amount = reader.u128(field)
    if amount == 0:
        raise reader.malformed(field, "is zero; at least one base unit is needed")
    return amount
