"""Changes of the registry reach the settlement log between the headers, in time and once."""

from collections.abc import Callable

import pytest

from lockstep.errors import BadSignature, LockstepError, UnavailablePeer
from lockstep.header import header_hash, tip_of
from lockstep.registry_entries import Drain, RegistryChange, RotateAttester, SignedBy, Veto, sign_change
from lockstep.settlement_entries import (
    HeaderRange,
    Registration,
    SettlementEntry,
    decode_settlement_entry,
    encode_settlement_entry,
)
from lockstep.settlement_log import empty_log, genesis_entry, read_candidate, step
from lockstep.signing import SigningKey
from lockstep.types import REGISTRY_NAMESPACE, Height
from sequencer.anchoring import Anchoring
from sequencer.builder import propose
from sequencer.feed import Feed
from tests.unit.sequencer.chain import ATTESTER, CHAIN, GENESIS, GOVERNANCE, START, MemoryEngine, admitted
from tests.unit.sequencer.test_anchoring import Status

NEW = SigningKey(bytes([9]) * 32)


def payload(sequence: int) -> bytes:
    change = RegistryChange(CHAIN, "alpha", sequence, Height(9), Drain())
    return sign_change(GOVERNANCE, change, SignedBy.GOVERNANCE)


class Log:
    """Takes what it is given, unless told to fail."""

    def __init__(self) -> None:
        self.entries: list[SettlementEntry] = []
        self.fail: Callable[[SettlementEntry], LockstepError | None] = lambda _: None

    async def status(self) -> Status:
        ranges = [each for each in self.entries if isinstance(each, HeaderRange)]
        if not ranges:
            return Status(0, START.chain)
        return Status(ranges[-1].last.header.height, header_hash(ranges[-1].last.encoded))

    async def append(self, entry: bytes) -> int:
        decoded = decode_settlement_entry(entry)
        failure = self.fail(decoded)
        if failure is not None:
            raise failure
        if decoded not in self.entries:
            self.entries.append(decoded)
        return self.entries.index(decoded)

    @property
    def told(self) -> list[object]:
        """Ends of ranges, and registrations as (height, index), in order."""
        return [
            each.last.header.height if isinstance(each, HeaderRange) else (each.height, each.index)
            for each in self.entries
            if isinstance(each, HeaderRange | Registration)
        ]


class Rig:
    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.feed = Feed(self.engine)
        self.log = Log()
        self.tip = START

    def anchoring(self) -> Anchoring:
        return Anchoring(
            self.log, self.feed, genesis=START, interval_ms=1, interval_blocks=4, judge=lambda _: None
        )

    async def block(self, *payloads: bytes) -> None:
        bundles = [
            admitted(each, valid_until_ms=self.tip.time_ms + 30_000, namespace=REGISTRY_NAMESPACE)
            for each in payloads
        ]
        proposal = propose(self.tip, self.tip.time_ms + 10, bundles)
        self.tip = tip_of(proposal.block.header, proposal.block.hash)
        self.feed.publish(await self.engine.order(proposal))


async def test_the_log_is_told_before_any_later_header() -> None:
    rig = Rig()
    await rig.block()
    await rig.block(payload(1), payload(2))
    await rig.block()
    await rig.block()
    await rig.block(payload(3))
    await rig.anchoring().anchor()
    assert rig.log.told == [2, (2, 0), (2, 1), 4, 5, (5, 0)]


async def test_the_log_is_told_of_what_keys_sign_for_themselves_and_of_vetoes() -> None:
    rig = Rig()
    own = RegistryChange(CHAIN, "alpha", 1, Height(9), RotateAttester(ATTESTER.public_key, NEW.public_key))
    veto = RegistryChange(CHAIN, "alpha", 2, Height(9), Veto(1))
    payloads = [
        sign_change(ATTESTER, own, SignedBy.SUBJECT),
        sign_change(GOVERNANCE, veto, SignedBy.GOVERNANCE),
    ]
    await rig.block(*payloads)
    await rig.block()
    judged = empty_log(GENESIS)
    await rig.anchoring().anchor()
    assert rig.log.told == [1, (1, 0), (1, 1), 2]
    told = [each for each in rig.log.entries if isinstance(each, Registration)]
    assert [each.payload for each in told] == payloads
    # The log's own rules take all of it.
    for entry in (genesis_entry(GENESIS), *map(encode_settlement_entry, rig.log.entries)):
        done = step(judged, lambda _: None, read_candidate(entry))
        assert done.appended == (entry,)
        judged = done.log


async def test_an_outage_delays_headers_behind_a_change_and_a_restart_goes_on_there() -> None:
    rig = Rig()
    await rig.block(payload(1))
    await rig.block()
    rig.log.fail = lambda entry: UnavailablePeer(peer="log") if isinstance(entry, Registration) else None
    anchoring = rig.anchoring()
    for _ in range(2):
        with pytest.raises(UnavailablePeer):
            await anchoring.anchor()
    assert rig.log.told == [1]
    rig.log.fail = lambda _: None
    for each in (rig.anchoring(), anchoring):
        await each.anchor()
        assert rig.log.told == [1, (1, 0), 2]


async def test_what_the_log_refuses_for_good_keeps_nothing_else_from_it() -> None:
    rig = Rig()
    await rig.block(payload(1), payload(2), payload(3))
    await rig.block()

    def refuse(entry: SettlementEntry) -> LockstepError | None:
        if isinstance(entry, Registration) and entry.index == 0:
            return BadSignature(what="registry change", signer="governance")
        return None

    rig.log.fail = refuse
    await rig.anchoring().anchor()
    assert rig.log.told == [1, (1, 1), (1, 2), 2]
