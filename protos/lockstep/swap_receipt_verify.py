"""Verifying a swap receipt: its bytes and the genesis file in, how the swap was decided and settled out.

Owns the steps of protos/README.md, section 13, and what comes of them. Needs no network, and believes nothing
but the genesis file. Invariant: what is returned follows from the bytes and from signatures of keys that
follow from the genesis file; what rests on whose word is told with it (`lockstep.swap_receipt_words`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from lockstep.checkpoint import Checkpoint, encode_checkpoint
from lockstep.commitment import Commitment
from lockstep.errors import BadSignature, LockstepError, Malformed, ReceiptInvalid, UnknownKey, WrongChain
from lockstep.genesis import Genesis
from lockstep.header import Header
from lockstep.merkle import leaf_hash
from lockstep.merkle_many import verify_many
from lockstep.order import hash_entry, namespace_leaf_hash
from lockstep.receipts import receipt_leaf_hash
from lockstep.register import RULES_KNOWN, OutcomeReason, Phase, Place, SwapRecord
from lockstep.settlement_entries import (
    CommitmentEntry,
    Registration,
    decode_settlement_entry,
    encode_settlement_entry,
    verify_commitment,
    verify_proven_header,
)
from lockstep.settlement_registry import KnownRegistry
from lockstep.signing import verify_raw
from lockstep.swap_receipt import ShownNamespace, ShownReceipts, SwapReceipt, decode_swap_receipt
from lockstep.swap_receipt_legs import VerifiedLeg, verify_legs, verify_locks
from lockstep.swap_receipt_replay import Entries, replay
from lockstep.swap_receipt_words import Facts, attests, proves
from lockstep.types import SWAP_NAMESPACE, Height, PublicKey, RollupId, SwapId

__pure__ = True


@dataclass(frozen=True, slots=True)
class VerifiedSwap:
    """What a receipt shows, once all of it holds."""

    swap_id: SwapId
    """The swap."""
    outcome: Phase
    """COMMITTED or ABORTED."""
    reason: OutcomeReason
    """Why it was aborted; NONE if it was not."""
    reason_legs: tuple[int, ...]
    """The legs that the reason names."""
    opened: Place
    """Where it was opened. With the id this names the decision: the same terms may be opened again."""
    opened_time_ms: int
    """Log time of that block."""
    decided: Place
    """Where it was decided; index BLOCK_OPENING: by a deadline."""
    decided_time_ms: int
    """Log time of that block."""
    anchored_height: Height
    """The block whose header, and after which the rollups' commitments, are in the settlement log."""
    anchored_time_ms: int
    """Log time of that block."""
    legs: tuple[VerifiedLeg, ...]
    """Each leg, in the order of the terms."""
    preimage: bytes | None
    """The preimage, if its reveal is shown."""
    checkpoint: Checkpoint
    """The settlement log's, to be compared with what others see of it."""
    proves: tuple[str, ...]
    """What the file proves, in sentences."""
    attests: tuple[str, ...]
    """What it only attests: in sentences that say on whose signature each rests."""


def verify_swap_receipt(encoded: bytes, genesis: Genesis) -> VerifiedSwap:
    """Verify a receipt's file and return what it shows.

    Raises `ReceiptInvalid`, which names the first step that fails:

    1. layout: the file has its one layout; headers in it are linked by construction.
    2. chain: it is about the chain of the genesis file.
    3. registrations: each change of the registry that is shown was ordered in a block that the sequencer of
       its time signed, and is valid at its place among those shown. With the genesis file they say whose
       signatures count below.
    4. checkpoint: the settlement log signed it.
    5. log: header range, commitments and registrations are in the log of that checkpoint.
    6. anchor: the last header ends the range, continues what the range says was before it, and is signed by
       the sequencer.
    7. entries: the entries shown are in the blocks of the headers.
    8. decision: the register's rules over these headers and entries open the swap with the first entry, have
       a use for all others, and decide it (`lockstep.swap_receipt_replay`).
    9. locks: each is signed by its leg's sender, while the swap was open (`lockstep.swap_receipt_legs`).
    10. commitments: for every rollup with receipts, as many of its attesters as it takes, each once, signed
        one and the same commitment after the block of the last header.
    11. settlement: the receipts are under these commitments, and say of every leg what the decision makes of
        it (`lockstep.swap_receipt_legs`).
    """
    with _step("1 layout"):
        receipt = decode_swap_receipt(encoded)
    with _step("2 chain"):
        if receipt.chain != genesis.chain_id:
            raise WrongChain(expected=genesis.chain_id.hex(), found=receipt.chain.hex())
    with _step("3 registrations"):
        registry = _registry_of(receipt, genesis)
    with _step("4 checkpoint"):
        checkpoint = Checkpoint(genesis.settlement.origin, receipt.log.size, receipt.log.root)
        log_key = _verify_checkpoint(receipt, checkpoint, registry)
    with _step("5 log"):
        _verify_in_log(receipt)
    with _step("6 anchor"):
        sequencer_key = _verify_anchor(receipt, registry)
    with _step("7 entries"):
        swap_entries, locks = _verify_entries(receipt)
    with _step("8 decision"):
        record = _decided(receipt, registry, swap_entries)
    with _step("9 locks"):
        headers = {header.height: header for header in receipt.headers}
        locked = verify_locks(record, headers, locks)
    with _step("10 commitments"):
        commitments = _verify_commitments(receipt, registry)
    with _step("11 settlement"):
        settled = _verify_receipts(receipt, commitments)
        legs = verify_legs(record, settled, locked)
    facts = Facts(receipt, record, legs, registry, checkpoint, sequencer_key, log_key)
    return _verified(receipt, record, legs, checkpoint, facts)


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except LockstepError as error:
        # The advice is for who made the bytes; who holds a receipt did not.
        reason = error.message.rpartition("; ")[0] or error.message
        raise ReceiptInvalid(step=name, reason=reason) from error


def _registry_of(receipt: SwapReceipt, genesis: Genesis) -> KnownRegistry:
    registry = KnownRegistry.from_genesis(genesis)
    for each in receipt.log.registrations:
        entry = decode_settlement_entry(each.encoded)
        if not isinstance(entry, Registration):
            raise _malformed("log.registrations", "holds another entry")
        if entry.header.header.chain != genesis.chain_id:
            raise WrongChain(expected=genesis.chain_id.hex(), found=entry.header.header.chain.hex())
        verify_proven_header(registry.sequencer_key_at(entry.height), entry.header)
        accepted = registry.accepted(entry.height, entry.index, entry.payload)
        if isinstance(accepted, str):
            raise _malformed("log.registrations", f"holds one that the chain ignored: it {accepted}")
        registry = accepted
    registry = registry.advanced(receipt.headers[-1].height)
    if registry.at(receipt.headers[-1].height).rules_version > RULES_KNOWN:
        raise _malformed("log.registrations", "bring rules of the register that this software does not know")
    return registry


def _verify_checkpoint(receipt: SwapReceipt, checkpoint: Checkpoint, registry: KnownRegistry) -> PublicKey:
    """Return the key of the log that signed: the one in force at the anchored height, or a later one."""
    anchored = receipt.headers[-1].height
    later = (each.registry for each in registry.timeline if each.since > anchored)
    keys = [each.keys["settlement"] for each in (registry.at(anchored), *later)]
    body = encode_checkpoint(checkpoint.origin, checkpoint.size, checkpoint.root)
    for key in keys:
        if verify_raw(key, body, receipt.log.signature):
            return key
    raise BadSignature(what="checkpoint", signer=keys[0].hex())


def _verify_in_log(receipt: SwapReceipt) -> None:
    entries = receipt.log_entries()
    count = 1 + len(receipt.log.commitments) + len(receipt.log.registrations)
    if len(entries) != count:
        raise _malformed("log", "shows two entries at one index")
    verify_many(
        leaf_hashes={index: leaf_hash(entry) for index, entry in entries.items()},
        size=receipt.log.size,
        proof=receipt.log.proof,
        root=receipt.log.root,
    )


def _verify_anchor(receipt: SwapReceipt, registry: KnownRegistry) -> PublicKey:
    """Return the sequencer's key that signed the last header."""
    anchored = receipt.anchored_range
    # Reading it as an entry keeps the bounds that every entry of the log has.
    decode_settlement_entry(encode_settlement_entry(anchored))
    place = anchored.first_height - receipt.opened_height
    if place >= 0 and receipt.headers[place].parent_hash != anchored.parent_hash:
        raise _malformed("log.anchor.parent_hash", "is not that of the headers")
    key = registry.sequencer_key_at(receipt.headers[-1].height)
    verify_proven_header(key, anchored.last)
    return key


def _verify_entries(receipt: SwapReceipt) -> tuple[Entries, list[tuple[Height, str, bytes]]]:
    """Return the entries of `_swap` by height, and those of rollups with height and namespace."""
    swap_entries: dict[Height, list[tuple[int, bytes]]] = {}
    others: list[tuple[Height, str, bytes]] = []
    for block in receipt.blocks:
        header = receipt.header_at(block.height)
        verify_many(
            leaf_hashes={each.index: namespace_leaf_hash(each.leaf) for each in block.namespaces},
            size=header.namespace_count,
            proof=block.proof,
            root=header.data_root,
        )
        names = [each.leaf.namespace for each in block.namespaces]
        if any(left >= right for left, right in pairwise(names)):
            raise _malformed("blocks.namespaces", "are not in order of their names, as those of a block are")
        for namespace in block.namespaces:
            placed = _verify_namespace(header, namespace)
            if namespace.leaf.namespace == SWAP_NAMESPACE:
                swap_entries[block.height] = placed
            else:
                others += [(block.height, namespace.leaf.namespace, payload) for _, payload in placed]
    if not swap_entries:
        raise _malformed("blocks", "show no entry of _swap")
    return swap_entries, others


def _verify_namespace(header: Header, namespace: ShownNamespace) -> list[tuple[int, bytes]]:
    leaf = namespace.leaf
    verify_many(
        leaf_hashes={each.index: hash_entry(leaf.namespace, each.encoded) for each in namespace.entries},
        size=leaf.count,
        proof=namespace.proof,
        root=leaf.root,
    )
    placed = [(entry.index, entry.payload) for entry in namespace.decoded()]
    if any(left[0] >= right[0] for left, right in pairwise(placed)):
        raise _malformed("blocks.entries", "are not in order of their index")
    if placed[-1][0] >= header.transaction_count:
        raise _malformed("blocks.entries", "stand beyond the end of their block")
    return placed


def _decided(receipt: SwapReceipt, registry: KnownRegistry, entries: Entries) -> SwapRecord:
    in_force = registry.at(receipt.opened_height)
    return replay(receipt.headers, receipt.hashes, in_force, entries)


def _verify_commitments(receipt: SwapReceipt, registry: KnownRegistry) -> dict[RollupId, Commitment]:
    """Return the commitment of every rollup with receipts."""
    by_rollup: dict[RollupId, list[CommitmentEntry]] = {each.rollup: [] for each in receipt.settled}
    for each in receipt.log.commitments:
        entry = decode_settlement_entry(each.encoded)
        if not isinstance(entry, CommitmentEntry) or entry.posted.commitment.rollup not in by_rollup:
            raise _malformed("log.commitments", "holds another entry than the commitment of a rollup shown")
        by_rollup[entry.posted.commitment.rollup].append(entry)
    return {rollup: _agreed(receipt, registry, rollup, entries) for rollup, entries in by_rollup.items()}


def _agreed(
    receipt: SwapReceipt, registry: KnownRegistry, rollup: RollupId, entries: Sequence[CommitmentEntry]
) -> Commitment:
    """Return the commitment that a rollup's threshold of attesters signed."""
    last = receipt.headers[-1]
    attesters = registry.attesters_at(rollup, last.height)
    if attesters is None:
        raise _malformed("settled", f"names rollup {rollup}, which is not registered")
    keys = {entry.posted.attester for entry in entries}
    if len(entries) != attesters.threshold or len(keys) != len(entries):
        raise _malformed(
            "log.commitments",
            f"of {rollup} are {len(entries)} by {len(keys)} keys, it takes {attesters.threshold}",
        )
    for entry in entries:
        posted = entry.posted
        if posted.attester not in attesters.keys:
            raise UnknownKey(what=f"commitment of {rollup}", key=posted.attester.hex())
        if posted.chain != receipt.chain:
            raise WrongChain(expected=receipt.chain.hex(), found=posted.chain.hex())
        about = posted.commitment.height, posted.header_hash
        if about != (last.height, receipt.hashes[-1]) or posted.commitment != entries[0].posted.commitment:
            raise _malformed("log.commitments", f"of {rollup} do not agree, or are about another block")
        verify_commitment(entry)
    return entries[0].posted.commitment


def _verify_receipts(
    receipt: SwapReceipt, commitments: dict[RollupId, Commitment]
) -> list[tuple[RollupId, bytes]]:
    settled: list[tuple[RollupId, bytes]] = []
    for each in receipt.settled:
        _verify_under(each, commitments[each.rollup])
        settled += [(each.rollup, shown.encoded) for shown in each.receipts]
    return settled


def _verify_under(shown: ShownReceipts, commitment: Commitment) -> None:
    verify_many(
        leaf_hashes={each.index: receipt_leaf_hash(each.encoded) for each in shown.receipts},
        size=commitment.receipt_count,
        proof=shown.proof,
        root=commitment.receipts_root,
    )


def _verified(
    receipt: SwapReceipt,
    record: SwapRecord,
    legs: tuple[VerifiedLeg, ...],
    checkpoint: Checkpoint,
    facts: Facts,
) -> VerifiedSwap:
    decision = record.decision
    assert decision is not None, "a replay ends with a decision"
    opened, decided = receipt.headers[0], receipt.header_at(decision.height)
    return VerifiedSwap(
        swap_id=record.swap_id,
        outcome=record.phase,
        reason=decision.reason,
        reason_legs=decision.reason_legs,
        opened=record.opened,
        opened_time_ms=opened.time_ms,
        decided=Place(decision.height, decision.index),
        decided_time_ms=decided.time_ms,
        anchored_height=receipt.headers[-1].height,
        anchored_time_ms=receipt.headers[-1].time_ms,
        legs=legs,
        preimage=record.preimage,
        checkpoint=checkpoint,
        proves=proves(facts),
        attests=attests(facts),
    )


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="swap receipt", field=field, reason=reason)
