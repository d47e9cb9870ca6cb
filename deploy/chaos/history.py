"""Everything that was done on a network, in the order in which it was noticed, in one file of JSON lines.

Owns the file, and the reading of the traders' journals into it. Each line has `at_s` (seconds of the epoch),
`who` and `what`; the rest belongs to the kind of line. Counts what there is to count.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.chaos.trader.journal import lines_of
from lockstep.order import Placement
from lockstep.types import BundleId, Height


@dataclass
class Counts:
    """What happened so far."""

    faults: Counter[str] = field(default_factory=Counter)
    """Faults that were done, by kind."""
    killed: Counter[str] = field(default_factory=Counter)
    """SIGKILLs, by process."""
    swaps: Counter[str] = field(default_factory=Counter)
    """Swaps whose proposer has seen their end, by outcome."""
    proposed: int = 0
    """Swaps that were proposed."""
    deals: int = 0
    """Deals that were begun, also those for which nobody gave a quote."""
    bundles: int = 0
    """Bundles that were acknowledged to traders."""
    transactions: int = 0
    """Transactions in them."""
    trouble: Counter[str] = field(default_factory=Counter)
    """Errors that traders were told and went on after, by code."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "faults": dict(self.faults),
            "kills": sum(self.killed.values()),
            "killed": dict(self.killed),
            "swaps_proposed": self.proposed,
            "swaps_ended": dict(self.swaps),
            "acknowledged_bundles": self.bundles,
            "acknowledged_transactions": self.transactions,
            "errors_seen_by_traders": dict(self.trouble),
        }


class History:
    """The file of a run."""

    def __init__(self, path: Path, tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Write to `path`, which is made; `tell` hears of each fault and verdict."""
        self.path = path
        """Where it is."""
        self.counts = Counts()
        """What happened so far."""
        self._file = path.open("x", encoding="utf-8")
        self._tell = tell

    def note(self, who: str, what: str, **fields: object) -> None:
        """Add what was done to a process, or found."""
        line = {"at_s": round(time.time(), 3), "who": who, "what": what, **fields}
        self._write(line)
        self._tell(line)

    def add(self, line: Mapping[str, Any]) -> Placement | None:
        """Add a line of a trader's; returns what was acknowledged in it."""
        self._write(line)
        counts = self.counts
        match line:
            case {"what": "acknowledged"}:
                counts.bundles += 1
                counts.transactions += line["count"]
                return Placement(
                    BundleId(bytes.fromhex(line["bundle_id"])),
                    Height(line["height"]),
                    line["first_index"],
                    line["count"],
                )
            case {"what": "proposed"}:
                counts.proposed += 1
                counts.deals += 1
            case {"what": "no quote"}:
                counts.deals += 1
            case {"what": "ended", "role": "PROPOSER"}:
                counts.swaps[line["outcome"]] += 1
            case {"what": "trouble" | "not accepted"}:
                counts.trouble[line.get("code", "?")] += 1
        return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


class Tail:
    """Reads what is added to a trader's journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def added(self) -> Iterator[Mapping[str, Any]]:
        """Yield the whole lines that were added since."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        yield from lines_of(whole)
