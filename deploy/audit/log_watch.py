"""Reading the settlement log from its first entry on, as long as the audit lasts.

Owns the log's part of an audit. A log that is away delays it; one that goes back on a checkpoint, or shows
what does not verify, is a violation.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

from deploy.audit.invariants import Invariant
from deploy.audit.settlement import THE_LOG
from deploy.audit.watching import PAUSE_S, Watch, is_own_finding, violated_by
from lockstep.checkpoint import Checkpoint
from lockstep.errors import BadSignature, LockstepError

ATTEMPTS_MAX: Final = 3
"""How often a signature that does not verify is looked at again: the log's key may just have changed."""

POLL_S: Final = 2.0
"""How often the log is asked for its checkpoint."""


class Log(Protocol):
    """What of the settlement log's client is needed here."""

    def entries(self, from_index: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield every entry from an index on, verified, for ever."""

    async def checkpoint(self) -> Checkpoint:
        """Return the newest checkpoint, which extends all that were seen."""


class LogWatch:
    """Compares the settlement log with the order."""

    def __init__(self, watch: Watch, client: Log) -> None:
        self._watch = watch
        self._client = client
        self.away = ""
        """Why it did not answer last; empty if it did."""
        self.size = 0
        """Entries that its newest checkpoint covers."""

    @property
    def is_read(self) -> bool:
        """Whether everything that its newest checkpoint covers was read."""
        return not self.away and self._watch.audit.log.size >= self.size > 0

    async def run(self) -> None:
        """Read until cancelled. Raises `Violated`."""
        # Keys may have changed in the course of the order: it has to be known first.
        await self._watch.until(lambda: self._watch.is_done() or self._watch.is_at_head())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._poll())

    async def _read(self) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(self._client.entries(self._watch.audit.log.size)) as entries:
                    async for index, entry in entries:
                        self._watch.audit.logged(index, entry)
                        failures = 0
                        await self._watch.advanced()
            except LockstepError as error:
                failures += 1
                await self._consider(error, failures)

    async def _poll(self) -> None:
        failures = 0
        while True:
            try:
                checkpoint = await self._client.checkpoint()
            except LockstepError as error:
                failures += 1
                await self._consider(error, failures)
            else:
                self.size, self.away, failures = checkpoint.size, "", 0
                await self._watch.advanced()
                await asyncio.sleep(POLL_S)

    async def _consider(self, error: LockstepError, failures: int) -> None:
        """Wait if an error may pass. Raises `Violated` if it shows that the log lies."""
        # Who stops before the head does not know of the keys that came after.
        is_key_known = self._watch.is_at_head() and failures >= ATTEMPTS_MAX
        may_pass = isinstance(error, BadSignature) and not is_key_known
        if is_own_finding(error) and not may_pass:
            raise violated_by(Invariant.APPEND_ONLY, error, THE_LOG) from error
        self.away = error.message
        await asyncio.sleep(PAUSE_S)
