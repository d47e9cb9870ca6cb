"""A whole network in memory, whose swaps have receipts: order, two rollups, settlement log.

`alpha` has 2 of 3 attesters, `beta` one; every fourth block is anchored with the commitments of both.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from lockstep import settlement_log
from lockstep.attesters import AttesterSet
from lockstep.block import VerifiedBlock
from lockstep.checkpoint import Checkpoint, encode_checkpoint
from lockstep.commitment import Commitment, commitment_hash
from lockstep.genesis import Genesis, parse_genesis
from lockstep.hashing import ZERO_HASH
from lockstep.merkle import AppendTree, leaf_hash
from lockstep.receipts import TransactionReceipt, encode_receipt, receipt_leaf_hash
from lockstep.register import Place, SwapRecord
from lockstep.settlement_entries import (
    CommitmentEntry,
    HeaderRange,
    PostedCommitment,
    Registration,
    decode_settlement_entry,
    encode_settlement_entry,
    registrations_of,
    sign_commitment,
)
from lockstep.settlement_names import Found
from lockstep.signing import SigningKey
from lockstep.swap_entries import Attestation, AttestItem, RejectReason, Verdict, sign_attestation
from lockstep.swap_receipt import SwapReceipt, encode_swap_receipt
from lockstep.swap_receipt_build import (
    DecisionWatch,
    LogPart,
    ProvenLeaf,
    ReceiptsPart,
    build_swap_receipt,
)
from lockstep.transactions import Lock
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, HeaderHash, Height, RollupId
from tests.unit.rollups.chain import ALPHA, ANN, BETA, BOB, Chain, Replica, Swap, genesis_file, key, rollup

INTERVAL: Final = 4
A1, A2, A3, B1 = (key(f"attester {name}") for name in ("a1", "a2", "a3", "b1"))
ATTESTERS: Final = {ALPHA: (A1, A2, A3), BETA: (B1,)}
LOG: Final = key("settlement")


def network_genesis_file() -> bytes:
    """Return the genesis file of the network."""
    return genesis_file(
        rollup(ALPHA, attesters=AttesterSet(2, (A1.public_key, A2.public_key, A3.public_key))),
        rollup(BETA, attesters=AttesterSet(1, (B1.public_key,))),
        anchor_interval_blocks=INTERVAL,
    )


@dataclass
class World:
    """The network as it grows."""

    genesis: Genesis = field(default_factory=lambda: parse_genesis(network_genesis_file()))
    attesters: dict[RollupId, tuple[SigningKey, ...]] = field(default_factory=lambda: dict(ATTESTERS))

    def __post_init__(self) -> None:
        self.chain = Chain(self.genesis)
        self.rollups = {name: Replica(self.genesis, name) for name in (ALPHA, BETA)}
        self.log = settlement_log.empty_log(self.genesis)
        self.entries: list[bytes] = []
        self.names: dict[str, int] = {}
        self.commitments: dict[tuple[RollupId, int], Commitment] = {}
        self.log_key = LOG
        self.append(settlement_log.genesis_entry(self.genesis))

    @property
    def height(self) -> Height:
        return self.chain.tip.height

    # --- growing

    def append(self, entry: bytes) -> None:
        """Append an entry to the log, which must take it."""
        candidate = settlement_log.read_candidate(entry)
        done = settlement_log.step(self.log, self._find, candidate)
        assert done.answer == len(self.entries), done.answer
        self.log = done.log
        self.entries += done.appended
        self.names |= done.names

    def block(self, *transactions: tuple[str, bytes], advance_ms: int = 100) -> VerifiedBlock:
        """Make a block, execute it, and anchor it if it is due."""
        block = self.chain.block(*transactions, advance_ms=advance_ms)
        for replica in self.rollups.values():
            replica.apply(block)
        followed = self.chain.blocks[-1]
        for each in registrations_of(followed.header, block.leaves, block.entries[REGISTRY_NAMESPACE]):
            self.append(encode_settlement_entry(each))
        if self.height % INTERVAL == 0:
            self._anchor()
        return block

    def until(self, time_ms: int) -> None:
        """Make empty blocks until log time is at least this."""
        while self.chain.time_ms < time_ms:
            self.block(advance_ms=min(2_000, time_ms - self.chain.time_ms))

    def to_anchor(self) -> None:
        """Make empty blocks until the newest one is anchored."""
        self.block()
        while self.height % INTERVAL:
            self.block()

    def lock(self, swap: Swap, leg: int, signer: SigningKey) -> tuple[str, bytes]:
        """Return the lock of a leg."""
        name = swap.terms.legs[leg].rollup
        return name, self.chain.signed(signer, Lock(swap.id, leg), to=name)

    def attest(
        self,
        signer: SigningKey,
        swap: Swap,
        *legs: int,
        reason: RejectReason = RejectReason.NONE,
        height: int | None = None,
    ) -> tuple[str, bytes]:
        """Return what an attester says of legs of one rollup after a block, by default the newest."""
        block = self.chain.blocks[-1 if height is None else height - 1].block
        verdict = Verdict.LOCKED if reason == RejectReason.NONE else Verdict.REJECTED
        attestation = Attestation(
            chain=self.genesis.chain_id,
            rollup=swap.terms.legs[legs[0]].rollup,
            attester=signer.public_key,
            executed_height=Height(block.header.height),
            header_hash=HeaderHash(block.hash),
            items=tuple(AttestItem(swap.id, leg, verdict, reason) for leg in legs),
        )
        return SWAP_NAMESPACE, sign_attestation(signer, attestation)

    def open_and_lock(self, swap: Swap, *others: tuple[str, bytes]) -> Place:
        """Open a swap behind another entry, lock both legs, and return where it was opened."""
        self.block(self.other(), swap.open, self.lock(swap, 0, ANN), self.lock(swap, 1, BOB), *others)
        return Place(self.height, 1)

    def attest_all(self, swap: Swap, *others: tuple[str, bytes]) -> None:
        """Let all legs be attested LOCKED in one block."""
        said = [self.attest(A1, swap, 0), self.attest(A3, swap, 0), self.attest(B1, swap, 1)]
        self.block(self.other(), *said, *others)

    def other(self) -> tuple[str, bytes]:
        """Return something that has nothing to do with any swap."""
        self.chain.salts += 1
        return BETA, b"noise %d" % self.chain.salts

    # --- receipts

    def record(self, swap: Swap, opened: Place, crowded_at: Place | None = None) -> SwapRecord:
        """Return the record of a decided swap."""
        registry = self.log.registry.at(opened.height)
        watch = DecisionWatch(registry, swap_id=swap.id, opened=opened, crowded_at=crowded_at)
        for block in self.blocks_from(opened.height):
            record = watch.take(block)
            if record is not None:
                return record
        raise AssertionError("the swap is not decided")

    def receipt(self, swap: Swap, opened: Place, crowded_at: Place | None = None) -> SwapReceipt:
        """Return the receipt of a decided swap, anchored in the first block in which it can be."""
        record = self.record(swap, opened, crowded_at)
        assert record.decision is not None
        anchored = -(-record.decision.height // INTERVAL) * INTERVAL
        settled = self.settled(record, anchored)
        return build_swap_receipt(
            self.blocks_from(opened.height)[: anchored - opened.height + 1],
            record,
            settled=settled,
            log=self.log_part(anchored, settled),
        )

    def file(self, swap: Swap, opened: Place, crowded_at: Place | None = None) -> bytes:
        """Return the receipt's file."""
        return encode_swap_receipt(self.receipt(swap, opened, crowded_at))

    def settled(self, record: SwapRecord, anchored: int) -> dict[RollupId, ReceiptsPart]:
        """Return the receipts that settled a decided swap, under the commitments after an anchored block."""
        assert record.decision is not None
        decided = record.decision.height, record.decision.index
        parts = {}
        for name, replica in self.rollups.items():
            count = self.commitments[name, anchored].receipt_count
            encoded = [encode_receipt(each) for each in replica.receipts[:count]]
            tree = AppendTree(map(receipt_leaf_hash, encoded))
            leaves = [
                ProvenLeaf(index, encoded[index], tree.inclusion_proof(index))
                for index, each in enumerate(replica.receipts[:count])
                if not isinstance(each, TransactionReceipt)
                and (each.subject, each.height, each.index) == (record.swap_id, *decided)
            ]
            if leaves:
                parts[name] = ReceiptsPart(count, tuple(leaves))
        return parts

    def blocks_from(self, height: int) -> list[VerifiedBlock]:
        return [each.block for each in self.chain.blocks[height - 1 :]]

    def log_part(self, anchored: int, rollups: Collection[RollupId]) -> LogPart:
        """Return what the log has of a block and of commitments after it."""
        tree = AppendTree(map(leaf_hash, self.entries))
        found: list[HeaderRange] = []
        leaves: dict[type, list[ProvenLeaf]] = {HeaderRange: [], CommitmentEntry: [], Registration: []}
        for index, encoded in enumerate(self.entries):
            leaf = ProvenLeaf(index, encoded, tree.inclusion_proof(index))
            match decode_settlement_entry(encoded):
                case HeaderRange() as entry if entry.last.header.height == anchored:
                    found.append(entry)
                    leaves[HeaderRange].append(leaf)
                case CommitmentEntry(posted=posted) if (
                    posted.commitment.height == anchored and posted.commitment.rollup in rollups
                ):
                    leaves[CommitmentEntry].append(leaf)
                case Registration():
                    leaves[Registration].append(leaf)
        checkpoint = Checkpoint(self.genesis.settlement.origin, tree.size, tree.root())
        body = encode_checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root)
        return LogPart(
            checkpoint,
            self.log_key.sign_raw(body),
            found[0],
            leaves[HeaderRange][0],
            tuple(leaves[CommitmentEntry]),
            tuple(leaves[Registration]),
        )

    def _anchor(self) -> None:
        followed, tip = self.chain.blocks[-1], self.log.tip
        self.append(encode_settlement_entry(HeaderRange(Height(tip.height + 1), tip.hash, followed.header)))
        for name, replica in self.rollups.items():
            self.commitments[name, self.height] = replica.state.commitment
            threshold = self.log.registry.attesters_at(name, self.height)
            assert threshold is not None
            for signer in self.attesters[name][: threshold.threshold]:
                self.append(self._posted(signer, replica.state.commitment))

    def _posted(self, signer: SigningKey, commitment: Commitment) -> bytes:
        last = self.names.get(f"last/{commitment.rollup}/{signer.public_key.hex()}")
        height, hashed = 0, ZERO_HASH
        if last is not None:
            entry = decode_settlement_entry(self.entries[last])
            assert isinstance(entry, CommitmentEntry)
            height, hashed = entry.posted.commitment.height, commitment_hash(entry.posted.commitment)
        posted = PostedCommitment(
            chain=self.genesis.chain_id,
            attester=signer.public_key,
            header_hash=self.chain.tip.hash,
            commitment=commitment,
            previous_height=height,
            previous_commitment=hashed,
        )
        return encode_settlement_entry(sign_commitment(signer, posted))

    def _find(self, name: str) -> Found | None:
        index = self.names.get(name)
        return None if index is None else Found(index, self.entries[index])
