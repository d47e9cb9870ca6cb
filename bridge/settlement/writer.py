"""The one task that changes the log: judges what waits, commits it together, signs once, then answers.

Owns the queue and the order of effects: entries are durable, then size and root are recorded outside of the
database, then the checkpoint is signed, then it is published, then callers are answered. Whatever the moment
of a crash, every checkpoint ever signed is a prefix of the log that the next start finds. Invariant: every
entry that was answered with an index is covered by a published checkpoint.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from bridge.settlement.amnesia import LastSigned, encode_last_signed
from bridge.settlement.feed import Feed, Published
from bridge.settlement.store import Store
from deploy.node.database import finish
from deploy.node.datadir import DurableCell
from deploy.node.failpoints import FAILPOINTS
from lockstep.checkpoint import Checkpoint, encode_checkpoint, sign_note
from lockstep.errors import LockstepError, QueueFull, ReadOnly
from lockstep.merkle import AppendTree, leaf_hash
from lockstep.settlement_entries import Registration
from lockstep.settlement_log import Candidate, Log, Step, lookups, step
from lockstep.settlement_names import Found
from lockstep.signing import SigningKey

BEFORE_COMMIT: Final = FAILPOINTS.declare(
    "settlement.append.before_commit", "entries are judged, nothing of them is written"
)
COMMITTED: Final = FAILPOINTS.declare(
    "settlement.append.committed", "entries are durable, no checkpoint covers them"
)
STORED: Final = FAILPOINTS.declare(
    "settlement.checkpoint.stored", "size and root are recorded, the checkpoint is not signed"
)
SIGNED: Final = FAILPOINTS.declare(
    "settlement.checkpoint.signed", "the checkpoint is signed, nobody was told"
)
PUBLISHED: Final = FAILPOINTS.declare(
    "settlement.checkpoint.published", "the checkpoint is published, callers are not answered"
)

BATCH_ENTRIES_MAX: Final = 1_024
"""Entries that are judged and committed together."""

Answer = int | LockstepError
"""Where an entry stands, or why it was refused."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry in the queue."""

    candidate: Candidate
    answer: asyncio.Future[Answer]


class Writer:
    """Appends what is submitted; see the module. `run` is its task."""

    def __init__(
        self,
        *,
        store: Store,
        cell: DurableCell,
        key: SigningKey,
        tree: AppendTree,
        log: Log,
        entries_max: int,
        bytes_max: int,
    ) -> None:
        """Continue a log whose entries are in `store` and `tree`; `start` comes before everything else."""
        self._store = store
        self._cell = cell
        self._key = key
        self._tree = tree
        self._log = log
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue()
        self._queued_bytes = 0
        self._failure: BaseException | None = None
        self._refusal: ReadOnly | None = None
        self._signed = LastSigned(0, AppendTree().root())
        self._feed: Feed | None = None

    async def start(self, first: Candidate, signed: LastSigned | None, refusal: ReadOnly | None) -> Feed:
        """Append the first entry to an empty log, sign for what is there, and return the feed of it.

        `signed` is the checkpoint signed last. With a `refusal`, that one is signed again, byte for byte, and
        nothing is appended, now or later.
        """
        self._signed = signed or self._signed
        self._refusal = refusal
        if refusal is None and self._log.size == 0:
            await self._commit((step(self._log, lambda _name: None, first),))
        if refusal is None:
            await self._record()
        self._feed = Feed(self._sign())
        return self._feed

    def submit(self, candidate: Candidate) -> asyncio.Future[Answer]:
        """Queue an entry and return the future of its answer.

        Raises `ReadOnly`, `QueueFull`; what ended the writer, if it has ended.
        """
        if self._refusal is not None:
            # Raised many times: the traceback of the times before must not pile up on it.
            raise self._refusal.with_traceback(None)
        if self._failure is not None:
            raise self._failure
        if self._queue.qsize() >= self._entries_max:
            raise QueueFull(queue="append", limit=self._entries_max)
        if self._queued_bytes + len(candidate.encoded) > self._bytes_max:
            raise QueueFull(queue="append, in bytes,", limit=self._bytes_max)
        self._queued_bytes += len(candidate.encoded)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(candidate, answer))
        return answer

    def stop(self) -> None:
        """Let `run` end once everything that was submitted is answered."""
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Append until stopped. Raises StorageFailed, after which nothing is known about the disk."""
        batch: list[_Waiting] = []
        try:
            while batch := await self._next_batch():
                await self._append(batch)
        except BaseException as failure:
            self._failure = failure
            while not self._queue.empty():
                batch += filter(None, (self._queue.get_nowait(),))
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(failure)
            raise

    async def _next_batch(self) -> list[_Waiting]:
        """Return what waits, at least one entry; none once stopped. A REGISTRATION ends its batch."""
        batch: list[_Waiting] = []
        while not batch or (len(batch) < BATCH_ENTRIES_MAX and not self._queue.empty()):
            waiting = await self._queue.get()
            if waiting is None:
                if batch:
                    self.stop()
                break
            self._queued_bytes -= len(waiting.candidate.encoded)
            batch.append(waiting)
            if isinstance(waiting.candidate.entry, Registration):
                break
        return batch

    async def _append(self, batch: Sequence[_Waiting]) -> None:
        """Judge a batch, make it durable, publish, answer."""
        if self._refusal is not None:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_result(self._refusal)
            return
        steps = await self._judge([waiting.candidate for waiting in batch])
        if any(each.appended for each in steps):
            await self._commit(steps)
            self._refuse_if_replaced()
            await self._record()
            published = self._sign()
            assert self._feed is not None, "the writer was started"
            self._feed.publish(published)
            FAILPOINTS.reach(PUBLISHED)
        for waiting, done in zip(batch, steps, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(done.answer)

    def _refuse_if_replaced(self) -> None:
        """Append no more once the key that signs here is no longer the log's; what is there is signed."""
        if self._log.registry.now.keys["settlement"] == self._key.public_key:
            return
        self._refusal = ReadOnly(
            reason=f"with header {self._log.tip.height} another key has come to sign checkpoints",
            advice="stop it and start it with the key that the registry names",
        )
        structlog.get_logger().error("key_replaced", height=self._log.tip.height)

    async def _judge(self, candidates: Sequence[Candidate]) -> tuple[Step, ...]:
        """Step through candidates, each judged behind those before it; nothing is written."""
        log = self._log
        asked = {name for candidate in candidates for name in lookups(log, candidate)}
        known: dict[str, Found | None] = dict.fromkeys(asked) | await self._store.find(asked)
        steps = []
        for candidate in candidates:
            done = step(log, known.__getitem__, candidate)
            for name, index in done.names.items():
                known[name] = Found(index, done.appended[index - log.size])
            if done.log.evidence_count > log.evidence_count:
                structlog.get_logger().error("evidence_recorded", index=done.log.size - 1)
            log = done.log
            steps.append(done)
        return tuple(steps)

    async def _commit(self, steps: Sequence[Step]) -> None:
        """Make what was judged durable, all of it in one transaction."""
        entries = [entry for each in steps for entry in each.appended]
        names: dict[str, int] = {}
        for each in steps:
            names |= each.names
        FAILPOINTS.reach(BEFORE_COMMIT)
        await self._store.append(self._log.size, entries, names)
        FAILPOINTS.reach(COMMITTED)
        self._tree.extend(leaf_hash(entry) for entry in entries)
        self._log = steps[-1].log

    async def _record(self) -> None:
        """Record size and root outside of the database, before they are signed."""
        assert self._tree.size == self._log.size, "tree and log have the same entries"
        assert self._tree.root(self._signed.size) == self._signed.root, "a checkpoint extends the last one"
        signed = LastSigned(self._tree.size, self._tree.root())
        if signed != self._signed:
            await finish(asyncio.to_thread(self._cell.store, encode_last_signed(signed)))
        self._signed = signed
        FAILPOINTS.reach(STORED)

    def _sign(self) -> Published:
        """Sign what was recorded."""
        origin = self._log.genesis.settlement.origin
        note = sign_note(
            encode_checkpoint(origin, self._signed.size, self._signed.root),
            name=origin,
            public_key=self._key.public_key,
            sign=self._key.sign_raw,
        )
        FAILPOINTS.reach(SIGNED)
        checkpoint = Checkpoint(origin, self._signed.size, self._signed.root)
        return Published(self._log, checkpoint, note, self._refusal)
