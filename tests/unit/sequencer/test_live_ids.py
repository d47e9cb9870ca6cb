"""Bundles are remembered exactly as long as they must be, and about a second longer."""

import pytest

from lockstep.order import Placement
from lockstep.types import BundleId, Height
from sequencer.live_ids import LiveIds, second_of


@pytest.mark.parametrize(
    "placement",
    [
        Placement(BundleId(bytes(32)), Height(1), 0, 1),
        Placement(BundleId(b"\xff" * 32), Height(2**63 - 1), 2**32 - 1, 32),
        Placement(BundleId(b"x" * 32), Height(7), 16_383, 1),
    ],
)
def test_a_place_comes_back(placement: Placement) -> None:
    live = LiveIds()
    assert live.find(placement.bundle_id) is None
    live.add(placement, 9)
    assert live.find(placement.bundle_id) == placement
    assert len(live) == 1


@pytest.mark.parametrize(("valid_until_ms", "gone_ms"), [(5_000, 6_000), (5_001, 6_000), (5_999, 6_000)])
def test_it_is_forgotten_when_its_second_is_over(valid_until_ms: int, gone_ms: int) -> None:
    live = LiveIds()
    placement = Placement(BundleId(bytes(32)), Height(1), 0, 1)
    live.add(placement, second_of(valid_until_ms))
    live.expire(valid_until_ms)
    live.expire(gone_ms - 1)
    assert live.find(placement.bundle_id) == placement
    live.expire(gone_ms)
    assert live.find(placement.bundle_id) is None
    assert len(live) == 0
