"""The sequencer's settings."""

from pathlib import Path
from typing import Annotated

import msgspec

from deploy.node.client import ClientSettings
from deploy.node.logs import LogSettings
from deploy.node.server import ServerSettings
from lockstep import limits

_Count = Annotated[int, msgspec.Meta(ge=1, le=16_000_000)]


class SequencerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a sequencer is started with."""

    data: Path
    """The data folder: the ledger, and the record of what was signed last."""

    genesis: Path
    """The chain's genesis file."""

    key: Path
    """The key that signs headers, as genesis or the registry names it."""

    settlement: str | None = None
    """Address of the settlement log; without it headers are not anchored."""

    settlement_client: ClientSettings = ClientSettings()
    """How to reach it."""

    settlement_wait_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 3_000
    """How long a start waits for the log's answer whether this data folder is an older copy, which would sign
    two blocks at one height; then it orders without. A sequencer that never signed waits as long as it takes.
    """

    anchor_ms: Annotated[int, msgspec.Meta(ge=10, le=3_600_000)] = 1_000
    """How often headers are anchored, in real time."""

    heartbeat_ms: Annotated[int, msgspec.Meta(ge=10, le=limits.MAX_ADVANCE_MS // 2)] = (
        limits.HEARTBEAT_MS_DEFAULT
    )
    """After how long an idle chain gets an empty block; well below the most that log time advances."""

    queue_bundles_max: _Count = 16_384
    """Bundles waiting to be ordered; further ones are refused with QUEUE_FULL."""

    queue_bytes_max: Annotated[int, msgspec.Meta(ge=limits.BLOCK_BYTES_MAX, le=2**31)] = 64 * 1024 * 1024
    """Bytes of their entries; further ones are refused with QUEUE_FULL."""

    live_bundle_ids_max: _Count = limits.LIVE_BUNDLE_IDS_MAX
    """Bundle ids remembered; further ones are refused with TOO_MANY_LIVE_IDS."""

    server: ServerSettings = ServerSettings()
    """Where it listens and what it allows."""

    logs: LogSettings = LogSettings()
    """How it logs."""
