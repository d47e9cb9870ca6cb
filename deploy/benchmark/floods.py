"""Load on the sequencer: floods, and lone submits.

Owns how bundles are sent and their answers counted. A flood's messages are bytes before the clock starts, so
that its own CPU time is small. Invariant: whatever is counted was placed; any other answer fails the job.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Final

from deploy.benchmark.accounts import opaque_bundles, transfer_bundles
from deploy.benchmark.jobs import FloodJob, Found, LoneJob, Prepared
from deploy.node.chain_files import load_genesis
from deploy.node.client import ClientSettings, connect
from lockstep.order import Bundle
from lockstep.transactions import decode_transaction
from lockstep.types import ChainId
from lockstep.v1 import sequencer_pb2
from sequencer.client import SequencerClient, SubmitStream
from sequencer.client.messages import bundle_message

SUBMIT_STREAM: Final = "/lockstep.v1.Sequencer/SubmitStream"
"""The call that floods use."""

SAMPLES_MAX: Final = 16
"""How many transactions of a flood are looked up afterwards."""


class FloodFailed(Exception):
    """The sequencer answered something else than a placement."""


class Flood:
    """Does a FloodJob."""

    def __init__(self, job: FloodJob) -> None:
        self._job = job
        self._channel = connect(job.target, ClientSettings())
        self._messages: list[bytes] = []
        self._samples: list[tuple[str, str]] = []

    async def prepare(self) -> Prepared:
        """Make, sign and encode all messages of the next run."""
        bundles = list(self._bundles())
        self._messages = list(encoded_messages(bundles, self._job.message_bundles))
        self._samples = []
        if self._job.transfer_accounts:
            step = max(len(bundles) // SAMPLES_MAX, 1)
            for bundle in (*bundles[::step], bundles[-1]):
                namespace, payload = bundle.transactions[0]
                self._samples.append((namespace, decode_transaction(payload).id.hex()))
        return Prepared()

    async def run(self) -> Found:
        """Send them, and wait until each bundle is answered."""
        counted = _Counted(self._messages, self._job)
        call: Any = self._channel.stream_stream(
            SUBMIT_STREAM, response_deserializer=sequencer_pb2.SubmitStreamResponse.FromString
        )()
        slots = asyncio.Semaphore(self._job.messages_max)

        async def send() -> None:
            for message in self._messages:
                await slots.acquire()
                counted.sent_ns.append(time.monotonic_ns())
                await call.write(message)
            await call.done_writing()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            async for response in call:
                for _ in range(counted.count(response)):
                    slots.release()
        return counted.found(self._samples)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _bundles(self) -> Iterator[Bundle]:
        job = self._job
        if job.transfer_accounts:
            return transfer_bundles(
                ChainId(bytes.fromhex(job.chain)),
                tuple(job.assets.items()),
                count=job.count,
                accounts=job.transfer_accounts,
                time_ms=job.time_ms,
            )
        return opaque_bundles(
            tuple(job.assets), count=job.count, payload_bytes=job.payload_bytes, time_ms=job.time_ms
        )


class _Counted:
    """The answers of one run."""

    def __init__(self, messages: Sequence[bytes], job: FloodJob) -> None:
        self.sent_ns: list[int] = []
        """When each message was sent."""
        self._messages = len(messages)
        self._job = job
        self._answered_ns: list[int] = []
        self._answered = 0
        self._heights: set[int] = set()

    def count(self, response: sequencer_pb2.SubmitStreamResponse) -> int:
        """Take an answer and return how many messages it completes. Answers come in the order of sending."""
        for outcome in response.outcomes:
            if outcome.HasField("error"):
                raise FloodFailed(f"a bundle was not ordered: {outcome.error.code}: {outcome.error.message}")
            self._heights.add(outcome.placement.height)
        self._answered += len(response.outcomes)
        done = self._answered == self._job.count
        complete = self._messages if done else self._answered // self._job.message_bundles
        newly = complete - len(self._answered_ns)
        self._answered_ns += [time.monotonic_ns()] * newly
        return newly

    def found(self, samples: Iterable[tuple[str, str]]) -> Found:
        """Return what the run found."""
        if self._answered != self._job.count:
            raise FloodFailed(f"{self._answered} of {self._job.count} bundles were answered")
        return Found(
            seconds=(self._answered_ns[-1] - self.sent_ns[0]) / 1e9,
            count=self._answered,
            latencies_ms=tuple(
                (answered - sent) / 1e6
                for sent, answered in zip(self.sent_ns, self._answered_ns, strict=True)
            ),
            blocks=len(self._heights),
            last_height=max(self._heights),
            samples=tuple(samples),
        )


class Lone:
    """Does a LoneJob."""

    def __init__(self, job: LoneJob) -> None:
        self._job = job
        _, genesis = load_genesis(Path(job.genesis))
        self._client = SequencerClient(job.target, genesis)
        self._open = AsyncExitStack()
        self._stream: SubmitStream | None = None
        self._bundles: list[Bundle] = []

    async def prepare(self) -> Prepared:
        """Make the bundles of the next run."""
        if self._stream is None and not self._job.is_unary:
            self._stream = await self._open.enter_async_context(self._client.stream())
        self._bundles = list(
            opaque_bundles(
                (self._job.namespace,),
                count=self._job.count,
                payload_bytes=self._job.payload_bytes,
                time_ms=await self._client.time_ms(),
            )
        )
        return Prepared()

    async def run(self) -> Found:
        """Submit them one after another."""
        submit = self._client.submit if self._stream is None else self._stream.submit
        latencies_ms, last_height = [], 0
        for bundle in self._bundles:
            started_ns = time.monotonic_ns()
            ordered = await submit(bundle)
            latencies_ms.append((time.monotonic_ns() - started_ns) / 1e6)
            last_height = ordered.placement.height
        return Found(
            count=len(self._bundles),
            latencies_ms=tuple(latencies_ms),
            blocks=len(self._bundles),
            last_height=last_height,
        )

    async def close(self) -> None:
        """Close stream and channel."""
        await self._open.aclose()
        await self._client.close()


def encoded_messages(bundles: Iterable[Bundle], message_bundles: int) -> Iterator[bytes]:
    """Yield SubmitStream's messages with `message_bundles` bundles each, as bytes."""
    submissions = (
        sequencer_pb2.Submission(correlation_id=number, bundle=bundle_message(bundle))
        for number, bundle in enumerate(bundles, start=1)
    )
    while batch := list(islice(submissions, message_bundles)):
        yield sequencer_pb2.SubmitStreamRequest(submissions=batch).SerializeToString()
