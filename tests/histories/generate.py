"""Makes the golden histories of the swap register: one JSON file per history, described in README.md here.

Run as `python -m tests.histories.generate` with `protos` and the repository on the path. Everything follows
from fixed inputs, so running it again gives the same files; a test insists on that.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lockstep import limits
from lockstep.attesters import AttesterSet
from lockstep.register import (
    BlockInput,
    Decided,
    Dropped,
    Ignored,
    Register,
    RegisterEvent,
    apply_block,
    encode_record,
    genesis_register,
)
from lockstep.registry_entries import Drain, SetAttesters
from lockstep.swap_entries import RejectReason
from lockstep.terms import LegKind, Terms
from lockstep.types import ChainId, HeaderHash
from tests.reference.world import (
    A1,
    A2,
    A3,
    B1,
    GENESIS,
    REJECTED,
    START_MS,
    STRANGER,
    World,
    attest,
    cancel_entry,
    change_entry,
    genesis_bytes,
    item_of,
    leg_on,
    make_terms,
    open_entry,
    reveal_entry,
)
from tests.reference.writer import HEADERS_REMEMBERED, RECORDS_MAX, Writer

FOLDER: Final = Path(__file__).parent

Case = dict[str, Any]


@dataclass(frozen=True)
class History:
    """A history and how it is written."""

    about: str
    """What it shows."""
    write: Callable[[World], object]
    """Adds its blocks to a world."""
    records_max: int = limits.REGISTER_RECORDS_MAX
    """The limit of records under which it is run."""
    headers_remembered: int = limits.HEADERS_REMEMBERED
    """The limit of header hashes under which it is run."""


def render() -> dict[str, str]:
    """Return the text of every file by its name."""
    return {f"{name}.json": json.dumps(run(each), indent=1) + "\n" for name, each in HISTORIES.items()}


def run(history: History) -> Case:
    """Return a history with what the register makes of it."""
    with limited(history.records_max, history.headers_remembered):
        world = World()
        history.write(world)
        return {
            "about": history.about,
            "genesis": genesis_bytes().decode(),
            "chain_id": GENESIS.chain_id.hex(),
            "limits": {
                "register_records_max": history.records_max,
                "headers_remembered": history.headers_remembered,
            },
            "initial": _roots(genesis_register(GENESIS)),
            "blocks": list(_blocks(world.blocks)),
        }


@contextmanager
def limited(records_max: int, headers_remembered: int) -> Iterator[None]:
    """Run what is inside under other limits of the register."""
    before = limits.REGISTER_RECORDS_MAX, limits.HEADERS_REMEMBERED
    _limit(records_max, headers_remembered)
    try:
        yield
    finally:
        _limit(*before)


def _limit(records_max: int, headers_remembered: int) -> None:
    limits.REGISTER_RECORDS_MAX = records_max  # type: ignore[misc]
    limits.HEADERS_REMEMBERED = headers_remembered  # type: ignore[misc]


def _blocks(blocks: Sequence[BlockInput]) -> Iterator[Case]:
    before = genesis_register(GENESIS)
    for block in blocks:
        after, events = apply_block(before, block)
        yield {
            "height": str(block.height),
            "header_hash": block.header_hash.hex(),
            "time_ms": str(block.time_ms),
            "swap": [[index, payload.hex()] for index, payload in block.swap_entries],
            "registry": [[index, payload.hex()] for index, payload in block.registry_entries],
            "expect": _expected(before, after, events),
        }
        before = after


def _expected(before: Register, after: Register, events: Sequence[RegisterEvent]) -> Case:
    records = {} if after.map_root == before.map_root else {"records": _records(after)}
    return {
        **_roots(after),
        **records,
        "decided": [_decision(event) for event in events if isinstance(event, Decided)],
        "dropped": [event.swap_id.hex() for event in events if isinstance(event, Dropped)],
        "ignored": [event.index for event in events if isinstance(event, Ignored)],
    }


def _roots(register: Register) -> Case:
    return {
        "root": register.root.hex(),
        "map_root": register.map_root.hex(),
        "registry_digest": register.registry.digest.hex(),
    }


def _records(register: Register) -> Mapping[str, str]:
    return {swap_id.hex(): encode_record(record).hex() for swap_id, record in register.records.items()}


def _decision(event: Decided) -> Case:
    record, decision = event.record, event.record.decision
    if decision is None:
        raise AssertionError("a decided swap has a decision")
    return {
        "swap_id": record.swap_id.hex(),
        "opened_height": str(record.opened_height),
        "opened_index": record.opened_index,
        "decided_height": str(decision.height),
        "decided_index": decision.index,
        "phase": record.phase.name,
        "reason": decision.reason.name,
        "reason_legs": list(decision.reason_legs),
    }


# --- the histories ------------------------------------------------------------------------------------------

SWAP = make_terms()
TWICE = make_terms("twice", legs=(leg_on("beta"), leg_on("beta", 6), leg_on("alpha")))


def _locks(world: World, terms: Terms = SWAP) -> list[bytes]:
    """Return what enough attesters say of both legs after the newest block."""
    alpha = [attest(key, "alpha", world.height, item_of(terms, 0)) for key in (A1, A3)]
    return [*alpha, attest(B1, "beta", world.height, item_of(terms, 1))]


def _open(world: World, *terms: Terms) -> None:
    world.block(*map(open_entry, terms or (SWAP,)))


def _reveal_last(world: World) -> None:
    _open(world)
    for entry in _locks(world):
        world.block(entry)
    world.block(attest(A2, "alpha", world.height, item_of(SWAP, 0)))
    world.block(reveal_entry(SWAP))
    world.block(reveal_entry(SWAP), cancel_entry(SWAP), open_entry(SWAP))
    world.advance_to(SWAP.lock_by_ms)


def _reveal_first(world: World) -> None:
    world.block(reveal_entry(SWAP), open_entry(SWAP), reveal_entry(SWAP, "another"), reveal_entry(SWAP))
    world.block(cancel_entry(SWAP))
    world.block(*_locks(world))


def _rejected(world: World) -> None:
    _open(world, SWAP, TWICE)
    world.block(attest(A1, "alpha", 1, item_of(SWAP, 0, REJECTED)))
    world.block(attest(A2, "alpha", 2, item_of(SWAP, 0)))
    world.block(attest(B1, "beta", 2, item_of(TWICE, 0, REJECTED), item_of(TWICE, 1, REJECTED)))
    world.block(attest(A3, "alpha", 3, item_of(SWAP, 0, REJECTED), item_of(TWICE, 2)))
    world.block(*_locks(world), reveal_entry(SWAP))


def _cancelled(world: World) -> None:
    terms = [make_terms(name) for name in ("bare", "locked", "revealed")]
    _open(world, *terms)
    world.block(*_locks(world, terms[1]), reveal_entry(terms[2], "revealed"))
    world.block(cancel_entry(terms[0], STRANGER), cancel_entry(terms[0], chain=ChainId(bytes(32))))
    world.block(*map(cancel_entry, terms))
    world.block(*map(cancel_entry, terms), *_locks(world, terms[2]))


def _deadlines(world: World) -> None:
    names = ("nothing", "one leg", "revealed", "locked", "locked late")
    terms = {name: make_terms(name) for name in names}
    _open(world, *terms.values())
    world.block(
        attest(B1, "beta", 1, item_of(terms["one leg"], 1)), reveal_entry(terms["revealed"], "revealed")
    )
    world.block(*_locks(world, terms["locked"]))
    world.advance_to(SWAP.lock_by_ms - 2)
    world.block(*_locks(world, terms["locked late"]), advance_ms=1)
    world.block(*_locks(world, terms["one leg"]), advance_ms=1)
    world.block(open_entry(terms["nothing"]), advance_ms=1)
    world.advance_to(SWAP.expires_ms - 2)
    world.block(reveal_entry(terms["locked late"], "locked late"), advance_ms=1)
    world.block(reveal_entry(terms["locked"], "locked"), advance_ms=1)
    world.block(advance_ms=1)


def _deadlines_passed(world: World) -> None:
    first, second = make_terms("first"), make_terms("second", lock_by_ms=SWAP.lock_by_ms - 1)
    _open(world, first, second, SWAP)
    world.block(*_locks(world))
    world.advance_to(SWAP.lock_by_ms - 2)
    world.block(advance_ms=limits.MAX_ADVANCE_MS)
    world.advance_to(SWAP.expires_ms - 1)
    world.block(reveal_entry(SWAP), advance_ms=limits.MAX_ADVANCE_MS)
    world.block()


def _opens(world: World) -> None:
    world.block(
        open_entry(SWAP),
        open_entry(SWAP) + b"\x00",
        open_entry(replace(SWAP, chain=ChainId(bytes(32)))),
        open_entry(replace(SWAP, lock_by_ms=START_MS + 250)),
        open_entry(replace(SWAP, lock_by_ms=START_MS + 251)),
        open_entry(make_terms(lock_by_ms=START_MS + 60_251, expires_ms=START_MS + 66_000)),
        open_entry(make_terms(lock_by_ms=START_MS + 60_250, expires_ms=START_MS + 66_000)),
        open_entry(replace(SWAP, expires_ms=START_MS + 86_400_251)),
        open_entry(replace(SWAP, expires_ms=START_MS + 86_400_250)),
        open_entry(replace(SWAP, legs=(leg_on("alpha"), replace(leg_on("beta"), kind=LegKind.MINT)))),
        open_entry(replace(SWAP, legs=(leg_on("alpha"), leg_on("gamma")))),
        open_entry(SWAP),
    )
    world.block()


def _attestations(world: World) -> None:
    item, lie = item_of(SWAP, 1), item_of(SWAP, 1, REJECTED)
    world.block()
    world.block(open_entry(SWAP), open_entry(TWICE))
    world.block()
    world.block(
        attest(B1, "beta", 1, item),
        attest(B1, "beta", 4, item),
        attest(B1, "beta", 2, item, hashed=HeaderHash(bytes(32))),
        attest(B1, "beta", 2, item, chain=ChainId(bytes(32))),
        attest(STRANGER, "beta", 2, item),
        attest(STRANGER, "beta", 2, item, attester=B1.public_key),
        attest(B1, "alpha", 2, item),
        attest(A1, "beta", 2, item),
        attest(B1, "beta", 2, item_of(SWAP, 0), item_of(SWAP, 2), item_of(make_terms("x"), 1)),
        attest(B1, "beta", 2, item, item_of(SWAP, 9), item_of(TWICE, 0)),
        attest(B1, "beta", 3, lie, item_of(TWICE, 1)),
    )
    world.block(attest(A1, "alpha", 3, item_of(SWAP, 0)), attest(A1, "alpha", 4, item_of(SWAP, 0)))
    world.block(attest(A1, "alpha", 4, replace(item_of(SWAP, 0, REJECTED), reason=RejectReason.OTHER)))
    world.block(attest(A2, "alpha", 4, item_of(SWAP, 0, REJECTED)), reveal_entry(SWAP))
    world.block(attest(A3, "alpha", 4, item_of(SWAP, 0)))


def _registry(world: World) -> None:
    before, within, after = (make_terms(name) for name in ("before", "within", "after"))
    new = SetAttesters(AttesterSet(1, (STRANGER.public_key,)))
    world.block(
        open_entry(before),
        registry=[change_entry("alpha", new, at=3), change_entry("beta", Drain(), at=4), b"\x01 no entry"],
    )
    world.block(open_entry(within))
    world.block(
        open_entry(after),
        attest(STRANGER, "alpha", 2, item_of(within, 0)),
        *_locks(world, within),
    )
    world.block(
        open_entry(make_terms("too late")),
        attest(STRANGER, "alpha", 3, item_of(after, 0)),
        attest(B1, "beta", 3, item_of(after, 1)),
        reveal_entry(within, "within"),
        reveal_entry(after, "after"),
    )


def _full(world: World) -> None:
    one, two, three, four = (make_terms(name) for name in ("one", "two", "three", "four"))
    _open(world, one, two, three)
    world.block(attest(B1, "beta", 1, item_of(one, 1)), reveal_entry(two, "two"))
    world.block(open_entry(four), open_entry(two), cancel_entry(two), open_entry(three))
    world.block(attest(B1, "beta", 2, item_of(three, 1)), attest(B1, "beta", 3, item_of(three, 1)))
    world.block(attest(B1, "beta", 3, item_of(four, 1)), open_entry(two))
    world.block(*_locks(world, one)[:2], reveal_entry(one, "one"), open_entry(two), cancel_entry(four))
    world.block(open_entry(one), open_entry(four))


def _headers(world: World) -> None:
    _open(world)
    old = attest(B1, "beta", 1, item_of(SWAP, 1))
    for _ in range(HEADERS_REMEMBERED):
        world.block()
    assert world.height == HEADERS_REMEMBERED + 1
    world.block(old, attest(A1, "alpha", 2, item_of(SWAP, 0)))
    world.block(attest(A2, "alpha", 2, item_of(SWAP, 0)), attest(B1, "beta", 4, item_of(SWAP, 1)))


def _random(seed: int) -> History:
    def write(world: World) -> None:
        writer = Writer(seed)
        writer.world = world
        for _ in range(40):
            writer.block()

    about = f"a random history, most of it honest, on a register with little room (seed {seed})"
    return History(about, write, RECORDS_MAX, HEADERS_REMEMBERED)


HISTORIES: Final[Mapping[str, History]] = {
    "reveal_last": History("locks, then the reveal; everything later is a no-op", _reveal_last),
    "reveal_first": History("opened and revealed in one block; the last lock commits", _reveal_first),
    "rejected": History("thresholds of rejections; items of one attestation act one by one", _rejected),
    "cancelled": History("cancelled when bare, when locked; void once revealed", _cancelled),
    "deadlines": History("one millisecond before, at and after both deadlines; dropping", _deadlines),
    "deadlines_passed": History("blocks that jump over deadlines", _deadlines_passed),
    "opens": History("the bounds of an Open, each just kept and just broken", _opens),
    "attestations": History("attestations that count, and in how many ways they do not", _attestations),
    "registry": History("attester sets and draining: what holds when", _registry),
    "full": History("who makes room in a full register, and terms that are opened again", _full, RECORDS_MAX),
    "headers": History(
        "an attestation whose header aged out", _headers, headers_remembered=HEADERS_REMEMBERED
    ),
    **{f"random_{seed}": _random(seed) for seed in (3, 5, 8)},
}


if __name__ == "__main__":
    for file_name, text in render().items():
        (FOLDER / file_name).write_text(text)
