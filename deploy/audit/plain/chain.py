"""The whole chain: the register and every rollup, block after block."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploy.audit.plain.register import Block, Register
from deploy.audit.plain.rollup import Commitment, Rollup
from lockstep.genesis import Genesis

__pure__ = True


@dataclass(frozen=True)
class Ordered:
    """A block: of each namespace the index and payload of its entries, in order."""

    height: int
    header_hash: bytes
    time_ms: int
    entries: Mapping[str, Sequence[tuple[int, bytes]]]


class Chain:
    """What follows from the order so far."""

    def __init__(self, genesis: Genesis, rollups: Iterable[str] = ()) -> None:
        """Start before the first block; `rollups` are such as may be registered later."""
        self.register = Register(genesis)
        self.height = 0
        names = {*(each.id for each in genesis.rollups), *rollups}
        self.rollups = {name: Rollup(name, self.register) for name in sorted(names)}
        for rollup in self.rollups.values():
            rollup.begin()

    def apply(self, block: Ordered) -> None:
        """Apply the next block. Raises `UnknownRules`."""
        given = block.entries.get
        self.height = block.height
        self.register.apply(
            Block(
                block.height,
                block.header_hash,
                block.time_ms,
                given("_registry", ()),
                given("_swap", ()),
            )
        )
        for name in self.register.registry.rollups:
            if name not in self.rollups:
                self.rollups[name] = Rollup(name, self.register)
        for name, rollup in self.rollups.items():
            rollup.apply(block.height, block.time_ms, given(name, ()))

    def commitments(self) -> dict[str, Commitment]:
        """Return what each rollup has come to."""
        return {name: rollup.commitment(self.height) for name, rollup in self.rollups.items()}
