"""The one verifier: libsodium's strict rule on every edge, and keys that do not show themselves."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import hashing
from lockstep.hashing import SIGN_CANCEL, SIGN_HEADER, tag
from lockstep.signing import SigningKey, is_registrable, verify, verify_raw
from tests.vectors import generate_signatures
from tests.vectors.generate_signatures import GROUP_ORDER, SIGNATURE_KINDS

VECTORS: dict[str, Any] = json.loads(
    (Path(generate_signatures.__file__).parent / "signatures.json").read_text()
)

KEY, STRANGER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)

seeds = st.binary(min_size=32, max_size=32)


def parts(case: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    return tuple(bytes.fromhex(case[name]) for name in ("public_key", "message", "signature"))  # type: ignore[return-value]


# --- signing and verifying ----------------------------------------------------------------------------------


@given(seeds, st.sampled_from(SIGNATURE_KINDS), st.binary(max_size=200))
def test_a_signature_verifies_for_its_kind_key_and_body_alone(seed: bytes, kind: str, body: bytes) -> None:
    key = SigningKey(seed)
    signature = key.sign(tag(kind), body)
    assert len(signature) == 64
    assert verify(tag(kind), key.public_key, body, signature)
    assert verify_raw(key.public_key, tag(kind) + body, signature)
    assert signature == SigningKey(seed).sign(tag(kind), body), "signing is deterministic"
    assert not verify(tag(kind), key.public_key, body + b"\x00", signature)
    assert not verify_raw(key.public_key, body, signature)
    for other in SIGNATURE_KINDS:
        assert verify(tag(other), key.public_key, body, signature) == (other == kind)


@given(st.integers(0, 63), st.integers(1, 255))
def test_no_byte_of_a_signature_can_change(position: int, change: int) -> None:
    signature = bytearray(KEY.sign(SIGN_HEADER, b"body"))
    signature[position] ^= change
    assert not verify(SIGN_HEADER, KEY.public_key, b"body", bytes(signature))


@given(st.integers(0, 31), st.integers(1, 255))
def test_no_byte_of_the_key_can_change(position: int, change: int) -> None:
    signature, public_key = KEY.sign(SIGN_HEADER, b"body"), bytearray(KEY.public_key)
    public_key[position] ^= change
    assert not verify(SIGN_HEADER, bytes(public_key), b"body", signature)


@given(st.binary(max_size=70), st.binary(max_size=40))
def test_any_bytes_are_answered(signature: bytes, public_key: bytes) -> None:
    assert not verify(SIGN_HEADER, public_key, b"body", signature)
    assert not is_registrable(public_key[:31])


@given(st.binary(min_size=1, max_size=20), st.integers(1, 20))
def test_where_the_signature_ends_is_not_for_the_message_to_say(message: bytes, shift: int) -> None:
    signed = KEY.sign_raw(message) + message
    assert verify_raw(KEY.public_key, signed[64:], signed[:64])
    for end in (64 - shift, min(64 + shift, len(signed))):
        assert not verify_raw(KEY.public_key, signed[end:], signed[:end])


@pytest.mark.parametrize("multiple", range(1, 16))
def test_a_signature_is_not_malleable(multiple: int) -> None:
    signature = KEY.sign(SIGN_CANCEL, b"body")
    scalar = int.from_bytes(signature[32:], "little") + multiple * GROUP_ORDER
    if scalar < 2**256:
        forged = signature[:32] + scalar.to_bytes(32, "little")
        assert not verify(SIGN_CANCEL, KEY.public_key, b"body", forged)


@pytest.mark.parametrize("case", VECTORS["signatures"])
def test_signature_vectors(case: dict[str, Any]) -> None:
    key, body = SigningKey(bytes.fromhex(case["seed"])), bytes.fromhex(case["body"])
    assert key.public_key.hex() == case["public_key"]
    assert key.sign(tag(case["kind"]), body).hex() == case["signature"]
    assert verify(tag(case["kind"]), key.public_key, body, bytes.fromhex(case["signature"]))


def test_the_vectors_have_every_kind_of_signature() -> None:
    tags = {value for name, value in vars(hashing).items() if name.startswith("SIGN_")}
    assert {tag(case["kind"]) for case in VECTORS["signatures"]} == tags


@pytest.mark.parametrize("case", VECTORS["verdicts"])
def test_verdict_vectors(case: dict[str, Any]) -> None:
    assert verify_raw(*parts(case)) == case["valid"], case["why"]


@pytest.mark.parametrize("case", VECTORS["speccheck"])
def test_speccheck_vectors(case: dict[str, Any]) -> None:
    assert verify_raw(*parts(case)) == case["valid"], case["about"]


def test_speccheck_has_twelve_cases_and_only_the_fourth_is_valid() -> None:
    assert [case["case"] for case in VECTORS["speccheck"]] == list(range(12))
    assert [case["case"] for case in VECTORS["speccheck"] if case["valid"]] == [3]


def test_no_key_of_speccheck_can_be_registered_but_the_one_of_prime_order() -> None:
    registrable = [case["case"] for case in VECTORS["speccheck"] if is_registrable(parts(case)[0])]
    assert registrable == [6, 7]


# --- keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["keys"])
def test_key_vectors(case: dict[str, Any]) -> None:
    assert is_registrable(bytes.fromhex(case["public_key"])) == case["valid"], case["why"]


@given(seeds)
def test_a_key_from_a_seed_can_be_registered(seed: bytes) -> None:
    assert is_registrable(SigningKey(seed).public_key)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey(bytes(length))


def test_a_key_shows_only_its_public_half() -> None:
    seed = bytes(range(100, 132))
    key = SigningKey(seed)
    for text in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert key.public_key.hex() in text
        assert seed.hex() not in text
        assert repr(seed) not in text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="serialised"):
        pickle.dumps(KEY, protocol)


def test_a_key_is_not_copied() -> None:
    for make in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="serialised"):
            make(KEY)


def test_two_keys_differ() -> None:
    assert KEY.public_key != STRANGER.public_key
    assert not verify(SIGN_HEADER, STRANGER.public_key, b"body", KEY.sign(SIGN_HEADER, b"body"))
