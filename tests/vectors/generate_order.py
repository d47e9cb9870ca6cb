"""Makes `order.json` and `header.json`.

Run as `python -m tests.vectors.generate_order` with `protos` and the repository on the path. Everything
follows from fixed inputs, so running it again gives the same files; a test insists on that. A case with
`"valid": false` must be refused, for the reason given under `why`.
"""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from lockstep import header, order
from lockstep.types import BundleId, ChainId, HeaderHash, Height, Namespace
from tests.vectors.generate_registry import digest_of, key_of
from tests.vectors.plain import Case, cut_and_extended, plain, refused, repeat, unfold

FOLDER: Final = Path(__file__).parent

CHAIN: Final = ChainId(digest_of("chain"))
START_MS: Final = 1_700_000_000_000
GENESIS_TIP: Final = header.genesis_tip(CHAIN, START_MS)
LONGEST: Final = "0123456789-abcdefghijklmnopqrstu"


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {
        name: json.dumps(vectors, indent=1) + "\n"
        for name, vectors in (
            ("order.json", order_vectors()),
            ("header.json", header_vectors()),
        )
    }


# --- transactions, bundles, entries, leaves -----------------------------------------------------------------


def order_vectors() -> Case:
    """Return the vectors of `lockstep.order`."""
    return {
        "about": "names, hashes of transactions, bundles and their ids, entries and namespace leaves",
        "namespaces": _namespaces(),
        "transactions": [
            {
                "namespace": namespace,
                "payload": payload.hex(),
                "hash": order.transaction_hash(namespace, payload).hex(),
            }
            for namespace in ("alpha", "a", LONGEST, "_swap", "_registry", "_log")
            for payload in (b"\x00", b"payload", bytes(range(256)))
        ],
        "bundles": _bundles(),
        "entries": _entries(),
        "namespace_leaves": _leaf_lists(),
    }


def _namespaces() -> list[Case]:
    valid = ("a", "0", "-", "alpha", "rollup-7", LONGEST, "_swap", "_registry", "_log")
    invalid = {
        "": "empty",
        LONGEST + "v": "33 bytes",
        "Alpha": "a capital",
        "al pha": "a space",
        "alpha\n": "a line feed at the end",
        "al.pha": "a dot",
        "al_pha": "an underscore",
        "_other": "no system namespace",
        "_swap\n": "a line feed at the end of a system namespace",
        "_SWAP": "system namespaces are lower case",
        "älpha": "a letter beyond ASCII",
        "٣": "a digit beyond ASCII",
    }
    return [{"valid": True, "name": name} for name in valid] + [
        {"valid": False, "why": why, "name": name} for name, why in invalid.items()
    ]


def _bundles() -> list[Case]:
    one = [{"namespace": "alpha", "payload": "00"}]
    large = {"namespace": "alpha", "payload": repeat(b"\xab", 65_536)}
    valid: list[tuple[str, list[Case], int]] = [
        ("one transaction, the first time", one, 1),
        ("the last time", one, 2**63 - 1),
        ("the most transactions", one * 32, START_MS),
        ("the largest payload", [large], START_MS),
        ("the most bytes", [large] * 4, START_MS),
        ("two namespaces", [{"namespace": "_swap", "payload": "00"}, *one, *one], START_MS),
        ("another order", [*one, {"namespace": "_swap", "payload": "00"}, *one], START_MS),
    ]
    invalid: list[tuple[str, list[Case], int]] = [
        ("no transaction", [], START_MS),
        ("33 transactions", one * 33, START_MS),
        ("no time", one, 0),
        ("a time beyond 2^63-1", one, 2**63),
        ("an empty payload", [{"namespace": "alpha", "payload": ""}], START_MS),
        ("a payload of 65,537 bytes", [{"namespace": "alpha", "payload": repeat(b"\xab", 65_537)}], START_MS),
        ("262,145 bytes of payloads", [large] * 4 + one, START_MS),
        ("a namespace that cannot be", [*one, {"namespace": "Alpha", "payload": "00"}], START_MS),
    ]
    return [_bundle(True, *each) for each in valid] + [_bundle(False, *each) for each in invalid]


def _bundle(valid: bool, why: str, transactions: list[Case], valid_until_ms: int) -> Case:
    case = {
        "valid": valid,
        "why": why,
        "chain": CHAIN.hex(),
        "valid_until_ms": str(valid_until_ms),
        "transactions": transactions,
    }
    if valid:
        hashes = [order.transaction_hash(each["namespace"], unfold(each["payload"])) for each in transactions]
        case["bundle_id"] = order.bundle_id(CHAIN, valid_until_ms, hashes).hex()
    return case


def _entries() -> list[Case]:
    def prefix(index: int, first_index: int, count: int, valid_until_ms: int = START_MS) -> str:
        return (
            order.entry_prefix(
                index=index,
                first_index=first_index,
                count=count,
                valid_until_ms=valid_until_ms,
                bundle=BundleId(digest_of("bundle")),
            )
        ).hex()

    valid: list[tuple[str, Any]] = [
        ("alpha", [prefix(0, 0, 1), "00"]),
        ("alpha", [prefix(7, 5, 3, 1), b"payload".hex()]),
        ("beta", [prefix(7, 5, 3, 2**63 - 1), b"payload".hex()]),
        ("_swap", [prefix(16_383, 16_352, 32), repeat(b"\xab", 65_536)]),
    ]
    good = prefix(0, 0, 1)
    invalid: list[tuple[str, Any]] = [
        ("no payload", [good]),
        ("a payload of 65,537 bytes", [good, repeat(b"\xab", 65_537)]),
        ("the prefix lacks a byte", [good[:-2]]),
        ("empty", []),
        ("the index lies before its bundle", [prefix(4, 5, 3), "00"]),
        ("the index lies behind its bundle", [prefix(8, 5, 3), "00"]),
        ("a bundle of none", [prefix(5, 5, 0), "00"]),
        ("a bundle of 33", [prefix(5, 5, 33), "00"]),
        ("the bundle ends beyond the largest block", [prefix(16_383, 16_383, 2), "00"]),
        ("no time", [prefix(0, 0, 1, 0), "00"]),
        ("a time beyond 2^63-1", [prefix(0, 0, 1, 2**63), "00"]),
    ]
    return [
        {
            "valid": True,
            "namespace": namespace,
            "encoded": folded,
            **{
                name: value
                for name, value in plain(order.decode_entry(unfold(folded))).items()
                if name != "payload"
            },
            "leaf_hash": order.hash_entry(Namespace(namespace), unfold(folded)).hex(),
        }
        for namespace, folded in valid
    ] + [{"valid": False, "why": why, "encoded": folded} for why, folded in invalid]


def _leaf(name: str, count: int = 1) -> bytes:
    """Return a namespace leaf from the layout, whatever it says."""
    raw = name.encode("latin-1")
    return bytes([len(raw)]) + raw + count.to_bytes(4, "big") + digest_of(f"root of {name}")


def _list(*leaves: bytes, n: int | None = None) -> bytes:
    return (len(leaves) if n is None else n).to_bytes(2, "big") + b"".join(leaves)


def _leaf_lists() -> list[Case]:
    valid = [
        _list(),
        _list(_leaf("alpha")),
        _list(_leaf("_swap", 2**32 - 1), _leaf("a"), _leaf("alpha", 7), _leaf("b")),
        _list(*(_leaf(name) for name in ("-", LONGEST, "_log", "_registry", "_swap", "a", "a-", "a0", "aa"))),
    ]
    invalid = [
        ("one leaf more than there are", _list(_leaf("alpha"), n=0)),
        ("one leaf less than there are", _list(_leaf("alpha"), n=2)),
        ("descending", _list(_leaf("b"), _leaf("a"))),
        ("longer names are not greater", _list(_leaf("b"), _leaf("aa"))),
        ("the same twice", _list(_leaf("a"), _leaf("a", 2))),
        ("a namespace without entries", _list(_leaf("a", 0))),
        ("a name that cannot be", _list(_leaf("A"))),
        ("a name beyond ASCII", _list(_leaf("\xe4"))),
        ("an unknown system namespace", _list(_leaf("_other"))),
        ("no name", _list(_leaf(""))),
        ("a name of 33 bytes", _list(_leaf("a" * 33))),
    ]
    cases: list[Case] = []
    for encoded in valid:
        leaves = order.decode_namespace_leaves(encoded)
        cases.append(
            {
                "valid": True,
                "encoded": encoded.hex(),
                "leaves": plain(leaves),
                "leaf_hashes": [order.namespace_leaf_hash(leaf).hex() for leaf in leaves],
                "data_root": order.data_root(leaves).hex(),
            }
        )
    return (
        cases + [refused(why, encoded) for why, encoded in invalid] + cut_and_extended(_list(_leaf("alpha")))
    )


# --- headers ------------------------------------------------------------------------------------------------


def sample_header() -> header.Header:
    """Return a header of some block."""
    return header.Header(
        chain=CHAIN,
        height=Height(9),
        parent_hash=HeaderHash(digest_of("header 8")),
        time_ms=START_MS + 2_250,
        data_root=digest_of("data"),
        namespace_count=3,
        bundle_count=4,
        transaction_count=5,
        payload_bytes=600,
    )


def header_vectors() -> Case:
    """Return the vectors of `lockstep.header`."""
    sample = sample_header()
    least = header.Header(CHAIN, Height(1), HeaderHash(CHAIN), 0, sha256(b"").digest(), 0, 0, 0, 0)
    most = header.Header(
        chain=ChainId(b"\xff" * 32),
        height=Height(2**63 - 1),
        parent_hash=HeaderHash(b"\xff" * 32),
        time_ms=2**63 - 1,
        data_root=b"\xff" * 32,
        namespace_count=2**16 - 1,
        bundle_count=2**32 - 1,
        transaction_count=2**32 - 1,
        payload_bytes=2**64 - 1,
    )
    encoded = header.encode_header(sample)
    damages = [
        ("the version is unknown", 0, b"\x00\x02"),
        ("the version is zero", 0, b"\x00\x00"),
        ("the height is zero", 34, bytes(8)),
        ("the height is beyond 2^63-1", 34, b"\x80" + bytes(7)),
        ("the time is beyond 2^63-1", 74, b"\x80" + bytes(7)),
    ]
    return {
        "about": (
            "headers; signatures over them (kind `sign-header`); and whether `encoded` continues `parent` by "
            "the rules of section 4"
        ),
        "headers": [
            {
                "valid": True,
                "fields": plain(each),
                "encoded": header.encode_header(each).hex(),
                "hash": header.header_hash(header.encode_header(each)).hex(),
            }
            for each in (sample, least, most)
        ]
        + [
            refused(why, encoded[:offset] + written + encoded[offset + len(written) :])
            for why, offset, written in damages
        ]
        + cut_and_extended(encoded),
        "signatures": _header_signatures(encoded),
        "continuations": _continuations(),
    }


def _header_signatures(encoded: bytes) -> list[Case]:
    good = header.sign_header(key_of("sequencer"), encoded)
    other = header.encode_header(replace(sample_header(), payload_bytes=601))
    stranger = key_of("stranger")
    cases = [
        (True, "the sequencer's", encoded, good),
        (False, "over another header", other, good),
        (False, "another key's", encoded, header.sign_header(stranger, encoded)),
        (False, "of another kind", encoded, key_of("sequencer").sign(b"lockstep/v1/header\x00", encoded)),
        (False, "without a kind", encoded, key_of("sequencer").sign_raw(encoded)),
    ]
    return [
        {
            "valid": valid,
            "why": why,
            "sequencer": key_of("sequencer").public_key.hex(),
            "encoded": each.hex(),
            "signature": signature.hex(),
        }
        for valid, why, each, signature in cases
    ]


def _continuations() -> list[Case]:
    sample = sample_header()
    parent = header.Tip(CHAIN, Height(8), sample.parent_hash, sample.time_ms - 250)
    first = replace(
        sample, height=Height(1), parent_hash=HeaderHash(CHAIN), time_ms=START_MS + 1, bundle_count=2
    )
    cases: list[tuple[bool, str, header.Tip, header.Header]] = [
        (True, "the next", parent, sample),
        (True, "the first", GENESIS_TIP, first),
        (True, "the least advance", parent, replace(sample, time_ms=parent.time_ms + 1)),
        (True, "the greatest advance", parent, replace(sample, time_ms=parent.time_ms + 2_000)),
        (False, "no advance", parent, replace(sample, time_ms=parent.time_ms)),
        (False, "log time goes back", parent, replace(sample, time_ms=parent.time_ms - 1)),
        (False, "too great an advance", parent, replace(sample, time_ms=parent.time_ms + 2_001)),
        (False, "the same height", parent, replace(sample, height=Height(8))),
        (False, "a height is missing", parent, replace(sample, height=Height(10))),
        (False, "another parent", parent, replace(sample, parent_hash=HeaderHash(digest_of("fork")))),
        (False, "another chain", parent, replace(sample, chain=ChainId(digest_of("other chain")))),
        (
            False,
            "the first names the hash of no header",
            GENESIS_TIP,
            replace(first, parent_hash=HeaderHash(bytes(32))),
        ),
        (False, "the first does not advance", GENESIS_TIP, replace(first, time_ms=START_MS)),
    ]
    return [
        {"valid": valid, "why": why, "parent": plain(tip), "encoded": header.encode_header(each).hex()}
        for valid, why, tip, each in cases
    ]


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text)
