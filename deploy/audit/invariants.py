"""What must hold of a network, by name, and how it is told that something does not.

Owns the names, which stand in reports and in JSON, and the record of a violation. Who finds one raises
`Violated`; the first one ends an audit.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Self

from lockstep.types import Height

__pure__ = True


class Invariant(Enum):
    """What is checked; the value is said to people."""

    ORDER = "every block continues the one before, is signed, and is handed out whole"
    BUNDLES = "a bundle stands whole and together, is what its id says, inside its window, once"
    ACKNOWLEDGED = "what the sequencer acknowledged stands where it said"
    CONSERVATION = "of every asset, balances and escrow are the supply, which only faucets raise"
    ONCE = "a rollup's transaction acts once at most"
    WHOLE = "a swap moves all its legs, or none"
    DECIDED_ONCE = "a swap is decided once, and for what stands in its record"
    ESCROW = "escrow stands exactly while its swap is recorded and undecided"
    DEADLINES = "no swap is undecided past its deadline, and none is decided against it"
    ATTESTED = "attesters say of a lock what their rollup's escrow says"
    COMMITMENTS = "every node says of its rollup what the order makes of it"
    REGISTER = "every node has the swap register that the order makes"
    ANCHORS = "the settlement log anchors the order's headers and the rollups' true commitments"
    APPEND_ONLY = "the settlement log only grows, by entries that may stand there"
    ONE_LOG = "the checkpoints that were ordered are those of the log that is shown here"
    EVIDENCE = "nobody signed two things that contradict each other"


@dataclass(frozen=True, slots=True)
class Difference:
    """A key of a rollup's state of which a node says otherwise."""

    key: bytes
    """The key (protos/README.md, section 10)."""
    expected: bytes | None
    """The value that the order makes; None if there is none."""
    actual: bytes | None
    """The value that the node proved under its own commitment."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that does not hold: as little as is needed to look at it again."""

    invariant: Invariant
    """What does not hold."""
    message: str
    """What was found, in a sentence."""
    height: int = 0
    """The block, or 0."""
    rollup: str = ""
    """The rollup, if it is about one."""
    source: str = ""
    """Who said what is wrong; empty if it follows from the order."""
    place: str = ""
    """The transaction, entry, bundle or swap."""
    expected: str = ""
    """What should be; hashes in hex."""
    actual: str = ""
    """What was found."""
    differences: tuple[Difference, ...] = ()
    """The first keys that differ, if the node could be asked."""
    remark: str = ""
    """What else helps, such as why a node could not be asked."""

    def lines(self) -> list[str]:
        """Return the violation as people read it."""
        named = {
            "height": str(self.height) if self.height else "",
            "rollup": self.rollup,
            "said by": self.source,
            "about": self.place,
            "expected": self.expected,
            "found": self.actual,
        }
        lines = [f"VIOLATION {self.invariant.name}: {self.invariant.value}", f"  {self.message}"]
        lines += [f"  {name:<9} {text}" for name, text in named.items() if text]
        for each in self.differences:
            lines += [f"  key       {each.key.hex()}"]
            lines += [f"    expected {_shown(each.expected)}", f"    found    {_shown(each.actual)}"]
        return [*lines, f"  {self.remark}"] if self.remark else lines

    def as_json(self) -> dict[str, Any]:
        """Return the violation for programs."""
        return {
            "invariant": self.invariant.name,
            "means": self.invariant.value,
            "message": self.message,
            "height": self.height,
            "rollup": self.rollup,
            "source": self.source,
            "place": self.place,
            "expected": self.expected,
            "actual": self.actual,
            "differences": [
                {"key": each.key.hex(), "expected": _hex(each.expected), "actual": _hex(each.actual)}
                for each in self.differences
            ],
            "remark": self.remark,
        }


class Violated(Exception):
    """Something does not hold."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.message)
        self.violation = violation

    def with_differences(self, differences: tuple[Difference, ...], remark: str) -> Self:
        """Return the same with what a node was asked afterwards."""
        return type(self)(replace(self.violation, differences=differences, remark=remark))


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody says a rollup has come to, as it is compared."""

    rollup: str
    """The rollup."""
    height: Height
    """After which block."""
    header_hash: bytes
    """That block's header hash, as who says it has it."""
    state_root: bytes
    """The root over the state."""
    receipt_count: int
    """The receipts so far."""
    receipts_root: bytes
    """The root over them."""
    register_root: bytes
    """The root of the swap register."""


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _shown(value: bytes | None) -> str:
    if value is None:
        return "(absent)"
    return f"{value.hex()} ({int.from_bytes(value, 'big')})" if len(value) == 16 else value.hex()
