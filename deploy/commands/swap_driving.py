"""Driving swaps for people and programs: what is told on the way, at the end, and what to type next.

Owns the output of every command that takes a swap further, and its exit code. How a swap is driven lies in
`swap_desk` and the trader's SDK.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import click

from bridge.client import Driven, RecordedSwap, RevealPolicy, Role, SwapPhase
from deploy.commands.frame import EXIT_DONE, Options, print_json
from deploy.commands.swap_desk import Counter, drive
from deploy.commands.swap_showing import Telling, driven_json, exit_code_of, show_driven, typed
from lockstep.signing import SigningKey


async def drive_and_show(
    counter: Counter,
    key: SigningKey,
    recorded: RecordedSwap,
    *,
    wait: bool,
    timeout_ms: int | None,
    following: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> int:
    """Drive a swap, show where it got, and return the exit code.

    Of `warnings` people are told before, and programs at the end.
    """
    options, telling = counter.options, Telling(counter.options)
    _warn(options, warnings)
    driven = await drive(
        counter, counter.desk(key), recorded, telling, until_idle=not wait, timeout_ms=timeout_ms
    )
    if driven.swap.outcome is not None:
        following = ()
    pending = _pending_words(driven)
    if options.is_json:
        print_json(driven_json(driven, telling, following, (*warnings, *pending)))
    else:
        _warn(options, pending)
        head = ("the others type:",) if following else ()
        show_driven(driven, counter.names, (*head, *following, *_going_on(options, driven, counter)))
    return exit_code_of(driven)


async def resume_all(counter: Counter, key: SigningKey, *, timeout_ms: int | None) -> int:
    """Drive every open swap of a key side by side, and show each end. Returns the worst exit code."""
    options, names = counter.options, counter.names
    recorded = [each for each in counter.wallet.swaps(key.public_key) if each.outcome is None]

    async def go_on(each: RecordedSwap) -> tuple[Driven, Telling]:
        telling = Telling(options, prefix=f"{each.swap_id.hex()[:8]} ")
        driven = await drive(
            counter, counter.desk(key), each, telling, until_idle=False, timeout_ms=timeout_ms
        )
        return driven, telling

    ends = await asyncio.gather(*map(go_on, recorded), return_exceptions=True)
    failures = [each for each in ends if isinstance(each, BaseException)]
    done = [each for each in ends if not isinstance(each, BaseException)]
    if options.is_json and not failures:
        told = [driven_json(driven, telling, (), _pending_words(driven)) for driven, telling in done]
        print_json({"ok": all(each["ok"] for each in told), "swaps": told})
    elif not options.is_json:
        for driven, _ in done:
            show_driven(driven, names, ())
        if not recorded:
            click.echo("no swap of this key in the wallet is open")
    if failures:
        raise failures[0]
    return max((exit_code_of(driven) for driven, _ in done), default=EXIT_DONE)


def _going_on(options: Options, driven: Driven, counter: Counter) -> list[str]:
    """Return what the trader types next, if the swap is not at its end."""
    if driven.swap.outcome is not None:
        return []
    name = counter.names.by_account.get(driven.swap.account, "KEY")
    is_revealer = driven.swap.role is Role.PROPOSER and driven.swap.reveal is RevealPolicy.BY_TRADER
    verb = "reveal" if is_revealer and not driven.swap.is_cancelling else "resume"
    why = {"reveal": "then, to check what is locked and reveal:", "resume": "to see it to its end:"}[verb]
    return [why, typed(options, "swap", verb, driven.swap.swap_id.hex(), "--key", name)]


def _warn(options: Options, warnings: Sequence[str]) -> None:
    if not options.is_json:
        for warning in warnings:
            click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)


_UNOPENED: Final = frozenset({SwapPhase.COLLECTING, SwapPhase.SUBMITTED, SwapPhase.LAPSED})


def _pending_words(driven: Driven) -> tuple[str, ...]:
    """Return what can still become of a swap that its trader cancelled before it is in the order."""
    swap, standing = driven.swap, driven.standing
    if swap.outcome is not None or not swap.is_cancelling:
        return ()
    if standing is not None and standing.phase not in _UNOPENED:
        return ()
    terms, premium = swap.terms, swap.terms.premium
    is_payer = premium is not None and terms.legs[premium.leg].sender == swap.account
    costs = ", and the premium is due" if is_payer else ""
    return (
        "the wish to cancel is in your wallet, and nothing is in the order: until log time "
        f"{terms.lock_by_ms} whoever has the locks can still open the swap. If nobody cancels it then, your "
        f"funds are held until {terms.expires_ms}{costs}. `resume` waits and keeps to the cancellation",
    )
