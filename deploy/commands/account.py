"""`lockstep account`: what accounts have on every rollup.

Owns what can be typed and how it is shown. Balances and locks are proven under commitments of the rollups;
open swaps are the coordinator's word.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from bridge.client import SwapPhase, SwapView
from bridge.client.failover import Failover
from deploy.commands.connecting import ATTEMPT_MS_MAX, Connections, connected
from deploy.commands.frame import (
    EXIT_DONE,
    EXIT_UNKNOWN,
    Command,
    Options,
    network_options,
    print_json,
    print_table,
    progress,
    run,
)
from deploy.commands.parameters import (
    ACCOUNT,
    account_names,
    assets_of,
    find_asset,
    in_units,
)
from deploy.lazy_group import LazyGroup
from lockstep.commitment import balance_key, open_locks_key
from lockstep.errors import LockstepError
from lockstep.terms import Leg
from lockstep.types import PublicKey, RollupId

_OPEN_PHASES: Final = tuple(phase for phase in SwapPhase if not phase.is_final)


@dataclass(frozen=True, slots=True)
class Holding:
    """What an account has on a rollup after one block, proven; or why that cannot be told."""

    rollup: RollupId
    """The rollup."""
    height: int = 0
    """The block; 0 if no node answered."""
    balances: Mapping[str, int] | None = None
    """Base units of each asset; None if no node answered."""
    open_locks: int = 0
    """Legs of swaps that the account has in escrow."""
    error: str = ""
    """Why no node answered."""


@click.group(cls=LazyGroup)
def account() -> None:
    """Show what accounts have on every rollup."""


@account.command(cls=Command)
@network_options
@click.argument("accounts", type=ACCOUNT, nargs=-1, metavar="[NAME|HEX]...")
def balance(options: Options, accounts: tuple[PublicKey, ...]) -> None:
    """Show balances, proven by commitments of the rollups.

    Of the accounts that are named, or of every key in the network's folder whose account has something.
    """

    async def work() -> int:
        names = account_names(options)
        async with connected(options) as network:
            with progress("asking the rollups"):
                found = {each: await _holdings(network, each) for each in accounts or names}
        if options.is_json:
            print_json({"ok": True, "accounts": [_account_json(a, names, h) for a, h in found.items()]})
        else:
            rows = [
                (names.get(each, each.hex()), *row)
                for each, holdings in found.items()
                for row in _balance_rows(options, holdings, is_all=bool(accounts))
            ]
            print_table(("account", "rollup", "balance", "asset", "after block"), rows)
        return _exit_code(found.values())

    run(options, work)


@account.command(cls=Command)
@network_options
@click.argument("account", type=ACCOUNT, metavar="NAME|HEX")
def show(options: Options, account: PublicKey) -> None:
    """Show all of one account: balances and locks, proven, and its open swaps by the coordinator's word."""

    async def work() -> int:
        names = account_names(options)
        async with connected(options) as network:
            with progress("asking the rollups"):
                holdings, swaps = await asyncio.gather(
                    _holdings(network, account), _open_swaps(network, account)
                )
        if options.is_json:
            told = [_swap_json(swap, account) for swap in swaps]
            print_json({"ok": True, **_account_json(account, names, holdings), "open_swaps": told})
        else:
            click.echo(f"account {account.hex()} {names.get(account, '')}".rstrip())
            head = ("rollup", "balance", "asset", "after block")
            print_table(head, _balance_rows(options, holdings, is_all=True))
            for each in holdings:
                if each.open_locks:
                    click.echo(f"{each.rollup}: {each.open_locks} legs of open swaps are in escrow")
            if swaps:
                rows = [(s.swap_id.hex(), s.phase.name, s.next_action) for s in swaps]
                print_table(("open swap", "phase", "what to do"), rows)
        return _exit_code([holdings])

    run(options, work)


async def _holdings(network: Connections, account: PublicKey) -> list[Holding]:
    """Return what an account has on every rollup whose nodes the network file names."""
    return list(await asyncio.gather(*(_holding(network, each, account) for each in network.network.rollups)))


async def _holding(network: Connections, rollup: str, account: PublicKey) -> Holding:
    assets = [asset.id for asset in assets_of(network.genesis).get(RollupId(rollup), ())]
    keys = [balance_key(asset.encode("ascii"), account) for asset in assets]
    try:
        nodes = Failover(await network.nodes(rollup))
        if not assets:
            # Registered after genesis, which therefore does not say what there is.
            balances = await nodes.ask(lambda node: node.balances(account, timeout_ms=ATTEMPT_MS_MAX))
            return Holding(RollupId(rollup), balances=balances)
        wanted = [*keys, open_locks_key(account)]
        state = await nodes.ask(lambda node: node.state(wanted, timeout_ms=ATTEMPT_MS_MAX))
    except LockstepError as error:
        if not error.retryable:
            raise
        return Holding(RollupId(rollup), error=error.message)
    numbers = [int.from_bytes(state.values[key] or b"", "big") for key in keys]
    return Holding(
        rollup=RollupId(rollup),
        height=state.commitment.height,
        balances=dict(zip(assets, numbers, strict=True)),
        open_locks=int.from_bytes(state.values[open_locks_key(account)] or b"", "big"),
    )


async def _open_swaps(network: Connections, account: PublicKey) -> Sequence[SwapView]:
    """Return the open swaps of an account that the first coordinator knows of; none if none answers."""
    try:
        page = await Failover(await network.bridges()).ask(
            lambda bridge: bridge.list(party=account, phases=_OPEN_PHASES, timeout_ms=ATTEMPT_MS_MAX)
        )
    except LockstepError as error:
        if not error.retryable:
            raise
        click.echo(f"open swaps are not shown: {error.message}", err=True)
        return ()
    return page.swaps


def _exit_code(found: Iterable[Sequence[Holding]]) -> int:
    silent = any(holding.error for holdings in found for holding in holdings)
    return EXIT_UNKNOWN if silent else EXIT_DONE


def _balance_rows(
    options: Options, holdings: Sequence[Holding], *, is_all: bool
) -> list[tuple[str, str, str, str]]:
    """Return rows of rollup, balance, asset and height; `is_all` with those that are zero."""
    rows: list[tuple[str, str, str, str]] = []
    for each in holdings:
        if each.balances is None:
            rows.append((each.rollup, "?", each.error, ""))
            continue
        for asset, base_units in each.balances.items():
            if base_units or is_all:
                shown = _shown(options, each.rollup, asset, base_units)
                rows.append((each.rollup, shown, asset, str(each.height or "")))
    return rows


def _shown(options: Options, rollup: str, asset: str, base_units: int) -> str:
    try:
        return in_units(base_units, find_asset(options.genesis, rollup, asset).decimals)
    except ValueError:
        return f"{base_units} base units"


def _account_json(
    account: PublicKey, names: Mapping[PublicKey, str], holdings: Sequence[Holding]
) -> dict[str, Any]:
    return {
        "account": account.hex(),
        "name": names.get(account),
        "rollups": [
            {
                "rollup": each.rollup,
                "height": each.height,
                "balances": None
                if each.balances is None
                else {asset: str(base_units) for asset, base_units in each.balances.items()},
                "open_locks": each.open_locks,
                "error": each.error,
            }
            for each in holdings
        ],
    }


def _swap_json(swap: SwapView, account: PublicKey) -> dict[str, Any]:
    return {
        "swap_id": swap.swap_id.hex(),
        "phase": swap.phase.name,
        "gives": [_leg_json(leg) for leg in swap.terms.legs if leg.sender == account],
        "gets": [_leg_json(leg) for leg in swap.terms.legs if leg.recipient == account],
        "next_action": swap.next_action,
    }


def _leg_json(leg: Leg) -> dict[str, str]:
    return {"rollup": leg.rollup, "asset": leg.asset.decode("ascii"), "amount": str(leg.amount)}
