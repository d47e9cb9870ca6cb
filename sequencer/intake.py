"""From a bundle as it was sent to its place in the order.

Owns the sequence admission, writer, and last the look into history: a bundle whose window has passed gets
its receipt if it was ordered in time.
"""

import asyncio

from lockstep.block import AdmittedBundle
from lockstep.errors import Expired
from lockstep.order import Bundle, Placement
from lockstep.types import ChainId
from sequencer.admission import admit
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
        """Accept a bundle and return a future of its place, which others may share: never cancel it.

        Raises what `admit` and `Writer.submit` raise, having accepted nothing. The future fails with Expired
        if the bundle's window passed without it.
        """
        admitted = admit(self._chain_id, bundle, self._chain.namespaces)
        try:
            return self._writer.submit(admitted)
        except Expired as error:
            looking = asyncio.ensure_future(self._look_up(admitted, error))
            # Whoever asked may be gone when the answer is there.
            looking.add_done_callback(lambda task: task.cancelled() or task.exception())
            return looking

    async def _look_up(self, bundle: AdmittedBundle, error: Expired) -> Placement:
        placement = await self._engine.find(bundle.bundle_id, bundle.valid_until_ms)
        if placement is None:
            raise error
        return placement
