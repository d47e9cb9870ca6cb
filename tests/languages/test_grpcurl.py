"""grpcurl, a Go program that knows none of our schemas: reflection, health, calls, errors with details."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bridge.client import Trader
from deploy.devnet.clients import connected
from deploy.devnet.launcher import running
from deploy.devnet.network import ALPHA, FUNDS, Network, create_network
from lockstep.v1 import bridge_pb2, rollup_pb2, sequencer_pb2, settlement_pb2
from tests.conftest import GRPCURL

pytestmark = [pytest.mark.needs_go, pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

SERVICES = {
    "sequencer": sequencer_pb2.DESCRIPTOR.services_by_name["Sequencer"],
    "settlement": settlement_pb2.DESCRIPTOR.services_by_name["Settlement"],
    "bridge": bridge_pb2.DESCRIPTOR.services_by_name["Bridge"],
    "alpha-0": rollup_pb2.DESCRIPTOR.services_by_name["Rollup"],
}

TIMEOUT_S = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    made = create_network(tmp_path_factory.mktemp("devnet") / "network")
    async with running(made):
        yield made


async def grpcurl(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(str(GRPCURL), "-plaintext", "-format-error", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def call(address: str, method: str, request: object = None) -> dict[str, Any]:
    code, output, errors = await grpcurl("-d", json.dumps(request or {}), address, method)
    assert code == 0, errors
    answer: dict[str, Any] = json.loads(output)
    return answer


async def refusal(address: str, method: str, request: object) -> tuple[int, dict[str, Any]]:
    """The status of a call that must fail, and its details by the last part of their type's name."""
    code, output, errors = await grpcurl("-d", json.dumps(request), address, method)
    assert code != 0, output
    status = json.loads(errors)
    return status["code"], {detail.pop("@type").split(".")[-1]: detail for detail in status["details"]}


def base64_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def test_each_process_tells_its_services_and_that_it_serves(network: Network) -> None:
    for process, service in SERVICES.items():
        address = network.address(process)
        code, listed, errors = await grpcurl(address, "list")
        assert code == 0, errors
        own = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", service.full_name}
        assert set(listed.split()) == own
        code, listed, errors = await grpcurl(address, "list", service.full_name)
        assert code == 0, errors
        assert set(listed.split()) == {method.full_name for method in service.methods}
        for asked in ("", service.full_name):
            answer = await call(address, "grpc.health.v1.Health/Check", {"service": asked})
            assert answer == {"status": "SERVING"}


async def test_each_process_tells_its_status(network: Network) -> None:
    for process, service in SERVICES.items():
        status = await call(network.address(process), f"{service.full_name}/GetStatus")
        assert base64.b64decode(status["chain_id"]) == network.genesis.chain_id


async def test_a_bundle_is_submitted_and_executed(network: Network) -> None:
    address = network.address("sequencer")
    status = await call(address, "lockstep.v1.Sequencer/GetStatus")
    valid_until_ms = int(status["time_ms"]) + 30_000
    alice, bob = (network.traders[name] for name in ("alice", "bob"))
    payload = Trader(alice, network.genesis).sign_transfer(
        ALPHA, asset="gold", recipient=bob.public_key, amount=7, valid_until_ms=valid_until_ms
    )
    transaction = {"namespace": ALPHA, "payload": base64_of(payload)}
    request = {"bundle": {"transactions": [transaction], "valid_until_ms": str(valid_until_ms)}}
    first = await call(address, "lockstep.v1.Sequencer/Submit", request)
    again = await call(address, "lockstep.v1.Sequencer/Submit", request)
    assert first["placement"] == again["placement"]

    height = first["placement"]["height"]
    account = {"account": base64_of(bob.public_key), "min_height": height}
    answer = await call(network.address("alpha-0"), "lockstep.v1.Rollup/GetAccount", account)
    assert [balance["amount"] for balance in answer["balances"]] == [str(FUNDS["bob"][ALPHA] + 7)]
    async with connected(network) as clients:
        balance = await clients.nodes["alpha-0"].balance(bob.public_key, "gold", min_height=int(height))
    assert balance == FUNDS["bob"][ALPHA] + 7


async def test_an_error_says_what_to_do_to_a_program(network: Network) -> None:
    address = network.address("sequencer")
    code, details = await refusal(address, "lockstep.v1.Sequencer/GetBlock", {"height": "999999"})
    newest = details["ErrorInfo"]["metadata"].pop("newest")
    assert int(newest) >= 1
    assert (code, details) == (
        11,
        {
            "ErrorInfo": {"reason": "NOT_YET", "domain": "lockstep", "metadata": {"height": "999999"}},
            "RetryInfo": {"retry_delay": "0.250s"},
        },
    )


async def test_an_error_that_lasts_says_so(network: Network) -> None:
    transaction = {"namespace": "delta", "payload": base64_of(b"x")}
    request = {"bundle": {"transactions": [transaction], "valid_until_ms": "1"}}
    assert await refusal(network.address("sequencer"), "lockstep.v1.Sequencer/Submit", request) == (
        3,
        {
            "ErrorInfo": {
                "reason": "UNKNOWN_NAMESPACE",
                "domain": "lockstep",
                "metadata": {"namespace": "delta"},
            }
        },
    )
