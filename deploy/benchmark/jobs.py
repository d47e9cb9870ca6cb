"""What a worker can be told to do, as records that travel to it as JSON.

Owns their fields. Paths are absolute, addresses `host:port`, times ms unless the name says otherwise.
"""

from typing import TypeAlias

import msgspec

from deploy.benchmark.accounts import WINDOW_MS


class VerifyJob(msgspec.Struct, frozen=True, tag="verify"):
    """Verify signatures as fast as one core can; `run` finds verifications per second."""

    seconds: float
    """For how long."""


class AppendJob(msgspec.Struct, frozen=True, tag="append"):
    """Append blocks to a file, each durably; `run` finds the latency of each append."""

    folder: str
    """Where the file is made."""
    append_bytes: int
    """Bytes of one append."""
    count: int
    """How many."""


class EchoJob(msgspec.Struct, frozen=True, tag="echo"):
    """Answer the sequencer's submissions without looking at them; preparing finds the `address`."""

    outcomes: int
    """Outcomes of each answer."""


class FloodJob(msgspec.Struct, frozen=True, tag="flood"):
    """Submit one-transaction bundles over one SubmitStream, many at a time."""

    target: str
    """The sequencer."""
    chain: str
    """Chain id in hex."""
    assets: dict[str, str]
    """Rollups that are sent to, in turns, and the asset that is moved on each."""
    count: int
    """Bundles in all."""
    message_bundles: int
    """Bundles of one message."""
    messages_max: int
    """Messages in flight."""
    time_ms: int = 0
    """Log time from which windows are counted; 0: the sequencer is asked, before each run."""
    window_ms: int = WINDOW_MS
    """How long what is sent can be ordered, in log time."""
    transfer_accounts: int = 0
    """How many accounts send signed transfers to each other; 0: random bytes are sent."""
    payload_bytes: int = 200
    """Length of random payloads."""
    rate: float = 0.0
    """Bundles per second, whatever becomes of them: latencies then count from when each message was due. 0:
    as fast as answers come."""


class FollowJob(msgspec.Struct, frozen=True, tag="follow"):
    """Follow the order from its start, each subscriber its own namespaces; `run` waits for all of them.

    Preparing waits until they are at the head of the chain; `run` until each has the newest block, and
    counts the transactions that came since the last time.
    """

    target: str
    """The sequencer."""
    genesis: str
    """Path of the genesis file."""
    namespaces: tuple[tuple[str, ...], ...]
    """What each subscriber follows."""


class LoneJob(msgspec.Struct, frozen=True, tag="lone"):
    """Submit bundles one after another, each when the receipt of the one before was verified."""

    target: str
    """The sequencer."""
    genesis: str
    """Path of the genesis file."""
    namespace: str
    """The rollup."""
    is_unary: bool
    """By Submit, otherwise by SubmitStream."""
    count: int
    """How many."""
    payload_bytes: int = 200
    """Length of their random payloads."""


class PingJob(msgspec.Struct, frozen=True, tag="ping"):
    """Send what LoneJob sends, without looking at the answers: to an echo."""

    target: str
    """The echo."""
    is_unary: bool
    """By Submit, otherwise by SubmitStream."""
    count: int
    """How many."""
    payload_bytes: int = 200
    """Length of their payloads."""


class SwapsJob(msgspec.Struct, frozen=True, tag="swaps"):
    """Swap between two rollups through the bridge, until both have settled."""

    bridge: str
    """The coordinator."""
    nodes: dict[str, str]
    """By rollup; exactly two."""
    genesis: str
    """Path of the genesis file."""
    assets: dict[str, str]
    """What is swapped, by rollup."""
    is_up_front: bool
    """The coordinator has the preimage at once; otherwise the taker reveals when it sees both locks."""
    count: int
    """Swaps in all."""
    concurrency: int
    """Swaps at a time."""
    accounts: int
    """How many funded accounts trade, in turns."""
    rate: float = 0.0
    """Swaps per second, whatever becomes of them: latencies then count from when each was due. 0: each
    trader begins the next when the last one has settled."""
    begin_seconds: float = 0.0
    """For how long swaps are begun; 0: until all have been."""


Job: TypeAlias = VerifyJob | AppendJob | EchoJob | FloodJob | FollowJob | LoneJob | PingJob | SwapsJob


class Prepared(msgspec.Struct, frozen=True):
    """A worker is ready to run its job."""

    address: str = ""
    """Where an echo listens."""


class Found(msgspec.Struct, frozen=True):
    """What a run of a job found."""

    seconds: float = 0.0
    """Real time from the first to the last act."""
    cpu_seconds: float = 0.0
    """CPU time of the worker's process during the run."""
    started_ns: int = 0
    """The monotonic clock, which all processes of a machine share, at the first act."""
    count: int = 0
    """What was done: verifications, bundles or swaps."""
    latencies_ms: tuple[float, ...] = ()
    """Of each act, in order."""
    ended_seconds: tuple[float, ...] = ()
    """When each swap had settled, from the first act on, rising."""
    unsettled: int = 0
    """Swaps that did not end as they should have within their time."""
    blocks: int = 0
    """Blocks that the bundles are in."""
    last_height: int = 0
    """The last of them."""
    payload_bytes: int = 0
    """Length of the first transaction's payload."""
    samples: tuple[tuple[str, str], ...] = ()
    """Some of the transactions: rollup and transaction id in hex."""


class Failed(msgspec.Struct, frozen=True):
    """A job did not do what it should have."""

    reason: str
    """Why."""


class Answer(msgspec.Struct, frozen=True):
    """One line of a worker; one field is set."""

    prepared: Prepared | None = None
    """It is ready."""
    found: Found | None = None
    """It has run."""
    failed: Failed | None = None
    """It could not."""
