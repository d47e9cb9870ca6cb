"""Whose signatures count, read out of a log or followed in the order, and nothing that somebody made up."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.client.receipt_keys import KnownKeys
from lockstep.errors import BadSignature, Discontinuous
from lockstep.header import sign_header
from lockstep.types import Height
from tests.reference.receipt_stories import rotated
from tests.reference.receipt_world import A1, World
from tests.unit.rollups.chain import ALPHA, BETA, key


@dataclass
class FakeLog:
    """The log of a world in memory, which signs with its newest key."""

    world: World
    keys: KnownKeys
    entries_given: list[bytes]
    asked_from: list[int] = field(default_factory=list)

    async def checkpoint(self) -> Any:  # noqa: ANN401 - only its size is looked at
        if self.keys.log() != self.world.log_key.public_key:
            raise BadSignature(what="signed note", signer=self.keys.log().hex())

        @dataclass
        class Size:
            size: int = len(self.entries_given)

        return Size()

    async def entries(self, from_index: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        self.asked_from.append(from_index)
        for index, entry in enumerate(self.entries_given[from_index:], from_index):
            yield index, entry
        raise AssertionError("more is waited for than the log has")


@dataclass
class FakeSequencer:
    """The order of a world in memory."""

    world: World
    followed: int = 0

    async def follow(self, **_: object) -> AsyncGenerator[Any, None]:
        self.followed += 1
        head_height = self.world.height
        for each in self.world.chain.blocks:
            yield type("Followed", (), {"block": each.block, "head_height": head_height})()
        raise AssertionError("more is followed than there is")


def reading(entries: list[bytes] | None = None) -> tuple[KnownKeys, FakeLog, FakeSequencer]:
    world = rotated().world
    keys = KnownKeys(world.genesis)
    given = world.entries if entries is None else entries
    return keys, FakeLog(world, keys, given), FakeSequencer(world)


async def read(keys: KnownKeys, log: FakeLog, sequencer: FakeSequencer, height: int) -> None:
    await keys.read(log, sequencer, Height(height))  # type: ignore[arg-type]


async def test_all_changes_are_read_and_where_they_are() -> None:
    keys, log, sequencer = reading()
    await read(keys, log, sequencer, log.world.height)
    known = log.world.log.registry
    for height in range(1, log.world.height + 1):
        for rollup in (ALPHA, BETA):
            assert keys.registry.attesters_at(rollup, height) == known.attesters_at(rollup, height)
    assert keys.log() == key("new settlement").public_key
    assert [log.world.entries[index] for index in keys.indexes] == [
        each.encoded for each in rotated().receipt.log.registrations
    ]


async def test_the_order_is_followed_only_if_the_log_has_another_key_than_is_known() -> None:
    keys, log, sequencer = reading()
    await read(keys, log, sequencer, 1)
    assert sequencer.followed == 1
    await read(keys, log, sequencer, log.world.height)
    assert (sequencer.followed, log.asked_from) == (1, [0])


async def test_reading_goes_on_where_it_stopped() -> None:
    world = rotated().world
    first = next(index for index, each in enumerate(world.entries) if each[1] == 2) + 1
    keys, log, sequencer = reading(world.entries[:first])
    await read(keys, log, sequencer, 4)
    log.entries_given = world.entries
    await read(keys, log, sequencer, world.height)
    assert log.asked_from == [0, first]
    assert len(keys.indexes) == 3


async def test_a_change_whose_block_the_sequencer_did_not_sign() -> None:
    world = rotated().world
    header = world.chain.blocks[2].header
    forged = [each.replace(header.proof, sign_header(A1, header.encoded)) for each in world.entries]
    keys, log, sequencer = reading(forged)
    with pytest.raises(BadSignature):
        await read(keys, log, sequencer, world.height)


async def test_a_change_that_the_chain_ignored() -> None:
    world = rotated().world
    change = next(each for each in world.entries if each[1] == 5)
    keys, log, sequencer = reading([world.entries[0], change, change, *world.entries[1:]])
    with pytest.raises(Discontinuous, match="registration in the settlement log"):
        await read(keys, log, sequencer, world.height)


def test_blocks_that_were_read_about_before_change_nothing() -> None:
    world = rotated().world
    keys = KnownKeys(world.genesis)
    for _ in range(2):
        for followed in world.chain.blocks:
            keys.follow(followed.block)
    assert keys.registry.now.sequences == world.log.registry.now.sequences
    assert keys.log() == world.log_key.public_key
