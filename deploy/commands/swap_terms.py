"""The terms of a swap between what people type and what is signed.

Owns how legs are typed, how terms are said in words, and what an account said it expects. Does no I/O but the
look-up of names and assets in the network's files.
"""

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from bridge.client import transfer_leg
from deploy.commands.frame import EXIT_TYPED_WRONG, CommandFailed, Options, options_of
from deploy.commands.parameters import (
    Amount,
    account_names,
    find_account,
    find_asset,
    in_units,
    parse_amount,
)
from deploy.node.failures import SettingsInvalid
from lockstep.limits import LEGS_MAX, LOCK_WINDOW_MS_MAX, REVEAL_WINDOW_MS_MIN
from lockstep.terms import Leg, Premium, PremiumShare, Terms
from lockstep.types import PublicKey

LOCK_WITHIN_MS_MAX: Final = LOCK_WINDOW_MS_MAX - 1_000
"""The longest that can be typed: a coordinator that is a block behind must find it within the bound, too."""


SHORT_DIGITS: Final = 12
"""Digits of a swap's id where it stands in a line with others."""


@dataclass(frozen=True, slots=True)
class Names:
    """How accounts and amounts are shown on one network."""

    options: Options
    """The network."""
    by_account: Mapping[PublicKey, str]
    """The names of accounts whose keys lie in its folder."""

    @staticmethod
    def of(options: Options) -> "Names":
        """Return those of a network. Raises SettingsInvalid."""
        return Names(options, account_names(options))

    def account(self, party: bytes) -> str:
        """Return an account's name, or the first digits of it."""
        return self.by_account.get(PublicKey(party), party.hex()[:16])

    def amount(self, rollup: str, asset: bytes, base_units: int) -> str:
        """Return an amount in whole units, or in base units where genesis does not know the asset."""
        name = asset.decode("latin-1")
        try:
            return f"{in_units(base_units, find_asset(self.options.genesis, rollup, name).decimals)} {name}"
        except ValueError:
            return f"{base_units} base units of {name}"

    def leg(self, leg: Leg) -> str:
        """Return what a leg moves."""
        return f"{self.amount(leg.rollup, leg.asset, leg.amount)} on {leg.rollup}"


class LegType(click.ParamType[Leg]):
    """`FROM:TO:AMOUNT:ASSET@ROLLUP`."""

    name = "leg"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Leg:
        """Return the leg."""
        if isinstance(value, Leg):
            return value
        assert ctx is not None, "only commands have parameters of this type"
        options = options_of(ctx)
        sender, _, rest = str(value).partition(":")
        recipient, _, amount = rest.partition(":")
        if not amount:
            self.fail(
                f"{value!r} is no leg; write FROM:TO:AMOUNT:ASSET@ROLLUP, such as alice:bob:5.00:gold@alpha",
                param,
                ctx,
            )
        try:
            given = parse_amount(amount, options.genesis)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return leg_of(given, find_account(sender, options), find_account(recipient, options))


class SwapIdType(click.ParamType[str]):
    """A swap's id, or the first digits of it; completed from the wallet."""

    name = "swap"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Return the swaps of the wallet that start so, by as many digits as are typed in a line."""
        try:
            files = options_of(ctx).network.wallet.glob(f"{glob.escape(incomplete)}*-*.json")
        except SettingsInvalid:
            return []
        digits = SHORT_DIGITS if len(incomplete) <= SHORT_DIGITS else None
        return [
            click.shell_completion.CompletionItem(each)
            for each in sorted({file.name.partition("-")[0][:digits] for file in files})
        ]


SWAP: Final = SwapIdType()
"""A swap's id or the first digits of it; gives the text."""


def leg_of(amount: Amount, sender: PublicKey, recipient: PublicKey) -> Leg:
    """Return the leg that moves an amount."""
    return transfer_leg(
        rollup=amount.rollup,
        sender=sender,
        recipient=recipient,
        asset=amount.asset,
        amount=amount.base_units,
    )


def typed_legs(
    account: PublicKey,
    *,
    gives: Sequence[Amount],
    gets: Sequence[Amount],
    counterparty: PublicKey | None,
    legs: Sequence[Leg],
) -> tuple[Leg, ...]:
    """Return the legs that were typed, in one of the two forms. Raises click.UsageError."""
    if bool(legs) == bool(gives or gets or counterparty):
        raise click.UsageError("say --give, --get and --with; or each leg with --leg")
    if not legs:
        if not gives or not gets or counterparty is None:
            raise click.UsageError("--give, --get and --with go together")
        legs = (
            *(leg_of(amount, account, counterparty) for amount in gives),
            *(leg_of(amount, counterparty, account) for amount in gets),
        )
    if any(leg.sender == leg.recipient for leg in legs):
        raise click.UsageError("who gives and who gets is the same account in one leg")
    if not 2 <= len(legs) <= LEGS_MAX:
        raise click.UsageError(f"a swap has 2 to {LEGS_MAX} legs, not {len(legs)}")
    if all(leg.sender != account for leg in legs):
        raise click.UsageError(f"no leg is given by the account of --key, {account.hex()}")
    return tuple(legs)


def typed_premium(
    text: str | None, account: PublicKey, legs: Sequence[Leg], options: Options
) -> Premium | None:
    """Return the premium that was typed: on the first leg that the account gives, to who gets that leg.

    Raises click.BadParameter.
    """
    if text is None:
        return None
    place = next(place for place, leg in enumerate(legs) if leg.sender == account)
    leg = legs[place]
    try:
        amount = parse_amount(f"{text}:{leg.asset.decode('latin-1')}@{leg.rollup}", options.genesis)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--premium") from error
    return Premium(place, (PremiumShare(leg.recipient, amount.base_units),))


def verify_times(lock_within_ms: int, reveal_within_ms: int) -> None:
    """Check what was typed against the bounds of the order. Raises click.BadParameter."""
    if not 1 <= lock_within_ms <= LOCK_WITHIN_MS_MAX:
        raise click.BadParameter(f"at most {LOCK_WITHIN_MS_MAX // 1_000}s", param_hint="--lock-within")
    if not REVEAL_WINDOW_MS_MIN <= reveal_within_ms <= 23 * 3_600_000:
        raise click.BadParameter(
            f"at least {REVEAL_WINDOW_MS_MIN // 1_000}s and at most 23h", param_hint="--reveal-within"
        )


def terms_in_words(terms: Terms, account: PublicKey, names: Names, *, time_ms: int) -> list[str]:
    """Return what an account gives and gets, who else is in it, and the deadlines as spans from now."""
    lines = []
    for leg in terms.legs:
        if leg.sender == account:
            lines.append(f"you give  {names.leg(leg)} to {names.account(leg.recipient)}")
    for leg in terms.legs:
        if leg.recipient == account:
            lines.append(f"you get   {names.leg(leg)} from {names.account(leg.sender)}")
    if all(leg.recipient != account for leg in terms.legs):
        lines.append("you get   nothing")
    for leg in terms.legs:
        if account not in (leg.sender, leg.recipient):
            parties = f"{names.account(leg.sender)} to {names.account(leg.recipient)}"
            lines.append(f"besides   {names.leg(leg)} from {parties}")
    lines += [_premium_words(terms, names)] if terms.premium is not None else []
    lines.append(
        f"deadline  every lock is attested within {span(terms.lock_by_ms - time_ms)}, or nothing moves"
    )
    lines.append(
        f"          {names.account(terms.revealer)} reveals within {span(terms.expires_ms - time_ms)}, "
        "or all locks return"
    )
    if any(leg.sender == account for leg in terms.legs):
        lines.append(f"held      what you give, for at most {span(terms.expires_ms - time_ms)}")
    return lines


def span(span_ms: int) -> str:
    """Return a span of time as people say it; a negative one is none."""
    if span_ms < 2 * 60_000:
        return f"{max(0, span_ms) / 1_000:.1f} s"
    if span_ms < 2 * 3_600_000:
        return f"{span_ms / 60_000:.1f} min"
    return f"{span_ms / 3_600_000:.1f} h"


def verify_expected(
    terms: Terms, account: PublicKey, *, gives: Sequence[Amount], gets: Sequence[Amount], names: Names
) -> None:
    """Check that an account gives and gets exactly what was typed. Raises CommandFailed."""
    for word, expected, legs in (
        ("give", gives, [leg for leg in terms.legs if leg.sender == account]),
        ("get", gets, [leg for leg in terms.legs if leg.recipient == account]),
    ):
        wanted = Counter((each.rollup, each.asset.encode(), each.base_units) for each in expected)
        found = Counter((leg.rollup, leg.asset, leg.amount) for leg in legs)
        if expected and wanted != found:
            said = ", ".join(map(names.leg, legs)) or "nothing"
            raise CommandFailed(
                f"you would {word} {said}, which is not what --{word} says; nothing was signed",
                advice="propose what you want yourself, or type what the terms say",
                code="NOT_AS_EXPECTED",
            )


def verify_id(text: str) -> None:
    """Check that something can be the start of a swap's id. Raises CommandFailed."""
    if not 1 <= len(text) <= 64 or not set(text) <= set("0123456789abcdef"):
        raise CommandFailed(
            f"{text!r} is no swap; write its id, or its first digits, in hex",
            advice="`lockstep swap list` shows them",
            code="USAGE",
            exit_code=EXIT_TYPED_WRONG,
        )


def leg_json(place: int, leg: Leg) -> dict[str, Any]:
    """Return a leg for a program; amounts are base units."""
    return {
        "leg": place,
        "rollup": leg.rollup,
        "sender": leg.sender.hex(),
        "recipient": leg.recipient.hex(),
        "asset": leg.asset.decode("latin-1"),
        "amount": str(leg.amount),
    }


def _premium_words(terms: Terms, names: Names) -> str:
    assert terms.premium is not None
    leg = terms.legs[terms.premium.leg]
    amount = names.amount(leg.rollup, leg.asset, terms.premium.total)
    receivers = ", ".join(names.account(share.recipient) for share in terms.premium.shares)
    return f"premium   {amount} from {names.account(leg.sender)} to {receivers}, if it is not revealed"
