"""Fixed-width, strict, canonical bytes: what everything hashed or signed is made of.

Owns the primitives of protos/README.md, section 1. A decoder built on `Reader` accepts exactly what the
encoder makes: nothing missing, nothing left over. Decoders raise `Malformed` and nothing else.
"""

import struct
from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Any, Final, TypeVar

from lockstep.errors import Malformed

__pure__ = True

_Value = TypeVar("_Value")

_U8_MAX: Final = 2**8 - 1


def u8(value: int) -> bytes:
    """Encode 0..2^8-1 in one byte; OverflowError beyond."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Encode 0..2^16-1 in two bytes; OverflowError beyond."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Encode 0..2^32-1 in four bytes; OverflowError beyond."""
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    """Encode 0..2^64-1 in eight bytes; OverflowError beyond."""
    return value.to_bytes(8, "big")


def u128(value: int) -> bytes:
    """Encode 0..2^128-1 in sixteen bytes; OverflowError beyond."""
    return value.to_bytes(16, "big")


def var8(value: bytes) -> bytes:
    """Encode up to 255 bytes behind their length."""
    return len(value).to_bytes(1, "big") + value


def var16(value: bytes) -> bytes:
    """Encode up to 65,535 bytes behind their length."""
    return len(value).to_bytes(2, "big") + value


def var32(value: bytes) -> bytes:
    """Encode up to 2^32-1 bytes behind their length."""
    return len(value).to_bytes(4, "big") + value


def encode_strictly(
    what: str, value: _Value, *, encode: Callable[[_Value], bytes], decode: Callable[[bytes], _Value]
) -> bytes:
    """Return a value's bytes once they were read back as the same value.

    Raises `Malformed` if decoding refuses them, if they say something else, or if there are none because a
    field does not fit its place; `what` names the structure.
    """
    try:
        encoded = encode(value)
    except (OverflowError, struct.error, UnicodeEncodeError) as error:
        raise Malformed(what=what, field="a field", reason=f"does not fit its place ({error})") from error
    if decode(encoded) != value:
        raise Malformed(what=what, field="a field", reason="has another length than its layout gives it")
    return encoded


class Layout:
    """Consecutive fields of fixed width, which are read in one go.

    Each has a name and a code of the `struct` module; numbers are big-endian, as everywhere.
    """

    __slots__ = ("bytes_count", "read", "widths")

    def __init__(self, **codes: str) -> None:
        """Lay out fields in the order in which they are given, as in `Layout(height="Q", subject="32s")`."""
        layout = struct.Struct(">" + "".join(codes.values()))
        self.read: Final[Callable[[bytes, int], tuple[Any, ...]]] = layout.unpack_from
        """Returns the fields that stand in some bytes at an offset."""
        self.bytes_count: Final = layout.size
        """Bytes of all of them."""
        self.widths: Final = {name: struct.calcsize(">" + code) for name, code in codes.items()}
        """Bytes of each, by name."""


@cache
def numbers_of(kind: type[IntEnum]) -> frozenset[int]:
    """Return the numbers that an enumeration knows: whatever else is read is refused."""
    return frozenset(kind)


class Reader:
    """Reads one structure from the front of some bytes to their end.

    Every method raises `Malformed`, naming the structure and the field, when the bytes do not hold what is
    asked for.
    """

    __slots__ = ("_bytes", "_offset", "_what")

    def __init__(self, source: bytes, what: str) -> None:
        """Read `source`; `what` names the structure in errors."""
        self._bytes = source
        self._offset = 0
        self._what = what

    def take(self, count: int, field: str) -> bytes:
        """Return the next `count` bytes."""
        end = self._offset + count
        if end > len(self._bytes):
            raise self.malformed(field, f"needs {count} bytes, {len(self._bytes) - self._offset} are left")
        taken = self._bytes[self._offset : end]
        self._offset = end
        return taken

    def u8(self, field: str) -> int:
        """Return the next byte as a number."""
        offset = self._offset
        if offset == len(self._bytes):
            self.take(1, field)
        self._offset = offset + 1
        return self._bytes[offset]

    def u16(self, field: str) -> int:
        """Return the next two bytes as a number."""
        return int.from_bytes(self.take(2, field), "big")

    def u32(self, field: str) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self.take(4, field), "big")

    def u64(self, field: str) -> int:
        """Return the next eight bytes as a number."""
        return int.from_bytes(self.take(8, field), "big")

    def u128(self, field: str) -> int:
        """Return the next sixteen bytes as a number."""
        return int.from_bytes(self.take(16, field), "big")

    def var8(self, field: str, *, bytes_min: int = 0, bytes_max: int = _U8_MAX) -> bytes:
        """Return bytes behind a one-byte length of `bytes_min..bytes_max`."""
        return self._variable(self.u8(field), field, bytes_min, bytes_max)

    def var16(self, field: str, *, bytes_min: int = 0, bytes_max: int = 2**16 - 1) -> bytes:
        """Return bytes behind a two-byte length of `bytes_min..bytes_max`."""
        return self._variable(self.u16(field), field, bytes_min, bytes_max)

    def var32(self, field: str, *, bytes_min: int = 0, bytes_max: int = 2**32 - 1) -> bytes:
        """Return bytes behind a four-byte length of `bytes_min..bytes_max`."""
        return self._variable(self.u32(field), field, bytes_min, bytes_max)

    def fields(self, layout: Layout) -> tuple[Any, ...]:
        """Return the next fields, which are laid out as `layout` says."""
        start = self._offset
        end = start + layout.bytes_count
        if end > len(self._bytes):
            for field, count in layout.widths.items():
                self.take(count, field)
        self._offset = end
        return layout.read(self._bytes, start)

    def rest(self) -> bytes:
        """Return everything that is left."""
        taken = self._bytes[self._offset :]
        self._offset = len(self._bytes)
        return taken

    def version(self, expected: int) -> None:
        """Consume the leading version byte, which must be `expected`."""
        found = self.u8("version")
        if found != expected:
            raise self.malformed("version", f"is {found}, this software knows {expected}")

    def finish(self) -> None:
        """Insist that nothing is left over."""
        left = len(self._bytes) - self._offset
        if left:
            raise self.malformed("end", f"{left} bytes are left over")

    def malformed(self, field: str, reason: str) -> Malformed:
        """Return the error for a field of this structure, to be raised by the caller."""
        return Malformed(what=self._what, field=field, reason=reason)

    def _variable(self, length: int, field: str, bytes_min: int, bytes_max: int) -> bytes:
        if not bytes_min <= length <= bytes_max:
            raise self.malformed(field, f"has {length} bytes, allowed are {bytes_min} to {bytes_max}")
        return self.take(length, field)
