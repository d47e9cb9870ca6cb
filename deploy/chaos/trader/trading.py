"""A trader who proposes, accepts, quotes and pays until told to drain, and is killed meanwhile.

Owns the order of its work; each swap is the desk's (`bridge.client.Desk`), which goes on after a kill from
the wallet. What it does is in its journal.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from bridge.client import (
    BridgeClient,
    Desk,
    LegState,
    Maker,
    Offer,
    RecordedSwap,
    Role,
    SwapPhase,
    SwapView,
    take_quote,
)
from deploy.chaos.trader.deals import Conduct, Deal, conduct_of, deal_of, legs_of
from deploy.chaos.trader.journal import Journal
from deploy.chaos.trader.settings import TraderSettings
from lockstep.errors import LockstepError, NoQuote
from lockstep.limits import VALIDITY_WINDOW_MS_DEFAULT
from lockstep.order import Bundle, Transaction
from lockstep.quote_requests import QuoteRequest
from lockstep.quotes import Pair, RollupAsset
from lockstep.signing import SigningKey
from lockstep.types import Namespace, PublicKey, RollupId, SwapId

RETRY_S: Final = 0.3
"""How long to wait after what may go better later."""
LOOK_S: Final = 0.1
"""How often it is looked whether to drain."""
CHANGES_BACK: Final = 500
"""Changes of swaps that a trader who starts looks back at, for proposals that it has missed."""
NAP_MS_MAX: Final = 250
"""How long a trader who waits for log time does not look at it again."""
QUOTE_MS: Final = 5_000
"""How long a quote is good."""
PAYMENTS: Final = 4
"""Payments in a bundle."""
FAUCET_AMOUNT: Final = 50_000_00
"""Base units of each asset with which everybody begins."""

_Answer = TypeVar("_Answer")


class _Stopped(Exception):
    """It was told to stop."""


@dataclass
class Trading:
    """One trader at work."""

    settings: TraderSettings
    """What it is to do."""
    key: SigningKey
    """Its key."""
    accounts: dict[str, PublicKey]
    """Everybody's account."""
    desk: Desk
    """Where it trades."""
    bridges: tuple[BridgeClient, ...]
    """All coordinators, each of which may hear of a proposal or look for a quote."""
    journal: Journal
    """What it did."""
    done: int
    """Deals that were begun before this process."""
    _driven: set[SwapId] = field(default_factory=set)
    _open: int = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping`. Once told to drain, nothing is proposed or paid any more."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work(group))
                await stopping.wait()
                raise _Stopped
        except* _Stopped:
            pass

    async def _work(self, group: asyncio.TaskGroup) -> None:
        for bridge in self.bridges:
            group.create_task(self._make(bridge))
            group.create_task(self._accept(group, bridge))
        for swap in self.desk.wallet.swaps(self.desk.trader.account):
            if swap.outcome is None:
                self._begin(group, swap)
        busy = (group.create_task(self._propose_all(group)), group.create_task(self._pay_all()))
        # Who tells it does not know of this process, which may have been started just now.
        while not await asyncio.to_thread(self.settings.draining.exists):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        for task in busy:
            task.cancel()
        while True:
            self._show_idle()
            await asyncio.sleep(LOOK_S)

    def _show_idle(self) -> None:
        """Let it be seen, by a file, whether all that was begun is over: others may begin something yet."""
        if self._open:
            self.settings.idle.unlink(missing_ok=True)
        else:
            self.settings.idle.touch()

    # --- proposing ----------------------------------------------------------------------------------------

    async def _propose_all(self, group: asyncio.TaskGroup) -> None:
        numbers = iter(range(self.done, self.settings.deals))

        async def propose() -> None:
            for number in numbers:
                await self._propose(group, number)

        async with asyncio.TaskGroup() as proposers:
            for _ in range(self.settings.at_once):
                proposers.create_task(propose())

    async def _propose(self, group: asyncio.TaskGroup, number: int) -> None:
        """Propose a deal and wait until it is over."""
        settings = self.settings
        names, rollups = settings.names, tuple(settings.assets)
        deal = deal_of(settings.seed, settings.name, number, names=names, rollups=rollups)
        swap = await self._repeat("propose", lambda: self._record(deal))
        if swap is None:
            self.journal.note("no quote", number=number)
            return
        self.journal.note(
            "proposed",
            number=number,
            swap_id=swap.swap_id.hex(),
            conduct=deal.conduct.name,
            policy=swap.reveal.name,
            legs=len(swap.terms.legs),
        )
        # Not awaited itself: who proposes nothing more still takes to its end what was begun.
        await asyncio.wait((self._begin(group, swap),))

    async def _record(self, deal: Deal) -> RecordedSwap | None:
        """Agree to a deal; None if nobody quotes what it wants."""
        if deal.conduct is not Conduct.QUOTED:
            return await self.desk.propose(
                legs_of(deal, self.accounts, self.settings.assets),
                lock_within_ms=deal.lock_within_ms,
                reveal_within_ms=deal.reveal_within_ms,
                reveal=deal.policy,
            )
        give, get = (self._asset(rollup) for rollup in deal.rollups)
        try:
            quotes = await self.desk.venue.bridges.ask(
                lambda bridge: bridge.request_quotes(Pair(give, get), give_amount=deal.amounts[0])
            )
        except NoQuote:
            return None
        offered = [each.quote for each in quotes if each.quote.maker != self.desk.trader.account]
        if not offered:
            return None
        time_ms = await self.desk.venue.time_ms()
        taken = take_quote(
            offered[0],
            self.desk.trader.account,
            time_ms=time_ms,
            lock_within_ms=deal.lock_within_ms,
            reveal_within_ms=deal.reveal_within_ms,
        )
        return await self.desk.propose(
            taken.legs,
            lock_within_ms=taken.lock_within_ms,
            reveal_within_ms=taken.reveal_within_ms,
            reveal=deal.policy,
            premium=taken.premium,
        )

    def _asset(self, rollup: str) -> RollupAsset:
        return RollupAsset(RollupId(rollup), self.settings.assets[rollup].encode("ascii"))

    # --- swaps --------------------------------------------------------------------------------------------

    def _begin(self, group: asyncio.TaskGroup, swap: RecordedSwap) -> "asyncio.Task[None]":
        """Take a swap to its end in a task."""
        self._driven.add(swap.swap_id)
        self._open += 1
        return group.create_task(self._finish(swap))

    async def _finish(self, swap: RecordedSwap) -> None:
        started_s = time.monotonic()
        ended = await self._repeat("drive", lambda: self._drive(swap))
        self.journal.note(
            "ended",
            swap_id=swap.swap_id.hex(),
            role=swap.role.name,
            outcome="" if ended.outcome is None else ended.outcome.name,
            ms=round((time.monotonic() - started_s) * 1_000),
        )
        self._open -= 1

    async def _drive(self, swap: RecordedSwap) -> RecordedSwap:
        conduct = conduct_of(swap.terms)
        if swap.role is Role.PROPOSER and conduct is Conduct.CANCELLED:
            await self.desk.drive(swap, until_idle=True)
            swap = self.desk.cancel(swap)
        if swap.role is Role.PROPOSER and conduct is Conduct.ABANDONED:
            await self._abandon(swap)
        return (await self.desk.drive(swap)).swap

    async def _abandon(self, swap: RecordedSwap) -> None:
        """Lock, and do nothing more until the deadline has passed."""
        # One drive proposes, and locks as far as that goes without a look at what the others do.
        if await self.desk.venue.time_ms() < swap.terms.lock_by_ms:
            await self.desk.drive(swap, until_idle=True)
        while True:
            left_ms = swap.terms.expires_ms - await self.desk.venue.time_ms()
            if left_ms <= 0:
                return
            # Not all of it: who told the time may be a node that executes everything again, and is far back.
            await asyncio.sleep(min(left_ms, NAP_MS_MAX) / 1_000)

    async def _accept(self, group: asyncio.TaskGroup, bridge: BridgeClient) -> None:
        """Accept what is proposed to this trader through a coordinator."""
        account = self.desk.trader.account
        status = await self._repeat("watch", bridge.status)
        since = max(0, status.next_sequence - CHANGES_BACK)
        while True:
            try:
                async with aclosing(bridge.watch(since, party=account)) as changes:
                    async for view in changes:
                        since = max(since, view.sequence + 1)
                        if self._is_to_accept(view):
                            await self._take(group, view)
            except LockstepError as error:
                self.journal.note("trouble", doing="watch", code=error.code, error=error.message)
                await asyncio.sleep(RETRY_S)

    def _is_to_accept(self, view: SwapView) -> bool:
        account = self.desk.trader.account
        is_awaited = any(
            leg.state is LegState.AWAITED and terms.sender == account
            for leg, terms in zip(view.legs, view.terms.legs, strict=True)
        )
        is_new = view.swap_id not in self._driven and view.phase is SwapPhase.COLLECTING
        is_wanted = conduct_of(view.terms) not in (Conduct.DECLINED, Conduct.QUOTED)
        return is_awaited and is_new and is_wanted and view.terms.revealer != account

    async def _take(self, group: asyncio.TaskGroup, view: SwapView) -> None:
        try:
            swap = await self.desk.accept(view.terms_bytes)
        except LockstepError as error:
            # Too late, say: nothing was signed.
            self.journal.note("not accepted", swap_id=view.swap_id.hex(), code=error.code)
            return
        if swap.swap_id not in self._driven and swap.outcome is None:
            self.journal.note("accepted", swap_id=swap.swap_id.hex())
            self._begin(group, swap)

    # --- quoting ------------------------------------------------------------------------------------------

    async def _make(self, bridge: BridgeClient) -> None:
        """Quote any pair, one for one."""
        rollups = tuple(self.settings.assets)
        pairs = [
            Pair(self._asset(give), self._asset(get)) for give in rollups for get in rollups if give != get
        ]

        async def price(request: QuoteRequest) -> Offer | None:
            amount = request.give_amount or request.get_amount
            return None if amount is None else Offer(amount)

        while True:
            maker = Maker(
                bridge,
                self.desk.venue.genesis,
                self.key,
                pairs,
                price,
                valid_for_ms=QUOTE_MS,
                settle_within_ms=2 * QUOTE_MS,
            )
            try:
                await maker.run()
            except* LockstepError as several:
                self.journal.note("trouble", doing="make", error=str(several.exceptions[0]))
                await asyncio.sleep(RETRY_S)

    # --- paying -------------------------------------------------------------------------------------------

    async def _pay_all(self) -> None:
        """Get funds everywhere, and pay the others in turn."""
        number = 0
        if not self.done:
            for rollup, asset in self.settings.assets.items():
                await self._order(rollup, partial(self._faucet, rollup, asset))
        while True:
            rollup, asset = tuple(self.settings.assets.items())[number % len(self.settings.assets)]
            number += 1
            await self._order(rollup, partial(self._payments, rollup, asset))
            await asyncio.sleep(self.settings.transfer_ms / 1_000)

    def _faucet(self, rollup: str, asset: str, until_ms: int) -> list[bytes]:
        return [
            self.desk.trader.sign_faucet(rollup, asset=asset, amount=FAUCET_AMOUNT, valid_until_ms=until_ms)
        ]

    def _payments(self, rollup: str, asset: str, until_ms: int) -> list[bytes]:
        others = [account for name, account in self.accounts.items() if name != self.settings.name]
        return [
            self.desk.trader.sign_transfer(
                rollup,
                asset=asset,
                recipient=others[place % len(others)],
                amount=1,
                valid_until_ms=until_ms,
            )
            for place in range(PAYMENTS)
        ]

    async def _order(self, rollup: str, payloads: Callable[[int], list[bytes]]) -> None:
        """Have a bundle acknowledged, repeating it until it is, or is too late."""
        until_ms = await self._repeat("pay", self.desk.venue.time_ms) + VALIDITY_WINDOW_MS_DEFAULT
        transactions = tuple(Transaction(Namespace(rollup), payload) for payload in payloads(until_ms))
        bundle, started_s = Bundle(transactions, until_ms), time.monotonic()
        while True:
            try:
                ordered = await self.desk.venue.sequencer.submit(bundle)
            except LockstepError as error:
                self.journal.note("trouble", doing="pay", code=error.code, error=error.message)
                if not error.retryable:
                    return
                await asyncio.sleep(RETRY_S)
            else:
                self.journal.acknowledged(ordered.placement, (time.monotonic() - started_s) * 1_000)
                return

    async def _repeat(self, doing: str, work: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Do something until it goes without an error, noting each."""
        while True:
            try:
                return await work()
            except LockstepError as error:
                self.journal.note("trouble", doing=doing, code=error.code, error=error.message)
                await asyncio.sleep(RETRY_S)
