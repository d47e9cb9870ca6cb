"""A swap as its trader records it, and the bytes of its file.

Owns what a record holds, how it may change (it only grows: a lock's bytes never change, what was decided is
never taken back), and the file's layout. Does no I/O.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from hashlib import sha256
from typing import Annotated, Final

import msgspec

from bridge.client.views import FINAL_PHASES, RevealPolicy, SwapPhase
from lockstep.errors import Malformed
from lockstep.terms import Leg, Terms, decode_terms, swap_id_of
from lockstep.types import PublicKey, SwapId

FILE_VERSION: Final = 1

_NOTE: Final = (
    "A trader's own record of a swap. No private key and no preimage is in it: the preimage is derived from "
    "the key and the terms. Numbers of assets are base units, times are log time in milliseconds."
)


class Role(Enum):
    """Which side of the agreement a trader is on."""

    PROPOSER = "proposer"
    """Made the terms, can reveal the preimage, and may cancel."""
    COUNTERPARTY = "counterparty"
    """Agreed to terms of another's."""


@dataclass(frozen=True, slots=True)
class RecordedSwap:
    """A swap as its trader has it on disk."""

    account: PublicKey
    """The trader."""
    role: Role
    """His side."""
    terms_bytes: bytes
    """What he agreed to, as it travels."""
    terms: Terms
    """What it says."""
    reveal: RevealPolicy
    """Who reveals; BY_TRADER for a counterparty, who has no say in it."""
    idempotency_key: bytes
    """With which it is proposed, at every coordinator the same; 1..64 bytes."""
    locks: Mapping[int, bytes] = field(default_factory=dict)
    """The signed lock of each of the trader's legs, once it is signed. Signed again, it is the same."""
    is_revealing: bool = False
    """Whether he decided to reveal: from then on the preimage may be public."""
    is_cancelling: bool = False
    """Whether he decided to cancel: from then on nothing is locked or revealed."""
    outcome: SwapPhase | None = None
    """COMMITTED, ABORTED or LAPSED, once that was checked; None before."""

    @property
    def swap_id(self) -> SwapId:
        """The swap's id, which is the hash of its terms."""
        return swap_id_of(self.terms_bytes)

    @property
    def own_legs(self) -> tuple[int, ...]:
        """The legs that the trader gives."""
        return tuple(place for place, leg in enumerate(self.terms.legs) if leg.sender == self.account)

    @property
    def received_legs(self) -> tuple[int, ...]:
        """The legs that the trader gets."""
        return tuple(place for place, leg in enumerate(self.terms.legs) if leg.recipient == self.account)


def with_lock(leg: int, payload: bytes) -> Callable[[RecordedSwap], RecordedSwap]:
    """Return the change by which a leg's lock was signed. The first that was signed stays."""
    return lambda swap: replace(swap, locks={leg: payload, **swap.locks})


def revealing(swap: RecordedSwap) -> RecordedSwap:
    """Return the swap whose trader decided to reveal; one that he cancelled stays as it is."""
    return swap if swap.is_cancelling else replace(swap, is_revealing=True)


def cancelling(swap: RecordedSwap) -> RecordedSwap:
    """Return the swap whose trader decided to cancel; one that is over stays as it is."""
    return swap if swap.outcome is not None else replace(swap, is_cancelling=True)


def ended(outcome: SwapPhase) -> Callable[[RecordedSwap], RecordedSwap]:
    """Return the change by which a swap is over."""
    return lambda swap: replace(swap, outcome=outcome)


def verify_grown(before: RecordedSwap, after: RecordedSwap) -> None:
    """Insist that nothing was taken back: a defect if it was."""
    same = replace(
        after,
        locks=before.locks,
        is_revealing=before.is_revealing,
        is_cancelling=before.is_cancelling,
        outcome=before.outcome,
    )
    assert same == before, "what was agreed never changes"
    assert before.locks.items() <= after.locks.items(), "a lock that was signed stays as it is"
    assert before.is_revealing <= after.is_revealing, "who showed a preimage has shown it"
    assert before.is_cancelling <= after.is_cancelling, "who cancelled has cancelled"


# --- files ---------------------------------------------------------------------------------------------

_Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _LegFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A leg in words, for a person; the terms decide."""

    rollup: str
    sender: _Hex
    recipient: _Hex
    asset: str
    amount: str


class _SwapFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the wallet."""

    note: str
    version: int
    swap_id: _Hash
    account: _Hash
    role: Role
    reveal: str
    legs: tuple[_LegFile, ...]
    lock_by_ms: int
    expires_ms: int
    is_revealing: bool
    is_cancelling: bool
    outcome: str | None
    idempotency_key: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2}){1,64}$")]
    terms: _Hex
    locks: dict[str, _Hex]
    checksum: str = ""
    """SHA-256 of all this, without spaces and with this empty; empty in files of before there was one."""


REVEAL_NAMES: Final[Mapping[str, RevealPolicy]] = {
    policy.name.lower().replace("_", "-"): policy for policy in RevealPolicy
}
"""Who reveals, as people write it."""

_NAME_OF_REVEAL: Final = {policy: name for name, policy in REVEAL_NAMES.items()}
_OUTCOMES: Final[Mapping[str, SwapPhase]] = {phase.name: phase for phase in sorted(FINAL_PHASES)}


def encode_recorded(swap: RecordedSwap) -> bytes:
    """Return the contents of a swap's file."""
    file = _SwapFile(
        note=_NOTE,
        version=FILE_VERSION,
        swap_id=swap.swap_id.hex(),
        account=swap.account.hex(),
        role=swap.role,
        reveal=_NAME_OF_REVEAL[swap.reveal],
        legs=tuple(map(_leg_file, swap.terms.legs)),
        lock_by_ms=swap.terms.lock_by_ms,
        expires_ms=swap.terms.expires_ms,
        is_revealing=swap.is_revealing,
        is_cancelling=swap.is_cancelling,
        outcome=None if swap.outcome is None else swap.outcome.name,
        idempotency_key=swap.idempotency_key.hex(),
        terms=swap.terms_bytes.hex(),
        locks={str(leg): payload.hex() for leg, payload in sorted(swap.locks.items())},
    )
    sealed = msgspec.structs.replace(file, checksum=_checksum(file))
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def decode_recorded(encoded: bytes) -> RecordedSwap:
    """Read the contents of a swap's file. Raises Malformed, naming the field.

    What a person reads in it is what the terms say, or the file is refused.
    """
    try:
        file = msgspec.json.decode(encoded, type=_SwapFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _malformed("content", f"does not hold: {error}") from error
    if file.version != FILE_VERSION:
        raise _malformed("version", f"is {file.version}, this program reads {FILE_VERSION}; use its own")
    terms_bytes = bytes.fromhex(file.terms)
    terms = decode_terms(terms_bytes)
    said = (file.swap_id, file.legs, file.lock_by_ms, file.expires_ms)
    meant = (swap_id_of(terms_bytes).hex(), *_words_of(terms))
    for name, left, right in zip(("swap_id", "legs", "lock_by_ms", "expires_ms"), said, meant, strict=True):
        if left != right:
            raise _malformed(name, "is not what the terms say")
    reveal, outcome = REVEAL_NAMES.get(file.reveal), _OUTCOMES.get(file.outcome or "")
    if reveal is None:
        raise _malformed("reveal", f"is none of {', '.join(REVEAL_NAMES)}")
    if outcome is None and file.outcome is not None:
        raise _malformed("outcome", f"is neither null nor one of {', '.join(_OUTCOMES)}")
    swap = RecordedSwap(
        account=PublicKey(bytes.fromhex(file.account)),
        role=file.role,
        terms_bytes=terms_bytes,
        terms=terms,
        reveal=reveal,
        idempotency_key=bytes.fromhex(file.idempotency_key),
        locks={_leg_number(leg): bytes.fromhex(payload) for leg, payload in file.locks.items()},
        is_revealing=file.is_revealing,
        is_cancelling=file.is_cancelling,
        outcome=outcome,
    )
    if not set(swap.locks) <= set(swap.own_legs):
        raise _malformed("locks", "name a leg that the account does not give")
    if file.checksum and file.checksum != _checksum(file):
        raise _malformed("checksum", "is not that of the content")
    return swap


def _checksum(file: _SwapFile) -> str:
    return sha256(msgspec.json.encode(msgspec.structs.replace(file, checksum=""))).hexdigest()


def _leg_file(leg: Leg) -> _LegFile:
    return _LegFile(
        leg.rollup, leg.sender.hex(), leg.recipient.hex(), leg.asset.decode("latin-1"), str(leg.amount)
    )


def _words_of(terms: Terms) -> tuple[tuple[_LegFile, ...], int, int]:
    return tuple(map(_leg_file, terms.legs)), terms.lock_by_ms, terms.expires_ms


def _leg_number(text: str) -> int:
    if text not in map(str, range(256)):
        raise _malformed("locks", f"{text!r} is no leg")
    return int(text)


def _malformed(field_name: str, reason: str) -> Malformed:
    return Malformed(what="wallet's file", field=field_name, reason=reason)
