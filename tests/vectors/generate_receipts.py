"""Makes `swap_receipts.json`: whole files of swap receipts, and what everybody must find in them.

Run as `python -m tests.vectors.generate_receipts` with `protos` and the repository on the path. The network
behind them lives in memory (`tests.reference.receipt_world`), and all of its keys follow from names, so that
running it again gives the same file; a test insists on that.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from lockstep.errors import ReceiptInvalid
from lockstep.header import sign_header
from lockstep.receipts import SettledReceipt, decode_receipt, encode_receipt
from lockstep.register import BLOCK_OPENING, Place
from lockstep.swap_receipt import SwapReceipt, encode_swap_receipt
from lockstep.swap_receipt_verify import VerifiedSwap, verify_swap_receipt
from lockstep.types import ChainId, HeaderHash
from tests.reference.receipt_stories import (
    STORIES,
    Story,
    begun,
    commitments_of,
    committed,
    relogged,
    reposted,
    resettled,
    reshown,
    rotated,
    settled_in,
    shown_by,
    told,
)
from tests.reference.receipt_world import A1, B1, network_genesis_file
from tests.unit.rollups.chain import ALPHA, CARL
from tests.vectors.plain import Case, cut_and_extended

FOLDER: Final = Path(__file__).parent


def render() -> dict[str, str]:
    """Return the text of the file by its name."""
    return {"swap_receipts.json": json.dumps(vectors(), indent=1) + "\n"}


def vectors() -> Case:
    return {
        "about": "Section 13: files of swap receipts, verified with the genesis file alone. `step` is the "
        "first step of the verification that must refuse an invalid one.",
        "genesis": network_genesis_file().hex(),
        "receipts": [valid_case(name, story()) for name, story in STORIES.items()] + invalid_cases(),
    }


def valid_case(name: str, story: Story) -> Case:
    verified = verify_swap_receipt(story.file, story.world.genesis)
    return {"valid": True, "about": name, "encoded": story.file.hex(), "verified": verified_case(verified)}


def verified_case(verified: VerifiedSwap) -> Case:
    return {
        "swap_id": verified.swap_id.hex(),
        "outcome": verified.outcome.name,
        "reason": verified.reason.name,
        "reason_legs": list(verified.reason_legs),
        "opened": place_case(verified.opened, verified.opened_time_ms),
        "decided": place_case(verified.decided, verified.decided_time_ms),
        "anchored_height": str(verified.anchored_height),
        "preimage": None if verified.preimage is None else verified.preimage.hex(),
        "log_size": str(verified.checkpoint.size),
        "log_root": verified.checkpoint.root.hex(),
        "legs": [
            {
                "verdict": None if leg.verdict is None else leg.verdict.name,
                "outcome": leg.outcome.name,
                "premium_outcome": leg.premium_outcome.name,
            }
            for leg in verified.legs
        ],
    }


def place_case(place: Place, time_ms: int) -> Case:
    index = "BLOCK_OPENING" if place.index == BLOCK_OPENING else place.index
    return {"height": str(place.height), "index": index, "time_ms": str(time_ms)}


def invalid_cases() -> list[Case]:
    """Return a receipt for each step of the verification, which alone must refuse it."""
    story = committed()
    receipt, log = story.receipt, story.receipt.log
    by_another = sign_header(A1, b"another header")
    first = commitments_of(story, ALPHA)[0]
    others = [each.encoded for each in log.commitments[1:]]
    foreign = reposted(story, first, first.posted.commitment, by=B1)
    to_carl = settled_in(story)
    paid = decode_receipt(to_carl[ALPHA][0])
    assert isinstance(paid, SettledReceipt)
    to_carl[ALPHA][0] = encode_receipt(replace(paid, beneficiary=CARL.public_key))
    unlocked = shown_by(story)
    del unlocked[story.opened.height][ALPHA]
    hidden = shown_by(story)
    del hidden[story.opened.height + 2]
    forged_anchor = replace(log.anchor, parent_hash=HeaderHash(b"x" * 32))
    changed_leaf = replace(receipt.blocks[0].namespaces[0].leaf, count=9)
    namespaces = (
        replace(receipt.blocks[0].namespaces[0], leaf=changed_leaf),
        *receipt.blocks[0].namespaces[1:],
    )
    entries = (replace(receipt.blocks[0], namespaces=namespaces), *receipt.blocks[1:])
    one_less = replace(log, commitments=log.commitments[1:])
    no_change = replace(rotated().receipt.log, registrations=rotated().receipt.log.commitments[:1])
    cases = [
        ("of another chain", replace(receipt, chain=ChainId(b"x" * 32))),
        ("shows a commitment as a change of the registry", replace(rotated().receipt, log=no_change)),
        ("the checkpoint is another's", replace(receipt, log=replace(log, signature=by_another))),
        (
            "a commitment is not in the log",
            replace(receipt, log=one_less),
        ),
        (
            "the log has another header before the last ones",
            relogged(story, receipt=replace(receipt, log=replace(log, anchor=forged_anchor))),
        ),
        ("a namespace has another number of entries", replace(receipt, blocks=entries)),
        ("the reveal is left out", reshown(story, hidden)),
        ("a commitment is of a key that is no attester", relogged(story, commitments=[foreign, *others])),
        ("one attester is too few", relogged(story, commitments=others)),
        ("a leg went to somebody else", resettled(story, to_carl)),
        ("the lock of a leg that was paid is left out", reshown(story, unlocked)),
    ]
    return [
        *({**case, "step": "1 layout"} for case in cut_and_extended(story.file)),
        *(refused_case(story, why, each) for why, each in cases),
        refused_case(*lock_of_a_stranger()),
    ]


def lock_of_a_stranger() -> tuple[Story, str, SwapReceipt]:
    """Return a swap of which a lock by Carl is shown, who gives no leg of it."""
    world, swap = begun()
    opened = world.open_and_lock(swap, world.lock(swap, 0, CARL))
    world.attest_all(swap, swap.reveal)
    story = told(world, swap, opened)
    wanted = shown_by(story)
    wanted[opened.height][ALPHA] = {4}
    return story, "a lock is signed by a stranger", reshown(story, wanted)


def refused_case(story: Story, why: str, receipt: SwapReceipt) -> Case:
    encoded = encode_swap_receipt(receipt)
    try:
        verify_swap_receipt(encoded, story.world.genesis)
    except ReceiptInvalid as error:
        return {"valid": False, "why": why, "step": error.step, "encoded": encoded.hex()}
    raise AssertionError(f"this verifies although {why}")


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text)
