"""The swap register, entry by entry: what is valid, what is not, and what stops being valid."""

from dataclasses import replace

import pytest

from lockstep import limits
from lockstep.attesters import AttesterSet
from lockstep.block import AdmittedBundle, build_block, verify_block
from lockstep.genesis import parse_genesis
from lockstep.header import genesis_tip
from lockstep.merkle_map import verify_map_proof
from lockstep.order import Transaction, bundle_id, transaction_hash
from lockstep.register import (
    BlockInput,
    Contradicted,
    Decision,
    Ignored,
    Opened,
    OutcomeReason,
    Phase,
    RegistryChanged,
    Revealed,
    UnknownRules,
    Vote,
    Voted,
    apply_block,
    encode_record,
    genesis_register,
    input_of,
    useless_reason,
)
from lockstep.registry_entries import Drain, SetAttesters, SetRules
from lockstep.swap_entries import RejectReason, decode_swap_entry, encode_reveal
from lockstep.terms import LegKind, Terms
from lockstep.types import (
    REGISTRY_NAMESPACE,
    SWAP_NAMESPACE,
    ChainId,
    HeaderHash,
    Height,
    Namespace,
    SwapId,
)
from tests.reference.scenes import (
    LOCK_BY_MS,
    SWAP,
    TERMS,
    alpha_locked,
    beta_locked,
    ignored,
    kinds,
    locked,
    opened,
    outcome,
)
from tests.reference.world import (
    A1,
    A2,
    A3,
    B1,
    CHAIN,
    GENESIS,
    LOCKED,
    REJECTED,
    START_MS,
    STRANGER,
    World,
    attest,
    cancel_entry,
    change_entry,
    genesis_bytes,
    header_hash,
    id_of,
    item_of,
    leg_on,
    make_terms,
    open_entry,
    preimage_of,
    reveal_entry,
)

# --- the chain ----------------------------------------------------------------------------------------------


def test_genesis_is_the_first_register() -> None:
    state = genesis_register(GENESIS)
    assert state.tip == genesis_tip(CHAIN, START_MS)
    assert state.header_hash_at(Height(0)) is None
    assert state.record(SWAP) is None
    assert state.map_root == bytes(32)


def test_a_block_must_continue_the_register() -> None:
    world = opened()
    good = BlockInput(Height(2), header_hash(2), world.register.time_ms + 1, [], [])
    apply_block(world.register, good)
    apply_block(world.register, replace(good, time_ms=world.register.time_ms + limits.MAX_ADVANCE_MS))
    for bad in (
        replace(good, height=Height(1)),
        replace(good, height=Height(3)),
        replace(good, time_ms=world.register.time_ms),
        replace(good, time_ms=world.register.time_ms + limits.MAX_ADVANCE_MS + 1),
    ):
        with pytest.raises(AssertionError, match="cannot follow height 1"):
            apply_block(world.register, bad)


def test_the_input_of_a_verified_block() -> None:
    elsewhere = Namespace("alpha")
    payloads = (
        Transaction(SWAP_NAMESPACE, open_entry(TERMS)),
        Transaction(elsewhere, b"a lock"),
        Transaction(REGISTRY_NAMESPACE, b"a change"),
    )
    hashes = tuple(transaction_hash(*each) for each in payloads)
    bundle = AdmittedBundle(
        bundle_id(CHAIN, START_MS + 1_000, hashes),
        payloads,
        hashes,
        START_MS + 1_000,
    )
    parent = genesis_tip(CHAIN, START_MS)
    built = build_block(parent, START_MS + 5, [bundle])
    wanted = (SWAP_NAMESPACE, REGISTRY_NAMESPACE)
    verified = verify_block(parent, built.header_bytes, built.leaves_bytes, built.entries, wanted)
    block = input_of(verified)
    assert (block.height, block.header_hash, block.time_ms) == (1, built.hash, START_MS + 5)
    assert list(block.swap_entries) == [(0, open_entry(TERMS))]
    assert list(block.registry_entries) == [(2, b"a change")]
    after, events = apply_block(genesis_register(GENESIS), block)
    assert kinds(events) == ["Opened", "Ignored"]
    assert after.tip.hash == built.hash
    with pytest.raises(KeyError):
        input_of(verify_block(parent, built.header_bytes, built.leaves_bytes, built.entries, [elsewhere]))


def test_old_registers_stay_valid() -> None:
    world = opened()
    before, root = world.register, world.register.root
    world.block(*alpha_locked(world), beta_locked(world), reveal_entry(TERMS))
    world.advance_to(LOCK_BY_MS)
    assert world.register.record(SWAP) is None
    assert before.root == root
    assert before.records[SWAP].phase == Phase.OPEN
    again, events = apply_block(before, world.blocks[1])
    assert kinds(events)[-1] == "Decided"
    assert again.records[SWAP].phase == Phase.COMMITTED


def test_rules_that_are_not_known_stop_the_process_before_their_first_block() -> None:
    world = World()
    world.block(registry=[change_entry("rules", SetRules(2), at=3)])
    world.block()
    with pytest.raises(UnknownRules, match="height 3 is under version 2") as raised:
        world.block()
    assert (raised.value.height, raised.value.version) == (3, 2)
    with pytest.raises(UnknownRules):
        World(parse_genesis(genesis_bytes(rules_version=2))).block()


# --- Open ---------------------------------------------------------------------------------------------------


def test_an_open_records_the_swap() -> None:
    world = World()
    [event] = world.block(b"", open_entry(TERMS))[1:]
    assert isinstance(event, Opened)
    assert (event.record.opened_height, event.record.opened_index) == (1, 1)
    assert (event.record.phase, event.record.decision, event.record.preimage) == (Phase.OPEN, None, None)
    assert event.record.missing_legs == (0, 1)
    assert [leg.attesters for leg in event.record.legs] == [
        each.attesters for each in GENESIS.rollups if each.id in ("alpha", "beta")
    ]
    assert world.register.record(SWAP) == event.record
    proof = world.register.record_proof(SWAP)
    verify_map_proof(proof, root=world.register.map_root, key=SWAP, value=encode_record(event.record))


def test_an_open_of_a_recorded_swap_is_a_no_op() -> None:
    world = opened()
    ignored(world, open_entry(TERMS), "recorded already")
    assert kinds(world.block(open_entry(TERMS), open_entry(make_terms("x")))) == ["Ignored", "Opened"]
    world.block(cancel_entry(TERMS))
    ignored(world, open_entry(TERMS), "recorded already")


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (replace(TERMS, chain=ChainId(bytes(32))), "another chain"),
        (replace(TERMS, lock_by_ms=START_MS + 250), "lock_by_ms lies 0 ms ahead"),
        (replace(TERMS, lock_by_ms=START_MS + 249), "lock_by_ms lies -1 ms ahead"),
        (make_terms(lock_by_ms=START_MS + 60_251, expires_ms=START_MS + 70_000), "lies 60001 ms ahead"),
        (replace(TERMS, expires_ms=START_MS + 86_400_251), "expires_ms lies 86400001 ms ahead"),
        (
            replace(TERMS, legs=(leg_on("beta"), replace(leg_on("alpha"), kind=LegKind.MINT))),
            "leg 1 is a MINT",
        ),
        (
            replace(TERMS, legs=(replace(leg_on("alpha"), kind=LegKind.BURN), leg_on("beta"))),
            "leg 0 is a BURN",
        ),
        (replace(TERMS, legs=(leg_on("alpha"), leg_on("gamma"))), "leg 1 names rollup gamma"),
    ],
)
def test_an_open_that_is_not_valid(terms: Terms, reason: str) -> None:
    ignored(World(), open_entry(terms), reason)


@pytest.mark.parametrize(
    "terms",
    [
        replace(TERMS, lock_by_ms=START_MS + 251),
        make_terms(lock_by_ms=START_MS + 60_250, expires_ms=START_MS + 65_250),
        replace(TERMS, expires_ms=START_MS + 86_400_250),
        make_terms(lock_by_ms=START_MS + 251, expires_ms=START_MS + 5_251),
    ],
)
def test_an_open_that_is_just_valid(terms: Terms) -> None:
    assert kinds(World().block(open_entry(terms))) == ["Opened"]


def test_terms_that_are_not_canonical_open_nothing() -> None:
    ignored(World(), open_entry(TERMS) + b"\x00", "malformed")
    ignored(World(), b"\x01\x05" + SWAP, "malformed")
    ignored(World(), b"", "malformed")


def test_a_draining_rollup_opens_no_swaps_but_ends_those_it_has() -> None:
    world = World()
    world.block(open_entry(TERMS), registry=[change_entry("alpha", Drain(), at=2)])
    ignored(
        world, open_entry(make_terms("x")), "leg 0 names rollup alpha, which is not registered and ACTIVE"
    )
    world.block(*alpha_locked(world), beta_locked(world))
    assert outcome(world.block(reveal_entry(TERMS)))[0] == Phase.COMMITTED


def test_a_change_takes_effect_before_the_entries_of_its_block() -> None:
    world = World()
    world.block(registry=[change_entry("alpha", Drain(), at=3)])
    assert kinds(world.block(open_entry(TERMS))) == ["Opened"]
    assert kinds(world.block(open_entry(make_terms("x")))) == ["RegistryChanged", "Ignored"]


def test_registry_entries_hold_from_a_later_block_on_and_tell_what_became_of_them() -> None:
    world = World()
    good, bad = change_entry("alpha", Drain(), at=2), change_entry("alpha", Drain(), sequence=9)
    events = world.block(open_entry(TERMS), registry=[good, bad])
    assert kinds(events) == ["RegistryChanged", "Ignored", "Opened"]
    assert isinstance(events[0], RegistryChanged)
    assert isinstance(events[1], Ignored)
    assert (events[1].index, "sequence 9" in events[1].reason) == (1, True)


# --- entries before the opening, and after the end ----------------------------------------------------------


def test_entries_before_the_open_are_ignored() -> None:
    world = World()
    world.block()
    for early in (reveal_entry(TERMS), cancel_entry(TERMS), beta_locked(world)):
        ignored(world, early, "no such swap")
    events = world.block(reveal_entry(TERMS), beta_locked(world), cancel_entry(TERMS), open_entry(TERMS))
    assert kinds(events) == ["Ignored"] * 3 + ["Opened"]
    assert world.record(TERMS).phase == Phase.OPEN


def test_a_decided_swap_never_changes() -> None:
    for end in (reveal_entry(TERMS), cancel_entry(TERMS)):
        world = locked()
        _, decision = outcome(world.block(b"", end))
        assert (decision.height, decision.index) == (3, 1)
        record = world.record(TERMS)
        for late in (
            reveal_entry(TERMS),
            cancel_entry(TERMS),
            attest(A3, "alpha", world.height, item_of(TERMS, 0)),
        ):
            ignored(world, late, f"the swap is {record.phase.name} already")
        world.block(open_entry(TERMS), reveal_entry(TERMS), cancel_entry(TERMS))
        assert world.record(TERMS) is record


# --- Attest -------------------------------------------------------------------------------------------------


def test_votes_up_to_the_threshold_lock_a_leg() -> None:
    world = opened()
    first, second = alpha_locked(world)
    [event] = world.block(first)
    assert isinstance(event, Voted)
    assert (event.leg, event.vote) == (0, Vote(0, LOCKED, RejectReason.NONE))
    assert event.record.legs[0].verdict is None
    world.block(second)
    assert world.record(TERMS).legs[0].verdict == LOCKED
    assert (world.record(TERMS).phase, world.record(TERMS).missing_legs) == (Phase.OPEN, (1,))
    world.block(beta_locked(world))
    assert world.record(TERMS).phase == Phase.LOCKED
    assert kinds(world.block(attest(A3, "alpha", world.height, item_of(TERMS, 0)))) == ["Voted"]
    assert world.record(TERMS).phase == Phase.LOCKED
    assert [vote.key_index for vote in world.record(TERMS).legs[0].votes] == [0, 1, 2]


def test_votes_are_kept_in_order_of_keys() -> None:
    world = opened()
    world.block(attest(A3, "alpha", 1, item_of(TERMS, 0)))
    world.block(attest(A1, "alpha", 1, item_of(TERMS, 0, REJECTED)))
    leg = world.record(TERMS).legs[0]
    assert [(vote.key_index, vote.verdict) for vote in leg.votes] == [(0, REJECTED), (2, LOCKED)]
    assert [place.height for place in leg.places] == [3, 2]
    assert leg.verdict is None


def test_rejections_up_to_the_threshold_abort() -> None:
    world = opened()
    assert kinds(world.block(attest(A1, "alpha", 1, item_of(TERMS, 0, REJECTED)))) == ["Voted"]
    events = world.block(b"", attest(A3, "alpha", 1, item_of(TERMS, 0, REJECTED)))
    assert kinds(events) == ["Ignored", "Voted", "Decided"]
    assert outcome(events) == (
        Phase.ABORTED,
        Decision(Height(3), 1, OutcomeReason.LEG_REJECTED, (0,)),
    )


def test_one_rejection_does_not_undo_a_locked_leg() -> None:
    world = locked()
    assert kinds(world.block(attest(A3, "alpha", world.height, item_of(TERMS, 0, REJECTED)))) == ["Voted"]
    assert (world.record(TERMS).phase, world.record(TERMS).legs[0].verdict) == (Phase.LOCKED, LOCKED)


def test_one_attestation_speaks_of_many_swaps_and_void_items_are_skipped() -> None:
    world = World()
    other, unknown = make_terms("other"), make_terms("never opened")
    world.block(open_entry(TERMS), open_entry(other))
    items = [item_of(each, leg) for each in (TERMS, other, unknown) for leg in (0, 1, 9)]
    events = world.block(attest(B1, "beta", 1, *items))
    assert kinds(events) == ["Voted", "Voted"]
    assert {event.record.swap_id for event in events if isinstance(event, Voted)} == {SWAP, id_of(other)}


def test_items_of_one_attestation_act_one_by_one() -> None:
    twice = make_terms("twice", legs=(leg_on("beta"), leg_on("beta", 6)))
    world = opened(twice)
    events = world.block(attest(B1, "beta", 1, item_of(twice, 0, REJECTED), item_of(twice, 1, REJECTED)))
    assert kinds(events) == ["Voted", "Decided"]
    assert outcome(events)[1].reason_legs == (0,)
    world = opened(twice)
    events = world.block(
        reveal_entry(twice, "twice"), attest(B1, "beta", 1, item_of(twice, 0), item_of(twice, 1))
    )
    assert kinds(events) == ["Revealed", "Voted", "Voted", "Decided"]
    assert outcome(events)[0] == Phase.COMMITTED


def test_an_attestation_that_says_nothing_of_this_chain() -> None:
    world = opened()
    world.block()
    item = item_of(TERMS, 1)
    ignored(world, attest(B1, "beta", 1, item, chain=ChainId(bytes(32))), "another chain")
    ignored(world, attest(B1, "beta", 3, item), "executed height 3 is not below")
    ignored(world, attest(B1, "beta", 2**40, item), "is not below")
    ignored(world, attest(B1, "beta", 2, item, hashed=header_hash(1)), "another header at executed height 2")
    ignored(world, attest(STRANGER, "beta", 2, item, attester=B1.public_key), "is not signed by")
    assert kinds(world.block(attest(B1, "beta", 2, item))) == ["Voted"]


def test_an_item_that_does_not_count() -> None:
    world = opened()
    world.block()
    ignored(world, attest(B1, "beta", 2, item_of(make_terms("x"), 1)), "no such swap")
    ignored(world, attest(B1, "beta", 2, item_of(TERMS, 0)), "no leg 0 on beta")
    ignored(world, attest(B1, "beta", 2, item_of(TERMS, 2)), "no leg 2 on beta")
    ignored(world, attest(A1, "beta", 2, item_of(TERMS, 1)), "not in the set of leg 1")
    ignored(world, attest(STRANGER, "beta", 2, item_of(TERMS, 1)), "not in the set of leg 1")
    world.block(attest(A1, "alpha", 2, item_of(TERMS, 0)))
    ignored(world, attest(A1, "alpha", 3, item_of(TERMS, 0)), "has voted on leg 0 already")


def test_the_executed_height_starts_at_the_opening() -> None:
    world = World()
    world.block()
    world.block(open_entry(TERMS))
    ignored(world, attest(B1, "beta", 1, item_of(TERMS, 1)), "lies before the swap's opening")
    assert kinds(world.block(attest(B1, "beta", 2, item_of(TERMS, 1)))) == ["Voted"]


def test_headers_age_out_and_verdicts_are_signed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADERS_REMEMBERED", 3)
    world = opened()
    old = beta_locked(world)
    world.block()
    world.block()
    height, time_ms = Height(4), world.register.time_ms + 1
    assert useless_reason(world.register, decode_swap_entry(old), height=height, time_ms=time_ms) is None
    world.block()
    assert len(world.register.header_hashes) == 3
    assert world.register.header_hash_at(Height(1)) is None
    assert world.register.header_hash_at(Height(2)) == header_hash(2)
    ignored(world, old, "lies too far back")
    assert kinds(world.block(beta_locked(world))) == ["Voted"]


def test_the_set_in_force_at_the_opening_attests() -> None:
    world = World()
    new = SetAttesters(AttesterSet(1, (STRANGER.public_key,)))
    world.block(open_entry(TERMS), registry=[change_entry("beta", new, at=2)])
    after = make_terms("after")
    world.block(open_entry(after))
    ignored(world, attest(STRANGER, "beta", 2, item_of(TERMS, 1)), "not in the set of leg 1")
    ignored(world, attest(B1, "beta", 2, item_of(after, 1)), "not in the set of leg 1")
    events = world.block(
        attest(B1, "beta", 2, item_of(TERMS, 1)), attest(STRANGER, "beta", 2, item_of(after, 1))
    )
    assert kinds(events) == ["Voted", "Voted"]


def test_the_first_verdict_stands_and_a_contradiction_is_shown() -> None:
    world = opened()
    first = attest(A1, "alpha", 1, item_of(TERMS, 0))
    second = attest(A1, "alpha", 2, item_of(TERMS, 0, REJECTED))
    world.block(first)
    assert world.block(second) == (
        Contradicted(first, second),
        Ignored(0, "the attester has voted on leg 0 already; its first verdict stands"),
    )
    [vote] = world.record(TERMS).legs[0].votes
    assert vote.verdict == LOCKED
    world.block(attest(A2, "alpha", 3, item_of(TERMS, 0)))
    assert world.record(TERMS).legs[0].verdict == LOCKED


def test_a_contradiction_is_of_one_key_one_leg_and_this_chain() -> None:
    world = opened()
    world.block(attest(A1, "alpha", 1, item_of(TERMS, 0)))
    rejected = item_of(TERMS, 0, REJECTED)
    for harmless in (
        attest(A2, "alpha", 2, rejected),
        attest(A1, "alpha", 2, item_of(TERMS, 0)),
        attest(A1, "alpha", 2, rejected, hashed=HeaderHash(bytes(32))),
        attest(STRANGER, "alpha", 2, rejected, attester=A1.public_key),
    ):
        assert "Contradicted" not in kinds(world.block(harmless))


def test_another_reason_is_a_contradiction_and_so_is_one_after_the_end() -> None:
    world = opened()
    first = attest(B1, "beta", 1, item_of(TERMS, 1, REJECTED))
    assert outcome(world.block(first))[1].reason == OutcomeReason.LEG_REJECTED
    other = replace(item_of(TERMS, 1, REJECTED), reason=RejectReason.OTHER)
    for second in (attest(B1, "beta", 1, other), attest(B1, "beta", 2, item_of(TERMS, 1))):
        assert world.block(second)[0] == Contradicted(first, second)


def test_one_attestation_may_count_and_contradict_and_is_shown_once() -> None:
    twice = make_terms("twice", legs=(leg_on("alpha"), leg_on("alpha", 6), leg_on("beta")))
    world = opened(twice)
    first = attest(A1, "alpha", 1, item_of(twice, 0), item_of(twice, 1))
    world.block(first)
    both = attest(A1, "alpha", 2, item_of(twice, 0, REJECTED), item_of(twice, 1, REJECTED))
    assert kinds(world.block(both)) == ["Contradicted", "Ignored"]
    more = make_terms("more")
    world.block(open_entry(more))
    mixed = attest(A1, "alpha", world.height, item_of(twice, 0, REJECTED), item_of(more, 0))
    assert kinds(world.block(mixed)) == ["Contradicted", "Voted"]


def test_attestations_are_remembered_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ATTESTATIONS_REMEMBERED", 1)
    world = opened()
    first, second = alpha_locked(world)
    world.block(first)
    world.block(second)
    assert list(world.register.attestations.values()) == [second]
    forgotten = attest(A1, "alpha", 1, item_of(TERMS, 0, REJECTED))
    assert kinds(world.block(forgotten)) == ["Ignored"]
    remembered = attest(A2, "alpha", 1, item_of(TERMS, 0, REJECTED))
    assert world.block(remembered)[0] == Contradicted(second, remembered)


# --- Reveal and Cancel --------------------------------------------------------------------------------------


def test_a_reveal_after_the_locks_commits() -> None:
    world = locked()
    events = world.block(b"", reveal_entry(TERMS))
    assert kinds(events) == ["Ignored", "Revealed", "Decided"]
    assert outcome(events) == (Phase.COMMITTED, Decision(Height(3), 1, OutcomeReason.NONE, ()))
    assert world.record(TERMS).preimage == preimage_of("swap")


def test_the_last_lock_after_the_reveal_commits() -> None:
    world = World()
    assert kinds(world.block(open_entry(TERMS), reveal_entry(TERMS))) == ["Opened", "Revealed"]
    assert world.record(TERMS).phase == Phase.REVEALED
    world.block(*alpha_locked(world))
    assert world.record(TERMS).phase == Phase.REVEALED
    assert outcome(world.block(beta_locked(world))) == (
        Phase.COMMITTED,
        Decision(Height(3), 0, OutcomeReason.NONE, ()),
    )


def test_a_reveal_needs_the_preimage_and_comes_once() -> None:
    world = opened()
    ignored(world, reveal_entry(TERMS, "another"), "not the hashlock's")
    ignored(world, reveal_entry(TERMS) + b"\x00", "malformed")
    ignored(world, reveal_entry(TERMS)[:-1], "malformed")
    ignored(world, encode_reveal(SwapId(bytes(32)), preimage_of("swap")), "no such swap")
    [event] = world.block(reveal_entry(TERMS))
    assert isinstance(event, Revealed)
    ignored(world, reveal_entry(TERMS), "revealed already")


def test_a_cancel_aborts_until_the_reveal() -> None:
    world = opened()
    ignored(world, cancel_entry(TERMS, STRANGER), "not signed by the terms' revealer")
    ignored(world, cancel_entry(TERMS, chain=ChainId(bytes(32))), "another chain")
    ignored(world, cancel_entry(make_terms("x")), "no such swap")
    expected = Decision(Height(2), 0, OutcomeReason.CANCELLED, ())
    assert outcome(world.block(cancel_entry(TERMS))) == (Phase.ABORTED, expected)
    assert not world.record(TERMS).is_fully_locked

    world = locked()
    assert outcome(world.block(cancel_entry(TERMS)))[1].reason == OutcomeReason.CANCELLED
    assert world.record(TERMS).is_fully_locked

    world = opened()
    world.block(reveal_entry(TERMS))
    ignored(world, cancel_entry(TERMS), "the preimage is revealed, which no cancellation undoes")
    assert kinds(world.block(cancel_entry(TERMS), *alpha_locked(world), beta_locked(world)))[-1] == "Decided"
    assert world.record(TERMS).phase == Phase.COMMITTED
