"""The swap register, thought of the other way round: protos/README.md, section 8.

Of every opening it notes what was said, and where: verdicts, the reveal, cancellations, deadlines that were
reached. What an opening has come to is *looked for* in these notes, all of them, each time: the first
position that decides it. Nothing is stepped through phases.

A position is `(height, index, item)`: the opening of a block has index -1, an entry's items count from 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from deploy.audit.plain.entries import (
    LOCKED,
    REJECTED,
    TRANSFER_LEG,
    Attest,
    Cancel,
    Entry,
    Item,
    Open,
    Reveal,
    Terms,
    read_entry,
)
from deploy.audit.plain.reading import Unreadable, hashed, is_signed, number, var
from deploy.audit.plain.registry import ACTIVE, Attesters, Registry, attester_bytes
from deploy.audit.plain.trees import Map
from lockstep.genesis import Genesis

__pure__ = True

Position = tuple[int, int, int]
Fact = tuple[object, ...]
"""What happened, in plain words and numbers: `(index, what, ...)`; index None where it does not matter."""

PHASES = {"OPEN": 1, "LOCKED": 2, "REVEALED": 3, "COMMITTED": 4, "ABORTED": 5}
REASONS = {"NONE": 0, "LEG_REJECTED": 1, "CANCELLED": 2, "NOT_LOCKED": 3, "NOT_REVEALED": 4, "CROWDED_OUT": 5}
LOCK_WINDOW_MS_MAX = 60_000
EXPIRY_MS_MAX = 86_400_000
RULES_KNOWN = 1


class UnknownRules(Exception):
    """A block is under rules that this software does not know: from there on nothing can be said."""

    def __init__(self, height: int, version: int) -> None:
        super().__init__(f"version {version} of the register's rules, from block {height} on")


class Block(NamedTuple):
    """What is read of a block."""

    height: int
    header_hash: bytes
    time_ms: int
    registry_entries: Sequence[tuple[int, bytes]]
    swap_entries: Sequence[tuple[int, bytes]]


class Outcome(NamedTuple):
    """What decided a swap."""

    at: Position
    phase: str
    reason: str
    legs: tuple[int, ...]


class Ballot(NamedTuple):
    """A first verdict of a key on a leg, and the entry that gave it."""

    at: Position
    leg: int
    key_index: int
    verdict: int
    reason: int
    entry: bytes


@dataclass(eq=False)
class Opening:
    """A swap that an Open recorded, and what was said of it since."""

    swap_id: bytes
    terms: Terms
    terms_bytes: bytes
    at: Position
    sets: list[Attesters]
    ballots: dict[tuple[int, int], Ballot] = field(default_factory=dict)
    """By leg and key; given after the decision too."""
    shown: tuple[Position, bytes] | None = None
    """The first reveal of the right preimage."""
    cancels: list[Position] = field(default_factory=list)
    """Cancellations that the revealer signed."""
    lock_by: Position | None = None
    expiry: Position | None = None
    """The openings of the first blocks that reached the deadlines."""
    crowded: Position | None = None
    dropped: Position | None = None
    outcome: Outcome | None = None
    """As of the newest note."""

    def look(self) -> None:
        """Find out again what decided the swap."""
        self.outcome = min(self._deciding(), default=None, key=lambda found: found.at)

    def reached(self, leg: int, verdict: int) -> Position | None:
        """Return where enough keys had given a leg a verdict."""
        threshold, _ = self.sets[leg]
        places = sorted(b.at for b in self.ballots.values() if (b.leg, b.verdict) == (leg, verdict))
        return places[threshold - 1] if len(places) >= threshold else None

    def all_locked(self) -> Position | None:
        """Return where the last leg was attested LOCKED."""
        locks = [self.reached(leg, LOCKED) for leg in range(len(self.terms.legs))]
        return None if None in locks else max(each for each in locks if each is not None)

    def counted(self) -> list[Ballot]:
        """Return the verdicts that are in the record: those given while the swap was undecided."""
        ends = self.outcome
        return [each for each in self.ballots.values() if ends is None or each.at <= ends.at]

    def revealed(self) -> tuple[Position, bytes] | None:
        """Return the reveal that is in the record: the first, if it came while the swap was undecided."""
        if self.shown is None or (self.outcome is not None and self.shown[0] > self.outcome.at):
            return None
        return self.shown

    def _deciding(self) -> Iterable[Outcome]:
        """Yield everything that would decide the swap if it came first."""
        legs, all_locked, shown = range(len(self.terms.legs)), self.all_locked(), self.shown
        if all_locked is not None and shown is not None:
            yield Outcome(max(all_locked, shown[0]), "COMMITTED", "NONE", ())
        for leg in legs:
            rejected = self.reached(leg, REJECTED)
            if rejected is not None:
                yield Outcome(rejected, "ABORTED", "LEG_REJECTED", (leg,))
        for at in self.cancels:
            if shown is None or at < shown[0]:
                yield Outcome(at, "ABORTED", "CANCELLED", ())
        if self.lock_by is not None:
            locks = {leg: self.reached(leg, LOCKED) for leg in legs}
            missing = tuple(leg for leg, at in locks.items() if at is None or at > self.lock_by)
            if missing:
                yield Outcome(self.lock_by, "ABORTED", "NOT_LOCKED", missing)
        if self.expiry is not None:
            yield Outcome(self.expiry, "ABORTED", "NOT_REVEALED", ())
        if self.crowded is not None:
            yield Outcome(self.crowded, "ABORTED", "CROWDED_OUT", ())

    def record(self) -> bytes:
        """Return the record's bytes."""
        outcome, shown, ballots = self.outcome, self.revealed(), self.counted()
        standing = "REVEALED" if shown else "LOCKED" if self.all_locked() else "OPEN"
        phase = PHASES[standing if outcome is None else outcome.phase]
        parts = [bytes((1, phase)), number(self.at[0], 8), number(self.at[1], 4), var(self.terms_bytes, 4)]
        for leg in range(len(self.terms.legs)):
            votes = sorted(each[2:5] for each in ballots if each.leg == leg)
            parts += [hashed("attesters", attester_bytes(self.sets[leg])), bytes((len(votes),))]
            parts += map(bytes, votes)
        parts += [b"\0" + bytes(32) if shown is None else b"\1" + shown[1]]
        if outcome is None:
            parts.append(bytes(15))
        else:
            index = 0xFFFFFFFF if outcome.at[1] < 0 else outcome.at[1]
            parts += [number(outcome.at[0], 8), number(index, 4), number(REASONS[outcome.reason], 1)]
            parts += [number(sum(2**leg for leg in outcome.legs), 2)]
        return b"".join(parts)


class Register:
    """The register, changed block after block."""

    def __init__(
        self, genesis: Genesis, *, records_max: int = 65_536, headers_remembered: int = 4_096
    ) -> None:
        self.registry = Registry(genesis)
        self.records_max = records_max
        self.headers_remembered = headers_remembered
        self.there: dict[bytes, Opening] = {}
        """The swaps that are recorded, in order of opening."""
        self.headers: dict[int, bytes] = {}
        """The hashes of the last headers, by height."""
        self.map = Map()
        self.height = 0
        self.root = b""
        self.touched: dict[Position, Opening] = {}
        """Every opening of which the newest block said something, gone ones too."""
        self.facts: list[Fact] = []
        """What the newest block did."""

    def apply(self, block: Block) -> None:
        """Apply the next block. Raises `UnknownRules`."""
        self.height, self.touched, self.facts = block.height, {}, []
        acted: set[int] = set()
        self.registry.take_effect(block.height, block.time_ms)
        if self.registry.rules > RULES_KNOWN:
            raise UnknownRules(block.height, self.registry.rules)
        self._reach_deadlines(block)
        entries = [(index, payload, True) for index, payload in block.swap_entries]
        entries += [(index, payload, False) for index, payload in block.registry_entries]
        for index, payload, is_swap in sorted(entries):
            take = self._take if is_swap else self._take_registry
            if take(block, index, payload):
                acted.add(index)
        self.facts += [(index, "ignored") for index, _, _ in entries if index not in acted]
        for opening in self.touched.values():
            self._tell(opening, block.height)
            if opening.dropped is None:
                self.map.put(opening.swap_id, opening.record())
        self.headers[block.height] = block.header_hash
        self.headers.pop(block.height - self.headers_remembered, None)
        body = number(block.height, 8) + block.header_hash + self.map.root() + self.registry.digest()
        self.root = hashed("register", body)

    @property
    def decided(self) -> list[Opening]:
        """The swaps that the newest block decided, in order of the deciding positions."""
        found = [
            (each.outcome.at, each.at, each)
            for each in self.touched.values()
            if each.outcome is not None and each.outcome.at[0] == self.height
        ]
        return [each for _, _, each in sorted(found, key=lambda found: found[:2])]

    # --- the order of work

    def _reach_deadlines(self, block: Block) -> None:
        opening_of_block = (block.height, -1, 0)
        for each in list(self.there.values()):
            if block.time_ms < each.terms.lock_by_ms:
                continue
            if each.outcome is not None:
                self._drop(each, opening_of_block)
                continue
            if each.lock_by is None:
                each.lock_by = opening_of_block
                self._note(each)
            if block.time_ms >= each.terms.expires_ms:
                each.expiry = opening_of_block
                self._note(each)

    def _note(self, opening: Opening) -> None:
        """Take into account that something was noted of a swap."""
        opening.look()
        self.touched[opening.at] = opening

    def _drop(self, opening: Opening, at: Position) -> None:
        opening.dropped = at
        self.touched[opening.at] = opening
        self.map.put(opening.swap_id, None)
        del self.there[opening.swap_id]

    def _take_registry(self, block: Block, index: int, payload: bytes) -> bool:
        return self.registry.judge(block.height, index, payload)

    def _take(self, block: Block, index: int, payload: bytes) -> bool:
        """Take an entry of `_swap`; answer whether it does anything."""
        try:
            entry: Entry = read_entry(payload)
        except Unreadable:
            return False
        if isinstance(entry, Open):
            return self._open(block, index, entry)
        if isinstance(entry, Attest):
            return self._attest(block, index, entry, payload)
        opening = self.there.get(entry.swap_id)
        if opening is None or opening.outcome is not None or opening.shown is not None:
            return False
        at = (block.height, index, -1)
        if isinstance(entry, Reveal):
            if sha256(entry.preimage).digest() != opening.terms.hashlock:
                return False
            opening.shown = (at, entry.preimage)
        elif not self._is_revealers(entry, opening):
            return False
        else:
            opening.cancels.append(at)
        self._note(opening)
        return True

    def _is_revealers(self, cancel: Cancel, opening: Opening) -> bool:
        if cancel.chain != self.registry.chain:
            return False
        return is_signed("sign-cancel", opening.terms.revealer, cancel.body, cancel.signature)

    # --- opening

    def _open(self, block: Block, index: int, entry: Open) -> bool:
        terms, now_ms, at = entry.terms, block.time_ms, (block.height, index, -1)
        if terms.chain != self.registry.chain or entry.swap_id in self.there:
            return False
        if not now_ms < terms.lock_by_ms <= now_ms + LOCK_WINDOW_MS_MAX:
            return False
        if terms.expires_ms > now_ms + EXPIRY_MS_MAX:
            return False
        rollups = [self.registry.rollups.get(leg.rollup) for leg in terms.legs]
        if any(leg.kind != TRANSFER_LEG for leg in terms.legs):
            return False
        sets = [rollup.attesters for rollup in rollups if rollup is not None and rollup.status == ACTIVE]
        if len(sets) < len(terms.legs) or not self._make_room((block.height, index, -2)):
            return False
        opening = Opening(entry.swap_id, terms, entry.terms_bytes, at, sets)
        self.there[entry.swap_id] = opening
        self._note(opening)
        return True

    def _make_room(self, at: Position) -> bool:
        """Make room for one more record, just before the position of its Open; answer whether there is."""
        if len(self.there) < self.records_max:
            return True
        decided = [each for each in self.there.values() if each.outcome is not None]
        bare = [each for each in self.there.values() if each.outcome is None and not self._is_attested(each)]
        if not decided and not bare:
            return False
        victim = (decided or bare)[0]
        if not decided:
            victim.crowded = at
            self._note(victim)
        self._drop(victim, at)
        return True

    @staticmethod
    def _is_attested(opening: Opening) -> bool:
        legs = range(len(opening.terms.legs))
        return any(opening.reached(leg, verdict) for leg in legs for verdict in (LOCKED, REJECTED))

    # --- attestations

    def _attest(self, block: Block, index: int, entry: Attest, payload: bytes) -> bool:
        if not self._is_genuine(block, entry):
            return False
        does_something = False
        contradicted: dict[bytes, None] = {}
        for place, item in enumerate(entry.items):
            key_index = self._say(entry, item)
            if key_index is None:
                continue
            opening = self.there[item.swap_id]
            at = (block.height, index, place)
            new = Ballot(at, item.leg, key_index, item.verdict, item.reason, payload)
            first = opening.ballots.setdefault((item.leg, key_index), new)
            if first is new:
                was_open = opening.outcome is None
                self._note(opening)
                does_something |= was_open
            elif first[3:5] != new[3:5] and first in opening.counted():
                contradicted[first.entry] = None
        self.facts += [(None, "contradicted", first_entry, payload) for first_entry in contradicted]
        return does_something

    def _is_genuine(self, block: Block, entry: Attest) -> bool:
        """Answer whether an attestation is its attester's and of this chain."""
        if entry.chain != self.registry.chain or entry.executed_height >= block.height:
            return False
        if self.headers.get(entry.executed_height) != entry.header_hash:
            return False
        return is_signed("sign-attestation", entry.attester, entry.body, entry.signature)

    def _say(self, entry: Attest, item: Item) -> int | None:
        """Return the attester's place in the set of an item's leg, if it has a say there."""
        opening = self.there.get(item.swap_id)
        if opening is None or item.leg >= len(opening.terms.legs):
            return None
        _, keys = opening.sets[item.leg]
        if opening.terms.legs[item.leg].rollup != entry.rollup or entry.attester not in keys:
            return None
        return keys.index(entry.attester) if opening.at[0] <= entry.executed_height else None

    # --- what happened

    def _tell(self, opening: Opening, height: int) -> None:
        """Add to `facts` what a block did to a swap."""
        outcome, shown = opening.outcome, opening.revealed()
        if opening.dropped is not None:
            self.facts.append((None, "dropped", opening.swap_id))
        if opening.at[0] == height:
            self.facts.append((opening.at[1], "opened", opening.swap_id))
        if outcome is not None and outcome.at[0] == height:
            decision = (opening.swap_id, opening.at[:2], *outcome[1:])
            self.facts.append((outcome.at[1], "decided", *decision))
        if shown is not None and shown[0][0] == height:
            self.facts.append((None, "revealed", opening.swap_id))
        for ballot in opening.counted():
            if ballot.at[0] == height:
                self.facts.append((ballot.at[1], "voted", opening.swap_id, *ballot[1:5]))
