"""Registrations: what the log learns of the registry, and whose signatures count from then on."""

import pytest

from lockstep.attesters import AttesterSet
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    Malformed,
    NotImplementedYet,
    UnknownKey,
    WrongChain,
)
from lockstep.registry_entries import Leave, RotateAttester, RotateKey, SetAttesters, SignedBy, Veto
from lockstep.settlement_entries import Registration, encode_settlement_entry
from lockstep.settlement_log import read_candidate
from lockstep.types import ChainId, Height
from tests.unit.settlement.chain import Chain, Judged, key_of, registration, tampered


def rotation(name: str, effective: int, **options: object) -> bytes:
    """Return the registration by which the sequencer's key becomes that of `name`."""
    action = RotateKey(key_of(name).public_key)
    return registration(action, subject="sequencer", effective=effective, **options)  # type: ignore[arg-type]


def attesters(*names: str, effective: int, **options: object) -> bytes:
    """Return the registration of another attester set of `beta`."""
    action = SetAttesters(AttesterSet(len(names) // 2 + 1, tuple(key_of(each).public_key for each in names)))
    return registration(action, subject="beta", effective=effective, **options)  # type: ignore[arg-type]


def refused(judged: Judged, entry: bytes, error: type[Exception]) -> None:
    size = judged.log.size
    assert isinstance(judged.give(entry), error)
    assert judged.log.size == size


def test_another_sequencer_key_counts_from_its_height_on() -> None:
    judged, old, new = Judged(), Chain(), Chain(sequencer="next")
    judged.give_all([rotation("next", 4), old.range(1, 3)])
    refused(judged, old.range(4, 4), BadSignature)
    judged.give_all([new.range(4, 4)])
    refused(judged, old.range(5, 8), BadSignature)
    judged.give_all([new.range(5, 8)])


def test_a_range_is_signed_by_the_key_at_its_last_header() -> None:
    judged = Judged()
    judged.give_all([rotation("next", 3), Chain(sequencer="next").range(1, 4)])


def test_other_attesters_count_from_their_height_on() -> None:
    judged, chain = Judged(), Chain()
    judged.give_all([attesters("b1", effective=8), chain.range(1, 4), chain.range(5, 8)])
    first = chain.commitment("b0", 4)
    refused(judged, chain.commitment("b1", 4, rollup="beta"), UnknownKey)
    refused(judged, chain.commitment("b0", 8), UnknownKey)
    judged.give_all([first, chain.commitment("b1", 8, rollup="beta")])
    assert judged.log.anchored["beta"].height == 8  # type: ignore[index]  # a rollup's id


def test_changes_take_effect_in_order_of_their_heights() -> None:
    judged, chain = Judged(), Chain()
    late = attesters("b2", effective=9)
    early = attesters("b1", effective=5, sequence=2)
    judged.give_all([late, early, *(chain.range(n, n + 3) for n in (1, 5, 9))])
    registry = judged.log.registry
    for height, name in ((4, "b0"), (5, "b1"), (8, "b1"), (9, "b2"), (100, "b2")):
        found = registry.attesters_at("beta", height)
        assert found is not None
        assert found.keys == (key_of(name).public_key,), height


def test_a_late_registration_counts_but_not_for_what_was_judged() -> None:
    judged, chain = Judged(), Chain()
    first = chain.commitment("b0", 4)
    judged.give_all([chain.range(1, 4), first, attesters("b1", effective=2)])
    assert judged.give(first) == 2
    refused(judged, chain.commitment("b0", 4, state=1), UnknownKey)
    judged.give_all([chain.commitment("b1", 4, rollup="beta")])


def test_evidence_that_a_late_registration_spoils_is_not_made() -> None:
    judged, old = Judged(), Chain()
    judged.give_all([old.range(1, 4), rotation("next", 2)])
    refused(judged, Chain(fork=1, sequencer="next").range(1, 4), Discontinuous)
    assert judged.log.evidence_count == 0


def test_a_register_root_of_a_key_that_counts_no_more_convicts_nobody() -> None:
    judged, chain = Judged(), Chain()
    judged.give_all([chain.range(1, 4), chain.commitment("b0", 4, register=9), attesters("b1", effective=2)])
    judged.give_all([chain.commitment("a0", 4)])
    assert judged.log.evidence_count == 0


def test_a_registration_is_there_once_wherever_it_is_said_to_be_ordered() -> None:
    judged = Judged()
    judged.give_all([attesters("b1", effective=8)])
    assert judged.give(attesters("b1", effective=8)) == 1
    assert judged.give(attesters("b1", effective=8, height=3, index=7)) == 1


def test_sequences_are_continuous() -> None:
    judged = Judged()
    refused(judged, attesters("b1", effective=8, sequence=2), Discontinuous)
    judged.give_all([attesters("b1", effective=8)])
    refused(judged, attesters("b2", effective=8), Discontinuous)
    judged.give_all([attesters("b2", effective=8, sequence=2)])


@pytest.mark.parametrize(("height", "is_valid"), [(7, True), (8, False), (9, False)])
def test_a_change_is_announced_before_its_height(height: int, is_valid: bool) -> None:
    answer = Judged().give(attesters("b1", effective=8, height=height))
    assert isinstance(answer, int if is_valid else Discontinuous)


def test_a_veto_removes_a_change() -> None:
    judged, chain = Judged(), Chain()
    veto = registration(Veto(1), subject="beta", effective=8, sequence=2)
    judged.give_all([attesters("b1", effective=8), veto, chain.range(1, 4), chain.range(5, 8)])
    refused(judged, chain.commitment("b1", 8, rollup="beta"), UnknownKey)
    judged.give_all([chain.commitment("b0", 8)])


def test_only_governance_registers() -> None:
    judged = Judged()
    refused(judged, attesters("b1", effective=8, key="sequencer"), BadSignature)
    refused(judged, tampered(attesters("b1", effective=8)), BadSignature)
    refused(judged, attesters("b1", effective=8, chain=ChainId(b"\x77" * 32)), WrongChain)
    own = registration(
        RotateAttester(key_of("b0").public_key, key_of("b1").public_key),
        subject="beta",
        effective=100,
        key="b0",
        signed_by=SignedBy.SUBJECT,
    )
    refused(judged, own, NotImplementedYet)


def test_another_governance_key_governs_once_it_is_in_force() -> None:
    judged, chain = Judged(), Chain()
    rotated = registration(RotateKey(key_of("next").public_key), subject="governance", effective=3)
    judged.give_all([rotated])
    refused(judged, attesters("b1", effective=8, key="next"), BadSignature)
    judged.give_all([chain.range(1, 4), attesters("b1", effective=8, key="next", height=5)])


def test_late_registrations_take_effect_at_once_in_whatever_order_they_come() -> None:
    judged, chain = Judged(), Chain()
    judged.give_all([chain.range(1, 4), chain.range(5, 8)])
    governance = registration(RotateKey(key_of("next").public_key), subject="governance", effective=7)
    judged.give_all([governance, attesters("b1", effective=2, key="next"), rotation("other", 4, key="next")])
    assert [since for since, _ in judged.log.registry.timeline] == [0, 7, 7, 7]
    assert judged.log.registry.sequencer_key_at(6) == key_of("sequencer").public_key
    assert judged.log.registry.sequencer_key_at(7) == key_of("other").public_key


def test_leaving_has_no_effect_here() -> None:
    """It depends on log time, of which the log knows too little."""
    judged, chain = Judged(), Chain()
    refused(judged, registration(Leave(), subject="beta", effective=3), Discontinuous)
    judged.give_all([chain.range(1, 4)])


def test_an_entry_of_the_registry_has_to_be_one() -> None:
    with pytest.raises(Malformed):
        read_candidate(encode_settlement_entry(Registration(Height(1), 0, b"\x01nonsense")))


def test_what_a_key_said_before_it_was_replaced_still_convicts_it() -> None:
    judged, chain = Judged(), Chain()
    judged.give_all([attesters("b1", effective=5), chain.range(1, 4), chain.range(5, 8)])
    judged.give_all([chain.commitment("b0", 4)])
    assert isinstance(judged.give(chain.commitment("b0", 4, state=1)), Contradiction)
