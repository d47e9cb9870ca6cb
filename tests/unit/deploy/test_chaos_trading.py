"""A trader of a chaos run waits for log time, and not for whoever tells it wrong."""

import asyncio
from typing import Any, cast

from bridge.client import Desk, RecordedSwap
from deploy.chaos.trader.settings import TraderSettings
from deploy.chaos.trader.trading import Trading

DEADLINE_S = 20


class Clock:
    """A venue whose first answers are of a node that is an hour back."""

    def __init__(self, *times_ms: int) -> None:
        self._times_ms = list(times_ms)

    async def time_ms(self) -> int:
        return self._times_ms.pop(0)


class Fake:
    """An object with some attributes."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401
        self.__dict__.update(attributes)


async def test_who_abandons_a_swap_does_not_sleep_by_the_clock_of_a_node_that_is_far_back() -> None:
    clock = Clock(3_600_000, 0, 3_600_000)
    trading = Trading(
        settings=cast("TraderSettings", Fake()),
        key=cast("Any", None),
        accounts={},
        desk=cast("Desk", Fake(venue=clock)),
        bridges=(),
        journal=cast("Any", None),
        done=0,
    )
    swap = cast("RecordedSwap", Fake(terms=Fake(lock_by_ms=3_600_000, expires_ms=3_600_000)))
    async with asyncio.timeout(DEADLINE_S):
        await trading._abandon(swap)
