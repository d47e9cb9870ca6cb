"""Streams of changes that can be resumed at any number.

Owns what a watcher is sent. Reads what was committed, page by page, what is newest from memory, so that a
slow reader costs nothing but its place. Invariant: every change from the first number on is sent once and in
order, or the stream ends with PRUNED.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

from bridge.coordinator import Coordinator
from bridge.reading import Views
from deploy.node.server import unless_stopping
from lockstep.errors import NotYet, Pruned
from lockstep.terms import decode_terms
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2

PAGE_CHANGES: Final = 128
"""Changes of one message; a swap has a few kilobytes, a message three megabytes."""


class Watch:
    """One watcher's stream."""

    def __init__(
        self,
        coordinator: Coordinator,
        views: Views,
        swap_ids: frozenset[SwapId],
        party: bytes,
        stopping: asyncio.Event,
    ) -> None:
        """Watch these swaps, or all, of this party, or of all, until `stopping` is set."""
        self._coordinator = coordinator
        self._views = views
        self._swap_ids = swap_ids
        self._party = party
        self._stopping = stopping

    async def responses(self, from_sequence: int) -> AsyncIterator[bridge_pb2.WatchSwapsResponse]:
        """Yield changes from a number on; from 0, first how each swap stands now.

        Raises Pruned, NotYet, and ShuttingDown at the end.
        """
        if from_sequence == 0:
            from_sequence = self._coordinator.book.durable_sequence
            async for standing in self._standing(from_sequence):
                yield standing
        while True:
            # Taken before the read: what is committed after the read sets it.
            changed = self._coordinator.changed
            self._check(from_sequence)
            page = self._coordinator.book.newest_from(from_sequence, PAGE_CHANGES)
            if page is None:
                page = await self._views.changes(from_sequence, PAGE_CHANGES)
            if not page:
                await unless_stopping(self._stopping, changed.wait())
                continue
            from_sequence = page[-1].sequence + 1
            if response := self._response(page):
                yield response

    async def _standing(self, before: int) -> AsyncIterator[bridge_pb2.WatchSwapsResponse]:
        """Yield how swaps stand, in order of their last change, those left out that change meanwhile."""
        if self._swap_ids:
            found = [await self._views.swap(swap_id) for swap_id in self._swap_ids]
            asked = [swap for swap in found if swap is not None and swap.sequence < before]
            asked.sort(key=lambda swap: swap.sequence)
            for start in range(0, len(asked), PAGE_CHANGES):
                if response := self._response(asked[start : start + PAGE_CHANGES]):
                    yield response
            return
        after = 0
        while page := await self._views.standing(after, before, PAGE_CHANGES):
            after = page[-1].sequence
            if response := self._response(page):
                yield response

    def _check(self, from_sequence: int) -> None:
        book = self._coordinator.book
        if from_sequence < book.first_sequence:
            raise Pruned(height=from_sequence, first_available=book.first_sequence)
        if from_sequence > book.durable_sequence:
            raise NotYet(height=from_sequence, newest=book.durable_sequence - 1)

    def _response(self, page: Iterable[bridge_pb2.Swap]) -> bridge_pb2.WatchSwapsResponse | None:
        swaps = list(filter(self._is_wanted, page))
        if not swaps:
            return None
        return bridge_pb2.WatchSwapsResponse(swaps=swaps, next_sequence=swaps[-1].sequence + 1)

    def _is_wanted(self, swap: bridge_pb2.Swap) -> bool:
        if self._swap_ids and SwapId(swap.swap_id) not in self._swap_ids:
            return False
        if not self._party:
            return True
        return any(self._party in (leg.sender, leg.recipient) for leg in decode_terms(swap.terms).legs)
