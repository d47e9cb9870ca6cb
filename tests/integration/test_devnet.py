"""The devnet with its real processes: they start, are found again, and none outlives its launcher."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.devnet.clients import connected
from deploy.devnet.launcher import DevnetFailed, running
from deploy.devnet.network import PROCESS_NAMES, create_network, open_network
from tests.integration.devnet_locks import all_let_go, is_held

pytestmark = pytest.mark.processes


async def test_processes_are_found_again_after_kill_pause_and_restart(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network")
    async with running(network) as devnet, connected(network) as clients:
        assert all(is_held(network, name) for name in PROCESS_NAMES)
        for name in ("sequencer", "beta-0"):
            old = devnet.pid(name)
            await devnet.restart(name)
            assert devnet.pid(name) != old
        height = (await clients.nodes["beta-1"].status()).height
        await clients.nodes["beta-0"].balances(network.traders["bob"].public_key, min_height=height + 1)

        devnet.pause("beta-0")
        devnet.resume("beta-0")
        assert await devnet.terminate("beta-0") == 0
        assert not devnet.is_running("beta-0")
        assert devnet.is_running("beta-1")
    await all_let_go(network)
    assert open_network(network.folder).ports == network.ports


async def test_one_that_does_not_start_ends_all_and_is_named_with_its_log(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network")
    settings = network.settings_file("bridge")
    settings.write_text("no_such_setting = 1\n" + settings.read_text())
    with pytest.raises(DevnetFailed, match=r"bridge ended with exit code 2 .*(?s:.*)no_such_setting"):
        async with running(network):
            pass
    await all_let_go(network)


async def test_a_port_in_use_is_named_and_nothing_else_is_said(tmp_path: Path) -> None:
    network = create_network(tmp_path / "network")
    command = (sys.executable, "-P", "-m", "rollups", "--config", str(network.settings_file("beta-0")))
    with socket.socket() as other:
        other.bind(("127.0.0.1", network.ports["beta-0"]))
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 6
    assert f"127.0.0.1:{network.ports['beta-0']} cannot be bound; stop the process that has it" in done.stderr
    assert "never awaited" not in done.stderr
    assert ".cc:" not in done.stderr, "nothing of what gRPC says of it in its own way"


@contextmanager
def devnet_up(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """`lockstep devnet up`, once its table is shown."""
    command = (sys.executable, "-P", "-m", "deploy.cli", "devnet", "up", "--folder", str(folder))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        try:
            assert process.stdout is not None
            shown = []
            for line in process.stdout:
                shown.append(line)
                if "Ctrl-C stops it" in line:
                    break
            else:
                pytest.fail("".join(shown))
            yield process
        finally:
            process.kill()


async def test_ctrl_c_stops_all_and_the_same_command_continues(tmp_path: Path) -> None:
    heights = []
    for _ in range(2):
        with devnet_up(tmp_path / "network") as process:
            network = open_network(tmp_path / "network")
            async with connected(network) as clients:
                heights.append((await clients.sequencer.status()).height)
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 60) == 0
            assert not any(is_held(network, name) for name in PROCESS_NAMES)
    assert heights[1] > heights[0]


@pytest.mark.parametrize("is_one_paused", [False, True])
async def test_nothing_outlives_a_launcher_that_was_killed(tmp_path: Path, is_one_paused: bool) -> None:
    with devnet_up(tmp_path / "network") as process:
        network = open_network(tmp_path / "network")
        if is_one_paused:
            os.kill(int((network.data_folder("beta-0") / "lock").read_text()), signal.SIGSTOP)
        process.kill()
        await all_let_go(network)


async def test_a_process_that_ends_by_itself_ends_the_command(tmp_path: Path) -> None:
    with devnet_up(tmp_path / "network") as process:
        network = open_network(tmp_path / "network")
        os.kill(int((network.data_folder("alpha-0") / "lock").read_text()), signal.SIGTERM)
        assert process.stdout is not None
        shown = await asyncio.to_thread(process.stdout.read)
        assert await asyncio.to_thread(process.wait, 60) == 1
        assert "alpha-0 ended by itself with exit code 0" in shown
    await all_let_go(network)


async def test_a_process_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with devnet_up(tmp_path / "network") as process:
        assert process.stdout is not None
        network = open_network(tmp_path / "network")
        for _ in range(2):
            killed = int((network.data_folder("alpha-0") / "lock").read_text())
            os.kill(killed, signal.SIGKILL)
            shown = [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
            assert shown[0] == "alpha-0 was killed by signal 9; starting it again\n"
            assert (back := re.fullmatch(r"alpha-0 is back: process (\d+)\n", shown[1]))
            assert int(back[1]) != killed
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 0
    await all_let_go(network)
