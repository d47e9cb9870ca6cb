"""What admission and signing must know of the chain so far: its registry, block by block.

Owns the registry after the newest block. Rebuilt from the order at start; nothing of it is stored. Where
admission comes to judge `_swap` entries by their effect, the register belongs here beside it.
"""

from collections.abc import Sequence, Set
from typing import Final

from lockstep.block import Block
from lockstep.genesis import Genesis
from lockstep.header import decode_header
from lockstep.order import decode_entry
from lockstep.registry import Registry, role_key_at, step
from lockstep.types import REGISTRY_NAMESPACE, Height, Namespace, PublicKey
from sequencer.admission import open_namespaces
from sequencer.ledger import Ledger

_PAGE_BLOCKS: Final = 1_000


class ChainState:
    """The registry after the newest block, and what follows from it."""

    def __init__(self, genesis: Genesis) -> None:
        """Start before the first block."""
        self._registry = Registry.from_genesis(genesis)
        self._height = Height(0)
        self.head_key: PublicKey = genesis.sequencer
        """The key that signs the newest header."""
        self.namespaces: Set[Namespace] = open_namespaces(self._registry)
        """The namespaces that take transactions."""

    @property
    def height(self) -> Height:
        """Height of the newest block."""
        return self._height

    @property
    def next_key(self) -> PublicKey:
        """The key that signs the next header."""
        return role_key_at(self._registry, "sequencer", Height(self._height + 1))

    @property
    def is_waiting(self) -> bool:
        """Whether a block without entries may change something."""
        return bool(self._registry.pending)

    def apply(self, block: Block) -> None:
        """Go on to the next block."""
        entries = block.entries.get(REGISTRY_NAMESPACE, ())
        self.step(block.header.height, block.header.time_ms, entries)

    def step(self, height: Height, time_ms: int, entries: Sequence[bytes]) -> None:
        """Go on to a block with these encoded `_registry` entries."""
        self.skip_to(height)
        if not entries and not self.is_waiting:
            return
        decoded = [(entry.index, entry.payload) for entry in map(decode_entry, entries)]
        self._registry, _ = step(self._registry, height=height, time_ms=time_ms, entries=decoded)
        self.namespaces = open_namespaces(self._registry)

    def skip_to(self, height: Height) -> None:
        """Go on to a block before whose entries nothing changes."""
        self.head_key = role_key_at(self._registry, "sequencer", height)
        self._height = height


async def load_chain(ledger: Ledger, genesis: Genesis) -> ChainState:
    """Return the state after the newest block of a ledger."""
    state = ChainState(genesis)
    async for height, entries in ledger.entries_of(REGISTRY_NAMESPACE):
        await _catch_up(state, ledger, Height(height - 1))
        [block] = await ledger.blocks(range(height, height + 1))
        state.step(height, decode_header(block.header).time_ms, entries)
    _, newest = await ledger.heights()
    await _catch_up(state, ledger, newest)
    return state


async def _catch_up(state: ChainState, ledger: Ledger, height: Height) -> None:
    """Go on to a height below which no block has entries."""
    while state.is_waiting and state.height < height:
        first = state.height + 1
        for block in await ledger.blocks(range(first, min(first + _PAGE_BLOCKS, height + 1))):
            state.step(block.height, decode_header(block.header).time_ms, ())
    if state.height < height:
        state.skip_to(height)
