"""Block headers: their bytes, their chain, and the proof that one was signed.

Owns protos/README.md, section 4. Invariant: a verified header has exactly one parent and its log time lies
1..2,000 ms after it.
"""

from dataclasses import dataclass
from typing import Final

from lockstep import limits
from lockstep.encoding import Reader, u16, u32, u64
from lockstep.errors import BadSignature, Discontinuous
from lockstep.hashing import HEADER, SIGN_HEADER, tagged_hash
from lockstep.signing import SigningKey, verify
from lockstep.types import ChainId, HeaderHash, Height, PublicKey, Signature

__pure__ = True

HEADER_VERSION: Final = 1
HEADER_BYTES: Final = 132


@dataclass(frozen=True, slots=True)
class Header:
    """What is signed about a block."""

    chain: ChainId
    """The chain that the block belongs to."""
    height: Height
    """The block's number, from 1."""
    parent_hash: HeaderHash
    """Hash of the header before it; the chain id at height 1."""
    time_ms: int
    """Log time in milliseconds: a stopwatch started at the genesis time."""
    data_root: bytes
    """RFC 6962 root over the namespace leaves."""
    namespace_count: int
    """Number of namespaces with entries."""
    bundle_count: int
    """Number of bundles."""
    transaction_count: int
    """Number of entries."""
    payload_bytes: int
    """Bytes of all payloads together."""


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of a chain of headers: what the next header is judged against."""

    chain: ChainId
    """The chain."""
    height: Height
    """Height of the newest header; 0 at genesis."""
    hash: HeaderHash
    """Hash of the newest header; the chain id at genesis."""
    time_ms: int
    """Log time of the newest header; the genesis time at genesis."""


def genesis_tip(chain: ChainId, genesis_time_ms: int) -> Tip:
    """Return the tip of a chain without blocks."""
    return Tip(chain, Height(0), HeaderHash(chain), genesis_time_ms)


def tip_of(header: Header, hashed: HeaderHash) -> Tip:
    """Return the tip that a verified header makes."""
    return Tip(header.chain, header.height, hashed, header.time_ms)


def encode_header(header: Header) -> bytes:
    """Return the 132 bytes of a header."""
    return (
        u16(HEADER_VERSION)
        + header.chain
        + u64(header.height)
        + header.parent_hash
        + u64(header.time_ms)
        + header.data_root
        + u16(header.namespace_count)
        + u32(header.bundle_count)
        + u32(header.transaction_count)
        + u64(header.payload_bytes)
    )


def decode_header(encoded: bytes) -> Header:
    """Parse a header. Raises `Malformed`."""
    reader = Reader(encoded, "header")
    version = reader.u16("version")
    if version != HEADER_VERSION:
        raise reader.malformed("version", f"is {version}, this software knows {HEADER_VERSION}")
    header = Header(
        chain=ChainId(reader.take(32, "chain")),
        height=Height(reader.u64("height")),
        parent_hash=HeaderHash(reader.take(32, "parent_hash")),
        time_ms=reader.u64("time_ms"),
        data_root=reader.take(32, "data_root"),
        namespace_count=reader.u16("namespace_count"),
        bundle_count=reader.u32("bundle_count"),
        transaction_count=reader.u32("transaction_count"),
        payload_bytes=reader.u64("payload_bytes"),
    )
    reader.finish()
    if not 1 <= header.height < 2**63 or header.time_ms >= 2**63:
        raise reader.malformed("height", "or time_ms lies outside 1..2^63-1")
    return header


def header_hash(encoded: bytes) -> HeaderHash:
    """Return the hash of a header's bytes."""
    return HeaderHash(tagged_hash(HEADER, encoded))


def sign_header(key: SigningKey, encoded: bytes) -> Signature:
    """Sign a header's bytes as the sequencer. Only ever for a block that is durable."""
    return key.sign(SIGN_HEADER, encoded)


def verify_header_signature(sequencer: PublicKey, encoded: bytes, signature: bytes) -> None:
    """Check the sequencer's signature over a header's bytes. Raises `BadSignature`."""
    if not verify(SIGN_HEADER, sequencer, encoded, signature):
        raise BadSignature(what="header", signer=sequencer.hex())


def verify_follows(header: Header, parent: Tip) -> None:
    """Check that a header continues a chain. Raises `Discontinuous`, naming the first rule that is broken.

    Order of checks: chain, height, parent hash, advance of log time.
    """
    if header.chain != parent.chain:
        raise Discontinuous(
            what="header", reason=f"belongs to chain {header.chain.hex()}, not {parent.chain.hex()}"
        )
    if header.height != parent.height + 1:
        raise Discontinuous(what="header", reason=f"has height {header.height} after {parent.height}")
    if header.parent_hash != parent.hash:
        raise Discontinuous(
            what="header",
            reason=f"at height {header.height} continues {header.parent_hash.hex()}, not {parent.hash.hex()}",
        )
    advance_ms = header.time_ms - parent.time_ms
    if not 1 <= advance_ms <= limits.MAX_ADVANCE_MS:
        raise Discontinuous(
            what="header",
            reason=f"at height {header.height} advances log time by {advance_ms} ms, "
            f"allowed are 1 to {limits.MAX_ADVANCE_MS}",
        )
