"""What ExplainSwap says: every entry about a swap, also those that did nothing, and who is waited for."""

from pathlib import Path

import pytest

from bridge import writing
from bridge.client import SwapPhase
from bridge.levels import Asked
from lockstep.swap_entries import Verdict, encode_open, encode_reveal
from lockstep.terms import swap_id_of
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2
from tests.unit.bridge.chain import ALPHA, ANN, BETA, BOB, FakeOrder, make_terms, swap_bundle
from tests.unit.bridge.running import Rig, running, started
from tests.unit.bridge.test_coordinator import locked, opened
from tests.unit.bridge.watched import FakeNode, observing, until_settled

TERMS = make_terms()
SWAP_ID = swap_id_of(TERMS)
PREIMAGE = ANN.preimage(TERMS).reveal()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.sqlite"


async def explained(rig: Rig, swap_id: SwapId = SWAP_ID) -> bridge_pb2.ExplainSwapResponse:
    return await rig.service.explain(bridge_pb2.ExplainSwapRequest(swap_id=swap_id))


async def in_the_order(rig: Rig) -> list[tuple[int, int, str, str]]:
    """Return what is told of blocks."""
    events = (await explained(rig)).events
    return [(each.height, each.index, each.kind, each.text) for each in events if each.height]


def order_uselessly(order: FakeOrder, *entries: bytes) -> None:
    """Order entries that the register ignores, which the real sequencer would refuse unless they race."""
    order.block(swap_bundle(*entries, valid_until_ms=order.time_ms + 5_000), takes_waiting=False)


async def test_entries_that_did_nothing_are_told_with_their_reason(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        # Before the swap is in the order nothing of it is anybody's to tell.
        await rig.propose(TERMS)
        order_uselessly(order, encode_reveal(SWAP_ID, PREIMAGE))
        await opened(rig)
        order_uselessly(order, encode_open(TERMS), encode_reveal(SWAP_ID, bytes(32)))
        order.attest(SWAP_ID, 0, Verdict.REJECTED)
        order.block(order.attest(SWAP_ID, 1, in_block=False))
        order_uselessly(order, ANN.sign_cancel(SWAP_ID), b"nothing at all")
        await rig.until_followed()
        before = await in_the_order(rig)
    assert [(height, index, kind) for height, index, kind, _ in before] == [
        *((3, 0, "opened"), (4, 0, "ignored"), (4, 1, "ignored")),
        *((5, 0, "attested"), (5, 0, "decided"), (6, 0, "ignored"), (7, 0, "ignored")),
    ]
    texts = [text for *_, kind, text in before if kind == "ignored"]
    for text, start in zip(
        texts, ("another opening", "a reveal", "an attestation", "a cancellation"), strict=True
    ):
        assert text.startswith(f"{start} did nothing: ")
    # The same from the order alone, whatever was proposed here before.
    for file in path.parent.glob("bridge.sqlite*"):
        file.unlink()
    async with running(path, order) as rig:
        assert await in_the_order(rig) == before


async def test_a_flood_of_entries_that_do_nothing_is_not_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "EVENTS_WITH_IGNORED_MAX", 8)
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        order_uselessly(order, *[encode_open(TERMS)] * 20)
        order_uselessly(order, encode_open(make_terms(1)), *[encode_reveal(SwapId(bytes(32)), PREIMAGE)] * 20)
        await locked(rig, SWAP_ID)
        assert [event.kind for event in (await explained(rig)).events] == [
            *("proposed", "given", "given", "submitted", "opened", *["ignored"] * 3),
            # What touched the swap is told however many did not.
            *("attested", "attested"),
        ]
        kept = await rig.database.read("SELECT number FROM events EXCEPT SELECT number FROM swaps")
        assert kept == []


async def test_who_is_waited_for_at_every_step(path: Path) -> None:
    order = started()
    nodes = {name: {"one": FakeNode(order, name)} for name in (ALPHA, BETA)}
    async with running(path, order) as rig:
        rig.service._asked = Asked(frozenset(nodes), has_log=True)
        await rig.propose(TERMS)
        await rig.accept(SWAP_ID, 0, ANN.sign_lock(TERMS, 0))
        assert (await explained(rig)).waiting_for == "the senders of leg 1 (beta), until 1020000"
        await rig.accept(SWAP_ID, 1, BOB.sign_lock(TERMS, 1))
        assert (await explained(rig)).waiting_for == "the sequencer, until 1020000"
        await rig.until(lambda: bool(order.waiting))
        order.block()
        order.attest(SWAP_ID, 0)
        await rig.until_followed()
        assert (await explained(rig)).waiting_for == (
            "the attesters of leg 1 (beta), until 1020000; beta to execute the opening in block 2"
        )
        order.attest(SWAP_ID, 1)
        await rig.until_phase(SWAP_ID, SwapPhase.LOCKED)
        assert (await explained(rig)).waiting_for == "the holder of the preimage, until 1040000"
        order.is_automatic = True
        await rig.reveal(SWAP_ID, PREIMAGE)
        nodes[BETA]["one"].is_up = False
        async with observing(rig, nodes):
            await until_settled(rig, SWAP_ID, True, False)
            waits = (await explained(rig)).waiting_for
            assert waits == (
                "beta to execute the decision in block 5; "
                "the settlement log to anchor the decision in block 5 for alpha, beta"
            )
            nodes[BETA]["one"].is_up = True
            await until_settled(rig, SWAP_ID, True, True)
        assert (await explained(rig)).waiting_for.startswith("the settlement log")
        rig.service._asked = Asked(frozenset(nodes), has_log=False)
        assert (await explained(rig)).waiting_for == ""
