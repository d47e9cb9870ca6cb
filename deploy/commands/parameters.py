"""What can be typed: keys, accounts, amounts with their asset, and spans of time.

Owns how these are read and refused. Names and assets are those of the network of the command's options
(`frame.network_options`), which click reads first.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from deploy.commands.frame import Options, options_of
from deploy.node.chain_files import load_key
from deploy.node.failures import SettingsInvalid
from lockstep.genesis import Asset, Genesis
from lockstep.limits import AMOUNT_MAX
from lockstep.signing import PUBLIC_KEY_BYTES, SigningKey
from lockstep.types import PublicKey, RollupId

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_AMOUNT: Final = re.compile(r"(?P<number>[^:@]+):(?P<asset>[^:@]+)@(?P<rollup>[^:@]+)")
_NUMBER: Final = re.compile(r"(?P<whole>[0-9]{1,39})(?:\.(?P<fraction>[0-9]{1,38}))?")
_DURATION: Final = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>ms|s|m|h)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of an asset of a rollup, as it was typed: `5.25:gold@alpha`."""

    rollup: RollupId
    """The rollup."""
    asset: str
    """The asset's name on it."""
    base_units: int
    """How much, at least 1."""
    decimals: int
    """Digits behind the point in which people write it."""

    def __str__(self) -> str:
        return f"{in_units(self.base_units, self.decimals)} {self.asset} on {self.rollup}"


def in_units(base_units: int, decimals: int) -> str:
    """Return an amount as people write it: 525 base units with 2 decimals are `5.25`."""
    whole, fraction = divmod(base_units, 10**decimals)
    return f"{whole}.{fraction:0{decimals}}" if decimals else str(whole)


def parse_amount(text: str, genesis: Genesis) -> Amount:
    """Return what `5.25:gold@alpha` means on a chain. ValueError says what is wrong."""
    matched = _AMOUNT.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is no amount; write AMOUNT:ASSET@ROLLUP, such as 5.25:gold@alpha")
    asset = find_asset(genesis, matched["rollup"], matched["asset"])
    number = _NUMBER.fullmatch(matched["number"])
    if number is None:
        raise ValueError(f"{matched['number']!r} is no number; write digits and a point, such as 5.25")
    fraction = number["fraction"] or ""
    if len(fraction) > asset.decimals:
        raise ValueError(
            f"{matched['number']} has {len(fraction)} digits behind the point; "
            f"{asset.id} has {asset.decimals or 'none'}"
        )
    base_units = int(number["whole"] + fraction.ljust(asset.decimals, "0"))
    if not 1 <= base_units <= AMOUNT_MAX:
        raise ValueError(f"{matched['number']} is {'zero' if base_units == 0 else 'more than there can be'}")
    return Amount(RollupId(matched["rollup"]), asset.id, base_units, asset.decimals)


def find_asset(genesis: Genesis, rollup: str, asset: str) -> Asset:
    """Return an asset of a rollup. ValueError lists what there is."""
    assets = assets_of(genesis)
    if rollup not in assets:
        raise ValueError(f"there is no rollup {rollup!r}; there are: {', '.join(assets) or 'none'}")
    for each in assets[RollupId(rollup)]:
        if each.id == asset:
            return each
    known = ", ".join(each.id for each in assets[RollupId(rollup)]) or "none"
    raise ValueError(f"rollup {rollup} has no asset {asset!r}; it has: {known}")


def assets_of(genesis: Genesis) -> dict[RollupId, tuple[Asset, ...]]:
    """Return the assets of every rollup that genesis knows."""
    return {
        each.id: each.modules.bank.assets if each.modules.bank is not None else () for each in genesis.rollups
    }


def find_key(text: str, options: Options, *, what: str = "neither a key file nor") -> SigningKey:
    """Return the key in a file, or of a name in the network's folder of keys. Raises SettingsInvalid.

    `what` begins to say what a text is not that is not found.
    """
    if "/" in text or text.endswith(".pem") or Path(text).is_file():
        # No network is needed to read a file.
        return load_key(Path(text))
    try:
        keys = options.network.keys
    except SettingsInvalid as failure:
        raise SettingsInvalid(f"{text!r} cannot be looked up: {failure}") from failure
    named = keys / f"{text}.pem"
    if _NAME.fullmatch(text) and named.is_file():
        return load_key(named)
    known = ", ".join(key_names(keys)) or "none"
    raise SettingsInvalid(f"{text!r} is {what} a name in {keys}; there are: {known}")


def key_path(text: str, options: Options) -> Path:
    """Return where a key of this name, or in this file, belongs. Raises SettingsInvalid."""
    if text.endswith(".pem"):
        return Path(text)
    if not _NAME.fullmatch(text):
        raise SettingsInvalid(f"{text!r} is no name; write letters and digits, or a file that ends with .pem")
    return options.network.keys / f"{text}.pem"


def find_account(text: str, options: Options) -> PublicKey:
    """Return the account in hex, or that of a key file or of a key's name. Raises SettingsInvalid."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) == PUBLIC_KEY_BYTES:
        return PublicKey(raw)
    return find_key(text, options, what="neither an account in 64 hex digits, nor a key file, nor").public_key


def account_names(options: Options) -> Mapping[PublicKey, str]:
    """Return the name of each account whose key lies in the network's folder of keys and can be read."""
    names = {}
    for name in key_names(options.network.keys):
        with suppress(SettingsInvalid):
            names[load_key(options.network.keys / f"{name}.pem").public_key] = name
    return names


def key_names(keys: Path) -> list[str]:
    """Return every name in a folder of keys."""
    return sorted(file.stem for file in keys.glob("*.pem")) if keys.is_dir() else []


class _Looked(click.ParamType[Any]):
    """A type whose values are names in the network's files; completed where those can be read."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that start so."""
        try:
            names = self.names(ctx)
        except SettingsInvalid:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    def names(self, context: click.Context) -> list[str]:
        """Return what can be typed. Raises SettingsInvalid."""
        return key_names(options_of(context).network.keys)


class _Key(_Looked):
    """`NAME|FILE`: a key to sign with."""

    name = "key"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> SigningKey:
        """Return the key."""
        if isinstance(value, SigningKey):
            return value
        assert ctx is not None, "only commands have parameters of this type"
        return find_key(str(value), options_of(ctx))


class _Account(_Looked):
    """`NAME|HEX`: an account."""

    name = "account"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> PublicKey:
        """Return the account."""
        if isinstance(value, bytes):
            return PublicKey(value)
        assert ctx is not None, "only commands have parameters of this type"
        return find_account(str(value), options_of(ctx))


class _AmountType(_Looked):
    """`AMOUNT:ASSET@ROLLUP`."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Amount:
        """Return the amount."""
        if isinstance(value, Amount):
            return value
        assert ctx is not None, "only commands have parameters of this type"
        try:
            return parse_amount(str(value), options_of(ctx).genesis)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def names(self, context: click.Context) -> list[str]:
        """Return nothing: numbers are not completed."""
        return []


class _Duration(click.ParamType[int]):
    """`30s`, `1m`, `500ms`: a span of time in milliseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in milliseconds."""
        if isinstance(value, int):
            return value
        matched = _DURATION.fullmatch(str(value))
        if matched is None:
            self.fail(f"{value!r} is no span of time; write 500ms, 30s, 1m or 1h", param, ctx)
        return int(matched["number"]) * _UNIT_MS[matched["unit"]]


KEY: Final = _Key()
"""NAME or FILE of a key; gives a SigningKey."""
ACCOUNT: Final = _Account()
"""NAME of a key, or 64 hex digits; gives a PublicKey."""
AMOUNT: Final = _AmountType()
"""`5.25:gold@alpha`; gives an Amount."""
DURATION: Final = _Duration()
"""`30s`; gives milliseconds."""

key_option = click.option(
    "--key", type=KEY, metavar="NAME|FILE", required=True, help="Who signs: a key's name, or its file."
)
"""Gives a command `key`, a SigningKey."""
