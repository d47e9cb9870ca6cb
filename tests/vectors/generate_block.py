"""Makes `block.json`.

Run as `python -m tests.vectors.generate_block` with `protos` and the repository on the path. Everything
follows from fixed inputs, so running it again gives the same file; a test insists on that. A case with
`"valid": false` must be refused, for the reason given under `why`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lockstep import block, header, order
from lockstep.merkle import root_of
from lockstep.types import BundleId, ChainId, HeaderHash, Height, Namespace
from tests.vectors.generate_order import CHAIN, GENESIS_TIP, START_MS
from tests.vectors.generate_registry import digest_of
from tests.vectors.plain import Case, plain

FOLDER: Final = Path(__file__).parent

ALPHA, BETA, SWAP = Namespace("alpha"), Namespace("beta"), Namespace("_swap")

BUNDLES: Final = (
    (START_MS + 30_000, ((SWAP, b"open"), (ALPHA, b"lock a"), (BETA, b"lock b"), (SWAP, b"reveal"))),
    (START_MS + 600_000, ((ALPHA, b"\x00"),)),
    (START_MS + 5_000, ((BETA, b"one"), (BETA, b"two"), (ALPHA, b"three"))),
)
"""What the sample block holds: windows and transactions."""

Placed = tuple[int, int, int, int, str, bytes]
"""An entry not yet encoded: index, first index, count, window, what its bundle id is made of, payload."""


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {"block.json": json.dumps(block_vectors(), indent=1) + "\n"}


def admitted(valid_until_ms: int, transactions: Sequence[tuple[str, bytes]]) -> block.AdmittedBundle:
    """Return a bundle as admission would hand it to the builder."""
    bundle = order.Bundle(
        tuple(order.Transaction(Namespace(name), payload) for name, payload in transactions), valid_until_ms
    )
    hashes = tuple(order.transaction_hash(*each) for each in bundle.transactions)
    return block.AdmittedBundle(
        order.bundle_id(CHAIN, valid_until_ms, hashes), bundle.transactions, hashes, valid_until_ms
    )


def sample_block() -> block.Block:
    """Return the block of BUNDLES at height 1."""
    return block.build_block(GENESIS_TIP, START_MS + 250, [admitted(*each) for each in BUNDLES])


def block_vectors() -> Case:
    """Return the vectors of `lockstep.block`."""
    made = sample_block()
    tip = header.tip_of(made.header, made.hash)
    empty = block.build_block(tip, START_MS + 2_250, [])
    return {
        "about": (
            "`blocks`: what a parent, a time and bundles in their order make; `shares`: what a follower of "
            "the `wanted` namespaces is handed after `parent`, and whether it may take it"
        ),
        "blocks": [
            _block(GENESIS_TIP, made, BUNDLES),
            _block(tip, empty, ()),
        ],
        "shares": [*_valid_shares(made, empty, tip), *_tampered_shares(made), *_impossible_blocks()],
    }


def _block(parent: header.Tip, made: block.Block, bundles: Sequence[tuple[int, Any]]) -> Case:
    return {
        "parent": plain(parent),
        "time_ms": str(made.header.time_ms),
        "bundles": [
            {
                "valid_until_ms": str(until),
                "transactions": [{"namespace": n, "payload": p.hex()} for n, p in transactions],
                "bundle_id": admitted(until, transactions).bundle_id.hex(),
            }
            for until, transactions in bundles
        ],
        "header": made.header_bytes.hex(),
        "hash": made.hash.hex(),
        "leaves": made.leaves_bytes.hex(),
        "entries": plain(made.entries),
    }


def _share(
    valid: bool,
    why: str,
    made: block.Block,
    wanted: Sequence[str],
    *,
    parent: header.Tip = GENESIS_TIP,
    **changes: Any,  # noqa: ANN401 - fields of the case
) -> Case:
    entries = {name: made.entries[Namespace(name)] for name in wanted if name in made.entries}
    return {
        "valid": valid,
        "why": why,
        "parent": plain(parent),
        "wanted": list(wanted),
        "header": made.header_bytes.hex(),
        "leaves": made.leaves_bytes.hex(),
        "entries": plain(entries),
        **{name: plain(value) for name, value in changes.items()},
    }


def _valid_shares(made: block.Block, empty: block.Block, tip: header.Tip) -> list[Case]:
    return [
        _share(True, "every namespace", made, ("_swap", "alpha", "beta")),
        _share(True, "one namespace", made, ("alpha",)),
        _share(True, "another", made, ("beta",)),
        _share(True, "one that has nothing in the block", made, ("gamma", "_registry")),
        _share(True, "some that have and some that have not", made, ("_registry", "beta", "_swap")),
        _share(True, "none: the header and leaves alone", made, ()),
        _share(
            True,
            "entries that nobody asked for",
            made,
            ("beta",),
            entries={"beta": made.entries[BETA], "alpha": [b"?"]},
        ),
        _share(True, "an empty block", empty, ("alpha", "_swap"), parent=tip),
    ]


def _tampered_shares(made: block.Block) -> list[Case]:
    swap, alpha, beta = (made.entries[name] for name in (SWAP, ALPHA, BETA))
    leaves = order.decode_namespace_leaves(made.leaves_bytes)
    other_leaves = [
        replace(leaf, count=leaf.count + 1) if leaf.namespace == ALPHA else leaf for leaf in leaves
    ]
    moved = order.namespace_leaves(
        {
            ALPHA: [order.hash_entry(ALPHA, each) for each in (*alpha, beta[0])],
            BETA: [order.hash_entry(BETA, each) for each in beta[1:]],
            SWAP: [order.hash_entry(SWAP, each) for each in swap],
        }
    )
    next_tip = header.Tip(CHAIN, Height(1), made.hash, made.header.time_ms)
    late = header.encode_header(replace(made.header, time_ms=START_MS + 2_001))

    def changed(offset: int, byte: int) -> bytes:
        return alpha[0][:offset] + bytes([byte]) + alpha[0][offset + 1 :]

    cases: list[tuple[str, Sequence[str], Mapping[str, Any]]] = [
        ("the last entry is missing", ("alpha",), {"entries": {"alpha": alpha[:-1]}}),
        ("the first entry is missing", ("alpha",), {"entries": {"alpha": alpha[1:]}}),
        ("all entries are missing", ("alpha",), {"entries": {}}),
        ("an empty list instead of the entries", ("alpha",), {"entries": {"alpha": []}}),
        ("the last entry twice", ("alpha",), {"entries": {"alpha": [*alpha, alpha[-1]]}}),
        (
            "an entry twice instead of another",
            ("alpha",),
            {"entries": {"alpha": [alpha[0], alpha[0], alpha[2]]}},
        ),
        ("another order", ("beta",), {"entries": {"beta": [beta[1], beta[0], beta[2]]}}),
        ("entries of another namespace", ("alpha",), {"entries": {"alpha": beta}}),
        ("an entry of another namespace as one more", ("alpha",), {"entries": {"alpha": [*alpha, swap[0]]}}),
        ("an entry of another namespace instead", ("alpha",), {"entries": {"alpha": [*alpha[:2], beta[0]]}}),
        ("entries where the block has none", ("gamma",), {"entries": {"gamma": alpha[:1]}}),
        ("another payload", ("alpha",), {"entries": {"alpha": [alpha[0] + b"!", *alpha[1:]]}}),
        ("another index", ("alpha",), {"entries": {"alpha": [changed(3, 2), *alpha[1:]]}}),
        ("another first index", ("alpha",), {"entries": {"alpha": [changed(7, 1), *alpha[1:]]}}),
        ("another count", ("alpha",), {"entries": {"alpha": [changed(9, 3), *alpha[1:]]}}),
        ("another window", ("alpha",), {"entries": {"alpha": [changed(17, 1), *alpha[1:]]}}),
        ("another bundle", ("alpha",), {"entries": {"alpha": [changed(18, 1), *alpha[1:]]}}),
        ("an entry without its payload", ("alpha",), {"entries": {"alpha": [alpha[0][:50], *alpha[1:]]}}),
        ("an entry cut short", ("alpha",), {"entries": {"alpha": [alpha[0][:49], *alpha[1:]]}}),
        ("an empty entry", ("alpha",), {"entries": {"alpha": [b"", *alpha[1:]]}}),
        (
            "a namespace is missing from the leaves",
            (),
            {"leaves": order.encode_namespace_leaves(leaves[:-1])},
        ),
        ("a leaf has another count", (), {"leaves": order.encode_namespace_leaves(other_leaves)}),
        (
            "leaves of a block in which an entry is elsewhere",
            (),
            {"leaves": order.encode_namespace_leaves(moved)},
        ),
        (
            "a namespace is said to be empty",
            ("beta",),
            {"leaves": order.encode_namespace_leaves(leaves[:2]), "entries": {}},
        ),
        ("no leaves", (), {"leaves": order.encode_namespace_leaves(())}),
        ("leaves with a byte left over", (), {"leaves": made.leaves_bytes + b"\x00"}),
        ("a header with a byte left over", (), {"header": made.header_bytes + b"\x00"}),
        ("the block before again", (), {"parent": next_tip}),
        ("log time advances too far", (), {"header": late}),
        (
            "a parent of another chain",
            (),
            {"parent": replace(GENESIS_TIP, chain=ChainId(digest_of("other")))},
        ),
    ]
    return [_share(False, why, made, wanted, **changes) for why, wanted, changes in cases]


def forge(entries: Mapping[str, Sequence[Placed]], **changes: Any) -> block.Block:  # noqa: ANN401 - fields of the header
    """Return a block whose roots are right, whatever its entries and counts say.

    The counts are those of the entries unless `changes` has others; every bundle id counts as one bundle.
    """
    encoded = {
        Namespace(name): [
            order.entry_prefix(
                index=index,
                first_index=first_index,
                count=count,
                valid_until_ms=valid_until_ms,
                bundle=BundleId(digest_of(bundle)),
            )
            + payload
            for index, first_index, count, valid_until_ms, bundle, payload in placed
        ]
        for name, placed in entries.items()
    }
    leaves = changes.pop("leaves", None) or order.namespace_leaves(
        {name: [order.hash_entry(name, each) for each in of_one] for name, of_one in encoded.items()}
    )
    flat = [each for placed in entries.values() for each in placed]
    forged = header.Header(
        chain=CHAIN,
        height=Height(1),
        parent_hash=HeaderHash(CHAIN),
        time_ms=START_MS + 250,
        data_root=root_of([order.namespace_leaf_hash(leaf) for leaf in leaves]),
        namespace_count=len(leaves),
        bundle_count=len({each[4] for each in flat}),
        transaction_count=len(flat),
        payload_bytes=sum(len(each[5]) for each in flat),
    )
    raw = header.encode_header(replace(forged, **changes))
    return block.Block(forged, raw, header.header_hash(raw), order.encode_namespace_leaves(leaves), encoded)


def _impossible_blocks() -> list[Case]:
    """Return shares of blocks that hang together by their hashes but that no builder makes."""
    window = START_MS + 30_000

    def single(index: int, bundle: str, payload: bytes = b"x") -> Placed:
        return (index, index, 1, window, bundle, payload)

    pair = ((0, 0, 2, window, "pair", b"x"), (1, 0, 2, window, "pair", b"y"))
    two = {"alpha": [single(0, "one")], "beta": [single(1, "other")]}
    many = {"alpha": [single(index, f"bundle {index}") for index in range(3)]}
    beyond = order.NamespaceLeaf(Namespace("beta"), 16_384, digest_of("unseen"))
    cases: list[tuple[bool, str, tuple[str, ...], block.Block]] = [
        (True, "a pair", ("alpha",), forge({"alpha": pair})),
        (True, "a pair in two namespaces", ("alpha", "beta"), forge({"alpha": pair[:1], "beta": pair[1:]})),
        (True, "singles", ("alpha", "beta"), forge(two)),
        (False, "indexes descend", ("alpha",), forge({"alpha": [single(1, "one"), single(0, "other")]})),
        (False, "an index twice", ("alpha",), forge({"alpha": [single(0, "one"), single(0, "other")]})),
        (
            False,
            "an index in two namespaces",
            ("alpha", "beta"),
            forge({"alpha": [single(0, "one")], "beta": [single(0, "one")]}, transaction_count=2),
        ),
        (
            False,
            "bundles overlap",
            ("alpha",),
            forge({"alpha": [pair[0], single(1, "other")]}),
        ),
        (
            False,
            "bundles overlap across namespaces",
            ("alpha", "beta"),
            forge({"alpha": [pair[0]], "beta": [single(1, "other")]}),
        ),
        (
            False,
            "a bundle has two windows",
            ("alpha",),
            forge({"alpha": [pair[0], (1, 0, 2, window + 1, "pair", b"y")]}),
        ),
        (
            False,
            "a bundle stands twice",
            ("alpha",),
            forge({"alpha": [single(0, "one"), single(1, "one")]}, bundle_count=2),
        ),
        (
            False,
            "a bundle reaches beyond the block",
            ("alpha",),
            forge({"alpha": [pair[0]]}),
        ),
        (False, "an index beyond the block", ("alpha",), forge({"alpha": [single(1, "one")]})),
        (False, "a bundle too many is counted", ("alpha",), forge(many, bundle_count=4)),
        (False, "a bundle too few is counted", ("alpha",), forge(many, bundle_count=2)),
        (False, "a transaction too many is counted", (), forge(two, transaction_count=3)),
        (False, "a transaction too few is counted", (), forge(two, transaction_count=1)),
        (False, "a namespace too many is counted", (), forge(two, namespace_count=3)),
        (False, "a namespace too few is counted", (), forge(two, namespace_count=1)),
        (False, "a byte too many is counted", ("alpha", "beta"), forge(two, payload_bytes=3)),
        (False, "a byte too few is counted", ("alpha", "beta"), forge(two, payload_bytes=1)),
        (True, "what is unseen may have another byte", ("alpha",), forge(two, payload_bytes=3)),
        (True, "what is unseen may have the most bytes", ("alpha",), forge(two, payload_bytes=65_537)),
        (False, "what is unseen has more than the most bytes", ("alpha",), forge(two, payload_bytes=65_538)),
        (False, "what is unseen has no byte", ("alpha",), forge(two, payload_bytes=1)),
        (False, "bundles in an empty block", (), forge({}, bundle_count=1)),
        (False, "bytes in an empty block", (), forge({}, payload_bytes=1)),
        (
            True,
            "the most transactions",
            ("alpha",),
            forge(
                {},
                leaves=[replace(beyond, count=16_384)],
                transaction_count=16_384,
                bundle_count=512,
                payload_bytes=16_384,
            ),
        ),
        (
            False,
            "more than 32 transactions to a bundle",
            ("alpha",),
            forge(
                {},
                leaves=[replace(beyond, count=16_384)],
                transaction_count=16_384,
                bundle_count=511,
                payload_bytes=16_384,
            ),
        ),
        (
            False,
            "16,385 transactions",
            ("alpha",),
            forge(
                {},
                leaves=[replace(beyond, count=16_385)],
                transaction_count=16_385,
                bundle_count=600,
                payload_bytes=16_385,
            ),
        ),
        (
            True,
            "the most bytes of entries",
            (),
            forge(
                {},
                leaves=[replace(beyond, count=40)],
                transaction_count=40,
                bundle_count=40,
                payload_bytes=2**21 - 40 * 50,
            ),
        ),
        (
            False,
            "a byte more than the most bytes of entries",
            (),
            forge(
                {},
                leaves=[replace(beyond, count=40)],
                transaction_count=40,
                bundle_count=40,
                payload_bytes=2**21 - 40 * 50 + 1,
            ),
        ),
        (
            False,
            "fewer bundles than the gaps between those seen",
            ("alpha",),
            forge(
                {
                    "alpha": [single(1, "one"), single(3, "other")],
                    "beta": [single(0, "-"), single(2, "--"), single(4, "---")],
                },
                bundle_count=4,
            ),
        ),
        (
            False,
            "an oversized payload",
            ("alpha",),
            forge({"alpha": [single(0, "one", bytes(65_537))]}),
        ),
        (False, "a window without end", ("alpha",), forge({"alpha": [(0, 0, 1, 2**63, "one", b"x")]})),
    ]
    return [_share(valid, why, made, wanted) for valid, why, wanted, made in cases]


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text)
