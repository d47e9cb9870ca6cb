"""The service and its client, over a real connection: every answer proven, and none believed that is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.node.client import ClientSettings, connect, error_from_rpc
from deploy.node.server import ServerSettings, serving
from lockstep.commitment import LOCKED, balance_key, supply_key
from lockstep.errors import (
    BadSignature,
    LockstepError,
    Malformed,
    NotFound,
    NotImplementedYet,
    NotReady,
    NotYet,
    ProofInvalid,
    TimedOut,
    UnknownSwap,
    WrongRollup,
)
from lockstep.receipts import (
    ReceiptCode,
    SettledReceipt,
    SettlementCode,
    TransactionReceipt,
    decode_receipt,
)
from lockstep.register import Phase
from lockstep.swap_entries import RejectReason
from lockstep.transactions import Lock, Transfer, decode_transaction
from lockstep.types import SwapId, TransactionId
from lockstep.v1 import rollup_pb2, rollup_pb2_grpc
from rollups.client import RollupClient
from rollups.node import RollupNode
from rollups.poster import Poster
from rollups.service import SERVICE_NAME, RollupService
from rollups.storage import Storage
from tests.unit.rollups.chain import ALPHA, ANN, ATTESTERS, BETA, BOB, CARL, Chain, Swap, key, make_swap
from tests.unit.rollups.running import DEADLINE_S, FakeLog, FakeOrder, reach, running


@dataclass
class Served:
    """A node behind a real server, and what tests need of it."""

    chain: Chain
    order: FakeOrder
    node: RollupNode
    client: RollupClient
    stub: Any
    channel: Any

    async def block(self, *transactions: tuple[str, bytes]) -> int:
        height = self.order.block(*transactions)
        await reach(self.node, height)
        return height

    def pay(self, amount: int = 1) -> tuple[TransactionId, tuple[str, bytes]]:
        payload = self.chain.signed(ANN, Transfer(b"gold", CARL.public_key, amount))
        return decode_transaction(payload).id, (ALPHA, payload)

    async def play_swap(self) -> Swap:
        """Commit a swap in three blocks."""
        swap = make_swap(self.chain)
        lock = (ALPHA, self.chain.signed(ANN, Lock(swap.id, 0)))
        await self.block(swap.open, lock)
        none = RejectReason.NONE
        await self.block(
            self.chain.attest((swap.id, 0, none)), self.chain.attest((swap.id, 1, none), of=BETA)
        )
        await self.block(swap.reveal)
        return swap


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    chain = Chain()
    order, stopping = FakeOrder(chain), asyncio.Event()
    async with asyncio.timeout(2 * DEADLINE_S), running(folder, order) as node:
        service = RollupService(node, stopping)
        async with (
            serving(
                ServerSettings(),
                register=lambda server: rollup_pb2_grpc.add_RollupServicer_to_server(service, server),
                service_names=(SERVICE_NAME,),
                stopping=stopping,
            ) as server,
            RollupClient(server.address, chain.genesis, ALPHA) as client,
            connect(server.address, ClientSettings()) as channel,
        ):
            stub = rollup_pb2_grpc.RollupStub(channel)
            yield Served(chain, order, node, client, stub, channel)


async def error_of(call: Any) -> LockstepError:  # noqa: ANN401
    """Return the error with which a raw call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return error_from_rpc(failed.value, peer="rollup")


# --- answers ----------------------------------------------------------------------------------------------


async def test_status_from_the_start_on(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        status = await alpha.client.status()
        assert (status.height, status.commitment, status.attester) == (0, None, None)
        assert status.modules == ("bank", "escrow")
        await alpha.block(alpha.pay()[1])
        status = await alpha.client.status()
        assert (status.height, status.head_height, status.time_ms) == (1, 1, alpha.chain.time_ms)
        assert status.commitment == alpha.node.published.commitment
        assert status.not_ready_reason == ""


async def test_balances_are_proven(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await alpha.block(alpha.pay(300)[1])
        assert await alpha.client.balance(ANN.public_key, "gold") == 700
        assert await alpha.client.balance(key("nobody").public_key, "gold") == 0
        assert await alpha.client.balances(CARL.public_key) == {"gold": 300, "free": 0, "vast": 2**128 - 1}
        with pytest.raises(NotFound):
            await alpha.client.balance(ANN.public_key, "silver")


async def test_a_call_waits_for_the_height_that_it_asks_for(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await alpha.block()
        waiting = asyncio.create_task(alpha.client.balance(CARL.public_key, "gold", min_height=3))
        await alpha.block()
        assert not waiting.done()
        await alpha.block(alpha.pay(5)[1])
        assert await waiting == 5
        with pytest.raises(TimedOut):
            await alpha.client.balance(CARL.public_key, "gold", min_height=99, timeout_ms=100)


async def test_state_values_are_proven_present_and_absent(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await alpha.block()
        keys = [supply_key(b"gold"), balance_key(b"gold", key("nobody").public_key), b"no key at all"]
        state = await alpha.client.state(keys)
        assert [state.values[each] for each in keys] == [(2_000).to_bytes(16, "big"), None, None]


async def test_receipts_of_transactions_and_waiting_for_them(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        transaction_id, payment = alpha.pay()
        await alpha.block()
        with pytest.raises(NotFound):
            await alpha.client.receipt(transaction_id)
        with pytest.raises(NotFound):
            await alpha.client.receipt(transaction_id, wait_ms=30)
        waiting = asyncio.create_task(alpha.client.receipt(transaction_id, wait_ms=10_000))
        await alpha.block(payment)
        receipt = await waiting
        assert (receipt.code, receipt.height, receipt.signer) == (ReceiptCode.OK, 2, ANN.public_key)


async def test_a_wait_searches_the_database_for_its_own_receipt_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = 0
    find = Storage.receipt_of_leg

    async def counted(storage: Storage, swap_id: SwapId, leg: int) -> tuple[int, bytes] | None:
        nonlocal searches
        searches += 1
        return await find(storage, swap_id, leg)

    monkeypatch.setattr(Storage, "receipt_of_leg", counted)
    async with served(tmp_path) as alpha:
        await alpha.block()
        other = await alpha.play_swap()
        waiting = asyncio.create_task(alpha.client.settlement(SwapId(bytes(32)), 0, wait_ms=10_000))
        settled = await alpha.client.settlement(other.id, 0, wait_ms=10_000)
        assert settled.height == alpha.node.published.height
        for _ in range(5):
            await alpha.block(alpha.pay()[1])
        assert searches == 2
        alpha.node.hold_back("test", "somebody looks")
        with pytest.raises(NotReady):
            await waiting


async def test_the_receipt_that_acted_is_told_rather_than_copies_that_failed(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        swap = make_swap(alpha.chain)
        lock = (ALPHA, alpha.chain.signed(ANN, Lock(swap.id, 0)))
        lock_id = decode_transaction(lock[1]).id
        await alpha.block(lock)
        assert (await alpha.client.receipt(lock_id)).code == ReceiptCode.NO_OPEN_SWAP
        await alpha.block(lock, swap.open, lock)
        assert (await alpha.client.receipt(lock_id)).code == ReceiptCode.OK
        await alpha.block(lock)
        assert (await alpha.client.receipt(lock_id)).code == ReceiptCode.OK


async def test_old_receipts_are_proven_under_the_newest_commitment(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        ids = []
        for _ in range(5):
            transaction_id, payment = alpha.pay()
            ids.append(transaction_id)
            await alpha.block(payment)
        assert [(await alpha.client.receipt(each)).height for each in ids] == [1, 2, 3, 4, 5]


async def test_swaps_their_escrow_and_settlement(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        request = rollup_pb2.RollupGetSwapRequest(swap_id=bytes(32))
        assert isinstance(await error_of(alpha.stub.GetSwap(request, timeout=10)), NotReady)
        swap = make_swap(alpha.chain)
        await alpha.block(swap.open, (ALPHA, alpha.chain.signed(ANN, Lock(swap.id, 0))))
        found = await alpha.client.swap(swap.id)
        assert found.record is not None
        assert (found.record.phase, found.record.opened_height) == (Phase.OPEN, 1)
        assert found.record.terms == swap.terms
        [(leg, escrow)] = found.escrows.items()
        assert (leg, escrow.verdict, escrow.amount) == (0, LOCKED, 100)
        with pytest.raises(UnknownSwap):
            await alpha.client.swap(SwapId(bytes(32)))
        with pytest.raises(NotFound):
            await alpha.client.settlement(swap.id, 0)
        await alpha.block(swap.cancel)
        settled = await alpha.client.settlement(swap.id, 0)
        assert isinstance(settled, SettledReceipt)
        assert settled.code == SettlementCode.ABORTED
        assert not (await alpha.client.swap(swap.id)).escrows


async def test_a_settlement_under_the_commitment_of_any_height(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        swap = await alpha.play_swap()
        settled_height = (await alpha.client.settlement(swap.id, 0)).height
        for _ in range(3):
            await alpha.block(alpha.pay()[1])
        newest = (await alpha.client.proven_settlement(swap.id, 0)).commitment
        assert newest.height == settled_height + 3
        for height in range(settled_height, newest.height + 1):
            proven = await alpha.client.proven_settlement(swap.id, 0, at_height=height)
            assert proven.commitment == await alpha.client.commitment(height)
            assert proven.receipt == decode_receipt(proven.encoded)
        with pytest.raises(NotFound, match=f"after block {settled_height - 1}"):
            await alpha.client.proven_settlement(swap.id, 0, at_height=settled_height - 1)
        with pytest.raises(NotYet):
            await alpha.client.proven_settlement(swap.id, 0, at_height=newest.height + 1)


async def test_a_settlement_under_another_commitment_than_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = RollupService.GetReceipt

    async def answer(self: RollupService, request: Any, context: Any) -> Any:  # noqa: ANN401
        request.at_height = 0
        return await honest(self, request, context)

    monkeypatch.setattr(RollupService, "GetReceipt", answer)
    async with served(tmp_path) as alpha:
        swap = await alpha.play_swap()
        await alpha.block()
        with pytest.raises(Malformed, match="another height"):
            await alpha.client.proven_settlement(swap.id, 0, at_height=3)


async def test_commitments_of_every_height(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        newest = rollup_pb2.GetCommitmentRequest()
        assert isinstance(await error_of(alpha.stub.GetCommitment(newest, timeout=10)), NotYet)
        for _ in range(3):
            await alpha.block()
        heights = [(await alpha.client.commitment(height)).height for height in (1, 2, 3, 0)]
        assert heights == [1, 2, 3, 3]
        fourth = rollup_pb2.GetCommitmentRequest(height=4)
        assert isinstance(await error_of(alpha.stub.GetCommitment(fourth, timeout=10)), NotYet)


async def test_a_posted_commitment_comes_with_its_signature(tmp_path: Path) -> None:
    attester, order, log = ATTESTERS[ALPHA], FakeOrder(Chain()), FakeLog()
    stopping = asyncio.Event()
    for _ in range(4):
        order.block()
    async with running(tmp_path, order, key=attester, log=log) as node:
        await log.until_heights(4)
        service = RollupService(
            node, stopping, attester=attester.public_key, poster=Poster(attester, node, log)
        )
        async with (
            serving(
                ServerSettings(),
                register=lambda server: rollup_pb2_grpc.add_RollupServicer_to_server(service, server),
                service_names=(SERVICE_NAME,),
                stopping=stopping,
            ) as server,
            RollupClient(server.address, order.chain.genesis, ALPHA) as client,
        ):
            proven = await client.proven_commitment(4)
            assert proven.posted == log.commitments[0]
            assert (await client.proven_commitment(3)).posted is None
            assert (await client.status()).attester == attester.public_key


async def test_receipts_are_streamed_old_then_new(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await alpha.play_swap()
        call = alpha.stub.StreamReceipts(rollup_pb2.StreamReceiptsRequest(from_index=0))
        first = await call.read()
        kinds = [type(decode_receipt(each.receipt)) for each in first.receipts]
        assert kinds == [TransactionReceipt, SettledReceipt]
        assert (first.next_index, first.height) == (2, 3)
        await alpha.block(alpha.pay()[1])
        second = await call.read()
        assert [each.index for each in second.receipts] == [2]
        call.cancel()
        by_height = alpha.stub.StreamReceipts(rollup_pb2.StreamReceiptsRequest(from_height=2))
        assert [each.index for each in (await by_height.read()).receipts] == [1, 2]
        by_height.cancel()
        request = rollup_pb2.StreamReceiptsRequest(from_index=0, account=BOB.public_key)
        of_bob = alpha.stub.StreamReceipts(request)
        found = await of_bob.read()
        assert ([each.index for each in found.receipts], found.next_index) == ([1], 3)
        of_bob.cancel()
        beyond = alpha.stub.StreamReceipts(rollup_pb2.StreamReceiptsRequest(from_index=4))
        assert isinstance(await error_of(beyond.read()), NotYet)


# --- refusals ---------------------------------------------------------------------------------------------


async def test_a_silent_node_answers_its_status_and_commitments_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        await alpha.block()
        alpha.node.stop_speaking("a test")
        assert (await alpha.client.status()).not_ready_reason == "a test"
        for call in (
            alpha.stub.GetAccount(rollup_pb2.GetAccountRequest(account=bytes(32)), timeout=10),
            alpha.stub.GetState(rollup_pb2.GetStateRequest(keys=[b"key"]), timeout=10),
            alpha.stub.GetSwap(rollup_pb2.RollupGetSwapRequest(swap_id=bytes(32)), timeout=10),
            alpha.stub.GetReceipt(rollup_pb2.GetReceiptRequest(index=0), timeout=10),
            alpha.stub.StreamReceipts(rollup_pb2.StreamReceiptsRequest()).read(),
        ):
            assert isinstance(await error_of(call), NotReady)
        assert (await alpha.client.commitment()).height == 1, "others may look where they differ"


async def test_what_this_version_does_not_offer(tmp_path: Path) -> None:
    async with served(tmp_path) as alpha:
        call = alpha.stub.StreamSnapshot(rollup_pb2.StreamSnapshotRequest())
        assert isinstance(await error_of(call.read()), NotImplementedYet)


# --- lies -------------------------------------------------------------------------------------------------

Ask = Callable[[RollupClient], Any]


def set_amount(response: Any) -> None:  # noqa: ANN401
    response.balances[0].amount = "1001"


def drop_balance(response: Any) -> None:  # noqa: ANN401
    del response.balances[:]


def other_commitment(response: Any) -> None:  # noqa: ANN401
    encoded = bytearray(response.commitment.commitment)
    encoded[20] ^= 1
    response.commitment.commitment = bytes(encoded)


def spoil_header(response: Any) -> None:  # noqa: ANN401
    encoded = bytearray(response.commitment.header.header)
    encoded[60] ^= 1
    response.commitment.header.header = bytes(encoded)


def spoil_signature(response: Any) -> None:  # noqa: ANN401
    response.commitment.header.proof = bytes(64)


def other_rollup(response: Any) -> None:  # noqa: ANN401
    response.commitment.commitment = response.commitment.commitment.replace(b"alpha", b"alphx")


def spoil_receipt(response: Any) -> None:  # noqa: ANN401
    response.receipt.receipt = response.receipt.receipt[:-1] + b"\x02"


def other_size(response: Any) -> None:  # noqa: ANN401
    response.receipt.proof.size += 1


def spoil_record(response: Any) -> None:  # noqa: ANN401
    encoded = bytearray(response.record)
    encoded[1] = Phase.COMMITTED
    response.record = bytes(encoded)


def spoil_parts(response: Any) -> None:  # noqa: ANN401
    response.register_parts = bytes(64)


def more_escrow(response: Any) -> None:  # noqa: ANN401
    encoded = bytearray(response.escrows[0].record)
    encoded[-17] ^= 1
    response.escrows[0].record = bytes(encoded)


def other_value(response: Any) -> None:  # noqa: ANN401
    response.values[0].value = b"another"


LIES = [
    ("GetAccount", set_amount, ProofInvalid),
    ("GetAccount", drop_balance, Malformed),
    ("GetAccount", other_commitment, ProofInvalid),
    ("GetAccount", spoil_header, BadSignature),
    ("GetAccount", spoil_signature, BadSignature),
    ("GetAccount", other_rollup, WrongRollup),
    ("GetReceipt", spoil_receipt, ProofInvalid),
    ("GetReceipt", other_size, Malformed),
    ("GetSwap", spoil_record, ProofInvalid),
    ("GetSwap", spoil_parts, Malformed),
    ("GetSwap", more_escrow, ProofInvalid),
    ("GetState", other_value, ProofInvalid),
]


@pytest.mark.parametrize(("method", "lie", "expected"), LIES)
async def test_lies_are_found_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    lie: Callable[[Any], None],
    expected: type[LockstepError],
) -> None:
    honest = getattr(RollupService, method)

    async def answer(self: RollupService, request: object, context: object) -> object:
        response = await honest(self, request, context)
        lie(response)
        return response

    monkeypatch.setattr(RollupService, method, answer)
    async with served(tmp_path) as alpha:
        swap = make_swap(alpha.chain)
        transaction_id, payment = alpha.pay()
        await alpha.block(swap.open, (ALPHA, alpha.chain.signed(ANN, Lock(swap.id, 0))), payment)
        calls: dict[str, Ask] = {
            "GetAccount": lambda client: client.balance(ANN.public_key, "gold"),
            "GetReceipt": lambda client: client.receipt(transaction_id),
            "GetSwap": lambda client: client.swap(swap.id),
            "GetState": lambda client: client.state([supply_key(b"gold")]),
        }
        with pytest.raises(expected):
            await calls[method](alpha.client)
