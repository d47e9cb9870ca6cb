"""The demo's command: options, the folder that it runs in, where to look next, and the exit code."""

import asyncio
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import click
from rich.console import Console

from deploy.demonstration.market import Market
from deploy.demonstration.narrator import Narrator
from deploy.demonstration.proofs import RECEIPTS, verify_receipts
from deploy.demonstration.report import Report, save_json, show
from deploy.demonstration.story import Story
from deploy.devnet.audit import PromiseBroken
from deploy.devnet.clients import connected
from deploy.devnet.launcher import DevnetFailed, running
from deploy.devnet.network import create_network
from deploy.node.failures import ProcessFailure
from lockstep.errors import LockstepError

_EXPECTED = (DevnetFailed, LockstepError, ProcessFailure, PromiseBroken, TimeoutError)
"""Failures whose message says it all."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what was found to FILE, also if it is bad: swaps, transfers and checks.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the folder with genesis, keys, data, logs and receipts, and say where. Also kept if it fails.",
)
def demo(json_file: Path | None, *, keep: bool) -> None:
    """Run six swaps between rollups, one around three of them, kill a rollup in the last, and check it all.

    Starts a settlement log, a sequencer, the rollups alpha, beta and gamma, a replica of beta and a bridge
    coordinator, each a process of its own on a loopback port, and stops them at the end. Takes less than a
    minute.

    Exits with 0 only if every swap ended as it should and is anchored in the settlement log, value was
    conserved, all sides of each swap ended the same way, the killed rollup came back to the state of its
    replica, and every swap has a receipt that verifies offline.

    FILE is a JSON object: "ok" (what the exit code says), "error", "seconds", "chain_id", and the lists
    "transfers", "swaps" (number, name, swap_id, legs, outcome, reason, milliseconds of each step,
    opened_height, decided_height, level, expected, moved, receipt) and "checks" (name, ok, detail).
    Amounts are decimal texts of base units.
    """
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {json_file} does not exist", param_hint="--json")
    sys.exit(0 if run_demo(Console(highlight=False), json_file=json_file, keep=keep) else 1)


def run_demo(console: Console, *, json_file: Path | None, keep: bool) -> bool:
    """Run the demo, show and write what it found, and return whether all of it held."""
    # Who is told to end goes the way of Ctrl-C: the processes are stopped, and nothing stays behind.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    folder = Path(tempfile.mkdtemp(prefix="lockstep-demo-"))
    report = Report()
    is_stopped = False
    try:
        with Narrator(console) as narrator:
            try:
                asyncio.run(_run(folder, report, narrator))
            except Exception as failure:  # noqa: BLE001  # the report says what went wrong, whatever it was
                report.error = _explain(failure)
            report.seconds = narrator.seconds
        console.print()
        show(report, console)
        if report.ok:
            _show_what_next(console, folder if keep else None)
        if json_file is not None:
            save_json(report, json_file)
    except KeyboardInterrupt:
        is_stopped = True
        raise
    finally:
        if keep or not (report.ok or is_stopped):
            console.print(f"Genesis, keys, data, logs and receipts are in {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report.ok


def _show_what_next(console: Console, folder: Path | None) -> None:
    """Print commands and guides; `folder` is the demo's if it is kept."""
    program = Path(sys.executable).with_name("lockstep")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    commands = {
        f"{program} devnet up --detach": "this network, to stay; the others are about it",
        f"{program} devnet status": "height and root of each process",
        f"{program} account balance alice": "what she has, proven",
        f"{program} swap propose --give 5:gold@alpha --get 7.50:silver@beta --with bob --key alice": (
            "it says how bob accepts"
        ),
        f"{program} devnet kill beta-0": "it is started again",
        f"{program} audit": "executes everything again and compares",
        f"{program} devnet down": "stop it",
    }
    guides = {
        "README.md": "how a swap lives, what to trust and what not",
        "bridge/README.md": "trade from Python",
        "sequencer/README.md": "connect a rollup, from any language",
        "rollups/README.md": "run a node, write a module",
    }
    console.print("\n[bold]Where to look next")
    for entries in (commands, guides):
        for where, what in entries.items():
            console.print(f"  {where}  [dim]{what}", soft_wrap=True)
    if folder is not None:
        receipt, genesis = folder / RECEIPTS / "swap-5.receipt", folder / "genesis.json"
        console.print("What a receipt proves, and what it only attests:")
        console.print(f"  {program} receipt verify {receipt} --genesis {genesis}", soft_wrap=True)


async def _run(folder: Path, report: Report, narrator: Narrator) -> None:
    network = create_network(folder)
    report.chain_id = network.genesis.chain_id
    narrator.chapter("A network of seven processes")
    async with running(network, say=narrator.waiting) as devnet, connected(network) as clients:
        for name, port in network.ports.items():
            narrator.line(f"{name}: process {devnet.pid(name)}, port {port}")
        story = Story(devnet, Market(network, clients), report, narrator)
        await devnet.watched(story.tell())
    narrator.chapter("Receipts, verified with the genesis file alone: every process is stopped now")
    verify_receipts(folder, report, narrator)


def _explain(failure: BaseException) -> str:
    """Return what a failure says, or where it comes from if it is a defect."""
    if isinstance(failure, BaseExceptionGroup):
        return "\n".join(_explain(inner) for inner in failure.exceptions)
    if isinstance(failure, _EXPECTED):
        return str(failure)
    return "".join(traceback.format_exception(failure))
