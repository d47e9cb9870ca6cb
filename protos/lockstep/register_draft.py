"""The register while a block is applied to it: a private copy that changes in place.

Owns the bookkeeping that keeps a block's cost in proportion to its entries: what is copied, and when; the
alarms; the tree's update; whose place a new swap takes in a full register. Knows no rule of entries.
Invariant: the register that it was made from stays as it was, and the indexes of the one that `finish`
returns agree with its records.
"""

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import replace
from heapq import heappop, heappush
from itertools import islice

from lockstep import limits
from lockstep.merkle_map import key_hash, value_hash
from lockstep.register_records import Place, SwapRecord, encode_record
from lockstep.register_state import Register, RegisterEvent, alarm_ms
from lockstep.types import HeaderHash, Height, SwapId

__pure__ = True


class Draft:
    """A register in the making. What is not changed is not copied."""

    def __init__(self, before: Register, height: Height, time_ms: int) -> None:
        """Start from a register, for a block at `height` and log time `time_ms`."""
        self.before = before
        self.height = height
        self.time_ms = time_ms
        self.registry = before.registry
        self.events: list[RegisterEvent] = []
        self.records: Mapping[SwapId, SwapRecord] = before.records
        self._own_records: dict[SwapId, SwapRecord] | None = None
        self._alarms: dict[int, Set[SwapId]] = {}
        self._own_alarms: dict[int, set[SwapId]] = {}
        self._attestations: dict[Place, bytes] = {}
        self._changed: set[SwapId] = set()
        self._victims: Victims | None = None

    # --- reading

    def due(self) -> list[SwapRecord]:
        """Return the records whose alarm has come, in order of opening, and clear these alarms."""
        alarms, first_ms = self.before.alarms, self.before.time_ms + 1
        span_ms = range(first_ms, self.time_ms + 1)
        # Each millisecond is looked at once in a chain's life, so a block costs what it advances; only who
        # asks far ahead of the register (a lagging client) walks the alarms instead.
        reached = [ms for ms in (span_ms if len(span_ms) < len(alarms) else alarms) if ms in span_ms]
        rung = [ms for ms in reached if ms in alarms]
        if rung:
            self._own()
        due = [self.records[swap_id] for ms in rung for swap_id in self._alarms.pop(ms)]
        return sorted(due, key=lambda record: record.opened)

    def victim(self) -> SwapRecord | None:
        """Return whose place a new swap would take: the oldest decided one, else the oldest without an
        attested leg; None if every swap is undecided with an attested leg.
        """  # noqa: D205 - one sentence
        if self._victims is None:
            self._victims = Victims(self.records)
        return self._victims.first(self.records)

    @property
    def is_full(self) -> bool:
        """Whether a new swap needs another one's place."""
        return len(self.records) >= limits.REGISTER_RECORDS_MAX

    # --- changing

    def add(self, record: SwapRecord) -> None:
        """Put a new swap at the end."""
        if record.swap_id in self.records or self.is_full:
            raise AssertionError(f"there is no place for swap {record.swap_id.hex()}")
        self._own()[record.swap_id] = record
        self._set_alarm(record)
        self._changed.add(record.swap_id)
        if self._victims is not None:
            self._victims.add(record)

    def put(self, record: SwapRecord) -> None:
        """Put a recorded swap's next record in the place of the one before."""
        before = self.records[record.swap_id]
        if before.is_terminal:
            raise AssertionError(f"swap {record.swap_id.hex()} is decided, its record never changes again")
        self._own()[record.swap_id] = record
        if alarm_ms(before, self.time_ms) != alarm_ms(record, self.time_ms):
            self._clear_alarm(before)
        self._set_alarm(record)
        if record is not before:
            self._changed.add(record.swap_id)
        if self._victims is not None and record.is_terminal:
            self._victims.add(record)

    def drop(self, record: SwapRecord) -> None:
        """Remove a decided swap."""
        if not record.is_terminal:
            raise AssertionError(f"swap {record.swap_id.hex()} is undecided and cannot be dropped")
        del self._own()[record.swap_id]
        self._clear_alarm(record)
        self._changed.add(record.swap_id)

    def remember(self, place: Place, attestation: bytes) -> None:
        """Keep an attestation of which a vote counted."""
        self._attestations[place] = attestation

    def attestation(self, place: Place) -> bytes | None:
        """Return the attestation that was ordered at a place; None if it is forgotten."""
        return self._attestations.get(place) or self.before.attestations.get(place)

    def finish(self, header_hash: HeaderHash) -> Register:
        """Return the register after the block."""
        header_hashes = {**self.before.header_hashes, self.height: header_hash}
        header_hashes.pop(Height(self.height - limits.HEADERS_REMEMBERED), None)
        after = replace(
            self.before,
            registry=self.registry,
            height=self.height,
            header_hash=header_hash,
            time_ms=self.time_ms,
            header_hashes=header_hashes,
            changed=self._changed,
        )
        if self._own_records is None:
            return after
        return replace(
            after,
            records=self._own_records,
            attestations=self._remembered(),
            merkle_map=self.before.merkle_map.update(map(self._leaf_of, self._changed)),
            alarms={ms: swap_ids for ms, swap_ids in self._alarms.items() if swap_ids},
        )

    # --- within

    def _own(self) -> dict[SwapId, SwapRecord]:
        if self._own_records is None:
            self._own_records = dict(self.before.records)
            self.records = self._own_records
            self._alarms = dict(self.before.alarms)
        return self._own_records

    def _set_alarm(self, record: SwapRecord) -> None:
        ms = alarm_ms(record, self.time_ms)
        if record.swap_id not in self._alarms.get(ms, ()):
            self._own_alarm(ms).add(record.swap_id)

    def _clear_alarm(self, record: SwapRecord) -> None:
        ms = alarm_ms(record, self.time_ms)
        if record.swap_id in self._alarms.get(ms, ()):
            self._own_alarm(ms).remove(record.swap_id)

    def _own_alarm(self, ms: int) -> set[SwapId]:
        if ms not in self._own_alarms:
            self._own_alarms[ms] = set(self._alarms.get(ms, ()))
            self._alarms[ms] = self._own_alarms[ms]
        return self._own_alarms[ms]

    def _remembered(self) -> Mapping[Place, bytes]:
        if not self._attestations:
            return self.before.attestations
        remembered = {**self.before.attestations, **self._attestations}
        too_many = max(0, len(remembered) - limits.ATTESTATIONS_REMEMBERED)
        for place in list(islice(remembered, too_many)):
            del remembered[place]
        return remembered

    def _leaf_of(self, swap_id: SwapId) -> tuple[bytes, bytes | None]:
        record = self.records.get(swap_id)
        return key_hash(swap_id), None if record is None else value_hash(encode_record(record))


class Victims:
    """Whose place a new swap takes in a full register.

    Made at most once per block, from all records, and kept up to date from then on; what a later entry of the
    block made wrong is found out when its turn comes.
    """

    def __init__(self, records: Mapping[SwapId, SwapRecord]) -> None:
        """Look at all records, which are in order of opening."""
        self._decided: list[tuple[Place, SwapId]] = []
        self._unattested: deque[tuple[Place, SwapId]] = deque()
        for record in records.values():
            self.add(record)

    def add(self, record: SwapRecord) -> None:
        """Take in a swap that was just opened, the newest of all, or just decided."""
        if record.is_terminal:
            heappush(self._decided, (record.opened, record.swap_id))
        elif not record.has_attested_leg:
            self._unattested.append((record.opened, record.swap_id))

    def first(self, records: Mapping[SwapId, SwapRecord]) -> SwapRecord | None:
        """Return the oldest decided swap, else the oldest without an attested leg, else None."""
        while self._decided:
            record = _at(records, self._decided[0])
            if record is not None:
                return record
            heappop(self._decided)
        while self._unattested:
            record = _at(records, self._unattested[0])
            if record is not None and not record.is_terminal and not record.has_attested_leg:
                return record
            self._unattested.popleft()
        return None


def _at(records: Mapping[SwapId, SwapRecord], named: tuple[Place, SwapId]) -> SwapRecord | None:
    """Return the record of the opening that is named; None if it was dropped, even if opened again since."""
    opened, swap_id = named
    record = records.get(swap_id)
    return record if record is not None and record.opened == opened else None
