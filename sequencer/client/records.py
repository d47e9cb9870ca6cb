"""What the sequencer's client returns: frozen records, verified before they are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lockstep.block import VerifiedBlock
from lockstep.order import Placement
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import ChainId, Height, PublicKey

__pure__ = True

KeyAt: TypeAlias = Callable[[Height], PublicKey]
"""Answers which key signs the header at a height, given all blocks before it."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """A bundle's receipt: it is durable at this place."""

    placement: Placement
    """Where it stands."""
    header: ProvenHeader
    """The header of its block; its log time is `header.header.time_ms`."""


@dataclass(frozen=True, slots=True)
class FollowedBlock:
    """The next block of a followed chain."""

    block: VerifiedBlock
    """Header and the entries of the namespaces that were asked for, proven complete."""
    header: ProvenHeader
    """The header with its proof."""
    head_height: Height
    """Height of the newest block when this one was sent: how far behind the follower is."""
    verified_ns: int = 0
    """Real time that reading and verifying it took, in ns."""


@dataclass(frozen=True, slots=True)
class SequencerStatus:
    """What a sequencer says about itself."""

    chain_id: ChainId
    """The chain, which is the client's."""
    head: ProvenHeader | None
    """The newest block's header; None before the first."""
    height: Height
    """Its height; 0 before the first block."""
    time_ms: int
    """Its log time; the genesis time before the first block."""
    first_available_height: Height
    """The first height that can be had."""
    read_only_reason: str
    """Why it only serves reads; empty if it orders."""
    anchored_height: Height
    """Height of the last header in the settlement log that it knows of; 0 if none."""
    heartbeat_ms: int
    """The longest real time between two of its blocks."""
    live_bundle_ids: int
    """Ids of bundles that it remembers now."""
    engine: str
    """`embedded` or the name of a replicated engine."""
    stage_ns: Mapping[str, int]
    """How long each stage of ordering took since it started, in ns of real time, in the stages' order."""
