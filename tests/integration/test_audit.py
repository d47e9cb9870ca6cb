"""`lockstep audit` against real processes: an honest network, one whose nodes die, and one with a liar."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.network_file import encode_network_file
from lockstep.commitment import balance_key
from lockstep.encoding import u128
from lockstep.register import Phase
from lockstep.swap_entries import sign_cancel
from lockstep.transactions import Transfer
from lockstep.types import SWAP_NAMESPACE
from tests.integration.rollup_deals import Deal, make_deal, signed
from tests.integration.rollup_network import DEADLINE_S, Network, network
from tests.unit.rollups.chain import ALPHA, ANN, BETA, BOB, CARL
from tests.unit.rollups.tampering import make_rich

pytestmark = pytest.mark.processes


@asynccontextmanager
async def audited(folder: Path) -> AsyncIterator[Network]:
    """A network of two rollups, alpha with two nodes, with its network file."""
    async with network(folder, "alpha-0", "beta-0", "alpha-1") as net:
        text = encode_network_file(
            sequencer=net.nodes["sequencer"].address,
            bridges=["127.0.0.1:1"],
            settlement=net.nodes["settlement"].address,
            rollups={
                ALPHA: [net.nodes["alpha-0"].address, net.nodes["alpha-1"].address],
                BETA: [net.nodes["beta-0"].address],
            },
        )
        (folder / "network.toml").write_text(text)
        yield net


async def start_audit(net: Network, *arguments: str) -> asyncio.subprocess.Process:
    command = ("-P", "-m", "deploy.cli", "audit", "--network", str(net.folder / "network.toml"), *arguments)
    report = ("--report", str(net.folder / "report"))
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, *report, stdout=asyncio.subprocess.PIPE
    )


async def audit(net: Network, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document of an audit."""
    code, output = await ended(await start_audit(net, *arguments, "--json"))
    return code, json.loads(output)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Return the exit code and what was printed, once an audit ended."""
    async with asyncio.timeout(DEADLINE_S):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def trade(net: Network) -> Sequence[Deal]:
    """Have one swap that commits, one that is cancelled, and a transfer; return the swaps once decided."""
    committed, cancelled = await make_deal(net), await make_deal(net)
    payment = signed(net, ANN, Transfer(b"gold", CARL.public_key, 3), ALPHA, committed.time_ms)
    first = await net.order(committed.open, *committed.locks, committed.reveal, (ALPHA, payment))
    second = await net.order(cancelled.open, *cancelled.locks)
    await cancelled.until_phase("alpha-0", Phase.LOCKED, second.placement.height)
    await net.order((SWAP_NAMESPACE, sign_cancel(BOB, net.genesis.chain_id, cancelled.id)))
    await committed.until_settled("beta-0", 1)
    await cancelled.until_settled("beta-0", 1)
    acknowledged = {
        "bundle_id": first.placement.bundle_id.hex(),
        "height": first.placement.height,
        "first_index": first.placement.first_index,
        "count": first.placement.count,
    }
    (net.folder / "acknowledged.jsonl").write_text(json.dumps(acknowledged) + "\n")
    return committed, cancelled


async def test_an_honest_network_passes(tmp_path: Path) -> None:
    async with audited(tmp_path) as net:
        await trade(net)
        code, told = await audit(net, "--acknowledged", str(tmp_path / "acknowledged.jsonl"))
        assert (code, told["ok"], told["complete"]) == (0, True, True), told
        assert told["swaps_ended"] == {"COMMITTED": 1, "CANCELLED": 1}
        assert (told["transfers"], told["transactions"]) == (1, 5)
        for name in (
            "WHOLE",
            "DECIDED_ONCE",
            "ESCROW",
            "CONSERVATION",
            "ANCHORS",
            "ACKNOWLEDGED",
            "DEADLINES",
        ):
            assert told["invariants"][name] >= 1, name
        assert told["invariants"]["COMMITMENTS"] == 3 * told["height"]
        assert [node["compared_height"] for node in told["nodes"]] == [told["height"]] * 3
        assert not (tmp_path / "report").exists()
        code, told = await audit(net, "--until-height", "3")
        assert (code, told["height"]) == (0, 3)
        code, shown = await ended(await start_audit(net))
        assert (code, shown.splitlines()[-1]) == (0, "no violation")
        assert "2 swaps opened: 1 CANCELLED, 1 COMMITTED" in shown


async def test_a_bundle_that_was_acknowledged_and_is_not_there(tmp_path: Path) -> None:
    async with audited(tmp_path) as net:
        await trade(net)
        path = tmp_path / "acknowledged.jsonl"
        lost = {**json.loads(path.read_text()), "bundle_id": bytes(32).hex()}
        path.write_text(json.dumps(lost))
        code, told = await audit(net, "--acknowledged", str(path))
        assert (code, told["violation"]["invariant"]) == (4, "ACKNOWLEDGED")
        assert told["violation"]["height"] == lost["height"]
        code, shown = await ended(await start_audit(net, "--acknowledged", str(path)))
        assert (code, shown.splitlines()[0].split(":")[0]) == (4, "VIOLATION ACKNOWLEDGED")
        path.write_text("{}")
        code, told = await audit(net, "--acknowledged", str(path))
        assert (code, told["code"]) == (2, "SETTINGS")
        assert f"{path}:1" in told["error"]


async def test_nodes_that_die_and_come_back_are_no_violation(tmp_path: Path) -> None:
    async with audited(tmp_path) as net:
        following = await start_audit(net, "--follow", "--json")
        await net.nodes["alpha-1"].kill()
        await trade(net)
        await net.nodes["sequencer"].kill()
        await net.nodes["settlement"].kill()
        await net.nodes["settlement"].start()
        await net.nodes["sequencer"].start()
        await trade(net)
        await net.nodes["alpha-1"].start()
        # What is compared is all there: the node that came back has executed what it missed.
        height = (await net.sequencer.status()).height
        await (await net.client("alpha-1")).balances(ANN.public_key, min_height=height)
        code, told = await audit(net)
        assert (code, told["complete"]) == (0, True), told
        following.send_signal(signal.SIGTERM)
        code, output = await ended(following)
        *_, last = map(json.loads, output.splitlines())
        assert (code, last["event"], last["ok"]) == (0, "summary", True), last
        assert last["height"] >= height


async def test_a_node_whose_data_were_changed_is_found_with_height_and_key(tmp_path: Path) -> None:
    async with audited(tmp_path) as net:
        await trade(net)
        node = net.nodes["alpha-1"]
        await node.end()
        # Without the settlement log it does not find out itself, and serves.
        lines = node.settings.splitlines()
        node.settings = "\n".join(line for line in lines if not line.startswith("settlement"))
        height = await make_rich(node.data / "rollup.db", net.genesis)
        await node.start()
        code, told = await audit(net)
        assert "violation" in told, told
        violation = told["violation"]
        assert (code, told["ok"], told["code"]) == (4, False, "VIOLATION")
        assert (violation["invariant"], violation["height"], violation["rollup"]) == (
            "COMMITMENTS",
            height,
            ALPHA,
        )
        assert node.address in violation["source"]
        assert (
            violation["expected"] == (await (await net.client("alpha-0")).commitment(height)).state_root.hex()
        )
        assert (
            violation["actual"] == (await (await net.client("alpha-1")).commitment(height)).state_root.hex()
        )
        rich = {
            "key": balance_key(b"gold", CARL.public_key).hex(),
            "expected": u128(3).hex(),
            "actual": u128(10**9).hex(),
        }
        assert violation["differences"] == [rich]
        text = (tmp_path / "report" / "audit-violation.txt").read_text()
        assert text.startswith("VIOLATION COMMITMENTS")
        assert (
            json.loads((tmp_path / "report" / "audit-violation.json").read_text())["violation"] == violation
        )


async def test_a_sequencer_that_is_not_there(tmp_path: Path) -> None:
    async with audited(tmp_path) as net:
        await net.nodes["sequencer"].kill()
        code, told = await audit(net, "--grace", "500ms")
        assert (code, told["code"]) == (3, "UNAVAILABLE_PEER")
