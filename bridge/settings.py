"""The coordinator's settings."""

from pathlib import Path

import msgspec

from deploy.node.client import ClientSettings
from deploy.node.logs import LogSettings
from deploy.node.server import ServerSettings


class BridgeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a coordinator is started with."""

    data: Path
    """The data folder: a cache of the order, and what traders gave that is not ordered yet."""

    genesis: Path
    """The chain's genesis file."""

    sequencer: str
    """Address of the sequencer that is followed and sent to."""

    rollups: dict[str, str] = {}
    """Addresses of rollup nodes by rollup. Accepted for the calls that will need them."""

    settlement: str | None = None
    """Address of the settlement log. Accepted for the calls that will need it."""

    sequencer_client: ClientSettings = ClientSettings()
    """How to reach the sequencer."""

    server: ServerSettings = ServerSettings()
    """Where it listens and what it allows."""

    logs: LogSettings = LogSettings()
    """How it logs."""
