"""Blocks that were executed and are not durable yet: at the head of the chain one, while catching up many.

Owns the gathering of what they changed into one transaction. Invariant: executing on top of a batch sees
what its blocks did; nobody else sees it before it is durable.
"""

from typing import Final

from lockstep.commitment import EscrowRecord
from lockstep.register import RegisterEvent, rows
from lockstep.settlement_entries import ProvenHeader
from rollups.runtime import Executed, LegName, RollupBlock, RollupState, run_block, with_roots
from rollups.stages import Stages
from rollups.state import Overlay, View
from rollups.storage import Delta, StoredBlock

BLOCKS_MAX: Final = 256
"""Blocks of one batch."""

RECEIPTS_MAX: Final = 8_192
"""Receipts at which a batch takes no further block."""


class Batch:
    """Executes blocks on top of a durable state, and gathers what they change."""

    def __init__(self, start: RollupState, view: View, stages: Stages | None = None) -> None:
        """Start without blocks after `start`, whose values are in `view`; `stages` count time."""
        self.state = start
        """The rollup after the last block."""
        self.events: list[RegisterEvent] = []
        """What happened in the register, in order."""
        self.verdicts: dict[LegName, EscrowRecord] = {}
        """The legs that got their verdict, with their records."""
        self._view = Overlay(view)
        self._stages = stages or Stages()
        self._first_receipt = start.receipts.size
        self._receipts: list[bytes] = []
        self._blocks: list[StoredBlock] = []
        self._register_rows: dict[bytes, bytes | None] = {}

    @property
    def block_count(self) -> int:
        """How many blocks it has taken."""
        return len(self._blocks)

    @property
    def is_full(self) -> bool:
        """Whether it takes no further block."""
        return len(self._blocks) >= BLOCKS_MAX or len(self._receipts) >= RECEIPTS_MAX

    def execute(self, block: RollupBlock) -> Executed:
        """Return what the next block does; changes nothing, so that it may run in another thread."""
        started_ns = self._stages.now_ns()
        ran = run_block(self.state, self._view, block)
        started_ns = self._stages.add("execute", started_ns)
        executed = with_roots(self.state, ran)
        self._stages.add("root", started_ns)
        return executed

    def add(self, executed: Executed, header: ProvenHeader) -> None:
        """Take over what the next block did."""
        self._register_rows.update(rows(self.state.register, executed.after.register))
        self._view.absorb(executed.changes)
        self._receipts += executed.receipts
        self._blocks.append(StoredBlock(header, executed.after.commitment))
        self.events += executed.events
        self.verdicts.update(executed.verdicts)
        self.state = executed.after

    def delta(self) -> Delta:
        """Return what all of it changed. A batch without blocks has none: AssertionError."""
        assert self._blocks, "a batch without blocks changes nothing"
        return Delta(
            changes=self._view.changes,
            content=self.state.content,
            register_rows=self._register_rows.items(),
            first_receipt=self._first_receipt,
            receipts=self._receipts,
            blocks=self._blocks,
        )
