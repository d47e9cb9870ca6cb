"""A running network whose registry is changed by the command line: what its tests share."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.network_file import encode_network_file
from deploy.node.chain_files import save_key
from lockstep.receipts import SettledReceipt
from lockstep.signing import SigningKey
from lockstep.swap_entries import encode_open, encode_reveal
from lockstep.terms import Terms, encode_terms, swap_id_of
from lockstep.transactions import Lock, sign_transaction
from lockstep.types import SWAP_NAMESPACE, RollupId, SwapId
from tests.integration.rollup_network import DEADLINE_S, Network, Node
from tests.unit.rollups.chain import ANN, BOB, PREIMAGE, leg, seed


@dataclass(frozen=True)
class Told:
    """What a run of the command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Mapping[str, Any]:
        """The JSON on its stdout."""
        value: Mapping[str, Any] = json.loads(self.out)
        return value


async def lockstep_rollup(net: Network, *arguments: str, json_wanted: bool = True) -> Told:
    """Run `lockstep rollup ...` against the network, as a person would. The last of two values counts."""
    return await lockstep(
        *("rollup", arguments[0]),
        *("--genesis", str(net.folder / "genesis.json")),
        *("--sequencer", net.nodes["sequencer"].address),
        *arguments[1:],
        *(("--json",) if json_wanted else ()),
    )


async def lockstep(*words: str, **environment: str) -> Told:
    """Run `lockstep WORDS`, as a person would."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "deploy.cli", *words),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Told(process.returncode, out.decode(), err.decode())


def network_file(net: Network) -> Path:
    """Write the file by which commands find the network, as it is now, and return its path."""
    nodes = [name for name in net.nodes if name.partition("-")[0] in ("alpha", "beta")]
    file = net.folder / "network.toml"
    file.write_text(
        encode_network_file(
            sequencer=net.nodes["sequencer"].address,
            bridges=["127.0.0.1:1"],
            settlement=net.nodes["settlement"].address,
            rollups={name.partition("-")[0]: [net.nodes[name].address] for name in nodes},
        )
    )
    return file


async def change(
    net: Network, *arguments: str, by: str = "governance", wait: bool = True
) -> Mapping[str, Any]:
    """Make a change that must succeed, by default signed by governance and waited for."""
    told = await lockstep_rollup(
        net, *arguments, "--key", str(key_file(net, by)), *(("--wait",) if wait else ())
    )
    assert told.code == 0, told
    return told.json


def key_file(net: Network, name: str) -> Path:
    """Return the file of the key that goes by a name."""
    path = net.folder / f"key of {name}.pem"
    save_key(path, seed(name))
    return path


async def start_node(net: Network, name: str, *, attester: str | None) -> Node:
    """Start one more rollup node, which attests with the key of that name."""
    settings = (
        f'rollup = "{name.partition("-")[0]}"\nsequencer = "{net.nodes["sequencer"].address}"\n'
        f'settlement = "{net.nodes["settlement"].address}"'
    )
    if attester is not None:
        settings += f'\nkey = "{key_file(net, attester).name}"'
    node = Node(name, "rollups", net.folder, settings)
    # The network kills every node that it knows.
    assert isinstance(net.nodes, dict)
    net.nodes[name] = node
    await node.start()
    return node


class Deal:
    """Ann's 100 gold on one rollup for Bob's 40 on another."""

    def __init__(
        self, net: Network, time_ms: int, rollups: Sequence[RollupId], *, lock_ms: int = 30_000
    ) -> None:
        self.net = net
        net.salts += 1
        first, second = self.rollups = tuple(rollups)
        terms = Terms(
            chain=net.genesis.chain_id,
            legs=(leg(first, ANN, BOB, 100), leg(second, BOB, ANN, 40)),
            hashlock=hashlib.sha256(PREIMAGE).digest(),
            lock_by_ms=time_ms + lock_ms,
            expires_ms=time_ms + lock_ms + 30_000,
            revealer=BOB.public_key,
            premium=None,
            salt=net.salts.to_bytes(16, "big"),
        )
        self.time_ms = time_ms
        self.terms_bytes = encode_terms(terms)
        self.id: SwapId = swap_id_of(self.terms_bytes)
        self.open = (str(SWAP_NAMESPACE), encode_open(self.terms_bytes))
        self.reveal = (str(SWAP_NAMESPACE), encode_reveal(self.id, PREIMAGE))
        self.locks = tuple(
            (str(rollup), self._lock(trader, place, rollup))
            for place, (trader, rollup) in enumerate(zip((ANN, BOB), self.rollups, strict=True))
        )

    def _lock(self, by: SigningKey, place: int, rollup: RollupId) -> bytes:
        self.net.salts += 1
        return sign_transaction(
            by,
            chain=self.net.genesis.chain_id,
            rollup=rollup,
            valid_until_ms=self.time_ms + 30_000,
            salt=self.net.salts.to_bytes(16, "big"),
            call=Lock(self.id, place),
        )

    async def settled(self, *nodes: str) -> tuple[SettledReceipt, ...]:
        """Wait until the node of each leg has settled it."""
        receipts = []
        for place, name in enumerate(nodes):
            receipt = await (await self.net.client(name)).settlement(self.id, place, wait_ms=20_000)
            assert isinstance(receipt, SettledReceipt)
            receipts.append(receipt)
        return tuple(receipts)


async def deal(net: Network, *rollups: RollupId, lock_ms: int = 30_000) -> Deal:
    """Return a deal of now."""
    return Deal(net, await net.sequencer.time_ms(), rollups, lock_ms=lock_ms)
