"""Entries of `_swap`: opening a swap, attesting its legs, revealing its preimage, cancelling it.

Owns the bytes of protos/README.md, section 7, and their signatures. What an entry does is
`lockstep.register`'s to say. Invariant: what decodes has one reading; signatures are verified separately.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final, TypeAlias

from lockstep import limits
from lockstep.encoding import Layout, Reader, encode_strictly, numbers_of, u8, u16, u64, var8
from lockstep.hashing import SIGN_ATTESTATION, SIGN_CANCEL
from lockstep.order import is_rollup_id
from lockstep.signing import SIGNATURE_BYTES, SigningKey
from lockstep.terms import Terms, decode_terms, swap_id_of
from lockstep.types import ChainId, HeaderHash, Height, PublicKey, RollupId, Signature, SwapId

__pure__ = True

SWAP_ENTRY_VERSION: Final = 1


class SwapEntryKind(IntEnum):
    """What an entry does."""

    OPEN = 1
    """Records a swap's terms."""
    ATTEST = 2
    """Says what became of the locks of some legs."""
    REVEAL = 3
    """Shows a swap's preimage."""
    CANCEL = 4
    """Withdraws a swap."""


class Verdict(IntEnum):
    """What became of a leg's lock."""

    LOCKED = 1
    """Amount and premium are in escrow."""
    REJECTED = 2
    """Nothing is in escrow, and nothing will be."""


class RejectReason(IntEnum):
    """Why a lock was rejected."""

    NONE = 0
    """It was not."""
    INSUFFICIENT_FUNDS = 1
    """The sender's balance is below amount and premium together."""
    UNKNOWN_ASSET = 2
    """The rollup has no such asset."""
    TOO_MANY_OPEN_LOCKS = 3
    """The sender has as many open locks as the rollup allows."""
    BELOW_MINIMUM = 4
    """The amount is below the rollup's minimum."""
    UNREADABLE_RECIPIENT = 5
    """The recipient, or one of the premium's, is no account of the rollup."""
    OTHER = 255
    """For a reason of the rollup's own."""


@dataclass(frozen=True, slots=True)
class Open:
    """Records a swap's terms."""

    swap_id: SwapId
    """The hash of the terms' bytes."""
    terms_bytes: bytes
    """The terms as they travel."""
    terms: Terms
    """What they say."""


@dataclass(frozen=True, slots=True)
class AttestItem:
    """The verdict on one leg."""

    swap_id: SwapId
    """The swap."""
    leg: int
    """The leg, u8."""
    verdict: Verdict
    """What became of its lock."""
    reason: RejectReason
    """Why; NONE exactly if the verdict is LOCKED."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an attester signs: verdicts of its rollup, found by executing this chain."""

    chain: ChainId
    """The chain."""
    rollup: RollupId
    """The rollup whose legs these are."""
    attester: PublicKey
    """Who says it."""
    executed_height: Height
    """The block up to which the attester has executed, from 1."""
    header_hash: HeaderHash
    """That block's hash: on another chain, the attestation says nothing."""
    items: tuple[AttestItem, ...]
    """1..1,024 verdicts, strictly ascending by `(swap_id, leg)`."""


@dataclass(frozen=True, slots=True)
class Attest:
    """An attestation under its signature."""

    signature: Signature
    """The attester's, over `body`. Not verified by decoding."""
    body: bytes
    """The bytes that are signed."""
    attestation: Attestation
    """What they say."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """Shows a swap's preimage."""

    swap_id: SwapId
    """The swap."""
    preimage: bytes
    """32 bytes. Not compared with the hashlock by decoding."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Withdraws a swap."""

    signature: Signature
    """The revealer's, over `body`. Not verified by decoding."""
    body: bytes
    """The bytes that are signed."""
    chain: ChainId
    """The chain."""
    swap_id: SwapId
    """The swap."""


SwapEntry: TypeAlias = Open | Attest | Reveal | Cancel

_ITEM: Final = Layout(swap_id="32s", leg="B", verdict="B", reason="B")


def encode_open(terms_bytes: bytes) -> bytes:
    """Return the entry that opens the swap with these terms (`lockstep.terms.encode_terms`)."""
    return _head(SwapEntryKind.OPEN) + terms_bytes


def encode_reveal(swap_id: SwapId, preimage: bytes) -> bytes:
    """Return the entry that reveals a preimage of 32 bytes; ValueError for any other length."""
    if len(preimage) != limits.PREIMAGE_BYTES:
        raise ValueError(f"a preimage has {limits.PREIMAGE_BYTES} bytes, not {len(preimage)}")
    return _head(SwapEntryKind.REVEAL) + swap_id + preimage


def sign_attestation(key: SigningKey, attestation: Attestation) -> bytes:
    """Return the entry that attests verdicts. Only ever signed for a state that is durable."""
    body = encode_attestation(attestation)
    return _head(SwapEntryKind.ATTEST) + key.sign(SIGN_ATTESTATION, body) + body


def sign_cancel(key: SigningKey, chain: ChainId, swap_id: SwapId) -> bytes:
    """Return the entry that cancels a swap as its revealer."""
    body = chain + swap_id
    return _head(SwapEntryKind.CANCEL) + key.sign(SIGN_CANCEL, body) + body


def encode_attestation(attestation: Attestation) -> bytes:
    """Return the bytes of an attestation that are signed. Raises `Malformed` for one that none decode to."""
    return encode_strictly("attestation", attestation, encode=_bytes_of, decode=_decode_attestation)


def _bytes_of(attestation: Attestation) -> bytes:
    return (
        attestation.chain
        + var8(attestation.rollup.encode("latin-1"))
        + attestation.attester
        + u64(attestation.executed_height)
        + attestation.header_hash
        + u16(len(attestation.items))
        + b"".join(
            item.swap_id + u8(item.leg) + u8(item.verdict) + u8(item.reason) for item in attestation.items
        )
    )


def encode_swap_entry(entry: SwapEntry) -> bytes:
    """Return an entry's bytes: the inverse of `decode_swap_entry`."""
    match entry:
        case Open():
            return encode_open(entry.terms_bytes)
        case Attest():
            return _head(SwapEntryKind.ATTEST) + entry.signature + entry.body
        case Reveal():
            return encode_reveal(entry.swap_id, entry.preimage)
        case Cancel():
            return _head(SwapEntryKind.CANCEL) + entry.signature + entry.body


def decode_swap_entry(payload: bytes) -> SwapEntry:
    """Parse the payload of a transaction in `_swap`. Raises `Malformed`."""
    reader = Reader(payload, "swap entry")
    reader.version(SWAP_ENTRY_VERSION)
    kind = reader.u8("kind")
    match kind:
        case SwapEntryKind.OPEN:
            terms_bytes = reader.rest()
            return Open(swap_id_of(terms_bytes), terms_bytes, decode_terms(terms_bytes))
        case SwapEntryKind.ATTEST:
            signature, body = Signature(reader.take(SIGNATURE_BYTES, "signature")), reader.rest()
            return Attest(signature, body, _decode_attestation(body))
        case SwapEntryKind.REVEAL:
            reveal = Reveal(
                SwapId(reader.take(32, "swap_id")), reader.take(limits.PREIMAGE_BYTES, "preimage")
            )
            reader.finish()
            return reveal
        case SwapEntryKind.CANCEL:
            signature, body = Signature(reader.take(SIGNATURE_BYTES, "signature")), reader.rest()
            return _decode_cancel(signature, body)
        case _:
            raise reader.malformed("kind", f"{kind} is unknown")


def _head(kind: SwapEntryKind) -> bytes:
    return u8(SWAP_ENTRY_VERSION) + u8(kind)


def _decode_cancel(signature: Signature, body: bytes) -> Cancel:
    reader = Reader(body, "cancellation")
    cancel = Cancel(signature, body, ChainId(reader.take(32, "chain")), SwapId(reader.take(32, "swap_id")))
    reader.finish()
    return cancel


def _decode_attestation(body: bytes) -> Attestation:
    reader = Reader(body, "attestation")
    chain = ChainId(reader.take(32, "chain"))
    rollup = reader.var8("rollup", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX).decode("latin-1")
    if not is_rollup_id(rollup):
        raise reader.malformed("rollup", "does not match [a-z0-9-]{1,32}")
    attester, executed_height = PublicKey(reader.take(32, "attester")), reader.u64("executed_height")
    if not 1 <= executed_height < 2**63:
        raise reader.malformed("executed_height", "is outside of 1..2^63-1")
    header_hash, count = HeaderHash(reader.take(32, "header_hash")), reader.u16("count")
    if not 1 <= count <= limits.ATTESTATION_ITEMS_MAX:
        raise reader.malformed("count", f"is {count}, allowed are 1 to {limits.ATTESTATION_ITEMS_MAX}")
    items = tuple(_read_item(reader, place) for place in range(count))
    reader.finish()
    _verify_ascending(reader, items)
    return Attestation(chain, RollupId(rollup), attester, Height(executed_height), header_hash, items)


def _read_item(reader: Reader, place: int) -> AttestItem:
    swap_id, leg, verdict, reason = reader.fields(_ITEM)
    if verdict not in numbers_of(Verdict):
        raise reader.malformed(f"items[{place}].verdict", f"{verdict} is unknown")
    if reason not in numbers_of(RejectReason) or (verdict == Verdict.LOCKED) != (reason == RejectReason.NONE):
        raise reader.malformed(f"items[{place}].reason", f"{reason} does not go with the verdict")
    return AttestItem(SwapId(swap_id), leg, Verdict(verdict), RejectReason(reason))


def _verify_ascending(reader: Reader, items: Sequence[AttestItem]) -> None:
    places = [(item.swap_id, item.leg) for item in items]
    if any(left >= right for left, right in pairwise(places)):
        raise reader.malformed("items", "are not strictly ascending by swap_id and leg")
