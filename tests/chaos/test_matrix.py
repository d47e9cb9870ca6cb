"""What runs of the matrix each time: every single and every pair at every moment, and some triples.

`python -m tests.chaos.matrix` runs all of it. Two networks are used side by side, since a case waits more
than it computes. A failure ends with the command that repeats its case.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from deploy.devnet.network import PROCESS_NAMES
from tests.chaos.arena import REPLICA
from tests.chaos.arenas import Arenas
from tests.chaos.matrix import VICTIMS, Case, cases, command_for, run_case
from tests.chaos.moments import MOMENTS, TRADERS, Moment

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

LANES = 2
"""Networks side by side."""

TRIPLES = 32
"""How many of the sets of three are run, each time others."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lanes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sequence[Arenas]]:
    made = [Arenas(tmp_path_factory.mktemp(f"lane-{lane}")) for lane in range(LANES)]
    yield made
    for arenas in made:
        await arenas.close()


@pytest.fixture(scope="module")
def seed() -> int:
    """Gives the triples and the restarts; a failure names it. LOCKSTEP_TEST_SEED repeats a run."""
    return int(os.environ.get("LOCKSTEP_TEST_SEED", random.randrange(2**32)))


async def test_whoever_can_die_dies() -> None:
    assert {*PROCESS_NAMES} - {*VICTIMS} == {REPLICA, "gamma-0"}
    assert {*VICTIMS} - {*PROCESS_NAMES} == {*TRADERS}
    assert len(set(map(str, cases((1, 2, 3))))) == len(MOMENTS) * (7 + 21 + 35)


@pytest.mark.parametrize("size", [1, 2], ids=["alone", "in-pairs"])
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
async def test_killed(lanes: Sequence[Arenas], seed: int, moment: Moment, size: int) -> None:
    await run_all(lanes, [case for case in cases((size,)) if case.moment is moment], seed)


async def test_killed_in_threes(lanes: Sequence[Arenas], seed: int) -> None:
    await run_all(lanes, random.Random(seed).sample(cases((3,)), TRIPLES), seed)


async def test_the_auditor_finds_nothing_afterwards(lanes: Sequence[Arenas]) -> None:
    # Of the networks of all cases above, but for those on which a case failed.
    for arenas in lanes:
        await arenas.audit()


async def run_all(lanes: Sequence[Arenas], chosen: Sequence[Case], seed: int) -> None:
    """Run cases on all lanes until one fails."""
    left = iter(chosen)

    async def run(arenas: Arenas) -> None:
        for case in left:
            try:
                async with arenas.case() as arena:
                    await run_case(arena, case, seed)
            except Exception as failure:
                failure.add_note(f"to repeat it: {command_for(case, seed)}")
                raise

    async with asyncio.TaskGroup() as group:
        for arenas in lanes:
            group.create_task(run(arenas))
