"""Bad input to every service: each is answered with its code, and nothing changes.

The cases are rows of protos/README.md. They go to real processes, one after the other; the last tests look at
what is left: the order holds nothing new, everybody has what they had, and the services answer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

import grpc
import pytest
import pytest_asyncio

from deploy.demonstration.market import exchange
from deploy.devnet.network import PROCESS_NAMES
from deploy.node.rpc_errors import error_from_rpc
from lockstep.errors import LockstepError
from lockstep.settlement_entries import CommitmentEntry, Evidence, HeaderRange, decode_settlement_entry
from lockstep.terms import swap_id_of
from lockstep.types import LOG_NAMESPACE
from lockstep.v1 import sequencer_pb2
from sequencer.proofs import names_of
from tests.integration import (  # noqa: F401
    bad_input_bridge,
    bad_input_quotes,
    bad_input_rollup,
    bad_input_sequencer,
    bad_input_settlement,
)
from tests.integration.bad_input import CASES, Case
from tests.integration.bad_input_ordered import ORDERED_CASES, OrderedCase, receipt_of
from tests.integration.bad_input_world import TIMEOUT_S, World, bad_input_world, balances

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

TOGETHER_S = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with bad_input_world(tmp_path_factory.mktemp("devnet") / "network") as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.call}: {case.name}")
async def test_bad_input(world: World, case: Case) -> None:
    if not case.code:
        await case.send(world)
        return
    with pytest.raises((grpc.aio.AioRpcError, LockstepError)) as raised:
        await case.send(world)
    failure = raised.value
    error = error_from_rpc(failure, peer="it") if isinstance(failure, grpc.aio.AioRpcError) else failure
    assert isinstance(error, LockstepError)
    assert (error.code, case.says in error.message) == (case.code, True), error.message


# --- what is left once all cases were sent ----------------------------------------------------------------


async def test_the_order_holds_nothing_new(world: World) -> None:
    """But for checkpoints of the settlement log, which come by themselves."""
    head = (await world.clients.sequencer.status()).height
    assert head > world.since
    request = sequencer_pb2.StreamBlocksRequest(from_height=world.since)
    height = world.since - 1
    async for answer in world.sequencer.StreamBlocks(request, timeout=TIMEOUT_S):
        for share in answer.blocks:
            assert set(names_of(share.namespace_leaves)) <= {LOG_NAMESPACE}
            height += 1
        if height >= head:
            break


async def test_everybody_has_what_they_had(world: World) -> None:
    assert await balances(world.market) == world.balances


async def test_the_swaps_stand_where_they_stood(world: World) -> None:
    page = await world.clients.bridge.list()
    found = {swap.swap_id: swap.phase.name for swap in page.swaps}
    assert found == {
        swap_id_of(world.locked): "LOCKED",
        swap_id_of(world.committed): "COMMITTED",
        swap_id_of(world.collecting): "COLLECTING",
    }
    collecting = await world.clients.bridge.swap(swap_id_of(world.collecting))
    assert {leg.state.name for leg in collecting.legs} == {"AWAITED"}


async def test_the_log_has_the_evidence_and_nothing_else_of_it(world: World) -> None:
    """Contradictions are the one thing that leaves something: evidence, once for each."""
    size = (await world.clients.settlement.status()).size
    kinds = []
    async with aclosing(world.clients.settlement.entries(1)) as entries:
        async for index, encoded in entries:
            entry = decode_settlement_entry(encoded)
            assert isinstance(entry, HeaderRange | CommitmentEntry | Evidence)
            kinds += [entry.kind.name] if isinstance(entry, Evidence) else []
            if index + 1 == size:
                break
    assert sorted(kinds) == ["COMMITMENTS", "HEADERS"]


@pytest.mark.parametrize("case", ORDERED_CASES, ids=lambda case: case.name)
async def test_what_is_ordered_and_wrong_has_a_receipt_that_says_so(world: World, case: OrderedCase) -> None:
    receipt = await receipt_of(world, await case.payload(world))
    assert receipt.code is case.code


async def test_and_moves_nothing(world: World) -> None:
    await test_everybody_has_what_they_had(world)
    await test_the_swaps_stand_where_they_stood(world)


async def test_all_of_it_at_once_holds_up_nobody(world: World) -> None:
    """Every case that leaves nothing, all together, while a swap goes through."""

    async def send(case: Case) -> None:
        with suppress(grpc.aio.AioRpcError, LockstepError):
            await case.send(world)

    async with asyncio.timeout(TOGETHER_S), asyncio.TaskGroup() as group:
        for case in CASES:
            if case.code != "CONTRADICTION":
                group.create_task(send(case))
        await test_a_swap_still_goes_through(world)


async def test_nobody_crashed_and_no_call_met_a_defect(world: World) -> None:
    assert [name for name in PROCESS_NAMES if not world.devnet.is_running(name)] == []
    for name in PROCESS_NAMES:
        log = world.network.log_file(name).read_text()
        assert "call_failed" not in log
        assert "Traceback" not in log


async def test_a_swap_still_goes_through(world: World) -> None:
    swap = await world.market.agree(exchange("alice", 21, "bob", 22))
    assert (await world.market.locked(swap)).phase.name == "LOCKED"
    await world.market.reveal(swap)
    assert (await world.market.decided(swap)).phase.name == "COMMITTED"
