"""The coordinator's database: a cache of the order, and what traders gave that is not ordered yet.

Owns the schema, and how swaps become rows and come back. Decides nothing. Invariant: one transaction holds
the register at a height together with every swap as it stood then, each with what is to be sent for it;
deleted, everything that is in the order comes back from it.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bridge.levels import Heights, Level, Source
from bridge.phases import Phase
from bridge.swap import GivenLock, RevealPolicy, Sending, SendKind, Swap
from deploy.node.database import Database, Row, SqlValue
from lockstep.checkpoint import Checkpoint
from lockstep.genesis import Genesis
from lockstep.order import bundle_id_of
from lockstep.register import Register, genesis_register, restore
from lockstep.terms import decode_terms
from lockstep.transactions import decode_transaction
from lockstep.types import ChainId, RollupId, SwapId
from lockstep.v1 import common_pb2
from sequencer.client.messages import read_bundle

APPLICATION_ID: Final = 0x4C534252
"""Marks the file as a coordinator's."""

SCHEMA: Final = (
    """
    CREATE TABLE register (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE swaps (
        number INTEGER PRIMARY KEY,
        swap_id BLOB NOT NULL UNIQUE,
        terms BLOB NOT NULL,
        phase INTEGER NOT NULL,
        policy INTEGER NOT NULL,            -- 0: known from the order alone
        is_bundle_ordered INTEGER NOT NULL,
        final_ms INTEGER NOT NULL,
        sequence INTEGER NOT NULL UNIQUE,
        view BLOB NOT NULL                  -- the Swap message
    ) STRICT;
    CREATE INDEX swaps_by_phase ON swaps (phase, final_ms);

    CREATE TABLE parties (
        party BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (party, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE proposals (
        idempotency_key BLOB PRIMARY KEY, swap_id BLOB NOT NULL, policy INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE locks (
        swap_id BLOB NOT NULL, leg INTEGER NOT NULL, payload BLOB NOT NULL, is_ordered INTEGER NOT NULL,
        PRIMARY KEY (swap_id, leg)
    ) STRICT, WITHOUT ROWID;

    -- Only while a preimage may have to be used.
    CREATE TABLE preimages (swap_id BLOB PRIMARY KEY, preimage BLOB NOT NULL) STRICT, WITHOUT ROWID;

    -- What is sent until it is ordered or its window has passed; the bytes never change.
    CREATE TABLE sendings (
        swap_id BLOB NOT NULL, kind INTEGER NOT NULL, leg INTEGER NOT NULL, bundle BLOB NOT NULL,
        is_asked INTEGER NOT NULL, PRIMARY KEY (swap_id, kind, leg)
    ) STRICT, WITHOUT ROWID;

    -- Where the reveal or cancellation that acted stands: the response to whoever asks for it again.
    CREATE TABLE acted (
        swap_id BLOB NOT NULL, kind INTEGER NOT NULL, response BLOB NOT NULL, PRIMARY KEY (swap_id, kind)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE changes (sequence INTEGER PRIMARY KEY, swap_id BLOB NOT NULL, view BLOB NOT NULL) STRICT;

    CREATE TABLE events (
        swap_id BLOB NOT NULL, place INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY (swap_id, place)
    ) STRICT, WITHOUT ROWID;

    """,
    """
    -- Which rollups have to get to which blocks for a swap to reach its next levels (`bridge.levels`): of its
    -- decision, or of its opening while it is not decided.
    CREATE TABLE waiting_steps (
        source INTEGER NOT NULL, rollup TEXT NOT NULL, height INTEGER NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (source, rollup, height, number)
    ) STRICT, WITHOUT ROWID;

    -- Up to where each rollup was seen to have got, when a swap last reached a level by it.
    CREATE TABLE heights (
        source INTEGER NOT NULL, rollup TEXT NOT NULL, height INTEGER NOT NULL, PRIMARY KEY (source, rollup)
    ) STRICT, WITHOUT ROWID;

    -- The settlement log's newest checkpoint that something here rests on: a later one must extend it.
    CREATE TABLE checkpoints (
        origin TEXT PRIMARY KEY, size BLOB NOT NULL, root BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE swaps ADD COLUMN level INTEGER NOT NULL DEFAULT 0;
    UPDATE swaps SET level = 1 WHERE phase BETWEEN 3 AND 7;
    """,
    """
    -- Checksums of the other columns (deploy.node.seals).
    ALTER TABLE register ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE swaps ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE parties ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE proposals ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE locks ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE preimages ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE sendings ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE acted ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE changes ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE events ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE waiting_steps ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE heights ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE checkpoints ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    UPDATE register SET seal = seal(key, value);
    UPDATE swaps SET seal = seal(number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, sequence,
        view, level);
    UPDATE parties SET seal = seal(party, number);
    UPDATE proposals SET seal = seal(idempotency_key, swap_id, policy);
    UPDATE locks SET seal = seal(swap_id, leg, payload, is_ordered);
    UPDATE preimages SET seal = seal(swap_id, preimage);
    UPDATE sendings SET seal = seal(swap_id, kind, leg, bundle, is_asked);
    UPDATE acted SET seal = seal(swap_id, kind, response);
    UPDATE changes SET seal = seal(sequence, swap_id, view);
    UPDATE events SET seal = seal(swap_id, place, event);
    UPDATE waiting_steps SET seal = seal(source, rollup, height, number);
    UPDATE heights SET seal = seal(source, rollup, height);
    UPDATE checkpoints SET seal = seal(origin, size, root);

    -- How many transactions there were: a file beside the database tells it as well (deploy.node.high_water).
    CREATE TABLE commits (
        id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, seal BLOB NOT NULL
    ) STRICT;
    """,
    """
    -- What lapsed is forgotten without a look at all that did not.
    CREATE INDEX parties_by_number ON parties (number);
    CREATE INDEX proposals_by_swap ON proposals (swap_id);
    """,
    """
    -- What is kept for every swap is in the order of their numbers, so that what new ones write stands
    -- together: under their ids it was a page of the database for each of them.
    ALTER TABLE events RENAME TO events_by_id;
    CREATE TABLE events (
        number INTEGER NOT NULL, place INTEGER NOT NULL, event BLOB NOT NULL,
        seal BLOB NOT NULL DEFAULT x'', PRIMARY KEY (number, place)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO events SELECT number, place, event, seal(number, place, event)
        FROM swaps JOIN events_by_id USING (swap_id)
        WHERE sound(events_by_id.seal, events_by_id.swap_id, place, event) ORDER BY number, place;
    DROP TABLE events_by_id;

    ALTER TABLE acted RENAME TO acted_by_id;
    CREATE TABLE acted (
        number INTEGER NOT NULL, kind INTEGER NOT NULL, response BLOB NOT NULL,
        seal BLOB NOT NULL DEFAULT x'', PRIMARY KEY (number, kind)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO acted SELECT number, kind, response, seal(number, kind, response)
        FROM swaps JOIN acted_by_id USING (swap_id)
        WHERE sound(acted_by_id.seal, acted_by_id.swap_id, kind, response) ORDER BY number, kind;
    DROP TABLE acted_by_id;
    """,
)
"""One script per version."""

_PAGE_ROWS: Final = 10_000
"""Rows that one read fetches while loading, as in the statements below."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a coordinator starts from."""

    register: Register
    """The register at the last height of which the database knows."""
    is_new: bool
    """Whether the database holds no register yet."""
    swaps: Mapping[SwapId, Swap]
    """Every swap that is not over."""
    next_number: int
    """The number of the next new swap."""
    first_sequence: int
    """The first number of a change that is still there, or the next number if there is none."""
    next_sequence: int
    """The number of the next change."""
    heights: Heights
    """Up to where rollups were seen to have got."""
    checkpoint: Checkpoint | None
    """The settlement log's checkpoint that this rests on; None if there is none."""
    commits: int
    """Transactions that there were."""


async def load(database: Database, genesis: Genesis, *, new_sequence: int) -> Loaded:
    """Return what the database holds. A new one starts to number changes at `new_sequence`."""
    rows = await _read_all(database, _REGISTER_PAGE, (b"",))
    register = restore(genesis, rows) if rows else genesis_register(genesis)
    [(last_number, last_sequence, first_kept, last_kept)] = await database.read(_ENDS)
    next_sequence = new_sequence if last_kept is None else max(last_kept, last_sequence or 0) + 1
    return Loaded(
        register,
        not rows,
        await _load_live(database, register),
        next_number=(last_number or 0) + 1,
        first_sequence=next_sequence if first_kept is None else first_kept,
        next_sequence=next_sequence,
        heights=await _load_heights(database),
        checkpoint=await _load_checkpoint(database, genesis.settlement.origin),
        commits=await _load_commits(database),
    )


async def _load_heights(database: Database) -> Heights:
    rows = await database.read(
        "SELECT source, rollup, height FROM heights WHERE sound(seal, source, rollup, height)"
    )
    return Heights({(Source(source), RollupId(rollup)): height for source, rollup, height in rows})


async def _load_commits(database: Database) -> int:
    row = await database.read_one("SELECT number FROM commits WHERE sound(seal, number)")
    return 0 if row is None else int(row[0])


async def _load_checkpoint(database: Database, origin: str) -> Checkpoint | None:
    row = await database.read_one(
        "SELECT size, root FROM checkpoints WHERE origin = ? AND sound(seal, origin, size, root)", (origin,)
    )
    return None if row is None else Checkpoint(origin, int.from_bytes(row[0], "big"), row[1])


async def load_final(
    database: Database, swap_ids: Collection[SwapId], register: Register
) -> dict[SwapId, Swap]:
    """Return those of some swaps that are over and known. Nothing was kept that is not in their rows."""
    if not swap_ids:
        return {}
    rows = await database.read(_with_places(_SWAPS, len(swap_ids)), tuple(swap_ids))
    return {SwapId(row[1]): _read_swap(row, register) for row in rows}


async def load_requests(
    database: Database, keys: Collection[bytes]
) -> dict[bytes, tuple[SwapId, RevealPolicy]]:
    """Return those of some idempotency keys that are known, with the request that each stands for."""
    if not keys:
        return {}
    rows = await database.read(_with_places(_REQUESTS, len(keys)), tuple(keys))
    return {key: (SwapId(swap_id), RevealPolicy(policy)) for key, swap_id, policy in rows}


def _with_places(sql: str, count: int) -> str:
    """Return a statement with so many placeholders where it has `(?)`."""
    return sql.replace("(?)", f"({', '.join('?' * count)})")


async def _load_live(database: Database, register: Register) -> dict[SwapId, Swap]:
    chain = register.registry.chain_id
    locks: dict[bytes, dict[int, GivenLock]] = defaultdict(dict)
    for swap_id, leg, payload, is_ordered in await _read_all(database, _LOCKS_PAGE, (b"", -1)):
        valid_until_ms = decode_transaction(payload).valid_until_ms
        locks[swap_id][leg] = GivenLock(payload, valid_until_ms, bool(is_ordered))
    sendings: dict[bytes, dict[tuple[SendKind, int], Sending]] = defaultdict(dict)
    for swap_id, kind, leg, bundle, is_asked in await _read_all(database, _SENDINGS_PAGE, (b"", -1, -1)):
        sending = _read_sending(kind, leg, bundle, is_asked, chain)
        sendings[swap_id][sending.kind, leg] = sending
    preimages: dict[bytes, bytes] = dict(await _read_all(database, _PREIMAGES_PAGE, (b"",)))
    live = {}
    for row in await _read_all(database, _LIVE_PAGE, (0,)):
        swap = _read_swap(row, register)
        live[swap.swap_id] = replace(
            swap,
            preimage=preimages.get(swap.swap_id),
            locks=locks.get(swap.swap_id, {}),
            sendings=sendings.get(swap.swap_id, {}),
        )
    return live


async def _read_all(database: Database, sql: str, start: tuple[SqlValue, ...]) -> list[Row]:
    """Return all rows of a query that pages by its first columns, of which `start` is below all."""
    rows: list[Row] = []
    while True:
        page = await database.read(sql, start)
        rows += page
        if len(page) < _PAGE_ROWS:
            return rows
        start = page[-1][: len(start)]


# Each on its own is read off an index, which two at once are not.
_ENDS: Final = (
    "SELECT (SELECT max(number) FROM swaps), (SELECT max(sequence) FROM swaps), "
    "(SELECT min(sequence) FROM changes), (SELECT max(sequence) FROM changes)"
)
_REGISTER_PAGE: Final = (
    "SELECT key, value FROM register WHERE key > ? AND sound(seal, key, value) ORDER BY key LIMIT 10000"
)
_LOCKS_PAGE: Final = (
    "SELECT swap_id, leg, payload, is_ordered FROM locks WHERE (swap_id, leg) > (?, ?) "
    "AND sound(seal, swap_id, leg, payload, is_ordered) "
    "ORDER BY swap_id, leg LIMIT 10000"
)
_SENDINGS_PAGE: Final = (
    "SELECT swap_id, kind, leg, bundle, is_asked FROM sendings WHERE (swap_id, kind, leg) > (?, ?, ?) "
    "AND sound(seal, swap_id, kind, leg, bundle, is_asked) "
    "ORDER BY swap_id, kind, leg LIMIT 10000"
)
_PREIMAGES_PAGE: Final = (
    "SELECT swap_id, preimage FROM preimages WHERE swap_id > ? AND sound(seal, swap_id, preimage) "
    "ORDER BY swap_id LIMIT 10000"
)
# Phases 6 and above are over.
_LIVE_PAGE: Final = (
    "SELECT number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, sequence, level FROM swaps "
    "WHERE number > ? AND sound(seal, number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, "
    "sequence, view, level) AND phase < 6 ORDER BY number LIMIT 10000"
)
_REQUESTS: Final = (
    "SELECT idempotency_key, swap_id, policy FROM proposals "
    "WHERE idempotency_key IN (?) AND sound(seal, idempotency_key, swap_id, policy)"
)
_SWAPS: Final = (
    "SELECT number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, sequence, level FROM swaps "
    "WHERE swap_id IN (?) AND sound(seal, number, swap_id, terms, phase, policy, is_bundle_ordered, "
    "final_ms, sequence, view, level)"
)


def _read_swap(row: Row, register: Register) -> Swap:
    number, swap_id, terms_bytes, phase, policy, is_bundle_ordered, final_ms, sequence, level = row
    return Swap(
        number=number,
        swap_id=SwapId(swap_id),
        terms_bytes=terms_bytes,
        terms=decode_terms(terms_bytes),
        phase=Phase(phase),
        policy=RevealPolicy(policy) if policy else None,
        is_bundle_ordered=bool(is_bundle_ordered),
        record=register.record(SwapId(swap_id)),
        final_ms=final_ms,
        sequence=sequence,
        level=Level(level),
    )


def _read_sending(kind: int, leg: int, encoded: bytes, is_asked: int, chain: ChainId) -> Sending:
    bundle = read_bundle(common_pb2.Bundle.FromString(encoded))
    return Sending(SendKind(kind), leg, bundle, bundle_id_of(chain, bundle), bool(is_asked))
