"""The auditor sees what does not add up, and a settlement log that is not what it should be."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.devnet.audit import Holdings, PromiseBroken, _Log, verify_conserved
from deploy.devnet.network import ALPHA, create_network
from deploy.node.chain_files import load_key
from lockstep.errors import BadSignature
from lockstep.genesis import Genesis
from lockstep.header import Header, encode_header, header_hash, sign_header
from lockstep.merkle import leaf_hash, root_of
from lockstep.settlement_entries import (
    Evidence,
    EvidenceKind,
    GenesisEntry,
    HeaderRange,
    ProvenHeader,
    encode_proven_header,
    encode_settlement_entry,
)
from lockstep.signing import SigningKey
from lockstep.types import HeaderHash, Height, PublicKey

ALICE, BOB = PublicKey(bytes([1] * 32)), PublicKey(bytes([2] * 32))
HELD = Holdings(ALPHA, "gold", height=3, supply=10, balances={ALICE: 4, BOB: 5}, escrow=1)


def test_what_adds_up_passes() -> None:
    verify_conserved(HELD, supply=10)


@pytest.mark.parametrize(
    "broken",
    [
        replace(HELD, escrow=0),
        replace(HELD, escrow=2),
        replace(HELD, balances={ALICE: 4, BOB: 6}),
        replace(HELD, supply=11),
        replace(HELD, supply=11, escrow=2),
    ],
)
def test_what_does_not_add_up_is_told(broken: Holdings) -> None:
    with pytest.raises(PromiseBroken, match="gold on alpha is not conserved at height 3"):
        verify_conserved(broken, supply=10)


@pytest.fixture
def genesis(tmp_path: Path) -> Genesis:
    return create_network(tmp_path / "network").genesis


@pytest.fixture
def sequencer(genesis: Genesis, tmp_path: Path) -> SigningKey:
    return load_key(tmp_path / "network" / "keys" / "sequencer.pem")


def header(genesis: Genesis, key: SigningKey, height: int, parent: bytes) -> ProvenHeader:
    encoded = encode_header(
        Header(
            chain=genesis.chain_id,
            height=Height(height),
            parent_hash=HeaderHash(parent),
            time_ms=genesis.genesis_time_ms + height,
            data_root=root_of([]),
            namespace_count=0,
            bundle_count=0,
            transaction_count=0,
            payload_bytes=0,
        )
    )
    return ProvenHeader(encoded, sign_header(key, encoded))


def test_a_log_of_the_chain_is_read(genesis: Genesis, sequencer: SigningKey) -> None:
    first = header(genesis, sequencer, 1, genesis.chain_id)
    second = header(genesis, sequencer, 2, header_hash(first.encoded))
    entries = [
        encode_settlement_entry(GenesisEntry(genesis.chain_id, genesis.settlement.origin)),
        encode_settlement_entry(HeaderRange(Height(1), HeaderHash(genesis.chain_id), first)),
        encode_settlement_entry(HeaderRange(Height(2), header_hash(first.encoded), second)),
    ]
    log = _Log(genesis)
    for index, entry in enumerate(entries):
        log.add(index, entry)
    assert log.tip_height == 2
    assert log.tree.root() == root_of(list(map(leaf_hash, entries)))


def test_a_gap_another_chain_and_evidence_do_not_belong_there(
    genesis: Genesis, sequencer: SigningKey
) -> None:
    first = header(genesis, sequencer, 1, genesis.chain_id)
    other = header(genesis, sequencer, 1, bytes([7] * 32))
    third = header(genesis, sequencer, 3, bytes([7] * 32))
    for entry in (
        GenesisEntry(type(genesis.chain_id)(bytes(32)), genesis.settlement.origin),
        HeaderRange(Height(3), HeaderHash(bytes([7] * 32)), third),
        Evidence(EvidenceKind.HEADERS, encode_proven_header(first), encode_proven_header(other)),
    ):
        with pytest.raises(PromiseBroken, match="does not belong there"):
            _Log(genesis).add(0, encode_settlement_entry(entry))
    forged = header(genesis, SigningKey(bytes(32)), 1, genesis.chain_id)
    with pytest.raises(BadSignature):
        _Log(genesis).add(
            0, encode_settlement_entry(HeaderRange(Height(1), HeaderHash(genesis.chain_id), forged))
        )
    _Log(genesis).add(0, encode_settlement_entry(HeaderRange(Height(1), HeaderHash(genesis.chain_id), first)))
