"""Random histories: value is conserved, swaps are whole, and whoever executes the same has the same."""

import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.receipts import ReceiptCode, TransactionReceipt
from lockstep.register import OutcomeReason, Phase
from rollups.batch import Batch
from rollups.outbox import EMPTY, outstanding
from rollups.runtime import block_of, escrows_in
from rollups.state import map_of
from tests.unit.rollups.chain import ALPHA, ATTESTERS, BETA, Replica
from tests.unit.rollups.histories import (
    Action,
    History,
    commitments,
    verify_both_or_neither,
    verify_conservation,
    verify_escrows_are_open,
)

NUMBERS = st.integers(0, 999)
ACTIONS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=60)


def random_actions(seed: int, count: int = 400) -> list[Action]:
    randomness = random.Random(seed)
    return [
        (randomness.randrange(1_000), randomness.randrange(1_000), randomness.randrange(1_000))
        for _ in range(count)
    ]


def verify(history: History) -> None:
    for replica in history.replicas.values():
        verify_conservation(replica.memory)
        verify_escrows_are_open(replica)
    verify_both_or_neither(history)


@given(ACTIONS)
@settings(max_examples=60)
def test_value_is_conserved_and_swaps_are_whole(actions: list[Action]) -> None:
    history = History()
    for action in actions:
        history.play([action])
        for replica in history.replicas.values():
            verify_conservation(replica.memory)
    history.finish()
    verify(history)
    for replica in history.replicas.values():
        assert not escrows_in(replica.memory.values.items()), "all swaps are over, so nothing is in escrow"


def test_histories_get_far() -> None:
    """The histories of this file show every end of a swap and most failures, or they would prove little."""
    reasons: Counter[OutcomeReason] = Counter()
    codes: Counter[ReceiptCode] = Counter()
    for seed in range(6):
        history = History()
        history.play(random_actions(seed))
        history.finish()
        verify(history)
        for record in history.decided.values():
            assert record.decision is not None
            reasons[record.decision.reason] += 1
            assert (record.phase == Phase.COMMITTED) == (record.decision.reason == OutcomeReason.NONE)
        for replica in history.replicas.values():
            codes.update(each.code for each in replica.receipts if isinstance(each, TransactionReceipt))
    assert reasons.keys() >= set(OutcomeReason) - {OutcomeReason.CROWDED_OUT}
    assert codes.keys() >= {
        ReceiptCode.OK,
        ReceiptCode.DUPLICATE,
        ReceiptCode.EXPIRED,
        ReceiptCode.INSUFFICIENT_FUNDS,
        ReceiptCode.UNKNOWN_ASSET,
        ReceiptCode.FAUCET_FORBIDDEN,
        ReceiptCode.NO_OPEN_SWAP,
        ReceiptCode.NOT_THE_SENDER,
        ReceiptCode.LEG_ALREADY_DECIDED,
        ReceiptCode.LOCK_REJECTED,
    }


@given(ACTIONS)
@settings(max_examples=30)
def test_a_replay_equals_what_happened(actions: list[Action]) -> None:
    history = History()
    history.play(actions)
    for name, live in history.replicas.items():
        replayed = Replica(history.chain.genesis, name)
        replayed.apply_all(history.chain.blocks)
        assert replayed.state.commitment == live.state.commitment
        assert replayed.memory == live.memory
        assert map_of(replayed.memory.values.items()).root == replayed.state.commitment.state_root


@given(ACTIONS, st.integers(1, 7))
@settings(max_examples=30)
def test_blocks_in_batches_equal_blocks_one_by_one(actions: list[Action], size: int) -> None:
    history = History()
    history.play(actions)
    live = history.replicas[ALPHA]
    batched = Replica(history.chain.genesis, ALPHA)
    blocks = history.chain.blocks
    for start in range(0, len(blocks), size):
        batch = Batch(batched.state, batched.memory)
        for followed in blocks[start : start + size]:
            batch.add(batch.execute(block_of(followed.block, ALPHA)), followed.header)
        batched.memory.apply(batch.delta().changes)
        batched.state = batch.state
    assert batched.state.commitment == live.state.commitment
    assert batched.memory == live.memory


@given(ACTIONS)
@settings(max_examples=30)
def test_the_outbox_kept_up_block_by_block_is_the_one_that_follows_from_the_state(
    actions: list[Action],
) -> None:
    history = History()
    history.play(actions)
    attester = ATTESTERS[BETA].public_key
    replica, outbox = Replica(history.chain.genesis, BETA), EMPTY
    for followed in history.chain.blocks:
        executed = replica.apply(followed.block)
        outbox = outstanding({**outbox, **executed.verdicts}, executed.after.register, attester)
        everything = escrows_in(replica.memory.values.items())
        assert outbox == outstanding(everything, executed.after.register, attester)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_hashes_in_memory_does_not_matter(seed: int) -> None:
    script = (
        "import json\n"
        "from tests.unit.rollups.histories import History, commitments\n"
        "from tests.unit.rollups.test_histories import random_actions\n"
        f"history = History(); history.play(random_actions({seed}, 150))\n"
        "print(json.dumps([each.hex() for each in commitments(history)]))"
    )
    found = []
    for hash_seed in ("0", "1", "4242"):
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    history = History()
    history.play(random_actions(seed, 150))
    assert found == [[each.hex() for each in commitments(history)]] * 3
