"""A swap as the coordinator drives it: what it was given, what the order says, what is to be sent.

Owns the coordinator's rules as pure functions from a swap and an input to the next swap: time, numbers and
records of the register are arguments. Does no I/O and decides no outcome. Invariants:

- the phase moves by `phases.MOVES` alone, and equals the phase of the register's record where there is one;
- what is to be sent is part of the swap, so that it is durable before it is sent, and its bytes never change;
- a preimage is held only while it may have to be used.

Mappings in a swap are never changed in place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from hashlib import sha256
from typing import Final

from bridge.levels import Level
from bridge.phases import (
    FINAL,
    UNORDERED,
    Input,
    LegState,
    Phase,
    Standing,
    leg_state,
    next_phase,
)
from lockstep import limits
from lockstep import register as lockstep_register
from lockstep.order import Bundle, Transaction, bundle_id_of
from lockstep.register import SwapRecord
from lockstep.swap_entries import encode_open, encode_reveal
from lockstep.terms import Terms
from lockstep.types import SWAP_NAMESPACE, BundleId, ChainId, Namespace, SwapId

__pure__ = True

REVEAL_WINDOW_MS: Final = limits.VALIDITY_WINDOW_MS_DEFAULT
"""For how long after it was made a reveal or cancellation may be ordered."""


class RevealPolicy(IntEnum):
    """When the coordinator may use a swap's preimage, as in the schema."""

    BY_TRADER = 1
    """It has none."""
    UP_FRONT = 2
    """In the opening bundle."""
    DELEGATED = 3
    """Once every leg is attested LOCKED."""


class SendKind(IntEnum):
    """What a bundle to be sent is for."""

    OPENING = 1
    """Opens the swap, with all its locks, and the reveal if it is up front."""
    LOCK = 2
    """One lock on its own, of a swap that another's bundle opened."""
    REVEAL = 3
    """Shows the preimage."""
    CANCEL = 4
    """Withdraws the swap."""


@dataclass(frozen=True, slots=True)
class GivenLock:
    """The signed lock of a leg."""

    payload: bytes
    """The transaction in the namespace of the leg's rollup."""
    valid_until_ms: int
    """Log time at which it can no longer act."""
    is_ordered: bool = False
    """Whether it is known to be in the order, alone or in the opening bundle."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A bundle that is sent again and again, the same bytes, until it is ordered or its window has passed."""

    kind: SendKind
    """What it is for."""
    leg: int
    """The leg of a LOCK; 0 for other kinds."""
    bundle: Bundle = field(repr=False)
    """What is sent. Never shown: it may hold a preimage."""
    bundle_id: BundleId
    """The bundle's id."""
    is_asked: bool
    """Whether it is sent because a caller asked, who is told if it is refused; else it is tried on."""


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap as the coordinator knows it."""

    number: int
    """Which one it is in the order of becoming known here, from 1."""
    swap_id: SwapId
    """The hash of the terms."""
    terms_bytes: bytes
    """The terms as they travel."""
    terms: Terms
    """What they say."""
    phase: Phase
    """Where it stands."""
    policy: RevealPolicy | None = None
    """As proposed here; None if it is known from the order alone."""
    preimage: bytes | None = field(default=None, repr=False)
    """Given for UP_FRONT or DELEGATED, and not needed before the order shows it. Never logged."""
    locks: Mapping[int, GivenLock] = field(default_factory=dict)
    """The locks that were given, by leg."""
    sendings: Mapping[tuple[SendKind, int], Sending] = field(default_factory=dict)
    """What is being sent, by kind and leg."""
    is_bundle_ordered: bool = False
    """Whether a bundle of ours with all locks is in the order, whatever became of the swap."""
    record: SwapRecord | None = None
    """The register's record when it last changed; None while the swap is not in the order."""
    final_ms: int = 0
    """Log time of the block by which it was over; 0 while it is not."""
    sequence: int = 0
    """Number of its last change."""
    level: Level = Level.NONE
    """How far its opening has got; of a decision that is kept where nothing else of the swap is needed."""

    @property
    def is_final(self) -> bool:
        """Whether it is over."""
        return self.phase in FINAL

    @property
    def window_ms(self) -> int:
        """Log time at which the opening bundle can no longer be ordered; 0 if none is being sent."""
        opening = self.sendings.get((SendKind.OPENING, 0))
        return 0 if opening is None else opening.bundle.valid_until_ms

    @property
    def step_height(self) -> int:
        """Height of its decision, else of its opening; 0 while it is not in the order."""
        return 0 if self.record is None else step_height(self.record)

    @property
    def leg_states(self) -> tuple[LegState, ...]:
        """Where each leg stands."""
        return tuple(
            leg_state(
                None if self.record is None else self.record.legs[leg].verdict, is_given=leg in self.locks
            )
            for leg in range(len(self.terms.legs))
        )

    @property
    def standing(self) -> Standing:
        """What `phases` answers questions about."""
        return Standing(
            self.phase,
            self.terms,
            self.leg_states,
            reveals_itself=self.preimage is not None,
            window_ms=self.window_ms,
            final_ms=self.final_ms,
        )


def step_height(record: SwapRecord) -> int:
    """Return the height of a recorded swap's decision, else of its opening."""
    return record.opened_height if record.decision is None else record.decision.height


# --- what happens to a swap -------------------------------------------------------------------------------


def is_preimage_of(preimage: bytes, terms: Terms) -> bool:
    """Answer whether a preimage has 32 bytes and opens the hashlock."""
    return len(preimage) == limits.PREIMAGE_BYTES and sha256(preimage).digest() == terms.hashlock


def with_proposal(swap: Swap, policy: RevealPolicy, preimage: bytes | None) -> Swap:
    """Return a swap that was known from the order alone with what its proposer says about it."""
    return replace(swap, policy=policy, preimage=None if swap.is_final else preimage)


def with_lock(swap: Swap, leg: int, lock: GivenLock) -> Swap:
    """Return the swap with a leg's lock, in place of an expired one if there is one."""
    locks = {**swap.locks, leg: lock}
    return replace(swap, locks=locks, phase=next_phase(swap.phase, Input.LOCK_GIVEN))


def with_sending(swap: Swap, sending: Sending) -> Swap:
    """Return the swap with something more to be sent. AssertionError if that is on its way already."""
    key = (sending.kind, sending.leg)
    assert key not in swap.sendings, f"{sending.kind.name} is on its way"
    phase = next_phase(swap.phase, Input.BUNDLE_MADE) if sending.kind is SendKind.OPENING else swap.phase
    return replace(swap, phase=phase, sendings={**swap.sendings, key: sending})


def without_sending(swap: Swap, kind: SendKind, leg: int = 0) -> Swap:
    """Return the swap without something that is not sent any more, if it ever was."""
    if (kind, leg) not in swap.sendings:
        return swap
    kept = {key: sending for key, sending in swap.sendings.items() if key != (kind, leg)}
    return replace(swap, sendings=kept)


def ordered(swap: Swap, kind: SendKind, leg: int = 0) -> Swap:
    """Return the swap after a bundle of ours for it was ordered, whatever that did."""
    has_all_locks = kind is SendKind.OPENING
    locks = {
        place: replace(lock, is_ordered=True)
        if has_all_locks or (kind is SendKind.LOCK and place == leg)
        else lock
        for place, lock in swap.locks.items()
    }
    return replace(
        without_sending(swap, kind, leg),
        locks=locks,
        is_bundle_ordered=swap.is_bundle_ordered or has_all_locks,
    )


def recorded(swap: Swap, record: SwapRecord, *, time_ms: int) -> Swap:
    """Return the swap after the register's record of it became `record`, in a block at `time_ms`."""
    given = _input_of(swap, record)
    phase = swap.phase if given is None else next_phase(swap.phase, given)
    assert phase is PHASE_OF[record.phase], f"{phase.name} is not the register's {record.phase.name}"
    # Nobody was seen to have got to a new step's block, which is the newest.
    level = swap.level if step_height(record) == swap.step_height else Level.ORDERED
    final_ms = 0 if given is Input.REOPENED else swap.final_ms
    moved = replace(swap, record=record, phase=phase, level=level, final_ms=final_ms)
    if given is Input.OPENED and not swap.is_bundle_ordered:
        # Somebody else opened it; our own opening would be refused now, so that the locks go alone.
        moved = without_sending(moved, SendKind.OPENING)
    if record.preimage is not None:
        moved = without_sending(moved, SendKind.REVEAL)
        moved = moved if moved.preimage is None else replace(moved, preimage=None)
    return _over(moved, time_ms) if moved.is_final and not swap.is_final else moved


def passed(swap: Swap, *, time_ms: int) -> Swap:
    """Return the swap after a block at `time_ms` of which everything else was taken in already."""
    if swap.phase in UNORDERED and time_ms >= swap.terms.lock_by_ms:
        lapsed = replace(swap, phase=next_phase(swap.phase, Input.LOCK_BY_PASSED))
        return _over(lapsed, time_ms)
    for sending in tuple(swap.sendings.values()):
        if time_ms >= sending.bundle.valid_until_ms:
            swap = without_sending(swap, sending.kind, sending.leg)
            if sending.kind is SendKind.OPENING and swap.phase is Phase.SUBMITTED:
                swap = replace(swap, phase=next_phase(swap.phase, Input.WINDOW_PASSED))
    usable = {
        leg: lock for leg, lock in swap.locks.items() if lock.is_ordered or time_ms < lock.valid_until_ms
    }
    # While the opening bundle stands, no lock in it has expired.
    return swap if len(usable) == len(swap.locks) else replace(swap, locks=usable)


def alarm_ms(swap: Swap) -> int | None:
    """Return the log time at which `passed` next changes something, or None if time changes nothing."""
    times = [sending.bundle.valid_until_ms for sending in swap.sendings.values()]
    times += [lock.valid_until_ms for lock in swap.locks.values() if not lock.is_ordered]
    if swap.phase in UNORDERED:
        times.append(swap.terms.lock_by_ms)
    return min(times, default=None)


PHASE_OF: Final[Mapping[lockstep_register.Phase, Phase]] = {
    lockstep_register.Phase.OPEN: Phase.OPEN,
    lockstep_register.Phase.LOCKED: Phase.LOCKED,
    lockstep_register.Phase.REVEALED: Phase.REVEALED,
    lockstep_register.Phase.COMMITTED: Phase.COMMITTED,
    lockstep_register.Phase.ABORTED: Phase.ABORTED,
}
"""The phase here of each phase of the register."""

_ENTERING: Final[Mapping[Phase, Input]] = {
    Phase.LOCKED: Input.ALL_LOCKED,
    Phase.REVEALED: Input.REVEALED,
    Phase.COMMITTED: Input.COMMITTED,
    Phase.ABORTED: Input.ABORTED,
}


def _input_of(swap: Swap, record: SwapRecord) -> Input | None:
    """Return what a changed record means for a swap; None if it is known already."""
    phase = PHASE_OF[record.phase]
    if swap.record is record or swap.record == record:
        return None
    if phase is Phase.OPEN and swap.phase is not Phase.OPEN:
        return Input.REOPENED if swap.is_final else Input.OPENED
    if phase is swap.phase:
        return Input.ATTESTED
    return _ENTERING[phase]


def _over(swap: Swap, time_ms: int) -> Swap:
    """Return a swap that is over without what was only needed to get there."""
    return replace(swap, final_ms=time_ms, preimage=None, locks={}, sendings={})


# --- what is to be sent -----------------------------------------------------------------------------------


def wanted(swap: Swap, *, chain: ChainId, time_ms: int) -> Iterator[Sending]:
    """Yield what has to be sent for a swap as it stands at `time_ms`, and is not on its way yet.

    Nothing of it depends on chance: the same swap at the same time gives the same bundles.
    """
    match swap.phase:
        case Phase.COLLECTING if len(swap.locks) == len(swap.terms.legs):
            yield opening(swap, chain)
        case Phase.OPEN | Phase.REVEALED:
            yield from _lone_locks(swap, chain, time_ms)
            if swap.phase is Phase.OPEN and swap.policy is RevealPolicy.UP_FRONT:
                # In our own bundle the reveal would have been read before this swap was seen here as OPEN.
                yield from _own_reveal(swap, chain, time_ms)
        case Phase.LOCKED:
            yield from _own_reveal(swap, chain, time_ms)


def opening(swap: Swap, chain: ChainId) -> Sending:
    """Return the bundle that opens a swap whose locks are all there.

    It can be ordered as long as each lock in it and the opening can act.
    """
    transactions = [Transaction(SWAP_NAMESPACE, encode_open(swap.terms_bytes))]
    transactions += [
        Transaction(Namespace(leg.rollup), swap.locks[place].payload)
        for place, leg in enumerate(swap.terms.legs)
    ]
    if swap.policy is RevealPolicy.UP_FRONT and swap.preimage is not None:
        transactions.append(Transaction(SWAP_NAMESPACE, encode_reveal(swap.swap_id, swap.preimage)))
    valid_until_ms = min(swap.terms.lock_by_ms, *(lock.valid_until_ms for lock in swap.locks.values()))
    return _sending(SendKind.OPENING, 0, transactions, valid_until_ms, chain, is_asked=False)


def reveal(swap: Swap, preimage: bytes, *, chain: ChainId, time_ms: int, is_asked: bool) -> Sending:
    """Return the bundle that shows a swap's preimage."""
    transaction = Transaction(SWAP_NAMESPACE, encode_reveal(swap.swap_id, preimage))
    valid_until_ms = min(time_ms + REVEAL_WINDOW_MS, swap.terms.expires_ms)
    return _sending(SendKind.REVEAL, 0, [transaction], valid_until_ms, chain, is_asked=is_asked)


def cancel(swap: Swap, entry: bytes, *, chain: ChainId, time_ms: int) -> Sending:
    """Return the bundle of a signed cancellation."""
    valid_until_ms = min(time_ms + REVEAL_WINDOW_MS, swap.terms.expires_ms)
    transaction = Transaction(SWAP_NAMESPACE, entry)
    return _sending(SendKind.CANCEL, 0, [transaction], valid_until_ms, chain, is_asked=True)


def _lone_locks(swap: Swap, chain: ChainId, time_ms: int) -> Iterator[Sending]:
    for leg, lock in sorted(swap.locks.items()):
        if lock.is_ordered or (SendKind.LOCK, leg) in swap.sendings:
            continue
        if swap.leg_states[leg] in (LegState.LOCKED, LegState.REJECTED):
            continue
        valid_until_ms = min(lock.valid_until_ms, swap.terms.lock_by_ms)
        if time_ms < valid_until_ms:
            transaction = Transaction(Namespace(swap.terms.legs[leg].rollup), lock.payload)
            yield _sending(SendKind.LOCK, leg, [transaction], valid_until_ms, chain, is_asked=False)


def _own_reveal(swap: Swap, chain: ChainId, time_ms: int) -> Iterator[Sending]:
    is_due = time_ms < swap.terms.expires_ms and (SendKind.REVEAL, 0) not in swap.sendings
    if swap.preimage is not None and is_due:
        yield reveal(swap, swap.preimage, chain=chain, time_ms=time_ms, is_asked=False)


def _sending(
    kind: SendKind,
    leg: int,
    transactions: list[Transaction],
    valid_until_ms: int,
    chain: ChainId,
    *,
    is_asked: bool,
) -> Sending:
    bundle = Bundle(tuple(transactions), valid_until_ms)
    return Sending(kind, leg, bundle, bundle_id_of(chain, bundle), is_asked)
