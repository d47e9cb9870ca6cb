"""Each process killed in each phase of a swap, while others go on using the network.

A case brings a swap to a phase, kills a process there with SIGKILL, starts it again, brings the swap to its
end and then checks everything (`arena.Arena.verify`). Phases that last only for a moment are held open by
pausing (SIGSTOP) whoever would end them. `test_kill_points` hits points inside a process.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bridge.client import LegState, SwapPhase, SwapView
from deploy.demonstration.market import OpenSwap
from tests.chaos.arena import KILLED, Arena, Arenas

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True)
class Phase:
    """A moment in a swap's life at which somebody dies."""

    name: str
    """What the swap is."""
    paused: tuple[str, ...]
    """Who is kept from ending the phase."""
    reached: Callable[[SwapView], bool]
    """Whether the bridge sees the swap there."""
    is_proposed_only: bool = False
    """Whether the last lock is given only after the kill."""
    is_revealed: bool = False
    """Whether the preimage is revealed before the kill, once the swap is where `revealed_when` says."""
    revealed_when: Callable[[SwapView], bool] = lambda view: view.phase is SwapPhase.LOCKED
    """Where the swap is when it is revealed."""
    paused_at_reveal: tuple[str, ...] = ()
    """Who is kept, from then on, from seeing what was revealed."""


def is_in(phase: SwapPhase) -> Callable[[SwapView], bool]:
    return lambda view: view.phase is phase


def is_half_attested(view: SwapView) -> bool:
    return [leg.state for leg in view.legs] == [LegState.LOCKED, LegState.GIVEN]


ROLLUPS = ("alpha-0", "beta-0")
LOCKED = Phase("locked", (), is_in(SwapPhase.LOCKED))
PHASES = (
    Phase("collecting", (), is_in(SwapPhase.COLLECTING), is_proposed_only=True),
    Phase("submitted", ("sequencer",), is_in(SwapPhase.SUBMITTED)),
    Phase("open", ROLLUPS, is_in(SwapPhase.OPEN)),
    Phase("half-attested", ("beta-0",), is_half_attested),
    LOCKED,
    Phase(
        "revealed",
        ("beta-0",),
        is_in(SwapPhase.REVEALED),
        is_revealed=True,
        revealed_when=is_half_attested,
    ),
    Phase(
        "decided",
        (),
        is_in(SwapPhase.COMMITTED),
        is_revealed=True,
        paused_at_reveal=ROLLUPS,
    ),
)


async def bring_to(arena: Arena, phase: Phase, group: asyncio.TaskGroup) -> OpenSwap:
    """Bring a new swap to a phase. In `group` the last lock may still be on its way."""
    swap = await arena.propose()
    for name in phase.paused:
        arena.devnet.pause(name)
    if phase.is_proposed_only:
        await arena.swap_is(swap, phase.reached, phase.name)
        return swap
    # The answer may come only when the bundle is ordered, for which somebody may have to be resumed first.
    group.create_task(arena.lock_last(swap))
    if phase.is_revealed:
        await arena.swap_is(swap, phase.revealed_when, f"ready to be revealed, to be {phase.name}")
        for name in phase.paused_at_reveal:
            arena.devnet.pause(name)
        await arena.reveal(swap)
    await arena.swap_is(swap, phase.reached, phase.name)
    return swap


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("killed", KILLED)
async def test_kill(arenas: Arenas, killed: str, phase: Phase) -> None:
    async with arenas.case() as arena:
        async with arena.traffic() as group:
            before = await arena.tip()
            swap = await bring_to(arena, phase, group)
            await arena.devnet.kill(killed)
            for name in (*phase.paused, *phase.paused_at_reveal):
                arena.devnet.resume(name)
            await arena.devnet.start(killed)
            if phase.is_proposed_only:
                await arena.lock_last(swap)
            if not phase.is_revealed:
                await arena.swap_is(swap, is_in(SwapPhase.LOCKED), "locked")
                await arena.reveal(swap)
        await arena.verify(swap, SwapPhase.COMMITTED, before=before, log=killed == "settlement")


@pytest.mark.parametrize("killed", KILLED)
async def test_kill_before_a_cancellation(arenas: Arenas, killed: str) -> None:
    async with arenas.case() as arena:
        async with arena.traffic() as group:
            before = await arena.tip()
            swap = await bring_to(arena, LOCKED, group)
            await arena.devnet.kill(killed)
            await arena.devnet.start(killed)
            await arena.cancel(swap)
        await arena.verify(swap, SwapPhase.ABORTED, before=before, log=killed == "settlement")


@pytest.mark.parametrize("killed", ["settlement", "alpha-0", "beta-0"])
async def test_dead_while_the_swap_is_decided(arenas: Arenas, killed: str) -> None:
    async with arenas.case() as arena:
        async with arena.traffic() as group:
            before = await arena.tip()
            swap = await bring_to(arena, LOCKED, group)
            await arena.devnet.kill(killed)
            await arena.reveal(swap)
            await arena.swap_is(swap, is_in(SwapPhase.COMMITTED), "decided")
            assert not arena.devnet.is_running(killed)
            await arena.devnet.start(killed)
        await arena.verify(swap, SwapPhase.COMMITTED, before=before, log=True)
