"""Quotes: what a maker offers, under its own signature.

Owns the quote's bytes of protos/README.md, section 6, and their signature. Invariant: what decodes has one
reading and keeps every bound that does not depend on time; its signature is verified separately.

A quote moves nothing and is never ordered. It tells a taker who offers what, whoever carried it there. What
binds is the lock that its maker signs for terms which keep it.
"""

from dataclasses import dataclass
from typing import Final

from lockstep import limits
from lockstep.encoding import Reader, encode_strictly, u8, u64, u128, var8
from lockstep.errors import Malformed
from lockstep.hashing import SIGN_QUOTE
from lockstep.order import is_rollup_id
from lockstep.signing import SIGNATURE_BYTES, SigningKey, verify
from lockstep.terms import Leg, LegKind, Premium, PremiumShare, Terms
from lockstep.types import ChainId, PublicKey, RollupId, Signature

__pure__ = True

QUOTE_VERSION: Final = 1
QUOTE_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class RollupAsset:
    """An asset on a rollup."""

    rollup: RollupId
    """The rollup."""
    asset: bytes
    """The asset's name there, 1..32 bytes."""

    def __str__(self) -> str:
        return f"{self.asset.decode('ascii', 'backslashreplace')} on {self.rollup}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two assets, in one direction."""

    give: RollupAsset
    """What the taker gives."""
    get: RollupAsset
    """What the taker gets; another one."""

    def __str__(self) -> str:
        return f"{self.give} for {self.get}"


@dataclass(frozen=True, slots=True)
class Quote:
    """What a maker offers."""

    chain: ChainId
    """The chain."""
    maker: PublicKey
    """Who offers: the key that signs, and the account that gives and gets."""
    quote_id: bytes
    """16 bytes by which the maker tells its quotes apart."""
    pair: Pair
    """What is exchanged."""
    give_amount: int
    """Base units that the taker gives, at least 1."""
    get_amount: int
    """Base units that the taker gets, at least 1."""
    premium_amount: int
    """Base units of what the taker gives that it pays to the maker if it does not reveal; 0: none. With
    `give_amount` at most 2^128-1."""
    valid_until_ms: int
    """Log time until which the swap must be opened: the maker's lock is good for no longer."""
    expires_by_ms: int
    """The latest `expires_ms` of terms that keep this quote; at least 5,000 after `valid_until_ms`."""


@dataclass(frozen=True, slots=True)
class SignedQuote:
    """A quote as it travels."""

    signature: Signature
    """The maker's, over `body`. Not verified by decoding."""
    body: bytes
    """The bytes that are signed."""
    quote: Quote
    """What they say."""

    @property
    def encoded(self) -> bytes:
        """The bytes that `decode_quote` reads."""
        return self.signature + self.body


def sign_quote(key: SigningKey, quote: Quote) -> bytes:
    """Return a quote under its maker's signature. Raises `Malformed` for one that none decode to."""
    body = encode_strictly("quote", quote, encode=_bytes_of, decode=_decode_body)
    return key.sign(SIGN_QUOTE, body) + body


def is_signed(signed: SignedQuote) -> bool:
    """Answer whether a quote is signed by the maker that it names."""
    return verify(SIGN_QUOTE, signed.quote.maker, signed.body, signed.signature)


def decode_quote(encoded: bytes) -> SignedQuote:
    """Parse a signed quote, keeping every bound of section 6. Raises `Malformed`, naming the field."""
    reader = Reader(encoded, "quote")
    signature, body = Signature(reader.take(SIGNATURE_BYTES, "signature")), reader.rest()
    return SignedQuote(signature, body, _decode_body(body))


def legs_of(quote: Quote, taker: PublicKey) -> tuple[Leg, Leg]:
    """Return the legs of a swap that keeps a quote: what the taker gives, and what it gets."""
    give, get = quote.pair.give, quote.pair.get
    return (
        Leg(give.rollup, LegKind.TRANSFER, taker, quote.maker, give.asset, quote.give_amount),
        Leg(get.rollup, LegKind.TRANSFER, quote.maker, taker, get.asset, quote.get_amount),
    )


def premium_of(quote: Quote, leg: int) -> Premium | None:
    """Return the premium of a swap that keeps a quote; `leg` is the one that the taker gives."""
    if quote.premium_amount == 0:
        return None
    return Premium(leg, (PremiumShare(quote.maker, quote.premium_amount),))


def verify_kept(terms: Terms, quote: Quote) -> int:
    """Check that terms keep a quote, and return the place of the leg that its maker gives.

    Order of checks: chain, what the maker gives, what it gets, the premium, `expires_ms`. Raises Malformed,
    naming what is not as it was offered. The time by which the swap must be opened is not the terms' to keep:
    the maker's lock keeps it.
    """
    if terms.chain != quote.chain:
        raise _not_kept("chain", "is another one than the quote's")
    if len(terms.legs) != 2:
        raise _not_kept("legs", f"are {len(terms.legs)}, the quote has 2")
    given = next((place for place, leg in enumerate(terms.legs) if leg.sender == quote.maker), None)
    if given is None:
        raise _not_kept("legs", "are none that the maker gives")
    got = 1 - given
    give, get = legs_of(quote, quote.maker)
    for place, offered in ((given, get), (got, give)):
        leg = terms.legs[place]
        found = (leg.rollup, leg.kind, leg.asset, leg.amount)
        if found != (offered.rollup, offered.kind, offered.asset, offered.amount):
            raise _not_kept(f"legs[{place}]", "is another asset or amount than was offered")
    if terms.legs[got].recipient != quote.maker:
        raise _not_kept(f"legs[{got}].recipient", "is not the maker")
    if terms.premium != premium_of(quote, got):
        raise _not_kept("premium", "is not the one that was offered")
    if terms.expires_ms > quote.expires_by_ms:
        raise _not_kept("expires_ms", f"lies beyond the {quote.expires_by_ms} that was offered")
    return given


def _not_kept(field: str, reason: str) -> Malformed:
    return Malformed(what="terms", field=field, reason=reason)


def _bytes_of(quote: Quote) -> bytes:
    return b"".join(
        (
            u8(QUOTE_VERSION),
            quote.chain,
            quote.maker,
            quote.quote_id,
            _asset_bytes(quote.pair.give),
            u128(quote.give_amount),
            _asset_bytes(quote.pair.get),
            u128(quote.get_amount),
            u128(quote.premium_amount),
            u64(quote.valid_until_ms),
            u64(quote.expires_by_ms),
        )
    )


def _asset_bytes(named: RollupAsset) -> bytes:
    return var8(named.rollup.encode("latin-1")) + var8(named.asset)


def _decode_body(body: bytes) -> Quote:
    reader = Reader(body, "quote")
    reader.version(QUOTE_VERSION)
    chain, maker = ChainId(reader.take(32, "chain")), PublicKey(reader.take(32, "maker"))
    quote_id = reader.take(QUOTE_ID_BYTES, "quote_id")
    give, give_amount = _read_asset(reader, "give"), _read_amount(reader, "give_amount")
    get, get_amount = _read_asset(reader, "get"), _read_amount(reader, "get_amount")
    if get == give:
        raise reader.malformed("get", "is what is given")
    premium_amount = reader.u128("premium_amount")
    if give_amount + premium_amount > limits.AMOUNT_MAX:
        raise reader.malformed("premium_amount", "exceeds 2^128-1 together with give_amount")
    valid_until_ms, expires_by_ms = reader.u64("valid_until_ms"), reader.u64("expires_by_ms")
    if expires_by_ms >= 2**63:
        raise reader.malformed("expires_by_ms", "is beyond 2^63-1")
    if valid_until_ms + limits.REVEAL_WINDOW_MS_MIN > expires_by_ms:
        raise reader.malformed(
            "expires_by_ms", f"does not lie {limits.REVEAL_WINDOW_MS_MIN} ms or more after valid_until_ms"
        )
    reader.finish()
    return Quote(
        chain=chain,
        maker=maker,
        quote_id=quote_id,
        pair=Pair(give, get),
        give_amount=give_amount,
        get_amount=get_amount,
        premium_amount=premium_amount,
        valid_until_ms=valid_until_ms,
        expires_by_ms=expires_by_ms,
    )


def _read_asset(reader: Reader, field: str) -> RollupAsset:
    rollup = reader.var8(f"{field}.rollup", bytes_min=1, bytes_max=limits.NAMESPACE_BYTES_MAX)
    name = rollup.decode("latin-1")
    if not is_rollup_id(name):
        raise reader.malformed(f"{field}.rollup", "does not match [a-z0-9-]{1,32}")
    asset = reader.var8(f"{field}.asset", bytes_min=1, bytes_max=limits.ASSET_BYTES_MAX)
    return RollupAsset(RollupId(name), asset)


def _read_amount(reader: Reader, field: str) -> int:
    amount = reader.u128(field)
    if amount == 0:
        raise reader.malformed(field, "is zero; at least one base unit is needed")
    return amount
