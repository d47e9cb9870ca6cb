"""Whether a settlement log remembers everything that it signed.

Owns the judgement, and the record outside of the database that it rests on: size and root of the checkpoint
signed last, stored before the signature is made. A log whose database does not lead to that root would sign
two histories under one key; it serves reads and signs nothing new.
"""

from dataclasses import dataclass

from lockstep.encoding import Reader, u64
from lockstep.errors import ReadOnly
from lockstep.merkle import HASH_BYTES, AppendTree

__pure__ = True


@dataclass(frozen=True, slots=True)
class LastSigned:
    """The checkpoint that was signed last."""

    size: int
    """Entries that it covers."""
    root: bytes
    """The root over them."""


def encode_last_signed(signed: LastSigned) -> bytes:
    """Return `u64 size | b32 root`."""
    return u64(signed.size) + signed.root


def decode_last_signed(encoded: bytes) -> LastSigned:
    """Parse the record. Raises `Malformed`."""
    reader = Reader(encoded, "record of the last checkpoint")
    signed = LastSigned(reader.u64("size"), reader.take(HASH_BYTES, "root"))
    reader.finish()
    return signed


def find_loss(signed: LastSigned, tree: AppendTree) -> ReadOnly | None:
    """Return why a log with these entries must not go on; None if it extends what was signed last."""
    if signed.size > tree.size:
        return ReadOnly(
            reason=f"a checkpoint of {signed.size} entries was signed, the database has {tree.size}",
            advice=f"stop the log, put back a copy of its database that has {signed.size} entries or more, "
            "and start it again; followers have every entry, too",
        )
    if tree.root(signed.size) != signed.root:
        return ReadOnly(
            reason=f"the database's first {signed.size} entries are not those of the checkpoint signed last",
            advice="stop the log, put back the copy of its database that belongs to this data folder, "
            "and start it again; followers have every entry, too",
        )
    return None
