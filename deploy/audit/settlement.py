"""The settlement log: that it only grows, by what may stand there, and anchors what the order has.

Whether an entry may stand where it stands is judged by `bridge.settlement.client.Auditor`, by the log's own
rules; what it says is compared here. Entries and checkpoints may come before the block or the entry that they
are about: they wait for it. Does no I/O.
"""

from collections import Counter, deque
from contextlib import suppress
from heapq import heappop, heappush
from typing import Final

from bridge.settlement.client import Auditor
from deploy.audit.invariants import Invariant, Violated, Violation
from deploy.audit.statements import Expected, Statements, told_of
from lockstep.checkpoint import NoteVerifier, verify_checkpoint
from lockstep.errors import BadSignature, Discontinuous, Malformed
from lockstep.genesis import Genesis
from lockstep.header import header_hash
from lockstep.merkle import EMPTY_ROOT
from lockstep.settlement_entries import (
    CommitmentEntry,
    Evidence,
    HeaderRange,
    decode_log_entry,
    decode_settlement_entry,
)
from lockstep.signing import verify_raw
from lockstep.types import PublicKey

THE_LOG: Final = "the settlement log"


class SettlementLog:
    """The settlement log as it is read, entry by entry from its first."""

    def __init__(
        self, genesis: Genesis, expected: Expected, statements: Statements, counts: "Counter[Invariant]"
    ) -> None:
        self._genesis = genesis
        self._expected = expected
        self._statements = statements
        self._counts = counts
        self._judge = Auditor(genesis)
        self._roots: list[bytes] = [EMPTY_ROOT]
        """The root of the log of each size."""
        self._waiting: deque[tuple[int, HeaderRange | CommitmentEntry]] = deque()
        self._checkpoints: list[tuple[int, int, bytes]] = []
        """A heap of the ordered checkpoints of sizes that were not read yet: size, block, root."""
        self.anchored_height = 0
        """The last anchored header that was compared."""

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._judge.size

    def entry(self, index: int, encoded: bytes) -> None:
        """Take the next entry. Raises `Violated`."""
        assert index == self.size, f"entry {index} came after {self.size} entries"
        try:
            self._judge.add(encoded)
        except Discontinuous as error:
            place = f"entry {index} of the settlement log"
            violation = Violation(Invariant.APPEND_ONLY, error.message, place=place, source=THE_LOG)
            raise Violated(violation) from error
        self._counts[Invariant.APPEND_ONLY] += 1
        self._roots.append(self._judge.root)
        entry = decode_settlement_entry(encoded)
        if isinstance(entry, Evidence):
            raise Violated(
                Violation(
                    Invariant.EVIDENCE,
                    f"the settlement log holds evidence of contradicting {entry.kind.name.lower()}",
                    place=f"entry {index} of the settlement log",
                    source=THE_LOG,
                    expected=entry.first.hex(),
                    actual=entry.second.hex(),
                )
            )
        if isinstance(entry, HeaderRange | CommitmentEntry):
            self._waiting.append((index, entry))
        self.catch_up()

    def ordered(self, payload: bytes, height: int, key: bytes) -> None:
        """Take an entry of `_log`: a checkpoint under the log's key, which must be of this very log."""
        verifier = NoteVerifier(self._genesis.settlement.origin, PublicKey(key))
        # Anybody may order anything; what the log did not sign says nothing about it.
        with suppress(BadSignature, Malformed):
            checkpoint = verify_checkpoint(decode_log_entry(payload), verifier, verify=verify_raw)
            heappush(self._checkpoints, (checkpoint.size, height, checkpoint.root))

    def catch_up(self) -> None:
        """Compare what waited for a block or an entry that is there now."""
        while self._waiting and _height_of(self._waiting[0][1]) <= self._expected.height:
            self._compare(*self._waiting.popleft())
        while self._checkpoints and self._checkpoints[0][0] <= self.size:
            size, height, root = heappop(self._checkpoints)
            self._counts[Invariant.ONE_LOG] += 1
            if self._roots[size] != root:
                raise Violated(
                    Violation(
                        Invariant.ONE_LOG,
                        f"of {size} entries, the log signed two roots: it shows two logs",
                        height,
                        source=THE_LOG,
                        expected=root.hex(),
                        actual=self._roots[size].hex(),
                    )
                )

    def _compare(self, index: int, entry: HeaderRange | CommitmentEntry) -> None:
        place = f"entry {index} of the settlement log"
        if isinstance(entry, CommitmentEntry):
            posted = entry.posted
            source = f"{place}, by {posted.attester.hex()[:16]},"
            told = told_of(posted.commitment, posted.header_hash)
            self._statements.compare(source, told, Invariant.ANCHORS)
            return
        height = entry.last.header.height
        expected, found = self._expected.header(height), header_hash(entry.last.encoded)
        self.anchored_height = height
        if expected is None:
            self._statements.too_old += 1
            return
        self._counts[Invariant.ANCHORS] += 1
        if found != expected:
            raise Violated(
                Violation(
                    Invariant.ANCHORS,
                    "the settlement log anchors another header than the order has",
                    height=height,
                    source=THE_LOG,
                    place=place,
                    expected=expected.hex(),
                    actual=found.hex(),
                )
            )


def _height_of(entry: HeaderRange | CommitmentEntry) -> int:
    return entry.last.header.height if isinstance(entry, HeaderRange) else entry.posted.commitment.height
