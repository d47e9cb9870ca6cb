"""How swap commands reach a trader's desk, find swaps by the start of their id, and drive them.

Owns what a command does with the trader's SDK (`bridge.client`), and what it says when that stops half-way:
never "repeat the command" where that would be a second swap, always how to go on with this one.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from bridge.client import (
    BridgeClient,
    Desk,
    Driven,
    Failover,
    LegState,
    NotAsAgreed,
    RecordedSwap,
    SwapView,
    Trader,
    Venue,
    Wallet,
)
from deploy.commands.connecting import Connections, connected
from deploy.commands.frame import (
    EXIT_INTERRUPTED,
    EXIT_TYPED_WRONG,
    EXIT_UNKNOWN,
    EXIT_UNVERIFIED,
    CommandFailed,
    Options,
)
from deploy.commands.swap_showing import Telling, typed
from deploy.commands.swap_terms import Names, verify_id
from deploy.node.failpoints import FAILPOINTS
from lockstep.errors import LockstepError, UnknownSwap
from lockstep.signing import SigningKey
from lockstep.types import PublicKey, RollupId, SwapId

IDLE_TIMEOUT_MS: Final = 30_000
"""How long a command that does not wait for others waits for the services."""

_PAGES_MAX: Final = 20
"""Pages of a coordinator's list in which the start of an id is looked for."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A network as a swap command sees it, with the trader's wallet."""

    options: Options
    """What was typed."""
    venue: Venue
    """The services."""
    wallet: Wallet
    """The records."""
    names: Names
    """How accounts are called."""

    def desk(self, key: SigningKey) -> Desk:
        """Return the desk of a key's owner."""
        return Desk(Trader(key, self.venue.genesis), self.wallet, self.venue)


@asynccontextmanager
async def at_counter(options: Options) -> AsyncIterator[Counter]:
    """Keep connections while the `async with` block lasts. Failpoints act from here on."""
    FAILPOINTS.activate(os.environ)
    async with connected(options) as network:
        venue = await _venue(network)
        yield Counter(options, venue, Wallet(options.network.wallet), Names.of(options))


async def _venue(network: Connections) -> Venue:
    return Venue(
        genesis=network.genesis,
        bridges=Failover(await network.bridges()),
        sequencer=await network.sequencer(),
        rollups={
            RollupId(rollup): Failover(await network.nodes(rollup)) for rollup in network.network.rollups
        },
    )


# --- finding ----------------------------------------------------------------------------------------------


async def find_view(counter: Counter, text: str, *, party: PublicKey | None = None) -> SwapView:
    """Return the coordinator's view of the swap whose id starts so. Raises CommandFailed, LockstepError.

    The start may be of a swap in the wallet, or of one that the coordinator lists, of `party` or anybody.
    """
    verify_id(text)
    known = {swap.swap_id for swap in counter.wallet.swaps(party)}
    swap_id = _only(known, text)
    if swap_id is None and len(text) == 64:
        swap_id = SwapId(bytes.fromhex(text))
    if swap_id is None:
        views = await listed(counter, party=party)
        swap_id = _only({view.swap_id for view in views}, text)
    if swap_id is None:
        raise _unknown(counter, text)
    chosen = swap_id
    try:
        return await counter.venue.bridges.ask(lambda bridge: bridge.swap(chosen))
    except UnknownSwap:
        raise _unknown(counter, text) from None


def find_in_wallet(counter: Counter, text: str) -> RecordedSwap | None:
    """Return a record, of any account, of the swap whose id starts so; None if the wallet has none."""
    recorded = {swap.swap_id: swap for swap in counter.wallet.swaps()}
    swap_id = _only(set(recorded), text)
    return None if swap_id is None else recorded[swap_id]


def find_agreed(counter: Counter, text: str, account: PublicKey) -> RecordedSwap | None:
    """Return an account's record of the swap whose id starts so, or None. Raises CommandFailed."""
    verify_id(text)
    recorded = {swap.swap_id: swap for swap in counter.wallet.swaps(account)}
    swap_id = _only(set(recorded), text)
    return None if swap_id is None else recorded[swap_id]


async def find_proposed(desk: Desk, counter: Counter, text: str, *, why: str) -> RecordedSwap:
    """Return the trader's record of the swap whose id starts so, if he proposed it.

    Of another's it is told that only who proposed it `why`. Raises CommandFailed, LockstepError.
    """
    recorded = find_agreed(counter, text, desk.trader.account)
    known = recorded or await find_view(counter, text, party=desk.trader.account)
    if not desk.trader.is_own(known.terms_bytes):
        revealer = counter.names.account(known.terms.revealer)
        raise CommandFailed(f"only who proposed swap {known.swap_id.hex()} {why}: {revealer}")
    return recorded or desk.take_up(known.terms_bytes)


async def find_recorded(desk: Desk, counter: Counter, text: str) -> RecordedSwap:
    """Return the trader's record of the swap whose id starts so.

    One that is not in the wallet is taken up from the coordinator if it is the trader's own, or all its locks
    were given: then everything was agreed before. Raises CommandFailed, LockstepError.
    """
    account = desk.trader.account
    recorded = find_agreed(counter, text, account)
    if recorded is not None:
        return recorded
    view = await find_view(counter, text, party=account)
    legs = desk.trader.legs_to_lock(view.terms_bytes)
    is_given = all(view.legs[leg].state is not LegState.AWAITED for leg in legs)
    if not legs or not (desk.trader.is_own(view.terms_bytes) or is_given):
        raise CommandFailed(
            f"swap {view.swap_id.hex()} is not in the wallet of this key",
            advice="to agree to it, " + _command(counter, "accept", view.swap_id, account),
        )
    return desk.take_up(view.terms_bytes)


async def listed(counter: Counter, *, party: PublicKey | None) -> list[SwapView]:
    """Return the newest swaps of a party, or of anybody, that the coordinator has; some pages of them."""
    found: list[SwapView] = []
    token = b""
    for _ in range(_PAGES_MAX):
        asking = partial(BridgeClient.list, party=party or b"", page_token=token)
        page = await counter.venue.bridges.ask(asking)
        found += page.swaps
        token = page.next_page_token
        if not token:
            break
    return found


def _only(ids: set[SwapId], start: str) -> SwapId | None:
    """Return the only id that starts so, or None. Raises CommandFailed if there are several."""
    found = sorted(each.hex() for each in ids if each.hex().startswith(start))
    if len(found) > 1:
        raise CommandFailed(
            f"{len(found)} swaps start with {start}: {', '.join(each[:16] for each in found[:4])}",
            advice="write more digits",
            code="AMBIGUOUS",
            exit_code=EXIT_TYPED_WRONG,
        )
    return SwapId(bytes.fromhex(found[0])) if found else None


def _unknown(counter: Counter, text: str) -> CommandFailed:
    return CommandFailed(
        f"neither the wallet nor the coordinator knows a swap {text}",
        advice=f"see `{typed(counter.options, 'swap', 'list', '--all')}`",
        code="UNKNOWN_SWAP",
    )


# --- driving ----------------------------------------------------------------------------------------------


async def drive(
    counter: Counter,
    desk: Desk,
    swap: RecordedSwap,
    telling: Telling,
    *,
    until_idle: bool,
    timeout_ms: int | None,
) -> Driven:
    """Drive a swap; what stops half-way is told with how to go on. Raises CommandFailed, LockstepError."""
    resume = _command(counter, "resume", swap.swap_id, swap.account)
    if timeout_ms is None and until_idle:
        timeout_ms = IDLE_TIMEOUT_MS
    try:
        return await desk.drive(swap, until_idle=until_idle, timeout_ms=timeout_ms, tell=telling)
    except NotAsAgreed as error:
        cancel = _command(counter, "cancel", swap.swap_id, swap.account)
        raise CommandFailed(
            str(error), advice=f"to cancel, {cancel}", code=error.code, exit_code=EXIT_UNVERIFIED
        ) from error
    except asyncio.CancelledError:
        raise CommandFailed(
            f"stopped; swap {swap.swap_id.hex()} goes on without you",
            advice=f"to go on with it, {resume}",
            code="INTERRUPTED",
            exit_code=EXIT_INTERRUPTED,
        ) from None
    except LockstepError as error:
        if not error.retryable:
            raise
        raise CommandFailed(
            f"swap {swap.swap_id.hex()} is in your wallet and not at its end: {error.message}",
            advice=f"to go on with it, {resume}",
            code=error.code,
            exit_code=EXIT_UNKNOWN,
        ) from error


def _command(counter: Counter, verb: str, swap_id: SwapId, account: PublicKey) -> str:
    key = counter.names.by_account.get(account, "KEY")
    return f"type `{typed(counter.options, 'swap', verb, swap_id.hex(), '--key', key)}`"
