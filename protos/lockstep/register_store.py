"""The register as the rows of a table, so that a process can go on where it stopped.

Owns the rows' bytes, which no other process ever sees; a process that follows keeps them in a table
`register(key BLOB PRIMARY KEY, value BLOB NOT NULL)`. Invariant: `restore(genesis, rows(None, register))` is
`register` in every way that can be observed, and the rows from one register to a later one lead from the
table of the first to that of the second.

    key                               value
    "m"                               u8 version = 1 | b32 chain | u64 height | b32 header_hash | u64 time_ms
                                      | u64 height of the registry's last applied change
    "g" | key                         the registry's content (`lockstep.registry_state`)
    "h" | u64 height                  b32 header hash
    "a" | u64 height | u32 index      the attestation that was ordered there
    "r" | swap id                     record | per leg: (u8 threshold | u8 count | count * b32 key
                                      | per vote: (u64 height | u32 index of its attestation))
"""

from collections.abc import Iterable, Iterator
from typing import Final

from lockstep.attesters import AttesterSet, read_attesters
from lockstep.encoding import Reader, u8, u32, u64
from lockstep.errors import Malformed
from lockstep.genesis import Genesis
from lockstep.layered_map import LayeredMap
from lockstep.merkle_map import MerkleMap, key_hash, value_hash
from lockstep.register_records import (
    EncodedLeg,
    LegRecord,
    Place,
    SwapRecord,
    encode_record,
    read_record,
    verify_record,
)
from lockstep.register_state import Register, alarm_ms
from lockstep.registry_state import Registry
from lockstep.types import ChainId, HeaderHash, Height, SwapId

__pure__ = True

Row = tuple[bytes, bytes | None]
"""A key, and the value to put under it; None to delete the key."""

_VERSION: Final = 1
_META: Final = b"m"
_REGISTRY: Final = b"g"
_HEADER: Final = b"h"
_ATTESTATION: Final = b"a"
_RECORD: Final = b"r"


def rows(old: Register | None, new: Register) -> Iterator[Row]:
    """Yield what a table that holds `old` must put or delete to hold `new`; None stands for an empty table.

    Both are of one chain and `old` is not the later one. Costs what changed if `new` is the next block's.
    """
    yield _META, _encode_meta(new)
    yield from _registry_rows(old, new)
    yield from _header_rows(old, new)
    yield from _attestation_rows(old, new)
    for swap_id in _changed_swaps(old, new):
        record = new.records.get(swap_id)
        encoded = None if record is None else new.changed.get(swap_id) or encode_record(record)
        yield _RECORD + swap_id, None if record is None or encoded is None else _row(encoded, record)


def restore(genesis: Genesis, table: Iterable[tuple[bytes, bytes]]) -> Register:
    """Return the register that a table holds, in whatever order its rows come. Raises `Malformed`."""
    kinds: dict[bytes, dict[bytes, bytes]] = {
        kind: {} for kind in (_META, _REGISTRY, _HEADER, _ATTESTATION, _RECORD)
    }
    for key, value in table:
        if key[:1] not in kinds:
            raise Malformed(what="register table", field="key", reason=f"{key.hex()} is unknown")
        kinds[key[:1]][key[1:]] = value
    if b"" not in kinds[_META]:
        raise Malformed(what="register table", field="m", reason="is missing")
    meta = Reader(kinds[_META][b""], "register table")
    meta.version(_VERSION)
    if ChainId(meta.take(32, "chain")) != genesis.chain_id:
        raise meta.malformed("chain", f"is not {genesis.chain_id.hex()}, the chain of the genesis file")
    height, header_hash = Height(meta.u64("height")), HeaderHash(meta.take(32, "header_hash"))
    time_ms, changed_height = meta.u64("time_ms"), Height(meta.u64("changed_height"))
    meta.finish()
    headers = {Height(int.from_bytes(key, "big")): HeaderHash(v) for key, v in kinds[_HEADER].items()}
    records = _restore_records(kinds[_RECORD].values())
    alarms: dict[int, dict[SwapId, None]] = {}
    for record in records:
        alarms.setdefault(alarm_ms(record, time_ms), {})[record.swap_id] = None
    return Register(
        registry=Registry.restore(genesis, changed_height, kinds[_REGISTRY].items()),
        records=LayeredMap({record.swap_id: record for record in records}),
        height=height,
        header_hash=header_hash,
        time_ms=time_ms,
        header_hashes=LayeredMap(dict(sorted(headers.items()))),
        attestations=LayeredMap(
            {_decode_place(key): kinds[_ATTESTATION][key] for key in sorted(kinds[_ATTESTATION])}
        ),
        merkle_map=MerkleMap().update(
            (key_hash(record.swap_id), value_hash(encode_record(record))) for record in records
        ),
        alarms=LayeredMap({ms: LayeredMap(swaps) for ms, swaps in alarms.items()}),
        changed={},
    )


# --- from the register --------------------------------------------------------------------------------------


def _registry_rows(old: Register | None, new: Register) -> Iterator[Row]:
    if old is not None and old.registry is new.registry:
        return
    before, after = {} if old is None else old.registry.content, new.registry.content
    for key in before.keys() - after.keys():
        yield _REGISTRY + key, None
    for key, value in after.items():
        if before.get(key) != value:
            yield _REGISTRY + key, value


def _header_rows(old: Register | None, new: Register) -> Iterator[Row]:
    # In order of height: what aged out stands first in the old mapping, what is new last in the new one.
    for height in () if old is None else old.header_hashes:
        if height in new.header_hashes:
            break
        yield _HEADER + u64(height), None
    for height in reversed(new.header_hashes):
        if old is not None and height <= old.height:
            break
        yield _HEADER + u64(height), new.header_hashes[height]


def _attestation_rows(old: Register | None, new: Register) -> Iterator[Row]:
    for place in () if old is None else old.attestations:
        if place in new.attestations:
            break
        yield _ATTESTATION + _encode_place(place), None
    for place in reversed(new.attestations):
        if old is not None and place.height <= old.height:
            break
        yield _ATTESTATION + _encode_place(place), new.attestations[place]


def _changed_swaps(old: Register | None, new: Register) -> Iterable[SwapId]:
    """Return at least the swaps whose records differ."""
    if old is None:
        return new.records
    # A register follows from its chain: one that has the old block's hash on its chain grew from the old one.
    if new.height == old.height + 1 and new.header_hash_at(old.height) in (old.header_hash, None):
        return new.changed
    return old.records.keys() | new.records.keys()


def _encode_meta(register: Register) -> bytes:
    return (
        u8(_VERSION)
        + register.registry.chain_id
        + u64(register.height)
        + register.header_hash
        + u64(register.time_ms)
        + u64(register.registry.changed_height)
    )


def _encode_place(place: Place) -> bytes:
    return u64(place.height) + u32(place.index)


def _row(encoded: bytes, record: SwapRecord) -> bytes:
    parts = [encoded]
    for leg in record.legs:
        parts += [leg.attesters.encoded, *map(_encode_place, leg.places)]
    return b"".join(parts)


# --- and back -----------------------------------------------------------------------------------------------


def _restore_records(encoded: Iterable[bytes]) -> list[SwapRecord]:
    """Return the records in order of opening; swaps under the same attester set share it."""
    sets: dict[bytes, AttesterSet] = {}
    return sorted((_decode_row(each, sets) for each in encoded), key=lambda record: record.opened)


def _decode_row(encoded: bytes, sets: dict[bytes, AttesterSet]) -> SwapRecord:
    reader = Reader(encoded, "register row")
    read = read_record(reader)
    legs = tuple(_read_leg(reader, leg, sets) for leg in read.legs)
    reader.finish()
    record = SwapRecord(
        swap_id=read.swap_id,
        terms_bytes=read.terms_bytes,
        terms=read.terms,
        opened_height=read.opened_height,
        opened_index=read.opened_index,
        legs=legs,
        preimage=read.preimage,
        decision=read.decision,
        phase=read.phase,
    )
    verify_record(record)
    return record


def _read_leg(reader: Reader, leg: EncodedLeg, sets: dict[bytes, AttesterSet]) -> LegRecord:
    attesters = read_attesters(reader)
    if attesters.hash != leg.attesters_hash:
        raise reader.malformed("attesters", "are not the ones that the record names")
    attesters = sets.setdefault(attesters.hash, attesters)
    places = tuple(_decode_place(reader.take(12, "place")) for _ in leg.votes)
    return LegRecord(attesters, leg.votes, places)


def _decode_place(encoded: bytes) -> Place:
    reader = Reader(encoded, "register row")
    place = Place(Height(reader.u64("height")), reader.u32("index"))
    reader.finish()
    return place
