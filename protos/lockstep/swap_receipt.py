"""Swap receipts: one file that shows how a swap was decided, and how its legs were settled.

Owns the bytes of protos/README.md, section 13. What a receipt proves is `lockstep.swap_receipt_verify`'s to
find out. Invariant: what decodes has one reading, and encodes to the same bytes again.

Nothing comes twice. Headers are given without what follows from the one before (chain, height, parent hash),
so that they are linked by construction; the last one is that of the header range in the log; terms are those
of the opening.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeVar

from lockstep import limits
from lockstep.encoding import Reader, u8, u16, u32, u64, var8, var16, var32
from lockstep.header import HEADER_BYTES, Header, encode_header, header_hash
from lockstep.merkle import EMPTY_ROOT, HASH_BYTES
from lockstep.order import (
    ENTRY_PREFIX_BYTES,
    Entry,
    NamespaceLeaf,
    decode_entry,
    encode_namespace_leaf,
    is_namespace,
    is_rollup_id,
)
from lockstep.settlement_entries import HeaderRange, ProvenHeader, encode_settlement_entry
from lockstep.signing import SIGNATURE_BYTES
from lockstep.types import ChainId, HeaderHash, Height, Namespace, RollupId, Signature

__pure__ = True

MAGIC: Final = b"lockstep receipt"
SWAP_RECEIPT_VERSION: Final = 1

HEADERS_MAX: Final = 1_000_000
"""Headers of one receipt: three days of an idle chain, and hours of a busy one."""

SETTLEMENT_ENTRY_BYTES_MAX: Final = 1024 * 1024
"""Bytes of one entry of the settlement log."""

_EMPTY: Final = 0
_FULL: Final = 1
_RECEIPT_BYTES_MAX: Final = 1_024

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True, slots=True)
class Shown:
    """Something at its place in a Merkle tree."""

    index: int
    """The leaf's index, from 0."""
    encoded: bytes
    """Its bytes: an entry of the order, a receipt, an entry of the settlement log."""


@dataclass(frozen=True, slots=True)
class ShownNamespace:
    """Some entries of one namespace of a block."""

    index: int
    """Index of the namespace's leaf in the block, from 0."""
    leaf: NamespaceLeaf
    """What the block says about the namespace."""
    entries: tuple[Shown, ...]
    """Encoded entries, ascending by their index among the namespace's; at least one."""
    proof: tuple[bytes, ...]
    """That they are under the leaf (`lockstep.merkle_many`)."""

    def decoded(self) -> tuple[Entry, ...]:
        """Return the entries, taken apart."""
        return tuple(decode_entry(each.encoded) for each in self.entries)


@dataclass(frozen=True, slots=True)
class ShownBlock:
    """Some entries of one block."""

    height: Height
    """The block."""
    namespaces: tuple[ShownNamespace, ...]
    """Ascending by index; at least one."""
    proof: tuple[bytes, ...]
    """That their leaves are under the header's data root."""


@dataclass(frozen=True, slots=True)
class ShownReceipts:
    """Receipts of one rollup, under the root in its commitment."""

    rollup: RollupId
    """The rollup."""
    receipts: tuple[Shown, ...]
    """Encoded receipts, ascending by index; at least one."""
    proof: tuple[bytes, ...]
    """That they are under the commitment's receipts root."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The header range in the settlement log that ends with the last header."""

    index: int
    """Its index in the log."""
    first_height: Height
    """Where the range starts."""
    parent_hash: HeaderHash
    """Hash of the header before that."""
    signature: Signature
    """The sequencer's, over the last header."""


@dataclass(frozen=True, slots=True)
class ShownLog:
    """Some entries of the settlement log, under one of its checkpoints."""

    size: int
    """Entries of the log at the checkpoint."""
    root: bytes
    """32 bytes: the root over them."""
    signature: Signature
    """The log's, over the checkpoint's text."""
    anchor: Anchor
    """The header range."""
    commitments: tuple[Shown, ...]
    """Entries of the rollups' commitments, ascending by index."""
    registrations: tuple[Shown, ...]
    """Entries of changes of the registry, ascending by index."""
    proof: tuple[bytes, ...]
    """That all of these are under the root."""


@dataclass(frozen=True)
class SwapReceipt:
    """What a file holds."""

    chain: ChainId
    """The chain."""
    headers: tuple[Header, ...]
    """Every header from the opening block to the anchored one, each the parent of the next."""
    blocks: tuple[ShownBlock, ...]
    """Blocks with entries that matter, ascending by height."""
    settled: tuple[ShownReceipts, ...]
    """How legs were settled, ascending by rollup."""
    log: ShownLog
    """Where headers and commitments are anchored."""

    @cached_property
    def hashes(self) -> tuple[HeaderHash, ...]:
        """The hashes of the headers."""
        following = [header.parent_hash for header in self.headers[1:]]
        return (*following, header_hash(encode_header(self.headers[-1])))

    @property
    def opened_height(self) -> Height:
        """Height of the first header."""
        return self.headers[0].height

    def header_at(self, height: Height) -> Header:
        """Return one of the headers; ValueError if there is none of this height."""
        place = height - self.opened_height
        if not 0 <= place < len(self.headers):
            raise ValueError(f"there is no header of height {height}")
        return self.headers[place]

    @property
    def anchored_range(self) -> HeaderRange:
        """The entry of the log that the anchor stands for."""
        anchor = self.log.anchor
        last = ProvenHeader(encode_header(self.headers[-1]), anchor.signature)
        return HeaderRange(anchor.first_height, anchor.parent_hash, last)

    def log_entries(self) -> dict[int, bytes]:
        """Return every entry of the log that is shown, by its index."""
        shown = (*self.log.commitments, *self.log.registrations)
        entries = {each.index: each.encoded for each in shown}
        return entries | {self.log.anchor.index: encode_settlement_entry(self.anchored_range)}


def encode_swap_receipt(receipt: SwapReceipt) -> bytes:
    """Return a receipt's file."""
    opened = receipt.opened_height
    return b"".join(
        (
            MAGIC + u16(SWAP_RECEIPT_VERSION) + receipt.chain,
            _encode_headers(receipt.headers),
            u16(len(receipt.blocks)),
            *(_encode_block(opened, each) for each in receipt.blocks),
            u8(len(receipt.settled)),
            *(
                var8(each.rollup.encode()) + _encode_shown(each.receipts, var16) + _encode_proof(each.proof)
                for each in receipt.settled
            ),
            _encode_log(receipt.log),
        )
    )


def decode_swap_receipt(encoded: bytes) -> SwapReceipt:
    """Parse a receipt's file. Raises `Malformed`; nothing in it is proven yet."""
    reader = Reader(encoded, "swap receipt")
    if reader.take(len(MAGIC), "magic") != MAGIC:
        raise reader.malformed("magic", "is not that of a swap receipt")
    version = reader.u16("version")
    if version != SWAP_RECEIPT_VERSION:
        raise reader.malformed("version", f"is {version}, this software knows {SWAP_RECEIPT_VERSION}")
    chain = ChainId(reader.take(32, "chain"))
    headers = _read_headers(reader, chain)
    blocks = tuple(_read_block(reader, headers) for _ in range(reader.u16("block_count")))
    _require_ascending(reader, "blocks", [each.height for each in blocks])
    settled = tuple(_read_settled(reader) for _ in range(reader.u8("settled_count")))
    _require_ascending(reader, "settled", [each.rollup for each in settled])
    log = _read_log(reader)
    reader.finish()
    return SwapReceipt(chain, headers, blocks, settled, log)


# --- headers ------------------------------------------------------------------------------------------------


def _encode_headers(headers: Sequence[Header]) -> bytes:
    first = headers[0]
    parts = [u64(first.height), first.parent_hash, u64(first.time_ms), u32(len(headers)), _content_of(first)]
    before_ms = first.time_ms
    for header in headers[1:]:
        parts += [u16(header.time_ms - before_ms), _content_of(header)]
        before_ms = header.time_ms
    return b"".join(parts)


def _content_of(header: Header) -> bytes:
    if _is_empty(header):
        return u8(_EMPTY)
    return (
        u8(_FULL)
        + header.data_root
        + u16(header.namespace_count)
        + u32(header.bundle_count)
        + u32(header.transaction_count)
        + u64(header.payload_bytes)
    )


def _is_empty(header: Header) -> bool:
    counts = (header.namespace_count, header.bundle_count, header.transaction_count, header.payload_bytes)
    return header.data_root == EMPTY_ROOT and not any(counts)


def _read_headers(reader: Reader, chain: ChainId) -> tuple[Header, ...]:
    height, parent_hash = reader.u64("headers.height"), HeaderHash(reader.take(32, "headers.parent_hash"))
    time_ms, count = reader.u64("headers.time_ms"), reader.u32("headers.count")
    if not 1 <= count <= HEADERS_MAX:
        raise reader.malformed("headers.count", f"is {count}, allowed are 1 to {HEADERS_MAX}")
    if not 1 <= height < 2**63 - count or not time_ms < 2**63 - count * limits.MAX_ADVANCE_MS:
        raise reader.malformed("headers.height", "or time_ms lies outside 1..2^63-1")
    headers: list[Header] = []
    for place in range(count):
        if headers:
            time_ms += _read_advance(reader)
            parent_hash = header_hash(encode_header(headers[-1]))
        headers.append(_read_header(reader, chain, Height(height + place), parent_hash, time_ms))
    return tuple(headers)


def _read_advance(reader: Reader) -> int:
    advance_ms = reader.u16("headers.advance_ms")
    if not 1 <= advance_ms <= limits.MAX_ADVANCE_MS:
        raise reader.malformed(
            "headers.advance_ms", f"is {advance_ms}, allowed are 1 to {limits.MAX_ADVANCE_MS}"
        )
    return advance_ms


def _read_header(
    reader: Reader, chain: ChainId, height: Height, parent_hash: HeaderHash, time_ms: int
) -> Header:
    kind = reader.u8("headers.kind")
    if kind == _EMPTY:
        return Header(chain, height, parent_hash, time_ms, EMPTY_ROOT, 0, 0, 0, 0)
    if kind != _FULL:
        raise reader.malformed("headers.kind", f"{kind} is unknown")
    header = Header(
        chain=chain,
        height=height,
        parent_hash=parent_hash,
        time_ms=time_ms,
        data_root=reader.take(HASH_BYTES, "headers.data_root"),
        namespace_count=reader.u16("headers.namespace_count"),
        bundle_count=reader.u32("headers.bundle_count"),
        transaction_count=reader.u32("headers.transaction_count"),
        payload_bytes=reader.u64("headers.payload_bytes"),
    )
    if _is_empty(header):
        raise reader.malformed("headers.kind", "is that of a block with entries, which this one has not")
    return header


# --- blocks -------------------------------------------------------------------------------------------------


def _encode_block(opened: Height, block: ShownBlock) -> bytes:
    namespaces = b"".join(
        u16(each.index)
        + encode_namespace_leaf(each.leaf)
        + _encode_shown(each.entries, var32)
        + _encode_proof(each.proof)
        for each in block.namespaces
    )
    return u32(block.height - opened) + u8(len(block.namespaces)) + namespaces + _encode_proof(block.proof)


def _read_block(reader: Reader, headers: Sequence[Header]) -> ShownBlock:
    offset, count = reader.u32("blocks.offset"), reader.u8("blocks.namespace_count")
    if offset >= len(headers):
        raise reader.malformed("blocks.offset", f"is {offset}, there are {len(headers)} headers")
    if not count:
        raise reader.malformed("blocks.namespace_count", "is zero; a block that shows nothing is left out")
    namespaces = tuple(_read_namespace(reader) for _ in range(count))
    _require_ascending(reader, "blocks.namespaces", [each.index for each in namespaces])
    return ShownBlock(headers[offset].height, namespaces, _read_proof(reader, "blocks.proof"))


def _read_namespace(reader: Reader) -> ShownNamespace:
    index = reader.u16("blocks.index")
    name = reader.var8("blocks.namespace", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX)
    namespace = Namespace(name.decode("latin-1"))
    if not is_namespace(namespace):
        raise reader.malformed("blocks.namespace", "is not a namespace's name")
    leaf = NamespaceLeaf(namespace, reader.u32("blocks.count"), reader.take(HASH_BYTES, "blocks.root"))
    entry_bytes_max = ENTRY_PREFIX_BYTES + limits.PAYLOAD_BYTES_MAX
    entries = _read_shown(
        reader, "blocks.entries", lambda field: reader.var32(field, bytes_max=entry_bytes_max)
    )
    for each in entries:
        decode_entry(each.encoded)
    return ShownNamespace(index, leaf, entries, _read_proof(reader, "blocks.entries.proof"))


# --- receipts and log ---------------------------------------------------------------------------------------


def _read_settled(reader: Reader) -> ShownReceipts:
    name = reader.var8("settled.rollup", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX).decode("latin-1")
    if not is_rollup_id(name):
        raise reader.malformed("settled.rollup", "does not match [a-z0-9-]{1,32}")
    receipts = _read_shown(
        reader, "settled.receipts", lambda field: reader.var16(field, bytes_max=_RECEIPT_BYTES_MAX)
    )
    return ShownReceipts(RollupId(name), receipts, _read_proof(reader, "settled.proof"))


def _encode_log(log: ShownLog) -> bytes:
    anchor = log.anchor
    return (
        u64(log.size)
        + log.root
        + log.signature
        + u64(anchor.index)
        + u64(anchor.first_height)
        + anchor.parent_hash
        + anchor.signature
        + _encode_shown(log.commitments, var32)
        + _encode_shown(log.registrations, var32)
        + _encode_proof(log.proof)
    )


def _read_log(reader: Reader) -> ShownLog:
    def entry(field: str) -> bytes:
        return reader.var32(field, bytes_max=SETTLEMENT_ENTRY_BYTES_MAX)

    size, root = reader.u64("log.size"), reader.take(HASH_BYTES, "log.root")
    signature = Signature(reader.take(SIGNATURE_BYTES, "log.signature"))
    anchor = Anchor(
        index=reader.u64("log.anchor.index"),
        first_height=Height(reader.u64("log.anchor.first_height")),
        parent_hash=HeaderHash(reader.take(HASH_BYTES, "log.anchor.parent_hash")),
        signature=Signature(reader.take(SIGNATURE_BYTES, "log.anchor.signature")),
    )
    commitments = _read_shown(reader, "log.commitments", entry, count_min=0)
    registrations = _read_shown(reader, "log.registrations", entry, count_min=0)
    return ShownLog(
        size, root, signature, anchor, commitments, registrations, _read_proof(reader, "log.proof")
    )


# --- what they share ----------------------------------------------------------------------------------------


def _encode_shown(shown: Sequence[Shown], prefixed: Callable[[bytes], bytes]) -> bytes:
    return u16(len(shown)) + b"".join(u64(each.index) + prefixed(each.encoded) for each in shown)


def _read_shown(
    reader: Reader, field: str, read: Callable[[str], bytes], *, count_min: int = 1
) -> tuple[Shown, ...]:
    count = reader.u16(f"{field}.count")
    if count < count_min:
        raise reader.malformed(f"{field}.count", "is zero; what shows nothing is left out")
    shown = tuple(Shown(reader.u64(f"{field}.index"), read(field)) for _ in range(count))
    _require_ascending(reader, field, [each.index for each in shown])
    return shown


def _encode_proof(proof: Sequence[bytes]) -> bytes:
    return u16(len(proof)) + b"".join(proof)


def _read_proof(reader: Reader, field: str) -> tuple[bytes, ...]:
    return tuple(reader.take(HASH_BYTES, field) for _ in range(reader.u16(f"{field}.n")))


def _require_ascending(reader: Reader, field: str, keys: Sequence[_Key]) -> None:
    if any(left >= right for left, right in pairwise(keys)):
        raise reader.malformed(field, "are not strictly ascending")


assert HEADER_BYTES == 132, "a header holds nothing but what is given or follows"
