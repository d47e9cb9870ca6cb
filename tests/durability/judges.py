"""What must hold of a data folder when it is opened: by the real code, against what was told.

Owns one judge for each process. A judge opens the folder as the process does when it starts, and raises if it
cannot be opened, if something that was told is missing or different, or if something was signed that is not
remembered. What was told are the marks of a run (`recording`), those up to the moment that the image is of.
"""

import hashlib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from bridge.__main__ import COMMITS_FILE, REPAIR
from bridge.client import Wallet
from bridge.client.recorded import decode_recorded, verify_grown
from bridge.phases import Phase
from bridge.reading import Views
from bridge.settlement.__main__ import CELL_FILE as CHECKPOINT_FILE
from bridge.settlement.__main__ import ENTRIES_FILE, load_log
from bridge.settlement.amnesia import LastSigned as LastCheckpoint
from bridge.settlement.amnesia import decode_last_signed as decode_last_checkpoint
from bridge.settlement.amnesia import find_loss
from bridge.settlement.store import open_store
from bridge.storage import APPLICATION_ID, SCHEMA, load
from deploy.devnet.network import Network
from deploy.node.chain_files import load_key
from deploy.node.database import open_database
from deploy.node.datadir import DataFolder, DurableCell
from deploy.node.high_water import verify_newest
from lockstep.checkpoint import parse_checkpoint, parse_note
from lockstep.commitment import decode_commitment
from lockstep.genesis import Genesis
from lockstep.header import genesis_tip
from lockstep.signing import SigningKey
from lockstep.types import BundleId, PublicKey, RollupId, SwapId
from lockstep.v1 import bridge_pb2
from rollups.node import RollupNode
from rollups.storage import open_storage
from sequencer.__main__ import CELL_FILE as LAST_SIGNED_FILE
from sequencer.__main__ import LEDGER_FILE
from sequencer.amnesia import decode_last_signed
from sequencer.chain import load_chain
from sequencer.embedded import open_engine
from sequencer.ledger import open_ledger
from tests.durability.recording import Run

Note: TypeAlias = Mapping[str, Any]
"""A mark, read."""

Judge: TypeAlias = Callable[[Path, Sequence[Note]], Coroutine[Any, Any, None]]
"""Opens a data folder and checks what was told. Raises AssertionError, or what the opening raises."""


def judge_of(run: Run, name: str) -> Judge:
    """Return the judge of a process's data folder."""
    network = run.network
    match name:
        case "sequencer":
            return SequencerJudge(network.genesis, load_key(_key_file(network, "sequencer")))
        case "settlement":
            return SettlementJudge(network.genesis)
        case "bridge":
            return BridgeJudge(network.genesis)
        case "wallet":
            return judge_wallet
        case _:
            key = load_key(_key_file(network, name))
            return RollupJudge(network.genesis, RollupId(name.partition("-")[0]), key.public_key)


def _key_file(network: Network, name: str) -> Path:
    return network.folder / "keys" / f"{name}.pem"


class SequencerJudge:
    """Blocks, signatures and places are as told, and nothing was signed beyond what is remembered."""

    def __init__(self, genesis: Genesis, key: SigningKey) -> None:
        self._genesis = genesis
        self._key = key

    async def __call__(self, folder: Path, told: Sequence[Note]) -> None:
        """Judge; see the module."""
        blocks = {note["height"]: note for note in told if "header" in note}
        start = genesis_tip(self._genesis.chain_id, self._genesis.genesis_time_ms)
        with DataFolder(folder), DurableCell(folder / LAST_SIGNED_FILE) as cell:
            async with open_ledger(folder / LEDGER_FILE) as ledger:
                signed = cell.load()
                height = 0 if signed is None else decode_last_signed(signed).height
                assert height >= max(blocks, default=0), "what was signed is remembered"
                chain = await load_chain(ledger, self._genesis)
                opened = open_engine(
                    ledger, cell, self._key, genesis=start, check_key=lambda _height, _key: None
                )
                async with opened as (engine, loss):
                    assert loss is None, loss
                    assert chain.height == (0 if engine.head is None else engine.head.height)
                    heights = range(1, max(blocks, default=0) + 1)
                    while heights:
                        read = await engine.read(range(heights.start, chain.height + 1), (), bytes_max=2**20)
                        for block in read[: len(heights)]:
                            note = blocks[block.height]
                            assert block.header.encoded.hex() == note["header"]
                            assert block.header.proof.hex() == note["proof"], "signed again, it is the same"
                        heights = heights[len(read) :]
                    for note in told:
                        if "ordered" in note:
                            await self._verify_place(engine, note)

    @staticmethod
    async def _verify_place(engine: Any, note: Note) -> None:  # noqa: ANN401
        bundle_id = BundleId(bytes.fromhex(note["ordered"]))
        place = await engine.find(bundle_id, note["valid_until_ms"])
        assert place is not None, "what was acknowledged is in the order"
        assert [place.height, place.first_index, place.count] == note["place"]


class SettlementJudge:
    """Entries are as told, and lead to every checkpoint that was signed."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis

    async def __call__(self, folder: Path, told: Sequence[Note]) -> None:
        """Judge; see the module."""
        with DataFolder(folder), DurableCell(folder / CHECKPOINT_FILE) as cell:
            async with open_store(folder / ENTRIES_FILE) as store:
                tree, log = await load_log(store, self._genesis)
                value = cell.load()
                # The writer makes the first entry at the start; without a record it may be there or not.
                assert value is not None or log.size <= 1, "what was signed is remembered"
                signed = LastCheckpoint(0, tree.root(0)) if value is None else decode_last_checkpoint(value)
                assert find_loss(signed, tree) is None
                entries = [entry async for page in store.all_entries() for entry in page]
        for note in told:
            if "index" in note:
                assert hashlib.sha256(entries[note["index"]]).hexdigest() == note["entry"]
            else:
                checkpoint = parse_checkpoint(parse_note(bytes.fromhex(note["checkpoint"])).body)
                assert checkpoint.size <= signed.size, "what was signed is remembered"
                assert tree.root(checkpoint.size) == checkpoint.root


class RollupJudge:
    """Commitments, receipts and posted entries are as told."""

    def __init__(self, genesis: Genesis, rollup: RollupId, attester: PublicKey) -> None:
        self._genesis = genesis
        self._rollup = rollup
        self._attester = attester

    async def __call__(self, folder: Path, told: Sequence[Note]) -> None:
        """Judge; see the module."""
        with DataFolder(folder):
            async with open_storage(folder / "rollup.db") as storage:
                node = await RollupNode.load(self._genesis, self._rollup, storage, attester=self._attester)
                receipts = {place: receipt for place, _, receipt in await storage.receipts_from(0, 100_000)}
                assert len(receipts) == node.receipts.size
                for note in told:
                    if "receipt" in note:
                        assert receipts[note["index"]].hex() == note["receipt"]
                    elif "commitment" in note:
                        commitment = decode_commitment(bytes.fromhex(note["commitment"]))
                        block = await storage.block(commitment.height)
                        assert block is not None, "what was told of is durable"
                        assert block.commitment == commitment
                        assert node.published.height >= commitment.height
                    elif note["attester"] == self._attester.hex():
                        entry = await storage.posted_at(self._attester, note["posted"])
                        assert entry is not None, "what was signed is remembered"
                        assert entry.hex() == note["entry"]


class BridgeJudge:
    """Answers and changes are as told, and every agreement is still there."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis

    async def __call__(self, folder: Path, told: Sequence[Note]) -> None:
        """Judge; see the module."""
        path = folder / "bridge.sqlite"
        with DataFolder(folder):
            async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
                loaded = await load(database, self._genesis, new_sequence=1)
                verify_newest(folder / COMMITS_FILE, loaded.commits, repair=REPAIR)
                views = Views(database)
                # The first message of a stream is how swaps stand; afterwards each is a change.
                changes = {swap.sequence: swap for swap in await views.changes(0, 100_000)}
                proposals = await database.read("SELECT idempotency_key, swap_id FROM proposals")
                keys: dict[bytes, bytes] = dict(proposals)
                for note in told:
                    if "view" in note:
                        view = bridge_pb2.Swap.FromString(bytes.fromhex(note["view"]))
                        assert changes[view.sequence] == view
                    elif "proposed" in note:
                        assert keys[bytes.fromhex(note["key"])].hex() == note["proposed"]
                        await self._verify_preimage(loaded.swaps, views, note)
                    elif "accepted" in note:
                        swap_id = SwapId(bytes.fromhex(note["accepted"]))
                        swap = loaded.swaps.get(swap_id)
                        if swap is not None:
                            assert swap.locks[note["leg"]].payload.hex() == note["lock"]
                        stands = await views.swap(swap_id)
                        assert stands is not None
                        assert stands.legs[note["leg"]].state != bridge_pb2.LEG_STATE_AWAITED
                    else:
                        assert loaded.register.height >= 0

    @staticmethod
    async def _verify_preimage(live: Mapping[SwapId, Any], views: Views, note: Note) -> None:
        swap_id = SwapId(bytes.fromhex(note["proposed"]))
        view = await views.swap(swap_id)
        assert view is not None, "what was acknowledged is known"
        if note["policy"] != bridge_pb2.REVEAL_POLICY_BY_TRADER and view.phase < Phase.REVEALED:
            assert live[swap_id].preimage is not None, "a preimage that was delegated is kept"


async def judge_wallet(folder: Path, told: Sequence[Note]) -> None:
    """Every record is as it was when a call returned, or one change further."""
    wallet = Wallet(folder)
    wallet.swaps()
    newest = {}
    for note in told:
        swap = decode_recorded(bytes.fromhex(note["recorded"]))
        newest[swap.swap_id, swap.account] = swap
    for (swap_id, account), swap in newest.items():
        found = wallet.get(swap_id, account)
        assert found is not None, "what was recorded is there"
        verify_grown(swap, found)


def read_note(mark: bytes) -> Note:
    """Return what a mark says."""
    note: Note = json.loads(mark)
    return note


MUST_BE_TOLD: Final = {
    "sequencer": {"header", "ordered"},
    "settlement": {"entry", "checkpoint"},
    "alpha-0": {"receipt", "commitment", "posted"},
    "beta-0": {"receipt", "commitment", "posted"},
    "bridge": {"view", "proposed", "accepted", "revealed"},
    "wallet": {"recorded"},
}
"""What a run must have told of for its images to mean anything."""
