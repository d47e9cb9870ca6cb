"""Signed notes and checkpoints: vectors, round trips, every changed byte, and another implementation."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.checkpoint import (
    NOTE_BYTES_MAX,
    Checkpoint,
    NoteVerifier,
    encode_checkpoint,
    parse_checkpoint,
    parse_note,
    sign_note,
    verify_checkpoint,
    verify_note,
    vkey,
)
from lockstep.errors import BadSignature, Malformed
from lockstep.signing import SigningKey, verify_raw
from tests.vectors import generate_trees

VECTORS: dict[str, Any] = json.loads((Path(generate_trees.__file__).parent / "checkpoint.json").read_text())

NAME = "example.org/settlement"
KEY = SigningKey(bytes(32))
OTHER_KEY = SigningKey(bytes(31) + b"\x01")
VERIFIER = NoteVerifier(NAME, KEY.public_key)
BODY = encode_checkpoint(NAME, 7, bytes(range(32)))


def note_of(body: bytes = BODY, *, name: str = NAME, key: SigningKey = KEY) -> bytes:
    return sign_note(body, name=name, public_key=key.public_key, sign=key.sign_raw)


def signature_line(*, name: str, key: SigningKey, body: bytes = BODY) -> bytes:
    return note_of(body, name=name, key=key)[len(body) + 1 :]


# --- keys ---------------------------------------------------------------------------------------------------


def test_the_published_example_of_a_verifier_key() -> None:
    """The key of the Go checksum database, as its clients carry it."""
    published = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    verifier = NoteVerifier.from_vkey(published)
    assert verifier.name == "sum.golang.org"
    assert verifier.key_id.hex() == "033de0ae"
    assert vkey(verifier.name, verifier.public_key) == published


@pytest.mark.parametrize("case", VECTORS["keys"], ids=lambda case: case["name"])
def test_vectors_of_keys(case: dict[str, Any]) -> None:
    public_key = SigningKey(bytes.fromhex(case["seed"])).public_key
    assert public_key.hex() == case["public_key"]
    assert vkey(case["name"], public_key) == case["vkey"]
    assert NoteVerifier.from_vkey(case["vkey"]) == NoteVerifier(case["name"], public_key)


@pytest.mark.parametrize("case", VECTORS["invalid_vkeys"], ids=lambda case: case["why"])
def test_vectors_of_invalid_keys(case: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        NoteVerifier.from_vkey(case["vkey"])


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\u2003b", "a\nb", "a\x1fb", "n" * 256, "\ud800"])
def test_a_name_that_notes_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        vkey(name, KEY.public_key)
    with pytest.raises(Malformed):
        note_of(name=name)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        vkey(NAME, bytes(31))
    with pytest.raises(ValueError, match="32 bytes"):
        sign_note(BODY, name=NAME, public_key=bytes(33), sign=KEY.sign_raw)


# --- checkpoints --------------------------------------------------------------------------------------------


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_a_checkpoint_survives_its_encoding(origin: str, size: int, root: bytes) -> None:
    assert parse_checkpoint(encode_checkpoint(origin, size, root)) == Checkpoint(origin, size, root)


@pytest.mark.parametrize(
    ("origin", "size", "root_bytes"),
    [
        ("", 1, 32),
        ("a\nb", 1, 32),
        ("o" * 256, 1, 32),
        ("o", -1, 32),
        ("o", 2**64, 32),
        ("o", 1, 31),
        ("o\t", 1, 32),
    ],
)
def test_what_cannot_be_read_back_is_not_encoded(origin: str, size: int, root_bytes: int) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        encode_checkpoint(origin, size, bytes(root_bytes))


def test_an_origin_cannot_smuggle_in_a_size_and_a_root() -> None:
    smuggled = encode_checkpoint("other", 9, bytes(32)).decode().removesuffix("\n")
    with pytest.raises(ValueError, match="checkpoint"):
        encode_checkpoint(smuggled, 1, bytes(32))


@pytest.mark.parametrize("case", VECTORS["bodies"], ids=lambda case: case.get("why", "valid"))
def test_vectors_of_bodies(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["body"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            parse_checkpoint(body)
        return
    expected = Checkpoint(case["origin"], int(case["size"]), bytes.fromhex(case["root"]))
    assert parse_checkpoint(body) == expected
    assert encode_checkpoint(expected.origin, expected.size, expected.root) == body


@given(st.integers(0, len(BODY) - 1), st.integers(0, 255))
def test_a_changed_body_reads_as_something_else_or_not_at_all(place: int, byte: int) -> None:
    changed = BODY[:place] + bytes((byte,)) + BODY[place + 1 :]
    try:
        read = parse_checkpoint(changed)
    except Malformed:
        return
    assert encode_checkpoint(read.origin, read.size, read.root) == changed


# --- notes --------------------------------------------------------------------------------------------------


def test_a_note_verifies_and_says_what_was_signed() -> None:
    assert verify_note(note_of(), VERIFIER, verify=verify_raw) == BODY
    assert verify_checkpoint(note_of(), VERIFIER, verify=verify_raw) == Checkpoint(NAME, 7, bytes(range(32)))


def test_every_changed_byte_spoils_a_note() -> None:
    note = note_of()
    for place in range(len(note)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            changed = bytearray(note)
            changed[place] ^= mask
            with pytest.raises((Malformed, BadSignature)):
                verify_note(bytes(changed), VERIFIER, verify=verify_raw)


def test_signatures_of_unknown_keys_are_ignored() -> None:
    witness = signature_line(name="witness", key=OTHER_KEY)
    same_name = signature_line(name=NAME, key=OTHER_KEY)
    line = signature_line(name=NAME, key=KEY)
    for order in ((witness, same_name, line), (line, same_name, witness)):
        assert verify_note(BODY + b"\n" + b"".join(order), VERIFIER, verify=verify_raw) == BODY
    with pytest.raises(BadSignature):
        verify_note(BODY + b"\n" + witness + same_name, VERIFIER, verify=verify_raw)


def test_a_wrong_signature_of_a_known_key_spoils_the_note_even_beside_a_right_one() -> None:
    right = signature_line(name=NAME, key=KEY)
    wrong = signature_line(name=NAME, key=KEY, body=encode_checkpoint(NAME, 8, bytes(32)))
    assert verify_note(BODY + b"\n" + right + right, VERIFIER, verify=verify_raw) == BODY
    for lines in (wrong, right + wrong, wrong + right):
        with pytest.raises(BadSignature):
            verify_note(BODY + b"\n" + lines, VERIFIER, verify=verify_raw)


def test_at_most_16_signatures() -> None:
    line = signature_line(name=NAME, key=KEY)
    assert len(parse_note(BODY + b"\n" + line * 16).signatures) == 16
    with pytest.raises(Malformed, match="16"):
        parse_note(BODY + b"\n" + line * 17)


def test_at_most_64_kib() -> None:
    overhead = len(note_of(b"\n")) - 1
    body = b"x" * (NOTE_BYTES_MAX - overhead - 1) + b"\n"
    note = note_of(body)
    assert len(note) == NOTE_BYTES_MAX
    assert verify_note(note, VERIFIER, verify=verify_raw) == body
    with pytest.raises(Malformed, match="65536"):
        note_of(b"x" + body)
    with pytest.raises(Malformed, match="65536"):
        parse_note(b"x" + note)


def test_a_signature_has_bytes_behind_its_key_id() -> None:
    with pytest.raises(Malformed, match="key id"):
        parse_note(BODY + f"\n\u2014 {NAME} AAAAAA==\n".encode())
    assert parse_note(BODY + f"\n\u2014 {NAME} AAAAAAA=\n".encode()).signatures[0].signature == b"\x00"


def test_the_last_empty_line_divides() -> None:
    body = b"first\n\nsecond\n"
    assert verify_note(note_of(body), VERIFIER, verify=verify_raw) == body


@pytest.mark.parametrize("body", [b"", b"no newline", b"a\x00b\n", b"\xff\n", b"a\rb\n"])
def test_a_body_that_a_note_cannot_carry_is_not_signed(body: bytes) -> None:
    with pytest.raises(Malformed):
        note_of(body)


def test_a_key_speaks_for_its_own_log_only() -> None:
    foreign = note_of(encode_checkpoint("other.example", 7, bytes(32)))
    assert verify_note(foreign, VERIFIER, verify=verify_raw)
    with pytest.raises(Malformed, match="origin"):
        verify_checkpoint(foreign, VERIFIER, verify=verify_raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_or_malformed(note: bytes) -> None:
    for attempt in (note, BODY + b"\n" + note, note + b"\n" + signature_line(name=NAME, key=KEY)):
        try:
            parse_note(attempt)
        except Malformed:
            continue


@pytest.mark.parametrize("case", VECTORS["notes"], ids=lambda case: case.get("why", "valid"))
def test_vectors_of_notes(case: dict[str, Any]) -> None:
    note, verifier = bytes.fromhex(case["note"]), NoteVerifier.from_vkey(case["vkey"])
    if not case["valid"]:
        with pytest.raises((Malformed, BadSignature)):
            verify_checkpoint(note, verifier, verify=verify_raw)
        return
    assert verify_note(note, verifier, verify=verify_raw).hex() == case["body"]


# --- another implementation ---------------------------------------------------------------------------------


def test_another_implementation_accepts_our_checkpoints_and_we_accept_its() -> None:
    missing = "tlog-scales, a second log implementation, is not installed"
    tlog = pytest.importorskip("tlog_scales.tlog", reason=missing)
    signing = pytest.importorskip("tlog_scales.signing", reason=missing)
    seed = bytes(range(32))
    key = SigningKey(seed)

    ours = note_of(key=key)
    published = signing.Vkey.from_string(vkey(NAME, key.public_key))
    theirs_read = tlog.Checkpoint.from_text(ours.decode())
    theirs_read.verify(published)
    assert (theirs_read.origin, theirs_read.size, theirs_read.root_hash) == (NAME, 7, bytes(range(32)))

    signer = signing.PlainEd25519Signer(NAME, seed)
    theirs = tlog.Checkpoint.make_signed(NAME, 7, bytes(range(32)), [signer]).serialize().encode()
    assert theirs == ours
    verifier = NoteVerifier.from_vkey(signer.vkey.serialize())
    assert verify_checkpoint(theirs, verifier, verify=verify_raw) == parse_checkpoint(BODY)
