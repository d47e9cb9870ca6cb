"""The node: what it makes durable, tells, attests and posts, whatever fails and whenever it is restarted."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from deploy.node.database import open_database
from deploy.node.failpoints import FAILPOINTS, FAILPOINTS_VARIABLE
from deploy.node.failures import DataRefused
from lockstep import limits
from lockstep.commitment import commitment_hash
from lockstep.errors import Contradiction, Discontinuous, NotReady, TimedOut, UnavailablePeer, UnknownKey
from lockstep.header import Tip
from lockstep.receipts import encode_receipt
from lockstep.register import Phase
from lockstep.settlement_entries import CommitmentEntry, decode_settlement_entry, verify_commitment
from lockstep.swap_entries import Attest, RejectReason, decode_swap_entry
from lockstep.transactions import Lock, Transfer
from lockstep.types import Namespace
from rollups.attester import UNDER_WAY_MAX
from rollups.outbox import EMPTY
from rollups.storage import APPLICATION_ID, SCHEMA, open_storage
from sequencer.client import FollowedBlock, KeyAt
from tests.unit.rollups.chain import (
    ALPHA,
    ANN,
    ATTESTERS,
    BETA,
    BOB,
    CARL,
    Chain,
    Replica,
    key,
    leg,
    make_genesis,
    make_swap,
)
from tests.unit.rollups.histories import History
from tests.unit.rollups.running import (
    FakeAnchored,
    FakeLog,
    FakeOrder,
    reach,
    running,
    until,
)
from tests.unit.rollups.stored import values_in, verify_same
from tests.unit.rollups.test_histories import random_actions


def attested(order: FakeOrder) -> list[Attest]:
    entries = [decode_swap_entry(bundle.transactions[0].payload) for bundle in order.submitted]
    return [entry for entry in entries if isinstance(entry, Attest)]


def paid(chain: Chain, amount: int = 1) -> tuple[str, bytes]:
    return ALPHA, chain.signed(ANN, Transfer(b"gold", CARL.public_key, amount))


def with_lock(chain: Chain) -> tuple[tuple[str, bytes], ...]:
    swap = make_swap(chain, lock_in_ms=20_000, expire_in_ms=40_000)
    return swap.open, (ALPHA, chain.signed(ANN, Lock(swap.id, 0)))


async def dump(path: Path) -> dict[str, str]:
    """Return a digest of every table of a database but the one of posted commitments."""
    # Which of the values have come into rows of their own depends on how many blocks a transaction had.
    digests = {"state": hashlib.sha256(repr(values_in(path)).encode()).hexdigest()}
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
        for table, sql in (
            ("seen", "SELECT * FROM seen ORDER BY second, position"),
            ("register", "SELECT * FROM register ORDER BY key"),
            ("receipts", "SELECT * FROM receipts ORDER BY place"),
            ("blocks", "SELECT * FROM blocks ORDER BY height"),
        ):
            rows = repr(await database.read(sql))
            digests[table] = hashlib.sha256(rows.encode()).hexdigest()
        return digests


# --- executing and restarting -----------------------------------------------------------------------------


async def test_a_node_is_what_a_replica_in_memory_is(tmp_path: Path) -> None:
    history = History()
    history.play(random_actions(3, 200))
    order = FakeOrder(history.chain)
    async with running(tmp_path, order) as node:
        await reach(node, len(history.chain.blocks))
        assert node.published.commitment == history.replicas[ALPHA].state.commitment
        verify_same(node.memory, history.replicas[ALPHA].memory)
        stored = await node.storage.receipts_from(0, 10_000)
        receipts = [encode_receipt(each) for each in history.replicas[ALPHA].receipts]
        assert [receipt for _, _, receipt in stored] == receipts
        assert node.receipts.root() == history.replicas[ALPHA].state.commitment.receipts_root


async def test_a_restarted_node_goes_on_where_it_stopped(tmp_path: Path) -> None:
    history = History()
    order = FakeOrder(history.chain)
    for part in range(4):
        history.play(random_actions(part, 60))
        async with running(tmp_path, order) as node:
            await reach(node, len(history.chain.blocks))
            assert node.published.commitment == history.replicas[ALPHA].state.commitment
            verify_same(node.memory, history.replicas[ALPHA].memory)


async def test_a_deleted_database_is_rebuilt_to_the_same_bytes(tmp_path: Path) -> None:
    history = History()
    order = FakeOrder(history.chain)
    (tmp_path / "live").mkdir()
    (tmp_path / "rebuilt").mkdir()
    for part in range(3):
        history.play(random_actions(10 + part, 60))
        async with running(tmp_path / "live", order) as node:
            await reach(node, len(history.chain.blocks))
    async with running(tmp_path / "rebuilt", order) as node:
        await reach(node, len(history.chain.blocks))
    assert await dump(tmp_path / "live/alpha.db") == await dump(tmp_path / "rebuilt/alpha.db")


async def test_a_replica_has_the_attesters_commitment_at_every_height(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    order.block(*with_lock(chain))
    async with (
        running(tmp_path / "first", order, key=ATTESTERS[ALPHA]) as attester,
        running(tmp_path / "second", order) as replica,
    ):
        await until(attester, lambda: bool(attester.published.height and not attester.outbox))
        await reach(replica, attester.published.height)
        for height in range(1, attester.published.height + 1):
            assert await attester.storage.block(height) == await replica.storage.block(height)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE state SET value = x'00000000000000000000000000000005' WHERE substr(key, 1, 1) = x'01'",
        "DELETE FROM state WHERE key = (SELECT max(key) FROM state)",
        "UPDATE state SET key = zeroblob(40) WHERE key = (SELECT max(key) FROM state)",
        "DELETE FROM branches WHERE group_number = (SELECT max(group_number) FROM branches)",
        "UPDATE branches SET hashes = zeroblob(37)",
        "UPDATE branches SET hashes = zeroblob(36)",
        "DELETE FROM recent WHERE step = (SELECT max(step) FROM recent)",
        "UPDATE recent SET changes = zeroblob(length(changes))",
        "UPDATE recent SET changes = x'00'",
        "UPDATE recent SET hashes = zeroblob(length(hashes))",
        "UPDATE recent SET hashes = x''",
        "UPDATE receipts SET receipt = (SELECT receipt FROM receipts WHERE place = 1) WHERE place = 0",
        "DELETE FROM receipts WHERE place = 1",
        "DELETE FROM seen",
        "UPDATE seen SET id = zeroblob(32)",
        "UPDATE receipts SET subject = zeroblob(32) WHERE place = 0",
        "UPDATE receipts SET height = height + 1 WHERE place = 0",
        "UPDATE receipts SET failed = 1 - failed WHERE place = 0",
        "UPDATE receipts SET leg = 3 WHERE place = 0",
        "UPDATE register SET value = zeroblob(32) WHERE substr(key, 1, 1) = x'68'",
        "DELETE FROM blocks WHERE height = (SELECT max(height) FROM blocks)",
        "DELETE FROM register WHERE substr(key, 1, 1) = CAST('r' AS BLOB)",
        "DELETE FROM register",
        "UPDATE blocks SET commitment = (SELECT commitment FROM blocks WHERE height = 1)",
    ],
)
async def test_data_that_does_not_hold_is_refused(tmp_path: Path, tampering: str) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.block(paid(chain), *with_lock(chain))
    order.block(paid(chain))
    async with running(tmp_path, order) as node:
        await reach(node, 2)
    async with open_database(tmp_path / "alpha.db", schema=SCHEMA, application_id=APPLICATION_ID) as database:
        await database.transact([(tampering, [()])])
    with pytest.raises(DataRefused, match="delete the data folder"):
        async with open_storage(tmp_path / "alpha.db") as storage:
            await storage.load(chain.genesis, ALPHA)


async def test_data_of_another_rollup_or_chain_is_refused(tmp_path: Path) -> None:
    chain = Chain()
    async with open_storage(tmp_path / "alpha.db") as storage:
        await storage.load(chain.genesis, ALPHA)
        with pytest.raises(DataRefused, match="the settings say beta"):
            await storage.load(chain.genesis, BETA)
        with pytest.raises(DataRefused, match="correct the settings"):
            await storage.load(make_genesis(anchor_interval_blocks=9), ALPHA)


async def test_blocks_that_cannot_be_followed_silence_the_node(tmp_path: Path) -> None:
    class Broken(FakeOrder):
        async def follow(
            self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
        ) -> AsyncIterator[FollowedBlock]:
            for each in self.chain.blocks:
                yield each
            raise Discontinuous(what="header", reason="is another chain's")

    async with running(tmp_path, Broken(Chain())) as node:
        await until(node, lambda: bool(node.stopped_reason))
        assert "another chain" in node.not_ready_reason
        with pytest.raises(NotReady):
            node.verify_ready()


# --- attesting --------------------------------------------------------------------------------------------


async def test_a_verdict_is_attested_at_a_durable_height(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        order.block(*with_lock(chain))
        await until(node, lambda: node.published.height >= 2 and not node.outbox)
        [attest] = attested(order)
        assert attest.attestation.executed_height == 1
        assert attest.attestation.header_hash == chain.blocks[0].block.hash
        [record] = node.published.state.register.records.values()
        assert len(record.legs[0].votes) == 1
        assert record.phase == Phase.OPEN


async def test_one_attestation_holds_all_verdicts_in_order(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    rejected = make_swap(chain, leg(ALPHA, ANN, BOB, 9_999), leg(BETA, BOB, ANN, 40))
    lock = (ALPHA, chain.signed(ANN, Lock(rejected.id, 0)))
    order.block(*with_lock(chain), *with_lock(chain), rejected.open, lock)
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        await until(node, lambda: node.published.height >= 2 and not node.outbox)
        [attest] = attested(order)
        assert len(attest.attestation.items) == 3
        record = node.published.state.register.record(rejected.id)
        assert record is not None
        assert record.phase == Phase.ABORTED


async def test_a_full_outbox_is_attested_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ATTESTATION_ITEMS_MAX", 2)
    chain = Chain()
    order = FakeOrder(chain)
    order.block(*(each for _ in range(5) for each in with_lock(chain)))
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        await until(node, lambda: node.published.height >= 2 and not node.outbox)
        assert [len(each.attestation.items) for each in attested(order)] == [2, 2, 1]


async def test_verdicts_gather_while_attestations_are_not_answered(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.answering.clear()
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        for count in range(1, 6):
            await reach(node, order.block(*with_lock(chain)))
            await order.until_submitted(min(count, UNDER_WAY_MAX))
        order.answering.set()
        await until(node, lambda: not node.outbox)
    assert [len(each.attestation.items) for each in attested(order)] == [1] * UNDER_WAY_MAX + [3]


@pytest.mark.parametrize("failure", [UnavailablePeer(peer="s"), TimedOut(peer="s"), NotReady(reason="r")])
async def test_a_failed_attestation_is_signed_again(tmp_path: Path, failure: UnavailablePeer) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.failures = [failure]
    order.block(*with_lock(chain))
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        await until(node, lambda: node.published.height >= 2 and not node.outbox)
    assert len(attested(order)) == 2


async def test_one_that_was_ordered_without_counting_is_signed_again_at_a_newer_height(
    tmp_path: Path,
) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.is_ordering = False
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        order.block(*with_lock(chain))
        await reach(node, 1)
        await until(node, lambda: bool(order.submitted) or not order.block())
        order.is_ordering = True
        order.block()
        await until(node, lambda: node.published.height >= 3 and not node.outbox)
    heights = [each.attestation.executed_height for each in attested(order)]
    assert heights[0] == 1
    assert heights[-1] > 1


async def test_the_outbox_survives_a_restart(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.block(*with_lock(chain))
    async with running(tmp_path, order) as replica:
        await reach(replica, 1)
        assert replica.outbox == EMPTY, "without a key nothing is to be attested"
    async with open_storage(tmp_path / "alpha.db") as storage:
        loaded = await storage.load(chain.genesis, ALPHA)
        assert loaded.state.height == 1
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        assert len(node.outbox) == 1
        assert not order.submitted, "it says nothing before it knows how far the order has got"
        order.block()
        await until(node, lambda: node.published.height >= 3 and not node.outbox)
    [attest] = attested(order)
    assert attest.attestation.executed_height in (1, 2)


async def test_a_key_that_is_no_attester_attests_nothing(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.block(*with_lock(chain))
    async with running(tmp_path, order, key=key("stranger")) as node:
        await reach(node, 1)
        order.block()
        await reach(node, 2)
        assert node.outbox == EMPTY
    assert not order.submitted


async def test_a_node_that_is_catching_up_attests_nothing_old(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    order.block(*with_lock(chain))
    replica = Replica(chain.genesis)
    replica.apply_all(chain.blocks)
    [swap_id] = replica.state.register.records
    order.block(chain.attest((swap_id, 0, RejectReason.NONE)))
    for _ in range(300):
        order.block(advance_ms=1)
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        await reach(node, 302)
    assert not order.submitted


async def test_a_silent_node_does_not_attest(tmp_path: Path) -> None:
    chain = Chain()
    order = FakeOrder(chain)
    async with running(tmp_path, order, key=ATTESTERS[ALPHA]) as node:
        node.stop_speaking("a test")
        order.block(*with_lock(chain))
        await reach(node, 1)
        order.block()
        await reach(node, 2)
        assert len(node.outbox) == 1
    assert not order.submitted


# --- posting ----------------------------------------------------------------------------------------------


async def test_commitments_are_posted_at_multiples_each_naming_the_one_before(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog()
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log) as node:
        for _ in range(13):
            order.block()
        await reach(node, 13)
        await log.until_heights(4, 8, 12)
        blocks = [await node.storage.block(height) for height in (4, 8, 12)]
    previous = [(0, bytes(32))] + [
        (block.commitment.height, commitment_hash(block.commitment)) for block in blocks if block
    ]
    for entry, block, before in zip(log.commitments, blocks, previous, strict=False):
        verify_commitment(entry)
        assert block is not None
        assert entry.posted.commitment == block.commitment
        assert (entry.posted.previous_height, entry.posted.previous_commitment) == before


async def test_a_log_that_is_away_delays_only_the_posting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollups.poster.PAUSE_MS", 1)
    chain = Chain()
    order, log = FakeOrder(chain), FakeLog()
    log.failures = [UnavailablePeer(peer="log", retry_after_ms=1) for _ in range(5)]
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log) as node:
        order.block(*with_lock(chain))
        await until(node, lambda: node.published.height >= 2 and not node.outbox)
        for _ in range(8):
            order.block()
        await log.until_heights(4, 8)


async def test_a_restart_posts_the_same_bytes_and_then_the_next(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog()
    for _ in range(5):
        order.block()
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log):
        await log.until_heights(4)
    sent = log.sent
    for _ in range(3):
        order.block()
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log):
        await log.until_heights(4, 8)
    assert log.sent == sent + 1
    rebuilt = FakeLog()
    (tmp_path / "rebuilt").mkdir()
    async with running(tmp_path / "rebuilt", order, key=ATTESTERS[ALPHA], log=rebuilt):
        await rebuilt.until_heights(4, 8)
    assert rebuilt.kept == log.kept, "the chain of posted commitments follows from the order"


async def test_a_chain_starts_where_the_key_is_an_attester(tmp_path: Path) -> None:
    order, log = FakeOrder(Chain()), FakeLog()
    for _ in range(8):
        order.block()

    class Strict(FakeLog):
        async def append(self, entry: bytes, *, timeout_ms: int = 10_000) -> int:
            if not self.sent:
                self.sent += 1
                raise UnknownKey(what="commitment", key="")
            return await FakeLog.append(self, entry)

    log = Strict()
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log):
        await log.until_heights(8)
    assert log.commitments[0].posted.previous_height == 0


async def test_data_that_was_deleted_finds_the_chain_that_started_late(tmp_path: Path) -> None:
    """The log learned of the key after its first commitment: the second time it is one out of turn."""
    order = FakeOrder(Chain())
    for _ in range(8):
        order.block()

    class Strict(FakeLog):
        async def append(self, entry: bytes, *, timeout_ms: int = 10_000) -> int:
            posted = decode_settlement_entry(entry)
            assert isinstance(posted, CommitmentEntry)
            if posted.posted.commitment.height == 4:
                if not self.kept:
                    raise UnknownKey(what="commitment", key="")
                raise Discontinuous(what="commitment", reason="names another one before")
            return await FakeLog.append(self, entry)

    log = Strict()
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log):
        await log.until_heights(8)
    (tmp_path / "again").mkdir()
    for _ in range(4):
        order.block()
    async with running(tmp_path / "again", order, key=ATTESTERS[ALPHA], log=log):
        await log.until_heights(8, 12)
    assert log.commitments[1].posted.previous_height == 8


@pytest.mark.parametrize("with_key", [False, True])
async def test_a_node_that_differs_from_the_log_stops_speaking(tmp_path: Path, with_key: bool) -> None:
    order, log = FakeOrder(Chain()), FakeLog()
    order.block()
    log.anchored[ALPHA] = FakeAnchored(1, bytes(32))
    attester = ATTESTERS[ALPHA] if with_key else None
    async with running(tmp_path, order) as node:
        await reach(node, 1)
    async with running(tmp_path, order, key=attester, log=log) as node:
        await until(node, lambda: bool(node.stopped_reason))
        assert "height 1" in node.not_ready_reason


async def test_a_contradiction_silences_the_node(tmp_path: Path) -> None:
    class Convicting(FakeLog):
        async def append(self, entry: bytes, *, timeout_ms: int = 10_000) -> int:
            raise Contradiction(what="commitment", evidence="entry 7")

    order = FakeOrder(Chain())
    for _ in range(4):
        order.block()
    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=Convicting()) as node:
        await until(node, lambda: bool(node.stopped_reason))


# --- failing at every point -------------------------------------------------------------------------------

POINTS = (
    "rollup.block.before_commit",
    "rollup.block.committed",
    "database.commit.before",
    "database.commit.after",
    "rollup.attest.before_send",
    "rollup.attest.sent",
    "rollup.commitment.before_store",
    "rollup.commitment.stored",
    "rollup.commitment.before_send",
    "rollup.commitment.sent",
)


def test_every_failpoint_of_this_service_is_in_the_list() -> None:
    assert {name for name in FAILPOINTS.declared() if name.startswith("rollup.")} <= set(POINTS)


async def run_until_it_fails(folder: Path, order: FakeOrder, log: FakeLog, failpoint: str) -> None:
    try:
        async with running(folder, order, key=ATTESTERS[ALPHA], log=log) as node, asyncio.timeout(20):
            FAILPOINTS.activate({FAILPOINTS_VARIABLE: failpoint})
            while True:
                height = order.block(paid(order.chain), *with_lock(order.chain))
                await node.wait_for(height)
    finally:
        FAILPOINTS.activate({})


@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("point", POINTS)
async def test_a_node_that_fails_anywhere_is_whole_after_a_restart(
    tmp_path: Path, point: str, hit: int
) -> None:
    chain = Chain()
    order, log = FakeOrder(chain), FakeLog()
    with pytest.raises(BaseExceptionGroup) as failed:
        await run_until_it_fails(tmp_path, order, log, f"{point}=error@{hit}")
    assert "OSError" in repr(failed.value) or "StorageFailed" in repr(failed.value)

    async with running(tmp_path, order, key=ATTESTERS[ALPHA], log=log) as node:
        height = order.block()
        await until(node, lambda: node.published.height > height and not node.outbox)
        replica = Replica(chain.genesis)
        replica.apply_all(chain.blocks)
        await reach(node, len(chain.blocks))
        assert node.published.commitment == replica.state.commitment
        verify_same(node.memory, replica.memory)
        multiples = range(4, node.published.height + 1, 4)
        await log.until_heights(*multiples)
    for record in replica.state.register.records.values():
        assert len(record.legs[0].votes) == 1, "every lock was attested, once"
