"""What traders' commands do to the coordinator's swaps.

Owns their rules: what is answered, what is refused and in which order that is checked. Changes the book;
reads the database for what is over and no longer in memory. Invariant: a repeated request changes nothing
and gets the answer of the first.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from google.protobuf.message import Message

from bridge import storage
from bridge import swap as rules
from bridge.blocks import ENTRY_NAMES, opened_ids, plan
from bridge.book import Book
from bridge.commands import Accept, Command, Follow, Propose, Reveal, Withdraw
from bridge.history import local_event, name_leg
from bridge.phases import UNORDERED, LegState, Phase
from bridge.reading import Views
from bridge.requests import Proposal, verify_cancel, verify_lock_fits, verify_openable
from bridge.swap import RevealPolicy, Sending, SendKind, Swap, is_preimage_of
from deploy.node.database import Database
from lockstep import swap_entries
from lockstep.errors import Conflict, NotReady, QueueFull, UnknownSwap, UselessEntry
from lockstep.register import useless_reason
from lockstep.types import ChainId, Height, SwapId
from lockstep.v1 import bridge_pb2

UNORDERED_SWAPS_MAX: Final = 16_384
"""Swaps that wait for their locks or for the order, at which proposals are refused."""


class Calls:
    """Does what traders ask; for the writer task alone."""

    def __init__(self, book: Book, database: Database) -> None:
        """Change `book`; look into `database` for what it does not hold any more."""
        self._book = book
        self._database = database
        self._views = Views(database)
        self._requests: Mapping[bytes, tuple[SwapId, RevealPolicy]] = {}
        self.over: Mapping[SwapId, Swap] = {}
        """Swaps that are over, of those that the batch is about."""
        self.is_caught_up = False
        """Whether the newest block was followed once, so that what is unknown here is not in the order."""

    async def look_up(self, commands: Iterable[Command]) -> None:
        """Read at once what the database holds of what a batch of commands is about."""
        keys = [each.proposal.idempotency_key for each in commands if isinstance(each, Propose)]
        self._requests = await storage.load_requests(self._database, keys)
        swap_ids = {swap_id for each in commands for swap_id in subjects(each)} - self._book.live.keys()
        self.over = await storage.load_final(self._database, swap_ids, self._book.register)

    async def answer(self, swap_id: SwapId) -> Message:
        """Return how a swap stands after the batch, for whom `propose` and `accept` answered with its id."""
        if swap_id in self.over and swap_id not in self._book.live:
            view = await self._views.swap(swap_id)
            assert view is not None, "it was in the database"
            return view
        return self._book.told(swap_id)

    def propose(self, command: Propose) -> SwapId:
        """Register terms, or find them registered.

        Order of checks: the key's earlier request, the terms' registration, times and rollups, room.
        """
        proposal = command.proposal
        known = self._book.batch.proposals.get(proposal.idempotency_key)
        known = known or self._requests.get(proposal.idempotency_key)
        if known is not None and known != (proposal.swap_id, proposal.policy):
            raise Conflict(subject="proposal with idempotency key", key=proposal.idempotency_key.hex())
        if known is None:
            self._register(proposal)
            self._book.add_proposal(proposal)
        return proposal.swap_id

    def accept(self, command: Accept) -> SwapId:
        """Take a lock. A leg's first lock stands as long as it can act; an expired one makes room.

        Order of checks: the swap, the lock's repetition, its fit (`verify_lock_fits`), whether it is still
        needed, whether another is there.
        """
        swap, leg = self._get(command.swap_id), command.leg
        given = swap.locks.get(leg)
        if given is not None and given.payload == command.lock.payload:
            return swap.swap_id
        time_ms = self._book.register.time_ms
        lock = verify_lock_fits(command.lock, swap.terms, swap.swap_id, leg, time_ms=time_ms)
        # A swap that is over was opened or lapsed, and an attested leg is locked or rejected: nothing to do.
        if swap.is_final or swap.leg_states[leg] in (LegState.LOCKED, LegState.REJECTED):
            return swap.swap_id
        if given is not None:
            raise Conflict(subject=f"lock of {name_leg(swap, leg)} of swap", key=swap.swap_id.hex())
        text = f"the lock of {name_leg(swap, leg)}, valid until {lock.valid_until_ms}"
        self._book.put(rules.with_lock(swap, leg, lock), local_event("given", text, time_ms=time_ms))
        plan(self._book, swap.swap_id)
        return swap.swap_id

    async def reveal(self, command: Reveal) -> Message | None:
        """Have a preimage sent. Returns the answer if a Reveal acted before, else None: it comes later."""
        swap = self._get(command.swap_id)
        if not is_preimage_of(command.preimage, swap.terms):
            raise UselessEntry(kind="Reveal", reason="the preimage does not open the hashlock")
        # Before it is revealed nothing can have acted, and nobody waits for a look into the database.
        is_revealed = swap.is_final or swap.phase is Phase.REVEALED
        if is_revealed and (acted := await self._acted(swap.swap_id, SendKind.REVEAL)) is not None:
            return bridge_pb2.RevealResponse.FromString(acted)
        self._insist_useful(swap, swap_entries.Reveal(swap.swap_id, command.preimage), SendKind.REVEAL)
        chain, time_ms = self._now
        self._send(swap, rules.reveal(swap, command.preimage, chain=chain, time_ms=time_ms, is_asked=True))
        return None

    async def withdraw(self, command: Withdraw) -> Message | None:
        """Have a cancellation sent. Returns the answer if one acted before, else None: it comes later."""
        swap = self._get(command.entry.swap_id)
        verify_cancel(command.entry, swap.terms)
        if swap.is_final and (acted := await self._acted(swap.swap_id, SendKind.CANCEL)) is not None:
            return bridge_pb2.CancelResponse.FromString(acted)
        self._insist_useful(swap, command.entry, SendKind.CANCEL)
        chain, time_ms = self._now
        encoded = swap_entries.encode_swap_entry(command.entry)
        self._send(swap, rules.cancel(swap, encoded, chain=chain, time_ms=time_ms))
        return None

    def _register(self, proposal: Proposal) -> None:
        book, swap = self._book, self._find(proposal.swap_id)
        if swap is None:
            self._insist_caught_up()
            verify_openable(proposal.terms, book.register.registry, time_ms=book.register.time_ms)
            if book.unordered_count >= UNORDERED_SWAPS_MAX:
                raise QueueFull(queue="proposal", limit=UNORDERED_SWAPS_MAX)
            swap = Swap(
                number=book.new_number(),
                swap_id=proposal.swap_id,
                terms_bytes=proposal.terms_bytes,
                terms=proposal.terms,
                phase=Phase.COLLECTING,
                policy=proposal.policy,
                preimage=proposal.preimage,
            )
            text = f"with reveal policy {proposal.policy.name}"
            book.put(swap, local_event("proposed", text, time_ms=book.register.time_ms))
        elif swap.policy is not None and swap.policy is not proposal.policy:
            raise Conflict(subject="swap", key=proposal.swap_id.hex())
        elif swap.policy is None and not swap.is_final:
            # Known from the order alone, as after the loss of the database: now it can be driven again.
            book.put(rules.with_proposal(swap, proposal.policy, proposal.preimage))
            plan(book, swap.swap_id)

    def _send(self, swap: Swap, sending: Sending) -> None:
        """Have something sent, unless the same is on its way: then its outcome is the caller's, too."""
        if (sending.kind, sending.leg) not in swap.sendings:
            self._book.put(rules.with_sending(swap, sending))

    def _insist_useful(self, swap: Swap, entry: swap_entries.SwapEntry, kind: SendKind) -> None:
        name = ENTRY_NAMES[kind]
        if swap.is_final:
            raise UselessEntry(kind=name, reason=f"the swap is {swap.phase.name} already")
        if swap.phase in UNORDERED:
            self._insist_caught_up()
            raise UselessEntry(kind=name, reason="the swap is not in the order yet")
        register = self._book.register
        height = Height(register.height + 1)
        reason = useless_reason(register, entry, height=height, time_ms=register.time_ms + 1)
        if reason is not None:
            raise UselessEntry(kind=name, reason=reason)

    def _insist_caught_up(self) -> None:
        """Refuse to speak of what is not known while it may be in blocks that were not followed yet."""
        if not self.is_caught_up:
            raise NotReady(reason=f"it follows the order and stands at height {self._book.register.height}")

    @property
    def _now(self) -> tuple[ChainId, int]:
        return self._book.register.registry.chain_id, self._book.register.time_ms

    def _get(self, swap_id: SwapId) -> Swap:
        swap = self._find(swap_id)
        if swap is None:
            self._insist_caught_up()
            raise UnknownSwap(swap_id=swap_id.hex())
        return swap

    def _find(self, swap_id: SwapId) -> Swap | None:
        return self._book.live.get(swap_id) or self.over.get(swap_id)

    async def _acted(self, swap_id: SwapId, kind: SendKind) -> bytes | None:
        if (new := self._book.batch.acted.get((swap_id, kind))) is not None:
            return new
        row = await self._database.read_one(
            "SELECT response FROM acted WHERE number = (SELECT number FROM swaps WHERE swap_id = ?) "
            "AND kind = ? AND sound(seal, number, kind, response)",
            (swap_id, kind),
        )
        return None if row is None else bytes(row[0])


def subjects(command: Command) -> Collection[SwapId]:
    """Return the swaps of which a command may need to know whether they are over."""
    match command:
        case Propose(proposal):
            return (proposal.swap_id,)
        case Accept(swap_id) | Reveal(swap_id):
            return (swap_id,)
        case Withdraw(entry):
            return (entry.swap_id,)
        case Follow(followed):
            return opened_ids(followed)
        case _:
            return ()
