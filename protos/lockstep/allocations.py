"""Who has an asset from the start: how a million accounts are read from a genesis file, and kept.

Owns a sequence of 48 bytes for each account, and the reading of its JSON in one go; `lockstep.genesis_schema`
says what the JSON is, `lockstep.genesis` what must hold besides. Invariant: what is read in one go is what is
read one by one, and whatever is not regular is read one by one, so that its fault is named.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import msgspec

from lockstep.errors import Malformed
from lockstep.genesis_schema import AllocationFile, decode_json
from lockstep.limits import AMOUNT_MAX
from lockstep.types import PublicKey

__pure__ = True


@dataclass(frozen=True, slots=True)
class Allocation:
    """Base units that an account has from the start."""

    account: PublicKey
    """Who has them."""
    amount: int
    """Base units, at least 1."""


class Allocations(Sequence[Allocation]):
    """Allocations that hold: each account once, no amount zero, and in all at most 2^128-1 base units.

    Otherwise like a tuple of them.
    """

    __slots__ = ("_accounts", "_amounts")

    def __init__(self, accounts: bytes, amounts: Iterable[int]) -> None:
        """Take accounts, 32 bytes each, and their amounts, of which it is known that they hold."""
        self._accounts = accounts
        self._amounts = b"".join([amount.to_bytes(16, "big") for amount in amounts])

    def __len__(self) -> int:
        return len(self._accounts) // 32

    def __iter__(self) -> Iterator[Allocation]:
        return map(self._at, range(len(self)))

    @overload
    def __getitem__(self, place: int) -> Allocation: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Allocation]: ...

    def __getitem__(self, place: int | slice) -> Allocation | Sequence[Allocation]:
        """Return one, or some as a tuple."""
        found = range(len(self))[place]
        return self._at(found) if isinstance(found, int) else tuple(map(self._at, found))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Allocations):
            return (self._accounts, self._amounts) == (other._accounts, other._amounts)
        return tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _at(self, place: int) -> Allocation:
        account = PublicKey(self._accounts[32 * place : 32 * place + 32])
        return Allocation(account, int.from_bytes(self._amounts[16 * place : 16 * place + 16], "big"))


class _Lean(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An allocation as written, its strings not looked at."""

    account: str
    amount: str


def read_allocations(raw: msgspec.Raw, what: str, field: str) -> Sequence[Allocation]:
    """Return the allocations in the JSON of an array. That they hold is certain of `Allocations` alone.

    Raises Malformed, naming the place below `field`.
    """
    found = _read_at_once(raw)
    if found is not None:
        return found
    try:
        files = decode_json(bytes(raw), tuple[AllocationFile, ...], what)
    except Malformed as error:
        place = f"{field}{error.field[1:]}" if error.field.startswith("$") else error.field
        raise Malformed(what=what, field=place, reason=error.reason) from None
    return tuple(Allocation(PublicKey(bytes.fromhex(each.account)), int(each.amount)) for each in files)


def write_allocations(allocations: Iterable[Allocation]) -> msgspec.Raw:
    """Return the JSON that `read_allocations` reads."""
    files = [AllocationFile(each.account.hex(), str(each.amount)) for each in allocations]
    return msgspec.Raw(msgspec.json.encode(files))


def _read_at_once(raw: msgspec.Raw) -> Allocations | None:
    """Return allocations that hold and are written as nearly always; None if each must be looked at."""
    text = bytes(raw)
    # Without escapes, a name stands there as often as objects have it: each of them once, if all have it.
    names = 0 if b"\\" in text else text.count(b'"account"')
    if names != text.count(b'"amount"'):
        return None
    del text
    try:
        files = msgspec.json.decode(raw, type=list[_Lean])
        accounts = [file.account for file in files]
        packed = bytes.fromhex("".join(accounts))
        amounts = [int(file.amount) for file in files]
    except (ValueError, msgspec.DecodeError):
        return None
    holds = (
        len(files) == names == len(set(accounts))
        and set(map(len, accounts)) <= {64}
        and packed.hex() == "".join(accounts)
        and list(map(str, amounts)) == [file.amount for file in files]
        and min(amounts, default=1) >= 1
        and sum(amounts) <= AMOUNT_MAX
    )
    return Allocations(packed, amounts) if holds else None
