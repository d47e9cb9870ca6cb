"""`lockstep devnet`: a network on this machine, for people.

Owns what can be typed.
"""

import sys
from pathlib import Path

import click


@click.group()
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
