"""Domain-separated SHA-256: the one hash of the protocol (protos/README.md, section 2)."""

from hashlib import sha256
from typing import Final

__pure__ = True

_PREFIX: Final = b"lockstep/v1/"

ZERO_HASH: Final = bytes(32)
"""Stands where a hash has no predecessor."""


def tag(kind: str) -> bytes:
    """Return the prefix that keeps hashes and signatures of different kinds apart."""
    return _PREFIX + kind.encode("ascii") + b"\x00"


GENESIS: Final = tag("genesis")
TRANSACTION: Final = tag("transaction")
BUNDLE: Final = tag("bundle")
HEADER: Final = tag("header")
ROLLUP_TRANSACTION: Final = tag("rollup-transaction")
SWAP: Final = tag("swap")
SEEN: Final = tag("seen")
ATTESTERS: Final = tag("attesters")
REGISTRY: Final = tag("registry")
REGISTER: Final = tag("register")
COMMITMENT: Final = tag("commitment")

SIGN_HEADER: Final = tag("sign-header")
SIGN_TRANSACTION: Final = tag("sign-transaction")
SIGN_ATTESTATION: Final = tag("sign-attestation")
SIGN_CANCEL: Final = tag("sign-cancel")
SIGN_REGISTRY: Final = tag("sign-registry")
SIGN_COMMITMENT: Final = tag("sign-commitment")
SIGN_QUOTE: Final = tag("sign-quote")


def tagged_hash(tagged: bytes, body: bytes) -> bytes:
    """Return the 32 bytes `SHA-256(tagged | body)`; `tagged` is one of this module's constants."""
    return sha256(tagged + body).digest()
