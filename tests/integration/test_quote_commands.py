"""`lockstep maker run` and `lockstep swap quote` on a devnet: prices, limits, a swap by the best of them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.command_line import DEADLINE_S, Desk, desk_at_devnet

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

ASK = ("swap", "quote", "--give", "5.00:gold@alpha", "--get", "silver@beta", "--within", "5s")
BUY = ("swap", "quote", "--give", "gold@alpha", "--get", "7.50:silver@beta", "--within", "5s")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with desk_at_devnet(tmp_path_factory.mktemp("quotes") / "network") as made:
        yield made


class MakerProcess:
    """A running `lockstep maker run --json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, event: str) -> Mapping[str, Any]:
        """Return the next line that tells of an event."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while line := await self._process.stdout.readline():
                told: Mapping[str, Any] = json.loads(line)
                if told["event"] == event:
                    return told
        raise AssertionError("it has ended")


@asynccontextmanager
async def maker(desk: Desk, price: str, key: str, *words: str) -> AsyncIterator[MakerProcess]:
    process = await desk.start("maker", "run", "--price", price, "--key", key, "--json", *words)
    try:
        running = MakerProcess(process)
        assert (await running.line("ready"))["account"] == desk.network.traders[key].public_key.hex()
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE_S):
            _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"")


async def test_nobody_makes_a_price(desk: Desk) -> None:
    told = await desk.refused(*ASK, code=1)
    assert told["code"] == "NO_QUOTE"
    assert "no maker of this pair is connected" in told["error"]
    assert "ask another coordinator" in told["advice"]


async def test_the_best_of_two_is_taken_to_its_end(desk: Desk) -> None:
    async with (
        maker(desk, "1:gold@alpha=1.50:silver@beta", "bob") as bob,
        maker(desk, "1:gold@alpha=1.40:silver@beta", "carol"),
    ):
        quotes = (await desk.done(*ASK))["quotes"]
        accounts = [desk.network.traders[name].public_key.hex() for name in ("bob", "carol")]
        assert [(each["maker"], each["get"]["amount"]) for each in quotes] == list(
            zip(accounts, ("750", "700"), strict=True)
        )
        assert quotes[0]["give"] == {"rollup": "alpha", "asset": "gold", "amount": "500"}
        shown = await desk.type(*ASK)
        assert [line.split()[0] for line in shown.out.splitlines()[:3]] == ["maker", "bob", "carol"]
        assert "7.50 silver on beta" in shown.out
        assert "--give 5.00:gold@alpha --get silver@beta --take --key KEY" in shown.out
        [bought, dearer] = (await desk.done(*BUY))["quotes"]
        assert (bought["give"]["amount"], dearer["give"]["amount"]) == ("500", "536"), "rounded up"

        refused = await desk.refused(*ASK, "--take", "--key", "alice", "--limit", "7.51", code=1)
        assert refused["code"] == "BEYOND_LIMIT"
        refused = await desk.refused(*ASK, "--take", "--key", "alice", code=2)
        assert "--limit" in refused["advice"]
        taken = await desk.done(*ASK, "--take", "--key", "alice", "--limit", "7.50")
        assert (taken["outcome"], taken["quote"]["maker"]) == ("COMMITTED", accounts[0])
        told = await bob.line("swap")
        while told["swap"]["phase"] != "COMMITTED":
            told = await bob.line("swap")
        assert told["swap"]["swap_id"] == taken["swap_id"]
        assert told["quote_id"] == taken["quote"]["quote_id"]
        recorded = (await desk.done("swap", "list"))["wallet"]
        assert [(each["swap_id"], each["outcome"]) for each in recorded] == [(taken["swap_id"], "COMMITTED")]


async def test_a_maker_gives_no_more_than_it_says(desk: Desk) -> None:
    price = "1:gold@alpha=1.50:silver@beta"
    async with maker(desk, price, "bob", "--most", "7.49:silver@beta") as bob:
        told = await desk.refused(*ASK, code=1)
        assert "1 of 1 makers answered in time" in told["error"]
        assert (await bob.line("no_quote"))["give_amount"] == "500"
        own = ("swap", "quote", "--give", "4.00:gold@alpha", "--get", "silver@beta", "--within", "5s")
        told = await desk.refused(*own, "--take", "--key", "bob", "--yes", code=1)
        assert told["error"] == "the only quotes are this key's own"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--give", "gold@alpha", "--get", "silver@beta"), "say how much of one side"),
        (("--give", "5:gold@alpha", "--get", "5:silver@beta"), "say how much of one side"),
        (("--give", "5:gold@alpha", "--get", "gold@alpha"), "what you give is what you get"),
        (("--give", "5:gold@alpha", "--get", "silver@alpha"), "rollup alpha has no asset 'silver'"),
        (("--give", "5.001:gold@alpha", "--get", "silver@beta"), "3 digits behind the point"),
        (("--give", "5:gold@alpha", "--get", "silver@beta", "--within", "6s"), "at most 5s"),
        (("--give", "5:gold@alpha", "--get", "silver@beta", "--take"), "--take and --key go together"),
        (("--give", "5:gold@alpha", "--get", "silver@beta", "--yes"), "--take and --key go together"),
        (
            (*ASK[2:], "--take", "--key", "alice", "--limit", "seven"),
            "'seven' is no number",
        ),
    ],
)
async def test_a_request_that_is_typed_wrong(desk: Desk, words: tuple[str, ...], says: str) -> None:
    told = await desk.refused("swap", "quote", *words, code=2)
    assert says in told["error"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--price", "1:gold@alpha"), "is no price"),
        (("--price", "1:gold@alpha=2:gold@alpha"), "what is given is what is got"),
        (("--price", "1:gold@alpha=1:tin@beta"), "rollup beta has no asset 'tin'"),
        (("--price", "1:gold@alpha=1:silver@beta", "--price", "2:gold@alpha=1:silver@beta"), "twice"),
        (("--price", "1:gold@alpha=1:silver@beta", "--valid", "11m"), "at most 10m"),
        (("--price", "1:gold@alpha=1:silver@beta", "--settle-within", "4s"), "at least 5s"),
    ],
)
async def test_a_maker_that_is_typed_wrong(desk: Desk, words: tuple[str, ...], says: str) -> None:
    told = await desk.refused("maker", "run", "--key", "bob", *words, code=2)
    assert says in told["error"]
