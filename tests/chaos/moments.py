"""The moments of a swap at which somebody dies, and how two trader processes bring a swap to one.

A moment that lasts only for an instant is held: whoever would end it is paused (SIGSTOP), or is a trader that
stands still at a failpoint of his own. Nothing here waits for a clock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.client import LegState, SwapPhase, SwapView
from bridge.client.driving import LOCK_RECORDED, REVEAL_VERIFIED
from deploy.demonstration.market import OpenSwap
from tests.chaos.arena import Arena
from tests.chaos.traders import COUNTERPARTY, GIVE_AND_GET, PROPOSER, Trader, Typed, proposed

TAKER, MAKER = "taker", "maker"
"""The trader who proposes and reveals, and the one who accepts: how they are named as victims."""

TRADERS: Mapping[str, str] = {TAKER: PROPOSER, MAKER: COUNTERPARTY}
"""Whose keys they have."""

ROLLUPS = ("alpha-0", "beta-0")


@dataclass(frozen=True)
class Moment:
    """A moment in a swap's life."""

    name: str
    """What the swap is."""
    reached: Callable[[SwapView], bool]
    """Whether the coordinator sees the swap there."""
    paused: tuple[str, ...] = ()
    """Who is paused before the maker gives his lock, and so cannot end the moment."""
    is_before_last_lock: bool = False
    """Whether the maker stands before giving his lock, which is in his wallet."""
    is_before_reveal: bool = False
    """Whether the taker stands before revealing, having verified what is in escrow."""
    paused_at_reveal: tuple[str, ...] = ()
    """Who is paused before the taker says the last word; then he is not held."""
    reveal: str = "by-trader"
    """How the taker reveals, as it is typed."""
    is_cancelled: bool = False
    """Whether his last word is to cancel."""

    @property
    def outcome(self) -> SwapPhase:
        """How the swap must end."""
        return SwapPhase.ABORTED if self.is_cancelled else SwapPhase.COMMITTED

    def __str__(self) -> str:
        return self.name


def _is(phase: SwapPhase) -> Callable[[SwapView], bool]:
    return lambda view: view.phase is phase


def _has_first_leg(view: SwapView) -> bool:
    return [leg.state for leg in view.legs] == [LegState.GIVEN, LegState.AWAITED]


def _is_half_attested(view: SwapView) -> bool:
    return [leg.state for leg in view.legs] == [LegState.LOCKED, LegState.GIVEN]


def _is_revealed(view: SwapView) -> bool:
    return view.phase is SwapPhase.REVEALED and _is_half_attested(view)


MOMENTS = (
    Moment("collecting", _has_first_leg, is_before_last_lock=True),
    Moment("submitted", _is(SwapPhase.SUBMITTED), paused=("sequencer",)),
    Moment("open", _is(SwapPhase.OPEN), paused=ROLLUPS),
    Moment("half-attested", _is_half_attested, paused=("beta-0",)),
    Moment("locked", _is(SwapPhase.LOCKED), is_before_reveal=True),
    Moment("revealed", _is_revealed, paused=("beta-0",), reveal="up-front"),
    Moment("committed", _is(SwapPhase.COMMITTED), paused_at_reveal=ROLLUPS),
    Moment("aborted", _is(SwapPhase.ABORTED), paused_at_reveal=ROLLUPS, is_cancelled=True),
)
"""In the order of a swap's life; the last two: decided, and no leg settled yet."""


@dataclass
class Swapping:
    """A swap that two processes are at."""

    swap: OpenSwap
    """The swap."""
    traders: Mapping[str, Trader]
    """Who swaps."""
    commands: dict[str, Typed]
    """The process of each."""


async def bring_to(arena: Arena, moment: Moment) -> Swapping:
    """Have taker and maker swap up to a moment, in which both processes are alive."""
    traders = {name: Trader(arena, trader) for name, trader in TRADERS.items()}
    taker = await _propose(traders[TAKER], moment)
    swap_id = await proposed(arena, traders[TAKER])
    swap = traders[TAKER].open_swap()
    await arena.swap_is(swap, _has_first_leg, "half given")
    words = ("accept", swap_id, *GIVE_AND_GET[COUNTERPARTY], "--wait")
    maker = await traders[MAKER].start(*words, failpoints=f"{LOCK_RECORDED}=stop@1")
    await maker.stopped()
    swapping = Swapping(swap, traders, {TAKER: taker, MAKER: maker})
    for name in moment.paused:
        arena.devnet.pause(name)
    if not moment.is_before_last_lock:
        maker.go_on()
    if moment.is_before_reveal or moment.paused_at_reveal:
        await _say_last_word(arena, swapping, moment)
    await arena.swap_is(swap, moment.reached, moment.name)
    return swapping


async def _propose(taker: Trader, moment: Moment) -> Typed:
    words = ("propose", *GIVE_AND_GET[PROPOSER], "--with", COUNTERPARTY, "--reveal", moment.reveal)
    if moment.is_cancelled:
        # He has said all that he wanted to, until he cancels.
        return await taker.start(*words)
    held = moment.is_before_reveal or moment.paused_at_reveal
    return await taker.start(*words, "--wait", failpoints=f"{REVEAL_VERIFIED}=stop@1" if held else "")


async def _say_last_word(arena: Arena, swapping: Swapping, moment: Moment) -> None:
    """Have the taker reveal, or cancel, up to where the moment begins."""
    taker = swapping.commands[TAKER]
    if moment.is_cancelled:
        assert (await taker.ended()).exit_code == 0
        await arena.swap_is(swapping.swap, _is(SwapPhase.LOCKED), "locked")
    else:
        await taker.stopped()
    for name in moment.paused_at_reveal:
        arena.devnet.pause(name)
    if moment.is_cancelled:
        words = ("cancel", swapping.swap.swap_id.hex(), "--wait")
        swapping.commands[TAKER] = await swapping.traders[TAKER].start(*words)
    elif not moment.is_before_reveal:
        taker.go_on()
