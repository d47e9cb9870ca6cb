"""A devnet that processes are killed on, the traffic that goes on meanwhile, and what must hold afterwards.

Owns what was promised on one network, and what is checked of it. Cases get it from `arenas`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec

from bridge.client import SwapPhase, SwapView
from deploy.audit.checkers import Audit
from deploy.audit.following import Target, following
from deploy.audit.report import Summary, summary_of
from deploy.demonstration.market import Market, OpenSwap, exchange
from deploy.devnet.audit import holdings, verify_conserved, verify_log, verify_same_state, verify_whole
from deploy.devnet.clients import Clients, until
from deploy.devnet.launcher import Devnet
from deploy.devnet.network import (
    ASSET_OF,
    BETA,
    FUNDS,
    NODES_OF,
    supply_of,
)
from lockstep.errors import UselessEntry
from lockstep.header import Tip, header_hash, tip_of
from lockstep.limits import VALIDITY_WINDOW_MS_DEFAULT
from lockstep.order import Bundle, Placement, Transaction, bundle_id_of
from lockstep.receipts import ReceiptCode
from lockstep.terms import swap_id_of
from lockstep.transactions import decode_transaction
from lockstep.types import Namespace, RollupId
from sequencer.client import Ordered
from tests.chaos.forks import ForkServer

KILLED = ("settlement", "sequencer", "alpha-0", "beta-0", "bridge")
"""Who is killed; the replica of beta is what they are measured by."""

ATTESTER_OF = {rollup: nodes[0] for rollup, nodes in NODES_OF.items()}
REPLICA = "beta-1"

AUDIT_GRACE_MS = 120_000
"""How long the auditor waits for nodes at the end: a machine that is busy is no finding."""

DEAL = exchange("alice", 3_00, "bob", 7_00)
"""What every case swaps: alice reveals."""


class NotJudged(Exception):
    """The auditor did not come to the end of a network in time."""


@dataclass
class Arena:
    """A running devnet and everything that was promised on it so far."""

    devnet: Devnet
    clients: Clients
    market: Market
    forks: ForkServer
    """What processes of this network are forked from."""
    acknowledged: list[tuple[Bundle, Ordered]] = field(default_factory=list)
    """Bundles of this case and their receipts."""
    swaps: list[SwapView] = field(default_factory=list)
    """Every swap that was decided on this network."""
    balances: dict[tuple[str, RollupId], int] = field(default_factory=dict)
    """What each trader must have."""
    placements: list[Placement] = field(default_factory=list)
    """Where everything is that was ever acknowledged on this network."""

    def __post_init__(self) -> None:
        for name, funds in FUNDS.items():
            for rollup in ASSET_OF:
                self.balances[name, rollup] = funds.get(rollup, 0)

    # --- what goes on ------------------------------------------------------------------------------------

    async def acknowledge_some(self) -> None:
        """Have a few transfers acknowledged, for cases in which nothing else may go on."""
        self.acknowledged.clear()
        for amount in (1, 2):
            await self.transfer(BETA, "bob", "carol", amount)

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[asyncio.TaskGroup]:
        """Have bob send silver to carol all the while; at the end every transfer was acknowledged.

        Yields the group that this happens in, for what else is to happen beside the case.
        """
        self.acknowledged.clear()
        enough = asyncio.Event()

        async def send() -> None:
            while not enough.is_set():
                await self.transfer(BETA, "bob", "carol", 1)

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            try:
                yield group
            finally:
                enough.set()

    async def transfer(self, rollup: RollupId, sender: str, recipient: str, amount: int) -> None:
        """Transfer, repeating the same bundle until it is acknowledged, and wait until the replica has it."""
        time_ms = await until(self.clients.sequencer.time_ms, "the sequencer")
        payload = self.market.traders[sender].sign_transfer(
            rollup,
            asset=ASSET_OF[rollup],
            recipient=self.market.traders[recipient].account,
            amount=amount,
            valid_until_ms=time_ms + VALIDITY_WINDOW_MS_DEFAULT,
        )
        bundle = Bundle((Transaction(Namespace(rollup), payload),), time_ms + VALIDITY_WINDOW_MS_DEFAULT)
        ordered = await until(lambda: self.clients.sequencer.submit(bundle), "a transfer's receipt")
        self.acknowledged.append((bundle, ordered))
        self.placements.append(ordered.placement)
        receipt = await self.clients.nodes[REPLICA].receipt(decode_transaction(payload).id, wait_ms=20_000)
        assert receipt.code is ReceiptCode.OK
        assert (receipt.height, receipt.index) == (ordered.placement.height, ordered.placement.first_index)
        self.balances[sender, rollup] -= amount
        self.balances[recipient, rollup] += amount

    async def swap(self, outcome: SwapPhase) -> OpenSwap:
        """Take a swap from its proposal to this end."""
        swap = await self.propose()
        await self.lock_last(swap)
        await self.swap_is(swap, lambda view: view.phase is SwapPhase.LOCKED, "locked")
        await (self.reveal(swap) if outcome is SwapPhase.COMMITTED else self.cancel(swap))
        await self.swap_is(swap, lambda view: view.is_final, "decided")
        return swap

    async def propose(self) -> OpenSwap:
        """Propose the deal and lock alice's leg."""
        terms_bytes = await until(partial(self.market.propose, DEAL), "the bridge to take the proposal")
        swap_id = swap_id_of(terms_bytes)
        lock = partial(self.market.lock, terms_bytes, swap_id, 0, DEAL.revealer)
        await until(lock, "the bridge to take the first lock")
        return OpenSwap(terms_bytes, swap_id, self.market.traders[DEAL.revealer])

    async def lock_last(self, swap: OpenSwap) -> None:
        """Lock bob's leg, which sends everything to the sequencer. Repeated until it is answered."""
        lock = partial(self.market.lock, swap.terms_bytes, swap.swap_id, 1, DEAL.gives[1].sender)
        await until(lock, "the bridge to take the last lock")

    async def reveal(self, swap: OpenSwap) -> None:
        """Reveal. Repeated until it is answered; that it has no effect any more is an answer."""
        with suppress(UselessEntry):
            await until(partial(self.market.reveal, swap), "the bridge to take the preimage")

    async def cancel(self, swap: OpenSwap) -> None:
        """Cancel as the revealer. Repeated until it is answered, as `reveal`."""
        entry = swap.revealer.sign_cancel(swap.swap_id)
        with suppress(UselessEntry):
            await until(partial(self.clients.bridge.cancel, entry), "the bridge to take the cancellation")

    async def swap_is(self, swap: OpenSwap, answers: Callable[[SwapView], bool], what: str) -> SwapView:
        """Wait until the bridge's view of a swap answers."""

        async def look() -> SwapView | None:
            view = await self.clients.bridge.swap(swap.swap_id)
            return view if answers(view) else None

        return await until(look, f"the swap to be {what}")

    async def tip(self) -> Tip:
        """Return the sequencer's newest block, which must stay."""
        head = (await self.clients.sequencer.status()).head
        assert head is not None
        return tip_of(head.header, header_hash(head.encoded))

    # --- what must hold -----------------------------------------------------------------------------------

    async def verify(self, swap: OpenSwap, phase: SwapPhase, *, before: Tip, log: bool) -> None:
        """Check everything after a case whose swap must have ended in `phase`.

        `before` is a block from before the kill. `log`: also wait for the settlement log to have it all.
        """
        view = await self.market.decided(swap)
        assert view.phase is phase, (view.phase.name, view.abort_reason.name)
        self.swaps.append(view)
        if phase is SwapPhase.COMMITTED:
            for give in DEAL.gives:
                self.balances[give.sender, give.rollup] -= give.amount
                self.balances[give.recipient, give.rollup] += give.amount
        await self._verify_order(before)
        await self._verify_swap(view)
        height = max(view.decided_height, await self._repeat())
        await self._verify_value(height)
        await self._verify_states(height)
        if log:
            nodes = {rollup: self.clients.nodes[name] for rollup, name in ATTESTER_OF.items()}
            genesis = self.devnet.network.genesis
            await verify_log(self.clients.settlement, genesis, nodes, min_height=view.decided_height)

    async def audit(self) -> Summary:
        """Have the auditor, who executes everything a second time, judge the network since its first block.

        Raises Violated at what does not hold. It must have seen everything: every node up to the last block,
        else it raises NotJudged, and every swap that was decided here.
        """
        network = self.devnet.network
        target = Target(
            network.genesis,
            network.address("sequencer"),
            network.address("settlement"),
            {rollup: list(map(network.address, nodes)) for rollup, nodes in NODES_OF.items()},
        )
        checks = Audit(network.genesis)
        for placement in self.placements:
            checks.acknowledged(placement)
        async with following(target, checks, grace_ms=AUDIT_GRACE_MS) as follower:
            await follower.run(to_head=True)
            summary = summary_of(follower, elapsed_s=0)
        if not summary.is_complete:
            raise NotJudged("\n".join(summary.lines()))
        committed = sum(swap.phase is SwapPhase.COMMITTED for swap in self.swaps)
        assert summary.swaps.get("COMMITTED", 0) == committed, summary.lines()
        return summary

    async def _verify_order(self, before: Tip) -> None:
        """What was acknowledged keeps its place and bytes, and the chain goes on from where it was."""
        genesis = self.devnet.network.genesis
        assert self.acknowledged, "something was acknowledged, or this checks nothing"
        for bundle, ordered in self.acknowledged:
            bundle_id = bundle_id_of(genesis.chain_id, bundle)
            # The client proves each transaction under the header, and that they make the bundle's id.
            assert await self.clients.sequencer.placement(bundle_id, bundle.valid_until_ms) == ordered
        blocks = self.clients.sequencer.follow(
            tip=before, namespaces=(), sequencer_key=lambda _: genesis.sequencer
        )
        assert (await anext(blocks)).block.header.height == before.height + 1
        await blocks.aclose()

    async def _repeat(self) -> int:
        """Send again what was acknowledged, which must do nothing; return the height of that."""
        bundle, ordered = self.acknowledged[-1]
        assert await self.clients.sequencer.submit(bundle) == ordered, (
            "the same bundle gets its first receipt"
        )
        # In another bundle the order takes it, and the rollup has to know it again.
        copy = msgspec.structs.replace(bundle, valid_until_ms=bundle.valid_until_ms + 1)
        return (await self.clients.sequencer.submit(copy)).placement.height

    async def _verify_swap(self, view: SwapView) -> None:
        """Both legs ended as the order decided, on every node."""
        for beta in (ATTESTER_OF[BETA], REPLICA):
            names = {**ATTESTER_OF, BETA: beta}
            nodes = {rollup: self.clients.nodes[name] for rollup, name in names.items()}
            receipts = await verify_whole(view, nodes)
            assert all(receipts), "both legs were locked, so both were settled"

    async def _verify_value(self, height: int) -> None:
        """Every unit is where it must be, on every node."""
        for rollup, node in ((rollup, node) for rollup, nodes in NODES_OF.items() for node in nodes):
            held = await holdings(
                self.clients.nodes[node],
                rollup,
                ASSET_OF[rollup],
                accounts=[trader.account for trader in self.market.traders.values()],
                # What older swaps had in escrow would be missing from the balances, which are known.
                swaps={
                    swap.swap_id: leg
                    for swap in self.swaps[-1:]
                    for leg, terms in enumerate(swap.terms.legs)
                    if terms.rollup == rollup
                },
                min_height=height,
            )
            verify_conserved(held, supply=supply_of(rollup))
            found = {self.market.name_of(account): amount for account, amount in held.balances.items()}
            assert found == {name: self.balances[name, rollup] for name in found}

    async def _verify_states(self, height: int) -> None:
        """Beta is what its replica is, and all rollups have the same register."""
        nodes = self.clients.nodes
        await verify_same_state(nodes["beta-0"], nodes[REPLICA], min_height=height)
        commitments = [await nodes[name].commitment(height) for name in ATTESTER_OF.values()]
        assert len({commitment.register_root for commitment in commitments}) == 1
