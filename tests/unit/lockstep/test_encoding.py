"""The primitives: fixed widths, lengths within bounds, nothing missing and nothing left over."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import encoding
from lockstep.encoding import Reader, encode_strictly, u8, var8
from lockstep.errors import Malformed
from tests.vectors import plain

VECTORS: dict[str, Any] = json.loads((Path(plain.__file__).parent / "hashing.json").read_text())

Encode = Callable[[int], bytes]
Read = Callable[[Reader, str], int]

NUMBERS: dict[int, tuple[Encode, Read]] = {
    8: (encoding.u8, Reader.u8),
    16: (encoding.u16, Reader.u16),
    32: (encoding.u32, Reader.u32),
    64: (encoding.u64, Reader.u64),
    128: (encoding.u128, Reader.u128),
}
LENGTHS = {
    8: (encoding.var8, Reader.var8),
    16: (encoding.var16, Reader.var16),
    32: (encoding.var32, Reader.var32),
}


# --- numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", NUMBERS)
@given(data=st.data())
def test_a_number_has_one_encoding(bits: int, data: st.DataObject) -> None:
    encode, read = NUMBERS[bits]
    value = data.draw(st.integers(0, 2**bits - 1))
    encoded = encode(value)
    assert len(encoded) == bits // 8
    assert int(encoded.hex(), 16) == value
    reader = Reader(encoded, "number")
    assert read(reader, "value") == value
    reader.finish()


@pytest.mark.parametrize("bits", NUMBERS)
def test_a_number_fits_its_width(bits: int) -> None:
    encode, read = NUMBERS[bits]
    for value in (-1, 2**bits):
        with pytest.raises(OverflowError):
            encode(value)
    with pytest.raises(Malformed, match=f"needs {bits // 8} bytes, {bits // 8 - 1} are left"):
        read(Reader(bytes(bits // 8 - 1), "number"), "value")


@pytest.mark.parametrize("case", VECTORS["numbers"])
def test_number_vectors(case: dict[str, Any]) -> None:
    encode, read = NUMBERS[case["bits"]]
    assert encode(int(case["value"])).hex() == case["encoded"]
    assert read(Reader(bytes.fromhex(case["encoded"]), "number"), "value") == int(case["value"])


# --- lengths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", LENGTHS)
@given(value=st.binary(max_size=255), after=st.binary(max_size=3))
def test_bytes_behind_their_length(bits: int, value: bytes, after: bytes) -> None:
    encode, read = LENGTHS[bits]
    reader = Reader(encode(value) + after, "value")
    assert read(reader, "value") == value
    assert reader.rest() == after


@pytest.mark.parametrize("case", VECTORS["lengths"])
def test_length_vectors(case: dict[str, Any]) -> None:
    encode, read = LENGTHS[case["bits"]]
    assert encode(bytes.fromhex(case["value"])).hex() == case["encoded"]
    assert read(Reader(bytes.fromhex(case["encoded"]), "value"), "value").hex() == case["value"]


def test_what_is_too_long_for_its_length_does_not_encode() -> None:
    assert len(encoding.var8(bytes(255))) == 256
    assert len(encoding.var16(bytes(65_535))) == 65_537
    assert len(encoding.var32(bytes(65_536))) == 65_540
    with pytest.raises(OverflowError):
        encoding.var8(bytes(256))
    with pytest.raises(OverflowError):
        encoding.var16(bytes(65_536))


@pytest.mark.parametrize("bits", LENGTHS)
def test_a_length_keeps_its_bounds(bits: int) -> None:
    encode, read = LENGTHS[bits]

    def read_bounded(value: bytes) -> bytes:
        reader = Reader(encode(value), "value")
        bounded: bytes = read(reader, "name", bytes_min=2, bytes_max=4)
        return bounded

    for length in (2, 3, 4):
        assert read_bounded(bytes(length)) == bytes(length)
    for length in (0, 1, 5, 255):
        with pytest.raises(Malformed, match=f"name has {length} bytes, allowed are 2 to 4"):
            read_bounded(bytes(length))


@pytest.mark.parametrize("bits", LENGTHS)
def test_a_length_beyond_the_end_is_refused(bits: int) -> None:
    encode, read = LENGTHS[bits]
    encoded = encode(b"value")
    for end in range(len(encoded)):
        with pytest.raises(Malformed):
            read(Reader(encoded[:end], "value"), "value")
    # The greatest length allocates nothing: it is compared with what is there first.
    with pytest.raises(Malformed):
        read(Reader(b"\xff" * (bits // 8) + b"value", "value"), "value")


# --- the reader ---------------------------------------------------------------------------------------------


def test_a_reader_names_structure_and_field() -> None:
    reader = Reader(b"\x01", "example")
    with pytest.raises(Malformed) as caught:
        reader.u16("height")
    assert (caught.value.what, caught.value.field) == ("example", "height")
    assert caught.value.reason == "needs 2 bytes, 1 are left"


def test_what_was_refused_was_not_read() -> None:
    reader = Reader(b"\x01\x02", "example")
    with pytest.raises(Malformed):
        reader.take(3, "too much")
    assert reader.u16("height") == 0x0102
    reader.finish()


def test_a_reader_takes_in_order_to_the_end() -> None:
    reader = Reader(b"\x01\x00\x02abcrest", "example")
    assert reader.u8("one") == 1
    assert reader.u16("two") == 2
    assert reader.take(3, "three") == b"abc"
    assert reader.take(0, "nothing") == b""
    with pytest.raises(Malformed, match="4 bytes are left over"):
        reader.finish()
    assert reader.rest() == b"rest"
    assert reader.rest() == b""
    reader.finish()


def test_a_version_is_known_or_refused() -> None:
    reader = Reader(b"\x01", "example")
    reader.version(1)
    reader.finish()
    with pytest.raises(Malformed, match="version is 2, this software knows 1"):
        Reader(b"\x02", "example").version(1)
    with pytest.raises(Malformed, match="version needs 1 bytes"):
        Reader(b"", "example").version(1)


# --- strict encoding ----------------------------------------------------------------------------------------


def decode_small(encoded: bytes) -> int:
    reader = Reader(encoded, "small")
    value = reader.u8("value")
    reader.finish()
    if value > 99:
        raise reader.malformed("value", "is too great")
    return value


def test_what_decodes_as_it_was_is_encoded() -> None:
    assert encode_strictly("small", 99, encode=u8, decode=decode_small) == b"\x63"


@pytest.mark.parametrize("value", [100, 256, -1])
def test_what_does_not_decode_or_fit_is_not_encoded(value: int) -> None:
    with pytest.raises(Malformed):
        encode_strictly("small", value, encode=u8, decode=decode_small)


def test_what_decodes_as_something_else_is_not_encoded() -> None:
    with pytest.raises(Malformed, match="another length"):
        encode_strictly("small", 7, encode=lambda value: u8(value + 1), decode=decode_small)


def test_a_name_beyond_the_alphabet_is_not_encoded() -> None:
    with pytest.raises(Malformed, match="does not fit"):
        encode_strictly(
            "name",
            "Ω",
            encode=lambda name: var8(name.encode("latin-1")),
            decode=lambda encoded: encoded[1:].decode(),
        )
