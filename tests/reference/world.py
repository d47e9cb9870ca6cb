"""A small chain for tests of the register: its keys, its blocks, and the entries that people would send.

Two rollups: `alpha` with 2 of 3 attesters, `beta` with one. Headers are not made, only named: the register
sees of them no more than a hash.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final

from lockstep.attesters import AttesterSet
from lockstep.genesis import Genesis, RollupDefinition, Settlement, encode_genesis, parse_genesis
from lockstep.register import BlockInput, Register, RegisterEvent, SwapRecord, apply_block, genesis_register
from lockstep.registry_entries import Action, RegistryChange, sign_change
from lockstep.signing import SigningKey
from lockstep.swap_entries import (
    Attestation,
    AttestItem,
    RejectReason,
    Verdict,
    encode_open,
    encode_reveal,
    sign_attestation,
    sign_cancel,
)
from lockstep.terms import Leg, LegKind, Terms, encode_terms, swap_id_of
from lockstep.types import ChainId, HeaderHash, Height, PublicKey, RollupId, SwapId

START_MS: Final = 1_700_000_000_000
LOCKED, REJECTED = Verdict.LOCKED, Verdict.REJECTED


def key_of(name: str) -> SigningKey:
    """Return the signing key that a name stands for."""
    return SigningKey(sha256(name.encode()).digest())


A1, A2, A3, B1, GOVERNANCE, REVEALER, STRANGER = (
    key_of(name) for name in ("a1", "a2", "a3", "b1", "governance", "revealer", "stranger")
)
ALPHA, BETA = RollupId("alpha"), RollupId("beta")


def genesis_bytes(rules_version: int = 1) -> bytes:
    """Return the genesis file of the small chain."""
    return encode_genesis(
        name="register",
        genesis_time_ms=START_MS,
        sequencer=key_of("sequencer").public_key,
        settlement=Settlement("example.org/register", key_of("settlement").public_key),
        governance=GOVERNANCE.public_key,
        rotation_delay_blocks=5,
        rollups=(
            RollupDefinition(ALPHA, AttesterSet(2, (A1.public_key, A2.public_key, A3.public_key))),
            RollupDefinition(BETA, AttesterSet(1, (B1.public_key,))),
        ),
        rules_version=rules_version,
    )


GENESIS: Final = parse_genesis(genesis_bytes())
CHAIN: Final = GENESIS.chain_id


def header_hash(height: int) -> HeaderHash:
    """Return what stands for the hash of the header at a height."""
    return HeaderHash(sha256(b"header %d" % height).digest())


def preimage_of(name: str) -> bytes:
    """Return the preimage of a named swap."""
    return sha256(b"preimage " + name.encode()).digest()


def leg_on(rollup: str, amount: int = 5) -> Leg:
    """Return a leg on a rollup."""
    return Leg(RollupId(rollup), LegKind.TRANSFER, b"sender", b"recipient", b"gold", amount)


def make_terms(
    name: str = "swap",
    *,
    lock_by_ms: int = START_MS + 10_000,
    expires_ms: int = START_MS + 20_000,
    legs: Sequence[Leg] = (leg_on("alpha"), leg_on("beta")),
    chain: ChainId = CHAIN,
) -> Terms:
    """Return the terms of a named swap; equal arguments give equal terms."""
    return Terms(
        chain=chain,
        legs=tuple(legs),
        hashlock=sha256(preimage_of(name)).digest(),
        lock_by_ms=lock_by_ms,
        expires_ms=expires_ms,
        revealer=REVEALER.public_key,
        premium=None,
        salt=sha256(name.encode()).digest()[:16],
    )


def id_of(terms: Terms) -> SwapId:
    """Return the id of the swap with these terms."""
    return swap_id_of(encode_terms(terms))


def open_entry(terms: Terms) -> bytes:
    """Return the entry that opens a swap."""
    return encode_open(encode_terms(terms))


def item_of(terms: Terms, leg: int, verdict: Verdict = LOCKED) -> AttestItem:
    """Return the verdict on a leg; a rejection is for want of funds."""
    reason = RejectReason.NONE if verdict == LOCKED else RejectReason.INSUFFICIENT_FUNDS
    return AttestItem(id_of(terms), leg, verdict, reason)


def attest(
    key: SigningKey,
    rollup: str,
    height: int,
    *items: AttestItem,
    attester: PublicKey | None = None,
    chain: ChainId = CHAIN,
    hashed: HeaderHash | None = None,
) -> bytes:
    """Return the attestation that a key gives after executing the block at a height, its items put in order.

    `attester` is whose it claims to be, `hashed` the header hash that it names: by default the right ones.
    """
    attestation = Attestation(
        chain=chain,
        rollup=RollupId(rollup),
        attester=key.public_key if attester is None else attester,
        executed_height=Height(height),
        header_hash=header_hash(height) if hashed is None else hashed,
        items=tuple(sorted(items, key=lambda item: (item.swap_id, item.leg))),
    )
    return sign_attestation(key, attestation)


def reveal_entry(terms: Terms, name: str = "swap") -> bytes:
    """Return the entry that reveals the preimage of a named swap for some terms."""
    return encode_reveal(id_of(terms), preimage_of(name))


def cancel_entry(terms: Terms, key: SigningKey = REVEALER, chain: ChainId = CHAIN) -> bytes:
    """Return the entry that cancels a swap."""
    return sign_cancel(key, chain, id_of(terms))


def change_entry(subject: str, action: Action, *, sequence: int = 1, at: int = 2) -> bytes:
    """Return a `_registry` entry signed by governance, which takes effect at a height."""
    return sign_change(GOVERNANCE, RegistryChange(CHAIN, subject, sequence, Height(at), action))


class World:
    """The chain as it grows, and its register."""

    def __init__(self, genesis: Genesis = GENESIS) -> None:
        """Start before the first block."""
        self.genesis = genesis
        self.register: Register = genesis_register(genesis)
        self.blocks: list[BlockInput] = []

    def block(
        self, *swap_entries: bytes, advance_ms: int = 250, registry: Iterable[bytes] = ()
    ) -> tuple[RegisterEvent, ...]:
        """Add a block: the `_registry` entries first, then those of `_swap`; return what happened."""
        registry_entries = list(enumerate(registry))
        swaps = list(enumerate(swap_entries, start=len(registry_entries)))
        height = Height(self.register.height + 1)
        time_ms = self.register.time_ms + advance_ms
        block = BlockInput(height, header_hash(height), time_ms, registry_entries, swaps)
        self.blocks.append(block)
        self.register, events = apply_block(self.register, block)
        return events

    def advance_to(self, time_ms: int) -> tuple[RegisterEvent, ...]:
        """Add empty blocks until log time is exactly this; return what happened in the last one."""
        events: tuple[RegisterEvent, ...] = ()
        while self.register.time_ms < time_ms:
            events = self.block(advance_ms=min(2_000, time_ms - self.register.time_ms))
        return events

    def record(self, terms: Terms) -> SwapRecord:
        """Return a swap's record, which must be there."""
        record = self.register.record(id_of(terms))
        assert record is not None
        return record

    @property
    def height(self) -> Height:
        """The height of the newest block."""
        return self.register.height


def moved(terms: Terms, by_ms: int) -> Terms:
    """Return terms with both deadlines later."""
    return replace(terms, lock_by_ms=terms.lock_by_ms + by_ms, expires_ms=terms.expires_ms + by_ms)
