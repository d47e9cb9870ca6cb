"""The register as rows, and records as bytes: out and back, and what is refused on the way back."""

from collections.abc import Iterable

import pytest

from lockstep import limits
from lockstep.errors import Malformed
from lockstep.genesis import parse_genesis
from lockstep.register import (
    Contradicted,
    Register,
    apply_block,
    decode_record,
    encode_record,
    genesis_register,
    restore,
    rows,
)
from lockstep.registry_entries import Drain
from tests.reference.scenes import TERMS, alpha_locked, beta_locked, locked, opened
from tests.reference.world import (
    A1,
    B1,
    GENESIS,
    REJECTED,
    World,
    attest,
    cancel_entry,
    change_entry,
    genesis_bytes,
    item_of,
    make_terms,
    open_entry,
    reveal_entry,
)
from tests.unit.lockstep.strictness import assert_strict


def table_of(register: Register) -> dict[bytes, bytes]:
    return {key: value for key, value in rows(None, register) if value is not None}


def changed_by(
    table: dict[bytes, bytes], changes: Iterable[tuple[bytes, bytes | None]]
) -> dict[bytes, bytes]:
    changed = {**table, **dict(changes)}
    return {key: value for key, value in changed.items() if value is not None}


def busy() -> World:
    """Return a chain with a swap in every phase, and a registry change under way."""
    world = World()
    names = ("open", "locked", "revealed", "committed", "aborted")
    terms = {name: make_terms(name) for name in names}
    world.block(*map(open_entry, terms.values()), registry=[change_entry("alpha", Drain(), at=900)])
    both = [terms["locked"], terms["committed"]]
    world.block(
        attest(A1, "alpha", 1, item_of(terms["open"], 0)),
        reveal_entry(terms["revealed"], "revealed"),
        cancel_entry(terms["aborted"]),
        reveal_entry(terms["committed"], "committed"),
        attest(B1, "beta", 1, *(item_of(each, 1) for each in both)),
    )
    for each in both:
        world.block(*alpha_locked(world, each))
    assert [record.phase.name.lower() for record in world.register.records.values()] == list(names)
    return world


def test_restoring_what_was_stored() -> None:
    for register in (genesis_register(GENESIS), opened().register, locked().register, busy().register):
        table = table_of(register)
        again = restore(GENESIS, reversed(table.items()))
        assert table_of(again) == table
        assert (again.root, again.tip) == (register.root, register.tip)
        assert list(again.records.items()) == list(register.records.items())
        assert list(again.header_hashes.items()) == list(register.header_hashes.items())
        assert list(again.attestations.items()) == list(register.attestations.items())
        assert again.alarms == register.alarms


def test_a_restored_register_goes_on_as_the_other_would() -> None:
    world = opened()
    first, other = alpha_locked(world)
    world.block(first)
    second = attest(A1, "alpha", 1, item_of(TERMS, 0, REJECTED))
    restored = World()
    restored.register = restore(GENESIS, table_of(world.register).items())
    for entries in ([second], [other, beta_locked(world)], [reveal_entry(TERMS)]):
        assert world.block(*entries) == restored.block(*entries)
        assert world.register.root == restored.register.root
    assert world.advance_to(TERMS.lock_by_ms) == restored.advance_to(TERMS.lock_by_ms)
    assert world.register.root == restored.register.root

    world.register = restore(GENESIS, table_of(opened().register).items())
    world.block(first)
    assert world.block(second)[0] == Contradicted(first, second)


def test_rows_lead_from_one_register_to_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADERS_REMEMBERED", 3)
    monkeypatch.setattr(limits, "ATTESTATIONS_REMEMBERED", 2)
    world = busy()
    registers = [genesis_register(GENESIS)]
    for block in world.blocks:
        registers.append(apply_block(registers[-1], block)[0])
    world.advance_to(TERMS.lock_by_ms + 5)
    registers.append(world.register)
    for at, old in enumerate(registers):
        for new in registers[at:]:
            assert changed_by(table_of(old), rows(old, new)) == table_of(new)


def test_an_empty_block_changes_two_rows() -> None:
    world = busy()
    before = world.register
    world.block()
    assert [key for key, _ in rows(before, world.register)] == [b"m", b"h" + world.height.to_bytes(8, "big")]


def test_a_table_that_is_not_whole_is_refused() -> None:
    table = table_of(busy().register)
    record = next(key for key in table if key[:1] == b"r")
    another = parse_genesis(genesis_bytes(rules_version=2))
    for changes, field in (
        ({b"m": None}, "m"),
        ({b"x": b""}, "key"),
        ({b"m": table[b"m"] + b"\x00"}, "end"),
        ({b"m": b"\x02" + table[b"m"][1:]}, "version"),
        ({record: table[record] + b"\x00"}, "end"),
        ({record: table[record][:-1]}, ""),
        ({record: table[record].replace(A1.public_key, B1.public_key)}, "attesters"),
    ):
        with pytest.raises(Malformed) as raised:
            restore(GENESIS, changed_by(table, changes.items()).items())
        assert field in raised.value.field
    with pytest.raises(Malformed, match="the chain of the genesis file"):
        restore(another, table.items())


def test_a_record_that_cannot_be_is_not_restored() -> None:
    table = table_of(opened().register)
    [key] = [key for key in table if key[:1] == b"r"]
    table[key] = table[key][:1] + b"\x02" + table[key][2:]
    with pytest.raises(AssertionError, match="other verdicts and preimage than its phase says"):
        restore(GENESIS, table.items())


# --- the bytes of records -----------------------------------------------------------------------------------


def test_records_are_strict() -> None:
    world = busy()
    world.advance_to(TERMS.lock_by_ms)
    ended = {record.decision.reason.name for record in world.register.records.values() if record.decision}
    assert "NOT_LOCKED" in ended
    for record in (*busy().register.records.values(), *world.register.records.values()):
        assert_strict(encode_record(record), decode=decode_record, encode=encode_record)


def test_what_a_records_bytes_say() -> None:
    for record in busy().register.records.values():
        read = decode_record(encode_record(record))
        for name in (
            "swap_id",
            "terms",
            "terms_bytes",
            "opened_height",
            "opened_index",
            "preimage",
            "decision",
        ):
            assert getattr(read, name) == getattr(record, name)
        assert read.phase == record.phase
        for leg, encoded in zip(record.legs, read.legs, strict=True):
            assert (encoded.attesters_hash, encoded.votes) == (leg.attesters.hash, leg.votes)


def test_the_layout_of_a_record() -> None:
    world = opened()
    world.block(attest(A1, "alpha", 1, item_of(TERMS, 0, REJECTED)), reveal_entry(TERMS), cancel_entry(TERMS))
    record = world.record(TERMS)
    terms = record.terms_bytes
    alpha, beta = (each.attesters.hash for each in GENESIS.rollups)
    expected = b"\x01\x03" + bytes(7) + b"\x01" + bytes(4) + len(terms).to_bytes(4, "big") + terms
    expected += alpha + b"\x01" + b"\x00\x02\x01" + beta + b"\x00"
    expected += b"\x01" + (record.preimage or b"") + bytes(15)
    assert encode_record(record) == expected
    world.advance_to(TERMS.lock_by_ms)
    assert world.record(TERMS).opened == record.opened
    end = world.height.to_bytes(8, "big") + b"\xff\xff\xff\xff" + b"\x03" + b"\x00\x03"
    assert encode_record(world.record(TERMS)) == b"\x01\x05" + expected[2:-15] + end
