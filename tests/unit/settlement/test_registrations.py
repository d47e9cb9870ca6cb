"""Registrations: what the log learns of the registry, and whose signatures count from then on."""

from dataclasses import replace

import pytest

from lockstep.attesters import AttesterSet
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    Malformed,
    UnknownKey,
    WrongChain,
)
from lockstep.header import Header, encode_header, sign_header
from lockstep.order import data_root
from lockstep.registry_entries import Leave, RotateAttester, RotateKey, SetAttesters, SignedBy, Veto
from lockstep.settlement_entries import (
    ProvenHeader,
    Registration,
    decode_settlement_entry,
    encode_settlement_entry,
)
from lockstep.settlement_log import read_candidate
from lockstep.types import ChainId, Namespace
from tests.unit.settlement.chain import Chain, Judged, key_of, leaves_of, registration, tampered


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


def test_a_registration_is_there_once() -> None:
    judged = Judged()
    judged.give_all([attesters("b1", effective=8)])
    assert judged.give(attesters("b1", effective=8)) == 1
    # Ordered again, it is what the chain ignored.
    refused(judged, attesters("b1", effective=8, height=3, index=7), Discontinuous)


def test_where_a_change_was_ordered_first_counts_whichever_the_log_learns_of_first() -> None:
    judged = Judged()
    again, first = (attesters("b1", effective=8, height=height) for height in (5, 1))
    second = attesters("b2", effective=9, height=3, sequence=2)
    judged.give_all([again])
    refused(judged, second, Discontinuous)
    judged.give_all([first, second, Chain().range(1, 4)])
    registry = judged.log.registry
    for height, name in ((7, "b0"), (8, "b1"), (9, "b2")):
        found = registry.attesters_at("beta", height)
        assert found is not None
        assert found.keys == (key_of(name).public_key,), height
    assert judged.give(again) == 1


def test_what_came_too_early_for_its_sequence_does_not_become_valid() -> None:
    """The chain ignored it; that its sequence is the next one now changes nothing."""
    judged = Judged()
    early = attesters("b2", effective=9, height=1, sequence=2)
    judged.give_all([attesters("b1", effective=8, height=3)])
    refused(judged, early, Discontinuous)


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


def own(old: str, new: str, effective: int, **options: object) -> bytes:
    """Return the registration by which an attester of `beta` announces its own replacement."""
    action = RotateAttester(key_of(old).public_key, key_of(new).public_key)
    given = {"key": old, "signed_by": SignedBy.SUBJECT, **options}
    return registration(action, subject="beta", effective=effective, **given)  # type: ignore[arg-type]


def test_a_key_announces_its_own_replacement_and_governance_goes_on_behind_it() -> None:
    judged, chain = Judged(), Chain()
    judged.give_all([own("b0", "b1", 8), *(chain.range(n, n + 3) for n in (1, 5))])
    refused(judged, chain.commitment("b0", 8), UnknownKey)
    judged.give_all([chain.commitment("b1", 8, rollup="beta")])
    judged.give_all([attesters("b2", effective=12, height=9, sequence=2), chain.range(9, 12)])
    judged.give_all([chain.commitment("b2", 12, rollup="beta")])


def test_the_sequencers_key_announces_its_own_replacement() -> None:
    judged = Judged()
    rotated = rotation("next", 6, key="sequencer", signed_by=SignedBy.SUBJECT)
    judged.give_all([rotated, Chain().range(1, 4)])
    refused(judged, Chain().range(5, 8), BadSignature)
    judged.give_all([Chain(sequencer="next").range(5, 8)])


def test_what_a_key_announces_for_itself_is_vetoed() -> None:
    judged, chain = Judged(), Chain()
    veto = registration(Veto(1), subject="beta", effective=8, sequence=2, height=2)
    refused(judged, veto, Discontinuous)
    judged.give_all([own("b0", "b1", 8), veto, chain.range(1, 4), chain.range(5, 8)])
    refused(judged, chain.commitment("b1", 8, rollup="beta"), UnknownKey)
    judged.give_all([chain.commitment("b0", 8)])


def test_the_chains_rules_count_for_who_signs() -> None:
    judged = Judged()
    refused(judged, own("b0", "b1", 8, key="b1"), Discontinuous)
    # It is announced 5 blocks ahead, so that governance can veto it.
    refused(judged, own("b0", "b1", 8, height=4), Discontinuous)
    refused(judged, attesters("b1", effective=8, key="sequencer"), Discontinuous)
    refused(judged, attesters("b1", effective=8, key="b0", signed_by=SignedBy.SUBJECT), Discontinuous)
    refused(judged, attesters("b1", effective=8, chain=ChainId(b"\x77" * 32)), WrongChain)


def test_the_place_is_what_the_sequencer_signed() -> None:
    judged, old = Judged(), Chain()
    refused(judged, attesters("b1", effective=8, sequencer="next"), BadSignature)
    judged.give_all([rotation("next", 3), old.range(1, 2)])
    refused(judged, attesters("b1", effective=8, height=3), BadSignature)
    judged.give_all([attesters("b1", effective=8, height=3, sequencer="next")])


def payload_of(encoded: bytes) -> bytes:
    entry = decode_settlement_entry(encoded)
    assert isinstance(entry, Registration)
    return entry.payload


def test_a_registration_is_of_the_block_that_is_anchored() -> None:
    judged = Judged()
    chain = Chain(changes={3: [payload_of(attesters("b1", effective=8))]})
    judged.give_all([chain.range(1, 3)])
    forged = Chain(changes={3: [payload_of(attesters("b2", effective=8))]}).registration(3)
    answer = judged.give(encode_settlement_entry(forged))
    assert isinstance(answer, Contradiction)
    assert judged.log.evidence_count == 1
    judged.give_all([encode_settlement_entry(chain.registration(3))])


@pytest.mark.parametrize("number", range(3))
def test_every_change_of_a_block_is_proven(number: int) -> None:
    payloads = [
        payload_of(each) for each in (attesters("b1", effective=8), rotation("next", 9), own("b0", "b1", 9))
    ]
    registered = Chain(changes={2: payloads}, first_index=5).registration(2, number)
    assert (registered.height, registered.index, registered.payload) == (2, 5 + number, payloads[number])
    assert decode_settlement_entry(encode_settlement_entry(registered)) == registered


def forgeries() -> dict[str, Registration]:
    """Return registrations that prove nothing."""
    payloads = [payload_of(attesters(name, effective=8)) for name in ("b1", "b2", "b3")]
    one = Chain(changes={2: payloads}).registration(2, 1)
    alone = Chain(changes={2: payloads[:1]}).registration(2)
    entry, leaf = alone.entry, alone.leaves[0]
    elsewhere = leaves_of([entry], Namespace("alpha"))
    header = replace(alone.header.header, data_root=data_root(elsewhere))
    short = replace(alone.header.header, transaction_count=0)
    wide = replace(alone.header.header, namespace_count=2)
    return {
        "another block": replace(one, header=Chain(fork=1).header(2)),
        "a block with other entries": replace(one, header=Chain(changes={2: payloads[1:]}).header(2)),
        "another place": replace(one, entry=replace(one.entry, index=2, first_index=2)),
        "another payload": replace(one, entry=replace(one.entry, payload=payloads[0])),
        "another leaf": replace(one, leaf_index=0),
        "a leaf beyond the count": replace(alone, leaf_index=1),
        "a shorter proof": replace(one, proof=one.proof[:-1]),
        "a longer proof": replace(one, proof=(*one.proof, bytes(32))),
        "a proof of many hashes": replace(one, proof=(bytes(32),) * 15),
        "another count": replace(one, leaves=(replace(one.leaves[0], count=2),)),
        "no leaves": replace(one, leaves=()),
        "one leaf more": replace(one, leaves=(*one.leaves, replace(leaf, namespace=Namespace("alpha")))),
        "another namespace": replace(alone, header=proven(header), leaves=elsewhere),
        "a place beyond the block": replace(alone, header=proven(short)),
        "another count of namespaces": replace(alone, header=proven(wide)),
    }


def proven(header: Header) -> ProvenHeader:
    encoded = encode_header(header)
    return ProvenHeader(encoded, sign_header(key_of("sequencer"), encoded))


@pytest.mark.parametrize("what", forgeries())
def test_what_proves_nothing_has_no_reading(what: str) -> None:
    with pytest.raises(Malformed):
        decode_settlement_entry(encode_settlement_entry(forgeries()[what]))


def test_a_proof_is_no_longer_than_the_largest_block_needs() -> None:
    long = encode_settlement_entry(forgeries()["a proof of many hashes"])
    with pytest.raises(Malformed, match="allowed are 14"):
        decode_settlement_entry(long)


def test_no_bit_of_a_registration_can_be_another() -> None:
    payloads = [payload_of(attesters(name, effective=8)) for name in ("b1", "b2", "b3")]
    honest = encode_settlement_entry(Chain(changes={2: payloads}).registration(2))
    for place in range(len(honest)):
        judged = Judged()
        try:
            answer = judged.give(tampered(honest, place))
        except Malformed:
            continue
        assert isinstance(answer, BadSignature | WrongChain | Discontinuous), place


def test_another_governance_key_governs_once_it_is_in_force() -> None:
    judged, chain = Judged(), Chain()
    rotated = registration(RotateKey(key_of("next").public_key), subject="governance", effective=3)
    judged.give_all([rotated])
    refused(judged, attesters("b1", effective=8, key="next"), Discontinuous)
    judged.give_all([chain.range(1, 4), attesters("b1", effective=8, key="next", height=5)])


def test_it_does_not_matter_in_which_order_the_log_learns_of_changes() -> None:
    governance = registration(RotateKey(key_of("next").public_key), subject="governance", effective=4)
    rotated = rotation("other", 6, height=5, key="next")
    known = []
    chain, later = Chain(), Chain(sequencer="other")
    for entries in (
        [governance, rotated, chain.range(1, 4), later.range(5, 8)],
        [chain.range(1, 4), governance, rotated],
        [chain.range(1, 4), governance, chain.range(5, 6), rotated],
        [governance, chain.range(1, 4), chain.range(5, 8), rotated],
        [chain.range(1, 4), chain.range(5, 8), governance, rotated],
    ):
        judged = Judged()
        judged.give_all(entries)
        known.append(judged.log.registry.advanced(8))
    assert known == known[:1] * len(known)
    assert [since for since, _ in known[0].timeline] == [0, 4, 6]


def test_a_change_is_judged_at_its_place_however_late_it_comes() -> None:
    judged, chain = Judged(), Chain()
    governance = registration(RotateKey(key_of("next").public_key), subject="governance", effective=6)
    judged.give_all([governance, chain.range(1, 4), chain.range(5, 8)])
    # The old key still counted in block 5, and no more in block 6.
    refused(judged, attesters("b1", effective=12, height=6), Discontinuous)
    judged.give_all([attesters("b1", effective=12, height=5)])


def test_what_the_chain_ignored_is_forgotten_once_the_log_knows_why() -> None:
    """A governance key that was replaced signs for a block in which it no longer counts."""
    judged = Judged()
    stolen = attesters("b1", effective=12, height=6)
    judged.give_all([stolen])
    judged.give_all([registration(RotateKey(key_of("next").public_key), subject="governance", effective=4)])
    honest = attesters("b2", effective=12, height=7, key="next")
    judged.give_all([honest])
    found = judged.log.registry.attesters_at("beta", 12)
    assert found is not None
    assert found.keys == (key_of("b2").public_key,)


def test_leaving_has_no_effect_here() -> None:
    """It depends on log time, of which the log knows too little."""
    judged, chain = Judged(), Chain()
    refused(judged, registration(Leave(), subject="beta", effective=3), Discontinuous)
    judged.give_all([chain.range(1, 4)])


def test_an_entry_of_the_registry_has_to_be_one() -> None:
    with pytest.raises(Malformed):
        read_candidate(encode_settlement_entry(Chain(changes={1: [b"\x01nonsense"]}).registration(1)))


def test_what_a_key_said_before_it_was_replaced_still_convicts_it() -> None:
    judged, chain = Judged(), Chain()
    judged.give_all([attesters("b1", effective=5), chain.range(1, 4), chain.range(5, 8)])
    judged.give_all([chain.commitment("b0", 4)])
    assert isinstance(judged.give(chain.commitment("b0", 4, state=1)), Contradiction)
