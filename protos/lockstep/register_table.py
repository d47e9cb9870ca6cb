"""The life of a swap as a table: which input takes it from which phase to which.

Owns the phases, the inputs and the table; the diagram in protos/README.md is printed from it. Does not know
what an input needs to be one: that a vote is signed, or a preimage the right one, was judged before
(`lockstep.register`). Invariant: every pair of phase and input is in MOVES, or in NO_OPS, or cannot happen,
and then it raises. COMMITTED and ABORTED have no way out.

Why a pair that is in neither table cannot happen:

- in OPEN and REVEALED a leg is not attested, so LOCK_BY comes before EXPIRY and ends the swap;
- in LOCKED every leg is attested, so no leg can become the last one, be rejected or be missed, and the
  register crowds out only swaps without an attested leg;
- a decided swap is dropped when its time has come, and not crowded out but dropped.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final

__pure__ = True


class Phase(IntEnum):
    """Where a swap stands. The numbers are those of its record's bytes."""

    OPEN = 1
    """A leg is not attested yet, and the preimage is not revealed."""
    LOCKED = 2
    """Every leg is attested LOCKED; the preimage is not revealed."""
    REVEALED = 3
    """The preimage is revealed; a leg is not attested yet."""
    COMMITTED = 4
    """Decided: every leg pays its recipient."""
    ABORTED = 5
    """Decided: every leg returns to its sender."""


TERMINAL: Final = frozenset((Phase.COMMITTED, Phase.ABORTED))
"""The phases of a decided swap."""


class OutcomeReason(IntEnum):
    """Whose doing an abort was. The numbers are those of a record's bytes."""

    NONE = 0
    """The swap is not aborted."""
    LEG_REJECTED = 1
    """A leg was attested REJECTED; the reason names it."""
    CANCELLED = 2
    """Its revealer cancelled it."""
    NOT_LOCKED = 3
    """`lock_by_ms` came with legs not attested; the reason names them."""
    NOT_REVEALED = 4
    """`expires_ms` came with every leg locked."""
    CROWDED_OUT = 5
    """The register was full, and this was its oldest swap without an attested leg."""


class Input(Enum):
    """What can happen to a recorded swap. The values are the words of the diagram."""

    VOTE = "vote"
    """An attester's verdict counted, without giving the swap its last verdict or a rejection."""
    LAST_LEG_LOCKED = "last leg locked"
    """A verdict counted by which every leg is attested LOCKED."""
    LEG_REJECTED = "leg rejected"
    """A verdict counted by which a leg is attested REJECTED."""
    REVEAL = "reveal"
    """The preimage was shown."""
    CANCEL = "cancel"
    """The revealer withdrew."""
    LOCK_BY = "lock_by_ms reached"
    """Log time reached `lock_by_ms`."""
    EXPIRY = "expires_ms reached"
    """Log time reached `expires_ms`."""
    CROWDING = "crowded out"
    """The register needs this swap's place for a new one."""


MOVES: Final[Mapping[tuple[Phase, Input], Phase]] = {
    (Phase.OPEN, Input.VOTE): Phase.OPEN,
    (Phase.OPEN, Input.LAST_LEG_LOCKED): Phase.LOCKED,
    (Phase.OPEN, Input.LEG_REJECTED): Phase.ABORTED,
    (Phase.OPEN, Input.REVEAL): Phase.REVEALED,
    (Phase.OPEN, Input.CANCEL): Phase.ABORTED,
    (Phase.OPEN, Input.LOCK_BY): Phase.ABORTED,
    (Phase.OPEN, Input.CROWDING): Phase.ABORTED,
    (Phase.LOCKED, Input.VOTE): Phase.LOCKED,
    (Phase.LOCKED, Input.REVEAL): Phase.COMMITTED,
    (Phase.LOCKED, Input.CANCEL): Phase.ABORTED,
    (Phase.LOCKED, Input.LOCK_BY): Phase.LOCKED,
    (Phase.LOCKED, Input.EXPIRY): Phase.ABORTED,
    (Phase.REVEALED, Input.VOTE): Phase.REVEALED,
    (Phase.REVEALED, Input.LAST_LEG_LOCKED): Phase.COMMITTED,
    (Phase.REVEALED, Input.LEG_REJECTED): Phase.ABORTED,
    (Phase.REVEALED, Input.LOCK_BY): Phase.ABORTED,
    (Phase.REVEALED, Input.CROWDING): Phase.ABORTED,
}
"""Where an input takes a swap."""

NO_OPS: Final[Mapping[tuple[Phase, Input], str]] = {
    (Phase.REVEALED, Input.REVEAL): "the preimage is revealed already",
    (Phase.REVEALED, Input.CANCEL): "the preimage is revealed, which no cancellation undoes",
    **{
        (phase, entry): f"the swap is {phase.name} already"
        for phase in (Phase.COMMITTED, Phase.ABORTED)
        for entry in (Input.VOTE, Input.REVEAL, Input.CANCEL)
    },
}
"""What entries cannot change, and why; they may well be ordered."""

REASONS: Final[Mapping[Input, OutcomeReason]] = {
    Input.LEG_REJECTED: OutcomeReason.LEG_REJECTED,
    Input.CANCEL: OutcomeReason.CANCELLED,
    Input.LOCK_BY: OutcomeReason.NOT_LOCKED,
    Input.EXPIRY: OutcomeReason.NOT_REVEALED,
    Input.CROWDING: OutcomeReason.CROWDED_OUT,
}
"""Why a swap that an input aborts is aborted."""


def why_no_op(phase: Phase, given: Input) -> str | None:
    """Return why an input changes nothing in a phase, in words; None if it does."""
    return NO_OPS.get((phase, given))


def next_phase(phase: Phase, given: Input) -> Phase:
    """Return the phase to which an input takes a swap; AssertionError for a pair that is not in MOVES."""
    following = MOVES.get((phase, given))
    if following is None:
        raise AssertionError(f"a swap that is {phase.name} has no move for `{given.value}`")
    return following


def diagram() -> str:
    """Return the table as a Mermaid state diagram; inputs that stay in a phase are left out."""
    labels: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, given), following in MOVES.items():
        if phase != following:
            labels.setdefault((phase, following), []).append(given.value)
    return "\n".join(
        (
            "stateDiagram-v2",
            f"    [*] --> {Phase.OPEN.name}: open",
            *(f"    {a.name} --> {b.name}: {', '.join(given)}" for (a, b), given in labels.items()),
            *(f"    {phase.name} --> [*]: dropped" for phase in sorted(TERMINAL)),
        )
    )
