"""What campaigns' journals say, put into RELIABILITY: `python -m tests.chaos.recording JOURNAL...`.

The trials of the claim become those of the journals. With `--control WHAT` they were written while that was
broken on purpose, and become a control of the claim.
"""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from tests.reliability import Claim, Control, load, record

CLAIM: Final = (
    "A process that dies, or whose disk fails, at any point of a swap loses nothing that was acknowledged, "
    "and the swap ends whole"
)

NOT_COVERED: Final = (
    "a power cut, since a killed process leaves its writes to the kernel; two faults in one swap; "
    "points that no swap between two traders passes: a lone lock, a changed registry, an ordered checkpoint. "
    "Each run has checks of its own; the auditor judges a network after a batch as well, and on a machine "
    "that is overloaded does not always come to its end in time: 22 of 38 networks here it judged whole. "
    "One run is not counted, in which the campaign itself ended a process that was about to end."
)


def tried(journals: Sequence[Path]) -> Sequence[dict[str, Any]]:
    """Return every run in which the fault came."""
    lines = [json.loads(line) for journal in journals for line in journal.read_text().splitlines()]
    return [line for line in lines if line["ending"] != "missed"]


def record_claim(runs: Sequence[dict[str, Any]], controls: Sequence[Control]) -> None:
    """Write the claim, with the controls that it is to have."""
    endings = Counter(run["ending"] for run in runs)
    distinct = len({run["fault"] for run in runs})
    modes = Counter(run["fault"].rpartition("/")[2] for run in runs)
    seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in runs}))
    told = ", ".join(f"{mode} {times}" for mode, times in sorted(modes.items()))
    record(
        CLAIM,
        trials=len(runs),
        failures=endings["failed"],
        seeds=f"{seeds}; {distinct} different faults, by mode: {told}",
        command="python -m tests.chaos.campaign --seed SEED --shard I/N --for 4m",
        not_covered=NOT_COVERED,
        date=datetime.now(UTC).date().isoformat(),
        controls=controls,
    )


@click.command()
@click.argument("journals", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--control", "planted", metavar="WHAT", help="What was broken on purpose.")
def main(journals: tuple[Path, ...], planted: str | None) -> None:
    """Record what the journals of campaigns say; the controls that were recorded before stay."""
    runs = tried(journals)
    known: Claim | None = load().claims.get(CLAIM)
    controls = () if known is None else known.controls
    if planted is None:
        record_claim(runs, controls)
        return
    if known is None:
        raise click.UsageError("record the claim first")
    failures = sum(run["ending"] == "failed" for run in runs)
    kept = [control for control in controls if control.planted != planted]
    record(
        CLAIM,
        **{name: getattr(known, name) for name in Claim.__struct_fields__ if name != "controls"},
        controls=[*kept, Control(planted, len(runs), failures)],
    )


if __name__ == "__main__":
    main()
