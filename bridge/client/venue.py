"""Where a trader trades: the services of a network, several of a kind, seen as one.

Owns which way a question or a transaction goes: coordinators in order; the sequencer itself, and the rollups'
proofs, when no coordinator answers. Every call is safe to repeat with the same ids. Invariant: log time comes
from a signed header, never from a clock or a coordinator's word.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from bridge.client.failover import Failover, is_worth_asking_another
from bridge.client.recorded import RecordedSwap
from bridge.client.service import BridgeClient
from bridge.client.steps import Standing, standing_of_record, standing_of_view
from bridge.client.views import SwapPhase
from deploy.node.client import ClientSettings
from deploy.node.failures import SettingsInvalid
from deploy.node.logs import Secret
from lockstep.errors import LockstepError, UnknownSwap
from lockstep.genesis import Genesis
from lockstep.limits import VALIDITY_WINDOW_MS_DEFAULT
from lockstep.order import Bundle, Transaction
from lockstep.swap_entries import encode_reveal
from lockstep.terms import Terms
from lockstep.types import SWAP_NAMESPACE, Namespace, RollupId, SwapId
from rollups.client import RollupClient, RollupSwap
from sequencer.client import SequencerClient

ATTEMPT_MS: Final = 2_000
"""How long one service may take before the next is asked."""

LOOK_AGAIN_MS: Final = 250
"""How long to wait before looking again where no stream tells of changes."""

WATCH_MS: Final = 1_000
"""How long a stream of changes is waited for before the log time is looked at again."""

_DEFAULT_SETTINGS: Final = ClientSettings()


class KnownSwap(Protocol):
    """A swap whose terms are known: a trader's record, or a coordinator's view."""

    @property
    def swap_id(self) -> SwapId:
        """Its id."""

    @property
    def terms(self) -> Terms:
        """What was agreed."""


@dataclass(frozen=True, slots=True)
class Venue:
    """The services, connected; `open_venue` makes one."""

    genesis: Genesis
    """The chain."""
    bridges: Failover[BridgeClient]
    """Coordinators, in the order in which they are tried."""
    sequencer: SequencerClient
    """The sequencer: the clock, and the way past coordinators that are away."""
    rollups: Mapping[RollupId, Failover[RollupClient]]
    """Nodes of each rollup in the order in which they are tried: have one of your own among them."""

    async def time_ms(self) -> int:
        """Return log time by the newest signed header that can be had. Raises what is worth repeating."""
        try:
            return (await self.sequencer.status(timeout_ms=ATTEMPT_MS)).time_ms
        except LockstepError as failure:
            if not failure.retryable:
                raise
            for nodes in self.rollups.values():
                with suppress(LockstepError):
                    newest = await nodes.ask(lambda node: node.proven_commitment(timeout_ms=ATTEMPT_MS))
                    return newest.header.header.time_ms
            raise

    def nodes(self, rollup: RollupId) -> Failover[RollupClient]:
        """Return a rollup's nodes. Raises SettingsInvalid if none is named."""
        found = self.rollups.get(rollup)
        if found is None:
            raise SettingsInvalid(
                f"no node of rollup {rollup} is named, so that nothing on it can be checked; name one"
            )
        return found

    async def look(self, swap: RecordedSwap) -> Standing | None:
        """Return how a swap stands by the first coordinator that knows it, else by the rollups' register.

        None if those who answer do not know it. Raises what is worth repeating if nobody answers.
        """
        # A coordinator that refuses to tell, or tells nonsense, is passed by as one that is away.
        with suppress(LockstepError):
            view = await self.bridges.ask(lambda bridge: bridge.swap(swap.swap_id, timeout_ms=ATTEMPT_MS))
            return standing_of_view(view, "the coordinator")
        return await self.look_at_rollups(swap)

    async def confirm(self, swap: RecordedSwap, claimed: Standing) -> Standing | None:
        """Return how a swap stands by proofs, once its rollups have executed what a coordinator claims.

        If they have not within ATTEMPT_MS, whatever they prove then: a claim may be ahead of them, or false.
        """
        try:
            return await self.look_at_rollups(swap, min_height=claimed.decided_height)
        except LockstepError as error:
            if not error.retryable:
                raise
            return await self.look_at_rollups(swap)

    async def look_at_rollups(self, swap: KnownSwap, *, min_height: int = 0) -> Standing | None:
        """Return how a swap stands, proven by the nodes of its rollups; None if the register has it not.

        Nodes that have not executed `min_height` are waited for. Raises what is worth repeating if no node of
        any of its rollups answers.
        """

        def ask(node: RollupClient) -> Awaitable[RollupSwap]:
            return node.swap(swap.swap_id, min_height=min_height, timeout_ms=ATTEMPT_MS)

        found: list[RollupSwap] = []
        failures: list[LockstepError] = []
        for rollup in dict.fromkeys(leg.rollup for leg in swap.terms.legs):
            try:
                found.append(await self.nodes(rollup).ask(ask, is_waiting=min_height > 0))
            except LockstepError as error:
                if not is_worth_asking_another(error):
                    raise
                failures.append(error)
        known = [(each.height, each.record) for each in found if each.record is not None]
        if known:
            height, record = max(known, key=lambda each: each[0])
            given = frozenset(leg for each in found for leg in each.escrows)
            return standing_of_record(record, given, f"the rollups' register at height {height}")
        if found or any(isinstance(error, UnknownSwap) for error in failures):
            return None
        raise failures[0]

    async def wait_change(self, swap: RecordedSwap, standing: Standing | None) -> None:
        """Wait until a swap may stand otherwise, at most WATCH_MS."""
        if standing is None or not standing.sequence:
            await asyncio.sleep(LOOK_AGAIN_MS / 1_000)
            return
        try:
            async with asyncio.timeout(WATCH_MS / 1_000):
                changes = self.bridges.current.watch(standing.sequence + 1, (swap.swap_id,))
                async with aclosing(changes) as told:
                    await anext(told)
        except TimeoutError:
            pass
        except LockstepError:
            await asyncio.sleep(LOOK_AGAIN_MS / 1_000)

    # --- what a trader sends ------------------------------------------------------------------------------

    async def propose(self, swap: RecordedSwap, preimage: Secret | None) -> None:
        """Register a swap's terms with the first coordinator that takes them."""
        await self.bridges.ask(
            lambda bridge: bridge.propose(
                swap.terms_bytes,
                idempotency_key=swap.idempotency_key,
                reveal_policy=swap.reveal,
                preimage=preimage,
                timeout_ms=ATTEMPT_MS,
            )
        )

    async def give_lock(self, swap: RecordedSwap, leg: int, standing: Standing) -> None:
        """Give a recorded lock to a coordinator; or to the sequencer if none answers and the swap is open."""
        payload = swap.locks[leg]
        try:
            await self.bridges.ask(
                lambda bridge: bridge.accept(swap.swap_id, leg, payload, timeout_ms=ATTEMPT_MS)
            )
        except LockstepError as error:
            is_open = standing.phase in (SwapPhase.OPEN, SwapPhase.REVEALED)
            if not is_open or not is_worth_asking_another(error):
                raise
            lock = Transaction(Namespace(swap.terms.legs[leg].rollup), payload)
            await self._submit(lock, swap.terms.lock_by_ms)

    async def reveal(
        self, swap: RecordedSwap, preimage: Secret, *, time_ms: int, is_direct: bool = False
    ) -> None:
        """Show a swap's preimage, through a coordinator or else directly.

        `is_direct`: past the coordinators, whose word that it was ordered came to nothing.
        """
        if not is_direct:
            # One that refuses is passed by as one that is away: the order judges what is shown.
            with suppress(LockstepError):
                await self.bridges.ask(
                    lambda bridge: bridge.reveal(swap.swap_id, preimage, timeout_ms=ATTEMPT_MS)
                )
                return
        await self._submit_entry(swap, encode_reveal(swap.swap_id, preimage.reveal()), time_ms)

    async def cancel(
        self, swap: RecordedSwap, entry: bytes, *, time_ms: int, is_direct: bool = False
    ) -> None:
        """Send a signed cancellation, through a coordinator or else directly. `is_direct` as in `reveal`."""
        if not is_direct:
            with suppress(LockstepError):
                await self.bridges.ask(lambda bridge: bridge.cancel(entry, timeout_ms=ATTEMPT_MS))
                return
        await self._submit_entry(swap, entry, time_ms)

    async def _submit_entry(self, swap: RecordedSwap, entry: bytes, time_ms: int) -> None:
        valid_until_ms = min(time_ms + VALIDITY_WINDOW_MS_DEFAULT, swap.terms.expires_ms)
        await self._submit(Transaction(SWAP_NAMESPACE, entry), valid_until_ms)

    async def _submit(self, transaction: Transaction, valid_until_ms: int) -> None:
        await self.sequencer.submit(Bundle((transaction,), valid_until_ms), timeout_ms=ATTEMPT_MS)


@asynccontextmanager
async def open_venue(
    genesis: Genesis,
    *,
    bridges: Sequence[str],
    sequencer: str,
    rollups: Mapping[str, Sequence[str]],
    settings: ClientSettings = _DEFAULT_SETTINGS,
) -> AsyncIterator[Venue]:
    """Keep connections to services (`host:port`) while the `async with` block lasts.

    Each list in the order in which it is tried. Raises SettingsInvalid for what is no address.
    """
    async with AsyncExitStack() as stack:
        coordinators = [
            await stack.enter_async_context(BridgeClient(target, genesis, settings)) for target in bridges
        ]
        nodes = {
            RollupId(rollup): Failover(
                [
                    await stack.enter_async_context(RollupClient(target, genesis, rollup, settings))
                    for target in targets
                ]
            )
            for rollup, targets in rollups.items()
        }
        yield Venue(
            genesis=genesis,
            bridges=Failover(coordinators),
            sequencer=await stack.enter_async_context(SequencerClient(sequencer, genesis, settings)),
            rollups=nodes,
        )
