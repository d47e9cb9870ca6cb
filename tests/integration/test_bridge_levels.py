"""A coordinator among real rollup nodes and a real settlement log: levels, settled legs, and who is away."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.client import BridgeClient, CommitLevel, RevealPolicy, SwapPhase, SwapView
from bridge.coordinator import PROGRESS_PERSISTED
from lockstep import limits
from lockstep.types import SwapId
from tests.integration.bridge_network import CYCLE, market, until_level
from tests.integration.bridge_process import until
from tests.integration.rollup_network import DEADLINE_S
from tests.unit.rollups.chain import ALPHA, BETA

pytestmark = pytest.mark.processes


async def changes_until(client: BridgeClient, swap_id: SwapId, first: int, last: int) -> Sequence[SwapView]:
    """Return every change of a swap with numbers from `first` to `last`."""
    seen = []
    async with asyncio.timeout(DEADLINE_S), aclosing(client.watch(first, [swap_id])) as changes:
        async for view in changes:
            seen.append(view)
            if view.sequence == last:
                return seen
    raise AssertionError("watch ends only by raising")


async def until_explained(client: BridgeClient, swap_id: SwapId, start: str) -> None:
    """Wait until what is told about who is being waited for starts so."""
    async with asyncio.timeout(DEADLINE_S):
        while not (await client.explain(swap_id)).waiting_for.startswith(start):  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("legs", [3, limits.LEGS_MAX])
async def test_a_cycle_over_three_rollups_rises_to_anchored(tmp_path: Path, legs: int) -> None:
    async with market(tmp_path, "alpha-0", "beta-0", "gamma-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        first = (await client.status()).next_sequence
        swap_id = await here.commit(client, await here.terms((CYCLE * legs)[:legs]))
        end = await until_level(client, swap_id, CommitLevel.ANCHORED)
        assert [leg.settled for leg in end.legs] == [True] * legs
        for rollup in CYCLE:
            node = await here.net.client(f"{rollup}-0")
            assert (await node.status()).height >= end.decided_height

        seen = await changes_until(client, swap_id, first, end.sequence)
        assert [view.sequence for view in seen] == sorted({view.sequence for view in seen})
        for before, after in pairwise(seen):
            # A level falls only to begin anew with the decision.
            assert after.level >= before.level or (after.is_final and not before.is_final)
            assert [leg.settled for leg in after.legs] >= [leg.settled for leg in before.legs]
        assert not any(leg.settled for view in seen if not view.is_final for leg in view.legs)

        explained = await client.explain(swap_id)
        assert explained.waiting_for == ""
        kinds = [event.kind for event in explained.events]
        assert kinds.count("settled") == legs
        assert kinds.index("decided") < kinds.index("settled") < kinds.index("anchored") == len(kinds) - 1
        # Levels are durable, and nobody is asked again about what is known.
        await bridge.kill()
        await here.coordinator()
        again = await client.explain(swap_id)
        assert (again.swap, again.events) == (end, explained.events)


async def test_a_rollup_that_is_away_delays_its_own_leg(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        terms_bytes = await here.terms()
        swap_id = await here.give(client, terms_bytes)
        assert (await client.wait_until(swap_id, [SwapPhase.LOCKED])).phase is SwapPhase.LOCKED
        await here.net.nodes["beta-0"].kill()
        await client.reveal(swap_id, here.ann.preimage(terms_bytes))
        await until_explained(client, swap_id, "beta to execute the decision")
        view = await client.swap(swap_id)
        assert [leg.settled for leg in view.legs] == [True, False]
        assert view.level is CommitLevel.ORDERED
        await until(lambda: "rollup_not_followed" in bridge.log())

        await here.net.nodes["beta-0"].start()
        view = await until_level(client, swap_id, CommitLevel.ANCHORED)
        assert [leg.settled for leg in view.legs] == [True, True]
        assert bridge.log().count("rollup_not_followed") == 1


async def test_a_log_that_is_away_delays_anchors_alone(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        await here.net.nodes["settlement"].kill()
        swap_id = await here.commit(client, await here.terms())
        view = await until_level(client, swap_id, CommitLevel.EXECUTED)
        assert (view.level, [leg.settled for leg in view.legs]) == (CommitLevel.EXECUTED, [True, True])
        await until_explained(client, swap_id, "the settlement log to anchor the decision")
        await until(lambda: "settlement_log_not_followed" in bridge.log())
        await bridge.kill()
        await here.coordinator()
        await here.net.nodes["settlement"].start()
        await until_level(client, swap_id, CommitLevel.ANCHORED)


@pytest.mark.parametrize("pass_number", [1, 2])
async def test_killed_once_levels_are_durable(tmp_path: Path, pass_number: int) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as here:
        bridge = await here.coordinator(failpoints=f"{PROGRESS_PERSISTED}=kill@{pass_number}")
        client = await here.client(bridge)
        terms_bytes = await here.terms()
        swap_id = await here.give(
            client, terms_bytes, policy=RevealPolicy.UP_FRONT, preimage=here.ann.preimage(terms_bytes)
        )
        await bridge.ended()
        await here.coordinator()
        view = await until_level(client, swap_id, CommitLevel.ANCHORED)
        assert (view.phase, [leg.settled for leg in view.legs]) == (SwapPhase.COMMITTED, [True, True])
        # Each was told once, in whichever life it was seen.
        events = [event.kind for event in (await client.explain(swap_id)).events]
        assert (events.count("settled"), events.count("anchored")) == (2, 1)


async def test_another_node_of_a_rollup_speaks_for_one_that_is_away(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0", "beta-1") as here:
        client = await here.client(await here.coordinator())
        # Without the log nothing but nodes can tell that a rollup has executed a block.
        await here.net.nodes["settlement"].kill()
        terms_bytes = await here.terms((ALPHA, BETA))
        swap_id = await here.give(client, terms_bytes)
        await client.wait_until(swap_id, [SwapPhase.LOCKED])
        await here.net.nodes["beta-0"].kill()
        await client.reveal(swap_id, here.ann.preimage(terms_bytes))
        view = await until_level(client, swap_id, CommitLevel.EXECUTED)
        assert [leg.settled for leg in view.legs] == [True, True]
