"""The command line: what it offers, what it passes on, and that help imports no service."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from deploy.cli import main


def lockstep(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (sys.executable, "-P", "-m", "deploy.cli", *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), ("demo", "bench", "devnet", "sequencer", "rollup", "settlement", "bridge")),
        (("devnet", "up"), ("--folder", "Ctrl-C")),
        (("demo",), ("--json FILE", "--keep")),
        (("bench",), ("--quick", "--only NAME", "--list", "--json FILE")),
        (("rollup",), ("run", "show", "register", "rotate", "drain", "leave", "veto")),
        (
            ("rollup", "register"),
            ("--definition", "--genesis", "--sequencer", "--key", "--settlement", "--wait"),
        ),
    ],
)
def test_help(arguments: tuple[str, ...], told: tuple[str, ...]) -> None:
    done = lockstep(*arguments, "--help")
    assert done.returncode == 0, done.stderr
    for text in told:
        assert text in done.stdout


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("tranfser",), "there is no command 'tranfser'; did you mean transfer?"),
        (("account", "x"), "there is no command 'x'; there are: balance, show"),
        (("--nothing",), "No such option"),
    ],
)
def test_a_command_that_there_is_not_is_told_with_those_there_are(typed: tuple[str, ...], told: str) -> None:
    done = lockstep(*typed)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.parametrize("service", ["sequencer", "rollup", "settlement", "bridge"])
def test_run_becomes_the_service_with_its_arguments(service: str) -> None:
    done = lockstep(service, "run", "--config", "no-such-file.toml")
    assert done.returncode == 2, done.stderr
    assert "no-such-file.toml cannot be read" in done.stderr


def commands(context: click.Context) -> Iterator[click.Context]:
    """Yield the context of every command that is no group; to name one is to import it."""
    if not isinstance(context.command, click.Group):
        yield context
        return
    for name in context.command.list_commands(context):
        found = context.command.get_command(context, name)
        assert found is not None
        yield from commands(click.Context(found, parent=context, info_name=name))


COMMANDS = {context.command_path: context for context in commands(click.Context(main, info_name="lockstep"))}

WITHOUT_JSON = {
    "lockstep completion",
    *(f"lockstep {service} run" for service in ("sequencer", "rollup", "settlement", "bridge")),
}
"""What prints a script, and what becomes another process."""


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_there_and_prints_json(path: str) -> None:
    names = {name for parameter in COMMANDS[path].command.params for name in parameter.opts}
    assert ("--json" in names) == (path not in WITHOUT_JSON)
    assert COMMANDS[path].command.get_short_help_str()


def test_help_imports_nothing_that_is_slow() -> None:
    program = "import sys, deploy.cli; print(sorted({'grpc', 'rich', 'nacl', 'bridge'} & set(sys.modules)))"
    done = subprocess.run((sys.executable, "-P", "-c", program), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
