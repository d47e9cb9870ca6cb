"""Swaps: both sides or neither, decided once, nothing left in escrow, nothing late. Pure.

Looks at what the plain register and rollups came to after a block, from the outside: at records, receipts and
escrow, not at how they were made.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256

from deploy.audit.invariants import Invariant, Violated, Violation
from deploy.audit.plain.entries import LOCKED, Leg
from deploy.audit.plain.reading import Bytes
from deploy.audit.plain.register import Opening, Register
from deploy.audit.plain.rollup import (
    ABORTED,
    COMMITTED,
    PAID,
    Held,
    Rollup,
    decided_place,
    escrow_key,
    read_held,
)
from deploy.audit.value import ESCROW

__pure__ = True

SETTLED, UNBACKED = 2, 3
LegName = tuple[bytes, int, int]
"""A swap, a leg, and the index at which the newest block decided the swap: it may be opened and end twice."""


class Swaps:
    """Checks the life of every swap."""

    def __init__(self, counts: "Counter[Invariant]") -> None:
        self._counts = counts
        self._decided: dict[bytes, tuple[tuple[int, int], bytes]] = {}
        """Of the decided swaps that are recorded, the opening and the record's bytes at the decision."""
        self.ends: Counter[str] = Counter()
        """How many swaps ended how."""
        self.opened = 0
        """Swaps that were opened."""

    def block(self, register: Register, rollups: Mapping[str, Rollup], time_ms: int) -> None:
        """Check what the newest block did to swaps."""
        for opening in register.touched.values():
            self._check_ballots(register, opening, rollups)
        settled = {name: dict(_settled(rollup)) for name, rollup in rollups.items()}
        decided = register.decided
        for opening in decided:
            self._check_decision(register, opening, time_ms)
            self._check_legs(opening, rollups, settled)
        decisions = {(opening.swap_id, decided_place(opening)[1]) for opening in decided}
        for name, receipts in settled.items():
            for swap_id, leg, index in receipts:
                if (swap_id, index) not in decisions:
                    raise _broken(Invariant.DECIDED_ONCE, swap_id, f"leg {leg} was settled again", name)
        self.opened += sum(fact[1] == "opened" for fact in register.facts)
        self._check_records(register)
        self._check_deadlines(register, time_ms)
        for rollup in rollups.values():
            self._check_escrow(register, rollup, rollup.changes)
        self._check_signers(register)

    def recount(self, register: Register, rollups: Mapping[str, Rollup]) -> None:
        """Look at every escrow record there is."""
        for rollup in rollups.values():
            everything = {key: (value, value) for key, value in rollup.state.items() if key[0] == ESCROW}
            self._check_escrow(register, rollup, everything)

    def _check_ballots(self, register: Register, opening: Opening, rollups: Mapping[str, Rollup]) -> None:
        """Whoever attested a lock in this block said what the escrow record says, which was there before."""
        for ballot in opening.counted():
            leg = opening.terms.legs[ballot.leg]
            if ballot.at[0] != register.height or not _has_escrow(rollups[leg.rollup]):
                continue
            held = _held_before(rollups[leg.rollup], opening, ballot.leg)
            self._counts[Invariant.ATTESTED] += 1
            said = (ballot.verdict, ballot.reason)
            found = None if held is None else (held.verdict, held.reason)
            if said != found:
                _, keys = opening.sets[ballot.leg]
                raise Violated(
                    Violation(
                        Invariant.ATTESTED,
                        f"an attester of {leg.rollup} lied about leg {ballot.leg}",
                        rollup=leg.rollup,
                        source=f"attester {keys[ballot.key_index].hex()}",
                        place=f"swap {opening.swap_id.hex()}, entry {ballot.at[1]} of the block",
                        expected="no lock" if found is None else f"verdict {found[0]}, reason {found[1]}",
                        actual=f"verdict {said[0]}, reason {said[1]}",
                    )
                )

    # --- the decision

    def _check_decision(self, register: Register, opening: Opening, time_ms: int) -> None:
        outcome, terms = opening.outcome, opening.terms
        assert outcome is not None, "it was decided"
        self.ends[outcome.phase if outcome.phase == "COMMITTED" else outcome.reason] += 1
        self._counts[Invariant.DECIDED_ONCE] += 1
        known = self._decided.get(opening.swap_id)
        if known is not None and known[0] == opening.at[:2]:
            raise _broken(Invariant.DECIDED_ONCE, opening.swap_id, "it was decided a second time")
        if opening.dropped is None:
            self._decided[opening.swap_id] = (opening.at[:2], opening.record())
        all_locked, shown = opening.all_locked(), opening.shown
        if outcome.phase == "COMMITTED":
            if all_locked is None or shown is None or sha256(shown[1]).digest() != terms.hashlock:
                message = "it committed without every leg attested and the preimage shown"
                raise _broken(Invariant.DECIDED_ONCE, opening.swap_id, message)
            is_late = time_ms >= terms.expires_ms
            is_late |= all_locked[0] == register.height and time_ms >= terms.lock_by_ms
        else:
            is_late = outcome.reason == "NOT_LOCKED" and time_ms < terms.lock_by_ms
            is_late |= outcome.reason == "NOT_REVEALED" and time_ms < terms.expires_ms
        if is_late:
            message = f"it became {outcome.phase} ({outcome.reason}) at log time {time_ms}"
            raise _broken(Invariant.DEADLINES, opening.swap_id, message)

    def _check_records(self, register: Register) -> None:
        """A decided swap's record stays as it was until it is dropped."""
        for swap_id, (opened, record) in list(self._decided.items()):
            opening = register.there.get(swap_id)
            if opening is None or opening.at[:2] != opened:
                del self._decided[swap_id]
            elif opening.at in register.touched and opening.record() != record:
                raise _broken(Invariant.DECIDED_ONCE, swap_id, "its record changed after its decision")

    def _check_deadlines(self, register: Register, time_ms: int) -> None:
        for opening in register.there.values():
            if opening.outcome is not None:
                continue
            self._counts[Invariant.DEADLINES] += 1
            terms = opening.terms
            is_locked = time_ms < terms.lock_by_ms or opening.all_locked() is not None
            if time_ms >= terms.expires_ms or not is_locked:
                message = f"it is undecided at log time {time_ms}"
                raise _broken(Invariant.DEADLINES, opening.swap_id, message)

    # --- its legs

    def _check_legs(
        self,
        opening: Opening,
        rollups: Mapping[str, Rollup],
        settled: Mapping[str, Mapping[LegName, bytes]],
    ) -> None:
        """Every leg ended as the swap did: to the recipient, or back to the sender."""
        outcome, swap_id = opening.outcome, opening.swap_id
        assert outcome is not None, "it was decided"
        self._counts[Invariant.WHOLE] += 1
        for place, leg in enumerate(opening.terms.legs):
            if not _has_escrow(rollups[leg.rollup]):
                # Not our runtime: what its legs came to cannot be seen here.
                continue
            receipt = settled[leg.rollup].get((swap_id, place, decided_place(opening)[1]))
            held = _held_before(rollups[leg.rollup], opening, place)
            was_locked = held is not None and held.verdict == LOCKED
            if outcome.phase == "COMMITTED" and (receipt is None or receipt[1] == UNBACKED):
                message = f"leg {place} of a committed swap had no escrow: attesters of {leg.rollup} lied"
                raise _broken(Invariant.WHOLE, swap_id, message, leg.rollup)
            if (receipt is not None) != was_locked:
                message = f"leg {place} was {'locked' if was_locked else 'not locked'}, and not settled so"
                raise _broken(Invariant.WHOLE, swap_id, message, leg.rollup)
            if receipt is not None:
                self._check_receipt(opening, leg, place, receipt)

    @staticmethod
    def _check_receipt(opening: Opening, leg: Leg, place: int, receipt: bytes) -> None:
        outcome = opening.outcome
        assert outcome is not None, "it was decided"
        committed = outcome.phase == "COMMITTED"
        source = Bytes(receipt)
        source.take(46)
        code, _, asset, beneficiary = (
            source.number(2),
            source.number(1),
            source.var(1, 1, 32),
            source.take(32),
        )
        amount, premium_outcome, premium = source.number(16), source.number(1), source.number(16)
        wanted = (COMMITTED, leg.recipient) if committed else (ABORTED, leg.sender)
        if (code, beneficiary, asset, amount) != (*wanted, leg.asset, leg.amount):
            message = f"leg {place} was settled otherwise than the swap, which is {outcome.phase}"
            raise _broken(Invariant.WHOLE, opening.swap_id, message, leg.rollup)
        due = opening.terms.premium_of(place)
        is_kept_waiting = outcome.reason == "CANCELLED" and opening.all_locked() is not None
        is_paid = outcome.reason == "NOT_REVEALED" or is_kept_waiting
        if premium != due or (due and (premium_outcome == PAID) != is_paid):
            message = f"the premium of leg {place} went the wrong way"
            raise _broken(Invariant.WHOLE, opening.swap_id, message, leg.rollup)

    def _check_escrow(
        self,
        register: Register,
        rollup: Rollup,
        changes: Mapping[bytes, tuple[bytes | None, bytes | None]],
    ) -> None:
        """What is in escrow belongs to the recorded, undecided opening that it names."""
        for key, (_, value) in changes.items():
            if key[0] != ESCROW or value is None:
                continue
            self._counts[Invariant.ESCROW] += 1
            opening = register.there.get(key[1:33])
            is_open = opening is not None and opening.outcome is None
            if opening is None or not is_open or read_held(value).opened != opening.at[:2]:
                message = f"leg {key[33]} is in escrow although the swap is not open"
                raise _broken(Invariant.ESCROW, key[1:33], message, rollup.name)
        for opening in register.decided:
            for place, leg in enumerate(opening.terms.legs):
                key = escrow_key(opening.swap_id, place)
                again = register.there.get(opening.swap_id, opening) is not opening
                if leg.rollup == rollup.name and key in rollup.state and not again:
                    message = f"leg {place} is still in escrow after the decision"
                    raise _broken(Invariant.ESCROW, opening.swap_id, message, rollup.name)

    def _check_signers(self, register: Register) -> None:
        for fact in register.facts:
            if fact[1] == "contradicted":
                first, second = fact[2:]
                assert isinstance(first, bytes)
                assert isinstance(second, bytes)
                message = "an attester gave two verdicts that contradict each other on one leg"
                raise Violated(
                    Violation(
                        Invariant.EVIDENCE,
                        message,
                        register.height,
                        place="two entries of _swap",
                        expected=first.hex(),
                        actual=second.hex(),
                    )
                )


def _has_escrow(rollup: Rollup) -> bool:
    return rollup.modules is not None and rollup.modules.escrow is not None


def _held_before(rollup: Rollup, opening: Opening, leg: int) -> Held | None:
    """Return an opening's escrow record on a leg as it was before the newest block."""
    key = escrow_key(opening.swap_id, leg)
    value, _ = rollup.changes.get(key, (rollup.state.get(key), None))
    held = None if value is None else read_held(value)
    return held if held is not None and held.opened == opening.at[:2] else None


def _settled(rollup: Rollup) -> Iterator[tuple[LegName, bytes]]:
    """Yield the newest block's receipts of settled legs."""
    seen: set[LegName] = set()
    for receipt in rollup.receipts:
        if receipt[1] not in (SETTLED, UNBACKED):
            continue
        name = (receipt[14:46], receipt[48], int.from_bytes(receipt[10:14], "big"))
        if name in seen:
            raise _broken(Invariant.DECIDED_ONCE, name[0], f"leg {name[1]} was settled twice", rollup.name)
        seen.add(name)
        yield name, receipt


def _broken(invariant: Invariant, swap_id: bytes, message: str, rollup: str = "") -> Violated:
    return Violated(Violation(invariant, message, rollup=rollup, place=f"swap {swap_id.hex()}"))
