"""The sequencer with a real settlement log: anchors, outages of the log, what the log remembers for it."""

import asyncio
import shutil
import signal
from pathlib import Path

import pytest

from deploy.node.chain_files import save_key
from lockstep.errors import NotReady, ReadOnly
from sequencer.client import SequencerClient
from tests.integration import settlement_process
from tests.integration.sequencer_process import (
    SETTLEMENT_SEED,
    Home,
    Process,
    bundle,
    free_port,
    make_genesis,
    make_home,
)

pytestmark = pytest.mark.processes

DEADLINE_S = 30


def make_homes(path: Path, *, more: str = "") -> tuple[settlement_process.Home, Home]:
    """Write the files of a settlement log and of a sequencer that knows it, with `more` settings."""
    log, order = path / "log", path / "order"
    log.mkdir()
    order.mkdir()
    port = free_port()
    log_home = settlement_process.make_home(log, port=port)
    (log / "genesis.json").write_bytes(make_genesis()[0])
    save_key(log / "key.pem", SETTLEMENT_SEED)
    settings = f'settlement = "127.0.0.1:{port}"\nanchor_ms = 50\n{more}'
    return log_home, make_home(order, settings=settings)


async def is_anchored(client: SequencerClient, height: int) -> None:
    while (await client.status()).anchored_height < height:  # noqa: ASYNC110  # it happens elsewhere
        await asyncio.sleep(0.01)


async def test_headers_are_anchored_and_an_outage_of_the_log_delays_nothing_else(tmp_path: Path) -> None:
    log_home, home = make_homes(tmp_path)
    async with (
        asyncio.timeout(DEADLINE_S),
        settlement_process.Process(log_home) as log,
        Process(home) as process,
        process.client() as client,
    ):
        await is_anchored(client, 2)
        await log.end(signal.SIGKILL)
        ordered = await client.submit(bundle(b"without the log", time_ms=await client.time_ms()))
        assert ordered.placement.height > (await client.status()).anchored_height
        async with settlement_process.Process(log_home):
            await is_anchored(client, ordered.placement.height)
            assert await process.stop() == 0


async def test_with_its_whole_memory_gone_the_log_tells(tmp_path: Path) -> None:
    log_home, home = make_homes(tmp_path)
    async with asyncio.timeout(DEADLINE_S), settlement_process.Process(log_home):
        async with Process(home) as process, process.client() as client:
            await is_anchored(client, 2)
            await process.kill()
        shutil.rmtree(home.data)
        async with Process(home) as process, process.client() as client:
            with pytest.raises(ReadOnly, match="the settlement log holds header"):
                await client.submit(bundle(b"x", time_ms=await client.time_ms()))
            assert (await client.status()).head is None


async def test_a_new_sequencer_asks_the_log_before_it_orders(tmp_path: Path) -> None:
    log_home, home = make_homes(tmp_path)
    async with asyncio.timeout(DEADLINE_S), Process(home) as process, process.client() as client:
        sent = bundle(b"x", time_ms=await client.time_ms())
        with pytest.raises(NotReady, match="asks the settlement log"):
            await client.submit(sent, timeout_ms=200)
        async with settlement_process.Process(log_home):
            assert (await client.submit(sent, timeout_ms=20_000)).placement.count == 1
            assert await process.stop() == 0


async def test_an_older_copy_of_its_whole_memory_signs_nothing_again(tmp_path: Path) -> None:
    """Ledger and record agree with each other: only the log can tell, and is asked before any block."""
    log_home, home = make_homes(tmp_path, more="settlement_wait_ms = 60000\n")
    async with asyncio.timeout(DEADLINE_S), settlement_process.Process(log_home) as log:
        async with Process(home) as process, process.client() as client:
            await is_anchored(client, 1)
            assert await process.stop() == 0
        copy = tmp_path / "copy"
        shutil.copytree(home.data, copy)
        async with Process(home) as process, process.client() as client:
            ordered = await client.submit(bundle(b"x", time_ms=await client.time_ms()))
            await is_anchored(client, ordered.placement.height)
            await process.kill()
        shutil.rmtree(home.data)
        shutil.copytree(copy, home.data)
        await log.end(signal.SIGKILL)
        async with Process(home) as process, process.client() as client:
            copied = (await client.status()).height
            assert copied < ordered.placement.height
            sent = bundle(b"y", time_ms=await client.time_ms())
            with pytest.raises(NotReady, match="asks the settlement log"):
                await client.submit(sent, timeout_ms=200)
            async with settlement_process.Process(log_home):
                with pytest.raises(ReadOnly, match="the settlement log holds header"):
                    await client.submit(sent, timeout_ms=20_000)
                height = (await client.status()).height
                assert height == copied, "no block was signed at a height that has one"


async def test_a_start_does_not_wait_for_a_log_that_is_away(tmp_path: Path) -> None:
    log_home, home = make_homes(tmp_path, more="settlement_wait_ms = 200\n")
    async with asyncio.timeout(DEADLINE_S):
        async with (
            settlement_process.Process(log_home),
            Process(home) as process,
            process.client() as client,
        ):
            await is_anchored(client, 1)
            await process.kill()
        async with Process(home) as process, process.client() as client:
            sent = bundle(b"x", time_ms=await client.time_ms())
            assert (await client.submit(sent, timeout_ms=20_000)).placement.count == 1
