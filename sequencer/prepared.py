"""Messages of streams as bytes, put together from parts that are encoded already.

Owns what makes a stream cheap for the sequencer: a block's share is encoded once for all who follow the same
namespaces, its entries being stored as they travel, and a placement is a few bytes around an id. Making a
message object for each would cost several times as much. The bytes are those of the schema, field by field;
tests read them back with its messages.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from lockstep import limits
from lockstep.errors import LockstepError
from lockstep.order import Placement
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import Height, Namespace
from lockstep.v1 import sequencer_pb2
from sequencer.builder import Run
from sequencer.client.messages import error_message, header_message
from sequencer.engine import SealedBlock

SHARED_BYTES_MAX: Final = 64 * 1024
"""Bytes of a message up to which it is kept for others who want the same; longer ones are mostly copying."""

assert limits.BLOCK_TRANSACTIONS_MAX <= 1 << 14, "two bytes hold every place in a block"

# The first byte of a field: its number in the schema, and 2 for what has a length or 0 for a number.
_BLOCKS, _HEAD_HEIGHT = b"\x0a", b"\x10"  # of StreamBlocksResponse
_HEADER, _NAMESPACE_LEAVES, _ENTRIES = b"\x0a", b"\x12", b"\x1a"  # of BlockShare
_OUTCOMES, _HEADERS = b"\x0a", b"\x12"  # of SubmitStreamResponse
_CORRELATION_ID, _PLACEMENT = b"\x08", b"\x12"  # of SubmissionOutcome
_BUNDLE_ID, _HEIGHT, _FIRST_INDEX, _COUNT = b"\x0a\x20", b"\x10", b"\x18", b"\x20"  # of Placement


def varint(number: int) -> bytes:
    """Return a number as it travels: seven bits a byte, the lowest first, all but the last byte marked."""
    if number < len(_SHORT):
        return _SHORT[number]
    return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80)) + varint(number >> 14)


# All of one or two bytes: places in a block are among them.
_SHORT: Final = tuple(
    bytes((number,)) if number < 0x80 else bytes((number & 0x7F | 0x80, number >> 7))
    for number in range(limits.BLOCK_TRANSACTIONS_MAX)
)


def placed(number: int, placement: Placement) -> bytes:
    """Return the field of a response that tells where the bundle with a correlation id stands."""
    place = b"".join(
        (
            _BUNDLE_ID,
            placement.bundle_id,
            _HEIGHT,
            varint(placement.height),
            _FIRST_INDEX,
            varint(placement.first_index),
            _COUNT,
            varint(placement.count),
        )
    )
    outcome = b"".join((_CORRELATION_ID, varint(number), _PLACEMENT, varint(len(place)), place))
    return b"".join((_OUTCOMES, varint(len(outcome)), outcome))


def placed_run(numbers: Sequence[int], run: Run) -> bytes:
    """Return the same fields for bundles that stand one behind another."""
    height = _HEIGHT + varint(run.height) + _FIRST_INDEX
    count = _COUNT + varint(1)
    fixed_bytes = len(_BUNDLE_ID) + 32 + len(height) + len(count)
    parts: list[bytes] = []
    for index, (number, bundle_id) in enumerate(zip(numbers, run.bundle_ids, strict=True), run.first_index):
        correlation_id, first_index = varint(number), varint(index)
        place_bytes = fixed_bytes + len(first_index)
        length = varint(place_bytes)
        outcome_bytes = (
            len(_CORRELATION_ID) + len(correlation_id) + len(_PLACEMENT) + len(length) + place_bytes
        )
        parts += (
            _OUTCOMES,
            varint(outcome_bytes),
            _CORRELATION_ID,
            correlation_id,
            _PLACEMENT,
            length,
            _BUNDLE_ID,
            bundle_id,
            height,
            first_index,
            count,
        )
    return b"".join(parts)


def failed(number: int, error: LockstepError) -> bytes:
    """Return the field of a response that tells why the bundle with a correlation id was not ordered."""
    outcome = sequencer_pb2.SubmissionOutcome(correlation_id=number, error=error_message(error))
    return _field(_OUTCOMES, outcome.SerializeToString())


def response_header(header: ProvenHeader) -> bytes:
    """Return the field of a response that holds a header which the client lacks."""
    return _field(_HEADERS, _encoded_header(header))


class PreparedBlocks:
    """The messages of `StreamBlocks`; those that others may want too are made once."""

    def __init__(self) -> None:
        self._head_height = Height(0)
        self._made: dict[tuple[Height, int, tuple[Namespace, ...]], bytes] = {}

    def message(
        self, blocks: Sequence[SealedBlock], namespaces: tuple[Namespace, ...], head_height: Height
    ) -> bytes:
        """Return the message with these shares of `namespaces` while the newest block is `head_height`."""
        if head_height != self._head_height:
            self._head_height = head_height
            self._made.clear()
        key = (blocks[0].height, len(blocks), namespaces)
        made = self._made.get(key)
        if made is None:
            shares = [_field(_BLOCKS, encoded_share(block)) for block in blocks]
            made = b"".join((*shares, _HEAD_HEIGHT, varint(head_height)))
            if len(made) <= SHARED_BYTES_MAX:
                self._made[key] = made
        return made


def encoded_share(block: SealedBlock) -> bytes:
    """Return a block's share as an encoded `BlockShare`."""
    return b"".join(
        (
            _field(_HEADER, _encoded_header(block.header)),
            _field(_NAMESPACE_LEAVES, block.leaves_bytes),
            *(_field(_ENTRIES, share) for share in block.shares.values()),
        )
    )


@lru_cache(maxsize=64)
def _encoded_header(header: ProvenHeader) -> bytes:
    return header_message(header).SerializeToString()


def _field(first_byte: bytes, content: bytes) -> bytes:
    """Return a field that holds bytes, or an encoded message."""
    return b"".join((first_byte, varint(len(content)), content))
