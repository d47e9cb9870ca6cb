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
    Command,
    CommandFailed,
    Options,
    explain,
    failure_json,
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
from rollups.client import RollupClient

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
    failure: CommandFailed | None = None
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
                found = await _holdings_of(network, accounts or tuple(names))
        failure = _failure_of(found.values())
        if options.is_json:
            told = [_account_json(each, names, holdings) for each, holdings in found.items()]
            print_json({**_outcome_json(failure), "accounts": told})
        else:
            rows = [
                (names.get(each, each.hex()), *row)
                for each, holdings in found.items()
                for row in _balance_rows(options, holdings, is_all=bool(accounts))
            ]
            print_table(("account", "rollup", "balance", "asset", "after block"), rows)
        return EXIT_DONE if failure is None else failure.exit_code

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
                found, swaps = await asyncio.gather(
                    _holdings_of(network, (account,)), _open_swaps(network, account)
                )
        holdings, failure = found[account], _failure_of(found.values())
        if options.is_json:
            told = None if swaps is None else [_swap_json(swap, account) for swap in swaps]
            shown = _account_json(account, names, holdings)
            print_json({**_outcome_json(failure), **shown, "open_swaps": told})
        else:
            click.echo(f"account {account.hex()} {names.get(account, '')}".rstrip())
            head = ("rollup", "balance", "asset", "after block")
            print_table(head, _balance_rows(options, holdings, is_all=True))
            for each in holdings:
                if each.open_locks:
                    click.echo(f"legs of open swaps in escrow on {each.rollup}: {each.open_locks}")
            if swaps is None:
                click.echo("no coordinator answers, so that open swaps are not shown", err=True)
            elif swaps:
                rows = [(s.swap_id.hex(), s.phase.name, s.next_action) for s in swaps]
                print_table(("open swap", "phase", "what to do"), rows)
        return EXIT_DONE if failure is None else failure.exit_code

    run(options, work)


async def _holdings_of(
    network: Connections, accounts: Sequence[PublicKey]
) -> Mapping[PublicKey, Sequence[Holding]]:
    """Return what accounts have on every rollup whose nodes the network file names.

    Raises the error of the first rollup if there is none that answers.
    """
    nodes = {rollup: Failover(await network.nodes(rollup)) for rollup in network.network.rollups}
    wanted = [_holding(network, rollup, nodes[rollup], each) for each in accounts for rollup in nodes]
    found = await asyncio.gather(*wanted)
    if found and all(each.failure is not None for each in found):
        assert found[0].failure is not None
        raise found[0].failure
    return {
        account: found[place * len(nodes) : (place + 1) * len(nodes)]
        for place, account in enumerate(accounts)
    }


async def _holding(
    network: Connections, rollup: str, nodes: Failover[RollupClient], account: PublicKey
) -> Holding:
    assets = [asset.id for asset in assets_of(network.genesis).get(RollupId(rollup), ())]
    keys = [balance_key(asset.encode("ascii"), account) for asset in assets]
    try:
        if not assets:
            # Registered after genesis, which therefore does not say what there is.
            balances = await nodes.ask(lambda node: node.balances(account, timeout_ms=ATTEMPT_MS_MAX))
            return Holding(RollupId(rollup), balances=balances)
        wanted = [*keys, open_locks_key(account)]
        state = await nodes.ask(lambda node: node.state(wanted, timeout_ms=ATTEMPT_MS_MAX))
    except LockstepError as error:
        if not error.retryable:
            raise
        return Holding(RollupId(rollup), failure=explain(error))
    numbers = [int.from_bytes(state.values[key] or b"", "big") for key in keys]
    return Holding(
        rollup=RollupId(rollup),
        height=state.commitment.height,
        balances=dict(zip(assets, numbers, strict=True)),
        open_locks=int.from_bytes(state.values[open_locks_key(account)] or b"", "big"),
    )


async def _open_swaps(network: Connections, account: PublicKey) -> Sequence[SwapView] | None:
    """Return the open swaps of an account that a coordinator knows of; None if none answers."""
    try:
        page = await Failover(await network.bridges()).ask(
            lambda bridge: bridge.list(party=account, phases=_OPEN_PHASES, timeout_ms=ATTEMPT_MS_MAX)
        )
    except LockstepError as error:
        if not error.retryable:
            raise
        return None
    return page.swaps


def _failure_of(found: Iterable[Sequence[Holding]]) -> CommandFailed | None:
    """Return why something is missing; None if nothing is."""
    failures = [each.failure for holdings in found for each in holdings if each.failure is not None]
    return failures[0] if failures else None


def _outcome_json(failure: CommandFailed | None) -> dict[str, Any]:
    """Return how a command ended that shows what there is also if something is missing."""
    return {"ok": True} if failure is None else failure_json(failure)


def _balance_rows(
    options: Options, holdings: Sequence[Holding], *, is_all: bool
) -> list[tuple[str, str, str, str]]:
    """Return rows of rollup, balance, asset and height; `is_all` with those that are zero."""
    rows: list[tuple[str, str, str, str]] = []
    for each in holdings:
        if each.balances is None:
            rows.append((each.rollup, "?", "" if each.failure is None else each.failure.message, ""))
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
                "error": None if each.failure is None else each.failure.message,
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
