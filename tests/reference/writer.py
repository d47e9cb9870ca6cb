"""Writes random histories of the register: the same seed gives the same history."""

from dataclasses import replace
from random import Random
from typing import Final

from lockstep import limits
from lockstep.attesters import AttesterSet
from lockstep.register import RegisterEvent
from lockstep.registry_entries import Action, Drain, RotateAttester, SetAttesters
from lockstep.swap_entries import AttestItem, RejectReason, Verdict
from lockstep.terms import LegKind, Terms
from lockstep.types import ChainId, HeaderHash, SwapId
from tests.reference.world import (
    A1,
    A2,
    A3,
    B1,
    REVEALER,
    START_MS,
    STRANGER,
    World,
    attest,
    cancel_entry,
    change_entry,
    id_of,
    leg_on,
    make_terms,
    open_entry,
    reveal_entry,
)

RECORDS_MAX: Final = 3
HEADERS_REMEMBERED: Final = 5
"""Limits under which histories of some dozen blocks meet full registers and headers that are forgotten."""

BOTH = (leg_on("alpha"), leg_on("beta"))
SHAPES = (BOTH, BOTH, (leg_on("beta"), leg_on("beta", 6)), (*BOTH, leg_on("alpha", 7)))
SWAPS: list[tuple[str, Terms]] = [
    (
        f"swap {number}",
        make_terms(
            f"swap {number}",
            lock_by_ms=START_MS + 2_000 + number * 1_700,
            expires_ms=START_MS + 7_000 + number * 1_700 + number % 3,
            legs=SHAPES[number % len(SHAPES)],
        ),
    )
    for number in range(20)
]
INVALID: list[tuple[str, Terms]] = [
    ("burn", make_terms("burn", legs=(replace(BOTH[0], kind=LegKind.BURN), BOTH[1]))),
    ("foreign", make_terms("foreign", chain=ChainId(bytes(32)))),
    ("unknown", make_terms("unknown", legs=(BOTH[0], leg_on("gamma")))),
    ("too late", make_terms("too late", lock_by_ms=START_MS + 60_300, expires_ms=START_MS + 70_000)),
    ("too long", make_terms("too long", expires_ms=START_MS + limits.EXPIRY_MS_MAX + 9_000)),
]
KEYS = (A1, A2, A3, B1, B1)
ROLLUP_OF = {A1: "alpha", A2: "alpha", A3: "alpha", B1: "beta"}
CHANGES: tuple[tuple[str, Action], ...] = (
    ("beta", Drain()),
    ("alpha", SetAttesters(AttesterSet(1, (A3.public_key,)))),
    ("alpha", RotateAttester(A1.public_key, STRANGER.public_key)),
    ("beta", SetAttesters(AttesterSet(2, (B1.public_key, A1.public_key)))),
)


class Writer:
    """Writes a history: most of it honest work on swaps that are there, the rest wrong in every way."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.world = World()

    def chance(self, percent: int) -> bool:
        return self.dice.randrange(100) < percent

    def block(self) -> tuple[RegisterEvent, ...]:
        entries = [self.entry() for _ in range(self.dice.choice((0, 1, 2, 3, 4, 6)))]
        if entries and self.chance(15):
            entries.append(self.dice.choice(entries))
        changes = []
        if self.chance(6):
            subject, action = self.dice.choice(CHANGES)
            sequence = self.world.register.registry.sequences.get(subject, 0) + 1
            changes.append(change_entry(subject, action, sequence=sequence, at=self.world.height + 2))
        return self.world.block(*entries, advance_ms=self.advance_ms(), registry=changes)

    def advance_ms(self) -> int:
        """Return a step of log time: often one that ends just before, at or just after a deadline."""
        now_ms = self.world.register.time_ms
        deadlines = {ms for _, terms in SWAPS for ms in (terms.lock_by_ms, terms.expires_ms)}
        exact = sorted(ms + by - now_ms for ms in deadlines for by in (-1, 0, 1))
        steps = [ms for ms in exact if 1 <= ms <= limits.MAX_ADVANCE_MS]
        return (
            self.dice.choice(steps) if steps and self.chance(40) else self.dice.choice((1, 250, 250, 2_000))
        )

    def entry(self) -> bytes:
        match self.dice.randrange(16):
            case 0 | 1 | 2:
                upcoming = [terms for _, terms in SWAPS if terms.lock_by_ms > self.world.register.time_ms]
                return open_entry(self.dice.choice(upcoming[:4] or [SWAPS[0][1]]))
            case 3:
                return open_entry(self.swap()[1])
            case 4:
                return open_entry(self.dice.choice(INVALID)[1])
            case 5:
                return open_entry(self.swap()[1])[: self.dice.randrange(40)]
            case 6:
                name, terms = self.swap()
                return reveal_entry(terms, "another" if self.chance(20) else name)
            case 8:
                return cancel_entry(self.swap()[1], STRANGER if self.chance(40) else REVEALER)
            case _:
                return self.attestation()

    def swap(self) -> tuple[str, Terms]:
        recorded = [each for each in SWAPS if self.world.register.record(id_of(each[1])) is not None]
        return self.dice.choice(recorded if recorded and self.chance(90) else SWAPS)

    def attestation(self) -> bytes:
        key = self.dice.choice(KEYS)
        rollup = ROLLUP_OF.get(key, "alpha")
        items = [
            self.item(id_of(terms), leg)
            for _, terms in SWAPS
            for leg in range(3)
            if self.chance(70 if leg < len(terms.legs) and terms.legs[leg].rollup == rollup else 2)
        ]
        back = self.dice.choice((1, 1, 1, 1, 1, 2, 3, 0, HEADERS_REMEMBERED, HEADERS_REMEMBERED + 1))
        wrong = self.dice.randrange(25)
        return attest(
            STRANGER if wrong == 0 else key,
            {"alpha": "beta", "beta": "alpha"}[rollup] if wrong == 1 else rollup,
            max(1, self.world.height + 1 - back),
            *(items or [self.item(id_of(self.swap()[1]), 0)]),
            attester=key.public_key,
            hashed=HeaderHash(bytes(32)) if wrong == 2 else None,
        )

    def item(self, swap_id: SwapId, leg: int) -> AttestItem:
        if self.chance(88):
            return AttestItem(swap_id, leg, Verdict.LOCKED, RejectReason.NONE)
        reason = self.dice.choice((RejectReason.INSUFFICIENT_FUNDS, RejectReason.OTHER))
        return AttestItem(swap_id, leg, Verdict.REJECTED, reason)
