"""A network between processes that drops packets: each process is in a network namespace of its own.

Owns the namespaces, which are held by processes of ours and vanish with them, whatever ends this one, and the
hub through which they reach each other. What a rule of the hub drops is gone, and TCP sends it again: a cut
is one that each kernel sees. Needs root and iproute2; `why_not` tells what is missing.
"""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from deploy.chaos.links.proxy import FAIR, Direction, Weather
from deploy.devnet.launcher import Child, DevnetFailed

TOOLS: Final = ("ip", "nsenter", "unshare")
"""Programs that are used: of iproute2 and util-linux."""

_FIRST_HOST: Final = 10
_HUB_HOST: Final = 1
_OUR_HOST: Final = 254
"""Of this process, from where a network is followed and judged."""

_HOLD: Final = "echo 1 > /proc/sys/net/ipv4/ip_forward && ip link set lo up && echo held && exec cat"
"""What holds a namespace until its stdin is closed."""

_TRIAL: Final = (
    "ip link add name one0 type veth peer name two0 && ip rule add from 10.0.0.1 to 10.0.0.2 blackhole"
)
"""What has to be possible in a namespace."""


def why_not() -> str:
    """Return why there can be no such network here; empty if there can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    tried = subprocess.run(
        ("unshare", "--net", "sh", "-c", _TRIAL), stdin=DEVNULL, capture_output=True, text=True, check=False
    )
    return f"network namespaces do not work here: {tried.stderr.strip()}" if tried.returncode else ""


class Namespaces:
    """The namespaces of one network; `open_namespaces` makes them."""

    def __init__(self, hosts: Mapping[str, str], holders: Mapping[str, Process], hub: Process) -> None:
        self.hosts = hosts
        """The address of each process."""
        self._holders = holders
        self._hub = hub
        self._held: dict[str, Weather] = {}
        self._rules: set[tuple[str, str]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def spawn(
        self, module: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: int, group: int
    ) -> Child:
        """Start a process in its namespace; its settings' name is its own. See `launcher.Spawn`."""
        name = Path(arguments[-1]).stem
        return await asyncio.create_subprocess_exec(
            *(*_inside(self._holders[name]), sys.executable, "-P", "-m", module, *arguments),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=stderr,
            env=environ,
            process_group=group,
        )

    async def become(self, names: Sequence[str], weather: Weather = FAIR, *, is_reset: bool = False) -> None:
        """Cut links, `CLIENT>SERVER`, or let them heal; return when it is done.

        There is nothing here that delays packets, nor that breaks connections off.
        """
        assert (weather.delay_ms, is_reset) == (0, False), "the proxy is for these"
        async with self._one_at_a_time:
            self._held.update(dict.fromkeys(names, weather))
            wanted = {
                self._from_to(name, direction) for name, now in self._held.items() for direction in now.held
            }
            lines = [f"rule add pref 10 from {a} to {b} blackhole" for a, b in wanted - self._rules]
            lines += [f"rule del pref 10 from {a} to {b} blackhole" for a, b in self._rules - wanted]
            await _ip(self._hub, lines)
            self._rules = wanted

    def _from_to(self, name: str, direction: Direction) -> tuple[str, str]:
        client, _, server = name.partition(">")
        ends = (self.hosts[client], self.hosts[server])
        return ends if direction is Direction.UP else (ends[1], ends[0])


def hosts_of(names: Collection[str]) -> dict[str, str]:
    """Return an address for each process, in a network that most likely nobody else has here."""
    net = f"10.{random.SystemRandom().randrange(64, 128)}.{random.SystemRandom().randrange(256)}"
    return {name: f"{net}.{_FIRST_HOST + place}" for place, name in enumerate(names)}


@asynccontextmanager
async def open_namespaces(hosts: Mapping[str, str]) -> AsyncIterator[Namespaces]:
    """Keep a namespace for each process while the `async with` block lasts. Raises DevnetFailed."""
    net = next(iter(hosts.values())).rpartition(".")[0]
    hub_host, our_host = f"{net}.{_HUB_HOST}", f"{net}.{_OUR_HOST}"
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(_holder())
        holders = {name: await stack.enter_async_context(_holder()) for name in hosts}
        for place, (name, host) in enumerate(hosts.items()):
            await _join(hub, f"v{place}", hub_host, holders[name].pid, "up0", host)
            await _ip(holders[name], _leads_to_hub("up0", host, hub_host, "default"))
        ours = f"ls{os.getpid()}"
        await _join(hub, "ours", hub_host, os.getpid(), ours, our_host)
        await _ip(None, _leads_to_hub(ours, our_host, hub_host, f"{net}.0/24"))
        yield Namespaces(hosts, holders, hub)


@asynccontextmanager
async def _holder() -> AsyncIterator[Process]:
    """Keep a process in a network namespace of its own."""
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "sh", "-c", _HOLD), stdin=PIPE, stdout=PIPE, process_group=0
    )
    assert holder.stdin is not None, "it was made with a pipe"
    assert holder.stdout is not None, "it was made with a pipe"
    try:
        if await holder.stdout.readline() != b"held\n":
            raise DevnetFailed("a network namespace cannot be made; use --cuts proxy")
        yield holder
    finally:
        holder.stdin.close()
        await holder.wait()


async def _join(hub: Process, here: str, hub_host: str, pid: int, there: str, host: str) -> None:
    """Lay a cable from the hub to the namespace of another process."""
    await _ip(
        hub,
        [
            f"link add name {here} type veth peer name {there} netns {pid}",
            f"addr add {hub_host}/32 dev {here}",
            f"link set {here} up",
            f"route add {host}/32 dev {here}",
        ],
    )


def _leads_to_hub(device: str, host: str, hub_host: str, what: str) -> list[str]:
    return [
        f"addr add {host}/32 dev {device}",
        f"link set {device} up",
        f"route add {hub_host}/32 dev {device}",
        f"route add {what} via {hub_host} dev {device}",
    ]


def _inside(holder: Process) -> tuple[str, ...]:
    return ("nsenter", f"--net=/proc/{holder.pid}/ns/net", "--")


async def _ip(holder: Process | None, lines: Sequence[str]) -> None:
    """Run commands of `ip` in a namespace, or in our own. Raises DevnetFailed."""
    before = () if holder is None else _inside(holder)
    process = await asyncio.create_subprocess_exec(
        *before, "ip", "-batch", "-", stdin=PIPE, stdout=DEVNULL, stderr=PIPE
    )
    _, errors = await process.communicate("".join(f"{line}\n" for line in lines).encode())
    if process.returncode:
        raise DevnetFailed(f"ip does not do {lines}: {errors.decode(errors='replace').strip()}")
