"""How a process starts, says that it is ready, stops and exits.

Owns signals, exit codes (listed in `failures`), the readiness line and what is switched off before anything
runs. Does not own what runs: a service passes a coroutine function whose `async with` blocks nest its
lifetimes (storage, writer, server, and a TaskGroup inside), so that whatever ends it, a signal or a failure,
unwinds them in reverse.

    def main() -> None:
        sys.exit(run(serve, name="sequencer"))

    async def serve(stopping: asyncio.Event) -> None:
        settings = load_settings(...)
        async with open_database(...) as database, serving(..., stopping=stopping) as server:
            announce_ready({"sequencer": server.address})
            await stopping.wait()
"""

import asyncio
import faulthandler
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import structlog
import uvloop

from deploy.node.failpoints import FAILPOINTS
from deploy.node.failures import EXIT_CLEAN, EXIT_DEFECT, ProcessFailure, SettingsInvalid
from deploy.node.logs import LogSettings, configure_logs

STOP_GRACE_MS: Final = 20_000
"""How long a process may take to stop before it is cut off."""

DEFAULT_LOGS: Final = LogSettings()
"""How the log looks until the settings are read."""

COLLECT_AFTER_OBJECTS: Final = 50_000
"""New objects between two searches for garbage in cycles. What services keep is much and has few cycles; at
Python's 700 a sequencer under load spends an eighth of its time searching."""

Main = Callable[[asyncio.Event], Awaitable[None]]
"""A process's work: runs until the event is set, then ends by itself."""


def run(
    main: Main, *, name: str, logs: LogSettings = DEFAULT_LOGS, stop_grace_ms: int = STOP_GRACE_MS
) -> int:
    """Run `main` to its end and return the process's exit code.

    SIGTERM or SIGINT sets the event that `main` is given; a second one, or `stop_grace_ms`, cancels it. A
    failure is logged once: one that a person can act on by its message, a defect with its traceback.
    """
    configure_logs(logs, process=name)
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    try:
        _harden()
        FAILPOINTS.activate(os.environ)
        uvloop.run(_supervise(main, stop_grace_ms))
    except BaseException as failure:  # noqa: BLE001  # whatever ends the process is logged and becomes its exit code
        return _report(failure)
    structlog.get_logger().info("process_stopped")
    return EXIT_CLEAN


def announce_ready(record: Mapping[str, object]) -> None:
    """Tell who started this process that it is ready: one line of JSON, `{"ready": record}`, on stdout.

    The record holds what only the process knows, such as the ports that it was given. Nothing else goes to
    stdout.
    """
    line = json.dumps({"ready": {"pid": os.getpid(), **record}}, separators=(",", ":"))
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody listens any more, which is no reason not to serve.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # open until the process ends


def _harden() -> None:
    """Switch off what would hide a broken invariant or show a secret."""
    if not __debug__:
        raise SettingsInvalid(
            "this process checks its invariants; start it without python -O and PYTHONOPTIMIZE"
        )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()


async def _supervise(main: Main, stop_grace_ms: int) -> None:
    """Run `main`; pass signals on to it; cut it off if it does not end."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    work = asyncio.ensure_future(main(stopping))

    def stop(signal_name: str) -> None:
        structlog.get_logger().info("process_stopping", signal=signal_name, again=stopping.is_set())
        if stopping.is_set():
            work.cancel(f"{signal_name} came again")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    watch = asyncio.ensure_future(_cut_off(work, stopping, stop_grace_ms))
    try:
        await work
    finally:
        watch.cancel()


async def _cut_off(work: asyncio.Future[None], stopping: asyncio.Event, stop_grace_ms: int) -> None:
    await stopping.wait()
    await asyncio.sleep(stop_grace_ms / 1_000)
    work.cancel(f"it did not stop within {stop_grace_ms} ms")


def _report(failure: BaseException) -> int:
    """Log what ended the process, once, and return its exit code."""
    leaves = list(_leaves(failure))
    known = next((leaf for leaf in leaves if isinstance(leaf, ProcessFailure)), None)
    log = structlog.get_logger()
    if known is not None:
        log.error("process_failed", kind=type(known).__name__, reason=str(known), exit_code=known.exit_code)
        return known.exit_code
    if all(isinstance(leaf, asyncio.CancelledError) for leaf in leaves):
        log.error("process_cut_off", reason=str(leaves[0]), exit_code=EXIT_DEFECT)
        return EXIT_DEFECT
    log.error("process_failed", kind="defect", exc_info=failure, exit_code=EXIT_DEFECT)
    return EXIT_DEFECT


def _leaves(failure: BaseException) -> Iterator[BaseException]:
    """Yield the failures that a group holds, at any depth, or the failure itself."""
    if isinstance(failure, BaseExceptionGroup):
        for inner in failure.exceptions:
            yield from _leaves(inner)
    else:
        yield failure
