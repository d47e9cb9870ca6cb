"""`lockstep keys`: keys that are made, listed and named, and never shown."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.commands import frame
from deploy.commands.keys import keys
from deploy.node.chain_files import load_key
from tests.unit.deploy.network_folder import make_network_folder


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The network file, which the environment names."""
    monkeypatch.setattr(frame, "configure_logs", lambda *_, **__: None)
    file = make_network_folder(tmp_path / "network")
    monkeypatch.setenv("LOCKSTEP_NETWORK", str(file))
    return file


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(keys, arguments)


def test_a_new_key_has_a_name_and_is_its_owners_alone(network: Path) -> None:
    done = typed("new", "carol", "--json")
    assert done.exit_code == 0, done.output
    file = network.parent / "keys" / "carol.pem"
    assert json.loads(done.stdout) == {
        "ok": True,
        "name": "carol",
        "account": load_key(file).public_key.hex(),
        "file": str(file),
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir() if each.name.startswith(".")] == []


def test_a_key_is_never_overwritten(network: Path) -> None:
    file = network.parent / "keys" / "alice.pem"
    before = file.read_bytes()
    done = typed("new", "alice")
    assert done.exit_code == 2
    assert "is there already; name another file" in done.stderr
    assert file.read_bytes() == before


def test_a_key_in_a_file_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "configure_logs", lambda *_, **__: None)
    monkeypatch.delenv("LOCKSTEP_NETWORK", raising=False)
    monkeypatch.chdir(tmp_path)
    assert typed("new", "deep/own.pem").exit_code == 0
    shown = typed("show", "deep/own.pem")
    assert shown.stdout.strip() == load_key(tmp_path / "deep" / "own.pem").public_key.hex()
    refused = typed("new", "own")
    assert refused.exit_code == 2
    assert "no network" in refused.stderr


def test_the_list_tells_accounts_and_what_cannot_be_read(network: Path) -> None:
    folder = network.parent / "keys"
    (folder / "broken.pem").write_text("no key")
    (folder / "README.md").write_text("no key either")
    listed = json.loads(typed("list", "--json").stdout)["keys"]
    assert [each["name"] for each in listed] == ["alice", "bob", "broken"]
    assert listed[0]["account"] == load_key(folder / "alice.pem").public_key.hex()
    assert "holds no private key" in listed[2]["error"]
    lines = typed("list").stdout.splitlines()
    assert lines[1].split() == ["alice", listed[0]["account"]]


def test_no_command_shows_a_private_key(network: Path) -> None:
    secret = (network.parent / "keys" / "alice.pem").read_text().splitlines()[1]
    said = "".join(
        typed(*arguments).output
        for arguments in (("list",), ("list", "--json"), ("show", "alice"), ("show", "alice", "--json"))
    )
    assert secret not in said
    assert load_key(network.parent / "keys" / "alice.pem").public_key.hex() in said
