"""The one tree of expected errors, shared by all processes.

Owns the stable codes that clients of any language may branch on, their gRPC status, and whether trying
again can help. Does not know gRPC: `deploy.node.server` and `deploy.node.client` carry these errors
over it, and services put an `ErrorRecord` into the messages of a stream. A code, once published, never
changes its meaning.

    LockstepError
    ├── Invalid                INVALID_ARGUMENT: this request can never succeed
    │   ├── Malformed              MALFORMED            bytes or a field break their layout or a bound
    │   ├── Oversized              OVERSIZED            larger than a stated maximum
    │   ├── WrongChain             WRONG_CHAIN          made for another chain
    │   ├── WrongRollup            WRONG_ROLLUP         made for another rollup
    │   ├── UnknownNamespace       UNKNOWN_NAMESPACE    neither a registered rollup nor a system namespace
    │   ├── BadSignature           BAD_SIGNATURE        the signature does not verify
    │   ├── ProofInvalid           PROOF_INVALID        a Merkle proof does not lead to its root
    │   ├── ReceiptInvalid         RECEIPT_INVALID      a swap receipt does not verify
    │   ├── TooFarAhead            TOO_FAR_AHEAD        valid_until_ms lies beyond the window
    │   └── DeadlineTooLong        DEADLINE_TOO_LONG    the call's deadline is beyond the maximum
    ├── Refused                FAILED_PRECONDITION: not as things stand
    │   ├── Expired                EXPIRED              its validity window has passed
    │   ├── UselessEntry           USELESS_ENTRY        the register would ignore it
    │   ├── Contradiction          CONTRADICTION        contradicts an earlier statement; kept as evidence
    │   ├── Discontinuous          DISCONTINUOUS        does not continue what is known
    │   └── ReadOnly               READ_ONLY            the service serves reads only, and says why
    ├── Beyond                 OUT_OF_RANGE: outside of what the service holds
    │   ├── NotYet                 NOT_YET              the height is not there yet (retry)
    │   ├── Pruned                 PRUNED               the height is there no more
    │   └── HistoryPruned          HISTORY_PRUNED       the answer lay in history that is there no more
    ├── Missing                NOT_FOUND
    │   ├── NotFound               NOT_FOUND            no such thing
    │   ├── NeverOrdered           NEVER_ORDERED        its window passed without it
    │   ├── UnknownSwap            UNKNOWN_SWAP         the register holds no such swap
    │   └── NoQuote                NO_QUOTE             no maker offers what a taker asks for
    ├── Exhausted              RESOURCE_EXHAUSTED: nothing was accepted (retry)
    │   ├── QueueFull              QUEUE_FULL           a queue is at its bound
    │   ├── QuotaExceeded          QUOTA_EXCEEDED       the sender or namespace is over its share
    │   └── TooManyLiveIds         TOO_MANY_LIVE_IDS    as many ids are remembered as may be
    ├── Unavailable            UNAVAILABLE (retry)
    │   ├── UnavailablePeer        UNAVAILABLE_PEER     a service that is needed for this does not answer
    │   ├── NotReady               NOT_READY            the service is starting or catching up
    │   └── ShuttingDown           SHUTTING_DOWN        the service is stopping
    ├── TimedOut           DEADLINE_EXCEEDED    the deadline passed; the outcome is unknown (retry)
    ├── Conflict           CONFLICT             ALREADY_EXISTS: this idempotency key had another request
    ├── UnknownKey         UNKNOWN_KEY          PERMISSION_DENIED: a key that has no say in this
    ├── NotImplementedYet  NOT_IMPLEMENTED_YET  UNIMPLEMENTED: this version has no such function
    ├── Internal           INTERNAL             a defect; its particulars are in the service's log only
    └── Foreign            a code that this version does not know, as it was received

An error's fields are texts and numbers; its message tells a person what to do.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar, dataclass_transform, get_args

__pure__ = True

Status = Literal[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
"""The names of gRPC's status codes other than OK."""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)

FIELD_CHARACTERS_MAX: Final = 256
"""Characters of one field's text; what is longer is cut: errors travel in trailers of a few kilobytes."""

MESSAGE_CHARACTERS_MAX: Final = 1_024
"""Characters of an error's message; what is longer is cut."""


@dataclass(frozen=True)
class ErrorRecord:
    """An error as data: what streams carry in-band beside the item's correlation id."""

    code: str
    """The stable code, as in the tree above."""

    message: str
    """What happened and what to do, for a person; at most MESSAGE_CHARACTERS_MAX characters."""

    retryable: bool
    """Whether the same request may succeed later."""

    retry_after_ms: int | None
    """How long to wait before trying again, where the service knows."""

    fields: Mapping[str, str]
    """The particulars, by the names of the error's attributes."""


class LockstepError(Exception):
    """An error that is expected in normal operation. Never raised itself; see the tree above."""

    code: str
    """Stable reason in SCREAMING_SNAKE_CASE, unique in the tree."""

    status: Status
    """The name of the gRPC status that carries it."""

    retryable: bool = False
    """Whether the same request may succeed later."""

    retry_after_ms: int | None = None
    """How long to wait before trying again, where known."""

    template: str
    """The message, with the fields' names in braces."""

    _received_message: str | None = None

    @property
    def message(self) -> str:
        """What happened and what to do, for a person."""
        if self._received_message is not None:
            return self._received_message
        return _cut(self.template.format_map(self.fields), MESSAGE_CHARACTERS_MAX)

    @property
    def fields(self) -> Mapping[str, str]:
        """The particulars as text, each at most FIELD_CHARACTERS_MAX characters."""
        names = _field_types(type(self))
        return {name: _cut(str(getattr(self, name)), FIELD_CHARACTERS_MAX) for name in names}

    @property
    def is_received(self) -> bool:
        """Whether a service told it, rather than this process finding it."""
        return self._received_message is not None

    def to_record(self) -> ErrorRecord:
        """Return the error as data."""
        return ErrorRecord(self.code, self.message, self.retryable, self.retry_after_ms, self.fields)

    def received_as(self, record: ErrorRecord) -> Self:
        """Take over the words of the service that sent this error, and return it."""
        self._received_message = _cut(record.message, MESSAGE_CHARACTERS_MAX)
        self.retryable = record.retryable
        self.retry_after_ms = record.retry_after_ms
        return self

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


_Leaf = TypeVar("_Leaf", bound=LockstepError)


@dataclass_transform(kw_only_default=True, eq_default=False)
def _error(leaf: type[_Leaf]) -> type[_Leaf]:
    """Make a leaf's annotated attributes its keyword arguments."""
    return dataclass(eq=False, kw_only=True, repr=False)(leaf)


# --- INVALID_ARGUMENT -------------------------------------------------------------------------------------


class Invalid(LockstepError):
    """The request can never succeed, whatever the state of the service."""

    status = "INVALID_ARGUMENT"


@_error
class Malformed(Invalid):
    """Bytes or a field break their layout or a bound."""

    code = "MALFORMED"
    template = "the {what} is malformed: {field} {reason}; correct it and send it again"

    what: str
    """The structure."""

    field: str
    """Its field."""

    reason: str
    """What is wrong with the field; continues a sentence that starts with its name."""


@_error
class Oversized(Invalid):
    """Larger than a stated maximum."""

    code = "OVERSIZED"
    template = "the {what} is too large: {size}, the limit is {limit}; split it"

    what: str
    """What is too large, and its unit, such as `bytes of the bundle`."""

    size: int
    """Its size."""

    limit: int
    """The largest size allowed."""


@_error
class WrongChain(Invalid):
    """Made for another chain."""

    code = "WRONG_CHAIN"
    template = (
        "made for chain {found}, this is chain {expected}; use the genesis file of the network you talk to"
    )

    expected: str
    """This chain's id, in hex."""

    found: str
    """The id in the request, in hex."""


@_error
class WrongRollup(Invalid):
    """Made for another rollup."""

    code = "WRONG_ROLLUP"
    template = "made for rollup {found}, this is rollup {expected}; sign it again for the right one"

    expected: str
    """The rollup that was asked."""

    found: str
    """The rollup named inside."""


@_error
class UnknownNamespace(Invalid):
    """Neither a registered rollup nor a system namespace."""

    code = "UNKNOWN_NAMESPACE"
    template = "namespace {namespace!r} is not registered; check its spelling, or register the rollup first"

    namespace: str
    """The name."""


@_error
class BadSignature(Invalid):
    """The signature does not verify."""

    code = "BAD_SIGNATURE"
    template = "the signature of the {what} by {signer} does not verify; sign the exact bytes that are sent"

    what: str
    """What is signed."""

    signer: str
    """The public key, in hex."""


@dataclass(eq=False, repr=False)
class ProofInvalid(Invalid):
    """A Merkle proof does not lead to its root, or cannot be one."""

    code = "PROOF_INVALID"
    template = "the proof does not hold: {reason}; do not trust what came with it"

    reason: str
    """What is wrong."""


@_error
class ReceiptInvalid(Invalid):
    """A swap receipt does not verify."""

    code = "RECEIPT_INVALID"
    template = (
        "the swap receipt does not verify at step {step}: {reason}; believe nothing in it, get one yourself"
    )

    step: str
    """The step of the verification at which it fails, as number and name."""

    reason: str
    """What is wrong."""


@_error
class TooFarAhead(Invalid):
    """`valid_until_ms` lies beyond the window."""

    code = "TOO_FAR_AHEAD"
    template = (
        "valid_until_ms {valid_until_ms} lies beyond {latest_ms}; "
        "take the newest header's time plus a shorter window"
    )

    valid_until_ms: int
    """What was asked for, in log time."""

    latest_ms: int
    """The latest that is accepted now, in log time."""


@_error
class DeadlineTooLong(Invalid):
    """The call's deadline is beyond the maximum."""

    code = "DEADLINE_TOO_LONG"
    template = "the call's deadline of {deadline_ms} ms is too long; give it at most {limit_ms} ms"

    deadline_ms: int
    """What was asked for."""

    limit_ms: int
    """The longest deadline accepted."""


# --- FAILED_PRECONDITION ----------------------------------------------------------------------------------


class Refused(LockstepError):
    """Refused as things stand; the request itself is well formed."""

    status = "FAILED_PRECONDITION"


@_error
class Expired(Refused):
    """Its validity window has passed."""

    code = "EXPIRED"
    template = (
        "the {what} was valid until {valid_until_ms}, log time is {time_ms}; "
        "make a new one with a later window"
    )

    what: str
    """What expired."""

    valid_until_ms: int
    """The end of its window, in log time."""

    time_ms: int
    """The log time at which it was judged."""


@_error
class UselessEntry(Refused):
    """The register would ignore it."""

    code = "USELESS_ENTRY"
    template = "the {kind} would have no effect: {reason}; look at how things stand before sending another"

    kind: str
    """Open, Attest, Reveal or Cancel; `checkpoint` or `change of the registry`."""

    reason: str
    """Why the register, or the registry, would ignore it."""


@_error
class Contradiction(Refused):
    """Contradicts an earlier statement by the same key or on the same height; both are kept as evidence."""

    code = "CONTRADICTION"
    template = (
        "the {what} contradicts an earlier one ({evidence}); both are kept as evidence: "
        "stop this key and find out why"
    )

    what: str
    """The kind of statement."""

    evidence: str
    """Where the earlier statement or the evidence is found."""


@_error
class Discontinuous(Refused):
    """Does not continue what is known."""

    code = "DISCONTINUOUS"
    template = (
        "the {what} does not continue what is known: it {reason}; go back to the last one that is known"
    )

    what: str
    """The kind of thing."""

    reason: str
    """What breaks; continues a sentence that starts with `it`."""


@_error
class ReadOnly(Refused):
    """The service serves reads only, because it may have lost part of its memory."""

    code = "READ_ONLY"
    template = "the service serves reads only: {reason}; {advice}"

    reason: str
    """What it found."""

    advice: str
    """How an operator restores it."""


# --- OUT_OF_RANGE -----------------------------------------------------------------------------------------


class Beyond(LockstepError):
    """Outside of the heights that the service holds."""

    status = "OUT_OF_RANGE"


@_error
class NotYet(Beyond):
    """The height is not there yet."""

    code = "NOT_YET"
    retryable = True
    template = "height {height} is not there yet, the newest is {newest}; ask again later"

    height: int
    """What was asked for."""

    newest: int
    """The newest height that is there."""

    retry_after_ms: int | None = 250


@_error
class Pruned(Beyond):
    """The height is there no more."""

    code = "PRUNED"
    template = (
        "height {height} was pruned, the first still here is {first_available}; "
        "start from a snapshot or ask an archive"
    )

    height: int
    """What was asked for."""

    first_available: int
    """The first height that can be had."""


@_error
class HistoryPruned(Beyond):
    """The answer lay in history that is there no more; it is unknown, not negative."""

    code = "HISTORY_PRUNED"
    template = (
        "whether {subject} was ordered lies in history before height {first_available}, "
        "which was pruned; ask an archive"
    )

    subject: str
    """What was asked for."""

    first_available: int
    """The first height that can be had."""


# --- NOT_FOUND --------------------------------------------------------------------------------------------


class Missing(LockstepError):
    """There is no such thing."""

    status = "NOT_FOUND"


@_error
class NotFound(Missing):
    """There is no such thing here."""

    code = "NOT_FOUND"
    template = "there is no {subject} {name}; check its name, and that you ask the right service"

    subject: str
    """The kind of thing."""

    name: str
    """Its name, id in hex, or number."""


@_error
class NeverOrdered(Missing):
    """Its window passed without it, so that it can have no effect any more."""

    code = "NEVER_ORDERED"
    template = (
        "the {subject} {name} was never ordered and its window has passed; it is safe to make a new one"
    )

    subject: str
    """The kind of thing."""

    name: str
    """Its id in hex."""


@_error
class UnknownSwap(Missing):
    """The register holds no such swap: never opened, or long over."""

    code = "UNKNOWN_SWAP"
    template = (
        "the register holds no swap {swap_id}; it was not opened yet, "
        "or it ended and was dropped after its lock_by_ms; a coordinator that lost its database knows only "
        "what was ordered: propose the rest to it again"
    )

    swap_id: str
    """The swap's id in hex."""


@_error
class NoQuote(Missing):
    """No maker offers what a taker asks for."""

    code = "NO_QUOTE"
    template = "nobody offers {pair}: {reason}"

    pair: str
    """What is given for what."""

    reason: str
    """Who was asked, and what to do."""


# --- RESOURCE_EXHAUSTED -----------------------------------------------------------------------------------


class Exhausted(LockstepError):
    """A bound is reached; nothing of the request was accepted."""

    status = "RESOURCE_EXHAUSTED"
    retryable = True


@_error
class QueueFull(Exhausted):
    """A queue is at its bound."""

    code = "QUEUE_FULL"
    template = (
        "the {queue} queue is full at {limit}; nothing was accepted: send the same again a little later"
    )

    queue: str
    """Which queue."""

    limit: int
    """Its bound."""

    retry_after_ms: int | None = 100


@_error
class QuotaExceeded(Exhausted):
    """The sender or namespace is over its share."""

    code = "QUOTA_EXCEEDED"
    template = (
        "{subject} is over its {quota} of {limit} per second; nothing was accepted: "
        "slow down and send the same again"
    )

    subject: str
    """Whose quota."""

    quota: str
    """What is counted, such as `bytes`."""

    limit: int
    """The share per second."""

    retry_after_ms: int | None = 1_000


@_error
class TooManyLiveIds(Exhausted):
    """As many ids are remembered as may be."""

    code = "TOO_MANY_LIVE_IDS"
    template = (
        "{limit} ids are remembered, which is the limit; nothing was accepted: "
        "send the same again as older ids expire"
    )

    limit: int
    """The bound."""

    retry_after_ms: int | None = 1_000


# --- UNAVAILABLE ------------------------------------------------------------------------------------------


class Unavailable(LockstepError):
    """Not now. Whether the request took effect may be unknown: repeat it with the same id."""

    status = "UNAVAILABLE"
    retryable = True


@_error
class UnavailablePeer(Unavailable):
    """A service that is needed for this does not answer."""

    code = "UNAVAILABLE_PEER"
    template = "{peer} does not answer; try again with the same ids, and look at that service if it lasts"

    peer: str
    """The service and where it was looked for."""

    retry_after_ms: int | None = 100


@_error
class NotReady(Unavailable):
    """The service is starting or catching up."""

    code = "NOT_READY"
    template = "the service is not ready: {reason}; try again a little later"

    reason: str
    """What it is doing."""

    retry_after_ms: int | None = 500


@_error
class ShuttingDown(Unavailable):
    """The service is stopping."""

    code = "SHUTTING_DOWN"
    template = "the service is stopping; send the same to another node, or to this one when it is back"

    retry_after_ms: int | None = 1_000


# --- one leaf each ----------------------------------------------------------------------------------------


@_error
class TimedOut(LockstepError):
    """The call's deadline passed. Whether it took effect is unknown: repeat it with the same id."""

    code = "DEADLINE_EXCEEDED"
    status = "DEADLINE_EXCEEDED"
    retryable = True
    template = "no answer from {peer} in time; what was asked may have happened: ask again with the same ids"

    peer: str
    """The service and where it was looked for."""


@_error
class Conflict(LockstepError):
    """The idempotency key was used before, for another request."""

    code = "CONFLICT"
    status = "ALREADY_EXISTS"
    template = (
        "{subject} {key} exists with other contents; repeat the first request exactly, or take a new key"
    )

    subject: str
    """The kind of thing."""

    key: str
    """Its idempotency key or id."""


@_error
class UnknownKey(LockstepError):
    """The signature is good, but its key has no say in this."""

    code = "UNKNOWN_KEY"
    status = "PERMISSION_DENIED"
    template = "key {key} may not sign the {what}; use the key that the genesis or the registry names"

    what: str
    """What it signed."""

    key: str
    """The public key, in hex."""


@_error
class NotImplementedYet(LockstepError):
    """This version has no such function."""

    code = "NOT_IMPLEMENTED_YET"
    status = "UNIMPLEMENTED"
    template = "this version does not offer {what}; see the service's README for what it does"

    what: str
    """The function."""


@_error
class Internal(LockstepError):
    """A defect of the service. Its particulars are in the service's log and nowhere else."""

    code = "INTERNAL"
    status = "INTERNAL"
    template = "internal error"


@_error
class Foreign(LockstepError):
    """An error with a code that this version does not know, or none: kept as it was received."""

    code: str
    """The code as received; the status's name if there was none."""

    status: Status
    """The gRPC status as received."""

    text: str
    """The message as received."""

    received_fields: Mapping[str, str]
    """The particulars as received."""

    @property
    def message(self) -> str:
        """The message as it was received."""
        return _cut(self.text, MESSAGE_CHARACTERS_MAX)

    @property
    def fields(self) -> Mapping[str, str]:
        """The particulars as they were received."""
        return self.received_fields


# --- the tree as a whole ----------------------------------------------------------------------------------


def all_errors() -> tuple[type[LockstepError], ...]:
    """Return every leaf with a code of its own, in the order of this page."""
    return tuple(leaf for leaf in _descendants(LockstepError) if isinstance(getattr(leaf, "code", None), str))


def from_record(record: ErrorRecord, status: Status = "UNKNOWN") -> LockstepError:
    """Return the error that a record tells of.

    A code that this version does not know becomes `Foreign` with the given `status`; so does a known
    code with other fields, with its own status. Message, retryability and the time to wait are the
    record's.
    """
    leaf = next((leaf for leaf in all_errors() if leaf.code == record.code), None)
    arguments = None if leaf is None else _parse_fields(leaf, record.fields)
    if leaf is None or arguments is None:
        known_status = status if leaf is None else leaf.status
        fields = dict(record.fields)
        foreign = Foreign(code=record.code, status=known_status, text=record.message, received_fields=fields)
        return foreign.received_as(record)
    return leaf(**arguments).received_as(record)


def _descendants(ancestor: type[LockstepError]) -> Iterator[type[LockstepError]]:
    for child in ancestor.__subclasses__():
        yield child
        yield from _descendants(child)


def _field_types(leaf: type[LockstepError]) -> dict[str, object]:
    """Return the particulars of a leaf: its attributes but for the time to wait, which travels on its own."""
    declared: dict[str, dataclasses.Field[object]] = getattr(leaf, "__dataclass_fields__", {})
    return {name: field.type for name, field in declared.items() if name != "retry_after_ms"}


def _parse_fields(leaf: type[LockstepError], texts: Mapping[str, str]) -> dict[str, str | int] | None:
    """Return a leaf's keyword arguments from their texts, or None if they are not this leaf's."""
    expected = _field_types(leaf)
    if texts.keys() != expected.keys():
        return None
    try:
        return {name: int(texts[name]) if kind is int else texts[name] for name, kind in expected.items()}
    except ValueError:
        return None


def _cut(text: str, characters_max: int) -> str:
    """Return the text in printable ASCII: its size on the wire is its length, it cannot forge log lines."""
    shown = text[: characters_max + 1]
    # Nearly every text is as it should be, and a flood of refusals should be cheap.
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(
            character if character.isascii() and character.isprintable() else ascii(character)[1:-1]
            for character in shown
        )
    return shown if len(shown) <= characters_max else shown[: characters_max - 3] + "..."
