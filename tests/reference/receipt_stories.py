"""Swaps that came to each of their ends, with their receipts, and what liars would make of those."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import Final

import pytest

from lockstep import limits
from lockstep.checkpoint import encode_checkpoint
from lockstep.commitment import Commitment
from lockstep.errors import ReceiptInvalid
from lockstep.merkle import AppendTree, leaf_hash
from lockstep.merkle_many import many_proof
from lockstep.receipts import (
    receipt_leaf_hash,
)
from lockstep.register import Place
from lockstep.registry_entries import RegistryChange, RotateAttester, RotateKey, sign_change
from lockstep.settlement_entries import (
    CommitmentEntry,
    decode_settlement_entry,
    encode_settlement_entry,
    sign_commitment,
)
from lockstep.signing import SigningKey
from lockstep.swap_entries import RejectReason
from lockstep.swap_receipt import (
    Shown,
    ShownReceipts,
    SwapReceipt,
    encode_swap_receipt,
)
from lockstep.swap_receipt_build import _show_block  # what a liar would use
from lockstep.swap_receipt_verify import VerifiedSwap, verify_swap_receipt
from lockstep.terms import Premium, PremiumShare
from lockstep.types import REGISTRY_NAMESPACE, Height, Namespace, RollupId
from tests.reference.receipt_world import A1, A2, A3, B1, World
from tests.unit.rollups.chain import ALPHA, ANN, BETA, BOB, CARL, Swap, key, leg, make_swap

FUNDS: Final = RejectReason.INSUFFICIENT_FUNDS


@dataclass(frozen=True)
class Story:
    """A swap that came to its end, and its receipt."""

    world: World
    swap: Swap
    opened: Place
    receipt: SwapReceipt

    @property
    def file(self) -> bytes:
        return encode_swap_receipt(self.receipt)

    def verify(self, receipt: SwapReceipt | None = None) -> VerifiedSwap:
        return verify_swap_receipt(encode_swap_receipt(receipt or self.receipt), self.world.genesis)

    def refused(self, step: str, reason: str, receipt: SwapReceipt) -> None:
        """Assert that another receipt than the true one is refused at a step, for a reason."""
        with pytest.raises(ReceiptInvalid) as caught:
            self.verify(receipt)
        assert step in caught.value.step, caught.value
        assert reason in caught.value.reason, caught.value


def told(world: World, swap: Swap, opened: Place, crowded_at: Place | None = None) -> Story:
    """Go on until everything is anchored, and tell the story."""
    world.to_anchor()
    world.to_anchor()
    return Story(world, swap, opened, world.receipt(swap, opened, crowded_at))


def begun(premium: Premium | None = None) -> tuple[World, Swap]:
    world = World()
    world.block()
    world.block(world.other())
    return world, make_swap(world.chain, premium=premium)


@cache
def committed() -> Story:
    world, swap = begun()
    opened = world.open_and_lock(swap)
    world.attest_all(swap)
    world.block(world.other(), swap.reveal)
    return told(world, swap, opened)


@cache
def revealed_up_front() -> Story:
    world, swap = begun()
    opened = world.open_and_lock(swap, swap.reveal)
    world.attest_all(swap)
    return told(world, swap, opened)


@cache
def rejected() -> Story:
    world, swap = begun()
    swap = make_swap(world.chain, leg(ALPHA, ANN, BOB, 5_000), leg(BETA, BOB, ANN, 40))
    opened = world.open_and_lock(swap)
    said = [world.attest(each, swap, 0, reason=FUNDS) for each in (A2, A3)]
    world.block(world.attest(B1, swap, 1), *said)
    return told(world, swap, opened)


@cache
def rejected_alone() -> Story:
    """Nothing was in escrow anywhere: who rejected is all there is."""
    world, swap = begun()
    swap = make_swap(world.chain, leg(ALPHA, ANN, BOB, 5_000), leg(BETA, BOB, ANN, 40))
    world.block(world.other(), swap.open, world.lock(swap, 0, ANN))
    opened = Place(world.height, 1)
    world.block(*(world.attest(each, swap, 0, reason=FUNDS) for each in (A2, A3)))
    return told(world, swap, opened)


def bobs_premium() -> Premium:
    return Premium(1, (PremiumShare(ANN.public_key, 7), PremiumShare(CARL.public_key, 2)))


@cache
def not_revealed() -> Story:
    world, swap = begun(bobs_premium())
    opened = world.open_and_lock(swap)
    world.attest_all(swap)
    world.until(swap.terms.expires_ms)
    return told(world, swap, opened)


@cache
def not_locked() -> Story:
    world, swap = begun()
    world.block(world.other(), swap.open, world.lock(swap, 0, ANN))
    opened = Place(world.height, 1)
    world.block(world.attest(A1, swap, 0), world.attest(A2, swap, 0))
    world.until(swap.terms.lock_by_ms)
    return told(world, swap, opened)


@cache
def cancelled() -> Story:
    world, swap = begun(bobs_premium())
    opened = world.open_and_lock(swap)
    world.attest_all(swap)
    world.block(swap.cancel)
    return told(world, swap, opened)


@cache
def cancelled_early() -> Story:
    world, swap = begun(bobs_premium())
    opened = world.open_and_lock(swap)
    world.block(world.attest(B1, swap, 1))
    world.block(swap.cancel)
    return told(world, swap, opened)


@cache
def unbacked() -> Story:
    """Beta's attester says LOCKED of a leg for which nothing is in escrow."""
    world, swap = begun()
    world.block(world.other(), swap.open, world.lock(swap, 0, ANN))
    opened = Place(world.height, 1)
    world.attest_all(swap, swap.reveal)
    return told(world, swap, opened)


@cache
def crowded_out() -> Story:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
        world, swap = begun()
        opened = world.open_and_lock(swap)
        world.block(world.other(), world.other(), make_swap(world.chain).open)
        at = Place(world.height, 2)
        return told(world, swap, opened, crowded_at=at)


@cache
def opened_again() -> Story:
    """The second opening of the same terms, after the first one was crowded out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "REGISTER_RECORDS_MAX", 1)
        world, swap = begun()
        world.open_and_lock(swap)
        rival = make_swap(world.chain, lock_in_ms=5_000)
        world.block(rival.open)
        world.block(rival.cancel)
        opened = world.open_and_lock(swap)
        world.attest_all(swap)
        world.block(swap.reveal)
        return told(world, swap, opened)


def change(world: World, subject: str, action: object, *, sequence: int = 1) -> tuple[str, bytes]:
    made = RegistryChange(
        world.genesis.chain_id,
        subject,
        sequence,
        Height(world.height + 2),
        action,  # type: ignore[arg-type]
    )
    return REGISTRY_NAMESPACE, sign_change(key("governance"), made)


@cache
def rotated() -> Story:
    """An attester of alpha, beta's only one and the log's key were replaced before."""
    world, swap = begun()
    new_a, new_b, new_log = key("new a1"), key("new b1"), key("new settlement")
    world.block(
        change(world, ALPHA, RotateAttester(A1.public_key, new_a.public_key)),
        change(world, "settlement", RotateKey(new_log.public_key)),
        change(world, BETA, RotateAttester(B1.public_key, new_b.public_key)),
    )
    world.attesters = {ALPHA: (new_a, A2, A3), BETA: (new_b,)}
    world.log_key = new_log
    world.to_anchor()
    swap = make_swap(world.chain)
    opened = world.open_and_lock(swap)
    world.block(world.attest(new_a, swap, 0), world.attest(A3, swap, 0), world.attest(new_b, swap, 1))
    world.block(swap.reveal)
    return told(world, swap, opened)


STORIES: Final[Mapping[str, Callable[[], Story]]] = {
    story.__name__: story
    for story in (
        committed,
        revealed_up_front,
        rejected,
        rejected_alone,
        not_revealed,
        not_locked,
        cancelled,
        cancelled_early,
        unbacked,
        crowded_out,
        opened_again,
        rotated,
    )
}

# --- receipts that are not the true ones ---


def relogged(
    story: Story, *, commitments: Sequence[bytes] | None = None, receipt: SwapReceipt | None = None
) -> SwapReceipt:
    """Return a receipt under a log that appends whatever its liars want, properly signed."""
    receipt = receipt or story.receipt
    shown = [each.encoded for each in receipt.log.commitments] if commitments is None else list(commitments)
    registrations = [each.encoded for each in receipt.log.registrations]
    entries = [b"genesis", encode_settlement_entry(receipt.anchored_range), *shown, *registrations]
    tree = AppendTree(map(leaf_hash, entries))
    size, root, index = tree.size, tree.root(), count(2)
    body = encode_checkpoint(story.world.genesis.settlement.origin, size, root)
    log = replace(
        receipt.log,
        size=size,
        root=root,
        signature=story.world.log_key.sign_raw(body),
        anchor=replace(receipt.log.anchor, index=1),
        commitments=tuple(Shown(next(index), each) for each in shown),
        registrations=tuple(Shown(next(index), each) for each in registrations),
        proof=many_proof({each: tree.inclusion_proof(each) for each in range(1, size)}, size),
    )
    return replace(receipt, log=log)


def resettled(story: Story, receipts: Mapping[RollupId, Sequence[bytes]]) -> SwapReceipt:
    """Return a receipt for which attesters and log sign any settlement that one wants."""
    commitments, settled = list[bytes](), list[ShownReceipts]()
    for rollup, encoded in sorted(receipts.items()):
        tree = AppendTree(map(receipt_leaf_hash, encoded))
        for entry in commitments_of(story, rollup):
            said = replace(entry.posted.commitment, receipt_count=tree.size, receipts_root=tree.root())
            commitments.append(reposted(story, entry, said))
        shown = tuple(Shown(index, each) for index, each in enumerate(encoded))
        settled.append(ShownReceipts(rollup, shown, ()))
    return relogged(story, commitments=commitments, receipt=replace(story.receipt, settled=tuple(settled)))


def commitments_of(story: Story, rollup: RollupId) -> list[CommitmentEntry]:
    entries = [decode_settlement_entry(each.encoded) for each in story.receipt.log.commitments]
    return [
        each
        for each in entries
        if isinstance(each, CommitmentEntry) and each.posted.commitment.rollup == rollup
    ]


def reposted(
    story: Story, entry: CommitmentEntry, said: Commitment, *, by: SigningKey | None = None
) -> bytes:
    keys = {each.public_key: each for of in story.world.attesters.values() for each in of}
    signer = by or keys[entry.posted.attester]
    posted = replace(entry.posted, commitment=said, attester=signer.public_key)
    return encode_settlement_entry(sign_commitment(signer, posted))


def reshown(story: Story, wanted: Mapping[int, Mapping[str, set[int]]]) -> SwapReceipt:
    """Return a receipt that shows other entries of its blocks, by height and namespace."""
    blocks = tuple(
        _show_block(
            story.world.chain.blocks[height - 1].block,
            {Namespace(name): indexes for name, indexes in of.items()},
        )
        for height, of in sorted(wanted.items())
    )
    return replace(story.receipt, blocks=blocks)


def shown_by(story: Story) -> dict[int, dict[str, set[int]]]:
    return {
        block.height: {
            each.leaf.namespace: {entry.index for entry in each.decoded()} for each in block.namespaces
        }
        for block in story.receipt.blocks
    }


def settled_in(story: Story) -> dict[RollupId, list[bytes]]:
    return {each.rollup: [shown.encoded for shown in each.receipts] for each in story.receipt.settled}
