"""What may be ordered at all, check by check, and that checks come in their order."""

import pytest

from lockstep import limits
from lockstep.errors import Expired, LockstepError, Malformed, Oversized, TooFarAhead, UnknownNamespace
from lockstep.order import Bundle, Singles, Transaction, bundle_id_of, transaction_hash
from lockstep.registry import Registry
from lockstep.settlement_entries import encode_log_entry
from lockstep.swap_entries import encode_reveal
from lockstep.types import SWAP_NAMESPACE, Namespace, SwapId
from sequencer.admission import admit, admit_at_once, open_namespaces, verify_window
from tests.unit.sequencer.chain import ALPHA, BETA, CHAIN, GENESIS, TIME_MS, bundle, parcel_of

OPEN = open_namespaces(Registry.from_genesis(GENESIS))
REVEAL = encode_reveal(SwapId(bytes(32)), bytes(32))
FULL = limits.PAYLOAD_BYTES_MAX
GAMMA = Namespace("gamma")


def refusal(sent: Bundle) -> LockstepError:
    with pytest.raises(LockstepError) as refused:
        admit(CHAIN, sent, OPEN)
    return refused.value


def test_rollups_of_genesis_and_the_system_are_open() -> None:
    assert open_namespaces(Registry.from_genesis(GENESIS)) == {ALPHA, BETA, "_swap", "_registry", "_log"}


def test_a_good_bundle_comes_with_its_hashes() -> None:
    sent = Bundle((Transaction(ALPHA, b"x"), Transaction(SWAP_NAMESPACE, REVEAL)), TIME_MS)
    admitted = admit(CHAIN, sent, OPEN)
    assert admitted.bundle_id == bundle_id_of(CHAIN, sent)
    assert admitted.hashes == (transaction_hash("alpha", b"x"), transaction_hash("_swap", REVEAL))
    assert (admitted.transactions, admitted.valid_until_ms) == (sent.transactions, TIME_MS)


@pytest.mark.parametrize(
    "sent",
    [
        bundle(*[b"x"] * limits.BUNDLE_TRANSACTIONS_MAX),
        bundle(*[bytes(FULL)] * (limits.BUNDLE_BYTES_MAX // FULL)),
        bundle(encode_log_entry(b"note"), namespace=Namespace("_log")),
    ],
    ids=["most transactions", "most bytes", "log entry"],
)
def test_up_to_the_limits(sent: Bundle) -> None:
    assert admit(CHAIN, sent, OPEN).bundle_id == bundle_id_of(CHAIN, sent)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (Bundle((), TIME_MS), Malformed),
        (bundle(b""), Malformed),
        (bundle(b"x", namespace=Namespace("Alpha")), Malformed),
        (bundle(b"x", namespace=Namespace("_other")), Malformed),
        (bundle(b"x", namespace=SWAP_NAMESPACE), Malformed),
        (bundle(REVEAL + b"x", namespace=SWAP_NAMESPACE), Malformed),
        (bundle(b"x", namespace=Namespace("_registry")), Malformed),
        (bundle(b"x", namespace=Namespace("_log")), Malformed),
        (bundle(b"x", valid_until_ms=0), Malformed),
        (bundle(b"x", valid_until_ms=2**63), Malformed),
        (bundle(bytes(FULL + 1)), Oversized),
        (bundle(*[b"x"] * (limits.BUNDLE_TRANSACTIONS_MAX + 1)), Oversized),
        (bundle(*[bytes(FULL)] * (limits.BUNDLE_BYTES_MAX // FULL), b"x"), Oversized),
        (bundle(b"x", namespace=GAMMA), UnknownNamespace),
        # Sizes before layout before registration.
        (bundle(bytes(FULL + 1), b"", namespace=GAMMA), Oversized),
        (Bundle((Transaction(GAMMA, b"x"), Transaction(SWAP_NAMESPACE, b"x")), TIME_MS), Malformed),
    ],
)
def test_what_is_refused(sent: Bundle, expected: type[LockstepError]) -> None:
    assert type(refusal(sent)) is expected


SINGLES = Singles([ALPHA] * 3, [b"a", b"b", bytes(FULL)], [TIME_MS, TIME_MS + 1, TIME_MS])


def test_many_for_one_rollup_are_admitted_as_each_would_be() -> None:
    admitted = admit_at_once(CHAIN, SINGLES, OPEN)
    assert admitted is not None
    [parcel] = admitted.parcels
    alone = [admit(CHAIN, each, OPEN) for each in SINGLES]
    assert parcel == parcel_of(alone)
    assert (parcel[1:], parcel[:1] + parcel[1:]) == (parcel_of(alone[1:]), parcel)
    assert admitted.bundle_ids == [each.bundle_id for each in alone]


def test_those_of_several_rollups_come_by_rollup() -> None:
    sent = Singles([ALPHA, BETA, ALPHA], [b"a", b"b", b"c"], [TIME_MS, TIME_MS + 1, TIME_MS + 2])
    admitted = admit_at_once(CHAIN, sent, OPEN)
    first, second, third = (admit(CHAIN, each, OPEN) for each in sent)
    assert admitted is not None
    assert admitted.parcels == [parcel_of([first, third]), parcel_of([second])]
    assert admitted.bundle_ids == [each.bundle_id for each in (first, second, third)]
    assert admitted.windows_ms == sent.windows_ms


@pytest.mark.parametrize(
    "odd",
    [
        Bundle((Transaction(ALPHA, b""),), TIME_MS),
        Bundle((Transaction(ALPHA, bytes(FULL + 1)),), TIME_MS),
        Bundle((Transaction(GAMMA, b"x"),), TIME_MS),
        Bundle((Transaction(SWAP_NAMESPACE, REVEAL),), TIME_MS),
        Bundle((Transaction(ALPHA, b"x"),), 0),
        Bundle((Transaction(ALPHA, b"x"),), 2**63),
    ],
    ids=["empty", "oversized", "a stranger's", "the system's", "no window", "no log time"],
)
@pytest.mark.parametrize("place", [0, 1])
def test_if_one_is_not_like_that_each_is_looked_at(odd: Bundle, place: int) -> None:
    bundles = [*SINGLES]
    bundles.insert(place, odd)
    transactions = [each.transactions[0] for each in bundles]
    singles = Singles(
        [each.namespace for each in transactions],
        [each.payload for each in transactions],
        [each.valid_until_ms for each in bundles],
    )
    assert [*singles] == bundles
    assert admit_at_once(CHAIN, singles, OPEN) is None


def test_the_window_is_open_at_its_end_and_closed_at_its_start() -> None:
    latest_ms = TIME_MS + limits.VALIDITY_WINDOW_MS_MAX
    verify_window(TIME_MS + 1, TIME_MS)
    verify_window(latest_ms, TIME_MS)
    with pytest.raises(Expired):
        verify_window(TIME_MS, TIME_MS)
    with pytest.raises(TooFarAhead):
        verify_window(latest_ms + 1, TIME_MS)
