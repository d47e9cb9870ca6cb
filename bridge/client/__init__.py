"""What traders and their tools need of the bridge: a client of its service, and the trader's own half.

| module | what it gives |
|---|---|
| `views` | swaps as the coordinator tells them, parsed and checked as far as bytes can be |
| `service` | `BridgeClient`: every call of the service, watching, waiting |
| `trader` | `Trader`: new terms, signatures and preimages, made on the trader's own machine |

A trader's keys and preimages stay here; the coordinator gets signatures, and a preimage only if the trader
delegates the reveal.
"""

from bridge.client.service import BridgeClient
from bridge.client.trader import Trader, transfer_leg
from bridge.client.views import (
    AbortReason,
    BridgeStatus,
    CommitLevel,
    EventView,
    Explanation,
    LegState,
    LegView,
    RevealPolicy,
    SwapPage,
    SwapPhase,
    SwapView,
)

__all__ = [
    "AbortReason",
    "BridgeClient",
    "BridgeStatus",
    "CommitLevel",
    "EventView",
    "Explanation",
    "LegState",
    "LegView",
    "RevealPolicy",
    "SwapPage",
    "SwapPhase",
    "SwapView",
    "Trader",
    "transfer_leg",
]
