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

    rollups: dict[str, str | tuple[str, ...]] = {}
    """Addresses of nodes by rollup, tried in order: asked which blocks are executed, for levels and settled
    legs. Without one of a rollup, a commitment in the settlement log tells."""

    settlement: str | None = None
    """Address of the settlement log, asked what is anchored. Without it no swap is told to be ANCHORED."""

    sequencer_client: ClientSettings = ClientSettings()
    """How to reach the sequencer."""

    rollup_client: ClientSettings = ClientSettings()
    """How to reach the rollups' nodes."""

    settlement_client: ClientSettings = ClientSettings()
    """How to reach the settlement log."""

    server: ServerSettings = ServerSettings()
    """Where it listens and what it allows."""

    logs: LogSettings = LogSettings()
    """How it logs."""
