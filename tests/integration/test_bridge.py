"""The coordinator's process with a real sequencer: swaps of every kind, and SIGKILL at every point of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path

import pytest

import bridge.coordinator
import bridge.senders
from bridge.client import AbortReason, BridgeClient, RevealPolicy, SwapPhase
from deploy.node.database import COMMIT_BEFORE
from deploy.node.failpoints import FAILPOINTS_VARIABLE
from lockstep.errors import LockstepError
from lockstep.order import Bundle, Transaction
from lockstep.swap_entries import SwapEntryKind, encode_open
from lockstep.terms import decode_terms, swap_id_of
from lockstep.types import SWAP_NAMESPACE, SwapId
from tests.integration.bridge_process import DEADLINE_S, OPENED, Net, network

pytestmark = pytest.mark.processes


async def test_swaps_of_every_kind(tmp_path: Path) -> None:
    async with network(tmp_path) as net, net.bridge() as process, net.client(process) as client:
        by_trader, up_front, delegated = (net.new_terms(number) for number in range(3))
        for terms_bytes, policy in (
            (by_trader, RevealPolicy.BY_TRADER),
            (up_front, RevealPolicy.UP_FRONT),
            (delegated, RevealPolicy.DELEGATED),
        ):
            preimage = None if policy is RevealPolicy.BY_TRADER else net.ann.preimage(terms_bytes)
            await client.propose(
                terms_bytes, idempotency_key=policy.name.encode(), reveal_policy=policy, preimage=preimage
            )
            await net.give(client, terms_bytes)
        view = await client.wait_until(swap_id_of(by_trader), [SwapPhase.LOCKED])
        assert view.phase is SwapPhase.LOCKED
        await client.reveal(swap_id_of(by_trader), net.ann.preimage(by_trader))
        for terms_bytes in (by_trader, up_front, delegated):
            view = await client.wait_until(swap_id_of(terms_bytes), [SwapPhase.COMMITTED])
            assert view.phase is SwapPhase.COMMITTED
            assert view.preimage == net.ann.preimage(terms_bytes).reveal()
        cancelled = net.new_terms(3)
        await client.propose(cancelled, idempotency_key=b"cancelled")
        await net.give(client, cancelled)
        await client.wait_until(swap_id_of(cancelled), OPENED)
        await client.cancel(net.ann.sign_cancel(swap_id_of(cancelled)))
        view = await client.swap(swap_id_of(cancelled))
        assert view.abort_reason is AbortReason.CANCELLED
        assert (await process.end(signal.SIGTERM)) == 0
        for terms_bytes in (by_trader, up_front, delegated):
            assert net.ann.preimage(terms_bytes).reveal().hex() not in process.log()


async def test_nobody_locks_and_nobody_reveals(tmp_path: Path) -> None:
    async with network(tmp_path) as net, net.bridge() as process, net.client(process) as client:
        net.rollups.is_attesting = False
        unlocked = net.new_terms(0, lock_within_ms=1_000, reveal_within_ms=5_000)
        await client.propose(unlocked, idempotency_key=b"unlocked")
        lapsing = net.new_terms(1, lock_within_ms=1_000, reveal_within_ms=5_000)
        await client.propose(lapsing, idempotency_key=b"lapsing")
        await net.give(client, unlocked)
        view = await client.wait_until(swap_id_of(unlocked), [SwapPhase.ABORTED])
        assert (view.abort_reason, view.reason_legs) == (AbortReason.NOT_LOCKED, (0, 1))
        assert view.funds_free_by_ms >= decode_terms(unlocked).lock_by_ms
        view = await client.wait_until(swap_id_of(lapsing), [SwapPhase.LAPSED])
        assert (view.phase, view.funds_safe) == (SwapPhase.LAPSED, True)


# --- killed -----------------------------------------------------------------------------------------------

Scenario = Callable[[Net, BridgeClient, bytes], Coroutine[None, None, None]]


async def delegated(net: Net, client: BridgeClient, terms_bytes: bytes) -> None:
    await client.propose(
        terms_bytes,
        idempotency_key=b"k",
        reveal_policy=RevealPolicy.DELEGATED,
        preimage=net.ann.preimage(terms_bytes),
    )
    swap_id = await net.give(client, terms_bytes)
    view = await client.wait_until(swap_id, [SwapPhase.COMMITTED])
    assert view.phase is SwapPhase.COMMITTED


async def cancelled(net: Net, client: BridgeClient, terms_bytes: bytes) -> None:
    net.rollups.is_attesting = False
    await client.propose(terms_bytes, idempotency_key=b"k")
    swap_id = await net.give(client, terms_bytes)
    await client.wait_until(swap_id, OPENED)
    await client.cancel(net.ann.sign_cancel(swap_id))
    assert (await client.swap(swap_id)).abort_reason is AbortReason.CANCELLED


async def opened_by_another(net: Net, client: BridgeClient, terms_bytes: bytes) -> None:
    swap_id = swap_id_of(terms_bytes)
    if net.rollups.register.record(swap_id) is None:
        entry = Transaction(SWAP_NAMESPACE, encode_open(terms_bytes))
        async with net.sequencer.client() as sequencer:
            await sequencer.submit(Bundle((entry,), net.rollups.register.time_ms + 20_000))
    await until_known(client, swap_id)
    await delegated(net, client, terms_bytes)


async def until_known(client: BridgeClient, swap_id: SwapId) -> None:
    """Wait until a coordinator knows of a swap."""
    async with asyncio.timeout(DEADLINE_S), aclosing(client.watch(0, [swap_id])) as changes:
        await anext(changes)


def scenario_of(point: str) -> Scenario:
    if point.startswith("bridge.cancel."):
        return cancelled
    return opened_by_another if point.startswith("bridge.lock.") else delegated


POINTS = [
    bridge.coordinator.BEFORE_COMMIT,
    bridge.coordinator.PROPOSAL_PERSISTED,
    bridge.coordinator.ACCEPT_PERSISTED,
    bridge.coordinator.BLOCK_PERSISTED,
    *bridge.coordinator.SENDING_PERSISTED.values(),
    *bridge.senders.BEFORE_SEND.values(),
    *bridge.senders.SENT.values(),
]


def slow_disk(point: str) -> tuple[str, ...]:
    """Let the receipt be there before the block that has the bundle is written down and ends its sending."""
    return (f"{COMMIT_BEFORE}=delay(300)",) if point in bridge.senders.SENT.values() else ()


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_each_point(tmp_path: Path, point: str) -> None:
    scenario = scenario_of(point)
    async with network(tmp_path) as net:
        terms_bytes = net.new_terms(lock_within_ms=50_000)
        environ = {FAILPOINTS_VARIABLE: ";".join((f"{point}=kill", *slow_disk(point)))}
        async with net.bridge(environ) as process, net.client(process) as client:
            asking = asyncio.create_task(scenario(net, client, terms_bytes))
            assert await process.wait() == -signal.SIGKILL
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with net.bridge() as process, net.client(process) as client:
            async with asyncio.timeout(DEADLINE_S):
                await persist(scenario, net, client, terms_bytes)
            await net.follow(client)
        check_whole(net, scenario)
        assert net.ann.preimage(terms_bytes).reveal().hex() not in process.log()


async def persist(scenario: Scenario, net: Net, client: BridgeClient, terms_bytes: bytes) -> None:
    """Go through a scenario until it ends well, as a client does that knows no more than its terms."""
    while True:
        try:
            return await scenario(net, client, terms_bytes)
        except LockstepError as error:
            if not error.retryable:
                raise


def check_whole(net: Net, scenario: Scenario) -> None:
    """Check that everything stands in the order once, as far as a second one could have been made."""
    kinds = [SwapEntryKind(payload[1]) for payload in net.rollups.entries(SWAP_NAMESPACE)]
    assert kinds.count(SwapEntryKind.OPEN) == 1
    assert kinds.count(SwapEntryKind.REVEAL) == (0 if scenario is cancelled else 1)
    assert kinds.count(SwapEntryKind.CANCEL) == (1 if scenario is cancelled else 0)
    assert len(net.rollups.entries("alpha")) == len(net.rollups.entries("beta")) == 1


async def test_its_data_deleted(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        terms_bytes = net.new_terms()
        async with net.bridge() as process, net.client(process) as client:
            await client.propose(terms_bytes, idempotency_key=b"k")
            swap_id = await net.give(client, terms_bytes)
            before = await client.wait_until(swap_id, [SwapPhase.LOCKED])
            await process.end(signal.SIGKILL)
        for file in (tmp_path / "bridge").iterdir():
            file.unlink()
        async with net.bridge() as process, net.client(process) as client:
            await until_known(client, swap_id)
            view = await client.wait_until(swap_id, [SwapPhase.LOCKED])
            assert (view.phase, view.opened_height) == (SwapPhase.LOCKED, before.opened_height)
            await client.reveal(swap_id, net.ann.preimage(terms_bytes))
            assert (await client.swap(swap_id)).phase is SwapPhase.COMMITTED


async def test_the_sequencer_is_away_when_the_last_lock_comes(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        async with net.bridge() as process, net.client(process) as client:
            terms_bytes = net.new_terms(lock_within_ms=50_000)
            await client.propose(terms_bytes, idempotency_key=b"k")
            await net.sequencer.kill()
            swap_id = await net.give(client, terms_bytes)
            view = await client.swap(swap_id)
            assert view.phase is SwapPhase.SUBMITTED
            assert "Wait" in view.next_action
            # Killed as well, it comes back with the same bundle and still without an answer.
            await process.end(signal.SIGKILL)
        async with net.bridge() as process, net.client(process) as client:
            assert (await client.swap(swap_id)).phase is SwapPhase.SUBMITTED
            await net.restart_sequencer()
            view = await client.wait_until(swap_id, [SwapPhase.LOCKED])
            assert view.phase is SwapPhase.LOCKED
            await net.follow(client)
        assert net.rollups.entries(SWAP_NAMESPACE).count(encode_open(terms_bytes)) == 1


def test_a_wrong_configuration_is_told(tmp_path: Path) -> None:
    config = tmp_path / "bridge.toml"
    config.write_text('data = "data"\ngenesis = "genesis.json"\nsequencre = "x"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "bridge", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=os.environ,
        check=False,
    )
    assert ended.returncode == 2
    assert "did you mean sequencer" in ended.stderr
