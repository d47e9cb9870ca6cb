"""The folder of a devnet: its genesis file, keys, settings and ports.

Owns what a devnet consists of and how that lies on disk; starts nothing. Ports are chosen once and kept in
the settings files, so that a process that was restarted is found where it was.

    FOLDER/genesis.json
    FOLDER/network.toml             where everything is, for the command line
    FOLDER/keys/NAME.pem            the keys of roles, attesters and traders
    FOLDER/settings/PROCESS.toml    what each process is started with
    FOLDER/data/PROCESS/            what it stores
    FOLDER/logs/PROCESS.log         what it says
"""

import errno
import json
import random
import secrets
import socket
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.network_file import NETWORK_FILE, encode_network_file
from deploy.node.chain_files import load_genesis, load_key, save_key
from deploy.node.datadir import write_atomically
from deploy.node.failures import SettingsInvalid
from lockstep.allocations import Allocation
from lockstep.attesters import AttesterSet
from lockstep.genesis import (
    Asset,
    BankModule,
    EscrowModule,
    Genesis,
    Modules,
    RollupDefinition,
    Settlement,
    encode_genesis,
)
from lockstep.signing import SEED_BYTES, SigningKey
from lockstep.types import PublicKey, RollupId

ALPHA: Final = RollupId("alpha")
BETA: Final = RollupId("beta")
GAMMA: Final = RollupId("gamma")


@dataclass(frozen=True, slots=True)
class ProcessKind:
    """A process of the devnet: how it is called and what it runs."""

    name: str
    """Its name in files, logs and tables."""
    module: str
    """What `python -m` runs."""
    stage: int
    """Processes of one stage are started together, after those of the stages before."""
    rollup: RollupId | None = None
    """The rollup that it executes."""
    is_attester: bool = False
    """Whether it has a key to attest with."""


PROCESSES: Final = (
    ProcessKind("settlement", "bridge.settlement", stage=0),
    ProcessKind("sequencer", "sequencer", stage=1),
    ProcessKind("alpha-0", "rollups", stage=2, rollup=ALPHA, is_attester=True),
    ProcessKind("beta-0", "rollups", stage=2, rollup=BETA, is_attester=True),
    ProcessKind("beta-1", "rollups", stage=2, rollup=BETA),
    ProcessKind("gamma-0", "rollups", stage=2, rollup=GAMMA, is_attester=True),
    ProcessKind("bridge", "bridge", stage=2),
)
"""All processes, in the order in which they are started; they are stopped in reverse."""

PROCESS_NAMES: Final = tuple(kind.name for kind in PROCESSES)

ASSET_OF: Final[Mapping[RollupId, str]] = {ALPHA: "gold", BETA: "silver", GAMMA: "copper"}
"""The asset of each rollup."""

NODES_OF: Final[Mapping[RollupId, tuple[str, ...]]] = {
    rollup: tuple(kind.name for kind in PROCESSES if kind.rollup == rollup) for rollup in ASSET_OF
}
"""The nodes of each rollup; the first is its attester."""

DECIMALS: Final = 2
"""Digits behind the point in which people write amounts of each asset."""

FAUCET_MAX: Final = 100_000_00
"""Base units that anybody may create at once."""

FUNDS: Final[Mapping[str, Mapping[RollupId, int]]] = {
    "alice": {ALPHA: 10_000_00, BETA: 100_00},
    "bob": {ALPHA: 100_00, BETA: 50_000_00},
    "carol": {ALPHA: 500_00, GAMMA: 80_000_00},
}
"""The traders, and what they have from the start in base units. Carol has no silver: somebody must be without
what a swap wants."""

ANCHOR_INTERVAL_BLOCKS: Final = 8
"""Blocks between posted commitments: few, so that a person sees them anchored."""

ANCHOR_MS: Final = 250
"""How often headers are anchored: often, for the same reason."""

HOST: Final = "127.0.0.1"
"""Where all processes are."""

_PORTS: Final = range(15_000, 32_000)
"""Below the ports that systems give to outgoing connections. From among those, a client that looks for a
process that is away could be given the very port that it looks for, be connected to itself, and keep the
process out."""


@dataclass(frozen=True, slots=True)
class Network:
    """A devnet's folder, read."""

    folder: Path
    """Where everything is."""
    genesis: Genesis
    """What its genesis file says."""
    ports: Mapping[str, int]
    """The port of each process, by name."""
    traders: Mapping[str, SigningKey]
    """The traders' keys, by name."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Where processes are that are not on this host's own 127.0.0.1."""

    def address(self, process: str) -> str:
        """Return `host:port` of a process."""
        return f"{self.hosts.get(process, HOST)}:{self.ports[process]}"

    def settings_file(self, process: str) -> Path:
        """Return the path of a process's settings."""
        return _settings_file(self.folder, process)

    def data_folder(self, process: str) -> Path:
        """Return the path of a process's data."""
        return self.folder / "data" / process

    def log_file(self, process: str) -> Path:
        """Return the path of a process's log."""
        return self.folder / "logs" / f"{process}.log"


def create_network(folder: Path) -> Network:
    """Make a new network in an empty or new folder.

    Raises SettingsInvalid if there is something in it, or if it cannot be made.
    """
    folder = folder.resolve()
    try:
        if folder.exists() and any(folder.iterdir()):
            raise SettingsInvalid(f"{folder} is not empty and holds no devnet; name an empty or a new folder")
        for part in ("keys", "settings", "data", "logs"):
            (folder / part).mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise SettingsInvalid(
            f"{folder} cannot be made: {error.strerror}; name a folder in which you may write"
        ) from error
    roles = ("sequencer", "settlement", "governance")
    attesters = [kind.name for kind in PROCESSES if kind.is_attester]
    keys = {
        name: save_key(_key_file(folder, name), secrets.token_bytes(SEED_BYTES)).public_key
        for name in (*roles, *attesters, *FUNDS)
    }
    ports = free_ports(PROCESS_NAMES)
    for kind in PROCESSES:
        _settings_file(folder, kind.name).write_text(_settings_of(kind, ports), encoding="utf-8")
    (folder / NETWORK_FILE).write_text(_network_file_of(ports), encoding="utf-8")
    # What makes the folder a network comes last: without it, nothing was made.
    write_atomically(folder / "genesis.json", _genesis_of(keys))
    return open_network(folder)


def open_network(folder: Path) -> Network:
    """Read a network that was made before. Raises SettingsInvalid."""
    folder = folder.resolve()
    _, genesis = load_genesis(folder / "genesis.json")
    return Network(
        folder=folder,
        genesis=genesis,
        ports={name: _port_in(_settings_file(folder, name)) for name in PROCESS_NAMES},
        traders={name: load_key(_key_file(folder, name)) for name in FUNDS},
    )


def is_network(folder: Path) -> bool:
    """Answer whether a folder holds a network."""
    return (folder / "genesis.json").exists()


def supply_of(rollup: RollupId) -> int:
    """Return the base units of a rollup's asset that there are from the start."""
    return sum(funds.get(rollup, 0) for funds in FUNDS.values())


def _key_file(folder: Path, name: str) -> Path:
    return folder / "keys" / f"{name}.pem"


def _settings_file(folder: Path, process: str) -> Path:
    return folder / "settings" / f"{process}.toml"


def _port_in(settings: Path) -> int:
    try:
        port = tomllib.loads(settings.read_text(encoding="utf-8"))["server"]["port"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsInvalid(
            f"{settings} does not say the process's port ({error}); make a new devnet"
        ) from error
    return int(port)


def _genesis_of(keys: Mapping[str, PublicKey]) -> bytes:
    # Log time is a stopwatch, so that it may start anywhere. A round number reads well, and equal keys make
    # equal files.
    return encode_genesis(
        name="devnet",
        genesis_time_ms=1_000_000,
        sequencer=keys["sequencer"],
        settlement=Settlement("lockstep.local/devnet", keys["settlement"]),
        governance=keys["governance"],
        rollups=[_rollup_of(rollup, keys) for rollup in ASSET_OF],
        rotation_delay_blocks=1_000,
        anchor_interval_blocks=ANCHOR_INTERVAL_BLOCKS,
    )


def _rollup_of(rollup: RollupId, keys: Mapping[str, PublicKey]) -> RollupDefinition:
    attesters = tuple(keys[kind.name] for kind in PROCESSES if kind.rollup == rollup and kind.is_attester)
    allocations = tuple(
        Allocation(keys[trader], funds[rollup]) for trader, funds in FUNDS.items() if rollup in funds
    )
    asset = Asset(ASSET_OF[rollup], DECIMALS, FAUCET_MAX, allocations)
    return RollupDefinition(
        rollup,
        AttesterSet(len(attesters) // 2 + 1, attesters),
        Modules(BankModule((asset,)), EscrowModule()),
    )


def _settings_of(kind: ProcessKind, ports: Mapping[str, int]) -> str:
    """Return a process's settings; paths in them are relative to their own folder."""
    address = _addresses(ports)
    fields: dict[str, object] = {"data": f"../data/{kind.name}", "genesis": "../genesis.json"}
    if kind.name in ("sequencer", "settlement") or kind.is_attester:
        fields["key"] = f"../keys/{kind.name}.pem"
    if kind.name == "sequencer":
        fields["anchor_ms"] = ANCHOR_MS
    if kind.rollup is not None:
        fields["rollup"] = kind.rollup
    if kind.name not in ("sequencer", "settlement"):
        fields["sequencer"] = address["sequencer"]
    if kind.name != "settlement":
        fields["settlement"] = address["settlement"]
    tables: dict[str, dict[str, object]] = {"server": {"port": ports[kind.name]}, "logs": {"format": "json"}}
    if kind.name == "bridge":
        tables["rollups"] = {rollup: [address[node] for node in nodes] for rollup, nodes in NODES_OF.items()}
    # JSON's texts and numbers are TOML's as well.
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _network_file_of(ports: Mapping[str, int]) -> str:
    address = _addresses(ports)
    return encode_network_file(
        sequencer=address["sequencer"],
        bridges=[address["bridge"]],
        settlement=address["settlement"],
        rollups={rollup: [address[node] for node in nodes] for rollup, nodes in NODES_OF.items()},
    )


def _addresses(ports: Mapping[str, int]) -> Mapping[str, str]:
    return {name: f"{HOST}:{port}" for name, port in ports.items()}


def free_ports(names: Sequence[str], *, taken: Collection[int] = ()) -> dict[str, int]:
    """Return a port for each name that is free now, all different, and none that was `taken` before."""
    chosen: dict[str, int] = {}
    untaken = [port for port in _PORTS if port not in taken]
    candidates = iter(random.SystemRandom().sample(untaken, k=len(untaken)))
    with ExitStack() as held:
        for name in names:
            chosen[name] = _bind_first_free(candidates, held)
    return chosen


def _bind_first_free(candidates: Iterator[int], held: ExitStack) -> int:
    for port in candidates:
        probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            return port
    raise SettingsInvalid(f"no port between {_PORTS.start} and {_PORTS.stop} is free; stop something")
