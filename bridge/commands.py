"""What the coordinator's writer is asked to do, one record per command.

Owns their fields. What each does is `bridge.coordinator`'s.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from bridge.requests import Proposal, SignedLock
from lockstep.errors import LockstepError
from lockstep.swap_entries import Cancel
from lockstep.types import BundleId, SwapId
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


Command: TypeAlias = Propose | Accept | Reveal | Withdraw | Follow | Settle
