"""How vectors look as JSON: what the generators write, and the tests read back.

Bytes are hex strings. Long ones may be `{"repeat": "00", "times": 65537}`, and a list of these, one after
the other, is their concatenation. Numbers of 64 bits and more are decimal strings, whatever their size,
because not every reader of JSON keeps them; smaller ones are numbers. Enumerations go by name.
"""

from collections.abc import Mapping
from dataclasses import fields
from enum import IntEnum
from typing import Any, Final

import msgspec

WIDE_NAMES: Final = frozenset(
    (
        "amount",
        "effective_height",
        "executed_height",
        "expires_by_ms",
        "expires_ms",
        "first_height",
        "get_amount",
        "give_amount",
        "height",
        "lock_by_ms",
        "opened_height",
        "payload_bytes",
        "premium",
        "premium_amount",
        "previous_height",
        "receipt_count",
        "sequence",
        "time_ms",
        "valid_until_ms",
    )
)
"""Numbers of 64 and 128 bits: decimal strings."""

Case = dict[str, Any]


def plain(value: Any) -> Any:  # noqa: ANN401 - any record becomes plain JSON
    """Return a record as plain JSON."""
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, bytes):
        return _folded(value)
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        items = value.items()
    elif hasattr(value, "__dataclass_fields__"):
        items = {each.name: getattr(value, each.name) for each in fields(value)}.items()
    elif isinstance(value, msgspec.Struct):
        items = msgspec.structs.asdict(value).items()
    else:
        return value
    return {
        name: str(each) if name in WIDE_NAMES and isinstance(each, int) else plain(each)
        for name, each in items
    }


def _folded(value: bytes) -> Any:  # noqa: ANN401 - JSON
    head = value.rstrip(value[-1:])
    tail_bytes = len(value) - len(head)
    return [head.hex(), repeat(value[-1:], tail_bytes)] if tail_bytes > 1_000 else value.hex()


def refused(why: str, encoded: bytes) -> Case:
    """Return a case that must be refused."""
    return {"valid": False, "why": why, "encoded": encoded.hex()}


def cut_and_extended(encoded: bytes) -> list[Case]:
    """Return the cases that every strict layout must refuse: a byte missing, a byte too many, empty."""
    return [
        refused("the last byte is missing", encoded[:-1]),
        refused("a byte is left over", encoded + b"\x00"),
        refused("empty", b""),
    ]


def unfold(value: Any) -> bytes:  # noqa: ANN401 - JSON
    """Return the bytes that a JSON value stands for."""
    if isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(value, list):
        return b"".join(map(unfold, value))
    return bytes.fromhex(value["repeat"]) * int(value["times"])


def repeat(unit: bytes, times: int) -> Case:
    """Return the JSON value of `times * unit`."""
    return {"repeat": unit.hex(), "times": times}
