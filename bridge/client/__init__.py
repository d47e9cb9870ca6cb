"""What traders and their tools need of the bridge: a client of its service, and the trader's own half.

| module | what it gives |
|---|---|
| `views` | swaps as the coordinator tells them, parsed and checked as far as bytes can be |
| `service` | `BridgeClient`: every call of the service, watching, waiting |
| `swap_stream` | `SwapStream`: steps of many swaps on one stream, for bots and market makers |
| `trader` | `Trader`: new terms, signatures and preimages, made on the trader's own machine |
| `recorded`, `wallet` | `Wallet`: the trader's own durable record of each swap |
| `failover`, `venue` | `Venue`: several services of a kind, seen as one |
| `steps`, `checks` | what is to be done next, and what is checked before, as functions |
| `driving`, `desk` | `Desk`: agrees to swaps, and takes one from wherever it stands to its end |
| `quotes`, `maker`, `offered` | a quote turned into a swap; `Maker`: quotes, and locks what takes them |
| `receipts` | `get_swap_receipt`: one file that shows anybody how a swap ended |

Start with `Desk`.

A trader's keys and preimages stay here; the coordinator gets signatures, and a preimage only if the trader
delegates the reveal.
"""

from bridge.client.checks import LegEnd, NotAsAgreed
from bridge.client.desk import Desk
from bridge.client.driving import Driven, Progress
from bridge.client.failover import Failover
from bridge.client.maker import Maker, Offer
from bridge.client.offered import Offered
from bridge.client.quotes import TakenQuote, take_quote, terms_of_quote
from bridge.client.recorded import REVEAL_NAMES, RecordedSwap, Role
from bridge.client.service import BridgeClient
from bridge.client.steps import Standing
from bridge.client.swap_stream import SwapStream
from bridge.client.trader import Trader, transfer_leg
from bridge.client.venue import Venue, open_venue
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
from bridge.client.wallet import Wallet

__all__ = [
    "REVEAL_NAMES",
    "AbortReason",
    "BridgeClient",
    "BridgeStatus",
    "CommitLevel",
    "Desk",
    "Driven",
    "EventView",
    "Explanation",
    "Failover",
    "LegEnd",
    "LegState",
    "LegView",
    "Maker",
    "NotAsAgreed",
    "Offer",
    "Offered",
    "Progress",
    "RecordedSwap",
    "RevealPolicy",
    "Role",
    "Standing",
    "SwapPage",
    "SwapPhase",
    "SwapStream",
    "SwapView",
    "TakenQuote",
    "Trader",
    "Venue",
    "Wallet",
    "open_venue",
    "take_quote",
    "terms_of_quote",
    "transfer_leg",
]
