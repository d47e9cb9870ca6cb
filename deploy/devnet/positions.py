"""Where each process of a running devnet stands: its height and a root that others can compare.

Owns what `lockstep devnet status` asks the services. One that does not answer in time has no position; that
is what is looked for, and no failure.
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from deploy.devnet.clients import Clients, connected
from deploy.devnet.network import Network
from lockstep.errors import LockstepError
from lockstep.header import header_hash

ANSWER_MS_MAX: Final = 2_000
"""How long a process may take."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a process stands, by its own word."""

    height: int
    """The sequencer's newest block, the last one that a node executed or the coordinator followed, the last
    header that the settlement log anchors."""
    root: str
    """32 bytes in hex, empty before the first block."""
    root_of: str
    """What the root is of: `header`, `state`, `register` or `log`."""


async def positions(network: Network, names: Collection[str]) -> Mapping[str, Position | None]:
    """Return the positions of the named processes; None for one that does not answer."""
    async with connected(network) as clients:
        found = await asyncio.gather(*(_or_none(_position(clients, name)) for name in names))
    return dict(zip(names, found, strict=True))


async def _or_none(asking: Awaitable[Position]) -> Position | None:
    try:
        async with asyncio.timeout(ANSWER_MS_MAX / 1_000):
            return await asking
    except (LockstepError, TimeoutError):
        return None


async def _position(clients: Clients, name: str) -> Position:
    match name:
        case "sequencer":
            head = (await clients.sequencer.status()).head
            if head is None:
                return Position(0, "", "header")
            return Position(head.header.height, header_hash(head.encoded).hex(), "header")
        case "settlement":
            log = await clients.settlement.status()
            return Position(log.anchored_height, (await clients.settlement.checkpoint()).root.hex(), "log")
        case "bridge":
            bridge = await clients.bridge.status()
            return Position(bridge.height, bridge.register_root.hex(), "register")
    node = await clients.nodes[name].status()
    root = "" if node.commitment is None else node.commitment.state_root.hex()
    return Position(node.height, root, "state")
