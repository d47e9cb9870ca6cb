"""The settings of the links' process, and how it is told what becomes of a link.

Owns what is said on the control port: orders and answers as lines of JSON.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from deploy.chaos.links.proxy import FAIR, Direction, Link, Weather
from deploy.node.process import announce_ready

HOST: Final = "127.0.0.1"


class LinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link."""

    name: str
    """`CLIENT>SERVER`."""
    port: int
    """Where it listens."""
    target_port: int
    """Where the server listens."""


class LinksSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the links' process is started with."""

    control_port: int
    """Where it is told what to do."""
    links: tuple[LinkSettings, ...]
    """All links."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to become of links."""

    names: tuple[str, ...]
    """The links."""
    held: tuple[Direction, ...] = ()
    """Directions in which nothing arrives."""
    delay_ms: int = 0
    """How much later everything arrives."""
    is_reset: bool = False
    """Whether all connections are aborted."""


async def serve_links(settings: LinksSettings, stopping: asyncio.Event) -> None:
    """Forward until `stopping` is set."""
    links = {each.name: Link(each.name, HOST, each.target_port) for each in settings.links}
    loop = asyncio.get_running_loop()

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            _do(links, msgspec.json.decode(line, type=Order))
            writer.write(b"{}\n")
        writer.close()

    async with AsyncExitStack() as stack:
        for each in settings.links:
            server = await loop.create_server(links[each.name].accept, HOST, each.port)
            stack.callback(server.close)
        control = await asyncio.start_server(obey, HOST, settings.control_port)
        stack.callback(control.close)
        announce_ready({})
        await stopping.wait()
        for link in links.values():
            link.reset()


def _do(links: Mapping[str, Link], order: Order) -> None:
    for name in order.names:
        link = links[name]
        link.become(Weather(frozenset(order.held), order.delay_ms))
        if order.is_reset:
            link.reset()


class LinksClient:
    """Tells the links' process what to do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._one_at_a_time = asyncio.Lock()

    async def become(self, names: Sequence[str], weather: Weather = FAIR, *, is_reset: bool = False) -> None:
        """Disturb links, or let them heal; return when it is done."""
        held = tuple(sorted(weather.held, key=lambda each: each.value))
        order = Order(tuple(names), held, weather.delay_ms, is_reset)
        async with self._one_at_a_time:
            self._writer.write(msgspec.json.encode(order) + b"\n")
            answer = await self._reader.readline()
        assert answer, "the links' process is disturbed by nobody, so that it answers"

    def close(self) -> None:
        """Let go of the process."""
        self._writer.close()


async def open_links(control_port: int) -> LinksClient:
    """Connect to the links' process."""
    return LinksClient(*await asyncio.open_connection(HOST, control_port))
