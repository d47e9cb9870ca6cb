"""A chain, its keys and its bundles, and an engine in memory: what the sequencer's unit tests share."""

from collections.abc import Iterable, Mapping, Sequence

from lockstep.attesters import AttesterSet
from lockstep.block import AdmittedBundle, Parcel
from lockstep.genesis import Genesis, Quota, RollupDefinition, Settlement, encode_genesis, parse_genesis
from lockstep.header import Tip, genesis_tip, header_hash, sign_header, tip_of
from lockstep.order import Bundle, Placement, Transaction
from lockstep.settlement_entries import ProvenHeader
from lockstep.signing import SigningKey
from lockstep.types import BundleId, Height, Namespace, PublicKey, RollupId
from sequencer.admission import admit
from sequencer.builder import Proposal, propose
from sequencer.engine import SealedBlock
from sequencer.ledger import encode_shares
from sequencer.waiting import WaitingRoom

SEQUENCER, SETTLEMENT, GOVERNANCE, ATTESTER, STRANGER = (
    SigningKey(bytes([seed]) * 32) for seed in range(1, 6)
)
ALPHA, BETA = Namespace("alpha"), Namespace("beta")
TIME_MS = 1_000_000
AMPLE = Quota(10**9, 10**9)
"""A quota that nobody reaches."""


def make_genesis() -> Genesis:
    """Return a chain with the rollups `alpha` and `beta`."""
    return parse_genesis(
        encode_genesis(
            name="test",
            genesis_time_ms=TIME_MS,
            sequencer=SEQUENCER.public_key,
            settlement=Settlement("test.example/log", SETTLEMENT.public_key),
            governance=GOVERNANCE.public_key,
            rollups=[
                RollupDefinition(RollupId(name), AttesterSet(1, (ATTESTER.public_key,)))
                for name in (ALPHA, BETA)
            ],
            rotation_delay_blocks=5,
        )
    )


GENESIS = make_genesis()
CHAIN = GENESIS.chain_id
START = genesis_tip(CHAIN, TIME_MS)


def bundle(*payloads: bytes, valid_until_ms: int = TIME_MS + 30_000, namespace: Namespace = ALPHA) -> Bundle:
    """Return a bundle of payloads for one namespace."""
    return Bundle(tuple(Transaction(namespace, payload) for payload in payloads), valid_until_ms)


def admitted(
    *payloads: bytes, valid_until_ms: int = TIME_MS + 30_000, namespace: Namespace = ALPHA
) -> AdmittedBundle:
    """Return the same, admitted."""
    return admit(CHAIN, bundle(*payloads, valid_until_ms=valid_until_ms, namespace=namespace), {namespace})


def parcel_of(bundles: Sequence[AdmittedBundle]) -> Parcel:
    """Return bundles of one transaction each, for one namespace, as a parcel."""
    [namespace] = {each.transactions[0].namespace for each in bundles}
    return Parcel(
        namespace,
        [each.bundle_id for each in bundles],
        [each.transactions[0].payload for each in bundles],
        [each.hashes[0] for each in bundles],
        [each.valid_until_ms for each in bundles],
    )


def single_bundles(taken: Iterable[AdmittedBundle | Parcel]) -> list[AdmittedBundle]:
    """Return what was taken, none of which is a parcel."""
    bundles = list(taken)
    assert not any(isinstance(each, Parcel) for each in bundles)
    return [each for each in bundles if isinstance(each, AdmittedBundle)]


def waiting_room(
    *,
    bundles_max: int = 1_000,
    bytes_max: int = 10**9,
    quota: Quota = AMPLE,
    weights: Mapping[Namespace, int] | None = None,
) -> WaitingRoom:
    """Return an empty waiting room."""
    return WaitingRoom(
        log_origin=GENESIS.settlement.origin,
        quota=quota,
        weights=weights or {},
        bundles_max=bundles_max,
        bytes_max=bytes_max,
    )


def proposals(count: int, *, parent: Tip = START, namespace: Namespace = ALPHA) -> list[Proposal]:
    """Return a chain of blocks with one bundle each."""
    made = []
    for number in range(count):
        payload = b"%d after %d" % (number, parent.height)
        made.append(propose(parent, parent.time_ms + 100, [admitted(payload, namespace=namespace)]))
        parent = tip_of(made[-1].block.header, made[-1].block.hash)
    return made


class MemoryEngine:
    """An engine that keeps everything in memory. Implements `sequencer.engine.OrderingEngine`."""

    name = "memory"

    def __init__(self) -> None:
        self.blocks: list[SealedBlock] = []
        self.placements: dict[BundleId, Placement] = {}
        self.first_height = Height(1)
        self.public_key: PublicKey | None = SEQUENCER.public_key

    @property
    def head(self) -> SealedBlock | None:
        """The newest block."""
        return self.blocks[-1] if self.blocks else None

    async def order(self, proposal: Proposal) -> SealedBlock:
        """Keep a block."""
        block = proposal.block
        tip = START
        if self.blocks:
            encoded = self.blocks[-1].header.encoded
            tip = tip_of(self.blocks[-1].header.header, header_hash(encoded))
        if (block.header.height, block.header.parent_hash) != (tip.height + 1, tip.hash):
            raise ValueError("does not follow")
        header = ProvenHeader(block.header_bytes, sign_header(SEQUENCER, block.header_bytes))
        sealed = SealedBlock(block.header.height, header, block.leaves_bytes, encode_shares(block))
        self.blocks.append(sealed)
        self.placements |= {each.bundle_id: each for each in proposal.placements}
        return sealed

    async def read(
        self, heights: range, namespaces: Sequence[Namespace], *, bytes_max: int
    ) -> Sequence[SealedBlock]:
        """Give blocks back."""
        if heights.start < self.first_height or heights.stop > len(self.blocks) + 1:
            raise ValueError("not there")
        shares: list[SealedBlock] = []
        for height in heights:
            shares.append(self.blocks[height - 1].share(namespaces))
            if sum(each.size_bytes for each in shares) > bytes_max and len(shares) > 1:
                return shares[:-1]
        return shares

    async def find(self, bundle_id: BundleId, valid_until_ms: int) -> Placement | None:
        """Find a bundle."""
        return self.placements.get(bundle_id)
