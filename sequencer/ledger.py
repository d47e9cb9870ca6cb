"""The order on disk: blocks, their entries by namespace, and where each bundle stands.

Owns the tables. Thinks by the block, not by the row: a namespace's entries of a block are one blob, as they
travel, so that a stream reads what it sends and nothing else; the ids of a block's bundles are a blob for
each second in which their windows end, so that memory is rebuilt, and a bundle found, by reading the one
second. Invariant: blocks are contiguous and never change; one `append` is one transaction.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from deploy.node.database import Database, Statement, open_database
from deploy.node.failures import DataRefused
from lockstep.block import Block, Parcel
from lockstep.header import HEADER_BYTES
from lockstep.order import Placement, decode_namespace_leaves
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import BundleId, Height, Namespace, Signature
from lockstep.v1 import sequencer_pb2
from sequencer.builder import Proposal
from sequencer.engine import SealedBlock
from sequencer.live_ids import second_of

APPLICATION_ID: Final = 0x4C534571
"""The ledger's mark in its file."""

_SCHEMA: Final = (
    """
    CREATE TABLE blocks (
        height INTEGER PRIMARY KEY,
        header BLOB NOT NULL,
        namespace_leaves BLOB NOT NULL
    ) STRICT;

    -- A signature is stored with the next block: that of the newest is in memory and can be made again.
    CREATE TABLE signatures (
        height INTEGER PRIMARY KEY,
        signature BLOB NOT NULL
    ) STRICT;

    CREATE TABLE shares (
        id INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        height INTEGER NOT NULL,
        entries BLOB NOT NULL,
        UNIQUE (namespace, height)
    ) STRICT;

    -- places: for each bundle b32 id | u32 first_index | u16 count
    CREATE TABLE placements (
        id INTEGER PRIMARY KEY,
        second INTEGER NOT NULL,
        height INTEGER NOT NULL,
        places BLOB NOT NULL,
        UNIQUE (second, height)
    ) STRICT;
    """,
    """
    -- The register of the block before the newest, as lockstep.register_store has it.
    CREATE TABLE register (
        key BLOB PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    -- Checksums of the other columns (deploy.node.seals).
    ALTER TABLE blocks ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE signatures ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE shares ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE placements ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    ALTER TABLE register ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
    UPDATE blocks SET seal = seal(height, header, namespace_leaves);
    UPDATE signatures SET seal = seal(height, signature);
    UPDATE shares SET seal = seal(namespace, height, entries);
    UPDATE placements SET seal = seal(second, height, places);
    UPDATE register SET seal = seal(key, value);
    """,
)

RegisterRow = tuple[bytes, bytes | None]
"""A key of the register's table, and the value to put under it; None to delete the key."""

_INSERT_SIGNATURE: Final = (
    "INSERT OR IGNORE INTO signatures (height, signature, seal) VALUES (?1, ?2, seal(?1, ?2))"
)

_PUT_REGISTER: Final = (
    "INSERT INTO register (key, value, seal) VALUES (?1, ?2, seal(?1, ?2))"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, seal = excluded.seal"
)
_DELETE_REGISTER: Final = "DELETE FROM register WHERE key = ?"

_REPAIR: Final = "put back a copy of the data folder; deleted, this chain would be ordered a second time"

_CHECKPOINT_PAGES: Final = 4_000
"""Pages written between checkpoints, each of which holds up a block: a small one writes some ten pages, so
that with SQLite's thousand one of a hundred would be late."""

_PLACE: Final = Struct(">IH")
_PLACE_BYTES: Final = 32 + _PLACE.size
_PAGE_ROWS: Final = 256
"""Blocks that one read looks at; many small ones fit one message."""

_PAGE_REGISTER_ROWS: Final = 4_096


class StoredBlock(NamedTuple):
    """A block's row."""

    height: Height
    """Its height."""
    header: bytes
    """Its header's bytes."""
    leaves_bytes: bytes
    """Its namespace leaves."""
    signature: Signature | None
    """Its signature; None if it is not stored, which can only be so for the newest block."""


class Ledger:
    """An open ledger; see `open_ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # A look through all of history takes long: one at a time, so that other reads find a connection.
        self._searching = asyncio.Lock()
        self._kept: dict[bytes, bytes | None] = {}

    def keep(self, changed: Iterable[RegisterRow]) -> None:
        """Write these rows of the register with the next block."""
        self._kept.update(changed)

    async def append(
        self,
        proposal: Proposal,
        shares: Mapping[Namespace, bytes],
        previous: tuple[Height, Signature] | None,
        *,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Store a block, and the signature and register of the one before it; all is on disk after this.

        `then` is called once it is, in another thread, before this returns.

        Raises sqlite3.IntegrityError for a height that is there, StorageFailed.
        """
        block, height = proposal.block, proposal.block.header.height
        statements: list[Statement] = [
            (
                "INSERT INTO blocks (height, header, namespace_leaves, seal)"
                " VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))",
                [(height, block.header_bytes, block.leaves_bytes)],
            ),
            (
                "INSERT INTO shares (namespace, height, entries, seal) VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))",
                [(namespace, height, entries) for namespace, entries in shares.items()],
            ),
            (
                "INSERT INTO placements (second, height, places, seal) VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))",
                [(second, height, places) for second, places in _places_by_second(proposal).items()],
            ),
        ]
        if previous is not None:
            statements.append((_INSERT_SIGNATURE, [previous]))
        kept, self._kept = self._kept, {}
        put = [(key, value) for key, value in kept.items() if value is not None]
        statements.append((_PUT_REGISTER, put))
        statements.append((_DELETE_REGISTER, [(key,) for key, value in kept.items() if value is None]))
        await self._database.transact(statements, then=then)

    async def save_signature(self, height: Height, signature: Signature) -> None:
        """Store a block's signature, if it is not stored yet. Raises StorageFailed."""
        await self._database.transact([(_INSERT_SIGNATURE, [(height, signature)])])

    async def heights(self) -> tuple[Height, Height]:
        """Return the first and the newest height; 1 and 0 of an empty ledger."""
        row = await self._database.read_one("SELECT min(height), max(height) FROM blocks")
        assert row is not None, "an aggregate has one row"
        first, newest = row
        return Height(first or 1), Height(newest or 0)

    async def blocks(self, heights: range) -> list[StoredBlock]:
        """Return the rows of some blocks in order, without their entries. Raises DataRefused."""
        rows = await self._database.read(
            "SELECT blocks.height, header, namespace_leaves, signature FROM blocks"
            " LEFT JOIN signatures ON signatures.height = blocks.height"
            " WHERE blocks.height >= ? AND blocks.height < ?"
            " AND sound(blocks.seal, blocks.height, header, namespace_leaves)"
            " AND (signature IS NULL OR sound(signatures.seal, signatures.height, signature))"
            " ORDER BY blocks.height",
            (heights.start, heights.stop),
        )
        stored = [StoredBlock(*row) for row in rows]
        if [each.height for each in stored] != list(heights[: len(stored)]):
            raise _damaged(f"blocks are missing from {heights.start} on")
        return stored

    async def sealed(
        self, heights: range, namespaces: Sequence[Namespace], *, head: SealedBlock, bytes_max: int
    ) -> list[SealedBlock]:
        """Return shares of blocks, from the first of `heights` on, at least one, within `bytes_max`.

        `head` is the newest block, whose signature is not stored yet.
        """
        stored = await self.blocks(heights[:_PAGE_ROWS])
        chosen = await self._within(stored, namespaces, bytes_max)
        shares: Mapping[Height, Mapping[Namespace, bytes]] = {}
        if namespaces and chosen:
            shares = await self.shares(range(chosen[0].height, chosen[-1].height + 1), namespaces)
            _check_complete(chosen, namespaces, shares)
        return [_sealed(each, head, shares.get(each.height, {})) for each in chosen]

    async def _within(
        self, stored: list[StoredBlock], namespaces: Sequence[Namespace], bytes_max: int
    ) -> list[StoredBlock]:
        """Return as many of the blocks, at least one, as have shares within `bytes_max`."""
        if not stored:
            return []
        rows = await self._database.read(
            "SELECT height, sum(length(entries)) FROM shares"
            " WHERE namespace IN (SELECT value FROM json_each(?)) AND height >= ? AND height <= ?"
            " GROUP BY height",
            (json.dumps(namespaces), stored[0].height, stored[-1].height),
        )
        entries_bytes: dict[Height, int] = dict(rows)
        total_bytes = 0
        for position, each in enumerate(stored):
            total_bytes += HEADER_BYTES + 128 + len(each.leaves_bytes) + entries_bytes.get(each.height, 0)
            if total_bytes > bytes_max and position > 0:
                return stored[:position]
        return stored

    async def find(self, bundle_id: BundleId, valid_until_ms: int) -> Placement | None:
        """Return where a bundle stands; without its window (0) all of history is searched."""
        if valid_until_ms:
            rows = await self._database.read(
                "SELECT height, places FROM placements"
                " WHERE second = ? AND sound(seal, second, height, places) AND instr(places, ?) > 0",
                (second_of(valid_until_ms), bundle_id),
            )
        else:
            async with self._searching:
                rows = await self._database.read(
                    "SELECT height, places FROM placements WHERE sound(seal, second, height, places)"
                    " AND instr(places, ?) > 0",
                    (bundle_id,),
                )
        for height, places in rows:
            for placement in _placements(height, places):
                if placement.bundle_id == bundle_id:
                    return placement
        return None

    async def placements_from(self, second: int) -> AsyncIterator[tuple[int, Placement]]:
        """Yield every bundle whose window ends in `second` or later, with that second."""
        after = (second, 0)
        while rows := await self._database.read(
            "SELECT second, height, places FROM placements WHERE (second, height) > (?, ?)"
            " AND sound(seal, second, height, places)"
            " ORDER BY second, height LIMIT 256",
            after,
        ):
            for each_second, height, places in rows:
                for placement in _placements(height, places):
                    yield each_second, placement
            after = (rows[-1][0], rows[-1][1])

    async def shares(
        self, heights: range, namespaces: Sequence[Namespace]
    ) -> dict[Height, dict[Namespace, bytes]]:
        """Return the shares of some namespaces, by height, of those blocks that have any."""
        rows = await self._database.read(
            "SELECT height, namespace, entries FROM shares"
            " WHERE namespace IN (SELECT value FROM json_each(?)) AND height >= ? AND height < ?"
            " AND sound(seal, namespace, height, entries)",
            (json.dumps(namespaces), heights.start, heights.stop),
        )
        shares: dict[Height, dict[Namespace, bytes]] = {}
        for height, namespace, entries in rows:
            shares.setdefault(height, {})[namespace] = entries
        return shares

    async def newest_share(self, namespace: Namespace) -> bytes | None:
        """Return a namespace's share of the newest block in which it has any."""
        row = await self._database.read_one(
            "SELECT entries FROM shares WHERE namespace = ? AND sound(seal, namespace, height, entries)"
            " ORDER BY height DESC LIMIT 1",
            (namespace,),
        )
        return None if row is None else bytes(row[0])

    async def register_rows(self) -> list[tuple[bytes, bytes]]:
        """Return the register's table."""
        table: list[tuple[bytes, bytes]] = []
        while page := await self._database.read(
            "SELECT key, value FROM register WHERE key > ? AND sound(seal, key, value) ORDER BY key LIMIT ?",
            (table[-1][0] if table else b"", _PAGE_REGISTER_ROWS),
        ):
            table += [(key, value) for key, value in page]
        return table


@asynccontextmanager
async def open_ledger(path: Path) -> AsyncIterator[Ledger]:
    """Open or make the ledger at `path`; closed at the end of the block. Raises as `open_database`."""
    async with open_database(
        path,
        schema=_SCHEMA,
        application_id=APPLICATION_ID,
        readers=4,
        checkpoint_pages=_CHECKPOINT_PAGES,
        repair=_REPAIR,
    ) as database:
        yield Ledger(database)


def encode_shares(block: Block) -> dict[Namespace, bytes]:
    """Return each namespace's entries as they are stored and travel."""
    return {
        namespace: sequencer_pb2.NamespaceEntries(namespace=namespace, entries=entries).SerializeToString()
        for namespace, entries in sorted(block.entries.items())
    }


def entries_in(share: bytes) -> tuple[bytes, ...]:
    """Return the encoded entries of a namespace's share."""
    return tuple(sequencer_pb2.NamespaceEntries.FromString(share).entries)


def _check_complete(
    blocks: Sequence[StoredBlock],
    namespaces: Sequence[Namespace],
    shares: Mapping[Height, Mapping[Namespace, bytes]],
) -> None:
    """Check that every share is there that the blocks' leaves tell of. Raises DataRefused."""
    for block in blocks:
        named = {leaf.namespace for leaf in decode_namespace_leaves(block.leaves_bytes)}
        if named.intersection(namespaces) != shares.get(block.height, {}).keys():
            raise _damaged(f"entries of block {block.height} are missing")


def _damaged(what: str) -> DataRefused:
    return DataRefused(f"the ledger is damaged: {what}; {_REPAIR}")


def _sealed(stored: StoredBlock, head: SealedBlock, shares: Mapping[Namespace, bytes]) -> SealedBlock:
    if stored.height == head.height:
        return SealedBlock(head.height, head.header, head.leaves_bytes, shares)
    if stored.signature is None:
        raise AssertionError(f"block {stored.height} below the newest has no signature")
    header = ProvenHeader(stored.header, stored.signature)
    return SealedBlock(stored.height, header, stored.leaves_bytes, shares)


def _places_by_second(proposal: Proposal) -> dict[int, bytes]:
    places: defaultdict[int, list[bytes]] = defaultdict(list)
    pack = _PLACE.pack
    for bundle, place in zip(proposal.bundles, proposal.places, strict=True):
        if isinstance(bundle, Parcel):
            for index, (bundle_id, window_ms) in enumerate(
                zip(bundle.bundle_ids, bundle.windows_ms, strict=True), place.first_index
            ):
                places[second_of(window_ms)].append(bundle_id + pack(index, 1))
        else:
            count = len(bundle.transactions)
            places[second_of(bundle.valid_until_ms)].append(bundle.bundle_id + pack(place.first_index, count))
    return {second: b"".join(each) for second, each in places.items()}


def _placements(height: Height, places: bytes) -> Iterable[Placement]:
    for start in range(0, len(places), _PLACE_BYTES):
        first_index, count = _PLACE.unpack_from(places, start + 32)
        yield Placement(BundleId(places[start : start + 32]), height, first_index, count)
