"""Where a swap was opened, by whoever knows: coordinators, the rollups' registers, or the order itself.

Owns who is asked, and the search through the order. What is found is somebody's word until the order was
followed from there (`lockstep.swap_receipt_build.DecisionWatch`).
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from bridge.client.failover import is_worth_asking_another
from bridge.client.receipt_sources import ATTEMPT_MS, Sources
from bridge.client.views import AbortReason, SwapPhase
from lockstep.errors import LockstepError, NotFound, NotYet, UnknownSwap
from lockstep.limits import LOCK_WINDOW_MS_MAX
from lockstep.register import Place
from lockstep.swap_entries import encode_open
from lockstep.terms import Terms, decode_terms, swap_id_of
from lockstep.types import SWAP_NAMESPACE, Height, SwapId

LOOK_AGAIN_MS: Final = 250
"""How long to wait before asking again for what is not there yet."""

Say = Callable[[str], None]
"""Is told, in words, what is going on."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a swap was opened."""

    terms: Terms
    """Its terms."""
    place: Place
    """The opening's place in the order."""
    crowded_at: Place | None = None
    """Where another swap took its place, if one did."""


async def find_opening(sources: Sources, swap_id: SwapId, terms_bytes: bytes | None, *, say: Say) -> Opening:
    """Return where a swap was opened, once it is in the order.

    The coordinators are asked, then the rollups; `terms_bytes`, if they are known, let the order itself be
    searched when neither know it. Raises `UnknownSwap`, `NotFound` for one that can no longer be ordered,
    `Pruned`, and what is worth repeating.
    """
    say("asking where the swap was opened")
    while True:
        try:
            return await _by_bridge(sources, swap_id)
        except NotYet:
            say("waiting until the swap is in the order")
            await asyncio.sleep(LOOK_AGAIN_MS / 1_000)
        except LockstepError as error:
            if not is_worth_asking_another(error):
                raise
            return await _without_bridge(sources, swap_id, terms_bytes, error, say=say)


async def _by_bridge(sources: Sources, swap_id: SwapId) -> Opening:
    """Ask the coordinators. Raises `NotYet` for a swap that may still be ordered."""
    if sources.bridges is None:
        raise UnknownSwap(swap_id=swap_id.hex())
    view = await sources.bridges.ask(lambda bridge: bridge.swap(swap_id, timeout_ms=ATTEMPT_MS))
    if view.phase is SwapPhase.LAPSED:
        raise NotFound(subject="opening of swap", name=swap_id.hex())
    if not view.opened_height:
        raise NotYet(height=1, newest=0)
    crowded_at = None
    if view.abort_reason is AbortReason.CROWDED_OUT:
        crowded_at = Place(Height(view.decided_height), view.decided_index)
    return Opening(view.terms, Place(Height(view.opened_height), view.opened_index), crowded_at)


async def _without_bridge(
    sources: Sources, swap_id: SwapId, terms_bytes: bytes | None, failure: LockstepError, *, say: Say
) -> Opening:
    """Ask the register of each rollup, which keeps a swap for some time only, then the order.

    Raises `failure` if none has it.
    """
    for nodes in sources.rollups.values():
        try:
            found = await nodes.ask(lambda node: node.swap(swap_id, timeout_ms=ATTEMPT_MS))
        except LockstepError as error:
            if not is_worth_asking_another(error):
                raise
            continue
        if found.record is not None:
            record = found.record
            return Opening(record.terms, Place(record.opened_height, record.opened_index))
    if terms_bytes is None or swap_id_of(terms_bytes) != swap_id:
        raise failure
    return await _by_order(sources, terms_bytes, say=say)


async def _by_order(sources: Sources, terms_bytes: bytes, *, say: Say) -> Opening:
    """Search the order for the first Open of these terms, while log time was such that it could count."""
    terms, wanted = decode_terms(terms_bytes), encode_open(terms_bytes)
    say("searching the order for where the swap was opened")
    anchored = (await sources.settlement.status()).anchored_height
    await sources.keys.read(sources.settlement, sources.sequencer, Height(anchored))
    first = await _first_height(sources, terms.lock_by_ms - LOCK_WINDOW_MS_MAX)
    followed = sources.sequencer.follow(
        tip=await sources.tip_before(first),
        namespaces=(SWAP_NAMESPACE,),
        sequencer_key=sources.keys.sequencer_at,
    )
    async with aclosing(followed) as coming:
        async for each in coming:
            header = each.block.header
            if header.time_ms >= terms.lock_by_ms:
                break
            for entry in each.block.entries[SWAP_NAMESPACE]:
                if entry.payload == wanted:
                    return Opening(terms, Place(header.height, entry.index))
    raise NotFound(subject="opening of swap", name=swap_id_of(terms_bytes).hex())


async def _first_height(sources: Sources, time_ms: int) -> Height:
    """Return the first height whose block's log time has reached a time, or the first that can be had."""
    status = await sources.sequencer.status()
    low, high = max(1, status.first_available_height), max(1, status.height)
    while low < high:
        middle = (low + high) // 2
        header = await sources.sequencer.header(Height(middle), timeout_ms=ATTEMPT_MS)
        low, high = (low, middle) if header.header.time_ms >= time_ms else (middle + 1, high)
    return Height(low)
