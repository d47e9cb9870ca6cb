"""Load on the sequencer: floods, lone submits, and subscribers.

Owns how bundles are sent and their answers counted. A flood's messages are bytes before the clock starts, so
that its own CPU time is small. Invariant: whatever is counted was placed; any other answer fails the job.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from itertools import islice
from pathlib import Path
from typing import Any, Final

from deploy.benchmark.accounts import WINDOW_MS, opaque_bundles, transfer_bundles
from deploy.benchmark.jobs import FloodJob, FollowJob, Found, LoneJob, Prepared
from deploy.node.chain_files import load_genesis
from deploy.node.client import ClientSettings, connect
from lockstep.header import genesis_tip
from lockstep.order import Bundle
from lockstep.transactions import decode_transaction
from lockstep.types import ChainId, Namespace
from lockstep.v1 import sequencer_pb2
from sequencer.client import SequencerClient, SubmitStream
from sequencer.client.messages import bundle_message

SUBMIT_STREAM: Final = "/lockstep.v1.Sequencer/SubmitStream"
"""The call that floods use."""

GET_STATUS: Final = "/lockstep.v1.Sequencer/GetStatus"
"""The call that tells the log time."""

CONNECTED_SECONDS_MAX: Final = 25
"""How long a sequencer may take to answer a new connection; it takes calls of at most 30 s."""

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
        self._payload_bytes = 0

    async def prepare(self) -> Prepared:
        """Make, sign and encode all messages of the next run."""
        bundles = list(self._bundles(self._job.time_ms or await self._time_ms()))
        self._messages = list(encoded_messages(bundles, self._job.message_bundles))
        self._payload_bytes = len(bundles[0].transactions[0].payload)
        self._samples = []
        if self._job.transfer_accounts:
            step = max(len(bundles) // SAMPLES_MAX, 1)
            for bundle in (*bundles[::step], bundles[-1]):
                namespace, payload = bundle.transactions[0]
                self._samples.append((namespace, decode_transaction(payload).id.hex()))
        return Prepared()

    async def run(self) -> Found:
        """Send them, and wait until each bundle is answered."""
        counted = _Counted(self._messages, self._job, time.monotonic_ns())
        call: Any = self._channel.stream_stream(
            SUBMIT_STREAM, response_deserializer=sequencer_pb2.SubmitStreamResponse.FromString
        )(wait_for_ready=True)
        slots = asyncio.Semaphore(self._job.messages_max)

        async def send() -> None:
            for place, message in enumerate(self._messages):
                await counted.until_due(place)
                await slots.acquire()
                counted.sent_ns.append(time.monotonic_ns())
                await call.write(message)
            await call.done_writing()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            async for response in call:
                for _ in range(counted.count(response)):
                    slots.release()
        return counted.found(self._samples, self._payload_bytes)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _time_ms(self) -> int:
        call: Any = self._channel.unary_unary(
            GET_STATUS, response_deserializer=sequencer_pb2.SequencerGetStatusResponse.FromString
        )
        request = sequencer_pb2.SequencerGetStatusRequest().SerializeToString()
        # While a worker signs it answers nobody, and a connection may break meanwhile.
        status = await call(request, wait_for_ready=True, timeout=CONNECTED_SECONDS_MAX)
        return int(status.time_ms)

    def _bundles(self, time_ms: int) -> Iterator[Bundle]:
        job, valid_until_ms = self._job, time_ms + self._job.window_ms
        if job.transfer_accounts:
            return transfer_bundles(
                ChainId(bytes.fromhex(job.chain)),
                tuple(job.assets.items()),
                count=job.count,
                accounts=job.transfer_accounts,
                valid_until_ms=valid_until_ms,
            )
        return opaque_bundles(
            tuple(job.assets),
            count=job.count,
            payload_bytes=job.payload_bytes,
            valid_until_ms=valid_until_ms,
        )


class _Counted:
    """The answers of one run."""

    def __init__(self, messages: Sequence[bytes], job: FloodJob, started_ns: int) -> None:
        self.sent_ns: list[int] = []
        """When each message was sent."""
        self._started_ns = started_ns
        self._messages = len(messages)
        self._job = job
        self._answered_ns: list[int] = []
        self._answered = 0
        self._heights: set[int] = set()

    def due_ns(self, place: int) -> int:
        """Return when a message is to be sent; for a flood without a rate, when it was."""
        if not self._job.rate:
            return self.sent_ns[place]
        return self._started_ns + int(place * self._job.message_bundles / self._job.rate * 1e9)

    async def until_due(self, place: int) -> None:
        """Wait until a message is to be sent."""
        if self._job.rate:
            await asyncio.sleep(max(self.due_ns(place) - time.monotonic_ns(), 0) / 1e9)

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

    def found(self, samples: Iterable[tuple[str, str]], payload_bytes: int) -> Found:
        """Return what the run found."""
        if self._answered != self._job.count:
            raise FloodFailed(f"{self._answered} of {self._job.count} bundles were answered")
        return Found(
            seconds=(self._answered_ns[-1] - self.sent_ns[0]) / 1e9,
            count=self._answered,
            latencies_ms=tuple(
                (answered - self.due_ns(place)) / 1e6 for place, answered in enumerate(self._answered_ns)
            ),
            blocks=len(self._heights),
            last_height=max(self._heights),
            payload_bytes=payload_bytes,
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
                valid_until_ms=await self._client.time_ms() + WINDOW_MS,
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


class Follow:
    """Does a FollowJob: subscribers that verify every block, as any does."""

    def __init__(self, job: FollowJob) -> None:
        self._job = job
        _, self._genesis = load_genesis(Path(job.genesis))
        self._clients = [SequencerClient(job.target, self._genesis) for _ in job.namespaces]
        self._following: list[asyncio.Task[None]] = []
        self._heights = [0] * len(job.namespaces)
        self._transactions = 0
        self._came = asyncio.Event()

    async def prepare(self) -> Prepared:
        """Follow, and wait until all subscribers have the newest block."""
        if not self._following:
            self._following = [
                asyncio.ensure_future(self._follow(place)) for place in range(len(self._clients))
            ]
        await self._until_newest()
        return Prepared()

    async def run(self) -> Found:
        """Wait until all subscribers have the newest block, and count what came since."""
        await self._until_newest()
        came, self._transactions = self._transactions, 0
        return Found(count=came, last_height=min(self._heights))

    async def close(self) -> None:
        """Follow no more."""
        for following in self._following:
            following.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        for client in self._clients:
            await client.close()

    async def _until_newest(self) -> None:
        newest = (await self._clients[0].status()).height
        while min(self._heights) < newest:
            for following in self._following:
                if following.done():
                    following.result()
            self._came.clear()
            await self._came.wait()

    async def _follow(self, place: int) -> None:
        genesis = self._genesis
        blocks = self._clients[place].follow(
            tip=genesis_tip(genesis.chain_id, genesis.genesis_time_ms),
            namespaces=tuple(map(Namespace, self._job.namespaces[place])),
            sequencer_key=lambda _: genesis.sequencer,
        )
        try:
            async with aclosing(blocks):
                async for followed in blocks:
                    self._heights[place] = followed.block.header.height
                    self._transactions += sum(map(len, followed.block.entries.values()))
                    self._came.set()
        finally:
            self._came.set()


def encoded_messages(bundles: Iterable[Bundle], message_bundles: int) -> Iterator[bytes]:
    """Yield SubmitStream's messages with `message_bundles` bundles each, as bytes."""
    submissions = (
        sequencer_pb2.Submission(correlation_id=number, bundle=bundle_message(bundle))
        for number, bundle in enumerate(bundles, start=1)
    )
    while batch := list(islice(submissions, message_bundles)):
        yield sequencer_pb2.SubmitStreamRequest(submissions=batch).SerializeToString()
