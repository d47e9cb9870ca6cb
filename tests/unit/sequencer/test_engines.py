"""What every engine must keep, run against each; and what only the embedded one does."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from deploy.node.datadir import DurableCell
from deploy.node.failures import DataRefused
from lockstep.errors import ReadOnly
from lockstep.header import header_hash, tip_of
from lockstep.settlement_entries import verify_proven_header
from lockstep.types import BundleId, Height, PublicKey
from sequencer.amnesia import LastSigned, encode_last_signed
from sequencer.embedded import EmbeddedEngine, open_engine
from sequencer.engine import OrderingEngine
from sequencer.ledger import Ledger, encode_shares, entries_in, open_ledger
from tests.unit.sequencer.chain import ALPHA, BETA, SEQUENCER, START, MemoryEngine, proposals, single_bundles

OpenEngine = Callable[[Path], AbstractAsyncContextManager[OrderingEngine]]
MANY_BYTES = 10**9


def any_key(height: Height, key: PublicKey) -> None:
    """Let every key sign."""


@asynccontextmanager
async def opened(
    path: Path, check_key: Callable[[Height, PublicKey], None] = any_key
) -> AsyncIterator[tuple[EmbeddedEngine, ReadOnly | None, Ledger]]:
    with DurableCell(path / "last_signed") as cell:
        async with (
            open_ledger(path / "ledger.sqlite") as ledger,
            open_engine(ledger, cell, SEQUENCER, genesis=START, check_key=check_key) as (engine, loss),
        ):
            yield engine, loss, ledger


@asynccontextmanager
async def embedded(path: Path) -> AsyncIterator[OrderingEngine]:
    async with opened(path) as (engine, loss, _):
        assert loss is None
        yield engine


@asynccontextmanager
async def memory(path: Path) -> AsyncIterator[OrderingEngine]:
    yield MEMORIES.setdefault(path, MemoryEngine())


MEMORIES: dict[Path, MemoryEngine] = {}
ANY_ENGINE = pytest.mark.parametrize("open_any", [embedded, memory])


@ANY_ENGINE
async def test_it_gives_back_what_it_ordered_also_later(open_any: OpenEngine, tmp_path: Path) -> None:
    made = proposals(5)
    async with open_any(tmp_path) as engine:
        assert (engine.head, engine.first_height) == (None, 1)
        for proposal in made:
            sealed = await engine.order(proposal)
            assert (sealed.height, sealed.header.encoded) == (
                proposal.block.header.height,
                proposal.block.header_bytes,
            )
            assert engine.head == sealed
            assert sealed.shares == encode_shares(proposal.block)
            verify_proven_header(SEQUENCER.public_key, sealed.header)
        first = await engine.read(range(1, 6), (ALPHA,), bytes_max=MANY_BYTES)
    async with open_any(tmp_path) as engine:
        assert engine.head is not None
        assert engine.head.header == first[-1].header
        blocks = await engine.read(range(1, 6), (ALPHA,), bytes_max=MANY_BYTES)
        assert blocks == first
        for proposal, block in zip(made, blocks, strict=True):
            assert entries_in(block.shares[ALPHA]) == tuple(proposal.block.entries[ALPHA])
            assert block.leaves_bytes == proposal.block.leaves_bytes
            [placement] = proposal.placements
            [bundle] = single_bundles(proposal.bundles)
            assert await engine.find(placement.bundle_id, bundle.valid_until_ms) == placement
            assert await engine.find(placement.bundle_id, 0) == placement


@ANY_ENGINE
async def test_reads_are_bounded_and_never_empty(open_any: OpenEngine, tmp_path: Path) -> None:
    async with open_any(tmp_path) as engine:
        for proposal in proposals(6):
            await engine.order(proposal)
        for bytes_max in (0, 1, 700, MANY_BYTES):
            got = await engine.read(range(2, 7), (ALPHA,), bytes_max=bytes_max)
            assert [each.height for each in got] == [*range(2, 2 + len(got))]
            assert len(got) == 1 or sum(each.size_bytes for each in got) <= bytes_max
        assert len(await engine.read(range(2, 7), (ALPHA,), bytes_max=MANY_BYTES)) == 5
        assert len(await engine.read(range(2, 7), (ALPHA,), bytes_max=700)) == 1
        for namespaces in ((), (BETA,)):
            [block, *_] = await engine.read(range(2, 7), namespaces, bytes_max=MANY_BYTES)
            assert block.shares == {}


@ANY_ENGINE
async def test_what_does_not_follow_or_is_not_there_is_refused(open_any: OpenEngine, tmp_path: Path) -> None:
    first, second, third = proposals(3)
    async with open_any(tmp_path) as engine:
        await engine.order(first)
        for wrong in (first, third):
            with pytest.raises(ValueError, match="follow"):
                await engine.order(wrong)
        await engine.order(second)
        for heights in (range(1, 4), range(2)):
            with pytest.raises(ValueError, match="there"):
                await engine.read(heights, (), bytes_max=1)
        assert await engine.find(BundleId(bytes(32)), 0) is None
        assert await engine.find(BundleId(bytes(32)), 1_030_000) is None


async def test_a_block_that_was_not_signed_is_signed_at_start(tmp_path: Path) -> None:
    first, second = proposals(2)
    async with opened(tmp_path) as (engine, _, ledger):
        await engine.order(first)
        await ledger.append(second, encode_shares(second.block), None)
    checked: list[Height] = []
    async with opened(tmp_path, lambda height, _: checked.append(height)) as (engine, loss, _):
        assert loss is None
        assert checked == [2]
        assert engine.head is not None
        assert engine.head.header.encoded == second.block.header_bytes
        verify_proven_header(SEQUENCER.public_key, engine.head.header)
    with DurableCell(tmp_path / "last_signed") as cell:
        assert cell.load() == encode_last_signed(LastSigned(Height(2), second.block.hash))


async def test_the_record_comes_before_the_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [first] = proposals(1)
    with DurableCell(tmp_path / "last_signed") as cell:
        async with (
            open_ledger(tmp_path / "ledger.sqlite") as ledger,
            open_engine(ledger, cell, SEQUENCER, genesis=START, check_key=any_key) as (engine, _),
        ):
            seen: list[tuple[bytes | None, Height]] = []

            def sign(_: object, encoded: bytes) -> bytes:
                rows = sqlite3.connect(tmp_path / "ledger.sqlite").execute("SELECT max(height) FROM blocks")
                seen.append((cell.load(), rows.fetchone()[0]))
                return bytes(64)

            monkeypatch.setattr("sequencer.embedded.sign_header", sign)
            await engine.order(first)
            assert seen == [(encode_last_signed(LastSigned(Height(1), first.block.hash)), 1)]


async def test_what_was_lost_is_noticed_and_nothing_is_signed(tmp_path: Path) -> None:
    made = proposals(4)
    async with opened(tmp_path) as (engine, _, _):
        for proposal in made[:3]:
            await engine.order(proposal)
    with DurableCell(tmp_path / "last_signed") as cell:
        cell.store(encode_last_signed(LastSigned(Height(4), made[3].block.hash)))
    async with opened(tmp_path) as (engine, loss, ledger):
        assert loss is not None
        assert "block 4 was signed" in loss.reason
        assert engine.head is not None
        assert engine.head.height == 3
        await ledger.append(made[3], encode_shares(made[3].block), None)
    # Now it is complete, but ends with another block than was signed.
    with DurableCell(tmp_path / "last_signed") as cell:
        cell.store(encode_last_signed(LastSigned(Height(4), made[0].block.hash)))

    def refuse_key(height: Height, key: PublicKey) -> None:
        raise AssertionError("nothing is to be signed")

    async with opened(tmp_path, refuse_key) as (engine, loss, _):
        assert loss is not None
        assert engine.head is not None
        assert engine.head.height == 3


async def test_another_chains_ledger_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as (engine, _, _):
        for proposal in proposals(2):
            await engine.order(proposal)
    other = tip_of(proposals(1)[0].block.header, header_hash(b"other"))
    with DurableCell(tmp_path / "last_signed") as cell:
        async with open_ledger(tmp_path / "ledger.sqlite") as ledger:
            start = type(START)(type(START.chain)(b"x" * 32), START.height, other.hash, START.time_ms)
            with pytest.raises(DataRefused, match="its own data folder"):
                async with open_engine(ledger, cell, SEQUENCER, genesis=start, check_key=any_key):
                    raise AssertionError("it opened")
