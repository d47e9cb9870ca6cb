"""The proof of a bundle's place: each of its transactions under its namespace's root."""

from lockstep.merkle import AppendTree
from lockstep.order import Placement, decode_namespace_leaves, hash_entry
from lockstep.types import Namespace
from lockstep.v1 import common_pb2, sequencer_pb2
from sequencer.client.messages import header_message, placement_message
from sequencer.engine import SealedBlock
from sequencer.ledger import entries_in


def names_of(leaves_bytes: bytes) -> tuple[Namespace, ...]:
    """Return the namespaces that have entries in a block, from its encoded leaves."""
    return tuple(leaf.namespace for leaf in decode_namespace_leaves(leaves_bytes))


def prove(placement: Placement, block: SealedBlock) -> sequencer_pb2.GetTransactionResponse:
    """Return where a bundle stands with all proofs. Hashes every entry of the namespaces that it touches.

    `block` is the whole block. Raises AssertionError if it does not hold the bundle.
    """
    wanted = range(placement.first_index, placement.first_index + placement.count)
    proven: dict[int, sequencer_pb2.ProvenEntry] = {}
    for namespace, share in block.shares.items():
        entries = entries_in(share)
        positions = [
            position for position, entry in enumerate(entries) if int.from_bytes(entry[:4], "big") in wanted
        ]
        if not positions:
            continue
        tree = AppendTree(hash_entry(namespace, entry) for entry in entries)
        for position in positions:
            entry = entries[position]
            proof = common_pb2.InclusionProof(
                index=position, size=tree.size, hashes=tree.inclusion_proof(position)
            )
            index = int.from_bytes(entry[:4], "big")
            proven[index] = sequencer_pb2.ProvenEntry(namespace=namespace, entry=entry, proof=proof)
    if sorted(proven) != list(wanted):
        raise AssertionError(f"block {block.height} does not hold the bundle that was placed in it")
    return sequencer_pb2.GetTransactionResponse(
        placement=placement_message(placement),
        header=header_message(block.header),
        namespace_leaves=block.leaves_bytes,
        entries=[proven[index] for index in wanted],
    )
