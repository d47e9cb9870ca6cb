"""`lockstep chaos`: what can be typed, and how it ends.

Exit codes are the frame's: 0 every promise was kept, 4 one was broken, 2 typed wrong.
"""

import asyncio
import random
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Final

import click

from bridge.client import SwapPhase
from deploy.chaos.faults import ALL_KINDS, Kind
from deploy.chaos.network import SERVICES, TRADERS, Cuts
from deploy.chaos.running import HISTORY_FILE, Plan, run_chaos
from deploy.chaos.showing import outcome_json, show_outcome, watching
from deploy.commands.frame import (
    EXIT_DONE,
    EXIT_UNVERIFIED,
    Command,
    CommandFailed,
    Options,
    json_option,
    print_json_line,
    run,
)
from deploy.commands.parameters import DURATION
from deploy.devnet.launcher import DevnetFailed

_PHASES: Final = {
    phase.name.lower(): phase
    for phase in (
        SwapPhase.COLLECTING,
        SwapPhase.SUBMITTED,
        SwapPhase.OPEN,
        SwapPhase.LOCKED,
        SwapPhase.REVEALED,
        SwapPhase.COMMITTED,
        SwapPhase.ABORTED,
    )
}


class _Kinds(click.ParamType[tuple[Kind, ...]]):
    """Kinds of faults, with commas between."""

    name = "KINDS"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Kind, ...]:
        """Return them."""
        if isinstance(value, tuple):
            return value
        names = str(value).split(",")
        unknown = [name for name in names if name not in set(ALL_KINDS)]
        if unknown:
            self.fail(f"{unknown[0]!r} is no fault; there are: {', '.join(ALL_KINDS)}", param, ctx)
        return tuple(Kind(name) for name in dict.fromkeys(names))


@click.command(cls=Command)
@json_option
@click.option("--for", "for_ms", type=DURATION, default="60s", show_default=True, help="How long to disturb.")
@click.option("--seed", type=click.IntRange(0), help="What deals and faults follow from; else a random one.")
@click.option(
    "--swaps",
    type=click.IntRange(1),
    metavar="N",
    help="End earlier, after so many swaps were begun, with a quote or in vain.",
)
@click.option(
    "--faults",
    "kinds",
    type=_Kinds(),
    metavar="KIND,...",
    help=f"What may be done; else everything, and only kills with --at. Kinds: {', '.join(ALL_KINDS)}.",
)
@click.option(
    "--at",
    type=click.Choice(list(_PHASES)),
    help="Do it when a swap comes to this phase, instead of at random.",
)
@click.option(
    "--victim",
    "victims",
    type=click.Choice((*SERVICES, *TRADERS)),
    multiple=True,
    metavar="NAME",
    help=f"To whom, several at once; else to anybody. Names: {', '.join((*SERVICES, *TRADERS))}.",
)
@click.option(
    "--gap", "gap_ms", type=DURATION, default="700ms", show_default=True, help="Between faults, on average."
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Swaps that each of the three traders proposes at a time.",
)
@click.option(
    "--cuts",
    type=click.Choice([Cuts.PROXY.value, Cuts.NAMESPACES.value]),
    help="How the network is cut: by a process that forwards, or by dropped packets, which takes root and "
    "leaves out delay and reset. Else by namespaces if those do all of --faults here, and it is said.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="An empty or new folder, which is kept. Else a temporary one, of which only the history is kept.",
)
def chaos(
    options: Options,
    *,
    for_ms: int,
    seed: int | None,
    swaps: int | None,
    kinds: tuple[Kind, ...] | None,
    at: str | None,
    victims: tuple[str, ...],
    gap_ms: int,
    at_once: int,
    cuts: str | None,
    folder: Path | None,
) -> None:
    """Disturb a network of real processes under load, and see whether it keeps its promises.

    Makes a devnet with a second coordinator, and three traders who propose, accept, quote and pay. Kills,
    pauses, restarts them and the services, cuts the network between them, fills and slows disks, sets clocks,
    deletes databases and puts back older ones. An auditor follows all the while; at the end every swap must
    be over within 10 s, the same for all its parties, and every node equal.

    Exit code 4: a promise was broken; then everything is kept, and it is said where.
    """
    plan = Plan(
        seed=random.SystemRandom().randrange(10_000) if seed is None else seed,
        for_ms=for_ms,
        kinds=kinds or ((Kind.KILL,) if at else ALL_KINDS),
        swaps=swaps,
        at=None if at is None else _PHASES[at],
        victims=victims,
        gap_ms=gap_ms,
        at_once=at_once,
        cuts=None if cuts is None else Cuts(cuts),
    )
    _verify(plan)

    async def work() -> int:
        chosen = folder or Path(tempfile.mkdtemp(prefix="lockstep-chaos-"))
        with watching(plan, is_json=options.is_json) as tell:
            try:
                outcome = await run_chaos(chosen, plan, tell)
            except DevnetFailed as failure:
                raise CommandFailed(f"the network does not start: {failure}", code="NOT_STARTED") from failure
        history = chosen / HISTORY_FILE
        if outcome.ok and folder is None:
            await asyncio.to_thread(_keep_history_alone, chosen)
        told = {"folder": chosen, "history": history}
        replay = replay_of(plan)
        if options.is_json:
            print_json_line(outcome_json(outcome, **told, replay=replay))
        else:
            show_outcome(outcome, **told, replay=replay)
        return EXIT_DONE if outcome.ok else EXIT_UNVERIFIED

    run(options, work)


def replay_of(plan: Plan) -> str:
    """Return the command that does the same deals and faults again."""
    words = ["lockstep", "chaos", "--for", f"{plan.for_ms}ms", "--seed", str(plan.seed)]
    words += [] if plan.swaps is None else ["--swaps", str(plan.swaps)]
    words += ["--faults", ",".join(plan.kinds)]
    words += [] if plan.at is None else ["--at", plan.at.name.lower()]
    words += [word for victim in plan.victims for word in ("--victim", victim)]
    words += [] if plan.cuts is None else ["--cuts", plan.cuts]
    words += ["--gap", f"{plan.gap_ms}ms", "--at-once", str(plan.at_once)]
    return shlex.join(words)


def _verify(plan: Plan) -> None:
    """Refuse what cannot be done to the victims that were named."""
    alone = {Kind.DISK_FULL, Kind.SLOW_DISK, Kind.CLOCK, Kind.TWIN, Kind.DELETE, Kind.STALE}
    traders = set(plan.victims) & set(TRADERS)
    for kind in plan.kinds if plan.victims else ():
        if kind in alone and (len(plan.victims) > 1 or traders):
            raise click.UsageError(f"{kind} is done to one service at a time; name one --victim")
        if kind is Kind.DELETE and set(plan.victims) & {"sequencer", "settlement"}:
            raise click.UsageError("nobody can make the order again, or the log: they are not deleted")
        if kind is Kind.STALE and "settlement" in plan.victims:
            raise click.UsageError("an older settlement log is a broken one: it is not put back")
        if kind is Kind.OUTAGE and plan.victims != ("settlement",):
            raise click.UsageError("an outage is the settlement log's; name --victim settlement")
        if kind is Kind.RESTART and traders:
            raise click.UsageError("traders are not restarted in order; kill them")


def _keep_history_alone(folder: Path) -> None:
    for each in folder.iterdir():
        if each.name == HISTORY_FILE:
            continue
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()
