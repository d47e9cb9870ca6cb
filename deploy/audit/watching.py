"""What the tasks of one audit share: the audit, how far it came, and where it must halt.

Owns the waiting of one task for another. A task that finds that something does not hold raises `Violated`,
which ends them all.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from deploy.audit.checkers import Audit
from deploy.audit.invariants import Invariant, Violated, Violation
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    LockstepError,
    Malformed,
    ProofInvalid,
    WrongRollup,
)

PAUSE_S: Final = 0.5
"""How long who is away is left alone before it is asked again."""

_DOES_NOT_VERIFY: Final = (BadSignature, Contradiction, Discontinuous, Malformed, ProofInvalid, WrongRollup)


@dataclass
class Watch:
    """An audit that is going on."""

    audit: Audit
    """What was found so far."""
    until_height: int | None
    """The last block to look at; None: for ever."""
    head_height: int = 0
    """The newest block that the sequencer told of."""
    halt_height: int | None = None
    """The order is followed up to this block for now, whatever the last one to look at is."""
    found: Violated | None = None
    """What does not hold, while more is found out about it."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one who makes the order halt."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def is_at_head(self) -> bool:
        """Answer whether the order was followed to the newest block that is known of."""
        return 0 < self.head_height <= self.audit.height

    def is_done(self) -> bool:
        """Answer whether the last block to look at was looked at."""
        return self.until_height is not None and self.audit.height >= self.until_height

    def may_advance(self) -> bool:
        """Answer whether the order is to be followed further now."""
        limit = self.until_height if self.halt_height is None else self.halt_height
        return limit is None or self.audit.height < limit

    async def advanced(self) -> None:
        """Wake everybody who waits: there is a new block, or another halt."""
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that only changes when somebody calls `advanced`."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def halt(self, height: int | None) -> None:
        """Let the order be followed up to a block and no further for now; None: as far as is looked at."""
        self.halt_height = height
        await self.advanced()


def is_own_finding(error: LockstepError) -> bool:
    """Answer whether this side found that what it was told does not verify."""
    return isinstance(error, _DOES_NOT_VERIFY) and not error.is_received


def violated_by(invariant: Invariant, error: LockstepError, source: str, *, height: int = 0) -> Violated:
    """Return the violation that an answer that does not verify is."""
    message = f"{source} said what does not verify: {error.message}"
    return Violated(Violation(invariant, message, height=height, source=source))
