"""What is done to whom and when: a function of the seed and of what may be done.

Owns the kinds of faults and their mix. A schedule is the same for the same seed, kinds and victims, whatever
happens meanwhile; when a fault really begins follows from the processes, since one process has one fault at a
time.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """A kind of fault, as it is typed."""

    KILL = "kill"
    """SIGKILL, one process or up to three at once; then a start."""
    PAUSE = "pause"
    """SIGSTOP, then SIGCONT."""
    RESTART = "restart"
    """SIGTERM, then a start."""
    CUT = "cut"
    """No byte arrives, either way."""
    ONE_WAY = "one-way"
    """No byte arrives in one direction."""
    DELAY = "delay"
    """Every byte arrives late."""
    RESET = "reset"
    """All connections break off."""
    OUTAGE = "outage"
    """The settlement log is away for long."""
    DISK_FULL = "disk-full"
    """A commit fails with ENOSPC; the process has to end, and to start when there is room."""
    SLOW_DISK = "slow-disk"
    """Every commit takes long."""
    CLOCK = "clock"
    """The wall clock jumps, by libfaketime."""
    TWIN = "twin"
    """A second process on the same data, which must be turned away."""
    DELETE = "delete"
    """The data folder is lost."""
    STALE = "stale"
    """An older copy of the data folder is put back."""


ALL_KINDS: Final = tuple(Kind)
"""Every kind."""

NETWORK_KINDS: Final = (Kind.CUT, Kind.ONE_WAY, Kind.DELAY, Kind.RESET)
"""Kinds that need links."""

SETTLEMENT: Final = "settlement"
SEQUENCER: Final = "sequencer"

_WEIGHTS: Final[Mapping[Kind, int]] = {
    Kind.KILL: 30,
    Kind.PAUSE: 8,
    Kind.RESTART: 4,
    Kind.CUT: 5,
    Kind.ONE_WAY: 5,
    Kind.DELAY: 4,
    Kind.RESET: 4,
    Kind.OUTAGE: 2,
    Kind.DISK_FULL: 4,
    Kind.SLOW_DISK: 3,
    Kind.CLOCK: 3,
    Kind.TWIN: 2,
    Kind.DELETE: 3,
    Kind.STALE: 3,
}
_LASTS_MS: Final[Mapping[Kind, tuple[int, int]]] = {
    Kind.KILL: (0, 1_500),
    Kind.PAUSE: (200, 3_000),
    Kind.RESTART: (0, 0),
    Kind.CUT: (300, 3_000),
    Kind.ONE_WAY: (300, 3_000),
    Kind.DELAY: (1_000, 4_000),
    Kind.RESET: (0, 0),
    Kind.OUTAGE: (2_000, 6_000),
    Kind.DISK_FULL: (300, 2_000),
    Kind.SLOW_DISK: (1_000, 4_000),
    Kind.CLOCK: (1_000, 4_000),
    Kind.TWIN: (0, 0),
    Kind.DELETE: (0, 500),
    Kind.STALE: (500, 2_500),
}
_KILLED_AT_ONCE: Final = (1, 1, 1, 1, 2, 2, 3)
_DELAY_MS: Final = (5, 200)
_COMMITS_MAX: Final = 40
_CLOCK_S: Final = 7_200


@dataclass(frozen=True)
class Fault:
    """Something that is done."""

    number: int
    """Which of the run, from 1."""
    kind: Kind
    """What."""
    victims: tuple[str, ...]
    """To whom."""
    after_ms: int
    """How long after the one before."""
    for_ms: int
    """How long it lasts."""
    links: tuple[str, ...] = ()
    """The links that are disturbed."""
    is_up: bool = False
    """Of ONE_WAY: whether it is the direction from who connected."""
    amount: int = 0
    """DELAY, SLOW_DISK: milliseconds. DISK_FULL: which commit fails, from 1. CLOCK: seconds."""

    @property
    def claims(self) -> tuple[str, ...]:
        """Processes that have this fault and no other meanwhile, in the order of their names."""
        needed = set(self.victims)
        if self.links:
            needed |= (
                {end for link in self.links for end in link.split(">")} if len(self.links) == 1 else set()
            )
        if self.kind is Kind.STALE and SEQUENCER in needed:
            # Only the log can tell a sequencer that its folder is old.
            needed.add(SETTLEMENT)
        return tuple(sorted(needed))


@dataclass(frozen=True)
class Targets:
    """What there is to disturb."""

    services: tuple[str, ...]
    """Services."""
    traders: tuple[str, ...]
    """Traders."""
    caches: tuple[str, ...]
    """Services whose data can be made again from the order."""
    links: tuple[str, ...]
    """Links between two processes; none if there is no such network."""

    def of(self, kind: Kind) -> tuple[str, ...]:
        """Return who can have a kind of fault."""
        match kind:
            case Kind.KILL | Kind.PAUSE | Kind.CUT | Kind.ONE_WAY | Kind.DELAY | Kind.RESET:
                return (*self.services, *self.traders)
            case Kind.OUTAGE:
                return (SETTLEMENT,)
            case Kind.DELETE:
                return self.caches
            case Kind.STALE:
                return (SEQUENCER, *self.caches)
            case _:
                return self.services


def schedule(
    seed: int,
    targets: Targets,
    *,
    kinds: Collection[Kind] = ALL_KINDS,
    only: Sequence[str] = (),
    gap_ms: int,
) -> Iterator[Fault]:
    """Yield faults for ever, on average one every `gap_ms`; `only` names the victims, all at once."""
    chance = random.Random(f"faults/{seed}")
    possible = [kind for kind in ALL_KINDS if kind in kinds and (targets.links or kind not in NETWORK_KINDS)]
    weights = [_WEIGHTS[kind] for kind in possible]
    number = 0
    while True:
        number += 1
        kind = chance.choices(possible, weights)[0]
        after_ms = min(round(chance.expovariate(1 / gap_ms)), 10 * gap_ms)
        victims = tuple(only) or _victims(chance, kind, targets)
        links = _links(chance, victims, targets) if kind in NETWORK_KINDS else ()
        yield Fault(
            number=number,
            kind=kind,
            victims=victims,
            after_ms=after_ms,
            for_ms=chance.randint(*_LASTS_MS[kind]),
            links=links,
            is_up=chance.random() < 0.5,
            amount=_amount(chance, kind),
        )


def _victims(chance: random.Random, kind: Kind, targets: Targets) -> tuple[str, ...]:
    candidates = targets.of(kind)
    count = chance.choice(_KILLED_AT_ONCE) if kind is Kind.KILL else 1
    return tuple(sorted(chance.sample(candidates, k=min(count, len(candidates)))))


def _links(chance: random.Random, victims: Sequence[str], targets: Targets) -> tuple[str, ...]:
    """Return all links of the victims, or one of them."""
    theirs = [link for link in targets.links if set(link.split(">")) & set(victims)]
    return tuple(theirs) if chance.random() < 0.5 else (chance.choice(theirs),)


def _amount(chance: random.Random, kind: Kind) -> int:
    match kind:
        case Kind.DELAY:
            return chance.randint(*_DELAY_MS)
        case Kind.SLOW_DISK:
            return chance.randint(*_DELAY_MS)
        case Kind.DISK_FULL:
            return chance.randint(1, _COMMITS_MAX)
        case Kind.CLOCK:
            return chance.choice((-_CLOCK_S, _CLOCK_S))
        case _:
            return 0
