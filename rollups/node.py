"""The node: follows the order, executes it, and holds what is durable for everybody else to read.

Owns the state: one task executes, commits and only then publishes, so that whatever is read here, attested or
posted is on disk. Does not talk to the sequencer itself: the order comes through the `Order` it is given.
Invariant: `published`, `memory` and `receipts` are of one height, and change together without a pause.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol, Self, cast

import structlog

from lockstep.commitment import Commitment
from lockstep.errors import LockstepError, NotReady
from lockstep.genesis import Genesis
from lockstep.header import Tip
from lockstep.key_history import KeyHistory
from lockstep.merkle import AppendTree
from lockstep.receipts import about, receipt_leaf_hash
from lockstep.register import Contradicted
from lockstep.types import (
    LOG_NAMESPACE,
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    Namespace,
    PublicKey,
    RollupId,
)
from rollups.batch import Batch
from rollups.lookahead import ENTRIES_INLINE_MAX, LookAhead
from rollups.outbox import EMPTY, Outbox, outstanding, recorded
from rollups.receipt_waits import ReceiptWaits
from rollups.recent import GROUPS
from rollups.runtime import RollupBlock, RollupState
from rollups.stages import Stages
from rollups.storage import Delta, Loaded, Storage, StoredBlock
from rollups.stored_state import StoredState
from sequencer.client import FollowedBlock, KeyAt

BLOCKS_AT_HEAD_MAX: Final = 16
"""Blocks of one transaction at the head of the chain, where others wait for what it tells."""

CAUGHT_UP_BLOCKS: Final = 32
"""How far behind the sequencer's newest block a node may be and still speak for its state."""


class Order(Protocol):
    """Where blocks come from; `sequencer.client.SequencerClient` is one."""

    def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncIterator[FollowedBlock]:
        """Yield every block after `tip`, verified, without gaps, for ever."""


assert BLOCKS_AT_HEAD_MAX < CAUGHT_UP_BLOCKS, "a node that makes blocks durable goes on speaking"


@dataclass(frozen=True, slots=True)
class Published:
    """What is durable and may be told."""

    state: RollupState
    """The rollup after the last executed block."""
    block: StoredBlock | None
    """That block and the commitment after it; None before the first."""
    newest_receipts: Sequence[bytes] = ()
    """The last of all receipts: those that became durable together with that block."""

    @property
    def height(self) -> int:
        """The last executed block; 0 before the first."""
        return self.state.height

    @property
    def commitment(self) -> Commitment | None:
        """The commitment after it; None before the first block."""
        return None if self.block is None else self.block.commitment


class RollupNode:
    """One rollup, executed."""

    def __init__(
        self, genesis: Genesis, storage: Storage, loaded: Loaded, *, attester: PublicKey | None = None
    ) -> None:
        """Start from what was loaded; `attester` is the key whose outbox is kept, if there is one."""
        self.genesis = genesis
        """The chain."""
        self.storage = storage
        """The database, for reading history."""
        self.memory: StoredState = loaded.memory
        """Every value and seen id at the published height."""
        self.receipts: AppendTree = loaded.receipts
        """The tree of all receipts at the published height."""
        self.published = Published(loaded.state, loaded.block)
        """What may be told."""
        self.outbox: Outbox = EMPTY
        """Verdicts that `attester` has still to attest, as of the published height."""
        self.head_height: int | None = None
        """The newest block that the sequencer told of; None while nothing was heard since the start."""
        self.stages = Stages()
        """How long the stages of blocks took since the start; the attester counts its own there."""
        self.receipt_waits = ReceiptWaits()
        """Who waits for a receipt."""
        self.stopped_reason = ""
        """Why it speaks no more, until a person has looked and restarted it; empty while it may."""
        self.sequencer_keys = KeyHistory("sequencer", loaded.state.register.registry, loaded.state.height)
        """Whose header counts at which height, as far as blocks were executed since the start."""
        self._held_back: dict[str, str] = {}
        self._attester = attester
        self._batch = self._new_batch()
        self._changed = asyncio.Event()
        if attester is not None:
            escrows = recorded(self.memory, self.rollup, loaded.state.register)
            self.outbox = outstanding(escrows, loaded.state.register, attester)

    @classmethod
    async def load(
        cls, genesis: Genesis, rollup: RollupId, storage: Storage, *, attester: PublicKey | None = None
    ) -> Self:
        """Return a node that goes on where the database stopped. Raises DataRefused."""
        return cls(genesis, storage, await storage.load(genesis, rollup), attester=attester)

    @property
    def rollup(self) -> RollupId:
        """The rollup."""
        return self.published.state.rollup

    @property
    def namespaces(self) -> tuple[Namespace, ...]:
        """What it needs of each block."""
        return (Namespace(self.rollup), SWAP_NAMESPACE, REGISTRY_NAMESPACE, LOG_NAMESPACE)

    @property
    def is_speaking(self) -> bool:
        """Whether it may attest and post: it is near the head of the chain, and has no reason not to."""
        if self.head_height is None or self.not_ready_reason:
            return False
        return self.head_height - self.published.height <= CAUGHT_UP_BLOCKS

    @property
    def not_ready_reason(self) -> str:
        """Why this node does not answer for its state; empty if it does."""
        return self.stopped_reason or next(iter(self._held_back.values()), "")

    @property
    def changed(self) -> asyncio.Event:
        """Is set when something else is published or may be told, and then replaced: take it, then look."""
        return self._changed

    def stop_speaking(self, reason: str) -> None:
        """Stop answering for the state and attesting it, until a person has looked and restarted.

        Each of the few who may find a reason calls this once; reasons that come later are added.
        """
        structlog.get_logger().error("rollup_not_ready", rollup=self.rollup, reason=reason)
        self.stopped_reason = "; ".join(filter(None, (self.stopped_reason, reason)))
        self.receipt_waits.wake_all()
        self._tell()

    def hold_back(self, by: str, reason: str) -> None:
        """Do not answer for the state or attest it before `release` is called with the same `by`."""
        self._held_back[by] = reason
        self.receipt_waits.wake_all()
        self._tell()

    def release(self, by: str) -> None:
        """End what `hold_back` began; without it, nothing happens."""
        if self._held_back.pop(by, None) is not None:
            self._tell()

    async def until_ready(self) -> None:
        """Return once the node answers for its state; never, if it stopped speaking."""
        while self.not_ready_reason:
            changed = self.changed
            await changed.wait()

    def verify_ready(self) -> None:
        """Raise `NotReady` if the node does not answer for its state."""
        if self.not_ready_reason:
            raise NotReady(reason=self.not_ready_reason)

    async def wait_for(self, height: int) -> Published:
        """Return what is published once it is of `height` or later."""
        while self.published.height < height:
            changed = self.changed
            await changed.wait()
        return self.published

    async def receipts_from(self, index: int, count: int) -> list[tuple[int, int, bytes]]:
        """Return index, height and bytes of at most `count` receipts that may be told, from an index on."""
        published = self.published
        first_newest = published.state.receipts.size - len(published.newest_receipts)
        if index >= first_newest:
            start = index - first_newest
            newest = published.newest_receipts[start : start + count]
            return [(place, about(receipt).height, receipt) for place, receipt in enumerate(newest, index)]
        found = await self.storage.receipts_from(index, count)
        # The database may be a moment ahead of what is published.
        return [row for row in found if row[1] <= published.height]

    async def run(self, order: Order) -> None:
        """Execute every block of the order, for ever.

        Ends without an error, and the node speaks no more, if the blocks do not hold or cannot be had: that
        is for a person.
        """
        following = order.follow(
            tip=self.published.state.register.tip,
            namespaces=self.namespaces,
            sequencer_key=self.sequencer_keys.at,
        )
        async with (
            aclosing(cast("AsyncGenerator[FollowedBlock, None]", following)) as blocks,
            asyncio.TaskGroup() as group,
        ):
            ahead = LookAhead(blocks, self.rollup, self.stages)
            group.create_task(ahead.fill())
            group.create_task(self._read_on())
            while True:
                try:
                    followed, block = await ahead.next()
                except LockstepError as error:
                    self.stop_speaking(f"the sequencer cannot be followed: {error}")
                    return
                await self._take(followed, block)
                if self._batch.is_full or self._is_worth_a_commit(followed, ahead):
                    await self._commit()

    def _is_worth_a_commit(self, followed: FollowedBlock, ahead: LookAhead) -> bool:
        """Answer whether the last block of the batch was the newest when it came, and has waited enough.

        Blocks that came meanwhile are made durable together with it, but not so many that others wait long.
        """
        is_newest = followed.block.header.height >= followed.head_height
        return is_newest and (not ahead.has_next or self._batch.block_count >= BLOCKS_AT_HEAD_MAX)

    async def _read_on(self) -> None:
        """Read the rest of the state by the way, at most half of the time, so that blocks find it there."""
        clock = asyncio.get_running_loop().time
        for group in range(GROUPS):
            if self.memory.is_read:
                return
            began = clock()
            await asyncio.to_thread(self.memory.read_group, group)
            await asyncio.sleep(clock() - began)
        # All of it stays, and has no cycles: to search it for garbage again and again would cost much.
        gc.freeze()

    async def _take(self, followed: FollowedBlock, block: RollupBlock) -> None:
        """Execute a block on the batch, off the event loop if it is work."""
        self.head_height = max(self.head_height or 0, followed.head_height)
        if len(block.entries) <= ENTRIES_INLINE_MAX:
            executed = self._batch.execute(block)
        else:
            executed = await asyncio.to_thread(self._batch.execute, block)
        self._batch.add(executed, followed.header)
        self.sequencer_keys.follow(executed.after.register.registry, executed.after.height)

    async def _commit(self) -> None:
        """Make the batch durable, then tell."""
        started_ns = self.stages.now_ns()
        batch, delta = self._batch, self._batch.delta()
        await self.storage.save(delta, self.memory)
        self._publish(batch, delta)
        self._batch = self._new_batch()
        self._tell()
        self.stages.add("commit", started_ns)

    def _publish(self, batch: Batch, delta: Delta) -> None:
        self.memory.apply(delta.changes)
        self.receipts.extend(map(receipt_leaf_hash, delta.receipts))
        self.receipt_waits.publish(delta.first_receipt, delta.receipts)
        self.published = Published(batch.state, delta.blocks[-1], delta.receipts)
        if self._attester is not None:
            escrows = {**self.outbox, **batch.verdicts}
            self.outbox = outstanding(escrows, batch.state.register, self._attester)
        for event in batch.events:
            if isinstance(event, Contradicted):
                structlog.get_logger().warning("attester_contradicted_itself", first=event.first)

    def _new_batch(self) -> Batch:
        return Batch(self.published.state, self.memory, self.stages)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
