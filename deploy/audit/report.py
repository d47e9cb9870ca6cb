"""What an audit found, for people and for programs.

Owns the closing summary and the files of a violation. The names in JSON are stable.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.audit.following import Follower
from deploy.audit.invariants import Invariant, Violation
from deploy.node.datadir import write_atomically

REPORT_NAME: Final = "audit-violation"
"""The report's files are called so, with `.txt` and `.json`."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What was looked at."""

    height: int
    """The last block."""
    head_height: int
    """The newest block that the sequencer told of."""
    elapsed_s: float
    """Real time that it took."""
    figures: dict[str, int]
    """How much of what there was."""
    swaps: dict[str, int]
    """How many swaps ended how: COMMITTED, or the reason of the abort."""
    checks: dict[Invariant, int]
    """How often each invariant was checked."""
    nodes: tuple["Asked", ...]
    """Who was asked."""
    log_entries: int
    """Entries of the settlement log that were read."""
    anchored_height: int
    """The last anchored header that was compared."""
    log_away: str
    """Why the log did not answer last; empty if it did."""
    too_old: int
    """Statements that could not be compared, because they were about blocks too far back."""

    @property
    def blocks_per_s(self) -> float:
        """How fast it went."""
        return self.height / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def is_complete(self) -> bool:
        """Whether everybody was compared up to the last block."""
        behind = any(node.away or node.compared_height < self.height for node in self.nodes)
        return not (behind or self.log_away or self.too_old)

    def lines(self) -> list[str]:
        """Return the summary as people read it."""
        ends = ", ".join(f"{count} {name}" for name, count in sorted(self.swaps.items())) or "none ended"
        figures = self.figures
        lines = [
            f"{self.height} blocks in {self.elapsed_s:.1f} s ({self.blocks_per_s:.0f} per second), "
            f"{self.head_height - self.height} behind the newest",
            f"{figures['bundles']} bundles, {figures['transactions']} transactions of rollups, "
            f"{figures['transfers']} transfers made",
            f"{figures['swaps_opened']} swaps opened: {ends}",
        ]
        for node in self.nodes:
            state = f"compared up to block {node.compared_height}"
            state += f", before block {node.skipped_height + 1} it has nothing" if node.skipped_height else ""
            lines.append(f"{node.source}: {state}{f'; AWAY: {node.away}' if node.away else ''}")
        log = f"the settlement log: {self.log_entries} entries, anchored up to block {self.anchored_height}"
        lines.append(f"{log}; AWAY: {self.log_away}" if self.log_away else log)
        if self.too_old:
            lines.append(f"{self.too_old} statements were about blocks too far back to be compared")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the summary for programs."""
        return {
            "height": self.height,
            "head_height": self.head_height,
            "elapsed_s": round(self.elapsed_s, 3),
            "blocks_per_s": round(self.blocks_per_s, 1),
            **self.figures,
            "swaps_ended": self.swaps,
            "complete": self.is_complete,
            "invariants": {each.name: self.checks.get(each, 0) for each in Invariant},
            "nodes": [
                {
                    "rollup": node.rollup,
                    "node": node.source,
                    "compared_height": node.compared_height,
                    "away": node.away,
                }
                for node in self.nodes
            ],
            "settlement_log": {
                "entries": self.log_entries,
                "anchored_height": self.anchored_height,
                "away": self.log_away,
            },
            "too_old": self.too_old,
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """A node as it was asked."""

    rollup: str
    """Its rollup."""
    source: str
    """What reports call it."""
    compared_height: int
    """The last block up to which it was compared."""
    skipped_height: int
    """The last block of which it has no commitment any more."""
    away: str
    """Why it did not answer last; empty if it did."""


def summary_of(follower: Follower, elapsed_s: float) -> Summary:
    """Return what an audit has looked at so far."""
    audit, watch = follower.audit, follower.watch
    return Summary(
        height=audit.height,
        head_height=max(watch.head_height, audit.height),
        elapsed_s=elapsed_s,
        figures={
            "bundles": audit.bundles.total,
            "transactions": audit.transactions,
            "transfers": audit.transfers,
            "swaps_opened": audit.swaps.opened,
        },
        swaps=dict(audit.swaps.ends),
        checks=dict(audit.counts),
        nodes=tuple(
            Asked(each.rollup, each.source, each.compared_height, each.skipped_height, each.away)
            for each in follower.nodes
        ),
        log_entries=audit.log.size,
        anchored_height=audit.log.anchored_height,
        log_away=follower.log.away,
        too_old=audit.statements.too_old,
    )


def write_report(folder: Path, violation: Violation, summary: Summary) -> tuple[Path, Path]:
    """Write a violation to `folder` as text and as JSON, and return the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    text, machine = folder / f"{REPORT_NAME}.txt", folder / f"{REPORT_NAME}.json"
    lines = [*violation.lines(), "", "looked at until then:", *summary.lines()]
    told = {"violation": violation.as_json(), "summary": summary.as_json()}
    write_atomically(text, ("\n".join(lines) + "\n").encode())
    write_atomically(machine, (json.dumps(told, indent=2) + "\n").encode())
    return text, machine
