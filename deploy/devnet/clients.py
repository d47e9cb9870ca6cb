"""Connected clients of every process of a devnet, and waiting for what they tell.

Owns their connections. Does not own any process: clients of one that is away wait for it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from bridge.client import BridgeClient
from bridge.settlement.client import SettlementClient
from deploy.devnet.network import PROCESSES, Network
from lockstep.errors import LockstepError
from lockstep.types import RollupId
from rollups.client import RollupClient
from sequencer.client import SequencerClient

WAIT_MS_MAX: Final = 30_000
"""How long to wait for anything unless told otherwise."""

_POLL_MS: Final = 20

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Clients:
    """One client for each process."""

    sequencer: SequencerClient
    """Of the sequencer."""
    settlement: SettlementClient
    """Of the settlement log."""
    bridge: BridgeClient
    """Of the bridge coordinator."""
    nodes: Mapping[str, RollupClient]
    """Of each rollup node, by the process's name."""


@asynccontextmanager
async def connected(network: Network) -> AsyncIterator[Clients]:
    """Keep clients of all processes while the `async with` block lasts."""
    genesis, address = network.genesis, network.address
    async with AsyncExitStack() as stack:
        nodes = {
            kind.name: await stack.enter_async_context(
                RollupClient(address(kind.name), genesis, RollupId(kind.rollup))
            )
            for kind in PROCESSES
            if kind.rollup is not None
        }
        yield Clients(
            sequencer=await stack.enter_async_context(SequencerClient(address("sequencer"), genesis)),
            settlement=await stack.enter_async_context(SettlementClient(address("settlement"), genesis)),
            bridge=await stack.enter_async_context(BridgeClient(address("bridge"), genesis)),
            nodes=nodes,
        )


async def until(
    look: Callable[[], Awaitable[_Answer | None]], what: str, *, timeout_ms: int = WAIT_MS_MAX
) -> _Answer:
    """Call `look` until it returns something, and return that. It may fail with what is worth repeating.

    Raises TimeoutError, saying `what` was waited for in vain.
    """
    failure: LockstepError | None = None
    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            while True:
                try:
                    answer = await look()
                except LockstepError as error:
                    if not error.retryable:
                        raise
                    failure = error
                else:
                    if answer is not None:
                        return answer
                await asyncio.sleep(_POLL_MS / 1_000)
    except TimeoutError:
        reason = "" if failure is None else f"; the last answer was: {failure.message}"
        raise TimeoutError(f"waited {timeout_ms} ms in vain for {what}{reason}") from None
