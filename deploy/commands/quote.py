"""`lockstep swap quote`: ask makers for a price, and take the best.

Owns how the two sides of a request are typed, how quotes are shown, and what a taker agrees to before it
signs. What is taken is a swap like any other: in the wallet before anything is sent.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from bridge.client import terms_of_quote
from deploy.commands.frame import (
    EXIT_TYPED_WRONG,
    Command,
    CommandFailed,
    Options,
    network_options,
    options_of,
    print_json,
    print_table,
    run,
)
from deploy.commands.parameters import DURATION, KEY, find_asset, parse_amount
from deploy.commands.swap_desk import Counter, at_counter, drive
from deploy.commands.swap_showing import Telling, driven_json, exit_code_of, show_driven, typed
from deploy.commands.swap_terms import Names
from lockstep.quotes import Pair, Quote, RollupAsset, SignedQuote
from lockstep.signing import SigningKey
from lockstep.types import RollupId

WITHIN_MS_MAX: Final = 5_000
"""How long a coordinator waits for makers at most."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is given or got, as it was typed: `5.25:gold@alpha`, or `gold@alpha` if makers say how much."""

    named: RollupAsset
    """The asset."""
    base_units: int | None
    """How much; None: makers say."""
    text: str
    """What was typed."""


class SideType(click.ParamType[Side]):
    """`[AMOUNT:]ASSET@ROLLUP`."""

    name = "side"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Side:
        """Return the side."""
        if isinstance(value, Side):
            return value
        assert ctx is not None, "only commands have parameters of this type"
        text, genesis = str(value), options_of(ctx).genesis
        try:
            if ":" in text:
                amount = parse_amount(text, genesis)
                return Side(RollupAsset(amount.rollup, amount.asset.encode()), amount.base_units, text)
            asset, _, rollup = text.partition("@")
            find_asset(genesis, rollup, asset)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return Side(RollupAsset(RollupId(rollup), asset.encode()), None, text)


@click.command(cls=Command)
@network_options
@click.option(
    "--give", type=SideType(), required=True, metavar="[AMOUNT:]ASSET@ROLLUP", help="What you give."
)
@click.option("--get", type=SideType(), required=True, metavar="[AMOUNT:]ASSET@ROLLUP", help="What you get.")
@click.option(
    "--within",
    "within_ms",
    type=DURATION,
    default="500ms",
    show_default=True,
    help="How long makers may take; at most 5s.",
)
@click.option("--take", is_flag=True, help="Take the best one, and see the swap to its end.")
@click.option("--key", type=KEY, metavar="NAME|FILE", help="Who takes it: a key's name, or its file.")
@click.option(
    "--limit",
    metavar="AMOUNT",
    help="Take nothing worse: the least to get, or the most to give, of the side that makers say.",
)
@click.option("--yes", is_flag=True, help="Take the best, whatever it is.")
def quote(
    options: Options,
    give: Side,
    get: Side,
    within_ms: int,
    take: bool,  # noqa: FBT001 - click passes options by name
    key: SigningKey | None,
    limit: str | None,
    yes: bool,  # noqa: FBT001 - click passes options by name
) -> None:
    """Ask the connected makers for a price.

    Such as --give 5.00:gold@alpha --get silver@beta: say how much of one side, makers say the other. Quotes
    are signed by their makers and bind nobody before both sides have locked. With --take --key NAME the best
    is taken; on a terminal you are asked, a script says --limit or --yes.
    """
    if (give.base_units is None) == (get.base_units is None):
        raise click.UsageError("say how much of one side, such as --give 5.00:gold@alpha --get silver@beta")
    if give.named == get.named:
        raise click.UsageError("what you give is what you get; name another asset, or another rollup")
    if not 1 <= within_ms <= WITHIN_MS_MAX:
        raise click.BadParameter("at most 5s", param_hint="--within")
    if take != (key is not None) or (not take and (limit is not None or yes)):
        raise click.UsageError("--take and --key go together, and --limit and --yes with them")
    bound = None if limit is None else _read_limit(limit, give, get, options)

    async def work() -> int | None:
        async with at_counter(options) as counter:
            found = await counter.venue.bridges.ask(
                lambda bridge: bridge.request_quotes(
                    Pair(give.named, get.named),
                    give_amount=give.base_units,
                    get_amount=get.base_units,
                    wait_ms=within_ms,
                )
            )
            time_ms = await counter.venue.time_ms()
            if key is None:
                _show(options, found, counter.names, time_ms=time_ms, asked=(give, get))
                return None
            return await _take(counter, key, found, time_ms=time_ms, bound=bound, is_agreed=yes)

    run(options, work)


async def _take(
    counter: Counter,
    key: SigningKey,
    found: Sequence[SignedQuote],
    *,
    time_ms: int,
    bound: int | None,
    is_agreed: bool,
) -> int:
    """Take the best quote of somebody else's, and drive the swap to its end. Returns the exit code."""
    others = [each.quote for each in found if each.quote.maker != key.public_key]
    if not others:
        raise CommandFailed("the only quotes are this key's own", code="NO_QUOTE")
    best = others[0]
    _agree(counter, best, bound, is_agreed=is_agreed, time_ms=time_ms)
    desk = counter.desk(key)
    # Somebody may have thought about it for a while.
    time_ms = await counter.venue.time_ms()
    recorded = await desk.accept(terms_of_quote(best, desk.trader, time_ms=time_ms))
    telling = Telling(counter.options)
    driven = await drive(counter, desk, recorded, telling, until_idle=False, timeout_ms=None)
    if counter.options.is_json:
        print_json(driven_json(driven, telling, (), ()) | {"quote": _quote_json(best)})
    else:
        show_driven(driven, counter.names, ())
    return exit_code_of(driven)


def _agree(counter: Counter, best: Quote, bound: int | None, *, is_agreed: bool, time_ms: int) -> None:
    """Have a quote agreed to: by the limit that was typed, or by who sits there. Raises CommandFailed."""
    if bound is not None:
        if _is_worse(best, bound):
            raise CommandFailed(
                f"the best offer is beyond --limit: {_words(best, counter.names)}",
                advice="nothing was signed; ask again later, or for another amount",
                code="BEYOND_LIMIT",
            )
        return
    if is_agreed:
        return
    if counter.options.is_json or not sys.stdin.isatty():
        raise CommandFailed(
            "nobody is there to be asked whether to agree; nothing was signed",
            advice="say the worst that you take with --limit, or --yes",
            code="USAGE",
            exit_code=EXIT_TYPED_WRONG,
        )
    click.echo(f"the best offer: {_words(best, counter.names)}", err=True)
    if not click.confirm(f"Take it? It holds for {_span(best.valid_until_ms - time_ms)}.", err=True):
        raise CommandFailed("nothing was signed", code="DECLINED")


def _read_limit(text: str, give: Side, get: Side, options: Options) -> int:
    """Return the limit in base units, signed so that greater is better. Raises click.BadParameter."""
    open_side = get if get.base_units is None else give
    asset, rollup = open_side.named.asset.decode(), open_side.named.rollup
    try:
        amount = parse_amount(f"{text}:{asset}@{rollup}", options.genesis).base_units
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--limit") from error
    return amount if open_side is get else -amount


def _is_worse(best: Quote, bound: int) -> bool:
    return best.get_amount < bound if bound > 0 else best.give_amount > -bound


# --- showing ----------------------------------------------------------------------------------------------


def _show(
    options: Options, found: Sequence[SignedQuote], names: Names, *, time_ms: int, asked: tuple[Side, Side]
) -> None:
    if options.is_json:
        quotes = [_quote_json(each.quote) | {"signed": each.encoded.hex()} for each in found]
        print_json({"ok": True, "time_ms": time_ms, "quotes": quotes})
        return
    rows = [
        (
            names.account(quote.maker),
            _amount(quote.pair.give, quote.give_amount, names),
            _amount(quote.pair.get, quote.get_amount, names),
            _amount(quote.pair.give, quote.premium_amount, names) if quote.premium_amount else "none",
            _span(quote.valid_until_ms - time_ms),
        )
        for quote in (each.quote for each in found)
    ]
    print_table(("maker", "you give", "you get", "premium", "holds for"), rows)
    words = ("--give", asked[0].text, "--get", asked[1].text, "--take", "--key", "KEY")
    click.echo("to ask again and take the best:")
    click.echo(typed(options, "swap", "quote", *words))


def _words(quote: Quote, names: Names) -> str:
    give = _amount(quote.pair.give, quote.give_amount, names)
    get = _amount(quote.pair.get, quote.get_amount, names)
    premium = ""
    if quote.premium_amount:
        at_stake = _amount(quote.pair.give, quote.premium_amount, names)
        premium = f", and {at_stake} if you do not reveal"
    return f"you give {give}{premium}, and get {get} from {names.account(quote.maker)}"


def _amount(named: RollupAsset, base_units: int, names: Names) -> str:
    return f"{names.amount(named.rollup, named.asset, base_units)} on {named.rollup}"


def _span(span_ms: int) -> str:
    return f"{max(0, span_ms) / 1_000:.1f} s"


def _quote_json(quote: Quote) -> dict[str, Any]:
    """Return a quote for a program; amounts are base units."""
    return {
        "maker": quote.maker.hex(),
        "quote_id": quote.quote_id.hex(),
        "give": _asset_json(quote.pair.give, quote.give_amount),
        "get": _asset_json(quote.pair.get, quote.get_amount),
        "premium_amount": str(quote.premium_amount),
        "valid_until_ms": quote.valid_until_ms,
        "expires_by_ms": quote.expires_by_ms,
    }


def _asset_json(named: RollupAsset, base_units: int) -> dict[str, str]:
    return {
        "rollup": named.rollup,
        "asset": named.asset.decode("latin-1"),
        "amount": str(base_units),
    }
