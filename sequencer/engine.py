"""What an engine behind the order must do; everything above it is the same for all.

Owns the interface. `sequencer.embedded` is the engine on one machine;
tests/unit/sequencer/engine_contract.py holds what every engine must keep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lockstep.order import Placement
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import BundleId, Height, Namespace, PublicKey
from sequencer.builder import Proposal


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block that is durable and proven, or a share of one."""

    height: Height
    """Its height."""
    header: ProvenHeader
    """Its header with the proof."""
    leaves_bytes: bytes
    """The encoded list of its namespace leaves."""
    shares: Mapping[Namespace, bytes]
    """By namespace, its entries as an encoded `NamespaceEntries` message: as they are stored and travel."""

    def share(self, namespaces: Sequence[Namespace]) -> "SealedBlock":
        """Return the share of some namespaces."""
        wanted = {each: self.shares[each] for each in namespaces if each in self.shares}
        return SealedBlock(self.height, self.header, self.leaves_bytes, wanted)

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in memory and, about, in a message."""
        fixed_bytes = len(self.header.encoded) + len(self.header.proof) + 64
        return fixed_bytes + len(self.leaves_bytes) + sum(map(len, self.shares.values()))


class OrderingEngine(Protocol):
    """Makes blocks durable and proven, one after another, and gives them back."""

    @property
    def name(self) -> str:
        """What the engine is called in the status."""

    @property
    def public_key(self) -> PublicKey | None:
        """The key that signs headers; None if they are proven otherwise."""

    @property
    def head(self) -> SealedBlock | None:
        """The newest block that is durable and proven; None before the first."""

    @property
    def first_height(self) -> Height:
        """The first height that can be read; 1 unless older ones were pruned."""

    async def order(self, proposal: Proposal) -> SealedBlock:
        """Make the block that follows the head durable, then prove it, and return it whole.

        One call at a time. Once it was called the block may be durable, whatever happens: a caller that gets
        no answer must not propose another one before the engine was opened again. Raises ValueError, having
        done nothing, for a block that does not follow the head.
        """

    async def read(
        self, heights: range, namespaces: Sequence[Namespace], *, bytes_max: int
    ) -> Sequence[SealedBlock]:
        """Return shares of the blocks of `heights` from the first on, at least one, within `bytes_max`.

        All of `heights` must lie between the first height and the head.
        """

    async def find(self, bundle_id: BundleId, valid_until_ms: int) -> Placement | None:
        """Return where a bundle stands, or None if it is in no block; `valid_until_ms` 0 if not known."""
