"""Everything that a process says of its data: read through the real code, for comparison.

Owns one observer for each process. It opens a folder as the process does when it starts, and reads whatever
calls, streams and the process itself read. What is read under one name is one fact; a fact that cannot be
read is the error that came instead. An error at the opening is the whole observation.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from bridge.__main__ import COMMITS_FILE, REPAIR
from bridge.client import Wallet
from bridge.levels import Source
from bridge.reading import Views
from bridge.settlement.__main__ import CELL_FILE as CHECKPOINT_FILE
from bridge.settlement.__main__ import ENTRIES_FILE, load_log
from bridge.settlement.__main__ import _last_signed as last_checkpoint
from bridge.settlement.amnesia import find_loss
from bridge.settlement.store import open_store
from bridge.storage import APPLICATION_ID, SCHEMA, load, load_final
from deploy.devnet.network import Network
from deploy.node.chain_files import load_key
from deploy.node.database import open_database
from deploy.node.datadir import DataFolder, DurableCell
from deploy.node.failures import DataRefused
from deploy.node.high_water import verify_newest
from lockstep.errors import Malformed
from lockstep.genesis import Genesis
from lockstep.header import genesis_tip
from lockstep.register import Register, rows
from lockstep.settlement_names import anchored_name
from lockstep.signing import SigningKey
from lockstep.types import BundleId, Namespace, RollupId, SwapId, TransactionId
from rollups.node import RollupNode
from rollups.recent import GROUPS
from rollups.storage import open_storage
from sequencer.__main__ import CELL_FILE as LAST_SIGNED_FILE
from sequencer.__main__ import LEDGER_FILE
from sequencer.chain import load_chain
from sequencer.embedded import open_engine
from sequencer.ledger import open_ledger
from sequencer.proofs import names_of
from tests.durability.judges import Note

Facts: TypeAlias = dict[str, str]
"""What was said, by what was asked."""

ERROR: Final = "error: "
"""Starts a fact that could not be read."""

Observer: TypeAlias = Callable[[Path], Coroutine[Any, Any, Facts]]


class ServesOnly(DataRefused):
    """It starts and serves what it has, but orders, or signs, nothing more."""


class Asking:
    """Collects facts."""

    def __init__(self) -> None:
        self.facts: Facts = {}

    async def ask(self, name: str, answer: Awaitable[object]) -> None:
        """Note an answer, or the error that came instead."""
        try:
            self.facts[name] = repr(await answer)
        except Exception as error:  # noqa: BLE001  # whatever it is, nothing was said
            self.facts[name] = f"{ERROR}{type(error).__name__}: {error}"


def observer_of(network: Network, name: str, told: list[Note]) -> Observer:
    """Return the observer of a process's folder; `told` says what to ask for."""
    key = load_key(network.folder / "keys" / f"{name}.pem") if name not in ("bridge", "wallet") else None
    genesis = network.genesis
    match name:
        case "sequencer":
            assert key is not None
            return lambda folder: _observe_sequencer(folder, genesis, key, told)
        case "settlement":
            return lambda folder: _observe_settlement(folder, genesis)
        case "bridge":
            return lambda folder: _observe_bridge(folder, genesis, told)
        case "wallet":
            return _observe_wallet
        case _:
            assert key is not None
            return lambda folder: _observe_rollup(folder, genesis, RollupId(name.partition("-")[0]), key)


async def _observe_sequencer(folder: Path, genesis: Genesis, key: SigningKey, told: list[Note]) -> Facts:
    asking = Asking()
    start = genesis_tip(genesis.chain_id, genesis.genesis_time_ms)
    async with AsyncExitStack() as stack:
        stack.enter_context(DataFolder(folder))
        cell = stack.enter_context(DurableCell(folder / LAST_SIGNED_FILE))
        ledger = await stack.enter_async_context(open_ledger(folder / LEDGER_FILE))
        chain = await load_chain(ledger, genesis)
        _note_register(asking, chain.register)
        asking.facts["log size"] = str(chain.log_size)
        opened = open_engine(ledger, cell, key, genesis=start, check_key=lambda _height, _key: None)
        engine, loss = await stack.enter_async_context(opened)
        if loss is not None:
            raise ServesOnly(loss.message)
        names = tuple(Namespace(each) for each in ("_log", "_registry", "_swap", "alpha", "beta", "gamma"))
        asking.facts["height"] = str(chain.height)
        for height in range(1, chain.height + 1):

            async def block(height: int = height) -> object:
                [read] = await engine.read(range(height, height + 1), names, bytes_max=0)
                # Who reads the newest block reads it in memory; here it has no entries there.
                return read.header, read.leaves_bytes, dict(read.shares), names_of(read.leaves_bytes)

            await asking.ask(f"block {height}", block())

        async def all_blocks() -> object:
            return await engine.read(range(1, chain.height + 1), names, bytes_max=2**24)

        await asking.ask("blocks", all_blocks())
        for note in told:
            if "ordered" in note:
                bundle_id = BundleId(bytes.fromhex(note["ordered"]))
                await asking.ask(note["ordered"], engine.find(bundle_id, note["valid_until_ms"]))
                await asking.ask(f"{note['ordered']} anywhere", engine.find(bundle_id, 0))
        live = [each async for each in ledger.placements_from(0)]
        asking.facts["live"] = repr(sorted(live, key=repr))
    return asking.facts


async def _observe_settlement(folder: Path, genesis: Genesis) -> Facts:
    asking = Asking()
    with DataFolder(folder), DurableCell(folder / CHECKPOINT_FILE) as cell:
        async with open_store(folder / ENTRIES_FILE) as store:
            tree, log = await load_log(store, genesis)
            signed = last_checkpoint(cell, log)
            loss = None if signed is None else find_loss(signed, tree)
            if loss is not None:
                raise ServesOnly(loss.message)
            asking.facts["root"] = repr((tree.size, tree.root(), log.tip, log.anchored))
            for index in range(tree.size):
                await asking.ask(f"entry {index}", store.entry(index))
            await asking.ask("page", store.page(0, tree.size))
            for height in range(1, log.tip.height + 1):
                await asking.ask(f"range {height}", store.range_over(height))
                for rollup in ("alpha", "beta"):
                    await asking.ask(
                        f"{rollup} {height}", store.find((anchored_name(RollupId(rollup), height),))
                    )
    return asking.facts


async def _observe_rollup(folder: Path, genesis: Genesis, rollup: RollupId, key: SigningKey) -> Facts:
    asking = Asking()
    with DataFolder(folder):
        async with open_storage(folder / "rollup.db") as storage:
            node = await RollupNode.load(genesis, rollup, storage, attester=key.public_key)
            _note_register(asking, node.published.state.register)
            asking.facts["height"] = str(node.published.height)
            await asking.ask("state", _whole_state(node))
            asking.facts["seen"] = repr(
                sorted((second, sorted(ids)) for second, ids in node.memory.seen.items())
            )
            for height in range(1, node.published.height + 1):
                await asking.ask(f"block {height}", storage.block(height))
                await asking.ask(f"posted {height}", storage.posted_at(key.public_key, height))
            await asking.ask("posted", storage.posted(key.public_key))
            await asking.ask("compared", storage.compared_height())
            await asking.ask("receipts", storage.receipts_from(0, 100_000))
            subjects = await storage._database.read("SELECT subject, leg FROM receipts ORDER BY place")
            for subject, leg in subjects:
                if leg < 0:
                    answer = storage.receipt_of_transaction(TransactionId(subject))
                    await asking.ask(f"receipt {subject.hex()}", answer)
                else:
                    await asking.ask(f"leg {subject.hex()} {leg}", storage.receipt_of_leg(subject, leg))
    return asking.facts


async def _whole_state(node: RollupNode) -> object:
    """Read everything as a node does, which compares it with the state's root."""
    for group in range(GROUPS):
        node.memory.read_group(group)
    return sorted(node.memory._values.items()), node.outbox


async def _observe_bridge(folder: Path, genesis: Genesis, told: list[Note]) -> Facts:
    asking = Asking()
    with DataFolder(folder):
        path = folder / "bridge.sqlite"
        async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
            try:
                loaded = await load(database, genesis, new_sequence=1)
            except Malformed as error:
                raise DataRefused(error.message) from error
            verify_newest(folder / COMMITS_FILE, loaded.commits, repair=REPAIR)
            _note_register(asking, loaded.register)
            asking.facts["loaded"] = repr(
                (
                    loaded.next_number,
                    loaded.first_sequence,
                    loaded.next_sequence,
                    loaded.heights,
                    loaded.checkpoint,
                )
            )
            asking.facts["live"] = repr([_shown(swap) for swap in loaded.swaps.values()])
            views = Views(database)
            await asking.ask("all", views.page(party=b"", phases=0x1FF, below=2**62, limit=10_000))
            await asking.ask("changes", views.changes(0, 10_000))
            await asking.ask("standing", views.standing(0, 2**62, 10_000))
            await asking.ask("due", views.due_steps(loaded.heights, 10_000))
            for rollup in ("alpha", "beta"):
                for source in Source:
                    await asking.ask(
                        f"awaited {source} {rollup}", views.awaited_height(source, RollupId(rollup))
                    )
            for note in told:
                if "proposed" in note:
                    swap_id = SwapId(bytes.fromhex(note["proposed"]))
                    await asking.ask(f"view {note['proposed']}", views.swap(swap_id))
                    await asking.ask(f"events {note['proposed']}", views.events(swap_id))
                    await asking.ask(f"final {note['proposed']}", _final(database, swap_id, loaded.register))
    return asking.facts


async def _final(database: Any, swap_id: SwapId, register: Register) -> object:  # noqa: ANN401
    swap = (await load_final(database, [swap_id], register)).get(swap_id)
    return None if swap is None else _shown(swap)


def _shown(swap: Any) -> str:  # noqa: ANN401
    preimage = None if swap.preimage is None else bytes(swap.preimage).hex()
    return f"{replace(swap, record=None)!r} {preimage}"


async def _observe_wallet(folder: Path) -> Facts:
    return {"swaps": repr(await asyncio.to_thread(Wallet(folder).swaps))}


def _note_register(asking: Asking, register: Register) -> None:
    asking.facts["register"] = repr(sorted(rows(None, register)))
