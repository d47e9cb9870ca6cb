"""The trader's desk: agree to a swap, and take it from wherever it stands to its end.

Owns the order of work: what is decided is in the wallet before it is sent, and what is sent is found in the
wallet after a kill. `Desk.drive` looks where the swap stands, does the next step (`steps.next_step`) and
looks again; it may be stopped anywhere and called again, by another process too. Invariant: the trader itself
shows a preimage only after the escrow of every leg that it gets was proven.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.client.checks import verify_agreement
from bridge.client.driving import CANCEL_RECORDED, SWAP_RECORDED, Drive, Driven, Progress
from bridge.client.recorded import RecordedSwap, Role, cancelling
from bridge.client.trader import LOCK_WITHIN_MS, REVEAL_WITHIN_MS, Trader
from bridge.client.venue import Venue
from bridge.client.views import RevealPolicy
from bridge.client.wallet import Wallet
from deploy.node.failpoints import FAILPOINTS
from lockstep.terms import Leg, Premium, decode_terms

IDEMPOTENCY_KEY_BYTES: Final = 16


def _ignore(_: Progress) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Desk:
    """One trader, with his wallet, at a venue."""

    trader: Trader
    """Who trades; the key stays in here."""
    wallet: Wallet
    """His records."""
    venue: Venue
    """Where he trades."""

    async def propose(
        self,
        legs: Sequence[Leg],
        *,
        lock_within_ms: int = LOCK_WITHIN_MS,
        reveal_within_ms: int = REVEAL_WITHIN_MS,
        reveal: RevealPolicy = RevealPolicy.BY_TRADER,
        premium: Premium | None = None,
    ) -> RecordedSwap:
        """Make terms whose revealer is this trader, and record them. Nobody is told before `drive`.

        Times as in `Trader.new_terms`, from the newest log time. Raises Malformed, or what is worth repeating
        where no log time is to be had.
        """
        time_ms = await self.venue.time_ms()
        terms_bytes = self.trader.new_terms(
            legs,
            time_ms=time_ms,
            lock_within_ms=lock_within_ms,
            reveal_within_ms=reveal_within_ms,
            premium=premium,
        )
        return self._record(terms_bytes, reveal, time_ms=time_ms)

    async def accept(self, terms_bytes: bytes) -> RecordedSwap:
        """Agree to terms, and record that. Nothing is signed before `drive`.

        What they say is for the caller to have read. Raises WrongChain, Malformed, Expired or TooFarAhead.
        """
        return self._record(terms_bytes, RevealPolicy.BY_TRADER, time_ms=await self.venue.time_ms())

    def take_up(self, terms_bytes: bytes) -> RecordedSwap:
        """Record a swap that this trader agreed to before, as after the loss of the wallet.

        For terms of its own, or whose lock it has given already: `drive` then signs what is missing. Raises
        WrongChain or Malformed.
        """
        lock_by_ms = decode_terms(terms_bytes).lock_by_ms
        return self._record(terms_bytes, RevealPolicy.BY_TRADER, time_ms=lock_by_ms - 1)

    def cancel(self, swap: RecordedSwap) -> RecordedSwap:
        """Record that the trader wants a swap no more. From then on `drive` locks and reveals nothing.

        The proposer's cancellation is sent by `drive`; a counterparty's lock that was given stays usable
        until `lock_by_ms`.
        """
        recorded = self.wallet.change(swap, cancelling)
        FAILPOINTS.reach(CANCEL_RECORDED)
        return recorded

    async def drive(
        self,
        swap: RecordedSwap,
        *,
        until_idle: bool = False,
        timeout_ms: int | None = None,
        tell: Callable[[Progress], None] = _ignore,
    ) -> Driven:
        """Take a recorded swap to its end, from wherever it stands, and tell each step.

        With `until_idle` only until nothing is left for this trader to do now. What may pass is waited for,
        up to `timeout_ms` of real time; by default until the swap's deadlines end it. Raises NotAsAgreed,
        errors that are not worth repeating, and after `timeout_ms` the last that is, or TimedOut.
        """
        drive = Drive(
            self.trader,
            self.wallet,
            self.venue,
            swap,
            tell=tell,
            until_idle=until_idle,
            timeout_ms=timeout_ms,
        )
        return await drive.run()

    def _record(self, terms_bytes: bytes, reveal: RevealPolicy, *, time_ms: int) -> RecordedSwap:
        terms = decode_terms(terms_bytes)
        verify_agreement(terms, self.trader.account, self.venue.genesis, time_ms=time_ms)
        recorded = self.wallet.add(
            RecordedSwap(
                account=self.trader.account,
                role=Role.PROPOSER if self.trader.is_own(terms_bytes) else Role.COUNTERPARTY,
                terms_bytes=terms_bytes,
                terms=terms,
                reveal=reveal,
                idempotency_key=secrets.token_bytes(IDEMPOTENCY_KEY_BYTES),
            )
        )
        FAILPOINTS.reach(SWAP_RECORDED)
        return recorded
