"""What the demo checks at its end: each check for itself, so that one that fails hides no other."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from bridge.client import CommitLevel, SwapView
from deploy.demonstration.market import Market
from deploy.demonstration.report import CheckResult, Movement, Report, in_units
from deploy.devnet.audit import (
    Holdings,
    PromiseBroken,
    holdings,
    verify_conserved,
    verify_log,
    verify_same_state,
    verify_whole,
)
from deploy.devnet.network import ASSET_OF, BETA, FUNDS, supply_of
from lockstep.types import RollupId

Check = Callable[[], Awaitable[str]]
"""Returns how it saw that a promise was kept, or raises PromiseBroken."""


async def run_checks(
    market: Market,
    report: Report,
    swaps: Sequence[SwapView],
    node_of: Mapping[RollupId, str],
    victim: str,
) -> list[CheckResult]:
    """Run every check and return what each found."""
    checks = Checks(market, report, swaps, node_of, victim)
    results = []
    for name, check in checks.all():
        try:
            results.append(CheckResult(name, ok=True, detail=await check()))
        except (PromiseBroken, TimeoutError) as broken:
            results.append(CheckResult(name, ok=False, detail=str(broken)))
    return results


class Checks:
    """The checks, each a method."""

    def __init__(
        self,
        market: Market,
        report: Report,
        swaps: Sequence[SwapView],
        node_of: Mapping[RollupId, str],
        victim: str,
    ) -> None:
        self._market = market
        self._clients = market.clients
        self._report = report
        self._swaps = swaps
        self._node_of = node_of
        self._victim = victim
        self._last_height = max(swap.decided_height for swap in swaps)

    def all(self) -> Sequence[tuple[str, Check]]:
        """Return every check and what it is called."""
        return (
            *(
                (f"{asset} on {rollup} is conserved", self._conserved(rollup))
                for rollup, asset in ASSET_OF.items()
            ),
            ("every swap happened on all its rollups or on none", self._all_or_none),
            ("every decision and settlement is anchored", self._anchored),
            (f"{self._victim}, which was killed, has the state of its replica", self._same_state),
            ("the settlement log verifies and has it all", self._log),
        )

    def _conserved(self, rollup: RollupId) -> Check:
        async def check() -> str:
            held = await self._held(rollup)
            supply = supply_of(rollup)
            verify_conserved(held, supply=supply)
            if held.escrow:
                raise PromiseBroken(f"{in_units(held.escrow)} {held.asset} is still in escrow")
            self._verify_moved(held)
            return (
                f"balances sum up to {in_units(supply)} and are what transfers and swaps made of them, "
                f"nothing is in escrow (proven, height {held.height})"
            )

        return check

    async def _held(self, rollup: RollupId) -> Holdings:
        legs = {
            swap.swap_id: leg
            for swap in self._swaps
            for leg, terms in enumerate(swap.terms.legs)
            if terms.rollup == rollup
        }
        return await holdings(
            self._clients.nodes[self._node_of[rollup]],
            rollup,
            ASSET_OF[rollup],
            accounts=[trader.account for trader in self._market.traders.values()],
            swaps=legs,
            min_height=self._last_height,
        )

    def _verify_moved(self, held: Holdings) -> None:
        """Check that each trader has what it had, plus what it got, minus what it gave."""
        movements = [transfer.movement for transfer in self._report.transfers]
        movements += [movement for swap in self._report.swaps.values() for movement in swap.moved]
        for name, trader in self._market.traders.items():
            wanted = FUNDS[name].get(held.rollup, 0) + _balance_of(name, held.rollup, movements)
            if held.balances[trader.account] != wanted:
                found = in_units(held.balances[trader.account])
                raise PromiseBroken(f"{name} has {found} {held.asset} and should have {in_units(wanted)}")

    async def _all_or_none(self) -> str:
        for beta in (self._node_of[BETA], self._victim):
            names = {**self._node_of, BETA: beta}
            nodes = {rollup: self._clients.nodes[name] for rollup, name in names.items()}
            for swap in self._swaps:
                await verify_whole(swap, nodes)
        return f"receipts of all legs agree with all {len(self._swaps)} decisions, on every node"

    async def _anchored(self) -> str:
        levels = {swap.number: swap.level for swap in self._report.swaps.values()}
        if missing := [number for number, level in levels.items() if level != CommitLevel.ANCHORED.name]:
            raise PromiseBroken(f"swaps {missing} are not: {levels}")
        return f"all {len(levels)} swaps are ANCHORED, and each of their legs is settled"

    async def _same_state(self) -> str:
        replica, victim = self._clients.nodes[self._node_of[BETA]], self._clients.nodes[self._victim]
        state = await verify_same_state(victim, replica, min_height=self._last_height)
        return f"state root {state.state_root.hex()[:16]}... on both at height {state.height}"

    async def _log(self) -> str:
        nodes = {rollup: self._clients.nodes[node] for rollup, node in self._node_of.items()}
        found = await verify_log(
            self._clients.settlement, self._market.genesis, nodes, min_height=self._last_height
        )
        heights = ", ".join(f"{rollup} at {state.height}" for rollup, state in found.commitments.items())
        return (
            f"{found.size} entries under one signed checkpoint, "
            f"headers up to height {found.anchored_height}, state roots of {heights}"
        )


def _balance_of(trader: str, rollup: RollupId, movements: Sequence[Movement]) -> int:
    """Return what movements on a rollup made of somebody's balance."""
    here = [movement for movement in movements if movement.rollup == rollup]
    gains = sum(movement.amount for movement in here if movement.recipient == trader)
    return gains - sum(movement.amount for movement in here if movement.sender == trader)
