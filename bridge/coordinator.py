"""The coordinator's tasks: the writer that owns its state, the follower that feeds it, the senders it feeds.

Owns the order of work: step commands and blocks (`calls`, `blocks`), write all of it as one transaction, and
only then answer and send. Invariants:

- what is sent was durable before; what was answered is durable;
- a swap's outcome is read out of the order and from nowhere else: an answer to a bundle ends the sending of
  it, never a swap, and no answer at all means nothing.

Several coordinators may drive the same swap. The same bytes are one bundle; a second opening does nothing,
and the locks then go alone.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import structlog
from google.protobuf.message import Message

from bridge import swap as rules
from bridge.blocks import ENTRY_NAMES, Resolution, follow_block
from bridge.book import Book
from bridge.calls import Calls
from bridge.commands import Accept, Command, Follow, Progress, Propose, Reveal, Settle, Withdraw
from bridge.order import Order, Submitter
from bridge.progress import take_progress
from bridge.reading import Views
from bridge.senders import Senders
from bridge.swap import SendKind
from deploy.node.database import Database
from deploy.node.failpoints import FAILPOINTS
from deploy.node.high_water import write_number
from lockstep.errors import LockstepError, QueueFull, ShuttingDown
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, BundleId, SwapId

QUEUE_COMMANDS_MAX: Final = 4_096
"""Commands that wait for the writer, at which further ones are refused."""

BATCH_COMMANDS_MAX: Final = 256
"""Commands that one transaction takes in."""

BLOCKS_UNCOMMITTED_MAX: Final = 64
"""Blocks without anything for us that are followed before the register is written down again."""

BLOCKS_AHEAD_MAX: Final = 16
"""Blocks that are verified and wait for the writer."""

BEFORE_COMMIT: Final = FAILPOINTS.declare(
    "bridge.batch.before_commit", "commands and blocks were stepped, nothing of it is durable"
)
PROPOSAL_PERSISTED: Final = FAILPOINTS.declare(
    "bridge.proposal.persisted", "a new swap is durable, its proposer is not answered"
)
ACCEPT_PERSISTED: Final = FAILPOINTS.declare(
    "bridge.accept.persisted", "a lock is durable with what follows from it, its giver is not answered"
)
BLOCK_PERSISTED: Final = FAILPOINTS.declare(
    "bridge.block.persisted", "a block is durable with what it did to swaps, nobody was told"
)
PROGRESS_PERSISTED: Final = FAILPOINTS.declare(
    "bridge.progress.persisted", "levels are durable with what they rest on, nobody was told"
)
SENDING_PERSISTED: Final[Mapping[SendKind, str]] = {
    SendKind.OPENING: FAILPOINTS.declare("bridge.bundle.persisted", "an opening bundle is durable, not sent"),
    SendKind.LOCK: FAILPOINTS.declare("bridge.lock.persisted", "a lone lock is durable, not sent"),
    SendKind.REVEAL: FAILPOINTS.declare("bridge.reveal.persisted", "a reveal is durable, not sent"),
    SendKind.CANCEL: FAILPOINTS.declare("bridge.cancel.persisted", "a cancellation is durable, not sent"),
}
_COMMAND_PERSISTED: Final[Mapping[type[Command], str]] = {
    Propose: PROPOSAL_PERSISTED,
    Accept: ACCEPT_PERSISTED,
    Follow: BLOCK_PERSISTED,
    Progress: PROGRESS_PERSISTED,
}

Answer: TypeAlias = "asyncio.Future[Message | None]"


@dataclass(slots=True)
class _Asked:
    """A command, who waits for its answer, and what that is."""

    command: Command
    answer: Answer
    outcome: Message | SwapId | LockstepError | None = None
    """A swap's id stands for how the swap is told once all is durable."""


class Coordinator:
    """`run` it in a task; everybody else may `ask`, and look at what is public."""

    def __init__(
        self,
        book: Book,
        database: Database,
        order: Order,
        bundles: Submitter,
        *,
        commits_file: Path | None = None,
    ) -> None:
        """Own `book`, write to `database`, follow `order` and send to `bundles`.

        `commits_file` is told how many transactions there were (`deploy.node.high_water`).
        """
        self.book = book
        """The state; for others to look at between two awaits, never to change."""
        self.caught_up = asyncio.Event()
        """Set once the newest block that the sequencer told of was followed; never unset."""
        self.changed = asyncio.Event()
        """Set, and replaced by a new one, after each commit that changed a swap."""
        self._database = database
        self._order = order
        self._bundles = bundles
        self._commits_file = commits_file
        self._calls = Calls(book, database)
        self._views = Views(database)
        self._queue: asyncio.Queue[_Asked] = asyncio.Queue(QUEUE_COMMANDS_MAX)
        self._asked: list[_Asked] = []
        self._waiting: dict[tuple[SwapId, SendKind], list[Answer]] = defaultdict(list)
        self._resolutions: list[Resolution] = []
        self._log = structlog.get_logger("bridge")

    async def run(self) -> None:
        """Work until cancelled. Raises what must end the process."""
        try:
            async with asyncio.TaskGroup() as group:
                senders = Senders(self._bundles, group, self.tell)
                senders.start(self.book.sendings())
                group.create_task(self._write(senders))
                group.create_task(self._follow())
        finally:
            self._refuse_all()

    async def ask(self, command: Command) -> Message | None:
        """Have a command done and return its answer. Raises QueueFull at once, or what the command raises.

        A caller that is cancelled stops waiting; the command is done all the same.
        """
        asked = _Asked(command, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(asked)
        except asyncio.QueueFull:
            raise QueueFull(queue="command", limit=QUEUE_COMMANDS_MAX) from None
        return await asked.answer

    async def tell(self, command: Command) -> None:
        """The same for the process's own tasks, which wait for room in the queue."""
        await (await self._hand_over(command))

    async def _hand_over(self, command: Command) -> Answer:
        """Have a command done once there is room for it, and return what will hold its answer."""
        asked = _Asked(command, asyncio.get_running_loop().create_future())
        await self._queue.put(asked)
        return asked.answer

    # --- the follower ---------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Hand every block to the writer, some ahead of it, so that it makes several durable at once.

        One that changes the registry is waited for: it may say who signs the blocks after it.
        """
        book = self.book
        blocks = self._order.follow(
            tip=book.register.tip,
            namespaces=(SWAP_NAMESPACE, REGISTRY_NAMESPACE),
            sequencer_key=book.sequencer_keys.at,
        )
        ahead: deque[Answer] = deque()
        async for followed in blocks:
            ahead.append(await self._hand_over(Follow(followed)))
            is_news = followed.block.header.height >= followed.head_height and not self.caught_up.is_set()
            is_waited_for = is_news or followed.block.entries[REGISTRY_NAMESPACE]
            while len(ahead) > (0 if is_waited_for else BLOCKS_AHEAD_MAX) or (ahead and ahead[0].done()):
                await ahead.popleft()
            if is_news:
                self._log.info("caught_up", height=book.register.height)
                self._calls.is_caught_up = True
                self.caught_up.set()
        raise AssertionError("the order is followed for ever")

    # --- the writer -----------------------------------------------------------------------------------------

    async def _write(self, senders: Senders) -> None:
        while True:
            self._asked = [await self._queue.get()]
            while len(self._asked) < BATCH_COMMANDS_MAX and not self._queue.empty():
                self._asked.append(self._queue.get_nowait())
            await self._calls.look_up([asked.command for asked in self._asked])
            for asked in self._asked:
                try:
                    await self._step(asked)
                except LockstepError as error:
                    asked.outcome = error
            batch = self.book.batch
            if batch.is_worth_committing or batch.blocks >= BLOCKS_UNCOMMITTED_MAX:
                await self._commit(senders)
            await self._answer()

    async def _step(self, asked: _Asked) -> None:
        match asked.command:
            case Propose():
                asked.outcome = self._calls.propose(asked.command)
            case Accept():
                asked.outcome = self._calls.accept(asked.command)
            case Reveal():
                asked.outcome = await self._calls.reveal(asked.command)
                self._wait(asked, asked.command.swap_id, SendKind.REVEAL)
            case Withdraw():
                asked.outcome = await self._calls.withdraw(asked.command)
                self._wait(asked, asked.command.entry.swap_id, SendKind.CANCEL)
            case Follow(followed):
                self._resolutions += follow_block(self.book, followed, self._calls.over)
            case Settle(bundle_id, refusal):
                self._settle(bundle_id, refusal)
            case Progress():
                await self._progress(asked.command)

    def _wait(self, asked: _Asked, swap_id: SwapId, kind: SendKind) -> None:
        """Let who asked wait for the order, unless it has answered already."""
        if asked.outcome is None:
            waiting = self._waiting[swap_id, kind]
            # Who was cancelled meanwhile waits no more.
            waiting[:] = [answer for answer in waiting if not answer.done()]
            waiting.append(asked.answer)

    async def _progress(self, progress: Progress) -> None:
        over = {step.number for step in progress.steps if step.swap_id not in self.book.live}
        take_progress(self.book, progress, await self._views.swaps(over))

    def _settle(self, bundle_id: BundleId, refusal: LockstepError | None) -> None:
        """Take note of an answer of the sequencer; what is in `_swap` is seen in the order instead."""
        address = self.book.address_of(bundle_id)
        if address is None:
            return
        swap = self.book.live[address.swap_id]
        if refusal is None and address.kind is SendKind.LOCK:
            self.book.put(rules.ordered(swap, SendKind.LOCK, address.leg))
        if refusal is not None and address.kind in ENTRY_NAMES:
            self._resolutions.append(Resolution(address.swap_id, address.kind, refusal))
            if swap.sendings[address.kind, address.leg].is_asked:
                self.book.put(rules.without_sending(swap, address.kind, address.leg))

    async def _commit(self, senders: Senders) -> None:
        FAILPOINTS.reach(BEFORE_COMMIT)
        tell = None
        if self._commits_file is not None:
            tell = partial(write_number, self._commits_file, self.book.commits + 1)
        await self._database.transact([each for each in self.book.statements() if each[1]], then=tell)
        has_changes = self.book.next_sequence > self.book.durable_sequence
        effects = self.book.committed()
        for asked in self._asked:
            name = _COMMAND_PERSISTED.get(type(asked.command))
            if name is not None and not isinstance(asked.outcome, LockstepError):
                FAILPOINTS.reach(name)
        for swap_id, sending in effects.started:
            FAILPOINTS.reach(SENDING_PERSISTED[sending.kind])
            self._log.debug(
                "sending_durable", swap_id=swap_id, kind=sending.kind.name, bundle_id=sending.bundle_id
            )
        for bundle_id in effects.stopped:
            senders.stop(bundle_id)
        senders.start(effects.started)
        if has_changes:
            self.changed.set()
            self.changed = asyncio.Event()

    async def _answer(self) -> None:
        """Answer the commands of the batch, and those of earlier ones for which the order has spoken."""
        later = {id(answer) for answers in self._waiting.values() for answer in answers}
        for asked in self._asked:
            if isinstance(asked.outcome, bytes):
                asked.outcome = await self._calls.answer(asked.outcome)
            if id(asked.answer) not in later:
                _answer(asked.answer, asked.outcome)
        self._asked = []
        for each in self._resolutions:
            for answer in self._waiting.pop((each.swap_id, each.kind), ()):
                _answer(answer, each.outcome)
        self._resolutions = []

    def _refuse_all(self) -> None:
        """Tell everybody who waits that nothing more comes; for them the outcome is unknown."""
        answers: list[Answer] = [answer for waiting in self._waiting.values() for answer in waiting]
        answers += [asked.answer for asked in self._asked]
        with suppress(asyncio.QueueEmpty):
            while True:
                answers.append(self._queue.get_nowait().answer)
        for answer in answers:
            _answer(answer, ShuttingDown())
            if answer.done() and not answer.cancelled():
                # Whoever waited may be gone, and then nobody looks.
                answer.exception()


def _answer(answer: Answer, outcome: Message | LockstepError | None) -> None:
    if answer.done():
        return
    if isinstance(outcome, LockstepError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
