"""A rollup: balances, escrow, seen ids, receipts and roots. protos/README.md, section 10.

The state is a dictionary of the very keys and values of that section. Whatever can stop a transaction is
looked at before anything is written, so nothing has to be taken back.
"""

from collections.abc import Sequence
from typing import NamedTuple

from deploy.audit.plain import entries
from deploy.audit.plain.entries import BANK_FAUCET, BANK_TRANSFER, ESCROW_LOCK, LOCKED, REJECTED, Leg
from deploy.audit.plain.reading import (
    AMOUNT_MAX,
    Bytes,
    Unreadable,
    hashed,
    is_signed,
    number,
    transaction_hash,
    var,
)
from deploy.audit.plain.register import Opening, Register
from deploy.audit.plain.trees import Growing, Map
from lockstep.genesis import Asset, Modules

__pure__ = True

OK, MALFORMED, WRONG_CHAIN, WRONG_ROLLUP, BAD_SIGNATURE, EXPIRED, TOO_FAR_AHEAD, DUPLICATE, UNKNOWN_METHOD = (
    range(9)
)
UNKNOWN_ASSET, AMOUNT_ZERO, INSUFFICIENT_FUNDS, OVERFLOW, FAUCET_FORBIDDEN, FAUCET_LIMIT = range(101, 107)
NO_OPEN_SWAP, LEG_UNKNOWN, LEG_OF_OTHER_ROLLUP, NOT_THE_SENDER, LEG_ALREADY_DECIDED, LOCK_REJECTED = range(
    201, 207
)
NOT_ACTING = {NO_OPEN_SWAP, LEG_UNKNOWN, LEG_OF_OTHER_ROLLUP, NOT_THE_SENDER, LEG_ALREADY_DECIDED}
"""Codes of locks that do not act: their ids are not recorded as seen."""

# Why a lock that acts is rejected.
NO_FUNDS, NO_ASSET, TOO_MANY_LOCKS, TOO_SMALL, NO_RECIPIENT = 1, 2, 3, 4, 5

WINDOW_MS = 600_000
COMMITTED, ABORTED = 1, 2
NO_PREMIUM, RETURNED, PAID = 0, 1, 2


class Held(NamedTuple):
    """An escrow record."""

    verdict: int
    reason: int
    opened: tuple[int, int]
    asset: bytes
    sender: bytes
    amount: int
    premium: int


class Commitment(NamedTuple):
    """What the rollup has come to after a block."""

    rollup: str
    height: int
    state_root: bytes
    receipt_count: int
    receipts_root: bytes
    register_root: bytes

    @property
    def hash(self) -> bytes:
        """The commitment's hash."""
        body = var(self.rollup.encode()) + number(self.height, 8) + self.state_root
        body += number(self.receipt_count, 8) + self.receipts_root + self.register_root
        return hashed("commitment", body)


class Rollup:
    """One rollup, changed block after block."""

    def __init__(self, name: str, register: Register) -> None:
        self.name = name
        self.register = register
        self.state: dict[bytes, bytes] = {}
        self.map = Map()
        self.tree = Growing()
        self.seen: dict[int, set[bytes]] = {}
        """Ids that are remembered, by the second in which they expire."""
        self.modules: Modules | None = None
        """None while the rollup is not registered."""
        self.assets: dict[bytes, Asset] = {}
        self.changes: dict[bytes, tuple[bytes | None, bytes | None]] = {}
        """What the newest block changed: values before and after, by key."""
        self.receipts: list[bytes] = []
        """Those of the newest block."""

    def apply(self, height: int, time_ms: int, own: Sequence[tuple[int, bytes]]) -> None:
        """Execute a block that the register has taken; `own` are index and payload of its transactions."""
        self.changes, self.receipts = {}, []
        for second in [each for each in self.seen if (each + 1) * 1_000 <= time_ms]:
            del self.seen[second]
            self.put(b"\x04" + number(second, 8), None)
        self.begin()
        if self.modules is not None:
            for opening in self.register.decided:
                self._settle(opening)
            for index, payload in own:
                self._execute(height, time_ms, index, payload)
        for key, (_, after) in self.changes.items():
            self.map.put(key, after)

    def commitment(self, height: int) -> Commitment:
        """Return the commitment after the newest block, which is at `height`."""
        return Commitment(
            self.name, height, self.map.root(), self.tree.size, self.tree.root(), self.register.root
        )

    # --- the state

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set or remove a value."""
        first, _ = self.changes.get(key, (self.state.get(key), None))
        self.changes[key] = (first, value)
        if value is None:
            self.state.pop(key, None)
        else:
            self.state[key] = value

    def amount(self, key: bytes) -> int:
        """Return a number of the state; 0 where there is none."""
        return int.from_bytes(self.state.get(key, b""), "big")

    def add(self, key: bytes, amount: int, width: int = 16) -> None:
        """Add to a number of the state; one that is zero is absent."""
        total = self.amount(key) + amount
        self.put(key, number(total, width) if total else None)

    def held(self, swap_id: bytes, leg: int) -> Held | None:
        """Return a leg's escrow record."""
        value = self.state.get(escrow_key(swap_id, leg))
        return None if value is None else read_held(value)

    def begin(self) -> None:
        """If the rollup is registered by now and was not, write what it starts with."""
        registered = self.register.registry.rollups.get(self.name)
        if self.modules is not None or registered is None:
            return
        self.modules = registered.modules
        bank = registered.modules.bank
        self.assets = {} if bank is None else {asset.id.encode(): asset for asset in bank.assets}
        for name, asset in self.assets.items():
            for allocation in asset.allocations:
                self.add(supply_key(name), allocation.amount)
                self.add(balance_key(name, allocation.account), allocation.amount)
        for key, value in self.state.items():
            self.map.put(key, value)

    def _write(self, receipt: bytes) -> None:
        self.receipts.append(receipt)
        self.tree.add(b"\x03" + receipt)

    # --- transactions

    def _execute(self, height: int, time_ms: int, index: int, payload: bytes) -> None:
        subject, signer, method = transaction_hash(self.name, payload), bytes(32), 0
        try:
            transaction = entries.read_transaction(payload)
        except Unreadable:
            code = MALFORMED
        else:
            code, method = self._code(time_ms, transaction), transaction.method
            if code != BAD_SIGNATURE:
                subject, signer = transaction.id, transaction.signer
        self._write(
            receipt_head(1, height, index, subject, code) + signer + number(method, 2),
        )

    def _code(self, time_ms: int, transaction: entries.Transaction) -> int:
        """Execute a transaction that could be read, and return how it ended."""
        if transaction.chain != self.register.registry.chain:
            return WRONG_CHAIN
        if transaction.rollup != self.name:
            return WRONG_ROLLUP
        if time_ms >= transaction.valid_until_ms:
            return EXPIRED
        if transaction.valid_until_ms > time_ms + WINDOW_MS:
            return TOO_FAR_AHEAD
        if not is_signed("sign-transaction", transaction.signer, transaction.body, transaction.signature):
            return BAD_SIGNATURE
        second = transaction.valid_until_ms // 1_000
        if transaction.id in self.seen.get(second, ()):
            return DUPLICATE
        code = self._call(time_ms, transaction)
        if code not in NOT_ACTING:
            self.seen.setdefault(second, set()).add(transaction.id)
            key = b"\x04" + number(second, 8)
            self.put(key, hashed("seen", self.state.get(key, bytes(32)) + transaction.id))
        return code

    def _call(self, time_ms: int, transaction: entries.Transaction) -> int:
        modules, method = self.modules, transaction.method
        assert modules is not None, "only a registered rollup executes"
        has_bank, has_escrow = modules.bank is not None, modules.escrow is not None
        try:
            if method == BANK_TRANSFER and has_bank:
                return self._transfer(transaction.signer, *entries.read_transfer(transaction.arguments))
            if method == BANK_FAUCET and has_bank:
                return self._faucet(transaction.signer, *entries.read_faucet(transaction.arguments))
            if method == ESCROW_LOCK and has_escrow:
                return self._lock(time_ms, transaction.signer, *entries.read_lock(transaction.arguments))
        except Unreadable:
            return MALFORMED
        return UNKNOWN_METHOD

    def _transfer(self, signer: bytes, asset: bytes, recipient: bytes, amount: int) -> int:
        if asset not in self.assets:
            return UNKNOWN_ASSET
        if amount == 0:
            return AMOUNT_ZERO
        if self.amount(balance_key(asset, signer)) < amount:
            return INSUFFICIENT_FUNDS
        self.add(balance_key(asset, signer), -amount)
        self.add(balance_key(asset, recipient), amount)
        return OK

    def _faucet(self, signer: bytes, asset: bytes, amount: int) -> int:
        known = self.assets.get(asset)
        if known is None:
            return UNKNOWN_ASSET
        if amount == 0:
            return AMOUNT_ZERO
        if known.faucet_max == 0:
            return FAUCET_FORBIDDEN
        if amount > known.faucet_max:
            return FAUCET_LIMIT
        if self.amount(supply_key(asset)) + amount > AMOUNT_MAX:
            return OVERFLOW
        self.add(supply_key(asset), amount)
        self.add(balance_key(asset, signer), amount)
        return OK

    # --- escrow

    def _lock(self, time_ms: int, signer: bytes, swap_id: bytes, place: int) -> int:
        opening = self.register.there.get(swap_id)
        if opening is None or opening.outcome is not None or time_ms >= opening.terms.lock_by_ms:
            return NO_OPEN_SWAP
        terms = opening.terms
        if place >= len(terms.legs):
            return LEG_UNKNOWN
        leg = terms.legs[place]
        if leg.rollup != self.name:
            return LEG_OF_OTHER_ROLLUP
        if leg.sender != signer:
            return NOT_THE_SENDER
        if self.held(swap_id, place) is not None:
            return LEG_ALREADY_DECIDED
        premium = terms.premium_of(place)
        recipients = [leg.recipient, *(share for share, _ in terms.shares if premium)]
        reason = self._why_rejected(leg, recipients, leg.amount + premium)
        verdict, amount, beside = (REJECTED, 0, 0) if reason else (LOCKED, leg.amount, premium)
        held = Held(verdict, reason, opening.at[:2], leg.asset, signer, amount, beside)
        self.put(escrow_key(swap_id, place), held_bytes(held))
        if reason:
            return LOCK_REJECTED
        self.add(balance_key(leg.asset, signer), -leg.amount - premium)
        self.add(locks_key(signer), 1, 4)
        return OK

    def _why_rejected(self, leg: Leg, recipients: Sequence[bytes], total: int) -> int:
        """Return why a lock that acts is rejected; 0 if it is not."""
        escrow = self.modules.escrow if self.modules is not None else None
        assert escrow is not None, "only a rollup with escrow has locks"
        if leg.asset not in self.assets:
            return NO_ASSET
        if leg.amount < escrow.minimum_lock:
            return TOO_SMALL
        if any(len(recipient) != 32 for recipient in recipients):
            return NO_RECIPIENT
        if self.amount(locks_key(leg.sender)) >= escrow.open_locks_per_account_max:
            return TOO_MANY_LOCKS
        return NO_FUNDS if self.amount(balance_key(leg.asset, leg.sender)) < total else 0

    def _settle(self, opening: Opening) -> None:
        """Pay out this rollup's legs of a swap that was decided."""
        if self.modules is None or self.modules.escrow is None or opening.outcome is None:
            return
        committed = opening.outcome.phase == "COMMITTED"
        for place, leg in enumerate(opening.terms.legs):
            if leg.rollup != self.name:
                continue
            held = self.held(opening.swap_id, place)
            if held is not None:
                self.put(escrow_key(opening.swap_id, place), None)
            if held is not None and held.verdict == LOCKED:
                self._pay_out(opening, place, held, leg.recipient if committed else held.sender)
            elif committed:
                head = receipt_head(3, *decided_place(opening), opening.swap_id, COMMITTED)
                self._write(head + number(place, 1))

    def _pay_out(self, opening: Opening, place: int, held: Held, beneficiary: bytes) -> None:
        assert opening.outcome is not None, "it was decided"
        self.add(balance_key(held.asset, beneficiary), held.amount)
        premium_outcome = NO_PREMIUM
        if held.premium and is_premium_due(opening):
            premium_outcome = PAID
            for recipient, amount in opening.terms.shares:
                self.add(balance_key(held.asset, recipient), amount)
        elif held.premium:
            premium_outcome = RETURNED
            self.add(balance_key(held.asset, held.sender), held.premium)
        self.add(locks_key(held.sender), -1, 4)
        code = COMMITTED if opening.outcome.phase == "COMMITTED" else ABORTED
        self._write(
            receipt_head(2, *decided_place(opening), opening.swap_id, code)
            + number(place, 1)
            + var(held.asset)
            + beneficiary
            + number(held.amount, 16)
            + number(premium_outcome, 1)
            + number(held.premium, 16)
        )


def is_premium_due(opening: Opening) -> bool:
    """Answer whether a decided swap's premium goes to its recipients."""
    assert opening.outcome is not None, "it was decided"
    if opening.outcome.reason == "CANCELLED":
        all_locked = opening.all_locked()
        return all_locked is not None and all_locked < opening.outcome.at
    return opening.outcome.reason == "NOT_REVEALED"


def decided_place(opening: Opening) -> tuple[int, int]:
    """Return height and index of a decision, as receipts say them."""
    assert opening.outcome is not None, "it was decided"
    height, index, _ = opening.outcome.at
    return height, 0xFFFFFFFF if index < 0 else index


# --- bytes ------------------------------------------------------------------------------------------------


def receipt_head(kind: int, height: int, index: int, subject: bytes, code: int) -> bytes:
    """Write what all receipts begin with."""
    return number(1, 1) + number(kind, 1) + number(height, 8) + number(index, 4) + subject + number(code, 2)


def balance_key(asset: bytes, account: bytes) -> bytes:
    """Return where a balance stands."""
    return b"\x01" + var(asset) + account


def escrow_key(swap_id: bytes, leg: int) -> bytes:
    """Return where a leg's escrow record stands."""
    return b"\x02" + swap_id + number(leg, 1)


def locks_key(account: bytes) -> bytes:
    """Return where an account's number of open locks stands."""
    return b"\x03" + account


def supply_key(asset: bytes) -> bytes:
    """Return where an asset's supply stands."""
    return b"\x05" + var(asset)


def held_bytes(held: Held) -> bytes:
    """Write an escrow record."""
    height, index = held.opened
    place = number(height, 8) + number(index, 4)
    amounts = number(held.amount, 16) + number(held.premium, 16)
    return bytes((held.verdict, held.reason)) + place + var(held.asset) + held.sender + amounts


def read_held(value: bytes) -> Held:
    """Read an escrow record."""
    source = Bytes(value)
    verdict, reason, opened = source.number(1), source.number(1), (source.number(8), source.number(4))
    return Held(
        verdict,
        reason,
        opened,
        source.var(1, 1, 32),
        source.take(32),
        source.number(16),
        source.number(16),
    )
