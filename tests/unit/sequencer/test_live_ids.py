"""Bundles are remembered exactly as long as they must be, and about a second longer."""

import tracemalloc
from random import Random

import pytest

from lockstep.order import Placement
from lockstep.types import BundleId, Height
from sequencer.builder import Run
from sequencer.live_ids import LiveIds


@pytest.mark.parametrize(
    "placement",
    [
        Placement(BundleId(bytes(32)), Height(1), 0, 1),
        Placement(BundleId(b"\xff" * 32), Height(2**44 - 1), 16_383, 32),
        Placement(BundleId(b"x" * 32), Height(7), 16_383, 1),
    ],
)
def test_a_place_comes_back(placement: Placement) -> None:
    live = LiveIds()
    assert live.find(placement.bundle_id) is None
    live.add(placement, 9_001)
    assert live.find(placement.bundle_id) == placement
    assert live.find(placement.bundle_id, 9_999) == placement
    assert live.find(placement.bundle_id, 10_000) is None
    assert len(live) == 1


@pytest.mark.parametrize(("valid_until_ms", "gone_ms"), [(5_000, 6_000), (5_001, 6_000), (5_999, 6_000)])
def test_it_is_forgotten_when_its_second_is_over(valid_until_ms: int, gone_ms: int) -> None:
    live = LiveIds()
    placement = Placement(BundleId(bytes(32)), Height(1), 0, 1)
    live.add(placement, valid_until_ms)
    live.expire(valid_until_ms)
    live.expire(gone_ms - 1)
    assert live.find(placement.bundle_id) == placement
    live.expire(gone_ms)
    assert live.find(placement.bundle_id) is None
    assert len(live) == 0


def test_thousands_come_back_from_runs_and_go_by_the_second() -> None:
    live, random = LiveIds(), Random(7)
    placed: dict[BundleId, tuple[Placement, int]] = {}
    for height in range(1, 40):
        run = Run([BundleId(random.randbytes(32)) for _ in range(300)], Height(height), 7 * height)
        windows_ms = sorted(random.randrange(1_000, 5_000) for _ in run)
        live.add_run(run, windows_ms)
        placed |= {each.bundle_id: (each, window) for each, window in zip(run, windows_ms, strict=True)}
    for time_ms in (0, 2_000, 3_999, 5_000):
        live.expire(time_ms)
        kept = {each: found for each, found in placed.items() if 1_000 * (found[1] // 1_000 + 1) > time_ms}
        assert len(live) == len(kept)
        for bundle_id, (placement, window_ms) in placed.items():
            expected = placement if bundle_id in kept else None
            assert live.find(bundle_id, window_ms) == expected
            assert live.has_any([BundleId(bytes(32)), bundle_id], [window_ms] * 2) is (expected is not None)


def test_millions_fit() -> None:
    live, random = LiveIds(), Random(1)
    tracemalloc.start()
    for height in range(1, 101):
        run = Run([BundleId(random.randbytes(32)) for _ in range(1_000)], Height(height), 0)
        live.add_run(run, [1_000] * len(run))
        del run
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size_bytes / len(live) < 64
