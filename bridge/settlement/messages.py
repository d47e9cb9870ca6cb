"""Translation between the service's messages and records.

Owns the bounds of what is asked. Does no I/O. Everything that is wrong with a request is `Malformed`.
"""

from collections.abc import Sequence

from bridge.settlement.feed import Published
from lockstep.errors import LockstepError, Malformed
from lockstep.merkle import AppendTree
from lockstep.order import is_rollup_id
from lockstep.v1 import common_pb2, settlement_pb2
from sequencer.client.messages import error_message

ITEMS_MAX = 1_024
"""Entries of one message of a stream."""


def read_items(request: settlement_pb2.AppendStreamRequest) -> Sequence[settlement_pb2.AppendItem]:
    """Return the items of a message of AppendStream."""
    if not 1 <= len(request.items) <= ITEMS_MAX:
        raise Malformed(
            what="request", field="items", reason=f"are {len(request.items)}, allowed are 1 to {ITEMS_MAX}"
        )
    return request.items


def read_anchor_request(request: settlement_pb2.GetAnchorRequest) -> tuple[int, str]:
    """Return height and rollup, which is empty if the header's anchor is asked for."""
    if not 1 <= request.height < 2**63:
        raise Malformed(what="request", field="height", reason="is outside of 1..2^63-1")
    if request.rollup and not is_rollup_id(request.rollup):
        raise Malformed(what="request", field="rollup", reason="does not match [a-z0-9-]{1,32}")
    return request.height, request.rollup


def proof_message(tree: AppendTree, index: int, size: int) -> common_pb2.InclusionProof:
    """Return the proof of an entry in the log of some size."""
    return common_pb2.InclusionProof(index=index, size=size, hashes=tree.inclusion_proof(index, size))


def outcome_message(correlation_id: int, answer: int | LockstepError) -> settlement_pb2.AppendOutcome:
    """Return what became of an item."""
    if isinstance(answer, int):
        return settlement_pb2.AppendOutcome(correlation_id=correlation_id, index=answer)
    return settlement_pb2.AppendOutcome(correlation_id=correlation_id, error=error_message(answer))


def status_message(published: Published, public_key: bytes) -> settlement_pb2.SettlementGetStatusResponse:
    """Return what the log says of itself."""
    log = published.log
    return settlement_pb2.SettlementGetStatusResponse(
        chain_id=log.genesis.chain_id,
        origin=log.genesis.settlement.origin,
        public_key=public_key,
        checkpoint=published.note,
        size=published.checkpoint.size,
        anchored_height=log.tip.height,
        anchored_hash=log.tip.hash,
        rollups=[
            settlement_pb2.AnchoredRollup(
                rollup=rollup,
                height=anchored.height,
                commitment_hash=anchored.commitment_hash,
                index=anchored.index,
            )
            for rollup, anchored in sorted(log.anchored.items())
        ],
        evidence_count=log.evidence_count,
    )
