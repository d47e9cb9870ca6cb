"""The log's rules for genesis, header ranges and commitments: valid, invalid, and valid becoming invalid."""

from dataclasses import replace

import pytest

from lockstep.commitment import commitment_hash
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    LockstepError,
    NotYet,
    UnknownKey,
    WrongChain,
)
from lockstep.header import encode_header, genesis_tip
from lockstep.registry_entries import Drain
from lockstep.settlement_entries import (
    Evidence,
    EvidenceKind,
    GenesisEntry,
    HeaderRange,
    ProvenHeader,
    decode_settlement_entry,
    encode_proven_header,
    encode_settlement_entry,
    sign_commitment,
)
from lockstep.settlement_log import empty_log, genesis_entry, read_candidate, resumed, step
from lockstep.types import ChainId, HeaderHash, Height
from tests.unit.settlement.chain import (
    CHAIN,
    GENESIS,
    INTERVAL,
    Chain,
    Judged,
    key_of,
    posted_of,
    registration,
    resigned,
    tampered,
)

OTHER_CHAIN = ChainId(b"\x77" * 32)


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def judged() -> Judged:
    return Judged()


def refused(judged: Judged, entry: bytes, error: type[LockstepError], *texts: str) -> LockstepError:
    """Give an entry that must be refused without a trace, and return the error."""
    log, entries, names = judged.log, list(judged.entries), dict(judged.names)
    answer = judged.give(entry)
    assert isinstance(answer, error), answer
    assert all(text in answer.message for text in texts), answer.message
    assert (judged.log, judged.entries, judged.names) == (log, entries, names)
    return answer


# --- genesis ----------------------------------------------------------------------------------------------


def test_a_log_starts_with_its_genesis_entry(judged: Judged) -> None:
    assert judged.entries == [genesis_entry(GENESIS)]
    assert (judged.log.size, judged.log.tip) == (1, genesis_tip(CHAIN, 1_000))


def test_the_genesis_entry_again_is_entry_0(judged: Judged) -> None:
    assert judged.give(genesis_entry(GENESIS)) == 0


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (GenesisEntry(OTHER_CHAIN, GENESIS.settlement.origin), WrongChain),
        (GenesisEntry(CHAIN, "another.example/log"), Discontinuous),
    ],
)
def test_no_other_genesis_entry_is_taken(
    judged: Judged, entry: GenesisEntry, error: type[LockstepError]
) -> None:
    refused(judged, encode_settlement_entry(entry), error)
    answer = step(
        empty_log(GENESIS), lambda _name: None, read_candidate(encode_settlement_entry(entry))
    ).answer
    assert isinstance(answer, error)


def test_nothing_comes_before_the_genesis_entry(chain: Chain) -> None:
    done = step(empty_log(GENESIS), lambda _name: None, read_candidate(chain.range(1, 4)))
    assert isinstance(done.answer, Discontinuous)
    assert done.appended == ()


# --- header ranges ----------------------------------------------------------------------------------------


def test_ranges_continue_each_other(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.range(5, 5), chain.range(6, 8), chain.range(9, 10)])
    assert (judged.log.tip.height, judged.log.tip.hash) == (10, chain.hash(10))
    assert judged.log.tip.time_ms == 2_000


def test_a_range_is_there_once(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.range(5, 8)])
    assert judged.give(chain.range(1, 4)) == 1
    assert judged.give(chain.range(5, 8)) == 2
    assert judged.log.size == 3


def test_a_range_with_the_same_last_header_is_there(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 2), chain.range(3, 4)])
    assert judged.give(chain.range(1, 4)) == 2


@pytest.mark.parametrize(("first", "last"), [(2, 4), (1, 5), (1, 8), (5, 8)])
def test_the_first_range_starts_at_1_and_ends_by_the_interval(
    judged: Judged, chain: Chain, first: int, last: int
) -> None:
    refused(judged, chain.range(first, last), Discontinuous)


def test_no_range_passes_over_a_multiple_of_the_interval(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 3)])
    refused(judged, chain.range(4, INTERVAL + 1), Discontinuous, "next multiple of 4, 4")
    judged.give_all([chain.range(4, INTERVAL), chain.range(INTERVAL + 1, 2 * INTERVAL)])


def test_ranges_neither_overlap_nor_leave_a_gap(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 2)])
    refused(judged, chain.range(2, 3), Discontinuous, "starts at height 2, anchored is 2")
    refused(judged, chain.range(4, 4), Discontinuous, "starts at height 4, anchored is 2")


def test_a_range_continues_the_anchored_hash(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 2)])
    refused(judged, Chain(fork=1).range(3, 4), Discontinuous, "continues")


def test_a_range_that_ends_inside_of_another_cannot_be_compared(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4)])
    refused(judged, chain.range(1, 3), Discontinuous, "inside of a range")


def test_a_range_needs_the_sequencers_signature(judged: Judged, chain: Chain) -> None:
    refused(judged, tampered(chain.range(1, 4)), BadSignature)
    refused(judged, Chain(sequencer="a0").range(1, 4), BadSignature)
    judged.give_all([chain.range(1, 4)])
    refused(judged, tampered(Chain(fork=1).range(1, 4)), BadSignature)


def test_a_range_is_of_this_chain(judged: Judged, chain: Chain) -> None:
    last = resigned(chain.header(4), chain=OTHER_CHAIN)
    entry = HeaderRange(Height(2), chain.hash(1), last)
    refused(judged, encode_settlement_entry(entry), WrongChain)


@pytest.mark.parametrize(
    ("time_ms", "is_valid"), [(1_003, False), (1_004, True), (1_000 + 8_000, True), (1_000 + 8_001, False)]
)
def test_log_time_advances_within_bounds_for_each_block(
    judged: Judged, chain: Chain, time_ms: int, is_valid: bool
) -> None:
    entry = HeaderRange(Height(1), HeaderHash(CHAIN), resigned(chain.header(4), time_ms=time_ms))
    answer = judged.give(encode_settlement_entry(entry))
    assert isinstance(answer, int if is_valid else Discontinuous)


def test_another_header_at_an_anchored_height_is_evidence(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.range(5, 8)])
    fork = Chain(fork=1)
    answer = judged.give(fork.range(1, 4))
    assert isinstance(answer, Contradiction)
    assert "entry 3" in answer.evidence
    expected = Evidence(
        EvidenceKind.HEADERS, encode_proven_header(chain.header(4)), encode_proven_header(fork.header(4))
    )
    assert decode_settlement_entry(judged.entries[3]) == expected
    assert (judged.log.evidence_count, judged.log.tip.hash) == (1, chain.hash(8))


def test_one_piece_of_evidence_for_a_height(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4)])
    judged.give(Chain(fork=1).range(1, 4))
    again = refused(judged, Chain(fork=2).range(1, 4), Contradiction)
    assert isinstance(again, Contradiction)
    assert "entry 2" in again.evidence
    refused(judged, Chain(fork=1).range(1, 4), Contradiction)


# --- commitments ------------------------------------------------------------------------------------------


def test_commitments_of_one_attester_continue_each_other(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.range(5, 8), chain.range(9, 12)])
    first = chain.commitment("b0", 4)
    second = chain.commitment("b0", 12, first)
    judged.give_all([first, second])
    assert judged.give(first) == 4
    refused(judged, chain.commitment("b0", 8, first), Discontinuous, "as the one before")


def test_a_commitment_names_the_one_before(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.range(5, 8)])
    first = chain.commitment("b0", 4)
    refused(judged, chain.commitment("b0", 8, first), Discontinuous)
    judged.give_all([first])
    refused(judged, chain.commitment("b0", 8), Discontinuous)
    refused(judged, chain.commitment("b0", 8, chain.commitment("b0", 4, state=1)), Discontinuous)
    judged.give_all([chain.commitment("b0", 8, first)])


def test_a_commitment_waits_for_its_header(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 3)])
    error = refused(judged, chain.commitment("b0", 4), NotYet)
    assert isinstance(error, NotYet)
    assert (error.height, error.newest, error.retryable) == (4, 3, True)
    judged.give_all([chain.range(4, 4), chain.commitment("b0", 4)])


def test_a_commitment_is_about_the_end_of_a_range(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4)])
    refused(judged, chain.commitment("b0", 3), Discontinuous, "multiples of 4")


def test_a_commitment_is_about_the_anchored_header(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4)])
    refused(judged, Chain(fork=1).commitment("b0", 4), Discontinuous, "another header")


def test_a_commitment_needs_its_attesters_signature(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4)])
    refused(judged, chain.commitment("b0", 4, key=key_of("a0")), BadSignature)
    refused(judged, tampered(chain.commitment("b0", 4), 5), BadSignature)


@pytest.mark.parametrize(
    ("name", "rollup"), [("a0", "beta"), ("b0", "alpha"), ("x", "alpha"), ("b0", "gamma")]
)
def test_a_commitment_is_an_attesters_of_its_rollup(
    judged: Judged, chain: Chain, name: str, rollup: str
) -> None:
    judged.give_all([chain.range(1, 4)])
    refused(judged, chain.commitment(name, 4, rollup=rollup), UnknownKey)


def test_a_commitment_is_of_this_chain(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4)])
    refused(judged, chain.commitment("b0", 4, chain=OTHER_CHAIN), WrongChain)


def test_another_commitment_of_one_attester_at_one_height_is_evidence(judged: Judged, chain: Chain) -> None:
    first, second = chain.commitment("b0", 4), chain.commitment("b0", 4, state=1)
    judged.give_all([chain.range(1, 4), first])
    answer = judged.give(second)
    assert isinstance(answer, Contradiction)
    assert "entry 3" in answer.evidence
    assert decode_settlement_entry(judged.entries[3]) == Evidence(EvidenceKind.COMMITMENTS, first, second)
    refused(judged, second, Contradiction, "entry 3")
    refused(judged, chain.commitment("b0", 4, state=2), Contradiction, "entry 3")
    assert judged.log.anchored["beta"].index == 2  # type: ignore[index]  # a rollup's id


def test_a_commitment_on_a_fork_contradicts_the_one_on_the_chain(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.commitment("b0", 4)])
    assert isinstance(judged.give(Chain(fork=1).commitment("b0", 4)), Contradiction)
    assert judged.log.evidence_count == 1


def test_the_same_commitment_with_another_one_before_it_is_there(judged: Judged, chain: Chain) -> None:
    """An attester that forgot what it posted says the same again, and is no liar."""
    first = chain.commitment("b0", 4)
    judged.give_all([chain.range(1, 4), chain.range(5, 8), first, chain.commitment("b0", 8, first)])
    assert judged.give(chain.commitment("b0", 8)) == 4
    assert judged.log.evidence_count == 0


def test_the_threshold_anchors_a_rollup(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.commitment("a0", 4)])
    assert "alpha" not in judged.log.anchored
    judged.give_all([chain.commitment("a1", 4)])
    anchored = judged.log.anchored["alpha"]  # type: ignore[index]  # a rollup's id
    hashed = commitment_hash(posted_of(chain.commitment("a1", 4)).commitment)
    assert (anchored.height, anchored.commitment_hash, anchored.index) == (4, hashed, 3)
    judged.give_all([chain.commitment("a2", 4)])
    assert judged.log.anchored["alpha"] == anchored  # type: ignore[index]  # a rollup's id
    assert judged.names["anchored/alpha/0000000000000004"] == 3


def test_attesters_that_disagree_do_not_make_a_threshold(judged: Judged, chain: Chain) -> None:
    judged.give_all([chain.range(1, 4), chain.commitment("a0", 4), chain.commitment("a1", 4, state=1)])
    assert judged.log.anchored == {}
    judged.give_all([chain.commitment("a2", 4, state=1)])
    assert judged.log.anchored["alpha"].index == 4  # type: ignore[index]  # a rollup's id


def test_a_late_threshold_does_not_replace_a_newer_anchor(judged: Judged, chain: Chain) -> None:
    late, early = chain.commitment("a0", 4), chain.commitment("a1", 4)
    judged.give_all([chain.range(1, 4), chain.range(5, 8), late])
    judged.give_all([chain.commitment("a0", 8, late), chain.commitment("a2", 8)])
    assert judged.log.anchored["alpha"].height == 8  # type: ignore[index]  # a rollup's id
    judged.give_all([early])
    assert judged.log.anchored["alpha"].height == 8  # type: ignore[index]  # a rollup's id
    assert judged.names["anchored/alpha/0000000000000004"] == judged.log.size - 1


def test_another_register_root_is_evidence_and_hinders_nobody(judged: Judged, chain: Chain) -> None:
    liar, honest = chain.commitment("a0", 4, register=9), chain.commitment("b0", 4)
    judged.give_all([chain.range(1, 4), liar])
    done = judged.step(honest)
    flag = Evidence(EvidenceKind.REGISTER_ROOTS, liar, honest)
    assert (done.answer, done.appended) == (3, (honest, encode_settlement_entry(flag)))
    assert judged.log.anchored["beta"].index == 3  # type: ignore[index]  # a rollup's id
    assert judged.log.evidence_count == 1
    judged.give_all([chain.commitment("a1", 4)])
    assert judged.log.evidence_count == 1


# --- resuming ---------------------------------------------------------------------------------------------


def test_a_log_resumes_as_it_was(judged: Judged, chain: Chain) -> None:
    drain = registration(Drain(), subject="beta", effective=7)
    judged.give_all([chain.range(1, 4), drain, chain.range(5, 8), chain.commitment("b0", 4)])
    judged.give(Chain(fork=1).range(1, 4))
    for cut in range(len(judged.entries) + 1):
        first = resumed(empty_log(GENESIS), judged.entries[:cut])
        assert resumed(first, judged.entries[cut:]) == replace(judged.log, anchored={})


def test_a_log_of_another_chain_is_not_resumed() -> None:
    other = encode_settlement_entry(GenesisEntry(OTHER_CHAIN, GENESIS.settlement.origin))
    with pytest.raises(WrongChain):
        resumed(empty_log(GENESIS), [other])


def test_headers_that_are_not_signed_bytes_do_not_pass_as_the_same(judged: Judged, chain: Chain) -> None:
    """The statement is the header and its signature, not the height."""
    judged.give_all([chain.range(1, 4)])
    forged = ProvenHeader(
        encode_header(replace(chain.header(4).header, time_ms=1_401)), chain.header(4).proof
    )
    refused(judged, encode_settlement_entry(HeaderRange(Height(1), HeaderHash(CHAIN), forged)), BadSignature)
    again = sign_commitment(key_of("b0"), posted_of(chain.commitment("b0", 4)))
    judged.give_all([encode_settlement_entry(again)])
