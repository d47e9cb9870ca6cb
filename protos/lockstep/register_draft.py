"""The register while a block is applied to it: what changes, beside the register that it changes.

Owns the bookkeeping that keeps a block's cost in proportion to its entries: nothing is made before `finish`,
and then once; the alarms; the tree's update; whose place a new swap takes in a full register. Knows
no rule of entries. Invariant: the register that it was made from stays as it was, and the indexes of the one
that `finish` returns agree with its records.
"""

from collections import defaultdict, deque
from dataclasses import replace
from heapq import heappop, heappush
from itertools import chain, islice
from typing import Final

from lockstep import limits
from lockstep.layered_map import LayeredMap
from lockstep.merkle_map import key_hash, value_hash
from lockstep.register_records import Place, SwapRecord, encode_record
from lockstep.register_state import Register, RegisterEvent, alarm_ms
from lockstep.types import HeaderHash, Height, SwapId

__pure__ = True

_NO_ALARM: Final[LayeredMap[SwapId, None]] = LayeredMap()


class Draft:
    """A register in the making."""

    def __init__(self, before: Register, height: Height, time_ms: int) -> None:
        """Start from a register, for a block at `height` and log time `time_ms`."""
        self.before = before
        self.height = height
        self.time_ms = time_ms
        self.registry = before.registry
        self.events: list[RegisterEvent] = []
        self._touched: dict[SwapId, SwapRecord | None] = {}
        self._count = len(before.records)
        self._attestations: dict[Place, bytes] = {}
        self._victims: Victims | None = None

    # --- reading

    def record(self, swap_id: SwapId) -> SwapRecord | None:
        """Return a swap's record as it is now; None if there is none."""
        if swap_id in self._touched:
            return self._touched[swap_id]
        return self.before.records.get(swap_id)

    def due(self) -> list[SwapRecord]:
        """Return the records whose alarm comes with this block, in order of opening."""
        alarms = self.before.alarms
        span_ms = range(self.before.time_ms + 1, self.time_ms + 1)
        # Each millisecond is looked at once in a chain's life, so a block costs what it advances; only who
        # asks far ahead of the register (a lagging client) walks the alarms instead.
        reached = [ms for ms in (span_ms if len(span_ms) < len(alarms) else alarms) if ms in span_ms]
        due = [self.before.records[swap_id] for ms in reached for swap_id in alarms.get(ms, ())]
        return sorted(due, key=lambda record: record.opened)

    def victim(self) -> SwapRecord | None:
        """Return whose place a new swap takes; None if all swaps are undecided with an attested leg."""
        if self._victims is None:
            self._victims = Victims(self.before)
            for record in sorted(filter(None, self._touched.values()), key=lambda record: record.opened):
                self._victims.add(record)
        return self._victims.first(self)

    @property
    def is_full(self) -> bool:
        """Whether a new swap needs another one's place."""
        return self._count >= limits.REGISTER_RECORDS_MAX

    def attestation(self, place: Place) -> bytes | None:
        """Return the attestation that was ordered at a place; None if it is forgotten."""
        return self._attestations.get(place) or self.before.attestations.get(place)

    # --- changing

    def add(self, record: SwapRecord) -> None:
        """Put a new swap at the end."""
        if self.is_full or self.record(record.swap_id) is not None:
            raise AssertionError(f"there is no place for swap {record.swap_id.hex()}")
        self._touched[record.swap_id] = record
        self._count += 1
        if self._victims is not None:
            self._victims.add(record)

    def put(self, record: SwapRecord) -> None:
        """Put a recorded swap's next record in the place of the one before."""
        before = self.record(record.swap_id)
        if before is None or before.is_terminal or before.opened != record.opened:
            raise AssertionError(f"swap {record.swap_id.hex()} has no record that may change")
        self._touched[record.swap_id] = record
        if self._victims is not None and record.is_terminal:
            self._victims.add(record)

    def drop(self, record: SwapRecord) -> None:
        """Remove a decided swap."""
        if not record.is_terminal or self.record(record.swap_id) is not record:
            raise AssertionError(f"swap {record.swap_id.hex()} is not one that may be dropped")
        self._touched[record.swap_id] = None
        self._count -= 1

    def remember(self, place: Place, attestation: bytes) -> None:
        """Keep an attestation of which a vote counted."""
        self._attestations[place] = attestation

    # --- the end

    def finish(self, header_hash: HeaderHash) -> Register:
        """Return the register after the block."""
        aged = Height(self.height - limits.HEADERS_REMEMBERED)
        header_hashes = self.before.header_hashes.changed(
            removed=(aged,) if aged in self.before.header_hashes else (), put={self.height: header_hash}
        )
        records = self.before.records
        changed = {
            each: None if record is None else encode_record(record)
            for each, record in self._touched.items()
            if record is not records.get(each)
        }
        return replace(
            self.before,
            registry=self.registry,
            records=self._records(),
            height=self.height,
            header_hash=header_hash,
            time_ms=self.time_ms,
            header_hashes=header_hashes,
            attestations=self._remembered(),
            merkle_map=self.before.merkle_map.update(
                (key_hash(each), None if encoded is None else value_hash(encoded))
                for each, encoded in changed.items()
            ),
            alarms=self._alarms(),
            changed=changed,
        )

    def _records(self) -> LayeredMap[SwapId, SwapRecord]:
        before = self.before.records
        changed: dict[SwapId, SwapRecord] = {}
        opened: list[SwapRecord] = []
        gone: list[SwapId] = []
        for swap_id, record in self._touched.items():
            old = before.get(swap_id)
            if old is not None and record is not None and old.opened == record.opened:
                changed[swap_id] = record
                continue
            if old is not None:
                gone.append(swap_id)
            if record is not None:
                opened.append(record)
        changed.update((each.swap_id, each) for each in sorted(opened, key=lambda record: record.opened))
        return before.changed(removed=gone, put=changed) if self._touched else before

    def _alarms(self) -> LayeredMap[int, LayeredMap[SwapId, None]]:
        before = self.before.alarms
        off: defaultdict[int, list[SwapId]] = defaultdict(list)
        on: defaultdict[int, list[SwapId]] = defaultdict(list)
        for swap_id, record in self._touched.items():
            old = self.before.records.get(swap_id)
            old_ms = None if old is None else alarm_ms(old, self.before.time_ms)
            new_ms = None if record is None else alarm_ms(record, self.time_ms)
            if old_ms is not None and old_ms != new_ms:
                off[old_ms].append(swap_id)
            if new_ms is not None and old_ms != new_ms:
                on[new_ms].append(swap_id)
        alarms = {
            ms: before.get(ms, _NO_ALARM).changed(removed=off[ms], put=dict.fromkeys(on[ms]))
            for ms in off.keys() | on.keys()
        }
        return before.changed(
            removed=[ms for ms, swaps in alarms.items() if not swaps and ms in before],
            put={ms: swaps for ms, swaps in alarms.items() if swaps},
        )

    def _remembered(self) -> LayeredMap[Place, bytes]:
        before = self.before.attestations
        if not self._attestations:
            return before
        too_many = max(0, len(before) + len(self._attestations) - limits.ATTESTATIONS_REMEMBERED)
        return before.changed(put=self._attestations).changed(
            removed=list(islice(chain(before, self._attestations), too_many))
        )


class Victims:
    """Whose place a new swap takes in a full register.

    Kept up to date while the block goes on; what a later entry made wrong is found out when its turn comes.
    """

    def __init__(self, before: Register) -> None:
        """Start from those that stood in line before the block."""
        self._decided = list(before.crowdable.decided)
        self._unattested = deque(before.crowdable.unattested)
        self._height = before.height

    def add(self, record: SwapRecord) -> None:
        """Take in what the block changed: a swap that is the newest of all, or was decided."""
        if record.is_terminal:
            heappush(self._decided, (record.opened, record.swap_id))
        elif record.opened_height > self._height:
            self._unattested.append((record.opened, record.swap_id))

    def first(self, draft: Draft) -> SwapRecord | None:
        """Return the decided swap opened first, else the one without an attested leg, else None."""
        while self._decided:
            record = _at(draft, self._decided[0])
            if record is not None:
                return record
            heappop(self._decided)
        while self._unattested:
            record = _at(draft, self._unattested[0])
            if record is not None and not record.is_terminal and not record.has_attested_leg:
                return record
            self._unattested.popleft()
        return None


def _at(draft: Draft, named: tuple[Place, SwapId]) -> SwapRecord | None:
    """Return the record of the opening that is named; None if it was dropped, even if opened again since."""
    opened, swap_id = named
    record = draft.record(swap_id)
    return record if record is not None and record.opened == opened else None
