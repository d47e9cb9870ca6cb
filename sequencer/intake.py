"""From a bundle as it was sent to its place in the order.

Owns the sequence admission, writer, and last the look into history: a bundle whose window has passed gets
its receipt if it was ordered in time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from lockstep.block import AdmittedBundle
from lockstep.errors import Expired, LockstepError, ShuttingDown
from lockstep.order import Bundle, Placement, Singles
from lockstep.types import ChainId, Namespace
from sequencer.admission import admit, admit_at_once
from sequencer.answers import Answer, Asker
from sequencer.chain import ChainState
from sequencer.engine import OrderingEngine
from sequencer.writer import Writer


class Intake:
    """Accepts bundles or says why not."""

    def __init__(self, chain_id: ChainId, chain: ChainState, writer: Writer, engine: OrderingEngine) -> None:
        self._chain_id = chain_id
        self._chain = chain
        self._writer = writer
        self._engine = engine

    def submit(self, bundle: Bundle) -> "asyncio.Future[Placement]":
        """Accept a bundle and return a future of its place.

        Raises what `admit` and `Writer.accept` raise, having accepted nothing. The future fails with Expired
        if the bundle's window passed without it.
        """
        answer = Answer()
        self._accept(admit(self._chain_id, bundle, self._chain.namespaces), answer, 0)
        return answer.place

    def accept_all(self, numbers: Sequence[int], bundles: Singles | Sequence[Bundle], asker: Asker) -> None:
        """Accept bundles, of whose outcomes `asker` is told under `numbers`."""
        if not isinstance(bundles, Singles):
            self._accept_each(numbers, bundles, asker)
            return
        for some, alike in _by_namespace(numbers, bundles):
            parcel = admit_at_once(self._chain_id, alike, self._chain.namespaces)
            if parcel is None or not self._writer.accept_at_once(some, parcel, asker):
                self._accept_each(some, alike, asker)

    def _accept_each(self, numbers: Sequence[int], bundles: Iterable[Bundle], asker: Asker) -> None:
        for number, bundle in zip(numbers, bundles, strict=True):
            try:
                self._accept(admit(self._chain_id, bundle, self._chain.namespaces), asker, number)
            except LockstepError as error:
                asker.tell(number, error)

    def _accept(self, bundle: AdmittedBundle, asker: Asker, number: int) -> None:
        """Accept a bundle, of whose outcome `asker` is told. Raises as `Writer.accept`, but for Expired."""
        try:
            self._writer.accept(bundle, asker, number)
        except Expired as error:
            looking = asyncio.ensure_future(self._look_up(bundle, error))
            looking.add_done_callback(partial(_tell, asker, number))

    async def _look_up(self, bundle: AdmittedBundle, error: Expired) -> Placement:
        placement = await self._engine.find(bundle.bundle_id, bundle.valid_until_ms)
        if placement is None:
            raise error
        return placement


def _tell(asker: Asker, number: int, looking: "asyncio.Future[Placement]") -> None:
    error = ShuttingDown() if looking.cancelled() else looking.exception()
    asker.tell(number, looking.result() if error is None else error)


def _by_namespace(numbers: Sequence[int], bundles: Singles) -> Iterable[tuple[Sequence[int], Singles]]:
    """Return numbered bundles, those of each namespace together in their order."""
    if len(set(bundles.namespaces)) == 1:
        return ((numbers, bundles),)
    positions: defaultdict[Namespace, list[int]] = defaultdict(list)
    for position, namespace in enumerate(bundles.namespaces):
        positions[namespace].append(position)
    return [
        (
            [numbers[each] for each in chosen],
            Singles(
                [namespace] * len(chosen),
                [bundles.payloads[each] for each in chosen],
                [bundles.windows_ms[each] for each in chosen],
            ),
        )
        for namespace, chosen in positions.items()
    ]
