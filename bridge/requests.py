"""What traders ask of the coordinator, read and checked.

Owns the rules of a well-formed request and the order in which they are checked. Pure: log time and registry
are arguments. Invariant: what was read here has one meaning and, where signed, a good signature. Whether it
can have an effect now is the register's to say.
"""

from dataclasses import dataclass, field
from typing import Final

from bridge.swap import GivenLock, RevealPolicy, is_preimage_of
from lockstep import limits
from lockstep.errors import (
    BadSignature,
    Expired,
    Malformed,
    TooFarAhead,
    UnknownNamespace,
    WrongChain,
    WrongRollup,
)
from lockstep.hashing import SIGN_CANCEL
from lockstep.registry_state import Registry
from lockstep.signing import verify
from lockstep.swap_entries import Cancel, decode_swap_entry
from lockstep.terms import LegKind, Terms, decode_terms, swap_id_of
from lockstep.transactions import (
    Lock,
    Method,
    RollupTransaction,
    decode_call,
    decode_transaction,
    is_signed,
)
from lockstep.types import ChainId, SwapId

__pure__ = True

KEY_BYTES_MAX: Final = 64
"""Bytes of an idempotency key."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A well-formed proposal."""

    idempotency_key: bytes
    """1..64 bytes chosen by the client."""
    swap_id: SwapId
    """The swap's id."""
    terms_bytes: bytes
    """Its terms as they travel."""
    terms: Terms
    """What they say."""
    policy: RevealPolicy
    """When the preimage is used."""
    preimage: bytes | None = field(repr=False)
    """What opens the hashlock; None exactly if the trader reveals."""


@dataclass(frozen=True, slots=True)
class SignedLock:
    """A well-formed lock under a good signature."""

    transaction: RollupTransaction
    """The transaction."""
    call: Lock
    """What it calls."""
    payload: bytes
    """Its bytes."""


def read_proposal(
    *, idempotency_key: bytes, terms_bytes: bytes, policy: int, preimage: bytes, chain: ChainId
) -> Proposal:
    """Read a proposal; `policy` 0 stands for BY_TRADER.

    Order of checks: key, terms, their chain, kinds of legs, policy, preimage. Raises Malformed or WrongChain.
    """
    if not 1 <= len(idempotency_key) <= KEY_BYTES_MAX:
        raise _malformed("idempotency_key", f"has {len(idempotency_key)} bytes, allowed are 1 to 64")
    terms = decode_terms(terms_bytes)
    _verify_chain(terms.chain, chain)
    for place, leg in enumerate(terms.legs):
        if leg.kind is not LegKind.TRANSFER:
            raise _malformed(f"terms.legs[{place}].kind", f"is {leg.kind.name}; only TRANSFER is opened")
    try:
        known = RevealPolicy(policy or RevealPolicy.BY_TRADER)
    except ValueError:
        raise _malformed("reveal_policy", f"{policy} is unknown") from None
    if known is RevealPolicy.BY_TRADER:
        if preimage:
            raise _malformed("preimage", "is given although the trader reveals; keep it, or choose a policy")
    elif not is_preimage_of(preimage, terms):
        raise _malformed("preimage", "is not 32 bytes that open the hashlock")
    return Proposal(idempotency_key, swap_id_of(terms_bytes), terms_bytes, terms, known, preimage or None)


def verify_openable(terms: Terms, registry: Registry, *, time_ms: int) -> None:
    """Check that terms could be opened in a block at `time_ms`.

    Order of checks: `lock_by_ms` not passed, nor too far ahead, `expires_ms` not too far ahead, every leg's
    rollup registered and not draining. Raises Expired, TooFarAhead or UnknownNamespace.
    """
    if time_ms >= terms.lock_by_ms:
        raise Expired(what="swap's lock_by_ms", valid_until_ms=terms.lock_by_ms, time_ms=time_ms)
    for deadline_ms, ahead_ms in (
        (terms.lock_by_ms, limits.LOCK_WINDOW_MS_MAX),
        (terms.expires_ms, limits.EXPIRY_MS_MAX),
    ):
        if deadline_ms > time_ms + ahead_ms:
            raise TooFarAhead(valid_until_ms=deadline_ms, latest_ms=time_ms + ahead_ms)
    for leg in terms.legs:
        if not registry.is_open_for(leg.rollup):
            raise UnknownNamespace(namespace=leg.rollup)


def read_lock(payload: bytes, *, chain: ChainId) -> SignedLock:
    """Read a lock's transaction and verify its signature. Raises Malformed, WrongChain or BadSignature."""
    transaction = decode_transaction(payload)
    _verify_chain(transaction.chain, chain)
    if transaction.method != Method.ESCROW_LOCK:
        raise _malformed("lock", "does not call escrow.lock")
    call = decode_call(Method.ESCROW_LOCK, transaction.arguments)
    assert isinstance(call, Lock), "the method gives the call"
    if not is_signed(transaction):
        raise BadSignature(what="lock", signer=transaction.signer.hex())
    return SignedLock(transaction, call, payload)


def verify_lock_fits(lock: SignedLock, terms: Terms, swap_id: SwapId, leg: int, *, time_ms: int) -> GivenLock:
    """Check that a lock is the one of this leg and can act at `time_ms`, and return it.

    Order of checks: the leg exists, the rollup, swap and leg in the call, the signer, the window. Raises
    Malformed, WrongRollup, Expired or TooFarAhead.
    """
    if leg >= len(terms.legs):
        raise _malformed("leg", f"is {leg}, the swap has {len(terms.legs)}")
    transaction, rollup = lock.transaction, terms.legs[leg].rollup
    if transaction.rollup != rollup:
        raise WrongRollup(expected=rollup, found=transaction.rollup)
    if lock.call != Lock(swap_id, leg):
        raise _malformed("lock", "locks another swap or another leg")
    if transaction.signer != terms.legs[leg].sender:
        raise _malformed("lock", "is not signed by the leg's sender, so that its rollup would not act on it")
    if time_ms >= transaction.valid_until_ms:
        raise Expired(what="lock", valid_until_ms=transaction.valid_until_ms, time_ms=time_ms)
    if transaction.valid_until_ms > time_ms + limits.VALIDITY_WINDOW_MS_MAX:
        raise TooFarAhead(
            valid_until_ms=transaction.valid_until_ms, latest_ms=time_ms + limits.VALIDITY_WINDOW_MS_MAX
        )
    return GivenLock(lock.payload, transaction.valid_until_ms)


def read_cancel(payload: bytes, *, chain: ChainId) -> Cancel:
    """Read a cancellation. Its signature needs the terms: `verify_cancel`. Raises Malformed or WrongChain."""
    entry = decode_swap_entry(payload)
    if not isinstance(entry, Cancel):
        raise _malformed("cancel", "is another entry than a cancellation")
    _verify_chain(entry.chain, chain)
    return entry


def verify_cancel(entry: Cancel, terms: Terms) -> None:
    """Check that a swap's revealer signed its cancellation. Raises BadSignature."""
    if not verify(SIGN_CANCEL, terms.revealer, entry.body, entry.signature):
        raise BadSignature(what="cancellation", signer=terms.revealer.hex())


def read_swap_id(value: bytes) -> SwapId:
    """Return a swap's id of 32 bytes. Raises Malformed."""
    if len(value) != 32:
        raise _malformed("swap_id", f"has {len(value)} bytes, not 32")
    return SwapId(value)


def read_preimage(value: bytes) -> bytes:
    """Return a preimage of 32 bytes. Raises Malformed."""
    if len(value) != limits.PREIMAGE_BYTES:
        raise _malformed("preimage", f"has {len(value)} bytes, not {limits.PREIMAGE_BYTES}")
    return value


def _verify_chain(found: ChainId, expected: ChainId) -> None:
    if found != expected:
        raise WrongChain(expected=expected.hex(), found=found.hex())


def _malformed(field_name: str, reason: str) -> Malformed:
    return Malformed(what="request", field=field_name, reason=reason)
