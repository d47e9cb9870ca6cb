"""Cycles of many parties through the coordinator, up to the most legs that terms can have."""

import asyncio
from pathlib import Path

import pytest

from bridge.client import AbortReason, LegState, RevealPolicy, SwapPhase, Trader, transfer_leg
from deploy.node.logs import Secret
from lockstep import limits
from lockstep.signing import SigningKey
from lockstep.swap_entries import Verdict
from lockstep.terms import swap_id_of
from tests.unit.bridge.chain import ALPHA, BETA, GENESIS, TIME_MS, kinds
from tests.unit.bridge.running import Rig, running, started

PARTIES = [Trader(SigningKey(bytes([seed]) * 32), GENESIS) for seed in range(100, 100 + limits.LEGS_MAX)]
REVEALER = PARTIES[0]


def cycle(parties: int) -> bytes:
    """Return terms by which each party gives to the next, on alpha and beta in turns."""
    legs = [
        transfer_leg(
            rollup=(ALPHA, BETA)[place % 2],
            sender=PARTIES[place].account,
            recipient=PARTIES[(place + 1) % parties].account,
            asset="RED",
            amount=100 + place,
        )
        for place in range(parties)
    ]
    return REVEALER.new_terms(legs, time_ms=TIME_MS, lock_within_ms=20_000)


async def give_all(rig: Rig, terms_bytes: bytes, parties: int) -> None:
    """Give all locks, the last leg's first, each of them twice."""
    swap_id = swap_id_of(terms_bytes)
    for place in reversed(range(parties)):
        lock = PARTIES[place].sign_lock(terms_bytes, place)
        view = await rig.accept(swap_id, place, lock)
        assert await rig.accept(swap_id, place, lock) == view
        given = [leg.state is LegState.GIVEN for leg in view.legs]
        assert given == [leg >= place for leg in range(parties)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.sqlite"


@pytest.mark.parametrize("parties", [3, limits.LEGS_MAX])
@pytest.mark.parametrize("policy", RevealPolicy)
async def test_a_cycle_commits(path: Path, parties: int, policy: RevealPolicy) -> None:
    order, terms_bytes = started(), cycle(parties)
    swap_id, preimage = swap_id_of(terms_bytes), REVEALER.preimage(terms_bytes)
    async with running(path, order) as rig:
        given: Secret | None = None if policy is RevealPolicy.BY_TRADER else preimage
        await rig.propose(terms_bytes, policy=policy, preimage=given)
        await give_all(rig, terms_bytes, parties)
        await rig.until(lambda: bool(order.waiting))
        [bundle] = order.submitted
        rollups = [str((ALPHA, BETA)[place % 2]) for place in range(parties)]
        assert kinds(bundle) == ["Open", *rollups, *(["Reveal"] if policy is RevealPolicy.UP_FRONT else [])]
        order.block()
        await rig.until_phase(swap_id, SwapPhase.OPEN, SwapPhase.REVEALED)
        order.is_automatic = True
        for leg in range(parties):
            assert (await rig.swap(swap_id)).phase in (SwapPhase.OPEN, SwapPhase.REVEALED)
            order.attest(swap_id, leg)
            await rig.until_followed()
        if policy is RevealPolicy.BY_TRADER:
            await rig.reveal(swap_id, preimage.reveal())
        view = await rig.until_phase(swap_id, SwapPhase.COMMITTED)
        assert [leg.state for leg in view.legs] == [LegState.LOCKED] * parties
        events = [event.kind for event in await rig.views.events(swap_id)]
        assert (events.count("given"), events.count("attested")) == (parties, parties)


async def test_one_rejected_leg_of_sixteen_aborts_all(path: Path) -> None:
    order, terms_bytes = started(), cycle(limits.LEGS_MAX)
    swap_id = swap_id_of(terms_bytes)
    async with running(path, order) as rig:
        await rig.propose(terms_bytes)
        await give_all(rig, terms_bytes, limits.LEGS_MAX)
        await rig.until(lambda: bool(order.waiting))
        order.block()
        await rig.until_phase(swap_id, SwapPhase.OPEN)
        for leg in range(limits.LEGS_MAX - 1):
            order.attest(swap_id, leg)
        order.attest(swap_id, limits.LEGS_MAX - 1, Verdict.REJECTED)
        view = await rig.until_phase(swap_id, SwapPhase.ABORTED)
        assert (view.abort_reason, view.reason_legs) == (AbortReason.LEG_REJECTED, (limits.LEGS_MAX - 1,))
        asked = asyncio.create_task(rig.reveal(swap_id, REVEALER.preimage(terms_bytes).reveal()))
        with pytest.raises(Exception, match="ABORTED already"):
            await asked
