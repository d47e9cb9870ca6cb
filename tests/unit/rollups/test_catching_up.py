"""A node far behind takes large steps, and one that is restarted takes none again."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.errors import Pruned
from lockstep.header import Tip
from lockstep.order import Entry
from lockstep.transactions import Transfer
from lockstep.types import Namespace
from rollups import batch, lookahead
from rollups.node import BLOCKS_AT_HEAD_MAX
from rollups.runtime import OwnEntry, look_at, run_block
from rollups.storage import Delta, Storage
from rollups.stored_state import StoredState
from sequencer.client import FollowedBlock, KeyAt
from tests.unit.rollups.chain import ALPHA, ANN, CARL, Chain
from tests.unit.rollups.histories import History
from tests.unit.rollups.running import FakeOrder, reach, running, until
from tests.unit.rollups.test_histories import random_actions


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks each transaction of a database held."""
    counts: list[int] = []
    save = Storage.save

    async def counting(self: Storage, delta: Delta, memory: StoredState) -> None:
        counts.append(len(delta.blocks))
        await save(self, delta, memory)

    monkeypatch.setattr(Storage, "save", counting)
    return counts


def pay(order: FakeOrder, count: int = 1) -> int:
    payments = [order.chain.signed(ANN, Transfer(b"gold", CARL.public_key, 1)) for _ in range(count)]
    return order.block(*((ALPHA, payment) for payment in payments))


async def test_many_blocks_are_one_transaction_while_far_behind(tmp_path: Path, saved: list[int]) -> None:
    order = FakeOrder(Chain())
    for _ in range(batch.BLOCKS_MAX + 44):
        order.block(advance_ms=1)
    async with running(tmp_path, order) as follower:
        await reach(follower, batch.BLOCKS_MAX + 44)
        assert saved == [batch.BLOCKS_MAX, 44]
        await reach(follower, order.block())
        assert saved[2:] == [1], "at the head every block is told at once"


@pytest.mark.parametrize(("count", "transactions"), [(3, [3]), (20, [BLOCKS_AT_HEAD_MAX, 4])])
async def test_blocks_that_come_while_one_is_made_durable_are_one_transaction(
    tmp_path: Path,
    saved: list[int],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    transactions: Sequence[int],
) -> None:
    is_saving, may_save = asyncio.Event(), asyncio.Event()
    save = Storage.save

    async def waiting(self: Storage, delta: Delta, memory: StoredState) -> None:
        is_saving.set()
        await may_save.wait()
        await save(self, delta, memory)

    class Live(FakeOrder):
        async def follow(
            self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
        ) -> AsyncIterator[FollowedBlock]:
            async for each in super().follow(tip=tip, namespaces=namespaces, sequencer_key=sequencer_key):
                yield replace(each, head_height=each.block.header.height)

    monkeypatch.setattr(Storage, "save", waiting)
    order = Live(Chain())
    async with running(tmp_path, order) as follower:
        pay(order)
        await is_saving.wait()
        for _ in range(count):
            pay(order)
        await asyncio.sleep(0)
        assert follower.published.height == 0, "nothing is told before it is durable"
        may_save.set()
        await reach(follower, 1 + count)
    assert saved == [1, *transactions]


async def test_what_was_executed_before_the_order_ended_is_told(tmp_path: Path) -> None:
    class Ending(FakeOrder):
        async def follow(
            self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
        ) -> AsyncIterator[FollowedBlock]:
            following = super().follow(tip=tip, namespaces=namespaces, sequencer_key=sequencer_key)
            for _ in range(len(self.chain.blocks)):
                yield await anext(following)
            raise Pruned(height=9, first_available=10)

    order = Ending(Chain())
    for _ in range(5):
        pay(order)
    async with running(tmp_path, order) as follower:
        await reach(follower, 5)
        await until(follower, lambda: "cannot be followed" in follower.stopped_reason)


async def test_a_transaction_holds_no_more_receipts_than_is_good(
    tmp_path: Path, saved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "RECEIPTS_MAX", 10)
    order = FakeOrder(Chain())
    for _ in range(9):
        pay(order, 4)
    async with running(tmp_path, order) as follower:
        await reach(follower, 9)
    assert saved == [3, 3, 3]


async def test_signatures_of_a_large_block_are_verified_in_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[tuple[str, int]] = []

    def looking(entries: Iterable[Entry]) -> tuple[OwnEntry, ...]:
        looked = look_at(entries)
        threads.append((threading.current_thread().name, len(looked)))
        return looked

    monkeypatch.setattr(lookahead, "look_at", looking)
    monkeypatch.setattr(lookahead, "ENTRIES_PER_THREAD", 10)
    order = FakeOrder(Chain())
    pay(order, 25)
    pay(order, 2)
    async with running(tmp_path, order) as follower:
        await reach(follower, 2)
    main = threading.main_thread().name
    assert sorted(count for name, count in threads if name != main) == [5, 10, 10]
    assert [count for name, count in threads if name == main] == [2]


async def test_large_steps_lead_where_small_ones_do(tmp_path: Path) -> None:
    history = History()
    order = FakeOrder(history.chain)
    for name in ("live", "late"):
        (tmp_path / name).mkdir()
    async with running(tmp_path / "live", order) as live:
        for part in range(12):
            history.play(random_actions(part, 10))
            order.tell()
            await reach(live, len(history.chain.blocks))
        async with running(tmp_path / "late", order) as late:
            await reach(late, live.published.height)
            for height in range(1, live.published.height + 1):
                assert await late.storage.block(height) == await live.storage.block(height)


async def test_a_restart_executes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tips: list[int] = []

    class Remembering(FakeOrder):
        async def follow(
            self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
        ) -> AsyncIterator[FollowedBlock]:
            tips.append(tip.height)
            async for each in super().follow(tip=tip, namespaces=namespaces, sequencer_key=sequencer_key):
                yield each

    order = Remembering(Chain())
    for _ in range(50):
        pay(order)
    async with running(tmp_path, order) as first:
        await reach(first, 50)
        commitment = first.published.commitment
    executed: list[int] = []

    def counting(*arguments: object) -> object:
        executed.append(1)
        return run_block(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "run_block", counting)
    async with running(tmp_path, order) as second:
        assert second.published.commitment == commitment
        await reach(second, pay(order))
    assert tips == [0, 50]
    assert len(executed) == 1
