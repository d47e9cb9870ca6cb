"""Swaps as the coordinator tells them.

Owns the parsing of its answers and what can be checked of them without the order: a swap's id is the hash of
its terms, a shown preimage opens the hashlock. Where a swap *stands* is the coordinator's word; whoever needs
more asks a rollup for a proof, or follows the order. Invariant: what was parsed holds no missing or unknown
field.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final, TypeVar

from lockstep.errors import Malformed
from lockstep.swap_entries import RejectReason
from lockstep.terms import Terms, decode_terms, swap_id_of
from lockstep.types import ChainId, SwapId
from lockstep.v1 import bridge_pb2, common_pb2


class SwapPhase(IntEnum):
    """Where a swap stands. COMMITTED, ABORTED and LAPSED are final."""

    COLLECTING = bridge_pb2.SWAP_PHASE_COLLECTING
    """Terms are registered with the coordinator; locks are missing."""
    SUBMITTED = bridge_pb2.SWAP_PHASE_SUBMITTED
    """The opening bundle was handed to the sequencer; whether it is ordered is not known yet."""
    OPEN = bridge_pb2.SWAP_PHASE_OPEN
    """Ordered; not every leg is attested."""
    LOCKED = bridge_pb2.SWAP_PHASE_LOCKED
    """Every leg is attested LOCKED; the preimage is awaited."""
    REVEALED = bridge_pb2.SWAP_PHASE_REVEALED
    """The preimage is revealed; not every leg is attested LOCKED."""
    COMMITTED = bridge_pb2.SWAP_PHASE_COMMITTED
    """Decided: every leg goes to its recipient."""
    ABORTED = bridge_pb2.SWAP_PHASE_ABORTED
    """Decided: every leg goes back to its sender."""
    LAPSED = bridge_pb2.SWAP_PHASE_LAPSED
    """Was never ordered and no longer can be."""

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self in FINAL_PHASES


FINAL_PHASES: Final = frozenset((SwapPhase.COMMITTED, SwapPhase.ABORTED, SwapPhase.LAPSED))
"""Phases that nothing follows."""


class AbortReason(IntEnum):
    """Why a swap was aborted."""

    NONE = bridge_pb2.ABORT_REASON_UNSPECIFIED
    """It was not."""
    LEG_REJECTED = bridge_pb2.ABORT_REASON_LEG_REJECTED
    """A leg was attested REJECTED."""
    CANCELLED = bridge_pb2.ABORT_REASON_CANCELLED
    """The revealer cancelled."""
    NOT_LOCKED = bridge_pb2.ABORT_REASON_NOT_LOCKED
    """`lock_by_ms` came before every leg was attested."""
    NOT_REVEALED = bridge_pb2.ABORT_REASON_NOT_REVEALED
    """`expires_ms` came before the preimage."""
    CROWDED_OUT = bridge_pb2.ABORT_REASON_CROWDED_OUT
    """The register was full."""


class LegState(IntEnum):
    """Where a leg stands."""

    AWAITED = bridge_pb2.LEG_STATE_AWAITED
    """Its lock was not given to this coordinator, and none is attested."""
    GIVEN = bridge_pb2.LEG_STATE_GIVEN
    """Its lock is at the coordinator or ordered; it is not attested yet."""
    LOCKED = bridge_pb2.LEG_STATE_LOCKED
    """Attested LOCKED."""
    REJECTED = bridge_pb2.LEG_STATE_REJECTED
    """Attested REJECTED."""


class RevealPolicy(IntEnum):
    """When the coordinator may use a preimage that it was given."""

    BY_TRADER = bridge_pb2.REVEAL_POLICY_BY_TRADER
    """It has none: the trader reveals."""
    UP_FRONT = bridge_pb2.REVEAL_POLICY_UP_FRONT
    """In the opening bundle: the swap commits by itself when the last lock is attested."""
    DELEGATED = bridge_pb2.REVEAL_POLICY_DELEGATED
    """Once every leg is attested LOCKED."""


class CommitLevel(IntEnum):
    """How far something has got; each level holds all before it."""

    NONE = common_pb2.COMMIT_LEVEL_UNSPECIFIED
    """Not ordered, as far as is known."""
    ORDERED = common_pb2.COMMIT_LEVEL_ORDERED
    """Durable and signed by the sequencer."""
    EXECUTED = common_pb2.COMMIT_LEVEL_EXECUTED
    """Executed by the rollups."""
    ANCHORED = common_pb2.COMMIT_LEVEL_ANCHORED
    """In the settlement log."""
    FINAL = common_pb2.COMMIT_LEVEL_FINAL
    """The challenge window has passed."""


@dataclass(frozen=True, slots=True)
class LegView:
    """A leg of a swap."""

    state: LegState
    """Where it stands."""
    reject_reason: RejectReason
    """Why it was rejected; NONE unless it was."""
    settled: bool
    """Whether its rollup, as far as the coordinator has seen, has settled it."""


@dataclass(frozen=True, slots=True)
class SwapView:
    """A swap as the coordinator sees it."""

    swap_id: SwapId
    """The swap's id, which is the hash of its terms."""
    terms_bytes: bytes
    """The terms as they travel."""
    terms: Terms
    """What they say."""
    phase: SwapPhase
    """Where it stands."""
    abort_reason: AbortReason
    """Why it was aborted; NONE unless it was."""
    reason_legs: tuple[int, ...]
    """The legs that the reason names."""
    legs: tuple[LegView, ...]
    """Each leg, in order of the terms."""
    opened_height: int
    """Height of the opening block; 0 while not ordered."""
    opened_index: int
    """Place of the opening in that block."""
    decided_height: int
    """Height of the deciding block; 0 while undecided."""
    decided_index: int
    """Place of the deciding entry; 4294967295 if a deadline decided."""
    next_action: str
    """What the party that is being waited for should do, in one sentence."""
    funds_safe: bool
    """Whether no leg's funds are in escrow or can still get there."""
    funds_free_by_ms: int
    """The latest log time at which all funds are free again, whatever anybody does."""
    sequence: int
    """Number of the swap's last change."""
    level: CommitLevel
    """How far the opening, and then the decision, has got."""
    preimage: bytes | None
    """The preimage, once it is revealed in the order; it opens the hashlock."""

    @property
    def is_final(self) -> bool:
        """Whether the swap is over."""
        return self.phase.is_final


@dataclass(frozen=True, slots=True)
class SwapPage:
    """Some swaps of a listing."""

    swaps: tuple[SwapView, ...]
    """Newest first."""
    next_page_token: bytes
    """For the next page; empty if this is the last."""


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened to a swap."""

    height: int
    """Height of the block; 0 for what only the coordinator knows."""
    index: int
    """Place of the entry in the block; 4294967295 for a deadline."""
    time_ms: int
    """Log time of the block."""
    kind: str
    """What happened, in a word."""
    text: str
    """What happened, in a sentence."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known of a swap."""

    swap: SwapView
    """How it stands."""
    events: tuple[EventView, ...]
    """What happened, in order."""
    waiting_for: str
    """Who is being waited for and until when; empty if it is over."""


@dataclass(frozen=True, slots=True)
class BridgeStatus:
    """Where the coordinator stands."""

    chain_id: ChainId
    """The chain."""
    software_version: str
    """For people."""
    height: int
    """The last block that it has followed."""
    time_ms: int
    """That block's log time."""
    register_root: bytes
    """The register's root after it."""
    open_swaps: int
    """Swaps that are not final."""
    first_sequence: int
    """The first number that `watch` can start from."""
    next_sequence: int
    """The number that the next change will get."""
    makers: int
    """Makers that are connected."""


_Enum = TypeVar("_Enum", bound=IntEnum)


def parse_swap(message: bridge_pb2.Swap) -> SwapView:
    """Return what a Swap message says. Raises `Malformed` if it contradicts itself.

    Checks: the terms decode and their hash is the id; every enumeration is known; there is a state for each
    leg; a preimage opens the hashlock, and a COMMITTED swap shows it.
    """
    terms = decode_terms(message.terms)
    if message.swap_id != swap_id_of(message.terms):
        raise _malformed("swap_id", "is not the hash of the terms")
    if len(message.legs) != len(terms.legs):
        raise _malformed("legs", f"are {len(message.legs)}, the terms have {len(terms.legs)}")
    if any(leg >= len(terms.legs) for leg in message.reason_legs):
        raise _malformed("reason_legs", "name a leg that the terms do not have")
    phase = _enum(SwapPhase, message.phase, "phase")
    preimage = message.preimage or None
    if preimage is not None and sha256(preimage).digest() != terms.hashlock:
        raise _malformed("preimage", "does not open the hashlock")
    if phase is SwapPhase.COMMITTED and preimage is None:
        raise _malformed("preimage", "is missing although the swap is committed")
    return SwapView(
        swap_id=SwapId(message.swap_id),
        terms_bytes=message.terms,
        terms=terms,
        phase=phase,
        abort_reason=_enum(AbortReason, message.abort_reason, "abort_reason"),
        reason_legs=tuple(message.reason_legs),
        legs=tuple(
            LegView(
                _enum(LegState, leg.state, "legs.state"),
                _enum(RejectReason, leg.reject_reason, "legs.reject_reason"),
                leg.settled,
            )
            for leg in message.legs
        ),
        opened_height=message.opened_height,
        opened_index=message.opened_index,
        decided_height=message.decided_height,
        decided_index=message.decided_index,
        next_action=message.next_action,
        funds_safe=message.funds_safe,
        funds_free_by_ms=message.funds_free_by_ms,
        sequence=message.sequence,
        level=_enum(CommitLevel, message.level, "level"),
        preimage=preimage,
    )


def _enum(kind: type[_Enum], value: int, field: str) -> _Enum:
    try:
        return kind(value)
    except ValueError:
        raise _malformed(field, f"{value} is unknown") from None


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="answer of the bridge", field=field, reason=reason)
