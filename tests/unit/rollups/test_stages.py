"""Time by stage at a rollup node: executing a block passes every stage up to its commit."""

from pathlib import Path

from lockstep.transactions import Transfer
from rollups.lookahead import ENTRIES_INLINE_MAX
from rollups.stages import STAGES
from tests.unit.rollups.chain import ALPHA, ANN, CARL, Chain
from tests.unit.rollups.running import FakeOrder, reach, running


def pay(order: FakeOrder, count: int) -> int:
    payments = [order.chain.signed(ANN, Transfer(b"gold", CARL.public_key, 1)) for _ in range(count)]
    return order.block(*((ALPHA, payment) for payment in payments))


async def test_small_and_large_blocks_pass_every_stage(tmp_path: Path) -> None:
    order = FakeOrder(Chain())
    async with running(tmp_path, order) as node:
        assert node.stages.total_ns == dict.fromkeys(STAGES, 0)
        before = dict(node.stages.total_ns)
        for count in (1, ENTRIES_INLINE_MAX + 1):
            await reach(node, pay(order, count))
            after = dict(node.stages.total_ns)
            passed = [stage for stage in STAGES if after[stage] > before[stage]]
            # The order is a fake: nothing was read from messages. Nothing was there to attest.
            assert passed == ["verify", "execute", "root", "commit"]
            before = after
