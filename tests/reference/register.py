"""The swap register a second time: plain, slow, and thought of the other way round.

The real one steps records through a table, block after block. This one keeps no state: it holds the whole
list of what was ever ordered and, for each opening, *looks* for the first position that decides it, over and
over. It shares the codecs, signatures and the registry with the real one, and no code that decides about
swaps; its tree is the definition of `lockstep.merkle_map`, word by word.

A position is `(height, index, item)`: the opening of a block has index -1, an entry's items count from 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from lockstep import limits, registry
from lockstep.attesters import AttesterSet
from lockstep.errors import Malformed
from lockstep.genesis import Genesis
from lockstep.hashing import REGISTER, SIGN_ATTESTATION, SIGN_CANCEL
from lockstep.register import (
    BLOCK_OPENING,
    BlockInput,
    Contradicted,
    Decided,
    Dropped,
    Ignored,
    Opened,
    RegisterEvent,
    RegistryChanged,
    Revealed,
    Voted,
)
from lockstep.signing import verify
from lockstep.swap_entries import Attest, AttestItem, Cancel, Open, Reveal, SwapEntry, decode_swap_entry
from lockstep.terms import Terms
from lockstep.types import Height, PublicKey, SwapId

Position = tuple[int, int, int]
Fact = tuple[object, ...]
"""What happened, in plain words and numbers: `(index, what, ...)`; index None where events do not say it."""

PHASES = {"OPEN": 1, "LOCKED": 2, "REVEALED": 3, "COMMITTED": 4, "ABORTED": 5}
REASONS = {"NONE": 0, "LEG_REJECTED": 1, "CANCELLED": 2, "NOT_LOCKED": 3, "NOT_REVEALED": 4, "CROWDED_OUT": 5}


class Outcome(NamedTuple):
    """What decided a swap."""

    at: Position
    phase: str
    reason: str
    legs: tuple[int, ...]


class Ballot(NamedTuple):
    """A first verdict of a key on a leg."""

    at: Position
    leg: int
    key_index: int
    verdict: int
    reason: int
    entry: bytes


@dataclass
class Opening:
    """A swap that an Open recorded, and until when."""

    swap_id: SwapId
    terms: Terms
    terms_bytes: bytes
    at: Position
    sets: list[AttesterSet]
    crowded_at: Position | None = None
    dropped_at: Position | None = None

    def is_there(self, at: Position) -> bool:
        return self.at < at and (self.dropped_at is None or at < self.dropped_at)


class Said(NamedTuple):
    """An entry of `_swap` and where it was said."""

    at: Position
    entry: SwapEntry
    payload: bytes
    is_genuine: bool


class Reference:
    """Everything that was ever ordered, and what follows from it."""

    def __init__(self, genesis: Genesis, blocks: Sequence[BlockInput]) -> None:
        self.genesis = genesis
        self.blocks = blocks
        self.registries = list(self._registries())
        self.said = [
            Said((block.height, index, -1), entry, payload, self._is_genuine(block.height, entry))
            for block in blocks
            for index, payload in block.swap_entries
            if (entry := decoded(payload)) is not None
        ]
        self.openings: list[Opening] = []
        for block in blocks:
            self._drop(block)
            for each in self.said:
                if each.at[0] == block.height and isinstance(each.entry, Open):
                    self._open(block, each.at, each.entry)

    # --- what follows, block by block

    def root(self, height: int) -> bytes:
        """Return the register's root after a block."""
        block, end = self.blocks[height - 1], (height + 1, -2, 0)
        there = [each for each in self.openings if each.is_there(end)]
        pairs = [
            (sha256(b"\x10" + each.swap_id).digest(), sha256(b"\x12" + self.record(each, end)).digest())
            for each in there
        ]
        digest = self.registries[height - 1][1].digest
        body = height.to_bytes(8, "big") + block.header_hash + tree_root(pairs, 0) + digest
        return sha256(REGISTER + body).digest()

    def facts(self, height: int) -> list[Fact]:
        """Return what happened to swaps in a block, in no order, and which entries were ignored."""
        block = self.blocks[height - 1]
        first, end = (height, -2, 0), (height + 1, -2, 0)
        facts: list[Fact] = []
        acted: set[int] = set()
        for each in self.openings:
            if each.dropped_at is not None and first < each.dropped_at < end:
                facts.append((None, "dropped", each.swap_id))
            if first < each.at < end:
                facts.append((each.at[1], "opened", each.swap_id))
                acted.add(each.at[1])
            outcome = self.outcome(each, end)
            if outcome is not None and first < outcome.at < end:
                facts.append((outcome.at[1], "decided", each.swap_id, each.at[:2], *outcome[1:]))
                if outcome.reason == "CANCELLED":
                    acted.add(outcome.at[1])
            shown = self._revealed(each, end)
            if shown is not None and first < shown[0] < end:
                facts.append((None, "revealed", each.swap_id))
                acted.add(shown[0][1])
            for ballot in self._counted(each, end):
                if first < ballot.at < end:
                    facts.append((ballot.at[1], "voted", each.swap_id, *ballot[1:5]))
                    acted.add(ballot.at[1])
        facts += self._contradictions(height)
        facts += [(index, "ignored") for index, _ in block.swap_entries if index not in acted]
        facts += [
            (event.index, "ignored")
            for event in self.registries[height - 1][2]
            if event.outcome == registry.Outcome.IGNORED
        ]
        return facts

    def record(self, opening: Opening, until: Position) -> bytes:
        """Return the bytes of an opening's record as of a position (section 8)."""
        outcome, shown = self.outcome(opening, until), self._revealed(opening, until)
        ballots = list(self._counted(opening, until))
        legs = range(len(opening.terms.legs))
        locked = all(self._reached(opening, ballots, leg, 1) for leg in legs)
        standing = ("LOCKED" if locked else "OPEN") if shown is None else "REVEALED"
        phase = PHASES[standing if outcome is None else outcome.phase]
        parts = [bytes((1, phase)), opening.at[0].to_bytes(8, "big"), opening.at[1].to_bytes(4, "big")]
        parts += [len(opening.terms_bytes).to_bytes(4, "big"), opening.terms_bytes]
        for leg in legs:
            votes = sorted(each[2:5] for each in ballots if each.leg == leg)
            parts += [opening.sets[leg].hash, bytes((len(votes),)), *map(bytes, votes)]
        parts += [b"\x00" + bytes(32) if shown is None else b"\x01" + shown[1]]
        if outcome is None:
            parts.append(bytes(15))
        else:
            index = 0xFFFFFFFF if outcome.at[1] < 0 else outcome.at[1]
            parts += [outcome.at[0].to_bytes(8, "big"), index.to_bytes(4, "big")]
            parts += [
                bytes((REASONS[outcome.reason],)),
                sum(2**leg for leg in outcome.legs).to_bytes(2, "big"),
            ]
        return b"".join(parts)

    # --- what decides a swap

    def outcome(self, opening: Opening, until: Position) -> Outcome | None:
        """Return the first of everything that could decide an opening before a position."""
        terms, legs, found = opening.terms, range(len(opening.terms.legs)), []
        ballots = self._ballots(opening, until)
        locks = [self._reached(opening, ballots, leg, 1) for leg in legs]
        shown = self._first_reveal(opening, until)
        all_locked = max(each for each in locks if each) if all(locks) else None
        if all_locked is not None and shown is not None:
            found.append(Outcome(max(all_locked, shown[0]), "COMMITTED", "NONE", ()))
        for leg in legs:
            rejected = self._reached(opening, ballots, leg, 2)
            if rejected is not None:
                found.append(Outcome(rejected, "ABORTED", "LEG_REJECTED", (leg,)))
        for each in self._between(opening, until):
            is_cancel = isinstance(each.entry, Cancel) and each.entry.swap_id == opening.swap_id
            if is_cancel and self._is_revealers(opening, each) and (shown is None or each.at < shown[0]):
                found.append(Outcome(each.at, "ABORTED", "CANCELLED", ()))
        lock_by = self._block_at(terms.lock_by_ms, until)
        if lock_by is not None:
            missing = tuple(
                leg for leg in legs if (at := self._reached(opening, ballots, leg, 1)) is None or at > lock_by
            )
            if missing:
                found.append(Outcome(lock_by, "ABORTED", "NOT_LOCKED", missing))
        expiry = self._block_at(terms.expires_ms, until)
        if expiry is not None:
            found.append(Outcome(expiry, "ABORTED", "NOT_REVEALED", ()))
        if opening.crowded_at is not None and opening.crowded_at < until:
            found.append(Outcome(opening.crowded_at, "ABORTED", "CROWDED_OUT", ()))
        return min(found, default=None, key=lambda outcome: outcome.at)

    @staticmethod
    def _reached(opening: Opening, ballots: list[Ballot], leg: int, verdict: int) -> Position | None:
        """Return where enough keys had given a leg a verdict."""
        places = sorted(each.at for each in ballots if (each.leg, each.verdict) == (leg, verdict))
        threshold = opening.sets[leg].threshold
        return places[threshold - 1] if len(places) >= threshold else None

    def _ballots(self, opening: Opening, until: Position) -> list[Ballot]:
        """Return the first verdict of each key on each leg, whether the swap was decided by then or not."""
        firsts: dict[tuple[int, int], Ballot] = {}
        for each in self._between(opening, until):
            for ballot in self._ballots_in(opening, each):
                if ballot.at < until:
                    firsts.setdefault((ballot.leg, ballot.key_index), ballot)
        return list(firsts.values())

    def _ballots_in(self, opening: Opening, said: Said) -> Iterator[Ballot]:
        if not isinstance(said.entry, Attest) or not said.is_genuine:
            return
        attestation = said.entry.attestation
        if not opening.at[0] <= attestation.executed_height < said.at[0]:
            return
        for number, item in enumerate(attestation.items):
            key_index = self._say(opening, attestation.rollup, attestation.attester, item)
            if key_index is not None:
                at = (*said.at[:2], number)
                yield Ballot(at, item.leg, key_index, item.verdict, item.reason, said.payload)

    @staticmethod
    def _say(opening: Opening, rollup: str, attester: PublicKey, item: AttestItem) -> int | None:
        if item.swap_id != opening.swap_id or item.leg not in range(len(opening.terms.legs)):
            return None
        keys = opening.sets[item.leg].keys
        if opening.terms.legs[item.leg].rollup != rollup or attester not in keys:
            return None
        return keys.index(attester)

    def _counted(self, opening: Opening, until: Position) -> Iterator[Ballot]:
        """Yield the verdicts that are in the record: those given while the swap was undecided."""
        outcome = self.outcome(opening, until)
        for ballot in self._ballots(opening, until):
            if outcome is None or ballot.at <= outcome.at:
                yield ballot

    def _first_reveal(self, opening: Opening, until: Position) -> tuple[Position, bytes] | None:
        for each in self._between(opening, until):
            entry = each.entry
            if not isinstance(entry, Reveal) or entry.swap_id != opening.swap_id:
                continue
            if sha256(entry.preimage).digest() == opening.terms.hashlock:
                return each.at, entry.preimage
        return None

    def _revealed(self, opening: Opening, until: Position) -> tuple[Position, bytes] | None:
        """Return the reveal that is in the record: the first, if it came while the swap was undecided."""
        shown, outcome = self._first_reveal(opening, until), self.outcome(opening, until)
        if shown is not None and (outcome is None or shown[0] <= outcome.at):
            return shown
        return None

    def _is_revealers(self, opening: Opening, said: Said) -> bool:
        cancel = said.entry
        assert isinstance(cancel, Cancel)
        if cancel.chain != self.genesis.chain_id:
            return False
        return verify(SIGN_CANCEL, opening.terms.revealer, cancel.body, cancel.signature)

    def _between(self, opening: Opening, until: Position) -> Iterator[Said]:
        return (each for each in self.said if opening.at < each.at < until)

    def _block_at(self, time_ms: int, until: Position) -> Position | None:
        """Return the opening of the first block whose log time has reached a time."""
        for block in self.blocks:
            if block.time_ms >= time_ms:
                return (block.height, -1, 0) if (block.height, -1, 0) < until else None
        return None

    # --- what opens and drops one

    def _open(self, block: BlockInput, at: Position, entry: Open) -> None:
        terms, now_ms, chain = entry.terms, block.time_ms, self.genesis.chain_id
        there = [each for each in self.openings if each.is_there(at)]
        rollups = self.registries[block.height - 1][0].rollups
        if terms.chain != chain or any(each.swap_id == entry.swap_id for each in there):
            return
        if terms.lock_by_ms <= now_ms or terms.lock_by_ms - now_ms > limits.LOCK_WINDOW_MS_MAX:
            return
        if terms.expires_ms - now_ms > limits.EXPIRY_MS_MAX:
            return
        for leg in terms.legs:
            if leg.kind.name != "TRANSFER" or leg.rollup not in rollups:
                return
            if rollups[leg.rollup].status.name != "ACTIVE":
                return
        if len(there) >= limits.REGISTER_RECORDS_MAX:
            decided = [each for each in there if self.outcome(each, at) is not None]
            bare = [each for each in there if each not in decided and not self._attested(each, at)]
            if not decided and not bare:
                return
            victim = min(decided or bare, key=lambda each: each.at)
            # The abort comes just before the new swap, both at the position of its Open.
            victim.crowded_at = None if decided else (*at[:2], -2)
            victim.dropped_at = (*at[:2], -2)
        sets = [rollups[leg.rollup].attesters for leg in terms.legs]
        self.openings.append(Opening(entry.swap_id, terms, entry.terms_bytes, at, sets))

    def _attested(self, opening: Opening, at: Position) -> bool:
        legs, ballots = range(len(opening.terms.legs)), self._ballots(opening, at)
        return any(self._reached(opening, ballots, leg, verdict) for leg in legs for verdict in (1, 2))

    def _drop(self, block: BlockInput) -> None:
        opening_of_block = (block.height, -1, 0)
        for each in self.openings:
            is_over = self.outcome(each, (block.height, -2, 0)) is not None
            if each.is_there(opening_of_block) and is_over and block.time_ms >= each.terms.lock_by_ms:
                each.dropped_at = opening_of_block

    # --- the rest

    def _contradictions(self, height: int) -> Iterator[Fact]:
        for said in self.said:
            if said.at[0] != height:
                continue
            found = {
                earlier.entry
                for opening in self.openings
                if opening.is_there(said.at)
                for ballot in self._ballots_in(opening, said)
                for earlier in self._counted(opening, said.at)
                if earlier[1:3] == ballot[1:3] and earlier[3:5] != ballot[3:5]
            }
            for first in found:
                yield (None, "contradicted", first, said.payload)

    def _registries(
        self,
    ) -> Iterator[tuple[registry.Registry, registry.Registry, tuple[registry.RegistryEvent, ...]]]:
        """Yield, per block, the registry in force within it, the one after it, and what its entries did."""
        after = registry.Registry.from_genesis(self.genesis)
        for block in self.blocks:
            within, _ = registry.take_effect(after, height=block.height, time_ms=block.time_ms)
            after, events = registry.accept(within, height=block.height, entries=block.registry_entries)
            yield within, after, events

    def _is_genuine(self, height: Height, entry: SwapEntry) -> bool:
        """Answer whether an attestation is its attester's and of this chain."""
        if not isinstance(entry, Attest):
            return False
        attestation = entry.attestation
        executed = attestation.executed_height
        if not height - limits.HEADERS_REMEMBERED <= executed < height:
            return False
        return (
            attestation.chain == self.genesis.chain_id
            and attestation.header_hash == self.blocks[executed - 1].header_hash
            and verify(SIGN_ATTESTATION, attestation.attester, entry.body, entry.signature)
        )


def facts_of(events: Iterable[RegisterEvent]) -> list[Fact]:
    """Return what the events of the real register say, in the same words."""
    facts: list[Fact] = []
    for event in events:
        match event:
            case Opened(record):
                facts.append((record.opened_index, "opened", record.swap_id))
            case Voted(record, leg, vote):
                place = record.legs[leg].place_of(vote)
                said = (leg, vote.key_index, vote.verdict, vote.reason)
                facts.append((place.index, "voted", record.swap_id, *said))
            case Revealed(record):
                facts.append((None, "revealed", record.swap_id))
            case Decided(record):
                decision = record.decision
                assert decision is not None
                index = -1 if decision.index == BLOCK_OPENING else decision.index
                opened = (record.opened_height, record.opened_index)
                outcome = (record.phase.name, decision.reason.name, decision.reason_legs)
                facts.append((index, "decided", record.swap_id, opened, *outcome))
            case Dropped(swap_id):
                facts.append((None, "dropped", swap_id))
            case Ignored(index, _):
                facts.append((index, "ignored"))
            case Contradicted(first, second):
                facts.append((None, "contradicted", first, second))
            case RegistryChanged():
                pass
    return facts


def decoded(payload: bytes) -> SwapEntry | None:
    """Return the entry that some bytes are, if they are one."""
    try:
        return decode_swap_entry(payload)
    except Malformed:
        return None


def tree_root(pairs: Sequence[tuple[bytes, bytes]], depth: int) -> bytes:
    """Return root(pairs, depth) as `lockstep.merkle_map` defines it."""
    if not pairs:
        return bytes(32)
    if len(pairs) == 1:
        return sha256(b"\x11" + b"".join(pairs[0])).digest()
    halves: tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]] = ([], [])
    for pair in pairs:
        halves[pair[0][depth // 8] >> (7 - depth % 8) & 1].append(pair)
    return sha256(b"\x13" + tree_root(halves[0], depth + 1) + tree_root(halves[1], depth + 1)).digest()
