"""One drive of a swap by its trader: look, do the next step, look again, until it is over.

Owns the doing of steps: each is recorded in the wallet, then sent, then looked for. What was sent twice
happens once, so that a drive may start anywhere. Does not decide what is next (`steps`) nor what is proven
(`checks`).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from bridge.client.checks import LegEnd, is_secured, leg_end, outcome_by_receipt
from bridge.client.recorded import RecordedSwap, ended, revealing, with_lock
from bridge.client.steps import Standing, Step, next_step
from bridge.client.trader import Trader
from bridge.client.venue import ATTEMPT_MS, Venue
from bridge.client.views import LegState, RevealPolicy, SwapPhase
from bridge.client.wallet import Wallet
from deploy.node.failpoints import FAILPOINTS
from lockstep.errors import LockstepError, NotFound, TimedOut, UselessEntry

_DECLARE: Final = FAILPOINTS.declare
SWAP_RECORDED: Final = _DECLARE("trader.swap.recorded", "a swap is in the wallet, nobody was told of it")
PROPOSAL_SENT: Final = _DECLARE("trader.proposal.sent", "a coordinator has the terms, nothing was made of it")
LOCK_RECORDED: Final = _DECLARE("trader.lock.recorded", "a signed lock is in the wallet, not given")
LOCK_SENT: Final = _DECLARE("trader.lock.sent", "a lock is given, nothing was made of it")
REVEAL_VERIFIED: Final = _DECLARE("trader.reveal.verified", "escrow is proven, nothing is decided")
REVEAL_RECORDED: Final = _DECLARE("trader.reveal.recorded", "the reveal is decided in the wallet, not sent")
REVEAL_SENT: Final = _DECLARE("trader.reveal.sent", "the preimage is shown, nothing was made of it")
CANCEL_RECORDED: Final = _DECLARE("trader.cancel.recorded", "the cancellation is decided in the wallet")
CANCEL_SENT: Final = _DECLARE("trader.cancel.sent", "a cancellation is ordered, nothing was made of it")
DECISION_SEEN: Final = _DECLARE("trader.decision.seen", "the swap is decided, no receipt was looked at")
OUTCOME_RECORDED: Final = _DECLARE("trader.outcome.recorded", "the outcome is in the wallet, nobody was told")

RETRY_MS: Final = 100
"""How long to wait after a step that may succeed later."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that happened on the way."""

    step: str
    """What, in a word or two: `proposed`, `lock given`, a phase, `escrow proven`, `revealed`, `waiting`."""
    text: str
    """What, in a sentence."""
    elapsed_ms: int
    """Milliseconds of real time since the drive began."""


@dataclass(frozen=True, slots=True)
class Driven:
    """Where a drive ended."""

    swap: RecordedSwap
    """The trader's record; its `outcome` is None if the swap goes on."""
    standing: Standing | None
    """How the swap stood last; None if nobody knew it."""
    ends: tuple[LegEnd, ...]
    """How each of the trader's legs ended, proven; empty if the swap goes on, or was over before."""
    elapsed_ms: int
    """Milliseconds of real time that it took."""


class Drive:
    """One drive; `run` it once."""

    def __init__(
        self,
        trader: Trader,
        wallet: Wallet,
        venue: Venue,
        swap: RecordedSwap,
        *,
        tell: Callable[[Progress], None],
        until_idle: bool,
        timeout_ms: int | None,
    ) -> None:
        """Drive `swap` as `Desk.drive` says."""
        self._trader = trader
        self._wallet = wallet
        self._venue = venue
        self._swap = swap
        self._tell = tell
        self._until_idle = until_idle
        self._clock = asyncio.get_running_loop().time
        self._start_s = self._clock()
        self._deadline_s = None if timeout_ms is None else self._start_s + timeout_ms / 1_000
        self._standing: Standing | None = None
        self._told: Standing | None = None
        self._tried: tuple[Step, Standing | None] | None = None
        self._sent: set[Step] = set()
        self._trouble = ""

    async def run(self) -> Driven:
        """Work to the end; see `Desk.drive`."""
        self._swap = self._wallet.get(self._swap.swap_id, self._swap.account) or self._swap
        if self._swap.outcome is not None:
            return self._driven(())
        while True:
            failure: LockstepError = TimedOut(peer="those whom the swap waits for")
            try:
                driven = await self._look_and_step()
                if driven is not None:
                    return driven
            except LockstepError as error:
                if not error.retryable:
                    raise
                failure = error
                self._say_trouble(error.message)
                await asyncio.sleep(RETRY_MS / 1_000)
            if self._is_late():
                raise failure

    async def _look_and_step(self) -> Driven | None:
        """Do one step. Returns how the drive ended, or None if it goes on."""
        standing = await self._checked(await self._venue.look(self._swap))
        time_ms = await self._venue.time_ms()
        self._notice(standing)
        step = next_step(self._swap, standing, time_ms=time_ms)
        if step is Step.CONCLUDE:
            return await self._conclude(standing)
        if step is Step.WAIT and self._until_idle:
            return self._driven(())
        if step is Step.WAIT or self._tried == (step, standing):
            # What was done shows itself in another standing, and is done again only if that does not come.
            self._tried = None
            await self._venue.wait_change(self._swap, standing)
            return None
        self._tried = (step, standing)
        await self._do(step, standing, time_ms)
        return None

    async def _checked(self, told: Standing | None) -> Standing | None:
        """Return how the swap stands, by proofs where a coordinator's word is not enough.

        Its word that all is over would end the drive. And one that tells nothing new for a while may hide
        that all is locked: the trader would miss the reveal, and its premium is due to the others then.
        """
        if told is None or not told.sequence:
            return told
        is_stale, self._told = told == self._told, told
        if told.decided_height:
            return await self._venue.confirm(self._swap, told)
        if is_stale:
            with suppress(LockstepError):
                proven = await self._venue.look_at_rollups(self._swap)
                return proven if proven is not None and proven.phase > told.phase else told
        return told

    async def _do(self, step: Step, standing: Standing | None, time_ms: int) -> None:
        if step is Step.PROPOSE:
            await self._propose()
            return
        assert standing is not None, "only what is known to somebody goes on"
        match step:
            case Step.LOCK:
                await self._lock(standing)
            case Step.REVEAL:
                await self._reveal(standing, time_ms)
            case Step.CANCEL:
                await self._cancel(time_ms)

    async def _propose(self) -> None:
        is_own_reveal = self._swap.reveal is RevealPolicy.BY_TRADER
        preimage = None if is_own_reveal else self._trader.preimage(self._swap.terms_bytes)
        await self._venue.propose(self._swap, preimage)
        FAILPOINTS.reach(PROPOSAL_SENT)
        self._say("proposed", "a coordinator has the terms")

    async def _lock(self, standing: Standing) -> None:
        for leg in self._swap.own_legs:
            if standing.legs[leg] is not LegState.AWAITED:
                continue
            payload = self._swap.locks.get(leg) or self._trader.sign_lock(self._swap.terms_bytes, leg)
            self._swap = self._wallet.change(self._swap, with_lock(leg, payload))
            FAILPOINTS.reach(LOCK_RECORDED)
            await self._venue.give_lock(self._swap, leg, standing)
            FAILPOINTS.reach(LOCK_SENT)
            self._say("lock given", f"leg {leg} on {self._swap.terms.legs[leg].rollup} is signed and given")

    async def _reveal(self, standing: Standing, time_ms: int) -> None:
        if not self._swap.is_revealing:
            if not await self._is_all_secured(standing):
                return
            FAILPOINTS.reach(REVEAL_VERIFIED)
            self._swap = self._wallet.change(self._swap, revealing)
            if self._swap.is_cancelling:
                return
            FAILPOINTS.reach(REVEAL_RECORDED)
        preimage = self._trader.preimage(self._swap.terms_bytes)
        # Useless it is if it was shown before, or the swap was decided: the next look tells.
        with suppress(UselessEntry):
            await self._venue.reveal(
                self._swap, preimage, time_ms=time_ms, is_direct=self._is_again(Step.REVEAL)
            )
            self._say("revealed", "the preimage is shown: the swap commits")
        FAILPOINTS.reach(REVEAL_SENT)

    async def _is_all_secured(self, standing: Standing) -> bool:
        """Answer whether all that the trader gets is in escrow; False where a node lags. See `checks`.

        Every node that answers is asked, for the first may be the liar's: one that is honest is enough.
        """
        swap = self._swap
        for leg in swap.received_legs:
            terms = swap.terms.legs[leg]
            secured = partial(is_secured, swap=swap, leg=leg, opened_height=standing.opened_height)
            told = await self._venue.nodes(terms.rollup).ask_all(secured)
            if not all(told):
                self._say_trouble(f"waiting for a node of {terms.rollup} to execute the lock of leg {leg}")
                return False
            nodes = f"{len(told)} node{'s' if len(told) > 1 else ''} of {terms.rollup}"
            self._say("escrow proven", f"leg {leg}, which you get, is in escrow as agreed, say {nodes}")
        return True

    async def _cancel(self, time_ms: int) -> None:
        entry = self._trader.sign_cancel(self._swap.swap_id)
        # Useless it is if the swap was decided meanwhile: the next look tells how.
        with suppress(UselessEntry):
            await self._venue.cancel(
                self._swap, entry, time_ms=time_ms, is_direct=self._is_again(Step.CANCEL)
            )
            self._say("cancelled", "the cancellation is ordered")
        FAILPOINTS.reach(CANCEL_SENT)

    def _is_again(self, step: Step) -> bool:
        """Answer whether a step was done before in this drive, without an effect that was seen."""
        is_again = step in self._sent
        self._sent.add(step)
        return is_again

    # --- the end ------------------------------------------------------------------------------------------

    async def _conclude(self, standing: Standing | None) -> Driven | None:
        """Check how a swap ended and record it; None if that cannot be told yet.

        `standing` is proven where it says COMMITTED or ABORTED.
        """
        since_height = 0 if standing is None else standing.decided_height
        if not since_height:
            closed_height = await self._height_after_lock_by()
            if closed_height is None:
                return await self._wait_on()
            # Now nobody can open it any more: what is not in the register by now never was, or is long over.
            # By now, and not before: another node may lag, and not know what was opened at the last moment.
            standing = await self._venue.look_at_rollups(self._swap, min_height=closed_height)
            if standing is not None and not standing.decided_height:
                self._notice(standing)
                return await self._wait_on()
            since_height = closed_height if standing is None else standing.decided_height
        if standing is None:
            outcome = await self._outcome_without_record(since_height)
        else:
            outcome = standing.phase
        FAILPOINTS.reach(DECISION_SEEN)
        try:
            ends = await self._ends(outcome, since_height)
        except NotFound:
            self._say_trouble("waiting for the rollups to settle")
            return await self._wait_on()
        self._notice(standing)
        self._swap = self._wallet.change(self._swap, ended(outcome))
        FAILPOINTS.reach(OUTCOME_RECORDED)
        return self._driven(ends)

    async def _outcome_without_record(self, min_height: int) -> SwapPhase:
        """Return how a swap that is not in the register ended: receipts stay when a record is dropped.

        Nodes that have not executed `min_height` are waited for.
        """
        leg = self._swap.own_legs[0]
        nodes = self._venue.nodes(self._swap.terms.legs[leg].rollup)
        telling = partial(outcome_by_receipt, swap_id=self._swap.swap_id, leg=leg, min_height=min_height)
        return await nodes.ask(telling, is_waiting=True)

    async def _ends(self, outcome: SwapPhase, decided_height: int) -> tuple[LegEnd, ...]:
        swap, ends = self._swap, []
        for leg in sorted({*swap.own_legs, *swap.received_legs}):
            nodes = self._venue.nodes(swap.terms.legs[leg].rollup)
            ending = partial(leg_end, swap=swap, leg=leg, outcome=outcome, decided_height=decided_height)
            ends.append(await nodes.ask(ending, is_waiting=True))
        return tuple(ends)

    async def _height_after_lock_by(self) -> int | None:
        """Return the height of a block at which the swap cannot be opened any more.

        None if no rollup of the trader's has proven that it executed one.
        """
        rollup = self._swap.terms.legs[self._swap.own_legs[0]].rollup
        newest = await self._venue.nodes(rollup).ask(
            lambda node: node.proven_commitment(timeout_ms=ATTEMPT_MS)
        )
        is_closed = newest.header.header.time_ms >= self._swap.terms.lock_by_ms
        return newest.commitment.height if is_closed else None

    async def _wait_on(self) -> Driven | None:
        await self._venue.wait_change(self._swap, None)
        return None

    # --- telling ------------------------------------------------------------------------------------------

    def _notice(self, standing: Standing | None) -> None:
        if standing is not None and (self._standing is None or standing.phase is not self._standing.phase):
            self._trouble = ""
            reason = f" because of {standing.reason}" if standing.reason else ""
            self._say(standing.phase.name, f"{standing.source} says {standing.phase.name}{reason}")
        self._standing = standing

    def _say_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._say("waiting", text)

    def _say(self, step: str, text: str) -> None:
        self._tell(Progress(step, text, self._elapsed_ms()))

    def _elapsed_ms(self) -> int:
        return round((self._clock() - self._start_s) * 1_000)

    def _is_late(self) -> bool:
        return self._deadline_s is not None and self._clock() >= self._deadline_s

    def _driven(self, ends: tuple[LegEnd, ...]) -> Driven:
        return Driven(self._swap, self._standing, ends, self._elapsed_ms())
