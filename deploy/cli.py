"""The command line, `lockstep`: the table of what can be typed.

Owns the names and the order in which they are listed. What is done lies where the table points to,
imported when it is needed, so that `--help` answers at once.
"""

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from deploy.lazy_group import LazyGroup


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lockstep")
def main() -> None:
    """A shared sequencer for rollups, with swaps between them that no crash can halve.

    `lockstep demo` shows it; `lockstep devnet up` gives you a network to work with.
    """


main.add_lazy(
    "demo", "deploy.demonstration.command", "Run six swaps on a devnet and kill a rollup in the last."
)
main.add_lazy("devnet", "deploy.commands.devnet", "A network on this machine, for development.")
main.add_lazy("swap", "deploy.commands.swap", "Trade across rollups: all legs move, or none.")
main.add_lazy("maker", "deploy.commands.maker", "Make prices for others, and trade at them.")
main.add_lazy("receipt", "deploy.commands.receipt", "The proof of a swap, in a file that needs no network.")
main.add_lazy("keys", "deploy.commands.keys", "Make keys, and name their accounts.")
main.add_lazy("account", "deploy.commands.account", "Show what an account has on every rollup.")
main.add_lazy("transfer", "deploy.commands.transfer", "Pay somebody on a rollup.")
main.add_lazy("faucet", "deploy.commands.transfer", "Create money for yourself, where genesis allows it.")
main.add_lazy("block", "deploy.commands.block", "Look at the order, block by block.")
main.add_lazy("log", "deploy.commands.log", "Look at the settlement log, and verify all of it.")
main.add_lazy("audit", "deploy.audit.command", "Check the whole network from outside, once or for ever.")
main.add_lazy("chaos", "deploy.chaos.command", "Kill, cut and starve a network under load, and judge it.")
main.add_lazy("bench", "deploy.benchmark.command", "Measure how fast a network is here.")
main.add_lazy(
    "completion", "deploy.commands.completion", "Print the script that makes a shell complete all this."
)


def _service(name: str, module: str, noun: str, what: str) -> LazyGroup:
    """Add `lockstep NAME run`, which becomes `python -m MODULE`, and return the group `lockstep NAME`."""

    @click.group(name=name, help=what, cls=LazyGroup)
    def group() -> None:
        pass

    @group.command(
        help=f"Run {noun} in the foreground. It logs to stderr, and stops on SIGTERM and Ctrl-C.",
    )
    @click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        help="Settings, as in the service's guide; LOCKSTEP_* variables override them.",
    )
    def run(config: Path | None) -> NoReturn:
        arguments = () if config is None else ("--config", str(config))
        # -P: no folder that happens to be the current one hides a package.
        os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])

    main.add_command(group)
    return group


_service("sequencer", "sequencer", "the sequencer", "The ordering service.")
_rollup = _service(
    "rollup",
    "rollups",
    "a rollup node",
    "A rollup node, and the registry of rollups.\n\nA node with a key is an attester, without it a replica.",
)
_service("settlement", "bridge.settlement", "the settlement log", "The settlement log.")
_service("bridge", "bridge", "a bridge coordinator", "The bridge coordinator.")

_REGISTRY: Final = "deploy.registry.command"
_rollup.add_lazy("show", _REGISTRY, "Show the registry as of now: rollups, keys, pending changes.")
_rollup.add_lazy("register", _REGISTRY, "Register a rollup on a running chain.")
_rollup.add_lazy("rotate", _REGISTRY, "Replace attesters of a rollup, or the key of a role.")
_rollup.add_lazy("drain", _REGISTRY, "Let no new swap name a rollup.")
_rollup.add_lazy("leave", _REGISTRY, "End a rollup that has drained for a day of log time.")
_rollup.add_lazy("veto", _REGISTRY, "Withdraw a change that is pending.")


if __name__ == "__main__":
    main()
