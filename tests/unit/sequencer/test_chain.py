"""The register and registry as admission and signing need them, live and rebuilt from a ledger."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from deploy.node.datadir import DurableCell
from deploy.node.failures import DataRefused
from deploy.node.seals import add_functions
from lockstep.attesters import AttesterSet
from lockstep.checkpoint import encode_checkpoint, sign_note
from lockstep.genesis import RollupDefinition, encode_rollup_definition
from lockstep.header import Tip, tip_of
from lockstep.order import Transaction, transaction_hash
from lockstep.register import RULES_KNOWN, genesis_register, restore
from lockstep.registry_entries import (
    Action,
    RegisterRollup,
    RegistryChange,
    RotateKey,
    SetRules,
    SignedBy,
    sign_change,
)
from lockstep.settlement_entries import encode_log_entry
from lockstep.types import LOG_NAMESPACE, REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height, Namespace, RollupId
from sequencer.admission import admit, open_namespaces
from sequencer.builder import Proposal, propose
from sequencer.chain import ChainState, load_chain
from sequencer.embedded import open_engine
from sequencer.ledger import encode_shares, open_ledger
from tests.reference.world import id_of, make_terms, open_entry, reveal_entry
from tests.unit.sequencer.chain import (
    ALPHA,
    ATTESTER,
    BETA,
    CHAIN,
    GENESIS,
    GOVERNANCE,
    SEQUENCER,
    SETTLEMENT,
    START,
    STRANGER,
    TIME_MS,
    admitted,
    bundle,
)

GAMMA = RollupId("gamma")
OPEN = open_namespaces(genesis_register(GENESIS).registry)
NEW_ROLLUP = RegisterRollup(
    encode_rollup_definition(RollupDefinition(GAMMA, AttesterSet(1, (ATTESTER.public_key,))))
)


def change(subject: str, action: Action, effective_height: int) -> bytes:
    made = RegistryChange(CHAIN, subject, 1, Height(effective_height), action)
    return sign_change(GOVERNANCE, made, SignedBy.GOVERNANCE)


def chain_of(entries: Sequence[tuple[Namespace, bytes] | None]) -> list[Proposal]:
    """Return a block for each entry, or with one of `alpha` for None."""
    made: list[Proposal] = []
    parent: Tip = START
    for number, entry in enumerate(entries):
        bundle = admitted(b"%d" % number)
        if entry is not None:
            # Past admission, which would not have let an unreadable one pass.
            transaction = Transaction(*entry)
            bundle = msgspec.structs.replace(
                bundle, transactions=(transaction,), hashes=(transaction_hash(*transaction),)
            )
        made.append(propose(parent, parent.time_ms + 100, [bundle]))
        parent = tip_of(made[-1].block.header, made[-1].block.hash)
    return made


TERMS = make_terms(chain=CHAIN, lock_by_ms=TIME_MS + 10_000, expires_ms=TIME_MS + 20_000)
NOTE = sign_note(
    encode_checkpoint("test.example/log", 17, bytes(32)),
    name="test.example/log",
    public_key=SETTLEMENT.public_key,
    sign=SETTLEMENT.sign_raw,
)
BLOCKS = chain_of(
    [
        None,
        (REGISTRY_NAMESPACE, change("gamma", NEW_ROLLUP, 4)),
        (REGISTRY_NAMESPACE, b"\x01not readable"),
        (SWAP_NAMESPACE, open_entry(TERMS)),
        (REGISTRY_NAMESPACE, change("sequencer", RotateKey(STRANGER.public_key), 7)),
        (SWAP_NAMESPACE, reveal_entry(TERMS)),
        (LOG_NAMESPACE, encode_log_entry(NOTE)),
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


async def test_changes_hold_from_their_heights() -> None:
    state = ChainState(genesis_register(GENESIS))
    assert seen(state) == (False, SEQUENCER.public_key, SEQUENCER.public_key)
    for proposal, (height, is_open, signs, signs_next) in zip(BLOCKS, EXPECTED, strict=True):
        await state.apply(proposal.block)
        assert state.height == height
        assert seen(state) == (is_open, signs.public_key, signs_next.public_key)
    assert {ALPHA, BETA} <= set(state.namespaces)


@pytest.mark.parametrize("count", range(len(BLOCKS) + 1))
async def test_rebuilt_from_the_ledger_it_is_the_same(tmp_path: Path, count: int) -> None:
    with DurableCell(tmp_path / "cell") as cell:
        async with (
            open_ledger(tmp_path / "ledger.sqlite") as ledger,
            open_engine(ledger, cell, SEQUENCER, genesis=START, check_key=lambda *_: None) as (engine, _),
        ):
            live = await load_chain(ledger, GENESIS)
            for proposal in BLOCKS[:count]:
                await engine.order(proposal)
                await live.apply(proposal.block)
            rebuilt = await load_chain(ledger, GENESIS)
            table = await ledger.register_rows()
    assert (rebuilt.height, seen(rebuilt)) == (count, seen(live))
    assert (rebuilt.register.root, rebuilt.log_size) == (live.register.root, live.log_size)
    assert live.log_size == (17 if count == len(BLOCKS) else 0)
    if count:
        # The register of the block before is stored, so that one block was replayed.
        assert restore(GENESIS, table).height == count - 1


async def test_without_stored_rows_everything_is_replayed_and_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    async with open_ledger(path) as ledger:
        live = await load_chain(ledger, GENESIS)
        for proposal in BLOCKS:
            await ledger.append(proposal, encode_shares(proposal.block), None)
            await live.apply(proposal.block)
    with sqlite3.connect(path) as database:
        [(meta,)] = database.execute("SELECT value FROM register WHERE key = x'6d'").fetchall()
        database.execute("DELETE FROM register")
    database.close()
    async with open_ledger(path) as ledger:
        rebuilt = await load_chain(ledger, GENESIS)
        assert rebuilt.register.root == live.register.root
        # The next block stores it all.
        after = propose(rebuilt.register.tip, rebuilt.register.time_ms + 1, [])
        await ledger.append(after, {}, None)
        assert restore(GENESIS, await ledger.register_rows()).root == live.register.root
    for value, reason in ((meta[:-1], "damaged"), (meta[:41] + bytes(32) + meta[73:], "another block 6")):
        with sqlite3.connect(path) as database:
            add_functions(database)
            database.execute(
                "UPDATE register SET value = ?1, seal = seal(key, ?1) WHERE key = x'6d'", (value,)
            )
        database.close()
        async with open_ledger(path) as ledger:
            with pytest.raises(DataRefused, match=reason):
                await load_chain(ledger, GENESIS)


async def test_a_block_with_many_entries_is_applied_as_any_other() -> None:
    swaps = [
        make_terms(f"{each}", chain=CHAIN, lock_by_ms=TIME_MS + 10_000, expires_ms=TIME_MS + 20_000)
        for each in range(64)
    ]
    opens = [admit(CHAIN, bundle(open_entry(each), namespace=SWAP_NAMESPACE), OPEN) for each in swaps]
    state = ChainState(genesis_register(GENESIS))
    await state.apply(propose(START, TIME_MS + 1, opens).block)
    assert list(state.register.records) == [id_of(each) for each in swaps]


async def test_rules_that_it_does_not_know_are_seen_before_their_first_block() -> None:
    state = ChainState(genesis_register(GENESIS))
    made = chain_of([(REGISTRY_NAMESPACE, change("rules", SetRules(RULES_KNOWN + 1), 3)), None])
    versions = []
    for proposal in made:
        await state.apply(proposal.block)
        versions.append(state.unknown_rules)
    assert versions == [None, RULES_KNOWN + 1]
