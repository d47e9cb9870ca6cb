"""What the demo does, in order: funds, transfers, five swaps, and what is checked at the end.

Owns the story and what is expected of each swap. How a swap is made is `market`'s, what is checked at the end
`checks`'. Everything is done through the processes' APIs, but for one SIGKILL.
"""

import asyncio
from typing import Final

from bridge.client import AbortReason, RevealPolicy, SwapPhase, SwapView
from deploy.demonstration.checks import run_checks
from deploy.demonstration.market import Deal, Market, OpenSwap
from deploy.demonstration.narrator import Narrator
from deploy.demonstration.report import Movement, Report, SwapResult, TransferResult, in_units
from deploy.devnet.audit import PromiseBroken, verify_same_state, verify_whole
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
        self._views: list[SwapView] = []

    async def tell(self) -> None:
        """Do everything and put what was found into the report."""
        await self._show_funds()
        await self._transfer()
        async with asyncio.TaskGroup() as group:
            # Its deadline takes its time whatever anybody does, so that it is waited for beside the others.
            group.create_task(self._expires(await self._open_what_expires()))
            await self._revealed_by_the_taker()
            await self._revealed_up_front()
            await self._cannot_be_funded()
            await self._survives_a_kill()
            self._narrator.chapter("Swap 4: its deadline comes")
            self._narrator.waiting("swap 4: waiting for its deadline")
        self._narrator.chapter("Checks")
        self._narrator.waiting("checking, also that the settlement log has it all")
        self._report.checks += await run_checks(self._market, self._report, self._views, NODE_OF, VICTIM)

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
        number, deal = 1, Deal("alice", 500_00, "bob", 2_000_00)
        swap = await self._open(number, "revealed by the taker", deal)
        await self._locked(number, swap)
        await self._market.reveal(swap)
        self._narrator.line("alice saw both locks and revealed", swap=number)
        await self._conclude(number, "revealed by the taker", swap, COMMITTED)

    async def _revealed_up_front(self) -> None:
        number, deal = 2, Deal("alice", 300_00, "bob", 1_150_00)
        swap = await self._open(number, "revealed up front", deal, RevealPolicy.UP_FRONT)
        self._narrator.line("terms, both locks and the preimage went out as one bundle", swap=number)
        await self._conclude(number, "revealed up front", swap, COMMITTED)

    async def _cannot_be_funded(self) -> None:
        number, deal = 3, Deal("alice", 400_00, "carol", 9_999_00)
        swap = await self._open(number, "cannot be funded: carol has no silver", deal)
        await self._conclude(number, "cannot be funded", swap, REJECTED)

    async def _open_what_expires(self) -> OpenSwap:
        deal = Deal("carol", 150_00, "bob", 600_00, lock_within_ms=2_500, reveal_within_ms=5_000)
        swap = await self._open(4, "expires, since carol will not reveal; the others go on meanwhile", deal)
        await self._locked(4, swap)
        return swap

    async def _expires(self, swap: OpenSwap) -> None:
        await self._conclude(4, "expires", swap, EXPIRED)

    async def _survives_a_kill(self) -> None:
        number, deal = 5, Deal("alice", 700_00, "bob", 2_600_00)
        swap = await self._open(number, f"{VICTIM} is killed", deal)
        await self._locked(number, swap)
        await self._devnet.kill(VICTIM)
        self._narrator.line(f"{VICTIM} attested its lock and was killed with SIGKILL", swap=number)
        await self._market.reveal(swap)
        self._narrator.line("alice revealed", swap=number)
        view = await self._conclude(number, f"{VICTIM} is killed", swap, COMMITTED)
        assert not self._devnet.is_running(VICTIM), "nobody has started it"
        self._narrator.line(f"that was decided while {VICTIM} was dead; starting it again", swap=number)
        self._narrator.waiting(f"waiting for {VICTIM} to execute what it missed")
        await self._devnet.start(VICTIM)
        nodes = self._clients.nodes
        state = await verify_same_state(nodes[VICTIM], nodes[NODE_OF[BETA]], min_height=view.decided_height)
        root = state.state_root.hex()[:16]
        self._narrator.line(
            f"{VICTIM} is back; at height {state.height} it and the replica have the state root {root}...",
            swap=number,
        )

    async def _open(
        self, number: int, name: str, deal: Deal, policy: RevealPolicy = RevealPolicy.BY_TRADER
    ) -> OpenSwap:
        self._narrator.chapter(f"Swap {number}: {name}")
        self._narrator.waiting(f"swap {number}: collecting the signed locks")
        swap = await self._market.agree(deal, policy)
        self._narrator.line(f"{deal}; both signed their locks", swap=number)
        self._narrator.waiting(f"swap {number}: waiting for the order")
        return swap

    async def _locked(self, number: int, swap: OpenSwap) -> None:
        view = await self._market.locked(swap)
        if view.phase is not SwapPhase.LOCKED:
            raise PromiseBroken(f"swap {number} is {view.phase.name} ({view.abort_reason.name}), not LOCKED")
        self._narrator.line(
            f"opened in block {view.opened_height}; both legs are attested LOCKED", swap=number
        )

    async def _conclude(
        self, number: int, name: str, swap: OpenSwap, wanted: tuple[SwapPhase, AbortReason]
    ) -> SwapView:
        """Wait for the decision, check both legs against it and note how the swap ended."""
        view = await self._market.decided(swap)
        milliseconds = swap.milliseconds()
        nodes = {rollup: self._clients.nodes[node] for rollup, node in NODE_OF.items()}
        receipts = await verify_whole(view, nodes)
        moved = [self._market.movement(view, receipt) for receipt in receipts if receipt is not None]
        result = SwapResult(
            number=number,
            name=name,
            swap_id=view.swap_id,
            outcome=view.phase.name,
            reason=view.abort_reason.name,
            milliseconds=milliseconds,
            opened_height=view.opened_height,
            decided_height=view.decided_height,
            expected=(view.phase, view.abort_reason) == wanted,
            moved=tuple(movement for movement in moved if movement is not None),
        )
        self._report.swaps.append(result)
        self._views.append(view)
        reason = "" if view.abort_reason is AbortReason.NONE else f" ({result.reason})"
        self._narrator.line(
            f"{result.outcome}{reason} in block {view.decided_height}, "
            f"after {milliseconds:,} ms; settled on both rollups",
            swap=number,
        )
        return view
