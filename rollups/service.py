"""The node's gRPC service: answers about the state, proven under the commitment of the answered height.

Owns the messages and the waiting. Reads the node and its database; changes nothing. Invariant: values,
proofs and commitment of one answer are of one height: they are read without a pause in between.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final

import grpc

from deploy.node.server import unless_stopping
from lockstep import limits
from lockstep.commitment import balance_key, encode_commitment, escrow_key, open_locks_key
from lockstep.errors import Malformed, NotFound, NotImplementedYet, NotReady, NotYet, UnknownSwap
from lockstep.genesis import Asset
from lockstep.merkle_map import MapProof
from lockstep.receipts import SettledReceipt, TransactionReceipt, decode_receipt
from lockstep.register import encode_record
from lockstep.types import PublicKey, SwapId, TransactionId
from lockstep.v1 import common_pb2, rollup_pb2, rollup_pb2_grpc
from rollups.node import Published, RollupNode
from rollups.poster import Poster
from rollups.receipt_waits import NO_LEG, Awaited
from rollups.runtime import modules_of
from rollups.state import amount_at
from rollups.storage import StoredBlock
from sequencer.client.messages import header_message

SERVICE_NAME: Final = "lockstep.v1.Rollup"

ASSETS_MAX: Final = 64
"""Assets of one answer."""

KEYS_MAX: Final = 256
"""Keys of one answer."""

KEY_BYTES_MAX: Final = 1_024
"""Bytes of a key that is asked for."""

WAIT_MS_MAX: Final = 30_000
"""How long a call waits for a receipt."""

STREAM_RECEIPTS_MAX: Final = 1_024
"""Receipts of one message of a stream."""

_Context = grpc.aio.ServicerContext[Any, Any]


class RollupService(rollup_pb2_grpc.RollupServicer):
    """Answers for one node."""

    def __init__(
        self,
        node: RollupNode,
        stopping: asyncio.Event,
        *,
        attester: PublicKey | None = None,
        poster: Poster | None = None,
    ) -> None:
        """Answer for `node`, which attests with `attester` and posts through `poster`, if it does."""
        self._node = node
        self._stopping = stopping
        self._attester = attester
        self._poster = poster

    async def GetStatus(
        self, request: rollup_pb2.RollupGetStatusRequest, context: _Context
    ) -> rollup_pb2.RollupGetStatusResponse:
        """Tell where the node stands, also when it does not answer for its state."""
        node, published = self._node, self._node.published
        definition = published.state.definition
        posted = await self._posted(published.block)
        return rollup_pb2.RollupGetStatusResponse(
            chain_id=node.genesis.chain_id,
            rollup=node.rollup,
            modules=() if definition is None else [module.name for module in modules_of(definition)],
            software_version=version("lockstep"),
            height=published.height,
            time_ms=published.state.register.time_ms,
            head_height=max(node.head_height or 0, published.height),
            commitment=None if published.block is None else proven_commitment(published.block, posted),
            attester=self._attester or b"",
            outbox_items=len(node.outbox),
            posted_height=0 if self._poster is None else self._poster.posted_height,
            first_available_height=1,
            not_ready_reason=node.not_ready_reason,
            stages=[
                common_pb2.StageTime(stage=stage, total_ns=total_ns)
                for stage, total_ns in node.stages.total_ns.items()
            ],
        )

    async def GetAccount(
        self, request: rollup_pb2.GetAccountRequest, context: _Context
    ) -> rollup_pb2.GetAccountResponse:
        """Answer an account's balances."""
        account = PublicKey(_of_length(request.account, 32, "account"))
        if len(request.assets) > ASSETS_MAX:
            raise _malformed("assets", f"are {len(request.assets)}, at most {ASSETS_MAX} are answered")
        if any(len(name.encode()) > limits.ASSET_BYTES_MAX for name in request.assets):
            raise _malformed("assets", f"hold a name of more than {limits.ASSET_BYTES_MAX} bytes")
        published, block = await self._answerable(request.min_height)
        assets = _assets_of(published)
        names = list(request.assets) or list(assets)[:ASSETS_MAX]
        for name in names:
            if name not in assets:
                raise NotFound(subject="asset", name=name)
        return rollup_pb2.GetAccountResponse(
            height=published.height,
            balances=[self._balance(published, account, assets[name]) for name in names],
            commitment=proven_commitment(block),
            open_locks=amount_at(self._node.memory, open_locks_key(account)),
        )

    async def GetState(
        self, request: rollup_pb2.GetStateRequest, context: _Context
    ) -> rollup_pb2.GetStateResponse:
        """Answer values of the state map."""
        if not 1 <= len(request.keys) <= KEYS_MAX:
            raise _malformed("keys", f"are {len(request.keys)}, allowed are 1 to {KEYS_MAX}")
        if any(len(key) > KEY_BYTES_MAX for key in request.keys):
            raise _malformed("keys", f"hold one of more than {KEY_BYTES_MAX} bytes")
        published, block = await self._answerable(request.min_height)
        values = [
            rollup_pb2.StateValue(
                key=key,
                value=self._node.memory.get(key),
                proof=published.state.content.proof(key).encode(),
            )
            for key in request.keys
        ]
        return rollup_pb2.GetStateResponse(
            height=published.height, values=values, commitment=proven_commitment(block)
        )

    async def GetReceipt(
        self, request: rollup_pb2.GetReceiptRequest, context: _Context
    ) -> rollup_pb2.GetReceiptResponse:
        """Answer what became of a transaction or of a leg, waiting for it if asked to."""
        if request.wait_ms > WAIT_MS_MAX:
            raise _malformed("wait_ms", f"is {request.wait_ms}, at most {WAIT_MS_MAX} is waited")
        subject = _subject_of(request)
        _verify_number(request.at_height, "at_height")
        if request.at_height > self._node.published.height:
            raise NotYet(height=request.at_height, newest=self._node.published.height)
        index, receipt = await self._receipt(request, subject)
        block = await self._executed(request.at_height)
        size = block.commitment.receipt_count
        if index >= size:
            raise NotFound(subject=f"receipt after block {block.commitment.height} of", name=subject)
        proof = common_pb2.InclusionProof(
            index=index, size=size, hashes=self._node.receipts.inclusion_proof(index, size)
        )
        return rollup_pb2.GetReceiptResponse(
            receipt=rollup_pb2.ProvenReceipt(receipt=receipt, proof=proof),
            commitment=proven_commitment(block),
        )

    async def GetSwap(
        self, request: rollup_pb2.RollupGetSwapRequest, context: _Context
    ) -> rollup_pb2.RollupGetSwapResponse:
        """Answer what the register and this rollup's escrow say of a swap."""
        swap_id = SwapId(_of_length(request.swap_id, 32, "swap_id"))
        published, block = await self._answerable(request.min_height)
        register, content = published.state.register, published.state.content
        record = register.record(swap_id)
        if record is None:
            raise UnknownSwap(swap_id=swap_id.hex())
        escrows = []
        for leg in range(len(record.terms.legs)):
            key = escrow_key(swap_id, leg)
            value = self._node.memory.get(key)
            if value is not None:
                escrows.append(rollup_pb2.LegEscrow(leg=leg, record=value, proof=content.proof(key).encode()))
        return rollup_pb2.RollupGetSwapResponse(
            height=published.height,
            record=encode_record(record),
            escrows=escrows,
            commitment=proven_commitment(block),
            record_proof=register.record_proof(swap_id).encode(),
            register_parts=register.map_root + register.registry.digest,
        )

    async def StreamReceipts(
        self, request: rollup_pb2.StreamReceiptsRequest, context: _Context
    ) -> AsyncIterator[rollup_pb2.StreamReceiptsResponse]:
        """Stream receipts: first those that exist, then new ones."""
        account = _of_length(request.account, 32, "account") if request.account else b""
        index = await self._first_index(request)
        while True:
            self._node.verify_ready()
            changed, published = self._node.changed, self._node.published
            found = await self._node.receipts_from(index, STREAM_RECEIPTS_MAX)
            if found:
                index = found[-1][0] + 1
                is_whole = index >= published.state.receipts.size
                yield rollup_pb2.StreamReceiptsResponse(
                    receipts=[
                        rollup_pb2.IndexedReceipt(index=place, receipt=receipt)
                        for place, _, receipt in found
                        if not account or _names(receipt, account)
                    ],
                    next_index=index,
                    height=published.height if is_whole else found[-1][1] - 1,
                )
            else:
                await unless_stopping(self._stopping, changed.wait())

    async def GetCommitment(
        self, request: rollup_pb2.GetCommitmentRequest, context: _Context
    ) -> rollup_pb2.GetCommitmentResponse:
        """Answer the commitment after a block, also when the node does not answer for its state.

        It is what this node computed, and what others find the first difference with.
        """
        _verify_number(request.height, "height")
        published = self._node.published
        height = request.height or published.height
        if height > published.height or height == 0:
            raise NotYet(height=max(height, 1), newest=published.height)
        block = await self._node.storage.block(height)
        assert block is not None, "every executed block is kept"
        return rollup_pb2.GetCommitmentResponse(
            commitment=proven_commitment(block, await self._posted(block))
        )

    async def StreamSnapshot(
        self, request: rollup_pb2.StreamSnapshotRequest, context: _Context
    ) -> AsyncIterator[rollup_pb2.StreamSnapshotResponse]:
        """Say that this version makes no snapshots."""
        for chunk in _snapshot():
            yield chunk

    # --- what several calls share ---------------------------------------------------------------------

    async def _answerable(self, min_height: int) -> tuple[Published, StoredBlock]:
        """Return what is published at a height that was asked for, once it is; nothing awaits after it."""
        _verify_number(min_height, "min_height")
        self._node.verify_ready()
        if min_height > self._node.published.height:
            await unless_stopping(self._stopping, self._node.wait_for(min_height))
            self._node.verify_ready()
        published = self._node.published
        if published.block is None:
            raise NotReady(reason="no block was executed yet")
        return published, published.block

    async def _executed(self, height: int) -> StoredBlock:
        """Return a block that was executed, 0 being the newest."""
        _, newest = await self._answerable(0)
        block = await self._node.storage.block(height) if height else newest
        assert block is not None, "every executed block is kept"
        return block

    async def _receipt(self, request: rollup_pb2.GetReceiptRequest, subject: str) -> tuple[int, bytes]:
        """Return index and bytes of a receipt, as soon as it is there."""
        found: tuple[int, bytes] | None = None
        with suppress(TimeoutError), self._node.receipt_waits.of(_awaited(request)) as woken:
            async with asyncio.timeout(request.wait_ms / 1_000 if request.wait_ms else None):
                while True:
                    self._node.verify_ready()
                    woken.clear()
                    found = await self._find_receipt(request)
                    if found is not None or not request.wait_ms:
                        break
                    await unless_stopping(self._stopping, woken.wait())
        if found is None:
            raise NotFound(subject="receipt of", name=subject)
        return found

    async def _find_receipt(self, request: rollup_pb2.GetReceiptRequest) -> tuple[int, bytes] | None:
        storage = self._node.storage
        match request.WhichOneof("subject"):
            case "transaction_id":
                found = await storage.receipt_of_transaction(TransactionId(request.transaction_id))
            case "settled_leg":
                leg = request.settled_leg
                found = await storage.receipt_of_leg(SwapId(leg.swap_id), leg.leg)
            case _:
                rows = await self._node.receipts_from(request.index, 1)
                found = (rows[0][0], rows[0][2]) if rows and rows[0][0] == request.index else None
        # The database may be a moment ahead of what is published.
        return found if found is not None and found[0] < self._node.receipts.size else None

    async def _first_index(self, request: rollup_pb2.StreamReceiptsRequest) -> int:
        size = self._node.published.state.receipts.size
        _verify_number(request.from_height, "from_height")
        _verify_number(request.from_index, "from_index")
        if request.WhichOneof("from") == "from_height":
            if request.from_height > self._node.published.height + 1:
                raise NotYet(height=request.from_height, newest=self._node.published.height)
            before = await self._node.storage.block(max(request.from_height, 1) - 1)
            return 0 if before is None else before.commitment.receipt_count
        if request.from_index > size:
            raise NotYet(height=request.from_index, newest=size)
        return request.from_index

    def _balance(self, published: Published, account: PublicKey, asset: Asset) -> rollup_pb2.Balance:
        key = balance_key(asset.id.encode("ascii"), account)
        proof: MapProof = published.state.content.proof(key)
        return rollup_pb2.Balance(
            asset=asset.id,
            amount=str(amount_at(self._node.memory, key)),
            decimals=asset.decimals,
            proof=proof.encode(),
        )

    async def _posted(self, block: StoredBlock | None) -> bytes:
        if block is None or self._attester is None:
            return b""
        entry = await self._node.storage.posted_at(self._attester, block.commitment.height)
        return entry or b""


def proven_commitment(block: StoredBlock, posted: bytes = b"") -> common_pb2.ProvenCommitment:
    """Return a commitment with its block's header as it travels."""
    return common_pb2.ProvenCommitment(
        commitment=encode_commitment(block.commitment), header=header_message(block.header), posted=posted
    )


def _assets_of(published: Published) -> dict[str, Asset]:
    definition = published.state.definition
    if definition is None or definition.modules.bank is None:
        return {}
    return {asset.id: asset for asset in definition.modules.bank.assets}


def _subject_of(request: rollup_pb2.GetReceiptRequest) -> str:
    """Check what a receipt is asked for, and return it in words."""
    match request.WhichOneof("subject"):
        case "transaction_id":
            return f"transaction {_of_length(request.transaction_id, 32, 'transaction_id').hex()}"
        case "settled_leg":
            swap_id = _of_length(request.settled_leg.swap_id, 32, "settled_leg.swap_id")
            if request.settled_leg.leg >= limits.LEGS_MAX:
                raise _malformed("settled_leg.leg", f"is {request.settled_leg.leg}, legs are 0 to 15")
            return f"leg {request.settled_leg.leg} of swap {swap_id.hex()}"
        case "index":
            _verify_number(request.index, "index")
            return f"number {request.index}"
        case _:
            raise _malformed("subject", "is missing")


def _awaited(request: rollup_pb2.GetReceiptRequest) -> Awaited:
    """Return for what a request waits."""
    match request.WhichOneof("subject"):
        case "transaction_id":
            return request.transaction_id, NO_LEG
        case "settled_leg":
            return request.settled_leg.swap_id, request.settled_leg.leg
        case _:
            return request.index


def _snapshot() -> Iterator[rollup_pb2.StreamSnapshotResponse]:
    raise NotImplementedYet(what="snapshots of a rollup's state")


def _names(encoded: bytes, account: bytes) -> bool:
    """Answer whether a receipt names an account as signer or beneficiary."""
    match decode_receipt(encoded):
        case TransactionReceipt(signer=signer):
            return signer == account
        case SettledReceipt(beneficiary=beneficiary):
            return beneficiary == account
        case _:
            return False


def _of_length(value: bytes, length: int, field: str) -> bytes:
    if len(value) != length:
        raise _malformed(field, f"has {len(value)} bytes, not {length}")
    return value


def _verify_number(value: int, field: str) -> None:
    """Check that a height or an index is one that can be."""
    if value >= 2**63:
        raise _malformed(field, "is outside of 0..2^63-1")


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="request", field=field, reason=reason)
