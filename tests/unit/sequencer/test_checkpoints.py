"""Checkpoints of the settlement log on their way into the order."""

import asyncio

import pytest

from lockstep.checkpoint import Checkpoint, encode_checkpoint, sign_note
from lockstep.errors import LockstepError, NotReady, UnavailablePeer
from lockstep.limits import VALIDITY_WINDOW_MS_DEFAULT
from lockstep.order import Bundle, Placement
from lockstep.register import genesis_register
from lockstep.settlement_entries import decode_log_entry
from lockstep.types import LOG_NAMESPACE, BundleId, Height
from sequencer.admission import admit, open_namespaces
from sequencer.builder import propose
from sequencer.chain import ChainState
from sequencer.checkpoints import Checkpoints
from tests.unit.sequencer.chain import CHAIN, GENESIS, SETTLEMENT, TIME_MS

ORIGIN = GENESIS.settlement.origin


class Rig:
    """A log that has grown to `size`, and an order that takes what is submitted at once."""

    def __init__(self) -> None:
        self.size = 0
        self.asked = 0
        self.failures: list[LockstepError] = []
        self.submitted: list[Bundle] = []
        self.chain = ChainState(genesis_register(GENESIS))
        self.checkpoints = Checkpoints(self, self.submit, self.chain, interval_ms=10)

    async def signed_checkpoint(self) -> tuple[Checkpoint, bytes]:
        self.asked += 1
        if self.failures:
            raise self.failures.pop()
        body = encode_checkpoint(ORIGIN, self.size, bytes(32))
        note = sign_note(body, name=ORIGIN, public_key=SETTLEMENT.public_key, sign=SETTLEMENT.sign_raw)
        return Checkpoint(ORIGIN, self.size, bytes(32)), note

    def submit(self, bundle: Bundle) -> "asyncio.Future[Placement]":
        self.submitted.append(bundle)
        return asyncio.ensure_future(self._order(bundle))

    async def _order(self, bundle: Bundle) -> Placement:
        admitted = admit(CHAIN, bundle, open_namespaces(self.chain.registry))
        tip = self.chain.register.tip
        await self.chain.apply(propose(tip, tip.time_ms + 1, [admitted]).block)
        return Placement(BundleId(admitted.bundle_id), Height(self.chain.height), 0, 1)


async def test_one_is_ordered_when_the_log_has_grown() -> None:
    rig = Rig()
    assert await rig.checkpoints.order() is None
    rig.size = 3
    placement = await rig.checkpoints.order()
    assert placement is not None
    assert placement.height == 1
    [bundle] = rig.submitted
    assert bundle.valid_until_ms == TIME_MS + VALIDITY_WINDOW_MS_DEFAULT
    [(namespace, payload)] = bundle.transactions
    assert namespace == LOG_NAMESPACE
    assert decode_log_entry(payload) == (await rig.signed_checkpoint())[1]
    assert rig.chain.log_size == 3
    assert await rig.checkpoints.order() is None
    rig.size = 4
    assert await rig.checkpoints.order() is not None
    assert len(rig.submitted) == 2


async def test_failures_delay_and_end_nothing() -> None:
    rig = Rig()
    rig.size = 1
    rig.failures = [UnavailablePeer(peer="log"), NotReady(reason="starting"), UnavailablePeer(peer="log")]
    with pytest.raises(LockstepError):
        await rig.checkpoints.order()
    task = asyncio.create_task(rig.checkpoints.run())
    async with asyncio.timeout(10):
        while not rig.submitted:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0)
    assert rig.asked >= 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
