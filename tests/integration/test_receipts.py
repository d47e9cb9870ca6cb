"""Receipts of swaps over real processes: every end of a swap, keys that were replaced, services that lie."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.client import BridgeClient, Failover, SwapPhase, SwapView
from bridge.client.receipts import Sources, get_swap_receipt, open_sources
from bridge.settlement.client import SettlementClient
from deploy.node.chain_files import save_key
from deploy.node.client import ClientSettings
from lockstep.attesters import AttesterSet
from lockstep.errors import LockstepError, NotFound, NotReady, ReceiptInvalid, UnknownSwap
from lockstep.receipts import PremiumOutcome
from lockstep.register import BLOCK_OPENING, OutcomeReason, Phase, Place
from lockstep.registry_entries import RegistryChange, RotateAttester, RotateKey, sign_change
from lockstep.swap_entries import sign_cancel
from lockstep.swap_receipt_legs import LegOutcome
from lockstep.swap_receipt_verify import VerifiedSwap, verify_swap_receipt
from lockstep.terms import Premium, PremiumShare, decode_terms, swap_id_of
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height, SwapId
from tests.integration.bridge_network import CYCLE, Market, market
from tests.integration.rollup_deals import Deal, make_deal
from tests.integration.rollup_network import DEADLINE_S, Network, Node, network
from tests.unit.rollups.chain import ALPHA, BETA, BOB, key, rollup, seed

pytestmark = pytest.mark.processes

TWO = {f"beta-{number}": f"attester {number} of beta" for number in range(2)}
TIMEOUT_MS = 40_000
PAID, RETURNED, NOTHING = LegOutcome.PAID, LegOutcome.RETURNED, LegOutcome.NOTHING_SHOWN


@asynccontextmanager
async def sources_of(net: Network, bridge: Node | None = None) -> AsyncIterator[Sources]:
    """Connect anew to everything, as somebody who knows the genesis file alone."""
    async with open_sources(
        net.genesis,
        sequencer=net.nodes["sequencer"].address,
        settlement=net.nodes["settlement"].address,
        rollups={
            name: [node.address for each, node in net.nodes.items() if each.startswith(name)]
            for name in CYCLE
            if f"{name}-0" in net.nodes or f"{name}-1" in net.nodes
        },
        bridges=[] if bridge is None else [bridge.address],
        settings=ClientSettings(reconnect_ms_max=100),
    ) as sources:
        yield sources


async def got(net: Network, swap_id: SwapId, bridge: Node | None = None) -> VerifiedSwap:
    """Get a receipt, and return what anybody finds in it."""
    async with sources_of(net, bridge) as sources:
        encoded, verified = await get_swap_receipt(sources, swap_id, timeout_ms=TIMEOUT_MS)
    assert verify_swap_receipt(encoded, net.genesis) == verified
    assert verified.swap_id == swap_id
    return verified


def ends(verified: VerifiedSwap) -> tuple[Phase, OutcomeReason, Sequence[LegOutcome]]:
    return verified.outcome, verified.reason, [leg.outcome for leg in verified.legs]


async def premium_terms(here: Market) -> bytes:
    """Return terms by which Ann, who reveals, pays a premium of 7 if she does not, in six seconds or so."""
    template = await here.terms()
    legs = decode_terms(template).legs
    return here.ann.new_terms(
        legs,
        time_ms=await here.net.sequencer.time_ms(),
        lock_within_ms=3_000,
        reveal_within_ms=5_000,
        premium=Premium(0, (PremiumShare(here.bob.account, 7),)),
    )


async def committed(here: Market, client: BridgeClient) -> SwapId:
    return await here.commit(client, await here.terms(CYCLE))


async def rejected(here: Market, client: BridgeClient) -> SwapId:
    """Nobody has that much."""
    return await here.give(client, await here.terms(amount=100_000))


async def not_revealed(here: Market, client: BridgeClient) -> SwapId:
    return await here.give(client, await premium_terms(here))


async def cancelled(here: Market, client: BridgeClient) -> SwapId:
    swap_id = await here.give(client, await here.terms())
    await client.wait_until(swap_id, [SwapPhase.LOCKED])
    await client.cancel(here.ann.sign_cancel(swap_id))
    return swap_id


async def test_every_end_of_a_swap_has_a_receipt(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0", "gamma-0", "beta-1") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        played = [await play(here, client) for play in (not_revealed, committed, rejected, cancelled)]
        # Each is asked for while its swap may still be on its way, and all at once.
        late, done, refused, withdrawn = await asyncio.gather(
            *(got(here.net, swap_id, bridge) for swap_id in played)
        )
        assert ends(done) == (Phase.COMMITTED, OutcomeReason.NONE, [PAID] * 3)
        assert [leg.recipient for leg in done.legs] == [
            trader.account for trader in (here.bob, here.carl, here.ann)
        ]
        assert ends(late) == (Phase.ABORTED, OutcomeReason.NOT_REVEALED, [RETURNED] * 2)
        assert late.decided.index == BLOCK_OPENING
        assert late.legs[0].premium_outcome == PremiumOutcome.PAID
        assert ends(refused) == (Phase.ABORTED, OutcomeReason.LEG_REJECTED, [NOTHING] * 2)
        assert ends(withdrawn) == (Phase.ABORTED, OutcomeReason.CANCELLED, [RETURNED] * 2)
        for verified, swap_id in zip((late, done, refused, withdrawn), played, strict=True):
            view = await client.swap(swap_id)
            decided = verified.decided.height, verified.decided.index
            assert decided == (view.decided_height, view.decided_index)

        # Long after, and without its database, it is the same story.
        await bridge.kill()
        again = await here.coordinator("another")
        assert (await got(here.net, played[1], again)).decided == done.decided


async def test_a_swap_without_an_end_has_none(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        swap_id = await here.give(client, await here.terms())
        await client.wait_until(swap_id, [SwapPhase.LOCKED])
        said: list[str] = []
        async with sources_of(here.net, bridge) as sources:
            with pytest.raises(NotReady, match="waiting for the swap's end"):
                await get_swap_receipt(sources, swap_id, timeout_ms=1_500, say=said.append)
            assert said[0] == "asking where the swap was opened"
            assert said[1].startswith("reading the settlement log up to block")
            nobody = SwapId(b"x" * 32)
            with pytest.raises(LockstepError, match="no swap"):
                await get_swap_receipt(sources, nobody, timeout_ms=1_500)


async def test_who_has_the_terms_needs_nobody_to_know_where_it_was_opened(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        terms, others = await here.terms(lock_within_ms=2_500), await here.terms(lock_within_ms=2_500)
        swap_id = await here.commit(client, terms)
        node = await here.net.client("alpha-0")
        async with asyncio.timeout(DEADLINE_S):
            # From then on the register has it no more, nor can the other one be opened.
            while await here.net.sequencer.time_ms() <= decode_terms(others).lock_by_ms + 100:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        with pytest.raises(UnknownSwap):
            await node.swap(swap_id)
        async with sources_of(here.net) as sources:
            with pytest.raises(UnknownSwap):
                await get_swap_receipt(sources, swap_id, timeout_ms=TIMEOUT_MS)
            _, verified = await get_swap_receipt(sources, swap_id, terms_bytes=terms, timeout_ms=TIMEOUT_MS)
            view = await client.swap(swap_id)
            assert verified.opened == Place(Height(view.opened_height), view.opened_index)
            with pytest.raises(NotFound, match="opening of swap"):
                await get_swap_receipt(sources, swap_id_of(others), terms_bytes=others, timeout_ms=TIMEOUT_MS)


class LyingBridge:
    """A coordinator that says of a swap what it wants."""

    def __init__(self, honest: BridgeClient, **lies: object) -> None:
        self._honest = honest
        self._lies = lies

    async def swap(self, swap_id: SwapId, *, timeout_ms: int) -> SwapView:
        view = await self._honest.swap(swap_id, timeout_ms=timeout_ms)
        return replace(view, **self._lies)  # type: ignore[arg-type]


async def test_a_coordinator_that_lies_gets_no_receipt_made(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as here:
        bridge = await here.coordinator()
        client = await here.client(bridge)
        swap_id = await here.commit(client, await here.terms())
        async with sources_of(here.net, bridge) as honest:
            encoded, told = await get_swap_receipt(honest, swap_id, timeout_ms=TIMEOUT_MS)
            height = told.opened.height
            for lies in (
                {"opened_height": height - 1},
                {"opened_height": height + 1},
                {"opened_index": told.opened.index + 1},
            ):
                liar: Failover[BridgeClient] = Failover([LyingBridge(client, **lies)])  # type: ignore[list-item]
                with pytest.raises(NotFound, match="opening of swap"):
                    await get_swap_receipt(replace(honest, bridges=liar), swap_id, timeout_ms=TIMEOUT_MS)
        # Nor does one that hands out a file of its own.
        with pytest.raises(ReceiptInvalid):
            verify_swap_receipt(encoded.replace(here.bob.account, here.carl.account), here.net.genesis)


async def test_a_swap_that_nobody_locked_has_no_receipt(tmp_path: Path) -> None:
    async with network(tmp_path, "alpha-0", "beta-0") as net:
        deal = await make_deal(net)
        await net.order(deal.open)
        await net.order((SWAP_NAMESPACE, sign_cancel(BOB, net.genesis.chain_id, deal.id)))
        with pytest.raises(NotFound, match="it ended CANCELLED with nothing in escrow"):
            await got(net, deal.id)


async def committed_deal(net: Network) -> Deal:
    deal = await make_deal(net)
    opened = await net.order(deal.open, *deal.locks)
    await deal.until_phase("beta-1", Phase.LOCKED, opened.placement.height)
    await net.order(deal.reveal)
    await deal.until_settled("alpha-0", 0)
    return deal


async def test_keys_that_were_replaced_are_shown_with_the_receipt(tmp_path: Path) -> None:
    """Two of two attesters of beta, one of them new, and a new key of the log; no coordinator is asked."""
    attesters = AttesterSet(2, tuple(key(name).public_key for name in TWO.values()))
    rollups = (rollup(ALPHA), rollup(BETA, attesters=attesters))
    keys = {**TWO, "beta-2": "new attester of beta"}
    async with network(tmp_path, "alpha-0", *keys, rollups=rollups, keys=keys) as net:
        before = await committed_deal(net)
        old, new = (key(name).public_key for name in (TWO["beta-0"], keys["beta-2"]))
        effective = Height((await net.sequencer.status()).height + 3)
        new_log = RotateKey(key("new settlement").public_key)
        changes = [
            RegistryChange(net.genesis.chain_id, subject, 1, effective, action)
            for subject, action in ((BETA, RotateAttester(old, new)), ("settlement", new_log))
        ]
        governance = key("governance")
        await net.order(*((REGISTRY_NAMESPACE, sign_change(governance, each)) for each in changes))
        beta = await net.client("beta-1")
        await beta.balances(net.genesis.sequencer, min_height=effective)
        await net.nodes["beta-0"].kill()
        log = net.nodes["settlement"]
        async with SettlementClient(log.address, net.genesis) as settlement, asyncio.timeout(DEADLINE_S):
            while (await settlement.status()).anchored_height < effective:  # noqa: ASYNC110 - it is asked
                await asyncio.sleep(0.05)
        await log.end()
        save_key(tmp_path / "new-settlement.pem", seed("new settlement"))
        log.settings = 'key = "new-settlement.pem"'
        await log.start()

        after = await committed_deal(net)
        # The swap of the old keys has its receipt as well, after they are gone.
        assert ends(await got(net, before.id)) == (Phase.COMMITTED, OutcomeReason.NONE, [PAID] * 2)
        verified = await got(net, after.id)
        assert ends(verified) == (Phase.COMMITTED, OutcomeReason.NONE, [PAID] * 2)
        assert any("but by the 2 changes shown" in each for each in verified.attests)
        assert any("2 of 2 attesters of beta" in each for each in verified.proves)
