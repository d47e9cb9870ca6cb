"""What goes into one block: in order, whole, within the limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import limits
from lockstep.block import AdmittedBundle, Parcel, verify_block
from lockstep.order import ENTRY_PREFIX_BYTES, Transaction
from lockstep.types import Namespace
from sequencer.builder import Room, footprints_of, footprints_of_parcel, propose
from tests.unit.sequencer.chain import ALPHA, BETA, START, TIME_MS, admitted, parcel_of

FULL = limits.PAYLOAD_BYTES_MAX
SIZES = st.sampled_from([1, 100, limits.PAYLOAD_BYTES_MAX])
BUNDLES = st.lists(
    st.builds(
        lambda sizes, until, namespace, salt: admitted(
            *(bytes(size - 1) + bytes([salt]) for size in sizes), valid_until_ms=until, namespace=namespace
        ),
        st.lists(SIZES, min_size=1, max_size=4),
        st.integers(TIME_MS - 2, TIME_MS + 2),
        st.sampled_from([ALPHA, BETA]),
        st.integers(0, 255),
    ),
    max_size=60,
    unique_by=lambda bundle: bundle.bundle_id,
)


def size_of(bundle: AdmittedBundle) -> int:
    size_bytes = footprints_of(bundle).entry_bytes
    assert size_bytes == sum(ENTRY_PREFIX_BYTES + len(payload) for _, payload in bundle.transactions)
    return size_bytes


@given(BUNDLES)
def test_room_takes_what_fits_and_refusals_change_nothing(bundles: list[AdmittedBundle]) -> None:
    room = Room()
    taken = [each for each in bundles if room.take(footprints_of(each))]
    assert sum(map(size_of, taken)) <= limits.BLOCK_BYTES_MAX
    again = Room()
    assert all(map(again.take, map(footprints_of, taken)))
    for left in (each for each in bundles if each not in taken):
        assert not again.take(footprints_of(left))
        assert sum(map(size_of, [*taken, left])) > limits.BLOCK_BYTES_MAX


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize(
    ("bundles", "fitting"),
    [
        ([admitted(*[b"x"] * 32) for _ in range(520)], limits.BLOCK_TRANSACTIONS_MAX // 32),
        (
            [admitted(bytes(FULL), salt, *[bytes(FULL)] * 2) for salt in [b"%d" % n for n in range(30)]],
            limits.BLOCK_BYTES_MAX // (3 * (FULL + 200)),
        ),
        (
            [admitted(b"x", namespace=Namespace(f"r{number}")) for number in range(1_030)],
            limits.BLOCK_NAMESPACES_MAX,
        ),
    ],
    ids=["transactions", "bytes", "namespaces"],
)
def test_counts_are_limited_too(bundles: list[AdmittedBundle], fitting: int, share: int) -> None:
    room = Room(share=share)
    limit = fitting if fitting == limits.BLOCK_NAMESPACES_MAX else fitting // share
    assert sum(map(room.take, map(footprints_of, bundles))) == limit


def test_a_block_of_parcels_is_the_block_of_their_bundles() -> None:
    alphas = [admitted(b"a%d" % number, valid_until_ms=TIME_MS + 1_000 * number) for number in range(1, 6)]
    betas = [admitted(b"b%d" % number, namespace=BETA) for number in range(4)]
    mixed = admitted(b"x", b"y")
    alone = [*alphas[:2], mixed, *betas, *alphas[2:]]
    parcels: list[AdmittedBundle | Parcel] = [
        parcel_of(alphas[:2]),
        mixed,
        parcel_of(betas),
        parcel_of(alphas[2:]),
    ]
    one, other = propose(START, TIME_MS + 1, alone), propose(START, TIME_MS + 1, parcels)
    assert (one.block, one.placements) == (other.block, other.placements)
    assert one.block.header.bundle_count == len(alone)


def test_as_much_of_a_parcel_is_taken_as_fits() -> None:
    parcel = parcel_of([admitted(b"%d" % number + bytes(65_000)) for number in range(40)])
    fitting = limits.BLOCK_BYTES_MAX // footprints_of_parcel(parcel[:1]).entry_bytes
    assert Room().part_of(parcel) == fitting
    room = Room()
    assert room.take(footprints_of_parcel(parcel[:5]))
    assert room.part_of(parcel) == fitting - 5
    small = parcel_of([admitted(b"%d" % number) for number in range(20)])
    crowd = Room(share=limits.BLOCK_TRANSACTIONS_MAX // 8)
    assert crowd.part_of(small) == 8


@given(BUNDLES)
def test_a_proposal_verifies_and_its_placements_are_right(bundles: list[AdmittedBundle]) -> None:
    room = Room()
    chosen = [each for each in bundles if room.take(footprints_of(each))]
    proposal = propose(START, TIME_MS + 1, chosen)
    block = proposal.block
    verified = verify_block(START, block.header_bytes, block.leaves_bytes, block.entries, (ALPHA, BETA))
    placed = {
        entry.index: (entry, Transaction(namespace, entry.payload))
        for namespace, entries in verified.entries.items()
        for entry in entries
    }
    assert list(proposal.bundles) == chosen
    for bundle, placement in zip(chosen, proposal.placements, strict=True):
        span = range(placement.first_index, placement.first_index + placement.count)
        assert tuple(placed[index][1] for index in span) == bundle.transactions
        assert {placed[index][0].bundle_id for index in span} == {placement.bundle_id}
        assert (placement.bundle_id, placement.height) == (bundle.bundle_id, block.header.height)
