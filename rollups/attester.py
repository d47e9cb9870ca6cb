"""The attester: says in the order what this node found, once it is durable.

Owns when verdicts are signed and sent again. What is outstanding is the node's outbox, which follows from
state and register. Invariants: only a published height is ever signed, because what is published is durable;
one verdict is under way at most once at a time; whatever happens to an attestation, its verdicts are sent
again, signed at a newer height, until the register shows the vote or the swap is over. The first verdict of a
key stands, so that sending one twice changes nothing.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from deploy.node.failpoints import FAILPOINTS
from lockstep import limits
from lockstep.errors import LockstepError
from lockstep.order import Bundle, Transaction
from lockstep.signing import SigningKey
from lockstep.swap_entries import Attestation, sign_attestation
from lockstep.types import SWAP_NAMESPACE, HeaderHash, Height
from rollups.node import Published, RollupNode
from rollups.outbox import item_of
from rollups.runtime import LegName
from sequencer.client import Ordered

BEFORE_SEND: Final = FAILPOINTS.declare(
    "rollup.attest.before_send", "verdicts are durable and signed, nothing is sent"
)
SENT: Final = FAILPOINTS.declare("rollup.attest.sent", "an attestation is ordered, not seen by this node")

UNDER_WAY_MAX: Final = 2
"""Attestations that are not answered at a time. While they are, verdicts gather for the next one, so that a
busy node signs, sends and has ordered fewer entries, and an idle one sends each verdict at once."""

PAUSE_MS: Final = 500
"""How long verdicts wait to be sent again after an attestation of them failed or did not count."""


class Submitter(Protocol):
    """Where attestations go; `sequencer.client.SubmitStream` is one."""

    async def submit(self, bundle: Bundle, *, timeout_ms: int = 10_000) -> Ordered:
        """Have a bundle ordered."""


class Attester:
    """Attests one node's verdicts with one key."""

    def __init__(self, key: SigningKey, node: RollupNode, order: Submitter) -> None:
        """Sign with `key`, which is the one whose outbox `node` keeps, and send to `order`."""
        self._key = key
        self._node = node
        self._order = order
        self._under_way: set[LegName] = set()
        self._attestations = 0
        self._to_look = asyncio.Event()

    async def run(self) -> None:
        """Attest what becomes due, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_when_changed())
            while True:
                self._to_look.clear()
                while due := self._due():
                    self._under_way.update(due)
                    self._attestations += 1
                    group.create_task(self._send(due, self._sign(due, self._node.published)))
                await self._to_look.wait()

    async def _look_when_changed(self) -> None:
        """Have `run` look at what is due whenever the node published something, for ever."""
        while True:
            changed = self._node.changed
            self._to_look.set()
            await changed.wait()

    def _due(self) -> Sequence[LegName]:
        """Return the next verdicts that are to be attested now, ascending."""
        if not self._node.is_speaking or self._attestations >= UNDER_WAY_MAX:
            return ()
        waiting = [name for name in self._node.outbox if name not in self._under_way]
        return waiting[: limits.ATTESTATION_ITEMS_MAX]

    async def _send(self, names: Sequence[LegName], entry: bytes) -> None:
        """Send signed verdicts, and hold them back until it is known whether that counted."""
        log = structlog.get_logger()
        time_ms = self._node.published.state.register.time_ms
        bundle = Bundle((Transaction(SWAP_NAMESPACE, entry),), time_ms + limits.VALIDITY_WINDOW_MS_DEFAULT)
        try:
            FAILPOINTS.reach(BEFORE_SEND)
            started_ns = self._node.stages.now_ns()
            ordered = await self._order.submit(bundle)
            self._node.stages.add("attest", started_ns)
            FAILPOINTS.reach(SENT)
            self._answered()
            await self._node.wait_for(ordered.placement.height)
            log.debug("attestation_ordered", verdicts=len(names), ordered_height=ordered.placement.height)
        except LockstepError as error:
            self._answered()
            log.info("attestation_failed", verdicts=len(names), reason=str(error))
        if any(name in self._node.outbox for name in names):
            await asyncio.sleep(PAUSE_MS / 1_000)
            self._to_look.set()
        self._under_way.difference_update(names)

    def _answered(self) -> None:
        """Make room for the next attestation."""
        self._attestations -= 1
        self._to_look.set()

    def _sign(self, names: Sequence[LegName], published: Published) -> bytes:
        register = published.state.register
        attestation = Attestation(
            chain=self._node.genesis.chain_id,
            rollup=self._node.rollup,
            attester=self._key.public_key,
            executed_height=Height(published.height),
            header_hash=HeaderHash(register.header_hash),
            items=tuple(item_of(name, self._node.outbox[name]) for name in names),
        )
        return sign_attestation(self._key, attestation)
