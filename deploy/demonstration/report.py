"""What the demo found, as a table for people and as JSON for programs.

Owns the records, how they look and the JSON's layout. Decides nothing.

    {"ok": true, "error": "", "seconds": 20.5, "chain_id": HEX,
     "transfers": [{"rollup": "alpha", "asset": "gold", "sender": "alice", "recipient": "bob",
                    "amount": "25000", "height": 9, "index": 0}, ...],
     "swaps": [{"number": 1, "name": "revealed by the taker", "swap_id": HEX, "outcome": "COMMITTED",
                "reason": "NONE", "milliseconds": 640, "opened_height": 12, "decided_height": 17,
                "expected": true,
                "moved": [{"rollup": "alpha", "asset": "gold", "sender": "alice", "recipient": "bob",
                           "amount": "50000"}, ...]}, ...],
     "checks": [{"name": "gold on alpha is conserved", "ok": true, "detail": "..."}, ...]}

`ok` is what the exit code says: every swap ended as expected, every check held, nothing failed; `error` says
what failed otherwise. Amounts are decimal texts of base units. `milliseconds` are real time, from the last
signed lock until the decision was seen. `moved` is what went to somebody else for good; of an aborted swap,
nothing.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.devnet.network import DECIMALS


@dataclass(frozen=True, slots=True)
class Movement:
    """Something that went from one trader to another."""

    rollup: str
    """Where."""
    asset: str
    """What."""
    sender: str
    """Who gave it."""
    recipient: str
    """Who has it now."""
    amount: int
    """Base units."""

    def __str__(self) -> str:
        return f"{in_units(self.amount)} {self.asset}: {self.sender} -> {self.recipient}"


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A transfer that was ordered and executed."""

    movement: Movement
    """What it moved."""
    height: int
    """Its block."""
    index: int
    """Its place there."""


@dataclass(frozen=True, slots=True)
class SwapResult:
    """How a swap ended."""

    number: int
    """Its place in the story, from 1."""
    name: str
    """What is particular about it."""
    swap_id: bytes
    """Its id."""
    outcome: str
    """COMMITTED or ABORTED."""
    reason: str
    """Why it was aborted; NONE if it was not."""
    milliseconds: int
    """Real time from the last signed lock until the decision was seen."""
    opened_height: int
    """The block that opened it."""
    decided_height: int
    """The block that decided it."""
    expected: bool
    """Whether the story wants this end."""
    moved: tuple[Movement, ...]
    """What its receipts say went to somebody else."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a promise was kept."""

    name: str
    """The promise."""
    ok: bool
    """Whether it was kept."""
    detail: str
    """How that was seen, or what is wrong."""


@dataclass(slots=True)
class Report:
    """Everything that was found; grows as the story goes on."""

    chain_id: bytes = b""
    """The chain."""
    transfers: list[TransferResult] = field(default_factory=list)
    """In order."""
    swaps: list[SwapResult] = field(default_factory=list)
    """In the order in which they ended."""
    checks: list[CheckResult] = field(default_factory=list)
    """In order."""
    error: str = ""
    """What ended the story before its end; empty if nothing did."""
    seconds: float = 0.0
    """How long it all took."""

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        complete = bool(self.swaps) and bool(self.checks)
        return (
            complete
            and not self.error
            and all(swap.expected for swap in self.swaps)
            and all(check.ok for check in self.checks)
        )


def in_units(amount: int) -> str:
    """Return base units as people write them."""
    return f"{amount // 10**DECIMALS:,}.{amount % 10**DECIMALS:0{DECIMALS}}"


def save_json(report: Report, path: Path) -> None:
    """Write the report to a file, whole or not at all."""
    document = {
        "ok": report.ok,
        "error": report.error,
        "seconds": round(report.seconds, 3),
        "chain_id": report.chain_id.hex(),
        "transfers": [
            {**_movement(transfer.movement), "height": transfer.height, "index": transfer.index}
            for transfer in report.transfers
        ],
        "swaps": [
            {
                **asdict(swap),
                "swap_id": swap.swap_id.hex(),
                "moved": [_movement(movement) for movement in swap.moved],
            }
            for swap in sorted(report.swaps, key=lambda swap: swap.number)
        ],
        "checks": [asdict(check) for check in report.checks],
    }
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def show(report: Report, console: Console) -> None:
    """Print the closing tables."""
    swaps = Table(
        "swap", "", "outcome", "reason", "ms", "what moved", title="Five swaps", title_justify="left"
    )
    for swap in sorted(report.swaps, key=lambda swap: swap.number):
        swaps.add_row(
            str(swap.number),
            swap.name,
            f"[{'green' if swap.expected else 'red'}]{swap.outcome}",
            "" if swap.reason == "NONE" else swap.reason,
            f"{swap.milliseconds:,}",
            "\n".join(map(str, swap.moved)) or "nothing: every side has its own back",
        )
    checks = Table("", "check", "how it was seen", title="What was checked", title_justify="left")
    for check in report.checks:
        checks.add_row("[green]ok" if check.ok else "[red]FAILED", escape(check.name), escape(check.detail))
    for table in (swaps, checks):
        if table.row_count:
            console.print(table)
    if report.error:
        console.print(report.error, style="red", markup=False, soft_wrap=True)
    verdict = "[green]All of it held" if report.ok else "[red]Not all of it held"
    console.print(f"{verdict}, in {report.seconds:.1f} s.")


def _movement(movement: Movement) -> dict[str, Any]:
    return {**asdict(movement), "amount": str(movement.amount)}
