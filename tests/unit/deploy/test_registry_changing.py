"""A change on its way: what others order in between, and what becomes of it, with an order in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from deploy.registry.changing import ChangeRefused, Wish, change_registry
from deploy.registry.following import ChainRegistry, Follower
from lockstep.errors import UselessEntry
from lockstep.limits import DRAIN_MS_MIN
from lockstep.order import Bundle, Placement
from lockstep.registry import Outcome, RollupStatus
from lockstep.registry_entries import (
    Action,
    Drain,
    Leave,
    RegistryChange,
    RotateAttester,
    SignedBy,
    Veto,
    sign_change,
)
from lockstep.signing import SigningKey
from lockstep.types import REGISTRY_NAMESPACE, BundleId, Height
from sequencer.client import FollowedBlock, Ordered, SequencerClient
from tests.unit.rollups.chain import ALPHA, ATTESTERS, Chain, key, make_genesis

GOVERNANCE = key("governance")
NEW = key("another attester")
ROTATION = RotateAttester(ATTESTERS[ALPHA].public_key, NEW.public_key)


class Order:
    """Orders what is submitted, behind what others order at the last moment."""

    def __init__(self) -> None:
        # A longer delay than changes have anyway.
        self.chain = Chain(replace(make_genesis(), rotation_delay_blocks=100))
        self.before: list[bytes] = []
        self.after: list[bytes] = []
        self.advance_ms = 100
        self.refusal: UselessEntry | None = None
        self._served = 0
        self.submitted: list[Bundle] = []
        self.registry = ChainRegistry(self.chain.genesis)
        self.chain.block()
        self.follower = Follower(
            self.chain.genesis, self.registry, self._blocks(), peer="p", say=lambda _: None
        )

    async def submit(self, bundle: Bundle) -> Ordered:
        self.submitted.append(bundle)
        if self.refusal is not None:
            raise self.refusal
        [(namespace, payload)] = bundle.transactions
        assert namespace == REGISTRY_NAMESPACE
        block = self.chain.block(*((REGISTRY_NAMESPACE, each) for each in (*self.before, payload)))
        for each in self.after:
            self.chain.block((REGISTRY_NAMESPACE, each))
        placement = Placement(BundleId(bytes(32)), block.header.height, len(self.before), 1)
        return Ordered(placement, self.chain.blocks[-1].header)

    async def _blocks(self) -> AsyncIterator[FollowedBlock]:
        while True:
            if self._served == len(self.chain.blocks):
                self.chain.block(advance_ms=self.advance_ms)
            self._served += 1
            yield self.chain.blocks[self._served - 1]

    async def change(self, action: Action, by: SigningKey = GOVERNANCE, *, wait: bool = False) -> Outcome:
        async with asyncio.timeout(10):
            await self.follower.to_head()
            wish = Wish(ALPHA, action)
            client = cast("SequencerClient", self)
            return (await change_registry(self.follower, client, wish, by, wait=wait)).outcome

    def signed(self, action: Action, sequence: int, ahead: int = 30) -> bytes:
        effective = Height(self.chain.tip.height + ahead)
        change = RegistryChange(self.chain.genesis.chain_id, ALPHA, sequence, effective, action)
        return sign_change(GOVERNANCE, change)


async def test_a_change_is_accepted_then_effective() -> None:
    order = Order()
    assert await order.change(ROTATION) is Outcome.ACCEPTED
    assert await order.change(Drain(), wait=True) is Outcome.EFFECTIVE
    record = order.registry.registry.rollups[ALPHA]
    assert record.status is RollupStatus.DRAINING
    assert record.attesters.keys == (NEW.public_key,), "an earlier change of the same subject came first"


async def test_a_race_for_the_sequence_is_told_with_what_to_do() -> None:
    order = Order()
    order.before = [order.signed(Drain(), 1)]
    with pytest.raises(ChangeRefused, match=r"another change of the same subject came first.*again"):
        await order.change(ROTATION)
    order.before = []
    assert await order.change(ROTATION) is Outcome.ACCEPTED, "the same command again"


async def test_a_veto_while_it_waits_is_told() -> None:
    order = Order()
    order.after = [order.signed(Veto(1), 2)]
    with pytest.raises(ChangeRefused, match="is vetoed now"):
        await order.change(ROTATION, by=ATTESTERS[ALPHA], wait=True)


async def test_a_change_that_came_too_late_to_hold_is_told() -> None:
    order = Order()
    # Both are accepted, and take away the same key; the other one is due first.
    order.after = [order.signed(RotateAttester(ROTATION.old_key, key("third").public_key), 2, ahead=10)]
    with pytest.raises(ChangeRefused, match="is void now"):
        await order.change(ROTATION, wait=True)


async def test_what_the_sequencer_refuses_is_told() -> None:
    order = Order()
    order.refusal = UselessEntry(kind="registry", reason="no")
    with pytest.raises(ChangeRefused, match="was not ordered"):
        await order.change(ROTATION)


@pytest.mark.parametrize("by", [key("a stranger"), key("sequencer")])
async def test_nothing_is_sent_under_a_key_without_a_say(by: SigningKey) -> None:
    order = Order()
    for action in (Drain(), ROTATION):
        with pytest.raises(ChangeRefused, match=by.public_key.hex()):
            await order.change(action, by)
    assert order.submitted == []


async def test_what_the_chain_would_ignore_is_not_sent() -> None:
    order = Order()
    with pytest.raises(ChangeRefused, match="not DRAINING; drain it first"):
        await order.change(Leave())
    await order.change(Drain(), wait=True)
    with pytest.raises(ChangeRefused, match="would ignore it, because it names a rollup that is not ACTIVE"):
        await order.change(Drain())
    assert len(order.submitted) == 1


async def test_an_old_key_signs_in_its_own_name_and_further_ahead() -> None:
    order = Order()
    await order.change(ROTATION, by=ATTESTERS[ALPHA])
    [pending] = order.registry.registry.pending
    assert pending.entry.signed_by is SignedBy.SUBJECT
    ahead = pending.entry.change.effective_height - pending.height
    assert ahead >= order.chain.genesis.rotation_delay_blocks


async def test_a_rollup_leaves_after_a_day_of_log_time_and_not_before() -> None:
    order = Order()
    await order.change(Drain(), wait=True)
    drained_ms = order.registry.registry.rollups[ALPHA].drained_ms
    assert await order.change(Leave()) is Outcome.ACCEPTED
    order.advance_ms = 2_000
    left_ms = 0
    while not left_ms:
        events, _ = await order.follower.next()
        time_ms = order.registry.tip.time_ms
        status = order.registry.registry.rollups[ALPHA].status
        assert (status is RollupStatus.LEFT) == (time_ms >= drained_ms + DRAIN_MS_MIN)
        if events:
            [event] = events
            assert event.outcome is Outcome.EFFECTIVE
            left_ms = time_ms
    assert drained_ms + DRAIN_MS_MIN <= left_ms < drained_ms + DRAIN_MS_MIN + 2_000
