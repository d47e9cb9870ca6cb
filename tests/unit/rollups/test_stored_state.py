"""A state that is read when it is needed, and written by turns, against one that is a dictionary."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.node.database import Database, open_database
from deploy.node.failures import DataRefused
from lockstep.merkle_map import BranchHash, MerkleMap, branch_of, key_hash
from rollups import recent, stored_state
from rollups.recent import CLEAR, GROUPS, READ_BRANCHES, READ_RECENT, Recent, decode_hashes, seed
from rollups.state import Changes, map_of, updated
from rollups.storage import APPLICATION_ID, SCHEMA, open_storage
from rollups.stored_state import StoredState
from tests.unit.rollups.chain import ALPHA, Chain
from tests.unit.rollups.running import FakeOrder, reach, running
from tests.unit.rollups.stored import values_in
from tests.unit.rollups.test_node import paid


@pytest.fixture(autouse=True)
def _read_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no state count as small."""
    monkeypatch.setattr(stored_state, "READ_AT_START_MAX", 0)


@dataclass
class Book:
    """A database with a state, and what it is to be."""

    database: Database
    values: dict[bytes, bytes] = field(default_factory=dict)
    recent: Recent = field(default_factory=Recent)
    read: list[tuple[int, int]] = field(default_factory=list)

    async def restart(self) -> None:
        """Start again from what is stored."""
        self.recent, self.read = Recent(), []
        branches: dict[int, BranchHash | None] = {}
        for (hashes,) in await self.database.read(READ_BRANCHES):
            branches.update(decode_hashes(hashes))
        for step, changes, hashes in await self.database.read(READ_RECENT, (-1, 100_000)):
            self.recent.restore(step, changes)
            branches.update(decode_hashes(hashes))

        def read(sql: str, parameters: tuple[int, int]) -> list[tuple[object, ...]]:
            self.read.append(parameters)
            return self.database.read_at_once(sql, parameters)

        self.state = StoredState(read, self.recent, refused=DataRefused)  # type: ignore[arg-type]
        self.tree = self.state.tree_of(filter(None, branches.values()))
        assert self.tree.root == map_of(self.values.items()).root
        assert self.read == [], "the root is known without a value"

    async def change(self, values: Mapping[bytes, bytes | None]) -> None:
        """Do what a node does when a block changed values."""
        self.tree = updated(self.tree, values)
        writing = self.recent.write(values, self.tree)
        await self.database.transact(writing.statements)
        self.recent.written(writing)
        self.state.apply(Changes(values, {}, ()))
        left = {**self.values, **values}
        self.values = {key: value for key, value in left.items() if value is not None}
        assert self.tree.root == map_of(self.values.items()).root


@asynccontextmanager
async def book(path: Path) -> AsyncIterator[Book]:
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
        made = Book(database)
        await made.restart()
        yield made


def some_values(randomness: random.Random, count: int) -> dict[bytes, bytes]:
    return {b"key %d" % randomness.randrange(2 * count): randomness.randbytes(8) for _ in range(count)}


@pytest.mark.parametrize(("round_changes", "number"), [(1, 1), (50, 2), (400, 3), (10**6, 4)])
async def test_whatever_happens_it_says_what_a_dictionary_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_changes: int, number: int
) -> None:
    monkeypatch.setattr(recent, "ROUND_CHANGES", round_changes)
    randomness = random.Random(number)
    async with book(tmp_path / "state.db") as kept:
        for step in range(60):
            changes: dict[bytes, bytes | None] = dict(some_values(randomness, randomness.choice((0, 1, 30))))
            for gone in randomness.sample(sorted(kept.values), k=min(len(kept.values), step % 4)):
                changes[gone] = None
            await kept.change(changes)
            for key in randomness.choices(range(70), k=5):
                assert kept.state.get(b"key %d" % key) == kept.values.get(b"key %d" % key)
            if randomness.random() < 0.3:
                await kept.restart()
            if randomness.random() < 0.1:
                kept.state.read_group(randomness.randrange(GROUPS))
        assert values_in(tmp_path / "state.db") == dict(sorted(kept.values.items()))


async def test_what_came_into_rows_a_round_ago_is_in_no_other_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "ROUND_CHANGES", 100)
    async with book(tmp_path / "state.db") as kept:
        for number in range(60):
            await kept.change({b"%d" % each: b"%d" % number for each in range(10)})
            steps = [step for step, _, _ in await kept.database.read(READ_RECENT, (-1, 1_000))]
            assert len(steps) <= 10
        assert dict(await kept.database.read("SELECT key, value FROM state")).keys() == kept.values.keys()
        await kept.database.transact([("DELETE FROM recent", [()])])
        stale: dict[bytes, bytes] = dict(await kept.database.read("SELECT key, value FROM state"))
        assert all(int(value) >= 49 for value in stale.values()), "a row is a round old at most"


async def test_only_what_is_needed_is_read_and_once(tmp_path: Path) -> None:
    values = some_values(random.Random(7), 500)
    async with book(tmp_path / "state.db") as kept:
        await kept.change(values)
        await kept.restart()
        key = min(values)
        number = branch_of(key_hash(key))
        assert kept.state.get(key) == kept.state.get(key) == values[key]
        await kept.change({key: b"another"})
        assert kept.state.get(key) == b"another"
        assert kept.read == [(number, number)]
        assert kept.state.get(b"of nobody") is None
        for group in range(GROUPS):
            kept.state.read_group(group)
        assert kept.state.is_read
        read = len(kept.read)
        assert {each: kept.state.get(each) for each in kept.values} == kept.values
        assert len(kept.read) == read


async def test_threads_that_read_the_same_see_the_same(tmp_path: Path) -> None:
    values = some_values(random.Random(8), 2_000)
    async with book(tmp_path / "state.db") as kept:
        await kept.change(values)
        await kept.restart()
        wrong: list[bytes] = []

        def look(seed_number: int) -> None:
            for key in random.Random(seed_number).sample(sorted(values), k=len(values)):
                if kept.state.get(key) != values[key]:
                    wrong.append(key)

        threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert wrong == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE state SET value = x'05' WHERE key = ?",
        "DELETE FROM state WHERE key = ?",
        "UPDATE state SET key = x'6b65' WHERE key = ?",
        "UPDATE state SET branch = branch + 1 WHERE key = ?",
    ],
)
async def test_a_value_that_is_not_the_one_under_the_root_is_not_told(tmp_path: Path, damage: str) -> None:
    values = some_values(random.Random(9), 300)
    async with book(tmp_path / "state.db") as kept:
        kept.values = values
        for statements in seed(values):
            await kept.database.transact(statements)
        await kept.database.transact([(damage, [(min(values),)])])
        await kept.restart()
        for _ in range(2):
            with pytest.raises(DataRefused, match="the state's root"):
                kept.state.get(min(values))
        with pytest.raises(DataRefused):
            updated(kept.tree, {min(values): b"new"})
        with pytest.raises(DataRefused):
            kept.tree.proof(min(values))
        number = branch_of(key_hash(min(values)))
        other = next(key for key in values if abs(branch_of(key_hash(key)) - number) > 1)
        assert kept.state.get(other) == values[other], "others are"


def test_a_state_is_seeded_whole_and_in_parts() -> None:
    values = some_values(random.Random(10), 3_000)
    parts = list(seed(values))
    assert len(parts) == GROUPS // recent.SEED_GROUPS
    known = [
        branch
        for statements in parts
        for sql, rows in statements
        if "INTO branches" in sql
        for _, hashes in rows
        for _, branch in decode_hashes(hashes)  # type: ignore[arg-type]
    ]
    assert known == list(map_of(values.items()).branches(range(1 << 16)))
    assert list(seed({})) == []
    assert MerkleMap().branches(range(10)) == []


# --- the node's database ----------------------------------------------------------------------------------


async def test_a_node_reads_on_while_it_follows(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    async with running(tmp_path, order) as node:
        order.block(paid(chain, 3))
        await reach(node, 1)
    async with running(tmp_path, order) as node:
        height = 1
        while height < 3 or not node.memory.is_read:
            height = order.block(paid(chain, 4))
            await reach(node, height)
        assert node.published.commitment is not None
        assert node.published.commitment.state_root == map_of(values_in(tmp_path / "alpha.db").items()).root


async def test_damage_that_is_found_late_ends_the_process(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.block(paid(chain))
    async with running(tmp_path, order) as node:
        await reach(node, 1)
    async with open_database(tmp_path / "alpha.db", schema=SCHEMA, application_id=APPLICATION_ID) as database:
        await database.transact([("UPDATE state SET value = x'07'", [()])])
    with pytest.raises(BaseExceptionGroup) as failed:
        async with asyncio.timeout(30), running(tmp_path, order):
            await asyncio.Event().wait()
    assert failed.group_contains(DataRefused, match="delete the data folder")


async def test_the_data_of_an_earlier_version_are_converted(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.block(paid(chain, 5))
    async with running(tmp_path, order) as node:
        await reach(node, 1)
    path = tmp_path / "alpha.db"
    values = values_in(path)
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
        put = "INSERT INTO former_state(key, value) VALUES (?, ?)"
        unfinished = [("INSERT INTO state(branch, key, value) VALUES (1, x'00', x'00')", [()])]
        await database.transact([*CLEAR, (put, list(values.items())), *unfinished])
    async with running(tmp_path, order) as node:
        order.block(paid(chain, 6))
        await reach(node, 2)
        assert node.memory.get(b"\0") is None
        assert node.published.state.content.root != map_of(values.items()).root
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
        assert await database.read("SELECT * FROM former_state") == []
    async with running(tmp_path, order) as node:
        assert node.published.height == 2


async def test_a_first_start_that_was_cut_short_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain()
    path = tmp_path / "alpha.db"
    original = Database.transact
    calls = 0

    async def failing(self: Database, statements: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError("cut short")
        await original(self, statements)  # type: ignore[arg-type]

    monkeypatch.setattr(recent, "SEED_GROUPS", 1)
    with monkeypatch.context() as patched:
        patched.setattr(Database, "transact", failing)
        with pytest.raises(OSError, match="cut short"):
            async with open_storage(path) as storage:
                await storage.load(chain.genesis, ALPHA)
    assert len(values_in(path)) == 1
    async with open_storage(path) as storage:
        loaded = await storage.load(chain.genesis, ALPHA)
        assert loaded.state.content.root == map_of(values_in(path).items()).root
        assert loaded.state.height == 0
