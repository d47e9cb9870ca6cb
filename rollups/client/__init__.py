"""Asking a rollup node: a client that checks every answer against the rollup's commitment.

async with RollupClient("127.0.0.1:7001", genesis, "alpha") as alpha:
    await alpha.balance(account, "gold")
"""

from rollups.client.answers import (
    ProvenCommitment,
    ProvenReceipt,
    ProvenState,
    ReceiptsPart,
    RollupStatus,
    RollupSwap,
)
from rollups.client.client import RollupClient

__all__ = [
    "ProvenCommitment",
    "ProvenReceipt",
    "ProvenState",
    "ReceiptsPart",
    "RollupClient",
    "RollupStatus",
    "RollupSwap",
]
