"""The client believes nothing: receipts, proofs and streams that lie, and streams that break."""

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from deploy.node.client import Backoff
from deploy.node.rpc_errors import encode_error
from lockstep.errors import (
    BadSignature,
    Discontinuous,
    Internal,
    LockstepError,
    Malformed,
    NotYet,
    ProofInvalid,
    Pruned,
    WrongChain,
)
from lockstep.header import Header, encode_header, sign_header
from lockstep.order import Bundle, Placement, Transaction
from lockstep.settlement_entries import ProvenHeader
from lockstep.signing import SigningKey
from lockstep.types import ChainId, Height, Namespace, PublicKey
from lockstep.v1 import common_pb2, sequencer_pb2
from sequencer.admission import admit
from sequencer.builder import propose
from sequencer.client.following import follow
from sequencer.client.messages import (
    bundle_message,
    error_message,
    header_message,
    placement_message,
    read_bundle,
    read_error,
    read_header,
    read_placement,
)
from sequencer.client.records import FollowedBlock, Ordered
from sequencer.client.verifying import Verifier
from sequencer.engine import SealedBlock
from sequencer.proofs import prove
from tests.unit.sequencer.chain import (
    ALPHA,
    BETA,
    CHAIN,
    SEQUENCER,
    START,
    STRANGER,
    TIME_MS,
    MemoryEngine,
    admitted,
    proposals,
)

VERIFIER = Verifier(CHAIN, lambda _: SEQUENCER.public_key)


async def a_block_of_three() -> tuple[Placement, SealedBlock]:
    """Return a block with three bundles, and where the second one stands, which is in both namespaces."""
    both = Bundle((Transaction(ALPHA, b"1"), Transaction(BETA, b"2"), Transaction(ALPHA, b"3")), TIME_MS + 1)
    bundles = [
        admitted(b"before", b"also before"),
        admit(CHAIN, both, {ALPHA, BETA}),
        admitted(b"after", namespace=BETA),
    ]
    proposal = propose(START, TIME_MS + 1, bundles)
    return proposal.placements[1], await MemoryEngine().order(proposal)


async def test_a_proven_placement_is_believed() -> None:
    placement, block = await a_block_of_three()
    ordered = VERIFIER.proven_placement(prove(placement, block), placement.bundle_id)
    assert ordered == Ordered(placement, block.header)
    assert (placement.first_index, placement.count) == (2, 3)


def swap_entries(response: sequencer_pb2.GetTransactionResponse) -> None:
    first, second = response.entries[0].entry, response.entries[2].entry
    response.entries[0].entry, response.entries[2].entry = second, first


def set_payload(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.entries[0].entry += b"!"


def set_proof(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.entries[0].proof.hashes[0] = bytes(32)


def set_namespace(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.entries[0].namespace = "beta"


def drop_entry(response: sequencer_pb2.GetTransactionResponse) -> None:
    del response.entries[2]


def drop_entry_and_count(response: sequencer_pb2.GetTransactionResponse) -> None:
    del response.entries[2]
    response.placement.count = 2


def set_first_index(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.placement.first_index = 1


def set_height(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.placement.height = 2


def set_bundle_id(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.placement.bundle_id = bytes(32)


def set_leaves(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.namespace_leaves = response.namespace_leaves[:-1] + b"\x00"


def set_signature(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.header.proof = bytes(64)


def set_proof_kind(response: sequencer_pb2.GetTransactionResponse) -> None:
    response.header.proof_kind = common_pb2.HEADER_PROOF_KIND_UNSPECIFIED


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (swap_entries, Malformed),
        (set_payload, ProofInvalid),
        (set_proof, ProofInvalid),
        (set_namespace, Malformed),
        (drop_entry, Discontinuous),
        (drop_entry_and_count, Malformed),
        (set_first_index, Malformed),
        (set_height, Discontinuous),
        (set_bundle_id, Discontinuous),
        (set_leaves, Malformed),
        (set_signature, BadSignature),
        (set_proof_kind, Malformed),
    ],
)
async def test_a_placement_that_was_tampered_with_is_not_believed(
    tamper: Callable[[sequencer_pb2.GetTransactionResponse], None], expected: type[LockstepError]
) -> None:
    placement, block = await a_block_of_three()
    response = prove(placement, block)
    tamper(response)
    with pytest.raises(expected):
        VERIFIER.proven_placement(response, placement.bundle_id)


def signed(key: SigningKey, chain: ChainId, *, height: int = 1, count: int = 3) -> ProvenHeader:
    header = Header(chain, Height(height), START.hash, TIME_MS, bytes(32), 1, 1, count, 3)
    encoded = encode_header(header)
    return ProvenHeader(encoded, sign_header(key, encoded))


@pytest.mark.parametrize(
    ("header", "placed", "expected"),
    [
        (signed(SEQUENCER, CHAIN), (1, 0, 3), None),
        (signed(SEQUENCER, CHAIN), (1, 1, 3), Discontinuous),
        (signed(SEQUENCER, CHAIN), (1, 0, 2), Discontinuous),
        (signed(SEQUENCER, CHAIN), (2, 0, 3), Discontinuous),
        (signed(STRANGER, CHAIN), (1, 0, 3), BadSignature),
        (signed(SEQUENCER, ChainId(bytes(32))), (1, 0, 3), WrongChain),
    ],
)
def test_receipts(
    header: ProvenHeader, placed: tuple[int, int, int], expected: type[LockstepError] | None
) -> None:
    height, first_index, count = placed
    bundle_id = admitted(b"x").bundle_id
    placement = Placement(bundle_id, Height(height), first_index, count)
    if expected is None:
        assert VERIFIER.ordered(placement, header, bundle=bundle_id, count=3) == Ordered(placement, header)
        return
    with pytest.raises(expected):
        VERIFIER.ordered(placement, header, bundle=bundle_id, count=3)


def test_messages_there_and_back() -> None:
    sent = Bundle((Transaction(ALPHA, b"x"), Transaction(BETA, b"y")), 7)
    assert read_bundle(bundle_message(sent)) == sent
    header = signed(SEQUENCER, CHAIN)
    assert read_header(header_message(header)) == header
    placement = Placement(admitted(b"x").bundle_id, Height(3), 4, 5)
    assert read_placement(placement_message(placement)) == placement
    error = NotYet(height=4, newest=3)
    assert read_error(error_message(error)).to_record() == error.to_record()
    no_wait = Malformed(what="a", field="b", reason="c")
    assert read_error(error_message(no_wait)).to_record() == no_wait.to_record()


# --- following --------------------------------------------------------------------------------------------


def rpc_error(error: LockstepError) -> grpc.aio.AioRpcError:
    code, message, trailers = encode_error(error)
    return grpc.aio.AioRpcError(code, trailing_metadata=grpc.aio.Metadata(*trailers), details=message)


LOST = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())


class Call:
    """A stream that gives what the test says and then fails or ends."""

    def __init__(self, responses: list[sequencer_pb2.StreamBlocksResponse], end: Exception | None) -> None:
        self._responses = responses
        self._end = end

    async def __aiter__(self) -> AsyncIterator[sequencer_pb2.StreamBlocksResponse]:
        for response in self._responses:
            yield response
        if self._end is not None:
            raise self._end

    def cancel(self) -> None:
        """Nothing to cancel."""


class Stub:
    """A sequencer that answers from a list: how many blocks in each message, and how it ends."""

    def __init__(self, blocks: list[SealedBlock], *script: tuple[list[int], Exception | None]) -> None:
        self.blocks = blocks
        self.asked: list[int] = []
        self._script = list(script)

    def StreamBlocks(self, request: sequencer_pb2.StreamBlocksRequest) -> Call:
        self.asked.append(request.from_height)
        sizes, end = self._script.pop(0)
        responses, start = [], request.from_height - 1
        for size in sizes:
            shares = [share_of(each) for each in self.blocks[start : start + size]]
            responses.append(sequencer_pb2.StreamBlocksResponse(blocks=shares, head_height=99))
            start += size
        return Call(responses, end)


def share_of(block: SealedBlock) -> sequencer_pb2.BlockShare:
    return sequencer_pb2.BlockShare(
        header=header_message(block.header),
        namespace_leaves=block.leaves_bytes,
        entries=[sequencer_pb2.NamespaceEntries.FromString(each) for each in block.shares.values()],
    )


async def sealed(count: int) -> list[SealedBlock]:
    engine = MemoryEngine()
    return [await engine.order(proposal) for proposal in proposals(count)]


async def followed(
    stub: Stub, count: int, *, key: Callable[[Height], PublicKey] = lambda _: SEQUENCER.public_key
) -> list[FollowedBlock]:
    got: list[FollowedBlock] = []
    any_stub: Any = stub
    following = follow(
        any_stub,
        peer="stub",
        tip=START,
        namespaces=(ALPHA, Namespace("_swap")),
        sequencer_key=key,
        backoff=Backoff(first_ms=1, longest_ms=1),
        randomness=random.Random(0),
    )
    async for each in following:
        got.append(each)
        if len(got) == count:
            break
    await following.aclose()
    return got


async def test_a_stream_is_resumed_where_it_broke() -> None:
    stub = Stub(
        await sealed(7),
        ([2, 1], LOST),
        ([], rpc_error(NotYet(height=4, newest=3, retry_after_ms=1))),
        ([], rpc_error(Internal())),
        ([1], None),
        ([3], None),
    )
    got = await followed(stub, 7)
    assert [each.block.header.height for each in got] == [1, 2, 3, 4, 5, 6, 7]
    assert stub.asked == [1, 4, 4, 4, 5]
    assert got[0].block.entries[Namespace("_swap")] == ()
    assert got[0].head_height == 99


@pytest.mark.parametrize(
    "error", [Pruned(height=4, first_available=9), Malformed(what="a", field="b", reason="c")]
)
async def test_what_cannot_pass_ends_it(error: LockstepError) -> None:
    stub = Stub(await sealed(3), ([3], rpc_error(error)))
    with pytest.raises(type(error)):
        await followed(stub, 9)


async def test_the_key_is_asked_when_the_block_before_was_dealt_with() -> None:
    log: list[str] = []

    def key(height: Height) -> PublicKey:
        log.append(f"key {height}")
        return SEQUENCER.public_key

    any_stub: Any = Stub(await sealed(2), ([2], None))
    following = follow(
        any_stub,
        peer="stub",
        tip=START,
        namespaces=(),
        sequencer_key=key,
        backoff=Backoff(),
        randomness=random.Random(0),
    )
    async for each in following:
        log.append(f"block {each.block.header.height}")
        if each.block.header.height == 2:
            break
    await following.aclose()
    assert log == ["key 1", "block 1", "key 2", "block 2"]


async def test_a_stream_that_lies_is_not_believed() -> None:
    blocks = await sealed(3)
    fork = [await MemoryEngine().order(each) for each in proposals(1, namespace=BETA)]
    for wrong, expected in (
        ([blocks[0], blocks[2]], Discontinuous),
        ([blocks[0], blocks[0]], Discontinuous),
        ([fork[0], blocks[1]], Discontinuous),
        ([blocks[0].share(())], Malformed),
        (
            [
                SealedBlock(
                    Height(1),
                    ProvenHeader(blocks[0].header.encoded, bytes(64)),
                    blocks[0].leaves_bytes,
                    blocks[0].shares,
                )
            ],
            BadSignature,
        ),
    ):
        with pytest.raises(expected):
            await followed(Stub(wrong, ([len(wrong)], None)), 9)
    with pytest.raises(BadSignature):
        await followed(Stub(blocks, ([3], None)), 3, key=lambda _: STRANGER.public_key)
