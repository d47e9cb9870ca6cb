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
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from bridge.commands import Progress
from bridge.coordinator import Coordinator
from bridge.levels import Heights, Source
from bridge.reading import Views
from lockstep.checkpoint import Checkpoint
from lockstep.commitment import Commitment
from lockstep.errors import Contradiction, LockstepError, ProofInvalid, ShuttingDown
from lockstep.header import header_hash
from lockstep.register import Register
from lockstep.settlement_entries import CommitmentEntry, HeaderRange, decode_settlement_entry
from lockstep.types import Height, RollupId

EXECUTION_TIMEOUT_MS: Final = 2_000
"""How long a node may take to execute a block that is in the order, before another is asked."""

LOG_TIMEOUT_MS: Final = 5_000
"""How long the settlement log may take to answer."""

PAUSE_MS: Final = 1_000
"""How long a rollup whose nodes all failed is left alone, and a log that did."""

ANCHOR_MS: Final = 500
"""How often the log is asked while a swap waits for it."""

COALESCE_MS: Final = 100
"""How long a rollup is left alone after an answer, and news is gathered before the writer is told: one answer
is about many swaps, and what many say of a swap is one change."""

PAGE_STEPS: Final = 1_024
"""Waiting steps that the writer is told of at once. A swap has four; those told together are one change."""

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
        self._awaited_before: dict[tuple[Source, RollupId], int] = {}
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
        nodes, behind = deque(nodes), None
        while True:
            # Taken before the read: what is committed after the read sets it.
            changed = self._coordinator.changed
            if not await self._is_awaited(Source.NODE, rollup):
                await changed.wait()
                continue
            # The answer is about everything up to here; no height that is waited for is above it. Who is not
            # there yet, as after an outage, is asked for the same until he is.
            register = behind or self._coordinator.book.register
            behind = await self._ask_nodes(rollup, nodes, register)
            await asyncio.sleep(COALESCE_MS / 1_000)

    async def _ask_nodes(
        self, rollup: RollupId, nodes: deque[tuple[str, Node]], register: Register
    ) -> Register | None:
        """Have a node tell that it has executed the order up to a register; it is asked first the next time.

        If none does, pauses, and returns the register if one may do so yet.
        """
        is_behind = False
        for address, node in tuple(nodes):
            peer = f"the node of {rollup} at {address}"
            try:
                await _verify_executed(node, register)
            except LockstepError as error:
                if self._is_news(peer, error):
                    structlog.get_logger().warning("rollup_not_followed", peer=peer, reason=error.message)
                nodes.rotate(-1)
                is_behind |= error.retryable
            else:
                self._is_well(peer)
                self._tell({(Source.NODE, rollup): register.height})
                return None
        await asyncio.sleep(PAUSE_MS / 1_000)
        return register if is_behind else None

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
                if self._is_news(peer, error):
                    structlog.get_logger().warning(
                        "settlement_log_not_followed", peer=peer, reason=error.message
                    )
                await asyncio.sleep(PAUSE_MS / 1_000)
            await asyncio.sleep(ANCHOR_MS / 1_000)

    async def _ask_log(self, log: AnchorLog, rollups: Sequence[RollupId]) -> None:
        status = await log.status(timeout_ms=LOG_TIMEOUT_MS)
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
        anchors = [await log.anchor(height, name, timeout_ms=LOG_TIMEOUT_MS) for name in (rollup, None)]
        commitment, header = (decode_settlement_entry(each.entry) for each in anchors)
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
        """Have the writer raise the levels of all swaps that reached one, as news comes, until it ends."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(COALESCE_MS / 1_000)
            heights = self._heights
            # Taken after the heights that were found under it, or an older one.
            checkpoint = None if self._log is None else self._log.seen
            while steps := await self._views.due_steps(heights, PAGE_STEPS):
                try:
                    await self._coordinator.tell(Progress(heights, steps, checkpoint))
                except ShuttingDown:
                    # Why the writer ended is the coordinator's to say.
                    return

    def _tell(self, found: Mapping[tuple[Source, RollupId], int]) -> None:
        if found:
            self._heights = self._heights.raised(Heights(found))
            self._news.set()

    async def _is_awaited(self, source: Source, rollup: RollupId) -> bool:
        """Answer whether a swap waits for a rollup to get further than it was seen to be.

        What waited before the start is read once; what came since is known.
        """
        if (source, rollup) not in self._awaited_before:
            height = await self._views.awaited_height(source, rollup)
            self._awaited_before[source, rollup] = height
        awaited = max(self._awaited_before[source, rollup], self._coordinator.book.awaited.get(rollup, 0))
        return awaited > self._heights.of(source, rollup)

    def _is_news(self, peer: str, error: LockstepError) -> bool:
        """Answer whether this was not wrong with somebody the last time: everything is said once."""
        is_new = self._trouble.get(peer) != error.code
        self._trouble[peer] = error.code
        return is_new

    def _is_well(self, peer: str) -> None:
        if self._trouble.pop(peer, None) is not None:
            structlog.get_logger().info("followed_again", peer=peer)


async def _verify_executed(node: Node, register: Register) -> None:
    """Check that a node has executed the order up to a register, to that very register.

    Raises `ProofInvalid` if its register is another one, or what the node raises.
    """
    answer = await node.state((_NO_KEY,), min_height=register.height, timeout_ms=EXECUTION_TIMEOUT_MS)
    commitment = answer.commitment
    if commitment.height != register.height:
        commitment = await node.commitment(register.height, timeout_ms=EXECUTION_TIMEOUT_MS)
    if commitment.register_root != register.root:
        reason = f"after block {register.height} its register is another one: it follows another order"
        raise ProofInvalid(reason=reason)
