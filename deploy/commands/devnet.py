"""`lockstep devnet`: a network on this machine, started, looked at, and disturbed.

Owns what can be typed and what is shown. The network lives in its launcher, which `up` is; the other commands
ask that one, through a socket in the network's folder.
"""

import asyncio
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from deploy.commands.devnet_showing import (
    DEFAULT_FOLDER,
    as_typed,
    devnet_json,
    process_json,
    show_processes,
    show_started,
    show_status,
)
from deploy.commands.frame import (
    EXIT_UNKNOWN,
    Command,
    CommandFailed,
    Options,
    json_option,
    print_json,
    print_json_line,
    progress,
    run,
)
from deploy.commands.parameters import DURATION
from deploy.devnet.control import ANSWER_MS_MAX, Answer, NoAnswer, NotRunning, ProcessReport, Request, ask
from deploy.devnet.keeper import Event, State
from deploy.devnet.launcher import DevnetFailed, Say
from deploy.devnet.logs import LogLine, LogReader
from deploy.devnet.network import PROCESS_NAMES, Network, create_network, is_network, open_network
from deploy.devnet.positions import positions
from deploy.devnet.session import run_session
from deploy.lazy_group import LazyGroup
from deploy.node.failures import SettingsInvalid

_POLL_S: Final = 0.05

STATUS_MS_MAX: Final = 3_000
"""How long a launcher may take to say how things stand, for which it waits for nobody."""

_folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="The devnet's folder.",
)
_names_argument = click.argument(
    "names", metavar="NAME...", type=click.Choice(PROCESS_NAMES), nargs=-1, required=True
)


@click.group(cls=LazyGroup)
def devnet() -> None:
    """A network on this machine, for development.

    Its processes: settlement, sequencer, alpha-0, beta-0, beta-1 (a replica of beta), gamma-0, bridge.
    """


@devnet.command(cls=Command)
@json_option
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where its genesis, keys, data and logs are. Made if it is not there; continued if it is.",
)
@click.option(
    "--detach", is_flag=True, help="Return when it runs; `lockstep devnet down` stops it, Ctrl-C does not."
)
def up(options: Options, folder: Path, *, detach: bool) -> None:
    """Start every process, and stop them all on Ctrl-C. What is in FOLDER stays.

    A process that is killed meanwhile is started again; one that ends by itself ends all.
    """

    async def work() -> None:
        network = open_network(folder) if is_network(folder) else create_network(folder)
        if detach:
            with progress("starting"):
                answer = await _start_detached(network)
            if options.is_json:
                print_json(_started(network, answer))
            else:
                show_started(network, answer, folder)
            return
        await _run_here(options, network, folder)

    run(options, work)


@devnet.command(cls=Command)
@json_option
@_folder_option
def status(options: Options, folder: Path) -> None:
    """Show every process: its state, pid, port, height and root, and since when.

    The height is the newest block of the sequencer, the last one that a node executed or the coordinator
    followed, and the last one that the settlement log anchors. The root is of the state of a rollup, of the
    register of swaps at the coordinator, of the entries of the settlement log; the sequencer's is the hash of
    its newest header.

    States are starting, running, paused, stopped, restarting. The JSON has "stage" (starting, running,
    stopping, stopped), "launcher" (its pid), "folder", "network", "chain_id" and the list "processes": name,
    state, since, pid, port, address, height, root, root_of, data, log. What is not known is null.
    """

    async def work() -> None:
        network = _open(folder)
        answer = _ask(network, Request("status"), timeout_ms=STATUS_MS_MAX)
        reports = _stopped() if answer is None else answer.processes
        running = [report.name for report in reports if report.state == State.RUNNING]
        found = await positions(network, running)
        told = [process_json(network, report, found.get(report.name)) for report in reports]
        if options.is_json:
            print_json(devnet_json(network, answer, told))
        else:
            show_status(network, answer, told)

    run(options, work)


@devnet.command(cls=Command)
@json_option
@_folder_option
def down(options: Options, folder: Path) -> None:
    """Stop every process in order, and return when all are gone. What is in FOLDER stays."""

    async def work() -> None:
        network = _open(folder)
        with progress("stopping"):
            was_running = _ask(network, Request("down")) is not None
        if options.is_json:
            print_json({"ok": True, "was_running": was_running, "folder": str(network.folder)})
        elif was_running:
            click.echo(f"stopped; {as_typed('up', folder)} continues it")
        else:
            click.echo(f"no devnet runs in {network.folder}: nothing to stop")

    run(options, work)


@devnet.command(cls=Command)
@json_option
@_names_argument
@_folder_option
@click.option("--hold", is_flag=True, help="Leave it dead until `lockstep devnet restart NAME`.")
@click.option(
    "--for", "hold_ms", type=DURATION, metavar="DURATION", help="Leave it dead for so long, such as 5s."
)
def kill(options: Options, names: tuple[str, ...], folder: Path, *, hold: bool, hold_ms: int | None) -> None:
    """SIGKILL processes. They are started again, at once unless told otherwise."""
    is_held = hold or hold_ms is not None
    _act(options, folder, Request("kill", names, is_held=is_held, hold_ms=hold_ms))


@devnet.command(cls=Command)
@json_option
@_names_argument
@_folder_option
def pause(options: Options, names: tuple[str, ...], folder: Path) -> None:
    """SIGSTOP processes: they hold their connections, and answer nothing until `resume`."""
    _act(options, folder, Request("pause", names))


@devnet.command(cls=Command)
@json_option
@_names_argument
@_folder_option
def resume(options: Options, names: tuple[str, ...], folder: Path) -> None:
    """Let processes that were paused go on."""
    _act(options, folder, Request("resume", names))


@devnet.command(cls=Command)
@json_option
@_names_argument
@_folder_option
def restart(options: Options, names: tuple[str, ...], folder: Path) -> None:
    """Stop processes in order, start them, and return when they are ready. Starts one that is held dead."""
    _act(options, folder, Request("restart", names))


@devnet.command(cls=Command)
@json_option
@click.argument("names", metavar="[NAME...]", type=click.Choice(PROCESS_NAMES), nargs=-1)
@_folder_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=20, show_default=True, help="How many to begin with."
)
def logs(options: Options, names: tuple[str, ...], folder: Path, *, follow: bool, lines: int) -> None:
    """Show what processes log, all of them unless some are named; times are UTC.

    With --json, each line as its process wrote it, with the process's `name`.
    """

    async def work() -> None:
        reader = LogReader(_open(folder), names or PROCESS_NAMES)

        def show(line: LogLine) -> None:
            if options.is_json:
                print_json_line(line.to_json())
            else:
                click.echo(line.to_text())

        for line in reader.last(lines):
            show(line)
        if follow:
            try:
                async for line in reader.added():
                    show(line)
            except asyncio.CancelledError:
                # Ctrl-C is how this ends.
                return

    run(options, work)


# --- starting ---------------------------------------------------------------------------------------------


async def _run_here(options: Options, network: Network, folder: Path) -> None:
    """Run a network in this process, until it is told to stop. Raises CommandFailed, ProcessFailure."""
    shown = ExitStack()
    update: Say | None = None

    def say(text: str) -> None:
        nonlocal update
        if update is None:
            update = shown.enter_context(progress(text))
        update(text)

    def tell(event: Event) -> None:
        if options.is_json:
            print_json_line({"event": event.kind, "name": event.name, "text": event.text})
        else:
            click.echo(event.text)

    def ready(answer: Answer) -> None:
        nonlocal update
        shown.close()
        update = None
        if options.is_json:
            print_json_line({"event": "ready", **_started(network, answer)})
        else:
            show_started(network, answer, folder)
            click.echo("\nCtrl-C stops it; the same command continues it.")

    with shown:
        try:
            await run_session(network, say=say, ready=ready, tell=tell)
        except DevnetFailed as failure:
            raise CommandFailed(str(failure), code="PROCESS_ENDED") from failure


def _started(network: Network, answer: Answer) -> dict[str, Any]:
    return devnet_json(network, answer, [process_json(network, report) for report in answer.processes])


async def _start_detached(network: Network) -> Answer:
    """Start a launcher that outlives this process, and return what it says when all processes run."""
    running = _ask(network, Request("status"), timeout_ms=STATUS_MS_MAX)
    if running is not None:
        raise CommandFailed(
            f"the devnet in {network.folder} runs already (launcher: process {running.launcher})",
            advice="`lockstep devnet status` shows it, `lockstep devnet down` stops it",
            code="RUNS_ALREADY",
        )
    log = network.log_file("launcher")
    launcher = _spawn(network, log)
    while True:
        answer = _ask(network, Request("ready"))
        if answer is not None and answer.launcher == launcher.pid:
            return answer
        if launcher.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip()
            raise CommandFailed(f"the devnet did not start: {said}", code="PROCESS_ENDED")
        await asyncio.sleep(_POLL_S)


def _spawn(network: Network, log: Path) -> "subprocess.Popen[bytes]":
    # -P: no folder that happens to be the current one hides a package.
    command = (sys.executable, "-P", "-m", "deploy.cli", "devnet", "up", "--folder", str(network.folder))
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


# --- asking -----------------------------------------------------------------------------------------------


def _open(folder: Path) -> Network:
    """Read the devnet in a folder. Raises SettingsInvalid."""
    if not is_network(folder):
        raise SettingsInvalid(
            f"{folder.absolute()} holds no devnet; `lockstep devnet up` makes one, --folder names another"
        )
    return open_network(folder)


def _act(options: Options, folder: Path, request: Request) -> NoReturn:
    """Have the launcher do something, show what it came to, and exit."""

    async def work() -> None:
        network = _open(folder)
        with progress(f"{request.do} {', '.join(request.names)}"):
            answer = _ask(network, request)
        if answer is None:
            raise CommandFailed(
                f"no devnet runs in {network.folder}",
                advice="`lockstep devnet up` starts it",
                code="NOT_RUNNING",
            )
        if answer.refusal:
            raise CommandFailed(answer.refusal, code="NOT_NOW")
        reports = [report for report in answer.processes if report.name in request.names]
        if options.is_json:
            print_json({"ok": True, "processes": [process_json(network, report) for report in reports]})
        else:
            show_processes(reports)

    run(options, work)


def _ask(network: Network, request: Request, *, timeout_ms: int = ANSWER_MS_MAX) -> Answer | None:
    """Return what the launcher answers; None if there is none. Raises CommandFailed."""
    try:
        return ask(network.folder, request, timeout_ms=timeout_ms)
    except NotRunning:
        return None
    except NoAnswer as failure:
        raise CommandFailed(
            str(failure),
            advice="if it is suspended (Ctrl-Z), `fg` continues it",
            code="NO_ANSWER",
            exit_code=EXIT_UNKNOWN,
        ) from failure
    except OSError as error:
        raise CommandFailed(
            f"the launcher of {network.folder} cannot be reached: {error.strerror}",
            advice="only who started a devnet may command it",
            code="NO_ACCESS",
        ) from error


def _stopped() -> tuple[ProcessReport, ...]:
    return tuple(ProcessReport(name, State.STOPPED, since_s=0) for name in PROCESS_NAMES)
