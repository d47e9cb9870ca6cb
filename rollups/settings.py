"""What a rollup node is told at its start; see `deploy.node.settings` for how."""

from pathlib import Path
from typing import Annotated

import msgspec

from deploy.node.logs import LogSettings
from deploy.node.server import ServerSettings


class RollupSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `python -m rollups`."""

    data: Path
    """The folder that this process owns. Deleting it loses nothing: the node executes the order again."""

    genesis: Path
    """The network's genesis file."""

    rollup: str
    """The rollup's id, as in the genesis file or in a registration."""

    sequencer: str
    """Where the sequencer listens, `host:port`."""

    key: Path | None = None
    """The attester's private key; without it the node only follows, as a replica."""

    settlement: str | None = None
    """Where the settlement log listens, `host:port`; without it nothing is posted or compared with it."""

    settlement_grace_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] = 10_000
    """How long a node that was never compared with the settlement log waits at its start for a log that is
    away; then it serves without. One that was compared before does not wait."""

    peers: tuple[str, ...] = ()
    """Where other nodes of the same rollup listen, each `host:port`; their commitments are compared with this
    node's at its start and every few seconds."""

    server: ServerSettings = ServerSettings()
    """Where the node listens."""

    logs: LogSettings = LogSettings()
    """What its log looks like."""
