"""What a coordinator keeps, forgets, and gets back out of the order; and how it takes in many blocks."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from bridge import writing
from bridge.client import AbortReason, RevealPolicy, SwapPhase
from bridge.coordinator import Coordinator
from lockstep import limits
from lockstep.header import Tip
from lockstep.order import Bundle, Transaction
from lockstep.swap_entries import Verdict, encode_open
from lockstep.terms import decode_terms, swap_id_of
from lockstep.types import REGISTRY_NAMESPACE, Height, Namespace, PublicKey
from sequencer.client import FollowedBlock, KeyAt
from tests.unit.bridge.chain import (
    ANN,
    FakeOrder,
    make_terms,
    swap_bundle,
)
from tests.unit.bridge.running import running, started
from tests.unit.bridge.test_coordinator import locked, opened

TERMS = make_terms()
SWAP_ID = swap_id_of(TERMS)
PREIMAGE = ANN.preimage(TERMS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.sqlite"


# --- what is lost with the database -------------------------------------------------------------------------


async def test_a_deleted_database_is_rebuilt_from_the_order(path: Path) -> None:
    order = started()
    others = [make_terms(number) for number in (1, 2, 3)]
    async with running(path, order) as rig:
        await opened(rig, policy=RevealPolicy.DELEGATED, preimage=PREIMAGE)
        for terms_bytes in others:
            await opened(rig, terms_bytes)
        order.attest(swap_id_of(others[0]), 0, Verdict.REJECTED)
        await locked(rig, swap_id_of(others[1]))
        order.is_automatic = True
        await rig.reveal(swap_id_of(others[1]), ANN.preimage(others[1]).reveal())
        order.is_automatic = False
        before = [await rig.swap(swap_id_of(terms_bytes)) for terms_bytes in (TERMS, *others)]
        root = rig.coordinator.book.register.root
    for file in path.parent.glob("bridge.sqlite*"):
        file.unlink()
    async with running(path, order) as rig:
        after = [await rig.swap(swap_id_of(terms_bytes)) for terms_bytes in (TERMS, *others)]
        assert rig.coordinator.book.register.root == root
        for old, new in zip(before, after, strict=True):
            assert (new.phase, new.abort_reason, new.preimage) == (old.phase, old.abort_reason, old.preimage)
            assert (new.opened_height, new.decided_height) == (old.opened_height, old.decided_height)
        # The delegated preimage is lost with it, until its owner gives it again.
        await locked(rig, SWAP_ID)
        assert not order.waiting
        await rig.propose(TERMS, policy=RevealPolicy.DELEGATED, preimage=PREIMAGE)
        await rig.until_sent(["Reveal"])
        order.block()
        await rig.until_phase(SWAP_ID, SwapPhase.COMMITTED)


async def test_preimages_are_kept_no_longer_than_needed(path: Path) -> None:
    order = started()
    async with running(path, order) as rig:
        await opened(rig, policy=RevealPolicy.DELEGATED, preimage=PREIMAGE)
        assert await rig.database.read("SELECT preimage FROM preimages") == [(PREIMAGE.reveal(),)]
        order.pass_time(decode_terms(TERMS).lock_by_ms)
        await rig.until_phase(SWAP_ID, SwapPhase.ABORTED)
        assert await rig.database.read("SELECT preimage FROM preimages") == []


async def test_a_full_register_opens_the_same_terms_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
    order = started()
    async with running(path, order) as rig:
        await opened(rig)
        order.attest(SWAP_ID, 0, Verdict.REJECTED)
        first = await rig.until_phase(SWAP_ID, SwapPhase.ABORTED)
        other = await opened(rig, make_terms(1))
        assert order.register.record(SWAP_ID) is None
        # The other one has no attested leg, and is crowded out by the first's second opening.
        order.block(swap_bundle(encode_open(TERMS), valid_until_ms=order.time_ms + 5_000))
        view = await rig.until_phase(SWAP_ID, SwapPhase.OPEN)
        assert view.opened_height > first.opened_height
        assert (view.decided_height, view.abort_reason) == (0, AbortReason.NONE)
        assert (await rig.swap(other)).abort_reason is AbortReason.CROWDED_OUT
    async with running(path, order) as rig:
        await locked(rig, SWAP_ID)
        await rig.until_phase(SWAP_ID, SwapPhase.LOCKED)


async def test_an_opening_that_the_register_ignored_lapses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
    order = started()
    async with running(path, order) as rig:
        swap_id = await opened(rig, make_terms(1))
        order.attest(swap_id, 0)
        # With an attested leg it cannot be crowded out: the register has no room.
        order.is_admitting = False
        await rig.propose(TERMS)
        await rig.give(TERMS)
        await rig.until(lambda: bool(order.waiting))
        order.block()
        await rig.until_followed()
        assert (await rig.swap(SWAP_ID)).phase is SwapPhase.SUBMITTED
        assert not rig.coordinator.book.live[SWAP_ID].sendings
        order.pass_time(decode_terms(TERMS).lock_by_ms)
        await rig.until_phase(SWAP_ID, SwapPhase.LAPSED)


async def test_what_lapsed_is_forgotten_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LAPSED_KEPT_MS", 10_000)
    order = started()
    async with running(path, order) as rig:
        await rig.propose(TERMS, key=b"k")
        swap_id = await opened(rig, make_terms(1))
        order.pass_time(decode_terms(TERMS).lock_by_ms)
        await rig.until_phase(SWAP_ID, SwapPhase.LAPSED)
        order.pass_time(order.time_ms + 10_001)
        await rig.until_followed()
        await rig.propose(make_terms(2, time_ms=order.time_ms))
        assert await rig.views.swap(SWAP_ID) is None
        assert await rig.database.read("SELECT * FROM proposals WHERE swap_id = ?", (SWAP_ID,)) == []
        kept = await rig.database.read("SELECT number FROM events EXCEPT SELECT number FROM swaps")
        assert kept == []
        # What the order decided is remembered.
        assert (await rig.swap(swap_id)).phase is SwapPhase.ABORTED


async def test_forgetting_looks_at_nothing_that_stays(path: Path) -> None:
    # It is done in every transaction, however much there is.
    async with running(path, FakeOrder()) as rig:
        for sql, [parameters] in writing.pruning_statements(next_sequence=1, time_ms=1):
            plan = await rig.database.read(f"EXPLAIN QUERY PLAN {sql}", parameters)
            assert plan
            assert not [step for *_, step in plan if "SCAN" in step]


# --- blocks that come faster than they are taken in ---------------------------------------------------------


class AskedOrder(FakeOrder):
    """Remembers how far the coordinator was when it was asked who signs a block."""

    coordinator: Coordinator | None = None

    def __init__(self) -> None:
        super().__init__()
        self.heights: dict[int, int] = {}
        """The register's height, by the block's."""

    def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncIterator[FollowedBlock]:
        def asked(height: Height) -> PublicKey:
            assert self.coordinator is not None
            self.heights[height] = self.coordinator.book.register.height
            return sequencer_key(height)

        return super().follow(tip=tip, namespaces=namespaces, sequencer_key=asked)


async def test_blocks_that_came_meanwhile_are_made_durable_together(path: Path) -> None:
    order = AskedOrder()
    async with running(path, order) as rig:
        order.coordinator, before = rig.coordinator, rig.coordinator.book.commits
        for number in range(12):
            entry = encode_open(make_terms(number))
            order.block(swap_bundle(entry, valid_until_ms=order.time_ms + 30_000))
        await rig.until_followed()
        assert len(rig.coordinator.book.live) == 12
        # The block with which it has caught up is waited for.
        assert rig.coordinator.book.commits - before < 12
        assert order.heights[12] < 11


async def test_after_a_change_of_the_registry_nothing_is_verified_ahead_of_it(path: Path) -> None:
    order = AskedOrder()
    async with running(path, order) as rig:
        order.coordinator = rig.coordinator
        for _ in range(4):
            order.block()
        transaction = Transaction(REGISTRY_NAMESPACE, b"whatever it says")
        changed = order.block(Bundle((transaction,), order.time_ms + 30_000))
        order.block()
        await rig.until_followed()
        assert order.heights[changed + 1] == changed
        assert order.heights[changed] < changed - 1
