"""Forwards the TCP connections of a link between two processes, unless the link is disturbed.

Owns the bytes that are under way. What a cut holds back is not lost: it comes when the link heals, as with a
network that drops packets, whose senders send them again. Invariant: bytes of one direction arrive in order.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, cast

_BUFFERED_BYTES_MAX: Final = 1024 * 1024
"""Bytes of a direction that wait for the receiver, or for their delay; then the sender has to wait."""


class Direction(Enum):
    """Which way bytes go."""

    UP = "up"
    """From who connected to who listens."""
    DOWN = "down"
    """Back."""


@dataclass(frozen=True)
class Weather:
    """How a link is."""

    held: frozenset[Direction] = frozenset()
    """Directions in which nothing arrives."""
    delay_ms: int = 0
    """How much later everything arrives."""


FAIR: Final = Weather()
"""Undisturbed."""


@dataclass
class Link:
    """What one process has to do with another one's server."""

    name: str
    """`CLIENT>SERVER`."""
    host: str
    """Where the server listens."""
    port: int
    """And its port."""
    weather: Weather = FAIR
    """How it is now."""
    _flows: "set[Flow]" = field(default_factory=set)

    def become(self, weather: Weather) -> None:
        """Be disturbed, or heal."""
        self.weather = weather
        for flow in list(self._flows):
            flow.pump()

    def reset(self) -> None:
        """Abort every connection."""
        for flow in list(self._flows):
            flow.abort()

    def accept(self) -> asyncio.Protocol:
        """Return what takes a new connection."""
        return Flow(self, Direction.UP)

    def opened(self, flow: "Flow") -> None:
        """Note a flow: for flows alone."""
        self._flows.add(flow)

    def closed(self, flow: "Flow") -> None:
        """Forget a flow: for flows alone."""
        self._flows.discard(flow)


class Flow(asyncio.Protocol):
    """One direction of a connection: what it reads, its peer writes."""

    def __init__(self, link: Link, direction: Direction, peer: "Flow | None" = None) -> None:
        self._link = link
        self._direction = direction
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        """The socket; None before the connection is there."""
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._waiting_bytes = 0
        self._is_over = False
        self._is_peer_full = False
        self._connecting: asyncio.Task[None] | None = None

    # --- asyncio's callbacks ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; who connected is connected on."""
        # An event loop may have transports of its own class.
        self.transport = tcp = cast("asyncio.Transport", transport)
        self._link.opened(self)
        if self._peer is None:
            tcp.pause_reading()
            self._connecting = self._loop.create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        """Pass data on, now or later."""
        self._waiting.append((self._loop.time() + self._link.weather.delay_ms / 1_000, data))
        self._waiting_bytes += len(data)
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other direction too, once it has what is under way."""
        self._is_over = True
        self.pump()

    def pause_writing(self) -> None:
        """Stop what is written here at its source."""
        if self._peer is not None:
            self._peer.set_peer_full(is_full=True)

    def resume_writing(self) -> None:
        """Let it go on."""
        if self._peer is not None:
            self._peer.set_peer_full(is_full=False)

    # --- the forwarding -----------------------------------------------------------------------------------

    def set_peer_full(self, *, is_full: bool) -> None:
        """Note whether the peer can take more."""
        self._is_peer_full = is_full
        self.pump()

    def abort(self) -> None:
        """Cut the connection off."""
        self._waiting.clear()
        self._waiting_bytes = 0
        for flow in (self, self._peer):
            if flow is not None and flow.transport is not None:
                flow.transport.abort()

    def pump(self) -> None:
        """Pass on what may arrive now."""
        is_held = self._direction in self._link.weather.held
        if self._peer is not None and self._peer.transport is not None and not is_held:
            self._pass_on(self._peer.transport)
        if self._is_over:
            if not self._waiting and not is_held:
                self._link.closed(self)
            return
        self._read_on(is_held=is_held)

    def _pass_on(self, peer: asyncio.Transport) -> None:
        if peer.is_closing():
            # Nobody is there any more to have it.
            self._waiting.clear()
            self._waiting_bytes = 0
            if self.transport is not None and not self._is_over:
                self.transport.abort()
            return
        now_s = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now_s:
            _, data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            peer.write(data)
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self.pump)
        elif self._is_over:
            peer.close()

    def _read_on(self, *, is_held: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        is_full = self._is_peer_full or self._waiting_bytes > _BUFFERED_BYTES_MAX
        if is_held or is_full or self._peer is None:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    async def _connect(self) -> None:
        peer = Flow(self._link, Direction.DOWN, self)
        try:
            await self._loop.create_connection(lambda: peer, self._link.host, self._link.port)
        except OSError:
            # Nobody listens: as if this port were closed too.
            self.abort()
            self._link.closed(self)
            return
        self._peer = peer
        self.pump()
        peer.pump()
