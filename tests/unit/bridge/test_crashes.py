"""The coordinator ends at every point that has a name, and comes back: nothing is lost or doubled.

A failpoint in mode `error` breaks the writer or a sender as a failing disk would: the coordinator ends there,
and what was not committed is gone. tests/integration kills the process itself.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from bridge import observing as observing_module
from bridge.client import RevealPolicy, SwapPhase
from deploy.node.failpoints import COUNT_VARIABLE, FAILPOINTS, FAILPOINTS_VARIABLE
from lockstep.errors import LockstepError, QueueFull, ShuttingDown, TimedOut, UnavailablePeer
from lockstep.order import Bundle, bundle_id_of
from lockstep.swap_entries import SwapEntryKind, encode_open
from lockstep.terms import decode_terms, swap_id_of
from lockstep.types import SwapId
from sequencer.client import Ordered
from sequencer.client.messages import bundle_message
from tests.unit.bridge.chain import (
    ALPHA,
    ANN,
    BETA,
    CHAIN,
    FakeOrder,
    kinds,
    locks_of,
    make_terms,
    swap_bundle,
)
from tests.unit.bridge.running import DEADLINE_S, Rig, running, started
from tests.unit.bridge.watched import FakeNode, observing, until_settled

TERMS = make_terms(reveal_within_ms=100_000)
SWAP_ID = swap_id_of(TERMS)
PREIMAGE = ANN.preimage(TERMS)


Scenario: TypeAlias = "Callable[[Life, Rig], Awaitable[None]]"


class Life:
    """A coordinator that is started again whenever it ends, and clients that ask again as they should."""

    def __init__(self, path: Path, order: FakeOrder) -> None:
        self.path = path
        self.order = order
        self.deaths = 0

    async def run(self, scenario: Scenario) -> None:
        """Go through a scenario, from its start again after each death: every step of it may be repeated."""
        async with asyncio.timeout(4 * DEADLINE_S):
            while True:
                try:
                    async with running(self.path, self.order) as rig:
                        await self._unless_dead(rig, scenario)
                        return
                except (OSError, ExceptionGroup, ShuttingDown) as failure:
                    self.deaths += 1
                    if self.deaths > 4:
                        raise AssertionError("it dies again and again") from failure

    async def _unless_dead(self, rig: Rig, scenario: Scenario) -> None:
        acting = asyncio.ensure_future(scenario(self, rig))
        await asyncio.wait((acting, rig.work), return_when=asyncio.FIRST_COMPLETED)
        if rig.work.done():
            acting.cancel()
            await asyncio.gather(acting, return_exceptions=True)
            rig.work.result()
        await acting


async def agree(life: Life, rig: Rig, policy: RevealPolicy) -> None:
    preimage = None if policy is RevealPolicy.BY_TRADER else PREIMAGE
    await rig.propose(TERMS, policy=policy, preimage=preimage)
    for leg, lock in enumerate(locks_of(TERMS)):
        await rig.accept(SWAP_ID, leg, lock)
    view = await rig.until_phase(
        SWAP_ID, SwapPhase.OPEN, SwapPhase.LOCKED, SwapPhase.REVEALED, SwapPhase.COMMITTED, SwapPhase.ABORTED
    )
    record = life.order.register.record(SWAP_ID)
    for leg in range(2):
        if not view.is_final and record is not None and record.legs[leg].verdict is None:
            life.order.attest(SWAP_ID, leg)


async def delegated(life: Life, rig: Rig) -> None:
    await agree(life, rig, RevealPolicy.DELEGATED)
    await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)


async def up_front(life: Life, rig: Rig) -> None:
    await agree(life, rig, RevealPolicy.UP_FRONT)
    await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)


async def by_trader(life: Life, rig: Rig) -> None:
    await agree(life, rig, RevealPolicy.BY_TRADER)
    await rig.until_phase(SWAP_ID, SwapPhase.LOCKED, SwapPhase.COMMITTED)
    response = await rig.reveal(SWAP_ID, PREIMAGE.reveal())
    assert await rig.reveal(SWAP_ID, PREIMAGE.reveal()) == response
    await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)


async def cancelled(life: Life, rig: Rig) -> None:
    await agree(life, rig, RevealPolicy.BY_TRADER)
    response = await rig.cancel(ANN.sign_cancel(SWAP_ID))
    assert await rig.cancel(ANN.sign_cancel(SWAP_ID)) == response
    await rig.until_phase(SWAP_ID, SwapPhase.ABORTED)


async def opened_by_another(life: Life, rig: Rig) -> None:
    if life.order.register.record(SWAP_ID) is None:
        life.order.block(swap_bundle(encode_open(TERMS), valid_until_ms=life.order.time_ms + 5_000))
    await agree(life, rig, RevealPolicy.DELEGATED)
    await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)
    assert len(life.order.entries("alpha")) >= 1


async def settled(life: Life, rig: Rig) -> None:
    nodes = {name: {"one": FakeNode(life.order, name)} for name in (ALPHA, BETA)}
    async with observing(rig, nodes):
        await agree(life, rig, RevealPolicy.DELEGATED)
        await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)
        await until_settled(rig, SWAP_ID, True, True)
    events = [event.kind for event in await rig.views.events(SWAP_ID)]
    assert events.count("settled") == 2


SCENARIOS = (delegated, up_front, by_trader, cancelled, opened_by_another, settled)


@pytest.fixture(autouse=True)
def disarmed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(observing_module, "COALESCE_MS", 1)
    yield
    FAILPOINTS.activate({})


def automatic() -> FakeOrder:
    order = started()
    order.is_automatic = True
    return order


async def hits_of(scenario: Scenario, folder: Path) -> list[tuple[str, int]]:
    """Return every crash point that a scenario passes, with how often it had been passed before."""
    count_file = folder / "hits"
    FAILPOINTS.activate({COUNT_VARIABLE: str(count_file)})
    await Life(folder / "counting.sqlite", automatic()).run(scenario)
    FAILPOINTS.activate({})
    seen: Counter[str] = Counter()
    hits = []
    for name in count_file.read_text().split():
        seen[name] += 1
        hits.append((name, seen[name]))
    return hits


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_crash_point(tmp_path: Path, scenario: Scenario) -> None:
    hits = await hits_of(scenario, tmp_path)
    assert len(hits) > 10
    deaths = 0
    for number, (name, hit) in enumerate(hits):
        FAILPOINTS.activate({FAILPOINTS_VARIABLE: f"{name}=error@{hit}"})
        order = automatic()
        life = Life(tmp_path / f"{number}.sqlite", order)
        await life.run(scenario)
        # A commit that came before the point may leave fewer hits in this run, never more than one death.
        assert life.deaths <= 1, (name, hit)
        deaths += life.deaths
        check_whole(order, scenario)
    assert deaths > len(hits) * 3 // 4


def check_whole(order: FakeOrder, scenario: object) -> None:
    """Check that the order holds everything once, and that no bundle was made anew for the same thing."""
    counts = Counter(SwapEntryKind(payload[1]).name for payload in order.entries())
    assert counts["OPEN"] == 1
    assert counts["REVEAL"] == (0 if scenario is cancelled else 1)
    assert counts["CANCEL"] == (1 if scenario is cancelled else 0)
    for payloads in (order.entries("alpha"), order.entries("beta")):
        assert len(payloads) == 1
    openings = {bundle_id_of(CHAIN, each) for each in order.submitted if kinds(each)[0] == "Open"}
    assert len(openings) == (0 if scenario is opened_by_another else 1)


def test_every_point_of_ours_is_passed_in_some_scenario(tmp_path: Path) -> None:
    passed = set()
    for number, scenario in enumerate(SCENARIOS):
        folder = tmp_path / str(number)
        folder.mkdir()
        passed |= {name for name, _ in asyncio.run(hits_of(scenario, folder))}
    ours = {name for name in FAILPOINTS.declared() if name.startswith("bridge.")}
    ours = {name for name in ours if not name.startswith("bridge.settlement")}
    assert ours - passed == set()


@pytest.mark.parametrize("seed", range(10))
async def test_random_faults_of_the_order(tmp_path: Path, seed: int) -> None:
    """Errors and lost answers at random, the coordinator dying at random: what is decided is whole."""
    randomness = random.Random(seed)
    points = [
        name for name in FAILPOINTS.declared() if name.startswith(("bridge.b", "bridge.r", "database."))
    ]
    points = [name for name in points if not name.startswith("bridge.settlement")]
    order = automatic()

    def trouble() -> LockstepError:
        kinds_of_trouble: list[LockstepError] = [
            TimedOut(peer="order"),
            UnavailablePeer(peer="order", retry_after_ms=1),
            QueueFull(queue="bundle", limit=1, retry_after_ms=1),
        ]
        return randomness.choice(kinds_of_trouble)

    order.failures = [trouble() for _ in range(randomness.randrange(3))]
    order.loses_answers = randomness.randrange(3)
    armed = ";".join(f"{name}=error@{randomness.randrange(1, 4)}" for name in randomness.sample(points, 3))
    FAILPOINTS.activate({FAILPOINTS_VARIABLE: armed})
    await Life(tmp_path / "bridge.sqlite", order).run(delegated)
    check_whole(order, delegated)


async def test_a_bundle_is_durable_before_it_is_sent(tmp_path: Path) -> None:
    """Whatever the order is handed is in the database already, byte for byte."""

    class Looking(FakeOrder):
        rig: Rig

        async def submit(self, bundle: Bundle, *, timeout_ms: int = 10_000) -> Ordered:
            stored = [row[0] for row in await self.rig.database.read("SELECT bundle FROM sendings")]
            assert bundle_message(bundle).SerializeToString() in stored
            return await super().submit(bundle, timeout_ms=timeout_ms)

    order = Looking(is_automatic=True)
    order.block()
    async with running(tmp_path / "bridge.sqlite", order) as rig:
        order.rig = rig
        await delegated(Life(tmp_path, order), rig)
    assert [kinds(each) for each in order.submitted] == [["Open", "alpha", "beta"], ["Reveal"]]


async def test_the_window_passes_while_it_is_down(tmp_path: Path) -> None:
    order = started()
    path = tmp_path / "bridge.sqlite"
    async with running(path, order) as rig:
        await rig.propose(TERMS)
        await rig.give(TERMS)
        await rig.until(lambda: bool(order.waiting))
    order.waiting.clear()
    order.pass_time(decode_terms(TERMS).lock_by_ms)
    async with running(path, order) as rig:
        await rig.until_phase(SWAP_ID, SwapPhase.LAPSED)
        assert rig.coordinator.book.sendings() == []
    assert len({bundle_id_of(CHAIN, each) for each in order.submitted}) == 1


async def test_it_is_ordered_and_decided_while_it_is_down(tmp_path: Path) -> None:
    order = started()
    path = tmp_path / "bridge.sqlite"
    async with running(path, order) as rig:
        await rig.propose(TERMS)
        await rig.give(TERMS)
        await rig.until(lambda: bool(order.waiting))
    order.block()
    for leg in range(2):
        order.attest(SwapId(SWAP_ID), leg)
    order.pass_time(decode_terms(TERMS).expires_ms)
    async with running(path, order) as rig:
        view = await rig.until_phase(SWAP_ID, SwapPhase.ABORTED)
        assert view.opened_height == 2
