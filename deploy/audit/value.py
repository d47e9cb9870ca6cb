"""Value: nothing appears, nothing vanishes, no transaction acts twice. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from deploy.audit.invariants import Invariant, Violated, Violation
from deploy.audit.plain.entries import BANK_FAUCET, LOCKED
from deploy.audit.plain.reading import Bytes
from deploy.audit.plain.rollup import LOCK_REJECTED, OK, Rollup, read_held

__pure__ = True

RECOUNT_BLOCKS: Final = 256
"""How often everything is counted anew, rather than what changed."""

MEMORY_MS: Final = 600_000
"""How long after its block a transaction's copy could be valid: the longest window."""

BALANCE, ESCROW, LOCKS, SUPPLY = 1, 2, 3, 5


class Holdings:
    """What a rollup has of each asset: held by accounts or escrow, and what there should be."""

    def __init__(self) -> None:
        self.held: Counter[bytes] = Counter()
        self.supply: Counter[bytes] = Counter()
        self.locks: Counter[bytes] = Counter()
        """Locked escrow records less the number that the account's key says."""

    def add(self, key: bytes, value: bytes | None, sign: int) -> set[bytes]:
        """Count a value in (`sign` 1) or out (-1); return the assets that it is about."""
        if value is None:
            return set()
        kind = key[0]
        if kind == BALANCE:
            asset = Bytes(key[1:]).var(1, 1, 32)
            self.held[asset] += sign * int.from_bytes(value, "big")
            return {asset}
        if kind == SUPPLY:
            asset = Bytes(key[1:]).var(1, 1, 32)
            self.supply[asset] += sign * int.from_bytes(value, "big")
            return {asset}
        if kind == LOCKS:
            self.locks[key[1:]] -= sign * int.from_bytes(value, "big")
        if kind == ESCROW:
            held = read_held(value)
            self.held[held.asset] += sign * (held.amount + held.premium)
            self.locks[held.sender] += sign * (held.verdict == LOCKED)
            return {held.asset}
        return set()

    @classmethod
    def of(cls, state: Mapping[bytes, bytes]) -> "Holdings":
        """Count a whole state."""
        counted = cls()
        for key, value in state.items():
            counted.add(key, value, 1)
        return counted


class Value:
    """Checks what rollups hold, block after block."""

    def __init__(self, counts: "Counter[Invariant]") -> None:
        self._counts = counts
        self._holdings: dict[str, Holdings] = {}
        self._acted: dict[str, dict[bytes, int]] = {}
        """Ids of transactions that acted, with the log time until which a copy could be valid, ascending."""

    def start(self, rollup: Rollup) -> None:
        """Take what a rollup has before the first block."""
        self._holdings[rollup.name] = Holdings.of(rollup.state)

    def block(self, rollup: Rollup, height: int, time_ms: int) -> None:
        """Check what the newest block did to a rollup."""
        holdings = self._holdings.setdefault(rollup.name, Holdings())
        before, touched = Counter(holdings.supply), set()
        for key, (old, new) in rollup.changes.items():
            touched |= holdings.add(key, old, -1) | holdings.add(key, new, 1)
        for asset in touched:
            self._check(rollup.name, height, asset, holdings)
        raised = [asset for asset in touched if holdings.supply[asset] != before[asset]]
        if raised and before and not any(map(_is_faucet, rollup.receipts)):
            raise _broken(rollup.name, height, raised[0], "its supply changed without a faucet")
        for account, wrong in holdings.locks.items():
            if wrong:
                place = f"account {account.hex()}"
                message = f"the count of its open locks is off by {wrong}"
                raise Violated(Violation(Invariant.CONSERVATION, message, height, rollup.name, place=place))
        holdings.locks.clear()
        self._check_once(rollup, height, time_ms)
        if height % RECOUNT_BLOCKS == 0:
            self.recount(rollup, height)

    def recount(self, rollup: Rollup, height: int) -> None:
        """Count all that a rollup has, and compare."""
        everything, followed = Holdings.of(rollup.state), self._holdings[rollup.name]
        for asset in {*everything.held, *everything.supply, *followed.held, *followed.supply}:
            self._check(rollup.name, height, asset, everything)
            if everything.supply[asset] != followed.supply[asset]:
                raise _broken(rollup.name, height, asset, "its supply is not what all changes make")

    def _check(self, rollup: str, height: int, asset: bytes, holdings: Holdings) -> None:
        self._counts[Invariant.CONSERVATION] += 1
        held, supply = holdings.held[asset], holdings.supply[asset]
        if held != supply:
            message = f"balances and escrow of {asset.decode()} are {held}, its supply is {supply}"
            raise Violated(
                Violation(
                    Invariant.CONSERVATION,
                    message,
                    height,
                    rollup,
                    place=f"asset {asset.decode()}",
                    expected=str(supply),
                    actual=str(held),
                )
            )

    def _check_once(self, rollup: Rollup, height: int, time_ms: int) -> None:
        acted = self._acted.setdefault(rollup.name, {})
        while acted and next(iter(acted.values())) <= time_ms:
            del acted[next(iter(acted))]
        for receipt in rollup.receipts:
            subject, code = receipt[14:46], int.from_bytes(receipt[46:48], "big")
            if receipt[1] != 1 or code not in (OK, LOCK_REJECTED):
                continue
            self._counts[Invariant.ONCE] += 1
            if subject in acted:
                place = f"transaction {subject.hex()}"
                message = "a transaction acted a second time"
                raise Violated(Violation(Invariant.ONCE, message, height, rollup.name, place=place))
            acted[subject] = time_ms + MEMORY_MS


def _is_faucet(receipt: bytes) -> bool:
    is_good = receipt[1] == 1 and int.from_bytes(receipt[46:48], "big") == OK
    return is_good and int.from_bytes(receipt[80:82], "big") == BANK_FAUCET


def _broken(rollup: str, height: int, asset: bytes, what: str) -> Violated:
    place = f"asset {asset.decode()}"
    message = f"of {asset.decode()}, {what}"
    return Violated(Violation(Invariant.CONSERVATION, message, height, rollup, place=place))
