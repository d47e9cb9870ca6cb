"""Every crash point of a swap in every process and mode: `python -m tests.chaos.campaign`.

A counting run of a swap that commits and of one that aborts lists, for each process, the failpoints that it
passes and the durable system calls that it makes (`crashing`); then each is run in each mode. After a batch
the auditor, a second implementation, judges the whole network, and the next batch gets a new one. What CI
runs of it is in `test_campaign`.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from deploy.commands.parameters import DURATION
from tests.chaos.arenas import Arenas, Judgement
from tests.chaos.crashing import OUTCOMES, PROCESSES, Fault, count, is_shim_loaded, strike
from tests.chaos.journals import JOURNAL_OPTION, note
from tests.tools import shim

AUDITED_RUNS: Final = 100
"""After so many runs a network is audited, and the next runs get a new one."""


@dataclass
class Tally:
    """What a campaign came to."""

    seed: int
    """Its seed."""
    struck: Counter[str] = field(default_factory=Counter)
    """Runs in which the fault came and everything held, by process and mode."""
    missed: list[Fault] = field(default_factory=list)
    """Faults that never came: the process passed the point less often than when it was counted."""
    failed: list[Fault] = field(default_factory=list)
    """Runs in which something did not hold."""
    audits: Counter[Judgement] = field(default_factory=Counter)
    """What the auditor found of each network."""

    @property
    def is_good(self) -> bool:
        """Whether everything held, and everything was judged."""
        return not self.failed and set(self.audits) <= {Judgement.WHOLE}

    def lines(self) -> Iterator[str]:
        """Tell it, with the command that repeats what failed."""
        yield (
            f"{self.struck.total() + len(self.failed)} faults with seed {self.seed}: {self.struck.total()} "
            f"survived, {len(self.failed)} failed; {len(self.missed)} more never came"
        )
        yield ", ".join(f"{name} {times}" for name, times in sorted(self.struck.items()))
        yield "networks audited: " + ", ".join(f"{count} {found}" for found, count in self.audits.items())
        for fault in self.failed:
            yield f"FAILED {fault}; to repeat it: {command_for(fault)}"


def command_for(fault: Fault) -> str:
    """Return what repeats one fault."""
    return f"python -m tests.chaos.campaign --fault '{fault}'"


async def enumerate_faults(arenas: Arenas, processes: Sequence[str]) -> list[Fault]:
    """Return every fault of a swap: that of a counting run of each process and outcome."""
    faults: list[Fault] = []
    for process in processes:
        for outcome in OUTCOMES:
            async with arenas.case() as arena:
                counted = await count(arena, process, outcome)
            faults.extend(counted.faults(process, outcome))
    return faults


def one_of_each(faults: Sequence[Fault], seed: int) -> list[Fault]:
    """Return each point and each call of each process once, at a hit and in a mode that the seed gives."""
    groups: dict[tuple[str, str, int], list[Fault]] = {}
    for fault in faults:
        # Calls have no names: their numbers stand for the places at which they are made.
        groups.setdefault((fault.process, fault.point, fault.hit if fault.is_call else 0), []).append(fault)
    chance = random.Random(seed)
    return [chance.choice(group) for _, group in sorted(groups.items())]


async def campaign(
    arenas: Arenas, faults: Sequence[Fault], tally: Tally, *, until_s: float | None, journal: Path | None
) -> None:
    """Run faults, in order, until all were run or `until_s` of the monotonic clock has come."""
    try:
        for number, fault in enumerate(faults, start=1):
            if until_s is not None and time.monotonic() >= until_s:
                return
            await _try(arenas, fault, tally, journal)
            if number % AUDITED_RUNS == 0:
                await _audit(arenas, tally, journal)
    finally:
        await _audit(arenas, tally, journal)


async def _try(arenas: Arenas, fault: Fault, tally: Tally, journal: Path | None) -> None:
    started_s, exit_code = time.monotonic(), None
    try:
        async with arenas.case() as arena:
            struck = await strike(arena, fault)
    except Exception as failure:  # noqa: BLE001  # whatever it is, it is a finding, and the next fault follows
        tally.failed.append(fault)
        ending = "failed"
        click.echo(f"{fault} FAILED: {type(failure).__name__}: {failure}")
        click.echo("\n".join(getattr(failure, "__notes__", ())))
    else:
        ending, exit_code = "survived" if struck.has_come else "missed", struck.exit_code
        if struck.has_come:
            tally.struck[f"{fault.process} {fault.mode}"] += 1
        else:
            tally.missed.append(fault)
    took_ms = round((time.monotonic() - started_s) * 1_000)
    told = {"fault": str(fault), "seed": tally.seed, "ending": ending, "exit_code": exit_code}
    note(journal, **told, took_ms=took_ms)


async def _audit(arenas: Arenas, tally: Tally, journal: Path | None) -> None:
    """Have the network judged as a whole; the next fault begins a new one."""
    judgement = await arenas.judge()
    if judgement is not None:
        tally.audits[judgement] += 1
        note(journal, audit=judgement, seed=tally.seed)


def parse_fault(text: str) -> Fault:
    """Return the fault that is written so; see `Fault.__str__`."""
    process, outcome, place, mode = text.split("/")
    point, _, hit = place.partition("@")
    [named] = (each for each in OUTCOMES if each.name == outcome)
    return Fault(process, named, point, int(hit), mode)


@dataclass(frozen=True)
class Choice:
    """Which faults are run; the fields are the command's options."""

    processes: Sequence[str] = PROCESSES
    seed: int = 0
    shard: str = "1/1"
    for_ms: int | None = None
    only: str | None = None
    is_each_once: bool = False
    counted: Path | None = None


async def run(choice: Choice, folder: Path, journal: Path | None = None) -> Tally:
    """Enumerate, choose and run; networks are made in `folder`, a line for each run goes to `journal`."""
    until_s = None if choice.for_ms is None else time.monotonic() + choice.for_ms / 1_000
    tally, arenas = Tally(choice.seed), Arenas(folder)
    if choice.only is not None:
        faults = [parse_fault(choice.only)]
    else:
        faults = await _enumerate_once(arenas, choice)
        click.echo(_told(faults))
        if choice.is_each_once:
            faults = one_of_each(faults, choice.seed)
        random.Random(choice.seed).shuffle(faults)
        number, _, total = choice.shard.partition("/")
        faults = faults[int(number) - 1 :: int(total)]
    click.echo(f"{len(faults)} to run with seed {choice.seed}, part {choice.shard}")
    await campaign(arenas, faults, tally, until_s=until_s, journal=journal)
    return tally


async def _enumerate_once(arenas: Arenas, choice: Choice) -> list[Fault]:
    """Return every fault of the chosen processes; counted before, if there is a file of them."""
    if choice.counted is not None and choice.counted.exists():
        faults = list(map(parse_fault, choice.counted.read_text().splitlines()))
    else:
        faults = await enumerate_faults(arenas, choice.processes)
        if choice.counted is not None:
            choice.counted.write_text("".join(f"{fault}\n" for fault in faults))
    return [fault for fault in faults if fault.process in choice.processes]


def _told(faults: Sequence[Fault]) -> str:
    points = {(fault.process, fault.point) for fault in faults if not fault.is_call}
    calls = {(fault.process, fault.outcome, fault.hit) for fault in faults if fault.is_call}
    return f"{len(faults)} faults: {len(points)} points and {len(calls)} calls, each of one process"


def load_shim() -> None:
    """Have processes that are forked from now on see their system calls, if that can be compiled here."""
    if shim.is_available() and not is_shim_loaded():
        os.environ["LD_PRELOAD"] = str(shim.library())


@click.command()
@click.option("--for", "for_ms", type=DURATION, help="Stop after so long; else each fault once.")
@click.option("--seed", type=int, default=0, help="Gives the order, and with --each-once hits and modes.")
@click.option("--shard", default="1/1", metavar="I/N", help="Only the I-th of N parts of the faults.")
@click.option("--process", "processes", type=click.Choice(PROCESSES), multiple=True, help="Only this one.")
@click.option("--each-once", "is_each_once", is_flag=True, help="Each point and call in one mode alone.")
@click.option("--counted", type=click.Path(dir_okay=False, path_type=Path),
              help="Counted faults are kept here, and read from here if it is there.")  # fmt: skip
@click.option("--fault", "only", metavar="PROCESS/OUTCOME/POINT@HIT/MODE", help="Only this fault.")
@JOURNAL_OPTION
def main(journal: Path | None, processes: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401  # as in Choice
    """Fail and kill each process at each point of a swap. Exit code 1 if anything does not hold."""
    load_shim()
    folder = Path(tempfile.mkdtemp(prefix="lockstep-campaign-"))
    click.echo(f"networks are in {folder}")
    tally = asyncio.run(run(Choice(processes=processes or PROCESSES, **options), folder, journal))
    for line in tally.lines():
        click.echo(line)
    sys.exit(0 if tally.is_good else 1)


if __name__ == "__main__":
    main()
