"""What is told of a devnet, for people and as JSON.

Owns the words, the tables and the fields. Decides nothing.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from deploy.commands.frame import print_table
from deploy.devnet.control import Answer, ProcessReport
from deploy.devnet.network import Network
from deploy.devnet.positions import Position

DEFAULT_FOLDER: Final = Path(".devnet")
"""Where a devnet is, unless another folder is named."""


def process_json(network: Network, report: ProcessReport, position: Position | None = None) -> dict[str, Any]:
    """Return a process as a JSON object; what is not known of it is null."""
    return {
        "name": report.name,
        "state": report.state,
        "since": _time_of(report) or None,
        "pid": report.pid,
        "port": network.ports[report.name],
        "address": network.address(report.name),
        "height": None if position is None else position.height,
        "root": None if position is None else position.root,
        "root_of": None if position is None else position.root_of,
        "data": str(network.data_folder(report.name)),
        "log": str(network.log_file(report.name)),
    }


def devnet_json(
    network: Network, answer: Answer | None, processes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a devnet as a JSON object; `answer` is None if none runs."""
    return {
        "ok": True,
        "stage": "stopped" if answer is None else answer.stage,
        "launcher": None if answer is None else answer.launcher,
        "folder": str(network.folder),
        "network": str(network.folder / "network.toml"),
        "chain_id": network.genesis.chain_id.hex(),
        "processes": list(processes),
    }


def show_processes(reports: Sequence[ProcessReport]) -> None:
    """Print what became of some processes."""
    print_table(
        ("process", "state", "pid"), [(each.name, each.state, _or_dash(each.pid)) for each in reports]
    )


def show_started(network: Network, answer: Answer, folder: Path) -> None:
    """Print where the processes of a devnet are, and what can be done with it."""
    print_table(
        ("process", "pid", "address"),
        [(each.name, _or_dash(each.pid), network.address(each.name)) for each in answer.processes],
    )
    click.echo(f"\n{network.folder} has genesis.json, network.toml, keys, settings, data and logs.\n")
    click.echo("From another terminal, in the same folder:")
    commands = {
        as_typed("status", folder): "height and root of each process",
        as_typed("kill beta-0", folder): "kill one: it is started again",
        as_typed("logs -f", folder): "what they say",
        as_typed("down", folder): "stop it",
    }
    width = max(map(len, commands))
    for command, what in commands.items():
        click.echo(f"  {command:<{width}}  {what}")


def show_status(network: Network, answer: Answer | None, processes: Sequence[Mapping[str, Any]]) -> None:
    """Print how a devnet stands; `answer` is None if none runs."""
    if answer is None:
        click.echo(f"No devnet runs in {network.folder}; `lockstep devnet up` starts it.")
    else:
        click.echo(f"The devnet in {network.folder} is {answer.stage} (launcher: process {answer.launcher}).")
    print_table(
        ("process", "state", "pid", "port", "height", "root", "since (UTC)"),
        [
            (
                each["name"],
                each["state"],
                _or_dash(each["pid"]),
                str(each["port"]),
                _or_dash(each["height"]),
                f"{each['root_of']} {each['root'][:16]}" if each["root"] else "-",
                (each["since"] or "-")[:19].replace("T", " "),
            )
            for each in processes
        ],
    )
    click.echo(f"Data and logs: {network.folder}/data/PROCESS and {network.folder}/logs/PROCESS.log")


def _time_of(report: ProcessReport) -> str:
    """Return since when a process is in its state, in UTC; empty if nobody knows."""
    if not report.since_s:
        return ""
    return (
        datetime.fromtimestamp(report.since_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def as_typed(words: str, folder: Path) -> str:
    """Return a command of this group as it can be typed here."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "lockstep" else "lockstep"
    where = "" if folder == DEFAULT_FOLDER else f" --folder {folder}"
    return f"{program} devnet {words}{where}"
