"""How an expected error travels over gRPC: `google.rpc.Status` in the trailers, readable in any language.

Owns both directions. The status carries an `ErrorInfo` (reason is the stable code, domain is `lockstep`,
metadata are the fields) and, if the same request may succeed later, a `RetryInfo` (its delay set where the
service knows one).
"""

from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from lockstep.errors import (
    STATUSES,
    ErrorRecord,
    LockstepError,
    Status,
    TimedOut,
    UnavailablePeer,
    from_record,
)

DOMAIN: Final = "lockstep"
"""The `domain` of our `ErrorInfo`; reasons of others may mean something else."""

DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailer that gRPC's libraries look for."""


def encode_error(error: LockstepError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Return what `context.abort` takes: status, message, trailing metadata."""
    code, record = grpc.StatusCode[error.status], error.to_record()
    status = status_pb2.Status(code=code.value[0], message=record.message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=record.code, domain=DOMAIN, metadata=record.fields)
    )
    if record.retryable:
        retry = error_details_pb2.RetryInfo()
        if record.retry_after_ms is not None:
            retry.retry_delay.FromMilliseconds(record.retry_after_ms)
        status.details.add().Pack(retry)
    return code, record.message, ((DETAILS_KEY, status.SerializeToString()),)


def error_from_rpc(failure: grpc.aio.AioRpcError, *, peer: str) -> LockstepError:
    """Return the error that a failed call tells of; `peer` names the service that was called.

    A status without our details becomes `UnavailablePeer`, `TimedOut`, or `Foreign` with the status's name as
    its code.
    """
    status = _status_name(failure.code())
    record = _read_details(failure)
    if record is not None:
        return from_record(record, status)
    # Who cancels a call himself gets no status: CANCELLED is what a server says that is cut off as it stops.
    if failure.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return UnavailablePeer(peer=peer)
    if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(peer=peer)
    text = f"{peer} answered {status}: {failure.details() or 'no reason given'}"
    if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
        # Ours say so with a code of their own: this is another service, or none of ours.
        text = f"something else than {peer} answers there; check the address"
    return from_record(ErrorRecord(status, text, retryable=False, retry_after_ms=None, fields={}), status)


def _status_name(code: grpc.StatusCode) -> Status:
    return code.name if code.name in STATUSES else "UNKNOWN"


def _read_details(failure: grpc.aio.AioRpcError) -> ErrorRecord | None:
    """Return our details out of the trailers, or None if there are none that can be read."""
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return _read_status(status_pb2.Status.FromString(value))
            except (DecodeError, ValueError):
                # Not a Status, or details of another kind than they say: as good as none.
                return None
    return None


def _read_status(status: status_pb2.Status) -> ErrorRecord | None:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found = retryable = False
    for detail in status.details:
        found = found or (detail.Is(info.DESCRIPTOR) and detail.Unpack(info))
        retryable = retryable or (detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry))
    if not found or info.domain != DOMAIN:
        return None
    retry_after_ms = retry.retry_delay.ToMilliseconds() if retry.HasField("retry_delay") else None
    return ErrorRecord(info.reason, status.message, retryable, retry_after_ms, dict(info.metadata))
