"""A chain with traders and attesters, and an order in memory: what the coordinator's tests share."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from bridge.client import Trader, transfer_leg
from lockstep.attesters import AttesterSet
from lockstep.block import AdmittedBundle, build_block, verify_block
from lockstep.errors import Expired, LockstepError, TimedOut, UselessEntry
from lockstep.genesis import Genesis, RollupDefinition, Settlement, encode_genesis, parse_genesis
from lockstep.header import Tip, genesis_tip, sign_header, tip_of
from lockstep.order import Bundle, Transaction, bundle_id_of, transaction_hash
from lockstep.register import Register, apply_block, genesis_register, input_of, useless_reasons
from lockstep.settlement_entries import ProvenHeader
from lockstep.signing import SigningKey
from lockstep.swap_entries import (
    Attestation,
    AttestItem,
    RejectReason,
    Verdict,
    decode_swap_entry,
    sign_attestation,
)
from lockstep.terms import Premium
from lockstep.types import (
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    BundleId,
    Height,
    Namespace,
    RollupId,
    SwapId,
)
from sequencer.client import FollowedBlock, KeyAt, Ordered, Placement

SEQUENCER, SETTLEMENT, GOVERNANCE, ATTEST_ALPHA, ATTEST_BETA = (
    SigningKey(bytes([seed]) * 32) for seed in range(1, 6)
)
ALPHA, BETA = RollupId("alpha"), RollupId("beta")
ATTESTERS = {ALPHA: ATTEST_ALPHA, BETA: ATTEST_BETA}
TIME_MS = 1_000_000

GENESIS_BYTES = encode_genesis(
    name="test",
    genesis_time_ms=TIME_MS,
    sequencer=SEQUENCER.public_key,
    settlement=Settlement("test.example/log", SETTLEMENT.public_key),
    governance=GOVERNANCE.public_key,
    rollups=[RollupDefinition(name, AttesterSet(1, (key.public_key,))) for name, key in ATTESTERS.items()],
    rotation_delay_blocks=5,
)
GENESIS: Genesis = parse_genesis(GENESIS_BYTES)
CHAIN = GENESIS.chain_id
START = genesis_tip(CHAIN, TIME_MS)

ANN, BOB, EVE = (Trader(SigningKey(bytes([seed]) * 32), GENESIS) for seed in (11, 12, 13))


def make_terms(
    number: int = 0,
    *,
    time_ms: int = TIME_MS,
    lock_within_ms: int = 20_000,
    reveal_within_ms: int = 20_000,
    premium: Premium | None = None,
) -> bytes:
    """Return Ann's terms: 100 of her RED on alpha for 200 of Bob's BLUE on beta. A number is a swap."""
    legs = [
        transfer_leg(rollup=ALPHA, sender=ANN.account, recipient=BOB.account, asset="RED", amount=100),
        transfer_leg(rollup=BETA, sender=BOB.account, recipient=ANN.account, asset="BLUE", amount=200),
    ]
    return ANN.new_terms(
        legs,
        time_ms=time_ms,
        lock_within_ms=lock_within_ms,
        reveal_within_ms=reveal_within_ms,
        premium=premium,
        salt=number.to_bytes(16, "big"),
    )


def locks_of(terms_bytes: bytes, *, valid_until_ms: int | None = None) -> list[bytes]:
    """Return both signed locks, in order of the legs."""
    return [
        trader.sign_lock(terms_bytes, leg, valid_until_ms=valid_until_ms)
        for leg, trader in enumerate((ANN, BOB))
    ]


class FakeOrder:
    """An order in memory, as `bridge.order.Order`. Blocks are made when a test says so, or for each bundle.

    Like the sequencer it gives a bundle its first receipt again, refuses one whose window has passed, and one
    with an entry that the register would ignore. Unlike it, it can be told to fail.
    """

    def __init__(self, *, is_automatic: bool = False) -> None:
        self.is_automatic = is_automatic
        """Whether each bundle is ordered at once, in a block of its own."""
        self.is_admitting = True
        """Whether useless entries are refused."""
        self.loses_answers = 0
        """So many next bundles are ordered without an answer."""
        self.failures: list[LockstepError] = []
        """What the next submissions get instead of being taken in."""
        self.submitted: list[Bundle] = []
        """Every bundle of every attempt."""
        self.waiting: dict[BundleId, Bundle] = {}
        """Bundles that were taken in and are not ordered."""
        self.ordered: dict[BundleId, Ordered] = {}
        self.blocks: list[FollowedBlock] = []
        self.register: Register = genesis_register(GENESIS)
        self.tip: Tip = START
        self._grown = asyncio.Event()

    @property
    def time_ms(self) -> int:
        return self.tip.time_ms

    def block(self, *bundles: Bundle, advance_ms: int = 100, takes_waiting: bool = True) -> int:
        """Make the next block of what waits and of `bundles`, and return its height."""
        time_ms = self.tip.time_ms + advance_ms
        taken = [*(self.waiting.values() if takes_waiting else ()), *bundles]
        taken = [each for each in taken if time_ms < each.valid_until_ms]
        made = build_block(self.tip, time_ms, [_admit(each) for each in taken])
        proven = ProvenHeader(made.header_bytes, sign_header(SEQUENCER, made.header_bytes))
        verified = verify_block(
            self.tip,
            made.header_bytes,
            made.leaves_bytes,
            made.entries,
            (SWAP_NAMESPACE, REGISTRY_NAMESPACE, Namespace(ALPHA), Namespace(BETA)),
        )
        first_index = 0
        for each in taken:
            bundle_id = bundle_id_of(CHAIN, each)
            place = Placement(bundle_id, made.header.height, first_index, len(each.transactions))
            self.ordered[bundle_id] = Ordered(place, proven)
            self.waiting.pop(bundle_id, None)
            first_index += place.count
        self.register, _ = apply_block(self.register, input_of(verified))
        self.tip = tip_of(made.header, made.hash)
        self.blocks.append(FollowedBlock(verified, proven, made.header.height))
        self._tell()
        return made.header.height

    def pass_time(self, until_ms: int) -> None:
        """Make blocks without anything until log time is `until_ms` or a little later."""
        while self.time_ms < until_ms:
            self.block(advance_ms=min(2_000, max(1, until_ms - self.time_ms)), takes_waiting=False)

    def attest(
        self, swap_id: SwapId, leg: int, verdict: Verdict = Verdict.LOCKED, *, in_block: bool = True
    ) -> Bundle:
        """Make a block with an attestation of a leg at the newest height, as its rollup would."""
        record = self.register.record(swap_id)
        assert record is not None
        rollup = record.terms.legs[leg].rollup
        key = ATTESTERS[rollup]
        reason = RejectReason.NONE if verdict is Verdict.LOCKED else RejectReason.INSUFFICIENT_FUNDS
        item = AttestItem(swap_id, leg, verdict, reason)
        attestation = Attestation(CHAIN, rollup, key.public_key, self.tip.height, self.tip.hash, (item,))
        entry = sign_attestation(key, attestation)
        bundle = Bundle((Transaction(SWAP_NAMESPACE, entry),), self.time_ms + 30_000)
        if in_block:
            self.block(bundle)
        return bundle

    def entries(self, namespace: str = SWAP_NAMESPACE) -> list[bytes]:
        """Return every payload of a namespace, in order."""
        name = Namespace(namespace)
        return [entry.payload for each in self.blocks for entry in each.block.entries[name]]

    async def submit(self, bundle: Bundle, *, timeout_ms: int = 10_000) -> Ordered:
        self.submitted.append(bundle)
        if self.failures:
            raise self.failures.pop(0)
        bundle_id = bundle_id_of(CHAIN, bundle)
        if bundle_id not in self.ordered:
            self._admit(bundle)
            self.waiting[bundle_id] = bundle
            self._tell()
            if self.is_automatic:
                self.block()
        if self.loses_answers:
            self.loses_answers -= 1
            raise TimedOut(peer="the order")
        while bundle_id not in self.ordered:
            await self._grown.wait()
        return self.ordered[bundle_id]

    async def follow(
        self, *, tip: Tip, namespaces: Sequence[Namespace], sequencer_key: KeyAt
    ) -> AsyncIterator[FollowedBlock]:
        height = tip.height
        while True:
            grown = self._grown
            while height < len(self.blocks):
                followed = self.blocks[height]
                height = Height(height + 1)
                assert sequencer_key(height) == SEQUENCER.public_key
                yield FollowedBlock(followed.block, followed.header, Height(len(self.blocks)))
            await grown.wait()

    def _admit(self, bundle: Bundle) -> None:
        if self.time_ms >= bundle.valid_until_ms:
            raise Expired(what="bundle", valid_until_ms=bundle.valid_until_ms, time_ms=self.time_ms)
        if not self.is_admitting:
            return
        entries = [
            decode_swap_entry(payload) for name, payload in bundle.transactions if name == SWAP_NAMESPACE
        ]
        height, time_ms = Height(self.tip.height + 1), self.time_ms + 1
        for entry, reason in zip(
            entries, useless_reasons(self.register, entries, height=height, time_ms=time_ms), strict=True
        ):
            if reason is not None:
                raise UselessEntry(kind=type(entry).__name__, reason=reason)

    def _tell(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


def _admit(bundle: Bundle) -> AdmittedBundle:
    hashes = tuple(transaction_hash(*each) for each in bundle.transactions)
    return AdmittedBundle(bundle_id_of(CHAIN, bundle), bundle.transactions, hashes, bundle.valid_until_ms)


def swap_bundle(*entries: bytes, valid_until_ms: int) -> Bundle:
    """Return a bundle of `_swap` entries."""
    return Bundle(tuple(Transaction(SWAP_NAMESPACE, entry) for entry in entries), valid_until_ms)


def kinds(bundle: Bundle) -> list[str]:
    """Return what is in a bundle: the kinds of `_swap` entries, the names of rollups."""
    return [
        type(decode_swap_entry(payload)).__name__ if name == SWAP_NAMESPACE else name
        for name, payload in bundle.transactions
    ]
