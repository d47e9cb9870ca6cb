"""What news of rollups and settlement log does to the coordinator's swaps.

Owns the raising of levels. Changes the book and does no I/O. Invariant: a level, its change, the heights and
the checkpoint that it rests on become durable together.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from bridge import writing
from bridge.book import Book
from bridge.commands import Progress
from bridge.history import local_event
from bridge.levels import Heights, Level, level_of
from bridge.messages import raised_message
from lockstep.terms import Terms, decode_terms
from lockstep.types import SwapId
from lockstep.v1 import bridge_pb2


def take_progress(book: Book, progress: Progress, over: Iterable[bridge_pb2.Swap]) -> None:
    """Raise the levels of the swaps that waited; `over` holds those of them that are not in memory."""
    heights = book.batch.heights = book.heights.raised(progress.heights)
    for swap_id in dict.fromkeys(step.swap_id for step in progress.steps):
        if swap_id in book.live:
            _raise_live(book, swap_id, heights)
    for view in over:
        _raise_over(book, view, heights)
    rows = book.batch.rows
    rows[writing.DELETE_STEP] += [
        (step.source, step.rollup, step.height, step.number) for step in progress.steps
    ]
    rows[writing.PUT_HEIGHT] += [
        (source, rollup, height) for (source, rollup), height in heights.by_source.items()
    ]
    if progress.checkpoint is not None:
        seen = progress.checkpoint
        rows[writing.PUT_CHECKPOINT].append((seen.origin, seen.size.to_bytes(8, "big"), seen.root))


def _raise_live(book: Book, swap_id: SwapId, heights: Heights) -> None:
    """Raise the level of an opening. What was decided in this very batch waits for its decision anew."""
    swap = book.live[swap_id]
    if swap.record is None or swap.is_final:
        return
    rollups = [leg.rollup for leg in swap.terms.legs]
    level = max(swap.level, level_of(swap.step_height, rollups, heights))
    events = _level_events(swap.level, level, "the opening", swap.step_height, book.register.time_ms)
    book.put(replace(swap, level=level), *events)


def _raise_over(book: Book, before: bridge_pb2.Swap, heights: Heights) -> None:
    """Raise the level of a decision, and say which legs are settled."""
    after = raised_message(before, heights)
    if after == before:
        return
    time_ms = book.register.time_ms
    settled = [leg for leg, new in enumerate(after.legs) if new.settled and not before.legs[leg].settled]
    events = [*_settled_events(decode_terms(before.terms), settled, before.decided_height, time_ms)]
    levels = Level(before.level), Level(after.level)
    events += _level_events(*levels, "the decision", before.decided_height, time_ms)
    book.put_over_view(after, *events)


def _settled_events(
    terms: Terms, legs: Sequence[int], height: int, time_ms: int
) -> Iterator[bridge_pb2.SwapEvent]:
    for leg in legs:
        rollup = terms.legs[leg].rollup
        text = f"{rollup} has executed the decision in block {height}, which settles leg {leg}"
        yield local_event("settled", text, time_ms=time_ms)


def _level_events(
    before: Level, after: Level, step: str, height: int, time_ms: int
) -> Iterator[bridge_pb2.SwapEvent]:
    if before < Level.EXECUTED <= after:
        text = f"every leg's rollup has executed {step} in block {height}"
        yield local_event("executed", text, time_ms=time_ms)
    if before < Level.ANCHORED <= after:
        text = f"the settlement log has {step} in block {height}, and commitments of every leg's rollup to it"
        yield local_event("anchored", text, time_ms=time_ms)
