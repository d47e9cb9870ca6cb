"""From a bundle as it was sent to its place in the order.

Owns the sequence admission, writer, and last the look into history: a bundle whose window has passed gets
its receipt if it was ordered in time.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from lockstep.block import AdmittedBundle
from lockstep.errors import Expired, LockstepError, ShuttingDown
from lockstep.order import Bundle, Placement, Singles
from lockstep.types import ChainId
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
        admitted = None
        if isinstance(bundles, Singles):
            admitted = admit_at_once(self._chain_id, bundles, self._chain.namespaces)
        if admitted is None or not self._writer.accept_at_once(numbers, admitted, asker):
            self._accept_each(numbers, bundles, asker)

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
