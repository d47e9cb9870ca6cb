"""What a trader does with each of its swaps: a function of the seed, the trader and the swap's number.

Owns the mix of swaps. How the parties of a swap behave is written in the amount of its first leg, so that all
of them know, and know it again after a kill.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bridge.client import RevealPolicy, transfer_leg
from lockstep.terms import Leg, Terms
from lockstep.types import PublicKey


class Conduct(IntEnum):
    """How a swap's parties behave: the amount of its first leg, modulo CODES."""

    HONEST = 0
    """Everybody locks, the proposer reveals."""
    DECLINED = 1
    """The others never lock."""
    CANCELLED = 2
    """The proposer cancels once it has locked."""
    ABANDONED = 3
    """The proposer never reveals."""
    QUOTED = 4
    """The proposer takes a maker's quote, which the maker locks for."""


CODES: Final = 16
"""Amounts of first legs tell the conduct modulo this."""

_WEIGHTS: Final = {
    Conduct.HONEST: 70,
    Conduct.DECLINED: 4,
    Conduct.CANCELLED: 5,
    Conduct.ABANDONED: 5,
    Conduct.QUOTED: 16,
}
_POLICIES: Final = (RevealPolicy.BY_TRADER, RevealPolicy.BY_TRADER, *RevealPolicy)
"""Who reveals an honest swap: the trader itself somewhat more often."""

_THREE_LEGS_SHARE: Final = 0.2
_HONEST_LOCK_WITHIN_MS: Final = (10_000, 20_000)
"""Long enough for a party that is dead for seconds: the swap goes on when it is back."""
_LOCK_WITHIN_MS: Final = (4_000, 7_000)
"""Of all others, some of which wait for this very deadline."""
_REVEAL_WITHIN_MS: Final = (5_000, 12_000)
_REVEAL_WITHIN_MS_LEAST: Final = 5_000
_UNITS_MAX: Final = 20
"""Amounts are small, so that nobody runs out of funds."""


@dataclass(frozen=True)
class Deal:
    """A swap as its proposer means it."""

    conduct: Conduct
    """How its parties behave."""
    policy: RevealPolicy
    """Who reveals."""
    parties: tuple[str, ...]
    """Who gives, the proposer first; each gives to the one before, the first to the last."""
    rollups: tuple[str, ...]
    """Where each gives."""
    amounts: tuple[int, ...]
    """Base units that each gives."""
    lock_within_ms: int
    """Log time within which everybody must have locked."""
    reveal_within_ms: int
    """Log time after that within which the proposer must reveal."""


def deal_of(seed: int, proposer: str, number: int, *, names: Sequence[str], rollups: Sequence[str]) -> Deal:
    """Return the `number`-th deal that a trader proposes to others of `names`."""
    chance = random.Random(f"{seed}/{proposer}/{number}")
    conduct = chance.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
    others = chance.sample([name for name in names if name != proposer], k=len(names) - 1)
    is_long = conduct is not Conduct.QUOTED and chance.random() < _THREE_LEGS_SHARE
    count = min(3 if is_long else 2, len(names), len(rollups))
    is_shown = conduct in (Conduct.CANCELLED, Conduct.ABANDONED, Conduct.DECLINED)
    return Deal(
        conduct=conduct,
        policy=RevealPolicy.BY_TRADER if is_shown else chance.choice(_POLICIES),
        parties=(proposer, *others[: count - 1]),
        rollups=tuple(chance.sample(list(rollups), k=count)),
        amounts=(
            conduct + CODES * chance.randint(1, _UNITS_MAX),
            *(chance.randint(1, CODES * _UNITS_MAX) for _ in range(count - 1)),
        ),
        lock_within_ms=_lock_within_ms(conduct, chance),
        # Who waits for a deadline waits no longer than it must.
        reveal_within_ms=(
            _REVEAL_WITHIN_MS_LEAST if conduct is Conduct.ABANDONED else chance.randint(*_REVEAL_WITHIN_MS)
        ),
    )


def _lock_within_ms(conduct: Conduct, chance: random.Random) -> int:
    if conduct is Conduct.ABANDONED:
        # It is over only when the reveal's deadline has passed as well.
        return _LOCK_WITHIN_MS[0]
    return chance.randint(*(_HONEST_LOCK_WITHIN_MS if conduct is Conduct.HONEST else _LOCK_WITHIN_MS))


def legs_of(deal: Deal, accounts: Mapping[str, PublicKey], assets: Mapping[str, str]) -> tuple[Leg, ...]:
    """Return a deal's legs."""
    recipients = deal.parties[1:] + deal.parties[:1]
    return tuple(
        transfer_leg(
            rollup=rollup,
            sender=accounts[sender],
            recipient=accounts[recipient],
            asset=assets[rollup],
            amount=amount,
        )
        for rollup, sender, recipient, amount in zip(
            deal.rollups, deal.parties, recipients, deal.amounts, strict=True
        )
    )


def conduct_of(terms: Terms) -> Conduct:
    """Return how the parties of a swap behave. An amount that no trader here uses is HONEST."""
    code = terms.legs[0].amount % CODES
    return Conduct(code) if code in Conduct._value2member_map_ else Conduct.HONEST
