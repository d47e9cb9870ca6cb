"""How traders make a swap, with the clients that anybody's program would use.

Owns the steps of a swap as its parties take them, and how its end is told. Knows nothing of processes. Each
trader signs with its own key; the coordinator gets signatures and, only where the taker wants it, the
preimage.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.client import RevealPolicy, SwapPhase, SwapView, Trader, transfer_leg
from deploy.demonstration.report import Movement, in_units
from deploy.devnet.clients import Clients
from deploy.devnet.network import ALPHA, ASSET_OF, BETA, Network
from lockstep.receipts import SettledReceipt, SettlementCode
from lockstep.terms import swap_id_of
from lockstep.types import PublicKey, SwapId
from sequencer.client import Ordered


@dataclass(frozen=True, slots=True)
class Deal:
    """What two traders agree on: gold on alpha for silver on beta."""

    taker: str
    """Who gives gold and has the preimage."""
    gold: int
    """Base units of it."""
    maker: str
    """Who gives silver."""
    silver: int
    """Base units of it."""
    lock_within_ms: int = 30_000
    """Log time within which both legs must be attested."""
    reveal_within_ms: int = 30_000
    """Log time after that within which the taker must reveal."""

    def __str__(self) -> str:
        gold, silver = f"{in_units(self.gold)} gold on alpha", f"{in_units(self.silver)} silver on beta"
        return f"{self.taker} gives {gold}, {self.maker} gives {silver}"


@dataclass(frozen=True, slots=True)
class OpenSwap:
    """A swap whose locks were all given."""

    terms_bytes: bytes
    """What was agreed."""
    swap_id: SwapId
    """Its name."""
    taker: Trader
    """Who can reveal."""
    given_s: float
    """When the last lock was given, on the monotonic clock."""

    def milliseconds(self) -> int:
        """Return how long ago that was."""
        return round((time.monotonic() - self.given_s) * 1_000)


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
        """Have the taker propose the deal to the coordinator, and return the terms."""
        taker, maker = self.traders[deal.taker], self.traders[deal.maker]
        legs = (
            transfer_leg(
                rollup=ALPHA,
                sender=taker.account,
                recipient=maker.account,
                asset=ASSET_OF[ALPHA],
                amount=deal.gold,
            ),
            transfer_leg(
                rollup=BETA,
                sender=maker.account,
                recipient=taker.account,
                asset=ASSET_OF[BETA],
                amount=deal.silver,
            ),
        )
        terms_bytes = taker.new_terms(
            legs,
            time_ms=await self.clients.sequencer.time_ms(),
            lock_within_ms=deal.lock_within_ms,
            reveal_within_ms=deal.reveal_within_ms,
        )
        shown = None if policy is RevealPolicy.BY_TRADER else taker.preimage(terms_bytes)
        proposed = await self.clients.bridge.propose(
            terms_bytes, idempotency_key=terms_bytes[-16:], reveal_policy=policy, preimage=shown
        )
        assert proposed.terms_bytes == terms_bytes, "each party signs what it read, not what it is told"
        return terms_bytes

    async def lock(self, terms_bytes: bytes, swap_id: SwapId, leg: int, by: str) -> SwapView:
        """Have a trader sign the lock of a leg and give it to the coordinator."""
        return await self.clients.bridge.accept(swap_id, leg, self.traders[by].sign_lock(terms_bytes, leg))

    async def agree(self, deal: Deal, policy: RevealPolicy = RevealPolicy.BY_TRADER) -> OpenSwap:
        """Propose a deal and have both sides sign their locks: what the order needs is then there."""
        terms_bytes = await self.propose(deal, policy)
        swap_id = swap_id_of(terms_bytes)
        await self.lock(terms_bytes, swap_id, 0, deal.taker)
        given_s = time.monotonic()
        await self.lock(terms_bytes, swap_id, 1, deal.maker)
        return OpenSwap(terms_bytes, swap_id, self.traders[deal.taker], given_s)

    async def locked(self, swap: OpenSwap) -> SwapView:
        """Wait until both legs are attested LOCKED, or the swap is over."""
        return await self.clients.bridge.wait_until(swap.swap_id, (SwapPhase.LOCKED,))

    async def reveal(self, swap: OpenSwap) -> Ordered:
        """Have the taker reveal, and return where that was ordered."""
        return await self.clients.bridge.reveal(swap.swap_id, swap.taker.preimage(swap.terms_bytes))

    async def decided(self, swap: OpenSwap) -> SwapView:
        """Wait until the order decided the swap."""
        return await self.clients.bridge.wait_until(swap.swap_id, ())

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
