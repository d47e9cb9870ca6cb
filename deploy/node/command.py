"""A service's command line: `python -m SERVICE --config FILE.toml`.

Owns the arguments, which are the same for every service, and the way from them to a running process. Does not
own the settings or what runs.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from deploy.node.process import run
from deploy.node.settings import load_settings

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


def run_service(
    serve: Callable[[_Settings, asyncio.Event], Awaitable[None]],
    settings: type[_Settings],
    *,
    module: str,
    name: str,
    description: str,
) -> NoReturn:
    """Read arguments and settings, run `serve` to its end, and exit with the process's code.

    `module` is what follows `python -m`, `name` names the process in its log, `description` is a sentence for
    `--help`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="settings, as in the service's guide; LOCKSTEP_* variables override them",
    )
    path: Path | None = parser.parse_args().config

    async def main(stopping: asyncio.Event) -> None:
        await serve(load_settings(settings, path, os.environ), stopping)

    sys.exit(run(main, name=name))
