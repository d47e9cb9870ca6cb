"""How every command of a client runs, prints and fails.

Owns the options that they share, the exit codes, and what is said when something goes wrong. A command reads

    @click.command(cls=Command)
    @network_options
    @click.argument("account", type=ACCOUNT)
    def show(options: Options, account: PublicKey) -> None:
        async def work() -> None:
            async with connected(options) as network:
                ...
                show(options, told, lines)

        run(options, work)

    exit code  meaning
    0          done
    1          refused, or failed for good
    2          typed wrong, or the settings are wrong
    3          no answer, so that the outcome is unknown: the same command again does nothing twice
    4          something that was told does not verify
    130        stopped by Ctrl-C; as 3
    141        who read the output went away
"""

import asyncio
import functools
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, NoReturn, ParamSpec

import click

from deploy.network_file import NETWORK_VARIABLE, NetworkFile, find_network_file, load_network_file
from deploy.node.chain_files import load_genesis
from deploy.node.failures import ProcessFailure, SettingsInvalid
from deploy.node.logs import LogSettings, configure_logs
from lockstep.errors import (
    BadSignature,
    Contradiction,
    Discontinuous,
    Foreign,
    LockstepError,
    Malformed,
    ProofInvalid,
    ReceiptInvalid,
    UnavailablePeer,
    WrongChain,
)
from lockstep.genesis import Genesis

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_TYPED_WRONG: Final = 2
EXIT_UNKNOWN: Final = 3
EXIT_UNVERIFIED: Final = 4
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141

REPEAT_ADVICE: Final = "repeat the same command: it does nothing twice"
"""For every outcome that is unknown."""

DISTRUST_ADVICE: Final = "do not act on it; ask another service, and tell whoever runs this one"
"""For whatever does not verify."""

_OPTIONS: Final = "lockstep.options"
"""Where click's context keeps the `Options`."""

_UNVERIFIED: Final = (BadSignature, Contradiction, Discontinuous, Malformed, ProofInvalid, ReceiptInvalid)

_Parameters = ParamSpec("_Parameters")
Say = Callable[[str], None]
"""Is told, in words, what is going on."""


class CommandFailed(Exception):
    """A command cannot do what was asked; says what to do instead."""

    def __init__(
        self, message: str, *, advice: str = "", code: str = "REFUSED", exit_code: int = EXIT_FAILED
    ) -> None:
        super().__init__(message)
        self.message = message
        """What happened."""
        self.advice = advice
        """What to do; empty if the message says it."""
        self.code = code
        """A stable name of it for programs."""
        self.exit_code = exit_code
        """One of the above."""


@dataclass(slots=True)
class Options:
    """What was said about the network and the output. The network's files are read when they are needed."""

    network_path: Path | None = None
    """What --network names."""
    is_json: bool = False
    """Whether stdout is for a program."""
    _network: NetworkFile | None = field(default=None, repr=False)
    _genesis: Genesis | None = field(default=None, repr=False)

    @property
    def network(self) -> NetworkFile:
        """The network file. Raises SettingsInvalid."""
        if self._network is None:
            self._network = load_network_file(find_network_file(self.network_path, os.environ))
        return self._network

    @property
    def genesis(self) -> Genesis:
        """The chain's genesis. Raises SettingsInvalid."""
        if self._genesis is None:
            _, self._genesis = load_genesis(self.network.genesis)
        return self._genesis


class Command(click.Command):
    """A command that tells what was typed wrong as JSON too, where JSON was asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what was typed; exit with 2 if it cannot be meant."""
        # If reading fails, the option itself may not have been read.
        with _telling(ctx, is_json="--json" in args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run it; exit with 2 if it finds that what was typed cannot be meant."""
        with _telling(ctx, is_json=options_of(ctx).is_json):
            return super().invoke(ctx)


@contextmanager
def _telling(context: click.Context, *, is_json: bool) -> Iterator[None]:
    """Tell what was typed wrong in words or as JSON, and exit with 2."""
    try:
        yield
    except ProcessFailure as failure:
        # A name or an amount that was typed is looked up in the network's files.
        context.exit(_tell(is_json, explain(failure)))
    except click.UsageError as error:
        if not is_json or context.resilient_parsing:
            raise
        advice = f"see {context.command_path} --help"
        told = CommandFailed(error.format_message(), advice=advice, code="USAGE", exit_code=EXIT_TYPED_WRONG)
        context.exit(_tell(is_json, told))


def options_of(context: click.Context) -> Options:
    """Return the options of the command that is being read or run."""
    found: Options = context.meta.setdefault(_OPTIONS, Options())
    return found


def network_options(
    command: Callable[Concatenate[Options, _Parameters], None],
) -> Callable[_Parameters, None]:
    """Give a command --network and --json; it gets them as its first argument."""

    @functools.wraps(command)
    def with_options(*arguments: _Parameters.args, **others: _Parameters.kwargs) -> None:
        command(options_of(click.get_current_context()), *arguments, **others)

    # They are read before all others, whose values may be names that the network's files explain.
    for option in (
        click.option(
            "--json", is_flag=True, is_eager=True, expose_value=False, callback=_take_json,
            help="Print JSON, also if it fails.",
        ),
        click.option(
            "--network", type=click.Path(path_type=Path), metavar="FILE", is_eager=True, expose_value=False,
            callback=_take_network,
            help=f"Where the network is; else {NETWORK_VARIABLE}, else .devnet/network.toml.",
        ),
    ):  # fmt: skip
        with_options = option(with_options)
    return with_options


def json_option(command: Callable[Concatenate[Options, _Parameters], None]) -> Callable[_Parameters, None]:
    """Give a command that needs no network --json alone; it gets its options as its first argument."""

    @functools.wraps(command)
    def with_options(*arguments: _Parameters.args, **others: _Parameters.kwargs) -> None:
        command(options_of(click.get_current_context()), *arguments, **others)

    return click.option(
        "--json",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_take_json,
        help="Print JSON, also if it fails.",
    )(with_options)


def run(options: Options, work: Callable[[], Awaitable[int | None]], *, is_reading: bool = False) -> NoReturn:
    """Do the work of a command and exit: with the code that it returns, or the one of what went wrong.

    `is_reading`: it changes nothing and goes on until Ctrl-C, so that there is nothing to say then.
    """
    # What the clients log is for operators; a person at a command is told in words.
    configure_logs(LogSettings(level="error"), process="lockstep")
    try:
        code = asyncio.run(_awaited(work)) or EXIT_DONE
        sys.stdout.flush()
    except BrokenPipeError:
        # Nothing can be flushed any more, which Python would try, and complain, at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE_CLOSED)
    except KeyboardInterrupt:
        if is_reading:
            sys.exit(EXIT_INTERRUPTED)
        stopped = CommandFailed(
            "stopped; what was sent may still be done",
            advice=REPEAT_ADVICE,
            code="INTERRUPTED",
            exit_code=EXIT_INTERRUPTED,
        )
        sys.exit(_tell(options.is_json, stopped))
    except (LockstepError, ProcessFailure, CommandFailed, ExceptionGroup) as error:
        sys.exit(_tell(options.is_json, explain(_first_of(error))))
    sys.exit(code)


async def _awaited(work: Callable[[], Awaitable[int | None]]) -> int | None:
    return await work()


def _take_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it so
    options_of(context).is_json = value


def _take_network(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    options_of(context).network_path = value


# --- failing ----------------------------------------------------------------------------------------------


def _first_of(error: Exception) -> Exception:
    """Return the first of several errors of tasks, or the only one. Raises what is no expected error."""
    while isinstance(error, ExceptionGroup):
        expected, defects = error.split((LockstepError, ProcessFailure, CommandFailed))
        if defects is not None or expected is None:
            raise error
        error = expected.exceptions[0]
    return error


def explain(error: Exception) -> CommandFailed:
    """Return what went wrong with what to do about it, and the exit code."""
    if isinstance(error, LockstepError):
        message, _, advice = error.message.rpartition("; ")
        exit_code = _exit_code_of(error)
        if isinstance(error, UnavailablePeer):
            advice = f"see whether it runs, and {REPEAT_ADVICE}"
        elif exit_code == EXIT_UNKNOWN:
            advice = REPEAT_ADVICE
        elif exit_code == EXIT_UNVERIFIED:
            advice = DISTRUST_ADVICE
        return CommandFailed(message or error.message, advice=advice, code=error.code, exit_code=exit_code)
    if isinstance(error, ProcessFailure):
        is_settings = isinstance(error, SettingsInvalid)
        return CommandFailed(
            str(error),
            code="SETTINGS" if is_settings else "FAILED",
            exit_code=EXIT_TYPED_WRONG if is_settings else EXIT_FAILED,
        )
    assert isinstance(error, CommandFailed)
    return error


def _exit_code_of(error: LockstepError) -> int:
    if error.retryable:
        return EXIT_UNKNOWN
    if isinstance(error, Foreign) and error.status == "UNIMPLEMENTED":
        # The address is another service's.
        return EXIT_TYPED_WRONG
    if error.is_received:
        return EXIT_FAILED
    if isinstance(error, WrongChain):
        return EXIT_TYPED_WRONG
    # Not a service refused it: this side found that what a service said does not hold.
    return EXIT_UNVERIFIED if isinstance(error, _UNVERIFIED) else EXIT_FAILED


def failure_json(failed: CommandFailed) -> dict[str, Any]:
    """Return what programs are told of a failure."""
    return {"ok": False, "code": failed.code, "error": failed.message, "advice": failed.advice}


def _tell(is_json: bool, failed: CommandFailed) -> int:  # noqa: FBT001 - the option's value
    """Print what went wrong and return the exit code."""
    if is_json:
        print_json(failure_json(failed))
    else:
        click.echo(failed.message, err=True)
        if failed.advice:
            click.echo(f"{failed.advice[:1].upper()}{failed.advice[1:]}.", err=True)
    return failed.exit_code


# --- printing ---------------------------------------------------------------------------------------------


def print_json(value: Mapping[str, Any]) -> None:
    """Print the one JSON document of a command."""
    click.echo(json.dumps(value, indent=2))


def print_json_line(value: Mapping[str, Any]) -> None:
    """Print one JSON document of a command that prints many, each on a line of its own."""
    click.echo(json.dumps(value))
    sys.stdout.flush()


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns that are as wide as they need to be: nothing in them is ever broken or cut."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for place, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        click.secho(text, bold=place == 0)


_PROGRESS: Final[ContextVar[Say | None]] = ContextVar("progress", default=None)
"""What changes the line that is shown, if one is."""


@contextmanager
def progress(text: str) -> Iterator[Say]:
    """Show on stderr, while the block lasts, what is going on; nothing where stderr is no terminal.

    Gives the function that changes the text.
    """
    shown = _PROGRESS.get()
    if shown is not None:
        # Part of something longer: there is one line.
        shown(text)
        yield shown
        return
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False).status(text, spinner="line") as status:
        token = _PROGRESS.set(status.update)
        try:
            yield status.update
        finally:
            _PROGRESS.reset(token)
