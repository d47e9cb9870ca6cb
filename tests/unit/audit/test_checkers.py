"""Every invariant: an honest history keeps it, and once it is broken on purpose, it is the one told of."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from deploy.audit.checkers import Audit
from deploy.audit.invariants import Invariant, Violated, Violation
from deploy.audit.plain.register import Block, Opening, Register
from deploy.audit.plain.rollup import Rollup, balance_key
from lockstep.block import VerifiedBlock
from lockstep.header import encode_header, sign_header
from lockstep.order import Entry, Placement
from lockstep.registry_entries import RegistryChange, RotateKey, sign_change
from lockstep.settlement_entries import (
    Evidence,
    EvidenceKind,
    HeaderRange,
    ProvenHeader,
    encode_proven_header,
    encode_settlement_entry,
)
from lockstep.swap_entries import RejectReason
from lockstep.transactions import Lock, Transfer
from lockstep.types import LOG_NAMESPACE, REGISTRY_NAMESPACE, BundleId, HeaderHash, Height, Namespace
from tests.unit.audit.worlds import World, traded
from tests.unit.rollups.chain import (
    ALPHA,
    ANN,
    ATTESTERS,
    BETA,
    BOB,
    CARL,
    SEQUENCER,
    Chain,
    Swap,
    key,
    make_swap,
)
from tests.unit.rollups.histories import History


@pytest.fixture(scope="module")
def world() -> World:
    return World(traded(7))


def found(run: Callable[[], object]) -> Violation:
    with pytest.raises(Violated) as raised:
        run()
    assert raised.value.violation.lines()[0].startswith("VIOLATION ")
    assert raised.value.violation.as_json()["message"]
    return raised.value.violation


@pytest.mark.parametrize("seed", range(5))
def test_an_honest_network_is_found_to_be_one(seed: int) -> None:
    world = World(traded(seed))
    audit = world.audit()
    world.run(audit)
    unchecked = {each for each in Invariant if not audit.counts[each]}
    # Nothing was acknowledged to anybody here, no checkpoint ordered, and nobody contradicted himself.
    assert unchecked == {Invariant.ACKNOWLEDGED, Invariant.ONE_LOG, Invariant.EVIDENCE}
    assert len(audit.swaps.ends) > 2
    assert audit.swaps.ends["COMMITTED"]
    assert sum(audit.swaps.ends.values()) == len(world.history.decided)
    assert audit.transfers
    assert audit.log.anchored_height == len(world.blocks) // 4 * 4


# --- the order --------------------------------------------------------------------------------------------


def changed(block: VerifiedBlock, change: Callable[[Entry], Entry]) -> VerifiedBlock:
    """Return a block whose first entry of alpha is another one."""
    first, *others = block.entries[Namespace(ALPHA)]
    return replace(block, entries={**block.entries, Namespace(ALPHA): (change(first), *others)})


def until_alpha(world: World) -> tuple[Audit, VerifiedBlock]:
    """Return an audit before the first block that has something of alpha, and that block."""
    audit = world.audit()
    for followed in world.blocks:
        if followed.block.entries[Namespace(ALPHA)]:
            return audit, followed.block
        audit.block(followed.block)
    raise AssertionError("a history without transactions")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: replace(entry, payload=entry.payload + b"."), "has the content of"),
        (lambda entry: replace(entry, bundle_id=BundleId(bytes(32))), "has the content of"),
        (lambda entry: replace(entry, valid_until_ms=1), "was ordered at"),
        (lambda entry: replace(entry, valid_until_ms=2**50), "was ordered at"),
    ],
)
def test_a_bundle_that_is_not_what_it_says(
    world: World, change: Callable[[Entry], Entry], message: str
) -> None:
    audit, block = until_alpha(world)
    violation = found(lambda: audit.block(changed(block, change)))
    assert (violation.invariant, violation.height) == (Invariant.BUNDLES, block.header.height)
    assert message in violation.message


def test_a_bundle_that_comes_twice(world: World) -> None:
    audit, block = until_alpha(world)
    audit.block(block)
    again = replace(block, header=replace(block.header, height=Height(block.header.height + 1)))
    violation = found(lambda: audit.block(again))
    assert violation.invariant == Invariant.BUNDLES
    assert "a second time" in violation.message


def placement_of(block: VerifiedBlock, *, ahead: int = 0, first_index: int | None = None) -> Placement:
    entry = block.entries[Namespace(ALPHA)][0]
    first_index = entry.first_index if first_index is None else first_index
    return Placement(entry.bundle_id, Height(block.header.height + ahead), first_index, entry.count)


def test_what_was_acknowledged_is_there(world: World) -> None:
    audit, block = until_alpha(world)
    placement = placement_of(block)
    audit.acknowledged(placement)
    audit.block(block)
    assert audit.counts[Invariant.ACKNOWLEDGED] == 1
    with pytest.raises(ValueError, match="placements are kept"):
        audit.acknowledged(placement)
    late = world.audit(keeps_placements=True)
    world.run(late)
    late.acknowledged(placement)
    moved = placement_of(block, ahead=1)
    assert found(lambda: late.acknowledged(moved)).invariant == Invariant.ACKNOWLEDGED


def test_what_was_acknowledged_and_is_not_there(world: World) -> None:
    audit, block = until_alpha(world)
    audit.acknowledged(placement_of(block, first_index=9))
    violation = found(lambda: audit.block(block))
    assert violation.invariant == Invariant.ACKNOWLEDGED
    assert "9" in violation.expected
    audit, block = until_alpha(world)
    audit.acknowledged(Placement(BundleId(bytes(32)), block.header.height, 0, 1))
    assert found(lambda: audit.block(block)).actual == "nowhere"
    audit = world.audit()
    audit.acknowledged(Placement(BundleId(bytes(32)), Height(10_000), 0, 1))
    world_end = found(lambda: world.run(audit))
    assert (world_end.invariant, world_end.height) == (Invariant.ACKNOWLEDGED, 10_000)


def test_the_key_of_a_header_is_the_one_in_force_at_its_height() -> None:
    chain, fresh = Chain(), key("fresh").public_key
    audit = Audit(chain.genesis)
    change = RegistryChange(chain.genesis.chain_id, "sequencer", 1, Height(3), RotateKey(fresh))
    audit.block(chain.block((REGISTRY_NAMESPACE, sign_change(key("governance"), change))))
    expected = [SEQUENCER.public_key] * 2 + [fresh] * 2
    for _ in range(3):
        assert [audit.sequencer_key_at(Height(height)) for height in range(1, 5)] == expected
        audit.block(chain.block())


# --- value ------------------------------------------------------------------------------------------------


def test_money_out_of_thin_air_is_seen_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = Rollup._transfer

    def generous(self: Rollup, signer: bytes, asset: bytes, recipient: bytes, amount: int) -> int:
        code = transfer(self, signer, asset, recipient, amount)
        if code == 0:
            self.add(balance_key(asset, recipient), 1)
        return code

    monkeypatch.setattr(Rollup, "_transfer", generous)
    violation = world.violation(world.audit())
    assert violation.invariant == Invariant.CONSERVATION
    assert int(violation.actual) == int(violation.expected) + 1
    assert violation.rollup in (ALPHA, BETA)


def test_a_balance_that_changed_by_itself_is_seen_when_all_is_counted(world: World) -> None:
    audit = world.audit()
    audit.block(world.blocks[0].block)
    audit.chain.rollups[ALPHA].state[balance_key(b"gold", CARL.public_key)] = (7).to_bytes(16, "big")
    violation = found(audit.finish)
    assert violation.invariant == Invariant.CONSERVATION


def test_a_supply_that_grows_without_a_faucet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer = Rollup._transfer

    def printing(self: Rollup, signer: bytes, asset: bytes, recipient: bytes, amount: int) -> int:
        self.add(b"\x05" + bytes((len(asset),)) + asset, 1)
        self.add(balance_key(asset, recipient), 1)
        return transfer(self, signer, asset, recipient, amount)

    monkeypatch.setattr(Rollup, "_transfer", printing)
    violation = world.violation(world.audit())
    assert violation.invariant == Invariant.CONSERVATION
    assert "without a faucet" in violation.message


def test_a_transaction_that_acts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    payment = (ALPHA, chain.signed(ANN, Transfer(b"gold", BOB.public_key, 5)))
    audit = Audit(chain.genesis)
    audit.block(chain.block(payment))
    audit.chain.rollups[ALPHA].seen.clear()
    violation = found(lambda: audit.block(chain.block(payment)))
    assert (violation.invariant, violation.rollup) == (Invariant.ONCE, ALPHA)


# --- swaps ------------------------------------------------------------------------------------------------


def test_a_settlement_that_is_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Rollup._settle
    monkeypatch.setattr(
        Rollup, "_settle", lambda self, opening: None if self.name == BETA else settle(self, opening)
    )
    violation = world.violation(world.audit())
    assert violation.invariant in (Invariant.WHOLE, Invariant.ESCROW)
    assert violation.rollup == BETA


def test_one_leg_that_goes_the_other_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Rollup._settle

    def wrong(self: Rollup, opening: Opening) -> None:
        outcome = opening.outcome
        assert outcome is not None
        if self.name == BETA and outcome.phase == "COMMITTED":
            opening.outcome = outcome._replace(phase="ABORTED", reason="CANCELLED")
        settle(self, opening)
        opening.outcome = outcome

    monkeypatch.setattr(Rollup, "_settle", wrong)
    violation = world.violation(world.audit())
    assert (violation.invariant, violation.rollup) == (Invariant.WHOLE, BETA)
    assert "otherwise than the swap" in violation.message


def test_a_leg_that_is_still_in_escrow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Rollup._settle

    def keeping(self: Rollup, opening: Opening) -> None:
        before = {name: value for name, value in self.state.items() if name[0] == 2}
        settle(self, opening)
        for name, value in before.items():
            self.put(name, value)

    monkeypatch.setattr(Rollup, "_settle", keeping)
    # Value is counted first, and would say it in its own words.
    monkeypatch.setattr("deploy.audit.value.Value.block", lambda *_: None)
    assert world.violation(world.audit()).invariant == Invariant.ESCROW


def unlocked_leg() -> tuple[Chain, Audit, Swap]:
    """Return a chain with a swap that is locked on alpha alone, and an audit of it so far."""
    chain = Chain()
    swap = make_swap(chain)
    audit = Audit(chain.genesis)
    audit.block(chain.block(swap.open, (ALPHA, chain.signed(ANN, Lock(swap.id, 0))), swap.reveal))
    return chain, audit, swap


def test_a_liar_who_attests_a_lock_that_is_not_there() -> None:
    chain, audit, swap = unlocked_leg()
    audit.block(chain.block(chain.attest((swap.id, 0, RejectReason.NONE), of=ALPHA)))
    lie = chain.block(chain.attest((swap.id, 1, RejectReason.NONE), of=BETA))
    violation = found(lambda: audit.block(lie))
    assert (violation.invariant, violation.rollup) == (Invariant.ATTESTED, BETA)
    assert violation.expected == "no lock"
    assert ATTESTERS[BETA].public_key.hex() in violation.source


def test_a_liar_who_attests_another_verdict() -> None:
    chain, audit, swap = unlocked_leg()
    lie = chain.block(chain.attest((swap.id, 0, RejectReason.OTHER), of=ALPHA))
    violation = found(lambda: audit.block(lie))
    assert (violation.invariant, violation.rollup) == (Invariant.ATTESTED, ALPHA)
    assert violation.actual == "verdict 2, reason 255"


def test_a_swap_that_liars_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.audit.swaps.Swaps._check_ballots", lambda *_: None)
    chain, audit, swap = unlocked_leg()
    both = [
        chain.attest((swap.id, place, RejectReason.NONE), of=name) for place, name in ((0, ALPHA), (1, BETA))
    ]
    violation = found(lambda: audit.block(chain.block(*both)))
    assert (violation.invariant, violation.rollup) == (Invariant.WHOLE, BETA)
    assert "lied" in violation.message
    assert violation.place == f"swap {swap.id.hex()}"


def test_a_decision_that_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Opening.look

    def fickle(self: Opening) -> None:
        before = self.outcome
        look(self)
        if before is not None and before.phase == "COMMITTED":
            self.outcome = before._replace(phase="ABORTED", reason="CANCELLED")

    apply = Register.apply

    def touching(self: Register, block: Block) -> None:
        committed = [each for each in self.there.values() if each.outcome is not None]
        apply(self, block)
        for each in committed:
            self._note(each)

    monkeypatch.setattr(Opening, "look", fickle)
    monkeypatch.setattr(Register, "apply", touching)
    assert world.violation(world.audit()).invariant == Invariant.DECIDED_ONCE


def test_a_deadline_that_nobody_keeps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Register, "_reach_deadlines", lambda *_: None)
    violation = world.violation(world.audit())
    assert violation.invariant == Invariant.DEADLINES
    assert "is undecided" in violation.message


def test_a_deadline_before_its_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reach = Register._reach_deadlines
    monkeypatch.setattr(
        Register,
        "_reach_deadlines",
        lambda self, block: reach(self, block._replace(time_ms=block.time_ms + 1_000)),
    )
    violation = world.violation(world.audit())
    assert violation.invariant == Invariant.DEADLINES
    assert "became ABORTED" in violation.message


def test_an_attester_who_contradicts_himself() -> None:
    chain = Chain()
    swap = make_swap(chain)
    audit = Audit(chain.genesis)
    audit.block(chain.block(swap.open, (ALPHA, chain.signed(ANN, Lock(swap.id, 0)))))
    for reason in (RejectReason.NONE, RejectReason.OTHER):
        entry = chain.attest((swap.id, 0, reason), of=ALPHA)
        if reason == RejectReason.NONE:
            audit.block(chain.block(entry))
            continue
        violation = found(lambda entry=entry: audit.block(chain.block(entry)))  # type: ignore[misc]
        assert violation.invariant == Invariant.EVIDENCE
        assert violation.actual == entry[1].hex()


# --- what others say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "invariant"),
    [
        ("state_root", Invariant.COMMITMENTS),
        ("receipts_root", Invariant.COMMITMENTS),
        ("register_root", Invariant.REGISTER),
        ("header_hash", Invariant.EVIDENCE),
    ],
)
def test_a_node_that_says_otherwise(world: World, what: str, invariant: Invariant) -> None:
    audit = world.audit()
    for followed in world.blocks[:9]:
        audit.block(followed.block)
    told = replace(world.told[ALPHA, 7], **{what: bytes(32)})  # type: ignore[arg-type]  # any of them
    violation = found(lambda: audit.told("node 1", told))
    assert (violation.invariant, violation.height, violation.rollup) == (invariant, 7, ALPHA)
    assert violation.source == "node 1"
    assert violation.place == what
    assert bytes(32).hex() in violation.actual
    assert getattr(world.told[ALPHA, 7], what).hex() in violation.expected


def test_a_rollup_of_nobody_yet_has_nothing_and_its_nodes_say_so(world: World) -> None:
    audit = Audit(world.history.chain.genesis, ["gamma"])
    audit.block(world.blocks[0].block)
    nothing = audit.expected.told("gamma", 1)
    assert nothing is not None
    audit.told("node of gamma", nothing)
    assert nothing.receipt_count == 0


def logged(audit: Audit, entries: list[bytes]) -> None:
    for index, entry in enumerate(entries):
        audit.logged(index, entry)


def test_a_log_that_is_ahead_waits_for_the_order(world: World) -> None:
    audit = world.audit()
    logged(audit, world.log())
    assert audit.counts[Invariant.ANCHORS] == 0
    world.run(audit, with_log=False)
    assert audit.counts[Invariant.ANCHORS] == len(world.log()) - 1


def test_a_log_with_a_gap(world: World) -> None:
    entries = world.log()
    del entries[1]
    violation = found(lambda: logged(world.audit(), entries))
    assert violation.invariant == Invariant.APPEND_ONLY
    assert "entry 1" in violation.place


def other_header(world: World, height: int) -> ProvenHeader:
    """Return another header that the sequencer signed at a height."""
    header = world.blocks[height - 1].block.header
    encoded = encode_header(replace(header, data_root=bytes(32)))
    return ProvenHeader(encoded, sign_header(SEQUENCER, encoded))


def test_a_log_that_anchors_another_header(world: World) -> None:
    audit = world.audit()
    for followed in world.blocks:
        audit.block(followed.block)
    parent = HeaderHash(world.history.chain.genesis.chain_id)
    entry = encode_settlement_entry(HeaderRange(Height(1), parent, other_header(world, 4)))
    violation = found(lambda: logged(audit, [world.log()[0], entry]))
    assert (violation.invariant, violation.height) == (Invariant.ANCHORS, 4)


def test_a_log_that_anchors_another_commitment(world: World) -> None:
    audit = world.audit()
    for followed in world.blocks:
        audit.block(followed.block)
    lie = replace(world.commitments[ALPHA, 4], state_root=bytes(32))
    entries = [*world.log()[:2], world.posted(lie, (0, bytes(32)))]
    violation = found(lambda: logged(audit, entries))
    assert (violation.invariant, violation.height, violation.rollup) == (Invariant.ANCHORS, 4, ALPHA)
    assert "entry 2" in violation.source


def test_evidence_in_the_log(world: World) -> None:
    proven = world.blocks[3].header, other_header(world, 4)
    evidence = encode_settlement_entry(Evidence(EvidenceKind.HEADERS, *map(encode_proven_header, proven)))
    violation = found(lambda: logged(world.audit(), [*world.log()[:2], evidence]))
    assert violation.invariant == Invariant.EVIDENCE
    assert violation.expected == encode_proven_header(proven[0]).hex()


def test_a_log_that_shows_others_another_one() -> None:
    for is_honest in (True, False):
        world = World(History())
        chain = world.history.chain
        for _ in range(4):
            chain.block()
        world = World(world.history)
        entries = world.log()
        shown = entries if is_honest else [*entries[:-1], entries[-1] + b"."]
        block = chain.block((LOG_NAMESPACE, world.checkpoint(shown)))
        world = World(world.history)
        audit = world.audit()
        logged(audit, entries)
        if is_honest:
            world.run(audit, with_log=False)
            assert audit.counts[Invariant.ONE_LOG] == 1
        else:
            violation = world.violation(audit)
            assert (violation.invariant, violation.height) == (Invariant.ONE_LOG, block.header.height)
