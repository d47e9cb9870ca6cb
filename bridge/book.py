"""What the coordinator knows now, and what of it is not durable yet.

Owns the swaps in memory, their numbering, and the collection of everything that the next transaction has to
write. Belongs to the writer task alone. Does no I/O. Invariant: what was put here is in the statements of one
transaction, and leaves memory only when it is over and written.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from bridge import writing
from bridge.levels import Heights
from bridge.messages import swap_message
from bridge.phases import UNORDERED
from bridge.requests import Proposal
from bridge.storage import Loaded
from bridge.swap import RevealPolicy, Sending, SendKind, Swap, alarm_ms
from deploy.node.database import SqlValue, Statement
from lockstep.key_history import KeyHistory
from lockstep.register import Register, rows
from lockstep.types import BundleId, RollupId, SwapId
from lockstep.v1 import bridge_pb2

NEWEST_CHANGES: Final = 1_024
"""Changes that are kept in memory, for those who watch what goes on."""


@dataclass(frozen=True, slots=True)
class Address:
    """Which sending a bundle is."""

    swap_id: SwapId
    """Its swap."""
    kind: SendKind
    """What it is for."""
    leg: int
    """The leg of a LOCK, else 0."""


@dataclass(slots=True)
class Batch:
    """What is not durable yet."""

    before: dict[SwapId, Swap | None] = field(default_factory=dict)
    """Every swap that changed, as it is in the database; None: not there."""
    rows: dict[str, list[tuple[SqlValue, ...]]] = field(default_factory=lambda: defaultdict(list))
    """Rows to be inserted, by statement."""
    changes: list[bridge_pb2.Swap] = field(default_factory=list)
    """How swaps are told after each numbered change, in order."""
    views: dict[SwapId, tuple[SqlValue, ...]] = field(default_factory=dict)
    """How swaps that are over are told from now on; of one that is opened again meanwhile nothing stays."""
    heights: Heights | None = None
    """Up to where rollups were seen to have got, if that is news."""
    blocks: int = 0
    """Blocks that were followed."""
    proposals: dict[bytes, tuple[SwapId, RevealPolicy]] = field(default_factory=dict)
    """Requests by their new idempotency keys."""
    acted: dict[tuple[SwapId, SendKind], bytes] = field(default_factory=dict)
    """New responses about entries that acted."""

    @property
    def is_worth_committing(self) -> bool:
        """Whether anything was learned that the order alone does not bring back quickly."""
        return bool(self.before or self.rows)


@dataclass(frozen=True, slots=True)
class Effects:
    """What is to be done once a transaction is durable."""

    started: tuple[tuple[SwapId, Sending], ...]
    """To be sent from now on."""
    stopped: tuple[BundleId, ...]
    """Not to be sent any more."""


class Book:
    """The state of the writer task."""

    def __init__(self, loaded: Loaded) -> None:
        """Start from what was loaded."""
        self.register = loaded.register
        """The register after the last block that was followed."""
        self.live = dict(loaded.swaps)
        """Swaps that are not over, and those that are over since the last commit."""
        self.first_sequence = loaded.first_sequence
        """The first change that can be watched from."""
        self.next_sequence = loaded.next_sequence
        """The number of the next change."""
        self.durable_sequence = loaded.next_sequence
        """The number of the next change, of those that are durable."""
        self.heights = loaded.heights
        """Up to where rollups were seen to have got, of what is durable."""
        self.commits = loaded.commits
        """Transactions that there were."""
        self.awaited: dict[RollupId, int] = {}
        """The highest block that a swap waits for a rollup to get to, of what is durable since the start."""
        self.sequencer_keys = KeyHistory("sequencer", loaded.register.registry, loaded.register.height)
        """Who signs the header at a height."""
        self.batch = Batch()
        """What is not durable yet."""
        self.unordered_count = sum(swap.phase in UNORDERED for swap in self.live.values())
        """Swaps that are not in the order yet."""
        self.newest: deque[bridge_pb2.Swap] = deque(maxlen=NEWEST_CHANGES)
        """The last changes since the start that are durable, in order. Nobody may change them."""
        self._next_number = loaded.next_number
        self._register_rows = dict(rows(None, loaded.register)) if loaded.is_new else {}
        self._addresses: dict[BundleId, Address] = {}
        self._alarms: list[tuple[int, SwapId]] = []
        self._messages: dict[SwapId, tuple[Swap, bridge_pb2.Swap]] = {}
        self._over: list[SwapId] = []
        for swap in self.live.values():
            self._index(None, swap)

    def advance(self, register: Register) -> None:
        """Take in the register after the next block."""
        self._register_rows.update(rows(self.register, register))
        self.register = register
        self.sequencer_keys.follow(register.registry, register.height)
        self.batch.blocks += 1

    def new_number(self) -> int:
        """Return the number of a new swap."""
        self._next_number += 1
        return self._next_number - 1

    def put(self, swap: Swap, *events: bridge_pb2.SwapEvent) -> None:
        """Take in a changed swap and what happened to it."""
        self.put_over(self.live.get(swap.swap_id), swap, *events)

    def put_over(self, old: Swap | None, swap: Swap, *events: bridge_pb2.SwapEvent) -> None:
        """The same for a swap that was not in memory; `old` is what the database has of it."""
        if swap != old:
            self.batch.before.setdefault(swap.swap_id, old)
            self.live[swap.swap_id] = swap
            self.unordered_count += (swap.phase in UNORDERED) - (old is not None and old.phase in UNORDERED)
            self._index(old, swap)
        for event in events:
            self.add_event(swap.swap_id, event)

    def told(self, swap_id: SwapId) -> bridge_pb2.Swap:
        """Return how a swap is told that is in memory, or was until the last commit. Nobody may change it."""
        known = self._messages.get(swap_id)
        return self._message_of(self.live[swap_id]) if known is None else known[1]

    def newest_from(self, sequence: int, limit: int) -> Sequence[bridge_pb2.Swap] | None:
        """Return at most `limit` durable changes from a number on; None if not all are in memory."""
        first = self.durable_sequence - len(self.newest)
        if sequence < first:
            return None
        return tuple(islice(self.newest, sequence - first, sequence - first + limit))

    def _message_of(self, swap: Swap) -> bridge_pb2.Swap:
        """Return a swap as it travels. It is made once."""
        known = self._messages.get(swap.swap_id)
        if known is None or known[0] is not swap:
            known = self._messages[swap.swap_id] = swap, swap_message(swap)
        return known[1]

    def _number(self, old: Swap | None, swap: Swap) -> None:
        """Give a swap the number of its change, if it is one that can be seen."""
        before = None if old is None else self._message_of(old)
        message = swap_message(swap)
        if before != message:
            self._add_change(message)
            swap = self.live[swap.swap_id] = replace(swap, sequence=message.sequence)
        self._messages[swap.swap_id] = swap, message

    def put_over_view(self, view: bridge_pb2.Swap, *events: bridge_pb2.SwapEvent) -> None:
        """Take in how a swap that is over and not in memory is told from now on, and what happened to it."""
        encoded = self._add_change(view)
        self.batch.views[SwapId(view.swap_id)] = (view.level, view.sequence, encoded, view.swap_id)
        for event in events:
            self.add_event(SwapId(view.swap_id), event)

    def _add_change(self, message: bridge_pb2.Swap) -> bytes:
        """Number a change of a swap, note it, and return the message's bytes."""
        message.sequence = self.next_sequence
        self.next_sequence += 1
        encoded = message.SerializeToString()
        self.batch.rows[writing.PUT_CHANGE].append((message.sequence, message.swap_id, encoded))
        self.batch.changes.append(message)
        return encoded

    def add_event(self, swap_id: SwapId, event: bridge_pb2.SwapEvent) -> None:
        """Note something that happened to a swap."""
        self.batch.rows[writing.PUT_EVENT].append((swap_id, event.SerializeToString(), None))

    def add_ignored(self, swap_id: SwapId, event: bridge_pb2.SwapEvent) -> None:
        """Note an entry about a swap that did nothing, if the swap is one of the order, known or not here.

        Anybody can have such entries ordered, as many as he likes: a swap has room for a few hundred.
        """
        swap = self.live.get(swap_id)
        if swap is None or swap.record is not None:
            row = (swap_id, event.SerializeToString(), writing.EVENTS_WITH_IGNORED_MAX)
            self.batch.rows[writing.PUT_EVENT].append(row)

    def add_proposal(self, proposal: Proposal) -> None:
        """Remember which request an idempotency key stands for."""
        self.batch.proposals[proposal.idempotency_key] = (proposal.swap_id, proposal.policy)
        self.batch.rows[writing.PUT_PROPOSAL].append(
            (proposal.idempotency_key, proposal.swap_id, proposal.policy)
        )

    def add_acted(self, swap_id: SwapId, kind: SendKind, response: bytes) -> None:
        """Remember where the reveal or cancellation stands that acted."""
        self.batch.acted[swap_id, kind] = response
        self.batch.rows[writing.PUT_ACTED].append((swap_id, kind, response))

    def address_of(self, bundle_id: BundleId) -> Address | None:
        """Return which sending a bundle is; None if it is none of ours, or no more."""
        return self._addresses.get(bundle_id)

    def due(self, time_ms: int) -> Iterator[Swap]:
        """Yield, once, swaps for which `time_ms` may mean something."""
        while self._alarms and self._alarms[0][0] <= time_ms:
            swap = self.live.get(heapq.heappop(self._alarms)[1])
            if swap is not None:
                yield swap

    def statements(self) -> Iterator[Statement]:
        """Yield what the next transaction writes: the register, all that changed, what is forgotten.

        Whatever it changes of a swap is one change with one number.
        """
        for swap_id, old in self.batch.before.items():
            self._number(old, self.live[swap_id])
        yield from writing.register_statements(self._register_rows.items())
        changed = [(old, self.live[swap_id]) for swap_id, old in self.batch.before.items()]
        yield writing.PUT_COMMITS, [(self.commits + 1,)]
        yield writing.PUT_VIEW, list(self.batch.views.values())
        yield from writing.swap_statements(changed, self._message_of)
        yield from self.batch.rows.items()
        yield from writing.pruning_statements(next_sequence=self.next_sequence, time_ms=self.register.time_ms)

    def committed(self) -> Effects:
        """Take note that `statements` are durable, and return what is to be done now."""
        effects = Effects(tuple(self._started()), tuple(self._stopped()))
        for swap_id in self._over:
            self._messages.pop(swap_id, None)
        changed = [self.live[swap_id] for swap_id in self.batch.before]
        for swap in changed:
            for rollup in {leg.rollup for leg in swap.terms.legs}:
                self.awaited[rollup] = max(swap.step_height, self.awaited.get(rollup, 0))
        self._over = [swap.swap_id for swap in changed if swap.is_final]
        for swap_id in self._over:
            del self.live[swap_id]
        self.newest.extend(self.batch.changes)
        self.commits += 1
        self.durable_sequence = self.next_sequence
        self.heights = self.batch.heights or self.heights
        self.first_sequence = max(self.first_sequence, self.next_sequence - writing.CHANGES_KEPT)
        self._register_rows = {}
        self.batch = Batch()
        return effects

    def sendings(self) -> Iterable[tuple[SwapId, Sending]]:
        """Return everything that is being sent."""
        return [(swap.swap_id, sending) for swap in self.live.values() for sending in swap.sendings.values()]

    def _started(self) -> Iterator[tuple[SwapId, Sending]]:
        for swap_id, old in self.batch.before.items():
            known = {} if old is None else old.sendings
            for key, sending in self.live[swap_id].sendings.items():
                if known.get(key) != sending:
                    yield swap_id, sending

    def _stopped(self) -> Iterator[BundleId]:
        for swap_id, old in self.batch.before.items():
            kept = self.live[swap_id].sendings
            for key, sending in ({} if old is None else old.sendings).items():
                if kept.get(key) != sending:
                    yield sending.bundle_id

    def _index(self, old: Swap | None, swap: Swap) -> None:
        for sending in () if old is None else old.sendings.values():
            self._addresses.pop(sending.bundle_id, None)
        for sending in swap.sendings.values():
            self._addresses[sending.bundle_id] = Address(swap.swap_id, sending.kind, sending.leg)
        alarm = alarm_ms(swap)
        if alarm is not None:
            heapq.heappush(self._alarms, (alarm, swap.swap_id))
