"""What a transaction writes into the coordinator's database (`bridge.storage`).

Owns the statements, and how long what is of no more use is kept. Decides nothing. Invariant: a swap's rows
are written whole, so that what is read back is the swap that was put.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from bridge.levels import Source
from bridge.swap import Sending, Swap
from deploy.node.database import SqlValue, Statement
from lockstep.v1 import bridge_pb2
from sequencer.client.messages import bundle_message

CHANGES_KEPT: Final = 100_000
"""Changes that can still be watched from; older numbers are PRUNED."""

EVENTS_WITH_IGNORED_MAX: Final = 512
"""Events of a swap, at which further entries that did nothing are not noted."""

LAPSED_KEPT_MS: Final = 3_600_000
"""Log time for which a swap that lapsed is remembered: it costs nothing to make many of them."""


def swap_statements(
    changed: Iterable[tuple[Swap | None, Swap]], message_of: Callable[[Swap], bridge_pb2.Swap]
) -> Iterator[Statement]:
    """Yield what brings the database from the first to the second of each pair; None: it is new.

    `message_of` gives a swap as it travels.
    """
    pairs = list(changed)
    ids = [(after.swap_id,) for _, after in pairs]
    yield "DELETE FROM locks WHERE swap_id = ?", ids
    yield "DELETE FROM preimages WHERE swap_id = ?", ids
    yield "DELETE FROM sendings WHERE swap_id = ?", ids
    yield _PUT_SWAP, [_swap_row(after, message_of(after)) for _, after in pairs]
    yield (
        "INSERT INTO parties VALUES (?1, ?2, seal(?1, ?2))",
        [(party, new.number) for old, new in pairs if old is None for party in _parties(new)],
    )
    yield (
        "INSERT INTO locks VALUES (?1, ?2, ?3, ?4, seal(?1, ?2, ?3, ?4))",
        [
            (swap.swap_id, leg, lock.payload, lock.is_ordered)
            for _, swap in pairs
            for leg, lock in swap.locks.items()
        ],
    )
    yield (
        "INSERT INTO preimages VALUES (?1, ?2, seal(?1, ?2))",
        [(swap.swap_id, swap.preimage) for _, swap in pairs if swap.preimage is not None],
    )
    yield (
        "INSERT INTO sendings VALUES (?1, ?2, ?3, ?4, ?5, seal(?1, ?2, ?3, ?4, ?5))",
        [
            (swap.swap_id, each.kind, each.leg, _bundle_bytes(each), each.is_asked)
            for _, swap in pairs
            for each in swap.sendings.values()
        ],
    )
    stepped = [(old, new) for old, new in pairs if old is None or new.step_height != old.step_height]
    yield DELETE_STEP, [row for old, _ in stepped if old is not None for row in _waiting_rows(old)]
    yield (
        "INSERT INTO waiting_steps VALUES (?1, ?2, ?3, ?4, seal(?1, ?2, ?3, ?4))",
        [row for _, new in stepped for row in _waiting_rows(new)],
    )


def register_statements(changed: Iterable[tuple[bytes, bytes | None]]) -> Iterator[Statement]:
    """Yield what puts rows of the register's table; a value of None deletes."""
    rows = list(changed)
    yield "DELETE FROM register WHERE key = ?", [(key,) for key, value in rows if value is None]
    yield (
        "INSERT OR REPLACE INTO register VALUES (?1, ?2, seal(?1, ?2))",
        [row for row in rows if row[1] is not None],
    )


def pruning_statements(*, next_sequence: int, time_ms: int) -> Iterator[Statement]:
    """Yield what forgets changes beyond CHANGES_KEPT and swaps that lapsed LAPSED_KEPT_MS ago."""
    before = [(time_ms - LAPSED_KEPT_MS,)]
    yield "DELETE FROM changes WHERE sequence < ?", [(next_sequence - CHANGES_KEPT,)]
    yield (
        "DELETE FROM parties WHERE number IN (SELECT number FROM swaps WHERE phase = 8 AND final_ms < ?)",
        before,
    )
    yield (
        "DELETE FROM proposals WHERE swap_id IN (SELECT swap_id FROM swaps WHERE phase = 8 AND final_ms < ?)",
        before,
    )
    yield (
        "DELETE FROM events WHERE number IN (SELECT number FROM swaps WHERE phase = 8 AND final_ms < ?)",
        before,
    )
    yield "DELETE FROM swaps WHERE phase = 8 AND final_ms < ?", before


PUT_PROPOSAL: Final = "INSERT INTO proposals VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))"
"""Idempotency key, swap id, policy."""

PUT_ACTED: Final = (
    "INSERT OR REPLACE INTO acted SELECT number, ?2, ?3, seal(number, ?2, ?3) FROM swaps WHERE swap_id = ?1"
)
"""Swap id, kind, response."""

PUT_CHANGE: Final = "INSERT INTO changes VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))"
"""Sequence, swap id, view."""

PUT_EVENT: Final = (
    "INSERT INTO events SELECT number, coalesce(last, 0) + 1, ?2, seal(number, coalesce(last, 0) + 1, ?2) "
    "FROM (SELECT number, phase, (SELECT max(place) FROM events WHERE events.number = swaps.number) AS last "
    "FROM swaps WHERE swap_id = ?1) WHERE ?3 IS NULL OR last < ?3 AND phase BETWEEN 3 AND 7"
)
"""Swap id, event, and None; or a number of events beyond which it is not kept, nor before all others, nor
unless the order has the swap."""

PUT_VIEW: Final = (
    "UPDATE swaps SET level = ?1, sequence = ?2, view = ?3, seal = "
    "seal(number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, ?2, ?3, ?1) WHERE swap_id = ?4"
)
"""Level, sequence, view, swap id; of a swap that is over."""

PUT_HEIGHT: Final = "INSERT OR REPLACE INTO heights VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))"
"""Source, rollup, height."""

PUT_CHECKPOINT: Final = "INSERT OR REPLACE INTO checkpoints VALUES (?1, ?2, ?3, seal(?1, ?2, ?3))"
"""Origin, size in 8 bytes, root."""

PUT_COMMITS: Final = "INSERT OR REPLACE INTO commits VALUES (1, ?1, seal(?1))"
"""How many transactions there were, this one among them."""

DELETE_STEP: Final = "DELETE FROM waiting_steps WHERE source = ? AND rollup = ? AND height = ? AND number = ?"
"""Source, rollup, height, number."""

_PUT_SWAP: Final = (
    "INSERT INTO swaps "
    "(number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, sequence, level, view, seal) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, seal(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?10, ?9)) "
    "ON CONFLICT (number) DO UPDATE SET phase = excluded.phase, "
    "policy = excluded.policy, is_bundle_ordered = excluded.is_bundle_ordered, "
    "final_ms = excluded.final_ms, sequence = excluded.sequence, level = excluded.level, "
    "view = excluded.view, seal = excluded.seal"
)


def _swap_row(swap: Swap, message: bridge_pb2.Swap) -> tuple[SqlValue, ...]:
    return (
        swap.number,
        swap.swap_id,
        swap.terms_bytes,
        swap.phase,
        swap.policy or 0,
        swap.is_bundle_ordered,
        swap.final_ms,
        swap.sequence,
        swap.level,
        message.SerializeToString(),
    )


def _waiting_rows(swap: Swap) -> Iterator[tuple[SqlValue, ...]]:
    """Yield for whom a swap's last step waits at first: every leg's rollup, twice."""
    if swap.step_height:
        for rollup in {leg.rollup for leg in swap.terms.legs}:
            for source in Source:
                yield source, rollup, swap.step_height, swap.number


def _parties(swap: Swap) -> set[bytes]:
    return {party for leg in swap.terms.legs for party in (leg.sender, leg.recipient)}


def _bundle_bytes(sending: Sending) -> bytes:
    return bundle_message(sending.bundle).SerializeToString()
