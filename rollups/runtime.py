"""The state transition of a rollup: what a block of the order does to it.

Owns the order of work inside a block, the checks of a transaction's envelope, and the commitment. What calls
and settlements do is the modules'. Pure: the state after a block is a function of the genesis file and the
order up to it. Invariant: whoever executes the same blocks has the same commitments, byte for byte.

Order of work in a block
------------------------
1. Ids whose second of log time is over are forgotten.
2. The register takes the block's `_registry` and `_swap` entries (`lockstep.register`).
3. If this block registers the rollup, its modules write what holds from its start.
4. Every swap that the register decided is settled, in order of its deciding entry: the modules pay out or
   return this rollup's legs.
5. The rollup's own transactions, in order of their place. Each has one receipt. One that fails changes
   nothing but the table of seen ids.

A transaction's envelope is checked in this order; the first fault is its receipt's code: decodes
(MALFORMED), chain (WRONG_CHAIN), rollup (WRONG_ROLLUP), window against the block's log time (EXPIRED,
TOO_FAR_AHEAD), signature (BAD_SIGNATURE), not seen before (DUPLICATE), method (UNKNOWN_METHOD), arguments
(MALFORMED). From the method on its id is recorded, so that it can act at most once; locks that do not act are
the exception.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from lockstep import limits
from lockstep.block import VerifiedBlock
from lockstep.commitment import Commitment, EscrowRecord, StateKey, decode_escrow_record
from lockstep.encoding import u8
from lockstep.errors import Malformed
from lockstep.genesis import Genesis, RollupDefinition
from lockstep.merkle import Frontier
from lockstep.merkle_map import MerkleMap
from lockstep.order import Entry, transaction_hash
from lockstep.receipts import Receipt, ReceiptCode, TransactionReceipt, encode_receipt, receipt_leaf_hash
from lockstep.register import (
    BlockInput,
    Decided,
    Register,
    RegisterEvent,
    genesis_register,
    input_of,
)
from lockstep.register import apply_block as apply_to_register
from lockstep.transactions import Method, RollupTransaction, decode_call, decode_transaction, is_signed
from lockstep.types import ChainId, Namespace, PublicKey, RollupId, SwapId, TransactionId
from rollups.modules.bank import Bank
from rollups.modules.escrow import Escrow
from rollups.modules.module import Context, Failed, Handler, Module
from rollups.state import SECOND_MS, Changes, MemoryState, Overlay, View, updated

__pure__ = True

LegName: TypeAlias = tuple[SwapId, int]
"""A swap and the number of a leg."""

NOBODY: Final = PublicKey(bytes(32))
"""Stands as the signer of bytes that could not be decoded, or that nobody signed."""


class OwnEntry(msgspec.Struct, frozen=True):
    """A transaction of the rollup's namespace, looked at before the state is known."""

    index: int
    """Its place in the block."""
    payload: bytes
    """Its bytes."""
    transaction: RollupTransaction | None
    """What they say; None if they do not decode."""
    is_signed: bool
    """Whether its signer signed it; False if it does not decode."""


@dataclass(frozen=True, slots=True)
class RollupBlock:
    """A block as a rollup sees it."""

    given: BlockInput
    """What the register takes of it."""
    entries: tuple[OwnEntry, ...]
    """The rollup's own transactions, in order."""


@dataclass(frozen=True, slots=True)
class RollupState:
    """A rollup after a block, but for the values of its state, which are behind a `View`."""

    rollup: RollupId
    """The rollup."""
    register: Register
    """The swap register after the block."""
    content: MerkleMap
    """The tree over the state's values."""
    receipts: Frontier
    """The right edge of the tree of receipts."""

    @property
    def height(self) -> int:
        """The last executed block; 0 at genesis."""
        return self.register.height

    @property
    def definition(self) -> RollupDefinition | None:
        """What the rollup is; None while it is not registered, when it executes nothing."""
        record = self.register.registry.rollup(self.rollup)
        return None if record is None else record.definition

    @property
    def commitment(self) -> Commitment:
        """What an attester vouches for after this block."""
        return Commitment(
            rollup=self.rollup,
            height=self.height,
            state_root=self.content.root,
            receipt_count=self.receipts.size,
            receipts_root=self.receipts.root(),
            register_root=self.register.root,
        )


@dataclass(frozen=True, slots=True)
class Ran:
    """What a block does to a rollup, without the trees over it."""

    register: Register
    """The swap register after it."""
    changes: Changes
    """How the state's values and seen ids differ from before."""
    receipts: tuple[bytes, ...]
    """The block's receipts, encoded, in the order in which they were written."""
    events: tuple[RegisterEvent, ...]
    """What happened in the register."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a block did to a rollup."""

    after: RollupState
    """The rollup after it."""
    changes: Changes
    """How its state's values and seen ids differ from before."""
    receipts: tuple[bytes, ...]
    """The block's receipts, encoded, in the order in which they were written."""
    verdicts: Mapping[LegName, EscrowRecord]
    """The legs that got their verdict in this block, with their records, ascending by name."""
    events: tuple[RegisterEvent, ...]
    """What happened in the register."""


def genesis_state(genesis: Genesis, rollup: RollupId) -> tuple[RollupState, Changes]:
    """Return a rollup before the first block, and the values that it starts with."""
    register, changes = genesis_values(genesis, rollup)
    return RollupState(rollup, register, updated(MerkleMap(), changes.values), Frontier()), changes


def genesis_values(genesis: Genesis, rollup: RollupId) -> tuple[Register, Changes]:
    """Return the same but for the tree over the values."""
    overlay = Overlay(MemoryState())
    start = RollupState(rollup, genesis_register(genesis), MerkleMap(), Frontier())
    if start.definition is not None:
        _seed(overlay, modules_of(start.definition))
    return start.register, overlay.changes


def look_at(entries: Iterable[Entry]) -> tuple[OwnEntry, ...]:
    """Decode transactions and verify their signatures: the slow part, which needs no state.

    Verifying releases the interpreter lock, so parts of a block may be looked at in several threads.
    """
    return tuple(map(_look_at, entries))


def rollup_block(block: VerifiedBlock, entries: tuple[OwnEntry, ...]) -> RollupBlock:
    """Return a verified block as its rollup sees it; `entries` are its own ones after `look_at`."""
    return RollupBlock(input_of(block), entries)


def block_of(block: VerifiedBlock, rollup: RollupId) -> RollupBlock:
    """Return a verified block as its rollup sees it, looking at its entries on the way."""
    return rollup_block(block, look_at(block.entries[Namespace(rollup)]))


def apply_block(before: RollupState, view: View, block: RollupBlock) -> Executed:
    """Execute a block on the rollup `before` it, whose values are in `view`.

    The block must follow the one executed last. Raises what the register raises: `UnknownRules` before a
    block under rules that this version does not know.
    """
    return with_roots(before, run_block(before, view, block))


def run_block(before: RollupState, view: View, block: RollupBlock) -> Ran:
    """Do the first half of `apply_block`: all but the trees."""
    state = Overlay(view)
    time_ms, height = block.given.time_ms, block.given.height
    # Log time advances by seconds at most: these are all the seconds that ended since the block before.
    for second in range(before.register.time_ms // SECOND_MS, time_ms // SECOND_MS):
        state.forget(second)

    register, events = apply_to_register(before.register, block.given)
    unseeded = RollupState(before.rollup, register, before.content, before.receipts)
    definition = unseeded.definition
    modules = () if definition is None else modules_of(definition)
    if before.definition is None:
        _seed(state, modules)

    receipts: list[Receipt] = []
    for event in events:
        if isinstance(event, Decided):
            for module in modules:
                receipts += module.settle(state, before.rollup, event.record)
    if definition is not None:
        receipts += _execute(state, modules, unseeded, height, time_ms, block.entries)

    return Ran(register, state.changes, tuple(map(encode_receipt, receipts)), events)


def with_roots(before: RollupState, ran: Ran) -> Executed:
    """Do the second half of `apply_block`: the trees over state and receipts."""
    after = RollupState(
        rollup=before.rollup,
        register=ran.register,
        content=updated(before.content, ran.changes.values),
        receipts=before.receipts.extend(map(receipt_leaf_hash, ran.receipts)),
    )
    verdicts = escrows_in(_present(ran.changes.values))
    return Executed(after, ran.changes, ran.receipts, verdicts, ran.events)


def modules_of(definition: RollupDefinition) -> tuple[Module, ...]:
    """Return the modules of a rollup's runtime, in the order in which they settle."""
    bank_module, escrow_module = definition.modules.bank, definition.modules.escrow
    if bank_module is None:
        return ()
    bank = Bank(bank_module)
    return (bank,) if escrow_module is None else (bank, Escrow(escrow_module, bank))


def escrows_in(values: Iterable[tuple[bytes, bytes]]) -> Mapping[LegName, EscrowRecord]:
    """Return the escrow records among keys with their values, ascending by swap and leg."""
    prefix = u8(StateKey.ESCROW)
    found = {
        (SwapId(key[1:33]), key[33]): decode_escrow_record(value)
        for key, value in values
        if key.startswith(prefix)
    }
    return dict(sorted(found.items()))


# --- transactions -----------------------------------------------------------------------------------------


def _execute(
    state: Overlay,
    modules: tuple[Module, ...],
    rollup: RollupState,
    height: int,
    time_ms: int,
    entries: Iterable[OwnEntry],
) -> list[Receipt]:
    """Execute a block's own transactions in order."""
    handlers: dict[int, Handler] = {
        method: handler for module in modules for method, handler in module.handlers.items()
    }
    chain, receipts = rollup.register.registry.chain_id, list[Receipt]()
    for own in entries:
        transaction = own.transaction
        if transaction is None:
            code, method = ReceiptCode.MALFORMED, 0
        else:
            method = transaction.method
            code = _envelope_fault(chain, rollup.rollup, time_ms, own, transaction)
            if code is ReceiptCode.OK:
                context = Context(rollup.rollup, rollup.register, time_ms, transaction.signer)
                code = _act(state, handlers, context, transaction)
        if transaction is None or code is ReceiptCode.BAD_SIGNATURE:
            # Anybody can spoil a copy: what is said of it must not be said of the transaction itself.
            subject, signer = TransactionId(transaction_hash(rollup.rollup, own.payload)), NOBODY
        else:
            subject, signer = transaction.id, transaction.signer
        receipts.append(TransactionReceipt(height, own.index, subject, code, signer, method))
    return receipts


def _envelope_fault(
    chain: ChainId, rollup: RollupId, time_ms: int, own: OwnEntry, transaction: RollupTransaction
) -> ReceiptCode:
    """Return the first fault of an envelope that does not depend on the state; OK if it has none."""
    if transaction.chain != chain:
        return ReceiptCode.WRONG_CHAIN
    if transaction.rollup != rollup:
        return ReceiptCode.WRONG_ROLLUP
    if time_ms >= transaction.valid_until_ms:
        return ReceiptCode.EXPIRED
    if transaction.valid_until_ms > time_ms + limits.VALIDITY_WINDOW_MS_MAX:
        return ReceiptCode.TOO_FAR_AHEAD
    return ReceiptCode.OK if own.is_signed else ReceiptCode.BAD_SIGNATURE


def _act(
    state: Overlay, handlers: Mapping[int, Handler], context: Context, transaction: RollupTransaction
) -> ReceiptCode:
    """Execute a transaction whose signature and window hold: all of it, or nothing but its id."""
    second = transaction.valid_until_ms // SECOND_MS
    if state.has_seen(second, transaction.id):
        return ReceiptCode.DUPLICATE
    attempt = Overlay(state)
    try:
        code = _call(attempt, handlers, context, transaction)
    except Failed as failed:
        if not failed.is_remembered:
            return failed.code
        code = failed.code
    else:
        state.put_all(attempt.puts)
    state.see(second, transaction.id)
    return code


def _call(
    attempt: Overlay, handlers: Mapping[int, Handler], context: Context, transaction: RollupTransaction
) -> ReceiptCode:
    handler = handlers.get(transaction.method)
    if handler is None:
        raise Failed(ReceiptCode.UNKNOWN_METHOD)
    try:
        call = decode_call(Method(transaction.method), transaction.arguments)
    except Malformed:
        raise Failed(ReceiptCode.MALFORMED) from None
    return handler(attempt, context, call)


def _look_at(entry: Entry) -> OwnEntry:
    try:
        transaction = decode_transaction(entry.payload)
    except Malformed:
        return OwnEntry(entry.index, entry.payload, None, is_signed=False)
    return OwnEntry(entry.index, entry.payload, transaction, is_signed=is_signed(transaction))


def _seed(state: Overlay, modules: Iterable[Module]) -> None:
    for module in modules:
        module.seed(state)


def _present(values: Mapping[bytes, bytes | None]) -> Iterable[tuple[bytes, bytes]]:
    return [(key, value) for key, value in values.items() if value is not None]
