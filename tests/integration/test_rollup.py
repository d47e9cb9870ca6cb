"""Rollup nodes as processes: a swap over two of them, and each of them killed on the way."""

import asyncio
import shutil
from pathlib import Path

import pytest

from bridge.settlement.client import SettlementClient
from lockstep.commitment import commitment_hash
from lockstep.receipts import ReceiptCode, SettlementCode
from lockstep.register import Phase
from lockstep.transactions import Transfer, decode_transaction
from tests.integration.rollup_deals import Deal, make_deal, signed
from tests.integration.rollup_network import DEADLINE_S, Network, network
from tests.unit.rollups.chain import ALPHA, ANN, BOB, CARL

pytestmark = pytest.mark.processes


async def verify_committed(net: Network, *deals: Deal) -> None:
    """Check that the deals, and nothing else, moved."""
    count = len(deals)
    alpha, beta = await net.client("alpha-0"), await net.client("beta-0")
    assert await alpha.balance(ANN.public_key, "gold") == 1_000 - 100 * count
    assert await alpha.balance(BOB.public_key, "gold") == 1_000 + 100 * count
    assert await beta.balance(ANN.public_key, "gold") == 1_000 + 40 * count
    assert await beta.balance(BOB.public_key, "gold") == 1_000 - 40 * count


async def test_transfers_and_a_swap_and_what_the_log_then_has(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1") as net:
        alpha = await net.client("alpha-0")
        time_ms = await net.sequencer.time_ms()
        payment = signed(net, ANN, Transfer(b"gold", CARL.public_key, 7), ALPHA, time_ms)
        ordered = await net.order((ALPHA, payment))
        receipt = await alpha.receipt(decode_transaction(payment).id, wait_ms=20_000)
        assert (receipt.code, receipt.height) == (ReceiptCode.OK, ordered.placement.height)
        assert await alpha.balance(CARL.public_key, "gold", min_height=receipt.height) == 7
        back = signed(net, CARL, Transfer(b"gold", ANN.public_key, 7), ALPHA, time_ms)
        await net.order((ALPHA, back))

        deal = await make_deal(net)
        opened = await net.order(deal.open, *deal.locks)
        await deal.until_phase("alpha-0", Phase.LOCKED, opened.placement.height)
        await net.order(deal.reveal)
        ends = [await deal.until_settled("alpha-0", 0), await deal.until_settled("beta-0", 1)]
        assert [end.code for end in ends] == [SettlementCode.COMMITTED] * 2
        assert ends[0].height == ends[1].height
        await verify_committed(net, deal)
        await net.verify_same("beta-0", "beta-1")

        async with SettlementClient(net.nodes["settlement"].address, net.genesis) as log:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    anchored = (await log.status()).rollups.get("alpha")
                    if anchored is not None and anchored.height >= ends[0].height:
                        break
                    await alpha.balances(ANN.public_key, min_height=(await alpha.status()).height + 1)
            assert commitment_hash(await alpha.commitment(anchored.height)) == anchored.commitment_hash
        assert (await alpha.status()).outbox_items == 0
        for name in ("alpha-0", "beta-0", "beta-1"):
            assert await net.nodes[name].end() == 0, net.nodes[name].log()


@pytest.mark.parametrize(
    "failpoint",
    [
        "rollup.block.before_commit",
        "rollup.block.committed",
        "database.commit.after",
        "rollup.attest.before_send",
        "rollup.attest.sent",
        "rollup.commitment.stored",
        "rollup.commitment.before_send",
        "rollup.commitment.sent",
    ],
)
async def test_a_node_killed_at_a_point_of_a_swap_comes_back_to_the_replicas_state(
    tmp_path: Path, failpoint: str
) -> None:
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1") as net:
        beta = net.nodes["beta-0"]
        await beta.end()
        await beta.start(f"{failpoint}=kill@{1 if 'commit' not in failpoint else 2}")
        deal = await make_deal(net)
        await net.order(deal.open, *deal.locks, deal.reveal)
        assert await beta.ended() == -9, beta.log()
        await beta.start()
        ends = [await deal.until_settled("alpha-0", 0), await deal.until_settled("beta-0", 1)]
        assert [end.code for end in ends] == [SettlementCode.COMMITTED] * 2
        await verify_committed(net, deal)
        await net.verify_same("beta-0", "beta-1")


async def test_a_swap_commits_while_a_rollup_that_attested_is_dead(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1") as net:
        deal = await make_deal(net)
        opened = await net.order(deal.open, *deal.locks)
        await deal.until_phase("alpha-0", Phase.LOCKED, opened.placement.height)
        await net.nodes["beta-0"].kill()
        await net.order(deal.reveal)
        assert (await deal.until_settled("alpha-0", 0)).code == SettlementCode.COMMITTED
        assert (await deal.until_settled("beta-1", 1)).code == SettlementCode.COMMITTED
        await net.nodes["beta-0"].start()
        assert (await deal.until_settled("beta-0", 1)).code == SettlementCode.COMMITTED
        await verify_committed(net, deal)
        await net.verify_same("beta-0", "beta-1")


async def test_a_node_without_its_data_executes_everything_again(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0", "beta-1") as net:
        deals = []
        for _ in range(3):
            deal = await make_deal(net)
            deals.append(deal)
            await net.order(deal.open, *deal.locks, deal.reveal)
            await deal.until_settled("alpha-0", 0)
        await net.nodes["beta-0"].kill()
        shutil.rmtree(net.nodes["beta-0"].data)
        await net.nodes["beta-0"].start()
        assert (await deals[-1].until_settled("beta-0", 1)).code == SettlementCode.COMMITTED
        await verify_committed(net, *deals)
        await net.verify_same("beta-0", "beta-1")
        deal = await make_deal(net)
        await net.order(deal.open, *deal.locks, deal.reveal)
        await deal.until_settled("beta-0", 1)
        await deal.until_settled("alpha-0", 0)
        await verify_committed(net, *deals, deal)


async def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0") as net:
        alpha = net.nodes["alpha-0"]
        with pytest.raises(AssertionError, match="is locked by process"):
            await type(alpha)(alpha.name, alpha.module, alpha.folder, alpha.settings).start()


async def test_a_node_of_no_rollup_is_refused(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0") as net:
        alpha = net.nodes["alpha-0"]
        other = type(alpha)("Other", alpha.module, alpha.folder, 'rollup = "Other"\nsequencer = "x:1"')
        with pytest.raises(AssertionError, match="is no rollup's id"):
            await other.start()
