"""A process that has imported every program of a network, and becomes one by forking, in milliseconds.

`forks.ForkServer` starts it and gives it orders, each a message with the file descriptors that the child gets
as stdout and stderr. What is forked is a process like any other, with an interpreter that was started before.
Invariant: none outlives this process, which ends when nobody is left to give orders.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Final

from tests.tools import shim

PROGRAMS: Final = (
    "bridge.__main__",
    "bridge.settlement.__main__",
    "deploy.cli",
    "deploy.commands.swap",
    "deploy.commands.quote",
    "rollups.__main__",
    "sequencer.__main__",
)
"""What is imported: every module that is run, and what the command line imports for a swap."""

ORDER_BYTES_MAX: Final = 128 * 1024
"""Of an order's message, which holds an environment."""

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Order:
    """What a child is to become."""

    module: str
    """Whose `main` it runs."""
    arguments: list[str]
    """What follows the program's name."""
    environ: dict[str, str]
    """Its environment, all of it."""


def main() -> None:
    """Serve orders until there is nobody any more; in a child, do what was ordered."""
    libc = ctypes.CDLL(None)
    for module in PROGRAMS:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    server = os.getpid()
    order = _serve(socket.socket(fileno=int(sys.argv[1])))
    if order is None:
        return
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        # It died before it could be asked for that signal.
        os.kill(os.getpid(), signal.SIGKILL)
    os.environ.clear()
    os.environ.update(order.environ)
    if shim.VARIABLES[0] in os.environ:
        shim.arm(os.environ)
    sys.argv = [order.module, *order.arguments]
    importlib.import_module(order.module).main()


def _serve(orders: socket.socket) -> Order | None:
    """Fork for each order, and tell who ended. Returns the order in each child, None at the end."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    orders.send(b'{"ready": true}')
    while True:
        ready, _, _ = select.select([orders, woken], [], [])
        if woken in ready:
            woken.recv(4_096)
            _tell_who_ended(orders)
        if orders not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, 2)
        if not message:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (orders, woken, waker):
                each.close()
            _redirect(descriptors)
            return Order(**json.loads(message))
        for descriptor in descriptors:
            os.close(descriptor)
        orders.send(json.dumps({"pid": pid}).encode())


def _tell_who_ended(orders: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ended = {"pid": pid, "exit_code": os.waitstatus_to_exitcode(status)}
        orders.send(json.dumps(ended).encode())


def _redirect(descriptors: list[int]) -> None:
    for descriptor, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)


if __name__ == "__main__":
    main()
