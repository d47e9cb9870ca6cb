"""A devnet's folder: what is in it, that it is read back, and what is refused."""

import tomllib
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest

from deploy.devnet.network import NODES_OF, PROCESSES, create_network, free_ports, is_network, open_network
from deploy.node.failures import SettingsInvalid


def test_what_was_made_is_read_back(tmp_path: Path) -> None:
    made = create_network(tmp_path / "network")
    read = open_network(tmp_path / "network")
    assert (read.genesis, read.ports) == (made.genesis, made.ports)
    assert read.traders["alice"].public_key == made.traders["alice"].public_key
    assert is_network(tmp_path / "network")
    assert not is_network(tmp_path)


def test_ports_are_distinct_and_not_among_those_of_outgoing_connections(tmp_path: Path) -> None:
    ports = create_network(tmp_path / "network").ports.values()
    assert len(set(ports)) == len(PROCESSES)
    assert max(ports) < 32_768


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    from deploy.devnet import network

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(network, "_PORTS", range(taken.getsockname()[1], taken.getsockname()[1] + 1))
        with pytest.raises(SettingsInvalid, match="no port"):
            create_network(tmp_path / "network")


def test_a_port_that_was_given_to_somebody_else_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.devnet import network

    for first in range(20_000, 20_100):
        monkeypatch.setattr(network, "_PORTS", range(first, first + 2))
        with suppress(SettingsInvalid):
            # Nobody listens there yet, and so it looks free.
            assert free_ports(["links"], taken=[first]) == {"links": first + 1}


def test_two_networks_are_two_chains(tmp_path: Path) -> None:
    assert create_network(tmp_path / "a").genesis.chain_id != create_network(tmp_path / "b").genesis.chain_id


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(SettingsInvalid, match="is not empty"):
        create_network(tmp_path)


def test_settings_name_only_files_of_the_folder_and_addresses_of_the_network(tmp_path: Path) -> None:
    made = create_network(tmp_path / "network")
    for kind in PROCESSES:
        settings = tomllib.loads(made.settings_file(kind.name).read_text())
        folder = made.settings_file(kind.name).parent
        assert (folder / settings["genesis"]).resolve() == made.folder / "genesis.json"
        assert (folder / settings["data"]).resolve() == made.data_folder(kind.name)
        assert ("key" in settings) == (kind.name not in ("beta-1", "bridge"))
        if "key" in settings:
            assert (folder / settings["key"]).resolve().is_file()
        if "sequencer" in settings:
            assert settings["sequencer"] == made.address("sequencer")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match="cannot be made: Not a directory; name a folder"):
        create_network(tmp_path / "file" / "network")


def test_the_network_file_names_files_of_the_folder_and_every_process(tmp_path: Path) -> None:
    made = create_network(tmp_path / "network")
    found = tomllib.loads((made.folder / "network.toml").read_text())
    assert (made.folder / found["genesis"]).is_file()
    assert (made.folder / found["keys"] / "alice.pem").is_file()
    assert found["rollups"] == {
        rollup: [made.address(node) for node in nodes] for rollup, nodes in NODES_OF.items()
    }
    nodes = chain.from_iterable(found["rollups"].values())
    named = [found["sequencer"], found["settlement"], *found["bridges"], *nodes]
    assert sorted(named) == sorted(map(made.address, made.ports))
