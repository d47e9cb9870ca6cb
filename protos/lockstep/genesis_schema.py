"""The JSON of genesis files and of rollup definitions, as it is written.

Owns names, types and simple bounds; `lockstep.genesis` says what they mean and owns what a schema cannot say.
UTF-8 with one reading: unknown and repeated names are refused, keys are lower-case hex, amounts are decimal
strings without leading zeros.

    {"version": 1, "name": "devnet", "genesis_time_ms": 0, "rules_version": 1,
     "sequencer": {"public_key": KEY},
     "settlement": {"origin": "example.org/devnet", "public_key": KEY},
     "governance": {"public_key": KEY},
     "anchor_interval_blocks": 16, "rotation_delay_blocks": 1000,
     "rollups": [
      {"id": "alpha", "attesters": [KEY, ...], "threshold": 1,
       "modules": {
        "bank": {"assets": [{"id": "gold", "decimals": 6, "faucet_max": "0",
                             "allocations": [{"account": ACCOUNT, "amount": "1000000"}, ...]}, ...]},
        "escrow": {"minimum_lock": "1", "open_locks_per_account_max": 1024}},
       "quota": {"transactions_per_second": 1000, "bytes_per_second": 1000000}}, ...]}

May be left out: `anchor_interval_blocks` (16), a module (the rollup's runtime has it not; `escrow` needs
`bank`), the fields of `escrow` (as shown), `faucet_max` ("0"), `allocations` (none), `quota` (the sequencer's
policy).
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.types import SYSTEM_NAMESPACES

__pure__ = True

ROLLUPS_MAX: Final = limits.BLOCK_NAMESPACES_MAX - len(SYSTEM_NAMESPACES)
"""Rollups that a chain ever has, those that left included: every namespace then fits one block."""

ANCHOR_INTERVAL_BLOCKS_DEFAULT: Final = 16
"""Rollups post commitments at heights that are multiples of this, unless genesis says otherwise."""

ROTATION_DELAY_BLOCKS_MAX: Final = 1_000_000
"""The longest delay of a key's own replacement; no change lies further ahead (`lockstep.registry`)."""

_ORIGIN: Final = r"[!-*,-~]{1,255}"
_MILLISECONDS_MAX: Final = 2**53 - 1

_Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Amount = Annotated[str, msgspec.Meta(pattern=r"\A(0|[1-9][0-9]{0,38})\Z")]
_U16 = Annotated[int, msgspec.Meta(ge=1, le=2**16 - 1)]
_U32 = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object of the file: hex and decimal strings, no field that is not named here."""


class KeyFile(File, frozen=True):
    """The key of a role."""

    public_key: _Hex32


class SettlementFile(File, frozen=True):
    """The settlement log."""

    origin: Annotated[str, msgspec.Meta(pattern=rf"\A{_ORIGIN}\Z")]
    public_key: _Hex32


class AllocationFile(File, frozen=True):
    """What an account has from the start."""

    account: _Hex32
    amount: _Amount


class AssetFile(File, frozen=True):
    """An asset of the bank."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,32}\Z")]
    decimals: Annotated[int, msgspec.Meta(ge=0, le=38)]
    faucet_max: _Amount = "0"
    allocations: msgspec.Raw = msgspec.Raw(b"[]")
    """An array of `AllocationFile`, which `lockstep.allocations` reads: there may be a million."""


class BankFile(File, frozen=True):
    """The module `bank`."""

    assets: Annotated[tuple[AssetFile, ...], msgspec.Meta(min_length=1)]


class EscrowFile(File, frozen=True):
    """The module `escrow`."""

    minimum_lock: _Amount = "1"
    open_locks_per_account_max: _U32 = limits.OPEN_LOCKS_PER_ACCOUNT_DEFAULT


class ModulesFile(File, frozen=True):
    """What a runtime is composed of."""

    bank: BankFile | msgspec.UnsetType = msgspec.UNSET
    escrow: EscrowFile | msgspec.UnsetType = msgspec.UNSET


class QuotaFile(File, frozen=True):
    """A namespace's share of the order."""

    transactions_per_second: _U32
    bytes_per_second: _U32


class RollupFile(File, frozen=True):
    """A rollup's definition."""

    id: str
    attesters: tuple[_Hex32, ...]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=limits.ATTESTERS_MAX)]
    modules: ModulesFile
    quota: QuotaFile | msgspec.UnsetType = msgspec.UNSET


class GenesisFile(File, frozen=True):
    """The whole file."""

    version: Literal[1]
    name: Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,64}\Z")]
    genesis_time_ms: Annotated[int, msgspec.Meta(ge=0, le=_MILLISECONDS_MAX)]
    rules_version: _U16
    sequencer: KeyFile
    settlement: SettlementFile
    governance: KeyFile
    rotation_delay_blocks: Annotated[int, msgspec.Meta(ge=1, le=ROTATION_DELAY_BLOCKS_MAX)]
    rollups: Annotated[tuple[RollupFile, ...], msgspec.Meta(max_length=ROLLUPS_MAX)]
    anchor_interval_blocks: _U32 = ANCHOR_INTERVAL_BLOCKS_DEFAULT


_FileType = TypeVar("_FileType")

_APART_BYTES_MIN: Final = 65_536
"""Allocations of which the JSON is at least that long are left to who reads them."""


def is_origin(text: str) -> bool:
    """Answer whether a text can name a settlement log: printable ASCII without space and plus."""
    return re.fullmatch(_ORIGIN, text) is not None


def decode_json(raw: bytes, file_type: type[_FileType], what: str) -> _FileType:
    """Decode `what` from JSON. Raises `Malformed`, naming the place.

    A name that comes twice in an object is refused: readers differ on which one counts. Not looked at are
    allocations, if they are many.
    """
    try:
        decoded = msgspec.json.decode(raw, type=file_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason, _, path = str(error).partition(" - at ")
        raise Malformed(what=what, field=path.strip("`") or "$", reason=f"is wrong: {reason}") from None

    def verify_distinct(pairs: list[tuple[str, object]]) -> None:
        names = [name for name, _ in pairs]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise Malformed(what=what, field=repeated, reason="comes twice in one object")

    rest = raw
    for allocations in _allocations_in(decoded):
        written = memoryview(allocations)
        if written.nbytes >= _APART_BYTES_MIN:
            rest = rest.replace(written, b"[]", 1)
    json.loads(rest, object_pairs_hook=verify_distinct)
    return decoded


def _allocations_in(decoded: object) -> Iterator[msgspec.Raw]:
    """Yield the allocations of all assets."""
    if isinstance(decoded, GenesisFile):
        for rollup in decoded.rollups:
            yield from _allocations_in(rollup)
    elif isinstance(decoded, RollupFile) and decoded.modules.bank is not msgspec.UNSET:
        for asset in decoded.modules.bank.assets:
            yield asset.allocations
