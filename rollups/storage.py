"""The node's database: what was executed, as rows, and the way back from rows to a running state.

Owns the schema and every statement. Decides nothing. Invariant: after each transaction the rows are those
of one height, and loading them gives the roots that the commitment of that height names; anything else is
refused, because it was not written by this software from this order. Nothing is pruned: receipts and
blocks are kept for ever, and the database grows with the order.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError
from typing import Final

from deploy.node.database import Database, Row, Statement, open_database
from deploy.node.failpoints import FAILPOINTS
from deploy.node.failures import DataRefused
from lockstep.commitment import (
    Commitment,
    commitment_hash,
    decode_commitment,
    encode_commitment,
    seen_hash,
    seen_key,
)
from lockstep.errors import Malformed
from lockstep.genesis import Genesis
from lockstep.limits import VALIDITY_WINDOW_MS_MAX
from lockstep.merkle import AppendTree, Frontier
from lockstep.merkle_map import BranchHash, MerkleMap
from lockstep.receipts import ReceiptCode, about, receipt_leaf_hash
from lockstep.register import Register, restore, rows
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import RollupId, SwapId, TransactionId
from rollups.recent import CLEAR, READ_BRANCHES, READ_RECENT, Recent, decode_hashes, seed
from rollups.recent import SCHEMA as RECENT_SCHEMA
from rollups.runtime import RollupState, genesis_state, genesis_values
from rollups.state import SECOND_MS, Changes
from rollups.stored_state import StoredState

BEFORE_COMMIT: Final = FAILPOINTS.declare(
    "rollup.block.before_commit", "blocks are executed, nothing of them is durable"
)
COMMITTED: Final = FAILPOINTS.declare("rollup.block.committed", "blocks are durable, nobody was told of them")
POSTING: Final = FAILPOINTS.declare("rollup.commitment.before_store", "a commitment is signed, not durable")
POSTED: Final = FAILPOINTS.declare("rollup.commitment.stored", "a signed commitment is durable, not sent")

APPLICATION_ID: Final = int.from_bytes(b"Lk-R", "big")
"""The mark of a rollup node's database."""

PAGE_ROWS: Final = 50_000
"""Rows that are read at a time while loading."""

REFUSED: Final = -1
"""Stands as the index of a commitment that the log will never take."""

_REPAIR: Final = "delete the data folder, and the node rebuilds it from the order"

_NO_LEG: Final = -1
"""Stands as the leg of a transaction's receipt."""

SCHEMA: Final = (
    """
    CREATE TABLE origin(
        id INTEGER PRIMARY KEY CHECK (id = 1),
        chain BLOB NOT NULL,
        rollup TEXT NOT NULL
    ) STRICT;
    CREATE TABLE state(key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE seen(
        second INTEGER NOT NULL,
        position INTEGER NOT NULL,
        id BLOB NOT NULL,
        PRIMARY KEY (second, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE register(key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE receipts(
        place INTEGER PRIMARY KEY,
        height INTEGER NOT NULL,
        subject BLOB NOT NULL,
        leg INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        receipt BLOB NOT NULL
    ) STRICT;
    CREATE INDEX receipts_by_subject ON receipts(subject, leg, failed, place);
    CREATE INDEX receipts_by_height ON receipts(height, place);
    CREATE TABLE blocks(
        height INTEGER PRIMARY KEY,
        header BLOB NOT NULL,
        proof BLOB NOT NULL,
        commitment BLOB NOT NULL
    ) STRICT;
    CREATE TABLE posted(
        attester BLOB NOT NULL,
        height INTEGER NOT NULL,
        commitment_hash BLOB NOT NULL,
        entry BLOB NOT NULL,
        log_index INTEGER,
        PRIMARY KEY (attester, height)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE compared(
        id INTEGER PRIMARY KEY CHECK (id = 1),
        height INTEGER NOT NULL
    ) STRICT;
    """,
    """
    -- Checksums of the other columns (deploy.node.seals). The state's root covers `state` and `seen`, the
    -- receipts' root what is in `receipts`.
    ALTER TABLE register ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE blocks ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE posted ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE compared ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    UPDATE register SET seal = seal(key, value);
    UPDATE blocks SET seal = seal(height, header, proof, commitment);
    UPDATE posted SET seal = seal(attester, height, commitment_hash, entry, log_index);
    UPDATE compared SET seal = seal(height);
    """,
    """
    -- Where a height's receipts begin is what the commitment before it counts.
    DROP INDEX receipts_by_height;
    """,
    RECENT_SCHEMA,
)


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """What is kept of an executed block."""

    header: ProvenHeader
    """Its signed header."""
    commitment: Commitment
    """The commitment after it."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Everything that some consecutive blocks changed, to be written as one transaction."""

    changes: Changes
    """Values and seen ids."""
    content: MerkleMap
    """The tree over the values after them."""
    register_rows: Iterable[tuple[bytes, bytes | None]]
    """Rows of the register to be set, or with None removed."""
    first_receipt: int
    """Index of the first of `receipts` among all of the rollup."""
    receipts: Sequence[bytes]
    """The blocks' receipts, in order."""
    blocks: Sequence[StoredBlock]
    """The blocks, in order."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a node starts from."""

    state: RollupState
    """The rollup after the last executed block."""
    memory: StoredState
    """All its values and seen ids."""
    receipts: AppendTree
    """All its receipts' hashes."""
    block: StoredBlock | None
    """The last executed block; None before the first."""


@dataclass(frozen=True, slots=True)
class PostedEntry:
    """A commitment that was signed for the settlement log."""

    height: int
    """Its height."""
    commitment_hash: bytes
    """The 32 bytes that name it."""
    entry: bytes
    """The entry of the log, as signed."""
    log_index: int | None
    """Where it stands in the log; REFUSED if it does not; None while that is not known."""


class Storage:
    """The open database of a node; see `open_storage`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent = Recent()
        # The node's own tree, by which a receipt that is read is known to be the one that was written.
        self._receipts = AppendTree()

    async def load(self, genesis: Genesis, rollup: RollupId) -> Loaded:
        """Return what was stored last, genesis if nothing was. Raises DataRefused if it does not hold."""
        is_new = await self._claim(genesis, rollup)
        register = await self._load_register(genesis)
        memory, content = await self._load_state()
        await self._load_seen(memory, register.time_ms)
        leaves: list[bytes] = []
        async for place, receipt, is_listed in self._pages(_RECEIPTS_PAGE, (-1,), keys=1):
            if place != len(leaves) or not is_listed:
                raise _damaged(f"receipt {len(leaves)} is not where its index says")
            leaves.append(receipt_leaf_hash(receipt))
        state = RollupState(rollup, register, content, Frontier().extend(leaves))
        block = await self.block(state.height) if state.height else None
        if not is_new:
            self._verify(genesis, state, block)
        self._receipts = AppendTree(leaves)
        return Loaded(state, memory, self._receipts, block)

    async def save(self, delta: Delta, memory: StoredState) -> None:
        """Write what some blocks changed, all of it or nothing; `memory` is the state before them."""
        seen = [
            (second, len(memory.seen.get(second, ())) + place, each)
            for second, ids in delta.changes.seen.items()
            for place, each in enumerate(ids)
        ]
        writing = self._recent.write(delta.changes.values, delta.content)
        statements: list[Statement] = [
            *writing.statements,
            (_SEEN_FORGET, [(second,) for second in delta.changes.forgotten]),
            (_SEEN_ADD, seen),
            *_register_statements(delta.register_rows),
            (
                _RECEIPT_ADD,
                [
                    _receipt_row(delta.first_receipt + place, receipt)
                    for place, receipt in enumerate(delta.receipts)
                ],
            ),
            (_BLOCK_ADD, [_block_row(block) for block in delta.blocks]),
        ]
        FAILPOINTS.reach(BEFORE_COMMIT)
        await self._database.transact([statement for statement in statements if statement[1]])
        self._recent.written(writing)
        FAILPOINTS.reach(COMMITTED)

    async def block(self, height: int) -> StoredBlock | None:
        """Return an executed block; None if it was not executed yet."""
        row = await self._database.read_one(
            "SELECT header, proof, commitment FROM blocks"
            " WHERE height = ? AND sound(seal, height, header, proof, commitment)",
            (height,),
        )
        return None if row is None else StoredBlock(ProvenHeader(row[0], row[1]), decode_commitment(row[2]))

    async def receipt_of_transaction(self, subject: TransactionId) -> tuple[int, bytes] | None:
        """Return index and bytes of a transaction's receipt: the first that acted, else that failed."""
        return await self._first_receipt(subject, _NO_LEG)

    async def receipt_of_leg(self, swap_id: SwapId, leg: int) -> tuple[int, bytes] | None:
        """Return index and bytes of a leg's newest settlement: a swap may be opened again."""
        row = await self._database.read_one(
            "SELECT place, receipt FROM receipts WHERE subject = ? AND leg = ? ORDER BY place DESC LIMIT 1",
            (swap_id, leg),
        )
        return None if row is None else (row[0], self._verified(row[0], row[1]))

    async def receipts_from(self, index: int, count: int) -> list[tuple[int, int, bytes]]:
        """Return index, height and bytes of at most `count` receipts from an index on."""
        found = await self._database.read(
            "SELECT place, height, receipt FROM receipts WHERE place >= ? ORDER BY place LIMIT ?",
            (index, count),
        )
        return [(place, height, self._verified(place, receipt)) for place, height, receipt in found]

    async def posted(self, attester: bytes) -> tuple[PostedEntry | None, PostedEntry | None]:
        """Return the newest commitment that a key signed for the log, and the newest that the log took."""
        newest = await self._database.read_one(
            "SELECT height, commitment_hash, entry, log_index FROM posted WHERE attester = ? "
            "AND sound(seal, attester, height, commitment_hash, entry, log_index) "
            "ORDER BY height DESC LIMIT 1",
            (attester,),
        )
        accepted = await self._database.read_one(
            "SELECT height, commitment_hash, entry, log_index FROM posted "
            "WHERE attester = ? AND sound(seal, attester, height, commitment_hash, entry, log_index) "
            "AND log_index >= 0 ORDER BY height DESC LIMIT 1",
            (attester,),
        )
        return (
            None if newest is None else PostedEntry(*newest),
            None if accepted is None else PostedEntry(*accepted),
        )

    async def posted_at(self, attester: bytes, height: int) -> bytes | None:
        """Return what a key signed for the log at a height, if it did."""
        row = await self._database.read_one(
            "SELECT entry FROM posted WHERE attester = ? AND height = ? "
            "AND sound(seal, attester, height, commitment_hash, entry, log_index)",
            (attester, height),
        )
        return None if row is None else row[0]

    async def save_posted(self, attester: bytes, posted: PostedEntry) -> None:
        """Keep a signed commitment, before it is sent."""
        row = (attester, posted.height, posted.commitment_hash, posted.entry, posted.log_index)
        FAILPOINTS.reach(POSTING)
        await self._database.transact([(_POSTED_ADD, [row])])
        FAILPOINTS.reach(POSTED)

    async def save_log_index(self, attester: bytes, height: int, log_index: int) -> None:
        """Keep where the log has a commitment, or that it is REFUSED."""
        row = (log_index, attester, height)
        await self._database.transact(
            [
                (
                    "UPDATE posted SET log_index = ?1, "
                    "seal = seal(attester, height, commitment_hash, entry, ?1) "
                    "WHERE attester = ?2 AND height = ?3",
                    [row],
                )
            ]
        )

    async def compared_height(self) -> int | None:
        """Return the newest height at which the settlement log agreed; None if it never did.

        0 if the log had nothing to compare with.
        """
        row = await self._database.read_one("SELECT height FROM compared WHERE sound(seal, height)")
        return None if row is None else row[0]

    async def save_compared_height(self, height: int) -> None:
        """Keep at which height the settlement log agreed."""
        await self._database.transact([(_COMPARED_PUT, [(height,)])])

    async def _claim(self, genesis: Genesis, rollup: RollupId) -> bool:
        """Make a new database this rollup's, or see that it is; answer whether it was new."""
        origin = await self._database.read_one("SELECT chain, rollup FROM origin")
        if origin is None:
            register, changes = genesis_values(genesis, rollup)
            await self._seed({key: value for key, value in changes.values.items() if value is not None})
            await self._database.transact(
                [
                    (
                        "INSERT INTO origin(id, chain, rollup) VALUES (1, ?, ?)",
                        [(genesis.chain_id, rollup)],
                    ),
                    *_register_statements(rows(None, register)),
                ]
            )
        elif origin != (genesis.chain_id, rollup):
            raise DataRefused(
                f"the data is of rollup {origin[1]} on chain {origin[0].hex()}, the settings say {rollup} "
                f"on {genesis.chain_id.hex()}; correct the settings, or give another data folder"
            )
        elif await self._database.read_one("SELECT 1 FROM former_state LIMIT 1") is not None:
            # Written by a version that had a row for each key, and nothing of the tree.
            pages = self._pages(_FORMER_STATE_PAGE, (b"",), keys=1)
            await self._seed({key: value async for key, value in pages})
            await self._database.transact([("DELETE FROM former_state", [()])])
        return origin is None

    async def _seed(self, values: Mapping[bytes, bytes]) -> None:
        """Write a whole state. What was begun earlier and not finished is written anew."""
        await self._database.transact(CLEAR)
        for statements in seed(values):
            await self._database.transact(statements)

    async def _load_state(self) -> tuple[StoredState, MerkleMap]:
        """Return the values, of which none is read yet, and the tree over them."""
        branches: dict[int, BranchHash | None] = {}
        self._recent = Recent()
        try:
            for (hashes,) in await self._database.read(READ_BRANCHES):
                branches.update(decode_hashes(hashes))
            async for step, changes, hashes in self._pages(READ_RECENT, (-1,), keys=1):
                self._recent.restore(step, changes)
                branches.update(decode_hashes(hashes))
        except StructError as error:
            raise _damaged("the state's rows cannot be read") from error
        memory = StoredState(self._database.read_at_once, self._recent, refused=_damaged)
        content = memory.tree_of(filter(None, branches.values()))
        memory.read_if_small()
        return memory, content

    async def _load_register(self, genesis: Genesis) -> Register:
        found = [(key, value) async for key, value in self._pages(_REGISTER_PAGE, (b"",), keys=1)]
        try:
            return restore(genesis, found)
        except Malformed as error:
            raise _damaged(f"the register's rows cannot be read: {error.message}") from error

    async def _load_seen(self, memory: StoredState, time_ms: int) -> None:
        hashes: dict[int, bytes] = {}
        async for second, _, each in self._pages(_SEEN_PAGE, (-1, -1), keys=2):
            memory.seen.setdefault(second, set()).add(each)
            hashes[second] = seen_hash(hashes.get(second), each)
        first = time_ms // SECOND_MS
        last = (time_ms + VALIDITY_WINDOW_MS_MAX) // SECOND_MS
        stored = {
            second: value
            for second in range(first, last + 1)
            if (value := memory.get(seen_key(second))) is not None
        }
        if hashes != stored:
            raise _damaged("the seen ids are not those under the state's root")

    def _verify(self, genesis: Genesis, state: RollupState, block: StoredBlock | None) -> None:
        """Insist that what was loaded makes the commitment that was stored with it."""
        if block is None:
            start, _ = genesis_state(genesis, state.rollup)
            if state.height or state.commitment != start.commitment:
                raise _damaged("its last block is missing")
        elif state.commitment != block.commitment:
            raise _damaged(
                f"the rows at height {state.height} make commitment "
                f"{commitment_hash(state.commitment).hex()}, stored is "
                f"{commitment_hash(block.commitment).hex()}"
            )

    async def _first_receipt(self, subject: bytes, leg: int) -> tuple[int, bytes] | None:
        row = await self._database.read_one(
            "SELECT place, receipt FROM receipts WHERE subject = ? AND leg = ? "
            "ORDER BY failed, place LIMIT 1",
            (subject, leg),
        )
        return None if row is None else (row[0], self._verified(row[0], row[1]))

    def _verified(self, place: int, receipt: bytes) -> bytes:
        """Return a receipt that was read, once it is the one under the root. Raises DataRefused."""
        # The database may be a moment ahead of the tree; what was written a moment ago is in memory.
        if place < self._receipts.size and receipt_leaf_hash(receipt) != self._receipts.leaf(place):
            raise _damaged(f"receipt {place} is not what was written")
        return receipt

    async def _pages(self, sql: str, start: tuple[int | bytes, ...], *, keys: int) -> AsyncIterator[Row]:
        """Yield all rows of a query that continues after the keys in a row's first columns."""
        after = start
        while True:
            page = await self._database.read(sql, (*after, PAGE_ROWS))
            for row in page:
                yield row
            if len(page) < PAGE_ROWS:
                return
            after = page[-1][:keys]


@asynccontextmanager
async def open_storage(path: Path) -> AsyncIterator[Storage]:
    """Open the node's database while the `async with` block lasts; raises as `open_database`."""
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID, repair=_REPAIR) as database:
        yield Storage(database)


_FORMER_STATE_PAGE: Final = "SELECT key, value FROM former_state WHERE key > ? ORDER BY key LIMIT ?"
_SEEN_ADD: Final = "INSERT INTO seen(second, position, id) VALUES (?, ?, ?)"
_SEEN_FORGET: Final = "DELETE FROM seen WHERE second = ?"
_SEEN_PAGE: Final = (
    "SELECT second, position, id FROM seen WHERE (second, position) > (?, ?) "
    "ORDER BY second, position LIMIT ?"
)
_REGISTER_PUT: Final = (
    "INSERT INTO register(key, value, seal) VALUES (?1, ?2, seal(?1, ?2)) "
    "ON CONFLICT(key) DO UPDATE SET value = excluded.value, seal = excluded.seal"
)
_REGISTER_REMOVE: Final = "DELETE FROM register WHERE key = ?"
_REGISTER_PAGE: Final = (
    "SELECT key, value FROM register WHERE key > ? AND sound(seal, key, value) ORDER BY key LIMIT ?"
)
_RECEIPT_ADD: Final = (
    "INSERT INTO receipts(place, height, subject, leg, failed, receipt) VALUES (?, ?, ?, ?, ?, ?)"
)
# Whether the other columns are what the receipt says, as `_receipt_row` has them: its kind is byte 2, its
# height from byte 3 on, its subject from 15, its code from 47 (0 is OK, 206 LOCK_REJECTED), its leg byte 49.
_RECEIPTS_PAGE: Final = """
    SELECT place, receipt, subject = substr(receipt, 15, 32)
        AND printf('%016X', height) = hex(substr(receipt, 3, 8))
        AND CASE hex(substr(receipt, 2, 1))
            WHEN '01' THEN leg = -1 AND failed = (hex(substr(receipt, 47, 2)) NOT IN ('0000', '00CE'))
            ELSE printf('%02X', leg) = hex(substr(receipt, 49, 1)) AND failed = 0
        END
    FROM receipts WHERE place > ? ORDER BY place LIMIT ?
"""
_BLOCK_ADD: Final = (
    "INSERT INTO blocks(height, header, proof, commitment, seal) "
    "VALUES (?1, ?2, ?3, ?4, seal(?1, ?2, ?3, ?4))"
)
_POSTED_ADD: Final = (
    "INSERT INTO posted(attester, height, commitment_hash, entry, log_index, seal) "
    "VALUES (?1, ?2, ?3, ?4, ?5, seal(?1, ?2, ?3, ?4, ?5))"
)

_COMPARED_PUT: Final = (
    "INSERT INTO compared(id, height, seal) VALUES (1, ?1, seal(?1)) "
    "ON CONFLICT(id) DO UPDATE SET height = excluded.height, seal = excluded.seal"
)

_ACTED: Final = (ReceiptCode.OK, ReceiptCode.LOCK_REJECTED)
"""Codes of transactions that did something."""


def _register_statements(changed: Iterable[tuple[bytes, bytes | None]]) -> list[Statement]:
    found = list(changed)
    return [
        (_REGISTER_REMOVE, [(key,) for key, value in found if value is None]),
        (_REGISTER_PUT, [(key, value) for key, value in found if value is not None]),
    ]


def _receipt_row(place: int, encoded: bytes) -> tuple[int, int, bytes, int, int, bytes]:
    _, height, subject, code, leg = about(encoded)
    if leg is None:
        return place, height, subject, _NO_LEG, int(code not in _ACTED), encoded
    return place, height, subject, leg, 0, encoded


def _block_row(block: StoredBlock) -> tuple[int, bytes, bytes, bytes]:
    return (
        block.commitment.height,
        block.header.encoded,
        block.header.proof,
        encode_commitment(block.commitment),
    )


def _damaged(what: str) -> DataRefused:
    return DataRefused(f"the data does not hold: {what}; {_REPAIR}")
