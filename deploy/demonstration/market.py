"""How traders make a swap, with the clients that anybody's program would use.

Owns the steps of a swap as its parties take them, and how its end is told. Knows nothing of processes. Each
trader signs with its own key; the coordinator gets signatures and, only where the taker wants it, the
preimage.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

from bridge.client import CommitLevel, RevealPolicy, SwapPhase, SwapView, Trader, transfer_leg
from deploy.demonstration.report import Movement
from deploy.devnet.clients import WAIT_MS_MAX, Clients
from deploy.devnet.network import ALPHA, ASSET_OF, BETA, Network
from lockstep.receipts import SettledReceipt, SettlementCode
from lockstep.terms import swap_id_of
from lockstep.types import PublicKey, RollupId, SwapId
from sequencer.client import Ordered


@dataclass(frozen=True, slots=True)
class Deal:
    """What traders agree on: who gives whom what. The first who gives proposes it and has the preimage."""

    gives: tuple[Movement, ...]
    """What each leg moves, at least two."""
    lock_within_ms: int = 30_000
    """Log time within which all legs must be attested."""
    reveal_within_ms: int = 30_000
    """Log time after that within which the preimage must be revealed."""

    @property
    def revealer(self) -> str:
        """Who proposes it and can reveal."""
        return self.gives[0].sender

    def __str__(self) -> str:
        return ", ".join(f"{give.sender} gives {give.what}" for give in self.gives)


def exchange(
    taker: str,
    gold: int,
    maker: str,
    silver: int,
    *,
    lock_within_ms: int = 30_000,
    reveal_within_ms: int = 30_000,
) -> Deal:
    """Return a deal of base units of gold on alpha, which the taker gives, for silver on beta."""
    gives = give(ALPHA, taker, maker, gold), give(BETA, maker, taker, silver)
    return Deal(gives, lock_within_ms, reveal_within_ms)


def give(rollup: RollupId, sender: str, recipient: str, amount: int) -> Movement:
    """Return that somebody gives base units of a rollup's asset."""
    return Movement(rollup, ASSET_OF[rollup], sender, recipient, amount)


@dataclass(frozen=True, slots=True)
class OpenSwap:
    """A swap whose locks were all given."""

    terms_bytes: bytes
    """What was agreed."""
    swap_id: SwapId
    """Its name."""
    revealer: Trader
    """Who can reveal."""


class Market:
    """The traders of a network and how they swap."""

    def __init__(self, network: Network, clients: Clients) -> None:
        self.genesis = network.genesis
        """The chain that they trade on."""
        self.clients = clients
        """What they reach the network through."""
        self.traders: Mapping[str, Trader] = {
            name: Trader(key, network.genesis) for name, key in network.traders.items()
        }
        """Everybody, by name."""
        self._names = {trader.account: name for name, trader in self.traders.items()}

    async def propose(self, deal: Deal, policy: RevealPolicy = RevealPolicy.BY_TRADER) -> bytes:
        """Have the revealer propose the deal to the coordinator, and return the terms."""
        revealer = self.traders[deal.revealer]
        legs = tuple(
            transfer_leg(
                rollup=give.rollup,
                sender=self.traders[give.sender].account,
                recipient=self.traders[give.recipient].account,
                asset=give.asset,
                amount=give.amount,
            )
            for give in deal.gives
        )
        terms_bytes = revealer.new_terms(
            legs,
            time_ms=await self.clients.sequencer.time_ms(),
            lock_within_ms=deal.lock_within_ms,
            reveal_within_ms=deal.reveal_within_ms,
        )
        shown = None if policy is RevealPolicy.BY_TRADER else revealer.preimage(terms_bytes)
        proposed = await self.clients.bridge.propose(
            terms_bytes, idempotency_key=terms_bytes[-16:], reveal_policy=policy, preimage=shown
        )
        assert proposed.terms_bytes == terms_bytes, "each party signs what it read, not what it is told"
        return terms_bytes

    async def lock(self, terms_bytes: bytes, swap_id: SwapId, leg: int, by: str) -> SwapView:
        """Have a trader sign the lock of a leg and give it to the coordinator."""
        return await self.clients.bridge.accept(swap_id, leg, self.traders[by].sign_lock(terms_bytes, leg))

    async def agree(self, deal: Deal, policy: RevealPolicy = RevealPolicy.BY_TRADER) -> OpenSwap:
        """Propose a deal and have all sign their locks: what the order needs is then there."""
        terms_bytes = await self.propose(deal, policy)
        swap_id = swap_id_of(terms_bytes)
        for leg, give in enumerate(deal.gives):
            await self.lock(terms_bytes, swap_id, leg, give.sender)
        return OpenSwap(terms_bytes, swap_id, self.traders[deal.revealer])

    async def locked(self, swap: OpenSwap) -> SwapView:
        """Wait until all legs are attested LOCKED, or the swap is over."""
        return await self.clients.bridge.wait_until(swap.swap_id, (SwapPhase.LOCKED,))

    async def reveal(self, swap: OpenSwap) -> Ordered:
        """Have the revealer reveal, and return where that was ordered."""
        return await self.clients.bridge.reveal(swap.swap_id, swap.revealer.preimage(swap.terms_bytes))

    async def decided(self, swap: OpenSwap) -> SwapView:
        """Wait until the order decided the swap."""
        return await self.clients.bridge.wait_until(swap.swap_id, ())

    async def anchored(self, swap: OpenSwap, *, timeout_ms: int = WAIT_MS_MAX) -> SwapView:
        """Wait until a swap is decided, every leg settled, and both in the settlement log.

        Raises TimeoutError.
        """
        async with asyncio.timeout(timeout_ms / 1_000):
            async with aclosing(self.clients.bridge.watch(0, (swap.swap_id,))) as changes:
                async for view in changes:
                    is_settled = all(leg.settled for leg in view.legs)
                    if view.is_final and is_settled and view.level >= CommitLevel.ANCHORED:
                        return view
        raise AssertionError("watch ends only by raising")

    def name_of(self, account: bytes) -> str:
        """Return whose account it is."""
        return self._names.get(PublicKey(account), account.hex()[:8])

    def movement(self, swap: SwapView, receipt: SettledReceipt) -> Movement | None:
        """Return what a settled leg moved to somebody else, if anything."""
        if receipt.code is not SettlementCode.COMMITTED:
            return None
        leg = swap.terms.legs[receipt.leg]
        return Movement(
            rollup=leg.rollup,
            asset=receipt.asset.decode("ascii"),
            sender=self.name_of(leg.sender),
            recipient=self.name_of(receipt.beneficiary),
            amount=receipt.amount,
        )
