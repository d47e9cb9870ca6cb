"""A client of one rollup node.

Owns the calls and their repetition. What an answer must prove is `rollups.client.answers`'. Every call has a
deadline, is repeated while that can help, and raises errors of `lockstep.errors`.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from deploy.node.client import (
    DEFAULT_BACKOFF,
    CallMethod,
    ClientSettings,
    connect,
    error_from_rpc,
    retrying,
)
from lockstep.commitment import Commitment
from lockstep.errors import Malformed, NotFound
from lockstep.genesis import Genesis
from lockstep.receipts import SettledReceipt, TransactionReceipt, UnbackedReceipt
from lockstep.types import Height, PublicKey, SwapId, TransactionId
from lockstep.v1 import common_pb2, rollup_pb2, rollup_pb2_grpc
from rollups.client.answers import (
    ProvenCommitment,
    ProvenReceipt,
    ProvenState,
    ReceiptsPart,
    RollupStatus,
    RollupSwap,
    read_receipts,
    verified_balances,
    verified_commitment,
    verified_receipt,
    verified_state,
    verified_status,
    verified_swap,
)
from sequencer.client.records import KeyAt

TIMEOUT_MS: Final = 10_000
"""How long a call may take unless it is told otherwise."""

WAIT_MS_ONCE_MAX: Final = 15_000
"""How long one call asks a node to wait for a receipt; longer waits are several calls. With TIMEOUT_MS it
lies below the longest deadline that servers allow."""

DEFAULT_SETTINGS: Final = ClientSettings()

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class RollupClient:
    """Asks one node of one rollup; use it in an `async with` block."""

    def __init__(
        self,
        target: str,
        genesis: Genesis,
        rollup: str,
        settings: ClientSettings = DEFAULT_SETTINGS,
        *,
        sequencer_key: KeyAt | None = None,
    ) -> None:
        """Name the node at `target` (`host:port`).

        `sequencer_key` gives the key that signs the header at a height; by default it is the genesis file's.
        """
        self._target = target
        self._genesis = genesis
        self._rollup = rollup
        self._settings = settings
        self._sequencer_key = sequencer_key or _always(genesis.sequencer)
        self._peer = f"rollup {rollup} at {target}"
        self._randomness = random.Random()

    async def __aenter__(self) -> Self:
        self._channel = connect(self._target, self._settings)
        self._stub = rollup_pb2_grpc.RollupStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def status(self, *, timeout_ms: int = TIMEOUT_MS) -> RollupStatus:
        """Return where the node stands."""
        response = await self._ask(self._stub.GetStatus, rollup_pb2.RollupGetStatusRequest(), timeout_ms)
        return verified_status(
            response, genesis=self._genesis, rollup=self._rollup, sequencer_key=self._sequencer_key
        )

    async def balance(
        self, account: PublicKey, asset: str, *, min_height: int = 0, timeout_ms: int = TIMEOUT_MS
    ) -> int:
        """Return an account's balance of an asset in base units, escrow not counted, proven.

        The answer is of `min_height` or later; the call waits for it. Raises `NotFound` for an unknown asset.
        """
        balances = await self._balances(account, (asset,), min_height, timeout_ms)
        if balances.keys() != {asset}:
            raise Malformed(what="answer", field="balances", reason="are not of the asset that was asked for")
        return balances[asset]

    async def balances(
        self, account: PublicKey, *, min_height: int = 0, timeout_ms: int = TIMEOUT_MS
    ) -> Mapping[str, int]:
        """Return an account's balances of all assets (at most 64), each proven."""
        return await self._balances(account, (), min_height, timeout_ms)

    async def state(
        self, keys: Sequence[bytes], *, min_height: int = 0, timeout_ms: int = TIMEOUT_MS
    ) -> ProvenState:
        """Return the values of 1..256 keys of the state, all after the same block, each proven."""
        request = rollup_pb2.GetStateRequest(keys=keys, min_height=min_height)
        response = await self._ask(self._stub.GetState, request, timeout_ms)
        commitment = self._verified(response.commitment).commitment
        if response.height != commitment.height or commitment.height < min_height:
            raise Malformed(what="answer", field="height", reason="is not what was asked for")
        return verified_state(response.values, keys=keys, commitment=commitment)

    async def swap(self, swap_id: SwapId, *, min_height: int = 0, timeout_ms: int = TIMEOUT_MS) -> RollupSwap:
        """Return what the register and this rollup's escrow say of a swap, proven. Raises `UnknownSwap`."""
        request = rollup_pb2.RollupGetSwapRequest(swap_id=swap_id, min_height=min_height)
        response = await self._ask(self._stub.GetSwap, request, timeout_ms)
        proven = self._verified(response.commitment)
        if proven.commitment.height < min_height:
            raise Malformed(what="answer", field="height", reason="is not the commitment's, or too low")
        return verified_swap(response, swap_id=swap_id, proven=proven)

    async def receipt(self, transaction_id: TransactionId, *, wait_ms: int = 0) -> TransactionReceipt:
        """Return what became of a transaction, proven: the first that acted, else the first that failed.

        Waits up to `wait_ms` of real time for it. Raises `NotFound` if it was not executed until then.
        """
        request = rollup_pb2.GetReceiptRequest(transaction_id=transaction_id)
        receipt = (await self._receipt(request, wait_ms)).receipt
        if not isinstance(receipt, TransactionReceipt) or receipt.subject != transaction_id:
            raise Malformed(what="answer", field="receipt", reason="is not the transaction's")
        return receipt

    async def settlement(
        self, swap_id: SwapId, leg: int, *, wait_ms: int = 0
    ) -> SettledReceipt | UnbackedReceipt:
        """Return how a leg of this rollup was settled, proven; waits as `receipt`. Raises `NotFound`."""
        receipt = (await self.proven_settlement(swap_id, leg, wait_ms=wait_ms)).receipt
        assert not isinstance(receipt, TransactionReceipt), "it is a leg's"
        return receipt

    async def proven_settlement(
        self,
        swap_id: SwapId,
        leg: int,
        *,
        at_height: int = 0,
        wait_ms: int = 0,
        timeout_ms: int = TIMEOUT_MS,
    ) -> ProvenReceipt:
        """Return how a leg was settled with its proof under the commitment after a block, 0 being the newest.

        Waits as `receipt`. Raises `NotFound` if it was not settled by then, `NotYet` if the block is not
        executed.
        """
        request = rollup_pb2.GetReceiptRequest(
            settled_leg=rollup_pb2.LegName(swap_id=swap_id, leg=leg), at_height=at_height
        )
        proven = await self._receipt(request, wait_ms, timeout_ms)
        receipt, height = proven.receipt, proven.commitment.height
        if isinstance(receipt, TransactionReceipt) or (receipt.subject, receipt.leg) != (swap_id, leg):
            raise Malformed(what="answer", field="receipt", reason="is not the leg's")
        if at_height not in (0, height):
            raise Malformed(what="answer", field="commitment", reason="is of another height")
        return proven

    async def receipts(
        self, from_index: int | None = None, *, from_height: int = 0, account: PublicKey | None = None
    ) -> AsyncGenerator[ReceiptsPart, None]:
        """Yield all receipts from an index, or else from a height on, and then new ones, for ever.

        With `account` only those that name it as signer or beneficiary. A lost connection is made again and
        the stream resumed; what the node does not have yet is waited for. Close it (`aclosing`) when done.
        Raises what is not worth repeating.
        """
        attempt = 0
        while True:
            start = {"from_height": from_height} if from_index is None else {"from_index": from_index}
            request = rollup_pb2.StreamReceiptsRequest(account=account or b"", **start)
            call = self._stub.StreamReceipts(request)
            after_ms: int | None = None
            try:
                async for response in call:
                    part = read_receipts(response, from_index=from_index, is_filtered=account is not None)
                    attempt, from_index = 0, part.next_index
                    yield part
            except grpc.aio.AioRpcError as failure:
                error = error_from_rpc(failure, peer=self._peer)
                if not error.retryable:
                    raise error from failure
                after_ms = error.retry_after_ms
            finally:
                call.cancel()
            attempt += 1
            wait_ms = DEFAULT_BACKOFF.wait_ms(attempt, after_ms, self._randomness)
            await asyncio.sleep(wait_ms / 1_000)

    async def commitment(self, height: int = 0, *, timeout_ms: int = TIMEOUT_MS) -> Commitment:
        """Return the commitment after a block, 0 being the newest. Raises `NotYet` or `Pruned`."""
        return (await self.proven_commitment(height, timeout_ms=timeout_ms)).commitment

    async def proven_commitment(self, height: int = 0, *, timeout_ms: int = TIMEOUT_MS) -> ProvenCommitment:
        """Return the commitment after a block with its block's signed header, and as it was posted."""
        request = rollup_pb2.GetCommitmentRequest(height=height)
        response = await self._ask(self._stub.GetCommitment, request, timeout_ms)
        proven = self._verified(response.commitment)
        if height not in (0, proven.commitment.height):
            raise Malformed(what="answer", field="commitment", reason="is of another height")
        return proven

    async def _balances(
        self, account: PublicKey, assets: Sequence[str], min_height: int, timeout_ms: int
    ) -> Mapping[str, int]:
        request = rollup_pb2.GetAccountRequest(account=account, assets=assets, min_height=min_height)
        response = await self._ask(self._stub.GetAccount, request, timeout_ms)
        commitment = self._verified(response.commitment).commitment
        if response.height != commitment.height or commitment.height < min_height:
            raise Malformed(what="answer", field="height", reason="is not what was asked for")
        return verified_balances(response.balances, account=account, commitment=commitment)

    async def _receipt(
        self, request: rollup_pb2.GetReceiptRequest, wait_ms: int, timeout_ms: int = TIMEOUT_MS
    ) -> ProvenReceipt:
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + wait_ms / 1_000
        while True:
            left_ms = max(0, round((deadline_s - clock()) * 1_000))
            request.wait_ms = min(left_ms, WAIT_MS_ONCE_MAX)
            try:
                response = await self._ask(self._stub.GetReceipt, request, request.wait_ms + timeout_ms)
            except NotFound:
                if clock() >= deadline_s:
                    raise
                continue
            commitment = self._verified(response.commitment).commitment
            return verified_receipt(response.receipt, commitment=commitment)

    def _verified(self, message: common_pb2.ProvenCommitment) -> ProvenCommitment:
        return verified_commitment(
            message, genesis=self._genesis, rollup=self._rollup, sequencer_key=self._sequencer_key
        )

    async def _ask(
        self, method: CallMethod[_Request, _Response], request: _Request, timeout_ms: int
    ) -> _Response:
        return await retrying(
            method, request, timeout_ms=timeout_ms, peer=self._peer, randomness=self._randomness
        )


def _always(key: PublicKey) -> KeyAt:
    def at(_: Height) -> PublicKey:
        return key

    return at
