"""What the demo found, as tables for people and as JSON for programs.

Owns the records, how they look and the JSON's layout. Decides nothing.

    {"ok": true, "error": "", "seconds": 20.5, "chain_id": HEX,
     "transfers": [{"rollup": "alpha", "asset": "gold", "sender": "alice", "recipient": "bob",
                    "amount": "25000", "height": 9, "index": 0}, ...],
     "swaps": [{"number": 1, "name": "revealed by the taker", "swap_id": HEX,
                "legs": [{"rollup": "alpha", "asset": "gold", "sender": "alice", "recipient": "bob",
                          "amount": "50000"}, ...],
                "outcome": "COMMITTED", "reason": "NONE",
                "milliseconds": {"proposed": 31, "locked": 240, "revealed": 18, "decided": 25, "settled": 60,
                                 "anchored": 1210},
                "opened_height": 12, "decided_height": 17, "level": "ANCHORED", "expected": true,
                "moved": [...], "receipt": {"file": "receipts/swap-1.receipt", "bytes": 5210, "ok": true,
                                            "detail": "..."}}, ...],
     "checks": [{"name": "gold on alpha is conserved", "ok": true, "detail": "..."}, ...]}

`ok` is what the exit code says: every swap ended as expected, every check held, nothing failed; `error` says
what failed otherwise. Amounts are decimal texts of base units. `milliseconds` are real time, each step's from
the end of the one before; a step that a swap does not take is not there. `moved` is what went to somebody
else for good; of an aborted swap, nothing. `receipt` is null until it was fetched; its `file` is in the
demo's folder, and `ok` is that it verified with the genesis file alone, after every process was stopped.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.devnet.network import DECIMALS
from lockstep.types import RollupId

STEPS: Final = ("proposed", "locked", "revealed", "decided", "settled", "anchored")
"""What a swap goes through: agreed and signed by all; every leg attested LOCKED; the preimage ordered; the
decision seen; every leg settled; decision and settlement in the settlement log."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Something that went from one trader to another."""

    rollup: RollupId
    """Where."""
    asset: str
    """What."""
    sender: str
    """Who gave it."""
    recipient: str
    """Who has it now."""
    amount: int
    """Base units."""

    @property
    def what(self) -> str:
        """What moves and where, in words."""
        return f"{in_units(self.amount)} {self.asset} on {self.rollup}"

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
class ReceiptResult:
    """A swap's receipt, in a file of its own."""

    file: str
    """Its path in the demo's folder."""
    bytes: int
    """Its size."""
    ok: bool = False
    """Whether it verified with the genesis file alone."""
    detail: str = "it was not verified"
    """What it shows, or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class SwapResult:
    """How a swap ended."""

    number: int
    """Its place in the story, from 1."""
    name: str
    """What is particular about it."""
    swap_id: bytes
    """Its id."""
    legs: tuple[Movement, ...]
    """What was agreed."""
    outcome: str
    """COMMITTED or ABORTED."""
    reason: str
    """Why it was aborted; NONE if it was not."""
    milliseconds: Mapping[str, int]
    """Real time that each of the STEPS took that it went through."""
    opened_height: int
    """The block that opened it."""
    decided_height: int
    """The block that decided it."""
    level: str
    """How far its decision has got: a commit level's name."""
    expected: bool
    """Whether the story wants this end."""
    moved: tuple[Movement, ...]
    """What its receipts say went to somebody else."""
    receipt: ReceiptResult | None = None
    """The proof of all that; None until it was fetched."""


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
    swaps: dict[int, SwapResult] = field(default_factory=dict)
    """By number."""
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
            and all(swap.expected for swap in self.swaps.values())
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
                "legs": [_movement(leg) for leg in swap.legs],
                "moved": [_movement(movement) for movement in swap.moved],
            }
            for _, swap in sorted(report.swaps.items())
        ],
        "checks": [asdict(check) for check in report.checks],
    }
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def show(report: Report, console: Console) -> None:
    """Print the closing tables and the verdict."""
    for table in (_swaps_table(report), _times_table(report), _checks_table(report)):
        if table.row_count:
            console.print(table)
    if report.error:
        console.print(report.error, style="red", markup=False, soft_wrap=True)
    verdict = "[green]All of it held" if report.ok else "[red]Not all of it held"
    console.print(f"{verdict}, in {report.seconds:.1f} s.")


def _swaps_table(report: Report) -> Table:
    table = Table("", "swap", title="What became of the swaps", title_justify="left")
    for column in ("legs", "outcome", "level"):
        table.add_column(column, no_wrap=True)
    for number, swap in sorted(report.swaps.items()):
        reason = "" if swap.reason == "NONE" else f"\n{swap.reason}"
        table.add_row(
            str(number),
            escape(swap.name),
            "\n".join(map(str, swap.legs)),
            f"[{'green' if swap.expected else 'red'}]{swap.outcome}[/]{reason}",
            swap.level,
        )
    return table


def _times_table(report: Report) -> Table:
    table = Table(
        "swap", title="Milliseconds that each step took, as its traders saw it", title_justify="left"
    )
    for step in (*STEPS, "in all"):
        table.add_column(step, justify="right")
    for number, swap in sorted(report.swaps.items()):
        times = [f"{swap.milliseconds[step]:,}" if step in swap.milliseconds else "-" for step in STEPS]
        table.add_row(str(number), *times, f"{sum(swap.milliseconds.values()):,}")
    return table


def _checks_table(report: Report) -> Table:
    table = Table("", "check", "how it was seen", title="What was checked", title_justify="left")
    for check in report.checks:
        table.add_row("[green]ok" if check.ok else "[red]FAILED", escape(check.name), escape(check.detail))
    return table


def _movement(movement: Movement) -> dict[str, Any]:
    return {**asdict(movement), "amount": str(movement.amount)}
