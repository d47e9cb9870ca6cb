"""What is checked and asked before a swap is signed.

Owns what keeps somebody from agreeing to a swap that he does not mean: an id that is too short to be sure of,
funds that are held for too long, a question nobody is there to answer; and the warning of one who gives more
than he has.
"""

import sys
from collections import Counter as Sums
from functools import partial
from typing import Final

import click

from bridge.client import SwapView
from bridge.client.venue import ATTEMPT_MS
from deploy.commands.frame import EXIT_TYPED_WRONG, CommandFailed
from deploy.commands.swap_desk import Counter
from deploy.commands.swap_terms import span, terms_in_words
from deploy.node.failures import SettingsInvalid
from lockstep.commitment import balance_key
from lockstep.errors import LockstepError
from lockstep.terms import Terms, decode_terms
from lockstep.types import PublicKey, RollupId
from rollups.client import RollupClient

HELD_MS_DEFAULT: Final = 600_000
"""How long funds may be held at most where nobody is asked, unless --held-at-most says otherwise."""

SURE_DIGITS: Final = 16
"""Digits of an id with which --yes is believed: 64 bits, which nobody finds by trying other terms."""


async def agree(
    counter: Counter,
    view: SwapView,
    account: PublicKey,
    *,
    typed_id: str,
    is_expected: bool,
    is_agreed: bool,
    held_ms_max: int | None,
) -> None:
    """Show the terms in words and have them agreed to. Raises CommandFailed.

    `is_expected`: what is given and what is got were typed, and are so. `is_agreed`: --yes was.
    """
    if is_agreed and not is_expected and len(typed_id) < SURE_DIGITS:
        raise CommandFailed(
            f"{len(typed_id)} digits are too few to agree to whatever the terms say: others can make a swap "
            "whose id starts so; nothing was signed",
            advice=f"write {SURE_DIGITS} digits of its id or all, or what you expect with --give and --get",
            code="USAGE",
            exit_code=EXIT_TYPED_WRONG,
        )
    is_asked = not (is_agreed or is_expected)
    terms, time_ms = decode_terms(view.terms_bytes), await counter.venue.time_ms()
    if not counter.options.is_json:
        click.echo(f"swap {view.swap_id.hex()}", err=True)
        for line in terms_in_words(terms, account, counter.names, time_ms=time_ms):
            click.echo(f"  {line}", err=True)
    if is_asked and not sys.stdin.isatty():
        raise CommandFailed(
            "nobody is there to be asked whether to agree; nothing was signed",
            advice="say what you expect with --give and --get, or --yes",
            code="USAGE",
            exit_code=EXIT_TYPED_WRONG,
        )
    if held_ms_max is None and not is_asked:
        held_ms_max = HELD_MS_DEFAULT
    verify_held(terms, time_ms=time_ms, held_ms_max=held_ms_max)
    if is_asked and not click.confirm("Agree and sign?", err=True):
        raise CommandFailed("nothing was signed", code="DECLINED")


def verify_held(terms: Terms, *, time_ms: int, held_ms_max: int | None) -> None:
    """Check that terms hold no funds for longer than is wanted; None is any span. Raises CommandFailed."""
    held_ms = terms.expires_ms - time_ms
    if held_ms_max is not None and held_ms > held_ms_max:
        raise CommandFailed(
            f"what you give can be held for {span(held_ms)}, which is longer than {span(held_ms_max)}; "
            "nothing was signed",
            advice="if you want that, say so with --held-at-most DURATION; or have it proposed with a "
            "shorter --reveal-within",
            code="HELD_TOO_LONG",
        )


async def balance_warnings(counter: Counter, terms: Terms, account: PublicKey) -> list[str]:
    """Return a warning for each asset of which an account gives more than it is proven to have.

    Legs whose rollup does not answer are passed by: the rollup judges, and this is only a hint.
    """
    needed: Sums[tuple[RollupId, bytes]] = Sums()
    for place, leg in enumerate(terms.legs):
        if leg.sender == account:
            needed[leg.rollup, leg.asset] += leg.amount + terms.premium_of(place)
    warnings = []
    for (rollup, asset), amount in needed.items():
        key = balance_key(asset, account)
        try:
            asking = partial(RollupClient.state, keys=[key], timeout_ms=ATTEMPT_MS)
            state = await counter.venue.nodes(rollup).ask(asking)
        except (LockstepError, SettingsInvalid):
            continue
        found = int.from_bytes(state.values[key] or b"", "big")
        if found < amount:
            has, needs = (counter.names.amount(rollup, asset, each) for each in (found, amount))
            warnings.append(
                f"{rollup} holds {has} of yours, and this swap takes {needs}: its lock is rejected, and the "
                "swap aborted, unless the rest comes before"
            )
    return warnings
