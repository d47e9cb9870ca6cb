"""Bytes that are put together by hand are those of the schema."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.errors import QueueFull
from lockstep.order import Placement
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import BundleId, Height, Namespace
from lockstep.v1 import sequencer_pb2
from sequencer.builder import Run
from sequencer.client.messages import header_message, placement_message, read_error
from sequencer.engine import SealedBlock
from sequencer.prepared import (
    SHARED_BYTES_MAX,
    PreparedBlocks,
    failed,
    placed,
    placed_run,
    response_header,
)
from tests.unit.sequencer.chain import ALPHA, BETA, MemoryEngine, proposals


@given(
    number=st.integers(0, 2**64 - 1),
    height=st.integers(1, 2**63 - 1),
    first_index=st.integers(0, limits.BLOCK_TRANSACTIONS_MAX - 1),
    count=st.integers(1, limits.BUNDLE_TRANSACTIONS_MAX),
)
def test_a_placement_reads_as_it_was(number: int, height: int, first_index: int, count: int) -> None:
    placement = Placement(BundleId(bytes(range(32))), Height(height), first_index, count)
    [outcome] = sequencer_pb2.SubmitStreamResponse.FromString(placed(number, placement)).outcomes
    assert outcome.correlation_id == number
    assert outcome.placement == placement_message(placement)


def test_a_run_reads_as_its_placements() -> None:
    bundle_ids = [BundleId(bytes([each]) * 32) for each in range(5)]
    run = Run(bundle_ids, Height(2**40), limits.BLOCK_TRANSACTIONS_MAX - 5)
    for numbers in (range(125, 130), range(2**14 - 2, 2**14 + 3), range(2**64 - 5, 2**64)):
        one_by_one = b"".join(map(placed, numbers, run))
        assert placed_run(numbers, run) == one_by_one
    assert placed_run(range(5), Run(bundle_ids, Height(1), 126)) == b"".join(
        map(placed, range(5), Run(bundle_ids, Height(1), 126))
    )


def test_a_response_is_its_fields_one_after_another() -> None:
    error, header = QueueFull(queue="bundle", limit=3), ProvenHeader(b"h" * 132, b"p" * 64)
    placement = Placement(BundleId(bytes(32)), Height(1), 0, 1)
    fields = placed(7, placement) + failed(8, error) + response_header(header)
    response = sequencer_pb2.SubmitStreamResponse.FromString(fields)
    assert [each.correlation_id for each in response.outcomes] == [7, 8]
    assert read_error(response.outcomes[1].error).to_record() == error.to_record()
    assert list(response.headers) == [header_message(header)]


async def blocks(count: int) -> list[SealedBlock]:
    engine = MemoryEngine()
    for proposal in proposals(count):
        await engine.order(proposal)
    return engine.blocks


def read(encoded: bytes) -> list[tuple[int, bytes, bytes, list[tuple[str, list[bytes]]]]]:
    """Return of each block of a message the newest height, header, leaves and entries."""
    response = sequencer_pb2.StreamBlocksResponse.FromString(encoded)
    return [
        (
            response.head_height,
            each.header.SerializeToString(),
            each.namespace_leaves,
            [(entries.namespace, list(entries.entries)) for entries in each.entries],
        )
        for each in response.blocks
    ]


@pytest.mark.parametrize("namespaces", [(), (ALPHA,), (BETA,), (ALPHA, BETA)])
async def test_shares_read_as_they_are_stored(namespaces: tuple[Namespace, ...]) -> None:
    whole = await blocks(3)
    shares = [block.share(namespaces) for block in whole]
    expected = []
    for share in shares:
        entries = [sequencer_pb2.NamespaceEntries.FromString(each) for each in share.shares.values()]
        header = header_message(share.header).SerializeToString()
        read_entries = [(each.namespace, list(each.entries)) for each in entries]
        expected.append((300, header, share.leaves_bytes, read_entries))
    assert read(PreparedBlocks().message(shares, namespaces, Height(300))) == expected


async def test_the_same_is_made_once_while_the_newest_block_is_the_same() -> None:
    prepared, [first, second] = PreparedBlocks(), await blocks(2)
    made = prepared.message([first], (ALPHA,), Height(1))
    assert prepared.message([first], (ALPHA,), Height(1)) is made
    assert prepared.message([first, second], (ALPHA,), Height(1)) != made
    assert read(prepared.message([first.share(())], (), Height(1))) != read(made)
    assert read(prepared.message([first], (ALPHA,), Height(2)))[0][0] == 2


async def test_large_ones_are_not_kept() -> None:
    [block] = await blocks(1)
    large = SealedBlock(block.height, block.header, block.leaves_bytes, {ALPHA: bytes(SHARED_BYTES_MAX)})
    prepared = PreparedBlocks()
    made = prepared.message([large], (ALPHA,), Height(1))
    again = prepared.message([large], (ALPHA,), Height(1))
    assert (again, again is made) == (made, False)
