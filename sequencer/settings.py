"""The sequencer's settings."""

from pathlib import Path
from typing import Annotated

import msgspec

from deploy.node.client import ClientSettings
from deploy.node.logs import LogSettings
from deploy.node.server import ServerSettings
from lockstep import limits
from sequencer.fair_queue import WEIGHT_MAX

_Count = Annotated[int, msgspec.Meta(ge=1, le=16_000_000)]
_Rate = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


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

    checkpoint_ms: Annotated[int, msgspec.Meta(ge=10, le=3_600_000)] = 5_000
    """How often a checkpoint of the settlement log is ordered at most, in real time."""

    heartbeat_ms: Annotated[int, msgspec.Meta(ge=10, le=limits.MAX_ADVANCE_MS // 2)] = (
        limits.HEARTBEAT_MS_DEFAULT
    )
    """After how long an idle chain gets an empty block; well below the most that log time advances."""

    gather_ms: Annotated[int, msgspec.Meta(ge=0, le=limits.MAX_ADVANCE_MS // 2)] = 25
    """For how long a block gathers at most while many submit; a lone bundle is ordered at once. Longer saves
    everybody who follows the cost of blocks, shorter saves time."""

    queue_bundles_max: _Count = 16_384
    """Bundles waiting to be ordered, decisions on swaps apart; further ones are refused with QUEUE_FULL, and
    those of a namespace that has more of them waiting than there is room left."""

    queue_bytes_max: Annotated[int, msgspec.Meta(ge=limits.BLOCK_BYTES_MAX, le=2**31)] = 64 * 1024 * 1024
    """Bytes of their entries, in the same way."""

    quota_transactions_per_second: _Rate = 1_000_000
    """Transactions of a namespace to which the registry gives no quota; beyond it QUOTA_EXCEEDED. More than
    one process orders: until somebody sets less, turns alone keep one namespace's flood from the others."""

    quota_bytes_per_second: _Rate = 64 * 1024 * 1024
    """Payload bytes of such a namespace."""

    weights: dict[str, Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)]] = {}
    """Shares of namespaces beside each other when there is more than blocks hold; 1 for those not named."""

    live_bundle_ids_max: _Count = limits.LIVE_BUNDLE_IDS_MAX
    """Bundle ids remembered, each in some 50 bytes of memory; further ones are refused with
    TOO_MANY_LIVE_IDS."""

    server: ServerSettings = ServerSettings()
    """Where it listens and what it allows."""

    logs: LogSettings = LogSettings()
    """How it logs."""
