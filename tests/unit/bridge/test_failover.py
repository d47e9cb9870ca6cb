"""Several services tried in order: who is asked next, and which error is told."""

import asyncio
from collections.abc import Callable

import pytest

from bridge.client import Failover
from bridge.client.failover import REST_MS
from lockstep.errors import (
    Conflict,
    Internal,
    LockstepError,
    NotReady,
    NotYet,
    TimedOut,
    UnavailablePeer,
    UnknownSwap,
)

AWAY = UnavailablePeer(peer="a service")
UNKNOWN = UnknownSwap(swap_id="00")


class Service:
    """Answers its name, or fails as it is told."""

    def __init__(self, name: str, failure: LockstepError | None = None) -> None:
        self.name = name
        self.failure = failure
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self.name


def services(*failures: LockstepError | None) -> tuple[Failover[Service], list[Service]]:
    made = [Service(name, failure) for name, failure in zip("abc", failures, strict=False)]
    return Failover(made), made


async def test_the_first_that_answers_is_asked_from_then_on() -> None:
    failover, (first, second, third) = services(AWAY, None, None)
    assert [await failover.ask(Service.ask) for _ in range(3)] == ["b", "b", "b"]
    assert (first.asked, second.asked, third.asked) == (1, 3, 0)


async def test_one_that_came_back_is_asked_when_the_current_one_is_away() -> None:
    failover, (first, second) = services(AWAY, None)
    assert await failover.ask(Service.ask) == "b"
    first.failure, second.failure = None, AWAY
    assert await failover.ask(Service.ask) == "a"


@pytest.mark.parametrize(
    "make",
    [lambda: AWAY, lambda: TimedOut(peer="x"), lambda: NotReady(reason="x"), Internal, lambda: UNKNOWN],
)
async def test_who_may_not_know_better_leaves_it_to_another(make: Callable[[], LockstepError]) -> None:
    failover, _ = services(make(), None)
    assert await failover.ask(Service.ask) == "b"


async def test_two_who_ask_at_once_each_ask_everybody() -> None:
    failover, (first, second) = services(UNKNOWN, None)

    async def ask(service: Service) -> str:
        # Both have asked the first one before either of them turns to the other.
        await asyncio.sleep(0)
        return await service.ask()

    assert list(await asyncio.gather(failover.ask(ask), failover.ask(ask))) == ["b", "b"]
    assert (first.asked, second.asked) == (2, 2)


async def test_a_refusal_is_final() -> None:
    failover, (_, second) = services(Conflict(subject="lock", key="00"), None)
    with pytest.raises(Conflict):
        await failover.ask(Service.ask)
    assert second.asked == 0


async def test_what_is_worth_repeating_is_told_before_what_one_does_not_know() -> None:
    for failures in ((UNKNOWN, AWAY), (AWAY, UNKNOWN)):
        failover, made = services(*failures)
        with pytest.raises(UnavailablePeer):
            await failover.ask(Service.ask)
        assert [each.asked for each in made] == [1, 1]


async def test_who_answers_that_it_knows_nothing_is_asked_first_next_time() -> None:
    failover, (first, second) = services(AWAY, UNKNOWN)
    with pytest.raises(UnavailablePeer):
        await failover.ask(Service.ask)
    second.failure = None
    assert await failover.ask(Service.ask) == "b"
    assert first.asked == 1


async def test_after_nobody_answered_nobody_is_asked_for_a_while() -> None:
    clock = {"now_s": 100.0}
    one, other = Service("a", AWAY), Service("b", AWAY)
    failover = Failover([one, other], clock_s=lambda: clock["now_s"])
    for passed_ms in (0, REST_MS - 1):
        clock["now_s"] = 100 + passed_ms / 1_000
        with pytest.raises(UnavailablePeer):
            await failover.ask(Service.ask)
        assert (one.asked, other.asked) == (1, 1)
    other.failure, clock["now_s"] = None, 100 + REST_MS / 1_000
    assert await failover.ask(Service.ask) == "b"
    assert await failover.ask(Service.ask) == "b"


@pytest.mark.parametrize("failure", [NotYet(height=2, newest=1), TimedOut(peer="x")])
async def test_what_is_waited_for_in_vain_is_asked_again_at_once(failure: LockstepError) -> None:
    failover, (only,) = services(failure)
    for asked in (1, 2):
        with pytest.raises(type(failure)):
            await failover.ask(Service.ask, is_waiting=True)
        assert only.asked == asked


async def test_all_are_asked_and_those_who_are_away_are_left_out() -> None:
    failover, _ = services(None, AWAY, None)
    assert await failover.ask_all(Service.ask) == ["a", "c"]
    for failures in ((UNKNOWN, AWAY), (AWAY, UNKNOWN)):
        failover, _ = services(*failures)
        with pytest.raises(UnavailablePeer):
            await failover.ask_all(Service.ask)
    failover, _ = services(None, Conflict(subject="lock", key="00"))
    with pytest.raises(Conflict):
        await failover.ask_all(Service.ask)


def test_somebody_must_be_named() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Failover([])
