"""Bytes, hashes and signatures: protos/README.md, sections 1 and 2."""

import re
from collections.abc import Sequence
from hashlib import sha256

from lockstep import signing

__pure__ = True

AMOUNT_MAX = 2**128 - 1
"""Section 10: the largest amount, balance and supply, in base units."""


class Unreadable(Exception):
    """Bytes that break their layout or one of its bounds."""


def need(condition: bool) -> None:  # noqa: FBT001 - reads like the sentence of the specification
    """Raise `Unreadable` unless what the layout demands holds."""
    if not condition:
        raise Unreadable


class Bytes:
    """Some bytes, read from front to end."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.at = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        need(self.at + count <= len(self.source))
        self.at += count
        return self.source[self.at - count : self.at]

    def number(self, count: int) -> int:
        """Return the next bytes as a number, big-endian."""
        return int.from_bytes(self.take(count), "big")

    def var(self, width: int, least: int, most: int) -> bytes:
        """Return bytes behind their length, itself of `width` bytes and within bounds."""
        length = self.number(width)
        need(least <= length <= most)
        return self.take(length)

    def rest(self) -> bytes:
        """Return what is left."""
        return self.take(len(self.source) - self.at)

    def end(self) -> None:
        """Insist that nothing is left."""
        need(self.at == len(self.source))


def number(value: int, count: int) -> bytes:
    """Write a number in so many bytes."""
    return value.to_bytes(count, "big")


def var(value: bytes, width: int = 1) -> bytes:
    """Write bytes behind their length."""
    return number(len(value), width) + value


def hashed(kind: str, body: bytes) -> bytes:
    """Return `H(kind, body)`."""
    return sha256(b"lockstep/v1/" + kind.encode() + b"\0" + body).digest()


def is_signed(kind: str, key: bytes, body: bytes, signature: bytes) -> bool:
    """Answer whether a signature of `kind` is the key's."""
    return signing.verify(b"lockstep/v1/" + kind.encode() + b"\0", key, body, signature)


def is_rollup(name: str) -> bool:
    """Answer whether a name can be a rollup's."""
    return re.fullmatch("[a-z0-9-]{1,32}", name) is not None


def rollup_name(source: Bytes) -> str:
    """Read `var8(rollup)`."""
    name = source.var(1, 1, 32).decode("latin-1")
    need(is_rollup(name))
    return name


def transaction_hash(namespace: str, payload: bytes) -> bytes:
    """Return the order's hash of a transaction."""
    return hashed("transaction", var(namespace.encode()) + payload)


def bundle_id(chain: bytes, valid_until_ms: int, hashes: Sequence[bytes]) -> bytes:
    """Return the id of a bundle of transactions with these hashes."""
    body = chain + number(valid_until_ms, 8) + number(len(hashes), 2) + b"".join(hashes)
    return hashed("bundle", body)
