"""Processes that are killed while a swap is locked: before it is cancelled, and dead while it is decided.

That each comes back before anything else happens is what `test_matrix` tests at every moment of a swap;
`test_kill_points` hits points inside a process.
"""

from collections.abc import Callable

import pytest

from bridge.client import SwapPhase, SwapView
from deploy.demonstration.market import OpenSwap
from tests.chaos.arena import KILLED, Arena
from tests.chaos.arenas import Arenas

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


def is_in(phase: SwapPhase) -> Callable[[SwapView], bool]:
    return lambda view: view.phase is phase


async def locked(arena: Arena) -> OpenSwap:
    """Bring a new swap to where it waits for its reveal."""
    swap = await arena.propose()
    await arena.lock_last(swap)
    await arena.swap_is(swap, is_in(SwapPhase.LOCKED), "locked")
    return swap


@pytest.mark.parametrize("killed", KILLED)
async def test_kill_before_a_cancellation(arenas: Arenas, killed: str) -> None:
    async with arenas.case() as arena:
        async with arena.traffic():
            before = await arena.tip()
            swap = await locked(arena)
            await arena.devnet.kill(killed)
            await arena.devnet.start(killed)
            await arena.cancel(swap)
        await arena.verify(swap, SwapPhase.ABORTED, before=before, log=killed == "settlement")


@pytest.mark.parametrize("killed", ["settlement", "alpha-0", "beta-0"])
async def test_dead_while_the_swap_is_decided(arenas: Arenas, killed: str) -> None:
    async with arenas.case() as arena:
        async with arena.traffic():
            before = await arena.tip()
            swap = await locked(arena)
            await arena.devnet.kill(killed)
            await arena.reveal(swap)
            await arena.swap_is(swap, is_in(SwapPhase.COMMITTED), "decided")
            assert not arena.devnet.is_running(killed)
            await arena.devnet.start(killed)
        await arena.verify(swap, SwapPhase.COMMITTED, before=before, log=True)
