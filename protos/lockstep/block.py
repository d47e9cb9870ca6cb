"""Blocks: building one from bundles, and verifying one's own share of it.

Owns how bundles become entries, leaves and a header, and the follower's check that it was handed everything
that is its own. Pure: the caller gives the time, signs and stores. Invariant: `verify_block` accepts every
share of a block of `build_block`, and nothing that contradicts, within what is seen of it, being one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import add

import msgspec

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.header import Header, Tip, decode_header, encode_header, header_hash, verify_follows
from lockstep.merkle import root_of
from lockstep.order import (
    ENTRY_PREFIX_BYTES,
    Entry,
    NamespaceLeaf,
    Transaction,
    data_root,
    decode_entry,
    decode_namespace_leaves,
    encode_namespace_leaves,
    entry_leaf_hash,
    entry_leaf_hashes,
    entry_prefix,
    hash_entry,
    namespace_leaves,
    single_prefixes,
)
from lockstep.types import BundleId, HeaderHash, Height, Namespace, TransactionHash

__pure__ = True


class AdmittedBundle(msgspec.Struct, frozen=True):
    """A bundle whose shape was checked and whose hashes are known."""

    bundle_id: BundleId
    """Its id."""
    transactions: tuple[Transaction, ...]
    """Its transactions in order."""
    hashes: tuple[TransactionHash, ...]
    """Their hashes, in the same order."""
    valid_until_ms: int
    """Its window."""


class Parcel(msgspec.Struct, frozen=True):
    """Admitted bundles of one transaction each, all for one namespace, column by column."""

    namespace: Namespace
    """The namespace."""
    bundle_ids: Sequence[BundleId]
    """The id of each bundle."""
    payloads: Sequence[bytes]
    """The payload of its transaction."""
    hashes: Sequence[TransactionHash]
    """The hash of its transaction."""
    windows_ms: Sequence[int]
    """Its window."""

    def __len__(self) -> int:
        return len(self.bundle_ids)

    def __getitem__(self, part: slice) -> "Parcel":
        return Parcel(
            self.namespace,
            self.bundle_ids[part],
            self.payloads[part],
            self.hashes[part],
            self.windows_ms[part],
        )

    def __add__(self, other: "Parcel") -> "Parcel":
        return Parcel(
            self.namespace,
            [*self.bundle_ids, *other.bundle_ids],
            [*self.payloads, *other.payloads],
            [*self.hashes, *other.hashes],
            [*self.windows_ms, *other.windows_ms],
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A complete block, as its builder has it."""

    header: Header
    """The header."""
    header_bytes: bytes
    """The header's 132 bytes."""
    hash: HeaderHash
    """The header's hash."""
    leaves_bytes: bytes
    """The encoded list of namespace leaves."""
    entries: Mapping[Namespace, Sequence[bytes]]
    """Each namespace's encoded entries, in order of index."""


@dataclass(frozen=True, slots=True)
class VerifiedBlock:
    """A follower's share of a block, proven complete against the header."""

    header: Header
    """The header, proven to continue the follower's chain."""
    hash: HeaderHash
    """Its hash."""
    leaves: tuple[NamespaceLeaf, ...]
    """What the block holds for every namespace."""
    entries: Mapping[Namespace, tuple[Entry, ...]]
    """Every entry of the namespaces asked for; empty ones have an empty tuple."""


def build_block(parent: Tip, time_ms: int, bundles: Sequence[AdmittedBundle | Parcel]) -> Block:
    """Return the block that follows `parent` at log time `time_ms` and holds `bundles` in that order.

    Raises `Discontinuous` or `Malformed` for a time or an amount of bundles that followers would refuse.
    """
    entries: dict[Namespace, list[bytes]] = defaultdict(list)
    hashes: dict[Namespace, list[bytes]] = defaultdict(list)
    bundle_count = transaction_count = 0
    for each in bundles:
        if isinstance(each, Parcel):
            bundle_count += len(each)
            transaction_count += _place_parcel(each, transaction_count, entries, hashes)
        else:
            bundle_count += 1
            transaction_count += _place_bundle(each, transaction_count, entries, hashes)
    leaves = namespace_leaves(hashes)
    encoded_bytes = sum([sum(map(len, each)) for each in entries.values()])
    header = Header(
        chain=parent.chain,
        height=Height(parent.height + 1),
        parent_hash=parent.hash,
        time_ms=time_ms,
        data_root=data_root(leaves),
        namespace_count=len(leaves),
        bundle_count=bundle_count,
        transaction_count=transaction_count,
        payload_bytes=encoded_bytes - ENTRY_PREFIX_BYTES * transaction_count,
    )
    verify_follows(header, parent)
    _verify_size(header)
    encoded = encode_header(header)
    return Block(header, encoded, header_hash(encoded), encode_namespace_leaves(leaves), dict(entries))


def _place_bundle(
    bundle: AdmittedBundle,
    first_index: int,
    entries: Mapping[Namespace, list[bytes]],
    hashes: Mapping[Namespace, list[bytes]],
) -> int:
    """Add a bundle's entries and their leaf hashes to those of their namespaces; return how many they are."""
    count = len(bundle.transactions)
    for index, ((namespace, payload), hashed) in enumerate(
        zip(bundle.transactions, bundle.hashes, strict=True), first_index
    ):
        prefix = entry_prefix(
            index=index,
            first_index=first_index,
            count=count,
            valid_until_ms=bundle.valid_until_ms,
            bundle=bundle.bundle_id,
        )
        entries[namespace].append(prefix + payload)
        hashes[namespace].append(entry_leaf_hash(prefix, hashed))
    return count


def _place_parcel(
    parcel: Parcel,
    first_index: int,
    entries: Mapping[Namespace, list[bytes]],
    hashes: Mapping[Namespace, list[bytes]],
) -> int:
    """Do the same with a parcel: most of what a flood costs is in here."""
    prefixes = single_prefixes(first_index, parcel.windows_ms, parcel.bundle_ids)
    entries[parcel.namespace] += map(add, prefixes, parcel.payloads)
    hashes[parcel.namespace] += entry_leaf_hashes(prefixes, parcel.hashes)
    return len(prefixes)


def verify_block(
    parent: Tip,
    header_bytes: bytes,
    leaves_bytes: bytes,
    entries: Mapping[Namespace, Sequence[bytes]],
    wanted: Iterable[Namespace],
) -> VerifiedBlock:
    """Prove that a share of a block continues the chain and is complete for the wanted namespaces.

    The header's signature is the caller's to check. Steps: 1. the header parses and continues `parent`; 2.
    the leaves parse and make the header's data root and counts; 3. each wanted namespace's entries make its
    leaf, or it has neither, in order of their index; 4. all of them fit together in one block of the header's
    counts and bounds. Raises `Malformed` or `Discontinuous`.
    """
    header = decode_header(header_bytes)
    verify_follows(header, parent)
    _verify_size(header)
    leaves = decode_namespace_leaves(leaves_bytes)
    if len(leaves) != header.namespace_count or data_root(leaves) != header.data_root:
        raise Malformed(what="block", field="namespace_leaves", reason="do not make the header's data root")
    if sum(leaf.count for leaf in leaves) != header.transaction_count:
        raise Malformed(
            what="block", field="transaction_count", reason="is not the sum of the namespaces' counts"
        )
    by_namespace = {leaf.namespace: leaf for leaf in leaves}
    share = {
        namespace: _verify_namespace(namespace, by_namespace.get(namespace), entries.get(namespace, ()))
        for namespace in wanted
    }
    _verify_bundles(header, [entry for entries_of_one in share.values() for entry in entries_of_one])
    return VerifiedBlock(header, header_hash(header_bytes), leaves, share)


def _verify_namespace(
    namespace: Namespace, leaf: NamespaceLeaf | None, encoded: Sequence[bytes]
) -> tuple[Entry, ...]:
    count = 0 if leaf is None else leaf.count
    if len(encoded) != count:
        raise Malformed(
            what="block",
            field=f"entries of {namespace}",
            reason=f"are {len(encoded)}, the header commits to {count}",
        )
    if leaf is None:
        return ()
    if any(len(entry) <= ENTRY_PREFIX_BYTES for entry in encoded):
        raise Malformed(what="block", field=f"entries of {namespace}", reason="hold one without a payload")
    if root_of([hash_entry(namespace, entry) for entry in encoded]) != leaf.root:
        raise Malformed(
            what="block",
            field=f"entries of {namespace}",
            reason="do not make the namespace's root in the header",
        )
    decoded = tuple(map(decode_entry, encoded))
    if any(left.index >= right.index for left, right in pairwise(decoded)):
        raise Malformed(
            what="block", field=f"entries of {namespace}", reason="are not in order of their index"
        )
    return decoded


def _verify_size(header: Header) -> None:
    """Check a header's counts against the bounds of a block."""
    encoded_bytes = header.transaction_count * ENTRY_PREFIX_BYTES + header.payload_bytes
    for field, value, value_max in (
        ("namespace_count", header.namespace_count, limits.BLOCK_NAMESPACES_MAX),
        ("transaction_count", header.transaction_count, limits.BLOCK_TRANSACTIONS_MAX),
        ("payload_bytes", encoded_bytes, limits.BLOCK_BYTES_MAX),
    ):
        if value > value_max:
            raise Malformed(what="block", field=field, reason=f"makes {value}, allowed are {value_max}")


def _verify_bundles(header: Header, entries: Sequence[Entry]) -> None:
    """Check that entries of several namespaces can stand in one block, beside others that are not seen.

    Each index is taken once; a bundle says the same in all its entries; bundles do not overlap; and what the
    header counts beyond them fits between them as bundles and payloads of allowed sizes.
    """
    bundles: dict[BundleId, tuple[int, int, int]] = {}
    for entry in entries:
        stated = (entry.first_index, entry.count, entry.valid_until_ms)
        if bundles.setdefault(entry.bundle_id, stated) != stated:
            raise _misplaced(f"say different things about bundle {entry.bundle_id.hex()}")
    if len({entry.index for entry in entries}) < len(entries):
        raise _misplaced("share an index")

    total = header.transaction_count
    ranges = sorted((first_index, first_index + count) for first_index, count, _ in bundles.values())
    gaps = [start - end_before for (_, end_before), (start, _) in pairwise([(0, 0), *ranges, (total, total)])]
    if any(gap < 0 for gap in gaps):
        raise _misplaced("belong to bundles that overlap or reach beyond the header's transaction_count")
    bundles_min = sum(-(-gap // limits.BUNDLE_TRANSACTIONS_MAX) for gap in gaps)
    if not bundles_min <= header.bundle_count - len(bundles) <= sum(gaps):
        raise _misplaced("do not go with the header's bundle_count")

    unseen = total - len(entries)
    unseen_bytes = header.payload_bytes - sum(len(entry.payload) for entry in entries)
    if not unseen <= unseen_bytes <= unseen * limits.PAYLOAD_BYTES_MAX:
        raise _misplaced("do not go with the header's payload_bytes")


def _misplaced(reason: str) -> Malformed:
    return Malformed(what="block", field="entries", reason=reason)
