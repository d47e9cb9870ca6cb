"""Log time: a stopwatch that blocks carry, not a clock.

Owns the rule of the design, section 3: each block is later than its parent by the real time that passed, at
least 1 ms and at most MAX_ADVANCE_MS. What an outage or a late block loses is never caught up, so that
neither expires what is in flight. The caller reads the monotonic clock.
"""

from dataclasses import dataclass

from lockstep.limits import MAX_ADVANCE_MS

__pure__ = True


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Log time at a block, and when that was."""

    time_ms: int
    """The block's log time."""
    read_at_ms: int | None = None
    """What the monotonic clock showed then; None if that was before this process started."""

    def advance(self, clock_ms: int) -> "Stopwatch":
        """Return the stopwatch at the next block, made when the monotonic clock shows `clock_ms`."""
        return Stopwatch(self.time_ms_at(clock_ms), clock_ms)

    def time_ms_at(self, clock_ms: int) -> int:
        """Return the log time of that block."""
        elapsed_ms = 1 if self.read_at_ms is None else clock_ms - self.read_at_ms
        return self.time_ms + min(max(elapsed_ms, 1), MAX_ADVANCE_MS)
