"""A sequencer with a planted bug, which chaos must see: it answers before a block is on disk."""

import asyncio

import sequencer.__main__
from lockstep.header import sign_header, tip_of
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import Signature
from sequencer.builder import Proposal
from sequencer.embedded import EmbeddedEngine, record_and_sign
from sequencer.engine import SealedBlock
from sequencer.ledger import encode_shares

LATE_S = 0.3
"""How much later than the answer a block is on disk."""

_writing: set[asyncio.Task[None]] = set()
_turn = asyncio.Lock()


def main() -> None:
    """Run it."""
    EmbeddedEngine.order = _order  # type: ignore[method-assign]
    sequencer.__main__.main()


async def _order(self: EmbeddedEngine, proposal: Proposal) -> SealedBlock:
    block, head = proposal.block, self._head
    shares = encode_shares(block)
    previous = None if head is None else (head.height, Signature(head.header.proof))

    def note() -> None:
        record_and_sign(self._cell, self._key, block.header, block.header_bytes)

    async def write() -> None:
        async with _turn:
            await asyncio.sleep(LATE_S)
            await self._ledger.append(proposal, shares, previous, then=note)

    task = asyncio.create_task(write())
    _writing.add(task)
    task.add_done_callback(_writing.discard)
    proven = ProvenHeader(block.header_bytes, sign_header(self._key, block.header_bytes))
    self._head = SealedBlock(block.header.height, proven, block.leaves_bytes, shares)
    self._tip = tip_of(block.header, block.hash)
    return self._head
