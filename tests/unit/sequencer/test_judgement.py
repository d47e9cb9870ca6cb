"""What admission lets through: whatever may have an effect, at the next block, after what is under way."""

import pytest

from lockstep.block import AdmittedBundle
from lockstep.checkpoint import encode_checkpoint, sign_note
from lockstep.errors import BadSignature, LockstepError, UselessEntry
from lockstep.order import Bundle, Transaction
from lockstep.registry_entries import Drain, SetQuota
from lockstep.settlement_entries import encode_log_entry
from lockstep.signing import SigningKey
from lockstep.types import LOG_NAMESPACE, REGISTRY_NAMESPACE, SWAP_NAMESPACE, Namespace
from sequencer.admission import admit, open_namespaces
from sequencer.judgement import Judge, Judgement
from tests.reference.scenes import SWAP, TERMS, alpha_locked, beta_locked, locked, opened
from tests.reference.world import (
    A1,
    CHAIN,
    GENESIS,
    REVEALER,
    STRANGER,
    World,
    attest,
    cancel_entry,
    change_entry,
    id_of,
    item_of,
    key_of,
    make_terms,
    open_entry,
    reveal_entry,
)

OTHER = make_terms("other")
OPEN, REVEAL, CANCEL = open_entry(TERMS), reveal_entry(TERMS), cancel_entry(TERMS)
ALPHA = Namespace("alpha")


def bundle_of(*entries: bytes, namespace: Namespace = SWAP_NAMESPACE, beside: bytes = b"") -> AdmittedBundle:
    """Return a bundle of entries, and with `beside` a transaction of a rollup."""
    transactions = [Transaction(namespace, each) for each in entries]
    if beside:
        transactions.append(Transaction(ALPHA, beside))
    return admit(CHAIN, Bundle(tuple(transactions), 10**15), open_namespaces(World().register.registry))


def judged(
    world: World,
    bundle: AdmittedBundle,
    judge: Judge | None = None,
    *,
    log_size: int = 0,
    later_ms: int = 250,
) -> Judgement:
    judge = judge or Judge(GENESIS.settlement.origin)
    time_ms = world.register.time_ms + later_ms
    return judge.judge(bundle, world.register, log_size=log_size, time_ms=time_ms)


def refusal(
    world: World,
    bundle: AdmittedBundle,
    judge: Judge | None = None,
    *,
    log_size: int = 0,
    later_ms: int = 250,
) -> LockstepError:
    with pytest.raises(LockstepError) as refused:
        judged(world, bundle, judge, log_size=log_size, later_ms=later_ms)
    return refused.value


def test_a_bundle_of_rollups_is_not_looked_at() -> None:
    assert judged(World(), bundle_of(beside=b"anything")) == Judgement()


def test_opening_bundles_pass_with_all_that_rests_on_them() -> None:
    for entries in ((OPEN,), (OPEN, REVEAL), (OPEN, CANCEL)):
        judgement = judged(World(), bundle_of(*entries, beside=b"a lock"))
        assert judgement == Judgement(opens=(SWAP,))
    error = refusal(World(), bundle_of(REVEAL, OPEN))
    assert isinstance(error, UselessEntry)
    assert (error.kind, error.reason) == ("Reveal", "no such swap is recorded")


@pytest.mark.parametrize(
    ("entry", "kind"),
    [(OPEN, "Open"), (reveal_entry(TERMS, "wrong"), "Reveal"), (cancel_entry(TERMS, STRANGER), "Cancel")],
)
def test_what_the_register_would_ignore_is_refused(entry: bytes, kind: str) -> None:
    for bundle in (bundle_of(entry), bundle_of(entry, beside=b"a lock"), bundle_of(REVEAL, entry)):
        error = refusal(opened(), bundle)
        assert isinstance(error, UselessEntry)
        assert error.kind == kind


def test_it_is_judged_at_the_next_blocks_time() -> None:
    left_ms = TERMS.lock_by_ms - opened().register.time_ms
    assert judged(opened(), bundle_of(REVEAL), later_ms=left_ms - 1).claims
    assert isinstance(refusal(opened(), bundle_of(REVEAL), later_ms=left_ms), UselessEntry)
    left_ms = TERMS.lock_by_ms - World().register.time_ms
    assert judged(World(), bundle_of(OPEN), later_ms=left_ms - 1).opens
    assert isinstance(refusal(World(), bundle_of(OPEN), later_ms=left_ms), UselessEntry)


def test_attestations_count_once() -> None:
    world = opened()
    [first, second] = alpha_locked(world)
    assert judged(world, bundle_of(first, second, beta_locked(world))).claims == {
        (SWAP, "Attest", 0, A1.public_key),
        (SWAP, "Attest", 0, key_of("a2").public_key),
        (SWAP, "Attest", 1, key_of("b1").public_key),
    }
    world.block(first)
    assert isinstance(refusal(world, bundle_of(first)), UselessEntry)
    # One item that counts is enough.
    world.block(open_entry(OTHER))
    both = attest(A1, "alpha", world.height, item_of(TERMS, 0), item_of(OTHER, 0))
    assert (id_of(OTHER), "Attest", 0, A1.public_key) in judged(world, bundle_of(both)).claims


def test_only_decisions_claim_anything() -> None:
    assert judged(locked(), bundle_of(REVEAL)).claims == {(SWAP, "Reveal", 0, b"")}
    assert judged(locked(), bundle_of(CANCEL)).claims == {(SWAP, "Cancel", 0, b"")}
    for bundle in (bundle_of(REVEAL, beside=b"more"), bundle_of(REVEAL, open_entry(OTHER)), bundle_of(OPEN)):
        world = World() if bundle == bundle_of(OPEN) else locked()
        assert judged(world, bundle).claims == frozenset()


def test_what_rests_on_a_swap_under_way_is_admitted_and_follows_it() -> None:
    world, judge = World(), Judge(GENESIS.settlement.origin)
    opening = bundle_of(OPEN)
    judgement = judged(world, opening, judge)
    judge.add(opening.bundle_id, judgement)
    early = attest(A1, "alpha", 1, item_of(TERMS, 0))
    for entry in (REVEAL, CANCEL, early, OPEN, reveal_entry(TERMS, "wrong")):
        assert judged(world, bundle_of(entry), judge).follows == (SWAP,)
        assert judged(world, bundle_of(entry), judge).claims == frozenset()
    # Another swap's entry in the same bundle is judged all the same.
    assert isinstance(refusal(world, bundle_of(REVEAL, reveal_entry(OTHER, "other")), judge), UselessEntry)
    judge.remove(opening.bundle_id, judgement)
    assert isinstance(refusal(world, bundle_of(REVEAL), judge), UselessEntry)
    world.block(OPEN)
    assert judged(world, bundle_of(REVEAL), judge).claims


def test_two_openings_of_one_swap_are_both_remembered() -> None:
    world, judge = World(), Judge(GENESIS.settlement.origin)
    first, second = bundle_of(OPEN), bundle_of(OPEN, beside=b"x")
    judgements = [(each.bundle_id, judged(world, each, judge)) for each in (first, second)]
    for judgement in judgements:
        judge.add(*judgement)
    judge.remove(*judgements[0])
    assert judged(world, bundle_of(REVEAL), judge).follows == (SWAP,)
    judge.remove(*judgements[1])
    assert isinstance(refusal(world, bundle_of(REVEAL), judge), UselessEntry)


def test_changes_of_the_registry_must_be_acceptable_after_those_under_way_or_without() -> None:
    world, judge = World(), Judge(GENESIS.settlement.origin)
    first = bundle_of(change_entry("alpha", Drain(), at=5), namespace=REGISTRY_NAMESPACE)
    second = bundle_of(change_entry("alpha", SetQuota(None), sequence=2, at=5), namespace=REGISTRY_NAMESPACE)
    third = bundle_of(change_entry("alpha", SetQuota(None), sequence=3, at=5), namespace=REGISTRY_NAMESPACE)
    error = refusal(world, second, judge)
    assert isinstance(error, UselessEntry)
    assert "has sequence 2" in error.reason
    judgement = judged(world, first, judge)
    judge.add(first.bundle_id, judgement)
    assert judged(world, second, judge).registry_entries
    # The one under way may never be ordered.
    rival = bundle_of(change_entry("alpha", Drain(), at=6), namespace=REGISTRY_NAMESPACE)
    rival_judgement = judged(world, rival, judge)
    assert rival_judgement.registry_entries
    # Only one of two rivals can count; what follows either is admitted.
    judge.add(rival.bundle_id, rival_judgement)
    assert judged(world, second, judge).registry_entries
    judge.remove(rival.bundle_id, rival_judgement)
    assert isinstance(refusal(world, third, judge), UselessEntry)
    judge.remove(first.bundle_id, judgement)
    assert isinstance(refusal(world, second, judge), UselessEntry)
    both = bundle_of(
        change_entry("alpha", Drain(), at=5),
        change_entry("alpha", SetQuota(None), sequence=2, at=5),
        namespace=REGISTRY_NAMESPACE,
    )
    assert len(judged(world, both, judge).registry_entries) == 2
    # It must lie above its own block.
    past = bundle_of(change_entry("alpha", Drain(), at=1), namespace=REGISTRY_NAMESPACE)
    assert isinstance(refusal(world, past, judge), UselessEntry)


def checkpoint(size: int, key: SigningKey, origin: str = GENESIS.settlement.origin) -> AdmittedBundle:
    note = sign_note(
        encode_checkpoint(origin, size, bytes(32)),
        name=origin,
        public_key=key.public_key,
        sign=key.sign_raw,
    )
    return bundle_of(encode_log_entry(note), namespace=LOG_NAMESPACE)


def test_checkpoints_are_the_logs_own_and_grow() -> None:
    settlement = key_of("settlement")
    assert judged(World(), checkpoint(8, settlement), log_size=7) == Judgement()
    for size in (7, 6):
        assert isinstance(refusal(World(), checkpoint(size, settlement), log_size=7), UselessEntry)
    assert isinstance(refusal(World(), checkpoint(8, STRANGER), log_size=7), BadSignature)
    assert isinstance(refusal(World(), checkpoint(8, settlement, "other.example/log")), BadSignature)
    assert isinstance(
        refusal(World(), bundle_of(encode_log_entry(b"note"), namespace=LOG_NAMESPACE)), LockstepError
    )


def test_the_revealers_cancel_is_for_a_swap_that_is_not_revealed() -> None:
    world = opened()
    world.block(REVEAL)
    assert isinstance(refusal(world, bundle_of(cancel_entry(TERMS, REVEALER))), UselessEntry)
