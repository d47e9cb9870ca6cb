"""The terms of a swap between what is typed and what is signed, and completion of swaps from the wallet."""

from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from bridge.client import Trader
from deploy.commands.frame import CommandFailed, Options
from deploy.commands.parameters import Amount, parse_amount
from deploy.commands.swap_agreeing import verify_held
from deploy.commands.swap_terms import (
    LOCK_WITHIN_MS_MAX,
    Names,
    leg_of,
    span,
    terms_in_words,
    typed_legs,
    typed_premium,
    verify_expected,
    verify_times,
)
from deploy.devnet.network import Network, create_network
from lockstep.terms import Premium, decode_terms
from tests.unit.deploy.test_completion import offered

TIME_MS = 1_000_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return create_network(tmp_path_factory.mktemp("terms") / "network")


@pytest.fixture
def options(network: Network) -> Options:
    return Options(network.folder)


def traders(network: Network) -> list[Trader]:
    return [Trader(network.traders[name], network.genesis) for name in ("alice", "bob", "carol")]


def amounts(network: Network, *texts: str) -> list[Amount]:
    return [parse_amount(text, network.genesis) for text in texts]


def test_an_exchange_and_the_same_leg_by_leg(network: Network) -> None:
    alice, bob, _ = (each.account for each in traders(network))
    [gold, silver] = amounts(network, "5.00:gold@alpha", "7.50:silver@beta")
    typed = typed_legs(alice, gives=[gold], gets=[silver], counterparty=bob, legs=())
    legs = (leg_of(gold, alice, bob), leg_of(silver, bob, alice))
    assert typed == legs == typed_legs(alice, gives=(), gets=(), counterparty=None, legs=legs)
    assert [(leg.rollup, leg.asset, leg.amount) for leg in legs] == [
        ("alpha", b"gold", 500),
        ("beta", b"silver", 750),
    ]


def test_legs_that_are_refused(network: Network) -> None:
    alice, bob, carol = (each.account for each in traders(network))
    [gold, silver] = amounts(network, "5.00:gold@alpha", "7.50:silver@beta")
    legs = (leg_of(gold, alice, bob), leg_of(silver, bob, alice))
    with pytest.raises(click.UsageError, match="say --give"):
        typed_legs(alice, gives=[gold], gets=(), counterparty=None, legs=legs)
    with pytest.raises(click.UsageError, match="say --give"):
        typed_legs(alice, gives=(), gets=(), counterparty=None, legs=())
    with pytest.raises(click.UsageError, match="no leg is given"):
        typed_legs(carol, gives=(), gets=(), counterparty=None, legs=legs)
    with pytest.raises(click.UsageError, match="2 to 16"):
        typed_legs(alice, gives=(), gets=(), counterparty=None, legs=legs * 9)


def test_a_premium_is_on_the_first_leg_that_is_given(network: Network, options: Options) -> None:
    alice, bob, carol = (each.account for each in traders(network))
    [gold, silver] = amounts(network, "5.00:gold@alpha", "7.50:silver@beta")
    legs = (leg_of(silver, bob, carol), leg_of(gold, alice, bob))
    assert typed_premium(None, alice, legs, options) is None
    premium = typed_premium("0.25", alice, legs, options)
    assert premium is not None
    assert (premium.leg, premium.total, premium.shares[0].recipient) == (1, 25, bob)
    with pytest.raises(click.BadParameter, match="digits behind the point"):
        typed_premium("0.255", alice, legs, options)


@pytest.mark.parametrize(("lock_ms", "reveal_ms"), [(1, 5_000), (LOCK_WITHIN_MS_MAX, 23 * 3_600_000)])
def test_times_that_can_be(lock_ms: int, reveal_ms: int) -> None:
    verify_times(lock_ms, reveal_ms)


@pytest.mark.parametrize(
    ("lock_ms", "reveal_ms"),
    [(0, 5_000), (LOCK_WITHIN_MS_MAX + 1, 5_000), (1, 4_999), (1, 23 * 3_600_000 + 1)],
)
def test_times_that_cannot_be(lock_ms: int, reveal_ms: int) -> None:
    with pytest.raises(click.BadParameter):
        verify_times(lock_ms, reveal_ms)


def test_terms_in_words(network: Network, options: Options) -> None:
    alice, bob, carol = traders(network)
    [gold, silver, copper] = amounts(network, "5.00:gold@alpha", "7.50:silver@beta", "1:copper@gamma")
    legs = (
        leg_of(gold, alice.account, bob.account),
        leg_of(silver, bob.account, carol.account),
        leg_of(copper, carol.account, alice.account),
    )
    premium = typed_premium("0.10", alice.account, legs, options)
    assert isinstance(premium, Premium)
    terms = decode_terms(alice.new_terms(legs, time_ms=TIME_MS, premium=premium))
    assert terms_in_words(terms, bob.account, Names.of(options), time_ms=TIME_MS + 500) == [
        "you give  7.50 silver on beta to carol",
        "you get   5.00 gold on alpha from alice",
        "besides   1.00 copper on gamma from carol to alice",
        "premium   0.10 gold from alice to bob, if it is not revealed",
        "deadline  every lock is attested within 29.5 s, or nothing moves",
        "          alice reveals within 59.5 s, or all locks return",
        "held      what you give, for at most 59.5 s",
    ]


@pytest.mark.parametrize(
    ("span_ms", "said"), [(-1, "0.0 s"), (119_900, "119.9 s"), (600_000, "10.0 min"), (82_800_000, "23.0 h")]
)
def test_spans_in_words(span_ms: int, said: str) -> None:
    assert span(span_ms) == said


@pytest.mark.parametrize(
    ("held_ms_max", "is_refused"), [(None, False), (60_000, False), (59_999, True), (1, True)]
)
def test_nothing_is_held_for_longer_than_was_said(
    network: Network, held_ms_max: int | None, is_refused: bool
) -> None:
    alice, bob, _ = traders(network)
    [gold, silver] = amounts(network, "5.00:gold@alpha", "7.50:silver@beta")
    legs = (leg_of(gold, alice.account, bob.account), leg_of(silver, bob.account, alice.account))
    terms = decode_terms(alice.new_terms(legs, time_ms=TIME_MS))
    if is_refused:
        with pytest.raises(CommandFailed, match=r"can be held for 60.0 s"):
            verify_held(terms, time_ms=TIME_MS, held_ms_max=held_ms_max)
    else:
        verify_held(terms, time_ms=TIME_MS, held_ms_max=held_ms_max)


@pytest.mark.parametrize(
    ("gives", "gets", "refused"),
    [
        (["7.50:silver@beta"], ["5.00:gold@alpha"], ""),
        (["7.50:silver@beta"], [], ""),
        (["7.49:silver@beta"], ["5.00:gold@alpha"], "--give"),
        (["7.50:silver@beta"], ["5.01:gold@alpha"], "--get"),
        (["7.50:silver@beta", "1:silver@beta"], ["5.00:gold@alpha"], "--give"),
        (["5.00:gold@alpha"], ["7.50:silver@beta"], "--give"),
    ],
)
def test_what_is_expected(
    network: Network, options: Options, gives: Sequence[str], gets: Sequence[str], refused: str
) -> None:
    alice, bob, _ = traders(network)
    [gold, silver] = amounts(network, "5.00:gold@alpha", "7.50:silver@beta")
    legs = (leg_of(gold, alice.account, bob.account), leg_of(silver, bob.account, alice.account))
    terms = decode_terms(alice.new_terms(legs, time_ms=TIME_MS))

    def verify() -> None:
        expected_gives, expected_gets = amounts(network, *gives), amounts(network, *gets)
        verify_expected(terms, bob.account, gives=expected_gives, gets=expected_gets, names=Names.of(options))

    if not refused:
        verify()
        return
    with pytest.raises(CommandFailed, match=refused):
        verify()


def test_swaps_of_the_wallet_are_completed(network: Network) -> None:
    wallet = network.folder / "wallet"
    wallet.mkdir()
    for name in ("ab" * 32, "ac" * 32):
        for account in ("01" * 8, "02" * 8):
            (wallet / f"{name}-{account}.json").touch()
    environment = {"LOCKSTEP_NETWORK": str(network.folder)}
    assert offered("lockstep swap show a", **environment) == ["ab" * 6, "ac" * 6]
    assert offered(f"lockstep swap resume {'ab' * 7}", **environment) == ["ab" * 32]
    assert offered("lockstep swap show f", **environment) == []
    assert offered("lockstep swap show a", LOCKSTEP_NETWORK=str(Path("nowhere"))) == []
