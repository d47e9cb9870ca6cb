"""What is wrong and sent to the bridge coordinator by takers who ask for quotes, and by makers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

from lockstep import limits
from lockstep.quote_requests import read_pair
from lockstep.quotes import Quote, sign_quote
from lockstep.v1 import bridge_pb2
from sequencer.client.messages import read_error
from tests.integration.bad_input import case
from tests.integration.bad_input_world import AHEAD_MS, OTHER_CHAIN, TIMEOUT_S, World

QUOTES = "bridge/quotes.py"
REQUESTED = "lockstep/quote_requests.py"
on_request = partial(case, "Bridge.RequestQuotes")
on_make = partial(case, "Bridge.MakeQuotes")

GOLD = bridge_pb2.AssetName(rollup="alpha", asset="gold")
SILVER = bridge_pb2.AssetName(rollup="beta", asset="silver")
PAIR = bridge_pb2.Pair(give=GOLD, get=SILVER)
OTHER = bridge_pb2.AssetName(rollup="delta", asset="gold")


def asked(**changes: object) -> bridge_pb2.RequestQuotesRequest:
    """A request of which only the changes are wrong."""
    stated: dict[str, object] = {"give": GOLD, "give_amount": "5", "get": SILVER, "wait_ms": 5_000}
    return bridge_pb2.RequestQuotesRequest(**stated | changes)  # type: ignore[arg-type]


async def request_quotes(world: World, **changes: object) -> object:
    return await world.bridge.RequestQuotes(asked(**changes), timeout=TIMEOUT_S)


@on_request("MALFORMED", "a rollup that none can be called", says="give.rollup", judge=REQUESTED)
async def _(world: World) -> object:
    return await request_quotes(world, give=bridge_pb2.AssetName(rollup="_swap", asset="gold"))


@on_request("MALFORMED", "no asset", says="get.asset", judge=REQUESTED)
async def _(world: World) -> object:
    return await request_quotes(world, get=bridge_pb2.AssetName(rollup="beta"))


@on_request("MALFORMED", "an asset for itself", says="is what is given", judge=REQUESTED)
async def _(world: World) -> object:
    return await request_quotes(world, get=GOLD)


@on_request("MALFORMED", "no amount", says="give_amount and get_amount", judge=REQUESTED)
async def _(world: World) -> object:
    return await request_quotes(world, give_amount="")


@on_request("MALFORMED", "both amounts", says="give_amount and get_amount", judge=REQUESTED)
async def _(world: World) -> object:
    return await request_quotes(world, get_amount="5")


@on_request("MALFORMED", "an amount of zero", says="give_amount", judge=REQUESTED)
async def _(world: World) -> object:
    return await request_quotes(world, give_amount="0")


@on_request("MALFORMED", "an amount of 2^128", says="give_amount", judge=REQUESTED)
async def _(world: World) -> object:
    return await request_quotes(world, give_amount=str(2**128))


@on_request("MALFORMED", "a wait of 5,001 ms", says="wait_ms", judge=QUOTES)
async def _(world: World) -> object:
    return await request_quotes(world, wait_ms=5_001)


@on_request("UNKNOWN_NAMESPACE", "a rollup that is not registered", says="'delta'", judge=QUOTES)
async def _(world: World) -> object:
    return await request_quotes(world, give=OTHER)


@on_request("NO_QUOTE", "a pair that nobody makes", says="no maker of this pair is connected", judge=QUOTES)
async def _(world: World) -> object:
    return await request_quotes(world, give=SILVER, get=GOLD)


async def make_quotes(world: World, *messages: bridge_pb2.MakeQuotesRequest) -> object:
    """Send messages as a maker, and raise the first error, of the stream or in-band."""
    over = asyncio.Event()

    async def sent() -> AsyncIterator[bridge_pb2.MakeQuotesRequest]:
        for message in messages:
            yield message
        await over.wait()

    try:
        async for answer in world.bridge.MakeQuotes(sent(), timeout=TIMEOUT_S):
            if answer.WhichOneof("response") == "error":
                raise read_error(answer.error)
    finally:
        over.set()
    return None


def hello_of(
    world: World, *pairs: bridge_pb2.Pair, maker: bytes | None = None
) -> bridge_pb2.MakeQuotesRequest:
    account = world.bob.account if maker is None else maker
    return bridge_pb2.MakeQuotesRequest(hello=bridge_pb2.MakerHello(maker=account, pairs=pairs))


def answer_of(number: int, quote: bytes = b"") -> bridge_pb2.MakeQuotesRequest:
    return bridge_pb2.MakeQuotesRequest(quote=bridge_pb2.MakerQuote(correlation_id=number, quote=quote))


@on_make("MALFORMED", "an answer before the hello", says="hello", judge=QUOTES)
async def _(world: World) -> object:
    return await make_quotes(world, answer_of(1))


@on_make("MALFORMED", "a second hello", says="hello comes once", judge=QUOTES)
async def _(world: World) -> object:
    return await make_quotes(world, hello_of(world, PAIR), hello_of(world, PAIR))


@on_make("MALFORMED", "a maker of 31 bytes", says="maker", judge=QUOTES)
async def _(world: World) -> object:
    return await make_quotes(world, hello_of(world, PAIR, maker=bytes(31)))


@on_make("MALFORMED", "no pairs", says="pairs are 0", judge=QUOTES)
async def _(world: World) -> object:
    return await make_quotes(world, hello_of(world))


@on_make("MALFORMED", "257 pairs", says="pairs are 257", judge=QUOTES)
async def _(world: World) -> object:
    return await make_quotes(world, hello_of(world, *[PAIR] * 257))


@on_make("MALFORMED", "a pair twice", says="twice", judge=QUOTES)
async def _(world: World) -> object:
    return await make_quotes(world, hello_of(world, PAIR, PAIR))


@on_make("UNKNOWN_NAMESPACE", "a pair with a rollup that is not registered", says="'delta'", judge=QUOTES)
async def _(world: World) -> object:
    return await make_quotes(world, hello_of(world, bridge_pb2.Pair(give=GOLD, get=OTHER)))


@on_make(
    "NOT_FOUND", "an answer to what was not asked, in-band", says="open request for quotes 7", judge=QUOTES
)
async def _(world: World) -> object:
    return await make_quotes(world, hello_of(world, PAIR), answer_of(7))


async def answer_with(world: World, *, by: str = "bob", **changes: object) -> object:
    """Connect as bob, have somebody ask, and answer with a quote of which only the changes are wrong."""
    now_ms = await world.time_ms()
    fair = Quote(
        chain=world.chain,
        maker=world.bob.account,
        quote_id=bytes(16),
        pair=read_pair((GOLD.rollup, GOLD.asset), (SILVER.rollup, SILVER.asset)),
        give_amount=5,
        get_amount=5,
        premium_amount=0,
        valid_until_ms=now_ms + AHEAD_MS,
        expires_by_ms=now_ms + 2 * AHEAD_MS,
    )
    quote = sign_quote(world.network.traders[by], replace(fair, **changes))  # type: ignore[arg-type]
    answers: asyncio.Queue[bridge_pb2.MakeQuotesRequest] = asyncio.Queue()
    answers.put_nowait(hello_of(world, PAIR))

    async def sent() -> AsyncIterator[bridge_pb2.MakeQuotesRequest]:
        while True:
            yield await answers.get()

    stream = world.bridge.MakeQuotes(sent(), timeout=TIMEOUT_S)
    asking = None
    try:
        async for answer in stream:
            match answer.WhichOneof("response"):
                case "ready":
                    asking = asyncio.create_task(request_quotes(world))
                case "asked":
                    answers.put_nowait(answer_of(answer.correlation_id, quote))
                case "error":
                    raise read_error(answer.error)
    finally:
        stream.cancel()
        if asking is not None:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return None


@on_make("WRONG_CHAIN", "a quote for another chain, in-band", judge=REQUESTED)
async def _(world: World) -> object:
    return await answer_with(world, chain=OTHER_CHAIN)


@on_make(
    "MALFORMED", "a quote for another amount, in-band", says="give_amount is 6, asked was 5", judge=REQUESTED
)
async def _(world: World) -> object:
    return await answer_with(world, give_amount=6)


@on_make("MALFORMED", "another maker's quote, in-band", says="maker", judge=REQUESTED)
async def _(world: World) -> object:
    return await answer_with(world, by="carol", maker=world.network.traders["carol"].public_key)


@on_make("BAD_SIGNATURE", "a quote that another signed, in-band", says="quote", judge=REQUESTED)
async def _(world: World) -> object:
    return await answer_with(world, by="carol")


@on_make("EXPIRED", "a quote whose time has passed, in-band", says="quote", judge=REQUESTED)
async def _(world: World) -> object:
    return await answer_with(world, valid_until_ms=await world.time_ms() - 1_000)


@on_make("TOO_FAR_AHEAD", "a quote for more than 600,000 ms, in-band", judge=REQUESTED)
async def _(world: World) -> object:
    far_ms = await world.time_ms() + limits.VALIDITY_WINDOW_MS_MAX + 60_000
    return await answer_with(world, valid_until_ms=far_ms, expires_by_ms=far_ms + AHEAD_MS)
