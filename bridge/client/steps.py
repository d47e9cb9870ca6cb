"""What a trader has to do next for a swap, as a pure function of his record and of how the swap stands.

Owns that decision and the way in which a swap's standing is read out of a coordinator's view or a register's
record. Does nothing of it. Invariant: the answer depends on nothing else, so that a trader who was killed
goes on where he was, and two processes of one trader do the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bridge.client.recorded import RecordedSwap, Role
from bridge.client.views import AbortReason, LegState, SwapPhase, SwapView
from lockstep.register import EncodedRecord, OutcomeReason, Phase


class Step(Enum):
    """What is to be done."""

    PROPOSE = "propose"
    """Register the terms with a coordinator."""
    LOCK = "lock"
    """Sign the locks of the trader's legs and give them."""
    REVEAL = "reveal"
    """Check what is in escrow, and show the preimage."""
    CANCEL = "cancel"
    """Send the signed cancellation."""
    WAIT = "wait"
    """Nothing: somebody else has to act, or log time to pass."""
    CONCLUDE = "conclude"
    """Check on the rollups how it ended."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a swap stands, as somebody tells it."""

    source: str
    """Who tells it."""
    phase: SwapPhase
    """Where it stands."""
    legs: tuple[LegState, ...]
    """Where each leg stands."""
    opened_height: int
    """Height of the opening block; 0 while it is not ordered."""
    decided_height: int
    """Height of the deciding block; 0 while it is undecided."""
    reason: str
    """Why it was aborted; empty if it was not."""
    sequence: int = 0
    """Number of its last change at a coordinator; 0 if a rollup tells it."""


def standing_of_view(view: SwapView, source: str) -> Standing:
    """Return how a swap stands by a coordinator's view."""
    reason = "" if view.abort_reason is AbortReason.NONE else view.abort_reason.name
    return Standing(
        source=source,
        phase=view.phase,
        legs=tuple(leg.state for leg in view.legs),
        opened_height=view.opened_height,
        decided_height=view.decided_height,
        reason=_with_legs(reason, view.reason_legs),
        sequence=view.sequence,
    )


_PHASE_OF: Final[Mapping[Phase, SwapPhase]] = {phase: SwapPhase[phase.name] for phase in Phase}


def standing_of_record(record: EncodedRecord, given: frozenset[int], source: str) -> Standing:
    """Return how a swap stands by the register's record; `given` are the legs with something in escrow.

    Such a record is proven. A leg without escrow on the rollups that were asked counts as awaited.
    """
    phase, decision = _PHASE_OF[record.phase], record.decision
    is_locked = phase in (SwapPhase.LOCKED, SwapPhase.COMMITTED)
    unlocked = (LegState.GIVEN if leg in given else LegState.AWAITED for leg in range(len(record.legs)))
    reason = "" if decision is None or decision.reason is OutcomeReason.NONE else decision.reason.name
    return Standing(
        source=source,
        phase=phase,
        legs=(LegState.LOCKED,) * len(record.legs) if is_locked else tuple(unlocked),
        opened_height=record.opened_height,
        decided_height=0 if decision is None else decision.height,
        reason=_with_legs(reason, () if decision is None else decision.reason_legs),
    )


def next_step(swap: RecordedSwap, standing: Standing | None, *, time_ms: int) -> Step:
    """Return what the trader has to do; `standing` is None where nobody knows the swap.

    `time_ms` is the newest log time. Nothing is locked at or after `lock_by_ms`, and nothing shown at or
    after `expires_ms`: it would have no effect.
    """
    is_lockable = time_ms < swap.terms.lock_by_ms
    if standing is None:
        if not is_lockable:
            return Step.CONCLUDE
        is_wanted = swap.role is Role.PROPOSER and not swap.is_cancelling
        return Step.PROPOSE if is_wanted else Step.WAIT
    match standing.phase:
        case SwapPhase.COLLECTING | SwapPhase.SUBMITTED:
            return _lock_or_wait(swap, standing) if is_lockable else Step.CONCLUDE
        case SwapPhase.OPEN:
            return Step.CANCEL if _cancels(swap) else _lock_or_wait(swap, standing)
        case SwapPhase.REVEALED:
            return _lock_or_wait(swap, standing) if is_lockable else Step.WAIT
        case SwapPhase.LOCKED:
            if swap.role is not Role.PROPOSER or time_ms >= swap.terms.expires_ms:
                return Step.WAIT
            return Step.CANCEL if swap.is_cancelling else Step.REVEAL
        case SwapPhase.COMMITTED | SwapPhase.ABORTED:
            return Step.CONCLUDE
        case SwapPhase.LAPSED:
            # Before `lock_by_ms` it can still be opened by whoever has the locks, whatever is told.
            return Step.WAIT if is_lockable else Step.CONCLUDE


def _lock_or_wait(swap: RecordedSwap, standing: Standing) -> Step:
    is_awaited = any(standing.legs[leg] is LegState.AWAITED for leg in swap.own_legs)
    return Step.LOCK if is_awaited and not swap.is_cancelling else Step.WAIT


def _cancels(swap: RecordedSwap) -> bool:
    return swap.is_cancelling and swap.role is Role.PROPOSER


def _with_legs(reason: str, legs: tuple[int, ...]) -> str:
    return f"{reason} (leg {', '.join(map(str, legs))})" if reason and legs else reason
