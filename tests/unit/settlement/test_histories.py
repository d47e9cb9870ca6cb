"""Random histories: whatever is sent, the log only grows, says nothing twice, and an auditor agrees."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.settlement.client import Auditor, audit
from lockstep.attesters import AttesterSet
from lockstep.checkpoint import Checkpoint
from lockstep.errors import Contradiction, Discontinuous, LockstepError, ProofInvalid
from lockstep.merkle import AppendTree, leaf_hash, verify_consistency
from lockstep.registry_entries import RotateKey, SetAttesters
from lockstep.settlement_log import empty_log, read_candidate, resumed, says_the_same
from tests.unit.settlement.chain import (
    ATTESTERS,
    GENESIS,
    ORIGIN,
    Chain,
    Judged,
    headers_evidence,
    key_of,
    posted_of,
    registration,
)

HEIGHTS = st.integers(1, 12)
NAMES = st.sampled_from([name for names in ATTESTERS.values() for name in names])
CHAINS = (Chain(), Chain(fork=1))
NEXT = (Chain(sequencer="next"), Chain(fork=1, sequencer="next"))


class History:
    """Sends what a move says to a log; most moves are such as can be accepted."""

    def __init__(self) -> None:
        self.judged = Judged()
        self.answers: list[tuple[bytes, int | LockstepError]] = []
        self.last: dict[str, bytes] = {}

    def send(self, entry: bytes) -> None:
        size = self.judged.log.size
        answer = self.judged.give(entry)
        self.answers.append((entry, answer))
        if isinstance(answer, int):
            assert answer < self.judged.log.size
            assert says_the_same(read_candidate(self.judged.entries[answer]), read_candidate(entry))
        elif not isinstance(answer, Contradiction):
            assert self.judged.log.size == size, "what is refused leaves no trace"

    def next_range(self, fork: int, blocks: int, *, rotated: bool) -> None:
        height = self.judged.log.tip.height
        self.send((NEXT if rotated else CHAINS)[fork].range(height + 1, height + blocks))

    def any_range(self, fork: int, first: int, blocks: int) -> None:
        self.send(CHAINS[fork].range(first, first + blocks))

    def next_commitment(self, name: str, height: int, state: int, register: int) -> None:
        last = self.last.get(name)
        if last is not None and posted_of(last).commitment.height >= height:
            last = None
        entry = CHAINS[0].commitment(name, height, last, state=state, register=register)
        self.send(entry)
        if self.answers[-1][1] == self.judged.log.size - 1:
            self.last[name] = entry

    def again(self, place: int) -> None:
        if self.answers:
            entry, first = self.answers[place % len(self.answers)]
            self.send(entry)
            second = self.answers[-1][1]
            if isinstance(first, int):
                assert second == first, "an entry keeps its index"

    def evidence(self, height: int) -> None:
        self.send(headers_evidence(*(chain.header(height) for chain in CHAINS)))

    def register(self, name: str, effective: int, sequence: int) -> None:
        action = SetAttesters(AttesterSet(1, (key_of(name).public_key,)))
        self.send(registration(action, subject="beta", effective=effective, sequence=sequence))

    def rotate(self, effective: int) -> None:
        action = RotateKey(key_of("next").public_key)
        self.send(registration(action, subject="sequencer", effective=effective))


def move(name: str, *arguments: st.SearchStrategy[int | str]) -> st.SearchStrategy[Callable[[History], None]]:
    return st.tuples(*arguments).map(lambda values: lambda history: getattr(history, name)(*values))


heights_posted = st.sampled_from([3, 4, 4, 4, 8, 8, 8, 12])
moves = st.one_of(
    st.tuples(st.integers(0, 9).map(lambda n: n // 9), st.sampled_from([1, 2, 3, 4, 4, 4])).map(
        lambda values: lambda history: history.next_range(*values, rotated=False)
    ),
    st.sampled_from([1, 4]).map(lambda n: lambda history: history.next_range(0, n, rotated=True)),
    move("any_range", st.integers(0, 1), HEIGHTS, st.integers(0, 4)),
    move("next_commitment", NAMES, heights_posted, st.just(0), st.just(0)),
    move("next_commitment", NAMES, heights_posted, st.integers(0, 1), st.integers(0, 1)),
    move("again", st.integers(0, 100)),
    move("evidence", HEIGHTS),
    move("register", st.sampled_from(["b0", "b1"]), st.integers(2, 12), st.integers(1, 2)),
    move("rotate", st.integers(2, 12)),
)


@given(st.lists(moves, max_size=40), st.data())
@settings(max_examples=150)
def test_a_history(played: list[Callable[[History], None]], data: st.DataObject) -> None:
    history = History()
    for each in played:
        each(history)
    log, entries = history.judged.log, history.judged.entries
    assert log.size == len(entries) == len(set(entries)), "nothing is there twice"

    tree = AppendTree(map(leaf_hash, entries))
    old = data.draw(st.integers(0, len(entries)))
    verify_consistency(
        old_size=old,
        new_size=tree.size,
        old_root=AppendTree(map(leaf_hash, entries[:old])).root(),
        new_root=tree.root(),
        proof=tree.consistency_proof(old),
    )
    assert audit(GENESIS, entries, Checkpoint(ORIGIN, tree.size, tree.root())) == log
    assert resumed(resumed(empty_log(GENESIS), entries[:old]), entries[old:]).tip == log.tip
    for entry, answer in history.answers:
        if isinstance(answer, int):
            assert history.judged.give(entry) == answer


def long_log() -> list[bytes]:
    """Return a log with an entry of every kind, and evidence of both origins."""
    judged, chain = Judged(), CHAINS[0]
    liar = chain.commitment("a0", 4, register=9)
    rotation = registration(RotateKey(key_of("next").public_key), subject="sequencer", effective=9)
    judged.give_all([chain.range(1, 4), chain.range(5, 8), liar])
    judged.give(chain.commitment("b0", 4))
    judged.give(CHAINS[1].range(1, 4))
    judged.give_all([rotation, NEXT[0].range(9, 12), chain.commitment("a1", 12)])
    return judged.entries


def test_an_auditor_takes_a_valid_log_entry_by_entry() -> None:
    auditor = Auditor(GENESIS)
    for size, entry in enumerate(long_log(), 1):
        auditor.add(entry)
        assert auditor.size == size
    assert auditor.root == AppendTree(map(leaf_hash, long_log())).root()
    assert (auditor.log.evidence_count, auditor.log.tip.height) == (2, 12)


@pytest.mark.parametrize("place", range(len(long_log())))
def test_an_auditor_notices_what_is_left_out(place: int) -> None:
    entries = long_log()
    checkpoint = Checkpoint(ORIGIN, len(entries), AppendTree(map(leaf_hash, entries)).root())
    del entries[place]
    with pytest.raises((Discontinuous, ProofInvalid)):
        audit(GENESIS, entries, checkpoint)


@pytest.mark.parametrize("place", range(1, len(long_log())))
def test_an_auditor_judges_what_a_log_that_lies_signs(place: int) -> None:
    """The checkpoint is of the tampered entries, and still the log is not valid."""
    entries = long_log()
    entries[place] = entries[place][:-1] + bytes([entries[place][-1] ^ 1])
    with pytest.raises(Discontinuous, match=f"entry {place}|entry {place + 1}"):
        audit(GENESIS, entries, Checkpoint(ORIGIN, len(entries), AppendTree(map(leaf_hash, entries)).root()))


def test_an_auditor_takes_nothing_twice() -> None:
    auditor = Auditor(GENESIS)
    entries = long_log()
    for entry in entries:
        auditor.add(entry)
    for entry in entries:
        with pytest.raises(Discontinuous, match="stands at"):
            auditor.add(entry)


def test_an_auditor_wants_the_evidence_behind_its_entry() -> None:
    entries = long_log()
    place = next(
        i for i, each in enumerate(entries) if each[1] == 3 and posted_of(each).commitment.rollup == "beta"
    )
    auditor = Auditor(GENESIS)
    for entry in entries[: place + 1]:
        auditor.add(entry)
    with pytest.raises(ProofInvalid, match="without the evidence"):
        auditor.verify(Checkpoint(ORIGIN, auditor.size, auditor.root))
    with pytest.raises(Discontinuous, match="is not the evidence"):
        auditor.add(entries[place + 2])
