"""The order's units: transactions, bundles, entries and the namespaces of a block.

Owns the bytes of protos/README.md, section 3. Knows nothing of what a payload means. Invariant: an entry
commits to its place in the block and to its whole bundle, so whoever holds one entry knows what was bundled
with it, where, and until when.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from lockstep import limits
from lockstep.encoding import Layout, Reader, u8, u16, u32, u64
from lockstep.errors import Malformed
from lockstep.hashing import BUNDLE, TRANSACTION
from lockstep.merkle import leaf_hash, root_of
from lockstep.types import (
    SYSTEM_NAMESPACES,
    BundleId,
    ChainId,
    Height,
    Namespace,
    TransactionHash,
)

__pure__ = True

ENTRY_PREFIX_BYTES: Final = 4 + 4 + 2 + 8 + 32
"""Bytes of an encoded entry before its payload."""

_ENTRY_LEAF_PREFIX: Final = b"\x00\x01"
"""RFC 6962's leaf byte, then the byte that names the tree of entries."""

_PLACE: Final = Struct(">IIHQ")
"""`u32 index | u32 first_index | u16 count | u64 valid_until_ms`, with which an entry begins."""

_PREFIX: Final = Layout(index="I", first_index="I", count="H", valid_until_ms="Q", bundle_id="32s")

_NAMESPACE_LEAF_TAG: Final = b"\x02"
_ROLLUP_ID: Final = re.compile(r"[a-z0-9-]{1,32}")


class Transaction(NamedTuple):
    """One unit of the order: opaque bytes for a namespace."""

    namespace: Namespace
    """The rollup or system namespace that reads the payload."""
    payload: bytes
    """1..65,536 bytes that the sequencer does not look into."""


class Bundle(msgspec.Struct, frozen=True):
    """The atomic unit of ordering: all of it in one block, contiguous, or none of it."""

    transactions: tuple[Transaction, ...]
    """1..32 transactions, in the order in which they are to stand."""
    valid_until_ms: int
    """Log time at which the bundle can no longer be ordered (exclusive)."""


class Singles(msgspec.Struct, frozen=True):
    """Bundles of one transaction each, column by column, which costs a fraction of as many records."""

    namespaces: Sequence[Namespace]
    """Whose the transaction of each is."""
    payloads: Sequence[bytes]
    """Its payload."""
    windows_ms: Sequence[int]
    """`valid_until_ms` of each bundle."""

    def __len__(self) -> int:
        return len(self.payloads)

    def __getitem__(self, part: slice) -> "Singles":
        return Singles(self.namespaces[part], self.payloads[part], self.windows_ms[part])

    def __iter__(self) -> Iterator[Bundle]:
        for namespace, payload, valid_until_ms in zip(
            self.namespaces, self.payloads, self.windows_ms, strict=True
        ):
            yield Bundle((Transaction(namespace, payload),), valid_until_ms)


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction as placed in a block."""

    index: int
    """Place in the block, from 0."""
    first_index: int
    """Place of the bundle's first transaction."""
    count: int
    """Transactions of the bundle."""
    valid_until_ms: int
    """The bundle's window, which followers can enforce themselves."""
    bundle_id: BundleId
    """The bundle that it came in."""
    payload: bytes
    """The transaction's bytes."""


class Placement(msgspec.Struct, frozen=True):
    """Where a bundle stands in the order."""

    bundle_id: BundleId
    """The bundle."""
    height: Height
    """Its block."""
    first_index: int
    """Place of its first transaction in the block, from 0; the others follow it."""
    count: int
    """Transactions of the bundle."""


@dataclass(frozen=True, slots=True)
class NamespaceLeaf:
    """What a block says about one namespace."""

    namespace: Namespace
    """The namespace."""
    count: int
    """Number of its entries in the block, at least 1."""
    root: bytes
    """32 bytes: the RFC 6962 root over its entries."""


def is_rollup_id(name: str) -> bool:
    """Answer whether a name can be a rollup's."""
    return _ROLLUP_ID.fullmatch(name) is not None


def is_namespace(name: str) -> bool:
    """Answer whether a name can be a namespace at all."""
    return name in SYSTEM_NAMESPACES or is_rollup_id(name)


def transaction_hash(namespace: str, payload: bytes) -> TransactionHash:
    """Return the order's hash of a transaction."""
    return TransactionHash(sha256(_transaction_head(namespace) + payload).digest())


def transaction_hashes(namespace: str, payloads: Iterable[bytes]) -> list[TransactionHash]:
    """Return the order's hashes of many transactions for one namespace."""
    head = _transaction_head(namespace)
    return [TransactionHash(sha256(head + payload).digest()) for payload in payloads]


@lru_cache(maxsize=4 * limits.BLOCK_NAMESPACES_MAX)
def _transaction_head(namespace: str) -> bytes:
    """Return what is hashed before a payload: the same for all of a namespace."""
    name = namespace.encode("ascii")
    return TRANSACTION + u8(len(name)) + name


def bundle_id(chain: ChainId, valid_until_ms: int, hashes: Sequence[TransactionHash]) -> BundleId:
    """Return a bundle's id from its window and its transactions' hashes."""
    head = _bundle_head(chain, valid_until_ms, len(hashes))
    return BundleId(sha256(head + b"".join(hashes)).digest())


def single_ids(
    chain: ChainId, windows_ms: Iterable[int], hashes: Iterable[TransactionHash]
) -> list[BundleId]:
    """Return the ids of bundles of one transaction each."""
    return [
        BundleId(sha256(_bundle_head(chain, valid_until_ms, 1) + hashed).digest())
        for valid_until_ms, hashed in zip(windows_ms, hashes, strict=True)
    ]


@lru_cache(maxsize=1_024)
def _bundle_head(chain: ChainId, valid_until_ms: int, count: int) -> bytes:
    """Return what is hashed before the hashes: the same for many that are sent together."""
    return BUNDLE + chain + u64(valid_until_ms) + u16(count)


def bundle_id_of(chain: ChainId, bundle: Bundle) -> BundleId:
    """Return the id of a bundle whose hashes are not known yet."""
    return bundle_id(chain, bundle.valid_until_ms, [transaction_hash(*each) for each in bundle.transactions])


def verify_bundle_shape(bundle: Bundle) -> None:
    """Check a bundle's sizes and names, which do not depend on time or state. Raises `Malformed`."""
    count = len(bundle.transactions)
    if not 1 <= count <= limits.BUNDLE_TRANSACTIONS_MAX:
        raise Malformed(
            what="bundle",
            field="transactions",
            reason=f"has {count}, allowed are 1 to {limits.BUNDLE_TRANSACTIONS_MAX}",
        )
    if not 0 < bundle.valid_until_ms < 2**63:
        raise Malformed(what="bundle", field="valid_until_ms", reason="is not a log time")
    for position, (namespace, payload) in enumerate(bundle.transactions):
        if not is_namespace(namespace):
            raise Malformed(
                what="bundle",
                field=f"transactions[{position}].namespace",
                reason="is neither a rollup id ([a-z0-9-]{1,32}) nor a system namespace",
            )
        if not 1 <= len(payload) <= limits.PAYLOAD_BYTES_MAX:
            raise Malformed(
                what="bundle",
                field=f"transactions[{position}].payload",
                reason=f"has {len(payload)} bytes, allowed are 1 to {limits.PAYLOAD_BYTES_MAX}",
            )
    total_bytes = sum(len(payload) for _, payload in bundle.transactions)
    if total_bytes > limits.BUNDLE_BYTES_MAX:
        raise Malformed(
            what="bundle",
            field="transactions",
            reason=f"holds {total_bytes} bytes, allowed are {limits.BUNDLE_BYTES_MAX}",
        )


def entry_prefix(*, index: int, first_index: int, count: int, valid_until_ms: int, bundle: BundleId) -> bytes:
    """Return the bytes of an entry that precede its payload."""
    return _PLACE.pack(index, first_index, count, valid_until_ms) + bundle


def single_prefixes(first_index: int, windows_ms: Sequence[int], bundles: Sequence[BundleId]) -> list[bytes]:
    """Return the same for bundles of one transaction each that stand one behind another."""
    pack = _PLACE.pack
    return [
        pack(index, index, 1, valid_until_ms) + bundle
        for index, (valid_until_ms, bundle) in enumerate(zip(windows_ms, bundles, strict=True), first_index)
    ]


def entry_leaf_hash(prefix: bytes, hashed: TransactionHash) -> bytes:
    """Return the leaf hash of an entry from its prefix and its transaction's hash."""
    return sha256(_ENTRY_LEAF_PREFIX + prefix + hashed).digest()


def entry_leaf_hashes(prefixes: Iterable[bytes], hashes: Iterable[TransactionHash]) -> list[bytes]:
    """Return the leaf hashes of many entries."""
    return [
        sha256(_ENTRY_LEAF_PREFIX + prefix + hashed).digest()
        for prefix, hashed in zip(prefixes, hashes, strict=True)
    ]


def encode_entry(entry: Entry) -> bytes:
    """Return an entry's bytes, as they travel."""
    prefix = entry_prefix(
        index=entry.index,
        first_index=entry.first_index,
        count=entry.count,
        valid_until_ms=entry.valid_until_ms,
        bundle=entry.bundle_id,
    )
    return prefix + entry.payload


def decode_entry(encoded: bytes) -> Entry:
    """Parse an encoded entry. Raises `Malformed` for one that no bundle of a valid shape can have."""
    reader = Reader(encoded, "entry")
    index, first_index, count, valid_until_ms, bundle = reader.fields(_PREFIX)
    payload = reader.rest()
    if not 1 <= count <= limits.BUNDLE_TRANSACTIONS_MAX or not first_index <= index < first_index + count:
        raise reader.malformed("index", "does not lie within its bundle")
    if first_index + count > limits.BLOCK_TRANSACTIONS_MAX:
        raise reader.malformed("first_index", "is beyond the largest block")
    if not 0 < valid_until_ms < 2**63:
        raise reader.malformed("valid_until_ms", "is not a log time")
    if not 1 <= len(payload) <= limits.PAYLOAD_BYTES_MAX:
        raise reader.malformed(
            "payload", f"has {len(payload)} bytes, allowed are 1 to {limits.PAYLOAD_BYTES_MAX}"
        )
    return Entry(index, first_index, count, valid_until_ms, BundleId(bundle), payload)


def hash_entry(namespace: Namespace, encoded: bytes) -> bytes:
    """Return the leaf hash of an encoded entry of a namespace."""
    hashed = transaction_hash(namespace, encoded[ENTRY_PREFIX_BYTES:])
    return entry_leaf_hash(encoded[:ENTRY_PREFIX_BYTES], hashed)


def encode_namespace_leaf(leaf: NamespaceLeaf) -> bytes:
    """Return a namespace leaf's bytes, as listed in a block and as hashed under its tag."""
    name = leaf.namespace.encode("ascii")
    return u8(len(name)) + name + u32(leaf.count) + leaf.root


def encode_namespace_leaves(leaves: Sequence[NamespaceLeaf]) -> bytes:
    """Return the list of a block's namespace leaves; they must be sorted already."""
    return u16(len(leaves)) + b"".join(map(encode_namespace_leaf, leaves))


def decode_namespace_leaves(encoded: bytes) -> tuple[NamespaceLeaf, ...]:
    """Parse the list of a block's namespace leaves, strictly ascending. Raises `Malformed`."""
    reader = Reader(encoded, "namespace leaves")
    count = reader.u16("n")
    if count > limits.BLOCK_NAMESPACES_MAX:
        raise reader.malformed("n", f"is {count}, allowed are {limits.BLOCK_NAMESPACES_MAX}")
    leaves: list[NamespaceLeaf] = []
    for _ in range(count):
        name = reader.var8("namespace", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX).decode("latin-1")
        if not is_namespace(name):
            raise reader.malformed("namespace", "is not a namespace's name")
        leaf = NamespaceLeaf(Namespace(name), reader.u32("count"), reader.take(32, "namespace_root"))
        if leaf.count == 0:
            raise reader.malformed("count", f"of {name} is zero; an empty namespace has no leaf")
        if leaves and leaves[-1].namespace >= leaf.namespace:
            raise reader.malformed("namespace", "leaves are not strictly ascending")
        leaves.append(leaf)
    reader.finish()
    return tuple(leaves)


def namespace_leaf_hash(leaf: NamespaceLeaf) -> bytes:
    """Return the hash of a namespace leaf in the block's data tree."""
    return leaf_hash(_NAMESPACE_LEAF_TAG + encode_namespace_leaf(leaf))


def data_root(leaves: Iterable[NamespaceLeaf]) -> bytes:
    """Return the root over a block's namespace leaves, in the order given."""
    return root_of([namespace_leaf_hash(leaf) for leaf in leaves])


def namespace_leaves(hashes: Mapping[Namespace, Sequence[bytes]]) -> tuple[NamespaceLeaf, ...]:
    """Return the sorted leaves of a block from each namespace's entry hashes."""
    return tuple(
        NamespaceLeaf(namespace, len(hashes[namespace]), root_of(hashes[namespace]))
        for namespace in sorted(hashes)
    )
