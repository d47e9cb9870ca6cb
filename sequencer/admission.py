"""What may be ordered at all: the checks of a bundle that need no queue, no disk and no clock.

Owns the order of checks up to the window: 1. sizes and names (MALFORMED, OVERSIZED); 2. the layout of
entries in system namespaces (MALFORMED); 3. every namespace is registered (UNKNOWN_NAMESPACE). Then the
writer answers for bundles that it knows already, and goes on with 4. the window (EXPIRED, TOO_FAR_AHEAD);
5. what the entries would do (`sequencer.judgement`: USELESS_ENTRY); 6. room for another id
(TOO_MANY_LIVE_IDS); 7. room in the queue (QUEUE_FULL) and 8. the quotas (QUOTA_EXCEEDED), both of
`sequencer.waiting`. Admission is policy: followers ignore what should not have been ordered, so nothing here
is a rule that they depend on.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

import msgspec

from lockstep import limits
from lockstep.block import AdmittedBundle, Parcel
from lockstep.errors import Expired, Oversized, TooFarAhead, UnknownNamespace
from lockstep.order import (
    Bundle,
    Singles,
    bundle_id,
    single_ids,
    transaction_hash,
    transaction_hashes,
    verify_bundle_shape,
)
from lockstep.registry import Registry, RollupStatus
from lockstep.registry_entries import decode_registry_entry
from lockstep.settlement_entries import decode_log_entry
from lockstep.swap_entries import decode_swap_entry
from lockstep.types import (
    LOG_NAMESPACE,
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    SYSTEM_NAMESPACES,
    BundleId,
    ChainId,
    Namespace,
    TransactionHash,
)

__pure__ = True

_DECODERS: Final[Mapping[Namespace, Callable[[bytes], object]]] = {
    SWAP_NAMESPACE: decode_swap_entry,
    REGISTRY_NAMESPACE: decode_registry_entry,
    LOG_NAMESPACE: decode_log_entry,
}
"""How a payload of a system namespace must read."""


def open_namespaces(registry: Registry) -> frozenset[Namespace]:
    """Return the namespaces that take transactions: the system's, and those of rollups that have not left."""
    staying = (id_ for id_, record in registry.rollups.items() if record.status is not RollupStatus.LEFT)
    return SYSTEM_NAMESPACES.union(map(Namespace, staying))


def admit(chain: ChainId, bundle: Bundle, open_to: Set[Namespace]) -> AdmittedBundle:
    """Return a bundle with its hashes once checks 1 to 3 hold. Raises what they name."""
    transactions, valid_until_ms = bundle.transactions, bundle.valid_until_ms
    if not _is_plain(bundle, open_to):
        _verify(bundle, open_to)
    hashes = tuple([transaction_hash(namespace, payload) for namespace, payload in transactions])
    return AdmittedBundle(bundle_id(chain, valid_until_ms, hashes), transactions, hashes, valid_until_ms)


class Admitted(msgspec.Struct, frozen=True):
    """Bundles of one transaction each that came together."""

    bundle_ids: Sequence[BundleId]
    """Their ids, in the order in which they came."""
    windows_ms: Sequence[int]
    """Their windows, in the same order."""
    parcels: Sequence[Parcel]
    """All of them by namespace."""


def admit_at_once(chain: ChainId, bundles: Singles, open_to: Set[Namespace]) -> Admitted | None:
    """Return what `admit` returns for each, if all are for rollups and pass; else None."""
    namespaces = set(bundles.namespaces)
    payloads_bytes, windows_ms = list(map(len, bundles.payloads)), bundles.windows_ms
    if (
        not namespaces <= open_to
        or not namespaces.isdisjoint(SYSTEM_NAMESPACES)
        or not 0 < min(payloads_bytes) <= max(payloads_bytes) <= limits.PAYLOAD_BYTES_MAX
        or not 0 < min(windows_ms) <= max(windows_ms) < 2**63
    ):
        return None
    if len(namespaces) == 1:
        hashes = transaction_hashes(bundles.namespaces[0], bundles.payloads)
    else:
        hashes = list(map(transaction_hash, bundles.namespaces, bundles.payloads))
    bundle_ids = single_ids(chain, windows_ms, hashes)
    return Admitted(bundle_ids, windows_ms, _parcels(bundles, bundle_ids, hashes))


def _parcels(
    bundles: Singles, bundle_ids: Sequence[BundleId], hashes: Sequence[TransactionHash]
) -> list[Parcel]:
    """Return bundles by namespace, those of each in their order."""
    positions: defaultdict[Namespace, list[int]] = defaultdict(list)
    for position, namespace in enumerate(bundles.namespaces):
        positions[namespace].append(position)
    if len(positions) == 1:
        return [Parcel(bundles.namespaces[0], bundle_ids, bundles.payloads, hashes, bundles.windows_ms)]
    return [
        Parcel(
            namespace,
            [bundle_ids[each] for each in chosen],
            [bundles.payloads[each] for each in chosen],
            [hashes[each] for each in chosen],
            [bundles.windows_ms[each] for each in chosen],
        )
        for namespace, chosen in positions.items()
    ]


def _is_plain(bundle: Bundle, open_to: Set[Namespace]) -> bool:
    """Answer whether a bundle is for rollups alone and passes checks 1 to 3, at one look."""
    bundle_bytes = 0
    for namespace, payload in bundle.transactions:
        payload_bytes = len(payload)
        # What is open has a name that is one.
        if namespace not in open_to or namespace in _DECODERS:
            return False
        if not 0 < payload_bytes <= limits.PAYLOAD_BYTES_MAX:
            return False
        bundle_bytes += payload_bytes
    return (
        0 < len(bundle.transactions) <= limits.BUNDLE_TRANSACTIONS_MAX
        and bundle_bytes <= limits.BUNDLE_BYTES_MAX
        and 0 < bundle.valid_until_ms < 2**63
    )


def _verify(bundle: Bundle, open_to: Set[Namespace]) -> None:
    """Make checks 1 to 3, in their order. Raises what they name."""
    _verify_sizes(bundle)
    verify_bundle_shape(bundle)
    for namespace, payload in bundle.transactions:
        decoder = _DECODERS.get(namespace)
        if decoder is not None:
            decoder(payload)
    for namespace, _ in bundle.transactions:
        if namespace not in open_to:
            raise UnknownNamespace(namespace=namespace)


def has_window(valid_until_ms: int, time_ms: int) -> bool:
    """Answer whether a bundle's window is open at a log time."""
    return time_ms < valid_until_ms <= time_ms + limits.VALIDITY_WINDOW_MS_MAX


def verify_window(valid_until_ms: int, time_ms: int) -> None:
    """Check a bundle's window at a log time. Raises Expired or TooFarAhead."""
    if valid_until_ms <= time_ms:
        raise Expired(what="bundle", valid_until_ms=valid_until_ms, time_ms=time_ms)
    latest_ms = time_ms + limits.VALIDITY_WINDOW_MS_MAX
    if valid_until_ms > latest_ms:
        raise TooFarAhead(valid_until_ms=valid_until_ms, latest_ms=latest_ms)


def _verify_sizes(bundle: Bundle) -> None:
    """Tell what is only too large from what is wrong."""
    for _, payload in bundle.transactions:
        if len(payload) > limits.PAYLOAD_BYTES_MAX:
            raise Oversized(what="bytes of the payload", size=len(payload), limit=limits.PAYLOAD_BYTES_MAX)
    if len(bundle.transactions) > limits.BUNDLE_TRANSACTIONS_MAX:
        raise Oversized(
            what="transactions of the bundle",
            size=len(bundle.transactions),
            limit=limits.BUNDLE_TRANSACTIONS_MAX,
        )
    bundle_bytes = sum(len(payload) for _, payload in bundle.transactions)
    if bundle_bytes > limits.BUNDLE_BYTES_MAX:
        raise Oversized(what="bytes of the bundle", size=bundle_bytes, limit=limits.BUNDLE_BYTES_MAX)
