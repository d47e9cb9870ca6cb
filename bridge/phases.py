"""The phases of a swap as a table, and what follows from where a swap stands.

Owns which input takes a swap from which phase to which, and what a trader is told in each: who must act,
whether funds can still be in danger, when they are free at the latest. Knows no bytes; times are arguments.
Invariants: whatever is not listed raises; nothing is called failed, because only the order decides what did;
COMMITTED, ABORTED and LAPSED stand for ever (but see REOPENED).

Where the order has a swap, its phase here is the phase of its record in the register (`lockstep.register`);
the coordinator adds what comes before the order: COLLECTING, SUBMITTED, and LAPSED for what never got there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from lockstep.swap_entries import Verdict
from lockstep.terms import Terms

__pure__ = True


class Phase(IntEnum):
    """Where a swap stands, as in the schema."""

    COLLECTING = 1
    """Terms are registered with the coordinator; locks are missing."""
    SUBMITTED = 2
    """The opening bundle is durable here and may be ordered at any time; whether it is, is not known yet."""
    OPEN = 3
    """Ordered; not every leg is attested."""
    LOCKED = 4
    """Every leg is attested LOCKED; the preimage is awaited."""
    REVEALED = 5
    """The preimage is revealed; not every leg is attested LOCKED."""
    COMMITTED = 6
    """Decided: every leg goes to its recipient."""
    ABORTED = 7
    """Decided: every leg goes back to its sender."""
    LAPSED = 8
    """Was never ordered and no longer can be."""


class Input(Enum):
    """What can happen to a swap."""

    LOCK_GIVEN = "lock given"
    """A leg's signed lock was accepted."""
    BUNDLE_MADE = "bundle made"
    """Every lock is there, and the opening bundle was made of them."""
    WINDOW_PASSED = "window passed"
    """Log time reached the end of the opening bundle's window, and the bundle was not ordered."""
    LOCK_BY_PASSED = "lock_by passed"
    """Log time reached `lock_by_ms` without the swap in the order: nobody can open it any more."""
    OPENED = "opened"
    """The register recorded it."""
    REOPENED = "reopened"
    """The register, being full, had dropped its decided record, and recorded its terms once more."""
    ATTESTED = "attested"
    """A verdict on a leg counted, and decided nothing yet."""
    ALL_LOCKED = "all locked"
    """A verdict counted, and every leg is attested LOCKED."""
    REVEALED = "revealed"
    """The preimage was shown, and not every leg is attested LOCKED."""
    COMMITTED = "committed"
    """The register decided so."""
    ABORTED = "aborted"
    """The register decided so."""


FINAL: Final = frozenset((Phase.COMMITTED, Phase.ABORTED, Phase.LAPSED))
"""Phases of swaps that are over."""

UNORDERED: Final = frozenset((Phase.COLLECTING, Phase.SUBMITTED))
"""Phases before the order has the swap."""

MOVES: Final[Mapping[tuple[Phase, Input], Phase]] = {
    (Phase.COLLECTING, Input.LOCK_GIVEN): Phase.COLLECTING,
    (Phase.COLLECTING, Input.BUNDLE_MADE): Phase.SUBMITTED,
    (Phase.COLLECTING, Input.LOCK_BY_PASSED): Phase.LAPSED,
    (Phase.COLLECTING, Input.OPENED): Phase.OPEN,
    # The bundle is gone but the swap is not: other locks with later windows may still open it.
    (Phase.SUBMITTED, Input.WINDOW_PASSED): Phase.COLLECTING,
    (Phase.SUBMITTED, Input.LOCK_BY_PASSED): Phase.LAPSED,
    (Phase.SUBMITTED, Input.OPENED): Phase.OPEN,
    (Phase.OPEN, Input.LOCK_GIVEN): Phase.OPEN,
    (Phase.OPEN, Input.ATTESTED): Phase.OPEN,
    (Phase.OPEN, Input.ALL_LOCKED): Phase.LOCKED,
    (Phase.OPEN, Input.REVEALED): Phase.REVEALED,
    (Phase.OPEN, Input.ABORTED): Phase.ABORTED,
    (Phase.LOCKED, Input.ATTESTED): Phase.LOCKED,
    (Phase.LOCKED, Input.COMMITTED): Phase.COMMITTED,
    (Phase.LOCKED, Input.ABORTED): Phase.ABORTED,
    (Phase.REVEALED, Input.LOCK_GIVEN): Phase.REVEALED,
    (Phase.REVEALED, Input.ATTESTED): Phase.REVEALED,
    (Phase.REVEALED, Input.COMMITTED): Phase.COMMITTED,
    (Phase.REVEALED, Input.ABORTED): Phase.ABORTED,
    (Phase.COMMITTED, Input.REOPENED): Phase.OPEN,
    (Phase.ABORTED, Input.REOPENED): Phase.OPEN,
}
"""Every move there is. A swap that was opened is never LAPSED; one that was not is never decided."""


def next_phase(phase: Phase, given: Input) -> Phase:
    """Return the phase that follows. Raises AssertionError for what cannot happen: a defect, not an error."""
    following = MOVES.get((phase, given))
    if following is None:
        raise AssertionError(f"a swap in {phase.name} has no move for {given.value!r}")
    return following


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.COLLECTING.name}: proposed"]
    lines += [f"    {start.name} --> {end.name}: {given.value}" for (start, given), end in MOVES.items()]
    lines += [f"    {phase.name} --> [*]" for phase in sorted(FINAL)]
    return "\n".join(lines) + "\n"


# --- what follows from where a swap stands ----------------------------------------------------------------


class LegState(IntEnum):
    """Where a leg stands, as in the schema."""

    AWAITED = 1
    """Its lock was not given to this coordinator, and none is attested."""
    GIVEN = 2
    """Its lock is here or ordered; it is not attested yet."""
    LOCKED = 3
    """Attested LOCKED."""
    REJECTED = 4
    """Attested REJECTED."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the answers below depend on."""

    phase: Phase
    """Where the swap stands."""
    terms: Terms
    """Its terms."""
    legs: Sequence[LegState]
    """Where each leg stands."""
    reveals_itself: bool
    """Whether the coordinator has the preimage and may use it."""
    window_ms: int
    """Log time at which the opening bundle can no longer be ordered; 0 if none is on its way."""
    final_ms: int
    """Log time at which the swap was over; 0 while it is not."""


def leg_state(verdict: Verdict | None, *, is_given: bool) -> LegState:
    """Return where a leg stands by its verdict, and by whether its lock is here or ordered."""
    match verdict:
        case Verdict.LOCKED:
            return LegState.LOCKED
        case Verdict.REJECTED:
            return LegState.REJECTED
        case None:
            return LegState.GIVEN if is_given else LegState.AWAITED


def is_funds_safe(standing: Standing) -> bool:
    """Answer whether no leg's funds are in escrow or can still get there.

    Before the order has the swap, a lock that was handed out can be used by whoever holds it; after the
    decision every leg is released by itself, and no lock acts any more.
    """
    if standing.phase in FINAL:
        return True
    return standing.phase is Phase.COLLECTING and all(leg is LegState.AWAITED for leg in standing.legs)


def funds_free_by_ms(standing: Standing) -> int:
    """Return the latest log time at which all funds are free again, whatever anybody does.

    The first block at or past it frees them. While every lock may still be attested this is `expires_ms`;
    once the preimage is shown, a swap not fully locked at `lock_by_ms` is aborted then.
    """
    if standing.phase in FINAL:
        return standing.final_ms
    if standing.phase is Phase.REVEALED:
        return standing.terms.lock_by_ms
    return standing.terms.expires_ms


def next_action(standing: Standing) -> str:
    """Return what the party that is waited for should do, in one sentence; times are log time."""
    terms = standing.terms
    match standing.phase:
        case Phase.COLLECTING:
            return (
                f"Give the coordinator the signed lock of {_legs(standing, LegState.AWAITED)} "
                f"before {terms.lock_by_ms}, when the swap lapses."
            )
        case Phase.SUBMITTED:
            until = standing.window_ms or terms.lock_by_ms
            return f"Wait: the opening bundle is on its way, and is ordered before {until} or not at all."
        case Phase.OPEN:
            return _attestation_action(standing, "the swap is aborted and every lock returns by itself")
        case Phase.REVEALED:
            return _attestation_action(standing, "the swap is aborted; else it commits by itself")
        case Phase.LOCKED if standing.reveals_itself:
            return f"Wait: the coordinator reveals, which must be ordered before {terms.expires_ms}."
        case Phase.LOCKED:
            return (
                f"Reveal the preimage before {terms.expires_ms}, when the swap is aborted "
                "and every lock returns by itself."
            )
        case Phase.COMMITTED:
            return "Nothing: every leg goes to its recipient as its rollup executes the decision."
        case Phase.ABORTED:
            return "Nothing: every lock returns to its sender as its rollup executes the decision."
        case Phase.LAPSED:
            return "Nothing: the swap was never ordered and no longer can be; propose it anew if you want it."


def waiting_for(standing: Standing) -> str:
    """Return who is being waited for and until when; empty if the swap is over."""
    terms = standing.terms
    match standing.phase:
        case Phase.COLLECTING:
            return f"the senders of {_legs(standing, LegState.AWAITED)}, until {terms.lock_by_ms}"
        case Phase.SUBMITTED:
            return f"the sequencer, until {standing.window_ms or terms.lock_by_ms}"
        case Phase.OPEN | Phase.REVEALED:
            return f"the attesters of {_unattested(standing)}, until {terms.lock_by_ms}"
        case Phase.LOCKED:
            holder = "the coordinator" if standing.reveals_itself else "the holder of the preimage"
            return f"{holder}, until {terms.expires_ms}"
        case Phase.COMMITTED | Phase.ABORTED | Phase.LAPSED:
            return ""


def _attestation_action(standing: Standing, otherwise: str) -> str:
    lock_by_ms = standing.terms.lock_by_ms
    if LegState.AWAITED in standing.legs:
        awaited = _legs(standing, LegState.AWAITED)
        return f"Give the coordinator the signed lock of {awaited} before {lock_by_ms}, when {otherwise}."
    return f"Wait for the attesters of {_unattested(standing)}: by {lock_by_ms} without them {otherwise}."


def _unattested(standing: Standing) -> str:
    return _legs(standing, LegState.AWAITED, LegState.GIVEN)


def _legs(standing: Standing, *states: LegState) -> str:
    named = [
        f"leg {place} ({leg.rollup})"
        for place, (leg, state) in enumerate(zip(standing.terms.legs, standing.legs, strict=True))
        if state in states
    ]
    return ", ".join(named) or "no leg"
