"""What a trader's process is started with."""

from pathlib import Path
from typing import Annotated

import msgspec

from deploy.node.logs import LogSettings


class TraderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trader of a chaos run."""

    name: str
    """Whose key it signs with: NAME.pem in `keys`."""
    genesis: Path
    """The chain's genesis file."""
    keys: Path
    """The keys of all traders; of the others only the account is used."""
    names: tuple[str, ...]
    """All traders."""
    assets: dict[str, str]
    """The asset that is traded on each rollup."""
    wallet: Path
    """Its records."""
    journal: Path
    """What it says that it did, as JSON lines."""
    draining: Path
    """Once this file is there, nothing is proposed or paid any more."""
    idle: Path
    """This file is there, from then on, while none of its swaps is open."""
    sequencer: str
    """The sequencer, `host:port`."""
    bridges: tuple[str, ...]
    """Coordinators, tried in order."""
    rollups: dict[str, tuple[str, ...]]
    """Nodes of each rollup, tried in order."""
    seed: int
    """What its deals follow from."""
    at_once: Annotated[int, msgspec.Meta(ge=1, le=64)]
    """Deals that it proposes at a time."""
    deals: int
    """Deals that it proposes in all."""
    transfer_ms: int
    """Pause between two payments."""
    logs: LogSettings = LogSettings()
    """How it logs."""
