"""The links between processes: what is held comes when they heal, what is reset is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from deploy.chaos.links.proxy import FAIR, Direction, Link, Weather

ANSWER_S = 10


class Echo(asyncio.Protocol):
    """Sends everything back."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.heard = asyncio.Event()
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.got.append(data)
        self.heard.set()
        assert self._transport is not None
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, asyncio.StreamReader, asyncio.StreamWriter, Echo]]:
    """A link to a server that sends everything back, and a connection through it."""
    echo, loop = Echo(), asyncio.get_running_loop()
    async with await loop.create_server(lambda: echo, "127.0.0.1", 0) as server:
        link = Link("a>b", "127.0.0.1", server.sockets[0].getsockname()[1])
        async with await loop.create_server(link.accept, "127.0.0.1", 0) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.sockets[0].getsockname())
            try:
                yield link, reader, writer, echo
            finally:
                link.reset()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
                async with asyncio.timeout(ANSWER_S):
                    await echo.gone.wait()


async def read(reader: asyncio.StreamReader, count: int) -> bytes:
    async with asyncio.timeout(ANSWER_S):
        return await reader.readexactly(count)


async def test_bytes_arrive_in_order_both_ways() -> None:
    async with linked() as (_, reader, writer, _):
        sent = b"".join(number.to_bytes(4, "big") for number in range(200_000))
        writer.write(sent)
        assert await read(reader, len(sent)) == sent


@pytest.mark.parametrize("held", [Direction.UP, Direction.DOWN])
async def test_what_is_held_comes_when_the_link_heals(held: Direction) -> None:
    async with linked() as (link, reader, writer, echo):
        writer.write(b"one")
        assert await read(reader, 3) == b"one"
        link.become(Weather(frozenset((held,))))
        echo.heard.clear()
        writer.write(b"two")
        arriving = asyncio.create_task(read(reader, 3))
        if held is Direction.DOWN:
            async with asyncio.timeout(ANSWER_S):
                await echo.heard.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not arriving.done()
        link.become(FAIR)
        assert await arriving == b"two"
        assert echo.got == [b"one", b"two"]


async def test_a_delay_keeps_the_order() -> None:
    async with linked() as (link, reader, writer, _):
        link.become(Weather(delay_ms=50))
        writer.write(b"late")
        link.become(Weather(delay_ms=1))
        writer.write(b"later")
        assert await read(reader, 9) == b"latelater"


async def test_a_reset_ends_every_connection() -> None:
    async with linked() as (link, reader, writer, _):
        writer.write(b"one")
        assert await read(reader, 3) == b"one"
        link.reset()
        async with asyncio.timeout(ANSWER_S):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)


async def test_who_is_not_there_cannot_be_reached() -> None:
    link = Link("a>b", "127.0.0.1", 1)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(link.accept, "127.0.0.1", 0) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.sockets[0].getsockname())
        async with asyncio.timeout(ANSWER_S):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
