"""Asking the settlement log: a client that believes nothing but what a signed, consistent checkpoint covers.

async with SettlementClient("127.0.0.1:7000", genesis) as log:
    await log.append(entry)
    async for index, entry in log.entries():
        ...
"""

from bridge.settlement.client.answers import Anchor, AnchoredCommitment, ProvenEntries, SettlementStatus
from bridge.settlement.client.audit import Auditor, audit
from bridge.settlement.client.client import SettlementClient

__all__ = [
    "Anchor",
    "AnchoredCommitment",
    "Auditor",
    "ProvenEntries",
    "SettlementClient",
    "SettlementStatus",
    "audit",
]
