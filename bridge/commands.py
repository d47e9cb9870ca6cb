"""What the coordinator's writer is asked to do, one record per command.

Owns their fields. What each does is `bridge.coordinator`'s.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from bridge.levels import Heights, Source
from bridge.requests import Proposal, SignedLock
from lockstep.checkpoint import Checkpoint
from lockstep.errors import LockstepError
from lockstep.swap_entries import Cancel
from lockstep.types import BundleId, RollupId, SwapId
from sequencer.client import FollowedBlock


@dataclass(frozen=True, slots=True)
class Propose:
    """Register a swap's terms. Answered with the swap."""

    proposal: Proposal
    """What is proposed."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Take a leg's lock. Answered with the swap."""

    swap_id: SwapId
    """The swap."""
    leg: int
    """The leg."""
    lock: SignedLock
    """Its lock, whose signature is good."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Show a swap's preimage. Answered once a Reveal of it acted."""

    swap_id: SwapId
    """The swap."""
    preimage: bytes = field(repr=False)
    """32 bytes."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Send a cancellation. Answered once a Cancel of the swap acted."""

    entry: Cancel
    """The cancellation; its signature is not verified yet."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Take in the next block. Answered with nothing."""

    followed: FollowedBlock
    """The block, verified."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Take note of what the sequencer said to a bundle. Answered with nothing."""

    bundle_id: BundleId
    """The bundle."""
    refusal: LockstepError | None
    """Why it was refused; None: it is ordered."""


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """That a swap waits for a rollup to get to the block of its opening or decision."""

    source: Source
    """From where it will be known."""
    rollup: RollupId
    """The rollup."""
    height: int
    """The block."""
    number: int
    """The swap's number."""
    swap_id: SwapId
    """The swap."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Raise the levels of swaps. Answered with nothing."""

    heights: Heights
    """How far rollups were seen to have got."""
    steps: tuple[WaitingStep, ...]
    """What waited for no more than that, and waits no longer."""
    checkpoint: Checkpoint | None
    """The settlement log's newest checkpoint, under which it was proven; None if no log is asked."""


Command: TypeAlias = Propose | Accept | Reveal | Withdraw | Follow | Settle | Progress
