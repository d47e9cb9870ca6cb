"""Asking how far rollups and the settlement log have got with the order, for the levels of swaps.

Owns the tasks that ask, and what of an answer counts. Asks only while the database holds a swap that waits
for the answer; what came of it goes to the writer in bulk, so that levels cost the path of a swap nothing
but their own rows. Invariants:

- a node's word counts if its register is the one that the coordinator has after the same block: then it
  follows the same order, and has executed it;
- the log's word counts if it is proven under a checkpoint that extends all that were seen, names headers
  that are the coordinator's, and is durable together with that checkpoint;
- who is away delays levels, is told of once, and stops nothing else.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from bridge.commands import Progress
from bridge.coordinator import Coordinator
from bridge.levels import Heights, Source
from bridge.reading import Views
from lockstep.checkpoint import Checkpoint
from lockstep.commitment import Commitment
from lockstep.errors import Contradiction, LockstepError, ProofInvalid
from lockstep.header import header_hash
from lockstep.register import Register
from lockstep.settlement_entries import CommitmentEntry, HeaderRange, decode_settlement_entry
from lockstep.types import Height, RollupId

EXECUTION_TIMEOUT_MS: Final = 5_000
"""How long a node may take to execute a block that is in the order, before another is asked."""

PAUSE_MS: Final = 1_000
"""How long a rollup whose nodes all failed is left alone, and a log that did."""

ANCHOR_MS: Final = 500
"""How often the log is asked while a swap waits for it."""

COALESCE_MS: Final = 100
"""How long news is gathered before the writer is told: what many sources say of a swap is one change."""

PAGE_STEPS: Final = 128
"""Waiting steps that the writer is told of at once."""

_NO_KEY: Final = b"\0"
"""A key of the state that there is not: what counts of the answer is its height."""


class ProvenAt(Protocol):
    """An answer of a node."""

    @property
    def commitment(self) -> Commitment:
        """What it was proven under."""


class Node(Protocol):
    """A node of a rollup; `rollups.client.RollupClient` is one."""

    async def state(
        self, keys: Sequence[bytes], *, min_height: int = 0, timeout_ms: int = 10_000
    ) -> ProvenAt:
        """Return values of the state after `min_height` or later, which is waited for."""

    async def commitment(self, height: int = 0, *, timeout_ms: int = 10_000) -> Commitment:
        """Return the commitment after a block."""


class AnchoredRollup(Protocol):
    """What the log says it has of a rollup."""

    @property
    def height(self) -> int:
        """Height of the newest commitment on which the rollup's threshold agreed."""


class LogStatus(Protocol):
    """What the log says of itself."""

    @property
    def rollups(self) -> Mapping[str, AnchoredRollup]:
        """The newest anchored commitment of each rollup."""


class LogAnchor(Protocol):
    """An entry, proven to be in the log."""

    @property
    def entry(self) -> bytes:
        """The entry."""


class AnchorLog(Protocol):
    """The settlement log; `bridge.settlement.client.SettlementClient` is one."""

    @property
    def seen(self) -> Checkpoint:
        """The newest checkpoint that was accepted."""

    async def status(self, *, timeout_ms: int = 10_000) -> LogStatus:
        """Return what the log has."""

    async def anchor(self, height: int, rollup: str | None = None, *, timeout_ms: int = 10_000) -> LogAnchor:
        """Return the entry that anchors a header, or a rollup's commitment."""


class Observer:
    """`run` it in a task beside the coordinator's."""

    def __init__(
        self,
        coordinator: Coordinator,
        views: Views,
        nodes: Mapping[RollupId, Mapping[str, Node]],
        log: AnchorLog | None,
    ) -> None:
        """Ask `nodes`, given by rollup and address, and `log`, for what `views` say is waited for."""
        self._coordinator = coordinator
        self._views = views
        self._nodes = nodes
        self._log = log
        self._heights = coordinator.book.heights
        self._news = asyncio.Event()
        # What was durable may not have reached every swap when the process ended.
        self._news.set()
        self._trouble: dict[str, str] = {}

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            for rollup, nodes in self._nodes.items():
                group.create_task(self._follow_rollup(rollup, list(nodes.items())))
            if self._log is not None:
                group.create_task(self._follow_log(self._log))
            group.create_task(self._listen())
            group.create_task(self._report())

    # --- rollups --------------------------------------------------------------------------------------------

    async def _follow_rollup(self, rollup: RollupId, nodes: Sequence[tuple[str, Node]]) -> None:
        first = 0
        while True:
            # Taken before the read: what is committed after the read sets it.
            changed = self._coordinator.changed
            if not await self._is_awaited(Source.NODE, rollup):
                await changed.wait()
                continue
            # The answer is about everything up to here; the highest height that is waited for is no higher.
            register = self._coordinator.book.register
            for place in (*range(first, len(nodes)), *range(first)):
                if await self._has_executed(rollup, nodes[place], register):
                    # The node that answers is asked first, until it does not.
                    first = place
                    self._tell({(Source.NODE, rollup): register.height})
                    break
            else:
                await asyncio.sleep(PAUSE_MS / 1_000)

    async def _has_executed(self, rollup: RollupId, named: tuple[str, Node], register: Register) -> bool:
        """Answer whether a node has executed the order up to a register, to that very register."""
        address, node = named
        peer = f"the node of {rollup} at {address}"
        try:
            answer = await node.state((_NO_KEY,), min_height=register.height, timeout_ms=EXECUTION_TIMEOUT_MS)
            commitment = answer.commitment
            if commitment.height != register.height:
                commitment = await node.commitment(register.height, timeout_ms=EXECUTION_TIMEOUT_MS)
        except LockstepError as error:
            self._say(peer, "rollup_not_followed", error.code, error.message)
            return False
        if commitment.register_root != register.root:
            reason = f"after block {register.height} its register is another one: it follows another order"
            self._say(peer, "rollup_not_followed", "REGISTER_ROOT", reason)
            return False
        self._is_well(peer)
        return True

    # --- the settlement log ---------------------------------------------------------------------------------

    async def _follow_log(self, log: AnchorLog) -> None:
        peer = "the settlement log"
        while True:
            changed = self._coordinator.changed
            registry = self._coordinator.book.register.registry
            awaited = [each for each in registry.rollups if await self._is_awaited(Source.LOG, each)]
            if not awaited:
                await changed.wait()
                continue
            try:
                await self._ask_log(log, awaited)
                self._is_well(peer)
            except Contradiction as error:
                # It showed two histories: nothing that it says counts, now or after a restart.
                structlog.get_logger().error("settlement_log_contradicted_itself", reason=error.message)
                return
            except LockstepError as error:
                self._say(peer, "settlement_log_not_followed", error.code, error.message)
                await asyncio.sleep(PAUSE_MS / 1_000)
            await asyncio.sleep(ANCHOR_MS / 1_000)

    async def _ask_log(self, log: AnchorLog, rollups: Sequence[RollupId]) -> None:
        status = await log.status(timeout_ms=EXECUTION_TIMEOUT_MS)
        found = {}
        for rollup in rollups:
            anchored = status.rollups.get(rollup)
            if anchored is None or anchored.height <= self._heights.of(Source.LOG, rollup):
                continue
            if await self._is_anchored(log, rollup, anchored.height):
                found[Source.LOG, rollup] = anchored.height
        self._tell(found)

    async def _is_anchored(self, log: AnchorLog, rollup: RollupId, height: int) -> bool:
        """Answer whether the log anchors our header at a height, and a rollup's commitment after it.

        That as many attesters as the rollup's threshold asks for say the same is the log's word. Raises
        `ProofInvalid` if what it anchors is not ours.
        """
        commitment = decode_settlement_entry((await log.anchor(height, rollup)).entry)
        header = decode_settlement_entry((await log.anchor(height)).entry)
        assert isinstance(commitment, CommitmentEntry), "the client takes no other entry"
        assert isinstance(header, HeaderRange), "the client takes no other entry"
        register = self._coordinator.book.register
        if header.last.header.height > register.height:
            # The log knows blocks that were not followed here; they will be, soon.
            return False
        ours = (
            register.header_hash_at(Height(height)),
            register.header_hash_at(header.last.header.height),
        )
        if (commitment.posted.header_hash, header_hash(header.last.encoded)) == ours:
            return True
        reason = f"it anchors another order at height {height}, or one too long ago to tell"
        raise ProofInvalid(reason=reason)

    # --- what comes of it -----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Let a swap be looked at that became durable after its rollups were seen to be there already."""
        while True:
            await self._coordinator.changed.wait()
            self._news.set()

    async def _report(self) -> None:
        """Have the writer raise the levels of all swaps that reached one, as news comes."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(COALESCE_MS / 1_000)
            heights = self._heights
            # Taken after the heights that were found under it, or an older one.
            checkpoint = None if self._log is None else self._log.seen
            while steps := await self._views.due_steps(heights, PAGE_STEPS):
                await self._coordinator.tell(Progress(heights, steps, checkpoint))

    def _tell(self, found: Mapping[tuple[Source, RollupId], int]) -> None:
        if found:
            self._heights = self._heights.raised(Heights(found))
            self._news.set()

    async def _is_awaited(self, source: Source, rollup: RollupId) -> bool:
        awaited = await self._views.awaited_height(source, rollup)
        return awaited > self._heights.of(source, rollup)

    def _say(self, peer: str, event: str, code: str, reason: str) -> None:
        """Say once that somebody is not followed, until he is well or something else is wrong."""
        if self._trouble.get(peer) != code:
            structlog.get_logger().warning(event, peer=peer, reason=reason)
        self._trouble[peer] = code

    def _is_well(self, peer: str) -> None:
        if self._trouble.pop(peer, None) is not None:
            structlog.get_logger().info("followed_again", peer=peer)
