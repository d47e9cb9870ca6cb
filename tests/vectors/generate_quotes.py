"""Makes `quotes.json`.

Run as `python -m tests.vectors.generate_quotes` with `protos` and the repository on the path. Everything
follows from fixed inputs, so running it again gives the same file; a test insists on that. The bytes are put
together here from protos/README.md by hand, and tests hold our encoder against them. A case with `"valid":
false` must be refused, for the reason given under `why`.
"""

import json
from pathlib import Path
from typing import Any, Final

from lockstep import quotes
from lockstep.hashing import SIGN_QUOTE
from tests.vectors.generate_registry import key_of
from tests.vectors.generate_swaps import ALICE, CHAIN, LONGEST, u, var8
from tests.vectors.plain import Case, plain, refused

FOLDER: Final = Path(__file__).parent

MOST: Final = 2**128 - 1
VALID_UNTIL_MS: Final = 1_700_000_010_000
EXPIRES_BY_MS: Final = 1_700_000_070_000


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {"quotes.json": json.dumps(quote_vectors(), indent=1) + "\n"}


def raw_body(
    *,
    version: int = 1,
    maker: bytes = ALICE,
    give: tuple[bytes, bytes] = (b"alpha", b"gold"),
    give_amount: int = 1_000,
    get: tuple[bytes, bytes] = (b"beta", b"silver"),
    get_amount: int = 7,
    premium_amount: int = 0,
    valid_until_ms: int = VALID_UNTIL_MS,
    expires_by_ms: int = EXPIRES_BY_MS,
) -> bytes:
    """Return a quote's body by section 6, whatever it says."""
    return (
        u(8, version)
        + CHAIN
        + maker
        + bytes(range(16))
        + var8(give[0])
        + var8(give[1])
        + u(128, give_amount)
        + var8(get[0])
        + var8(get[1])
        + u(128, get_amount)
        + u(128, premium_amount)
        + u(64, valid_until_ms)
        + u(64, expires_by_ms)
    )


def raw_quote(*, signed_by: str = "alice", **stated: Any) -> bytes:  # noqa: ANN401 - fields of raw_body
    """Return the signed quote `raw_body(**stated)`."""
    body = raw_body(**stated)
    return key_of(signed_by).sign(SIGN_QUOTE, body) + body


def valid_quotes() -> dict[str, tuple[bool, bytes]]:
    """Return whether they are signed and quotes that must be taken, by what is special about them."""
    good = raw_quote()
    return {
        "signed": (True, good),
        "a premium": (True, raw_quote(premium_amount=5)),
        "the least amounts": (True, raw_quote(give_amount=1, get_amount=1)),
        "the greatest amounts": (True, raw_quote(give_amount=MOST, get_amount=MOST)),
        "amount and premium are just u128": (True, raw_quote(give_amount=1, premium_amount=MOST - 1)),
        "the longest names": (True, raw_quote(give=(LONGEST, b"\xff" * 32), get=(LONGEST, b"g" * 32))),
        "one asset's name on two rollups": (True, raw_quote(get=(b"beta", b"gold"))),
        "two assets on one rollup": (True, raw_quote(get=(b"alpha", b"silver"))),
        "the earliest times": (True, raw_quote(valid_until_ms=0, expires_by_ms=5_000)),
        "the latest times": (True, raw_quote(valid_until_ms=2**63 - 5_001, expires_by_ms=2**63 - 1)),
        "signed by another": (False, raw_quote(signed_by="bob")),
        "another's name": (False, good[:64] + raw_quote(maker=key_of("bob").public_key)[64:]),
        "another signature": (False, bytes(64) + good[64:]),
    }


def invalid_quotes() -> dict[str, bytes]:
    """Return quotes that must be refused, by why."""
    good = raw_quote()
    return {
        "version 0": raw_quote(version=0),
        "version 2": raw_quote(version=2),
        "nothing is given": raw_quote(give_amount=0),
        "nothing is got": raw_quote(get_amount=0),
        "what is got is what is given": raw_quote(get=(b"alpha", b"gold")),
        "no rollup": raw_quote(give=(b"", b"gold")),
        "a rollup of 33 bytes": raw_quote(give=(LONGEST + b"v", b"gold")),
        "a system namespace as a rollup": raw_quote(get=(b"_swap", b"gold")),
        "no asset": raw_quote(give=(b"alpha", b"")),
        "an asset of 33 bytes": raw_quote(get=(b"beta", b"a" * 33)),
        "amount and premium exceed u128": raw_quote(give_amount=1, premium_amount=MOST),
        "too little time to reveal": raw_quote(expires_by_ms=VALID_UNTIL_MS + 4_999),
        "it expires beyond 2^63-1": raw_quote(expires_by_ms=2**63),
        "the last byte is missing": good[:-1],
        "a byte is left over": good + b"\x00",
        "it ends within the signature": good[:63],
        "a signature and no body": good[:64],
        "empty": b"",
    }


def quote_vectors() -> Case:
    """Return the vectors of `lockstep.quotes`."""
    return {
        "about": (
            "signed quotes, section 6: `signed` says whether the signature is the maker's; amounts and times "
            "are decimal"
        ),
        "quotes": [
            {
                "valid": True,
                "why": why,
                "signed": signed,
                "encoded": encoded.hex(),
                "fields": plain(quotes.decode_quote(encoded).quote),
            }
            for why, (signed, encoded) in valid_quotes().items()
        ]
        + [refused(why, encoded) for why, encoded in invalid_quotes().items()],
    }


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text)
