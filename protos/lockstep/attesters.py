"""Who speaks for a rollup: a set of keys and how many of them it takes.

Owns the rule of a valid set and the hash that names one. Invariant of a verified set: two groups of
`threshold` keys always share one, so that no set can attest both LOCKED and REJECTED unless a key contradicts
itself.
"""

from dataclasses import dataclass
from functools import cached_property

from lockstep import limits
from lockstep.encoding import Reader, u8
from lockstep.errors import Malformed
from lockstep.hashing import ATTESTERS, tagged_hash
from lockstep.signing import is_registrable
from lockstep.types import PublicKey

__pure__ = True


@dataclass(frozen=True)
class AttesterSet:
    """The attesters of a rollup at one time."""

    threshold: int
    """How many of the keys must agree: more than half."""
    keys: tuple[PublicKey, ...]
    """1..16 distinct keys. A key's place here is its `key_index` in the register's records."""

    @cached_property
    def encoded(self) -> bytes:
        """Its bytes: `u8 threshold | u8 count | count * b32 key`."""
        return u8(self.threshold) + u8(len(self.keys)) + b"".join(self.keys)

    @cached_property
    def hash(self) -> bytes:
        """The 32 bytes by which records name this set."""
        return tagged_hash(ATTESTERS, self.encoded)


def read_attesters(reader: Reader) -> AttesterSet:
    """Read what `AttesterSet.encoded` is; whether it is a valid set is not checked. Raises `Malformed`."""
    threshold, count = reader.u8("threshold"), reader.u8("count")
    if not 1 <= count <= limits.ATTESTERS_MAX:
        raise reader.malformed("count", f"is {count}, allowed are 1 to {limits.ATTESTERS_MAX}")
    return AttesterSet(threshold, tuple(PublicKey(reader.take(32, f"keys[{i}]")) for i in range(count)))


def verify_attesters(attesters: AttesterSet, what: str = "attester set", prefix: str = "") -> None:
    """Check that a set may be registered. Raises `Malformed` about `what`, with fields named behind `prefix`.

    Order of checks: number of keys, each key registrable and distinct, threshold.
    """
    count = len(attesters.keys)
    if not 1 <= count <= limits.ATTESTERS_MAX:
        reason = f"has {count} keys, allowed are 1 to {limits.ATTESTERS_MAX}"
        raise Malformed(what=what, field=f"{prefix}attesters", reason=reason)
    for position, key in enumerate(attesters.keys):
        field = f"{prefix}attesters[{position}]"
        if not is_registrable(key):
            raise Malformed(what=what, field=field, reason="is not an Ed25519 public key of prime order")
        if key in attesters.keys[:position]:
            raise Malformed(what=what, field=field, reason="comes twice")
    if not count < 2 * attesters.threshold <= 2 * count:
        reason = f"is {attesters.threshold}, it must be more than half of {count} keys and not more than all"
        raise Malformed(what=what, field=f"{prefix}threshold", reason=reason)
