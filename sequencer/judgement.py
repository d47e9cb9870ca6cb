"""Whether what a bundle holds for the system namespaces could have an effect, and what it would decide.

Owns admission's judgement of `_swap`, `_registry` and `_log` entries at the next block, and the memory of
what is under way: accepted, and not in the register yet. Policy and no more: followers ignore what should not
have been ordered. An entry is refused only if it is useless whatever becomes of those under way: one that
names a swap which may be opening is admitted.

A decision is a bundle of nothing but attestations, reveals and cancellations that the register would act on.
What it claims (this key's vote on this leg, this swap's reveal) tells copies of it apart from the first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from lockstep.block import AdmittedBundle
from lockstep.checkpoint import NoteVerifier, verify_checkpoint
from lockstep.errors import UselessEntry
from lockstep.register import Register, useless_reasons
from lockstep.registry import Outcome, Registry, accept, take_effect
from lockstep.settlement_entries import decode_log_entry
from lockstep.signing import verify_raw
from lockstep.swap_entries import Attest, Open, Reveal, SwapEntry, decode_swap_entry
from lockstep.types import (
    LOG_NAMESPACE,
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    SYSTEM_NAMESPACES,
    BundleId,
    Height,
    Namespace,
    PublicKey,
    SwapId,
)

__pure__ = True

Claim: TypeAlias = tuple[SwapId, str, int, bytes]
"""A swap, `Attest`, `Reveal` or `Cancel`, and of an attestation leg and attester, else 0 and nothing."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a bundle that is admitted would do."""

    claims: frozenset[Claim] = frozenset()
    """What it would decide; empty for every bundle that is not a decision."""
    opens: tuple[SwapId, ...] = ()
    """Swaps that it would open."""
    follows: tuple[SwapId, ...] = ()
    """Swaps under way to be opened that its entries rest on: it must not be ordered before them."""
    registry_entries: tuple[bytes, ...] = ()
    """Its changes of the registry."""


NOTHING: Final = Judgement()
"""The judgement of a bundle for rollups alone."""


class Judge:
    """Judges bundles, knowing what is under way."""

    def __init__(self, log_origin: str) -> None:
        """`log_origin` is the settlement log's name in its checkpoints."""
        self._log_origin = log_origin
        self._opening: Counter[SwapId] = Counter()
        # A dictionary for its order: changes of one subject follow each other.
        self._registry_entries: dict[tuple[bytes, int], bytes] = {}

    def judge(self, bundle: AdmittedBundle, register: Register, *, log_size: int, time_ms: int) -> Judgement:
        """Return what a bundle would do in the block after `register`, made at `time_ms` or later.

        `log_size` is that of the largest checkpoint ordered. Raises UselessEntry; BadSignature or Malformed
        for a checkpoint that is not the settlement log's.
        """
        if SYSTEM_NAMESPACES.isdisjoint(namespace for namespace, _ in bundle.transactions):
            return NOTHING
        swap_entries = [decode_swap_entry(each) for each in _payloads(bundle, SWAP_NAMESPACE)]
        registry_entries = _payloads(bundle, REGISTRY_NAMESPACE)
        height = Height(register.height + 1)
        follows = self._judge_swap_entries(register, swap_entries, height, time_ms)
        registry, _ = take_effect(register.registry, height=height, time_ms=time_ms)
        self._judge_registry_entries(registry, registry_entries, height)
        for payload in _payloads(bundle, LOG_NAMESPACE):
            self._judge_checkpoint(payload, registry.keys["settlement"], log_size)
        opens = tuple(each.swap_id for each in swap_entries if isinstance(each, Open))
        is_decision = len(swap_entries) == len(bundle.transactions) and not opens and not follows
        claims = frozenset(_claims(swap_entries)) if is_decision else frozenset()
        return Judgement(claims, opens, follows, registry_entries)

    def add(self, bundle_id: BundleId, judgement: Judgement) -> None:
        """Remember what is under way with an accepted bundle."""
        self._opening.update(judgement.opens)
        for position, payload in enumerate(judgement.registry_entries):
            self._registry_entries[bundle_id, position] = payload

    def remove(self, bundle_id: BundleId, judgement: Judgement) -> None:
        """Forget it: the bundle is in the register, or will never be."""
        for swap_id in judgement.opens:
            self._opening[swap_id] -= 1
            if not self._opening[swap_id]:
                del self._opening[swap_id]
        for position in range(len(judgement.registry_entries)):
            del self._registry_entries[bundle_id, position]

    def _judge_swap_entries(
        self, register: Register, entries: Sequence[SwapEntry], height: Height, time_ms: int
    ) -> tuple[SwapId, ...]:
        """Return the swaps under way that the entries name. Raises UselessEntry."""
        certain, follows = [], []
        for entry in entries:
            opening = [each for each in _swaps_named(entry) if each in self._opening]
            follows += opening
            if not opening:
                certain.append(entry)
        if certain:
            reasons = useless_reasons(register, certain, height=height, time_ms=time_ms)
            for entry, reason in zip(certain, reasons, strict=True):
                if reason is not None:
                    raise UselessEntry(kind=type(entry).__name__, reason=reason)
        return tuple(follows)

    def _judge_registry_entries(self, registry: Registry, entries: Sequence[bytes], height: Height) -> None:
        """Raise UselessEntry for an entry that is not valid, neither after those under way nor without."""
        if not entries:
            return
        reason = _why_not_accepted(registry, tuple(self._registry_entries.values()), entries, height)
        if reason is not None and self._registry_entries:
            reason = _why_not_accepted(registry, (), entries, height)
        if reason is not None:
            raise UselessEntry(kind="change of the registry", reason=f"it {reason}")

    def _judge_checkpoint(self, payload: bytes, key: PublicKey, log_size: int) -> None:
        verifier = NoteVerifier(self._log_origin, key)
        checkpoint = verify_checkpoint(decode_log_entry(payload), verifier, verify=verify_raw)
        if checkpoint.size <= log_size:
            reason = f"one of size {log_size} is ordered already, this one has {checkpoint.size}"
            raise UselessEntry(kind="checkpoint", reason=reason)


def _payloads(bundle: AdmittedBundle, namespace: Namespace) -> tuple[bytes, ...]:
    return tuple(payload for each, payload in bundle.transactions if each == namespace)


def _swaps_named(entry: SwapEntry) -> Iterable[SwapId]:
    if isinstance(entry, Attest):
        return (item.swap_id for item in entry.attestation.items)
    return (entry.swap_id,)


def _claims(entries: Iterable[SwapEntry]) -> Iterable[Claim]:
    for entry in entries:
        if isinstance(entry, Attest):
            attester = entry.attestation.attester
            for item in entry.attestation.items:
                yield item.swap_id, "Attest", item.leg, attester
        else:
            yield entry.swap_id, "Reveal" if isinstance(entry, Reveal) else "Cancel", 0, b""


def _why_not_accepted(
    registry: Registry, before: Sequence[bytes], entries: Sequence[bytes], height: Height
) -> str | None:
    """Return why the registry would ignore one of `entries` after those `before`; None if it takes all."""
    indexed = list(enumerate((*before, *entries)))
    _, events = accept(registry, height=height, entries=indexed)
    for event in events:
        if event.index >= len(before) and event.outcome is Outcome.IGNORED:
            return event.reason
    return None
