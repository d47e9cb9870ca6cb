"""What entries say in words: each kind once, with names and amounts, and what cannot be read."""

from collections.abc import Mapping

import pytest

from deploy.commands.words import Words
from lockstep.attesters import AttesterSet
from lockstep.checkpoint import encode_checkpoint, sign_note
from lockstep.genesis import Quota
from lockstep.registry_entries import (
    Action,
    Drain,
    RegistryChange,
    RotateAttester,
    RotateKey,
    SetAttesters,
    SetQuota,
    SetRules,
    SignedBy,
    Veto,
    sign_change,
)
from lockstep.settlement_entries import (
    Evidence,
    EvidenceKind,
    GenesisEntry,
    HeaderRange,
    encode_log_entry,
    encode_proven_header,
    encode_settlement_entry,
)
from lockstep.signing import SigningKey
from lockstep.swap_entries import (
    Attestation,
    AttestItem,
    RejectReason,
    Verdict,
    sign_attestation,
)
from lockstep.transactions import Faucet, Lock, Transfer, sign_transaction
from lockstep.types import (
    LOG_NAMESPACE,
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    HeaderHash,
    Height,
    Namespace,
)
from tests.unit.rollups.chain import ALPHA, ANN, ATTESTERS, BOB, Chain, key, make_swap

CHAIN = Chain()
SWAP = make_swap(CHAIN)
ID = SWAP.id.hex()
WORDS = Words(CHAIN.genesis, {ANN.public_key: "ann", BOB.public_key: "bob"})
SHORT = key("other").public_key.hex()[:12]


def transaction(by: SigningKey, call: Transfer | Faucet | Lock) -> bytes:
    return sign_transaction(
        by, chain=CHAIN.genesis.chain_id, rollup=ALPHA, valid_until_ms=1, salt=bytes(16), call=call
    )


def attested(*items: AttestItem) -> bytes:
    by = ATTESTERS[ALPHA]
    return sign_attestation(
        by,
        Attestation(
            CHAIN.genesis.chain_id, ALPHA, by.public_key, Height(1), HeaderHash(bytes(32)), tuple(items)
        ),
    )


def changed(subject: str, action: Action, signed_by: SignedBy = SignedBy.GOVERNANCE) -> bytes:
    change = RegistryChange(CHAIN.genesis.chain_id, subject, 3, Height(50), action)
    return sign_change(key("governance"), change, signed_by)


OTHER, THIRD = key("other").public_key, ANN.public_key
BEHIND = ", its change 3, from block 50 on, signed by GOVERNANCE"

SAID: Mapping[str, tuple[Namespace, bytes, str]] = {
    "open": (
        SWAP_NAMESPACE,
        SWAP.open[1],
        f"opens swap {ID}: ann gives 1.00 gold on alpha to bob; bob gives 0.40 gold on beta to ann; locked "
        f"before {SWAP.terms.lock_by_ms} ms, revealed before {SWAP.terms.expires_ms} ms",
    ),
    "attest": (
        SWAP_NAMESPACE,
        attested(
            AttestItem(SWAP.id, 0, Verdict.LOCKED, RejectReason.NONE),
            AttestItem(SWAP.id, 1, Verdict.REJECTED, RejectReason.INSUFFICIENT_FUNDS),
        ),
        f"alpha attests by {ATTESTERS[ALPHA].public_key.hex()[:12]}: leg 0 of swap {ID} is LOCKED, leg 1 of "
        f"swap {ID} is REJECTED (INSUFFICIENT_FUNDS)",
    ),
    "reveal": (SWAP_NAMESPACE, SWAP.reveal[1], f"reveals the preimage of swap {ID}"),
    "cancel": (SWAP_NAMESPACE, SWAP.cancel[1], f"cancels swap {ID}"),
    "drain": (REGISTRY_NAMESPACE, changed("alpha", Drain()), f"DRAIN of alpha{BEHIND}"),
    "rotate": (
        REGISTRY_NAMESPACE,
        changed("sequencer", RotateKey(OTHER)),
        f"ROTATE_KEY of sequencer to {SHORT}{BEHIND}",
    ),
    "rotate attester": (
        REGISTRY_NAMESPACE,
        changed("alpha", RotateAttester(THIRD, OTHER)),
        f"ROTATE_ATTESTER of alpha from ann to {SHORT}{BEHIND}",
    ),
    "set": (
        REGISTRY_NAMESPACE,
        changed("alpha", SetAttesters(AttesterSet(1, (OTHER, THIRD)))),
        f"SET_ATTESTERS of alpha to 1 of {SHORT}, ann{BEHIND}",
    ),
    "veto": (REGISTRY_NAMESPACE, changed("alpha", Veto(2)), f"VETO of alpha against change 2{BEHIND}"),
    "rules": (REGISTRY_NAMESPACE, changed("rules", SetRules(2)), f"SET_RULES of rules to version 2{BEHIND}"),
    "quota": (
        REGISTRY_NAMESPACE,
        changed("alpha", SetQuota(Quota(5, 60))),
        f"SET_QUOTA of alpha to 5 transactions and 60 bytes a second{BEHIND}",
    ),
    "checkpoint": (
        LOG_NAMESPACE,
        encode_log_entry(
            sign_note(
                encode_checkpoint("example.org/test", 7, bytes(32)),
                name="example.org/test",
                public_key=OTHER,
                sign=key("other").sign_raw,
            )
        ),
        f"checkpoint of example.org/test: 7 entries, root {bytes(32).hex()}",
    ),
    "transfer": (
        Namespace(ALPHA),
        transaction(ANN, Transfer(b"gold", OTHER, 525)),
        f": ann transfers 5.25 gold on alpha to {SHORT}",
    ),
    "faucet": (
        Namespace(ALPHA),
        transaction(BOB, Faucet(b"unknown", 5)),
        ": bob takes 5 base units of unknown on alpha from the faucet",
    ),
    "lock": (Namespace(ALPHA), transaction(ANN, Lock(SWAP.id, 0)), f": ann locks leg 0 of swap {ID}"),
    "nothing": (SWAP_NAMESPACE, b"", "cannot be read: "),
    "noise": (REGISTRY_NAMESPACE, b"\xff" * 40, "cannot be read: version "),
    "no checkpoint": (LOG_NAMESPACE, b"\x01no note", "cannot be read: "),
    "no transaction": (Namespace(ALPHA), bytes(10), "cannot be read: signature "),
}


@pytest.mark.parametrize(("namespace", "payload", "said"), SAID.values(), ids=SAID)
def test_an_entry_in_words(namespace: Namespace, payload: bytes, said: str) -> None:
    words = WORDS.entry(namespace, payload)
    if said.startswith(":"):
        head, colon, tail = words.partition(":")
        assert head.startswith("transaction ")
        assert colon + tail == said
    elif said.startswith("cannot"):
        assert words.startswith(said)
    else:
        assert words == said


def test_entries_of_the_log_in_words() -> None:
    genesis = GenesisEntry(CHAIN.genesis.chain_id, "example.org/test")
    assert WORDS.logged(encode_settlement_entry(genesis)) == (
        f"genesis: the log example.org/test is for chain {CHAIN.genesis.chain_id.hex()}"
    )
    chain = Chain()
    for _ in range(3):
        chain.block()
    first, _, third = (followed.header for followed in chain.blocks)
    anchored = HeaderRange(Height(1), HeaderHash(CHAIN.genesis.chain_id), third)
    assert WORDS.logged(encode_settlement_entry(anchored)) == "headers 1 to 3 are anchored"
    evidence = Evidence(EvidenceKind.HEADERS, encode_proven_header(first), encode_proven_header(third))
    assert WORDS.logged(encode_settlement_entry(evidence)) == (
        "evidence: two HEADERS that contradict each other"
    )
