"""Every moment of a swap times every set of up to three victims: `python -m tests.chaos.matrix`.

A case brings a swap between two trader processes to a moment, kills a set of real processes at one instant
with SIGKILL, starts them again in an order that the seed gives, and checks everything: both traders come to
the swap's end, within `HEAL_MS_MAX`, the swap ended the same way everywhere, every unit is where it must be,
and what was acknowledged keeps its place. After a batch the auditor, a second implementation, judges the
whole network (`Arena.audit`). What CI runs of it is in `test_matrix`.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count
from pathlib import Path

import click

from deploy.commands.parameters import DURATION
from tests.chaos.arena import KILLED, Arena
from tests.chaos.arenas import Arenas, Judgement, reasons
from tests.chaos.journals import JOURNAL_OPTION, note
from tests.chaos.moments import MAKER, MOMENTS, TAKER, TRADERS, Moment, Swapping, bring_to
from tests.chaos.traders import verify_told

VICTIMS = (*KILLED, TAKER, MAKER)
"""Who dies: everything that runs but the replica of beta, by which they are measured, and gamma."""

SIZES = (1, 2, 3)
"""How many die at once."""

HEAL_MS_MAX = 10_000
"""Within how many milliseconds a swap is at its end once everybody is back. A campaign tells who was later,
which a starved machine can cause; tests do not judge times."""

AUDITED_CASES = 100
"""After so many cases a network is audited, and the next cases get a new one."""


@dataclass(frozen=True)
class Case:
    """Who dies when."""

    moment: Moment
    """When."""
    victims: tuple[str, ...]
    """Who."""

    def __str__(self) -> str:
        return f"{self.moment}/{'+'.join(self.victims)}"


@dataclass(frozen=True)
class Result:
    """What came of a case in which all went well."""

    order: tuple[str, ...]
    """In which order they were started again."""
    heal_ms: int
    """How long after the last of them was back both traders were at the swap's end."""


def cases(sizes: Sequence[int]) -> tuple[Case, ...]:
    """Return every case with so many victims."""
    return tuple(
        Case(moment, victims)
        for size in sizes
        for victims in combinations(VICTIMS, size)
        for moment in MOMENTS
    )


def command_for(case: Case, seed: int) -> str:
    """Return what is typed to run a case alone."""
    return f"python -m tests.chaos.matrix --case {case} --seed {seed}"


async def run_case(arena: Arena, case: Case, seed: int) -> Result:
    """Run a case and check everything. The seed gives the order in which the dead come back."""
    chance = random.Random(f"{seed}/{case}")
    order = tuple(chance.sample(case.victims, len(case.victims)))
    is_all_at_once, is_heard_first = chance.random() < 0.5, chance.random() < 0.5
    async with arena.traffic():
        before = await arena.tip()
        swapping = await bring_to(arena, case.moment)
        await kill(arena, swapping, case.victims)
        for name in (*case.moment.paused, *case.moment.paused_at_reveal):
            arena.devnet.resume(name)
        if is_heard_first:
            go_on(swapping)
        backs = [revive(arena, swapping, victim) for victim in order]
        if is_all_at_once:
            await asyncio.gather(*backs)
        else:
            for back in backs:
                await back
        go_on(swapping)
        started_s = time.monotonic()
        ends = [command.ended() for command in swapping.commands.values()]
        for ended in await asyncio.gather(*ends):
            verify_told(ended, case.moment.outcome)
        heal_ms = round((time.monotonic() - started_s) * 1_000)
    for trader in swapping.traders.values():
        recorded = trader.wallet.get(swapping.swap.swap_id, trader.account)
        assert recorded is not None
        assert recorded.outcome is case.moment.outcome, trader.name
    await arena.verify(swapping.swap, case.moment.outcome, before=before, log=False)
    return Result(order, heal_ms)


async def kill(arena: Arena, swapping: Swapping, victims: Sequence[str]) -> None:
    """SIGKILL all of them, and only then wait until they are gone."""
    processes = [swapping.commands[victim].process for victim in victims if victim in TRADERS]
    for process in processes:
        process.kill()
    # Each of these sends its signal before the first of them waits.
    await asyncio.gather(*(arena.devnet.kill(victim) for victim in victims if victim not in TRADERS))
    for process in processes:
        assert await process.wait() < 0, "it was there to be killed"


async def revive(arena: Arena, swapping: Swapping, victim: str) -> None:
    """Start one that was killed: a service as it was, a trader with `swap resume`."""
    if victim in TRADERS:
        command = await swapping.traders[victim].start("resume", swapping.swap.swap_id.hex())
        swapping.commands[victim] = command
    else:
        await arena.devnet.start(victim)


def go_on(swapping: Swapping) -> None:
    """Let traders go on who stand still."""
    for command in swapping.commands.values():
        command.go_on()


# --- the campaign -----------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What a campaign came to."""

    seed: int
    """Its seed."""
    passed: int = 0
    """Cases in which all went well."""
    kills: Counter[str] = field(default_factory=Counter)
    """How often each was killed in those."""
    heal_ms: list[int] = field(default_factory=list)
    """Of each."""
    failed: list[tuple[Case, int]] = field(default_factory=list)
    """The others, each with the seed that it was run with."""
    late: list[tuple[Case, int]] = field(default_factory=list)
    """Of those that passed, who was at the swap's end only after `HEAL_MS_MAX`, and its seed."""
    audits: Counter[Judgement] = field(default_factory=Counter)
    """What the auditor found of each network."""

    @property
    def is_good(self) -> bool:
        """Whether everything held, and everything was judged."""
        return not (self.failed or self.late or set(self.audits) - {Judgement.WHOLE})

    def lines(self) -> Iterator[str]:
        """Tell it, with the command that repeats what failed."""
        yield (
            f"{self.passed + len(self.failed)} cases with seed {self.seed}: {self.passed} passed, "
            f"{len(self.failed)} failed; {self.kills.total()} kills, "
            + ", ".join(f"{name} {times}" for name, times in sorted(self.kills.items()))
        )
        if self.heal_ms:
            ordered = sorted(self.heal_ms)
            yield (
                f"at the swap's end after everybody was back: median {ordered[len(ordered) // 2]} ms, "
                f"longest {ordered[-1]} ms"
            )
        yield "networks audited: " + ", ".join(f"{count} {found}" for found, count in self.audits.items())
        for case, seed in self.late:
            yield f"LATE {case}; to repeat it: {command_for(case, seed)}"
        for case, seed in self.failed:
            yield f"FAILED {case}; to repeat it: {command_for(case, seed)}"


async def campaign(
    chosen: Sequence[Case], *, seed: int, for_s: float | None, folder: Path, journal: Path | None
) -> Tally:
    """Run cases, each once, or over and over with the next seed until `for_s` seconds have passed."""
    tally, arenas, until_s = Tally(seed), Arenas(folder), time.monotonic() + (for_s or 0)
    done = 0
    try:
        for each in count(seed):
            for case in chosen:
                if for_s is not None and time.monotonic() >= until_s:
                    return tally
                done += 1
                await _try(arenas, case, each, tally, done, journal)
                if done % AUDITED_CASES == 0:
                    await _audit(arenas, tally, journal)
            if for_s is None:
                return tally
        return tally
    finally:
        await _audit(arenas, tally, journal)


async def _try(
    arenas: Arenas, case: Case, seed: int, tally: Tally, number: int, journal: Path | None
) -> None:
    started_s = time.monotonic()
    try:
        async with arenas.case() as arena:
            result = await run_case(arena, case, seed)
    except Exception as failure:  # noqa: BLE001  # whatever it is, it is a finding, and the next case follows
        tally.failed.append((case, seed))
        note(journal, case=str(case), seed=seed, ending="failed")
        click.echo(f"{number:4} {case} seed {seed} FAILED: {'; '.join(reasons(failure))}")
        click.echo("\n".join(getattr(failure, "__notes__", ())))
        return
    tally.passed += 1
    tally.kills.update(case.victims)
    tally.heal_ms.append(result.heal_ms)
    if result.heal_ms > HEAL_MS_MAX:
        tally.late.append((case, seed))
    note(journal, case=str(case), seed=seed, ending="passed", heal_ms=result.heal_ms)
    took_ms = round((time.monotonic() - started_s) * 1_000)
    back = ", ".join(result.order)
    click.echo(f"{number:4} {case} ok in {took_ms} ms; back: {back}; healed in {result.heal_ms} ms")


async def _audit(arenas: Arenas, tally: Tally, journal: Path | None) -> None:
    """Have the network judged as a whole; the next case begins a new one."""
    judgement = await arenas.judge()
    if judgement is not None:
        tally.audits[judgement] += 1
        note(journal, audit=judgement, seed=tally.seed)


def _shard(text: str, chosen: Sequence[Case]) -> list[Case]:
    number, _, total = text.partition("/")
    return list(chosen[int(number) - 1 :: int(total)])


@click.command()
@click.option("--sets", "sizes", type=click.IntRange(1, len(VICTIMS)), multiple=True, default=SIZES,
              help="Sets of so many victims; may be repeated. Else of one, two and three.")  # fmt: skip
@click.option("--seed", type=int, default=0, help="Gives the order of the cases, and of the restarts.")
@click.option("--shard", default="1/1", metavar="I/N", help="Only the I-th of N parts of the cases.")
@click.option("--for", "for_ms", type=DURATION, help="Go on, or stop, after so long; else each case once.")
@click.option("--case", "only", metavar="MOMENT/VICTIM+VICTIM", help="Only this case.")
@JOURNAL_OPTION
def main(
    *,
    sizes: tuple[int, ...],
    seed: int,
    shard: str,
    for_ms: int | None,
    only: str | None,
    journal: Path | None,
) -> None:
    """Kill every set of processes at every moment of a swap. Exit code 1 if anything does not hold."""
    chosen = list(cases(sizes if only is None else range(1, len(VICTIMS) + 1)))
    if only is not None:
        chosen = [case for case in chosen if str(case) == only]
        if not chosen:
            raise click.UsageError(f"there is no case {only}, such as open/sequencer+bridge")
    random.Random(seed).shuffle(chosen)
    chosen = _shard(shard, chosen)
    folder = Path(tempfile.mkdtemp(prefix="lockstep-matrix-"))
    click.echo(f"{len(chosen)} cases with seed {seed}, in {folder}")
    for_s = None if for_ms is None else for_ms / 1_000
    tally = asyncio.run(campaign(chosen, seed=seed, for_s=for_s, folder=folder, journal=journal))
    for line in tally.lines():
        click.echo(line)
    sys.exit(0 if tally.is_good else 1)


if __name__ == "__main__":
    main()
