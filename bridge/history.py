"""What happened to a swap, in words for people.

Owns the kinds and sentences of ExplainSwap. No rule depends on it.
"""

from collections.abc import Mapping

from bridge.swap import Swap
from lockstep.register import (
    Decided,
    Opened,
    OutcomeReason,
    RegisterEvent,
    Revealed,
    SwapRecord,
    Voted,
)
from lockstep.swap_entries import Verdict
from lockstep.types import Height, SwapId
from lockstep.v1 import bridge_pb2

_DECISIONS = {
    OutcomeReason.NONE: "committed: every leg goes to its recipient",
    OutcomeReason.LEG_REJECTED: "aborted, because {legs} was rejected",
    OutcomeReason.CANCELLED: "aborted, because the revealer cancelled",
    OutcomeReason.NOT_LOCKED: "aborted, because {legs} was not attested by lock_by_ms",
    OutcomeReason.NOT_REVEALED: "aborted, because the preimage was not revealed by expires_ms",
    OutcomeReason.CROWDED_OUT: "aborted, because the register was full",
}


def event_of(
    event: RegisterEvent, *, height: Height, time_ms: int, reveals: Mapping[SwapId, int]
) -> tuple[SwapId, bridge_pb2.SwapEvent] | None:
    """Return what an event of the register in a block says about which swap; None if it is about none.

    `reveals` gives the place of the Reveal that acted, by swap.
    """
    match event:
        case Opened(record):
            index, kind, text = record.opened_index, "opened", "the register recorded the swap"
        case Voted(record, leg, vote):
            what = vote.verdict.name
            if vote.verdict is Verdict.REJECTED:
                what = f"{what} ({vote.reason.name})"
            rollup = record.terms.legs[leg].rollup
            index = record.legs[leg].places[record.legs[leg].votes.index(vote)].index
            kind, text = "attested", f"attester {vote.key_index} of {rollup} found leg {leg} {what}"
        case Revealed(record):
            index, kind, text = reveals[record.swap_id], "revealed", "the preimage was shown"
        case Decided(record):
            assert record.decision is not None, "a decided swap has a decision"
            index, kind, text = record.decision.index, "decided", _decision_text(record)
        case _:
            return None
    return record.swap_id, bridge_pb2.SwapEvent(
        height=height, index=index, time_ms=time_ms, kind=kind, text=text
    )


def local_event(kind: str, text: str, *, time_ms: int) -> bridge_pb2.SwapEvent:
    """Return something that only this coordinator knows, when its newest block had `time_ms`."""
    return bridge_pb2.SwapEvent(time_ms=time_ms, kind=kind, text=text)


def name_leg(swap: Swap, leg: int) -> str:
    """Return how a leg is called in sentences."""
    return f"leg {leg} ({swap.terms.legs[leg].rollup})"


def _decision_text(record: SwapRecord) -> str:
    assert record.decision is not None, "a decided swap has a decision"
    decision = record.decision
    legs = ", ".join(f"leg {leg} ({record.terms.legs[leg].rollup})" for leg in decision.reason_legs)
    return _DECISIONS[decision.reason].format(legs=legs)
