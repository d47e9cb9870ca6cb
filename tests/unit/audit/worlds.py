"""A chain of two rollups that trade, its settlement log, and an audit that is given all of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.audit.checkers import Audit
from deploy.audit.invariants import Told, Violated, Violation
from deploy.audit.statements import told_of
from lockstep.checkpoint import encode_checkpoint, sign_note
from lockstep.commitment import Commitment, commitment_hash
from lockstep.hashing import ZERO_HASH
from lockstep.merkle import leaf_hash, root_of
from lockstep.settlement_entries import (
    HeaderRange,
    PostedCommitment,
    encode_log_entry,
    encode_settlement_entry,
    sign_commitment,
)
from lockstep.settlement_log import genesis_entry
from sequencer.client import FollowedBlock
from tests.unit.rollups.chain import ALPHA, ATTESTERS, BETA, Replica, key
from tests.unit.rollups.histories import History

INTERVAL = 4


def traded(seed: int, count: int = 120) -> History:
    """Return a history in which swaps of every kind came to their end."""
    dice = random.Random(seed)
    history = History()
    history.play(
        [(dice.randrange(1_000), dice.randrange(1_000), dice.randrange(1_000)) for _ in range(count)]
    )
    history.finish()
    return history


@dataclass
class World:
    """What an audit sees of a history."""

    history: History
    told: dict[tuple[str, int], Told] = field(default_factory=dict)
    commitments: dict[tuple[str, int], Commitment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (ALPHA, BETA):
            replica = Replica(self.history.chain.genesis, name)
            for followed in self.blocks:
                replica.apply(followed.block)
                height = int(followed.block.header.height)
                self.commitments[name, height] = replica.state.commitment
                self.told[name, height] = told_of(replica.state.commitment, followed.block.hash)

    @property
    def blocks(self) -> Sequence[FollowedBlock]:
        return self.history.chain.blocks

    def audit(self, *, keeps_placements: bool = False) -> Audit:
        """Return an audit before the first block."""
        return Audit(self.history.chain.genesis, keeps_placements=keeps_placements)

    def log(self) -> list[bytes]:
        """Return the settlement log: every fourth header, and both rollups' commitments there."""
        genesis = self.history.chain.genesis
        entries, previous = [genesis_entry(genesis)], {ALPHA: (0, ZERO_HASH), BETA: (0, ZERO_HASH)}
        for height in range(INTERVAL, len(self.blocks) + 1, INTERVAL):
            entries.append(self.range(height))
            for name in (ALPHA, BETA):
                commitment = self.commitments[name, height]
                entries.append(self.posted(commitment, previous[name]))
                previous[name] = (height, commitment_hash(commitment))
        return entries

    def range(self, height: int) -> bytes:
        """Return the entry that anchors a height and the three before it."""
        first, last = self.blocks[height - INTERVAL], self.blocks[height - 1]
        parent = first.block.header.parent_hash
        return encode_settlement_entry(HeaderRange(first.block.header.height, parent, last.header))

    def posted(self, commitment: Commitment, previous: tuple[int, bytes]) -> bytes:
        """Return an attester's entry for a commitment."""
        header_hash = self.blocks[commitment.height - 1].block.hash
        signer = ATTESTERS[commitment.rollup]
        chain = self.history.chain.genesis.chain_id
        return encode_settlement_entry(
            sign_commitment(
                signer, PostedCommitment(chain, signer.public_key, header_hash, commitment, *previous)
            )
        )

    def checkpoint(self, entries: Sequence[bytes]) -> bytes:
        """Return the `_log` entry of a checkpoint of a log with these entries."""
        settlement, origin = key("settlement"), self.history.chain.genesis.settlement.origin
        body = encode_checkpoint(origin, len(entries), root_of(list(map(leaf_hash, entries))))
        note = sign_note(body, name=origin, public_key=settlement.public_key, sign=settlement.sign_raw)
        return encode_log_entry(note)

    def run(self, audit: Audit, *, with_log: bool = True) -> None:
        """Give an audit all there is."""
        for followed in self.blocks:
            audit.block(followed.block)
            for name in (ALPHA, BETA):
                audit.told(f"node of {name}", self.told[name, followed.block.header.height])
        for index, entry in enumerate(self.log() if with_log else ()):
            audit.logged(index, entry)
        audit.finish()

    def violation(self, audit: Audit) -> Violation:
        """Give an audit the blocks alone, and return what it finds."""
        try:
            for followed in self.blocks:
                audit.block(followed.block)
            audit.finish()
        except Violated as violated:
            return violated.violation
        raise AssertionError("nothing was found")
