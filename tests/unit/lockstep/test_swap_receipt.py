"""Swap receipts: every outcome verifies, and no byte of a receipt can be changed."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from lockstep import limits
from lockstep.encoding import u16, u32
from lockstep.errors import Malformed, ReceiptInvalid
from lockstep.genesis import parse_genesis
from lockstep.receipts import (
    PremiumOutcome,
    Receipt,
    SettledReceipt,
    UnbackedReceipt,
)
from lockstep.register import BLOCK_OPENING, OutcomeReason, Phase
from lockstep.swap_entries import Verdict
from lockstep.swap_receipt import (
    MAGIC,
    ShownReceipts,
    decode_swap_receipt,
    encode_swap_receipt,
)
from lockstep.swap_receipt_legs import LegOutcome
from lockstep.swap_receipt_verify import verify_swap_receipt
from lockstep.types import Height, Namespace, RollupId
from tests.reference.receipt_stories import (
    STORIES,
    cancelled,
    cancelled_early,
    committed,
    not_revealed,
    rotated,
)
from tests.reference.receipt_world import INTERVAL
from tests.unit.rollups.chain import ALPHA, ANN, BOB, key
from tests.vectors import generate_receipts

PAID, RETURNED = LegOutcome.PAID, LegOutcome.RETURNED
UNBACKED, NOTHING = LegOutcome.UNBACKED, LegOutcome.NOTHING_SHOWN


# --- what is true verifies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "phase", "reason", "legs", "ends"),
    [
        ("committed", Phase.COMMITTED, OutcomeReason.NONE, (), (PAID, PAID)),
        ("revealed_up_front", Phase.COMMITTED, OutcomeReason.NONE, (), (PAID, PAID)),
        ("rejected", Phase.ABORTED, OutcomeReason.LEG_REJECTED, (0,), (NOTHING, RETURNED)),
        ("rejected_alone", Phase.ABORTED, OutcomeReason.LEG_REJECTED, (0,), (NOTHING, NOTHING)),
        ("not_revealed", Phase.ABORTED, OutcomeReason.NOT_REVEALED, (), (RETURNED, RETURNED)),
        ("not_locked", Phase.ABORTED, OutcomeReason.NOT_LOCKED, (1,), (RETURNED, NOTHING)),
        ("cancelled", Phase.ABORTED, OutcomeReason.CANCELLED, (), (RETURNED, RETURNED)),
        ("cancelled_early", Phase.ABORTED, OutcomeReason.CANCELLED, (), (RETURNED, RETURNED)),
        ("unbacked", Phase.COMMITTED, OutcomeReason.NONE, (), (PAID, UNBACKED)),
        ("crowded_out", Phase.ABORTED, OutcomeReason.CROWDED_OUT, (), (RETURNED, RETURNED)),
        ("opened_again", Phase.COMMITTED, OutcomeReason.NONE, (), (PAID, PAID)),
        ("rotated", Phase.COMMITTED, OutcomeReason.NONE, (), (PAID, PAID)),
    ],
)
def test_every_outcome_verifies(
    name: str, phase: Phase, reason: OutcomeReason, legs: tuple[int, ...], ends: tuple[LegOutcome, ...]
) -> None:
    story = STORIES[name]()
    verified = story.verify()
    assert (verified.outcome, verified.reason, verified.reason_legs) == (phase, reason, legs)
    assert tuple(leg.outcome for leg in verified.legs) == ends
    assert (verified.swap_id, verified.opened) == (story.swap.id, story.opened)
    assert verified.anchored_height % INTERVAL == 0
    assert story.opened.height <= verified.decided.height <= verified.anchored_height
    assert (verified.preimage is not None) == (phase == Phase.COMMITTED)
    assert decode_swap_receipt(story.file) == story.receipt


def test_it_agrees_with_the_rollups_that_executed_the_whole_order() -> None:
    for name in STORIES:
        story = STORIES[name]()
        verified, receipts = story.verify(), dict[int, Receipt]()
        for replica in story.world.rollups.values():
            for each in replica.receipts:
                if isinstance(each, SettledReceipt | UnbackedReceipt) and each.subject == story.swap.id:
                    receipts[each.leg] = each
        for end in verified.legs:
            settled = receipts.get(end.leg)
            assert (settled is None) == (end.outcome == NOTHING), name
            if settled is not None:
                assert (settled.height, settled.index) == (verified.decided.height, verified.decided.index)


def test_what_is_returned() -> None:
    verified = not_revealed().verify()
    assert verified.decided.index == BLOCK_OPENING
    assert verified.decided_time_ms >= not_revealed().swap.terms.expires_ms
    first, second = verified.legs
    assert (first.rollup, first.sender, first.amount, first.asset) == (ALPHA, ANN.public_key, 100, "gold")
    assert (first.premium, first.premium_outcome) == (0, PremiumOutcome.NONE)
    assert (second.premium, second.premium_outcome) == (9, PremiumOutcome.PAID)
    assert (second.verdict, second.recipient) == (Verdict.LOCKED, ANN.public_key)
    assert verified.checkpoint.size == len(not_revealed().world.entries)


def test_a_premium_is_paid_if_all_was_locked_and_returned_otherwise() -> None:
    assert cancelled().verify().legs[1].premium_outcome == PremiumOutcome.PAID
    assert cancelled_early().verify().legs[1].premium_outcome == PremiumOutcome.RETURNED


@pytest.mark.parametrize(
    ("name", "proves", "attests"),
    [
        ("committed", "COMMITTED; every leg LOCKED", "the word of the attesters of alpha and beta"),
        ("committed", "2 of 3 attesters of alpha", "key " + key("sequencer").public_key.hex()),
        ("committed", "went to " + BOB.public_key.hex(), "no key was replaced but by the 0 changes"),
        ("rejected", "REJECTED (INSUFFICIENT_FUNDS)", "nothing was in escrow for leg 0"),
        ("rejected_alone", "LEG_REJECTED", "the word of the attesters who rejected leg 0"),
        ("not_locked", "no verdict on leg 1 shown", "who made this file could leave one out"),
        ("not_revealed", "Its premium of 9 was PAID.", "settled by it"),
        ("cancelled", "signed the cancellation", "no entry left out here decided the swap before"),
        ("unbacked", "WAS NOT IN ESCROW and nobody was paid", "each verdict was true"),
        ("crowded_out", "another swap was opened in its place", "the register was full"),
        ("rotated", "1 of 1 attesters of beta", "by the 3 changes shown"),
    ],
)
def test_what_it_says_to_people(name: str, proves: str, attests: str) -> None:
    verified = STORIES[name]().verify()
    assert any(proves in each for each in verified.proves), verified.proves
    assert any(attests in each for each in verified.attests), verified.attests


# --- no byte can be changed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes"),
    [("committed", (0x01, 0x80, 0xFF)), ("rotated", (0x01,))],
)
def test_every_change_of_one_byte_is_refused(name: str, changes: tuple[int, ...]) -> None:
    story = STORIES[name]()
    for place, byte in enumerate(story.file):
        for change in changes:
            changed = story.file[:place] + bytes((byte ^ change,)) + story.file[place + 1 :]
            with pytest.raises(ReceiptInvalid):
                verify_swap_receipt(changed, story.world.genesis)


def test_every_shorter_file_is_refused() -> None:
    story = rotated()
    for length in range(len(story.file)):
        with pytest.raises(ReceiptInvalid) as caught:
            verify_swap_receipt(story.file[:length], story.world.genesis)
        assert caught.value.step == "1 layout"


@pytest.mark.parametrize("more", [b"\x00", b"\n", b"\xff" * 64])
def test_every_longer_file_is_refused(more: bytes) -> None:
    for changed in (committed().file + more, more + committed().file):
        with pytest.raises(ReceiptInvalid, match="1 layout"):
            verify_swap_receipt(changed, committed().world.genesis)


class TestLayout:
    def refused(self, encoded: bytes, says: str) -> None:
        with pytest.raises(Malformed, match=says):
            decode_swap_receipt(encoded)

    def test_another_file(self) -> None:
        self.refused(b"lockstep receipts" + committed().file[17:], "version")
        self.refused(b"x" * 100, "magic")
        self.refused(b"", "magic")

    def test_another_version(self) -> None:
        self.refused(MAGIC + u16(2) + committed().file[18:], "version is 2")

    def headers(self, **changes: bytes) -> bytes:
        """Return the file with other bytes at the start of its headers."""
        file, at = committed().file, len(MAGIC) + 2 + 32
        places = {"height": (at, 8), "time_ms": (at + 40, 8), "count": (at + 48, 4), "kind": (at + 52, 1)}
        for name, value in changes.items():
            start, length = places[name]
            assert len(value) == length
            file = file[:start] + value + file[start + length :]
        return file

    def test_headers(self) -> None:
        self.refused(self.headers(count=u32(0)), "headers.count is 0")
        self.refused(self.headers(count=u32(2_000_000)), "headers.count is 2000000")
        self.refused(self.headers(height=bytes(8)), "outside")
        self.refused(self.headers(height=b"\xff" * 8), "outside")
        self.refused(self.headers(time_ms=b"\xff" * 8), "outside")
        self.refused(self.headers(kind=b"\x02"), "kind 2 is unknown")

    def test_an_advance_of_log_time_that_no_chain_has(self) -> None:
        for advance_ms in (0, limits.MAX_ADVANCE_MS + 1):
            first, *others = committed().receipt.headers
            late_ms = advance_ms - (others[0].time_ms - first.time_ms)
            # What comes after goes on from there, so that the first advance is the only one that is wrong.
            moved = [replace(each, time_ms=each.time_ms + late_ms) for each in others]
            encoded = encode_swap_receipt(replace(committed().receipt, headers=(first, *moved)))
            self.refused(encoded, "advance_ms")

    def test_an_empty_block_has_one_form(self) -> None:
        file = not_revealed().file
        empty = next(each for each in not_revealed().receipt.headers if not each.transaction_count)
        full = b"\x01" + empty.data_root + bytes(2 + 4 + 4 + 8)
        at = len(MAGIC) + 2 + 32 + 52
        self.refused(file[:at] + full + file[at:], "block with entries, which this one has not")

    def test_what_shows_nothing_is_left_out(self) -> None:
        receipt = committed().receipt
        block = receipt.blocks[0]
        nothing = replace(block, namespaces=())
        self.refused(encode_swap_receipt(replace(receipt, blocks=(nothing,))), "shows nothing")
        bare = replace(block, namespaces=(replace(block.namespaces[0], entries=()),))
        self.refused(encode_swap_receipt(replace(receipt, blocks=(bare,))), "shows nothing")
        hollow = (ShownReceipts(ALPHA, (), ()),)
        self.refused(encode_swap_receipt(replace(receipt, settled=hollow)), "shows nothing")

    def test_order(self) -> None:
        receipt = committed().receipt
        for changed in (
            replace(receipt, blocks=receipt.blocks[::-1]),
            replace(receipt, blocks=(receipt.blocks[0], *receipt.blocks)),
            replace(receipt, settled=receipt.settled[::-1]),
            replace(receipt, log=replace(receipt.log, commitments=receipt.log.commitments[::-1])),
        ):
            self.refused(encode_swap_receipt(changed), "ascending")

    def test_a_block_behind_the_headers(self) -> None:
        receipt = committed().receipt
        beyond = replace(receipt.blocks[-1], height=Height(receipt.opened_height + len(receipt.headers)))
        self.refused(encode_swap_receipt(replace(receipt, blocks=(beyond,))), "offset")

    def test_names(self) -> None:
        receipt = committed().receipt
        settled = (replace(receipt.settled[0], rollup=RollupId("Alpha")),)
        self.refused(encode_swap_receipt(replace(receipt, settled=settled)), "settled.rollup")
        block = receipt.blocks[0]
        odd = replace(block.namespaces[0], leaf=replace(block.namespaces[0].leaf, namespace=Namespace("_no")))
        changed = replace(receipt, blocks=(replace(block, namespaces=(odd,)),))
        self.refused(encode_swap_receipt(changed), "namespace's name")


# --- golden vectors -----------------------------------------------------------------------------------------

VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(generate_receipts.__file__).parent / "swap_receipts.json").read_text()
)


@pytest.mark.parametrize("case", VECTORS["receipts"], ids=lambda case: case.get("about") or case["why"])
def test_the_vectors(case: dict[str, Any]) -> None:
    genesis = parse_genesis(bytes.fromhex(VECTORS["genesis"]))
    encoded = bytes.fromhex(case["encoded"])
    if case["valid"]:
        verified = verify_swap_receipt(encoded, genesis)
        assert generate_receipts.verified_case(verified) == case["verified"]
        assert encode_swap_receipt(decode_swap_receipt(encoded)) == encoded
    else:
        with pytest.raises(ReceiptInvalid) as caught:
            verify_swap_receipt(encoded, genesis)
        assert caught.value.step == case["step"]


def test_the_vectors_refuse_at_every_step() -> None:
    documented = re.findall(r"^    (\d+)\. (\w+):", verify_swap_receipt.__doc__ or "", re.MULTILINE)
    steps = {case["step"] for case in VECTORS["receipts"] if not case["valid"]}
    assert {f"{number} {name}" for number, name in documented} == steps
