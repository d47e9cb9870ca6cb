"""A process that dies at a named point inside it, while it does its part of a swap."""

import asyncio
import signal

import pytest

from bridge.client import SwapPhase
from deploy.demonstration.market import OpenSwap
from deploy.node.database import COMMIT_BEFORE
from tests.chaos.arena import Arena
from tests.chaos.arenas import Arenas

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

BUNDLES = (
    # Bundles that are ordered, and whose senders are never told.
    ("opening", 1),
    ("first-attestation", 2),
    ("second-attestation", 3),
    ("reveal", 4),
)

# So that a receipt is there before the block that has the bundle is written down, which ends the sending.
SLOW_DISK = f"{COMMIT_BEFORE}=delay(300)"

POINTS = (
    # Blocks, empty ones too: the first few pass until the swap is under way.
    ("sequencer", "sequencer.block.before_commit=kill@5"),
    ("sequencer", "sequencer.block.committed=kill@5"),
    ("sequencer", "sequencer.block.recorded=kill@6"),
    ("sequencer", "sequencer.block.signed=kill@5"),
    ("sequencer", "sequencer.block.published=kill@6"),
    ("sequencer", "sequencer.anchor.sent=kill@1"),
    ("alpha-0", "rollup.attest.before_send=kill@1"),
    ("alpha-0", "rollup.attest.sent=kill@1"),
    ("beta-0", "rollup.block.before_commit=kill@5"),
    ("beta-0", "rollup.block.committed=kill@5"),
    ("beta-0", "rollup.attest.before_send=kill@1"),
    ("beta-0", "rollup.attest.sent=kill@1"),
    ("beta-0", "rollup.commitment.stored=kill@1"),
    ("beta-0", "rollup.commitment.sent=kill@1"),
    ("bridge", "bridge.proposal.persisted=kill@1"),
    ("bridge", "bridge.accept.persisted=kill@1"),
    ("bridge", "bridge.accept.persisted=kill@2"),
    ("bridge", "bridge.bundle.before_send=kill@1"),
    ("bridge", f"bridge.bundle.sent=kill@1;{SLOW_DISK}"),
    ("bridge", "bridge.batch.before_commit=kill@4"),
    # Blocks with something for it: the opening's, then an attestation's.
    ("bridge", "bridge.block.persisted=kill@2"),
    ("bridge", "bridge.reveal.before_send=kill@1"),
    ("bridge", f"bridge.reveal.sent=kill@1;{SLOW_DISK}"),
    ("settlement", "settlement.append.committed=kill@1"),
    # The first checkpoint is made at the start.
    ("settlement", "settlement.checkpoint.stored=kill@2"),
    ("settlement", "settlement.checkpoint.signed=kill@2"),
    ("settlement", "settlement.checkpoint.published=kill@1"),
)

REVIVAL_S_MAX = 30


@pytest.mark.parametrize(
    ("killed", "point"),
    POINTS,
    ids=[f"{killed}-{point.partition(';')[0].replace('=kill', '')}" for killed, point in POINTS],
)
async def test_kill_at(arenas: Arenas, killed: str, point: str) -> None:
    async with arenas.case() as arena:
        before = await arena.tip()
        await arena.devnet.restart(killed, failpoints=point)
        async with arena.traffic() as group:
            swap = await swap_beside_a_kill(arena, killed, point, group)
        await arena.verify(swap, SwapPhase.COMMITTED, before=before, log=has_to_do_with_the_log(point))


@pytest.mark.parametrize(("bundle", "hit"), BUNDLES, ids=[bundle for bundle, _ in BUNDLES])
async def test_kill_before_an_acknowledgement(arenas: Arenas, bundle: str, hit: int) -> None:
    async with arenas.case() as arena:
        await arena.acknowledge_some()
        before = await arena.tip()
        # From here on nothing but the swap is ordered, so that its bundles can be counted.
        point = f"sequencer.submit.before_ack=kill@{hit}"
        await arena.devnet.restart("sequencer", failpoints=point)
        async with asyncio.TaskGroup() as group:
            swap = await swap_beside_a_kill(arena, "sequencer", point, group)
        await arena.verify(swap, SwapPhase.COMMITTED, before=before, log=False)


async def swap_beside_a_kill(arena: Arena, killed: str, point: str, group: asyncio.TaskGroup) -> OpenSwap:
    """Swap while a process that was armed dies and is started again; `group` waits for that."""
    group.create_task(revive(arena, killed, point))
    swap = await arena.propose()
    await arena.lock_last(swap)
    await arena.swap_is(swap, lambda view: view.phase is SwapPhase.LOCKED, "locked")
    await arena.reveal(swap)
    return swap


def has_to_do_with_the_log(point: str) -> bool:
    return any(part in point for part in ("anchor", "commitment", "settlement"))


async def revive(arena: Arena, killed: str, point: str) -> None:
    """Wait until a process kills itself, and start it without the failpoint."""
    try:
        async with asyncio.timeout(REVIVAL_S_MAX):
            assert await arena.devnet.ended(killed) == -signal.SIGKILL
    except TimeoutError:
        raise TimeoutError(f"{killed} never came to {point}") from None
    await arena.devnet.start(killed)
