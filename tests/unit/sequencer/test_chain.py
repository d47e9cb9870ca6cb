"""The registry as admission and signing need it, live and rebuilt from a ledger."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.node.datadir import DurableCell
from lockstep.attesters import AttesterSet
from lockstep.genesis import RollupDefinition, encode_rollup_definition
from lockstep.header import Tip, tip_of
from lockstep.order import Transaction, transaction_hash
from lockstep.registry_entries import (
    Action,
    RegisterRollup,
    RegistryChange,
    RotateKey,
    SignedBy,
    sign_change,
)
from lockstep.types import REGISTRY_NAMESPACE, Height, RollupId
from sequencer.builder import Proposal, propose
from sequencer.chain import ChainState, load_chain
from sequencer.embedded import open_engine
from sequencer.ledger import open_ledger
from tests.unit.sequencer.chain import (
    ALPHA,
    ATTESTER,
    BETA,
    CHAIN,
    GENESIS,
    GOVERNANCE,
    SEQUENCER,
    START,
    STRANGER,
    admitted,
)

GAMMA = RollupId("gamma")
NEW_ROLLUP = RegisterRollup(
    encode_rollup_definition(RollupDefinition(GAMMA, AttesterSet(1, (ATTESTER.public_key,))))
)


def change(subject: str, action: Action, effective_height: int) -> bytes:
    made = RegistryChange(CHAIN, subject, 1, Height(effective_height), action)
    return sign_change(GOVERNANCE, made, SignedBy.GOVERNANCE)


def chain_of(entries: Sequence[bytes | None]) -> list[Proposal]:
    """Return a block for each entry of `_registry`, or with one of `alpha` for None."""
    made: list[Proposal] = []
    parent: Tip = START
    for number, entry in enumerate(entries):
        bundle = admitted(b"%d" % number)
        if entry is not None:
            # Past admission, which would not have let an unreadable one pass.
            transaction = Transaction(REGISTRY_NAMESPACE, entry)
            bundle = replace(bundle, transactions=(transaction,), hashes=(transaction_hash(*transaction),))
        made.append(propose(parent, parent.time_ms + 100, [bundle]))
        parent = tip_of(made[-1].block.header, made[-1].block.hash)
    return made


BLOCKS = chain_of(
    [
        None,
        change("gamma", NEW_ROLLUP, 4),
        b"\x01not readable",
        None,
        change("sequencer", RotateKey(STRANGER.public_key), 7),
        None,
        None,
    ]
)
EXPECTED = [
    # Height, whether gamma is open after the block, who signs it, who signs the next.
    (1, False, SEQUENCER, SEQUENCER),
    (2, False, SEQUENCER, SEQUENCER),
    (3, False, SEQUENCER, SEQUENCER),
    (4, True, SEQUENCER, SEQUENCER),
    (5, True, SEQUENCER, SEQUENCER),
    (6, True, SEQUENCER, STRANGER),
    (7, True, STRANGER, STRANGER),
]


def seen(state: ChainState) -> tuple[bool, bytes, bytes]:
    return "gamma" in state.namespaces, state.head_key, state.next_key


def test_changes_hold_from_their_heights() -> None:
    state = ChainState(GENESIS)
    assert seen(state) == (False, SEQUENCER.public_key, SEQUENCER.public_key)
    for proposal, (height, is_open, signs, signs_next) in zip(BLOCKS, EXPECTED, strict=True):
        state.apply(proposal.block)
        assert state.height == height
        assert seen(state) == (is_open, signs.public_key, signs_next.public_key)
    assert {ALPHA, BETA} <= set(state.namespaces)


@pytest.mark.parametrize("count", range(len(BLOCKS) + 1))
async def test_rebuilt_from_the_ledger_it_is_the_same(tmp_path: Path, count: int) -> None:
    live = ChainState(GENESIS)
    with DurableCell(tmp_path / "cell") as cell:
        async with (
            open_ledger(tmp_path / "ledger.sqlite") as ledger,
            open_engine(ledger, cell, SEQUENCER, genesis=START, check_key=lambda *_: None) as (engine, _),
        ):
            for proposal in BLOCKS[:count]:
                await engine.order(proposal)
                live.apply(proposal.block)
            rebuilt = await load_chain(ledger, GENESIS)
    assert (rebuilt.height, seen(rebuilt)) == (count, seen(live))
