"""The registry: every rule of every kind of change, and random histories against its invariants."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.audit.plain.registry import Registry as PlainRegistry
from lockstep import limits, registry
from lockstep.attesters import AttesterSet, verify_attesters
from lockstep.errors import Malformed
from lockstep.genesis import (
    Genesis,
    Quota,
    RollupDefinition,
    Settlement,
    encode_genesis,
    encode_rollup_definition,
    parse_genesis,
)
from lockstep.registry import (
    Outcome,
    Registry,
    RegistryEvent,
    RollupStatus,
    accept,
    role_key_at,
    step,
    take_effect,
)
from lockstep.registry_entries import (
    Action,
    Drain,
    Leave,
    RegisterRollup,
    RegistryChange,
    RotateAttester,
    RotateKey,
    SetAttesters,
    SetQuota,
    SetRules,
    SignedBy,
    Veto,
    decode_registry_entry,
    encode_registry_entry,
    sign_change,
)
from lockstep.registry_state import RulesChange
from lockstep.signing import SigningKey
from lockstep.types import ChainId, Height, PublicKey, RollupId
from tests.unit.lockstep.strictness import assert_strict
from tests.vectors import generate_registry
from tests.vectors.plain import plain

FOLDER = Path(generate_registry.__file__).parent
VECTORS: dict[str, Any] = json.loads((FOLDER / "registry.json").read_text())

KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 16)]
SEQUENCER, SETTLEMENT, GOVERNANCE, A1, A2, A3, B1, FRESH, FRESH_2, STRANGER = KEYS[:10]
START_MS = 1_000_000
DELAY = 5
NINE = SetQuota(Quota(9, 9))


def make_genesis(rollups: int = 0) -> Genesis:
    alpha = RollupDefinition(RollupId("alpha"), AttesterSet(2, (A1.public_key, A2.public_key, A3.public_key)))
    more = [RollupDefinition(RollupId(f"r{n}"), AttesterSet(1, (B1.public_key,))) for n in range(rollups)]
    return parse_genesis(
        encode_genesis(
            name="test",
            genesis_time_ms=START_MS,
            sequencer=SEQUENCER.public_key,
            settlement=Settlement("test", SETTLEMENT.public_key),
            governance=GOVERNANCE.public_key,
            rotation_delay_blocks=DELAY,
            rollups=[alpha, *more],
        )
    )


GENESIS = make_genesis()
CHAIN = GENESIS.chain_id


def definition_of(rollup: str) -> bytes:
    return encode_rollup_definition(RollupDefinition(RollupId(rollup), AttesterSet(1, (B1.public_key,))))


def signed(
    subject: str,
    action: Action,
    *,
    sequence: int = 1,
    at: int = 2,
    key: SigningKey = GOVERNANCE,
    own: bool = False,
    chain: ChainId = CHAIN,
) -> bytes:
    change = RegistryChange(chain, subject, sequence, Height(at), action)
    return sign_change(key, change, SignedBy.SUBJECT if own else SignedBy.GOVERNANCE)


class Chain:
    """A registry with its height, block after block, compared with the plain one."""

    def __init__(self, genesis: Genesis = GENESIS) -> None:
        self.state = Registry.from_genesis(genesis)
        self.plain = PlainRegistry(genesis)
        self.height = 0

    def block(self, *payloads: bytes, time_ms: int | None = None) -> tuple[RegistryEvent, ...]:
        self.height += 1
        time_ms = START_MS + self.height if time_ms is None else time_ms
        sequencer = role_key_at(self.state, "sequencer", Height(self.height))
        assert self.plain.sequencer_key_at(self.height) == sequencer
        self.state, events = step(
            self.state, height=Height(self.height), time_ms=time_ms, entries=list(enumerate(payloads))
        )
        self.plain.take_effect(self.height, time_ms)
        for index, payload in enumerate(payloads):
            self.plain.judge(self.height, index, payload)
        assert self.plain.digest() == self.state.digest
        return events

    def outcomes(self, *payloads: bytes) -> list[Outcome]:
        return [event.outcome for event in self.block(*payloads)]

    def ignored(self, payload: bytes, reason: str) -> None:
        """Assert that an entry changes nothing, and why."""
        before = self.state
        after, events = accept(self.state, height=Height(self.height + 1), entries=[(0, payload)])
        assert [event.outcome for event in events] == [Outcome.IGNORED]
        assert reason in events[0].reason
        assert after is before


# --- what holds for all kinds -------------------------------------------------------------------------------


def test_genesis_is_the_first_registry() -> None:
    state = Registry.from_genesis(GENESIS)
    assert dict(state.keys) == {
        "sequencer": SEQUENCER.public_key,
        "settlement": SETTLEMENT.public_key,
        "governance": GOVERNANCE.public_key,
    }
    assert state.rules_version == 1
    assert state.next_rules_change is None
    alpha = state.rollup("alpha")
    assert alpha is not None
    assert (alpha.status, alpha.attesters.threshold, alpha.quota) == (RollupStatus.ACTIVE, 2, None)
    assert state.is_open_for("alpha")
    assert state.rollup("beta") is None
    assert not state.is_open_for("beta")


def test_a_change_waits_for_its_height() -> None:
    chain = Chain()
    entry = signed("alpha", SetQuota(Quota(1, 2)), at=3)
    assert chain.outcomes(entry) == [Outcome.ACCEPTED]
    assert chain.outcomes() == []
    assert chain.state.rollups[RollupId("alpha")].quota is None
    assert chain.outcomes() == [Outcome.EFFECTIVE]
    assert chain.state.rollups[RollupId("alpha")].quota == Quota(1, 2)
    assert chain.state.changed_height == 3
    assert chain.state.pending == ()


def test_an_uneventful_block_leaves_the_very_same_registry() -> None:
    chain = Chain()
    before = chain.state
    chain.block()
    assert chain.state is before
    assert chain.state.digest == before.digest


def test_rules_for_all_kinds() -> None:
    chain = Chain()
    quota = SetQuota(Quota(1, 1))
    chain.ignored(b"", "registry entry is malformed")
    chain.ignored(signed("alpha", quota) + b"\x00", "left over")
    chain.ignored(signed("alpha", quota, chain=ChainId(bytes(32))), "another chain")
    chain.ignored(signed("alpha", quota, sequence=2), "sequence 2")
    chain.ignored(signed("alpha", quota, at=1), "takes effect 0 blocks ahead")
    chain.ignored(signed("alpha", quota, at=1_000_002), "takes effect 1000001 blocks ahead")
    chain.ignored(signed("alpha", quota, key=STRANGER), "is not signed by")
    chain.ignored(signed("alpha", quota, key=A1, own=True, at=99), "only be signed by governance")
    assert chain.outcomes(signed("alpha", quota, at=1_000_001)) == [Outcome.ACCEPTED]
    chain.ignored(signed("alpha", quota, at=3), "sequence 1, the next of alpha is 2")
    assert chain.outcomes(signed("alpha", quota, sequence=2, at=9)) == [Outcome.ACCEPTED]


def test_a_full_registry_still_takes_vetoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PENDING_CHANGES_MAX", 2)
    chain = Chain()
    quota = SetQuota(None)
    chain.block(signed("alpha", quota, at=9), signed("alpha", quota, sequence=2, at=9))
    chain.ignored(signed("alpha", quota, sequence=3, at=9), "2 changes pending already")
    assert chain.outcomes(signed("alpha", Veto(1), sequence=3, at=9)) == [Outcome.EFFECTIVE, Outcome.VETOED]
    assert chain.outcomes(signed("alpha", quota, sequence=4, at=9)) == [Outcome.ACCEPTED]


def test_changes_due_together_take_effect_in_order_of_acceptance() -> None:
    chain = Chain()
    chain.block(signed("alpha", SetQuota(Quota(1, 1)), at=3))
    chain.block(signed("alpha", SetQuota(Quota(2, 2)), sequence=2, at=3))
    assert [event.height for event in chain.block()] == [1, 2]
    assert chain.state.rollups[RollupId("alpha")].quota == Quota(2, 2)


# --- rollups ------------------------------------------------------------------------------------------------


def test_registering_a_rollup() -> None:
    chain = Chain()
    chain.ignored(signed("alpha", RegisterRollup(definition_of("alpha"))), "used already")
    chain.ignored(signed("beta", RegisterRollup(definition_of("gamma"))), "a definition of gamma")
    chain.ignored(signed("beta", RegisterRollup(b"{}")), "definition that cannot be")
    beta = RegisterRollup(definition_of("beta"))
    assert chain.outcomes(signed("beta", beta, at=3)) == [Outcome.ACCEPTED]
    chain.ignored(signed("beta", beta, sequence=2, at=9), "used already")
    chain.block()
    assert not chain.state.is_open_for("beta")
    assert chain.outcomes() == [Outcome.EFFECTIVE]
    assert chain.state.is_open_for("beta")
    chain.ignored(signed("beta", beta, sequence=2, at=9), "used already")


def test_there_is_room_for_so_many_rollups_and_vetoed_ones_count() -> None:
    chain = Chain(make_genesis(rollups=limits.BLOCK_NAMESPACES_MAX - 3 - 2))
    here = chain.state.chain_id
    beta = RegisterRollup(definition_of("beta"))
    chain.block(signed("beta", beta, at=9, chain=here), signed("beta", Veto(1), sequence=2, at=9, chain=here))
    assert chain.state.pending == ()
    chain.ignored(
        signed("gamma", RegisterRollup(definition_of("gamma")), at=9, chain=here), "finds 1021 rollups"
    )
    assert chain.outcomes(signed("beta", beta, sequence=3, at=9, chain=here)) == [Outcome.ACCEPTED]


def test_setting_attesters() -> None:
    chain = Chain()
    one, other = A1.public_key, A2.public_key
    chain.ignored(signed("beta", SetAttesters(AttesterSet(1, (one,)))), "not registered")
    for bad in (
        AttesterSet(1, (one, other)),
        AttesterSet(2, (one, one)),
        AttesterSet(1, (PublicKey(bytes(32)),)),
    ):
        chain.ignored(signed("alpha", SetAttesters(bad)), "set that cannot be")
    good = AttesterSet(2, (one, other))
    chain.block(signed("alpha", SetAttesters(good)))
    chain.block()
    assert chain.state.rollups[RollupId("alpha")].attesters == good


def test_draining_and_leaving_take_a_day() -> None:
    chain = Chain()
    chain.ignored(signed("alpha", Leave()), "not DRAINING")
    chain.block(signed("alpha", Drain()))
    chain.ignored(signed("alpha", Leave(), sequence=2, at=9), "not DRAINING")
    drained_ms = START_MS + 50
    chain.block(time_ms=drained_ms)
    assert not chain.state.is_open_for("alpha")
    chain.ignored(signed("alpha", Drain(), sequence=2, at=9), "not ACTIVE")
    chain.block(signed("alpha", Leave(), sequence=2, at=4), signed("alpha", SetQuota(None), sequence=3, at=9))
    assert chain.block(time_ms=drained_ms + limits.DRAIN_MS_MIN - 1) == ()
    assert chain.state.rollups[RollupId("alpha")].status == RollupStatus.DRAINING
    (event,) = chain.block(time_ms=drained_ms + limits.DRAIN_MS_MIN)
    assert event.outcome == Outcome.EFFECTIVE
    assert chain.state.rollups[RollupId("alpha")].status == RollupStatus.LEFT
    chain.ignored(signed("alpha", RegisterRollup(definition_of("alpha")), sequence=4, at=9), "used already")
    chain.ignored(signed("alpha", SetQuota(None), sequence=4, at=9), "has left")
    for _ in range(3):
        assert chain.outcomes() == []
    assert chain.outcomes() == [Outcome.VOID]


def test_a_leave_is_not_early_either() -> None:
    chain = Chain()
    chain.block(signed("alpha", Drain()))
    chain.block(time_ms=START_MS + 2)
    chain.block(signed("alpha", Leave(), sequence=2, at=5))
    late_ms = START_MS + 2 + limits.DRAIN_MS_MIN
    assert chain.block(time_ms=late_ms) == ()
    assert [event.outcome for event in chain.block(time_ms=late_ms + 1)] == [Outcome.EFFECTIVE]


def test_quotas_come_and_go() -> None:
    chain = Chain()
    chain.ignored(signed("beta", SetQuota(None)), "not registered")
    chain.block(
        signed("alpha", SetQuota(Quota(3, 4)), at=2), signed("alpha", SetQuota(None), sequence=2, at=3)
    )
    chain.block()
    assert chain.state.rollups[RollupId("alpha")].quota == Quota(3, 4)
    chain.block()
    assert chain.state.rollups[RollupId("alpha")].quota is None


# --- keys ---------------------------------------------------------------------------------------------------


def test_governance_rotates_a_key_at_once_and_the_key_itself_after_the_delay() -> None:
    rotate = RotateKey(FRESH.public_key)
    chain = Chain()
    chain.ignored(signed("sequencer", rotate, at=DELAY, key=SEQUENCER, own=True), "announced 4 blocks ahead")
    chain.ignored(signed("sequencer", rotate, at=99, key=SETTLEMENT, own=True), "is not signed by")
    assert chain.outcomes(signed("sequencer", rotate, at=1 + DELAY, key=SEQUENCER, own=True)) == [
        Outcome.ACCEPTED
    ]
    for _ in range(DELAY - 1):
        chain.block()
    assert chain.state.keys["sequencer"] == SEQUENCER.public_key
    assert role_key_at(chain.state, "sequencer", Height(1 + DELAY)) == FRESH.public_key
    chain.block()
    assert chain.state.keys["sequencer"] == FRESH.public_key

    chain = Chain()
    chain.block(signed("sequencer", rotate, at=2))
    assert role_key_at(chain.state, "sequencer", Height(1)) == SEQUENCER.public_key
    assert role_key_at(chain.state, "sequencer", Height(2)) == FRESH.public_key
    chain.block()
    assert chain.state.keys["sequencer"] == FRESH.public_key


def test_a_new_key_must_be_nobodys() -> None:
    chain = Chain()
    chain.ignored(signed("sequencer", RotateKey(PublicKey(bytes(32)))), "not an Ed25519 public key")
    chain.ignored(signed("sequencer", RotateKey(SEQUENCER.public_key)), "has or awaits")
    chain.ignored(signed("sequencer", RotateKey(GOVERNANCE.public_key)), "has or awaits")
    chain.block(signed("sequencer", RotateKey(FRESH.public_key), at=9))
    chain.ignored(signed("settlement", RotateKey(FRESH.public_key), at=9), "has or awaits")


def test_a_rotated_governance_key_signs_from_its_height_on() -> None:
    chain = Chain()
    chain.block(signed("governance", RotateKey(FRESH.public_key), at=2))
    quota = SetQuota(Quota(1, 1))
    late = signed("alpha", quota, at=9)
    assert chain.outcomes(late) == [Outcome.EFFECTIVE, Outcome.IGNORED]
    assert chain.outcomes(signed("alpha", quota, at=9, key=FRESH)) == [Outcome.ACCEPTED]


def test_a_thiefs_rotation_can_be_vetoed() -> None:
    chain = Chain()
    rotate = RotateKey(FRESH.public_key)
    chain.block(signed("sequencer", rotate, at=9, key=SEQUENCER, own=True))
    again = signed("sequencer", RotateKey(FRESH_2.public_key), sequence=2, at=9, key=SEQUENCER, own=True)
    chain.ignored(again, "still pending")
    chain.ignored(signed("sequencer", Veto(1), sequence=2, at=9, key=SEQUENCER, own=True), "by governance")
    chain.ignored(signed("sequencer", Veto(2), sequence=2, at=9), "no change that is pending")
    chain.ignored(signed("settlement", Veto(1), at=9), "no change that is pending")
    assert chain.outcomes(signed("sequencer", Veto(1), sequence=2, at=9)) == [
        Outcome.EFFECTIVE,
        Outcome.VETOED,
    ]
    for _ in range(10):
        assert chain.outcomes() == []
    assert chain.state.keys["sequencer"] == SEQUENCER.public_key


def test_a_veto_is_in_time_until_the_last_block_before_the_effect() -> None:
    chain = Chain()
    chain.block(signed("alpha", NINE, at=3))
    assert chain.outcomes(signed("alpha", Veto(1), sequence=2, at=3)) == [Outcome.EFFECTIVE, Outcome.VETOED]
    late = Chain()
    late.block(signed("alpha", NINE, at=2))
    assert late.outcomes(signed("alpha", Veto(1), sequence=2, at=3)) == [Outcome.EFFECTIVE, Outcome.IGNORED]


def test_what_a_replaced_key_announced_is_void() -> None:
    chain = Chain()
    thief = signed("sequencer", RotateKey(STRANGER.public_key), at=1 + DELAY, key=SEQUENCER, own=True)
    chain.block(thief)
    chain.block(signed("sequencer", RotateKey(FRESH.public_key), sequence=2, at=3))
    chain.block()
    # The fresh key is not kept from announcing its own replacement by what the old one left behind.
    own = signed("sequencer", RotateKey(FRESH_2.public_key), sequence=3, at=4 + DELAY, key=FRESH, own=True)
    assert chain.outcomes(own) == [Outcome.ACCEPTED]
    chain.block()
    assert chain.outcomes() == [Outcome.VOID]
    assert chain.state.keys["sequencer"] == FRESH.public_key


def test_rotating_an_attester_keeps_its_place() -> None:
    chain = Chain()
    rotate = RotateAttester(A2.public_key, FRESH.public_key)
    chain.ignored(signed("alpha", RotateAttester(STRANGER.public_key, FRESH.public_key)), "not in the set")
    chain.ignored(signed("alpha", RotateAttester(A2.public_key, A3.public_key)), "set that cannot be")
    chain.ignored(signed("alpha", RotateAttester(A2.public_key, PublicKey(bytes(32)))), "set that cannot be")
    chain.ignored(signed("beta", rotate), "not registered")
    chain.ignored(signed("alpha", rotate, at=99, key=A1, own=True), "is not signed by")
    chain.ignored(signed("alpha", rotate, at=DELAY, key=A2, own=True), "announced")
    stranger = RotateAttester(STRANGER.public_key, FRESH.public_key)
    chain.ignored(signed("alpha", stranger, at=99, key=STRANGER, own=True), "not in the set")
    chain.block(signed("alpha", rotate, at=1 + DELAY, key=A2, own=True))
    other = RotateAttester(A1.public_key, FRESH_2.public_key)
    assert chain.outcomes(signed("alpha", other, sequence=2, at=2 + DELAY, key=A1, own=True)) == [
        Outcome.ACCEPTED
    ]
    chain.ignored(signed("alpha", other, sequence=3, at=99, key=A1, own=True), "still pending")
    for _ in range(DELAY):
        chain.block()
    expected = (FRESH_2.public_key, FRESH.public_key, A3.public_key)
    assert chain.state.rollups[RollupId("alpha")].attesters == AttesterSet(2, expected)


def test_a_change_that_no_longer_fits_is_void() -> None:
    chain = Chain()
    rotate = RotateAttester(A2.public_key, FRESH.public_key)
    chain.block(
        signed("alpha", SetAttesters(AttesterSet(1, (A1.public_key,))), at=2),
        signed("alpha", rotate, sequence=2, at=3),
    )
    assert chain.outcomes() == [Outcome.EFFECTIVE]
    changed_height = chain.state.changed_height
    (event,) = chain.block()
    assert (event.outcome, event.index) == (Outcome.VOID, 1)
    assert "not in the set" in event.reason
    assert chain.state.changed_height == changed_height


# --- rules --------------------------------------------------------------------------------------------------


def test_rules_only_ascend_and_are_announced() -> None:
    chain = Chain()
    chain.ignored(signed("rules", SetRules(1)), "in force is 1")
    chain.block(signed("rules", SetRules(3), at=9), signed("rules", SetRules(2), sequence=2, at=4))
    assert chain.state.next_rules_change == RulesChange(Height(4), 2)
    chain.block(signed("rules", Veto(2), sequence=3, at=9))
    assert chain.state.next_rules_change == RulesChange(Height(9), 3)
    chain.block(signed("rules", SetRules(4), sequence=4, at=8))
    for _ in range(5):
        chain.block()
    assert chain.state.rules_version == 4
    assert chain.outcomes() == [Outcome.VOID]


# --- the digest and what restores a registry ----------------------------------------------------------------


def test_the_digest_covers_everything() -> None:
    chain = Chain()
    chain.block(signed("alpha", SetQuota(Quota(1, 2)), at=99))
    state = chain.state
    alpha, waiting = state.rollups[RollupId("alpha")], state.pending[0]

    def with_alpha(**changes: Any) -> Registry:  # noqa: ANN401 - any field
        return replace(state, rollups={RollupId("alpha"): replace(alpha, **changes)})

    others = [
        with_alpha(attesters=AttesterSet(3, alpha.attesters.keys)),
        with_alpha(quota=Quota(1, 1)),
        with_alpha(status=RollupStatus.DRAINING),
        with_alpha(drained_ms=1),
        with_alpha(registered_as=b"{}"),
        replace(state, keys={**state.keys, "sequencer": FRESH.public_key}),
        replace(
            state, keys={**state.keys, "sequencer": SETTLEMENT.public_key, "settlement": SEQUENCER.public_key}
        ),
        replace(state, rules_version=2),
        replace(state, sequences={"alpha": 2}),
        replace(state, pending=()),
        replace(state, pending=(replace(waiting, index=7),)),
        replace(state, pending=(replace(waiting, height=Height(7)),)),
        replace(state, changed_height=Height(1)),
    ]
    digests = {state.digest, *(other.digest for other in others)}
    assert len(digests) == 1 + len(others)


def test_only_whole_content_restores() -> None:
    chain = Chain()
    chain.block(signed("beta", RegisterRollup(definition_of("beta"))), signed("rules", SetRules(2), at=9))
    chain.block()
    content = dict(chain.state.content)
    assert Registry.restore(GENESIS, chain.state.changed_height, content.items()) == chain.state
    for missing in (b"\x01alpha", b"\x02governance", b"\x03"):
        with pytest.raises(Malformed):
            Registry.restore(GENESIS, Height(2), ((k, v) for k, v in content.items() if k != missing))
    for key in content:
        for damage in (content[key][:1], b"\xff" + content[key][1:] + b"\xff", b""):
            try:
                restored = Registry.restore(
                    GENESIS, chain.state.changed_height, {**content, key: damage}.items()
                )
            except Malformed:
                continue
            assert restored.digest != chain.state.digest
    with pytest.raises(Malformed):
        Registry.restore(GENESIS, Height(2), [*content.items(), (b"\x09", b"")])


# --- random histories ---------------------------------------------------------------------------------------

# In whose name, signed by whom: mostly as it should be, so that histories get somewhere.
GOVERNED = (False, GOVERNANCE)
SIGNERS = [*8 * [GOVERNED], (True, SEQUENCER), (True, A1), (True, A2), (False, FRESH), (False, STRANGER)]
public_keys = st.sampled_from([key.public_key for key in (SEQUENCER, A1, A2, A3, B1, FRESH, FRESH_2)])
rollup_actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(RegisterRollup, st.sampled_from([definition_of("beta"), definition_of("gamma")])),
    st.builds(
        SetAttesters,
        st.builds(AttesterSet, st.integers(1, 3), st.lists(public_keys, min_size=1, max_size=4).map(tuple)),
    ),
    st.just(Drain()),
    st.just(Leave()),
    st.builds(RotateAttester, public_keys, public_keys),
    st.builds(Veto, st.integers(1, 4)),
    st.builds(SetQuota, st.none() | st.builds(Quota, st.integers(1, 9), st.integers(1, 9))),
)
subjects_and_actions = st.one_of(
    st.tuples(st.sampled_from(["alpha", "beta"]), rollup_actions),
    st.tuples(st.sampled_from(["sequencer", "settlement"]), st.builds(RotateKey, public_keys)),
    st.tuples(st.just("sequencer"), st.builds(Veto, st.integers(1, 3))),
    st.tuples(st.just("rules"), st.builds(SetRules, st.integers(0, 5))),
)
wishes = st.tuples(subjects_and_actions, st.integers(1, 7), st.sampled_from(SIGNERS))
blocks = st.tuples(st.lists(wishes, min_size=1, max_size=4), st.sampled_from([1, limits.DRAIN_MS_MIN]))


@given(st.lists(blocks, min_size=6, max_size=16))
def test_random_histories_keep_the_invariants(
    history: list[tuple[list[tuple[tuple[str, Action], int, tuple[bool, SigningKey]]], int]],
) -> None:
    chain, time_ms = Chain(), START_MS
    for block, advance_ms in history:
        time_ms += advance_ms
        payloads = []
        for (subject, action), ahead, (own, key) in block:
            sequence = chain.state.sequences.get(subject, 0) + 1
            payloads.append(
                signed(subject, action, sequence=sequence, at=chain.height + 1 + ahead, key=key, own=own)
            )
        before = chain.state
        events = chain.block(*payloads, time_ms=time_ms)
        state = chain.state

        assert len(events) >= len(payloads)
        assert len(set(state.keys.values())) == 3
        for record in state.rollups.values():
            verify_attesters(record.attesters)
        assert state.rules_version >= before.rules_version
        assert before.rollups.keys() <= state.rollups.keys()
        for rollup_id, record in before.rollups.items():
            assert state.rollups[rollup_id].status >= record.status
        leaving = [each for each in state.pending if isinstance(each.entry.change.action, Leave)]
        for each in state.pending:
            assert each.entry.change.effective_height > chain.height or each in leaving
        restored = Registry.restore(GENESIS, state.changed_height, state.content.items())
        assert restored == state
        assert restored.digest == state.digest
        if all(event.outcome == Outcome.IGNORED for event in events):
            assert state is before


def test_the_two_acts_are_the_step() -> None:
    state = Registry.from_genesis(GENESIS)
    entries = [(4, signed("alpha", SetQuota(None), at=2))]
    first, effects = take_effect(state, height=Height(1), time_ms=START_MS + 1)
    second, verdicts = accept(first, height=Height(1), entries=entries)
    assert step(state, height=Height(1), time_ms=START_MS + 1, entries=entries) == (
        second,
        effects + verdicts,
    )
    assert verdicts[0].index == 4


# --- bytes --------------------------------------------------------------------------------------------------


@given(subjects_and_actions, st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1), st.booleans())
def test_an_entry_has_one_encoding(what: tuple[str, Action], sequence: int, height: int, own: bool) -> None:
    payload = signed(what[0], what[1], sequence=sequence, at=height, own=own)
    entry = decode_registry_entry(payload)
    assert entry.change == RegistryChange(CHAIN, what[0], sequence, Height(height), what[1])
    assert_strict(payload, decode=decode_registry_entry, encode=encode_registry_entry)


@pytest.mark.parametrize("case", VECTORS["entries"])
def test_entry_vectors(case: dict[str, Any]) -> None:
    encoded = bytes.fromhex(case["encoded"])
    if not case["valid"]:
        with pytest.raises(Malformed):
            decode_registry_entry(encoded)
        return
    entry = decode_registry_entry(encoded)
    assert type(entry.change.action).__name__ == case["name"]
    assert plain(entry) == case["fields"]
    assert encode_registry_entry(entry) == encoded


def test_history_vector() -> None:
    genesis = parse_genesis(VECTORS["genesis"].encode())
    assert genesis.chain_id.hex() == VECTORS["chain_id"]
    assert genesis.rollups[0].attesters.hash.hex() == VECTORS["attesters_hash"]
    state = Registry.from_genesis(genesis)
    assert state.digest.hex() == VECTORS["history"]["initial"]
    for block in VECTORS["history"]["blocks"]:
        entries = [(each["index"], bytes.fromhex(each["payload"])) for each in block["entries"]]
        state, events = step(
            state, height=Height(int(block["height"])), time_ms=int(block["time_ms"]), entries=entries
        )
        assert [
            {"outcome": each.outcome.value, "height": str(each.height), "index": each.index}
            for each in events
        ] == block["events"]
        assert state.digest.hex() == block["digest"]
