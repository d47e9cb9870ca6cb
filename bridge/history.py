"""What happened to a swap, in words for people.

Owns the kinds and sentences of ExplainSwap. No rule depends on it.
"""

from collections.abc import Iterator, Mapping, Sequence

from bridge import phases
from bridge.levels import Asked, Heights, Step, anchor_wait, execution_wait
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
from lockstep.swap_entries import Attest, Cancel, Open, Reveal, SwapEntry, Verdict
from lockstep.terms import decode_terms
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

_NAMES: Mapping[type[SwapEntry], str] = {
    Open: "another opening",
    Attest: "an attestation",
    Reveal: "a reveal",
    Cancel: "a cancellation",
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


def ignored_event(
    entry: SwapEntry, index: int, reason: str, *, height: Height, time_ms: int
) -> bridge_pb2.SwapEvent:
    """Return that an entry did nothing, for a reason that continues `ignored because`."""
    text = f"{_NAMES[type(entry)]} did nothing: {reason}"
    return bridge_pb2.SwapEvent(height=height, index=index, time_ms=time_ms, kind="ignored", text=text)


def swaps_of(entry: SwapEntry) -> Sequence[SwapId]:
    """Return the swaps that an entry is about, each once."""
    match entry:
        case Attest(attestation=attestation):
            return tuple(dict.fromkeys(item.swap_id for item in attestation.items))
        case _:
            return (entry.swap_id,)


def local_event(kind: str, text: str, *, time_ms: int) -> bridge_pb2.SwapEvent:
    """Return something that only this coordinator knows, when its newest block had `time_ms`."""
    return bridge_pb2.SwapEvent(time_ms=time_ms, kind=kind, text=text)


def name_leg(swap: Swap, leg: int) -> str:
    """Return how a leg is called in sentences."""
    return f"leg {leg} ({swap.terms.legs[leg].rollup})"


def waiting_for(swap: bridge_pb2.Swap, live: Swap | None, heights: Heights, asked: Asked) -> str:
    """Return who is being waited for and until when; empty if it is nobody. `live` is a swap not yet over."""
    return "; ".join(filter(None, _waits(swap, live, heights, asked)))


def _waits(swap: bridge_pb2.Swap, live: Swap | None, heights: Heights, asked: Asked) -> Iterator[str]:
    if live is not None and not live.is_final:
        yield phases.waiting_for(live.standing)
        if live.record is not None and live.phase is not phases.Phase.LOCKED:
            unattested = [
                leg.rollup
                for leg, state in zip(live.terms.legs, live.leg_states, strict=True)
                if state in (phases.LegState.AWAITED, phases.LegState.GIVEN)
            ]
            yield execution_wait(Step("the opening", live.step_height, unattested), heights, asked)
    elif swap.decided_height:
        rollups = [leg.rollup for leg in decode_terms(swap.terms).legs]
        decision = Step("the decision", swap.decided_height, rollups)
        yield execution_wait(decision, heights, asked)
        yield anchor_wait(decision, heights, asked)


def _decision_text(record: SwapRecord) -> str:
    assert record.decision is not None, "a decided swap has a decision"
    decision = record.decision
    legs = ", ".join(f"leg {leg} ({record.terms.legs[leg].rollup})" for leg in decision.reason_legs)
    return _DECISIONS[decision.reason].format(legs=legs)
