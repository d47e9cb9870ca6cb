"""Whether a sequencer remembers everything that it signed.

Owns the judgement and the record outside of the database that it rests on: the height and hash of the block
signed last, stored before the signature is made. A database that ends below it was restored from a copy or
lost its end; to order on would put two blocks at one height under one key. Such a sequencer serves reads
and signs nothing.
"""

from dataclasses import dataclass

from lockstep.encoding import Reader, u64
from lockstep.errors import ReadOnly
from lockstep.header import Tip
from lockstep.types import HeaderHash, Height

__pure__ = True


@dataclass(frozen=True, slots=True)
class LastSigned:
    """The block that was signed last."""

    height: Height
    """Its height; 0 if none ever was."""
    hash: HeaderHash
    """Its hash; the chain id if none ever was."""


def encode_last_signed(signed: LastSigned) -> bytes:
    """Return `u64 height | b32 hash`."""
    return u64(signed.height) + signed.hash


def decode_last_signed(encoded: bytes) -> LastSigned:
    """Parse the record. Raises Malformed."""
    reader = Reader(encoded, "record of the last signed block")
    signed = LastSigned(Height(reader.u64("height")), HeaderHash(reader.take(32, "hash")))
    reader.finish()
    return signed


def find_loss(signed: LastSigned, tip: Tip, parent_hash: HeaderHash) -> ReadOnly | None:
    """Return why a database that ends at `tip` must not be continued; None if it may.

    The newest block may be one ahead of the record: the process died before it signed.
    """
    if signed.height > tip.height:
        return ReadOnly(
            reason=f"block {signed.height} was signed, the database ends at {tip.height}",
            advice=f"stop it, put back the newest copy of the database, which holds block {signed.height}, "
            "and start it again",
        )
    if signed.height + 1 < tip.height:
        return ReadOnly(
            reason=f"the database ends at block {tip.height}, the record of signed ones at {signed.height}",
            advice="stop it, put back the last_signed file that belongs to this database, and start it again",
        )
    known = tip.hash if signed.height == tip.height else parent_hash
    if signed.hash != known:
        return ReadOnly(
            reason=f"another block {signed.height} was signed than the database holds",
            advice="stop it, put back the database that belongs to the last_signed file, and start it again",
        )
    return None


def find_loss_against_log(anchored: LastSigned, tip: Tip, own_hash: HeaderHash | None) -> ReadOnly | None:
    """Return why a chain that ends at `tip` contradicts the settlement log; None if it does not.

    `anchored` is the last header in the log, `own_hash` that of our block at its height, if we have it.
    """
    if anchored.height > tip.height:
        return ReadOnly(
            reason=f"the settlement log holds header {anchored.height}, the database ends at {tip.height}",
            advice="stop it, put back the newest copy of the data folder, and start it again",
        )
    if own_hash is not None and anchored.hash != own_hash:
        return ReadOnly(
            reason=f"the settlement log holds another header {anchored.height} than the database",
            advice="stop it, find out which of the two the rollups follow, and put that database back",
        )
    return None
