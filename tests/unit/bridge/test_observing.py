"""Rollups and settlement log are asked how far they have got: who is believed, and what comes of it."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from bridge import observing as module
from bridge.client import CommitLevel, SwapPhase
from bridge.observing import Node
from bridge.storage import APPLICATION_ID, SCHEMA, load
from deploy.node.database import open_database
from lockstep import limits
from lockstep.errors import Contradiction, UnavailablePeer
from lockstep.swap_entries import Verdict, encode_open
from lockstep.terms import swap_id_of
from lockstep.types import RollupId, SwapId
from tests.unit.bridge.chain import ALPHA, ANN, BETA, GENESIS, FakeOrder, make_terms, swap_bundle
from tests.unit.bridge.running import Rig, running, started
from tests.unit.bridge.test_coordinator import locked, opened
from tests.unit.bridge.watched import FakeLog, FakeNode, observing, until_level, until_settled

TERMS = make_terms()
SWAP_ID = swap_id_of(TERMS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.sqlite"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nobody wait between questions, nor for more news."""
    for name in ("PAUSE_MS", "ANCHOR_MS", "COALESCE_MS"):
        monkeypatch.setattr(module, name, 1)
    yield
    structlog.reset_defaults()


def nodes_of(order: FakeOrder) -> dict[RollupId, dict[str, Node]]:
    return {name: {"one": FakeNode(order, name)} for name in (ALPHA, BETA)}


async def committed(rig: Rig, terms_bytes: bytes = TERMS) -> SwapId:
    """See a swap through until it is committed."""
    swap_id = await opened(rig, terms_bytes)
    await locked(rig, swap_id)
    asked = asyncio.create_task(rig.reveal(swap_id, ANN.preimage(terms_bytes).reveal()))
    await rig.until_sent(["Reveal"])
    rig.order.block()
    await asked
    return swap_id


async def events_of(rig: Rig, swap_id: SwapId = SWAP_ID) -> list[str]:
    return [event.kind for event in await rig.views.events(swap_id)]


async def waiting(rig: Rig) -> list[tuple[object, ...]]:
    return await rig.database.read("SELECT * FROM waiting_steps")


# --- what comes of answers ----------------------------------------------------------------------------------


async def test_a_swap_rises_and_begins_anew_with_the_decision(path: Path) -> None:
    order = started()
    log = FakeLog(order)
    async with running(path, order) as rig:
        swap_id = await opened(rig)
        async with observing(rig, nodes_of(order), log):
            await until_level(rig, swap_id, CommitLevel.EXECUTED)
            log.heights = dict.fromkeys((ALPHA, BETA), order.tip.height)
            await until_level(rig, swap_id, CommitLevel.ANCHORED)
            view = await rig.swap(swap_id)
            assert (view.phase, [leg.settled for leg in view.legs]) == (SwapPhase.OPEN, [False, False])
        await locked(rig, swap_id)
        # An attestation is no step of its own.
        assert (await rig.swap(swap_id)).level is CommitLevel.ANCHORED
        order.is_automatic = True
        await rig.reveal(swap_id, ANN.preimage(TERMS).reveal())
        view = await rig.swap(swap_id)
        assert (view.level, [leg.settled for leg in view.legs]) == (CommitLevel.ORDERED, [False, False])
        async with observing(rig, nodes_of(order), log):
            await until_level(rig, swap_id, CommitLevel.EXECUTED)
            assert (await until_settled(rig, swap_id, True, True)).sequence > view.sequence
            log.heights = dict.fromkeys((ALPHA, BETA), order.tip.height)
            await until_level(rig, swap_id, CommitLevel.ANCHORED)
        assert (await events_of(rig))[-6:] == [
            *("revealed", "decided", "settled", "settled", "executed", "anchored")
        ]
        assert await waiting(rig) == []
        view = await rig.swap(swap_id)
    async with running(path, order) as rig:
        assert await rig.swap(swap_id) == view
        loaded = await load(rig.database, GENESIS, new_sequence=1)
        assert loaded.checkpoint == log.seen
        assert loaded.heights.anchored(ALPHA) == view.decided_height


async def test_a_decision_is_waited_for_instead_of_the_opening(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        assert {row[2] for row in await waiting(rig)} == {2}
        order.attest(SWAP_ID, 0, Verdict.REJECTED)
        await rig.until_followed()
        rows = await waiting(rig)
        # Both rollups, each as its node and as the log has it.
        assert (len(rows), {row[2] for row in rows}) == (4, {order.tip.height})


async def test_each_leg_is_settled_by_its_own_rollup(path: Path) -> None:
    order = started()
    nodes = nodes_of(order)
    beta = nodes[BETA]["one"]
    assert isinstance(beta, FakeNode)
    beta.is_up = False
    async with running(path, order) as rig:
        swap_id = await committed(rig)
        with capture_logs() as logs:
            async with observing(rig, nodes):
                view = await until_settled(rig, swap_id, True, False)
                await rig.until(lambda: len(beta.asked) > 3)
                assert view.level is CommitLevel.ORDERED
                beta.is_up = True
                await until_level(rig, swap_id, CommitLevel.EXECUTED)
        told = [entry["event"] for entry in logs if "follow" in entry["event"]]
        assert told == ["rollup_not_followed", "followed_again"]


async def test_the_log_alone_tells_what_is_executed(path: Path) -> None:
    order = started()
    log = FakeLog(order)
    async with running(path, order) as rig:
        swap_id = await committed(rig)
        async with observing(rig, {}, log):
            log.heights = {ALPHA: order.tip.height}
            view = await until_settled(rig, swap_id, True, False)
            assert view.level is CommitLevel.ORDERED
            log.heights = {ALPHA: order.tip.height, BETA: order.tip.height}
            await until_level(rig, swap_id, CommitLevel.ANCHORED)


async def test_many_swaps_rise_part_by_part(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_STEPS", 3)
    order = started()
    async with running(path, order) as rig:
        swap_ids = [await opened(rig, make_terms(number)) for number in range(5)]
        for swap_id in swap_ids[:3]:
            order.attest(swap_id, 0, Verdict.REJECTED)
        await rig.until_followed()
        first = rig.coordinator.book.durable_sequence
        async with observing(rig, nodes_of(order)):
            for swap_id in swap_ids:
                await until_level(rig, swap_id, CommitLevel.EXECUTED)
        changes = await rig.views.changes(first, 100)
        assert {change.swap_id for change in changes} == set(swap_ids)
        assert [change.sequence for change in changes] == list(range(first, first + len(changes)))


async def test_a_swap_that_is_opened_again_begins_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        order.attest(SWAP_ID, 0, Verdict.REJECTED)
        await rig.until_followed()
        async with observing(rig, nodes_of(order)):
            await until_level(rig, SWAP_ID, CommitLevel.EXECUTED)
        await opened(rig, make_terms(1))
        order.block(swap_bundle(encode_open(TERMS), valid_until_ms=order.time_ms + 5_000))
        view = await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        assert (view.level, [leg.settled for leg in view.legs]) == (CommitLevel.ORDERED, [False, False])
        async with observing(rig, nodes_of(order)):
            await until_level(rig, SWAP_ID, CommitLevel.EXECUTED)


# --- who is asked, and who is believed ----------------------------------------------------------------------


async def test_nobody_is_asked_while_nothing_waits(path: Path) -> None:
    order = started()
    log, nodes = FakeLog(order), nodes_of(order)
    async with running(path, order) as rig, observing(rig, nodes, log):
        swap_id = await opened(rig)
        await until_level(rig, swap_id, CommitLevel.EXECUTED)
        log.heights = dict.fromkeys((ALPHA, BETA), order.tip.height)
        await until_level(rig, swap_id, CommitLevel.ANCHORED)
        asked = log.asked, [len(_fake(nodes, name).asked) for name in (ALPHA, BETA)]
        await rig.propose(make_terms(1))
        for _ in range(20):
            order.block()
            await rig.until_followed()
        assert (log.asked, [len(_fake(nodes, name).asked) for name in (ALPHA, BETA)]) == asked


async def test_a_node_on_another_order_is_not_believed(path: Path) -> None:
    order = started()
    nodes = nodes_of(order)
    astray, other = _fake(nodes, BETA), FakeNode(order, BETA, is_up=False)
    astray.is_astray = True
    nodes[BETA]["other"] = other
    async with running(path, order) as rig:
        swap_id = await committed(rig)
        with capture_logs() as logs:
            async with observing(rig, nodes):
                await rig.until(lambda: len(other.asked) > 2)
                assert (await rig.swap(swap_id)).level is CommitLevel.ORDERED
                other.is_up = True
                await until_level(rig, swap_id, CommitLevel.EXECUTED)
                # Who answered is asked first from now on.
                asked = len(astray.asked)
                await until_level(rig, await opened(rig, make_terms(1)), CommitLevel.EXECUTED)
                assert len(astray.asked) == asked
        told = [entry for entry in logs if entry["event"] == "rollup_not_followed"]
        reasons = {entry["peer"]: entry["reason"] for entry in told}
        assert "another order" in reasons["the node of beta at one"]
        assert set(reasons) == {"the node of beta at one", "the node of beta at other"}


async def test_a_node_that_catches_up_is_not_asked_for_ever_more(path: Path) -> None:
    order = started()
    nodes = nodes_of(order)
    beta = _fake(nodes, BETA)
    async with running(path, order) as rig:
        swap_id = await committed(rig)
        beta.executed = order.tip.height - 1
        async with observing(rig, nodes):
            await rig.until(lambda: bool(beta.asked))
            for _ in range(5):
                order.block()
            await rig.until_followed()
            # As far behind the order as before, but there for what was waited for.
            beta.executed += 1
            await until_level(rig, swap_id, CommitLevel.EXECUTED)
            assert set(beta.asked) == {beta.executed}


async def test_a_log_on_another_order_is_not_believed(path: Path) -> None:
    order = started()
    log = FakeLog(order, is_astray=True)
    async with running(path, order) as rig:
        swap_id = await committed(rig)
        log.heights = dict.fromkeys((ALPHA, BETA), order.tip.height)
        with capture_logs() as logs:
            async with observing(rig, nodes_of(order), log):
                await until_level(rig, swap_id, CommitLevel.EXECUTED)
                await rig.until(lambda: log.asked > 3)
        [told] = [entry for entry in logs if entry["event"] == "settlement_log_not_followed"]
        assert "another order" in told["reason"]
        assert (await rig.swap(swap_id)).level is CommitLevel.EXECUTED


async def test_a_log_that_is_away_is_told_of_once_and_asked_on(path: Path) -> None:
    order = started()
    log = FakeLog(order, failures=[UnavailablePeer(peer="log")] * 3)
    async with running(path, order) as rig:
        swap_id = await committed(rig)
        log.heights = dict.fromkeys((ALPHA, BETA), order.tip.height)
        with capture_logs() as logs:
            async with observing(rig, {}, log):
                await until_level(rig, swap_id, CommitLevel.ANCHORED)
        told = [entry["event"] for entry in logs if "follow" in entry["event"]]
        assert told == ["settlement_log_not_followed", "followed_again"]


async def test_a_log_that_went_back_on_a_checkpoint_is_asked_nothing_more(path: Path) -> None:
    order = started()
    log = FakeLog(order, failures=[Contradiction(what="checkpoint", evidence="both")])
    async with running(path, order) as rig:
        swap_id = await committed(rig)
        log.heights = dict.fromkeys((ALPHA, BETA), order.tip.height)
        with capture_logs() as logs:
            async with observing(rig, nodes_of(order), log):
                await until_level(rig, swap_id, CommitLevel.EXECUTED)
                other = await opened(rig, make_terms(1))
                await until_level(rig, other, CommitLevel.EXECUTED)
        assert [each["event"] for each in logs if each["log_level"] == "error"] == [
            "settlement_log_contradicted_itself"
        ]
        assert log.asked == 1


async def test_an_older_database_is_taken_over(path: Path) -> None:
    async with open_database(path, schema=SCHEMA[:1], application_id=APPLICATION_ID) as database:
        row = (1, SWAP_ID, TERMS, 6, 1, 1, 7, 9, b"")
        await database.transact([("INSERT INTO swaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [row])])
        happened = [(SWAP_ID, place, b"event %d" % place) for place in (1, 2)]
        stranger = (bytes(32), 1, b"of a swap that is not there")
        await database.transact(
            [
                ("INSERT INTO events VALUES (?, ?, ?)", [*happened, stranger]),
                ("INSERT INTO acted VALUES (?, ?, ?)", [(SWAP_ID, 3, b"response")]),
            ]
        )
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
        assert await database.read("SELECT level FROM swaps") == [(CommitLevel.ORDERED,)]
        assert await database.read(
            "SELECT number, place, event FROM events WHERE sound(seal, number, place, event)"
        ) == [(1, 1, b"event 1"), (1, 2, b"event 2")]
        assert await database.read(
            "SELECT number, kind, response FROM acted WHERE sound(seal, number, kind, response)"
        ) == [(1, 3, b"response")]


def _fake(nodes: Mapping[RollupId, Mapping[str, Node]], name: RollupId) -> FakeNode:
    node = nodes[name]["one"]
    assert isinstance(node, FakeNode)
    return node
