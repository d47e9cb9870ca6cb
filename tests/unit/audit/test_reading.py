"""Both implementations read the same bytes: whatever one refuses, the other refuses."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.audit.plain import entries
from deploy.audit.plain.reading import Unreadable
from deploy.audit.plain.registry import read_change
from lockstep.errors import Malformed
from lockstep.registry_entries import decode_registry_entry
from lockstep.swap_entries import decode_swap_entry
from lockstep.terms import Premium, PremiumShare
from lockstep.transactions import Method, decode_call, decode_transaction
from lockstep.types import SWAP_NAMESPACE
from tests.unit.audit.worlds import traded
from tests.unit.rollups.chain import ALPHA, ANN, BETA, BOB, CARL, Chain, leg, make_swap
from tests.vectors import generate_registry

READ_ARGUMENTS: dict[int, Callable[[bytes], object]] = {
    entries.BANK_TRANSFER: entries.read_transfer,
    entries.BANK_FAUCET: entries.read_faucet,
    entries.ESCROW_LOCK: entries.read_lock,
}


def swap_samples() -> list[bytes]:
    chain = Chain()
    premium = Premium(1, (PremiumShare(BOB.public_key, 5), PremiumShare(CARL.public_key, 1)))
    with_premium = make_swap(chain, leg(ALPHA, ANN, BOB, 9), leg(BETA, BOB, ANN, 8), premium=premium)
    ordered = [payload for name, payload in traded(3).sent if name == SWAP_NAMESPACE]
    return [with_premium.open[1], *ordered]


def transaction_samples() -> list[bytes]:
    return [payload for name, payload in traded(3).sent if name in (ALPHA, BETA)]


def registry_samples() -> list[bytes]:
    vectors = json.loads((Path(generate_registry.__file__).parent / "registry.json").read_text())
    return [bytes.fromhex(each["encoded"]) for each in vectors["entries"] if each["encoded"]]


def read_plain_transaction(payload: bytes) -> None:
    transaction = entries.read_transaction(payload)
    if transaction.method in READ_ARGUMENTS:
        READ_ARGUMENTS[transaction.method](transaction.arguments)


def read_first_transaction(payload: bytes) -> None:
    transaction = decode_transaction(payload)
    if transaction.method in set(Method):
        decode_call(Method(transaction.method), transaction.arguments)


KINDS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], Any], Callable[[bytes], Any]]] = {
    "swap": (swap_samples, decode_swap_entry, entries.read_entry),
    "transaction": (transaction_samples, read_first_transaction, read_plain_transaction),
    "registry": (registry_samples, decode_registry_entry, lambda encoded: read_change(1, 0, encoded)),
}


def mutated(dice: random.Random, sample: bytes) -> Iterator[bytes]:
    """Yield the bytes themselves, and others: a byte changed, bytes cut off, put in, or doubled."""
    yield sample
    for _ in range(60):
        place = dice.randrange(len(sample))
        # Numbers that stand for lengths, kinds and counts are small, and lie towards the front.
        early = dice.randrange(min(len(sample), 140))
        byte = bytes((dice.choice((0, 1, 2, 3, 5, 16, 17, 31, 32, 33, 64, 65, 255, dice.randrange(256))),))
        yield sample[:place] + byte + sample[place + 1 :]
        yield sample[:early] + byte + sample[early + 1 :]
        yield sample[:place]
        yield sample[:place] + byte + sample[place:]
        yield sample[:early] + sample[early + 1 :]


@pytest.mark.parametrize("kind", KINDS)
def test_both_read_the_same(kind: str) -> None:
    samples, first, plain = KINDS[kind]
    dice, outcomes = random.Random(f"reading {kind}"), {True: 0, False: 0}
    for sample in samples()[:60]:
        for encoded in mutated(dice, sample):
            readable = not _raises(first, encoded, Malformed)
            assert readable != _raises(plain, encoded, Unreadable), encoded.hex()
            outcomes[readable] += 1
    assert min(outcomes.values()) > 500, "both are met often"


def _raises(read: Callable[[bytes], Any], encoded: bytes, refusal: type[Exception]) -> bool:
    try:
        read(encoded)
    except refusal:
        return True
    return False
