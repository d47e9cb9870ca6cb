"""A coordinator on a database of its own, in this process: what its tests share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.book import Book
from bridge.client import RevealPolicy, SwapPhase, SwapView
from bridge.client.views import parse_swap
from bridge.coordinator import Coordinator
from bridge.reading import Views
from bridge.service import NAME, BridgeService
from bridge.storage import APPLICATION_ID, SCHEMA, load
from deploy.node.database import Database, open_database
from deploy.node.logs import Secret
from deploy.node.server import ServerSettings, serving
from lockstep.terms import swap_id_of
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2
from tests.unit.bridge.chain import GENESIS, FakeOrder, locks_of
from tests.unit.bridge.chain import kinds as kinds_of

DEADLINE_S = 15
FIRST_SEQUENCE = 1_000


@dataclass
class Rig:
    """A running coordinator."""

    order: FakeOrder
    coordinator: Coordinator
    service: BridgeService
    views: Views
    database: Database
    stopping: asyncio.Event
    work: "asyncio.Task[None]"

    async def propose(
        self,
        terms_bytes: bytes,
        *,
        key: bytes = b"",
        policy: RevealPolicy = RevealPolicy.BY_TRADER,
        preimage: Secret | None = None,
    ) -> SwapView:
        request = bridge_pb2.ProposeRequest(
            idempotency_key=key or swap_id_of(terms_bytes),
            terms=terms_bytes,
            reveal_policy=bridge_pb2.RevealPolicy.ValueType(policy),
            preimage=b"" if preimage is None else preimage.reveal(),
        )
        return parse_swap((await self.service.propose(request)).swap)

    async def accept(self, swap_id: SwapId, leg: int, lock: bytes) -> SwapView:
        request = bridge_pb2.AcceptRequest(swap_id=swap_id, leg=leg, lock=lock)
        return parse_swap((await self.service.accept(request)).swap)

    async def reveal(self, swap_id: SwapId, preimage: bytes) -> bridge_pb2.RevealResponse:
        return await self.service.reveal(bridge_pb2.RevealRequest(swap_id=swap_id, preimage=preimage))

    async def cancel(self, entry: bytes) -> bridge_pb2.CancelResponse:
        return await self.service.cancel(bridge_pb2.CancelRequest(cancel=entry))

    async def swap(self, swap_id: SwapId) -> SwapView:
        view = await self.views.swap(swap_id)
        assert view is not None
        return parse_swap(view)

    async def give(self, terms_bytes: bytes) -> SwapId:
        """Give both locks of a swap."""
        swap_id = swap_id_of(terms_bytes)
        for leg, lock in enumerate(locks_of(terms_bytes)):
            await self.accept(swap_id, leg, lock)
        return swap_id

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; whoever waits longer has found a defect."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                if self.work.done():
                    self.work.result()
                await asyncio.sleep(0)

    async def until_followed(self) -> None:
        """Wait until the coordinator has taken in the newest block, durably if it holds anything for it."""
        book = self.coordinator.book
        await self.until(
            lambda: book.register.height == self.order.tip.height and not book.batch.is_worth_committing
        )

    async def until_sent(self, kinds: Collection[str]) -> None:
        """Wait until a bundle of these transactions waits to be ordered."""
        await self.until(lambda: any(kinds_of(each) == list(kinds) for each in self.order.waiting.values()))

    async def until_phase(self, swap_id: SwapId, *phases: SwapPhase) -> SwapView:
        """Wait until the durable state of a swap is one of these."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                changed = self.coordinator.changed
                view = await self.views.swap(swap_id)
                if view is not None and SwapPhase(view.phase) in phases:
                    return parse_swap(view)
                waiting = asyncio.create_task(changed.wait())
                done, _ = await asyncio.wait((waiting, self.work), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self.work in done:
                    self.work.result()


@asynccontextmanager
async def running(path: Path, order: FakeOrder) -> AsyncIterator[Rig]:
    """Run a coordinator on the database at `path` that follows `order`.

    Ends it at the end of the block without any last word, as a kill would. If it ends by itself, its failure
    is raised.
    """
    async with open_database(path, schema=SCHEMA, application_id=APPLICATION_ID) as database:
        book = Book(await load(database, GENESIS, new_sequence=FIRST_SEQUENCE))
        coordinator = Coordinator(book, database, order, order)
        views, stopping = Views(database), asyncio.Event()
        service = BridgeService(genesis=GENESIS, coordinator=coordinator, views=views, stopping=stopping)
        work = asyncio.create_task(coordinator.run())
        rig = Rig(order, coordinator, service, views, database, stopping, work)
        try:
            if order.blocks:
                if book.register.height == order.tip.height:
                    # A real order makes blocks for ever; only the next one tells a follower where the end is.
                    order.block(takes_waiting=False)
                await rig.until(coordinator.caught_up.is_set)
            yield rig
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


@asynccontextmanager
async def served(path: Path, order: FakeOrder, *, port: int = 0) -> AsyncIterator[tuple[Rig, str]]:
    """Run a coordinator with its server; yield it and the server's address."""
    async with (
        running(path, order) as rig,
        serving(
            ServerSettings(port=port, stop_grace_ms=200),
            register=rig.service.register,
            service_names=(NAME,),
            stopping=rig.stopping,
        ) as server,
    ):
        yield rig, server.address


def started() -> FakeOrder:
    """Return an order with a block, so that a coordinator can have caught up."""
    order = FakeOrder()
    order.block()
    return order
