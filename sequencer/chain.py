"""What admission and signing must know of the chain so far: its register, block by block.

Owns the register after the newest block, its registry included, and the size of the newest ordered
checkpoint. The ledger stores the register of each block with the block after it, so that a start replays what
was ordered since, which is one block; without stored rows it replays all. Invariant: rebuilt at any height it
is what it was when it came there.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final

from deploy.node.failures import DataRefused
from lockstep.block import Block
from lockstep.checkpoint import parse_checkpoint, parse_note
from lockstep.errors import Malformed
from lockstep.genesis import Genesis
from lockstep.header import decode_header, header_hash
from lockstep.order import decode_entry
from lockstep.register import (
    RULES_KNOWN,
    BlockInput,
    Register,
    apply_block,
    genesis_register,
    restore,
    rows,
)
from lockstep.registry import Registry, role_key_at
from lockstep.settlement_entries import decode_log_entry
from lockstep.types import (
    LOG_NAMESPACE,
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    HeaderHash,
    Height,
    Namespace,
    PublicKey,
)
from sequencer.admission import open_namespaces
from sequencer.ledger import Ledger, RegisterRow, StoredBlock, entries_in

_PAGE_BLOCKS: Final = 1_000

_ENTRIES_INLINE_MAX: Final = 32
"""Entries that are applied on the event loop; more go to a thread."""


class ChainState:
    """The register after the newest block, and what follows from it."""

    def __init__(
        self,
        register: Register,
        *,
        log_size: int = 0,
        keep: Callable[[Iterable[RegisterRow]], None] = lambda _: None,
    ) -> None:
        """Start after the block of `register`; `keep` is given what changes in its table by each block."""
        self.register = register
        """The register after the newest block."""
        self.log_size = log_size
        """Entries of the settlement log under the largest checkpoint that was ordered; 0 before the first."""
        self.namespaces: Set[Namespace] = open_namespaces(register.registry)
        """The namespaces that take transactions."""
        self._keep = keep

    @property
    def registry(self) -> Registry:
        """The registry after the newest block."""
        return self.register.registry

    @property
    def height(self) -> Height:
        """Height of the newest block."""
        return self.register.height

    @property
    def head_key(self) -> PublicKey:
        """The key that signs the newest header."""
        return self.registry.keys["sequencer"]

    @property
    def next_key(self) -> PublicKey:
        """The key that signs the next header."""
        return role_key_at(self.registry, "sequencer", Height(self.height + 1))

    @property
    def unknown_rules(self) -> int | None:
        """The version of the rules of the next block if this software does not know it; else None."""
        change = self.registry.next_rules_change
        if change is None or change.height > self.height + 1 or change.version <= RULES_KNOWN:
            return None
        return change.version

    async def apply(self, block: Block) -> None:
        """Go on to the next block. Takes turns with nobody: one call at a time."""
        entered = _input(
            block.header.height,
            block.hash,
            block.header.time_ms,
            block.entries.get(REGISTRY_NAMESPACE, ()),
            block.entries.get(SWAP_NAMESPACE, ()),
        )
        before = self.register
        if len(entered.swap_entries) + len(entered.registry_entries) <= _ENTRIES_INLINE_MAX:
            after, _ = apply_block(before, entered)
        else:
            after, _ = await asyncio.to_thread(apply_block, before, entered)
        self._keep(rows(before, after))
        self.register = after
        self.log_size = max(self.log_size, _log_size(block.entries.get(LOG_NAMESPACE, ())))
        if before.registry is not after.registry:
            self.namespaces = open_namespaces(after.registry)


async def load_chain(ledger: Ledger, genesis: Genesis) -> ChainState:
    """Return the state after the newest block of a ledger. Raises DataRefused."""
    stored = await _load_register(ledger, genesis)
    register = genesis_register(genesis) if stored is None else stored
    _, newest = await ledger.heights()
    while register.height < newest:
        register = await _replay(ledger, register, newest)
    ledger.keep(rows(stored, register))
    return ChainState(register, log_size=await _load_log_size(ledger), keep=ledger.keep)


async def _load_register(ledger: Ledger, genesis: Genesis) -> Register | None:
    """Return the register that is stored, which is of one of the ledger's blocks; None if none is."""
    table = await ledger.register_rows()
    if not table:
        return None
    try:
        register = await asyncio.to_thread(restore, genesis, table)
    except Malformed as error:
        raise DataRefused(f"the stored register is damaged: {error.message}; put back a copy") from error
    if register.height:
        blocks = await ledger.blocks(range(register.height, register.height + 1))
        if [header_hash(each.header) for each in blocks] != [register.header_hash]:
            raise DataRefused(
                f"the stored register is of another block {register.height} than the ledger's; "
                "put back a copy of the database"
            )
    return register


async def _replay(ledger: Ledger, register: Register, newest: Height) -> Register:
    """Return the register some blocks further on."""
    heights = range(register.height + 1, min(register.height + _PAGE_BLOCKS, newest) + 1)
    blocks = await ledger.blocks(heights)
    shares = await ledger.shares(heights, (SWAP_NAMESPACE, REGISTRY_NAMESPACE))
    return await asyncio.to_thread(_apply_all, register, blocks, shares)


def _apply_all(
    register: Register,
    blocks: Sequence[StoredBlock],
    shares: dict[Height, dict[Namespace, bytes]],
) -> Register:
    for block in blocks:
        share = shares.get(block.height, {})
        header = decode_header(block.header)
        entered = _input(
            header.height,
            header_hash(block.header),
            header.time_ms,
            entries_in(share.get(REGISTRY_NAMESPACE, b"")),
            entries_in(share.get(SWAP_NAMESPACE, b"")),
        )
        register, _ = apply_block(register, entered)
    return register


def _input(
    height: Height,
    hashed: HeaderHash,
    time_ms: int,
    registry_entries: Iterable[bytes],
    swap_entries: Iterable[bytes],
) -> BlockInput:
    """Return what the register reads of a block with these encoded entries."""
    return BlockInput(
        height=height,
        header_hash=hashed,
        time_ms=time_ms,
        registry_entries=[(each.index, each.payload) for each in map(decode_entry, registry_entries)],
        swap_entries=[(each.index, each.payload) for each in map(decode_entry, swap_entries)],
    )


async def _load_log_size(ledger: Ledger) -> int:
    """Return the size of the newest ordered checkpoint; 0 if there is none."""
    newest = await ledger.newest_share(LOG_NAMESPACE)
    return 0 if newest is None else _log_size(entries_in(newest))


def _log_size(entries: Iterable[bytes]) -> int:
    """Return the largest size that a block's checkpoints tell; admission has verified them."""
    size = 0
    for entry in map(decode_entry, entries):
        try:
            size = max(size, parse_checkpoint(parse_note(decode_log_entry(entry.payload)).body).size)
        except Malformed:
            continue
    return size
