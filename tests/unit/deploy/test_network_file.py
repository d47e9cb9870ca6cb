"""The network file: found where it is said to be, read strictly, and written so that it can be read."""

from pathlib import Path

import pytest

from deploy.network_file import NETWORK_VARIABLE, encode_network_file, find_network_file, load_network_file
from deploy.node.failures import SettingsInvalid

WRITTEN = encode_network_file(
    sequencer="127.0.0.1:7001",
    bridges=["127.0.0.1:7021", "[::1]:7022"],
    settlement="log.example:7002",
    rollups={"alpha": ["127.0.0.1:7011"], "beta-2": ["127.0.0.1:7012", "127.0.0.1:7013"]},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    file.write_text(WRITTEN)
    network = load_network_file(file)
    assert network.genesis == tmp_path / "genesis.json"
    assert network.keys == tmp_path / "keys"
    assert network.wallet == tmp_path / "wallet"
    assert network.sequencer == "127.0.0.1:7001"
    assert network.bridges == ("127.0.0.1:7021", "[::1]:7022")
    assert network.settlement == "log.example:7002"
    assert network.rollups == {
        "alpha": ("127.0.0.1:7011",),
        "beta-2": ("127.0.0.1:7012", "127.0.0.1:7013"),
    }


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("sequencer", "sequenzer", "unknown field `sequenzer`; did you mean sequencer?"),
        ('settlement = "log.example:7002"', "", "missing required field `settlement`"),
        ('"log.example:7002"', '"log.example"', "settlement: 'log.example' is no address; write host:port"),
        (
            '"127.0.0.1:7013"',
            '"127.0.0.1"',
            "rollups.beta-2[1]: '127.0.0.1' is no address; write host:port",
        ),
        ('["127.0.0.1:7021", "[::1]:7022"]', "[]", "bridges: Expected `array` of length >= 1"),
        ('"127.0.0.1:7001"', "7001", "sequencer: Expected `str`, got `int`"),
        ("[rollups]", "[rollups", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    assert old in WRITTEN
    file.write_text(WRITTEN.replace(old, new, 1))
    with pytest.raises(SettingsInvalid) as caught:
        load_network_file(file)
    assert str(caught.value).startswith(str(file))
    assert told in str(caught.value)


def test_the_option_comes_before_the_environment_before_the_devnet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given, named = tmp_path / "given.toml", tmp_path / "folder" / "network.toml"
    devnet = Path(".devnet") / "network.toml"
    for file in (given, named, devnet):
        file.parent.mkdir(exist_ok=True)
        file.write_text(WRITTEN)
    environment = {NETWORK_VARIABLE: str(named.parent)}
    assert find_network_file(given, environment) == given
    assert find_network_file(None, environment) == named, "a folder stands for the file in it"
    assert find_network_file(None, {NETWORK_VARIABLE: ""}) == devnet


def test_no_file_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsInvalid, match="no network: run `lockstep devnet up`, or name one"):
        find_network_file(None, {})
    with pytest.raises(SettingsInvalid, match=r"away\.toml is not there; name a network file"):
        find_network_file(Path("away.toml"), {})
    with pytest.raises(SettingsInvalid, match=f"which {NETWORK_VARIABLE} names, is not there"):
        find_network_file(None, {NETWORK_VARIABLE: "away.toml"})
