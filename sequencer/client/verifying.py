"""What the client checks before it believes the sequencer. Pure: messages in, verified records out."""

from dataclasses import dataclass

from lockstep.errors import Discontinuous, Malformed, WrongChain
from lockstep.header import Header
from lockstep.merkle import verify_inclusion
from lockstep.order import (
    ENTRY_PREFIX_BYTES,
    NamespaceLeaf,
    Placement,
    bundle_id,
    data_root,
    decode_entry,
    decode_namespace_leaves,
    hash_entry,
    transaction_hash,
)
from lockstep.settlement_entries import ProvenHeader, verify_proven_header
from lockstep.types import BundleId, ChainId, Namespace
from lockstep.v1 import sequencer_pb2
from sequencer.client.messages import read_header, read_placement
from sequencer.client.records import KeyAt, Ordered


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies what one chain's sequencer says."""

    chain: ChainId
    """The chain."""
    key_at: KeyAt
    """Which key signs at which height."""

    def header(self, proven: ProvenHeader) -> Header:
        """Verify that a header is this chain's and signed, and return it.

        Raises Malformed, WrongChain or BadSignature.
        """
        header = proven.header
        if header.chain != self.chain:
            raise WrongChain(expected=self.chain.hex(), found=header.chain.hex())
        verify_proven_header(self.key_at(header.height), proven)
        return header

    def ordered(
        self, placement: Placement, proven: ProvenHeader, *, bundle: BundleId, count: int | None
    ) -> Ordered:
        """Verify that a receipt is for this bundle of `count` transactions, and that its block is signed.

        Raises as `header`, and Discontinuous if header and placement do not fit each other or the bundle.
        """
        header = self.header(proven)
        check_placement(placement, header, bundle=bundle, count=count)
        return Ordered(placement, proven)

    def proven_placement(self, response: sequencer_pb2.GetTransactionResponse, wanted: BundleId) -> Ordered:
        """Verify a placement by the proof of each of its transactions.

        Steps: 1. the header is signed; 2. the leaves make its data root; 3. each entry stands under its
        namespace's leaf, at its place in the bundle; 4. the entries together have the bundle's id. Raises
        Malformed, WrongChain, BadSignature, Discontinuous or ProofInvalid.
        """
        placement = read_placement(response.placement)
        proven = read_header(response.header)
        ordered = self.ordered(placement, proven, bundle=wanted, count=len(response.entries))
        leaves = {leaf.namespace: leaf for leaf in decode_namespace_leaves(response.namespace_leaves)}
        if data_root(leaves.values()) != proven.header.data_root:
            raise Malformed(
                what="transaction proof", field="namespace_leaves", reason="make another data root"
            )
        hashes, valid_until_ms = [], 0
        for position, message in enumerate(response.entries):
            _verify_entry(message, leaves.get(Namespace(message.namespace)), placement, position)
            hashes.append(transaction_hash(message.namespace, message.entry[ENTRY_PREFIX_BYTES:]))
            valid_until_ms = decode_entry(message.entry).valid_until_ms
        if bundle_id(self.chain, valid_until_ms, hashes) != wanted:
            raise Malformed(what="transaction proof", field="entries", reason="are not those of the bundle")
        return ordered


def check_placement(placement: Placement, header: Header, *, bundle: BundleId, count: int | None) -> None:
    """Check that a placement is this bundle's and lies in the block. Raises Discontinuous."""
    if placement.bundle_id != bundle:
        raise Discontinuous(what="receipt", reason=f"is for bundle {placement.bundle_id.hex()}")
    if header.height != placement.height:
        raise Discontinuous(what="receipt", reason=f"comes with the header at height {header.height}")
    if count is not None and placement.count != count:
        raise Discontinuous(what="receipt", reason=f"is for {placement.count} transactions, not {count}")
    if placement.first_index + placement.count > header.transaction_count:
        raise Discontinuous(what="receipt", reason="places the bundle beyond the block's end")


def _verify_entry(
    message: sequencer_pb2.ProvenEntry, leaf: NamespaceLeaf | None, placement: Placement, position: int
) -> None:
    entry = decode_entry(message.entry)
    expected = (placement.first_index + position, placement.first_index, placement.count, placement.bundle_id)
    if (entry.index, entry.first_index, entry.count, entry.bundle_id) != expected:
        raise Malformed(
            what="transaction proof", field=f"entries[{position}]", reason="stands at another place"
        )
    if leaf is None or message.proof.size != leaf.count:
        raise Malformed(
            what="transaction proof", field=f"entries[{position}]", reason="has no such namespace"
        )
    verify_inclusion(
        leaf_hash=hash_entry(leaf.namespace, message.entry),
        index=message.proof.index,
        size=leaf.count,
        proof=tuple(message.proof.hashes),
        root=leaf.root,
    )
