"""One audit of a network: the order, every node, the settlement log, all at once.

Owns the connections and the lifetimes of the tasks. Asks, and never sends anything.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from bridge.settlement.client import SettlementClient
from deploy.audit.checkers import Audit
from deploy.audit.invariants import Invariant, Violated
from deploy.audit.log_watch import LogWatch
from deploy.audit.nodes import NodeWatch
from deploy.audit.plain.register import UnknownRules
from deploy.audit.plain.registry import REGISTER
from deploy.audit.watching import Watch, is_own_finding, violated_by
from deploy.node.client import ClientSettings
from deploy.node.tls import ClientTls
from lockstep.errors import LockstepError, NotImplementedYet, Oversized, UnavailablePeer
from lockstep.genesis import Genesis
from lockstep.header import Tip, genesis_tip, tip_of
from lockstep.types import SYSTEM_NAMESPACES, Namespace
from rollups.client import RollupClient
from sequencer.client import FollowedBlock, KeyAt, SequencerClient

GRACE_MS: Final = 10_000
"""How long, at the end, a node or a log that is away or behind is waited for, unless told otherwise."""

NAMESPACES_MAX: Final = 64
"""Namespaces that one stream of the order carries: a chain of more cannot be audited."""

LEAD_BLOCKS_MAX: Final = 512
"""How far the order is followed ahead of what nodes that answer were compared with."""

THE_SEQUENCER: Final = "the sequencer"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a network is."""

    genesis: Genesis
    """The chain."""
    sequencer: str
    """The sequencer, `host:port`."""
    settlement: str
    """The settlement log."""
    nodes: Mapping[str, Sequence[str]]
    """Every node of every rollup."""
    tls: ClientTls | None = None
    """Certificates; without them connections are plain."""


class Order(Protocol):
    """What of the sequencer's client is needed here."""

    def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncGenerator[FollowedBlock, None]:
        """Yield every block after `tip`, verified."""


class Follower:
    """Audits a network; `following` makes one."""

    def __init__(
        self,
        watch: Watch,
        order: Order,
        log: LogWatch,
        nodes: Sequence[NodeWatch],
        *,
        peer: str = THE_SEQUENCER,
        grace_ms: int = GRACE_MS,
    ) -> None:
        """Audit by the audit of `watch`; `peer` names the sequencer if it is not there."""
        self._order = order
        self._peer = peer
        self._grace_s = grace_ms / 1_000
        self._is_stopping = False
        self.watch = watch
        """How far it came."""
        self.nodes = tuple(nodes)
        """The nodes."""
        self.log = log
        """The settlement log."""

    @property
    def audit(self) -> Audit:
        """What was found so far."""
        return self.watch.audit

    async def run(self, until_height: int | None = None, *, to_head: bool = False) -> None:
        """Audit up to a block, with `to_head` to the newest there is at the start, or for ever.

        Raises `Violated` at the first thing that does not hold; `UnavailablePeer` if the sequencer is not
        there at the start; `Pruned`, `NotImplementedYet` or `Oversized` for an order that cannot be audited.
        """
        watch = self.watch
        watch.until_height = until_height
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._follow_order()), group.create_task(self.log.run())]
                tasks += [group.create_task(node.run()) for node in self.nodes]
                await self._expect_order(to_head=to_head)
                await watch.until(watch.is_done)
                await self._end()
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as several:
            raise _first_of(several) from several
        except asyncio.CancelledError:
            if watch.found is not None:
                # Who stops it while a node is asked what differs is told without.
                raise watch.found from None
            raise
        self.audit.finish()

    async def stop(self) -> None:
        """Let `run` end at the newest block that was looked at, once who answers was compared with it."""
        self._is_stopping = True
        self.watch.until_height = self.audit.height
        await self.watch.advanced()

    async def _expect_order(self, *, to_head: bool) -> None:
        """Insist that the order begins to come, and note where it ends now."""
        try:
            async with asyncio.timeout(self._grace_s):
                await self.watch.until(lambda: self.watch.head_height > 0)
        except TimeoutError:
            raise UnavailablePeer(peer=self._peer) from None
        if to_head:
            self.watch.until_height = self.watch.head_height
            await self.watch.advanced()

    async def _follow_order(self) -> None:
        watch = self.watch
        tip = genesis_tip(self.audit.genesis.chain_id, self.audit.genesis.genesis_time_ms)
        try:
            while True:
                namespaces = self._namespaces()
                following = self._order.follow(
                    tip=tip, namespaces=namespaces, sequencer_key=self.audit.sequencer_key_at
                )
                async with aclosing(following) as blocks:
                    async for followed in blocks:
                        watch.head_height = followed.head_height
                        await watch.advanced()
                        await watch.until(self._may_advance)
                        self.audit.block(followed.block)
                        tip = tip_of(followed.block.header, followed.block.hash)
                        await watch.advanced()
                        # Blocks that came in one message would keep everybody else waiting.
                        await asyncio.sleep(0)
                        if self._namespaces() != namespaces:
                            break
        except UnknownRules as error:
            raise NotImplementedYet(what=str(error)) from error
        except LockstepError as error:
            if not is_own_finding(error):
                raise
            raise violated_by(Invariant.ORDER, error, THE_SEQUENCER, height=self.audit.height + 1) from error

    def _may_advance(self) -> bool:
        """Answer whether to go on: not far ahead of nodes that answer, so that they are compared soon."""
        height = self.audit.height
        is_ahead = any(
            not node.away and height >= node.compared_height + LEAD_BLOCKS_MAX for node in self.nodes
        )
        return self.watch.may_advance() and (not is_ahead or self.watch.halt_height is not None)

    def _namespaces(self) -> list[Namespace]:
        """Return what is to be followed: the system's, and every rollup that there is or is about to be."""
        registry = self.audit.chain.register.registry
        rollups = sorted(
            {*registry.rollups, *(each.subject for each in registry.pending if each.kind == REGISTER)}
        )
        namespaces = [*sorted(SYSTEM_NAMESPACES), *map(Namespace, rollups)]
        if len(namespaces) > NAMESPACES_MAX:
            raise Oversized(what="number of namespaces to audit", size=len(namespaces), limit=NAMESPACES_MAX)
        return namespaces

    async def _end(self) -> None:
        """Wait for nodes and log to be compared up to the last block, but not for ever."""
        with suppress(TimeoutError):
            # Who is away until then is named by the summary.
            async with asyncio.timeout(self._grace_s):
                await self.watch.until(lambda: all(map(self._is_compared, self.nodes)))
                await self.watch.until(
                    lambda: self.log.is_read or (self._is_stopping and self.log.away != "")
                )
        if self.watch.found is not None:
            # The task that found it ends them all as soon as it knows more.
            await asyncio.Event().wait()

    def _is_compared(self, node: NodeWatch) -> bool:
        # Who stops an audit does not wait for those that were away.
        return node.compared_height >= self.audit.height or (self._is_stopping and node.away != "")


@asynccontextmanager
async def following(
    target: Target, audit: Audit | None = None, *, grace_ms: int = GRACE_MS
) -> AsyncIterator[Follower]:
    """Connect to a network, and audit it by `audit`, which nothing was given yet: by default a new one."""
    audit = audit or Audit(target.genesis, target.nodes)
    watch, settings = Watch(audit, until_height=None), ClientSettings(tls=target.tls)
    genesis, key_at = target.genesis, audit.sequencer_key_at
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        order = await enter(SequencerClient(target.sequencer, genesis, settings, sequencer_key=key_at))
        settlement = SettlementClient(
            target.settlement, genesis, settings, log_key=audit.settlement_key, sequencer_key=key_at
        )
        log = LogWatch(watch, await enter(settlement))
        nodes = []
        for rollup, addresses in target.nodes.items():
            for address in addresses:
                client = RollupClient(address, genesis, rollup, settings, sequencer_key=key_at)
                nodes.append(NodeWatch(watch, await enter(client), rollup, address))
        peer = f"{THE_SEQUENCER} at {target.sequencer}"
        yield Follower(watch, order, log, nodes, peer=peer, grace_ms=grace_ms)


def _first_of(several: ExceptionGroup) -> Exception:
    """Return the error of several that says most: what does not hold, else the first."""
    found: list[Exception] = []
    pending: list[Exception] = [several]
    while pending:
        each = pending.pop(0)
        if isinstance(each, ExceptionGroup):
            pending += each.exceptions
        else:
            found.append(each)
    return next((each for each in found if isinstance(each, Violated)), found[0])
