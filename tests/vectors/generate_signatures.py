"""Makes `hashing.json` and `signatures.json`.

Run as `python -m tests.vectors.generate_signatures` with `protos` and the repository on the path. Everything
follows from fixed inputs, so running it again gives the same files; a test insists on that. Verdicts are
written here by hand, from protos/README.md, section 2: a test holds our verifier against them.
"""

import json
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_core_ed25519_add

from lockstep import encoding, hashing
from tests.vectors.generate_registry import digest_of, key_of
from tests.vectors.plain import Case

FOLDER: Final = Path(__file__).parent

GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
FIELD_PRIME: Final = 2**255 - 19

HASH_KINDS: Final = (
    "genesis",
    "transaction",
    "bundle",
    "header",
    "rollup-transaction",
    "swap",
    "seen",
    "attesters",
    "registry",
    "register",
    "commitment",
)
SIGNATURE_KINDS: Final = (
    "sign-header",
    "sign-transaction",
    "sign-attestation",
    "sign-cancel",
    "sign-registry",
    "sign-commitment",
    "sign-quote",
)

TORSION: Final = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
"""A point of order 8."""

SMALL_ORDER: Final = {
    "01" + "00" * 31: "of order 1",
    "ec" + "ff" * 30 + "7f": "of order 2",
    "00" * 32: "of order 4",
    "00" * 31 + "80": "of order 4",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05": "of order 8",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85": "of order 8",
    TORSION: "of order 8",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa": "of order 8",
}
"""All points of small order, in their canonical encodings."""

NON_CANONICAL: Final = {
    "01" + "00" * 30 + "80": "x is zero and has a sign",
    "ec" + "ff" * 31: "x is zero and has a sign",
    "ed" + "ff" * 30 + "7f": "y is the field's prime",
    "ed" + "ff" * 31: "y is the field's prime",
    "ee" + "ff" * 30 + "7f": "y is beyond the field's prime",
    "ee" + "ff" * 31: "y is beyond the field's prime",
    "f0" + "ff" * 30 + "7f": "y is beyond the field's prime, and the point is not of small order",
    "ff" * 32: "y is beyond the field's prime",
}
"""Encodings that no encoder makes."""

SPECCHECK: Final = (
    (
        "A and R of small order, S = 0",
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "A of small order, R of mixed order",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "A of mixed order, R of small order",
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
        "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ),
    (
        "A and R of mixed order, and the equation holds without the cofactor",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f"
        "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    (
        "A and R of mixed order, and the equation holds only with the cofactor",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
        "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    (
        "as before, and 8k is reduced before it is multiplied",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7"
        "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ),
    (
        "S is beyond the group's order",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e"
        "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
    (
        "S is far beyond the group's order",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942"
        "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ),
    (
        "R is not canonical, and is reduced before it is hashed",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
    ),
    (
        "R is not canonical, and is hashed as it is",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
    ),
    (
        "A is not canonical, and is reduced before it is hashed",
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "A is not canonical, and is hashed as it is",
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
)
"""Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (2020): what it is, message, A, signature."""

SPECCHECK_VALID: Final = (3,)
"""The only one that libsodium accepts."""


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {
        name: json.dumps(vectors, indent=1) + "\n"
        for name, vectors in (
            ("hashing.json", hashing_vectors()),
            ("signatures.json", signature_vectors()),
        )
    }


# --- numbers, lengths and hashes ----------------------------------------------------------------------------


def hashing_vectors() -> Case:
    """Return the vectors of `lockstep.encoding` and `lockstep.hashing`."""
    numbers = {
        8: encoding.u8,
        16: encoding.u16,
        32: encoding.u32,
        64: encoding.u64,
        128: encoding.u128,
    }
    lengths = {8: encoding.var8, 16: encoding.var16, 32: encoding.var32}
    bodies = (b"", b"body", bytes(range(256)))
    return {
        "about": (
            "numbers and lengths in bytes, and the domain-separated hash of every kind; numbers are decimal"
        ),
        "numbers": [
            {"bits": bits, "value": str(value), "encoded": encode(value).hex()}
            for bits, encode in numbers.items()
            for value in (0, 1, 2 ** (bits - 1), 2**bits - 2, 2**bits - 1)
        ],
        "lengths": [
            {"bits": bits, "value": value.hex(), "encoded": encode(value).hex()}
            for bits, encode in lengths.items()
            for value in (b"", b"\x00", b"value", bytes(255))
        ],
        "kinds": [
            {"kind": kind, "of": of, "tag": hashing.tag(kind).hex()}
            for of, kinds in (("hash", HASH_KINDS), ("signature", SIGNATURE_KINDS))
            for kind in kinds
        ],
        "hashes": [
            {
                "kind": kind,
                "body": body.hex(),
                "hash": hashing.tagged_hash(hashing.tag(kind), body).hex(),
            }
            for kind in HASH_KINDS
            for body in bodies
        ],
    }


# --- signatures ---------------------------------------------------------------------------------------------


def signature_vectors() -> Case:
    """Return the vectors of `lockstep.signing`."""
    return {
        "about": (
            "signatures of every kind over `tag(kind) | body`; verdicts over `message`, on edge cases and "
            "on the twelve of `Taming the many EdDSAs`; keys that may be registered, and not"
        ),
        "signatures": [_signature(kind) for kind in SIGNATURE_KINDS],
        "verdicts": _verdicts(),
        "speccheck": [
            {
                "case": number,
                "about": about,
                "valid": number in SPECCHECK_VALID,
                "public_key": public_key,
                "message": message,
                "signature": signature,
            }
            for number, (about, message, public_key, signature) in enumerate(SPECCHECK)
        ],
        "keys": _keys(),
    }


def _signature(kind: str) -> Case:
    key, body = key_of(kind), f"the body of a {kind}".encode()
    return {
        "kind": kind,
        "seed": digest_of(kind).hex(),
        "public_key": key.public_key.hex(),
        "body": body.hex(),
        "signature": key.sign(hashing.tag(kind), body).hex(),
    }


def _verdicts() -> list[Case]:
    key, stranger, message = key_of("signer"), key_of("stranger"), b"message"
    good = key.sign_raw(message)
    point, scalar = good[:32], int.from_bytes(good[32:], "little")

    def with_scalar(number: int) -> bytes:
        return point + number.to_bytes(32, "little")

    def case(valid: bool, why: str, signature: bytes, message: bytes = message) -> Case:
        return {
            "valid": valid,
            "why": why,
            "public_key": key.public_key.hex(),
            "message": message.hex(),
            "signature": signature.hex(),
        }

    return [
        case(True, "as signed", good),
        case(True, "an empty message", key.sign_raw(b""), b""),
        case(
            False,
            "S plus the group's order, which verifies where S is not bounded",
            with_scalar(scalar + GROUP_ORDER),
        ),
        case(False, "S is the group's order", with_scalar(GROUP_ORDER)),
        case(False, "S is the greatest number", with_scalar(2**256 - 1)),
        case(False, "S is zero", with_scalar(0)),
        case(False, "S is one more", with_scalar((scalar + 1) % GROUP_ORDER)),
        case(False, "R has another sign", good[:31] + bytes([good[31] ^ 0x80]) + good[32:]),
        case(False, "R is the point of order 1", b"\x01" + bytes(31) + good[32:]),
        case(False, "another key's", stranger.sign_raw(message)),
        case(False, "another message", good, b"massage"),
        case(False, "a longer message", good, message + b"\x00"),
        case(False, "the last byte is missing", good[:-1]),
        case(False, "a byte is left over", good + b"\x00"),
        case(False, "empty", b""),
        {**case(False, "the key lacks a byte", good), "public_key": key.public_key[:-1].hex()},
        {**case(False, "the key has a byte left over", good), "public_key": key.public_key.hex() + "00"},
        {**case(False, "the key is empty", good), "public_key": ""},
        *(
            {
                **case(
                    False,
                    f"the key is {why} and also R, and S is zero",
                    bytes.fromhex(encoded) + bytes(32),
                ),
                "public_key": encoded,
            }
            for encoded, why in SMALL_ORDER.items()
        ),
    ]


def _keys() -> list[Case]:
    mixed = crypto_core_ed25519_add(key_of("registered").public_key, bytes.fromhex(TORSION))
    negative = bytearray(key_of("registered").public_key)
    negative[31] ^= 0x80
    cases = [
        (True, "a key from a seed", key_of("registered").public_key.hex()),
        (True, "its negative, also of prime order", negative.hex()),
        (True, "the base point", "58" + "66" * 31),
        (False, "of prime order but for a part of order 8", mixed.hex()),
        (False, "of mixed order (speccheck 3)", SPECCHECK[3][2]),
        (False, "no point has this y", "02" + "00" * 31),
        *((False, why, encoded) for encoded, why in (SMALL_ORDER | NON_CANONICAL).items()),
        (False, "a byte is missing", "58" + "66" * 30),
        (False, "a byte is left over", "58" + "66" * 32),
        (False, "empty", ""),
    ]
    return [{"valid": valid, "why": why, "public_key": encoded} for valid, why, encoded in cases]


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text)
