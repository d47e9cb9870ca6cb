"""Evidence that somebody brings: what convicts, what does not, and that once is enough."""

import pytest

from lockstep.errors import BadSignature, LockstepError, Malformed, UnknownKey, WrongChain
from lockstep.settlement_entries import EvidenceKind, encode_proven_header
from lockstep.settlement_log import read_candidate
from lockstep.swap_entries import RejectReason, Verdict, encode_reveal
from lockstep.types import ChainId, Height, SwapId
from tests.unit.settlement.chain import (
    Chain,
    Judged,
    attestation,
    evidence,
    headers_evidence,
    key_of,
    resigned,
    tampered,
)

OTHER_CHAIN = ChainId(b"\x77" * 32)
HEADERS, ATTESTATIONS = EvidenceKind.HEADERS, EvidenceKind.ATTESTATIONS
COMMITMENTS, ROOTS = EvidenceKind.COMMITMENTS, EvidenceKind.REGISTER_ROOTS
LOCKED, REJECTED = Verdict.LOCKED, Verdict.REJECTED

CHAIN, FORK = Chain(), Chain(fork=1)


def pair(kind: EvidenceKind, first: bytes, second: bytes) -> tuple[EvidenceKind, bytes, bytes]:
    return kind, first, second


CONVICTS = {
    "headers": pair(HEADERS, encode_proven_header(CHAIN.header(7)), encode_proven_header(FORK.header(7))),
    "verdicts": pair(
        ATTESTATIONS, attestation("a0", LOCKED, chain=CHAIN), attestation("a0", REJECTED, chain=CHAIN)
    ),
    "commitments": pair(COMMITMENTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a0", 7, state=1)),
    "commitments on two forks": pair(COMMITMENTS, CHAIN.commitment("a0", 7), FORK.commitment("a0", 7)),
    "register roots": pair(ROOTS, CHAIN.commitment("a0", 7), CHAIN.commitment("b0", 7, register=1)),
    "register roots in one rollup": pair(
        ROOTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a1", 7, register=1)
    ),
}

MEANS_NOTHING = {
    "headers of two heights": pair(
        HEADERS, encode_proven_header(CHAIN.header(7)), encode_proven_header(FORK.header(8))
    ),
    "one header with two proofs": pair(
        HEADERS,
        encode_proven_header(CHAIN.header(7)),
        encode_proven_header(Chain(sequencer="a0").header(7)),
    ),
    "no attestations": pair(
        ATTESTATIONS, attestation("a0", LOCKED, chain=CHAIN), encode_reveal(SwapId(bytes(32)), bytes(32))
    ),
    "verdicts of two keys": pair(
        ATTESTATIONS, attestation("a0", LOCKED, chain=CHAIN), attestation("a1", REJECTED, chain=CHAIN)
    ),
    "verdicts on two legs": pair(
        ATTESTATIONS,
        attestation("a0", LOCKED, chain=CHAIN),
        attestation("a0", REJECTED, chain=CHAIN, leg=1),
    ),
    "one verdict with two reasons": pair(
        ATTESTATIONS,
        attestation("a0", REJECTED, chain=CHAIN),
        attestation("a0", REJECTED, chain=CHAIN, reason=RejectReason.UNKNOWN_ASSET),
    ),
    "verdicts at two heights, between which the swap may have been opened again": pair(
        ATTESTATIONS,
        attestation("a0", LOCKED, chain=CHAIN),
        attestation("a0", REJECTED, chain=CHAIN, height=8),
    ),
    "verdicts on two forks": pair(
        ATTESTATIONS, attestation("a0", LOCKED, chain=CHAIN), attestation("a0", REJECTED, chain=FORK)
    ),
    "commitments at two heights": pair(
        COMMITMENTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a0", 8, state=1)
    ),
    "commitments of two attesters": pair(
        COMMITMENTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a1", 7, state=1)
    ),
    "the same commitment with another before it": pair(
        COMMITMENTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a0", 7, CHAIN.commitment("a0", 3))
    ),
    "no commitments": pair(COMMITMENTS, CHAIN.range(1, 4), CHAIN.range(1, 3)),
    "register roots of two heights": pair(
        ROOTS, CHAIN.commitment("a0", 7), CHAIN.commitment("b0", 8, register=1)
    ),
    "register roots of two forks": pair(
        ROOTS, CHAIN.commitment("a0", 7), FORK.commitment("b0", 7, register=1)
    ),
    "one register root": pair(ROOTS, CHAIN.commitment("a0", 7), CHAIN.commitment("b0", 7)),
    "register roots of one attester": pair(
        ROOTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a0", 7, register=1)
    ),
}

CONVICTS_NOBODY: dict[str, tuple[tuple[EvidenceKind, bytes, bytes], type[LockstepError]]] = {
    "a header that the sequencer did not sign": (
        pair(
            HEADERS,
            encode_proven_header(CHAIN.header(7)),
            encode_proven_header(Chain(fork=1, sequencer="a0").header(7)),
        ),
        BadSignature,
    ),
    "a header of another chain": (
        pair(
            HEADERS,
            encode_proven_header(CHAIN.header(7)),
            encode_proven_header(resigned(CHAIN.header(7), chain=OTHER_CHAIN)),
        ),
        WrongChain,
    ),
    "a verdict that the attester did not sign": (
        pair(
            ATTESTATIONS,
            attestation("a0", LOCKED, chain=CHAIN),
            attestation("a0", REJECTED, chain=CHAIN, key=key_of("a1")),
        ),
        BadSignature,
    ),
    "verdicts of a stranger": (
        pair(ATTESTATIONS, attestation("x", LOCKED, chain=CHAIN), attestation("x", REJECTED, chain=CHAIN)),
        UnknownKey,
    ),
    "a verdict on another chain": (
        pair(
            ATTESTATIONS,
            attestation("a0", LOCKED, chain=CHAIN),
            attestation("a0", REJECTED, chain=CHAIN, chain_id=OTHER_CHAIN),
        ),
        WrongChain,
    ),
    "a commitment that the attester did not sign": (
        pair(COMMITMENTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a0", 7, state=1, key=key_of("a1"))),
        BadSignature,
    ),
    "commitments of a stranger": (
        pair(COMMITMENTS, CHAIN.commitment("x", 7), CHAIN.commitment("x", 7, state=1)),
        UnknownKey,
    ),
    "a commitment on another chain": (
        pair(COMMITMENTS, CHAIN.commitment("a0", 7), CHAIN.commitment("a0", 7, chain=OTHER_CHAIN, state=1)),
        WrongChain,
    ),
    "a register root that the attester did not sign": (
        pair(ROOTS, CHAIN.commitment("a0", 7), CHAIN.commitment("b0", 7, register=1, key=key_of("a1"))),
        BadSignature,
    ),
    "a register root of a stranger": (
        pair(ROOTS, CHAIN.commitment("a0", 7), CHAIN.commitment("x", 7, register=1)),
        UnknownKey,
    ),
}


@pytest.fixture
def judged() -> Judged:
    """A log that anchors heights 1 to 8."""
    judged = Judged()
    judged.give_all([CHAIN.range(1, 4), CHAIN.range(5, 8)])
    return judged


@pytest.mark.parametrize("case", CONVICTS.values(), ids=CONVICTS)
def test_what_convicts(judged: Judged, case: tuple[EvidenceKind, bytes, bytes]) -> None:
    kind, first, second = case
    assert judged.give(evidence(kind, first, second)) == 3
    assert judged.log.evidence_count == 1
    assert judged.give(evidence(kind, first, second)) == 3
    assert judged.give(evidence(kind, second, first)) == 3, "the other way round it says the same"


@pytest.mark.parametrize("case", CONVICTS.values(), ids=CONVICTS)
def test_nothing_has_to_be_anchored_first(case: tuple[EvidenceKind, bytes, bytes]) -> None:
    assert Judged().give(evidence(*case)) == 1


@pytest.mark.parametrize("case", MEANS_NOTHING.values(), ids=MEANS_NOTHING)
def test_what_is_no_contradiction(case: tuple[EvidenceKind, bytes, bytes]) -> None:
    with pytest.raises(Malformed, match="evidence"):
        read_candidate(evidence(*case))


@pytest.mark.parametrize(("case", "error"), CONVICTS_NOBODY.values(), ids=CONVICTS_NOBODY)
@pytest.mark.parametrize("is_swapped", [False, True])
def test_what_convicts_nobody(
    judged: Judged, case: tuple[EvidenceKind, bytes, bytes], error: type[LockstepError], is_swapped: bool
) -> None:
    kind, first, second = case
    entry = evidence(kind, second, first) if is_swapped else evidence(kind, first, second)
    assert isinstance(judged.give(entry), error)
    assert judged.log.size == 3


def test_verdicts_on_one_fork_convict_wherever_it_is(judged: Judged) -> None:
    first, second = (attestation("a0", each, chain=FORK, height=3) for each in (LOCKED, REJECTED))
    assert judged.give(evidence(ATTESTATIONS, first, second)) == 3


def test_evidence_that_the_log_found_is_not_taken_again(judged: Judged) -> None:
    judged.give(FORK.range(1, 4))
    assert judged.give(headers_evidence(Chain(fork=2).header(4), FORK.header(4))) == 3
    assert judged.log.size == 4


def test_statements_are_judged_by_their_bytes(judged: Judged) -> None:
    entry = headers_evidence(CHAIN.header(7), FORK.header(7))
    assert isinstance(judged.give(tampered(entry)), BadSignature)
    other = resigned(FORK.header(7), height=Height(6))
    with pytest.raises(Malformed):
        read_candidate(headers_evidence(CHAIN.header(7), other))
