"""The sequencer's client, for rollup operators, traders' tools and the other services.

Start here: `SequencerClient` submits bundles, asks where they stand and follows the chain; `SubmitStream`
is for those who submit a lot. Whatever is returned was verified: signatures under the sequencer's key,
complete namespaces against the header, placements against what was sent.
"""

from lockstep.order import Placement
from sequencer.client.client import SequencerClient
from sequencer.client.records import FollowedBlock, KeyAt, Ordered, SequencerStatus
from sequencer.client.stream import SubmitStream

__all__ = [
    "FollowedBlock",
    "KeyAt",
    "Ordered",
    "Placement",
    "SequencerClient",
    "SequencerStatus",
    "SubmitStream",
]
