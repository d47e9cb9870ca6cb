"""Between the schema's messages and records: the only place of this service that does either way.

Owns the reading of fields (lengths, enumerations) and their writing. Verifies no signature and no proof.
Raises `Malformed`, naming the message and the field.
"""

from collections.abc import Iterable, Sequence

from lockstep.errors import ErrorRecord, LockstepError, Malformed, from_record
from lockstep.order import Bundle, Placement, Singles, Transaction
from lockstep.settlement_entries import ProofKind, ProvenHeader
from lockstep.signing import SIGNATURE_BYTES
from lockstep.types import BundleId, Height, Namespace
from lockstep.v1 import common_pb2, sequencer_pb2


def bundle_message(bundle: Bundle) -> common_pb2.Bundle:
    """Return a bundle as it travels."""
    return common_pb2.Bundle(
        transactions=[
            common_pb2.Transaction(namespace=namespace, payload=payload)
            for namespace, payload in bundle.transactions
        ],
        valid_until_ms=bundle.valid_until_ms,
    )


def read_bundle(message: common_pb2.Bundle) -> Bundle:
    """Return the bundle of a message; its shape is not checked."""
    transactions = message.transactions
    if len(transactions) == 1:
        # Most have one, for which this is a third faster.
        return Bundle((_read_transaction(transactions[0]),), message.valid_until_ms)
    return Bundle(tuple(map(_read_transaction, transactions)), message.valid_until_ms)


def _read_transaction(message: common_pb2.Transaction) -> Transaction:
    return Transaction(Namespace(message.namespace), message.payload)


def read_submissions(
    message: sequencer_pb2.SubmitStreamRequest,
) -> tuple[Sequence[int], Singles | Sequence[Bundle]]:
    """Return the correlation ids and the bundles of a message; no shape is checked."""
    submissions = list(message.submissions)
    numbers, bundles = [each.correlation_id for each in submissions], [each.bundle for each in submissions]
    transactions = [each.transactions for each in bundles]
    if set(map(len, transactions)) != {1}:
        return numbers, list(map(read_bundle, bundles))
    alone = [each[0] for each in transactions]
    return numbers, Singles(
        [Namespace(each.namespace) for each in alone],
        [each.payload for each in alone],
        [each.valid_until_ms for each in bundles],
    )


def header_message(header: ProvenHeader) -> common_pb2.SignedHeader:
    """Return a header with its proof as it travels."""
    return common_pb2.SignedHeader(
        header=header.encoded,
        proof_kind=common_pb2.HEADER_PROOF_KIND_SEQUENCER_SIGNATURE,
        proof=header.proof,
    )


def read_header(message: common_pb2.SignedHeader) -> ProvenHeader:
    """Return the header of a message; neither its bytes nor its proof are verified."""
    if message.proof_kind != common_pb2.HEADER_PROOF_KIND_SEQUENCER_SIGNATURE:
        raise Malformed(what="signed header", field="proof_kind", reason=f"is {message.proof_kind}, unknown")
    if len(message.proof) != SIGNATURE_BYTES:
        raise Malformed(what="signed header", field="proof", reason=f"has {len(message.proof)} bytes, not 64")
    return ProvenHeader(message.header, message.proof, ProofKind.SEQUENCER_SIGNATURE)


def placement_message(placement: Placement) -> common_pb2.Placement:
    """Return a placement as it travels."""
    message = common_pb2.Placement()
    write_placement(placement, message)
    return message


def write_placement(placement: Placement, message: common_pb2.Placement) -> None:
    """Write a placement into a message."""
    message.bundle_id = placement.bundle_id
    message.height = placement.height
    message.first_index = placement.first_index
    message.count = placement.count


def read_placement(message: common_pb2.Placement) -> Placement:
    """Return the placement of a message."""
    return Placement(
        read_bundle_id(message.bundle_id, "placement"),
        read_height(message.height, "placement"),
        message.first_index,
        message.count,
    )


def read_bundle_id(value: bytes, what: str) -> BundleId:
    """Return a bundle id of 32 bytes."""
    if len(value) != 32:
        raise Malformed(what=what, field="bundle_id", reason=f"has {len(value)} bytes, not 32")
    return BundleId(value)


def read_height(value: int, what: str, field: str = "height") -> Height:
    """Return the height of a block, 1 or more."""
    if not 1 <= value < 2**63:
        raise Malformed(what=what, field=field, reason="is outside of 1..2^63-1")
    return Height(value)


def error_message(error: LockstepError) -> common_pb2.Error:
    """Return an error as it travels in-band."""
    record = error.to_record()
    return common_pb2.Error(
        code=record.code,
        message=record.message,
        retryable=record.retryable,
        retry_after_ms=record.retry_after_ms,
        fields=dict(record.fields),
    )


def read_error(message: common_pb2.Error) -> LockstepError:
    """Return the error of a message."""
    retry_after_ms = message.retry_after_ms if message.HasField("retry_after_ms") else None
    return from_record(
        ErrorRecord(message.code, message.message, message.retryable, retry_after_ms, dict(message.fields))
    )


def share_entries(messages: Iterable[sequencer_pb2.NamespaceEntries]) -> dict[Namespace, tuple[bytes, ...]]:
    """Return the entries of a share by namespace. Raises Malformed if one stands there twice."""
    entries: dict[Namespace, tuple[bytes, ...]] = {}
    for message in messages:
        namespace = Namespace(message.namespace)
        if namespace in entries:
            raise Malformed(what="block share", field="entries", reason=f"hold {namespace!r} twice")
        entries[namespace] = tuple(message.entries)
    return entries
