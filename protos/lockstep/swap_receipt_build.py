"""Putting a swap receipt together from blocks, receipts and entries of the settlement log that were verified.

Owns the choice of what is shown: of all that was ordered, the entries that make the decision. Invariant: of
one opening and one anchor there is one choice; whether the result holds, `lockstep.swap_receipt_verify` says.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from lockstep.block import VerifiedBlock
from lockstep.checkpoint import Checkpoint
from lockstep.errors import LockstepError, NotFound
from lockstep.merkle import AppendTree
from lockstep.merkle_many import many_proof
from lockstep.order import Entry, NamespaceLeaf, encode_entry, hash_entry, namespace_leaf_hash
from lockstep.receipts import SettledReceipt, decode_receipt
from lockstep.register import BLOCK_OPENING, Decided, Input, Place, Register, SwapRecord, apply_block
from lockstep.register_records import step
from lockstep.registry_state import Registry
from lockstep.settlement_entries import HeaderRange
from lockstep.swap_entries import encode_reveal
from lockstep.swap_receipt import (
    Anchor,
    Shown,
    ShownBlock,
    ShownLog,
    ShownNamespace,
    ShownReceipts,
    SwapReceipt,
)
from lockstep.swap_receipt_legs import verify_locks
from lockstep.swap_receipt_replay import block_input, register_before
from lockstep.types import SWAP_NAMESPACE, Height, Namespace, RollupId, Signature, SwapId

__pure__ = True


@dataclass(frozen=True, slots=True)
class ProvenLeaf:
    """Something in a tree, with the proof of it alone."""

    index: int
    """The leaf's index."""
    encoded: bytes
    """Its bytes."""
    proof: tuple[bytes, ...]
    """The siblings, lowest first."""


@dataclass(frozen=True, slots=True)
class ReceiptsPart:
    """Receipts of one rollup, all proven under one commitment."""

    count: int
    """Receipts under the commitment."""
    leaves: tuple[ProvenLeaf, ...]
    """At least one, ascending by index."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """What the settlement log has of a swap, all proven under one checkpoint."""

    checkpoint: Checkpoint
    """The checkpoint."""
    signature: Signature
    """The log's, over it."""
    range: HeaderRange
    """The header range that ends with the last header."""
    range_leaf: ProvenLeaf
    """Where that is."""
    commitments: tuple[ProvenLeaf, ...]
    """As many commitments as it takes, of every rollup with receipts."""
    registrations: tuple[ProvenLeaf, ...]
    """Every change of the registry that the log has."""


class DecisionWatch:
    """Runs the register from the opening of a swap to its decision, over all that was ordered."""

    def __init__(
        self, registry: Registry, *, swap_id: SwapId, opened: Place, crowded_at: Place | None = None
    ) -> None:
        """Watch a swap that was opened at a place, under the registry in force there.

        `crowded_at` is the Open that took the swap's place, for a register that starts here is never full.
        """
        self._registry = registry
        self._swap_id = swap_id
        self._opened = opened
        self._crowded_at = crowded_at
        self._register: Register | None = None

    def take(self, block: VerifiedBlock) -> SwapRecord | None:
        """Take the next block, first the opening one, and return the swap's record once it is decided.

        The block has all entries of `_swap`. Raises `NotFound` if the swap was not opened at the place.
        """
        height, entries = block.header.height, list[tuple[int, bytes]]()
        for index, payload in swap_entries_of(block):
            # What stands before the opening has nothing to do with it.
            if Place(height, index) >= self._opened and Place(height, index) != self._crowded_at:
                entries.append((index, payload))
        before = self._register or register_before(block.header, self._registry)
        read = block_input(block.header, block.hash, {height: entries})
        self._register, events = apply_block(before, read)
        for event in events:
            if isinstance(event, Decided) and event.record.swap_id == self._swap_id:
                return self._same_opening(event.record)
        record = self._same_opening(self._register.record(self._swap_id))
        if self._crowded_at is not None and self._crowded_at.height == height:
            return step(record, Input.CROWDING, self._crowded_at)
        return None

    def _same_opening(self, record: SwapRecord | None) -> SwapRecord:
        if record is None or record.opened != self._opened:
            name = f"{self._swap_id.hex()} at {self._opened.height}/{self._opened.index}"
            raise NotFound(subject="opening of swap", name=name)
        return record


def swap_entries_of(block: VerifiedBlock) -> list[tuple[int, bytes]]:
    """Return index and payload of a block's entries of `_swap`."""
    return [(each.index, each.payload) for each in block.entries[SWAP_NAMESPACE]]


def build_swap_receipt(
    blocks: Sequence[VerifiedBlock],
    record: SwapRecord,
    *,
    settled: Mapping[RollupId, ReceiptsPart],
    log: LogPart,
) -> SwapReceipt:
    """Return the receipt of a decided swap.

    `blocks` are those from the opening to the anchored one, with the entries of `_swap` and of every rollup
    with a leg; `settled` are the receipts of its legs, proven under the commitments in `log`. Raises
    `NotFound` if an entry that must be shown is not in the blocks.
    """
    wanted: dict[Height, dict[Namespace, set[int]]] = {}
    for place in _swap_places(record, blocks):
        wanted.setdefault(place.height, {}).setdefault(SWAP_NAMESPACE, set()).add(place.index)
    for leg in _legs_paid_out(settled):
        rollup = Namespace(record.terms.legs[leg].rollup)
        place = _lock_place(record, blocks, leg)
        wanted.setdefault(place.height, {}).setdefault(rollup, set()).add(place.index)
    by_height = {block.header.height: block for block in blocks}
    return SwapReceipt(
        chain=record.terms.chain,
        headers=tuple(block.header for block in blocks),
        blocks=tuple(_show_block(by_height[height], wanted[height]) for height in sorted(wanted)),
        settled=tuple(_show_receipts(rollup, settled[rollup]) for rollup in sorted(settled)),
        log=_show_log(log),
    )


# --- which entries ------------------------------------------------------------------------------------------


def _swap_places(record: SwapRecord, blocks: Sequence[VerifiedBlock]) -> Iterator[Place]:
    """Yield where the opening, the votes that made a verdict, the reveal and the end stand."""
    decision = record.decision
    assert decision is not None, "the swap is decided"
    yield record.opened
    for leg in record.legs:
        cast = sorted(leg.place_of(vote) for vote in leg.votes if vote.verdict == leg.verdict)
        yield from cast[: leg.attesters.threshold]
    if record.preimage is not None:
        yield _reveal_place(record, blocks)
    if decision.index != BLOCK_OPENING:
        yield Place(decision.height, decision.index)


def _reveal_place(record: SwapRecord, blocks: Sequence[VerifiedBlock]) -> Place:
    for block in blocks:
        for index, payload in swap_entries_of(block):
            place = Place(block.header.height, index)
            # By its first bytes, for few entries are worth being read.
            if place > record.opened and payload == encode_reveal(record.swap_id, record.preimage or b""):
                return place
    raise NotFound(subject="reveal of swap", name=record.swap_id.hex())


def _legs_paid_out(settled: Mapping[RollupId, ReceiptsPart]) -> list[int]:
    receipts = (decode_receipt(leaf.encoded) for part in settled.values() for leaf in part.leaves)
    return sorted(receipt.leg for receipt in receipts if isinstance(receipt, SettledReceipt))


def _lock_place(record: SwapRecord, blocks: Sequence[VerifiedBlock], leg: int) -> Place:
    """Return where the first lock of a leg stands that its sender signed and that came in time."""
    rollup = Namespace(record.terms.legs[leg].rollup)
    for block in blocks:
        headers = {block.header.height: block.header}
        for entry in block.entries[rollup]:
            try:
                shown = verify_locks(record, headers, [(block.header.height, rollup, entry.payload)])
            except LockstepError:
                continue
            if shown == {leg}:
                return Place(block.header.height, entry.index)
    raise NotFound(subject=f"lock of leg {leg} of swap", name=record.swap_id.hex())


# --- how they are shown -------------------------------------------------------------------------------------


def _show_block(block: VerifiedBlock, wanted: Mapping[Namespace, Set[int]]) -> ShownBlock:
    tree = AppendTree(map(namespace_leaf_hash, block.leaves))
    namespaces = tuple(
        _show_namespace(place, leaf, block.entries[leaf.namespace], wanted[leaf.namespace])
        for place, leaf in enumerate(block.leaves)
        if leaf.namespace in wanted
    )
    single = {each.index: tree.inclusion_proof(each.index) for each in namespaces}
    return ShownBlock(block.header.height, namespaces, many_proof(single, len(block.leaves)))


def _show_namespace(
    index: int, leaf: NamespaceLeaf, entries: Sequence[Entry], wanted: Set[int]
) -> ShownNamespace:
    encoded = [encode_entry(each) for each in entries]
    tree = AppendTree(hash_entry(leaf.namespace, each) for each in encoded)
    shown = [place for place, each in enumerate(entries) if each.index in wanted]
    proof = many_proof({place: tree.inclusion_proof(place) for place in shown}, leaf.count)
    return ShownNamespace(index, leaf, tuple(Shown(place, encoded[place]) for place in shown), proof)


def _show_receipts(rollup: RollupId, part: ReceiptsPart) -> ShownReceipts:
    return ShownReceipts(rollup, _shown(part.leaves), _proof_of(part.leaves, part.count))


def _shown(leaves: Iterable[ProvenLeaf]) -> tuple[Shown, ...]:
    return tuple(Shown(each.index, each.encoded) for each in sorted(leaves, key=lambda leaf: leaf.index))


def _proof_of(leaves: Iterable[ProvenLeaf], size: int) -> tuple[bytes, ...]:
    return many_proof({leaf.index: leaf.proof for leaf in leaves}, size)


def _show_log(log: LogPart) -> ShownLog:
    anchor = Anchor(
        index=log.range_leaf.index,
        first_height=log.range.first_height,
        parent_hash=log.range.parent_hash,
        signature=Signature(log.range.last.proof),
    )
    return ShownLog(
        size=log.checkpoint.size,
        root=log.checkpoint.root,
        signature=log.signature,
        anchor=anchor,
        commitments=_shown(log.commitments),
        registrations=_shown(log.registrations),
        proof=_proof_of((log.range_leaf, *log.commitments, *log.registrations), log.checkpoint.size),
    )
