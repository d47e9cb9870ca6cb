"""One swap of the demo: taken through its steps, timed, told, and checked against what it should come to.

Owns what is said of a swap and how long each of its steps took. Which swaps there are, and what happens to
processes meanwhile, is `story`'s.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

from bridge.client import AbortReason, RevealPolicy, SwapPhase, SwapView
from deploy.demonstration.market import Deal, Market, OpenSwap
from deploy.demonstration.narrator import Narrator
from deploy.demonstration.report import Report, SwapResult
from deploy.devnet.audit import PromiseBroken, verify_whole
from lockstep.types import RollupId
from rollups.client import RollupClient

_COUNT_WORDS = {2: "both", 3: "all three"}


class Episode:
    """A swap, from its proposal until it is anchored. Each step is a method; they are called in order."""

    def __init__(
        self,
        market: Market,
        nodes: Mapping[RollupId, RollupClient],
        report: Report,
        narrator: Narrator,
        *,
        number: int,
        name: str,
    ) -> None:
        """Begin swap `number`; its legs are checked on `nodes`, and time counts from now."""
        self.number = number
        """Its place in the story, from 1."""
        self._name = name
        self._market = market
        self._nodes = nodes
        self._report = report
        self._narrator = narrator
        self._lap_s = time.monotonic()
        self._milliseconds: dict[str, int] = {}
        self._deal: Deal | None = None
        self._swap: OpenSwap | None = None
        self._view: SwapView | None = None
        self._concluded = asyncio.Event()

    @property
    def view(self) -> SwapView:
        """How it was decided."""
        assert self._view is not None, "it was concluded"
        return self._view

    def say(self, text: str) -> None:
        """Tell something of it."""
        self._narrator.line(text, swap=self.number)

    async def open(self, deal: Deal, policy: RevealPolicy = RevealPolicy.BY_TRADER) -> None:
        """Have it proposed and every lock signed."""
        self._narrator.waiting(f"swap {self.number}: collecting the signed locks")
        self._deal, self._swap = deal, await self._market.agree(deal, policy)
        self._lap("proposed")
        self.say(f"{deal}; {self._all} signed their locks")
        self._narrator.waiting(f"swap {self.number}: waiting for the order")

    async def lock(self) -> None:
        """Wait until every leg is attested LOCKED."""
        view = await self._market.locked(self._open)
        if view.phase is not SwapPhase.LOCKED:
            raise PromiseBroken(
                f"swap {self.number} is {view.phase.name} ({view.abort_reason.name}), not LOCKED"
            )
        self._lap("locked")
        self.say(f"opened in block {view.opened_height}; {self._all} legs are attested LOCKED")

    async def reveal(self, told: str) -> None:
        """Have the preimage ordered."""
        await self._market.reveal(self._open)
        self._lap("revealed")
        self.say(told)

    async def conclude(self, wanted: tuple[SwapPhase, AbortReason]) -> None:
        """Wait for the decision, check every leg against it and report how the swap ended."""
        view = await self._market.decided(self._open)
        self._lap("decided")
        receipts = await verify_whole(view, self._nodes)
        self._lap("settled")
        moved = [self._market.movement(view, receipt) for receipt in receipts if receipt is not None]
        assert self._deal is not None, "it was opened"
        self._view = view
        self._report.swaps[self.number] = SwapResult(
            number=self.number,
            name=self._name,
            swap_id=view.swap_id,
            legs=self._deal.gives,
            outcome=view.phase.name,
            reason=view.abort_reason.name,
            milliseconds=self._milliseconds,
            opened_height=view.opened_height,
            decided_height=view.decided_height,
            level=view.level.name,
            expected=(view.phase, view.abort_reason) == wanted,
            moved=tuple(movement for movement in moved if movement is not None),
        )
        if view.phase is SwapPhase.COMMITTED:
            self.say(f"COMMITTED in block {view.decided_height}; {self._all} legs are paid")
        else:
            why = f"{view.phase.name} ({view.abort_reason.name})"
            self.say(f"{why} in block {view.decided_height}; everybody has back what was locked")
        self._concluded.set()

    async def anchor(self) -> None:
        """Wait, once it is concluded, until decision and settlement are in the settlement log."""
        await self._concluded.wait()
        view = await self._market.anchored(self._open)
        self._lap("anchored")
        self._report.swaps[self.number] = replace(
            self._report.swaps[self.number], level=view.level.name, milliseconds=dict(self._milliseconds)
        )

    @property
    def _open(self) -> OpenSwap:
        assert self._swap is not None, "it was opened"
        return self._swap

    @property
    def _all(self) -> str:
        assert self._deal is not None, "it was opened"
        return _COUNT_WORDS[len(self._deal.gives)]

    def _lap(self, step: str) -> None:
        now_s = time.monotonic()
        self._milliseconds[step] = round((now_s - self._lap_s) * 1_000)
        self._lap_s = now_s
