"""What the demo does, in order: funds, transfers, six swaps, and what is checked at the end.

Owns the story and what is expected of each swap. How a swap is made is `market`'s, how one is told and timed
`episode`'s, what is checked at the end `checks`'. Everything is done through the processes' APIs, but for one
SIGKILL.
"""

import asyncio
from typing import Final

from bridge.client import AbortReason, RevealPolicy, SwapPhase
from deploy.demonstration.checks import run_checks
from deploy.demonstration.episode import Episode
from deploy.demonstration.market import Deal, Market, exchange, give
from deploy.demonstration.narrator import Narrator
from deploy.demonstration.proofs import fetch_receipts
from deploy.demonstration.report import Movement, Report, TransferResult, in_units
from deploy.devnet.audit import PromiseBroken, verify_same_state
from deploy.devnet.launcher import Devnet
from deploy.devnet.network import ALPHA, ASSET_OF, BETA, FUNDS, GAMMA
from lockstep.limits import VALIDITY_WINDOW_MS_DEFAULT
from lockstep.order import Bundle, Transaction
from lockstep.receipts import ReceiptCode
from lockstep.transactions import decode_transaction
from lockstep.types import Namespace, RollupId

NODE_OF: Final = {ALPHA: "alpha-0", BETA: "beta-1", GAMMA: "gamma-0"}
"""Whom the story asks about a rollup: for beta the replica, since the other node dies."""

VICTIM: Final = "beta-0"
"""Who dies."""

WORDS: Final = (
    "\nA leg is attested once its rollup's attesters have signed, in the order, that its funds are in",
    "escrow. The preimage is a secret of whoever proposes; the terms hold its hash, the hashlock. When",
    "every leg is attested LOCKED and the preimage is shown in the order, the swap is COMMITTED, everywhere.",
)
"""What has to be known to follow the story."""

COMMITTED: Final = (SwapPhase.COMMITTED, AbortReason.NONE)
REJECTED: Final = (SwapPhase.ABORTED, AbortReason.LEG_REJECTED)
EXPIRED: Final = (SwapPhase.ABORTED, AbortReason.NOT_REVEALED)


class Story:
    """The demo on a running devnet."""

    def __init__(self, devnet: Devnet, market: Market, report: Report, narrator: Narrator) -> None:
        self._devnet = devnet
        self._market = market
        self._clients = market.clients
        self._report = report
        self._narrator = narrator
        self._episodes: list[Episode] = []
        self._group: asyncio.TaskGroup

    async def tell(self) -> None:
        """Do everything and put what was found into the report."""
        await self._show_funds()
        await self._transfer()
        for word in WORDS:
            self._narrator.word(word)
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._revealed_by_the_taker()
            # Its deadline takes its time whatever anybody does, so that it is waited for beside the others.
            expiring = await self._open_what_expires()
            ending = group.create_task(expiring.conclude(EXPIRED))
            await self._revealed_up_front()
            await self._cannot_be_funded()
            await self._around_three_rollups()
            await self._survives_a_kill()
            self._narrator.chapter(f"Swap {expiring.number}: its deadline comes")
            self._narrator.waiting(f"swap {expiring.number}: waiting for its deadline")
            await ending
            self._narrator.chapter("Anchoring")
            self._narrator.waiting("waiting for the settlement log to have it all")
        self._narrator.line(
            "every swap is ANCHORED: the block that decided it, and what each of its rollups made of that, "
            "are in the settlement log"
        )
        self._narrator.waiting("fetching every swap's receipt")
        await fetch_receipts(self._devnet.network, self._report)
        self._narrator.line("every swap has its receipt: a file that proves how it ended")
        self._narrator.chapter("Checks")
        self._narrator.waiting("checking")
        views = [episode.view for episode in self._episodes]
        self._report.checks += await run_checks(self._market, self._report, views, NODE_OF, VICTIM)

    async def _show_funds(self) -> None:
        self._narrator.chapter("Traders, funded by the genesis file")
        for name, trader in self._market.traders.items():
            holdings = []
            for rollup, node in NODE_OF.items():
                amount = await self._clients.nodes[node].balance(
                    trader.account, ASSET_OF[rollup], min_height=1
                )
                assert amount == FUNDS[name].get(rollup, 0), "the genesis file says so"
                holdings.append(f"{in_units(amount)} {ASSET_OF[rollup]} on {rollup}")
            self._narrator.line(f"{name}: {', '.join(holdings)}")

    async def _transfer(self) -> None:
        self._narrator.chapter("Signed transfers")
        await self._transfer_one(ALPHA, "alice", "bob", 250_00)
        await self._transfer_one(BETA, "bob", "alice", 1_000_00)

    async def _transfer_one(self, rollup: RollupId, sender: str, recipient: str, amount: int) -> None:
        valid_until_ms = await self._clients.sequencer.time_ms() + VALIDITY_WINDOW_MS_DEFAULT
        movement = Movement(rollup, ASSET_OF[rollup], sender, recipient, amount)
        payload = self._market.traders[sender].sign_transfer(
            rollup,
            asset=movement.asset,
            recipient=self._market.traders[recipient].account,
            amount=amount,
            valid_until_ms=valid_until_ms,
        )
        bundle = Bundle((Transaction(Namespace(rollup), payload),), valid_until_ms)
        placement = (await self._clients.sequencer.submit(bundle)).placement
        receipt = await self._clients.nodes[NODE_OF[rollup]].receipt(
            decode_transaction(payload).id, wait_ms=10_000
        )
        place = (placement.height, placement.first_index)
        if receipt.code is not ReceiptCode.OK or (receipt.height, receipt.index) != place:
            raise PromiseBroken(f"a transfer ordered at {place} got the receipt {receipt}")
        self._report.transfers.append(TransferResult(movement, *place))
        self._narrator.line(f"{movement} on {rollup}: block {place[0]}, index {place[1]}, executed")

    async def _revealed_by_the_taker(self) -> None:
        swap = self._episode("revealed by the taker")
        await swap.open(exchange("alice", 500_00, "bob", 2_000_00))
        await swap.lock()
        await swap.reveal("alice saw both locks and revealed")
        await swap.conclude(COMMITTED)

    async def _open_what_expires(self) -> Episode:
        swap = self._episode("nobody reveals", "carol will not reveal; the others go on meanwhile")
        deal = exchange("carol", 150_00, "bob", 600_00, lock_within_ms=2_500, reveal_within_ms=5_000)
        await swap.open(deal)
        await swap.lock()
        return swap

    async def _revealed_up_front(self) -> None:
        swap = self._episode("revealed up front")
        await swap.open(exchange("alice", 300_00, "bob", 1_150_00), RevealPolicy.UP_FRONT)
        swap.say("terms, both locks and the preimage went out as one bundle")
        await swap.conclude(COMMITTED)

    async def _cannot_be_funded(self) -> None:
        swap = self._episode("cannot be funded", "cannot be funded: carol has no silver")
        await swap.open(exchange("alice", 400_00, "carol", 9_999_00))
        await swap.conclude(REJECTED)

    async def _around_three_rollups(self) -> None:
        swap = self._episode("around three rollups")
        gives = (
            give(ALPHA, "alice", "bob", 200_00),
            give(BETA, "bob", "carol", 750_00),
            give(GAMMA, "carol", "alice", 12_000_00),
        )
        await swap.open(Deal(gives))
        await swap.lock()
        await swap.reveal("alice saw all three locks and revealed: one decision for three rollups")
        await swap.conclude(COMMITTED)

    async def _survives_a_kill(self) -> None:
        swap = self._episode(f"{VICTIM} is killed")
        await swap.open(exchange("alice", 700_00, "bob", 2_600_00))
        await swap.lock()
        await self._devnet.kill(VICTIM)
        swap.say(f"{VICTIM} attested its lock and was killed with SIGKILL")
        await swap.reveal("alice revealed")
        await swap.conclude(COMMITTED)
        assert not self._devnet.is_running(VICTIM), "nobody has started it"
        swap.say(f"that was decided while {VICTIM} was dead; starting it again")
        self._narrator.waiting(f"waiting for {VICTIM} to execute what it missed")
        await self._devnet.start(VICTIM)
        nodes = self._clients.nodes
        state = await verify_same_state(
            nodes[VICTIM], nodes[NODE_OF[BETA]], min_height=swap.view.decided_height
        )
        root = state.state_root.hex()[:16]
        swap.say(
            f"{VICTIM} is back; at height {state.height} it and the replica have the state root {root}..."
        )

    def _episode(self, name: str, title: str = "") -> Episode:
        """Begin the next swap."""
        nodes = {rollup: self._clients.nodes[node] for rollup, node in NODE_OF.items()}
        episode = Episode(
            self._market, nodes, self._report, self._narrator, number=len(self._episodes) + 1, name=name
        )
        self._episodes.append(episode)
        self._narrator.chapter(f"Swap {episode.number}: {title or name}")
        # Anchoring takes its time too, and nobody has to wait for it before going on.
        self._group.create_task(episode.anchor())
        return episode
