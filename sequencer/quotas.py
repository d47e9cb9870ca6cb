"""Quotas: how much of the order a namespace may use, in transactions and payload bytes per second.

Owns the accounts. Each holds at most one second's worth and refills with real time; a bundle passes while all
its accounts hold anything, and is charged whole, so that a debt is less than one bundle, and the next one
waits until it is paid. Policy: what is refused was not accepted. Integers throughout: an account counts in
thousandths.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from lockstep.errors import QuotaExceeded
from lockstep.genesis import Quota
from lockstep.registry import Registry
from lockstep.types import Namespace
from sequencer.builder import Footprint

__pure__ = True

ByNamespace: TypeAlias = Mapping[Namespace, Footprint]
"""What a bundle has for each namespace that it touches."""

_MILLI: Final = 1_000


class _Account:
    """What one namespace may still use, in thousandths."""

    __slots__ = ("payload_bytes", "quota", "read_at_ms", "transactions")

    def __init__(self, quota: Quota, clock_ms: int) -> None:
        self.quota = quota
        self.transactions = quota.transactions_per_second * _MILLI
        self.payload_bytes = quota.bytes_per_second * _MILLI
        self.read_at_ms = clock_ms

    def refill(self, quota: Quota, clock_ms: int) -> None:
        """Add what has come in by now; one second's worth of `quota` at most."""
        elapsed_ms = max(clock_ms - self.read_at_ms, 0)
        rate = quota.transactions_per_second
        self.transactions = min(self.transactions + rate * elapsed_ms, rate * _MILLI)
        rate = quota.bytes_per_second
        self.payload_bytes = min(self.payload_bytes + rate * elapsed_ms, rate * _MILLI)
        self.read_at_ms = max(clock_ms, self.read_at_ms)
        self.quota = quota


class Quotas:
    """The accounts of all namespaces."""

    def __init__(self, default: Quota) -> None:
        """`default` holds for the system's namespaces, and for rollups to which the registry gives none."""
        self._default = default
        self._accounts: dict[Namespace, _Account] = {}
        self._registry: Registry | None = None
        self._quotas: dict[Namespace, Quota] = {}

    def charge(self, footprints: ByNamespace, registry: Registry, clock_ms: int) -> None:
        """Charge a bundle to every namespace that it touches, or raise QuotaExceeded and charge nothing.

        The error tells of the account that takes longest to be paid. `clock_ms` is a monotonic clock.
        """
        accounts = [self._account(namespace, registry, clock_ms) for namespace in footprints]
        for account in accounts:
            if account.transactions <= 0 or account.payload_bytes <= 0:
                raise _refusal(dict(zip(footprints, accounts, strict=True)))
        _charge(accounts, footprints)

    def charge_at_once(self, footprints: ByNamespace, registry: Registry, clock_ms: int) -> bool:
        """Charge what many bundles have together if no account runs out by it; else charge nothing.

        Answers whether it did: then each of them would have passed, in any order.
        """
        accounts = [self._account(namespace, registry, clock_ms) for namespace in footprints]
        for account, due in zip(accounts, footprints.values(), strict=True):
            if account.transactions <= due.transactions * _MILLI:
                return False
            if account.payload_bytes <= due.payload_bytes * _MILLI:
                return False
        _charge(accounts, footprints)
        return True

    def _account(self, namespace: Namespace, registry: Registry, clock_ms: int) -> _Account:
        """Return a namespace's account as it is now."""
        if registry is not self._registry:
            self._registry = registry
            self._quotas.clear()
        quota = self._quotas.get(namespace)
        if quota is None:
            rollup = registry.rollup(namespace)
            quota = self._default if rollup is None else rollup.quota or self._default
            self._quotas[namespace] = quota
        account = self._accounts.get(namespace)
        if account is None:
            account = self._accounts[namespace] = _Account(quota, clock_ms)
        elif clock_ms != account.read_at_ms or quota is not account.quota:
            account.refill(quota, clock_ms)
        return account


def _charge(accounts: Iterable[_Account], footprints: ByNamespace) -> None:
    for account, due in zip(accounts, footprints.values(), strict=True):
        account.transactions -= due.transactions * _MILLI
        account.payload_bytes -= due.payload_bytes * _MILLI


def _refusal(accounts: Mapping[Namespace, _Account]) -> QuotaExceeded:
    """Return the error for a bundle that these accounts, of which one at least is empty, cannot pay."""
    unpaid = [
        (-balance // rate + 1, namespace, what, rate)
        for namespace, account in accounts.items()
        for what, rate, balance in (
            ("transactions", account.quota.transactions_per_second, account.transactions),
            ("bytes", account.quota.bytes_per_second, account.payload_bytes),
        )
        if balance <= 0
    ]
    wait_ms, namespace, what, rate = max(unpaid, key=lambda each: each[0])
    refusal = QuotaExceeded(subject=f"namespace {namespace}", quota=what, limit=rate)
    refusal.retry_after_ms = wait_ms
    return refusal
