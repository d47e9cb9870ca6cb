"""Who waits for receipts that are not there yet.

Owns the waits, so that a block wakes those whose receipts it wrote and nobody else: hundreds may wait, and
each that is woken searches the database. Invariant: who began to wait before a search in vain is woken when
the receipt is published.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from lockstep.receipts import about

NO_LEG: Final = -1
"""Stands as the leg of a transaction's receipt."""

Awaited: TypeAlias = tuple[bytes, int] | int
"""A transaction's id with NO_LEG, a swap's id with a leg, or a receipt's index among all."""


class ReceiptWaits:
    """The waits of one node."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Awaited, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def of(self, awaited: Awaited) -> Iterator[asyncio.Event]:
        """Give an event that is set, while the `with` block lasts, by a receipt that is awaited in it."""
        woken = asyncio.Event()
        self._waiting[awaited].add(woken)
        try:
            yield woken
        finally:
            self._waiting[awaited].discard(woken)
            if not self._waiting[awaited]:
                del self._waiting[awaited]

    def publish(self, first_index: int, receipts: Sequence[bytes]) -> None:
        """Wake who waits for one of these receipts, which can be had now."""
        if not self._waiting:
            return
        for index, encoded in enumerate(receipts, first_index):
            found = about(encoded)
            self._wake(index)
            self._wake((found.subject, NO_LEG if found.leg is None else found.leg))

    def wake_all(self) -> None:
        """Wake everybody, to see what became of the node itself."""
        for awaited in self._waiting:
            self._wake(awaited)

    def _wake(self, awaited: Awaited) -> None:
        for woken in self._waiting.get(awaited, ()):
            woken.set()
