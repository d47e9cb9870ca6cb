"""Swaps as they travel: the coordinator's side of the schema.

Owns the making of messages from records, and nothing else.
"""

from bridge.levels import Heights, is_settled, level_of
from bridge.phases import LegState, funds_free_by_ms, is_funds_safe, next_action
from bridge.swap import Swap
from lockstep.register import OutcomeReason, SwapRecord
from lockstep.settlement_entries import ProvenHeader
from lockstep.swap_entries import Verdict
from lockstep.terms import decode_terms
from lockstep.v1 import bridge_pb2, common_pb2
from sequencer.client import Placement
from sequencer.client.messages import header_message, placement_message


def swap_message(swap: Swap) -> bridge_pb2.Swap:
    """Return a swap as it travels."""
    standing = swap.standing
    message = bridge_pb2.Swap(
        swap_id=swap.swap_id,
        terms=swap.terms_bytes,
        phase=bridge_pb2.SwapPhase.ValueType(swap.phase),
        legs=[_leg_message(swap, leg, state) for leg, state in enumerate(standing.legs)],
        next_action=next_action(standing),
        funds_safe=is_funds_safe(standing),
        funds_free_by_ms=funds_free_by_ms(standing),
        sequence=swap.sequence,
    )
    if swap.record is not None:
        message.level = common_pb2.CommitLevel.ValueType(swap.level)
        _add_record(message, swap.record)
    return message


def raised_message(message: bridge_pb2.Swap, heights: Heights) -> bridge_pb2.Swap:
    """Return a swap as it travels with what follows from heights. Nothing that was told is taken back."""
    rollups = [leg.rollup for leg in decode_terms(message.terms).legs]
    raised = bridge_pb2.Swap()
    raised.CopyFrom(message)
    level = level_of(message.decided_height or message.opened_height, rollups, heights)
    raised.level = common_pb2.CommitLevel.ValueType(max(level, message.level))
    for leg, rollup in zip(raised.legs, rollups, strict=True):
        leg.settled = leg.settled or is_settled(message.decided_height, rollup, heights)
    return raised


def _add_record(message: bridge_pb2.Swap, record: SwapRecord) -> None:
    message.opened_height, message.opened_index = record.opened_height, record.opened_index
    message.preimage = record.preimage or b""
    if record.decision is not None:
        message.decided_height, message.decided_index = record.decision.height, record.decision.index
        message.abort_reason = _ABORT_REASONS[record.decision.reason]
        message.reason_legs.extend(record.decision.reason_legs)


_ABORT_REASONS = {
    OutcomeReason.NONE: bridge_pb2.ABORT_REASON_UNSPECIFIED,
    OutcomeReason.LEG_REJECTED: bridge_pb2.ABORT_REASON_LEG_REJECTED,
    OutcomeReason.CANCELLED: bridge_pb2.ABORT_REASON_CANCELLED,
    OutcomeReason.NOT_LOCKED: bridge_pb2.ABORT_REASON_NOT_LOCKED,
    OutcomeReason.NOT_REVEALED: bridge_pb2.ABORT_REASON_NOT_REVEALED,
    OutcomeReason.CROWDED_OUT: bridge_pb2.ABORT_REASON_CROWDED_OUT,
}


def _leg_message(swap: Swap, leg: int, state: LegState) -> bridge_pb2.SwapLeg:
    message = bridge_pb2.SwapLeg(state=bridge_pb2.LegState.ValueType(state))
    if state is LegState.REJECTED and swap.record is not None:
        votes = swap.record.legs[leg].votes
        message.reject_reason = next(vote.reason for vote in votes if vote.verdict is Verdict.REJECTED)
    return message


def reveal_response(placement: Placement, header: ProvenHeader) -> bridge_pb2.RevealResponse:
    """Return where a reveal was ordered, as it travels."""
    return bridge_pb2.RevealResponse(placement=placement_message(placement), header=header_message(header))


def cancel_response(placement: Placement, header: ProvenHeader) -> bridge_pb2.CancelResponse:
    """Return where a cancellation was ordered, as it travels."""
    return bridge_pb2.CancelResponse(placement=placement_message(placement), header=header_message(header))
