"""A trader's desk against real processes: coordinators that die, and attesters that lie."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bridge.client import (
    BridgeClient,
    Desk,
    Failover,
    NotAsAgreed,
    Progress,
    RecordedSwap,
    SwapPhase,
    SwapView,
    Venue,
    Wallet,
    open_venue,
    transfer_leg,
)
from deploy.node.client import ClientSettings
from lockstep.commitment import LOCKED, Commitment, EscrowRecord
from lockstep.errors import Malformed, NotFound, TimedOut, UnknownSwap
from lockstep.receipts import SettledReceipt, UnbackedReceipt
from lockstep.register import decode_record, encode_record
from lockstep.types import RollupId, SwapId
from rollups.client import ProvenState, RollupClient, RollupSwap
from sequencer.client import SequencerClient
from tests.integration import bridge_process
from tests.integration.bridge_network import Market, market
from tests.integration.bridge_process import Net
from tests.unit.rollups.chain import ALPHA, BETA

pytestmark = pytest.mark.processes

SETTINGS = ClientSettings(reconnect_ms_max=100)
DRIVE_MS_MAX = 60_000


# --- coordinators that die --------------------------------------------------------------------------------


class Trades:
    """Two desks of one market, each with a wallet of its own, and the coordinators that both try in order."""

    def __init__(self, market: Market, venue: Venue, folder: Path) -> None:
        self.ann = Desk(market.ann, Wallet(folder / "ann"), venue)
        self.bob = Desk(market.bob, Wallet(folder / "bob"), venue)

    async def propose(self) -> RecordedSwap:
        ann, bob = self.ann.trader.account, self.bob.trader.account
        legs = [
            transfer_leg(rollup=name, sender=one, recipient=other, asset="gold", amount=100)
            for name, one, other in ((ALPHA, ann, bob), (BETA, bob, ann))
        ]
        swap = await self.ann.propose(legs)
        await self.ann.drive(swap, until_idle=True, timeout_ms=DRIVE_MS_MAX)
        return swap

    async def finish(self, swap: RecordedSwap, other: RecordedSwap) -> list[SwapPhase | None]:
        ends = await asyncio.gather(
            self.ann.drive(swap, timeout_ms=DRIVE_MS_MAX), self.bob.drive(other, timeout_ms=DRIVE_MS_MAX)
        )
        assert all(end.receipt is not None for each in ends for end in each.ends)
        return [each.swap.outcome for each in ends]


@pytest.mark.parametrize("is_accepted", [False, True], ids=["proposed", "accepted"])
async def test_a_swap_is_taken_to_another_coordinator(tmp_path: Path, is_accepted: bool) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as made:
        one, other = await made.coordinator("one"), await made.coordinator("other")
        async with open_venue(
            made.net.genesis,
            bridges=[one.address, other.address],
            sequencer=made.net.nodes["sequencer"].address,
            rollups={name: [made.net.nodes[f"{name}-0"].address] for name in (ALPHA, BETA)},
            settings=SETTINGS,
        ) as venue:
            trades = Trades(made, venue, tmp_path)
            swap = await trades.propose()
            if is_accepted:
                # Both locks are there, and the opening may be in the order or not: it is the same either way.
                accepted = await trades.bob.accept(swap.terms_bytes)
                await trades.bob.drive(accepted, until_idle=True, timeout_ms=DRIVE_MS_MAX)
                await one.kill()
            else:
                await one.kill()
                accepted = await trades.bob.accept(swap.terms_bytes)
            assert await trades.finish(swap, accepted) == [SwapPhase.COMMITTED] * 2


async def test_a_drive_that_gives_up_is_gone_on_with(tmp_path: Path) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as made:
        one = await made.coordinator("one")
        async with open_venue(
            made.net.genesis,
            bridges=[one.address],
            sequencer=made.net.nodes["sequencer"].address,
            rollups={name: [made.net.nodes[f"{name}-0"].address] for name in (ALPHA, BETA)},
            settings=SETTINGS,
        ) as venue:
            trades = Trades(made, venue, tmp_path)
            swap = await trades.propose()
            accepted = await trades.bob.accept(swap.terms_bytes)
            await one.kill()
            with pytest.raises(TimedOut):
                await trades.bob.drive(accepted, timeout_ms=500)
            await one.start()
            assert await trades.finish(swap, accepted) == [SwapPhase.COMMITTED] * 2


# --- attesters that lie -----------------------------------------------------------------------------------


class BetaNode:
    """A node of beta: the register as it is, and in escrow what a test says."""

    def __init__(self, net: Net, escrow: EscrowRecord | None) -> None:
        self._net = net
        self._escrow = escrow

    async def swap(self, swap_id: SwapId, *, min_height: int = 0, timeout_ms: int = 0) -> RollupSwap:
        register = self._net.rollups.register
        record = register.record(swap_id)
        if record is None:
            raise UnknownSwap(swap_id=swap_id.hex())
        escrows: dict[int, EscrowRecord] = {}
        if self._escrow is not None:
            escrows[1] = replace(
                self._escrow, opened_height=record.opened_height, opened_index=record.opened_index
            )
        told = decode_record(encode_record(record))
        return RollupSwap(register.height, told, escrows, self._commitment())

    async def state(self, keys: Sequence[bytes], *, min_height: int = 0, timeout_ms: int = 0) -> ProvenState:
        return ProvenState(dict.fromkeys(keys), self._commitment())

    async def settlement(
        self, swap_id: SwapId, leg: int, *, wait_ms: int = 0
    ) -> SettledReceipt | UnbackedReceipt:
        raise NotFound(subject="receipt", name=f"of leg {leg}")

    def _commitment(self) -> Commitment:
        root = bytes(32)
        return Commitment(RollupId("beta"), self._net.rollups.register.height, root, 0, root, root)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    async with bridge_process.network(tmp_path) as made:
        yield made


@asynccontextmanager
async def locked(
    net: Net, folder: Path, *escrows: EscrowRecord | None
) -> AsyncIterator[tuple[Desk, RecordedSwap]]:
    """Give Ann's desk and a swap that is attested LOCKED; nodes of beta say that this is in escrow."""
    async with net.bridge() as bridge, net.client(bridge) as client:
        sequencer = SequencerClient(net.sequencer.address, net.genesis, SETTINGS)
        nodes = Failover([cast("RollupClient", BetaNode(net, escrow)) for escrow in escrows])
        rollups = {RollupId("alpha"): nodes, RollupId("beta"): nodes}
        async with sequencer:
            venue = Venue(net.genesis, Failover([client]), sequencer, rollups)
            desk = Desk(net.ann, Wallet(folder / "wallet"), venue)
            swap = desk.take_up(net.new_terms())
            await desk.drive(swap, until_idle=True, timeout_ms=DRIVE_MS_MAX)
            await client.accept(swap.swap_id, 1, net.bob.sign_lock(swap.terms_bytes, 1))
            yield desk, swap


def escrow_of(net: Net, amount: int) -> EscrowRecord:
    return EscrowRecord(LOCKED, 0, 0, 0, b"BLUE", net.bob.account, amount, 0)


@pytest.mark.parametrize("amounts", [[0], [199], [201], [200, 0], [0, 200]], ids=str)
async def test_nothing_is_shown_for_what_is_attested_and_not_in_escrow(
    net: Net, tmp_path: Path, amounts: list[int]
) -> None:
    # One honest node among those that are named is enough, whichever it is.
    escrows = [escrow_of(net, amount) if amount else None for amount in amounts]
    async with locked(net, tmp_path, *escrows) as (desk, swap):
        told: list[Progress] = []
        with pytest.raises(NotAsAgreed, match="Cancel the swap"):
            await desk.drive(swap, timeout_ms=DRIVE_MS_MAX, tell=told.append)
        assert "revealed" not in {each.step for each in told}
        recorded = desk.wallet.get(swap.swap_id, swap.account)
        assert recorded is not None
        assert not recorded.is_revealing
        cancelled = await desk.drive(desk.cancel(recorded), timeout_ms=DRIVE_MS_MAX)
        assert cancelled.swap.outcome is SwapPhase.ABORTED
        record = net.rollups.register.record(swap.swap_id)
        assert record is not None
        assert record.preimage is None


async def test_the_preimage_is_shown_for_what_is_in_escrow_as_agreed(net: Net, tmp_path: Path) -> None:
    async with locked(net, tmp_path, escrow_of(net, 200)) as (desk, swap):
        told: list[Progress] = []
        # No rollup settles here, which is what is waited for in vain.
        with pytest.raises(TimedOut):
            await desk.drive(swap, timeout_ms=2_000, tell=told.append)
        steps = [each.step for each in told]
        assert steps[steps.index("escrow proven") :] == ["escrow proven", "revealed", "COMMITTED", "waiting"]


# --- a coordinator that lies ------------------------------------------------------------------------------


class Liar:
    """A coordinator that says of every swap that it is aborted, and else is the true one."""

    def __init__(self, client: BridgeClient, *, decided_height: int) -> None:
        self._client = client
        self._decided_height = decided_height

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    async def swap(self, swap_id: SwapId, *, timeout_ms: int) -> SwapView:
        view = await self._client.swap(swap_id, timeout_ms=timeout_ms)
        return replace(view, phase=SwapPhase.ABORTED, decided_height=self._decided_height)


class Hider(Liar):
    """A coordinator that keeps something from a trader, and else is the true one."""

    def __init__(self, client: BridgeClient, *, hides: str) -> None:
        super().__init__(client, decided_height=0)
        self._hides = hides

    async def swap(self, swap_id: SwapId, *, timeout_ms: int) -> SwapView:
        view = await self._client.swap(swap_id, timeout_ms=timeout_ms)
        if self._hides == "nonsense":
            raise Malformed(what="answer of the bridge", field="phase", reason="is nonsense")
        if self._hides == "that all is locked":
            return replace(view, phase=SwapPhase.OPEN, decided_height=0, sequence=7)
        return view

    async def reveal(self, swap_id: SwapId, preimage: object, *, timeout_ms: int) -> None:
        """Say that it was ordered, or refuse, and do nothing."""
        if self._hides == "by refusing":
            raise Malformed(what="reveal", field="preimage", reason="is not to its taste")


@pytest.mark.parametrize("hides", ["that all is locked", "the preimage", "nonsense", "by refusing"])
async def test_a_coordinator_cannot_keep_a_trader_from_revealing(
    net: Net, tmp_path: Path, hides: str
) -> None:
    async with locked(net, tmp_path, escrow_of(net, 200)) as (desk, swap):
        hider = cast("BridgeClient", Hider(desk.venue.bridges.current, hides=hides))
        desk = replace(desk, venue=replace(desk.venue, bridges=Failover([hider])))
        # No rollup settles here, which is what is waited for in vain.
        with pytest.raises(TimedOut):
            await desk.drive(swap, timeout_ms=8_000)
        record = net.rollups.register.record(swap.swap_id)
        assert record is not None
        assert record.preimage is not None


@pytest.mark.parametrize("decided_height", [1, 1_000_000])
async def test_nobody_is_believed_that_a_swap_is_aborted(tmp_path: Path, decided_height: int) -> None:
    async with market(tmp_path, "alpha-0", "beta-0") as made:
        one = await made.coordinator("one")
        async with open_venue(
            made.net.genesis,
            bridges=[one.address],
            sequencer=made.net.nodes["sequencer"].address,
            rollups={name: [made.net.nodes[f"{name}-0"].address] for name in (ALPHA, BETA)},
            settings=SETTINGS,
        ) as venue:
            trades = Trades(made, venue, tmp_path)
            swap = await trades.propose()
            accepted = await trades.bob.accept(swap.terms_bytes)
            await trades.bob.drive(accepted, until_idle=True, timeout_ms=DRIVE_MS_MAX)
            liar = Liar(venue.bridges.current, decided_height=decided_height)
            deceived = replace(venue, bridges=Failover([cast("BridgeClient", liar)]))
            desk = replace(trades.ann, venue=deceived)
            driven = await desk.drive(swap, timeout_ms=DRIVE_MS_MAX)
            assert driven.swap.outcome is SwapPhase.COMMITTED
