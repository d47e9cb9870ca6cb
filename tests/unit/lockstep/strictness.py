"""What every strict codec promises, checked on one encoded value at a time."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from lockstep.errors import Malformed

Value = TypeVar("Value")


def assert_strict(
    encoded: bytes,
    *,
    decode: Callable[[bytes], Value],
    encode: Callable[[Value], bytes],
    has_rest: bool = False,
) -> None:
    """Assert that a codec keeps its promises around one encoding.

    What was decoded encodes to the same bytes; a missing and an extra byte are refused (unless the layout
    ends in a rest, which takes any length); a change of one byte is refused or is another value's encoding.
    """
    assert encode(decode(encoded)) == encoded
    if not has_rest:
        with pytest.raises(Malformed):
            decode(encoded + b"\x00")
        for length in range(len(encoded)):
            with pytest.raises(Malformed):
                decode(encoded[:length])
    for position in range(len(encoded)):
        for change in (1, 0x80, 0xFF):
            mutated = bytearray(encoded)
            mutated[position] ^= change
            try:
                value = decode(bytes(mutated))
            except Malformed:
                continue
            assert encode(value) == mutated
