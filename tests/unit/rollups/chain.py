"""A small chain for tests: two rollups, traders, and blocks made as the sequencer makes them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from deploy.audit.blocks import ordered_of
from deploy.audit.plain.chain import Chain as PlainChain
from lockstep import limits
from lockstep.allocations import Allocation
from lockstep.attesters import AttesterSet
from lockstep.block import AdmittedBundle, VerifiedBlock, build_block, verify_block
from lockstep.commitment import commitment_hash
from lockstep.genesis import (
    Asset,
    BankModule,
    EscrowModule,
    Genesis,
    Modules,
    RollupDefinition,
    Settlement,
    encode_genesis,
    parse_genesis,
)
from lockstep.header import Tip, genesis_tip, sign_header, tip_of
from lockstep.order import Transaction, bundle_id, transaction_hash
from lockstep.receipts import Receipt, decode_receipt
from lockstep.settlement_entries import ProvenHeader
from lockstep.signing import SigningKey
from lockstep.swap_entries import (
    Attestation,
    AttestItem,
    RejectReason,
    Verdict,
    encode_open,
    encode_reveal,
    sign_attestation,
    sign_cancel,
)
from lockstep.terms import Leg, LegKind, Premium, Terms, encode_terms, swap_id_of
from lockstep.transactions import Call, sign_transaction
from lockstep.types import (
    LOG_NAMESPACE,
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    HeaderHash,
    Height,
    Namespace,
    RollupId,
    SwapId,
)
from rollups.runtime import Executed, RollupState, apply_block, block_of, genesis_state
from rollups.state import MemoryState
from sequencer.client import FollowedBlock

ALPHA, BETA = RollupId("alpha"), RollupId("beta")
NAMESPACES = (Namespace(ALPHA), Namespace(BETA), SWAP_NAMESPACE, REGISTRY_NAMESPACE, LOG_NAMESPACE)
START_MS = 1_000_000
PREIMAGE = b"p" * 32


def seed(name: str) -> bytes:
    """Return the secret seed of the key that goes by a name."""
    return hashlib.sha256(name.encode()).digest()


def key(name: str) -> SigningKey:
    """Return the key that goes by a name."""
    return SigningKey(seed(name))


ANN, BOB, CARL = key("ann"), key("bob"), key("carl")
SEQUENCER = key("sequencer")
ATTESTERS = {ALPHA: key("attester of alpha"), BETA: key("attester of beta")}


def rollup(
    name: RollupId,
    *,
    escrow: EscrowModule | None = None,
    funds: int = 1_000,
    attesters: AttesterSet | None = None,
) -> RollupDefinition:
    everybody = tuple(Allocation(trader.public_key, funds) for trader in (ANN, BOB))
    assets = (
        Asset("gold", 2, 0, everybody),
        Asset("free", 0, 500, ()),
        Asset("vast", 0, 2**128 - 1, (Allocation(CARL.public_key, 2**128 - 1),)),
    )
    return RollupDefinition(
        id=name,
        attesters=attesters or AttesterSet(1, (ATTESTERS[name].public_key,)),
        modules=Modules(BankModule(assets), escrow or EscrowModule(minimum_lock=5)),
    )


def make_genesis(*rollups: RollupDefinition, anchor_interval_blocks: int = 4) -> Genesis:
    """Return a genesis of these rollups; of alpha and beta by default."""
    return parse_genesis(genesis_file(*rollups, anchor_interval_blocks=anchor_interval_blocks))


def genesis_file(*rollups: RollupDefinition, anchor_interval_blocks: int = 4) -> bytes:
    """Return the file of such a genesis."""
    return encode_genesis(
        name="test",
        genesis_time_ms=START_MS,
        sequencer=SEQUENCER.public_key,
        settlement=Settlement("example.org/test", key("settlement").public_key),
        governance=key("governance").public_key,
        rollups=rollups or (rollup(ALPHA), rollup(BETA)),
        rotation_delay_blocks=10,
        anchor_interval_blocks=anchor_interval_blocks,
    )


@dataclass
class Chain:
    """Makes blocks one after the other, each proven as a follower proves it."""

    genesis: Genesis = field(default_factory=make_genesis)
    blocks: list[FollowedBlock] = field(default_factory=list)
    salts: int = 0

    def __post_init__(self) -> None:
        self.tip: Tip = genesis_tip(self.genesis.chain_id, self.genesis.genesis_time_ms)

    @property
    def time_ms(self) -> int:
        return self.tip.time_ms

    def block(self, *transactions: tuple[str, bytes], advance_ms: int = 100) -> VerifiedBlock:
        """Make the next block, each transaction in a bundle of its own."""
        bundles = []
        for position, (name, payload) in enumerate(transactions):
            transaction = Transaction(Namespace(name), payload)
            hashes = (transaction_hash(*transaction),)
            # Another window for each: the same payload may come twice in a block.
            valid_until_ms = self.time_ms + 30_000 + position
            bundles.append(
                AdmittedBundle(
                    bundle_id(self.genesis.chain_id, valid_until_ms, hashes),
                    (transaction,),
                    hashes,
                    valid_until_ms,
                )
            )
        made = build_block(self.tip, self.time_ms + advance_ms, bundles)
        proven = ProvenHeader(made.header_bytes, sign_header(SEQUENCER, made.header_bytes))
        verified = verify_block(self.tip, made.header_bytes, made.leaves_bytes, made.entries, NAMESPACES)
        self.blocks.append(FollowedBlock(verified, proven, made.header.height))
        self.tip = tip_of(made.header, made.hash)
        return verified

    def signed(
        self,
        signer: SigningKey,
        call: Call,
        *,
        to: RollupId = ALPHA,
        window_ms: int = 30_000,
        salt: bytes | None = None,
    ) -> bytes:
        """Return a signed transaction, with a new salt unless one is given."""
        self.salts += 1
        return sign_transaction(
            signer,
            chain=self.genesis.chain_id,
            rollup=to,
            valid_until_ms=self.time_ms + window_ms,
            salt=salt or self.salts.to_bytes(16, "big"),
            call=call,
        )

    def attest(
        self, *items: tuple[SwapId, int, RejectReason], of: RollupId = ALPHA, height: int | None = None
    ) -> tuple[str, bytes]:
        """Return an attestation of a rollup's attester, LOCKED where the reason is NONE."""
        block = self.blocks[-1 if height is None else height - 1].block
        made = [
            AttestItem(swap_id, leg, Verdict.LOCKED if reason == 0 else Verdict.REJECTED, reason)
            for swap_id, leg, reason in sorted(items)
        ]
        attestation = Attestation(
            self.genesis.chain_id,
            of,
            ATTESTERS[of].public_key,
            Height(block.header.height),
            HeaderHash(block.hash),
            tuple(made),
        )
        return SWAP_NAMESPACE, sign_attestation(ATTESTERS[of], attestation)


@dataclass(frozen=True)
class Swap:
    """Terms with what is needed to play them."""

    terms: Terms
    terms_bytes: bytes
    id: SwapId

    @property
    def open(self) -> tuple[str, bytes]:
        return SWAP_NAMESPACE, encode_open(self.terms_bytes)

    @property
    def reveal(self) -> tuple[str, bytes]:
        return SWAP_NAMESPACE, encode_reveal(self.id, PREIMAGE)

    @property
    def cancel(self) -> tuple[str, bytes]:
        return SWAP_NAMESPACE, sign_cancel(BOB, self.terms.chain, self.id)


def leg(
    name: RollupId, sender: SigningKey, recipient: SigningKey, amount: int, asset: bytes = b"gold"
) -> Leg:
    return Leg(name, LegKind.TRANSFER, sender.public_key, recipient.public_key, asset, amount)


def make_swap(
    chain: Chain,
    *legs: Leg,
    premium: Premium | None = None,
    lock_in_ms: int = 2_000,
    expire_in_ms: int = 10_000,
) -> Swap:
    """Return a swap: by default Ann's 100 gold on alpha for Bob's 40 on beta; Bob has the preimage."""
    chain.salts += 1
    terms = Terms(
        chain=chain.genesis.chain_id,
        legs=legs or (leg(ALPHA, ANN, BOB, 100), leg(BETA, BOB, ANN, 40)),
        hashlock=hashlib.sha256(PREIMAGE).digest(),
        lock_by_ms=chain.time_ms + lock_in_ms,
        expires_ms=chain.time_ms + expire_in_ms,
        revealer=BOB.public_key,
        premium=premium,
        salt=chain.salts.to_bytes(16, "big"),
    )
    encoded = encode_terms(terms)
    return Swap(terms, encoded, swap_id_of(encoded))


class Replica:
    """One rollup, executed in memory, and block after block compared with the plain implementation."""

    def __init__(self, genesis: Genesis, name: RollupId = ALPHA) -> None:
        self.memory = MemoryState()
        self.state: RollupState
        self.state, changes = genesis_state(genesis, name)
        self.memory.apply(changes)
        self.receipts: list[Receipt] = []
        self.plain: PlainChain | None = PlainChain(genesis, [name])
        """Taken away by tests that put another module into the runtime."""

    def apply(self, block: VerifiedBlock) -> Executed:
        executed = apply_block(self.state, self.memory, block_of(block, self.state.rollup))
        self.memory.apply(executed.changes)
        self.state = executed.after
        self.receipts += map(decode_receipt, executed.receipts)
        if self.plain is not None:
            self.plain.register.records_max = limits.REGISTER_RECORDS_MAX
            self.plain.apply(ordered_of(block))
            plain = self.plain.rollups[self.state.rollup]
            assert tuple(plain.receipts) == executed.receipts
            assert plain.commitment(self.plain.height).hash == commitment_hash(self.state.commitment)
        return executed

    def apply_all(self, blocks: Sequence[FollowedBlock]) -> None:
        for followed in blocks:
            self.apply(followed.block)


def changed(swap: Swap, **fields: object) -> Swap:
    """Return a swap with other terms."""
    terms = replace(swap.terms, **fields)  # type: ignore[arg-type]
    encoded = encode_terms(terms)
    return Swap(terms, encoded, swap_id_of(encoded))
