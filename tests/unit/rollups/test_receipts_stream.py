"""The client's stream of receipts: over lost connections and restarted nodes, without gaps or repetitions."""

import asyncio
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from deploy.node.server import ServerSettings, serving
from lockstep.errors import Malformed
from lockstep.receipts import SettledReceipt, TransactionReceipt
from lockstep.transactions import Transfer
from lockstep.v1 import rollup_pb2, rollup_pb2_grpc
from rollups.client import ReceiptsPart, RollupClient
from rollups.client.answers import read_receipts
from rollups.service import SERVICE_NAME, RollupService
from tests.unit.rollups.chain import ALPHA, ANN, BOB, CARL, Chain
from tests.unit.rollups.running import DEADLINE_S, FakeOrder, reach, running
from tests.unit.rollups.test_service import served


async def take(client: RollupClient, count: int, **start: Any) -> list[int]:  # noqa: ANN401
    """Return the first indexes of a stream."""
    found: list[int] = []
    async with asyncio.timeout(DEADLINE_S), aclosing(client.receipts(**start)) as parts:
        async for part in parts:
            found += [index for index, _ in part.receipts]
            if len(found) >= count:
                break
    return found


async def test_receipts_from_an_index_a_height_and_of_an_account(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await alpha.play_swap()
        await alpha.block(alpha.pay()[1], alpha.pay()[1])
        assert await take(alpha.client, 4) == [0, 1, 2, 3]
        assert await take(alpha.client, 2, from_index=2) == [2, 3]
        assert await take(alpha.client, 2, from_height=4) == [2, 3]
        assert await take(alpha.client, 3, account=ANN.public_key) == [0, 2, 3]
        assert await take(alpha.client, 1, account=BOB.public_key) == [1]
        async with aclosing(alpha.client.receipts(account=BOB.public_key)) as parts:
            part = await anext(parts)
        [(_, receipt)] = part.receipts
        assert isinstance(receipt, SettledReceipt)
        assert (part.next_index, part.height) == (4, 4)


async def test_a_restarted_node_is_gone_on_with(tmp_path: Path) -> None:
    order, port = FakeOrder(Chain()), 0
    found: list[int] = []
    client: RollupClient | None = None
    parts: Any = None
    for _ in range(3):
        stopping = asyncio.Event()
        async with asyncio.timeout(DEADLINE_S), running(tmp_path, order) as node:
            service = RollupService(node, stopping)
            async with serving(
                ServerSettings(port=port, stop_grace_ms=100),
                register=lambda server, service=service: rollup_pb2_grpc.add_RollupServicer_to_server(  # type: ignore[misc]
                    service, server
                ),
                service_names=(SERVICE_NAME,),
                stopping=stopping,
            ) as server:
                port = server.port
                if client is None:
                    client = await RollupClient(server.address, order.chain.genesis, ALPHA).__aenter__()
                    parts = client.receipts()
                for _ in range(3):
                    payment = order.chain.signed(ANN, Transfer(b"gold", CARL.public_key, 1))
                    await reach(node, order.block((ALPHA, payment)))
                    part: ReceiptsPart = await anext(parts)
                    found += [index for index, _ in part.receipts]
                    assert all(isinstance(each, TransactionReceipt) for _, each in part.receipts)
                stopping.set()
    assert found == list(range(9))
    await parts.aclose()
    assert client is not None
    await client.__aexit__(None, None, None)


async def test_what_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        waiting = asyncio.create_task(take(alpha.client, 1, from_index=2))
        for _ in range(3):
            await alpha.block(alpha.pay()[1])
        assert (await waiting)[0] == 2


async def test_what_is_not_worth_repeating_is_raised(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        with pytest.raises(Malformed):
            await take(alpha.client, 1, from_index=2**63)


@pytest.mark.parametrize(
    ("indexes", "next_index", "from_index", "is_filtered", "is_right"),
    [
        ([3, 4], 5, 3, False, True),
        ([3, 4], 5, None, False, True),
        ([4], 9, 3, True, True),
        ([], 9, 3, True, True),
        ([], 9, None, True, True),
        ([3, 5], 6, 3, False, False),
        ([4], 5, 3, False, False),
        ([3], 5, 3, False, False),
        ([], 3, 3, True, False),
        ([5, 4], 9, 3, True, False),
        ([4, 4], 9, 3, True, False),
        ([2], 9, 3, True, False),
        ([9], 9, 3, True, False),
    ],
)
async def test_parts_that_leave_something_out_are_not_believed(
    tmp_path: Path,
    indexes: list[int],
    next_index: int,
    from_index: int | None,
    is_filtered: bool,
    is_right: bool,
) -> None:
    async with served(tmp_path) as alpha:
        await alpha.block(alpha.pay()[1])
        [(_, _, receipt)] = await alpha.node.storage.receipts_from(0, 1)
    receipts = [rollup_pb2.IndexedReceipt(index=index, receipt=receipt) for index in indexes]
    message = rollup_pb2.StreamReceiptsResponse(receipts=receipts, next_index=next_index, height=1)
    with nullcontext() if is_right else pytest.raises(Malformed):
        part = read_receipts(message, from_index=from_index, is_filtered=is_filtered)
        assert part.next_index == next_index
