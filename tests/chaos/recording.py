"""What journals of campaigns say, put into RELIABILITY: `python -m tests.chaos.recording VERB JOURNAL...`.

    points    of `tests.chaos.campaign`: every crash point of a swap
    matrix    of `tests.chaos.matrix`: every moment of a swap times every set of victims
    random    of `tests.chaos.random_campaign`: random faults under load, and how soon everything healed

The trials of a claim become those of the journals, all of them together. With `--control WHAT` they were
written while that was broken on purpose, and become a control of the claim.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from deploy.chaos.running import HEAL_MS_MAX
from tests.chaos.arenas import Judgement
from tests.chaos.journals import Journals, read
from tests.chaos.matrix import HEAL_MS_MAX as MATRIX_HEAL_MS_MAX
from tests.chaos.matrix import SIZES, VICTIMS, cases
from tests.reliability import Control, load, record

Trial = Mapping[str, Any]

POINTS: Final = (
    "A process that dies, or whose disk fails, at any point of a swap loses nothing that was acknowledged, "
    "and the swap ends whole"
)
MATRIX: Final = (
    "Any set of up to three processes, traders among them, may be killed at any moment of a swap: it ends "
    f"whole, within {MATRIX_HEAL_MS_MAX // 1_000} s of their return"
)
RANDOM: Final = (
    "Whoever is killed, paused, cut off or robbed of a disk, at random and under load: nothing acknowledged "
    "is lost or moved, both sides of a swap move or neither, value is conserved, all nodes come to one state"
)
HEALED: Final = f"After the last fault every open swap is at its end within {HEAL_MS_MAX // 1_000} s"


def record_points(said: Journals) -> None:
    """Write the claim about crash points."""
    came = [trial for trial in said.trials if trial["ending"] != "missed"]
    modes = Counter(trial["fault"].rpartition("/")[2] for trial in came)
    _record(
        POINTS,
        trials=len(came),
        failures=sum(map(is_failed, came)),
        seeds=f"{_seeds(came)}; {len({trial['fault'] for trial in came})} different faults, by mode: "
        f"{_told(modes)}",
        command="python -m tests.chaos.campaign --seed SEED --shard I/N --for 4m",
        not_covered="a power cut, since a killed process leaves its writes to the kernel; two faults in one "
        "swap; points that no swap between two traders passes: a lone lock, a changed registry, an ordered "
        f"checkpoint. Each run has checks of its own; the auditor judges a network after a batch as well: "
        f"{_judged(said)}.{_alarms(said)}",
    )


def record_matrix(said: Journals) -> None:
    """Write the claim about victims at moments."""
    trials = said.trials
    distinct = Counter(len(_victims(case)) for case in {trial["case"] for trial in trials})
    heals = [trial["heal_ms"] for trial in trials if "heal_ms" in trial]
    late = sum(heal_ms > MATRIX_HEAL_MS_MAX for heal_ms in heals)
    kills = sum(len(_victims(trial["case"])) for trial in trials)
    sets = ", ".join(
        f"{distinct[size]} of the {len(cases((size,)))} sets of {size} at a moment" for size in SIZES
    )
    _record(
        MATRIX,
        trials=len(trials),
        failures=sum(map(is_failed, trials)) + late,
        seeds=f"{_seeds(trials)}; {kills} kills: {sets}; the end after {_distribution(heals)}",
        command="python -m tests.chaos.matrix --seed SEED --shard I/N",
        not_covered=f"sets of more than three of the {len(VICTIMS)}; a replica or a third rollup that dies; "
        "death inside a system call or at a point between two moments, which the failpoint campaign aims at. "
        f"After a batch the auditor judges the network: {_judged(said)}.{_alarms(said)}",
    )


def _victims(case: str) -> Sequence[str]:
    return case.partition("/")[2].split("+")


def record_random(said: Journals) -> None:
    """Write the claims about random faults: the trials are swaps; and about healing: the trials are heals."""
    trials = said.trials
    swaps, ended, faults = sum(each["swaps_proposed"] for each in trials), Counter[str](), Counter[str]()
    for each in trials:
        ended.update(each["swaps_ended"])
        faults.update(each["faults"])
    kills = sum(each["kills"] for each in trials)
    seconds = sum(each["seconds"] for each in trials)
    common = {"seeds": _seeds(trials), "command": _random_command(trials)}
    _record(
        RANDOM,
        trials=swaps,
        failures=sum(map(is_failed, trials)),
        **common,
        not_covered="power loss and bit rot, which have trials of their own; more than one machine; a wrong "
        "wall clock and cuts by network namespaces, which `lockstep chaos` has and forked processes cannot "
        "have: a proxy cuts; the settlement log's data deleted or older. Trials are proposed swaps, failures "
        f"slices: a network, a seed, a verdict. {len(trials)} slices of {seconds} s in all: {kills} kills; "
        f"faults: {_told(faults)}; seen to their end by who proposed them: {_told(ended)}.{_alarms(said)}",
    )
    heals = [each["healed_ms"] for each in trials if each["healed_ms"] is not None]
    starved = [each["starved_ms"] for each in trials if each["healed_ms"] is not None]
    late = sum(heal_ms > HEAL_MS_MAX for heal_ms in heals)
    _record(
        HEALED,
        trials=len(trials),
        failures=sum(not each["is_healed_in_time"] for each in trials),
        **common,
        not_covered="swaps whose terms allow more time than those of chaos. Trials are slices: after the "
        f"last fault of each its open swaps, dozens, were at their end after {_distribution(heals)}. The "
        "machine was busy with other work: the process that was worst off wanted a processor and got none "
        f"for {_distribution(starved)}, which does not count; with it, {late} took longer than "
        f"{HEAL_MS_MAX // 1_000} s.",
    )


def _random_command(trials: Sequence[Trial]) -> str:
    options = ("for_ms", "gap_ms", "at_once", "transfer_ms")
    chosen = Counter(tuple(each[name] for name in options) for each in trials)
    for_ms, gap_ms, at_once, transfer_ms = chosen.most_common(1)[0][0]
    return (
        f"python -m tests.chaos.random_campaign --seed SEED --for {for_ms}ms --gap {gap_ms}ms "
        f"--at-once {at_once} --transfer {transfer_ms}ms"
    )


# --- words ------------------------------------------------------------------------------------------------


def _seeds(trials: Sequence[Trial]) -> str:
    """Return the seeds, each run of them as its ends."""
    seeds = sorted({trial["seed"] for trial in trials})
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _judged(said: Journals) -> str:
    found = Counter(said.audits)
    text = f"{found[Judgement.WHOLE]} of {len(said.audits)} networks it judged whole"
    if found[Judgement.UNFINISHED]:
        text += f", {found[Judgement.UNFINISHED]} it did not come to the end of in time"
    if found[Judgement.VIOLATED]:
        text += f", in {found[Judgement.VIOLATED]} it FOUND SOMETHING"
    return text


def _alarms(said: Journals) -> str:
    if not said.alarms:
        return ""
    why = "; ".join(said.alarms)
    return f" Not counted: {len(said.alarms)} trials that mistakes of the harness ended, now mended: {why}."


def _distribution(times_ms: Sequence[int]) -> str:
    if not times_ms:
        return "never"
    ordered = sorted(times_ms)
    median, ninth = (ordered[min(len(ordered) - 1, len(ordered) * share // 10)] for share in (5, 9))
    return f"{median} ms in the median, {ninth} ms in nine of ten, {ordered[-1]} ms at most"


# --- the claims -------------------------------------------------------------------------------------------


def _record(claim: str, **fields: Any) -> None:  # noqa: ANN401  # as in `record`
    """Write a claim, with the controls that it had."""
    known = load().claims.get(claim)
    controls = () if known is None else known.controls
    record(claim, **fields, date=datetime.now(UTC).date().isoformat(), controls=controls)


_VERBS: Final[Mapping[str, tuple[str, Callable[[Journals], None]]]] = {
    "points": (POINTS, record_points),
    "matrix": (MATRIX, record_matrix),
    "random": (RANDOM, record_random),
}


def is_failed(trial: Trial) -> bool:
    """Answer whether a trial failed, of whichever campaign."""
    return trial.get("ending") == "failed" or trial.get("ok") is False


@click.command()
@click.argument("verb", type=click.Choice(list(_VERBS)))
@click.argument("journals", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--control", "planted", metavar="WHAT", help="What was broken on purpose.")
def main(verb: str, journals: tuple[Path, ...], planted: str | None) -> None:
    """Record what the journals of campaigns say; the controls that were recorded before stay."""
    claim, write = _VERBS[verb]
    said = read(journals)
    if planted is None:
        write(said)
        return
    known = load().claims.get(claim)
    if known is None:
        raise click.UsageError("record the claim first")
    came = [trial for trial in said.trials if trial.get("ending") != "missed"]
    control = Control(planted, len(came), sum(map(is_failed, came)))
    kept = [each for each in known.controls if each.planted != planted]
    fields = {name: getattr(known, name) for name in known.__struct_fields__ if name != "controls"}
    record(claim, **fields, controls=[*kept, control])


if __name__ == "__main__":
    main()
