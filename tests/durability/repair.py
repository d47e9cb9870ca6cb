"""A damaged database is refused, and put right as its guide says: `python -m tests.durability.repair`.

On a network of real processes one is stopped or killed, and one bit of its files flipped with which it must
not go on: it has to end with exit code 5, or to serve only what it has, as the sequencer and the settlement
log do where their newest transactions are gone. Then it is put right: a rollup node and a coordinator lose
their data and make it again from the order; the sequencer and the settlement log get a copy of their folder
back. Afterwards it has to say everything that it said before, in the same bytes; the network keeps every
promise (`Arena.verify`) and goes on.

    --times N       repairs of each process (5)
    --seed S        of the random choices (1)
    --record        write the outcome into tests/RELIABILITY.json
"""

import asyncio
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bridge.client import SwapPhase
from deploy.devnet.clients import until
from deploy.devnet.launcher import DevnetFailed
from deploy.node.failures import DataRefused, ProcessFailure
from lockstep.order import bundle_id_of
from lockstep.types import SwapId
from tests import reliability
from tests.chaos.arena import ATTESTER_OF, KILLED, Arena
from tests.chaos.arenas import Arenas, Judgement, reasons
from tests.durability.command import campaign_parser, today
from tests.durability.judges import Note
from tests.durability.observing import Facts, Observer, ServesOnly, observer_of
from tests.integration.bridge_told import told

COPIED: Final = ("sequencer", "settlement")
"""Processes whose data is put back from a copy; that of all others comes back from the order."""

TIMES: Final = 5
"""Repairs of each process in the documented campaign."""

FLIPS_MAX: Final = 400
"""Flips that are tried until a process refuses one: most of a file's bits matter to nobody, or to calls."""

FOLLOW_MS_MAX: Final = 60_000
"""How long it may take until a coordinator has followed the order again."""

_STOPPED_SHARE: Final = 0.5
"""Of the others, how many are stopped in order, which puts everything into the database, and not killed."""

_KEPT: Final = ("block ", "entry ", "receipt ", "leg ")
"""Starts of facts that stay as they are for ever."""

CLAIM: Final = (
    "A process with a damaged database refuses to start; put right as its guide says, it tells everything "
    "that it told before, in the same bytes, and the network goes on"
)
NOT_COVERED: Final = (
    "a wallet, which nobody can make again; damage that a process that runs finds in a call, which is told "
    "as `data_damaged` and put right in the same way; a sequencer or a settlement log of whose folder there "
    "is no copy with everything that was signed: it serves what it has and orders, or signs, nothing more."
)


@dataclass(frozen=True)
class Flip:
    """A bit of a process's data."""

    file: Path
    """Its file, relative to the data folder."""
    byte: int
    """Its byte."""
    bit: int
    """And bit."""
    is_served: bool = False
    """Whether the process starts with it, and serves only what it has."""

    def do(self, folder: Path) -> None:
        """Flip it in a data folder."""
        contents = bytearray((folder / self.file).read_bytes())
        contents[self.byte] ^= 1 << self.bit
        (folder / self.file).write_bytes(contents)

    def __str__(self) -> str:
        return f"{self.file} byte {self.byte} bit {self.bit}"


async def damage_and_repair(arena: Arena, process: str, chance: random.Random) -> Flip:
    """Damage a process, put it right, and check everything; return what was flipped.

    Raises AssertionError, and what waiting in vain raises, if something does not hold.
    """
    devnet = arena.devnet
    before = await arena.tip()
    await arena.acknowledge_some()
    swap = await arena.swap(SwapPhase.COMMITTED)
    height = (await arena.clients.sequencer.status()).height
    known = await _told_by_bridge(arena, swap.swap_id, height)
    # What only a log has that is not in the database yet, a rollup's node executes again by itself.
    is_stopped = process in ATTESTER_OF.values() or chance.random() < _STOPPED_SHARE
    await (devnet.terminate(process) if is_stopped else devnet.kill(process))
    observer = _observer(arena, process)
    facts = await _observe(devnet.network.data_folder(process), observer)
    flip = await _damage_and_put_right(arena, process, observer, chance)
    assert await _told_by_bridge(arena, swap.swap_id, height) == known
    await arena.verify(swap, SwapPhase.COMMITTED, before=before, log=True)
    await _verify_goes_on(arena)
    await devnet.kill(process)
    found = await _observe(devnet.network.data_folder(process), observer)
    await devnet.start(process)
    kept = {name: fact for name, fact in facts.items() if name.startswith(_KEPT)}
    assert {name: found.get(name) for name in kept} == kept
    assert kept or process == "bridge", "something is compared"
    return flip


async def _damage_and_put_right(
    arena: Arena, process: str, observer: Observer, chance: random.Random
) -> Flip:
    """Do to a process that is dead what a broken disk does, and then what its guide says."""
    data = arena.devnet.network.data_folder(process)
    copy = data.with_name(f"{process}.copy")
    shutil.copytree(data, copy)
    flip = await find_refused(copy, observer, chance)
    flip.do(data)
    await _refuse(arena, process, flip)
    shutil.rmtree(data)
    if process in COPIED:
        shutil.copytree(copy, data)
    shutil.rmtree(copy)
    await arena.devnet.start(process)
    return flip


async def _verify_goes_on(arena: Arena) -> None:
    """Check that a new swap comes to its end."""
    before = await arena.tip()
    await arena.acknowledge_some()
    swap = await arena.swap(SwapPhase.ABORTED)
    await arena.verify(swap, SwapPhase.ABORTED, before=before, log=True)


async def find_refused(folder: Path, observer: Observer, chance: random.Random) -> Flip:
    """Return a flip with which nobody may start on a copy of this folder."""
    for _ in range(FLIPS_MAX):
        flip = _choose(folder, chance)
        with tempfile.TemporaryDirectory() as tried:
            damaged = Path(tried) / "data"
            shutil.copytree(folder, damaged)
            flip.do(damaged)
            try:
                await observer(damaged)
            except ServesOnly:
                return replace(flip, is_served=True)
            except DataRefused:
                return flip
            except ProcessFailure:
                continue
    raise AssertionError(f"none of {FLIPS_MAX} flips in {folder} was refused")


def _choose(folder: Path, chance: random.Random) -> Flip:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    file = chance.choice(files)
    return Flip(file.relative_to(folder), chance.randrange(file.stat().st_size), chance.randrange(8))


def _observer(arena: Arena, process: str) -> Observer:
    genesis = arena.devnet.network.genesis
    ordered: list[Note] = [
        {
            "ordered": bundle_id_of(genesis.chain_id, bundle).hex(),
            "valid_until_ms": bundle.valid_until_ms,
        }
        for bundle, _ in arena.acknowledged
    ]
    return observer_of(arena.devnet.network, process, ordered if process == "sequencer" else [])


async def _observe(folder: Path, observer: Observer) -> Facts:
    """Observe a copy of a folder, which whoever opens it changes."""
    with tempfile.TemporaryDirectory() as copied:
        copy = Path(copied) / "data"
        shutil.copytree(folder, copy)
        return await observer(copy)


async def _refuse(arena: Arena, process: str, flip: Flip) -> None:
    """Have a process refuse its data: it does not start, and says that these are to blame, or only serves."""
    try:
        ready = await arena.devnet.start(process)
    except DevnetFailed:
        assert not flip.is_served, f"{process} did not start on {flip}"
        code = await arena.devnet.ended(process)
        assert code == DataRefused.exit_code, f"{process} ended with exit code {code} on {flip}"
        return
    assert flip.is_served, f"{process} started on {flip}"
    if process == "sequencer":
        status = await until(arena.clients.sequencer.status, "the sequencer")
        assert status.read_only_reason, flip
    else:
        assert ready["read_only"], flip
    await arena.devnet.kill(process)


async def _told_by_bridge(arena: Arena, swap_id: SwapId, height: int) -> tuple[bytes, list[bytes]]:
    """Return what the coordinator tells of a swap once it has followed the order up to a height."""

    async def is_there() -> bool | None:
        return (await arena.clients.bridge.status()).height >= height or None

    await until(is_there, "the coordinator to follow", timeout_ms=FOLLOW_MS_MAX)
    return (await told(arena.devnet.network.address("bridge"), [swap_id]))[swap_id]


# --- the campaign -----------------------------------------------------------------------------------------


async def campaign(folder: Path, times: int, seed: str) -> tuple[Counter[str], list[str]]:
    """Damage and repair each process so often; return how often each was, and what did not hold."""
    arenas, chance = Arenas(folder), random.Random(seed)
    repaired, failures = Counter[str](), list[str]()
    for number in range(times):
        for process in chance.sample(KILLED, len(KILLED)):
            try:
                async with arenas.case() as arena:
                    flip = await damage_and_repair(arena, process, chance)
            except Exception as failure:  # noqa: BLE001  # whatever it is, it is a finding
                failures.append(f"{process} #{number}: {'; '.join(reasons(failure))}")
            else:
                repaired[process] += 1
                sys.stdout.write(f"{process}: {flip} refused, and put right\n")
    judgement = await arenas.judge()
    if judgement is not Judgement.WHOLE:
        failures.append(f"the auditor found the network {judgement}")
    return repaired, failures


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; 1 if something did not hold."""
    parser = campaign_parser("tests.durability.repair", __doc__, counted="times", default=TIMES)
    typed = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="lockstep-repair-"))
    repaired, failures = asyncio.run(campaign(folder, typed.times, typed.seed))
    lines = [*failures, *(f"{count:6} {name}" for name, count in sorted(repaired.items()))]
    sys.stdout.write("\n".join(lines) + f"\n{len(failures)} failed\n")
    if typed.record:
        by_name = ", ".join(f"{count} of {name}" for name, count in sorted(repaired.items()))
        reliability.record(
            CLAIM,
            trials=repaired.total() + len(failures),
            failures=len(failures),
            seeds=f"{typed.seed}, on a network that is new each time: {by_name}",
            command=f"python -m tests.durability.repair --times {typed.times} --seed {typed.seed}",
            not_covered=NOT_COVERED,
            date=today(),
        )
    if not failures:
        shutil.rmtree(folder)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
