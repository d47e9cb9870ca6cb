"""Random histories of two rollups that trade with each other, made from numbers so that they can be repeated.

Attesters are honest: they attest what their own replica found, some blocks later or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lockstep.commitment import StateKey
from lockstep.encoding import Reader
from lockstep.receipts import SettledReceipt, SettlementCode, UnbackedReceipt
from lockstep.register import Phase, SwapRecord
from lockstep.swap_entries import RejectReason
from lockstep.terms import Premium, PremiumShare
from lockstep.transactions import Faucet, Lock, Transfer
from lockstep.types import RollupId, SwapId
from rollups.outbox import Outbox, outstanding
from rollups.runtime import escrows_in
from rollups.state import MemoryState
from tests.unit.rollups.chain import (
    ALPHA,
    ANN,
    ATTESTERS,
    BETA,
    BOB,
    CARL,
    Chain,
    Replica,
    Swap,
    leg,
    make_swap,
)

TRADERS = (ANN, BOB, CARL)
ASSETS = (b"gold", b"free", b"lead")
Action = tuple[int, int, int]
"""What happens, and two numbers that say to whom."""

KINDS = ("transfer", "faucet", "open", "lock", "lock", "attest", "reveal", "cancel", "again", "block", "deal")


@dataclass
class History:
    """Plays actions, one block after the other."""

    chain: Chain = field(default_factory=Chain)
    swaps: list[Swap] = field(default_factory=list)
    waiting: list[tuple[str, bytes]] = field(default_factory=list)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    decided: dict[SwapId, SwapRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replicas: Mapping[RollupId, Replica] = {
            name: Replica(self.chain.genesis, name) for name in (ALPHA, BETA)
        }

    def play(self, actions: Iterable[Action]) -> None:
        for kind, first, second in actions:
            self.act(KINDS[kind % len(KINDS)], first, second)
        self.block(100)

    def finish(self) -> None:
        """Let log time pass until every swap is decided."""
        while any(not record.is_terminal for record in self.replicas[ALPHA].state.register.records.values()):
            self.block(2_000)

    def act(self, kind: str, first: int, second: int) -> None:
        rollup = (ALPHA, BETA)[first % 2]
        trader, other = TRADERS[first % 3], TRADERS[second % 3]
        asset = ASSETS[second % 3]
        match kind:
            case "transfer":
                call = Transfer(asset, other.public_key, 50 * (first % 9))
                self.waiting.append((rollup, self.chain.signed(trader, call, to=rollup)))
            case "faucet":
                call_faucet = Faucet(asset, 100 * (second % 7))
                self.waiting.append((rollup, self.chain.signed(trader, call_faucet, to=rollup)))
            case "open":
                self.open(first, second)
            case "lock" if self.swaps:
                self.lock(self.swaps[first % len(self.swaps)], first, second)
            case "attest":
                self.attest((ALPHA, BETA)[second % 2])
            case "reveal" if self.swaps:
                self.waiting.append(self.swaps[first % len(self.swaps)].reveal)
            case "cancel" if self.swaps and second % 3 == 0:
                self.waiting.append(self.swaps[first % len(self.swaps)].cancel)
            case "again" if self.sent:
                self.waiting.append(self.sent[first % len(self.sent)])
            case "block":
                self.block(1 + (300 * first + 17 * second) % 900)
            case "deal":
                self.deal(first, second)

    def open(self, first: int, second: int) -> None:
        amount = 60 * (1 + first % 12)
        legs = [leg(ALPHA, ANN, BOB, amount), leg(BETA, BOB, ANN, 3 + 40 * (second % 9))]
        if first % 4 == 0:
            legs.append(leg(BETA, CARL, ANN, 10 + second % 50, b"free"))
        premium = None
        if second % 2:
            shares = (PremiumShare(BOB.public_key, 5), PremiumShare(CARL.public_key, 1 + first % 20))
            premium = Premium(second % len(legs), shares)
        expire_in_ms = 7_000 + 2_000 * (second % 3)
        swap = make_swap(self.chain, *legs, premium=premium, lock_in_ms=1_500, expire_in_ms=expire_in_ms)
        self.swaps.append(swap)
        self.waiting.append(swap.open)

    def deal(self, first: int, second: int) -> None:
        """Open a swap, have every sender lock, attest what came of it; then reveal, or cancel, or neither."""
        self.open(first, second)
        swap = self.swaps[-1]
        for place in range(len(swap.terms.legs)):
            self.lock_leg(swap, place, by_sender=True, first=first)
        self.block(50)
        self.attest(ALPHA)
        self.attest(BETA)
        self.block(50)
        if second % 4 < 2:
            self.waiting.append(swap.reveal)
        elif second % 4 == 2:
            self.waiting.append(swap.cancel)

    def lock(self, swap: Swap, first: int, second: int) -> None:
        """Lock a leg, four times of five by its sender."""
        self.lock_leg(swap, second % len(swap.terms.legs), by_sender=second % 5 != 0, first=first)

    def lock_leg(self, swap: Swap, place: int, *, by_sender: bool, first: int) -> None:
        wanted = swap.terms.legs[place]
        sender = next(trader for trader in TRADERS if trader.public_key == wanted.sender)
        signer = sender if by_sender else TRADERS[first % 3]
        signed = self.chain.signed(signer, Lock(swap.id, place), to=wanted.rollup, window_ms=5_000)
        self.waiting.append((wanted.rollup, signed))

    def attest(self, rollup: RollupId) -> None:
        if not self.chain.blocks:
            return
        outbox = self.outbox(rollup)
        items = [(swap_id, place, RejectReason(escrow.reason)) for (swap_id, place), escrow in outbox.items()]
        if items:
            self.waiting.append(self.chain.attest(*items, of=rollup))

    def outbox(self, rollup: RollupId) -> Outbox:
        replica = self.replicas[rollup]
        escrows = escrows_in(replica.memory.values.items())
        return outstanding(escrows, replica.state.register, ATTESTERS[rollup].public_key)

    def block(self, advance_ms: int) -> None:
        block = self.chain.block(*self.waiting, advance_ms=advance_ms)
        self.sent += self.waiting
        self.waiting = []
        for replica in self.replicas.values():
            replica.apply(block)
        for record in self.replicas[ALPHA].state.register.records.values():
            if record.is_terminal:
                self.decided[record.swap_id] = record


def verify_conservation(memory: MemoryState) -> None:
    """Balances and escrow of each asset make its supply, which only genesis and faucets change."""
    held: dict[bytes, int] = {}
    supply: dict[bytes, int] = {}
    open_locks: dict[bytes, int] = {}
    counted: dict[bytes, int] = {}
    for key, value in memory.values.items():
        reader = Reader(key, "key")
        match reader.u8("kind"):
            case StateKey.BALANCE:
                asset = reader.var8("asset")
                assert int.from_bytes(value, "big") > 0, "a balance of zero is absent"
                held[asset] = held.get(asset, 0) + int.from_bytes(value, "big")
            case StateKey.SUPPLY:
                supply[reader.var8("asset")] = int.from_bytes(value, "big")
            case StateKey.OPEN_LOCKS:
                counted[reader.take(32, "account")] = int.from_bytes(value, "big")
    for escrow in escrows_in(memory.values.items()).values():
        if escrow.amount:
            held[escrow.asset] = held.get(escrow.asset, 0) + escrow.amount + escrow.premium
            open_locks[escrow.sender] = open_locks.get(escrow.sender, 0) + 1
    assert held == supply
    assert open_locks == counted


def verify_escrows_are_open(replica: Replica) -> None:
    """An escrow record stands only while its swap is recorded and undecided."""
    for swap_id, _ in escrows_in(replica.memory.values.items()):
        record = replica.state.register.record(swap_id)
        assert record is not None
        assert not record.is_terminal


def verify_both_or_neither(history: History) -> None:
    """Every decided swap moved all its legs or none: a leg has one end, that of its swap."""
    ends: dict[tuple[SwapId, int], SettledReceipt] = {}
    for replica in history.replicas.values():
        for receipt in replica.receipts:
            assert not isinstance(receipt, UnbackedReceipt), "attesters are honest here"
            if isinstance(receipt, SettledReceipt):
                assert (receipt.subject, receipt.leg) not in ends, "a leg is settled once"
                ends[receipt.subject, receipt.leg] = receipt
    assert {swap_id for swap_id, _ in ends} <= history.decided.keys()
    for swap_id, record in history.decided.items():
        legs = [ends.get((swap_id, place)) for place in range(len(record.terms.legs))]
        codes = {end.code for end in legs if end is not None}
        if record.phase == Phase.COMMITTED:
            assert None not in legs
            assert codes == {SettlementCode.COMMITTED}
        else:
            assert codes <= {SettlementCode.ABORTED}


def commitments(history: History) -> Sequence[bytes]:
    """Return the roots of both rollups after the last block."""
    roots = []
    for replica in history.replicas.values():
        commitment = replica.state.commitment
        roots += [commitment.state_root, commitment.receipts_root, commitment.register_root]
    return roots
