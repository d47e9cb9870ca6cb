"""What calls read of the coordinator's database: swaps as they were committed last, and their changes.

Owns the queries. Reads wait for no write, and see nothing that is not durable.
"""

import json
from collections.abc import Collection
from typing import Final

from bridge.commands import WaitingStep
from bridge.levels import Heights, Source
from deploy.node.database import Database
from lockstep.types import RollupId, SwapId
from lockstep.v1 import bridge_pb2


class Views:
    """Reads of what was committed last, for calls that change nothing."""

    def __init__(self, database: Database) -> None:
        """Read from `database`."""
        self._database = database

    async def swap(self, swap_id: SwapId) -> bridge_pb2.Swap | None:
        """Return a swap, or None if it is not known."""
        row = await self._database.read_one(_SWAP, (swap_id,))
        return None if row is None else bridge_pb2.Swap.FromString(row[0])

    async def swaps(self, numbers: Collection[int]) -> list[bridge_pb2.Swap]:
        """Return the swaps with these numbers, those of them that are known, in no order."""
        rows = await self._database.read(_NUMBERED, (json.dumps(list(numbers)),))
        return [bridge_pb2.Swap.FromString(view) for (view,) in rows]

    async def page(
        self, *, party: bytes, phases: int, below: int, limit: int
    ) -> list[tuple[int, bridge_pb2.Swap]]:
        """Return the newest swaps with a number below `below`, each with its number.

        `phases` has bit `p` set for each phase `p` that is wanted. An empty party wants all.
        """
        if party:
            rows = await self._database.read(_PARTY_PAGE, (party, below, phases, limit))
        else:
            rows = await self._database.read(_SWAPS_PAGE, (below, phases, limit))
        return [(number, bridge_pb2.Swap.FromString(view)) for number, view in rows]

    async def standing(self, after: int, before: int, limit: int) -> list[bridge_pb2.Swap]:
        """Return how swaps stand whose last change has a number between the two, in order of it."""
        rows = await self._database.read(_STANDING_PAGE, (after, before, limit))
        return [bridge_pb2.Swap.FromString(view) for (view,) in rows]

    async def changes(self, first: int, limit: int) -> list[bridge_pb2.Swap]:
        """Return changes from a number on, in order."""
        rows = await self._database.read(_CHANGES_PAGE, (first, limit))
        return [bridge_pb2.Swap.FromString(view) for (view,) in rows]

    async def events(self, swap_id: SwapId) -> list[bridge_pb2.SwapEvent]:
        """Return what happened to a swap, in order."""
        rows = await self._database.read(
            "SELECT event FROM events WHERE number = (SELECT number FROM swaps WHERE swap_id = ?) "
            "AND sound(seal, number, place, event) ORDER BY place",
            (swap_id,),
        )
        return [bridge_pb2.SwapEvent.FromString(event) for (event,) in rows]

    async def awaited_height(self, source: Source, rollup: RollupId) -> int:
        """Return the highest block that a swap waits for a rollup to get to; 0 if none does."""
        row = await self._database.read_one(_LAST_STEP, (source, rollup))
        return 0 if row is None else int(row[0])

    async def due_steps(self, heights: Heights, limit: int) -> tuple[WaitingStep, ...]:
        """Return at most `limit` steps that wait for no more than `heights`, lowest first for each source."""
        found: list[WaitingStep] = []
        for (source, rollup), height in heights.by_source.items():
            rows = await self._database.read(_DUE_STEPS, (source, rollup, height, limit - len(found)))
            found += [WaitingStep(source, rollup, *step) for step in rows]
        return tuple(found)


_SWAP: Final = (
    "SELECT view FROM swaps WHERE swap_id = ? AND "
    "sound(swaps.seal, number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, "
    "sequence, view, level)"
)
_NUMBERED: Final = (
    "SELECT view FROM swaps WHERE number IN (SELECT value FROM json_each(?)) AND "
    "sound(swaps.seal, number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, "
    "sequence, view, level)"
)
_LAST_STEP: Final = (
    "SELECT height FROM waiting_steps WHERE source = ? AND rollup = ? "
    "AND sound(seal, source, rollup, height, number) ORDER BY height DESC LIMIT 1"
)
_DUE_STEPS: Final = (
    "SELECT height, number, swap_id FROM waiting_steps JOIN swaps USING (number) "
    "WHERE source = ? AND rollup = ? AND height <= ? "
    "AND sound(waiting_steps.seal, source, rollup, height, number) AND "
    "sound(swaps.seal, number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, "
    "sequence, view, level) ORDER BY height LIMIT ?"
)
_PARTY_PAGE: Final = (
    "SELECT number, view FROM parties JOIN swaps USING (number) "
    "WHERE party = ? AND number < ? AND sound(parties.seal, party, number) AND "
    "sound(swaps.seal, number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, "
    "sequence, view, level) AND ((1 << phase) & ?) != 0 ORDER BY number DESC LIMIT ?"
)
_SWAPS_PAGE: Final = (
    "SELECT number, view FROM swaps WHERE number < ? AND "
    "sound(swaps.seal, number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, "
    "sequence, view, level) "
    "AND ((1 << phase) & ?) != 0 ORDER BY number DESC LIMIT ?"
)
_STANDING_PAGE: Final = (
    "SELECT view FROM swaps WHERE sequence > ? AND sequence < ? AND "
    "sound(swaps.seal, number, swap_id, terms, phase, policy, is_bundle_ordered, final_ms, "
    "sequence, view, level) "
    "ORDER BY sequence LIMIT ?"
)
_CHANGES_PAGE: Final = (
    "SELECT view FROM changes WHERE sequence >= ? AND sound(seal, sequence, swap_id, view) "
    "ORDER BY sequence LIMIT ?"
)
