"""What can be typed: amounts, names of keys, accounts, spans of time, and what is said of everything else."""

from pathlib import Path

import click
import pytest

from deploy.commands.frame import Options
from deploy.commands.parameters import DURATION, find_account, find_key, in_units, key_path, parse_amount
from deploy.node.chain_files import load_key
from deploy.node.failures import SettingsInvalid
from tests.unit.deploy.network_folder import make_network_folder


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """The options of a command that names a network with alpha, where there are gold and shares."""
    return Options(make_network_folder(tmp_path / "network"))


@pytest.mark.parametrize(
    ("typed", "base_units", "shown"),
    [
        ("5.25:gold@alpha", 525, "5.25 gold on alpha"),
        ("5:gold@alpha", 500, "5.00 gold on alpha"),
        ("0.1:gold@alpha", 10, "0.10 gold on alpha"),
        ("7:shares@alpha", 7, "7 shares on alpha"),
        (f"{2**128 - 1}:shares@alpha", 2**128 - 1, f"{2**128 - 1} shares on alpha"),
    ],
)
def test_an_amount_is_read_in_the_decimals_of_its_asset(
    typed: str, base_units: int, shown: str, options: Options
) -> None:
    amount = parse_amount(typed, options.genesis)
    assert (amount.rollup, amount.base_units, str(amount)) == ("alpha", base_units, shown)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("5.25", "write AMOUNT:ASSET@ROLLUP, such as 5.25:gold@alpha"),
        ("5.25:gold", "write AMOUNT:ASSET@ROLLUP"),
        ("5.256:gold@alpha", "5.256 has 3 digits behind the point; gold has 2"),
        ("1.0:shares@alpha", "1.0 has 1 digits behind the point; shares has none"),
        ("0.00:gold@alpha", "0.00 is zero"),
        ("-1:gold@alpha", "'-1' is no number"),
        ("1,5:gold@alpha", "'1,5' is no number"),
        (".5:gold@alpha", "'.5' is no number"),
        (f"{2**128}:shares@alpha", "is more than there can be"),
        ("1:silver@alpha", "rollup alpha has no asset 'silver'; it has: gold, shares"),
        ("1:gold@beta", "there is no rollup 'beta'; there are: alpha"),
    ],
)
def test_what_is_no_amount_is_told_why(typed: str, told: str, options: Options) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_amount(typed, options.genesis)
    assert told in str(caught.value)


def test_units_are_written_with_all_decimals() -> None:
    assert (in_units(5, 2), in_units(0, 2), in_units(12, 0)) == ("0.05", "0.00", "12")


def test_a_key_is_found_by_name_and_by_file(options: Options) -> None:
    file = options.network.keys / "alice.pem"
    alice = load_key(file).public_key
    assert find_key("alice", options).public_key == alice
    assert find_key(str(file), options).public_key == alice
    assert find_account("alice", options) == alice
    assert find_account(alice.hex(), options) == alice


def test_an_unknown_key_is_told_with_the_known_ones(options: Options) -> None:
    with pytest.raises(SettingsInvalid, match=r"'carol' is neither a key file nor a name in .*: alice, bob$"):
        find_key("carol", options)
    with pytest.raises(SettingsInvalid, match="neither an account in 64 hex digits, nor a key file, nor"):
        find_account("ab" * 31, options)


def test_a_name_of_a_key_leads_nowhere_else(options: Options) -> None:
    assert key_path("carol", options) == options.network.keys / "carol.pem"
    assert key_path("elsewhere/carol.pem", options) == Path("elsewhere/carol.pem")
    for typed in ("../carol", "", ".carol", "a/b"):
        with pytest.raises(SettingsInvalid, match="is no name"):
            key_path(typed, options)


@pytest.mark.parametrize(
    ("typed", "milliseconds"), [("500ms", 500), ("30s", 30_000), ("1m", 60_000), ("2h", 7_200_000)]
)
def test_a_duration(typed: str, milliseconds: int) -> None:
    assert DURATION.convert(typed, None, None) == milliseconds


@pytest.mark.parametrize("typed", ["30", "s", "-1s", "1.5s", "1 s", "1d", ""])
def test_what_is_no_duration(typed: str) -> None:
    with pytest.raises(click.BadParameter, match="write 500ms, 30s, 1m or 1h"):
        DURATION.convert(typed, None, None)
