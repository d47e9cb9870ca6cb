"""A client for Node, made from the schemas and protos/README.md alone: the golden vectors, and a whole swap.

What Node found about the swap is compared with what our own clients say. That it verifies what it is told
shows in a swap with another chain's id, and in the vectors, most of which are there to be refused.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.devnet.clients import connected
from deploy.devnet.launcher import running
from deploy.devnet.network import ALPHA, BETA, FUNDS, Network, create_network
from lockstep.header import header_hash
from lockstep.terms import decode_terms, swap_id_of
from lockstep.types import RollupId, SwapId
from lockstep.v1 import sequencer_pb2, sequencer_pb2_grpc
from tests.conftest import NODE_PACKAGES

pytestmark = pytest.mark.needs_node

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(__file__).parent / "node"
VECTORS = ROOT / "tests" / "vectors"
GOLD, SILVER = 500_00, 2_000_00
TIMEOUT_S = 90

VECTORS_RUN = {
    "hashing.json": ["numbers", "lengths", "kinds", "hashes"],
    "signatures.json": ["signatures", "verdicts", "speccheck"],
    "merkle.json": ["leaves", "roots"],
    "merkle_map.json": ["proofs"],
    "order.json": ["namespaces", "transactions", "bundles", "entries", "namespace_leaves"],
    "header.json": ["headers", "signatures", "continuations"],
    "block.json": ["blocks", "shares"],
    "transactions.json": ["transactions", "calls"],
    "terms.json": ["terms"],
    "swap_entries.json": ["entries"],
}
"""What the client runs. The rest checks what only services and auditors do; see the head of vectors.js."""


async def run_node(program: str, *arguments: str, settings: object = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *("node", str(PROGRAMS / program), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NODE_PATH": str(NODE_PACKAGES)},
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate(json.dumps(settings).encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def seed_of(network: Network, trader: str) -> str:
    pem = (network.folder / "keys" / f"{trader}.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.private_bytes_raw().hex()


def settings_of(network: Network) -> dict[str, Any]:
    return {
        "chain_id": network.genesis.chain_id.hex(),
        "schemas": str(ROOT / "protos"),
        "addresses": {
            "sequencer": network.address("sequencer"),
            "bridge": network.address("bridge"),
            ALPHA: network.address("alpha-0"),
            # The replica: what it says is worth as much.
            BETA: network.address("beta-1"),
        },
        "taker": seed_of(network, "alice"),
        "maker": seed_of(network, "bob"),
        "give": {"rollup": ALPHA, "asset": "gold", "amount": str(GOLD)},
        "get": {"rollup": BETA, "asset": "silver", "amount": str(SILVER)},
    }


async def header_at(network: Network, height: int) -> bytes:
    async with grpc.aio.insecure_channel(network.address("sequencer")) as channel:
        stub = sequencer_pb2_grpc.SequencerStub(channel)
        answer = await stub.GetBlock(sequencer_pb2.GetBlockRequest(height=height), timeout=10)
    return answer.block.header.header


def holdings(
    alice: Mapping[RollupId, int], bob: Mapping[RollupId, int], *, gold: int, silver: int
) -> dict[str, str]:
    """What both have once so much gold went to bob and so much silver to alice."""
    amounts = {
        "taker gold": alice[ALPHA] - gold,
        "taker silver": alice[BETA] + silver,
        "maker gold": bob[ALPHA] + gold,
        "maker silver": bob[BETA] - silver,
    }
    return {name: str(amount) for name, amount in amounts.items()}


async def test_it_agrees_with_the_vectors() -> None:
    code, output, errors = await run_node("vectors.js", str(VECTORS))
    assert code == 0, errors
    expected = {
        f"{Path(file).stem}.{name}": len(json.loads((VECTORS / file).read_text())[name])
        for file, lists in VECTORS_RUN.items()
        for name in lists
    }
    assert json.loads(output) == expected


async def test_it_sees_a_vector_that_is_wrong(tmp_path: Path) -> None:
    for file in VECTORS.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    terms = json.loads((tmp_path / "terms.json").read_text())
    terms["terms"][0]["fields"]["legs"][1]["amount"] = "8"
    (tmp_path / "terms.json").write_text(json.dumps(terms))
    code, _, errors = await run_node("vectors.js", str(tmp_path))
    assert code != 0
    assert "terms.terms[0]" in errors


@pytest.mark.processes
async def test_it_makes_a_swap_and_verifies_all_of_it(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network")
    async with running(network), connected(network) as clients:
        code, output, errors = await run_node("swap.js", settings=settings_of(network))
        assert code == 0, errors
        found = json.loads(output)

        terms_bytes = bytes.fromhex(found["terms"])
        terms, swap_id = decode_terms(terms_bytes), SwapId(bytes.fromhex(found["swap_id"]))
        assert swap_id == swap_id_of(terms_bytes)
        assert [(leg.rollup, leg.asset, leg.amount) for leg in terms.legs] == [
            (ALPHA, b"gold", GOLD),
            (BETA, b"silver", SILVER),
        ]

        swap = await clients.bridge.swap(swap_id)
        assert (found["phase"], found["decided_height"]) == ("SWAP_PHASE_COMMITTED", swap.decided_height)
        assert swap.phase.name == "COMMITTED"

        places: dict[str, list[list[int]]] = {}
        for name, *place in found["entries"]:
            places.setdefault(name, []).append(place)
        assert set(places) == {"Open", "Lock alpha", "Lock beta", "Attest alpha", "Attest beta", "Reveal"}
        assert places["Open"] == [[swap.opened_height, swap.opened_index]]
        assert places["Reveal"] == [[swap.decided_height, swap.decided_index]] == [found["revealed"]]

        tip = found["tip"]["height"]
        assert found["blocks_verified"] == tip >= swap.decided_height
        assert found["tip"]["hash"] == header_hash(await header_at(network, tip)).hex()

        alice, bob = FUNDS["alice"], FUNDS["bob"]
        assert found["before"] == holdings(alice, bob, gold=0, silver=0)
        assert found["after"] == holdings(alice, bob, gold=GOLD, silver=SILVER)
        for name, trader in (("taker", "alice"), ("maker", "bob")):
            for asset, node in (("gold", "alpha-0"), ("silver", "beta-0")):
                account = network.traders[trader].public_key
                amount = await clients.nodes[node].balance(account, asset, min_height=swap.decided_height)
                assert found["after"][f"{name} {asset}"] == str(amount)

        assert found["error"] == {
            "code": "UNKNOWN_SWAP",
            "fields": {"swap_id": "00" * 32},
            "retryable": False,
        }

        stranger = settings_of(network) | {"chain_id": "00" * 32}
        code, _, errors = await run_node("swap.js", settings=stranger)
        assert code == 1
        assert "another genesis file" in errors
