"""The commands of `lockstep swap` that only look: show, explain, list and watch.

Owns what can be typed. Where a swap stands is the coordinator's word; what is in the wallet is the trader's
own record, and an outcome in there was checked.
"""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

import click

from bridge.client import BridgeClient, RecordedSwap, SwapView
from deploy.commands.frame import Command, Options, network_options, print_json, print_json_line, run
from deploy.commands.parameters import ACCOUNT
from deploy.commands.swap_desk import Counter, at_counter, find_in_wallet, find_view, listed
from deploy.commands.swap_showing import (
    change_line,
    explanation_json,
    show_explanation,
    show_list,
    show_standing,
    show_view,
    standing_json,
    view_json,
)
from deploy.commands.swap_terms import SWAP
from lockstep.errors import LockstepError, UnknownSwap
from lockstep.types import PublicKey, SwapId


@click.command(cls=Command)
@network_options
@click.argument("swap_id", type=SWAP, metavar="SWAP")
@click.option("--proven", is_flag=True, help="By the rollups' proofs, not by the coordinator's word.")
def show(options: Options, swap_id: str, proven: bool) -> None:  # noqa: FBT001 - click passes options by name
    """Show where a swap stands, and what is to be done.

    The coordinator tells it; for a swap of your wallet the rollups prove it where no coordinator answers.
    """

    async def work() -> None:
        async with at_counter(options) as counter:
            try:
                view = await find_view(counter, swap_id)
            except LockstepError as error:
                recorded = find_in_wallet(counter, swap_id)
                if recorded is None or not error.retryable:
                    raise
                click.echo(f"{error.message}; the rollups tell instead", err=True)
                await _show_proven(counter, recorded)
                return
            if proven:
                await _show_proven(counter, view)
            elif options.is_json:
                print_json({"ok": True, **view_json(view)})
            else:
                show_view(view, counter.names)

    run(options, work)


@click.command(cls=Command)
@network_options
@click.argument("swap_id", type=SWAP, metavar="SWAP")
def explain(options: Options, swap_id: str) -> None:
    """Show every record of a swap, with its block and reason, and who is waited for."""

    async def work() -> None:
        async with at_counter(options) as counter:
            view = await find_view(counter, swap_id)
            told = await counter.venue.bridges.ask(lambda bridge: bridge.explain(view.swap_id))
            if options.is_json:
                print_json(explanation_json(told))
            else:
                show_explanation(told, counter.names)

    run(options, work)


@click.command("list", cls=Command)
@network_options
@click.option("--account", type=ACCOUNT, metavar="NAME|HEX", help="Only swaps of this account.")
@click.option(
    "--all", "is_all", is_flag=True, help="Also swaps of the coordinator that are not in the wallet."
)
@click.option("--open", "is_open", is_flag=True, help="Only those that are not at their end.")
def list_swaps(
    options: Options,
    account: PublicKey | None,
    is_all: bool,  # noqa: FBT001 - click passes options by name
    is_open: bool,  # noqa: FBT001 - click passes options by name
) -> None:
    """List the swaps of the wallet, newest first, and where they stand."""

    async def work() -> None:
        async with at_counter(options) as counter:
            recorded = counter.wallet.swaps(account)
            views, notice = await _views(counter, recorded, account, is_all=is_all)
            if is_open:
                recorded = tuple(each for each in recorded if each.outcome is None)
                views = {swap_id: view for swap_id, view in views.items() if not view.is_final}
            show_list(options, recorded, views, counter.names, notice=notice)

    run(options, work)


@click.command(cls=Command)
@network_options
@click.argument("swap_ids", type=SWAP, metavar="[SWAP]...", nargs=-1)
@click.option("--account", type=ACCOUNT, metavar="NAME|HEX", help="Only swaps of this account.")
@click.option(
    "--from",
    "from_sequence",
    type=click.IntRange(min=0),
    default=0,
    help="Go on from this change: the last `sequence` plus one. Without it, first how each swap stands now.",
)
def watch(options: Options, swap_ids: tuple[str, ...], account: PublicKey | None, from_sequence: int) -> None:
    """Tell every change of swaps, one on each line. Ends when all swaps that were named are over."""

    async def work() -> None:
        async with at_counter(options) as counter:
            named = {(await find_view(counter, text)).swap_id for text in swap_ids}
            await _watch(counter, named, account, from_sequence)

    run(options, work)


async def _show_proven(counter: Counter, swap: RecordedSwap | SwapView) -> None:
    """Show what the rollups' register says of a swap. Raises UnknownSwap."""
    standing = await counter.venue.look_at_rollups(swap)
    if standing is None:
        raise UnknownSwap(swap_id=swap.swap_id.hex())
    if counter.options.is_json:
        print_json({"ok": True, **standing_json(swap.swap_id, swap.terms, standing)})
    else:
        show_standing(swap.swap_id, swap.terms, standing, counter.names)


async def _views(
    counter: Counter, recorded: Sequence[RecordedSwap], account: PublicKey | None, *, is_all: bool
) -> tuple[dict[SwapId, SwapView], str]:
    """Return what the coordinator says of open swaps of the wallet, or of all; and why if it says nothing."""
    views: dict[SwapId, SwapView] = {}
    wanted = {each.swap_id for each in recorded if each.outcome is None}
    try:
        if is_all:
            views = {view.swap_id: view for view in await listed(counter, party=account)}
        for swap_id in wanted - views.keys():
            try:
                views[swap_id] = await counter.venue.bridges.ask(partial(BridgeClient.swap, swap_id=swap_id))
            except LockstepError as error:
                if error.retryable:
                    raise
    except LockstepError as error:
        return views, f"where open swaps stand is not known: {error.message}"
    return views, ""


async def _watch(counter: Counter, named: set[SwapId], account: PublicKey | None, from_sequence: int) -> None:
    left = set(named)
    await counter.venue.bridges.ask(BridgeClient.status)
    bridge = counter.venue.bridges.current
    changes = bridge.watch(from_sequence, tuple(named), party=account or b"")
    async with aclosing(changes) as told:
        async for view in told:
            if counter.options.is_json:
                print_json_line({"ok": True, **view_json(view)})
            else:
                click.echo(change_line(view, counter.names))
            left -= {view.swap_id} if view.is_final else set()
            if named and not left:
                return
