"""`lockstep account`, `transfer`, `faucet` on a devnet: what is proven, and that a payment is made once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from bridge.client import Trader
from deploy.commands.paying import FOLDER, WINDOW_MS, Payment, keep_payment
from deploy.devnet.clients import until
from deploy.devnet.network import ALPHA
from lockstep.transactions import Transfer
from sequencer.client import SequencerClient
from tests.integration.command_line import Desk, desk_at_devnet

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with desk_at_devnet(tmp_path_factory.mktemp("accounts") / "network") as made:
        yield made


async def gold(desk: Desk, name: str) -> int:
    """Return how much gold an account has on alpha."""
    [account] = (await desk.done("account", "balance", name))["accounts"]
    [alpha] = [each for each in account["rollups"] if each["rollup"] == ALPHA]
    return int(alpha["balances"]["gold"])


def kept(desk: Desk) -> list[str]:
    """Return the payments whose outcome is not known."""
    return [each.name for each in (desk.network.folder / "wallet" / FOLDER).glob("*")]


async def test_a_transfer_moves_what_it_says(desk: Desk) -> None:
    before = await gold(desk, "alice"), await gold(desk, "bob")
    told = await desk.done("transfer", "5.25:gold@alpha", "--to", "bob", "--key", "alice", "--memo", "rent")
    assert (told["amount"], told["code"], told["memo"]) == ("525", "OK", "rent")
    assert (await gold(desk, "alice"), await gold(desk, "bob")) == (before[0] - 525, before[1] + 525)
    again = await desk.done("transfer", "5.25:gold@alpha", "--to", "bob", "--key", "alice", "--memo", "rent")
    assert again["transaction_id"] != told["transaction_id"], "once its end is known, the same is another"
    assert await gold(desk, "bob") == before[1] + 1_050
    assert kept(desk) == []


async def test_words_for_people(desk: Desk) -> None:
    told = await desk.type("transfer", "1:gold@alpha", "--to", "bob", "--key", "alice")
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("done: 1.00 gold on alpha, in block ")
    balances = (await desk.type("account", "balance")).out
    head, *lines = balances.splitlines()
    assert head.split() == ["account", "rollup", "balance", "asset", "after", "block"]
    assert {line.split()[0] for line in lines} == {"alice", "bob", "carol"}, "who has something"
    shown = (await desk.type("account", "show", "alice")).out
    assert shown.startswith(f"account {desk.network.traders['alice'].public_key.hex()} alice\n")


async def test_the_faucet_gives_what_genesis_allows(desk: Desk) -> None:
    before = await gold(desk, "carol")
    told = await desk.done("faucet", "7:gold@alpha", "--key", "carol", "--no-wait")
    assert told["code"] is None, "nobody waited for what the rollup made of it"
    sent = await desk.done("transfer", "1:gold@alpha", "--to", "alice", "--key", "carol")
    assert sent["height"] >= told["height"]
    assert await gold(desk, "carol") == before + 600
    refused = await desk.refused("faucet", "100000.01:gold@alpha", "--key", "carol", code=2)
    assert "the faucet gives at most 100000.00 gold at once" in refused["error"]


async def test_a_payment_that_the_rollup_refuses(desk: Desk) -> None:
    before = await gold(desk, "bob")
    told = await desk.refused("transfer", "900000:gold@alpha", "--to", "alice", "--key", "bob", code=1)
    assert told["code"] == "INSUFFICIENT_FUNDS"
    assert "account balance" in told["advice"]
    assert await gold(desk, "bob") == before
    assert kept(desk) == [], "its outcome is known"


async def test_what_is_in_escrow_and_the_swaps_that_are_open(desk: Desk) -> None:
    give = ("--give", "5:gold@alpha", "--get", "7:silver@beta", "--with", "bob")
    proposed = await desk.done("swap", "propose", *give, "--key", "alice")
    shown = await desk.done("account", "show", "alice")
    [swap] = shown["open_swaps"]
    assert swap["swap_id"] == proposed["swap_id"]
    assert swap["gives"] == [{"rollup": "alpha", "asset": "gold", "amount": "500"}]
    assert swap["gets"] == [{"rollup": "beta", "asset": "silver", "amount": "700"}]
    assert {each["open_locks"] for each in shown["rollups"]} == {0}
    await desk.done("swap", "accept", proposed["swap_id"], "--key", "bob", "--yes")

    async def look() -> bool | None:
        rollups = (await desk.done("account", "show", "alice"))["rollups"]
        locks = {each["rollup"]: each["open_locks"] for each in rollups}
        return True if locks == {"alpha": 1, "beta": 0, "gamma": 0} else None

    await until(look, "the lock on alpha")
    await desk.done("swap", "cancel", proposed["swap_id"], "--key", "alice")


async def test_repeated_while_the_rollup_is_away_it_is_one_payment(desk: Desk) -> None:
    before = await gold(desk, "bob")
    pay = ("transfer", "2:gold@alpha", "--to", "bob", "--key", "alice", "--timeout", "200ms")
    await desk.devnet.kill("alpha-0")
    try:
        for _ in range(2):
            told = await desk.refused(*pay, code=3)
            assert "repeat the same command" in told["advice"]
            assert len(kept(desk)) == 1
        away = await desk.type("account", "balance", "bob")
        assert away.code == 3
        assert "does not answer" in away.out
        assert "silver" in away.out, "what the others say is shown"
        as_json = await desk.refused("account", "balance", "bob", code=3)
        assert as_json["code"] == "UNAVAILABLE_PEER"
        rollups = {each["rollup"]: each["balances"] for each in as_json["accounts"][0]["rollups"]}
        assert rollups["alpha"] is None
        assert rollups["beta"]["silver"]
    finally:
        await desk.devnet.start("alpha-0")
    done = await desk.type(*pay[:-1], "30s")
    assert done.code == 0, done
    assert "was begun before" in done.err
    assert await gold(desk, "bob") == before + 200
    assert kept(desk) == []


@dataclass(frozen=True)
class Begun:
    """A payment that a command began and did not see the end of."""

    payment: Payment
    words: tuple[str, ...]


async def begin(desk: Desk, base_units: int, *, age_ms: int = 0) -> Begun:
    """Keep a payment as a command does before it sends anything, and die."""
    alice, bob = desk.network.traders["alice"], desk.network.traders["bob"].public_key
    async with SequencerClient(desk.network.address("sequencer"), desk.network.genesis) as sequencer:
        time_ms = await sequencer.time_ms() - age_ms
    trader = Trader(alice, desk.network.genesis)
    call = Transfer(b"gold", bob, base_units)
    payment = keep_payment(desk.network.folder / "wallet", trader, ALPHA, call, time_ms=time_ms)
    amount = f"{base_units // 100}.{base_units % 100:02}:gold@alpha"
    return Begun(payment, ("transfer", amount, "--to", "bob", "--key", "alice"))


async def test_what_was_kept_is_what_is_sent(desk: Desk) -> None:
    before = await gold(desk, "bob")
    begun = await begin(desk, 301)
    told = await desk.done(*begun.words)
    assert told["transaction_id"] == begun.payment.transaction.id.hex()
    assert await gold(desk, "bob") == before + 301
    assert kept(desk) == []


async def test_what_was_sent_and_not_heard_of_is_not_sent_anew(desk: Desk) -> None:
    before = await gold(desk, "bob")
    begun = await begin(desk, 302)
    async with SequencerClient(desk.network.address("sequencer"), desk.network.genesis) as sequencer:
        ordered = await sequencer.submit(begun.payment.bundle)
    told = await desk.done(*begun.words)
    assert (told["height"], told["index"]) == (ordered.placement.height, ordered.placement.first_index)
    assert await gold(desk, "bob") == before + 302


async def test_what_can_never_be_ordered_any_more_is_made_anew(desk: Desk) -> None:
    before = await gold(desk, "bob")
    begun = await begin(desk, 303, age_ms=WINDOW_MS)
    told = await desk.done(*begun.words)
    assert told["transaction_id"] != begun.payment.transaction.id.hex()
    assert await gold(desk, "bob") == before + 303
    assert kept(desk) == []


async def test_another_node_answers_for_one_that_is_away(desk: Desk) -> None:
    await desk.devnet.kill("beta-0")
    try:
        told = await desk.type("account", "balance", "bob")
        assert told.code == 0, told
        assert "silver" in told.out
    finally:
        await desk.devnet.start("beta-0")


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "decimals": (("transfer", "1.001:gold@alpha", "--to", "bob", "--key", "alice"), "gold has 2"),
    "asset": (("transfer", "1:silver@alpha", "--to", "bob", "--key", "alice"), "it has: gold"),
    "rollup": (("faucet", "1:gold@delta", "--key", "alice"), "there are: alpha, beta"),
    "account": (("account", "show", "dave"), "there are: alice"),
    "memo": (
        ("transfer", "1:gold@alpha", "--to", "bob", "--key", "alice", "--memo", "x" * 65),
        "more than 64",
    ),
}


@pytest.mark.parametrize(("words", "says"), WRONG.values(), ids=WRONG)
async def test_what_is_typed_wrong_is_told_before_anything_is_sent(
    desk: Desk, words: tuple[str, ...], says: str
) -> None:
    told = await desk.refused(*words, code=2)
    assert says in told["error"]
    assert kept(desk) == []
