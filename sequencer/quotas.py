"""Quotas: how much of the order a namespace may use, in transactions and payload bytes per second.

Owns the accounts. Each holds at most one second's worth and refills with real time; a bundle passes while all
its accounts hold anything, and is charged whole, so that a debt is less than one bundle, and the next one
waits until it is paid. Policy: what is refused was not accepted. Integers throughout: an account counts in
thousandths.
"""

from collections.abc import Iterator
from typing import Final

from lockstep.errors import QuotaExceeded
from lockstep.genesis import Quota
from lockstep.registry import Registry
from lockstep.types import Namespace
from sequencer.builder import Footprints

__pure__ = True

_MILLI: Final = 1_000


class _Account:
    """What one namespace may still use of one thing."""

    __slots__ = ("balance", "read_at_ms")

    def __init__(self, rate: int, clock_ms: int) -> None:
        self.balance = rate * _MILLI
        self.read_at_ms = clock_ms

    def refill(self, rate: int, clock_ms: int) -> None:
        """Add what has come in by now; one second's worth of `rate` at most."""
        earned = rate * max(clock_ms - self.read_at_ms, 0)
        self.balance = min(self.balance + earned, rate * _MILLI)
        self.read_at_ms = max(clock_ms, self.read_at_ms)


class Quotas:
    """The accounts of all namespaces."""

    def __init__(self, default: Quota) -> None:
        """`default` holds for the system's namespaces, and for rollups to which the registry gives none."""
        self._default = default
        self._accounts: dict[tuple[Namespace, str], _Account] = {}

    def charge(self, footprints: Footprints, registry: Registry, clock_ms: int) -> None:
        """Charge a bundle to every namespace that it touches, or raise QuotaExceeded and charge nothing.

        The error tells of the account that takes longest to be paid. `clock_ms` is a monotonic clock.
        """
        due = list(self._due(footprints, registry))
        refusal: QuotaExceeded | None = None
        for namespace, what, rate, _ in due:
            account = self._accounts.get((namespace, what))
            if account is None:
                account = self._accounts[namespace, what] = _Account(rate, clock_ms)
            account.refill(rate, clock_ms)
            wait_ms = -account.balance // rate + 1
            if account.balance <= 0 and (refusal is None or wait_ms > (refusal.retry_after_ms or 0)):
                refusal = QuotaExceeded(subject=f"namespace {namespace}", quota=what, limit=rate)
                refusal.retry_after_ms = wait_ms
        if refusal is not None:
            raise refusal
        for namespace, what, _, amount in due:
            self._accounts[namespace, what].balance -= amount * _MILLI

    def _due(self, footprints: Footprints, registry: Registry) -> Iterator[tuple[Namespace, str, int, int]]:
        """Yield namespace, what is counted, its rate per second, and how much of it the bundle is."""
        for namespace, each in footprints.items():
            rollup = registry.rollup(namespace)
            quota = self._default if rollup is None else rollup.quota or self._default
            yield namespace, "transactions", quota.transactions_per_second, each.transactions
            yield namespace, "bytes", quota.bytes_per_second, each.payload_bytes
