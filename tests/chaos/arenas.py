"""Networks for cases, one after the other: lent, judged by the auditor, and replaced.

Starting a network takes seconds, so that a case gets that of the case before; one on which a case failed is
left as it is, for a person to look at, and the next case gets a new one.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from pathlib import Path

import click

from deploy.audit.report import Summary
from deploy.demonstration.market import Market
from deploy.devnet.clients import connected
from deploy.devnet.launcher import Devnet, running
from deploy.devnet.network import PROCESS_NAMES, create_network
from tests.chaos.arena import Arena, NotJudged
from tests.chaos.forks import fork_server

LOG_LINES = 8
"""Lines of each process's log that a failing case shows."""


class Judgement(StrEnum):
    """What the auditor found of a network."""

    WHOLE = "whole"
    """Everything holds."""
    UNFINISHED = "unfinished"
    """What it came to in time holds."""
    VIOLATED = "violated"
    """Something does not hold."""


class Arenas:
    """Gives each case a network in order: the one of the case before, if that passed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._arena: Arena | None = None
        self._made = 0

    @asynccontextmanager
    async def case(self) -> AsyncIterator[Arena]:
        """Lend an arena. If the case fails, its error ends with where the network is and what it logged."""
        if self._arena is None:
            self._arena = await self._make()
        arena = self._arena
        try:
            yield arena
        except BaseException as failure:
            failure.add_note(describe(arena.devnet))
            await self.close()
            raise

    async def audit(self) -> Summary | None:
        """Have the network audited that is in use (`Arena.audit`); None if there is none."""
        if self._arena is None:
            return None
        async with self.case() as arena:
            return await arena.audit()

    async def judge(self) -> Judgement | None:
        """Have the network audited that is in use, print what does not hold, and close; None: there is none.

        The next case begins a new one.
        """
        try:
            return None if await self.audit() is None else Judgement.WHOLE
        except Exception as failure:  # noqa: BLE001  # whatever it is, it is a finding, and campaigns go on
            click.echo(f"the auditor: {'; '.join(reasons(failure))}")
            return Judgement.UNFINISHED if isinstance(failure, NotJudged) else Judgement.VIOLATED
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop the network; its folder stays."""
        self._arena = None
        await self._stack.aclose()

    async def _make(self) -> Arena:
        self._made += 1
        network = create_network(self._folder / f"network-{self._made}")
        forks = await self._stack.enter_async_context(fork_server())
        devnet = await self._stack.enter_async_context(running(network, spawn=forks.spawn))
        clients = await self._stack.enter_async_context(connected(network))
        return Arena(devnet, clients, Market(network, clients), forks)


def describe(devnet: Devnet) -> str:
    """Return where a network is and the end of each process's log."""
    tails = [f"--- {name}\n{devnet.log_tail(name, LOG_LINES)}" for name in PROCESS_NAMES]
    return "\n".join((f"the network is in {devnet.network.folder}", *tails))


def reasons(failure: BaseException) -> Iterator[str]:
    """Yield what went wrong, without the groups of tasks in which it did."""
    if isinstance(failure, BaseExceptionGroup):
        for each in failure.exceptions:
            yield from reasons(each)
    else:
        yield f"{type(failure).__name__}: {failure}"
