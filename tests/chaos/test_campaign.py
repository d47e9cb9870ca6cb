"""A slice of the campaign: each named point of a swap in each process once, in a mode that the seed gives.

Each run of CI has another seed, so that the modes rotate; LOCKSTEP_TEST_SEED repeats one. Of the system calls
it has some, chosen by the seed.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import pytest_asyncio

from bridge.client import SwapPhase
from deploy.node.failpoints import FAILPOINTS
from tests.chaos import campaign, crashing
from tests.chaos.arenas import Arenas
from tests.chaos.campaign import Tally, enumerate_faults, load_shim, one_of_each, parse_fault
from tests.chaos.crashing import CALL, PROCESSES, Counted, Fault, modes_of
from tests.chaos.moments import MAKER, TAKER
from tests.tools.shim import Operation

pytestmark = [pytest.mark.processes, pytest.mark.needs_gcc, pytest.mark.asyncio(loop_scope="module")]

CALLS_MAX = 8
"""Faults below Python that are run here for each process; the documented campaign runs them all."""

ELSEWHERE = frozenset(
    {
        # Only a swap that somebody opened past the coordinator has locks that are sent alone.
        "bridge.lock.before_send",
        "bridge.lock.persisted",
        "bridge.lock.sent",
        # For keys and payments, which replace no file; a swap makes none.
        "file.create.after",
        "file.create.before",
        "file.create.write",
        # A swap changes no registry, and is over before the log's next checkpoint is ordered.
        "sequencer.checkpoint.before_order",
        "sequencer.checkpoint.ordered",
        "sequencer.registration.before_send",
        "sequencer.registration.sent",
    }
)
"""Points that the swap does not pass; others' tests do."""


@pytest.fixture(scope="module")
def seed() -> int:
    """What gives hits and modes."""
    chosen = int(os.environ.get("LOCKSTEP_TEST_SEED", random.randrange(2**32)))
    sys.stdout.write(f"LOCKSTEP_TEST_SEED={chosen}\n")
    return chosen


@pytest.fixture(scope="module", autouse=True)
def shim_loaded() -> Iterator[None]:
    """Processes that are forked see their system calls, and only while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", "")
        patch.delenv("LD_PRELOAD")
        load_shim()
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faults(shim_loaded: None, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Fault]:
    """Every fault of a swap."""
    counting = Arenas(tmp_path_factory.mktemp("counting"))
    found = await enumerate_faults(counting, PROCESSES)
    await counting.close()
    return found


async def test_a_swap_passes_every_point(faults: Sequence[Fault]) -> None:
    passed = {fault.point for fault in faults}
    assert FAILPOINTS.declared().keys() - ELSEWHERE <= passed, "what no swap passes stands in ELSEWHERE"


@pytest.mark.parametrize("process", PROCESSES)
async def test_each_point_once(arenas: Arenas, faults: Sequence[Fault], process: str, seed: int) -> None:
    tally = Tally(seed)
    chosen = one_of_each([fault for fault in faults if fault.process == process], seed)
    random.Random(seed).shuffle(chosen)
    points = [fault for fault in chosen if not fault.is_call]
    calls = [fault for fault in chosen if fault.is_call][:CALLS_MAX]
    await campaign.campaign(arenas, [*points, *calls], tally, until_s=None, journal=None)
    assert tally.is_good, "\n".join(tally.lines())
    assert tally.struck.total() > len(points) // 2, "\n".join(tally.lines())


async def test_it_turns_red_if_a_process_ends_as_it_must_not(
    arenas: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crashing, "STORAGE_FAILED", 5)
    tally = Tally(0)
    fault = parse_fault("settlement/COMMITTED/database.commit.before@1/error")
    await campaign.campaign(arenas, [fault], tally, until_s=None, journal=None)
    assert tally.failed == [fault]
    assert any(line.endswith(f"--fault '{fault}'") for line in tally.lines())


async def test_a_fault_is_typed_as_it_is_shown() -> None:
    for fault in (
        Fault("sequencer", SwapPhase.ABORTED, "cell.store.before", 3, "torn"),
        Fault(TAKER, SwapPhase.COMMITTED, CALL, 12, "eio"),
    ):
        assert parse_fault(str(fault)) == fault


async def test_what_can_happen_where() -> None:
    assert modes_of("cell.store.before") == ("kill", "torn", "error", "enospc", "linger(200)", "delay(200)")
    assert modes_of("file.replace.after") == ("kill", "error", "enospc", "linger(200)", "delay(200)")
    assert modes_of("bridge.reveal.sent") == ("kill", "delay(200)")


async def test_every_hit_and_every_call_has_its_faults() -> None:
    counted = Counted(Counter({"bridge.reveal.sent": 2}), (Operation.WRITE, Operation.SYNC))
    faults = list(counted.faults(MAKER, SwapPhase.COMMITTED))
    assert len(faults) == len(set(faults)) == 2 * 2 + 5 + 4
    assert {len(one_of_each(faults, seed)) for seed in range(5)} == {3}
    assert len({one_of_each(faults, seed)[0].mode for seed in range(20)}) > 1
