"""The command line, `lockstep`: demo, devnet, and running one service.

Owns what can be typed. Does not own what is done: each command imports that when it runs, so that `--help`
answers at once.
"""

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

_PASS_ON: Final = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""For commands whose arguments, `--help` included, somebody else reads."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lockstep")
def main() -> None:
    """A shared sequencer for rollups, with swaps between them that no crash can halve.

    `lockstep demo` shows it; `lockstep devnet up` gives you a network to work with; the other commands run
    one service from its settings file.
    """


@main.command(context_settings=_PASS_ON)
@click.pass_context
def demo(context: click.Context) -> None:
    """Run five swaps on a devnet and kill a rollup in the last."""
    from deploy.demonstration.command import demo as command

    command.main(args=context.args, prog_name=context.command_path)


@main.group()
def devnet() -> None:
    """A network on this machine, for development."""


@devnet.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".devnet"),
    show_default=True,
    help="Where its genesis, keys, data and logs are. Made if it is not there; continued if it is.",
)
def up(folder: Path) -> None:
    """Start every process, and stop them all on Ctrl-C. What is in FOLDER stays."""
    from deploy.devnet.command import run_until_stopped

    sys.exit(run_until_stopped(folder))


def _service(name: str, module: str, what: str) -> None:
    """Add `lockstep NAME run`, which becomes `python -m MODULE`."""

    @main.group(name=name, help=what)
    def group() -> None:
        pass

    @group.command(
        name="run",
        context_settings=_PASS_ON,
        help="Run it in the foreground: it logs to stderr, and stops on SIGTERM and Ctrl-C.",
    )
    @click.pass_context
    def run(context: click.Context) -> NoReturn:
        os.execv(sys.executable, [sys.executable, "-m", module, *context.args])


_service("sequencer", "sequencer", "The ordering service.")
_service("rollup", "rollups", "A rollup node: an attester with a key, a replica without.")
_service("settlement", "bridge.settlement", "The settlement log.")
_service("bridge", "bridge", "The bridge coordinator.")


if __name__ == "__main__":
    main()
