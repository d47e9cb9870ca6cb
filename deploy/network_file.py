"""Where a network is: the file `network.toml`, by which commands find its services, keys and records.

Owns the file's fields, how it is found, and both directions. A devnet writes one into its folder; for any
other network somebody writes it by hand. Paths in it are relative to its own folder.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from deploy.node.failures import SettingsInvalid
from deploy.node.settings import load_settings
from deploy.node.tls import ClientTls

NETWORK_VARIABLE: Final = "LOCKSTEP_NETWORK"
"""The environment variable that names the file."""

NETWORK_FILE: Final = "network.toml"
"""What the file is called in a devnet's folder."""

DEFAULT_PATH: Final = Path(".devnet") / NETWORK_FILE
"""Where it is looked for at last: in the folder that `lockstep devnet up` makes."""

_ADDRESS: Final = re.compile(r".*[^:]:[0-9]{1,5}")

_Addresses = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class NetworkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network as somebody who uses it sees it."""

    genesis: Path
    """The chain's genesis file: what everything that the services say is verified against."""

    sequencer: str
    """The sequencer, as `host:port`."""

    bridges: _Addresses
    """Bridge coordinators, tried in order."""

    settlement: str
    """The settlement log."""

    keys: Path
    """Folder in which names of keys are looked up: NAME is the file NAME.pem."""

    wallet: Path
    """Folder of the trader's own records; made when something is kept there."""

    rollups: dict[str, _Addresses] = {}
    """Nodes of each rollup, tried in order."""

    tls: ClientTls | None = None
    """Certificates; without them connections are plain."""


def find_network_file(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Return where the file is: `given`, else what the environment names, else the devnet's in this folder.

    Raises SettingsInvalid if there is none.
    """
    named = given or (Path(environ[NETWORK_VARIABLE]) if environ.get(NETWORK_VARIABLE) else None)
    path = named or DEFAULT_PATH
    if path.is_dir():
        path /= NETWORK_FILE
    if path.is_file():
        return path
    if named is None:
        raise SettingsInvalid("no network: run `lockstep devnet up`, or name one with --network")
    by = "" if given else f", which {NETWORK_VARIABLE} names,"
    raise SettingsInvalid(f"{path}{by} is not there; name a network file with --network")


def load_network_file(path: Path) -> NetworkFile:
    """Read the file at `path`. Raises SettingsInvalid, naming the file, the field and what to do."""
    network = load_settings(NetworkFile, path, {})
    for field, address in _addresses(network):
        if _ADDRESS.fullmatch(address) is None:
            raise SettingsInvalid(
                f"{path}: {field}: {address!r} is no address; write host:port, such as 127.0.0.1:7001"
            )
    return network


def encode_network_file(
    *,
    sequencer: str,
    bridges: Sequence[str],
    settlement: str,
    rollups: Mapping[str, Sequence[str]],
    genesis: str = "genesis.json",
    keys: str = "keys",
    wallet: str = "wallet",
) -> str:
    """Return the text of a file; paths are relative to where it will lie."""
    fields = {
        "genesis": genesis,
        "sequencer": sequencer,
        "bridges": list(bridges),
        "settlement": settlement,
        "keys": keys,
        "wallet": wallet,
    }
    # JSON's texts and lists are TOML's as well.
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    lines += ["", "[rollups]"]
    lines += [f"{rollup} = {json.dumps(list(nodes))}" for rollup, nodes in rollups.items()]
    return "\n".join(lines) + "\n"


def _addresses(network: NetworkFile) -> Iterator[tuple[str, str]]:
    """Yield every address with its field's name."""
    yield "sequencer", network.sequencer
    yield "settlement", network.settlement
    for place, address in enumerate(network.bridges):
        yield f"bridges[{place}]", address
    for rollup, nodes in network.rollups.items():
        for place, address in enumerate(nodes):
            yield f"rollups.{rollup}[{place}]", address
