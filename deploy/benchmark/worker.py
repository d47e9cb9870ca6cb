"""A worker's process: does one job, once or several times, when it is told to.

Reads its job as a line of JSON from stdin, then lines that say `prepare` or `run`, and answers each with a
line on stdout. Ends when stdin does, in the middle of a run too, so that none outlives its benchmark.
"""

import asyncio
import gc
import sys
import time
import traceback
from typing import Final, Protocol

import msgspec

from deploy.benchmark.floods import Flood, Follow, Lone
from deploy.benchmark.jobs import (
    Answer,
    AppendJob,
    EchoJob,
    Failed,
    FloodJob,
    FollowJob,
    Found,
    Job,
    LoneJob,
    PingJob,
    Prepared,
    SwapsJob,
    VerifyJob,
)
from deploy.benchmark.probes import Append, Echo, Ping, Verify
from deploy.benchmark.swaps import Swaps
from lockstep.errors import LockstepError

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of a line in either direction: an answer holds a latency for each act."""


class Doer(Protocol):
    """Does a job."""

    async def prepare(self) -> Prepared:
        """Do what the clock does not count."""

    async def run(self) -> Found:
        """Do what it does."""

    async def close(self) -> None:
        """Give back what is open."""


def doer_of(job: Job) -> Doer:
    """Return who does a job."""
    match job:
        case VerifyJob():
            return Verify(job)
        case AppendJob():
            return Append(job)
        case EchoJob():
            return Echo(job)
        case FloodJob():
            return Flood(job)
        case FollowJob():
            return Follow(job)
        case LoneJob():
            return Lone(job)
        case PingJob():
            return Ping(job)
        case SwapsJob():
            return Swaps(job)


async def work() -> None:
    """Do what stdin says until it ends."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    doer = doer_of(msgspec.json.decode(await commands.readline(), type=Job))
    try:
        while line := await commands.readline():
            # Only the end of stdin comes while something is being done.
            doing = asyncio.ensure_future(_answer(doer, line.strip()))
            ending = asyncio.ensure_future(_until_end(commands))
            await asyncio.wait((doing, ending), return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if not doing.done():
                doing.cancel()
                break
            sys.stdout.buffer.write(msgspec.json.encode(doing.result()) + b"\n")
            sys.stdout.buffer.flush()
            await asyncio.gather(ending, return_exceptions=True)
    finally:
        await doer.close()


async def _until_end(commands: asyncio.StreamReader) -> None:
    """Wait until stdin ends; nothing is sent before the answer is there."""
    await commands.read(1)


async def _answer(doer: Doer, command: bytes) -> Answer:
    try:
        if command == b"prepare":
            prepared = await doer.prepare()
            # What was signed ahead stays; looking through it again and again is not the load's business.
            gc.collect()
            gc.freeze()
            return Answer(prepared=prepared)
        started_ns, cpu_started_s = time.monotonic_ns(), time.process_time()
        found = await doer.run()
        return Answer(
            found=msgspec.structs.replace(
                found,
                started_ns=started_ns,
                cpu_seconds=time.process_time() - cpu_started_s,
                seconds=found.seconds or (time.monotonic_ns() - started_ns) / 1e9,
            )
        )
    except LockstepError as error:
        return Answer(failed=Failed(error.message))
    except Exception as error:  # noqa: BLE001  # whoever started this process tells
        return Answer(failed=Failed("".join(traceback.format_exception(error))))


if __name__ == "__main__":
    asyncio.run(work())
