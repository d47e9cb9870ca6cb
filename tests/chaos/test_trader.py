"""Each side of a swap killed at each step of its own, and `swap resume` afterwards.

The trader is the command line, a process of its own. It dies with SIGKILL at a failpoint; a new process goes
on from the wallet, the other side goes on as if nothing was, and then everything is checked (`Arena.verify`):
the swap ended the same way on both rollups, and every unit is where it must be.
"""

import asyncio

import pytest

from bridge.client import SwapPhase
from deploy.node.failpoints import FAILPOINTS
from tests.chaos.arena import Arena
from tests.chaos.arenas import Arenas
from tests.chaos.traders import COUNTERPARTY, GIVE_AND_GET, PROPOSER, Ended, Trader, proposed, verify_told

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

PROPOSING = (
    "file.replace.before",
    "trader.swap.recorded",
    "trader.proposal.sent",
    "trader.lock.recorded",
    "trader.lock.sent",
    "trader.reveal.verified",
    "trader.reveal.recorded",
    "trader.reveal.sent",
    "trader.decision.seen",
    "trader.outcome.recorded",
)
"""Where the one dies who proposes and reveals; the first: before anything is in the wallet."""

ACCEPTING = (
    "file.replace.before",
    "trader.swap.recorded",
    "trader.lock.recorded",
    "trader.lock.sent",
    "trader.decision.seen",
    "trader.outcome.recorded",
)
"""Where the one dies who accepts."""

CANCELLING = ("trader.cancel.recorded", "trader.cancel.sent")
"""Where the one dies who cancels."""


async def test_a_trader_dies_at_each_of_its_points() -> None:
    declared = {name for name in FAILPOINTS.declared() if name.startswith("trader.")}
    assert declared <= {*PROPOSING, *ACCEPTING, *CANCELLING}


@pytest.mark.parametrize("point", PROPOSING)
async def test_the_proposer_is_killed(arenas: Arenas, point: str) -> None:
    async with arenas.case() as arena:
        await swap_beside_a_kill(arena, proposer=f"{point}=kill@1")


@pytest.mark.parametrize("point", ACCEPTING)
async def test_the_counterparty_is_killed(arenas: Arenas, point: str) -> None:
    async with arenas.case() as arena:
        await swap_beside_a_kill(arena, counterparty=f"{point}=kill@1")


@pytest.mark.parametrize("point", CANCELLING)
async def test_who_cancels_is_killed(arenas: Arenas, point: str) -> None:
    async with arenas.case() as arena:
        await arena.acknowledge_some()
        before = await arena.tip()
        one, other = Trader(arena, PROPOSER), Trader(arena, COUNTERPARTY)
        await one.type("propose", *GIVE_AND_GET[PROPOSER], "--with", COUNTERPARTY)
        swap = await proposed(arena, one)
        accepting = asyncio.create_task(other.trade("accept", swap, *GIVE_AND_GET[COUNTERPARTY]))
        await arena.swap_is(one.open_swap(), lambda view: view.phase is SwapPhase.LOCKED, "locked")
        killed = await one.type("cancel", swap, failpoints=f"{point}=kill@1")
        assert killed.is_killed, killed
        for ended in (await one.type("resume", swap), await accepting):
            verify_told(ended, SwapPhase.ABORTED)
        await arena.verify(one.open_swap(), SwapPhase.ABORTED, before=before, log=False)


async def swap_beside_a_kill(arena: Arena, *, proposer: str = "", counterparty: str = "") -> None:
    """Swap while one side is killed at a failpoint and goes on; then check everything."""
    await arena.acknowledge_some()
    before = await arena.tip()
    one, other = Trader(arena, PROPOSER), Trader(arena, COUNTERPARTY)

    async def accept() -> Ended:
        swap = await proposed(arena, one)
        return await other.trade("accept", swap, *GIVE_AND_GET[COUNTERPARTY], failpoints=counterparty)

    proposing = one.trade("propose", *GIVE_AND_GET[PROPOSER], "--with", COUNTERPARTY, failpoints=proposer)
    for ended in await asyncio.gather(proposing, accept()):
        verify_told(ended, SwapPhase.COMMITTED)
    await arena.verify(one.open_swap(), SwapPhase.COMMITTED, before=before, log=False)


@pytest.mark.parametrize(
    ("verb", "outcome"), [("reveal", SwapPhase.COMMITTED), ("cancel", SwapPhase.ABORTED)]
)
async def test_no_coordinator_is_there_any_more(arenas: Arenas, verb: str, outcome: SwapPhase) -> None:
    async with arenas.case() as arena:
        await arena.acknowledge_some()
        before = await arena.tip()
        one, other = Trader(arena, PROPOSER), Trader(arena, COUNTERPARTY)
        await one.type("propose", *GIVE_AND_GET[PROPOSER], "--with", COUNTERPARTY)
        swap = await proposed(arena, one)
        await other.type("accept", swap, *GIVE_AND_GET[COUNTERPARTY])
        await arena.swap_is(one.open_swap(), lambda view: view.phase is SwapPhase.LOCKED, "locked")
        await arena.devnet.kill("bridge")
        for ended in (await one.type(verb, swap), await other.type("resume", swap)):
            verify_told(ended, outcome)
        await arena.devnet.start("bridge")
        await arena.verify(one.open_swap(), outcome, before=before, log=False)
