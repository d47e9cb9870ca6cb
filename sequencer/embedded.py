"""The ordering engine on one machine: SQLite, a record of what was signed last, and a key.

Owns the order of one block's steps, between any two of which the process may die:

    commit      the block is in the ledger, on disk: it keeps its place from now on
    record      its height and hash are in the record of what was signed last, on disk
    sign        the signature is made, for the first time or again: it is the same
    (answer)    who asked is told; the next commit stores the signature

The first three take place in the thread that writes, without a way back and forth between them. A restart
finds a block that was committed and not signed, and signs it then. A block that was signed is in the record,
so that a database which lost it is noticed.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from deploy.node.datadir import DurableCell
from deploy.node.failpoints import FAILPOINTS
from deploy.node.failures import DataRefused
from lockstep.errors import Discontinuous, Malformed, ReadOnly
from lockstep.header import Header, Tip, decode_header, header_hash, sign_header, tip_of, verify_follows
from lockstep.order import Placement
from lockstep.settlement_entries import ProvenHeader
from lockstep.signing import SigningKey
from lockstep.types import BundleId, Height, Namespace, PublicKey, Signature
from sequencer.amnesia import LastSigned, decode_last_signed, encode_last_signed, find_loss
from sequencer.builder import Proposal
from sequencer.engine import SealedBlock
from sequencer.ledger import Ledger, StoredBlock, encode_shares
from sequencer.stages import Stages

BEFORE_COMMIT: Final = FAILPOINTS.declare("sequencer.block.before_commit", "a block is built, not stored")
COMMITTED: Final = FAILPOINTS.declare("sequencer.block.committed", "the block is on disk, not recorded")
RECORDED: Final = FAILPOINTS.declare("sequencer.block.recorded", "the block is recorded, not signed")
SIGNED: Final = FAILPOINTS.declare("sequencer.block.signed", "the block is signed, nobody knows")


class EmbeddedEngine:
    """Orders on one machine; see `open_engine`. Implements `sequencer.engine.OrderingEngine`."""

    name = "embedded"

    def __init__(
        self,
        ledger: Ledger,
        cell: DurableCell,
        key: SigningKey,
        *,
        genesis: Tip,
        first_height: Height,
        head: SealedBlock | None,
    ) -> None:
        self._ledger = ledger
        self._cell = cell
        self._key = key
        self._tip = genesis if head is None else _tip(head.header)
        self._first_height = first_height
        self._head = head
        self.stages = Stages()
        """How long commits and signatures take; the writer counts its own stages there."""

    @property
    def public_key(self) -> PublicKey | None:
        """The key that signs headers."""
        return self._key.public_key

    @property
    def head(self) -> SealedBlock | None:
        """The newest block that is durable and signed."""
        return self._head

    @property
    def first_height(self) -> Height:
        """The first height that can be read."""
        return self._first_height

    async def order(self, proposal: Proposal) -> SealedBlock:
        """Make a block durable, then sign it; see `OrderingEngine.order`. Raises StorageFailed."""
        block = proposal.block
        if (block.header.height, block.header.parent_hash) != (self._tip.height + 1, self._tip.hash):
            raise ValueError(f"block {block.header.height} does not follow {self._tip.height}")
        started_ns = self.stages.now_ns()
        shares = encode_shares(block)
        started_ns = self.stages.add("build", started_ns)
        FAILPOINTS.reach(BEFORE_COMMIT)
        previous = None if self._head is None else (self._head.height, Signature(self._head.header.proof))
        proven: list[ProvenHeader] = []

        def prove() -> None:
            committed_ns = self.stages.add("commit", started_ns)
            FAILPOINTS.reach(COMMITTED)
            proven.append(record_and_sign(self._cell, self._key, block.header, block.header_bytes))
            self.stages.add("sign", committed_ns)

        await self._ledger.append(proposal, shares, previous, then=prove)
        self._head = SealedBlock(block.header.height, proven[0], block.leaves_bytes, shares)
        self._tip = tip_of(block.header, block.hash)
        return self._head

    async def read(
        self, heights: range, namespaces: Sequence[Namespace], *, bytes_max: int
    ) -> Sequence[SealedBlock]:
        """Return shares of blocks; see `OrderingEngine.read`."""
        if self._head is None or heights.stop > self._head.height + 1 or heights.start < self._first_height:
            raise ValueError(f"heights {heights} are not all there")
        return await self._ledger.sealed(heights, namespaces, head=self._head, bytes_max=bytes_max)

    async def find(self, bundle_id: BundleId, valid_until_ms: int) -> Placement | None:
        """Return where a bundle stands; see `OrderingEngine.find`."""
        placement = await self._ledger.find(bundle_id, valid_until_ms)
        if placement is None or self._head is None or placement.height > self._head.height:
            return None
        return placement


def record_and_sign(cell: DurableCell, key: SigningKey, header: Header, header_bytes: bytes) -> ProvenHeader:
    """Sign the header of a block that is durable, once it is recorded as the last one signed.

    Blocks the calling thread for a sync. Raises StorageFailed.
    """
    cell.store(encode_last_signed(LastSigned(header.height, header_hash(header_bytes))))
    FAILPOINTS.reach(RECORDED)
    signature = sign_header(key, header_bytes)
    FAILPOINTS.reach(SIGNED)
    return ProvenHeader(header_bytes, signature)


@asynccontextmanager
async def open_engine(
    ledger: Ledger,
    cell: DurableCell,
    key: SigningKey,
    *,
    genesis: Tip,
    check_key: Callable[[Height, PublicKey], None],
) -> AsyncIterator[tuple[EmbeddedEngine, ReadOnly | None]]:
    """Give the engine over what the process before left, and why it must not order, if so.

    Signs the newest block if its signature is not stored, once `check_key` has not raised for its height; but
    if something was lost, nothing is signed, and the last block with a signature is the head. Raises
    DataRefused for the ledger of another chain or a damaged one.
    """
    first_height, newest = await ledger.heights()
    stored = await ledger.blocks(range(max(newest - 1, 1), newest + 1))
    tip = _check_end(stored, genesis)
    parent_hash = decode_header(stored[-1].header).parent_hash if stored else genesis.hash
    loss = find_loss(_last_signed(cell, genesis), tip, parent_hash)
    if loss is not None and stored and stored[-1].signature is None:
        stored = stored[:-1]
    head = None
    if stored:
        last = stored[-1]
        if last.signature is not None:
            proven = ProvenHeader(last.header, last.signature)
        else:
            check_key(last.height, key.public_key)
            proven = record_and_sign(cell, key, decode_header(last.header), last.header)
        head = SealedBlock(last.height, proven, last.leaves_bytes, {})
    engine = EmbeddedEngine(ledger, cell, key, genesis=genesis, first_height=first_height, head=head)
    yield engine, loss
    if engine.head is not None:
        # The next process may have another key, which could not make this signature again.
        await ledger.save_signature(engine.head.height, Signature(engine.head.header.proof))


def _last_signed(cell: DurableCell, genesis: Tip) -> LastSigned:
    encoded = cell.load()
    if encoded is None:
        return LastSigned(Height(0), genesis.hash)
    try:
        return decode_last_signed(encoded)
    except Malformed as error:
        raise DataRefused(f"the record of what was signed last cannot be read: {error.message}") from error


def _check_end(stored: Sequence[StoredBlock], genesis: Tip) -> Tip:
    """Return the ledger's tip once its last blocks follow each other on this chain. Raises DataRefused."""
    tip = genesis
    for block in stored:
        try:
            header = decode_header(block.header)
            if header.height != block.height or header.chain != genesis.chain:
                raise DataRefused(
                    f"the ledger's block {block.height} is {header.height} of chain {header.chain.hex()}; "
                    f"this is chain {genesis.chain.hex()}: give each chain its own data folder"
                )
            if tip.height + 1 == header.height:
                verify_follows(header, tip)
        except (Malformed, Discontinuous) as error:
            raise DataRefused(f"block {block.height} is damaged: {error.message}; put back a copy") from error
        tip = tip_of(header, header_hash(block.header))
    return tip


def _tip(proven: ProvenHeader) -> Tip:
    return tip_of(proven.header, header_hash(proven.encoded))
