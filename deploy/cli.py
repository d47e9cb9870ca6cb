"""The command line, `lockstep`: demo, benchmark, devnet, one service, and the registry of a running chain.

Owns what can be typed. Does not own what is done: each command imports that when it runs, so that `--help`
answers at once.
"""

import importlib
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


def _pass_on(group: click.Group, name: str, module: str, what: str) -> None:
    """Add a command to `group` that is the one of this name in `module`, imported when it runs."""

    @group.command(name=name, context_settings=_PASS_ON, help=what)
    @click.pass_context
    def command(context: click.Context) -> None:
        found: click.Command = getattr(importlib.import_module(module), name)
        found.main(args=context.args, prog_name=context.command_path)


_pass_on(
    main, "demo", "deploy.demonstration.command", "Run five swaps on a devnet and kill a rollup in the last."
)
_pass_on(
    main,
    "bench",
    "deploy.benchmark.command",
    "Measure how fast a network is here.",
)


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
    """Start every process, and stop them all on Ctrl-C. What is in FOLDER stays.

    A process that is killed meanwhile is started again.
    """
    from deploy.devnet.command import run_until_stopped

    sys.exit(run_until_stopped(folder))


def _service(name: str, module: str, what: str) -> click.Group:
    """Add `lockstep NAME run`, which becomes `python -m MODULE`, and return the group `lockstep NAME`."""

    @main.group(name=name, help=what)
    def group() -> None:
        pass

    @group.command(
        name="run",
        context_settings=_PASS_ON,
        help="Run it in the foreground. It logs to stderr, and stops on SIGTERM and Ctrl-C.",
    )
    @click.pass_context
    def run(context: click.Context) -> NoReturn:
        # -P: no folder that happens to be the current one hides a package.
        os.execv(sys.executable, [sys.executable, "-P", "-m", module, *context.args])

    return group


_service("sequencer", "sequencer", "The ordering service.")
_rollup = _service(
    "rollup",
    "rollups",
    "A rollup node, and the registry of rollups.\n\nA node with a key is an attester, without it a replica.",
)
_service("settlement", "bridge.settlement", "The settlement log.")
_service("bridge", "bridge", "The bridge coordinator.")

_REGISTRY: Final = "deploy.registry.command"
_pass_on(_rollup, "show", _REGISTRY, "Show the registry as of now: rollups, keys, pending changes.")
_pass_on(_rollup, "register", _REGISTRY, "Register a rollup on a running chain.")
_pass_on(_rollup, "rotate", _REGISTRY, "Replace attesters of a rollup, or the key of a role.")
_pass_on(_rollup, "drain", _REGISTRY, "Let no new swap name a rollup.")
_pass_on(_rollup, "leave", _REGISTRY, "End a rollup that has drained for a day of log time.")
_pass_on(_rollup, "veto", _REGISTRY, "Withdraw a change that is pending.")


if __name__ == "__main__":
    main()
