"""Getting a swap's receipt: what the services have of a swap, verified on the way, in one file.

Owns where each part comes from and what is waited for. Which entries are shown is
`lockstep.swap_receipt_build`'s to choose, and the file that comes out has passed
`lockstep.swap_receipt_verify`, as it will wherever it is taken. Nothing is sent that changes anything.

    part                            from
    where the swap was opened       a coordinator, else the register of a rollup, else the order
    headers, entries                the sequencer, from the opening to the anchored block
    whose signatures count          the settlement log, from its start
    settlement of each leg          the nodes of its rollup, under the commitment after the anchored block
    header range, commitments       the settlement log, under its newest checkpoint
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from bridge.client.receipt_openings import LOOK_AGAIN_MS, Opening, Say, find_opening
from bridge.client.receipt_sources import ATTEMPT_MS, Sources, open_sources
from bridge.settlement.client import Anchor
from lockstep.block import VerifiedBlock
from lockstep.checkpoint import NoteVerifier, parse_note
from lockstep.errors import (
    BadSignature,
    Discontinuous,
    NotFound,
    NotReady,
    NotYet,
)
from lockstep.register import OutcomeReason, Phase, SwapRecord
from lockstep.settlement_entries import CommitmentEntry, HeaderRange, decode_settlement_entry
from lockstep.swap_entries import Verdict
from lockstep.swap_receipt import encode_swap_receipt
from lockstep.swap_receipt_build import (
    DecisionWatch,
    LogPart,
    ProvenLeaf,
    ReceiptsPart,
    build_swap_receipt,
)
from lockstep.swap_receipt_verify import VerifiedSwap, verify_swap_receipt
from lockstep.types import REGISTRY_NAMESPACE, SWAP_NAMESPACE, Height, Namespace, RollupId, Signature, SwapId
from rollups.client import ProvenReceipt

__all__ = ["TIMEOUT_MS", "Sources", "get_swap_receipt", "open_sources"]

TIMEOUT_MS: Final = 120_000
"""How long to wait for a swap's end, and for the log to have it, unless told otherwise."""

ANCHORS_MAX: Final = 16
"""How many blocks after the swap's end are tried, one after the other, if a rollup has not anchored one."""

_Answer = TypeVar("_Answer")


async def get_swap_receipt(
    sources: Sources,
    swap_id: SwapId,
    *,
    terms_bytes: bytes | None = None,
    timeout_ms: int = TIMEOUT_MS,
    say: Say = lambda _: None,
) -> tuple[bytes, VerifiedSwap]:
    """Return the receipt of a swap as a file, and what it shows.

    Waits for the swap's end and for the settlement log, up to `timeout_ms` of real time; `say` is told for
    what. Raises `NotReady` after that; `UnknownSwap` if nobody knows where it was opened; `NotFound` if it
    was never ordered; `Pruned` if the sequencer has its blocks no more; `ReceiptInvalid` if what is there
    makes no receipt; and whatever does not verify on the way.
    """
    getting = _Getting(sources, swap_id, terms_bytes, say)
    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            return await getting.run()
    except TimeoutError:
        raise NotReady(reason=f"still {getting.doing}") from None


class _NeverAnchored(Exception):
    """A rollup has no anchored commitment after a block, but has after a later one."""

    def __init__(self, cause: NotFound) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Getting:
    """One receipt in the making."""

    def __init__(self, sources: Sources, swap_id: SwapId, terms_bytes: bytes | None, say: Say) -> None:
        self._sources = sources
        self._swap_id = swap_id
        self._terms_bytes = terms_bytes
        self._tell = say
        self.doing = "asking where the swap was opened"
        """What it is doing, in words."""

    def _say(self, doing: str) -> None:
        self.doing = doing
        self._tell(doing)

    async def run(self) -> tuple[bytes, VerifiedSwap]:
        opening = await find_opening(self._sources, self._swap_id, self._terms_bytes, say=self._say)
        await self._read_keys(opening.place.height)
        missed = 0
        async with aclosing(self._follow(opening)) as coming:
            async for blocks, record in coming:
                try:
                    return await self._make(blocks, record)
                except _NeverAnchored as error:
                    missed += 1
                    if missed == ANCHORS_MAX:
                        raise error.cause from None
        raise AssertionError("following ends only by raising")

    async def _make(self, blocks: Sequence[VerifiedBlock], record: SwapRecord) -> tuple[bytes, VerifiedSwap]:
        """Make the receipt whose last block is the last of these. Raises `_NeverAnchored`."""
        anchored = blocks[-1].header.height
        await self._read_keys(anchored)
        self._say(f"waiting until rollups have executed block {anchored}")
        receipts = await self._receipts(record, anchored)
        log = await self._log_part(anchored, sorted(receipts))
        settled = {
            rollup: ReceiptsPart(
                of[0].commitment.receipt_count,
                tuple(ProvenLeaf(each.index, each.encoded, each.proof) for each in of),
            )
            for rollup, of in receipts.items()
        }
        encoded = encode_swap_receipt(build_swap_receipt(blocks, record, settled=settled, log=log))
        return encoded, verify_swap_receipt(encoded, self._sources.genesis)

    async def _read_keys(self, height: Height) -> None:
        self._say(f"reading the settlement log up to block {height}, for whose signatures count")
        await self._sources.keys.read(self._sources.settlement, self._sources.sequencer, height)

    # --- the order ----------------------------------------------------------------------------------------

    async def _follow(
        self, opening: Opening
    ) -> AsyncGenerator[tuple[Sequence[VerifiedBlock], SwapRecord], None]:
        """Yield how the swap ended with the blocks from its opening to one that is to be anchored.

        First up to the next such block after the end, then up to each that follows.
        """
        sources, interval = self._sources, self._sources.genesis.anchor_interval_blocks
        watch = DecisionWatch(
            sources.keys.registry.at(opening.place.height),
            swap_id=self._swap_id,
            opened=opening.place,
            crowded_at=opening.crowded_at,
        )
        rollups = sorted({Namespace(leg.rollup) for leg in opening.terms.legs})
        followed = sources.sequencer.follow(
            tip=await sources.tip_before(opening.place.height),
            namespaces=(SWAP_NAMESPACE, REGISTRY_NAMESPACE, *rollups),
            sequencer_key=sources.keys.sequencer_at,
        )
        blocks: list[VerifiedBlock] = []
        record: SwapRecord | None = None
        async with aclosing(followed) as coming:
            async for each in coming:
                sources.keys.follow(each.block)
                blocks.append(each.block)
                height = each.block.header.height
                if record is None:
                    record = watch.take(each.block)
                    self._say(f"waiting for the swap's end, block {height} of {each.head_height}")
                if record is not None and height % interval == 0:
                    yield blocks, record

    # --- what rollups and log have ------------------------------------------------------------------------

    async def _receipts(self, record: SwapRecord, anchored: Height) -> dict[RollupId, list[ProvenReceipt]]:
        """Return the receipts of the legs that were settled by the decision, by rollup."""
        found: dict[RollupId, list[ProvenReceipt]] = {}
        for place, leg in enumerate(record.terms.legs):
            proven = await self._receipt(record, place, anchored)
            if proven is not None:
                found.setdefault(leg.rollup, []).append(proven)
            elif record.phase == Phase.COMMITTED or record.legs[place].verdict == Verdict.LOCKED:
                name = f"leg {place} of swap {self._swap_id.hex()}, whose attesters say that it was locked,"
                raise NotFound(subject="settlement of", name=name)
        assert record.decision is not None, "the swap is decided"
        reason = record.decision.reason
        if not found and reason != OutcomeReason.LEG_REJECTED:
            name = f"{self._swap_id.hex()}: it ended {reason.name} with nothing in escrow"
            raise NotFound(subject="settlement to be shown of swap", name=name)
        return found

    async def _receipt(self, record: SwapRecord, leg: int, anchored: Height) -> ProvenReceipt | None:
        nodes = self._sources.nodes(record.terms.legs[leg].rollup)
        try:
            proven = await self._when_there(
                lambda: nodes.ask(
                    lambda node: node.proven_settlement(
                        self._swap_id, leg, at_height=anchored, timeout_ms=ATTEMPT_MS
                    )
                )
            )
        except NotFound:
            return None
        assert record.decision is not None, "the swap is decided"
        # Of a swap that was opened again, a rollup has the newest settlement.
        place = proven.receipt.height, proven.receipt.index
        return proven if place == (record.decision.height, record.decision.index) else None

    async def _log_part(self, anchored: Height, rollups: Sequence[RollupId]) -> LogPart:
        """Return what the log has of a block, and of the commitments after it, under one checkpoint."""
        log, keys = self._sources.settlement, self._sources.keys
        anchor = await self._when_there(lambda: log.anchor(anchored))
        entry = decode_settlement_entry(anchor.entry)
        if not isinstance(entry, HeaderRange) or entry.last.header.height != anchored:
            reason = f"does not end at height {anchored}, where commitments are posted"
            raise Discontinuous(what="header range", reason=reason)
        commitments = await self._commitments(anchored, rollups, from_index=anchor.index + 1)
        proven = await log.proven_entries((anchor.index, *commitments, *keys.indexes))
        leaves = {
            index: ProvenLeaf(index, encoded, proof) for index, (encoded, proof) in proven.entries.items()
        }
        return LogPart(
            checkpoint=proven.checkpoint,
            signature=self._signature(proven.note),
            range=entry,
            range_leaf=leaves[anchor.index],
            commitments=tuple(leaves[index] for index in commitments),
            registrations=tuple(leaves[index] for index in keys.indexes),
        )

    async def _commitments(
        self, anchored: Height, rollups: Sequence[RollupId], *, from_index: int
    ) -> list[int]:
        """Return where the log has as many equal commitments after a block as it takes, of each rollup.

        They stand between the header range and the one that completes the threshold.
        """
        log, indexes = self._sources.settlement, list[int]()
        for rollup in rollups:
            attesters = self._sources.keys.registry.attesters_at(rollup, anchored)
            if attesters is None:
                raise NotFound(subject="attesters of rollup", name=rollup)
            self._say(f"waiting until the settlement log has {rollup}'s commitments after block {anchored}")
            last = await self._commitment_anchor(anchored, rollup)
            agreed = decode_settlement_entry(last.entry)
            assert isinstance(agreed, CommitmentEntry), "the client has looked at it"
            found: list[int] = []
            async with aclosing(log.entries(from_index)) as entries:
                async for index, encoded in entries:
                    entry = decode_settlement_entry(encoded)
                    if (
                        isinstance(entry, CommitmentEntry)
                        and entry.posted.commitment == agreed.posted.commitment
                        and entry.posted.attester in attesters.keys
                    ):
                        found.append(index)
                    if index >= last.index or len(found) == attesters.threshold:
                        break
            indexes += found
        return indexes

    async def _commitment_anchor(self, anchored: Height, rollup: RollupId) -> Anchor:
        try:
            return await self._when_there(lambda: self._sources.settlement.anchor(anchored, rollup))
        except NotFound as error:
            # A later state is anchored, this one never was: attesters that were replaced may leave a gap.
            raise _NeverAnchored(error) from error

    def _signature(self, note: bytes) -> Signature:
        """Return the log's own signature under a checkpoint that was verified."""
        origin = self._sources.genesis.settlement.origin
        registry = self._sources.keys.registry
        for known in reversed(registry.timeline):
            verifier = NoteVerifier(origin, known.registry.keys["settlement"])
            for each in parse_note(note).signatures:
                if (each.name, each.key_id) == (verifier.name, verifier.key_id):
                    return Signature(each.signature)
        raise BadSignature(what="checkpoint", signer=registry.now.keys["settlement"].hex())

    async def _when_there(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Ask until what is asked for is there."""
        while True:
            try:
                return await ask()
            except NotYet:
                await asyncio.sleep(LOOK_AGAIN_MS / 1_000)
