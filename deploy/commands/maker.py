"""`lockstep maker`: make prices for others, and trade at them.

Owns how fixed prices are typed, and how what a maker does is told. What it signs is decided in the SDK
(`bridge.client.Maker`): locks for terms that keep a quote of its own, and nothing else.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

import click

from bridge.client import Maker, Offer, Offered, SwapView
from deploy.commands.connecting import connected
from deploy.commands.frame import Command, Options, network_options, options_of, print_json_line, run
from deploy.commands.parameters import AMOUNT, DURATION, Amount, key_option, parse_amount
from deploy.commands.swap_showing import change_line, view_json
from deploy.commands.swap_terms import Names
from deploy.lazy_group import LazyGroup
from lockstep.limits import AMOUNT_MAX, REVEAL_WINDOW_MS_MIN, VALIDITY_WINDOW_MS_MAX
from lockstep.quote_requests import QuoteRequest
from lockstep.quotes import Pair, Quote, RollupAsset
from lockstep.signing import SigningKey


@dataclass(frozen=True, slots=True)
class Rate:
    """A fixed price: so much of what a taker gives for so much of what it gets."""

    give: Amount
    """What the taker gives."""
    get: Amount
    """What it gets for that."""

    @property
    def pair(self) -> Pair:
        """The two assets."""
        return Pair(_asset(self.give), _asset(self.get))

    def __str__(self) -> str:
        return f"{self.get} for {self.give}"


class RateType(click.ParamType[Rate]):
    """`AMOUNT:ASSET@ROLLUP=AMOUNT:ASSET@ROLLUP`."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Rate:
        """Return the rate."""
        if isinstance(value, Rate):
            return value
        assert ctx is not None, "only commands have parameters of this type"
        given, sign, got = str(value).partition("=")
        if not sign:
            self.fail(
                f"{value!r} is no price; write what a taker gives and gets, such as "
                "1.00:gold@alpha=1.50:silver@beta",
                param,
                ctx,
            )
        try:
            rate = Rate(*(parse_amount(text, options_of(ctx).genesis) for text in (given, got)))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if _asset(rate.give) == _asset(rate.get):
            self.fail("what is given is what is got; name another asset, or another rollup", param, ctx)
        return rate


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def maker() -> None:
    """Make prices for others, and trade at them."""


@maker.command("run", cls=Command)
@network_options
@click.option(
    "--price",
    "rates",
    type=RateType(),
    multiple=True,
    required=True,
    metavar="GIVE=GET",
    help="What a taker gives and gets, such as 1.00:gold@alpha=1.50:silver@beta; may be said many times.",
)
@key_option
@click.option(
    "--most",
    "limits",
    type=AMOUNT,
    multiple=True,
    metavar="AMOUNT:ASSET@ROLLUP",
    help="The most of an asset that you give in one swap; by default all that is asked for.",
)
@click.option(
    "--valid",
    "valid_for_ms",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long a quote holds; at most 10m.",
)
@click.option(
    "--settle-within",
    "settle_within_ms",
    type=DURATION,
    default="60s",
    show_default=True,
    help="How long after that your funds may be held; at least 5s.",
)
def run_maker(
    options: Options,
    rates: tuple[Rate, ...],
    key: SigningKey,
    limits: tuple[Amount, ...],
    valid_for_ms: int,
    settle_within_ms: int,
) -> None:
    """Quote fixed prices to whoever asks, and lock your side of the swaps that take a quote.

    Runs until Ctrl-C, at every coordinator of the network. What is quoted and traded is told line by line.
    """
    if not 1 <= valid_for_ms <= VALIDITY_WINDOW_MS_MAX:
        raise click.BadParameter("at most 10m", param_hint="--valid")
    if settle_within_ms < REVEAL_WINDOW_MS_MIN:
        raise click.BadParameter("at least 5s", param_hint="--settle-within")
    by_pair = {rate.pair: rate for rate in rates}
    if len(by_pair) != len(rates):
        raise click.UsageError("--price names a pair twice")
    most = {_asset(limit): limit.base_units for limit in limits}
    price = partial(offer_at, by_pair, most)

    async def work() -> None:
        names = Names.of(options)
        telling = _Telling(options, names)

        async def told_price(request: QuoteRequest) -> Offer | None:
            offered = price(request)
            telling.quote(request, offered)
            return offered

        async with connected(options) as network:
            log_time = (await network.sequencer()).time_ms
            offered = Offered(key.public_key)
            makers = [
                Maker(
                    bridge,
                    network.genesis,
                    key,
                    list(by_pair),
                    told_price,
                    valid_for_ms=valid_for_ms,
                    settle_within_ms=settle_within_ms,
                    time_ms=log_time,
                    tell=telling.swap,
                    offered=offered,
                )
                for bridge in await network.bridges()
            ]
            async with asyncio.TaskGroup() as tasks:
                for each in makers:
                    tasks.create_task(each.run())
                    tasks.create_task(telling.ready(each, rates))

    run(options, work, is_reading=True)


def offer_at(rates: dict[Pair, Rate], most: dict[RollupAsset, int], request: QuoteRequest) -> Offer | None:
    """Return what a fixed price says to a request, rounded in the maker's favour; None: nothing.

    Nothing is offered where that rounds to nothing, and where the maker would give more than `most`.
    """
    rate = rates.get(request.pair)
    if rate is None:
        return None
    give, get = rate.give.base_units, rate.get.base_units
    if request.give_amount is not None:
        amount = given = request.give_amount * get // give
    else:
        assert request.get_amount is not None, "one amount is said"
        amount, given = -(-request.get_amount * give // get), request.get_amount
    if not 1 <= amount <= AMOUNT_MAX or given > most.get(request.pair.get, AMOUNT_MAX):
        return None
    return Offer(amount)


def _asset(amount: Amount) -> RollupAsset:
    return RollupAsset(amount.rollup, amount.asset.encode())


class _Telling:
    """Tells what a maker does, a line at a time."""

    def __init__(self, options: Options, names: Names) -> None:
        self._options = options
        self._names = names

    async def ready(self, maker: Maker, rates: tuple[Rate, ...]) -> None:
        """Tell, each time, that a coordinator asks the maker."""
        await maker.connected.wait()
        if self._options.is_json:
            prices = [{"give": str(rate.give), "get": str(rate.get)} for rate in rates]
            print_json_line({"event": "ready", "account": maker.account.hex(), "prices": prices})
            return
        who = self._names.account(maker.account)
        for rate in rates:
            click.echo(f"{who} gives {rate}; Ctrl-C ends it")

    def quote(self, request: QuoteRequest, offered: Offer | None) -> None:
        """Tell what was offered."""
        give, get = request.give_amount, request.get_amount
        if offered is not None:
            give, get = (offered.amount, get) if give is None else (give, offered.amount)
        if self._options.is_json:
            print_json_line(
                {
                    "event": "quote" if offered is not None else "no_quote",
                    "pair": str(request.pair),
                    "give_amount": None if give is None else str(give),
                    "get_amount": None if get is None else str(get),
                }
            )
            return
        said = "no offer" if offered is None else "offered"
        click.echo(f"{said}: {self._side(request.pair.get, get)} for {self._side(request.pair.give, give)}")

    def swap(self, view: SwapView, quote: Quote) -> None:
        """Tell how a swap stands that took a quote."""
        if self._options.is_json:
            print_json_line({"event": "swap", "quote_id": quote.quote_id.hex(), "swap": view_json(view)})
        else:
            click.echo(change_line(view, self._names))

    def _side(self, named: RollupAsset, base_units: int | None) -> str:
        if base_units is None:
            return str(named)
        return f"{self._names.amount(named.rollup, named.asset, base_units)} on {named.rollup}"
