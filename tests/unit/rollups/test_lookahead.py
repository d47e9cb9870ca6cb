"""Blocks are looked at ahead of their execution, in order, and not before their signer can be known."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lockstep.errors import LockstepError, Pruned
from lockstep.transactions import Transfer
from lockstep.types import Namespace
from rollups import lookahead
from rollups.lookahead import BLOCKS_AHEAD_MAX, LookAhead
from sequencer.client import FollowedBlock
from tests.unit.rollups.chain import ALPHA, ANN, CARL, Chain

TURNS = 50


class Blocks:
    """Gives blocks out, and counts them; after the last one it fails."""

    def __init__(self, blocks: list[FollowedBlock], failure: LockstepError) -> None:
        self.given = 0
        self._blocks = blocks
        self._failure = failure

    def __aiter__(self) -> AsyncIterator[FollowedBlock]:
        return self

    async def __anext__(self) -> FollowedBlock:
        if self.given == len(self._blocks):
            raise self._failure
        self.given += 1
        return self._blocks[self.given - 1]


@asynccontextmanager
async def looking(chain: Chain) -> AsyncIterator[tuple[LookAhead, Blocks]]:
    blocks = Blocks(chain.blocks, Pruned(height=9, first_available=10))
    ahead = LookAhead(blocks, ALPHA)
    filling = asyncio.ensure_future(ahead.fill())
    yield ahead, blocks
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def pay(chain: Chain, count: int) -> None:
    payments = [chain.signed(ANN, Transfer(b"gold", CARL.public_key, 1)) for _ in range(count)]
    chain.block(*((ALPHA, payment) for payment in payments))


async def test_blocks_come_in_order_and_then_what_ended_them() -> None:
    chain = Chain()
    for count in range(12):
        pay(chain, count)
    async with looking(chain) as (ahead, _):
        for count, expected in enumerate(chain.blocks):
            followed, block = await ahead.next()
            assert (followed, block.given.height) == (expected, expected.block.header.height)
            assert [entry.payload for entry in block.entries] == [
                entry.payload for entry in expected.block.entries[Namespace(ALPHA)]
            ]
            assert len(block.entries) == count
            assert all(entry.is_signed for entry in block.entries)
        assert not ahead.has_next
        with pytest.raises(Pruned):
            await ahead.next()


async def test_only_so_many_blocks_are_taken_ahead() -> None:
    chain = Chain()
    for _ in range(2 * BLOCKS_AHEAD_MAX):
        chain.block()
    async with looking(chain) as (ahead, blocks):
        await turns()
        assert (blocks.given, ahead.has_next) == (BLOCKS_AHEAD_MAX, True)
        await ahead.next()
        await turns()
        assert blocks.given == BLOCKS_AHEAD_MAX + 1


async def test_only_so_many_transactions_are_taken_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "ENTRIES_AHEAD_MAX", 5)
    chain = Chain()
    for _ in range(9):
        pay(chain, 2)
    async with looking(chain) as (ahead, blocks):
        await turns()
        assert blocks.given == 3
        await ahead.next()
        await turns()
        assert blocks.given == 4


async def test_after_an_entry_of_the_registry_no_block_is_asked_for_before_it_was_executed() -> None:
    chain = Chain()
    chain.block()
    chain.block(("_registry", b"whatever it says"))
    chain.block()
    async with looking(chain) as (ahead, blocks):
        await turns()
        assert blocks.given == 2
        await ahead.next()
        await ahead.next()
        await turns()
        assert blocks.given == 2, "it was taken, and is not executed yet"
        following = asyncio.ensure_future(ahead.next())
        await turns()
        assert blocks.given == 3
        assert (await following)[0] == chain.blocks[2]
