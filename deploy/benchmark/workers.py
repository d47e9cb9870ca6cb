"""Workers, seen from the benchmark: started, told what to do, ended.

Owns their processes. Invariant: none outlives the `async with` block, nor the benchmark's process.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from deploy.benchmark.jobs import Answer, Found, Job, Prepared
from deploy.benchmark.worker import LINE_BYTES_MAX

ANSWER_MS_MAX: Final = 600_000
"""How long a worker may take to do what it is told."""


class WorkFailed(Exception):
    """A worker did not do its job; the message says why."""


class Worker:
    """One worker; see `working`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def prepare(self) -> Prepared:
        """Have it do what the clock does not count. Raises WorkFailed."""
        answer = await self._ask(b"prepare\n")
        assert answer.prepared is not None, "it was told to prepare"
        return answer.prepared

    async def run(self) -> Found:
        """Have it do its job. Raises WorkFailed."""
        answer = await self._ask(b"run\n")
        assert answer.found is not None, "it was told to run"
        return answer.found

    async def _ask(self, command: bytes) -> Answer:
        assert self._process.stdin is not None, "it was made with a pipe"
        assert self._process.stdout is not None, "it was made with a pipe"
        try:
            async with asyncio.timeout(ANSWER_MS_MAX / 1_000):
                self._process.stdin.write(command)
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise WorkFailed(f"a worker did not answer within {ANSWER_MS_MAX} ms") from None
        if not line:
            raise WorkFailed(f"a worker ended with exit code {await self._process.wait()}")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.failed is not None:
            raise WorkFailed(answer.failed.reason)
        return answer


@asynccontextmanager
async def working(job: Job) -> AsyncIterator[Worker]:
    """Have a process for a job while the `async with` block lasts."""
    process = await asyncio.create_subprocess_exec(
        # -P: no folder that happens to be the current one hides a package.
        *(sys.executable, "-P", "-m", "deploy.benchmark.worker"),
        stdin=PIPE,
        stdout=PIPE,
        limit=LINE_BYTES_MAX,
        # A terminal's Ctrl-C is for the benchmark, which ends its workers in order.
        process_group=0,
    )
    assert process.stdin is not None, "it was made with a pipe"
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def once(job: Job) -> Found:
    """Have a process do a job once, and return what it found. Raises WorkFailed."""
    async with working(job) as worker:
        await worker.prepare()
        return await worker.run()
