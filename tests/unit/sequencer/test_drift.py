"""The follower's alarm about log time that does not go as its own clock does."""

from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog

from lockstep.block import verify_block
from lockstep.header import Tip, tip_of
from lockstep.settlement_entries import ProvenHeader
from lockstep.types import Height
from sequencer.builder import propose
from sequencer.client.following import DRIFT_WINDOW_MS, DriftAlarm
from sequencer.client.records import FollowedBlock
from tests.unit.sequencer.chain import START

STEP_MS = 250


class Rig:
    """An alarm, its clock, and a chain that it follows."""

    def __init__(self) -> None:
        self.clock_ms = 5_000
        self.tip: Tip = START
        self.alarm = DriftAlarm("peer", lambda: self.clock_ms)

    def block(self, log_ms: int, clock_ms: int, *, ahead: int = 0) -> None:
        """Let a block come that is `log_ms` later by log time, `clock_ms` later by the clock."""
        block = propose(self.tip, self.tip.time_ms + log_ms, []).block
        verified = verify_block(self.tip, block.header_bytes, block.leaves_bytes, {}, ())
        self.tip = tip_of(verified.header, verified.hash)
        self.clock_ms += clock_ms
        header = ProvenHeader(block.header_bytes, bytes(64))
        self.alarm.see(FollowedBlock(verified, header, Height(verified.header.height + ahead)))

    def warnings(
        self, log_ms: int, clock_ms: int, *, blocks: int = 200, ahead: int = 0
    ) -> list[MutableMapping[str, Any]]:
        """Return what is logged while such blocks come."""
        with structlog.testing.capture_logs() as logged:
            for _ in range(blocks):
                self.block(log_ms, clock_ms, ahead=ahead)
        return logged


@pytest.mark.parametrize(
    ("log_ms", "clock_ms", "is_drift"),
    [
        (250, 250, False),
        (80, 100, False),
        (120, 100, False),
        (74, 100, True),
        (126, 100, True),
        (1, 250, True),
    ],
)
def test_it_warns_beyond_a_quarter(log_ms: int, clock_ms: int, is_drift: bool) -> None:
    warnings = Rig().warnings(log_ms, clock_ms, blocks=DRIFT_WINDOW_MS // clock_ms + 2)
    assert [each["event"] for each in warnings] == ["log_time_drifts"] * is_drift
    if is_drift:
        [warning] = warnings
        assert (warning["log_level"], warning["peer"]) == ("warning", "peer")
        assert warning["passed_ms"] >= DRIFT_WINDOW_MS
        assert warning["log_passed_ms"] * clock_ms == warning["passed_ms"] * log_ms


def test_it_warns_once_until_all_is_well_again() -> None:
    rig = Rig()
    assert len(rig.warnings(1, STEP_MS)) == 1
    assert rig.warnings(1, STEP_MS) == []
    assert rig.warnings(STEP_MS, STEP_MS) == []
    assert len(rig.warnings(2 * STEP_MS, STEP_MS)) == 1


def test_an_outage_of_the_sequencer_is_told() -> None:
    rig = Rig()
    assert rig.warnings(STEP_MS, STEP_MS, blocks=50) == []
    [warning] = rig.warnings(1, 600_000, blocks=1)
    assert warning["passed_ms"] >= 600_000
    assert warning["log_passed_ms"] < DRIFT_WINDOW_MS


def test_a_jitter_is_none() -> None:
    rig = Rig()
    for _ in range(40):
        assert rig.warnings(500, 900, blocks=1) == []
        assert rig.warnings(500, 100, blocks=1) == []


def test_who_catches_up_is_not_alarmed() -> None:
    rig = Rig()
    assert rig.warnings(STEP_MS, 1, blocks=500, ahead=500) == []
    assert rig.warnings(STEP_MS, STEP_MS) == []
    # Cut off for long: the blocks come all at once, and log time never stood still.
    rig.clock_ms += 600_000
    assert rig.warnings(STEP_MS, 1, blocks=500, ahead=1) == []
    assert rig.warnings(STEP_MS, STEP_MS) == []
