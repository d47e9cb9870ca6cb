"""A coordinator whose database was deleted: what is in the order comes back to the same bytes, no more."""

import asyncio
from pathlib import Path

import pytest

from bridge.client import AbortReason, BridgeClient, CommitLevel, RevealPolicy, SwapPhase
from lockstep.errors import Conflict, UnknownSwap
from lockstep.terms import swap_id_of
from lockstep.types import SwapId
from tests.integration.bridge_network import CYCLE, Market, delete_data, market, until_level
from tests.integration.bridge_told import told
from tests.integration.rollup_network import DEADLINE_S
from tests.unit.rollups.chain import ALPHA, BETA

pytestmark = pytest.mark.processes

DECIDED = (SwapPhase.COMMITTED, SwapPhase.ABORTED)


async def until_followed(client: BridgeClient, height: int) -> None:
    """Wait until a coordinator has followed the order up to a height."""
    async with asyncio.timeout(DEADLINE_S):
        while (await client.status()).height < height:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.02)


async def make_swaps(here: Market, client: BridgeClient) -> list[SwapId]:
    """Return swaps that went every way that needs no long wait, over two and over three rollups."""
    committed = [await here.commit(client, await here.terms(names)) for names in ((ALPHA, BETA), CYCLE)]
    terms_bytes = await here.terms(CYCLE)
    up_front = await here.give(
        client, terms_bytes, policy=RevealPolicy.UP_FRONT, preimage=here.ann.preimage(terms_bytes)
    )
    rejected = await here.give(client, await here.terms(CYCLE, amount=5_000))
    cancelled = await here.give(client, await here.terms(CYCLE))
    await client.wait_until(cancelled, [SwapPhase.LOCKED])
    await client.cancel(here.ann.sign_cancel(cancelled))
    locked = await here.give(client, await here.terms((BETA, ALPHA)))
    assert (await client.wait_until(locked, [SwapPhase.LOCKED])).phase is SwapPhase.LOCKED
    await here.net.nodes["gamma-0"].kill()
    late = await here.give(client, await here.terms(CYCLE, lock_within_ms=1_500))
    reasons = {
        rejected: AbortReason.LEG_REJECTED,
        cancelled: AbortReason.CANCELLED,
        late: AbortReason.NOT_LOCKED,
    }
    for swap_id in (*committed, up_front, *reasons):
        view = await client.wait_until(swap_id, DECIDED)
        assert view.abort_reason is reasons.get(swap_id, AbortReason.NONE)
    await here.net.nodes["gamma-0"].start()
    return [*committed, up_front, *reasons, locked]


async def test_what_is_in_the_order_comes_back_to_the_same_bytes(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0", "gamma-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        swap_ids = await make_swaps(here, client)
        before = await told(bridge.address, swap_ids)
        height = (await client.status()).height
        await bridge.kill()
        delete_data(bridge)

        await here.coordinator()
        await until_followed(client, height)
        assert await told(bridge.address, swap_ids) == before
        for swap_id in swap_ids[:-1]:
            view = await until_level(client, swap_id, CommitLevel.ANCHORED)
            assert all(leg.settled for leg in view.legs)
        # Another one that never saw any of them tells the same.
        another = await here.coordinator("another")
        await until_followed(await here.client(another), height)
        assert await told(another.address, swap_ids) == before


async def test_what_was_never_ordered_is_lost_and_it_says_so(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        unordered, delegated, other = [await here.terms() for _ in range(3)]
        await client.propose(unordered, idempotency_key=b"key")
        with pytest.raises(Conflict):
            await client.propose(other, idempotency_key=b"key")
        preimage = here.ann.preimage(delegated)
        await client.propose(
            delegated, idempotency_key=b"2", reveal_policy=RevealPolicy.DELEGATED, preimage=preimage
        )
        await bridge.kill()
        assert bridge.log().count("database_is_empty") == 1
        delete_data(bridge)

        await here.coordinator()
        assert bridge.log().count("database_is_empty") == 2
        assert "preimages that were delegated" in bridge.log()
        for terms_bytes in (unordered, delegated):
            with pytest.raises(UnknownSwap, match="propose the rest to it again"):
                await client.swap(swap_id_of(terms_bytes))
        # The key stands for nothing any more, and a swap is what its terms say, whoever is told of it.
        await client.propose(other, idempotency_key=b"key")
        swap_id = await here.give(client, delegated, policy=RevealPolicy.DELEGATED, preimage=preimage)
        async with asyncio.timeout(60):
            assert (await client.wait_until(swap_id, DECIDED)).phase is SwapPhase.COMMITTED
        # Started on what it has, it has lost nothing.
        await bridge.kill()
        await here.coordinator()
        assert bridge.log().count("database_is_empty") == 2
        with pytest.raises(Conflict):
            await client.propose(unordered, idempotency_key=b"key")
