"""The settlement log's process: `python -m bridge.settlement --config FILE.toml`.

Owns how its parts are put together and in which order they start and stop: data folder, database, writer,
server; the writer outlasts the calls that the server still has.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import structlog

from bridge.settlement.amnesia import LastSigned, decode_last_signed, find_loss
from bridge.settlement.service import NAME, SettlementService
from bridge.settlement.settings import SettlementSettings
from bridge.settlement.store import Store, open_store
from bridge.settlement.writer import Writer
from deploy.node.chain_files import load_genesis, load_key
from deploy.node.command import run_service
from deploy.node.datadir import DataFolder, DurableCell
from deploy.node.failures import DataRefused, SettingsInvalid
from deploy.node.logs import configure_logs
from deploy.node.process import announce_ready
from deploy.node.server import serving
from lockstep.commitment import commitment_hash
from lockstep.errors import ReadOnly, WrongChain
from lockstep.genesis import Genesis
from lockstep.merkle import AppendTree, leaf_hash
from lockstep.settlement_entries import CommitmentEntry, decode_settlement_entry
from lockstep.settlement_log import Anchored, Log, empty_log, genesis_entry, read_candidate, resumed
from lockstep.signing import SigningKey

ENTRIES_FILE: Final = "settlement.sqlite"
"""The entries, in the data folder."""

CELL_FILE: Final = "last_checkpoint"
"""The record of the checkpoint signed last, beside them."""


def main() -> None:
    """Run the settlement log until it is stopped."""
    run_service(
        serve,
        SettlementSettings,
        module="bridge.settlement",
        name="settlement",
        description="Keeps headers, commitments and evidence in an append-only Merkle log.",
    )


async def serve(settings: SettlementSettings, stopping: asyncio.Event) -> None:
    """Open the data, append and serve until `stopping` is set."""
    configure_logs(settings.logs, process="settlement")
    _, genesis = load_genesis(settings.genesis)
    key = load_key(settings.key)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder(settings.data))
        cell = stack.enter_context(DurableCell(folder.path / CELL_FILE))
        store = await stack.enter_async_context(open_store(folder.path / ENTRIES_FILE))
        tree, log = await load_log(store, genesis)
        _check_key(log, key)
        signed = _last_signed(cell, log)
        loss = None if signed is None else find_loss(signed, tree)
        writer = Writer(
            store=store,
            cell=cell,
            key=key,
            tree=tree,
            log=log,
            entries_max=settings.queue_entries_max,
            bytes_max=settings.queue_bytes_max,
        )
        feed = await writer.start(read_candidate(genesis_entry(genesis)), signed, loss)
        service = SettlementService(
            store=store, tree=tree, writer=writer, feed=feed, public_key=key.public_key, stopping=stopping
        )
        async with asyncio.TaskGroup() as tasks:
            async with serving(
                settings.server, register=service.register, service_names=(NAME,), stopping=stopping
            ) as server:
                tasks.create_task(writer.run())
                await server.set_healthy(healthy=loss is None)
                _tell(loss)
                announce_ready(
                    {
                        "address": server.address,
                        "size": feed.newest.checkpoint.size,
                        "read_only": None if loss is None else loss.reason,
                    }
                )
                await stopping.wait()
            # Every call is answered: nobody waits for the writer any more.
            writer.stop()


async def load_log(store: Store, genesis: Genesis) -> tuple[AppendTree, Log]:
    """Return the tree and the state of the log in the database. Raises DataRefused for another chain's."""
    tree, log = AppendTree(), empty_log(genesis)
    try:
        async for entries in store.all_entries():
            tree.extend(map(leaf_hash, entries))
            log = resumed(log, entries)
    except WrongChain as error:
        raise DataRefused(f"the data is another network's: {error.message}") from error
    anchored = {}
    for rollup in log.registry.now.rollups:
        found = await store.newest_anchored(rollup)
        if found is not None:
            entry = decode_settlement_entry(found.entry)
            assert isinstance(entry, CommitmentEntry), "what anchors a rollup is a commitment"
            commitment = entry.posted.commitment
            anchored[rollup] = Anchored(commitment.height, commitment_hash(commitment), found.index)
    return tree, replace(log, anchored=anchored)


def _last_signed(cell: DurableCell, log: Log) -> LastSigned | None:
    """Return what was signed last; None if nothing ever was. Raises DataRefused if that was forgotten."""
    value = cell.load()
    if value is not None:
        return decode_last_signed(value)
    if log.size > 1:
        raise DataRefused(
            f"the file {CELL_FILE} is gone, which knows the checkpoint signed last; put it back from a copy "
            "of the data folder"
        )
    return None


def _check_key(log: Log, key: SigningKey) -> None:
    """Refuse a key that is not the log's. Raises SettingsInvalid."""
    expected = log.registry.now.keys["settlement"]
    if key.public_key != expected:
        raise SettingsInvalid(
            f"the key {key.public_key.hex()} is not this log's, which is {expected.hex()}; "
            "name the file of that key"
        )


def _tell(loss: ReadOnly | None) -> None:
    if loss is not None:
        structlog.get_logger().error("read_only", reason=loss.reason, advice=loss.advice)


if __name__ == "__main__":
    main()
