"""Verifying a swap receipt: each step refuses what it is there for, whoever signed it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from lockstep.checkpoint import encode_checkpoint
from lockstep.errors import ReceiptInvalid
from lockstep.genesis import parse_genesis
from lockstep.header import encode_header, sign_header
from lockstep.merkle import root_of
from lockstep.order import hash_entry, namespace_leaf_hash
from lockstep.receipts import (
    PremiumOutcome,
    SettlementCode,
    UnbackedReceipt,
    decode_receipt,
    encode_receipt,
)
from lockstep.register import Phase
from lockstep.registry_entries import RotateAttester, SetRules
from lockstep.settlement_entries import (
    encode_settlement_entry,
)
from lockstep.swap_entries import RejectReason, encode_reveal, sign_cancel
from lockstep.swap_receipt import (
    Shown,
    ShownBlock,
    SwapReceipt,
)
from lockstep.swap_receipt_build import _show_log, _show_receipts
from lockstep.swap_receipt_verify import verify_swap_receipt
from lockstep.transactions import Lock, Transfer
from lockstep.types import SWAP_NAMESPACE, HeaderHash, Height, RollupId
from tests.reference.receipt_stories import (
    Story,
    begun,
    cancelled,
    cancelled_early,
    change,
    commitments_of,
    committed,
    crowded_out,
    not_locked,
    not_revealed,
    relogged,
    reposted,
    resettled,
    reshown,
    rotated,
    settled_in,
    shown_by,
    told,
)
from tests.reference.receipt_world import A1, A3, B1, INTERVAL, LOG, World
from tests.unit.rollups.chain import ALPHA, ANN, BETA, BOB, CARL, Swap, genesis_file, key, leg, make_swap


def test_a_log_and_attesters_of_the_tests_own_can_tell_the_truth() -> None:
    for story in (committed(), rotated()):
        assert story.verify(relogged(story)).outcome == Phase.COMMITTED
        assert story.verify(resettled(story, settled_in(story))).outcome == Phase.COMMITTED
        assert story.verify(reshown(story, shown_by(story))).outcome == Phase.COMMITTED


def test_another_chain() -> None:
    other = parse_genesis(genesis_file())
    with pytest.raises(ReceiptInvalid, match="2 chain"):
        verify_swap_receipt(committed().file, other)


class TestRegistrations:
    def with_registrations(self, *entries: bytes) -> SwapReceipt:
        log = replace(rotated().receipt.log, registrations=tuple(Shown(n, e) for n, e in enumerate(entries)))
        return replace(rotated().receipt, log=log)

    def entries(self) -> list[bytes]:
        return [each.encoded for each in rotated().receipt.log.registrations]

    def test_left_out(self) -> None:
        """Then the keys of the genesis file count, and none of them signed."""
        rotated().refused("4 checkpoint", "", self.with_registrations())

    def test_something_else(self) -> None:
        commitment = rotated().receipt.log.commitments[0].encoded
        rotated().refused("3 registrations", "another entry", self.with_registrations(commitment))

    def test_one_that_the_sequencer_did_not_sign(self) -> None:
        first, *others = self.entries()
        header = rotated().world.chain.blocks[2].header
        forged = first.replace(header.proof, sign_header(A1, header.encoded))
        assert forged != first
        rotated().refused(
            "3 registrations", "signature of the header", self.with_registrations(forged, *others)
        )

    def test_one_that_comes_twice(self) -> None:
        first, *others = self.entries()
        again = self.with_registrations(first, first, *others)
        rotated().refused("3 registrations", "the chain ignored", again)

    def test_of_another_chain(self) -> None:
        world = World(
            parse_genesis(genesis_file(*committed().world.genesis.rollups, anchor_interval_blocks=2))
        )
        world.block(change(world, ALPHA, RotateAttester(A1.public_key, CARL.public_key)))
        foreign = next(each for each in world.entries if each[1] == 5)
        rotated().refused("3 registrations", "", self.with_registrations(foreign))

    def test_rules_that_are_not_known(self) -> None:
        world, swap = begun()
        opened = world.open_and_lock(swap)
        world.attest_all(swap)
        world.block(swap.reveal)
        story = told(world, swap, opened)
        world.block(change(world, "rules", SetRules(2)))
        entry = next(each for each in world.entries if each[1] == 5)
        log = replace(story.receipt.log, registrations=(Shown(99, entry),))
        later = replace(story.receipt, log=log)
        # It takes effect after the anchor, so that it changes nothing here.
        story.refused("5 log", "", later)
        header = replace(story.receipt.headers[-1], height=Height(world.height + 2))
        with pytest.raises(ReceiptInvalid, match="rules of the register that this software does not know"):
            story.verify(replace(later, headers=(*later.headers[:-1], header)[-1:], blocks=()))


def test_a_checkpoint_that_the_log_did_not_sign() -> None:
    story = committed()
    log = story.receipt.log
    body = encode_checkpoint("example.org/test", log.size, log.root)
    by_another = replace(log, signature=A1.sign_raw(body))
    story.refused("4 checkpoint", "signature of the checkpoint", replace(story.receipt, log=by_another))
    elsewhere = replace(log, signature=LOG.sign_raw(encode_checkpoint("example.org/x", log.size, log.root)))
    story.refused("4 checkpoint", "signature of the checkpoint", replace(story.receipt, log=elsewhere))
    story.refused("4 checkpoint", "", replace(story.receipt, log=replace(log, size=log.size + 1)))


def test_entries_that_are_not_in_the_log() -> None:
    story = committed()
    log = story.receipt.log
    first, *others = log.commitments
    moved = replace(log, commitments=(replace(first, index=first.index - 1), *others))
    story.refused("5 log", "one index", replace(story.receipt, log=moved))
    absent = replace(log, commitments=tuple(others))
    story.refused("5 log", "hashes", replace(story.receipt, log=absent))
    forged = replace(log, anchor=replace(log.anchor, signature=sign_header(A1, b"")))
    story.refused("5 log", "another root", replace(story.receipt, log=forged))


def test_an_anchor_that_is_none() -> None:
    story = committed()
    anchor = story.receipt.log.anchor

    def anchored(**changes: object) -> SwapReceipt:
        log = replace(story.receipt.log, anchor=replace(anchor, **changes))  # type: ignore[arg-type]
        return relogged(story, receipt=replace(story.receipt, log=log))

    last = encode_header(story.receipt.headers[-1])
    story.refused("6 anchor", "signature of the header", anchored(signature=sign_header(A1, last)))
    story.refused("6 anchor", "first_height", anchored(first_height=anchor.first_height + INTERVAL))
    story.refused("6 anchor", "is not that of the headers", anchored(parent_hash=b"x" * 32))


def test_headers_that_are_not_those_of_the_anchor() -> None:
    story = committed()
    for place in range(len(story.receipt.headers) - 1):
        headers = list(story.receipt.headers)
        headers[place] = replace(headers[place], payload_bytes=headers[place].payload_bytes + 1)
        # Whoever changes one changes the hash of all after it.
        story.refused("5 log", "another root", replace(story.receipt, headers=tuple(headers)))


class TestEntries:
    def changed(self, **changes: object) -> SwapReceipt:
        story = committed()
        block = story.receipt.blocks[1]
        namespace = replace(block.namespaces[0], **changes)  # type: ignore[arg-type]
        blocks = list(story.receipt.blocks)
        blocks[1] = replace(block, namespaces=(namespace, *block.namespaces[1:]))
        return replace(story.receipt, blocks=tuple(blocks))

    def test_another_payload(self) -> None:
        [first, *others] = committed().receipt.blocks[1].namespaces[0].entries
        forged = replace(first, encoded=first.encoded[:-1] + b"\x02")
        committed().refused("7 entries", "another root", self.changed(entries=(forged, *others)))

    def test_another_leaf(self) -> None:
        leaf = committed().receipt.blocks[1].namespaces[0].leaf
        committed().refused(
            "7 entries", "another root", self.changed(leaf=replace(leaf, count=leaf.count + 1))
        )
        committed().refused("7 entries", "", self.changed(index=1))

    def test_another_proof(self) -> None:
        committed().refused("7 entries", "more hashes", self.changed(proof=(b"x" * 32,)))

    def test_no_entry_of_the_swap(self) -> None:
        committed().refused("7 entries", "no entry of _swap", replace(committed().receipt, blocks=()))

    def test_entries_of_another_block(self) -> None:
        receipt = committed().receipt
        moved = replace(receipt.blocks[2], height=Height(receipt.blocks[2].height + 1))
        committed().refused("7 entries", "", replace(receipt, blocks=(*receipt.blocks[:2], moved)))


class TestDecision:
    def without(self, story: Story, height: int, index: int) -> SwapReceipt:
        wanted = shown_by(story)
        wanted[height][SWAP_NAMESPACE].remove(index)
        if not wanted[height][SWAP_NAMESPACE]:
            del wanted[height][SWAP_NAMESPACE]
        return reshown(story, {height: of for height, of in wanted.items() if of})

    def test_an_opening_that_is_left_out(self) -> None:
        story = committed()
        changed = self.without(story, story.opened.height, story.opened.index)
        story.refused("8 decision", "do not start with the opening", changed)

    def test_a_vote_that_is_left_out(self) -> None:
        story = committed()
        for index in (1, 2, 3):
            changed = self.without(story, story.opened.height + 1, index)
            story.refused("8 decision", "do not decide the swap", changed)

    def test_a_reveal_that_is_left_out(self) -> None:
        story = committed()
        changed = self.without(story, story.opened.height + 2, 1)
        story.refused("8 decision", "do not decide the swap", changed)

    def test_an_entry_that_has_no_part_in_it(self) -> None:
        world, swap = begun()
        opened = world.open_and_lock(swap, swap.open)
        world.attest_all(swap, world.attest(A1, swap, 0), world.attest(ANN, swap, 0))
        world.block(swap.reveal, swap.reveal)
        world.block(swap.cancel)
        story = told(world, swap, opened)
        for height, index, says in (
            (opened.height, 4, "recorded already"),
            (opened.height + 1, 4, "has voted"),
            (opened.height + 1, 5, "not in the set"),
            (opened.height + 2, 1, "COMMITTED already"),
            (opened.height + 3, 0, "stands behind the decision"),
        ):
            wanted = shown_by(story)
            wanted.setdefault(height, {}).setdefault(SWAP_NAMESPACE, set()).add(index)
            story.refused("8 decision", says, reshown(story, wanted))

    def test_attestations_that_do_not_count(self) -> None:
        """Made on the block before the opening, on a block of another chain, or for another."""
        world, swap = begun()
        opened = world.open_and_lock(swap)
        before = world.attest(A1, swap, 0, height=opened.height - 1)
        elsewhere = World()
        for _ in range(opened.height):
            elsewhere.block()
        world.block(before, elsewhere.attest(A1, swap, 0))
        world.attest_all(swap)
        world.block(swap.reveal)
        story = told(world, swap, opened)
        for index, says in ((0, "lies too far back"), (1, "another header at executed height")):
            wanted = shown_by(story)
            wanted[opened.height + 1] = {SWAP_NAMESPACE: {index}}
            story.refused("8 decision", says, reshown(story, wanted))

    def test_a_wrong_preimage_and_a_stranger_s_cancellation(self) -> None:
        world, swap = begun()
        opened = world.open_and_lock(swap)
        world.block(
            (SWAP_NAMESPACE, encode_reveal(swap.id, b"q" * 32)),
            (SWAP_NAMESPACE, sign_cancel(ANN, world.genesis.chain_id, swap.id)),
        )
        world.attest_all(swap)
        world.block(swap.reveal)
        story = told(world, swap, opened)
        for index, says in ((0, "not the hashlock's"), (1, "not signed by the terms' revealer")):
            wanted = shown_by(story)
            wanted[opened.height + 1] = {SWAP_NAMESPACE: {index}}
            story.refused("8 decision", says, reshown(story, wanted))

    def test_crowding_out_what_cannot_be(self) -> None:
        world, swap = begun()
        opened = world.open_and_lock(swap)
        world.attest_all(swap)
        rival = make_swap(world.chain)
        world.block(rival.open)
        world.block(swap.reveal)
        story = told(world, swap, opened)
        wanted = shown_by(story)
        wanted[opened.height + 2] = {SWAP_NAMESPACE: {0}}
        story.refused("8 decision", "opens another swap", reshown(story, wanted))
        del wanted[opened.height + 3]
        story.refused("8 decision", "crowd out a swap that", reshown(story, wanted))

    def test_a_coordinator_that_hides_the_reveal_cannot_make_it_an_abort(self) -> None:
        """All of it is signed and anchored; what is left out is that the swap committed."""
        world, swap = begun()
        opened = world.open_and_lock(swap)
        world.attest_all(swap)
        world.block(swap.reveal)
        world.until(swap.terms.expires_ms)
        story = told(world, swap, opened)
        headers = tuple(each.block.header for each in world.chain.blocks[opened.height - 1 :])
        wanted = shown_by(story)
        del wanted[opened.height + 2]
        hidden = replace(reshown(story, wanted), headers=headers)
        settled = world.settled(world.record(swap, opened), world.height)
        lied = replace(
            hidden,
            log=_show_log(world.log_part(world.height, settled)),
            settled=tuple(_show_receipts(name, settled[name]) for name in sorted(settled)),
        )
        story.refused("11 settlement", "what is shown decides at", lied)
        # Without the receipts, and without the votes that would make them due, nobody says so.
        wanted.pop(opened.height + 1)
        wanted[opened.height] = {SWAP_NAMESPACE: {opened.index}}
        bare = replace(
            reshown(story, wanted),
            headers=headers,
            settled=(),
            log=_show_log(world.log_part(world.height, [])),
        )
        story.refused("11 settlement", "nobody says that this was the decision", bare)


class TestLocks:
    def played(self, *locks: Callable[[World, Swap], tuple[str, bytes]]) -> tuple[Story, int]:
        """Return a committed swap whose second block has these transactions of rollups, and its height."""
        world, swap = begun()
        opened = world.open_and_lock(swap)
        world.block(*(lock(world, swap) for lock in locks))
        world.attest_all(swap)
        world.block(swap.reveal)
        world.block(world.lock(swap, 0, ANN))
        return told(world, swap, opened), opened.height + 1

    def shown_instead(self, story: Story, height: int, index: int) -> SwapReceipt:
        """Return a receipt with another lock of leg 0."""
        wanted = shown_by(story)
        del wanted[story.opened.height][ALPHA]
        wanted.setdefault(height, {})[ALPHA] = {index}
        return reshown(story, wanted)

    def test_another_than_the_sender_s(self) -> None:
        story, height = self.played(
            lambda world, swap: world.lock(swap, 0, CARL),
            lambda world, swap: (ALPHA, world.lock(swap, 0, ANN)[1][:-1] + b"\x01"),
            lambda world, _: (ALPHA, world.lock(make_swap(world.chain), 0, ANN)[1]),
            lambda world, swap: (ALPHA, b"\x00" * 64 + world.lock(swap, 0, ANN)[1][64:]),
            lambda world, swap: (ALPHA, world.lock(swap, 1, BOB)[1]),
        )
        for index, says in (
            (0, "another than its sender"),
            (1, "elsewhere"),
            (2, "locks no leg of the swap"),
            (3, "signature of the lock"),
            (4, "elsewhere"),
        ):
            story.refused("9 locks", says, self.shown_instead(story, height, index))

    def test_another_transaction(self) -> None:
        story, height = self.played(
            lambda world, _: (ALPHA, world.chain.signed(ANN, Transfer(b"gold", BOB.public_key, 1))),
            lambda _world, _swap: (ALPHA, b"no transaction"),
        )
        for index, says in ((0, "locks no leg"), (1, "needs")):
            story.refused("9 locks", says, self.shown_instead(story, height, index))

    def test_one_outside_of_its_window(self) -> None:
        story, height = self.played(
            lambda world, swap: (ALPHA, world.chain.signed(ANN, Lock(swap.id, 0), window_ms=50)),
            lambda world, swap: (ALPHA, world.chain.signed(ANN, Lock(swap.id, 0), window_ms=700_000)),
        )
        for index in (0, 1):
            story.refused("9 locks", "outside of its window", self.shown_instead(story, height, index))

    def test_one_after_lock_by(self) -> None:
        world, swap = begun()
        opened = world.open_and_lock(swap)
        world.attest_all(swap)
        world.until(swap.terms.lock_by_ms)
        world.block(world.lock(swap, 0, ANN))
        height = world.height
        world.block(swap.reveal)
        story = told(world, swap, opened)
        story.refused("9 locks", "too late", self.shown_instead(story, height, 0))

    def test_one_after_the_decision(self) -> None:
        story, height = self.played()
        story.refused("9 locks", "too late", self.shown_instead(story, height + 3, 0))

    def test_two_of_one_leg(self) -> None:
        story, height = self.played(lambda world, swap: world.lock(swap, 0, ANN))
        wanted = shown_by(story)
        wanted[height] = {ALPHA: {0}}
        story.refused("9 locks", "two of one leg", reshown(story, wanted))

    def test_none(self) -> None:
        wanted = shown_by(committed())
        del wanted[committed().opened.height][ALPHA]
        committed().refused("11 settlement", "are not those of the legs", reshown(committed(), wanted))


class TestCommitments:
    def said(self, change: Callable[[list[bytes]], list[bytes]]) -> SwapReceipt:
        return relogged(
            committed(), commitments=change([each.encoded for each in committed().receipt.log.commitments])
        )

    def refused(self, says: str, receipt: SwapReceipt) -> None:
        committed().refused("10 commitments", says, receipt)

    def test_too_few_and_too_many(self) -> None:
        self.refused("of alpha are 1 by 1 keys, it takes 2", self.said(lambda all_of: all_of[1:]))
        first = commitments_of(committed(), ALPHA)[0]
        third = reposted(committed(), first, first.posted.commitment, by=A3)
        self.refused("of alpha are 3 by 3 keys, it takes 2", self.said(lambda all_of: [*all_of, third]))

    def test_one_key_twice(self) -> None:
        self.refused("2 by 1 keys", self.said(lambda all_of: [all_of[0], all_of[0], all_of[2]]))

    def test_a_key_that_attests_for_another_rollup(self) -> None:
        first = commitments_of(committed(), ALPHA)[0]
        foreign = reposted(committed(), first, first.posted.commitment, by=B1)
        self.refused("commitment of alpha", self.said(lambda all_of: [foreign, *all_of[1:]]))

    def test_a_commitment_that_its_attester_did_not_sign(self) -> None:
        first = commitments_of(committed(), ALPHA)[0]
        forged = encode_settlement_entry(replace(first, signature=b"\x00" * 64))  # type: ignore[arg-type]
        self.refused("signature of the commitment", self.said(lambda all_of: [forged, *all_of[1:]]))

    def test_attesters_that_do_not_agree(self) -> None:
        first = commitments_of(committed(), ALPHA)[0]
        other = reposted(committed(), first, replace(first.posted.commitment, state_root=b"x" * 32))
        self.refused("do not agree", self.said(lambda all_of: [all_of[1], other, all_of[2]]))

    def test_commitments_about_another_block(self) -> None:
        def moved(height_by: int, header: HeaderHash | None) -> list[bytes]:
            entries = []
            for rollup in (ALPHA, BETA):
                for entry in commitments_of(committed(), rollup):
                    posted = replace(entry.posted, header_hash=header or entry.posted.header_hash)
                    height = entry.posted.commitment.height + height_by
                    said = replace(entry.posted.commitment, height=height)
                    entries.append(reposted(committed(), replace(entry, posted=posted), said))
            return entries

        self.refused("another block", self.said(lambda _: moved(INTERVAL, None)))
        self.refused("another block", self.said(lambda _: moved(0, HeaderHash(b"x" * 32))))

    def test_a_commitment_of_another_chain(self) -> None:
        first = commitments_of(committed(), ALPHA)[0]
        elsewhere = replace(first, posted=replace(first.posted, chain=b"x" * 32))  # type: ignore[arg-type]
        other = reposted(committed(), elsewhere, first.posted.commitment)
        self.refused("chain", self.said(lambda all_of: [other, *all_of[1:]]))

    def test_an_entry_that_is_no_commitment(self) -> None:
        extra = encode_settlement_entry(committed().receipt.anchored_range)
        self.refused("another entry", self.said(lambda all_of: [*all_of, extra]))

    def test_commitments_of_a_rollup_without_receipts(self) -> None:
        receipt = relogged(
            not_locked(), commitments=[each.encoded for each in not_locked().receipt.log.commitments]
        )
        foreign = reposted(
            not_locked(),
            commitments_of(not_locked(), ALPHA)[0],
            replace(commitments_of(not_locked(), ALPHA)[0].posted.commitment, rollup=BETA),
            by=B1,
        )
        said = [each.encoded for each in receipt.log.commitments]
        not_locked().refused(
            "10 commitments", "another entry", relogged(not_locked(), commitments=[*said, foreign])
        )

    def test_a_rollup_that_is_not_registered(self) -> None:
        settled = (replace(committed().receipt.settled[0], rollup=RollupId("zeta")),)
        receipt = relogged(committed(), commitments=[], receipt=replace(committed().receipt, settled=settled))
        self.refused("zeta, which is not registered", receipt)


class TestSettlement:
    def refused(self, story: Story, says: str, receipts: Mapping[RollupId, Sequence[bytes]]) -> None:
        story.refused("11 settlement", says, resettled(story, receipts))

    def altered(self, story: Story, rollup: RollupId, **changes: object) -> dict[RollupId, list[bytes]]:
        """Return the settlement with the first receipt of a rollup changed."""
        receipts = settled_in(story)
        first = decode_receipt(receipts[rollup][0])
        receipts[rollup][0] = encode_receipt(replace(first, **changes))  # type: ignore[arg-type]
        return receipts

    def test_a_receipt_that_is_not_under_the_commitment(self) -> None:
        story = committed()
        alpha, beta = story.receipt.settled
        forged = replace(
            alpha, receipts=(replace(alpha.receipts[0], encoded=alpha.receipts[0].encoded[:-1] + b"\x01"),)
        )
        story.refused("11 settlement", "another root", replace(story.receipt, settled=(forged, beta)))

    def test_receipts_that_are_left_out(self) -> None:
        self.refused(committed(), "no receipt of leg 1", {ALPHA: settled_in(committed())[ALPHA]})
        self.refused(cancelled(), "no receipt of leg 0", {BETA: settled_in(cancelled())[BETA]})
        self.refused(crowded_out(), "nobody says", {})
        self.refused(not_locked(), "no receipt of leg 0", {})

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"height": 4}, "was decided at 4/"),
            ({"index": 0}, "was decided at"),
            ({"subject": b"x" * 32}, "something else than this swap"),
            ({"leg": 1}, "which the swap has not on alpha"),
            ({"leg": 2}, "which the swap has not on alpha"),
            ({"code": SettlementCode.ABORTED}, "'ABORTED'"),
            ({"beneficiary": CARL.public_key}, CARL.public_key.hex()),
            ({"beneficiary": ANN.public_key}, ANN.public_key.hex()),
            ({"asset": b"free"}, "'free'"),
            ({"amount": 99}, "99"),
            ({"premium": 1, "premium_outcome": PremiumOutcome.RETURNED}, "RETURNED"),
        ],
    )
    def test_a_receipt_that_says_otherwise(self, changes: dict[str, object], says: str) -> None:
        self.refused(committed(), says, self.altered(committed(), ALPHA, **changes))

    def test_an_abort_that_pays(self) -> None:
        story = not_revealed()
        self.refused(story, "COMMITTED", self.altered(story, ALPHA, code=SettlementCode.COMMITTED))
        self.refused(story, BOB.public_key.hex(), self.altered(story, ALPHA, beneficiary=BOB.public_key))
        returned = self.altered(story, BETA, premium_outcome=PremiumOutcome.RETURNED)
        self.refused(story, "RETURNED", returned)
        early = self.altered(cancelled_early(), BETA, premium_outcome=PremiumOutcome.PAID)
        self.refused(cancelled_early(), "PAID", early)

    def test_two_receipts_of_one_leg(self) -> None:
        receipts = settled_in(committed())
        self.refused(committed(), "two receipts of leg 0", {**receipts, ALPHA: receipts[ALPHA] * 2})

    def test_a_receipt_of_a_transaction(self) -> None:
        story = committed()
        transaction = next(each for each in story.world.rollups[ALPHA].receipts if not hasattr(each, "leg"))
        receipts = {**settled_in(story), ALPHA: [encode_receipt(transaction)]}
        self.refused(story, "something else than this swap", receipts)

    def test_an_abort_cannot_be_unbacked(self) -> None:
        story = not_revealed()
        place = story.verify().decided
        receipt = encode_receipt(UnbackedReceipt(place.height, place.index, story.swap.id, 0))
        self.refused(story, "says that leg 0 committed", {**settled_in(story), ALPHA: [receipt]})

    def test_an_unbacked_leg_has_no_lock(self) -> None:
        story = committed()
        place = story.verify().decided
        receipt = encode_receipt(UnbackedReceipt(place.height, place.index, story.swap.id, 0))
        self.refused(story, "are not those of the legs", {**settled_in(story), ALPHA: [receipt]})


def test_an_asset_that_nobody_can_read_is_shown_in_hex() -> None:
    world, _ = begun()
    swap = make_swap(world.chain, leg(ALPHA, ANN, BOB, 100, b"\x1b[31mgold"), leg(BETA, BOB, ANN, 40))
    opened = world.open_and_lock(swap)
    said = [world.attest(each, swap, 0, reason=RejectReason.UNKNOWN_ASSET) for each in (A1, A3)]
    world.block(*said)
    verified = told(world, swap, opened).verify()
    assert verified.legs[0].asset == "0x" + b"\x1b[31mgold".hex()
    assert all(sentence.isprintable() for sentence in (*verified.proves, *verified.attests))


class TestBlocksThatNoFollowerTakes:
    """A sequencer can sign anything. Nobody who follows the order takes it, nor does a receipt show it."""

    def refused(self, says: str, block: ShownBlock, **changes: object) -> None:
        """Assert that a receipt is refused whose last header is another one, with this block."""
        story = committed()
        place = block.height - story.receipt.opened_height
        headers = story.receipt.headers[:place]
        header = replace(story.receipt.headers[place], **changes)  # type: ignore[arg-type]
        signature = sign_header(key("sequencer"), encode_header(header))
        anchor = replace(
            story.receipt.log.anchor,
            first_height=header.height,
            parent_hash=header.parent_hash,
            signature=signature,
        )
        before = tuple(each for each in story.receipt.blocks if each.height < block.height)
        forged = replace(
            story.receipt,
            headers=(*headers, header),
            blocks=(*before, block),
            log=replace(story.receipt.log, anchor=anchor),
        )
        story.refused("7 entries", says, relogged(story, receipt=forged))

    def block(self, blocks_after: int) -> ShownBlock:
        story = committed()
        height = story.opened.height + blocks_after
        return next(each for each in story.receipt.blocks if each.height == height)

    def test_two_leaves_of_one_name(self) -> None:
        [swaps] = self.block(2).namespaces
        leaves = [namespace_leaf_hash(swaps.leaf)] * 2
        twice = (replace(swaps, index=0), replace(swaps, index=1))
        block = replace(self.block(2), namespaces=twice, proof=())
        self.refused("order of their names", block, namespace_count=2, data_root=root_of(leaves))

    def test_an_entry_behind_the_end(self) -> None:
        self.refused("beyond the end of their block", self.block(2), transaction_count=1)

    def test_entries_that_are_not_in_order(self) -> None:
        [swaps] = self.block(1).namespaces
        encoded = [each.encoded for each in reversed(swaps.entries)]
        leaf = replace(swaps.leaf, root=root_of([hash_entry(SWAP_NAMESPACE, each) for each in encoded]))
        shown = tuple(Shown(place, each) for place, each in enumerate(encoded))
        backwards = replace(swaps, index=0, leaf=leaf, entries=shown, proof=())
        block = replace(self.block(1), namespaces=(backwards,), proof=())
        root = namespace_leaf_hash(leaf)
        self.refused("order of their index", block, namespace_count=1, data_root=root)
