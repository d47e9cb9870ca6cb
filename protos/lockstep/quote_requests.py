"""What takers ask of makers, and which quotes answer it.

Owns the rules by which a quote is passed on to a taker, and by which the taker checks it again: both sides
use the same. Pure: log time is an argument. Invariant: a quote that was verified is its maker's and is what
was asked for. Nothing here binds anybody; `lockstep.quotes` says what a quote is.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lockstep import limits
from lockstep.errors import BadSignature, Expired, Malformed, TooFarAhead, WrongChain
from lockstep.order import is_rollup_id
from lockstep.quotes import Pair, Quote, RollupAsset, SignedQuote, decode_quote, is_signed
from lockstep.types import ChainId, PublicKey, RollupId

__pure__ = True

_AMOUNT: Final = re.compile(r"[1-9][0-9]{0,38}")


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a taker wants to swap. Exactly one amount is there, the other is for makers to say."""

    pair: Pair
    """What for what."""
    give_amount: int | None
    """Base units to give, at least 1; None: as few as possible."""
    get_amount: int | None
    """Base units to get, at least 1; None: as many as possible."""


def read_quote_request(
    *, give: tuple[str, str], give_amount: str, get: tuple[str, str], get_amount: str
) -> QuoteRequest:
    """Read a request: rollup and asset, and an amount in decimal, of each side. Raises Malformed.

    Order of checks: the pair (`read_pair`), that one amount is there, that amount.
    """
    pair = read_pair(give, get)
    if bool(give_amount) == bool(get_amount):
        raise _malformed("give_amount", "and get_amount are both there or both missing; say one of them")
    return QuoteRequest(
        pair,
        _read_amount(give_amount, "give_amount") if give_amount else None,
        _read_amount(get_amount, "get_amount") if get_amount else None,
    )


def read_pair(give: tuple[str, str], get: tuple[str, str]) -> Pair:
    """Read what is given and what is got, as rollup and asset: rollup, asset, that they differ.

    Raises Malformed.
    """
    pair = Pair(_read_asset(give, "give"), _read_asset(get, "get"))
    if pair.give == pair.get:
        raise _malformed("get", "is what is given; name another asset, or another rollup")
    return pair


def verify_answer(
    encoded: bytes, request: QuoteRequest, *, chain: ChainId, maker: PublicKey | None = None
) -> SignedQuote:
    """Read a signed quote and check that it answers a request; `maker`: that it is this one's.

    Order of checks: layout, chain, maker, pair, the amount that was asked, signature. Raises Malformed,
    WrongChain or BadSignature.
    """
    signed = decode_quote(encoded)
    quote = signed.quote
    if quote.chain != chain:
        raise WrongChain(expected=chain.hex(), found=quote.chain.hex())
    if maker is not None and quote.maker != maker:
        raise Malformed(what="quote", field="maker", reason="is not the one of the hello")
    if quote.pair != request.pair:
        raise Malformed(what="quote", field="pair", reason=f"is {quote.pair}, asked was {request.pair}")
    for field, asked, offered in (
        ("give_amount", request.give_amount, quote.give_amount),
        ("get_amount", request.get_amount, quote.get_amount),
    ):
        if asked is not None and offered != asked:
            raise Malformed(what="quote", field=field, reason=f"is {offered}, asked was {asked}")
    if not is_signed(signed):
        raise BadSignature(what="quote", signer=quote.maker.hex())
    return signed


def verify_fresh(quote: Quote, *, time_ms: int) -> None:
    """Check that a swap can be opened by a quote at log time `time_ms`. Raises Expired or TooFarAhead.

    It is too far ahead if the lock that would be good until then could not be ordered yet.
    """
    if time_ms >= quote.valid_until_ms:
        raise Expired(what="quote", valid_until_ms=quote.valid_until_ms, time_ms=time_ms)
    latest_ms = time_ms + limits.VALIDITY_WINDOW_MS_MAX
    if quote.valid_until_ms > latest_ms:
        raise TooFarAhead(valid_until_ms=quote.valid_until_ms, latest_ms=latest_ms)


def best_first(quotes: Iterable[SignedQuote]) -> tuple[SignedQuote, ...]:
    """Return quotes for one request, the best for the taker first; of equal ones the earlier.

    The most to get, the least to give, the smallest premium, in this order: of the first two, the request
    fixed one.
    """
    return tuple(
        sorted(
            quotes,
            key=lambda each: (-each.quote.get_amount, each.quote.give_amount, each.quote.premium_amount),
        )
    )


def _read_asset(named: tuple[str, str], field: str) -> RollupAsset:
    rollup, asset = named[0], named[1].encode()
    if not is_rollup_id(rollup):
        raise _malformed(f"{field}.rollup", "does not match [a-z0-9-]{1,32}")
    if not 1 <= len(asset) <= limits.ASSET_BYTES_MAX:
        raise _malformed(
            f"{field}.asset", f"has {len(asset)} bytes, allowed are 1 to {limits.ASSET_BYTES_MAX}"
        )
    return RollupAsset(RollupId(rollup), asset)


def _read_amount(text: str, field: str) -> int:
    if _AMOUNT.fullmatch(text) is None or int(text) > limits.AMOUNT_MAX:
        raise _malformed(field, "is no number of base units in decimal from 1 to 2^128-1")
    return int(text)


def _malformed(field: str, reason: str) -> Malformed:
    return Malformed(what="request for quotes", field=field, reason=reason)
