"""The folder of a chaos run: a devnet, a second coordinator, traders, and the links between all of them.

Owns who reaches whom through what, so that each link, `CLIENT>SERVER`, can be cut alone. With a proxy every
address in a settings file is that of a link of its own; with namespaces each process has a host of its own;
else all addresses are the servers', on one host.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from deploy.devnet.network import (
    ASSET_OF,
    FUNDS,
    HOST,
    NODES_OF,
    PROCESS_NAMES,
    Network,
    ProcessKind,
    create_network,
    free_ports,
)

SECOND_BRIDGE: Final = "bridge-1"
"""The second coordinator, with a data folder of its own."""
BRIDGES: Final = ("bridge", SECOND_BRIDGE)
"""All coordinators."""
SERVICES: Final = (*PROCESS_NAMES, SECOND_BRIDGE)
"""Every service."""
TRADERS: Final = tuple(FUNDS)
"""Every trader."""
LINKS: Final = "links"
"""The process that forwards."""

EXTRA: Final = (
    ProcessKind(LINKS, "deploy.chaos.links", stage=3),
    ProcessKind(SECOND_BRIDGE, "bridge", stage=3),
    *(ProcessKind(name, "deploy.chaos.trader", stage=4) for name in TRADERS),
)
"""What runs beside a devnet's processes."""

_REACHED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "sequencer": ("settlement",),
    **{node: ("sequencer", "settlement") for nodes in NODES_OF.values() for node in nodes},
    **{bridge: ("sequencer", "settlement", *sum(NODES_OF.values(), ())) for bridge in BRIDGES},
    **{name: ("sequencer", *BRIDGES, *sum(NODES_OF.values(), ())) for name in TRADERS},
}
"""The servers that each process connects to."""

LINK_NAMES: Final = tuple(
    f"{client}>{server}" for client, servers in _REACHED_BY.items() for server in servers
)
"""Every link."""


class Cuts(StrEnum):
    """How links between processes are disturbed."""

    NONE = "none"
    """They are not."""
    PROXY = "proxy"
    """A process forwards all connections."""
    NAMESPACES = "namespaces"
    """Each process is in a network namespace of its own, and packets are dropped between them."""


@dataclass(frozen=True)
class Load:
    """What the traders do."""

    seed: int
    """What their deals follow from."""
    deals: int
    """Deals that each proposes."""
    at_once: int
    """Deals that each proposes at a time."""
    transfer_ms: int
    """Pause of each between two bundles of payments."""


@dataclass(frozen=True)
class ChaosNetwork:
    """The folder, made."""

    network: Network
    """Its devnet, with the ports of all services; these are theirs, not those of links."""
    cuts: Cuts
    """How links are cut."""

    @property
    def draining(self) -> Path:
        """The file that tells traders to begin nothing more."""
        return self.network.folder / "draining"

    @property
    def control_port(self) -> int:
        """Where the links' process is told what to do."""
        return self.network.ports[LINKS]

    def idle(self, trader: str) -> Path:
        """Return the file by which a trader shows, once it drains, that none of its swaps is open."""
        return self.network.folder / f"idle-{trader}"

    def wallet(self, trader: str) -> Path:
        """Return a trader's wallet."""
        return self.network.folder / "wallets" / trader

    def journal(self, trader: str) -> Path:
        """Return what a trader says that it did."""
        return self.network.folder / "journals" / f"{trader}.jsonl"


def create_chaos_network(
    folder: Path, load: Load, cuts: Cuts, hosts: Mapping[str, str] | None = None
) -> ChaosNetwork:
    """Make the folder; `hosts` are those of namespaces. Raises SettingsInvalid as `create_network`."""
    network = create_network(folder)
    link_names = LINK_NAMES if cuts is Cuts.PROXY else ()
    ports = free_ports((SECOND_BRIDGE, LINKS, *link_names), taken=network.ports.values())
    every = {**network.ports, SECOND_BRIDGE: ports[SECOND_BRIDGE], LINKS: ports[LINKS]}
    made = ChaosNetwork(replace(network, ports=every, hosts=hosts or {}), cuts)
    for part in ("wallets", "journals"):
        (network.folder / part).mkdir(mode=0o700)
    _write_second_bridge(made.network)
    for name in TRADERS:
        made.network.settings_file(name).write_text(_trader_settings(made, name, load), encoding="utf-8")
    _move_to_hosts(made.network)
    if cuts is Cuts.PROXY:
        links = {name: ports[name] for name in link_names}
        _write_links(made, links)
        _put_links_between(made, links)
    return made


def _write_second_bridge(network: Network) -> None:
    first = network.settings_file("bridge").read_text(encoding="utf-8")
    second = first.replace("../data/bridge", f"../data/{SECOND_BRIDGE}").replace(
        f"port = {network.ports['bridge']}", f"port = {network.ports[SECOND_BRIDGE]}"
    )
    network.settings_file(SECOND_BRIDGE).write_text(second, encoding="utf-8")


def _move_to_hosts(network: Network) -> None:
    """Have services listen where they are, and be looked for there."""
    for name in SERVICES if network.hosts else ():
        file = network.settings_file(name)
        text = file.read_text(encoding="utf-8").replace(
            "[server]", f'[server]\nhost = "{network.hosts[name]}"\nplain_beyond_host = true'
        )
        for each in SERVICES:
            text = text.replace(f'"{HOST}:{network.ports[each]}"', f'"{network.address(each)}"')
        file.write_text(text, encoding="utf-8")


def _trader_settings(made: ChaosNetwork, name: str, load: Load) -> str:
    address = made.network.address
    return _toml(
        {
            "name": name,
            "genesis": "../genesis.json",
            "keys": "../keys",
            "names": list(TRADERS),
            "wallet": str(made.wallet(name)),
            "journal": str(made.journal(name)),
            "draining": str(made.draining),
            "idle": str(made.idle(name)),
            "sequencer": address("sequencer"),
            # Whose first coordinator is whose differs, so that both have proposals.
            "bridges": [address(bridge) for bridge in _turned(BRIDGES, TRADERS.index(name))],
            "seed": load.seed,
            "at_once": load.at_once,
            "deals": load.deals,
            "transfer_ms": load.transfer_ms,
        },
        {
            "assets": {str(rollup): asset for rollup, asset in ASSET_OF.items()},
            "rollups": {rollup: [address(node) for node in nodes] for rollup, nodes in NODES_OF.items()},
            "logs": {"format": "json"},
        },
    )


def _turned(names: Sequence[str], count: int) -> list[str]:
    return [names[(place + count) % len(names)] for place in range(len(names))]


def _write_links(made: ChaosNetwork, links: Mapping[str, int]) -> None:
    tables = [
        {"name": name, "port": port, "target_port": made.network.ports[name.partition(">")[2]]}
        for name, port in links.items()
    ]
    text = f"control_port = {made.control_port}\n" + "".join(
        f"\n[[links]]\n{_toml(table, {})}" for table in tables
    )
    made.network.settings_file(LINKS).write_text(text, encoding="utf-8")


def _put_links_between(made: ChaosNetwork, links: Mapping[str, int]) -> None:
    """Have each process reach each server through a link of its own."""
    for client, servers in _REACHED_BY.items():
        file = made.network.settings_file(client)
        text = file.read_text(encoding="utf-8")
        for server in servers:
            text = text.replace(
                f'"{made.network.address(server)}"', f'"{HOST}:{links[f"{client}>{server}"]}"'
            )
        file.write_text(text, encoding="utf-8")


def _toml(fields: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    # JSON's texts, numbers and lists are TOML's as well.
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"
