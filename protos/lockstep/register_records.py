"""A swap in the register: its record as data, its bytes, and how one input changes it.

Owns the record's layout (protos/README.md, section 8) and its invariants, which hold in production:
`verify_record` looks at every record that is made, `step` moves only along `lockstep.register_table`. What an
entry must be to count is `lockstep.register`'s to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from struct import Struct
from typing import Final

from lockstep.attesters import AttesterSet
from lockstep.encoding import Reader, numbers_of, u8
from lockstep.hashing import ZERO_HASH
from lockstep.register_table import REASONS, TERMINAL, Input, OutcomeReason, Phase, next_phase
from lockstep.swap_entries import Open, RejectReason, Verdict
from lockstep.terms import Terms, decode_terms, swap_id_of
from lockstep.types import Height, SwapId

__pure__ = True

RECORD_VERSION: Final = 1

BLOCK_OPENING: Final = 0xFFFFFFFF
"""Stands for an entry's index where a deadline decided, before the block's entries."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an entry stands in the order."""

    height: Height
    """Its block."""
    index: int
    """Its place in that block."""


@dataclass(frozen=True, slots=True)
class Vote:
    """The verdict of one key on one leg: its first, which stands."""

    key_index: int
    """The attester's place in the leg's attester set."""
    verdict: Verdict
    """What the attester found."""
    reason: RejectReason
    """Why; NONE exactly if the verdict is LOCKED."""


@dataclass(frozen=True)
class LegRecord:
    """What is attested of a leg."""

    attesters: AttesterSet
    """Who may vote: the rollup's set in force in the opening block. The record's bytes hold its hash."""
    votes: tuple[Vote, ...] = ()
    """One per key that has voted, ascending by `key_index`."""
    places: tuple[Place, ...] = ()
    """Where each vote's attestation was ordered. Not in the record's bytes."""

    @property
    def attesters_hash(self) -> bytes:
        """The 32 bytes that name the attester set."""
        return self.attesters.hash

    @cached_property
    def verdict(self) -> Verdict | None:
        """What enough keys agree on; None before. At most one verdict can have enough."""
        verdicts = [vote.verdict for vote in self.votes]
        for verdict in verdicts:
            if verdicts.count(verdict) >= self.attesters.threshold:
                return verdict
        return None

    def place_of(self, vote: Vote) -> Place:
        """Return where the attestation of a vote, one of these, was ordered."""
        return self.places[self.votes.index(vote)]

    def vote_of(self, key_index: int) -> Vote | None:
        """Return the vote that a key has cast; None before."""
        return next((vote for vote in self.votes if vote.key_index == key_index), None)

    def with_vote(self, vote: Vote, place: Place) -> "LegRecord":
        """Return the leg with a vote more, of a key that had none."""
        before = sum(each.key_index < vote.key_index for each in self.votes)
        return LegRecord(
            self.attesters,
            (*self.votes[:before], vote, *self.votes[before:]),
            (*self.places[:before], place, *self.places[before:]),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """How a swap ended."""

    height: Height
    """The block in which it was decided."""
    index: int
    """The deciding entry's place in it; BLOCK_OPENING for a deadline."""
    reason: OutcomeReason
    """Whose doing an abort was; NONE for a commit."""
    reason_legs: tuple[int, ...]
    """The legs that the reason names: the rejected one, or those not attested; ascending."""


@dataclass(frozen=True)
class SwapRecord:
    """A swap since its opening. Its decision is named by `(swap_id, opened_height, opened_index)`."""

    swap_id: SwapId
    """The hash of the terms."""
    terms_bytes: bytes
    """The terms as they were ordered."""
    terms: Terms
    """What they say."""
    opened_height: Height
    """The block that opened it."""
    opened_index: int
    """The opening's place in that block."""
    legs: tuple[LegRecord, ...]
    """What is attested, leg by leg as in the terms."""
    preimage: bytes | None = None
    """The 32 bytes that were revealed; None before."""
    decision: Decision | None = None
    """How it ended; None while it is undecided."""
    phase: Phase = Phase.OPEN
    """Where it stands."""

    @cached_property
    def opened(self) -> Place:
        """Where it was opened; records are in this order."""
        return Place(self.opened_height, self.opened_index)

    @property
    def is_terminal(self) -> bool:
        """Whether it is decided."""
        return self.phase in TERMINAL

    @property
    def is_fully_locked(self) -> bool:
        """Whether every leg is attested LOCKED; so also if a swap was aborted thereafter."""
        return [leg.verdict for leg in self.legs].count(Verdict.LOCKED) == len(self.legs)

    @cached_property
    def has_attested_leg(self) -> bool:
        """Whether any leg has a verdict."""
        return any(leg.verdict is not None for leg in self.legs)

    @property
    def missing_legs(self) -> tuple[int, ...]:
        """The legs without a verdict."""
        return tuple(place for place, leg in enumerate(self.legs) if leg.verdict is None)


def open_record(entry: Open, place: Place, attesters: Sequence[AttesterSet]) -> SwapRecord:
    """Return the record of a swap opened at a place, each leg with its rollup's attester set."""
    legs = tuple(map(LegRecord, attesters))
    record = SwapRecord(entry.swap_id, entry.terms_bytes, entry.terms, place.height, place.index, legs)
    verify_record(record)
    return record


def step(record: SwapRecord, given: Input, place: Place, legs: tuple[int, ...] = ()) -> SwapRecord:
    """Return the record after an input at a place; AssertionError where the table has no move.

    Votes and preimage are in the record already. `legs` are those that the reason of an abort names.
    """
    phase = next_phase(record.phase, given)
    if phase == record.phase:
        stepped = record
    elif phase in TERMINAL:
        reason = REASONS[given] if phase == Phase.ABORTED else OutcomeReason.NONE
        stepped = replace(record, phase=phase, decision=Decision(place.height, place.index, reason, legs))
    else:
        stepped = replace(record, phase=phase)
    verify_record(stepped)
    return stepped


def vote(record: SwapRecord, leg: int, cast: Vote, place: Place) -> SwapRecord:
    """Return the record after a vote that counts."""
    legs = list(record.legs)
    legs[leg] = legs[leg].with_vote(cast, place)
    voted = replace(record, legs=tuple(legs))
    if legs[leg].verdict == Verdict.REJECTED:
        return step(voted, Input.LEG_REJECTED, place, (leg,))
    if voted.is_fully_locked and not record.is_fully_locked:
        return step(voted, Input.LAST_LEG_LOCKED, place)
    return step(voted, Input.VOTE, place)


def reveal(record: SwapRecord, preimage: bytes, place: Place) -> SwapRecord:
    """Return the record after its preimage was shown."""
    return step(replace(record, preimage=preimage), Input.REVEAL, place)


def verify_record(record: SwapRecord) -> None:
    """Insist on what holds for every record. AssertionError says what does not: the process must end."""
    phase, decision = record.phase, record.decision
    found = (record.is_fully_locked, record.preimage is not None)
    fits = found == _LOCKED_REVEALED[phase] if phase in _LOCKED_REVEALED else found != (True, True)
    _insist(fits, record, "has other verdicts and preimage than its phase says")
    _insist(record.is_terminal == (decision is not None), record, "has a decision exactly if it is terminal")
    if decision is not None:
        aborted = decision.reason != OutcomeReason.NONE
        _insist((phase == Phase.ABORTED) == aborted, record, "has a reason exactly if it is aborted")
        _insist(decision.height >= record.opened_height, record, "is not decided before it is opened")
    rejected = Verdict.REJECTED in [leg.verdict for leg in record.legs]
    because = decision is not None and decision.reason == OutcomeReason.LEG_REJECTED
    _insist(rejected == because, record, "is aborted for it exactly if a leg is rejected")
    if record.preimage is not None:
        matches = sha256(record.preimage).digest() == record.terms.hashlock
        _insist(matches, record, "has the preimage of its hashlock")
    for leg in record.legs:
        places = [each.key_index for each in leg.votes]
        ascending = all(left < right for left, right in pairwise(places)) if len(places) > 1 else True
        _insist(ascending and len(places) == len(leg.places), record, "has one vote of a key per leg")
        _insist(not places or places[-1] < len(leg.attesters.keys), record, "has votes of attesters")


_LOCKED_REVEALED: Final[Mapping[Phase, tuple[bool, bool]]] = {
    Phase.OPEN: (False, False),
    Phase.LOCKED: (True, False),
    Phase.REVEALED: (False, True),
    Phase.COMMITTED: (True, True),
}
"""Whether a swap is fully locked, and its preimage revealed; an aborted one is anything but both."""


def _insist(holds: bool, record: SwapRecord, what: str) -> None:  # noqa: FBT001 - a condition is what it takes
    if not holds:
        raise AssertionError(
            f"swap {record.swap_id.hex()}, {record.phase.name}: does not hold that it {what}"
        )


# --- bytes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EncodedLeg:
    """What a record's bytes say of a leg."""

    attesters_hash: bytes
    """32 bytes that name the attester set."""
    votes: tuple[Vote, ...]
    """One per key that has voted, ascending by `key_index`."""


@dataclass(frozen=True, slots=True)
class EncodedRecord:
    """What a record's bytes say: all but the keys of the attester sets, and where votes were ordered."""

    swap_id: SwapId
    """The hash of the terms."""
    terms_bytes: bytes
    """The terms as they were ordered."""
    terms: Terms
    """What they say."""
    opened_height: Height
    """The block that opened it."""
    opened_index: int
    """The opening's place in that block."""
    legs: tuple[EncodedLeg, ...]
    """What is attested, leg by leg as in the terms."""
    preimage: bytes | None
    """The 32 bytes that were revealed; None before."""
    decision: Decision | None
    """How it ended; None while it is undecided."""
    phase: Phase
    """Where it stands."""


_HEAD: Final = Struct(">BBQII")
"""Version, phase, opened height and index, and how many bytes of terms follow."""

_TAIL: Final = Struct(">QIBH")
"""Decided height and index, reason, and the legs that it names as bits."""

_UNDECIDED: Final = Decision(Height(0), 0, OutcomeReason.NONE, ())
"""Stands as the decision of a swap that has none."""


def encode_record(record: SwapRecord | EncodedRecord) -> bytes:
    """Return a record's bytes: the value under its swap id in the register's map."""
    terms_bytes, decision = record.terms_bytes, record.decision or _UNDECIDED
    parts = [
        _HEAD.pack(RECORD_VERSION, record.phase, record.opened_height, record.opened_index, len(terms_bytes)),
        terms_bytes,
    ]
    for leg in record.legs:
        parts += [leg.attesters_hash, u8(len(leg.votes))]
        parts += [bytes((each.key_index, each.verdict, each.reason)) for each in leg.votes]
    legs_bits = sum([1 << leg for leg in decision.reason_legs])
    parts += [u8(record.preimage is not None), record.preimage or ZERO_HASH]
    parts.append(_TAIL.pack(decision.height, decision.index, decision.reason, legs_bits))
    return b"".join(parts)


def decode_record(encoded: bytes) -> EncodedRecord:
    """Parse a record's bytes. Raises `Malformed`."""
    reader = Reader(encoded, "swap record")
    record = read_record(reader)
    reader.finish()
    return record


def read_record(reader: Reader) -> EncodedRecord:
    """Read what `encode_record` wrote. Raises `Malformed`."""
    reader.version(RECORD_VERSION)
    phase = reader.u8("phase")
    if phase not in numbers_of(Phase):
        raise reader.malformed("phase", f"{phase} is unknown")
    opened_height, opened_index = Height(reader.u64("opened_height")), reader.u32("opened_index")
    terms_bytes = reader.var32("terms")
    terms = decode_terms(terms_bytes)
    legs = tuple(_read_leg(reader, f"legs[{place}]") for place in range(len(terms.legs)))
    revealed, preimage = reader.u8("revealed"), reader.take(32, "preimage")
    if revealed > 1 or (not revealed and preimage != ZERO_HASH):
        raise reader.malformed("revealed", "is neither 0 with zeros nor 1")
    return EncodedRecord(
        swap_id=swap_id_of(terms_bytes),
        terms_bytes=terms_bytes,
        terms=terms,
        opened_height=opened_height,
        opened_index=opened_index,
        legs=legs,
        preimage=preimage if revealed else None,
        decision=_read_decision(reader, Phase(phase), len(legs)),
        phase=Phase(phase),
    )


def _read_leg(reader: Reader, field: str) -> EncodedLeg:
    attesters_hash, count = reader.take(32, f"{field}.attesters"), reader.u8(f"{field}.votes")
    votes = []
    for place in range(count):
        name = f"{field}.votes[{place}]"
        key_index, verdict, reason = reader.u8(name), reader.u8(name), reader.u8(name)
        if verdict not in numbers_of(Verdict) or reason not in numbers_of(RejectReason):
            raise reader.malformed(name, f"verdict {verdict} or reason {reason} is unknown")
        if (verdict == Verdict.LOCKED) != (reason == RejectReason.NONE):
            raise reader.malformed(name, f"reason {reason} does not go with the verdict")
        votes.append(Vote(key_index, Verdict(verdict), RejectReason(reason)))
    if any(left.key_index >= right.key_index for left, right in pairwise(votes)):
        raise reader.malformed(f"{field}.votes", "are not strictly ascending by key_index")
    return EncodedLeg(attesters_hash, tuple(votes))


def _read_decision(reader: Reader, phase: Phase, leg_count: int) -> Decision | None:
    height, index = Height(reader.u64("decided_height")), reader.u32("decided_index")
    reason, bits = reader.u8("outcome_reason"), reader.u16("reason_legs")
    if reason not in numbers_of(OutcomeReason) or (phase == Phase.ABORTED) != (reason != OutcomeReason.NONE):
        raise reader.malformed("outcome_reason", f"{reason} is unknown or does not go with the phase")
    if bits >> leg_count or (bits and reason not in (OutcomeReason.LEG_REJECTED, OutcomeReason.NOT_LOCKED)):
        raise reader.malformed("reason_legs", "names legs that are not there or have no part in the reason")
    if phase not in TERMINAL:
        if height or index:
            raise reader.malformed("decided_height", "or decided_index is not zero in an undecided swap")
        return None
    if height == 0:
        raise reader.malformed("decided_height", "is zero in a decided swap")
    legs = tuple(leg for leg in range(leg_count) if bits >> leg & 1)
    return Decision(height, index, OutcomeReason(reason), legs)
