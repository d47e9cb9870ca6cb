"""What is written in `_swap` and in a rollup's namespace: protos/README.md, sections 5 to 7."""

from dataclasses import dataclass

from deploy.audit.plain.reading import AMOUNT_MAX, Bytes, hashed, need, rollup_name

__pure__ = True

TRANSFER_LEG = 1
LOCKED, REJECTED = 1, 2
REASONS = {0, 1, 2, 3, 4, 5, 255}
"""Why a lock was rejected: 0 of one that was not."""

BANK_TRANSFER, BANK_FAUCET, ESCROW_LOCK = 0x0101, 0x0102, 0x0201


@dataclass(frozen=True)
class Leg:
    """A leg of a swap's terms."""

    rollup: str
    kind: int
    sender: bytes
    recipient: bytes
    asset: bytes
    amount: int


@dataclass(frozen=True)
class Terms:
    """A swap's terms; `premium_leg` is -1 where there is no premium."""

    chain: bytes
    legs: tuple[Leg, ...]
    hashlock: bytes
    lock_by_ms: int
    expires_ms: int
    revealer: bytes
    premium_leg: int
    shares: tuple[tuple[bytes, int], ...]

    def premium_of(self, leg: int) -> int:
        """Return what a leg's lock holds beside its amount."""
        return sum(amount for _, amount in self.shares) if leg == self.premium_leg else 0


@dataclass(frozen=True)
class Open:
    """Records a swap."""

    swap_id: bytes
    terms: Terms
    terms_bytes: bytes


@dataclass(frozen=True)
class Item:
    """A verdict on a leg."""

    swap_id: bytes
    leg: int
    verdict: int
    reason: int


@dataclass(frozen=True)
class Attest:
    """Verdicts under an attester's signature, which is not verified here."""

    signature: bytes
    body: bytes
    chain: bytes
    rollup: str
    attester: bytes
    executed_height: int
    header_hash: bytes
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Reveal:
    """Shows a preimage."""

    swap_id: bytes
    preimage: bytes


@dataclass(frozen=True)
class Cancel:
    """Withdraws a swap; the signature is not verified here."""

    signature: bytes
    body: bytes
    chain: bytes
    swap_id: bytes


Entry = Open | Attest | Reveal | Cancel


def read_entry(payload: bytes) -> Entry:
    """Read an entry of `_swap`. Raises `Unreadable`."""
    source = Bytes(payload)
    need(source.number(1) == 1)
    kind = source.number(1)
    need(kind in (1, 2, 3, 4))
    if kind == 1:
        terms_bytes = source.rest()
        return Open(hashed("swap", terms_bytes), read_terms(terms_bytes), terms_bytes)
    if kind == 2:
        return read_attest(source.take(64), source.rest())
    if kind == 3:
        reveal = Reveal(source.take(32), source.take(32))
        source.end()
        return reveal
    signature, body = source.take(64), source.rest()
    source = Bytes(body)
    cancel = Cancel(signature, body, source.take(32), source.take(32))
    source.end()
    return cancel


def read_terms(terms_bytes: bytes) -> Terms:
    """Read a swap's terms. Raises `Unreadable`."""
    source = Bytes(terms_bytes)
    need(source.number(1) == 1)
    chain, leg_count = source.take(32), source.number(1)
    need(2 <= leg_count <= 16)
    legs = tuple(read_leg(source) for _ in range(leg_count))
    hashlock, lock_by_ms, expires_ms = source.take(32), source.number(8), source.number(8)
    need(hashlock != bytes(32))
    need(expires_ms < 2**63 and lock_by_ms + 5_000 <= expires_ms)
    revealer, premium_count = source.take(32), source.number(1)
    need(premium_count in (0, 1))
    premium_leg = -1
    shares: tuple[tuple[bytes, int], ...] = ()
    if premium_count:
        premium_leg, shares = read_premium(source)
        need(premium_leg < leg_count)
        need(legs[premium_leg].amount + sum(amount for _, amount in shares) <= AMOUNT_MAX)
    source.take(16)
    source.end()
    return Terms(chain, legs, hashlock, lock_by_ms, expires_ms, revealer, premium_leg, shares)


def read_leg(source: Bytes) -> Leg:
    """Read one leg of the terms."""
    leg = Leg(
        rollup=rollup_name(source),
        kind=source.number(1),
        sender=source.var(1, 1, 64),
        recipient=source.var(1, 1, 64),
        asset=source.var(1, 1, 32),
        amount=source.number(16),
    )
    need(leg.kind in (1, 2, 3) and leg.sender != leg.recipient and leg.amount > 0)
    return leg


def read_premium(source: Bytes) -> tuple[int, tuple[tuple[bytes, int], ...]]:
    """Read the leg whose sender pays a premium, and who gets how much of it."""
    leg, count = source.number(1), source.number(1)
    need(1 <= count <= 16)
    shares = tuple((source.var(1, 1, 64), source.number(16)) for _ in range(count))
    need(all(amount > 0 for _, amount in shares))
    return leg, shares


def read_attest(signature: bytes, body: bytes) -> Attest:
    """Read an attestation. Raises `Unreadable`."""
    source = Bytes(body)
    chain, rollup, attester = source.take(32), rollup_name(source), source.take(32)
    executed_height, header_hash, count = source.number(8), source.take(32), source.number(2)
    need(1 <= executed_height < 2**63 and 1 <= count <= 1_024)
    items = tuple(
        Item(source.take(32), source.number(1), source.number(1), source.number(1)) for _ in range(count)
    )
    source.end()
    for item in items:
        need(item.verdict in (LOCKED, REJECTED) and item.reason in REASONS)
        need((item.verdict == LOCKED) == (item.reason == 0))
    places = [(item.swap_id, item.leg) for item in items]
    need(places == sorted(set(places)))
    return Attest(signature, body, chain, rollup, attester, executed_height, header_hash, items)


# --- a rollup's transactions ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transaction:
    """A transaction of a rollup; neither signature nor arguments are looked at."""

    id: bytes
    signature: bytes
    body: bytes
    chain: bytes
    rollup: str
    signer: bytes
    valid_until_ms: int
    method: int
    arguments: bytes


def read_transaction(payload: bytes) -> Transaction:
    """Read the payload of a transaction. Raises `Unreadable`."""
    source = Bytes(payload)
    signature, body = source.take(64), source.rest()
    source = Bytes(body)
    need(source.number(1) == 1)
    chain, rollup, signer, valid_until_ms = (
        source.take(32),
        rollup_name(source),
        source.take(32),
        source.number(8),
    )
    source.take(16)
    method, arguments = source.number(2), source.rest()
    name = hashed("rollup-transaction", body)
    return Transaction(name, signature, body, chain, rollup, signer, valid_until_ms, method, arguments)


def read_transfer(arguments: bytes) -> tuple[bytes, bytes, int]:
    """Read asset, recipient and amount. Raises `Unreadable`."""
    source = Bytes(arguments)
    asset, recipient, amount = source.var(1, 1, 32), source.take(32), source.number(16)
    source.var(1, 0, 64)
    source.end()
    return asset, recipient, amount


def read_faucet(arguments: bytes) -> tuple[bytes, int]:
    """Read asset and amount. Raises `Unreadable`."""
    source = Bytes(arguments)
    asset, amount = source.var(1, 1, 32), source.number(16)
    source.end()
    return asset, amount


def read_lock(arguments: bytes) -> tuple[bytes, int]:
    """Read the swap's id and the leg. Raises `Unreadable`."""
    source = Bytes(arguments)
    swap_id, leg = source.take(32), source.number(1)
    source.end()
    return swap_id, leg
