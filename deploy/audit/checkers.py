"""All invariants of a network in one object: give it what is seen, and it raises at what does not hold.

A library for whoever watches a network, real or simulated. Does no I/O; blocks come one after the other,
everything else in any order:

    audit = Audit(genesis)
    audit.block(block)                  # a `VerifiedBlock` of all namespaces, from height 1 on
    audit.told("node 1", told)          # what a node says of a block that was given (`statements.told_of`)
    audit.logged(index, entry)          # the settlement log, entry by entry from its first
    audit.acknowledged(placement)       # what the sequencer acknowledged to somebody
    audit.finish()                      # the last look, when nothing more comes

Each raises `Violated` (`invariants`) at the first thing that does not hold, after which the object is of no
more use. `audit.counts` says how often each invariant was checked.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from deploy.audit.blocks import ordered_of
from deploy.audit.invariants import Invariant, Told, Violated, Violation
from deploy.audit.ordering import Bundles
from deploy.audit.plain.chain import Chain
from deploy.audit.plain.entries import BANK_TRANSFER
from deploy.audit.plain.rollup import OK
from deploy.audit.settlement import SettlementLog
from deploy.audit.statements import Expected, Statements
from deploy.audit.swaps import Swaps
from deploy.audit.value import RECOUNT_BLOCKS, Value
from lockstep.block import VerifiedBlock
from lockstep.genesis import Genesis
from lockstep.order import Placement
from lockstep.types import LOG_NAMESPACE, Height, PublicKey


class Audit:
    """Checks everything that is said of one chain."""

    def __init__(
        self, genesis: Genesis, rollups: Iterable[str] = (), *, keeps_placements: bool = False
    ) -> None:
        """Start before the first block.

        `rollups` are such as may be registered later. `keeps_placements` lets acknowledgements come after
        their blocks, for about 300 bytes of memory for each bundle.
        """
        self.genesis = genesis
        self.chain = Chain(genesis, rollups)
        """The second implementation, after the newest block."""
        self.counts: Counter[Invariant] = Counter()
        """How often each invariant was checked."""
        self.expected = Expected()
        """What nodes should say."""
        self.statements = Statements(self.expected, self.counts)
        """What they said."""
        self.log = SettlementLog(genesis, self.expected, self.statements, self.counts)
        """The settlement log."""
        self.bundles = Bundles(self.counts, keeps_placements=keeps_placements)
        """The order."""
        self.value = Value(self.counts)
        """What rollups hold."""
        self.swaps = Swaps(self.counts)
        """What became of swaps."""
        self.time_ms = genesis.genesis_time_ms
        """Log time of the newest block."""
        self.transfers = 0
        """Transfers that were made."""
        self.transactions = 0
        """Transactions of rollups, failed ones included."""
        self._keys: list[tuple[int, PublicKey]] = [(0, genesis.sequencer)]
        for rollup in self.chain.rollups.values():
            self.value.start(rollup)

    @property
    def height(self) -> Height:
        """The newest block."""
        return Height(self.chain.height)

    def block(self, block: VerifiedBlock) -> None:
        """Take the next block, verified to continue the one before, with the entries of all namespaces."""
        assert block.header.height == self.height + 1, "blocks come one after the other"
        try:
            self._block(block)
        except Violated as violated:
            known = violated.violation
            raise Violated(replace(known, height=known.height or block.header.height)) from None

    def told(self, source: str, told: Told) -> None:
        """Take what somebody, whom reports name `source`, says after a block that was given."""
        self.statements.compare(source, told)

    def logged(self, index: int, entry: bytes) -> None:
        """Take the next entry of the settlement log."""
        self.log.entry(index, entry)

    def acknowledged(self, placement: Placement) -> None:
        """Take what the sequencer acknowledged: now or later, it stands where it said."""
        self.bundles.acknowledged(placement, self.height)

    def finish(self) -> None:
        """Count everything once more, and miss what was acknowledged and did not come."""
        for rollup in self.chain.rollups.values():
            self.value.recount(rollup, self.height)
        self.swaps.recount(self.chain.register, self.chain.rollups)
        for placement in self.bundles.awaited():
            raise Violated(
                Violation(
                    Invariant.ACKNOWLEDGED,
                    f"an acknowledged bundle is missing: the order ends at height {self.height}",
                    height=placement.height,
                    place=f"bundle {placement.bundle_id.hex()}",
                )
            )

    def sequencer_key_at(self, height: Height) -> PublicKey:
        """Return the key that signs the header at a height."""
        if height > self.height:
            return PublicKey(self.chain.register.registry.sequencer_key_at(height))
        return next(key for since, key in reversed(self._keys) if since <= height)

    def settlement_key(self) -> PublicKey:
        """Return the key that signs checkpoints of the settlement log now."""
        return PublicKey(self.chain.register.registry.keys["settlement"])

    def _block(self, block: VerifiedBlock) -> None:
        height, time_ms = block.header.height, block.header.time_ms
        self.counts[Invariant.ORDER] += 1
        self.bundles.block(block)
        self.chain.apply(ordered_of(block))
        self.time_ms = time_ms
        register, rollups = self.chain.register, self.chain.rollups
        key = PublicKey(register.registry.keys["sequencer"])
        if key != self._keys[-1][1]:
            self._keys.append((height, key))
        for rollup in rollups.values():
            self.value.block(rollup, height, time_ms)
            self.transactions += sum(each[1] == 1 for each in rollup.receipts)
            self.transfers += sum(map(_is_transfer, rollup.receipts))
        self.swaps.block(register, rollups, time_ms)
        if height % RECOUNT_BLOCKS == 0:
            self.swaps.recount(register, rollups)
        self.expected.add(block.hash, register.root, self.chain.commitments())
        for entry in block.entries.get(LOG_NAMESPACE, ()):
            self.log.ordered(entry.payload, height, self.settlement_key())
        self.log.catch_up()


def _is_transfer(receipt: bytes) -> bool:
    is_good = receipt[1] == 1 and int.from_bytes(receipt[46:48], "big") == OK
    return is_good and int.from_bytes(receipt[80:82], "big") == BANK_TRANSFER
