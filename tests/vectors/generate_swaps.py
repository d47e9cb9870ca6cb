"""Makes `terms.json`, `swap_entries.json` and `transactions.json`.

Run as `python -m tests.vectors.generate_swaps` with `protos` and the repository on the path. Everything
follows from fixed inputs, so running it again gives the same files; a test insists on that. The bytes of
terms, attestations and transactions are put together here from protos/README.md by hand, and tests hold our
encoders against them. A case with `"valid": false` must be refused, for the reason given under `why`.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from lockstep import swap_entries, terms, transactions
from lockstep.hashing import SIGN_ATTESTATION, SIGN_CANCEL, SIGN_TRANSACTION
from lockstep.types import ChainId, SwapId
from tests.vectors.generate_registry import digest_of, key_of
from tests.vectors.plain import Case, cut_and_extended, plain, refused

FOLDER: Final = Path(__file__).parent

CHAIN: Final = ChainId(digest_of("chain"))
PREIMAGE: Final = digest_of("preimage")
HASHLOCK: Final = sha256(PREIMAGE).digest()
SALT: Final = bytes(range(16))
LOCK_BY_MS: Final = 1_700_000_030_000
EXPIRES_MS: Final = 1_700_000_090_000
LONGEST: Final = b"0123456789-abcdefghijklmnopqrstu"
ALICE, BOB, CAROL = (key_of(name).public_key for name in ("alice", "bob", "carol"))

Share = tuple[bytes, int]
Item = tuple[bytes, int, int, int]


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {
        name: json.dumps(vectors, indent=1) + "\n"
        for name, vectors in (
            ("terms.json", terms_vectors()),
            ("swap_entries.json", swap_entry_vectors()),
            ("transactions.json", transaction_vectors()),
        )
    }


def u(bits: int, value: int) -> bytes:
    """Return a number in so many bits, big-endian."""
    return value.to_bytes(bits // 8, "big")


def var8(value: bytes) -> bytes:
    """Return bytes behind their length in one byte."""
    return u(8, len(value)) + value


# --- terms --------------------------------------------------------------------------------------------------


def raw_leg(
    *,
    rollup: bytes = b"alpha",
    kind: int = 1,
    sender: bytes = ALICE,
    recipient: bytes = BOB,
    asset: bytes = b"gold",
    amount: int = 1_000,
) -> bytes:
    """Return a leg's bytes by section 6, whatever they say."""
    return var8(rollup) + u(8, kind) + var8(sender) + var8(recipient) + var8(asset) + u(128, amount)


LEGS: Final = (raw_leg(), raw_leg(rollup=b"beta", sender=BOB, recipient=ALICE, asset=b"silver", amount=7))


def raw_premium(leg: int = 0, shares: Sequence[Share] = ((BOB, 5),), count: int | None = None) -> bytes:
    """Return a premium's bytes by section 6, whatever they say."""
    return (
        u(8, leg)
        + u(8, len(shares) if count is None else count)
        + b"".join(var8(recipient) + u(128, amount) for recipient, amount in shares)
    )


def raw_terms(
    *,
    version: int = 1,
    legs: Sequence[bytes] = LEGS,
    leg_count: int | None = None,
    hashlock: bytes = HASHLOCK,
    lock_by_ms: int = LOCK_BY_MS,
    expires_ms: int = EXPIRES_MS,
    premiums: Sequence[bytes] = (),
    premium_count: int | None = None,
) -> bytes:
    """Return the bytes of terms by section 6, whatever they say."""
    return (
        u(8, version)
        + CHAIN
        + u(8, len(legs) if leg_count is None else leg_count)
        + b"".join(legs)
        + hashlock
        + u(64, lock_by_ms)
        + u(64, expires_ms)
        + key_of("revealer").public_key
        + u(8, len(premiums) if premium_count is None else premium_count)
        + b"".join(premiums)
        + SALT
    )


def valid_terms() -> dict[str, bytes]:
    """Return terms that must be taken, by what is special about them."""

    def legs_of(count: int) -> list[bytes]:
        return [raw_leg(rollup=b"r%d" % number, amount=number + 1) for number in range(count)]

    most = 2**128 - 1
    return {
        "two legs": raw_terms(),
        "three legs": raw_terms(legs=legs_of(3)),
        "the most legs": raw_terms(legs=legs_of(16)),
        "two legs on one rollup": raw_terms(legs=[LEGS[0], raw_leg(sender=BOB, recipient=ALICE)]),
        "two equal legs": raw_terms(legs=[LEGS[0], LEGS[0]]),
        "a burn and a mint": raw_terms(legs=[raw_leg(kind=2), raw_leg(kind=3)]),
        "the shortest names": raw_terms(
            legs=[raw_leg(rollup=b"a", sender=b"\x00", recipient=b"\xff", asset=b"\x00"), LEGS[1]]
        ),
        "the longest names": raw_terms(
            legs=[
                raw_leg(rollup=LONGEST, sender=b"s" * 64, recipient=b"r" * 64, asset=b"\xff" * 32),
                LEGS[1],
            ]
        ),
        "the least amount": raw_terms(legs=[raw_leg(amount=1), LEGS[1]]),
        "the greatest amount": raw_terms(legs=[raw_leg(amount=most), LEGS[1]]),
        "the least time to reveal": raw_terms(expires_ms=LOCK_BY_MS + 5_000),
        "the earliest times": raw_terms(lock_by_ms=0, expires_ms=5_000),
        "the latest times": raw_terms(lock_by_ms=2**63 - 5_001, expires_ms=2**63 - 1),
        "a hashlock of zeros but for a bit": raw_terms(hashlock=bytes(31) + b"\x01"),
        "a premium": raw_terms(premiums=[raw_premium()]),
        "a premium on the last leg": raw_terms(premiums=[raw_premium(1, ((ALICE, 1), (CAROL, 2)))]),
        "a premium to one recipient twice": raw_terms(premiums=[raw_premium(0, ((BOB, 1), (BOB, 1)))]),
        "the most recipients of a premium": raw_terms(
            premiums=[raw_premium(0, [(b"%d" % number, number + 1) for number in range(16)])]
        ),
        "amount and premium are just u128": raw_terms(premiums=[raw_premium(0, ((BOB, most - 1_000),))]),
        "amount and shares are just u128": raw_terms(
            premiums=[raw_premium(0, ((BOB, most - 1_007), (CAROL, 7)))]
        ),
        "a premium beside a greater amount on another leg": raw_terms(
            legs=[LEGS[0], raw_leg(amount=most)], premiums=[raw_premium(0, ((BOB, most - 1_000),))]
        ),
    }


def invalid_terms() -> dict[str, bytes]:
    """Return terms that must be refused, by why."""
    most = 2**128 - 1
    return {
        "version 0": raw_terms(version=0),
        "version 2": raw_terms(version=2),
        "no legs": raw_terms(legs=[]),
        "one leg": raw_terms(legs=LEGS[:1]),
        "17 legs": raw_terms(legs=[LEGS[0]] * 17),
        "a leg less than counted": raw_terms(leg_count=3),
        "a leg more than counted": raw_terms(legs=[*LEGS, LEGS[0]], leg_count=2),
        "leg kind 0": raw_terms(legs=[raw_leg(kind=0), LEGS[1]]),
        "leg kind 4": raw_terms(legs=[raw_leg(kind=4), LEGS[1]]),
        "leg kind 255": raw_terms(legs=[LEGS[0], raw_leg(kind=255)]),
        "no rollup": raw_terms(legs=[raw_leg(rollup=b""), LEGS[1]]),
        "a rollup of 33 bytes": raw_terms(legs=[raw_leg(rollup=LONGEST + b"v"), LEGS[1]]),
        "a rollup with a capital": raw_terms(legs=[raw_leg(rollup=b"Alpha"), LEGS[1]]),
        "a rollup with a byte beyond ASCII": raw_terms(legs=[raw_leg(rollup=b"alph\xe4"), LEGS[1]]),
        "a system namespace as a rollup": raw_terms(legs=[LEGS[0], raw_leg(rollup=b"_swap")]),
        "no sender": raw_terms(legs=[raw_leg(sender=b""), LEGS[1]]),
        "a sender of 65 bytes": raw_terms(legs=[raw_leg(sender=b"s" * 65), LEGS[1]]),
        "no recipient": raw_terms(legs=[raw_leg(recipient=b""), LEGS[1]]),
        "a recipient of 65 bytes": raw_terms(legs=[raw_leg(recipient=b"r" * 65), LEGS[1]]),
        "the recipient is the sender": raw_terms(legs=[LEGS[0], raw_leg(sender=BOB, recipient=BOB)]),
        "no asset": raw_terms(legs=[raw_leg(asset=b""), LEGS[1]]),
        "an asset of 33 bytes": raw_terms(legs=[raw_leg(asset=b"a" * 33), LEGS[1]]),
        "an amount of zero": raw_terms(legs=[LEGS[0], raw_leg(amount=0)]),
        "a hashlock of zeros": raw_terms(hashlock=bytes(32)),
        "a hashlock of 31 bytes": raw_terms(hashlock=HASHLOCK[:31]),
        "too little time to reveal": raw_terms(expires_ms=LOCK_BY_MS + 4_999),
        "it expires before it must be locked": raw_terms(expires_ms=LOCK_BY_MS - 1),
        "it expires beyond 2^63-1": raw_terms(expires_ms=2**63),
        "the times wrap": raw_terms(lock_by_ms=2**64 - 1, expires_ms=4_999),
        "two premiums": raw_terms(premiums=[raw_premium(0), raw_premium(1)]),
        "a premium that is not there": raw_terms(premium_count=1),
        "a premium that is not counted": raw_terms(premiums=[raw_premium()], premium_count=0),
        "a premium on a leg that is not there": raw_terms(premiums=[raw_premium(2)]),
        "a premium to nobody": raw_terms(premiums=[raw_premium(0, ())]),
        "a premium to 17 recipients": raw_terms(premiums=[raw_premium(0, [(BOB, 1)] * 17)]),
        "a share less than counted": raw_terms(premiums=[raw_premium(0, count=2)]),
        "a share of zero": raw_terms(premiums=[raw_premium(0, ((BOB, 5), (CAROL, 0)))]),
        "a share without recipient": raw_terms(premiums=[raw_premium(0, ((b"", 5),))]),
        "a share's recipient of 65 bytes": raw_terms(premiums=[raw_premium(0, ((b"r" * 65, 5),))]),
        "amount and premium exceed u128": raw_terms(premiums=[raw_premium(0, ((BOB, most - 999),))]),
        "amount and shares exceed u128": raw_terms(
            premiums=[raw_premium(0, ((BOB, most - 1_000), (CAROL, 1)))]
        ),
        "shares exceed u128": raw_terms(premiums=[raw_premium(0, ((BOB, most), (CAROL, most)))]),
    }


def terms_vectors() -> Case:
    """Return the vectors of `lockstep.terms`."""
    return {
        "about": "terms of swaps, section 6; `fields` say what they hold; amounts and times are decimal",
        "terms": [
            {
                "valid": True,
                "why": why,
                "encoded": encoded.hex(),
                "fields": plain(terms.decode_terms(encoded)),
                "swap_id": terms.swap_id_of(encoded).hex(),
            }
            for why, encoded in valid_terms().items()
        ]
        + [refused(why, encoded) for why, encoded in invalid_terms().items()]
        + cut_and_extended(raw_terms()),
    }


# --- entries of _swap ---------------------------------------------------------------------------------------


def raw_attestation(
    *,
    rollup: bytes = b"alpha",
    executed_height: int = 17,
    items: Sequence[Item] = ((b"\x01" * 32, 0, 1, 0),),
    count: int | None = None,
) -> bytes:
    """Return an attestation's body by section 7, whatever it says."""
    return (
        CHAIN
        + var8(rollup)
        + key_of("attester").public_key
        + u(64, executed_height)
        + digest_of("header 17")
        + u(16, len(items) if count is None else count)
        + b"".join(
            swap_id + u(8, leg) + u(8, verdict) + u(8, reason) for swap_id, leg, verdict, reason in items
        )
    )


def raw_attest(**stated: Any) -> bytes:  # noqa: ANN401 - the fields of raw_attestation
    """Return the entry that attests `raw_attestation(**stated)`."""
    body = raw_attestation(**stated)
    return b"\x01\x02" + key_of("attester").sign(SIGN_ATTESTATION, body) + body


def numbered_items(count: int) -> list[Item]:
    """Return so many items in order: 16 legs to a swap."""
    return [(u(256, place // 16), place % 16, 1, 0) for place in range(count)]


def valid_entries() -> dict[str, bytes]:
    """Return entries that must be taken, by what they are."""
    one, two, swap_id = b"\x01" * 32, b"\x02" * 32, terms.swap_id_of(raw_terms())
    cancellation = CHAIN + swap_id
    return {
        "an Open": b"\x01\x01" + raw_terms(),
        "an Open with a premium": b"\x01\x01" + raw_terms(premiums=[raw_premium()]),
        "an Attest": raw_attest(),
        "an Attest of every verdict and reason": raw_attest(
            items=[
                (one, 0, 1, 0),
                *((one, 1 + reason, 2, reason) for reason in (1, 2, 3, 4, 5)),
                (two, 0, 2, 255),
            ]
        ),
        "an Attest of legs that no swap has": raw_attest(items=[(one, 16, 1, 0), (one, 255, 2, 1)]),
        "an Attest ascending by swap first": raw_attest(items=[(one, 9, 1, 0), (two, 0, 1, 0)]),
        "an Attest of the longest rollup, after the last height": raw_attest(
            rollup=LONGEST, executed_height=2**63 - 1
        ),
        "an Attest after the first height": raw_attest(rollup=b"a", executed_height=1),
        "an Attest of the most items": raw_attest(items=numbered_items(1_024)),
        "a Reveal": b"\x01\x03" + swap_id + PREIMAGE,
        "a Reveal of zeros": b"\x01\x03" + bytes(64),
        "a Cancel": b"\x01\x04" + key_of("revealer").sign(SIGN_CANCEL, cancellation) + cancellation,
    }


def invalid_entries() -> dict[str, bytes]:
    """Return entries that must be refused, by why."""
    one, two = b"\x01" * 32, b"\x02" * 32
    valid = valid_entries()
    return {
        "version 0": b"\x00" + valid["a Reveal"][1:],
        "version 2": b"\x02" + valid["a Reveal"][1:],
        "kind 0": b"\x01\x00" + valid["a Reveal"][2:],
        "kind 5": b"\x01\x05" + valid["a Reveal"][2:],
        "kind 255": b"\x01\xff" + valid["a Reveal"][2:],
        "a version and no kind": b"\x01",
        "an Open without terms": b"\x01\x01",
        "an Open of malformed terms": b"\x01\x01" + raw_terms(version=2),
        "an Attest without a signature": b"\x01\x02" + raw_attestation(),
        "an Attest of no rollup": raw_attest(rollup=b""),
        "an Attest of a rollup of 33 bytes": raw_attest(rollup=LONGEST + b"v"),
        "an Attest of a rollup that cannot be": raw_attest(rollup=b"Alpha"),
        "an Attest of a system namespace": raw_attest(rollup=b"_swap"),
        "an Attest after height 0": raw_attest(executed_height=0),
        "an Attest after a height beyond 2^63-1": raw_attest(executed_height=2**63),
        "an Attest of nothing": raw_attest(items=()),
        "an Attest of 1,025 items": raw_attest(items=numbered_items(1_025)),
        "an item less than counted": raw_attest(count=2),
        "an item more than counted": raw_attest(items=numbered_items(2), count=1),
        "verdict 0": raw_attest(items=[(one, 0, 0, 0)]),
        "verdict 3": raw_attest(items=[(one, 0, 3, 0)]),
        "LOCKED for a reason": raw_attest(items=[(one, 0, 1, 1)]),
        "REJECTED for no reason": raw_attest(items=[(one, 0, 2, 0)]),
        "reason 6": raw_attest(items=[(one, 0, 2, 6)]),
        "reason 254": raw_attest(items=[(one, 0, 2, 254)]),
        "an item twice": raw_attest(items=[(one, 0, 1, 0), (one, 0, 1, 0)]),
        "an item twice with two verdicts": raw_attest(items=[(one, 0, 1, 0), (one, 0, 2, 1)]),
        "legs descend": raw_attest(items=[(one, 1, 1, 0), (one, 0, 1, 0)]),
        "swaps descend": raw_attest(items=[(two, 0, 1, 0), (one, 1, 1, 0)]),
        "a preimage of 31 bytes": valid["a Reveal"][:-1],
        "a preimage of 33 bytes": valid["a Reveal"] + b"\x00",
        "a Cancel without a signature": b"\x01\x04" + CHAIN + one,
        **{
            f"{name}: {case['why']}": bytes.fromhex(case["encoded"])
            for name in ("an Open", "an Attest", "a Cancel")
            for case in cut_and_extended(valid[name])[:2]
        },
        "empty": b"",
    }


def swap_entry_vectors() -> Case:
    """Return the vectors of `lockstep.swap_entries`."""
    cases = []
    for why, encoded in valid_entries().items():
        entry = swap_entries.decode_swap_entry(encoded)
        case = {
            "valid": True,
            "why": why,
            "kind": type(entry).__name__,
            "encoded": encoded.hex(),
        }
        if len(encoded) < 5_000:
            case["fields"] = plain(entry)
        cases.append(case)
    return {
        "about": (
            "entries of `_swap`, section 7. Decoding verifies no signature; those here are right: of Attests "
            "by `attester` (kind `sign-attestation`), of the Cancel by `revealer` (kind `sign-cancel`)"
        ),
        "attester": key_of("attester").public_key.hex(),
        "revealer": key_of("revealer").public_key.hex(),
        "preimage": PREIMAGE.hex(),
        "entries": cases + [refused(why, encoded) for why, encoded in invalid_entries().items()],
    }


# --- transactions of rollups --------------------------------------------------------------------------------


def raw_transaction(
    *,
    version: int = 1,
    rollup: bytes = b"alpha",
    valid_until_ms: int = LOCK_BY_MS,
    method: int = 0x0201,
    arguments: bytes = b"\x01" * 32 + b"\x00",
    signer: str = "alice",
    signed_by: str = "alice",
) -> bytes:
    """Return the payload of a transaction by section 5, whatever it says."""
    body = (
        u(8, version)
        + CHAIN
        + var8(rollup)
        + key_of(signer).public_key
        + u(64, valid_until_ms)
        + SALT
        + u(16, method)
        + arguments
    )
    return key_of(signed_by).sign(SIGN_TRANSACTION, body) + body


def raw_transfer(asset: bytes = b"gold", amount: int = 5, memo: bytes = b"") -> bytes:
    """Return the arguments of a transfer, whatever they say."""
    return var8(asset) + BOB + u(128, amount) + var8(memo)


def valid_calls() -> dict[str, tuple[int, bytes]]:
    """Return methods and arguments that must be taken."""
    return {
        "a transfer": (0x0101, raw_transfer()),
        "a transfer of the longest names": (0x0101, raw_transfer(b"\xff" * 32, 2**128 - 1, b"m" * 64)),
        "a transfer of nothing, which the module answers": (0x0101, raw_transfer(b"\x00", 0)),
        "a faucet": (0x0102, var8(b"gold") + u(128, 7)),
        "a faucet of the greatest amount": (0x0102, var8(b"g" * 32) + u(128, 2**128 - 1)),
        "a lock": (0x0201, SwapId(b"\x01" * 32) + b"\x0f"),
        "a lock of a leg that no swap has": (0x0201, bytes(32) + b"\xff"),
    }


def invalid_calls() -> dict[str, tuple[int, bytes]]:
    """Return methods and arguments that must be refused."""
    return {
        "a transfer of no asset": (0x0101, raw_transfer(b"")),
        "a transfer of an asset of 33 bytes": (0x0101, raw_transfer(b"a" * 33)),
        "a memo of 65 bytes": (0x0101, raw_transfer(memo=b"m" * 65)),
        "a faucet of no asset": (0x0102, var8(b"") + u(128, 7)),
        "a faucet of an asset of 33 bytes": (0x0102, var8(b"a" * 33) + u(128, 7)),
        **{
            f"{name}: {case['why']}": (valid_calls()[name][0], bytes.fromhex(case["encoded"]))
            for name in ("a transfer", "a faucet", "a lock")
            for case in cut_and_extended(valid_calls()[name][1])
        },
    }


def transaction_vectors() -> Case:
    """Return the vectors of `lockstep.transactions`."""
    good = raw_transaction()
    valid = {
        "signed": (True, good),
        "a later window": (True, raw_transaction(valid_until_ms=2**64 - 1)),
        "the longest rollup": (True, raw_transaction(rollup=LONGEST)),
        "an unknown method, which the runtime answers": (True, raw_transaction(method=0xFFFF)),
        "no arguments": (True, raw_transaction(method=0, arguments=b"")),
        "signed by another": (False, raw_transaction(signed_by="bob")),
        "another's name": (False, good[:64] + raw_transaction(signer="bob")[64:]),
        "another signature, and the same id": (False, bytes(64) + good[64:]),
    }
    invalid = {
        "version 0": raw_transaction(version=0),
        "version 2": raw_transaction(version=2),
        "no rollup": raw_transaction(rollup=b""),
        "a rollup of 33 bytes": raw_transaction(rollup=LONGEST + b"v"),
        "a rollup that cannot be": raw_transaction(rollup=b"Alpha"),
        "a system namespace as a rollup": raw_transaction(rollup=b"_swap"),
        "it ends within the method": raw_transaction(arguments=b"")[:-1],
        "it ends within the signature": good[:63],
        "a signature and no body": good[:64],
        "empty": b"",
    }
    return {
        "about": (
            "transactions of rollups, section 5: `signed` says whether the signature is the signer's, `id` "
            "leaves the signature out; and the arguments of every method"
        ),
        "transactions": [_transaction(why, signed, payload) for why, (signed, payload) in valid.items()]
        + [refused(why, encoded) for why, encoded in invalid.items()],
        "calls": [_call(why, *each) for why, each in valid_calls().items()]
        + [
            {"valid": False, "why": why, "method": method, "arguments": arguments.hex()}
            for why, (method, arguments) in invalid_calls().items()
        ],
    }


def _transaction(why: str, signed: bool, payload: bytes) -> Case:
    decoded = plain(transactions.decode_transaction(payload))
    fields = {name: value for name, value in decoded.items() if name not in ("id", "body")}
    return {
        "valid": True,
        "why": why,
        "signed": signed,
        "encoded": payload.hex(),
        "id": decoded["id"],
        "fields": fields,
    }


def _call(why: str, method: int, arguments: bytes) -> Case:
    call = transactions.decode_call(transactions.Method(method), arguments)
    return {
        "valid": True,
        "why": why,
        "method": method,
        "name": transactions.Method(method).name,
        "arguments": arguments.hex(),
        "fields": plain(call),
    }


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text)
