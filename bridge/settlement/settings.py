"""The settlement log's settings."""

from pathlib import Path
from typing import Annotated

import msgspec

from deploy.node.logs import LogSettings
from deploy.node.server import ServerSettings


class SettlementSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a settlement log is started with."""

    data: Path
    """The data folder: the entries, and the record of the checkpoint signed last."""

    genesis: Path
    """The chain's genesis file."""

    key: Path
    """The key that signs checkpoints, as genesis or the registry names it."""

    queue_entries_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 8_192
    """Entries waiting to be judged; further ones are refused with QUEUE_FULL."""

    queue_bytes_max: Annotated[int, msgspec.Meta(ge=256 * 1024, le=2**31)] = 64 * 1024 * 1024
    """Their bytes; further ones are refused with QUEUE_FULL."""

    server: ServerSettings = ServerSettings()
    """Where it listens and what it allows."""

    logs: LogSettings = LogSettings()
    """How it logs."""
