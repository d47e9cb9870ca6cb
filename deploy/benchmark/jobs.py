"""What a worker can be told to do, as records that travel to it as JSON.

Owns their fields. Paths are absolute, addresses `host:port`, times ms unless the name says otherwise.
"""

from typing import TypeAlias

import msgspec


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
    time_ms: int
    """Log time from which windows are counted."""
    assets: dict[str, str]
    """Rollups that are sent to, in turns, and the asset that is moved on each."""
    count: int
    """Bundles in all."""
    message_bundles: int
    """Bundles of one message."""
    messages_max: int
    """Messages in flight."""
    transfer_accounts: int = 0
    """How many accounts send signed transfers to each other; 0: random bytes are sent."""
    payload_bytes: int = 200
    """Length of random payloads."""


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

    sequencer: str
    """Addresses of the processes."""
    bridge: str
    """As above."""
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


Job: TypeAlias = VerifyJob | AppendJob | EchoJob | FloodJob | LoneJob | PingJob | SwapsJob


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
    blocks: int = 0
    """Blocks that the bundles are in."""
    last_height: int = 0
    """The last of them."""
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
