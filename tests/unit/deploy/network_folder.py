"""A folder with a network file, a genesis file and keys, as commands need them before they connect."""

import secrets
from pathlib import Path

from deploy.network_file import encode_network_file
from deploy.node.chain_files import save_key
from lockstep.allocations import Allocation
from lockstep.attesters import AttesterSet
from lockstep.genesis import Asset, BankModule, Modules, RollupDefinition, Settlement, encode_genesis
from lockstep.types import PublicKey, RollupId

NAMES = ("alice", "bob")


def make_network_folder(folder: Path, *, address: str = "127.0.0.1:1") -> Path:
    """Make the folder, and return the network file in it. All services are at `address`."""
    (folder / "keys").mkdir(parents=True)
    keys = {
        name: save_key(folder / "keys" / f"{name}.pem", secrets.token_bytes(32)).public_key for name in NAMES
    }
    roles = [save_key(folder / f"{role}.pem", secrets.token_bytes(32)).public_key for role in range(4)]
    (folder / "genesis.json").write_bytes(_genesis(keys["alice"], roles))
    file = folder / "network.toml"
    file.write_text(
        encode_network_file(
            sequencer=address, bridges=[address], settlement=address, rollups={"alpha": [address]}
        )
    )
    return file


def _genesis(alice: PublicKey, roles: list[PublicKey]) -> bytes:
    gold = Asset("gold", 2, 1_000, (Allocation(alice, 100),))
    shares = Asset("shares", 0, 0, ())
    return encode_genesis(
        name="test",
        genesis_time_ms=1_000,
        sequencer=roles[0],
        settlement=Settlement("lockstep.local/test", roles[1]),
        governance=roles[2],
        rollups=[
            RollupDefinition(
                RollupId("alpha"), AttesterSet(1, (roles[3],)), Modules(BankModule((gold, shares)))
            )
        ],
        rotation_delay_blocks=10,
    )
