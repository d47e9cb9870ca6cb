"""Two coordinators drive the same swaps, and one is killed: each swap happens once, and is told alike."""

import asyncio
import random
from pathlib import Path

import pytest

from bridge.client import BridgeClient, CommitLevel, RevealPolicy, SwapPhase, SwapView
from bridge.coordinator import BLOCK_PERSISTED, SENDING_PERSISTED
from bridge.senders import SENT
from bridge.swap import SendKind
from lockstep.errors import LockstepError
from lockstep.header import genesis_tip
from lockstep.receipts import SettledReceipt, SettlementCode
from lockstep.swap_entries import Open, Reveal, decode_swap_entry
from lockstep.terms import decode_terms, swap_id_of
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, SwapId
from tests.integration.bridge_network import CYCLE, Market, market, until_level
from tests.integration.rollup_network import DEADLINE_S

pytestmark = pytest.mark.processes

SWAPS = 4


async def drive(here: Market, client: BridgeClient, swaps: list[bytes], seed: int) -> None:
    """Give a coordinator everything about some swaps, in an order of its own, until it has taken all."""
    things = [(terms_bytes, leg) for terms_bytes in swaps for leg in range(len(CYCLE))]
    random.Random(seed).shuffle(things)
    for terms_bytes in swaps:
        await client.propose(
            terms_bytes,
            idempotency_key=swap_id_of(terms_bytes),
            reveal_policy=RevealPolicy.DELEGATED,
            preimage=here.ann.preimage(terms_bytes),
        )
    for terms_bytes, leg in things:
        sender = here.traders[decode_terms(terms_bytes).legs[leg].sender]
        await client.accept(swap_id_of(terms_bytes), leg, sender.sign_lock(terms_bytes, leg))


async def ordered_entries(here: Market, height: int) -> list[bytes]:
    """Return every entry of `_swap` up to a height."""
    entries: list[bytes] = []
    genesis = here.net.genesis
    async with asyncio.timeout(DEADLINE_S):
        async for followed in here.net.sequencer.follow(
            tip=genesis_tip(genesis.chain_id, genesis.genesis_time_ms),
            namespaces=(SWAP_NAMESPACE, REGISTRY_NAMESPACE),
            sequencer_key=lambda _: genesis.sequencer,
        ):
            entries += [entry.payload for entry in followed.block.entries[SWAP_NAMESPACE]]
            if followed.block.header.height >= height:
                return entries
    raise AssertionError("the order is followed for ever")


async def verify_settled_once(here: Market, view: SwapView) -> None:
    for leg, rollup in enumerate(CYCLE):
        node = await here.net.client(f"{rollup}-0")
        receipt = await node.settlement(view.swap_id, leg, wait_ms=20_000)
        assert isinstance(receipt, SettledReceipt)
        assert receipt.code is SettlementCode.COMMITTED


@pytest.mark.parametrize(
    "point",
    [BLOCK_PERSISTED, SENDING_PERSISTED[SendKind.OPENING], SENT[SendKind.OPENING], SENT[SendKind.REVEAL]],
)
async def test_one_of_two_is_killed(tmp_path: Path, point: str) -> None:
    async with market(tmp_path, "alpha-0", "beta-0", "gamma-0") as here:
        dying = await here.coordinator("one", failpoints=f"{point}=kill")
        other = await here.coordinator("two")
        clients = [await here.client(each) for each in (dying, other)]
        swaps = [await here.terms(CYCLE, amount=10) for _ in range(SWAPS)]
        driving = [asyncio.create_task(drive(here, each, swaps, seed)) for seed, each in enumerate(clients)]
        await dying.ended()
        driving[0].cancel()
        first, second = await asyncio.gather(*driving, return_exceptions=True)
        assert second is None
        assert first is None or isinstance(first, LockstepError | asyncio.CancelledError)

        ids: list[SwapId] = [swap_id_of(terms_bytes) for terms_bytes in swaps]
        ends = [await until_level(clients[1], swap_id, CommitLevel.EXECUTED) for swap_id in ids]
        assert {view.phase for view in ends} == {SwapPhase.COMMITTED}
        for view in ends:
            await verify_settled_once(here, view)
        height = max(view.decided_height for view in ends)
        entries = [decode_swap_entry(payload) for payload in await ordered_entries(here, height)]
        assert sorted(each.swap_id for each in entries if isinstance(each, Open)) == sorted(ids)
        # Both may have revealed, and then one of the two did nothing.
        assert {each.swap_id for each in entries if isinstance(each, Reveal)} == set(ids)

        # Started again, the other one tells the same of every swap.
        await here.coordinator("one")
        for view in ends:
            again = await until_level(clients[0], view.swap_id, CommitLevel.EXECUTED)
            assert (again.phase, again.decided_height, again.decided_index, again.preimage) == (
                view.phase,
                view.decided_height,
                view.decided_index,
                view.preimage,
            )
