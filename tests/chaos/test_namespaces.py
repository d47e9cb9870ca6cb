"""Cuts by namespaces, where they can be; where not, that the proxy is chosen, and that it is said."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.chaos.cutting import choose_cuts
from deploy.chaos.faults import ALL_KINDS, Kind
from deploy.chaos.links.namespaces import Namespaces, hosts_of, open_namespaces, why_not
from deploy.chaos.links.proxy import FAIR, Direction, Weather
from deploy.chaos.network import SERVICES, TRADERS, Cuts, Load, create_chaos_network
from deploy.devnet.launcher import Child
from deploy.node.failures import SettingsInvalid

ANSWER_S = 30
SILENCE_S = 0.5
PORT = 7_000

CUT_ONLY = (Kind.KILL, Kind.CUT, Kind.ONE_WAY)


def possible() -> str:
    return ""


def impossible() -> str:
    return "only root may"


def test_namespaces_are_chosen_where_they_can_be_and_do_all_that_is_asked() -> None:
    assert choose_cuts(CUT_ONLY, None, obstacle=possible) is Cuts.NAMESPACES
    assert choose_cuts(ALL_KINDS, None, obstacle=possible) is Cuts.PROXY
    assert choose_cuts(ALL_KINDS, Cuts.NAMESPACES, obstacle=possible) is Cuts.NAMESPACES
    assert choose_cuts(CUT_ONLY, Cuts.PROXY, obstacle=possible) is Cuts.PROXY
    assert choose_cuts((Kind.KILL,), Cuts.NAMESPACES, obstacle=impossible) is Cuts.NONE


def test_where_they_cannot_be_the_proxy_is_chosen_and_to_ask_for_them_is_refused() -> None:
    assert choose_cuts(CUT_ONLY, None, obstacle=impossible) is Cuts.PROXY
    with pytest.raises(SettingsInvalid, match="only root may; use --cuts proxy"):
        choose_cuts(CUT_ONLY, Cuts.NAMESPACES, obstacle=impossible)


def test_with_namespaces_every_service_is_looked_for_where_it_is(tmp_path: Path) -> None:
    hosts = hosts_of((*SERVICES, *TRADERS))
    assert len(set(hosts.values())) == len(hosts)
    made = create_chaos_network(tmp_path / "network", Load(1, 1, 1, 1), Cuts.NAMESPACES, hosts)
    for name in (*SERVICES, *TRADERS):
        text = made.network.settings_file(name).read_text()
        assert "127.0.0.1" not in text
    bridge = made.network.settings_file("bridge-1").read_text()
    assert made.network.address("sequencer") in bridge
    assert f'host = "{hosts["bridge-1"]}"' in bridge


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Namespaces, asyncio.StreamReader]]:
    """Two processes in namespaces, of which `a` asks `b` all the time."""
    hosts = hosts_of(("a", "b"))
    with Path(os.devnull).open("wb") as nowhere:
        async with open_namespaces(hosts) as spaces:

            async def start(name: str, words: Sequence[str]) -> Child:
                return await spaces.spawn(
                    "tests.chaos.echoing",
                    (*words, hosts["b"], str(PORT), f"{name}.toml"),
                    environ={**os.environ, "PYTHONPATH": ":".join(sys.path)},
                    stderr=nowhere.fileno(),
                    group=0,
                )

            server = await start("b", ["serve"])
            assert server.stdout is not None
            await line_of(server.stdout)
            client = await start("a", ["ask"])
            assert client.stdout is not None
            try:
                yield spaces, client.stdout
            finally:
                for each in (client, server):
                    each.kill()
                    await each.wait()


async def line_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(ANSWER_S):
        return await reader.readline()


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """Answer whether nothing is heard for a while."""
    try:
        async with asyncio.timeout(SILENCE_S):
            await reader.readline()
    except TimeoutError:
        return True
    return False


async def test_packets_are_dropped_one_way_and_both_ways_until_the_link_heals() -> None:
    if reason := why_not():
        # As `lockstep chaos` says of itself here.
        assert choose_cuts(CUT_ONLY, None) is Cuts.PROXY
        with pytest.raises(SettingsInvalid) as refused:
            choose_cuts(CUT_ONLY, Cuts.NAMESPACES)
        assert reason in str(refused.value)
        return
    async with talking() as (spaces, heard):
        assert await line_of(heard) == b"heard\n"
        for held in ((Direction.UP,), (Direction.DOWN,), tuple(Direction)):
            await spaces.become(["a>b"], Weather(frozenset(held)))
            async with asyncio.timeout(ANSWER_S):
                while not await is_silent(heard):
                    pass
            await spaces.become(["a>b"], FAIR)
            assert await line_of(heard) == b"heard\n", "TCP sends again what was dropped"
