"""Bad input to every call of a rollup node: the documented code, the field, and nothing else happens."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lockstep.errors import (
    LockstepError,
    Malformed,
    NotFound,
    NotImplementedYet,
    NotReady,
    NotYet,
    TimedOut,
    UnknownSwap,
)
from lockstep.transactions import Lock
from lockstep.v1 import rollup_pb2
from tests.unit.rollups.chain import ALPHA, ANN, BOB, make_swap
from tests.unit.rollups.test_service import Served, error_of, served

LONG = 2**63
LEG = rollup_pb2.LegName


class Bad(NamedTuple):
    """A request, and what becomes of it. The chain has two blocks and three receipts."""

    method: str
    request: Any
    error: type[LockstepError]
    named: str = ""
    """The field, for MALFORMED; what is said otherwise."""


def account(**fields: Any) -> Any:  # noqa: ANN401
    return rollup_pb2.GetAccountRequest(**{"account": ANN.public_key, **fields})


def state(**fields: Any) -> Any:  # noqa: ANN401
    return rollup_pb2.GetStateRequest(**fields)


def receipt(**fields: Any) -> Any:  # noqa: ANN401
    return rollup_pb2.GetReceiptRequest(**fields)


def swap(**fields: Any) -> Any:  # noqa: ANN401
    return rollup_pb2.RollupGetSwapRequest(**fields)


def stream(**fields: Any) -> Any:  # noqa: ANN401
    return rollup_pb2.StreamReceiptsRequest(**fields)


def commitment(height: int) -> Any:  # noqa: ANN401
    return rollup_pb2.GetCommitmentRequest(height=height)


BAD = [
    Bad("GetAccount", account(account=b""), Malformed, "account"),
    Bad("GetAccount", account(account=bytes(31)), Malformed, "account"),
    Bad("GetAccount", account(account=bytes(33)), Malformed, "account"),
    Bad("GetAccount", account(assets=["gold"] * 65), Malformed, "assets"),
    Bad("GetAccount", account(assets=["x" * 33]), Malformed, "assets"),
    Bad("GetAccount", account(assets=["ü" * 17]), Malformed, "assets"),
    Bad("GetAccount", account(assets=["gold", "silver"]), NotFound, "silver"),
    Bad("GetAccount", account(assets=[""]), NotFound, "asset"),
    Bad("GetAccount", account(min_height=LONG), Malformed, "min_height"),
    Bad("GetAccount", account(min_height=99), TimedOut),
    Bad("GetState", state(), Malformed, "keys"),
    Bad("GetState", state(keys=[b"key"] * 257), Malformed, "keys"),
    Bad("GetState", state(keys=[bytes(1_025)]), Malformed, "keys"),
    Bad("GetState", state(keys=[b"key"], min_height=2 * LONG - 1), Malformed, "min_height"),
    Bad("GetState", state(keys=[b"key"], min_height=99), TimedOut),
    Bad("GetReceipt", receipt(), Malformed, "subject"),
    Bad("GetReceipt", receipt(wait_ms=10), Malformed, "subject"),
    Bad("GetReceipt", receipt(transaction_id=b""), Malformed, "transaction_id"),
    Bad("GetReceipt", receipt(transaction_id=bytes(33)), Malformed, "transaction_id"),
    Bad("GetReceipt", receipt(transaction_id=bytes(32)), NotFound, "transaction"),
    Bad("GetReceipt", receipt(transaction_id=bytes(32), wait_ms=20), NotFound, "transaction"),
    Bad("GetReceipt", receipt(transaction_id=bytes(32), wait_ms=30_001), Malformed, "wait_ms"),
    Bad("GetReceipt", receipt(settled_leg=LEG(leg=0)), Malformed, "settled_leg.swap_id"),
    Bad("GetReceipt", receipt(settled_leg=LEG(swap_id=bytes(31))), Malformed, "settled_leg.swap_id"),
    Bad("GetReceipt", receipt(settled_leg=LEG(swap_id=bytes(32), leg=16)), Malformed, "settled_leg.leg"),
    Bad("GetReceipt", receipt(settled_leg=LEG(swap_id=bytes(32), leg=2**32 - 1)), Malformed, "settled_leg"),
    Bad("GetReceipt", receipt(settled_leg=LEG(swap_id=bytes(32), leg=15)), NotFound, "leg 15"),
    Bad("GetReceipt", receipt(index=3), NotFound, "number 3"),
    Bad("GetReceipt", receipt(index=LONG), Malformed, "index"),
    Bad("GetSwap", swap(), Malformed, "swap_id"),
    Bad("GetSwap", swap(swap_id=bytes(64)), Malformed, "swap_id"),
    Bad("GetSwap", swap(swap_id=bytes(32)), UnknownSwap, "00" * 32),
    Bad("GetSwap", swap(swap_id=bytes(32), min_height=LONG), Malformed, "min_height"),
    Bad("GetSwap", swap(swap_id=bytes(32), min_height=99), TimedOut),
    Bad("StreamReceipts", stream(account=bytes(31)), Malformed, "account"),
    Bad("StreamReceipts", stream(from_index=4), NotYet, "4"),
    Bad("StreamReceipts", stream(from_index=LONG), Malformed, "from_index"),
    Bad("StreamReceipts", stream(from_height=4), NotYet, "4"),
    Bad("StreamReceipts", stream(from_height=2 * LONG - 1), Malformed, "from_height"),
    Bad("GetCommitment", commitment(3), NotYet, "3"),
    Bad("GetCommitment", commitment(LONG - 1), NotYet),
    Bad("GetCommitment", commitment(LONG), Malformed, "height"),
    Bad("StreamSnapshot", rollup_pb2.StreamSnapshotRequest(), NotImplementedYet, "snapshots"),
]


async def refused(alpha: Served, bad: Bad) -> LockstepError:
    """Return the error of a call, whose deadline is short where the call would wait."""
    call = getattr(alpha.stub, bad.method)(bad.request, timeout=0.2 if bad.error is TimedOut else 10)
    return await error_of(call.read() if bad.method.startswith("Stream") else call)


async def play(alpha: Served) -> None:
    first = make_swap(alpha.chain)
    await alpha.block(first.open, (ALPHA, alpha.chain.signed(ANN, Lock(first.id, 0))), alpha.pay()[1])
    await alpha.block(alpha.pay()[1])


async def test_every_bad_request_gets_its_code_and_changes_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await play(alpha)
        before = alpha.node.published
        root, receipts = before.state.content.root, await alpha.node.storage.receipts_from(0, 10)
        assert len(receipts) == 3
        for bad in BAD:
            error = await refused(alpha, bad)
            assert type(error) is bad.error, (bad, error)
            named = error.field if isinstance(error, Malformed) else str(error)
            assert bad.named in named, (bad, error)
        assert alpha.node.published is before
        assert alpha.node.published.state.content.root == root
        assert await alpha.node.storage.receipts_from(0, 10) == receipts
        assert await alpha.client.balance(BOB.public_key, "gold") == 1_000, "and it goes on answering"
        await alpha.block(alpha.pay()[1])


def test_every_call_has_its_bad_requests() -> None:
    calls = rollup_pb2.DESCRIPTOR.services_by_name["Rollup"].methods_by_name.keys()
    assert {bad.method for bad in BAD} == {*calls} - {"GetStatus"}, "GetStatus takes nothing"


async def test_bytes_that_are_no_request_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await play(alpha)
        for method in ("GetStatus", "GetAccount", "GetReceipt", "GetSwap", "GetState", "GetCommitment"):
            raw = alpha.channel.unary_unary(f"/lockstep.v1.Rollup/{method}")
            error = await error_of(raw(b"\xff\xff\xff", timeout=10))
            assert isinstance(error, Malformed), error
        assert await alpha.client.balance(BOB.public_key, "gold") == 1_000


@pytest.mark.parametrize("bad", [each for each in BAD if each.error is Malformed], ids=str)
async def test_what_is_malformed_is_so_before_the_first_block(tmp_path: Path, bad: Bad) -> None:
    """Whether a request makes sense does not depend on where the node stands."""
    async with served(tmp_path) as alpha:
        error = await refused(alpha, bad)
        assert isinstance(error, Malformed)


# --- streams ----------------------------------------------------------------------------------------------


async def indexes(alpha: Served, count: int, **fields: Any) -> list[int]:  # noqa: ANN401
    """Return the first `count` indexes of a stream."""
    call, found = alpha.stub.StreamReceipts(stream(**fields)), list[int]()
    while len(found) < count:
        found += [each.index for each in (await call.read()).receipts]
    call.cancel()
    return found


async def test_a_stream_resumes_at_every_index_and_height(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollups.service.STREAM_RECEIPTS_MAX", 2)
    async with served(tmp_path) as alpha:
        first_at = {}
        total = 0
        for count in (2, 0, 1, 3, 0, 1):
            height = await alpha.block(*(alpha.pay()[1] for _ in range(count)))
            first_at[height] = total
            total += count
        for start in range(total):
            assert await indexes(alpha, total - start, from_index=start) == list(range(start, total))
        for height, start in first_at.items():
            expected = list(range(start, total))
            assert await indexes(alpha, len(expected), from_height=height) == expected
        waiting = asyncio.create_task(indexes(alpha, 1, from_index=total))
        by_height = asyncio.create_task(indexes(alpha, 1, from_height=height + 1))
        await alpha.block(alpha.pay()[1])
        assert await waiting == await by_height == [total]


async def test_a_filtered_stream_resumes_where_it_had_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollups.service.STREAM_RECEIPTS_MAX", 2)
    async with served(tmp_path) as alpha:
        await alpha.play_swap()
        await alpha.block(*(alpha.pay()[1] for _ in range(5)))
        next_index, found = 0, list[int]()
        while next_index < alpha.node.published.state.receipts.size:
            call = alpha.stub.StreamReceipts(stream(from_index=next_index, account=BOB.public_key))
            part = await call.read()
            call.cancel()
            assert part.next_index > next_index
            next_index = part.next_index
            found += [each.index for each in part.receipts]
        assert found == [1], "Bob is paid by the swap's settlement alone"


async def test_a_stream_ends_when_the_node_falls_silent(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await play(alpha)
        call = alpha.stub.StreamReceipts(stream())
        assert (await call.read()).next_index == 3
        alpha.node.stop_speaking("a test")
        await alpha.block(alpha.pay()[1])
        assert isinstance(await error_of(call.read()), NotReady)
