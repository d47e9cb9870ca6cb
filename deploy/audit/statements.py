"""What nodes and attesters say of a rollup, against what the order makes of it. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from deploy.audit.invariants import Invariant, Told, Violated, Violation
from deploy.audit.plain.rollup import Commitment
from deploy.audit.plain.trees import EMPTY, Growing
from lockstep.commitment import Commitment as FirstCommitment
from lockstep.types import Height

__pure__ = True

KEPT_BLOCKS: Final = 65_536
"""Of how many blocks back commitments are kept: what is said of older ones is not compared."""


class Expected:
    """What the order made after each of the last blocks."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[bytes, bytes, Mapping[str, Commitment]]] = {}
        """By height: the header's hash, the register's root, the rollups' commitments."""
        self.height = 0

    def add(self, hashed: bytes, register_root: bytes, commitments: Mapping[str, Commitment]) -> None:
        """Take what the next block made."""
        self.height += 1
        self._blocks[self.height] = (hashed, register_root, commitments)
        self._blocks.pop(self.height - KEPT_BLOCKS, None)

    def header(self, height: int) -> bytes | None:
        """Return the hash of a block's header; None if it is not known any more."""
        known = self._blocks.get(height)
        return None if known is None else known[0]

    def told(self, rollup: str, height: int) -> Told | None:
        """Return what is to be said of a rollup after a block; None if it is not known any more.

        A rollup that was not registered then has nothing, which its nodes say too.
        """
        known = self._blocks.get(height)
        if known is None:
            return None
        hashed, register_root, commitments = known
        made = commitments.get(rollup)
        if made is None:
            return Told(rollup, Height(height), hashed, EMPTY, 0, Growing().root(), register_root)
        return Told(rollup, Height(height), hashed, *made[2:])


def told_of(commitment: FirstCommitment, hashed: bytes) -> Told:
    """Return a node's or an attester's commitment, under a header, as it is compared."""
    return Told(
        commitment.rollup,
        Height(commitment.height),
        hashed,
        commitment.state_root,
        commitment.receipt_count,
        commitment.receipts_root,
        commitment.register_root,
    )


class Statements:
    """Compares statements about rollups with what is expected."""

    def __init__(self, expected: Expected, counts: "Counter[Invariant]") -> None:
        self._expected = expected
        self._counts = counts
        self.too_old = 0
        """Statements about blocks so far back that they could not be compared."""

    def compare(self, source: str, told: Told, invariant: Invariant = Invariant.COMMITMENTS) -> None:
        """Compare what somebody says after a block that was followed. Raises `Violated`."""
        expected = self._expected.told(told.rollup, told.height)
        if expected is None:
            self.too_old += 1
            return
        self._counts[invariant] += 1
        self._counts[Invariant.REGISTER] += 1
        if told == expected:
            return
        if told.header_hash != expected.header_hash:
            invariant, what = Invariant.EVIDENCE, "header_hash"
            message = "has another header of that height: whoever signed both signed two orders"
        elif told.register_root != expected.register_root:
            invariant, what, message = Invariant.REGISTER, "register_root", "has another swap register"
        elif told.receipts_root != expected.receipts_root or told.receipt_count != expected.receipt_count:
            what, message = "receipts_root", "has other receipts"
        else:
            what, message = "state_root", "has another state"
        raise Violated(
            Violation(
                invariant,
                f"{source} {message}",
                height=told.height,
                rollup=told.rollup,
                source=source,
                place=what,
                expected=_root(expected, what),
                actual=_root(told, what),
            )
        )


def _root(told: Told, what: str) -> str:
    root: bytes = getattr(told, what)
    return f"{root.hex()} over {told.receipt_count}" if what == "receipts_root" else root.hex()
