"""A drive among nodes of which one lags: what it has not seen is not taken for what never was."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bridge.client import BridgeClient, Desk, Failover, SwapPhase, Venue, Wallet
from lockstep.commitment import Commitment
from lockstep.errors import NotFound, TimedOut, UnavailablePeer, UnknownSwap
from lockstep.receipts import SettledReceipt
from lockstep.types import RollupId, SwapId
from rollups.client import ProvenCommitment, ProvenState, RollupClient, RollupSwap
from sequencer.client import SequencerClient
from tests.unit.bridge.chain import ANN, GENESIS
from tests.unit.bridge.test_wallet import record

SWAP = record()
CLOSED_HEIGHT = 9
"""Height of the block after which the swap cannot be opened."""


class Away:
    """A service that never answers."""

    def __getattr__(self, name: str) -> object:
        async def fail(*_: object, **__: object) -> None:
            raise UnavailablePeer(peer="it")

        return fail


class Ahead(Away):
    """A node that has come to the closing height, tells so, and is away for all else."""

    async def proven_commitment(self, *, timeout_ms: int) -> ProvenCommitment:
        header = SimpleNamespace(header=SimpleNamespace(time_ms=SWAP.terms.lock_by_ms))
        return cast(
            "ProvenCommitment",
            SimpleNamespace(header=header, commitment=SimpleNamespace(height=CLOSED_HEIGHT)),
        )


class Other(Away):
    """A node that has executed up to a height and knows of no swap."""

    def __init__(self, height: int) -> None:
        self._height = height

    async def swap(self, swap_id: SwapId, *, min_height: int = 0, timeout_ms: int = 0) -> RollupSwap:
        self._wait_for(min_height)
        raise UnknownSwap(swap_id=swap_id.hex())

    async def state(self, keys: Sequence[bytes], *, min_height: int = 0, timeout_ms: int = 0) -> ProvenState:
        self._wait_for(min_height)
        commitment = Commitment(RollupId("beta"), self._height, bytes(32), 0, bytes(32), bytes(32))
        return ProvenState(dict.fromkeys(keys), commitment)

    async def settlement(self, swap_id: SwapId, leg: int, *, wait_ms: int = 0) -> SettledReceipt:
        raise NotFound(subject="receipt", name="of the leg")

    def _wait_for(self, height: int) -> None:
        if height > self._height:
            raise TimedOut(peer="the node")


class Clock(Away):
    """A sequencer that tells the time."""

    async def status(self, *, timeout_ms: int) -> object:
        return SimpleNamespace(time_ms=SWAP.terms.lock_by_ms)


@pytest.mark.parametrize(
    ("height", "outcome"), [(CLOSED_HEIGHT - 1, None), (CLOSED_HEIGHT, SwapPhase.LAPSED)]
)
async def test_a_node_that_lags_is_not_believed_that_a_swap_lapsed(
    tmp_path: Path, height: int, outcome: SwapPhase | None
) -> None:
    other = cast("RollupClient", Other(height))
    rollups = {
        RollupId("alpha"): Failover([cast("RollupClient", Ahead()), other]),
        RollupId("beta"): Failover([other]),
    }
    venue = Venue(
        GENESIS,
        Failover([cast("BridgeClient", Away())]),
        cast("SequencerClient", Clock()),
        rollups,
    )
    desk = Desk(ANN, Wallet(tmp_path), venue)
    swap = desk.wallet.add(SWAP)
    if outcome is None:
        with pytest.raises((TimedOut, UnavailablePeer)):
            await desk.drive(swap, timeout_ms=1)
    else:
        assert (await desk.drive(swap, timeout_ms=60_000)).swap.outcome is outcome
    recorded = desk.wallet.get(swap.swap_id, swap.account)
    assert recorded is not None
    assert recorded.outcome is outcome
