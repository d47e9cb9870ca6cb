"""The whole settlement log, judged again from its start.

Owns nothing that the log says of itself: with the genesis file and the entries alone it finds out whether
every entry may stand where it stands, and which root they make. Does no I/O. Invariant: an auditor that took
every entry has judged them by the rules that the log is held to (`lockstep.settlement_log`).
"""

from collections import deque
from collections.abc import Iterable

from lockstep.checkpoint import Checkpoint
from lockstep.errors import Discontinuous, Malformed, ProofInvalid
from lockstep.genesis import Genesis
from lockstep.merkle import Frontier, leaf_hash
from lockstep.settlement_log import Log, empty_log, read_candidate, step
from lockstep.settlement_names import Found

__pure__ = True


class Auditor:
    """Takes the entries of a log one by one, from index 0 on; holds them all."""

    def __init__(self, genesis: Genesis) -> None:
        self._log = empty_log(genesis)
        self._entries: list[bytes] = []
        self._names: dict[str, int] = {}
        self._frontier = Frontier()
        self._due: deque[bytes] = deque()

    @property
    def log(self) -> Log:
        """What the entries so far say: what is anchored, how much evidence there is."""
        return self._log

    @property
    def size(self) -> int:
        """Entries so far."""
        return len(self._entries)

    @property
    def root(self) -> bytes:
        """The root over the entries so far."""
        return self._frontier.root()

    def add(self, entry: bytes) -> None:
        """Take the next entry. Raises `Discontinuous` if no honest log has it there."""
        if not self._due:
            self._due.extend(self._appended_for(entry))
        if entry != self._due.popleft():
            raise self._invalid("is not the evidence that the entry before it gives rise to")
        self._entries.append(entry)
        self._frontier = self._frontier.append(leaf_hash(entry))

    def verify(self, checkpoint: Checkpoint) -> None:
        """Verify that a checkpoint, itself verified before, is of exactly the entries so far.

        Raises `ProofInvalid`.
        """
        if self._due:
            raise ProofInvalid(reason=f"the log ends at {self.size} entries without the evidence due there")
        if (checkpoint.size, checkpoint.root) != (self.size, self.root):
            raise ProofInvalid(
                reason=f"the {self.size} entries have root {self.root.hex()}, the checkpoint says "
                f"{checkpoint.root.hex()} of {checkpoint.size}"
            )

    def _appended_for(self, entry: bytes) -> tuple[bytes, ...]:
        """Judge an entry and return what an honest log appends for it."""
        try:
            done = step(self._log, self._find, read_candidate(entry))
        except Malformed as error:
            raise self._invalid(f"has no meaning: {error.message}") from error
        if done.appended[:1] != (entry,):
            why = f"stands at {done.answer} already" if isinstance(done.answer, int) else done.answer.message
            raise self._invalid(f"may not stand there: {why}")
        self._log = done.log
        self._names |= done.names
        return done.appended

    def _find(self, name: str) -> Found | None:
        index = self._names.get(name)
        return None if index is None else Found(index, self._entries[index])

    def _invalid(self, reason: str) -> Discontinuous:
        return Discontinuous(what=f"settlement log's entry {self.size}", reason=reason)


def audit(genesis: Genesis, entries: Iterable[bytes], checkpoint: Checkpoint) -> Log:
    """Verify that `entries` are all of a valid log, and that a verified checkpoint is of them.

    Returns what they say. Raises `Discontinuous`, `ProofInvalid`.
    """
    auditor = Auditor(genesis)
    for entry in entries:
        auditor.add(entry)
    auditor.verify(checkpoint)
    return auditor.log
