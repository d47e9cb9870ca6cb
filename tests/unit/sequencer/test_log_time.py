"""Log time: a stopwatch that outages and clocks cannot push."""

from hypothesis import given
from hypothesis import strategies as st

from lockstep.limits import MAX_ADVANCE_MS
from sequencer.log_time import Stopwatch


def test_it_goes_by_the_time_that_passed() -> None:
    watch = Stopwatch(1_000).advance(50)
    assert watch == Stopwatch(1_001, 50)
    assert watch.advance(300) == Stopwatch(1_251, 300)
    assert watch.advance(50) == Stopwatch(1_002, 50)
    assert watch.advance(50 + MAX_ADVANCE_MS) == Stopwatch(1_001 + MAX_ADVANCE_MS, 50 + MAX_ADVANCE_MS)


def test_what_is_lost_is_never_caught_up() -> None:
    # Paused for an hour: at most MAX_ADVANCE_MS, and from then on as before.
    watch = Stopwatch(1_000, 0).advance(3_600_000)
    assert watch.time_ms == 1_000 + MAX_ADVANCE_MS
    assert watch.advance(3_600_100).time_ms == 1_000 + MAX_ADVANCE_MS + 100
    # Restarted, on another machine's clock: 1 ms, whatever it shows.
    assert Stopwatch(watch.time_ms).advance(7).time_ms == watch.time_ms + 1
    assert Stopwatch(watch.time_ms).advance(2**60).time_ms == watch.time_ms + 1
    # A clock that steps back, which a monotonic one should not: 1 ms.
    assert Stopwatch(1_000, 500).advance(400) == Stopwatch(1_001, 400)


@given(st.lists(st.integers(-(10**6), 10**9), min_size=1))
def test_every_advance_is_allowed_and_the_sum_is_real_time_at_most(clock_steps: list[int]) -> None:
    watch, clock_ms = Stopwatch(0, 0), 0
    for step in clock_steps:
        clock_ms += step
        after = watch.advance(clock_ms)
        assert 1 <= after.time_ms - watch.time_ms <= MAX_ADVANCE_MS
        watch = after
    passed_ms = sum(max(step, 1) for step in clock_steps)
    assert watch.time_ms <= passed_ms
    if all(1 <= step <= MAX_ADVANCE_MS for step in clock_steps):
        assert watch.time_ms == passed_ms
