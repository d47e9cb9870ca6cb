"""When the next block is begun: at once for who is alone, a little later while many submit.

A block costs every process that follows about the same, whether it holds one bundle or a hundred. So blocks
are made as fast as they can be only while hardly anybody would share one; otherwise the next gathers for some
times what the last one took, which grows by itself as the machine gets busier. The caller has the clock.
"""

from typing import Final

__pure__ = True

BUNDLES_ALONE: Final = 2
"""Bundles of a block up to which the next one is begun at once."""

GATHERING_SHARE: Final = 4
"""How many times as long as the last block took the next one gathers: a fifth of the time is for blocks."""

BUNDLES_ENOUGH: Final = 1_024
"""Bundles for which a block is worth its cost: with as many it waits for no more."""


def gathering_ms(*, bundles: int, made_in_ms: int, gather_ms_max: int) -> int:
    """Return how long after a block of `bundles`, which took `made_in_ms`, the next one gathers."""
    return min(GATHERING_SHARE * made_in_ms, gather_ms_max) if bundles > BUNDLES_ALONE else 0
